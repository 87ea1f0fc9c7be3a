//! A job that was recorded stays recorded when the process is killed the next moment.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

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
        println!("recorded {n}");
    }
}

#[tokio::test]
async fn no_recorded_job_is_forgotten_by_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let mut recorded: Vec<u64> = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "child_records_until_killed",
                "--ignored",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(FILE, &path)
            .env(START, (round * 1_000_000).to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stop_after = 10 + (round * 13 + u64::from(std::process::id())) % 30;
        let mut seen = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some(at) = line.find("recorded ") else {
                continue;
            };
            recorded.push(line[at + 9..].trim().parse().unwrap());
            seen += 1;
            if seen == stop_after {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(seen, stop_after, "the child ended early");

        let ledger = Ledger::open(&path, NOW).await.unwrap();
        for n in &recorded {
            assert_eq!(
                ledger.record_job(job(*n), NOW + 60_000, NOW).await.unwrap(),
                JobRecord::Repeat,
                "job {n}"
            );
        }
        ledger.close().await.unwrap();
    }
}
