//! Promises, vouchers, claims and the books over them, as a payer and as a payee.
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
    assert_eq!(
        desk.ledger.spent_on_job(PAYER, job(2).job).await.unwrap(),
        20
    );
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
        .voucher_of_line(theirs(A))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((kept.cumulative, kept.signature), (100, signature(100)));
    assert_eq!(
        desk.ledger.last_voucher(A, STRANGER).await.unwrap(),
        Some(kept)
    );
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
async fn an_event_counts_once_and_a_final_block_stays() {
    let desk = Desk::new().await;
    desk.grant(1_000).await;
    desk.promise(A, 100, 1).await.unwrap();
    let row = desk.payers(claimed(A, 100, 100));
    let block = ChainBlock {
        block: 10,
        hash: [10; 32],
        at_s: CHAIN_S,
        rows: vec![row.clone()],
    };
    for _ in 0..3 {
        desk.ledger.chain_block(block.clone()).await.unwrap();
    }
    let grant = desk
        .ledger
        .balance(Account::Grant(PAYER, SIGNER))
        .await
        .unwrap();
    assert_eq!(grant.credit, 100);
    let other_hash = ChainBlock {
        hash: [11; 32],
        rows: vec![],
        ..block.clone()
    };
    let other_event = ChainBlock {
        block: 11,
        rows: vec![ChainRow {
            event: claimed(A, 99, 99),
            ..row
        }],
        ..block.clone()
    };
    for broken in [other_hash, other_event] {
        assert!(matches!(
            desk.ledger.chain_block(broken).await,
            Err(LedgerError::Money(MoneyError::FinalityBroken { .. }))
        ));
    }
    let head = desk.ledger.final_block().await.unwrap().unwrap();
    assert_eq!((head.block, head.hash), (10, [10; 32]));
}

#[tokio::test]
async fn an_event_of_a_known_line_counts_whatever_is_switched_on() {
    let desk = Desk::new().await;
    desk.grant(1_000).await;
    desk.promise(A, 100, 1).await.unwrap();
    desk.held(B, 70, 2).await;
    let nobodys = |row: ChainRow| ChainRow {
        mine: Mine::default(),
        ..row
    };
    let mut strangers = nobodys(desk.payers(claimed(A, 100, 100)));
    if let ChainEvent::Claimed { payer, .. } = &mut strangers.event {
        *payer = [9; 20];
    }
    desk.block(vec![
        nobodys(desk.payers(claimed(A, 100, 100))),
        nobodys(desk.payees(claimed(B, 70, 70))),
        nobodys(desk.payees(paid_out(B, 70, 0))),
        strangers,
    ])
    .await;
    assert_eq!(desk.ledger.debt(B, STRANGER).await.unwrap().claimed, 70);
    let promised = desk
        .ledger
        .balance(Account::Promised(key(A)))
        .await
        .unwrap();
    assert_eq!((promised.debit, promised.credit), (100, 100));
    // What concerns nobody here is not kept: a busy network would fill the disk.
    assert_eq!(desk.audited().await.events, 3);
}

#[tokio::test]
async fn books_are_of_one_vault_for_good() {
    let desk = Desk::new().await;
    desk.ledger.bind_vault(31_337, [7; 20]).await.unwrap();
    let desk = desk.restarted().await;
    desk.ledger.bind_vault(31_337, [7; 20]).await.unwrap();
    for (chain_id, contract) in [(31_338, [7; 20]), (31_337, [8; 20])] {
        assert!(matches!(
            desk.ledger.bind_vault(chain_id, contract).await,
            Err(LedgerError::Money(MoneyError::OtherVault {
                chain_id: 31_337
            }))
        ));
    }
}

#[tokio::test]
async fn money_comes_in_and_goes_out_to_the_last_unit() {
    let desk = Desk::new().await;
    let set = |granted, bond, gas_pot| ChainEvent::SignerSet {
        payer: PAYER,
        signer: SIGNER,
        granted,
        until_s: UNTIL,
        bond,
        gas_pot,
    };
    let steps = [
        ChainEvent::Deposited {
            payer: PAYER,
            amount: 1_000,
        },
        set(400, 50, 20),
        set(600, 50, 30),
    ];
    desk.block(steps.map(|event| desk.payers(event)).to_vec())
        .await;
    desk.promise(A, 100, 1).await.unwrap();
    desk.promise(B, 50, 2).await.unwrap();
    let steps = [
        claimed(A, 100, 100),
        ChainEvent::GasShared {
            payer: PAYER,
            signer: SIGNER,
            payee: A,
            amount: 5,
        },
        ChainEvent::GrantFreed {
            payer: PAYER,
            signer: SIGNER,
            amount: 500,
        },
        ChainEvent::BondFreed {
            payer: PAYER,
            signer: SIGNER,
            amount: 75,
        },
        ChainEvent::Withdrawn {
            payer: PAYER,
            amount: 895,
        },
    ];
    desk.block(steps.map(|event| desk.payers(event)).to_vec())
        .await;
    let left = async |account| {
        let sums = desk.ledger.balance(account).await.unwrap();
        i128::try_from(sums.debit).unwrap() - i128::try_from(sums.credit).unwrap()
    };
    assert_eq!(left(Account::Free(PAYER)).await, 0);
    assert_eq!(left(Account::Outside(PAYER)).await, -105);
    assert_eq!(left(Account::GasGiven(PAYER)).await, 5);
    assert_eq!(left(Account::Lapsed(PAYER)).await, -50);
    for account in [
        Account::Grant(PAYER, SIGNER),
        Account::Bond(PAYER, SIGNER),
        Account::GasPot(PAYER, SIGNER),
        Account::Promised(key(A)),
        Account::Promised(key(B)),
    ] {
        assert_eq!(left(account).await, 0, "{account:?}");
    }
    desk.audited().await;
}

#[tokio::test]
async fn an_overdraft_is_shared_and_the_books_say_so() {
    let desk = Desk::new().await;
    let events = [
        ChainEvent::SignerSet {
            payer: PAYER,
            signer: SIGNER,
            granted: 100,
            until_s: UNTIL,
            bond: 40,
            gas_pot: 0,
        },
        ChainEvent::OverdraftShown {
            payer: PAYER,
            signer: SIGNER,
            mend_by_s: CHAIN_S + DAY_S,
        },
        ChainEvent::OverdraftDecided {
            payer: PAYER,
            signer: SIGNER,
        },
        ChainEvent::OverdraftPaid {
            payer: PAYER,
            signer: SIGNER,
            payee: A,
            amount: 33,
        },
        paid_out(A, 33, 0),
        ChainEvent::GrantFreed {
            payer: PAYER,
            signer: SIGNER,
            amount: 0,
        },
    ];
    desk.held(A, 80, 1).await;
    let rows = events.map(|event| ChainRow {
        mine: Mine {
            payer: true,
            payee: true,
        },
        ..desk.payees(event)
    });
    desk.block(rows.to_vec()).await;
    let debit = async |account| desk.ledger.balance(account).await.unwrap().debit;
    assert_eq!(debit(Account::PaidOut(A)).await, 33);
    assert_eq!(debit(Account::BadDebts(A)).await, 47);
    // The bond, and what no payee came for.
    assert_eq!(debit(Account::Penalties(STRANGER)).await, 40 + 67);
    desk.audited().await;
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

#[tokio::test]
async fn a_statement_has_every_row_with_what_it_is_tied_to() {
    let desk = Desk::new().await;
    desk.grant(1_000).await;
    desk.promise(A, 100, 1).await.unwrap();
    desk.held(B, 70, 2).await;
    desk.block(vec![desk.payers(claimed(A, 100, 100))]).await;
    let text = async |format| {
        let mut out = Vec::new();
        let count = desk
            .ledger
            .statement(0, u64::MAX, format, &mut out)
            .await
            .unwrap();
        assert_eq!(count, 3);
        String::from_utf8(out).unwrap()
    };
    let csv = text(StatementFormat::Csv).await;
    let rows: Vec<&str> = csv.trim_end().split("\r\n").collect();
    assert_eq!(rows.len(), 4);
    let columns = rows[0].split(',').count();
    assert!(rows.iter().all(|row| row.split(',').count() == columns));
    assert!(
        rows[1].starts_with(&format!(
            "1,2023-11-14T22:13:20.000Z,promise,spent/0x{}",
            "01".repeat(20)
        )),
        "{csv}"
    );
    let json = text(StatementFormat::Json).await;
    let lines: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[1]["amount"], "70");
    assert_eq!(lines[1]["job"], format!("0x{}", "02".repeat(32)));
    assert_eq!(lines[2]["kind"], "claimed");
    assert!(lines[2]["tx"].as_str().unwrap().starts_with("0x"));
    // A stretch of time, and pages.
    assert!(
        desk.ledger
            .statement_page(NOW + 1, NOW + 2, 0, 9)
            .await
            .unwrap()
            .is_empty()
    );
    let page = desk.ledger.statement_page(0, u64::MAX, 1, 1).await.unwrap();
    assert_eq!(page[0].n, 2);
}

#[tokio::test]
async fn the_file_itself_refuses_to_change_what_happened() {
    let desk = Desk::new().await;
    desk.history().await;
    let raw = desk.raw().await;
    for sql in [
        "UPDATE journal SET kind = 'x'",
        "DELETE FROM journal",
        "UPDATE voucher SET work = zeroblob(32)",
        "DELETE FROM voucher",
        "UPDATE hold SET until_s = 1",
        "DELETE FROM hold",
        "UPDATE paid_job SET model = 'x'",
        "DELETE FROM paid_job",
        "UPDATE chain_event SET block = 1",
        "DELETE FROM chain_event",
        "UPDATE account SET name = 'x'",
        "DELETE FROM account",
        "DELETE FROM line",
        "DELETE FROM signer",
        "UPDATE line SET cumulative = zeroblob(16)",
        "UPDATE line SET claimed = zeroblob(16) WHERE claimed > zeroblob(16)",
        "UPDATE line SET nonce = -1",
        "UPDATE signer SET granted = zeroblob(16)",
        "UPDATE chain_head SET block = 0",
        "INSERT INTO voucher SELECT NULL, line, origin, job, cumulative, work, signature, 0, 0, 0, 0 FROM voucher LIMIT 1",
        "INSERT INTO journal (at_ms, kind, debit, credit, amount, voucher) VALUES (0, 'x', 1, 1, X'00000000000000000000000000000001', 1)",
        "INSERT INTO journal (at_ms, kind, debit, credit, amount, voucher) VALUES (0, 'x', 1, 2, zeroblob(16), 1)",
        "INSERT INTO journal (at_ms, kind, debit, credit, amount) VALUES (0, 'x', 1, 2, X'00000000000000000000000000000001')",
    ] {
        let done = raw.execute(sql, []);
        assert!(done.is_err(), "{sql}");
    }
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
