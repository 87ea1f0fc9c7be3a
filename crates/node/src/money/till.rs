//! The payee's side: what the jobs of strangers are paid, and how long they are served on.
//!
//! A voucher is on disk before anything is served on it. How much a payer may owe follows from what final blocks say of its
//! signer and from what was claimed of it before; the rules are `protocol::voucher::payee`'s.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chain::Chain;
use ledger::{Ledger, LineKey, PaidJob, VoucherRow};
use protocol::{
    JobId,
    frame::RefuseCode,
    job::provider::{Charging, Declined, Standing},
    price::Totals,
    voucher::{
        Address, Checked, Opening, Reservation, Split, VOUCHER_BYTES, Vault, Voucher,
        payee::{Costs, Debt, SignerFacts},
    },
};
use tokio::sync::watch;

use super::purse::tokens;
use crate::clock;

/// What final blocks say of a signer is asked anew after this long: a few blocks of a fast chain. Events of the vault bring
/// what changes sooner.
const FACTS_LIVE: Duration = Duration::from_secs(30);

/// And they hold for this long, while they are asked anew: nobody's answer waits for a chain that takes its time.
const FACTS_HOLD: Duration = Duration::from_secs(120);

/// Signers whose facts are kept. One that is forgotten is asked of the chain again.
const MAX_FACTS: usize = 1024;

/// Takes money for what this computer serves.
#[derive(Debug)]
pub(crate) struct Till {
    /// From then on no job that was answered before can be shown again, in milliseconds since 1970.
    guarded_from_ms: AtomicU64,
    ledger: Ledger,
    chain: Chain,
    vault: Vault,
    payee: Address,
    costs: Costs,
    state: Mutex<State>,
    /// One job is admitted after the other: from what the line stood at before its voucher to the split that knows of both.
    admits: tokio::sync::Mutex<()>,
}

/// A job as its voucher's row names it.
#[derive(Debug, Clone)]
pub(crate) struct TillJob {
    pub(crate) job: JobId,
    pub(crate) peer: String,
    pub(crate) model: String,
    pub(crate) model_digest: [u8; 32],
}

#[derive(Debug, Default)]
struct State {
    lines: BTreeMap<LineKey, Line>,
    jobs: BTreeMap<JobId, Job>,
    facts: BTreeMap<(Address, Address), (Instant, SignerFacts)>,
    /// Signers that are being asked for in the background.
    asking: BTreeSet<(Address, Address)>,
}

/// Keeps what is known of a line while a job is admitted to it.
struct Admitting<'a> {
    till: &'a Till,
    line: LineKey,
}

impl<'a> Admitting<'a> {
    fn of(till: &'a Till, line: LineKey) -> Self {
        till.state().lines.entry(line).or_default().admitting += 1;
        Self { till, line }
    }
}

impl Drop for Admitting<'_> {
    fn drop(&mut self) {
        let mut state = self.till.state();
        if let Some(line) = state.lines.get_mut(&self.line) {
            line.admitting = line.admitting.saturating_sub(1);
        }
        state.forget_idle(&self.line);
    }
}

#[derive(Debug, Default)]
struct Line {
    split: Split,
    /// Jobs whose first voucher is being taken: what is written down meanwhile must not be forgotten.
    admitting: u32,
}

#[derive(Debug)]
struct Job {
    line: LineKey,
    named: PaidJob,
    /// Tokens of it that no voucher covers.
    unvouchered: u32,
    standing: watch::Sender<Option<Standing>>,
}

impl Till {
    /// # Errors
    /// [`ledger::LedgerError`], where it cannot be read since when jobs are remembered.
    pub(crate) async fn open(
        ledger: &Ledger,
        chain: Chain,
        vault: Vault,
        payee: Address,
        costs: Costs,
    ) -> Result<Self, ledger::LedgerError> {
        Ok(Self {
            guarded_from_ms: AtomicU64::new(guarded_from_ms(ledger.guarded_since_ms().await?)),
            ledger: ledger.clone(),
            chain,
            vault,
            payee,
            costs,
            state: Mutex::default(),
            admits: tokio::sync::Mutex::default(),
        })
    }

    /// Until when no paid job is taken, in milliseconds since 1970: the list of jobs is new, and one of those that it does not know
    /// could be shown again for a second final. `None`: they are taken.
    pub(crate) fn closed_until_ms(&self) -> Option<u64> {
        let from_ms = self.guarded_from_ms.load(Ordering::Relaxed);
        (clock::unix_ms() < from_ms).then_some(from_ms)
    }

    /// The list of jobs began anew at this time.
    pub(crate) fn guarded_since(&self, since_ms: u64) {
        let from_ms = guarded_from_ms(since_ms);
        self.guarded_from_ms.store(from_ms, Ordering::Relaxed);
    }

    /// Who is paid: the operator key of this computer.
    pub(crate) fn payee(&self) -> Address {
        self.payee
    }

    /// What claims and reservations cost here.
    pub(crate) fn costs(&self) -> Costs {
        self.costs
    }

    /// How the provider's machine charges a job that may have so many tokens computed and not paid for.
    pub(crate) fn charging(&self, stream_window: u32) -> Charging {
        Charging {
            vault: self.vault.clone(),
            payee: self.payee,
            stream_window,
        }
    }

    /// Takes the voucher that a job begins with, of which `adds` is the job's: what its line stands at, and the highest voucher that
    /// was held of its payer before.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        job: &TillJob,
        voucher: &Voucher<Checked>,
        adds: u128,
    ) -> Result<(Standing, Option<[u8; VOUCHER_BYTES]>), Declined> {
        if self.closed_until_ms().is_some() {
            return Err(refused(
                "the list of jobs is new here, and nothing is taken for money for some minutes",
            ));
        }
        // Asked first: who has no grant leaves no trace on the disk.
        let facts = self.facts(voucher.payer, voucher.signer()).await?;
        let line = self.line(voucher.payer, voucher.signer());
        let _admitting = Admitting::of(self, line);
        let last = self
            .ledger
            .last_voucher(self.payee.into_array(), voucher.payer.into_array())
            .await
            .map_err(failed)?;
        let named = PaidJob {
            job: *job.job.as_bytes(),
            peer: job.peer.clone(),
            model: job.model.clone(),
            model_digest: job.model_digest,
            chat: None,
        };
        let _one = self.admits.lock().await;
        let before = self.ledger.line(line).await.map_err(failed)?.cumulative;
        self.write(line, &named, voucher, Totals::default()).await?;
        let debt = self.debt(line).await?;
        // From here on nothing is waited for: whoever gives up on this leaves no job behind that nobody ends.
        {
            let cumulative = voucher.cumulative;
            let opening = Opening { cumulative, adds };
            let mut state = self.state();
            state
                .lines
                .entry(line)
                .or_default()
                .split
                .open(job.job, before, opening);
            state.jobs.insert(
                job.job,
                Job {
                    line,
                    named,
                    unvouchered: 0,
                    standing: watch::Sender::new(None),
                },
            );
        }
        Ok((
            self.stood(&job.job, facts, debt)?,
            last.map(|held| super::convert::voucher_bytes(&held)),
        ))
    }

    /// Takes a further voucher of a job.
    pub(crate) async fn hold(
        self: &Arc<Self>,
        job: &JobId,
        voucher: &Voucher<Checked>,
        totals: Totals,
    ) -> Result<Standing, Declined> {
        let (line, named) = self.job(job)?;
        if line != self.line(voucher.payer, voucher.signer()) {
            return Err(refused(
                "the voucher is of another payer or key than the job",
            ));
        }
        self.write(line, &named, voucher, totals).await?;
        if let Some(line) = self.state().lines.get_mut(&line) {
            line.split.take(job, voucher.cumulative);
        }
        let facts = self.facts(voucher.payer, voucher.signer()).await?;
        self.stands(job, facts).await
    }

    /// Takes a reservation: written down, and brought to the chain by who settles. It counts once its block is final; until
    /// then the job waits.
    pub(crate) async fn hold_reservation(
        self: &Arc<Self>,
        job: &JobId,
        reservation: &Reservation<Checked>,
    ) -> Result<Standing, Declined> {
        let (line, _) = self.job(job)?;
        if line != self.line(reservation.payer, reservation.signer()) {
            return Err(refused(
                "the reservation is of another payer or key than the job",
            ));
        }
        self.ledger
            .reservation_held(ledger::HeldReservation {
                line,
                upto: reservation.upto,
                until_s: reservation.until,
                nonce: reservation.nonce,
                signature: reservation.signature(),
                at_ms: clock::unix_ms(),
            })
            .await
            .map_err(failed)?;
        let facts = self.facts(reservation.payer, reservation.signer()).await?;
        self.stands(job, facts).await
    }

    /// What was computed for a job comes to `used`, and no voucher covers so many tokens of it now. The other jobs of its payer are told.
    pub(crate) fn computed(&self, job: &JobId, used: u128, unvouchered: u32) {
        let mut state = self.state();
        let Some(this) = state.jobs.get_mut(job) else {
            return;
        };
        let is_new = this.unvouchered != unvouchered;
        this.unvouchered = unvouchered;
        let line = this.line;
        if let Some(line) = state.lines.get_mut(&line) {
            line.split.uses(job, used);
        }
        if is_new {
            state.tell_others(job, &line);
        }
    }

    /// What changes for a job from outside: other jobs of its line, claims, the end of its signer.
    pub(crate) fn standing(&self, job: &JobId) -> Option<watch::Receiver<Option<Standing>>> {
        self.state()
            .jobs
            .get(job)
            .map(|job| job.standing.subscribe())
    }

    /// The job is over.
    pub(crate) fn left(&self, job: &JobId) {
        let mut state = self.state();
        let Some(over) = state.jobs.remove(job) else {
            return;
        };
        if let Some(line) = state.lines.get_mut(&over.line) {
            line.split.close(job);
            state.forget_idle(&over.line);
        }
    }

    /// Final blocks said something new: what is known of signers is asked again, and every job is told where it stands.
    pub(crate) async fn chain_moved(self: &Arc<Self>) {
        let jobs: Vec<(JobId, LineKey)> = {
            let mut state = self.state();
            state.facts.clear();
            let jobs = state.jobs.iter();
            jobs.map(|(job, of)| (*job, of.line)).collect()
        };
        for (job, line) in jobs {
            let (payer, signer) = (Address::from(line.payer), Address::from(line.signer));
            match self.facts(payer, signer).await {
                Ok(facts) => {
                    if let Err(declined) = self.stands(&job, facts).await {
                        tracing::debug!(%declined.msg, "a paid job's standing is not known");
                    }
                }
                Err(declined) => tracing::debug!(%declined.msg, "a payer's signer is not known"),
            }
        }
    }

    /// Writes a voucher down.
    async fn write(
        &self,
        line: LineKey,
        named: &PaidJob,
        voucher: &Voucher<Checked>,
        totals: Totals,
    ) -> Result<(), Declined> {
        self.ledger
            .voucher_held(VoucherRow {
                line,
                cumulative: voucher.cumulative,
                work: voucher.work.0,
                signature: voucher.signature(),
                job: named.clone(),
                tokens: tokens(&totals),
                at_ms: clock::unix_ms(),
            })
            .await
            .map(drop)
            .map_err(failed)
    }

    /// What final blocks say of a signer. What is known for a while is asked anew without anybody waiting for it.
    async fn facts(
        self: &Arc<Self>,
        payer: Address,
        signer: Address,
    ) -> Result<SignerFacts, Declined> {
        let known = self.state().facts.get(&(payer, signer)).copied();
        match known {
            Some((at, facts)) if at.elapsed() < FACTS_LIVE => return Ok(facts),
            Some((at, facts)) if at.elapsed() < FACTS_HOLD => {
                self.ask_beside(payer, signer);
                return Ok(facts);
            }
            Some(_) | None => {}
        }
        self.ask(payer, signer).await
    }

    /// Has it asked in the background, once at a time.
    fn ask_beside(self: &Arc<Self>, payer: Address, signer: Address) {
        if !self.state().asking.insert((payer, signer)) {
            return;
        }
        let till = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(declined) = till.ask(payer, signer).await {
                tracing::debug!(%declined.msg, "a payer's signer is not known any more");
            }
            till.state().asking.remove(&(payer, signer));
        });
    }

    async fn ask(&self, payer: Address, signer: Address) -> Result<SignerFacts, Declined> {
        let view = self
            .chain
            .signer(payer, signer)
            .await
            .map_err(|error| Declined {
                code: RefuseCode::PaymentRefused,
                msg: format!("the chain cannot be asked: {error}"),
            })?;
        let Some(view) = view else {
            return Err(refused("the chain knows no grant of this key"));
        };
        let facts = SignerFacts {
            left: match view.ended || view.contested || view.thawed {
                true => 0,
                false => view
                    .granted
                    .saturating_sub(view.spent)
                    .saturating_sub(view.locked),
            },
            until: view.until,
            bond: view.bond,
        };
        self.ledger
            .signer_seen(
                payer.into_array(),
                signer.into_array(),
                view.granted,
                view.until,
            )
            .await
            .map_err(failed)?;
        let mut state = self.state();
        if state.facts.len() >= MAX_FACTS {
            state.facts.clear();
        }
        state.facts.insert((payer, signer), (Instant::now(), facts));
        Ok(facts)
    }

    /// Where a job stands, and tells those who watch it.
    async fn stands(&self, job: &JobId, signer: SignerFacts) -> Result<Standing, Declined> {
        let (line, _) = self.job(job)?;
        let debt = self.debt(line).await?;
        self.stood(job, signer, debt)
    }

    async fn debt(&self, line: LineKey) -> Result<ledger::Debt, Declined> {
        let debt = self.ledger.debt(line.payee, line.payer).await;
        debt.map_err(failed)
    }

    /// The same, of what is known already.
    fn stood(
        &self,
        job: &JobId,
        signer: SignerFacts,
        debt: ledger::Debt,
    ) -> Result<Standing, Declined> {
        let (line, _) = self.job(job)?;
        let state = self.state();
        let (Some(this), Some(of)) = (state.jobs.get(job), state.lines.get(&line)) else {
            return Err(refused("the job is over"));
        };
        let standing = Standing {
            paid: of.split.paid(job),
            elsewhere: state
                .unvouchered_of(line.payer)
                .saturating_sub(this.unvouchered),
            signer,
            debt: Debt {
                open: debt.open,
                claimed: debt.claimed,
            },
            costs: self.costs,
        };
        this.standing.send_replace(Some(standing));
        state.tell_others(job, &line);
        Ok(standing)
    }

    fn job(&self, job: &JobId) -> Result<(LineKey, PaidJob), Declined> {
        let state = self.state();
        let job = state
            .jobs
            .get(job)
            .ok_or_else(|| refused("the job is over"))?;
        Ok((job.line, job.named.clone()))
    }

    fn line(&self, payer: Address, signer: Address) -> LineKey {
        LineKey {
            payer: payer.into_array(),
            signer: signer.into_array(),
            payee: self.payee.into_array(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Forgets a line on which no job lives or is admitted.
    fn forget_idle(&mut self, line: &LineKey) {
        let idle = |line: &Line| line.admitting == 0 && line.split.is_idle();
        if self.lines.get(line).is_some_and(idle) {
            self.lines.remove(line);
        }
    }

    /// Tells the other jobs of a payer what one of them changed for them: what is computed elsewhere, and on its line, whose the total is.
    fn tell_others(&self, job: &JobId, line: &LineKey) {
        let sum = self.unvouchered_of(line.payer);
        for (other, of) in &self.jobs {
            if of.line.payer != line.payer || other == job {
                continue;
            }
            let elsewhere = sum.saturating_sub(of.unvouchered);
            let paid = self.lines.get(&of.line).map(|line| line.split.paid(other));
            of.standing.send_if_modified(|standing| {
                let Some(standing) = standing else {
                    return false;
                };
                let now = Standing {
                    elsewhere,
                    paid: paid.unwrap_or(standing.paid),
                    ..*standing
                };
                let is_new = *standing != now;
                *standing = now;
                is_new
            });
        }
    }

    /// Of all keys of a payer: who pays by many has one window all the same.
    fn unvouchered_of(&self, payer: [u8; 20]) -> u32 {
        self.jobs
            .values()
            .filter(|job| job.line.payer == payer)
            .fold(0, |sum: u32, job| sum.saturating_add(job.unvouchered))
    }
}

/// When every job that was named before `since_ms` has expired; 0 where the list is as old as this computer's name.
fn guarded_from_ms(since_ms: u64) -> u64 {
    match since_ms {
        0 => 0,
        since_ms => since_ms.saturating_add(ledger::MAX_EXPIRY_MS),
    }
}

fn refused(why: &str) -> Declined {
    Declined {
        code: RefuseCode::PaymentRefused,
        msg: why.to_owned(),
    }
}

/// The payer is told nothing of this computer's disk.
fn failed(error: ledger::LedgerError) -> Declined {
    tracing::warn!(%error, "a voucher could not be written down");
    refused("the voucher could not be written down")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_jobs_that_is_new_is_trusted_once_all_before_it_has_expired() {
        assert_eq!(guarded_from_ms(0), 0, "it is as old as the computer's name");
        assert_eq!(guarded_from_ms(5_000), 5_000 + ledger::MAX_EXPIRY_MS);
        assert_eq!(guarded_from_ms(u64::MAX), u64::MAX);
    }
}
