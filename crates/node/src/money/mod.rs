//! Money: what this computer pays and is paid.
//!
//! Joins the chain, the books and the keys. Without a network's file none of it runs, and everything else works as before.
//!
//! | module | is |
//! |---|---|
//! | [`settings`] | what the person set |
//! | `price` | what is asked for a model, and what may still be spent; pure |
//! | `purse` | the payer's side: promises of this computer's session key |
//! | `till` | the payee's side: vouchers of strangers |
//! | `live` | both of them on one network, opened and closed as settings and keys come and go |
//! | `anew` | whether the chain is the one that the books were written on |
//! | `settle` | what goes on with the chain by itself: events into the books, claims to it |
//! | `overdraft` | keys that promised more than they were granted, shown to the vault |
//! | `rules` | what votes have set, and what of it is obeyed here |
//! | `act` | what the person asks the wallet to do: shown, then signed as shown |
//! | `calls` | which call of the chain each of these is |
//! | `start` | first steps that are signed here and brought to the chain by somebody else |
//! | `handover` | vouchers handed to somebody who brings them to the vault |
//! | `electricity` | what energy cost, and what is left after it, by the person's own figures; pure |
//! | `status`, `earned`, `paid`, `offered`, `votes`, [`view`] | what a shell sees |

mod act;
mod anew;
mod calls;
mod convert;
mod earned;
mod electricity;
mod ended;
mod handover;
mod live;
mod offered;
mod overdraft;
mod paid;
mod price;
mod purse;
mod rules;
pub mod settings;
mod settle;
mod start;
mod status;
mod till;
pub mod view;
mod votes;

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

pub use act::ActError;
pub use earned::{
    ChainView, EarningState, EarningView, EarningsBy, EnergyPart, EnergyView, Proof, Receiving,
    SignedView,
};
pub use handover::{ClaimRow, Claims, ClaimsError, MAX_CLAIM_ROWS};
pub use live::keep_network;
pub(crate) use live::{Live, keep};
pub use offered::{AskedPrice, OfferPrice};
pub use paid::{PaidVoucher, Payment, ReservationView};
pub use price::CACHED_PERCENT;
pub(crate) use price::{allowance, asked};
pub(crate) use purse::{Promising, Purse, PurseError};
pub(crate) use till::{Till, TillJob};
use view::MoneyStatus;

use crate::error::ErrorView;
pub use votes::{CallView, ChangeView, NextStep, Outcome, ProposalView, Stage, VoteStatus};

/// Money as the node holds it.
#[derive(Debug)]
pub(crate) struct Money {
    live: watch::Sender<Option<Arc<Live>>>,
    status: watch::Sender<MoneyStatus>,
    /// What was shown last, until it is confirmed or something else is shown.
    shown: Mutex<Option<act::Shown>>,
    /// The same of first steps that somebody else will bring.
    start_shown: Mutex<Option<start::Shown>>,
}

impl Default for Money {
    fn default() -> Self {
        Self {
            live: watch::Sender::new(None),
            status: watch::Sender::new(MoneyStatus::default()),
            shown: Mutex::new(None),
            start_shown: Mutex::new(None),
        }
    }
}

impl Money {
    /// What runs now; `None` where there is no money here.
    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        self.live.borrow().clone()
    }

    /// The same, as it opens and closes.
    pub(crate) fn opened(&self) -> watch::Receiver<Option<Arc<Live>>> {
        self.live.subscribe()
    }

    /// Why it could not be opened; `None` while it is open, or is not wanted.
    pub(crate) fn problem(&self) -> Option<ErrorView> {
        match self.live.borrow().is_some() {
            true => None,
            false => self.status.borrow().problems.first().cloned(),
        }
    }

    /// The time of the newest final block, in milliseconds since 1970.
    pub(crate) fn chain_time_ms(&self) -> Option<u64> {
        let live = self.live()?;
        let health = live.chain.health();
        let time_s = health.borrow().final_time?;
        Some(time_s.saturating_mul(1000))
    }

    /// Who pays, if anybody can.
    pub(crate) fn purse(&self) -> Option<Arc<Purse>> {
        self.live.borrow().as_ref()?.purse.clone()
    }

    /// Who is paid, if anybody is.
    pub(crate) fn till(&self) -> Option<Arc<Till>> {
        self.live.borrow().as_ref()?.till.clone()
    }
}

impl crate::node::Inner {
    /// It is to be paid for what it serves, and it is not known yet whether it can be.
    pub(crate) fn money_opens(&self) -> bool {
        let settings = self.settings.borrow();
        let wanted =
            settings.money.network.is_some() && settings.money.mode != settings::Mode::Free;
        wanted
            && self.money.live.borrow().is_none()
            && self.money.status.borrow().problems.is_empty()
    }
}

impl crate::Node {
    /// Everything about money, now.
    #[must_use]
    pub fn money_status(&self) -> MoneyStatus {
        self.inner.money.status.borrow().clone()
    }

    /// Everything about money, as it changes.
    #[must_use]
    pub fn money(&self) -> watch::Receiver<MoneyStatus> {
        self.inner.money.status.subscribe()
    }
}
