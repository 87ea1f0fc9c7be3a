//! The books over both sides: what the chain says goes in once, to the last unit, and stays.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "money/desk.rs"]
mod desk;

use desk::*;
use ledger::*;

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
async fn a_statement_has_every_row_with_what_it_is_tied_to() {
    let desk = Desk::new().await;
    desk.grant(1_000).await;
    desk.promise(A, 100, 1).await.unwrap();
    desk.held(B, 70, 2).await;
    desk.block(vec![desk.payers(claimed(A, 100, 100))]).await;
    // The job that was held was counted by a meter; another was for nothing, and is later than all of them.
    desk.ledger.energy_counted(desk.metered(2)).await.unwrap();
    let free = JobEnergy {
        at_ms: NOW + 1,
        ..desk.stated(9)
    };
    desk.ledger.energy_counted(free).await.unwrap();
    let tariff = Tariff {
        per_kwh: 0.5,
        currency: Some("€".to_owned()),
    };
    let text = async |format, tariff| {
        let mut out = Vec::new();
        let count = desk
            .ledger
            .statement(0, u64::MAX, (format, tariff), &mut out)
            .await
            .unwrap();
        assert_eq!(count, 5);
        String::from_utf8(out).unwrap()
    };
    let csv = text(StatementFormat::Csv, Some(&tariff)).await;
    let rows: Vec<&str> = csv.trim_end().split("\r\n").collect();
    assert_eq!(rows.len(), 6);
    let columns = rows[0].split(',').count();
    assert!(rows.iter().all(|row| row.split(',').count() == columns));
    // 7 J and 60 J, at 0.5 € for 3.6 MJ.
    let of_job = format!(",energy,,,,0x{},Model,12D3KooWpeer,,,,,,", "02".repeat(32));
    assert!(rows[4].contains(&of_job), "{csv}");
    assert!(
        rows[4].ends_with(",0.000001944,metered,0.000000972,€,1"),
        "{csv}"
    );
    assert!(
        rows[5].starts_with(",2023-11-14T22:13:20.001Z,energy,"),
        "{csv}"
    );
    assert!(
        rows[5].ends_with(",,,,,,,,0.000016667,stated,0.000008333,€,1"),
        "{csv}"
    );
    let unpriced = text(StatementFormat::Csv, None).await;
    assert!(
        unpriced.contains(",0.000016667,stated,,,1\r\n"),
        "{unpriced}"
    );
    assert!(
        rows[1].starts_with(&format!(
            "1,2023-11-14T22:13:20.000Z,promise,spent/0x{}",
            "01".repeat(20)
        )),
        "{csv}"
    );
    let json = text(StatementFormat::Json, Some(&tariff)).await;
    let lines: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[1]["amount"], "70");
    assert_eq!(lines[1]["job"], format!("0x{}", "02".repeat(32)));
    assert_eq!(lines[2]["kind"], "claimed");
    assert!(lines[2]["tx"].as_str().unwrap().starts_with("0x"));
    assert_eq!(
        (&lines[4]["kind"], &lines[4]["energy_mj"]),
        (&"energy".into(), &60_000.into())
    );
    let cost = lines[4]["energy_cost"].as_f64().unwrap();
    assert!((cost - 60_000.0 / 3.6e9 * 0.5).abs() < 1e-15, "{cost}");
    // A stretch of time.
    let format = (StatementFormat::Json, None);
    let later = desk.ledger.statement(NOW + 1, NOW + 2, format, Vec::new());
    assert_eq!(later.await.unwrap(), 1);
}

#[tokio::test]
async fn the_file_itself_refuses_to_change_what_happened() {
    let desk = Desk::new().await;
    desk.history().await;
    desk.free_days().await;
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
        "DELETE FROM energy",
        "DELETE FROM energy WHERE n = (SELECT max(n) FROM energy)",
        "UPDATE energy SET taken_mj = 0",
        "DELETE FROM energy_day",
        "UPDATE energy_day SET taken_mj = taken_mj - 1",
        "UPDATE energy_day SET day_ms = 0",
        "UPDATE energy_total SET folded_to = 0",
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
