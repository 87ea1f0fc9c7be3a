//! The payee's side: vouchers that are held, what is due of them, and in which state every unit is.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "money/desk.rs"]
mod desk;

use desk::*;
use ledger::*;

#[tokio::test]
async fn the_highest_voucher_of_a_line_is_kept_with_its_bytes() {
    let desk = Desk::new().await;
    desk.grant(10_000).await;
    assert_eq!(desk.held(A, 0, 1).await, LineState::default());
    assert_eq!(
        desk.ledger.last_voucher(A, STRANGER).await.unwrap(),
        None,
        "a voucher of nothing leaves no trace"
    );
    assert_eq!(desk.held(A, 100, 1).await.cumulative, 100);
    for lower in [0, 99, 100] {
        assert_eq!(desk.held(A, lower, 2).await.cumulative, 100);
    }
    let desk = desk.restarted().await;
    let kept = desk
        .ledger
        .last_voucher(A, STRANGER)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(kept.line, theirs(A));
    assert_eq!((kept.cumulative, kept.signature), (100, signature(100)));
    desk.held(B, u128::MAX, 3).await;
    desk.audited().await;
}

#[tokio::test]
async fn credit_is_per_payer_over_all_its_signers() {
    let desk = Desk::new().await;
    desk.grant(10_000).await;
    let other = LineKey {
        signer: [8; 20],
        ..theirs(A)
    };
    desk.held(A, 100, 1).await;
    let row = VoucherRow {
        line: other,
        ..desk.voucher_of(A, 40, 2)
    };
    desk.ledger.voucher_held(row).await.unwrap();
    // Another payee of this computer is not part of it.
    desk.held(B, 1_000, 3).await;
    let debt = || desk.ledger.debt(A, STRANGER);
    assert_eq!(debt().await.unwrap().open, 140);
    desk.block(vec![
        desk.payees(claimed(A, 70, 70)),
        desk.payees(paid_out(A, 70, 0)),
    ])
    .await;
    desk.block(vec![desk.payees(reserved(A, 90, CHAIN_S + 50, 1))])
        .await;
    assert_eq!(
        debt().await.unwrap(),
        Debt {
            open: 50,
            claimed: 70,
            reserved: 20
        }
    );
    desk.block_at(CHAIN_S + 60, vec![]).await;
    assert_eq!(debt().await.unwrap().open, 70);
    desk.audited().await;
}

#[tokio::test]
async fn a_line_is_due_when_it_is_worth_its_gas_or_its_time_is_near() {
    let desk = Desk::new().await;
    let until = CHAIN_S + 30 * DAY_S;
    desk.ledger
        .signer_seen(STRANGER, THEIRS, 10_000, until)
        .await
        .unwrap();
    desk.held(A, 100, 1).await;
    let line = async || desk.ledger.open_lines(A).await.unwrap()[0];
    let open = line().await;
    assert_eq!((open.open, open.until_s), (100, Some(until)));
    assert_eq!(open.due(101, CHAIN_S), None);
    assert_eq!(open.due(100, CHAIN_S), Some(DueWhy::Worth));
    assert_eq!(open.due(101, until - DAY_S), Some(DueWhy::SignerEnds));
    assert_eq!(open.due(1, until + THAW_S), None, "the vault pays no more");
    desk.block(vec![desk.payees(reserved(A, 60, CHAIN_S + DAY_S, 1))])
        .await;
    assert_eq!(
        line().await.due(101, CHAIN_S),
        Some(DueWhy::ReservationEnds)
    );
    desk.block(vec![desk.payees(ChainEvent::OverdraftShown {
        payer: PAYER,
        signer: SIGNER,
        mend_by_s: CHAIN_S + DAY_S,
    })])
    .await;
    assert_eq!(line().await.due(1, CHAIN_S + 2 * DAY_S), None);
    desk.block(vec![desk.payees(claimed(A, 100, 100))]).await;
    assert!(desk.ledger.open_lines(A).await.unwrap().is_empty());
}

#[tokio::test]
async fn every_unit_that_was_earned_is_in_one_state() {
    let desk = Desk::new().await;
    desk.held(A, 100, 1).await;
    desk.held(A, 300, 2).await;
    let query = |worth, now_s| EarningsQuery {
        from_ms: 0,
        until_ms: u64::MAX,
        utc_offset_s: 0,
        worth,
        now_s,
    };
    let sum = async |worth, now_s| {
        let rows = desk
            .ledger
            .earnings(query(worth, now_s), By::Device)
            .await
            .unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].earned.vouchered(), 300);
        assert_eq!((rows[0].jobs, rows[0].tokens_out), (2, 16));
        rows[0].earned
    };
    // Final blocks say nothing of the signer yet.
    assert_eq!(sum(1, CHAIN_S).await.checking, 300);
    desk.grant(10_000).await;
    assert_eq!(sum(301, CHAIN_S).await.too_small, 300);
    assert_eq!(sum(300, CHAIN_S).await.available, 300);
    desk.block(vec![
        desk.payees(claimed(A, 150, 150)),
        desk.payees(paid_out(A, 135, 15)),
    ])
    .await;
    let half = sum(300, CHAIN_S).await;
    assert_eq!((half.paid_out, half.too_small), (150, 150));
    let jobs = desk
        .ledger
        .job_earnings(query(1, CHAIN_S), 10)
        .await
        .unwrap();
    let of = |job: &JobEarning| (job.cumulative, job.earned.paid_out, job.earned.available);
    assert_eq!(
        jobs.iter().map(of).collect::<Vec<_>>(),
        [(300, 50, 150), (100, 100, 0)]
    );
    assert_eq!(jobs[0].signature, signature(300));
    assert_eq!(sum(1, UNTIL + THAW_S).await.lost, 150);
    desk.block(vec![desk.payees(ChainEvent::GrantFreed {
        payer: PAYER,
        signer: SIGNER,
        amount: 9_850,
    })])
    .await;
    assert_eq!(sum(1, CHAIN_S).await.lost, 150);
    let balance = |account| desk.ledger.balance(account);
    let bad = balance(Account::BadDebts(A)).await.unwrap();
    assert_eq!(bad.debit, 150);
    let fees = balance(Account::Fees(A)).await.unwrap();
    assert_eq!(fees.debit, 15);
    desk.audited().await;
}

#[tokio::test]
async fn a_job_that_runs_is_being_checked() {
    let desk = Desk::new().await;
    desk.grant(10_000).await;
    let running = job(1);
    desk.ledger
        .answer_started(NewAnswer {
            job: running.job,
            at_ms: NOW,
            peer: running.peer,
            model: running.model,
            model_digest: running.model_digest,
        })
        .await
        .unwrap();
    desk.held(A, 100, 1).await;
    let query = EarningsQuery {
        from_ms: 0,
        until_ms: u64::MAX,
        utc_offset_s: 0,
        worth: 1,
        now_s: CHAIN_S,
    };
    let earned = async || desk.ledger.earnings(query, By::Model).await.unwrap()[0].earned;
    assert_eq!(earned().await.checking, 100);
    desk.ledger
        .answer_ended(running.job, 1, 8, "stop", AnsweredState::Signed)
        .await
        .unwrap();
    assert_eq!(earned().await.available, 100);
}

#[tokio::test]
async fn days_are_those_of_the_callers_zone() {
    let desk = Desk::new().await;
    desk.grant(10_000).await;
    let midnight = NOW - NOW % DAY_MS;
    for (n, at_ms) in [(1, midnight - 1), (2, midnight), (3, midnight + 1)] {
        let row = VoucherRow {
            at_ms,
            ..desk.voucher_of(A, u128::from(n) * 10, n)
        };
        desk.ledger.voucher_held(row).await.unwrap();
    }
    let days = async |utc_offset_s| {
        let query = EarningsQuery {
            from_ms: 0,
            until_ms: u64::MAX,
            utc_offset_s,
            worth: 1,
            now_s: CHAIN_S,
        };
        desk.ledger
            .earnings(query, By::Day)
            .await
            .unwrap()
            .into_iter()
            .map(|row| (row.key, row.jobs))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        days(0).await,
        [
            (EarningKey::Day(midnight), 2),
            (EarningKey::Day(midnight - DAY_MS), 1)
        ]
    );
    assert_eq!(
        days(3600).await,
        [(EarningKey::Day(midnight - 3_600_000), 3)]
    );
}

#[tokio::test]
async fn a_payee_that_lost_its_book_finds_its_place_on_the_chain() {
    let desk = Desk::new().await;
    desk.grant(10_000).await;
    desk.held(A, 100, 1).await;
    desk.block(vec![
        desk.payees(claimed(A, 500, 500)),
        desk.payees(paid_out(A, 500, 0)),
    ])
    .await;
    assert_eq!(desk.held(A, 500, 2).await.cumulative, 500);
    assert_eq!(desk.held(A, 560, 3).await.cumulative, 560);
    assert_eq!(desk.ledger.debt(A, STRANGER).await.unwrap().open, 60);
    desk.audited().await;
}
