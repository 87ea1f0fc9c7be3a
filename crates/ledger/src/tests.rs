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
