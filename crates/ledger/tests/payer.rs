//! The payer's side: a signer never promises past its grant, and what was lost of its book is found.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "money/desk.rs"]
mod desk;

use desk::*;
use ledger::*;

#[tokio::test]
async fn a_signer_stops_at_its_grant_also_after_a_restart() {
    let desk = Desk::new().await;
    desk.grant(100).await;
    desk.promise(A, 60, 1).await.unwrap();
    let past = desk.promise(B, 41, 2).await;
    assert!(
        matches!(
            past,
            Err(LedgerError::Money(MoneyError::PastGrant {
                promised: 60,
                granted: 100,
                more: 41
            }))
        ),
        "{past:?}"
    );
    desk.promise(B, 40, 2).await.unwrap();
    // The same total begins the next job of a line; a lower one never leaves.
    desk.promise(B, 40, 3).await.unwrap();
    assert!(matches!(
        desk.promise(B, 39, 3).await,
        Err(LedgerError::Money(MoneyError::Lower {
            line: 40,
            cumulative: 39
        }))
    ));
    let before = desk.book().await;
    let desk = desk.restarted().await;
    assert_eq!(desk.book().await, before);
    assert_eq!(
        before
            .lines
            .iter()
            .map(|line| (line.payee, line.cumulative))
            .collect::<Vec<_>>(),
        [(A, 60), (B, 40)]
    );
    assert_eq!(desk.ledger.spent(PAYER, 0, u64::MAX).await.unwrap(), 100);
    desk.audited().await;
}

#[tokio::test]
async fn a_reservation_counts_until_the_chain_says_otherwise() {
    let desk = Desk::new().await;
    desk.grant(100).await;
    desk.hold(A, 70, CHAIN_S + 500, 1).await.unwrap();
    assert!(desk.promise(B, 31, 1).await.is_err());
    // The same number again is another reservation.
    assert!(matches!(
        desk.hold(A, 70, CHAIN_S + 500, 1).await,
        Err(LedgerError::Money(MoneyError::NonceUsed {
            line: 1,
            nonce: 1
        }))
    ));
    // A release of a line where none was brought says 0, and frees nothing.
    desk.block(vec![desk.payers(released(A, 0))]).await;
    assert!(desk.promise(B, 31, 1).await.is_err());
    desk.block(vec![desk.payers(released(A, 1))]).await;
    desk.promise(B, 31, 1).await.unwrap();
    desk.hold(A, 60, CHAIN_S + 900, 2).await.unwrap();
    assert!(desk.promise(B, 41, 1).await.is_err());
    desk.block_at(CHAIN_S + 900, vec![]).await;
    desk.promise(B, 41, 1).await.unwrap();
    desk.audited().await;
}

#[tokio::test]
async fn caps_are_held_against_what_was_promised_that_day_and_in_that_chat() {
    let desk = Desk::new().await;
    desk.grant(1_000).await;
    for (cumulative, job, at_ms) in [(10, 1, NOW), (30, 2, NOW + 5), (100, 3, NOW + DAY_MS)] {
        let promise = Promise {
            at_ms,
            ..desk.promise_of(A, cumulative, job)
        };
        desk.ledger.promise(promise).await.unwrap();
    }
    let spent = |from, until| desk.ledger.spent(PAYER, from, until);
    assert_eq!(spent(NOW, NOW + DAY_MS).await.unwrap(), 30);
    assert_eq!(spent(NOW + DAY_MS, u64::MAX).await.unwrap(), 70);
    // The chat of a job is its number modulo two.
    let chat = |n| desk.ledger.spent_in_chat(PAYER, [n; 16]);
    assert_eq!(chat(1).await.unwrap(), 80);
    assert_eq!(chat(0).await.unwrap(), 20);
}

#[tokio::test]
async fn a_restored_backup_is_found_at_a_payee_and_its_signer_never_signs_again() {
    let desk = Desk::new().await;
    desk.grant(1_000).await;
    desk.promise(A, 100, 1).await.unwrap();
    let backup = desk.backup();
    desk.promise(A, 250, 2).await.unwrap();
    // What the payee gives back is what this book says: nothing is lost.
    let seen = |cumulative| Seen {
        line: key(A),
        cumulative,
        work: [2; 32],
        signature: [9; 64],
        at_ms: NOW,
    };
    assert_eq!(desk.ledger.own_voucher_seen(seen(250)).await.unwrap(), None);
    let old = Desk::at(backup).await;
    let lost = old.ledger.own_voucher_seen(seen(250)).await.unwrap();
    assert_eq!(
        lost,
        Some(Lost::VoucherSeen {
            payee: A,
            seen: 250,
            booked: 100
        })
    );
    let refused = old.promise(A, 300, 3).await;
    assert!(
        matches!(
            refused,
            Err(LedgerError::Money(MoneyError::SignerLost { .. }))
        ),
        "{refused:?}"
    );
    assert!(old.hold(B, 1, CHAIN_S + 9, 1).await.is_err());
    let old = old.restarted().await;
    assert_eq!(old.book().await.lost, lost);
    old.audited().await;
}

#[tokio::test]
async fn a_restored_backup_is_found_on_the_chain() {
    for event in [claimed(A, 250, 250), reserved(A, 90, CHAIN_S + 500, 7)] {
        let desk = Desk::new().await;
        desk.grant(1_000).await;
        desk.promise(A, 100, 1).await.unwrap();
        desk.block(vec![desk.payers(event)]).await;
        assert!(desk.book().await.lost.is_some());
        assert!(desk.promise(A, 300, 2).await.is_err());
        desk.audited().await;
    }
}

#[tokio::test]
async fn a_signer_whose_book_began_elsewhere_is_not_begun_again() {
    let desk = Desk::new().await;
    let ledger = &desk.ledger;
    // A new file beside an old key: the chain knows the signer, this computer does not.
    ledger
        .signer_seen(PAYER, [77; 20], 500, UNTIL)
        .await
        .unwrap();
    assert_eq!(ledger.payer_book(PAYER, [77; 20]).await.unwrap(), None);
    assert!(matches!(
        ledger.signer_begun(PAYER, [77; 20]).await,
        Err(LedgerError::Money(MoneyError::NoBook { .. }))
    ));
}

#[tokio::test]
async fn a_lying_endpoint_shrinks_no_grant() {
    let desk = Desk::new().await;
    desk.grant(100).await;
    desk.grant(5).await;
    desk.promise(A, 100, 1).await.unwrap();
}

#[tokio::test]
async fn what_was_earned_and_kept_is_promised_without_a_deposit() {
    let desk = Desk::new().await;
    desk.held(A, 100, 1).await;
    assert!(desk.promise(B, 1, 2).await.is_err(), "nothing was granted");
    let set = |granted| ChainEvent::SignerSet {
        payer: PAYER,
        signer: SIGNER,
        granted,
        until_s: UNTIL,
        bond: 0,
        gas_pot: 0,
    };
    // Joined, claimed less a fee of a tenth, and raised; then a machine of the same owner whose books are elsewhere. Nobody says
    // whose they are: the books know their own payee, and their own signer's payer.
    desk.block(vec![
        desk.payers(set(0)),
        desk.payees(claimed(A, 100, 100)),
        desk.payees(paid_out(A, 90, 10)),
        desk.strangers(kept(A, 90)),
        desk.strangers(set(90)),
        desk.strangers(paid_out(B, 30, 0)),
        desk.strangers(kept(B, 30)),
        desk.strangers(set(120)),
        // The signer was over by then: it stays in the balance.
        desk.strangers(kept(B, 7)),
    ])
    .await;
    desk.promise(B, 120, 3).await.unwrap();
    assert!(desk.promise(B, 121, 4).await.is_err());
    let left = async |account| {
        let sums = desk.ledger.balance(account).await.unwrap();
        i128::try_from(sums.debit).unwrap() - i128::try_from(sums.credit).unwrap()
    };
    assert_eq!(left(Account::PaidOut(A)).await, 0);
    assert_eq!(left(Account::Fees(A)).await, 10);
    assert_eq!(left(Account::Grant(PAYER, SIGNER)).await, 120);
    assert_eq!(left(Account::Free(PAYER)).await, 7);
    assert_eq!(left(Account::Outside(PAYER)).await, -37);
    desk.audited().await;
}

#[tokio::test]
async fn a_signer_without_its_book_is_still_one_of_this_computer() {
    let desk = Desk::new().await;
    let (lost, strange) = ([77; 20], [78; 20]);
    desk.ledger.signer_lost(PAYER, lost, 100, 5).await.unwrap();
    desk.ledger
        .signer_seen(PAYER, strange, 100, 5)
        .await
        .unwrap();
    assert_eq!(desk.ledger.signers_of(PAYER).await.unwrap(), [SIGNER, lost]);
}
