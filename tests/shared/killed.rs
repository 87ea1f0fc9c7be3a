//! A test of this file as a process of its own, killed in the middle of its work.
//!
//! Included by path, so that the crates of two databases share it and know nothing of one another.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

/// Runs the ignored test `child` until it has printed `mark` so many times, then kills it. What stood behind each mark.
#[allow(dead_code)] // One of its users does not.
pub(crate) fn after(
    child: &str,
    environment: &[(&str, &OsStr)],
    mark: &str,
    count: u64,
) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            child,
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut told = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        // The test runner writes into the same stream.
        if let Some(at) = line.find(mark) {
            told.push(line[at + mark.len()..].trim().to_owned());
        }
        if told.len() as u64 == count {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(told.len() as u64, count, "the child ended early");
    told
}

/// Runs the ignored test `child` until it kills itself. What stood behind each mark.
#[allow(dead_code)] // One of its users does not.
pub(crate) fn until_it_dies(
    child: &str,
    environment: &[(&str, &OsStr)],
    mark: &str,
) -> Vec<String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            child,
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .envs(environment.iter().copied())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.code().is_none(), "the child ended by itself");
    // The last line may be cut.
    let text = String::from_utf8_lossy(&output.stdout);
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .filter_map(|line| {
            line.find(mark)
                .map(|at| line[at + mark.len()..].trim().to_owned())
        })
        .collect()
}
