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
