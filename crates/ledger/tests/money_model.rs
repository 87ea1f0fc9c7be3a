//! Random histories against an account that is slow and obvious: it keeps everything that ever happened and counts it all, each time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "money/desk.rs"]
mod desk;

use std::collections::BTreeMap;

use desk::*;
use ledger::*;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Grant(u128),
    Promise(usize, u128, u8),
    Hold(usize, u128, u64),
    Voucher(usize, u128, u8),
    /// What a claim would take of the payer's line, the payee's, or both.
    Claim(usize, u128, bool),
    Release(usize),
    Time(u64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..4_000u128).prop_map(Step::Grant),
        5 => (0..2usize, 0..2_500u128, 1..9u8).prop_map(|(line, to, job)| Step::Promise(line, to, job)),
        2 => (0..2usize, 0..2_500u128, 1..5_000u64).prop_map(|(line, to, life)| Step::Hold(line, to, life)),
        5 => (0..2usize, 0..2_500u128, 1..9u8).prop_map(|(line, to, job)| Step::Voucher(line, to, job)),
        3 => (0..2usize, 1..400u128, any::<bool>()).prop_map(|(line, more, payer)| Step::Claim(line, more, payer)),
        1 => (0..2usize).prop_map(Step::Release),
        1 => (0..2_000u64).prop_map(Step::Time),
        1 => Just(Step::Restart),
    ]
}

/// Everything that ever happened.
#[derive(Default)]
struct Model {
    granted: u128,
    chain_s: u64,
    /// Line, total, job.
    promises: Vec<(usize, u128, u8)>,
    vouchers: Vec<(usize, u128, u8)>,
    /// Line, level, end, number.
    holds: Vec<(usize, u128, u64, u64)>,
    released: BTreeMap<usize, u64>,
    /// Line, payer's side, level.
    claims: Vec<(usize, bool, u128)>,
}

impl Model {
    fn promised(&self, line: usize) -> u128 {
        let of = self.promises.iter().filter(|promise| promise.0 == line);
        of.map(|promise| promise.1).max().unwrap_or(0)
    }

    fn held(&self, line: usize) -> u128 {
        let of = self.vouchers.iter().filter(|voucher| voucher.0 == line);
        of.map(|voucher| voucher.1).max().unwrap_or(0)
    }

    fn nonce(&self, line: usize) -> u64 {
        let of = self.holds.iter().filter(|hold| hold.0 == line);
        of.map(|hold| hold.3).max().unwrap_or(0)
    }

    fn claimed(&self, line: usize, payer: bool) -> u128 {
        let of = self
            .claims
            .iter()
            .filter(|claim| claim.0 == line && claim.1 == payer);
        of.map(|claim| claim.2).max().unwrap_or(0)
    }

    /// The most that all promises may cost, with one line at another level.
    fn worst(&self, line: usize, level: u128) -> u128 {
        (0..2)
            .map(|other| {
                let live = self.holds.iter().filter(|hold| {
                    hold.0 == other
                        && hold.2 > self.chain_s
                        && hold.3 > self.released.get(&other).copied().unwrap_or(0)
                });
                let stands = live.map(|hold| hold.1).max().unwrap_or(0);
                let stands = stands.max(self.promised(other));
                if other == line {
                    stands.max(level)
                } else {
                    stands
                }
            })
            .sum()
    }

    /// What a job added, by walking its line from the start.
    fn of_job(&self, list: &[(usize, u128, u8)], job: u8) -> u128 {
        (0..2)
            .map(|line| {
                let (mut stood, mut sum) = (0, 0);
                for (_, total, of) in list.iter().filter(|entry| entry.0 == line) {
                    if *of == job {
                        sum += total.saturating_sub(stood);
                    }
                    stood = stood.max(*total);
                }
                sum
            })
            .sum()
    }
}

const PAYEES: [Address; 2] = [A, B];

async fn play(steps: Vec<Step>) {
    let mut desk = Desk::new().await;
    let mut model = Model {
        chain_s: CHAIN_S,
        ..Model::default()
    };
    desk.block(vec![]).await;
    for step in steps {
        match step {
            Step::Grant(granted) => {
                desk.grant(granted).await;
                model.granted = model.granted.max(granted);
            }
            Step::Promise(line, total, job) => {
                let fits =
                    total >= model.promised(line) && model.worst(line, total) <= model.granted;
                let done = desk.promise(PAYEES[line], total, job).await;
                assert_eq!(done.is_ok(), fits, "{step:?}: {done:?}");
                if fits {
                    model.promises.push((line, total, job));
                }
            }
            Step::Hold(line, level, life) => {
                let until = model.chain_s + life;
                let nonce = model.nonce(line) + 1;
                let fits = model.worst(line, level) <= model.granted;
                let done = desk.hold(PAYEES[line], level, until, nonce).await;
                assert_eq!(done.is_ok(), fits, "{step:?}: {done:?}");
                if fits {
                    model.holds.push((line, level, until, nonce));
                }
            }
            Step::Voucher(line, total, job) => {
                if total > model.held(line) {
                    model.vouchers.push((line, total, job));
                }
                let state = desk.held(PAYEES[line], total, job).await;
                assert_eq!(state.cumulative, model.held(line));
            }
            Step::Claim(line, more, payer) => {
                let (claimed_to, open) = if payer {
                    (model.claimed(line, true), model.promised(line))
                } else {
                    (model.claimed(line, false), model.held(line))
                };
                let level = open.min(claimed_to + more);
                if level == claimed_to {
                    continue;
                }
                let event = claimed(PAYEES[line], level, level - claimed_to);
                let rows = if payer {
                    vec![desk.payers(event)]
                } else {
                    let transfer = paid_out(PAYEES[line], level - claimed_to, 0);
                    vec![desk.payees(event), desk.payees(transfer)]
                };
                desk.block_at(model.chain_s, rows).await;
                model.claims.push((line, payer, level));
            }
            Step::Release(line) => {
                let nonce = model.nonce(line);
                desk.block_at(
                    model.chain_s,
                    vec![desk.payers(released(PAYEES[line], nonce))],
                )
                .await;
                model.released.insert(line, nonce);
            }
            Step::Time(seconds) => {
                model.chain_s += seconds;
                desk.block_at(model.chain_s, vec![]).await;
            }
            Step::Restart => desk = desk.restarted().await,
        }
    }
    compare(&desk, &model).await;
}

async fn compare(desk: &Desk, model: &Model) {
    for (line, payee) in PAYEES.into_iter().enumerate() {
        let open = model.held(line) - model.claimed(line, false);
        let debt = desk.ledger.debt(payee, STRANGER).await.unwrap();
        assert_eq!(
            (debt.open, debt.claimed),
            (open, model.claimed(line, false))
        );
        let owed = desk
            .ledger
            .balance(Account::Promised(key(payee)))
            .await
            .unwrap();
        assert_eq!(owed.credit, model.promised(line));
        assert_eq!(owed.debit, model.claimed(line, true));
    }
    let query = EarningsQuery {
        from_ms: 0,
        until_ms: u64::MAX,
        utc_offset_s: 0,
        worth: 1,
        now_s: CHAIN_S,
    };
    let earned = desk.ledger.job_earnings(query, 100).await.unwrap();
    for n in 1..9 {
        let name = job(n).job;
        let row = earned.iter().find(|row| row.job == name);
        let vouchered = row.map_or(0, |row| row.earned.vouchered());
        assert_eq!(vouchered, model.of_job(&model.vouchers, n));
        let payments = desk.ledger.job_payments(name).await.unwrap();
        let spent: u128 = payments.iter().map(|payment| payment.paid).sum();
        assert_eq!(spent, model.of_job(&model.promises, n));
    }
    let paid: u128 = earned.iter().map(|row| row.earned.paid_out).sum();
    let claimed: u128 = (0..2).map(|line| model.claimed(line, false)).sum();
    assert_eq!(paid, claimed);
    let book = desk.book().await;
    assert_eq!(book.granted, model.granted);
    let promised: u128 = (0..2).map(|line| model.worst(line, 0)).sum::<u128>() / 2;
    let booked: u128 = book
        .lines
        .iter()
        .map(|line| {
            let held = line.holds.iter().map(|hold| hold.upto).max().unwrap_or(0);
            held.max(line.cumulative)
        })
        .sum();
    assert_eq!(booked, promised);
    desk.audited().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn random_histories_come_out_as_the_slow_account_says(steps in prop::collection::vec(step(), 1..40)) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(play(steps));
    }
}
