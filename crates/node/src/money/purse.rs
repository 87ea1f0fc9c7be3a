//! The payer's side: what the session key of this computer promises, and to whom.
//!
//! A promise goes through the signer's book, which refuses what the chain did not grant; then to disk; and only then is it
//! signed. A key that signed something of which the disk knows nothing would promise too much after a crash.

use chain::{Happened, VaultEvent};
use ledger::{JobTokens, Ledger, LineKey, Lost, PaidJob};
use protocol::{
    JobId,
    job::client::PayTo,
    offer::Offer,
    price::Totals,
    voucher::{
        Address, B256, Checked, Reservation, SessionKey, Unchecked, Vault, Voucher,
        payer::{Book, FIRST_RESERVATION_S, Grant, Hold, MAX_RESERVATION_S, Refused},
    },
};
use tokio::sync::{Mutex, watch};

use crate::clock;

/// Pays for answers out of one grant.
#[derive(Debug)]
pub(crate) struct Purse {
    ledger: Ledger,
    vault: Vault,
    payer: Address,
    key: SessionKey,
    /// Or why nothing more is signed with this key.
    book: Mutex<Result<Book, Lost>>,
    /// Nothing more is signed with this key: another one is needed.
    over: watch::Sender<bool>,
    /// Promises that were made, counted.
    made: watch::Sender<u64>,
}

/// What a raise of a line is for.
#[derive(Debug, Clone)]
pub(crate) struct Promising {
    pub(crate) job: JobId,
    pub(crate) payee: Address,
    /// Base units by which the line rises.
    pub(crate) add: u128,
    pub(crate) work: B256,
    pub(crate) peer: String,
    pub(crate) model: String,
    pub(crate) model_digest: [u8; 32],
    /// The conversation, unless it is temporary.
    pub(crate) chat: Option<[u8; 16]>,
    pub(crate) totals: Totals,
}

/// Why nothing was promised.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PurseError {
    /// The grant, or a rule of the book.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The total of a line does not fit.
    #[error("the line's total does not fit 128 bits")]
    Overflow,
    /// It could not be written down, so it was not signed.
    #[error("the promise could not be written down: {0}")]
    Ledger(#[from] ledger::LedgerError),
    /// The key made no signature.
    #[error(transparent)]
    Sign(#[from] protocol::voucher::VoucherError),
    /// The book of this key lies elsewhere.
    #[error("the books of this computer do not know its own key")]
    NoBook,
    /// A payee or the chain showed more than this computer ever booked.
    #[error("{0}; this computer pays with another key from now on")]
    Lost(Lost),
}

impl From<Lost> for PurseError {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl Purse {
    /// A purse over what the disk says of this key. `None` where its book is not here, or is not the newest.
    pub(crate) async fn open(
        ledger: &Ledger,
        vault: Vault,
        payer: Address,
        key: SessionKey,
    ) -> Result<Self, PurseError> {
        let book = read_book(ledger, payer, key.address()).await?;
        Ok(Self {
            ledger: ledger.clone(),
            vault,
            payer,
            key,
            book: Mutex::new(Ok(book)),
            over: watch::Sender::new(false),
            made: watch::Sender::new(0),
        })
    }

    /// Waits until another key is needed: the book of this one turns out not to be the newest, or its grant has ended.
    pub(crate) async fn over(&self) {
        let mut over = self.over.subscribe();
        // The sender lives in `self`: it cannot be gone.
        let _ = over.wait_for(|over| *over).await;
    }

    /// Tells of every promise that is made from now on, once it is in the books.
    pub(super) fn promises(&self) -> watch::Receiver<u64> {
        self.made.subscribe()
    }

    /// Whose balance pays.
    pub(crate) fn payer(&self) -> Address {
        self.payer
    }

    /// Whose signature it is.
    pub(crate) fn signer(&self) -> Address {
        self.key.address()
    }

    /// How an offer is paid; `None` where it names another vault or no payee.
    pub(crate) fn pay_to(&self, offer: &Offer) -> Option<PayTo> {
        let payment = offer.payment.as_ref()?;
        let vault = Vault::new(payment.chain_id, Address::from(payment.vault));
        let payee = Address::from(offer.binding.as_ref()?.binding.operator);
        (vault == self.vault).then_some(PayTo { vault, payee })
    }

    /// What the grant still allows.
    pub(crate) async fn left(&self) -> u128 {
        let book = self.book.lock().await;
        book.as_ref().map_or(0, |book| {
            book.grant().granted.saturating_sub(book.promised())
        })
    }

    /// What was promised to all payees.
    pub(crate) async fn promised(&self) -> u128 {
        self.book.lock().await.as_ref().map_or(0, Book::promised)
    }

    /// A final block: its time, and what happened in it.
    pub(crate) async fn chain_moved(&self, time: u64, events: &[Happened]) {
        let mut held = self.book.lock().await;
        let Ok(book) = held.as_mut() else { return };
        book.chain_time(time);
        let mut drawn_on = false;
        for happened in events {
            match &happened.event {
                VaultEvent::SignerSet {
                    payer,
                    signer,
                    granted,
                    until,
                    ..
                } if self.is_ours(payer, signer) => book.granted(Grant {
                    granted: *granted,
                    until: *until,
                }),
                VaultEvent::SignerEnded {
                    payer,
                    signer,
                    until,
                } if self.is_ours(payer, signer) => {
                    let granted = book.grant().granted;
                    book.granted(Grant {
                        granted,
                        until: *until,
                    });
                }
                VaultEvent::Released {
                    payer,
                    payee,
                    signer,
                    nonce,
                } if self.is_ours(payer, signer) => book.released(payee, *nonce),
                VaultEvent::Claimed { payer, signer, .. }
                | VaultEvent::Reserved { payer, signer, .. }
                    if self.is_ours(payer, signer) =>
                {
                    drawn_on = true;
                }
                VaultEvent::SignerSet { .. }
                | VaultEvent::SignerEnded { .. }
                | VaultEvent::Released { .. }
                | VaultEvent::Deposited { .. }
                | VaultEvent::Withdrawn { .. }
                | VaultEvent::GrantFreed { .. }
                | VaultEvent::BondFreed { .. }
                | VaultEvent::PayeeSet { .. }
                | VaultEvent::Joined { .. }
                | VaultEvent::Unjoined { .. }
                | VaultEvent::Kept { .. }
                | VaultEvent::Reserved { .. }
                | VaultEvent::Claimed { .. }
                | VaultEvent::GasShared { .. }
                | VaultEvent::PaidOut { .. }
                | VaultEvent::OverdraftShown { .. }
                | VaultEvent::OverdraftMended { .. }
                | VaultEvent::OverdraftDecided { .. }
                | VaultEvent::OverdraftPaid { .. }
                | VaultEvent::FeeSet { .. } => {}
            }
        }
        if has_ended(book.grant().until, time) {
            self.over.send_replace(true);
        }
        // The books know whether more was drawn than was ever promised here.
        if drawn_on
            && let Err(PurseError::Lost(lost)) =
                read_book(&self.ledger, self.payer, self.signer()).await
        {
            self.give_up(&mut held, lost);
        }
    }

    fn give_up(&self, held: &mut Result<Book, Lost>, lost: Lost) {
        *held = Err(lost);
        self.over.send_replace(true);
    }

    fn is_ours(&self, payer: &Address, signer: &Address) -> bool {
        *payer == self.payer && *signer == self.signer()
    }

    /// Raises a line and signs its new total.
    pub(crate) async fn promise(
        &self,
        promising: Promising,
    ) -> Result<Voucher<Checked>, PurseError> {
        let mut held = self.book.lock().await;
        let book = held.as_mut().map_err(|lost| lost.clone())?;
        let total = book
            .cumulative(&promising.payee)
            .checked_add(promising.add)
            .ok_or(PurseError::Overflow)?;
        let now = clock::unix_ms();
        let promised = book.promise(promising.payee, total, promising.work, now / 1000)?;
        let written = self
            .ledger
            .promise(ledger::Promise {
                line: self.line(promising.payee),
                cumulative: total,
                work: promising.work.0,
                job: PaidJob {
                    job: *promising.job.as_bytes(),
                    peer: promising.peer,
                    model: promising.model,
                    model_digest: promising.model_digest,
                    chat: promising.chat,
                },
                tokens: tokens(&promising.totals),
                at_ms: now,
            })
            .await;
        if let Err(error) = written {
            // The book is ahead of the disk: what the disk says holds.
            self.reread(&mut held).await?;
            return Err(error.into());
        }
        self.made.send_modify(|made| *made = made.wrapping_add(1));
        Ok(self.key.sign(&self.vault, promised)?)
    }

    /// The voucher and the reservation of a payment that was made, signed again: a signature is a function of what is signed. None
    /// where another key signed them, or where the book is not the newest one.
    pub(crate) async fn again(
        &self,
        payment: &ledger::JobPayment,
    ) -> (Option<Voucher<Checked>>, Option<Reservation<Checked>>) {
        let payee = Address::from(payment.line.payee);
        let held = self.book.lock().await;
        let Ok(book) = held.as_ref() else {
            return (None, None);
        };
        if self.line(payee) != payment.line {
            return (None, None);
        }
        let voucher = book
            .again(payee, payment.cumulative, B256::from(payment.work))
            .and_then(|promised| self.key.sign(&self.vault, promised).ok());
        let reservation = payment
            .hold
            .and_then(|hold| {
                let hold = Hold {
                    upto: hold.upto,
                    until: hold.until_s,
                    nonce: hold.nonce,
                };
                book.hold_again(payee, hold)
            })
            .and_then(|held| self.key.sign_reservation(&self.vault, held).ok());
        (voucher, reservation)
    }

    /// Holds a part of the grant for one payee.
    pub(crate) async fn reserve(
        &self,
        payee: Address,
        least: u128,
        rest: u128,
    ) -> Result<Reservation<Checked>, PurseError> {
        let mut held = self.book.lock().await;
        let book = held.as_mut().map_err(|lost| lost.clone())?;
        let stands = book.cumulative(&payee);
        let upto = stands.checked_add(least).ok_or(PurseError::Overflow)?;
        let now = clock::unix_ms();
        let life = match stands {
            0 => FIRST_RESERVATION_S,
            _ => MAX_RESERVATION_S,
        };
        let until = now / 1000 + life;
        let reservation = book.hold(payee, upto, until, rest, now / 1000)?;
        let written = self
            .ledger
            .hold(ledger::Hold {
                line: self.line(payee),
                upto,
                until_s: until,
                nonce: reservation.nonce(),
                at_ms: now,
            })
            .await;
        if let Err(error) = written {
            self.reread(&mut held).await?;
            return Err(error.into());
        }
        Ok(self.key.sign_reservation(&self.vault, reservation)?)
    }

    /// A payee shows a voucher of this key. One above the book means that the book is not the newest one, and the key signs
    /// nothing more.
    pub(crate) async fn held_more(
        &self,
        payee: Address,
        voucher: Voucher<Unchecked>,
    ) -> Result<(), PurseError> {
        let Ok(voucher) = voucher.check(&self.vault) else {
            return Ok(());
        };
        if voucher.signer() != self.signer() || voucher.payer != self.payer {
            return Ok(());
        }
        let mut held = self.book.lock().await;
        let book = held.as_ref().map_err(|lost| lost.clone())?;
        if voucher.cumulative <= book.cumulative(&payee) {
            return Ok(());
        }
        let lost = self
            .ledger
            .own_voucher_seen(ledger::Seen {
                line: self.line(payee),
                cumulative: voucher.cumulative,
                work: voucher.work.0,
                signature: voucher.signature(),
                at_ms: clock::unix_ms(),
            })
            .await?;
        match lost {
            Some(lost) => {
                self.give_up(&mut held, lost.clone());
                Err(lost.into())
            }
            None => Ok(()),
        }
    }

    fn line(&self, payee: Address) -> LineKey {
        LineKey {
            payer: self.payer.into_array(),
            signer: self.signer().into_array(),
            payee: payee.into_array(),
        }
    }

    async fn reread(&self, held: &mut Result<Book, Lost>) -> Result<(), PurseError> {
        match read_book(&self.ledger, self.payer, self.signer()).await {
            Ok(book) => *held = Ok(book),
            Err(PurseError::Lost(lost)) => {
                self.give_up(held, lost.clone());
                return Err(lost.into());
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Whether a signer's time is over at a block of this time: an ended one is never granted more. One that was never registered has not begun.
pub(super) fn has_ended(until_s: u64, block_s: u64) -> bool {
    until_s != 0 && until_s <= block_s
}

async fn read_book(ledger: &Ledger, payer: Address, signer: Address) -> Result<Book, PurseError> {
    let rows = ledger
        .payer_book(payer.into_array(), signer.into_array())
        .await?
        .ok_or(PurseError::NoBook)?;
    if let Some(lost) = rows.lost {
        return Err(PurseError::Lost(lost));
    }
    Ok(super::convert::book(payer, signer, rows))
}

pub(super) fn tokens(totals: &Totals) -> JobTokens {
    JobTokens {
        input: totals.input,
        cached: totals.cached,
        output: totals.output,
    }
}
