//! What needs the thread's own connection: a disk that is full at a chosen moment.

#[path = "../../../tests/shared/full_disk.rs"]
mod full_disk;

use crate::*;

const NOW: u64 = 1_700_000_000_000;

#[tokio::test]
async fn a_job_that_could_not_be_written_is_not_fresh() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path().join("ledger.db"), NOW)
        .await
        .unwrap();
    let limit = |more| {
        ledger.call(move |connection| {
            full_disk::limit_pages(connection, more);
            Ok(())
        })
    };
    limit(Some(0)).await.unwrap();
    let mut refused = None;
    for n in 0..10_000u64 {
        let mut job = [0; 32];
        job[..8].copy_from_slice(&n.to_le_bytes());
        match ledger.record_job(job, NOW + 60_000, NOW).await {
            Ok(verdict) => assert!(verdict.is_fresh()),
            Err(error) => {
                refused = Some((job, error));
                break;
            }
        }
    }
    let (job, error) = refused.expect("the disk fills up");
    assert!(matches!(error, LedgerError::DiskFull { .. }), "{error}");
    // With room again it is as new as it was: nothing half-written stayed.
    limit(None).await.unwrap();
    assert!(
        ledger
            .record_job(job, NOW + 60_000, NOW)
            .await
            .unwrap()
            .is_fresh()
    );
}

#[tokio::test]
async fn what_was_measured_is_bounded_and_the_oldest_go_first() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path().join("ledger.db"), NOW)
        .await
        .unwrap();
    let numbers = |n: u64| Measured {
        peer: format!("peer {n}"),
        model: [1; 32],
        at_ms: NOW + n,
        rtt: (0.0, 0.0),
        late: (0.0, 0.0),
        tps: (0.0, 0.0),
        successes: 1.0,
        failures: 0.0,
        stalls: 0.0,
        checked: 0.0,
        lies: 0.0,
    };
    ledger.store_measured(numbers(0)).await.unwrap();
    // As many again as fit, written in one go: a flush of the disk for each would take seconds.
    ledger
        .call(|connection| {
            connection
                .execute(
                    "WITH RECURSIVE count (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < ?1)
                     INSERT INTO measured SELECT 'peer ' || n, model, at_ms + n, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0
                     FROM measured, count",
                    [MAX_MEASURED - 1],
                )
                .map(|_| ())
                .map_err(LedgerError::Sqlite)
        })
        .await
        .unwrap();
    let count = u64::from(MAX_MEASURED);
    assert_eq!(ledger.measured().await.unwrap().len() as u64, count);
    ledger.store_measured(numbers(count)).await.unwrap();
    let kept = ledger.measured().await.unwrap();
    assert_eq!(kept.len() as u64, count);
    assert_eq!(kept.first().unwrap().at_ms, NOW + count);
    assert_eq!(kept.last().unwrap().at_ms, NOW + 1, "the oldest went");
}

#[tokio::test]
async fn what_was_answered_is_bounded_and_takes_its_receipts_along_unless_it_was_paid() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path().join("ledger.db"), NOW)
        .await
        .unwrap();
    let job = |n: u8| [n; 32];
    let (free, paid, asked, kept) = (job(1), job(2), job(3), job(4));
    for job in [free, paid, asked, kept] {
        let new = NewAnswer {
            job,
            at_ms: NOW,
            peer: "peer".to_owned(),
            model: "model".to_owned(),
            model_digest: [3; 32],
        };
        ledger.answer_started(new).await.unwrap();
        let role = match job == asked {
            true => ReceiptRole::Client,
            false => ReceiptRole::Provider,
        };
        let receipt = Receipt {
            job,
            role,
            peer: "peer".to_owned(),
            model: "model".to_owned(),
            model_digest: [3; 32],
            tokens_in: 1,
            tokens_out: 1,
            finish: "stop".to_owned(),
            at_ms: NOW,
            chain: [4; 32],
            signed: vec![1],
            provider_signature: [5; 64],
            client_signature: None,
        };
        ledger.store_receipt(receipt).await.unwrap();
    }
    // One short of as many again as fit, written in one go: a flush of the disk for each would take minutes.
    ledger
        .call(move |connection| {
            connection
                .execute(
                    "INSERT INTO paid_job (side, job, at_ms, peer, model, model_digest)
                     VALUES ('payee', ?1, 0, 'peer', 'model', zeroblob(32))",
                    [paid],
                )
                .and_then(|_| {
                    connection.execute(
                        "WITH RECURSIVE count (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < ?1)
                         INSERT INTO answered (job, at_ms, peer, model, model_digest, state)
                         SELECT randomblob(32), 0, 'peer', 'model', zeroblob(32), 'signed' FROM count",
                        [MAX_ANSWERED - 2],
                    )
                })
                .map(|_| ())
                .map_err(LedgerError::Sqlite)
        })
        .await
        .unwrap();
    let last = NewAnswer {
        job: job(5),
        at_ms: NOW,
        peer: "peer".to_owned(),
        model: "model".to_owned(),
        model_digest: [3; 32],
    };
    ledger.answer_started(last).await.unwrap();
    let mut left = Vec::new();
    for job in [free, paid, asked, kept] {
        left.push(ledger.receipts_of(job).await.unwrap().len());
    }
    assert_eq!(left, [0, 1, 1, 1]);
}

#[tokio::test]
async fn energy_of_answers_for_nothing_is_bounded_and_what_is_paid_for_is_not() {
    let desk = desk::Desk::new().await;
    desk.grant(10_000).await;
    desk.held(desk::A, 10, 1).await;
    desk.ledger.energy_counted(desk.metered(1)).await.unwrap();
    // More than fit, all of today, written in one go: a flush of the disk for each would take minutes.
    let beyond = 300u64;
    desk.ledger
        .call(move |connection| {
            let rows = u64::from(MAX_FREE_ENERGY) + beyond;
            connection.execute_batch(&format!(
                "WITH RECURSIVE count (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < {rows})
                 INSERT INTO energy (job, at_ms, source, share_ms, drawn_mj, power_mw, taken_mj)
                 SELECT randomblob(32), {NOW}, 'metered', 0, 2, 0, 2 FROM count;
                 UPDATE energy_total SET jobs = jobs + {rows}, taken_mj = taken_mj + 2 * {rows};"
            ))?;
            Ok(())
        })
        .await
        .unwrap();
    let rows = async || {
        let count = |connection: &mut rusqlite::Connection| -> Result<(i64, i64), LedgerError> {
            let sql = "SELECT (SELECT count(*) FROM energy), (SELECT count(*) FROM energy_day)";
            Ok(connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?)
        };
        desk.ledger.call(count).await.unwrap()
    };
    // Each new one takes some of the oldest along, until they are down to the bound.
    for n in 2..=4 {
        desk.ledger.energy_counted(desk.metered(n)).await.unwrap();
    }
    assert_eq!(rows().await, (i64::from(MAX_FREE_ENERGY) + 1, 1));
    desk.ledger.energy_counted(desk.metered(5)).await.unwrap();
    assert_eq!(rows().await, (i64::from(MAX_FREE_ENERGY) + 1, 1));
    let used = desk.ledger.energy_used(0, u64::MAX).await.unwrap();
    assert_eq!((used.paid.known(), used.paid.taken_mj), (1, 7_000));
    let all = u64::from(MAX_FREE_ENERGY) + beyond;
    assert_eq!(
        (used.free.known(), used.free.taken_mj),
        (all + 4, 2 * all + 4 * 7_000)
    );
    desk.audited().await;
}

#[path = "../tests/money/desk.rs"]
mod desk;

/// Writes of money, each on a disk that is full after so many more pages: it is there as a whole, or not at all, and goes through once there
/// is room.
#[tokio::test]
async fn a_full_disk_at_any_write_of_money_leaves_the_books_whole() {
    let desk = desk::Desk::new().await;
    desk.history().await;
    let limit = async |more| {
        desk.ledger
            .call(move |connection| {
                full_disk::limit_pages(connection, more);
                Ok(())
            })
            .await
            .unwrap();
    };
    let mut refused = [false; 6];
    let mut total = 500u128;
    for round in 0..40u64 {
        limit(Some(0)).await;
        for (write, refused) in refused.iter_mut().enumerate() {
            let mut tries = 0;
            // As many as it takes to fill the last page.
            loop {
                total += 1;
                let done = one_write(&desk, write, total, round * 1_000 + tries).await;
                tries += 1;
                match done {
                    Ok(()) if tries < 60 => {}
                    Ok(()) => break,
                    Err(error) => {
                        assert!(matches!(error, LedgerError::DiskFull { .. }), "{error}");
                        *refused = true;
                        limit(None).await;
                        let report = desk::audit(&desk.ledger).await;
                        assert!(report.passed(), "{:#?}", report.disagreements);
                        one_write(&desk, write, total, round * 1_000 + tries)
                            .await
                            .unwrap();
                        limit(Some(0)).await;
                        break;
                    }
                }
            }
        }
        if refused.iter().all(|refused| *refused) {
            limit(None).await;
            desk.audited().await;
            return;
        }
    }
    panic!("some write never met the full disk: {refused:?}");
}

async fn one_write(
    desk: &desk::Desk,
    write: usize,
    total: u128,
    n: u64,
) -> Result<(), LedgerError> {
    use desk::*;
    match write {
        0 => {
            desk.ledger
                .signer_seen(PAYER, SIGNER, total + 100_000, UNTIL)
                .await?;
            desk.promise(B, total, 1).await
        }
        1 => {
            let row = desk.voucher_of(A, total, 1);
            desk.ledger.voucher_held(row).await.map(|_| ())
        }
        2 => desk.hold(B, total, CHAIN_S + 9, n + 1).await,
        3 => {
            let seen = Seen {
                line: LineKey {
                    signer: [n.to_le_bytes()[0] | 0x80; 20],
                    ..key(A)
                },
                cumulative: total,
                work: [1; 32],
                signature: [1; 64],
                at_ms: NOW,
            };
            desk.ledger.own_voucher_seen(seen).await.map(|_| ())
        }
        4 => {
            let mut energy = desk.metered(1);
            energy.job[..16].copy_from_slice(&total.to_be_bytes());
            desk.ledger.energy_counted(energy).await
        }
        _ => {
            let block = ChainBlock {
                block: 1_000 + n,
                hash: [7; 32],
                at_s: CHAIN_S,
                rows: vec![ChainRow {
                    tx: {
                        let mut tx = [3; 32];
                        tx[..16].copy_from_slice(&total.to_be_bytes());
                        tx
                    },
                    ..desk.payers(ChainEvent::Deposited {
                        payer: PAYER,
                        amount: total,
                    })
                }],
            };
            desk.ledger.chain_block(block).await
        }
    }
}
