//! A stranger's job at the till: from its first voucher to its end.

use std::sync::Arc;

use protocol::{
    JobId,
    job::provider::{Declined, Standing},
    price::Totals,
    voucher::{Checked, Reservation, VOUCHER_BYTES, Voucher},
};
use tokio::sync::watch;

use crate::money::{Till, TillJob};

/// A job that is paid for. The till forgets it when this is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    till: Arc<Till>,
    job: JobId,
    /// News from outside of the job; `None` once there are none any more.
    standing: Option<watch::Receiver<Option<Standing>>>,
}

impl Charge {
    /// Takes the voucher that a job begins with: how it stands, and the highest voucher that was held of its payer before.
    ///
    /// # Errors
    /// What the payer is told.
    pub(super) async fn admit(
        till: Arc<Till>,
        job: TillJob,
        voucher: &Voucher<Checked>,
    ) -> Result<(Self, Standing, Option<[u8; VOUCHER_BYTES]>), Declined> {
        let (standing, last) = till.admit(&job, voucher).await?;
        let charge = Self {
            standing: till.standing(&job.job),
            job: job.job,
            till,
        };
        Ok((charge, standing, last))
    }

    /// Takes a further voucher.
    ///
    /// # Errors
    /// What the payer is told.
    pub(super) async fn hold(
        &self,
        voucher: &Voucher<Checked>,
        totals: Totals,
    ) -> Result<Standing, Declined> {
        self.till.hold(&self.job, voucher, totals).await
    }

    /// Takes a reservation.
    ///
    /// # Errors
    /// What the payer is told.
    pub(super) async fn hold_reservation(
        &self,
        reservation: &Reservation<Checked>,
    ) -> Result<Standing, Declined> {
        self.till.hold_reservation(&self.job, reservation).await
    }

    /// Tells the payer's other jobs how many tokens of this one no voucher covers.
    pub(super) fn unvouchered(&self, tokens: u32) {
        self.till.unvouchered(&self.job, tokens);
    }

    /// How the job stands, when that changes from outside of it.
    async fn changed(&mut self) -> Standing {
        loop {
            let Some(news) = &mut self.standing else {
                return std::future::pending().await;
            };
            if news.changed().await.is_err() {
                self.standing = None;
                continue;
            }
            if let Some(standing) = *news.borrow_and_update() {
                return standing;
            }
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.till.left(&self.job);
    }
}

/// How a job stands, when that changes, of a job that is paid for.
pub(super) async fn standing_of(charge: &mut Option<Charge>) -> Standing {
    match charge {
        Some(charge) => charge.changed().await,
        None => std::future::pending().await,
    }
}
