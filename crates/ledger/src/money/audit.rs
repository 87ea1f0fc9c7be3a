//! The audit: every sum counted again from vouchers, reservations and events, by other arithmetic than wrote it.
//!
//! What is only ever added is taken as it lies there; what is computed from it (a line's levels, the journal, its accounts) has to come
//! out the same. So a row that was changed, lost or doubled on either side is a [`Disagreement`].

mod accounts;
mod energy;
mod journal;
mod lines;

use rusqlite::Connection;

use super::amount::hex;
use super::payee::{HeldVoucher, held_vouchers};
use super::{LineKey, chain};
use crate::{Ledger, LedgerError};

/// Disagreements that a report names. One damaged page can make thousands, and the first ones tell where.
const MAX_NAMED: usize = 100;

/// Something that does not come out the same when it is counted again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// Of what.
    pub what: String,
    /// What the books say.
    pub booked: String,
    /// What counting gives.
    pub counted: String,
}

/// What an audit found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditReport {
    /// When it ran, in milliseconds since 1970.
    pub at_ms: u64,
    /// Vouchers that were counted.
    pub vouchers: u64,
    /// Events that were counted.
    pub events: u64,
    /// Rows of the journal that were counted.
    pub entries: u64,
    /// What does not agree, at most the first hundred.
    pub disagreements: Vec<Disagreement>,
}

impl AuditReport {
    /// Everything agrees.
    pub fn passed(&self) -> bool {
        self.disagreements.is_empty()
    }
}

impl Ledger {
    /// Counts everything again, and writes nothing: what disagrees stays in the books, where the next audit finds it as well, also on a
    /// disk that is full. `genuine` says whether a held voucher's signature is its line's signer's: this crate checks none.
    pub async fn audit(
        &self,
        now_ms: u64,
        genuine: impl Fn(&HeldVoucher) -> bool + Send + 'static,
    ) -> Result<AuditReport, LedgerError> {
        self.call(move |connection| {
            // One transaction: what is written meanwhile is in all of the sums or in none.
            let transaction = connection.transaction()?;
            run(&transaction, now_ms, &genuine)
        })
        .await
    }
}

fn run(
    connection: &Connection,
    now_ms: u64,
    genuine: &dyn Fn(&HeldVoucher) -> bool,
) -> Result<AuditReport, LedgerError> {
    let events = chain::booked(connection)?;
    let mut found = Findings::default();
    let vouchers = lines::check(connection, &events, &mut found)?;
    let entries = journal::check(connection, &events, &mut found)?;
    accounts::check(connection, &events, &mut found)?;
    energy::check(connection, &mut found)?;
    for voucher in held_vouchers(connection)? {
        if !genuine(&voucher) {
            let what = format!("signature of the voucher on {}", line_name(&voucher.line));
            found.name(what, "held", "not its signer's");
        }
    }
    Ok(AuditReport {
        at_ms: now_ms,
        vouchers,
        events: events.len() as u64,
        entries,
        disagreements: found.0,
    })
}

#[derive(Default)]
struct Findings(Vec<Disagreement>);

impl Findings {
    fn same<T: PartialEq + std::fmt::Display>(
        &mut self,
        booked: &T,
        counted: &T,
        what: impl FnOnce() -> String,
    ) {
        if booked != counted {
            self.name(what(), booked, counted);
        }
    }

    fn name(&mut self, what: String, booked: impl ToString, counted: impl ToString) {
        if self.0.len() < MAX_NAMED {
            self.0.push(Disagreement {
                what,
                booked: booked.to_string(),
                counted: counted.to_string(),
            });
        }
    }
}

fn line_name(key: &LineKey) -> String {
    format!(
        "the line {} / {} / {}",
        hex(&key.payer),
        hex(&key.signer),
        hex(&key.payee)
    )
}
