//! How a job is paid: what of it goes to the till, and what the machine hears of it.

use std::time::Duration;

use protocol::{
    JobId,
    frame::RefuseCode,
    job::provider::{ADMIT_MS, Declined, Event, Standing},
    price::Totals,
    voucher::{Checked, Reservation, Voucher},
};

use super::{
    super::{charge::Charge, payer::Payer},
    Job,
};
use crate::money::TillJob;

impl Job {
    /// Asks books and chain about who pays. From then on the job counts for him.
    pub(super) async fn admit(&mut self, job: JobId, (voucher, adds): (&Voucher, u128)) -> Event {
        let (Some(till), Some(model)) = (self.till.clone(), self.model) else {
            return Event::Declined(not_charged());
        };
        let job = TillJob {
            job,
            peer: self.peer.to_string(),
            model: self.name_of(&model),
            model_digest: *model.as_bytes(),
        };
        let limit = Duration::from_millis(ADMIT_MS);
        let admitted = {
            let admits = Charge::admit(&self.context.inner, till, job, (voucher, adds));
            tokio::time::timeout(limit, admits).await
        };
        match admitted {
            Ok(Ok((charge, standing, last_held))) => {
                self.charge = Some(charge);
                self.payer = Payer::Wallet(voucher.payer);
                Event::Admitted {
                    standing,
                    last_held,
                }
            }
            Ok(Err(declined)) => Event::Declined(declined),
            Err(_) => Event::Declined(Declined {
                code: RefuseCode::Internal,
                msg: "the chain could not be asked in time".to_owned(),
            }),
        }
    }

    /// Takes a further voucher, which is written down beside the job. `Some`: there is nobody to take it.
    pub(super) async fn hold(&self, voucher: Voucher<Checked>, totals: Totals) -> Option<Declined> {
        match &self.charge {
            Some(charge) => {
                charge.hold(voucher, totals).await;
                None
            }
            None => Some(not_charged()),
        }
    }

    /// Takes a reservation.
    pub(super) async fn hold_reservation(&self, reservation: &Reservation<Checked>) -> Event {
        stands(match &self.charge {
            Some(charge) => charge.hold_reservation(reservation).await,
            None => Err(not_charged()),
        })
    }
}

fn not_charged() -> Declined {
    Declined::because(&"nothing is paid for here")
}

fn stands(held: Result<Standing, Declined>) -> Event {
    match held {
        Ok(standing) => Event::Standing(standing),
        Err(declined) => Event::Declined(declined),
    }
}
