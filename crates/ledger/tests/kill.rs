//! A job that was recorded, and what was measured of a peer, stay on the disk when the process is killed the next moment.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../tests/shared/killed.rs"]
mod killed;

use std::ffi::OsStr;

use ledger::*;

const FILE: &str = "LEDGER_KILL_FILE";
const START: &str = "LEDGER_KILL_START";
const NOW: u64 = 1_700_000_000_000;
const ROUNDS: u64 = 5;

fn job(n: u64) -> Job {
    let mut job = [1; 32];
    job[..8].copy_from_slice(&n.to_le_bytes());
    job
}

fn measured(n: u64) -> Measured {
    Measured {
        peer: format!("12D3KooWpeer{n}"),
        model: [3; 32],
        at_ms: NOW + n,
        rtt: (80.0, 2.0),
        late: (0.0, 0.0),
        tps: (61.25, 2.0),
        successes: 1.0,
        failures: 0.0,
        stalls: 0.0,
        checked: 0.0,
        lies: 0.0,
    }
}

/// The child: records jobs for ever, and names each one only after it was told that it is fresh.
#[tokio::test]
#[ignore = "the child of the test below"]
async fn child_records_until_killed() {
    let Ok(path) = std::env::var(FILE) else {
        return;
    };
    let start: u64 = std::env::var(START).unwrap().parse().unwrap();
    let ledger = Ledger::open(path, NOW).await.unwrap();
    for n in start.. {
        assert!(
            ledger
                .record_job(job(n), NOW + 60_000, NOW)
                .await
                .unwrap()
                .is_fresh()
        );
        ledger.store_measured(measured(n)).await.unwrap();
        println!("recorded {n}");
    }
}

#[tokio::test]
async fn no_recorded_job_is_forgotten_by_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let mut recorded: Vec<u64> = Vec::new();
    for round in 0..ROUNDS {
        let stop_after = 10 + (round * 13 + u64::from(std::process::id())) % 30;
        let start = (round * 1_000_000).to_string();
        let told = killed::after(
            "child_records_until_killed",
            &[(FILE, path.as_os_str()), (START, OsStr::new(&start))],
            "recorded ",
            stop_after,
        );
        recorded.extend(told.iter().map(|job| job.parse::<u64>().unwrap()));

        let ledger = Ledger::open(&path, NOW).await.unwrap();
        for n in &recorded {
            assert_eq!(
                ledger.record_job(job(*n), NOW + 60_000, NOW).await.unwrap(),
                JobRecord::Repeat,
                "job {n}"
            );
        }
        let kept = ledger.measured().await.unwrap();
        for n in &recorded {
            assert!(kept.contains(&measured(*n)), "measured {n}");
        }
        ledger.close().await.unwrap();
    }
}
