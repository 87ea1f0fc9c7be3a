//! By which promises an answer was paid.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "money/desk.rs"]
mod desk;

use desk::*;
use ledger::*;

#[tokio::test]
async fn an_answer_shows_its_last_voucher_and_all_that_it_cost() {
    let desk = Desk::new().await;
    desk.grant(1_000).await;
    desk.promise(A, 100, 1).await.unwrap();
    desk.promise(A, 130, 2).await.unwrap();
    desk.promise(A, 150, 2).await.unwrap();
    desk.promise(B, 40, 3).await.unwrap();
    let paid = |n| desk.ledger.job_payments(job(n).job);

    let of_two = paid(2).await.unwrap();
    assert_eq!(of_two.len(), 1);
    let two = &of_two[0];
    assert_eq!((two.line, two.paid, two.cumulative), (key(A), 50, 150));
    assert_eq!(
        (two.work, two.tokens, two.at_ms),
        ([2; 32], desk.promise_of(A, 0, 2).tokens, NOW)
    );
    assert_eq!((two.peer.clone(), two.hold), (job(2).peer, None));
    assert_eq!(paid(1).await.unwrap()[0].cumulative, 100);
    assert_eq!(paid(3).await.unwrap()[0].line, key(B));
    // One that was free, and one that nobody asked for.
    desk.promise(B, 40, 4).await.unwrap();
    assert_eq!(paid(4).await.unwrap(), []);
    assert_eq!(paid(9).await.unwrap(), []);
}

#[tokio::test]
async fn the_reservation_of_an_answer_is_the_one_that_stood_when_it_was_paid() {
    let desk = Desk::new().await;
    desk.grant(1_000).await;
    desk.hold(A, 90, CHAIN_S + 500, 1).await.unwrap();
    desk.promise(A, 60, 1).await.unwrap();
    desk.hold(A, 200, CHAIN_S + 900, 2).await.unwrap();
    let later = Promise {
        at_ms: NOW + 600_000,
        ..desk.promise_of(A, 80, 2)
    };
    desk.ledger.promise(later).await.unwrap();
    let hold = |upto, life, nonce| HoldRow {
        upto,
        until_s: CHAIN_S + life,
        nonce,
    };
    // Both were signed in the same millisecond: the newer one counts.
    let first = desk.ledger.job_payments(job(1).job).await.unwrap();
    assert_eq!(first[0].hold, Some(hold(200, 900, 2)));
    // By then the first was over and the second was not.
    let second = desk.ledger.job_payments(job(2).job).await.unwrap();
    assert_eq!(second[0].hold, Some(hold(200, 900, 2)));
    let over = Promise {
        at_ms: NOW + 1_000_000,
        ..desk.promise_of(A, 95, 3)
    };
    desk.ledger.promise(over).await.unwrap();
    let third = desk.ledger.job_payments(job(3).job).await.unwrap();
    assert_eq!(third[0].hold, None);
}
