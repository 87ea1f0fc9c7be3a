//! What an answer pays: the machine's promises are made good by this computer's purse. Each is a task of its own, which ends even
//! when the answer does: what is in the books is signed, or told not to be.

use std::sync::Arc;

use protocol::{
    JobId, PeerId,
    job::client::{AttemptId, Event, PromiseId},
    price::Totals,
    voucher::{Address, B256, Unchecked, Voucher},
};
use tokio::sync::mpsc;

use super::attempts::Report;
use crate::{
    clock,
    error::sentence,
    money::{self, Promising, Purse},
    node::Inner,
};

/// A day of the caps, in milliseconds: UTC's.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Who pays for one answer.
#[derive(Debug)]
pub(super) struct Payer {
    purse: Option<Arc<Purse>>,
    /// The conversation, unless it is temporary.
    pub(super) chat: Option<[u8; 16]>,
    pub(super) model: String,
    pub(super) model_digest: [u8; 32],
}

/// A raise that the machine asks for.
#[derive(Debug)]
pub(super) struct Raise {
    pub(super) job: JobId,
    pub(super) payee: Address,
    pub(super) add: u128,
    pub(super) work: B256,
    pub(super) totals: Totals,
}

impl Payer {
    pub(super) fn new(
        inner: &Inner,
        chat: Option<[u8; 16]>,
        (model, model_digest): (String, [u8; 32]),
    ) -> Self {
        Self {
            purse: inner.money.purse(),
            chat,
            model,
            model_digest,
        }
    }

    /// Base units that this answer may cost, by the person's caps and the grant; `None` where nothing can be paid.
    pub(super) async fn allowance(&self, inner: &Inner) -> Option<u128> {
        let purse = self.purse.as_ref()?;
        let payer = purse.payer().into_array();
        let today = clock::unix_ms() / DAY_MS * DAY_MS;
        let spent = async {
            let today = inner.ledger.spent(payer, today, today + DAY_MS).await?;
            let in_chat = match self.chat {
                Some(chat) => inner.ledger.spent_in_chat(payer, chat).await?,
                None => 0,
            };
            Ok::<_, ledger::LedgerError>((today, in_chat))
        };
        let left = purse.left().await;
        match spent.await {
            Ok((today, in_chat)) => {
                let settings = inner.settings.borrow().money.clone();
                Some(money::allowance(&settings, today, in_chat, left))
            }
            Err(error) => {
                tracing::warn!(%error, "what was spent cannot be read, and nothing is spent");
                Some(0)
            }
        }
    }

    pub(super) fn promise(
        &self,
        inner: &Arc<Inner>,
        promise: PromiseId,
        ((attempt, peer), raise): ((AttemptId, PeerId), Raise),
        reports: mpsc::Sender<Report>,
    ) {
        let purse = self.purse.clone();
        let promising = Promising {
            job: raise.job,
            payee: raise.payee,
            add: raise.add,
            work: raise.work,
            peer: peer.to_string(),
            model: self.model.clone(),
            model_digest: self.model_digest,
            chat: self.chat,
            totals: raise.totals,
        };
        inner.tasks.spawn(async move {
            let event = match purse {
                Some(purse) => match purse.promise(promising).await {
                    Ok(voucher) => Event::Promised { promise, voucher },
                    Err(error) => refused(promise, &error),
                },
                None => no_purse(promise),
            };
            let signed = Report::Signed {
                attempt,
                add: raise.add,
                event,
            };
            // The answer is over, and what was promised for it stands.
            let _ = reports.send(signed).await;
        });
    }

    pub(super) fn reserve(
        &self,
        inner: &Arc<Inner>,
        promise: PromiseId,
        (payee, least, rest): (Address, u128, u128),
        reports: mpsc::Sender<Report>,
    ) {
        let purse = self.purse.clone();
        inner.tasks.spawn(async move {
            let event = match purse {
                Some(purse) => match purse.reserve(payee, least, rest).await {
                    Ok(reservation) => Event::Reserved {
                        promise,
                        reservation,
                    },
                    Err(error) => refused(promise, &error),
                },
                None => no_purse(promise),
            };
            let _ = reports.send(Report::Event(event)).await;
        });
    }

    /// A payee showed a voucher of ours that the answer does not know.
    pub(super) fn held_more(&self, inner: &Arc<Inner>, voucher: Voucher<Unchecked>) {
        let Some(purse) = self.purse.clone() else {
            return;
        };
        inner.tasks.spawn(async move {
            if let Err(error) = purse.held_more(voucher.payee, voucher).await {
                tracing::warn!(%error, "a payee holds more than the books say");
            }
        });
    }
}

fn refused(promise: PromiseId, error: &money::PurseError) -> Event {
    Event::NotPromised {
        promise,
        why: sentence(error),
    }
}

fn no_purse(promise: PromiseId) -> Event {
    Event::NotPromised {
        promise,
        why: "this computer pays nothing".to_owned(),
    }
}
