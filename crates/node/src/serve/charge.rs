//! A stranger's job at the till: from its first voucher to its end.
//!
//! Vouchers are written down by a task of their own, so that the tokens of the job do not wait for the disk. What is in its hands when
//! the job ends is still taken.

use std::sync::Arc;

use protocol::{
    JobId,
    job::provider::{Declined, Event, Standing},
    price::Totals,
    voucher::{Checked, Reservation, VOUCHER_BYTES, Voucher},
};
use tokio::sync::{mpsc, watch};

use crate::{
    money::{Till, TillJob},
    node::Inner,
};

/// Vouchers that wait for the disk. Where more come, the stream is not read on until there is room.
const WAITING: usize = 4;

/// A job that is paid for.
#[derive(Debug)]
pub(super) struct Charge {
    at_till: Arc<AtTill>,
    /// News from outside of the job, and what its vouchers came to; `None` once there are none any more.
    standing: Option<watch::Receiver<Option<Standing>>>,
    vouchers: mpsc::Sender<(Voucher<Checked>, Totals)>,
    /// Why a voucher does not count.
    declined: mpsc::Receiver<Declined>,
}

/// The job as the till knows it, which forgets it when this is dropped.
#[derive(Debug)]
struct AtTill {
    till: Arc<Till>,
    job: JobId,
}

impl Drop for AtTill {
    fn drop(&mut self) {
        self.till.left(&self.job);
    }
}

impl Charge {
    /// Takes the voucher that a job begins with, of which `adds` is the job's: how it stands, and the highest voucher that was held of
    /// its payer before.
    ///
    /// # Errors
    /// What the payer is told.
    pub(super) async fn admit(
        inner: &Inner,
        till: Arc<Till>,
        job: TillJob,
        (voucher, adds): (&Voucher<Checked>, u128),
    ) -> Result<(Self, Standing, Option<[u8; VOUCHER_BYTES]>), Declined> {
        let (standing, last) = till.admit(&job, voucher, adds).await?;
        let (vouchers, waiting) = mpsc::channel(WAITING);
        let (declines, declined) = mpsc::channel(1);
        // What it says by now is the answer.
        let news = till.standing(&job.job);
        let at_till = Arc::new(AtTill { job: job.job, till });
        inner
            .tasks
            .spawn(write_down(Arc::clone(&at_till), waiting, declines));
        let charge = Self {
            at_till,
            standing: news,
            vouchers,
            declined,
        };
        Ok((charge, standing, last))
    }

    /// Takes a further voucher. What comes of it is [news](news_of).
    pub(super) async fn hold(&self, voucher: Voucher<Checked>, totals: Totals) {
        // The task lives as long as this.
        let _ = self.vouchers.send((voucher, totals)).await;
    }

    /// Takes a reservation.
    ///
    /// # Errors
    /// What the payer is told.
    pub(super) async fn hold_reservation(
        &self,
        reservation: &Reservation<Checked>,
    ) -> Result<Standing, Declined> {
        let AtTill { till, job } = &*self.at_till;
        till.hold_reservation(job, reservation).await
    }

    /// What was computed comes to `used`, and no voucher covers so many tokens of it: the payer's other jobs are told.
    pub(super) fn computed(&self, used: u128, unvouchered: u32) {
        let AtTill { till, job } = &*self.at_till;
        till.computed(job, used, unvouchered);
    }

    async fn news(&mut self) -> Event {
        loop {
            tokio::select! {
                biased;
                Some(declined) = self.declined.recv() => return Event::Declined(declined),
                standing = changed(&mut self.standing) => if let Some(standing) = standing {
                    return Event::Standing(standing);
                },
            }
        }
    }
}

/// Writes vouchers down, one after another, until the job is over: each says whose its raise is, so none is left out for a higher one,
/// and none because one before it did not count.
async fn write_down(
    at_till: Arc<AtTill>,
    mut waiting: mpsc::Receiver<(Voucher<Checked>, Totals)>,
    declines: mpsc::Sender<Declined>,
) {
    while let Some((voucher, totals)) = waiting.recv().await {
        let AtTill { till, job } = &*at_till;
        if let Err(declined) = till.hold(job, &voucher, totals).await {
            // The job hears of the first; one that is over of none.
            let _ = declines.try_send(declined);
        }
    }
}

/// How a job stands, when that changes; `None` where it no longer does.
async fn changed(news: &mut Option<watch::Receiver<Option<Standing>>>) -> Option<Standing> {
    let Some(watched) = news else {
        return std::future::pending().await;
    };
    if watched.changed().await.is_err() {
        *news = None;
        return None;
    }
    *watched.borrow_and_update()
}

/// What the machine of a job that is paid for is to hear of its payments.
pub(super) async fn news_of(charge: &mut Option<Charge>) -> Event {
    match charge {
        Some(charge) => charge.news().await,
        None => std::future::pending().await,
    }
}
