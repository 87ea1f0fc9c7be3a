//! The process itself: that it ends at once, and what it cannot do any more.

use std::path::Path;
#[cfg(target_os = "linux")]
use std::time::Duration;

use engine::{EngineError, GenerateEvent, GenerateRequest};

use crate::{answer, engine, model, prompt};

#[tokio::test]
async fn off_is_off_in_the_middle_of_a_prompt() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    model().write(&path);
    let engine = engine(dir.path());
    let request = GenerateRequest::new(&path, prompt(1, 250));
    let mut generation = engine.generate(request).await.unwrap();
    assert!(matches!(
        generation.next().await,
        Some(Ok(GenerateEvent::Prefill { .. }))
    ));
    let pid = engine.stats().borrow().worker_pid.unwrap();
    engine.unload().await.unwrap();
    let outcome = answer(generation).await;
    assert!(
        matches!(outcome, Ok(_) | Err(EngineError::Cancelled)),
        "{outcome:?}"
    );
    if cfg!(target_os = "linux") {
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "the process is gone"
        );
    }
}

/// Threads watch memory for the next piece of a step for a moment; between steps nothing may run.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_worker_with_nothing_to_do_takes_no_time() {
    // Processor time is counted in hundredths of a second: what a thread that spins takes of this is a multiple of what is
    // allowed even where twenty programs want the processor.
    const IDLE: Duration = Duration::from_secs(2);
    const MOST_TICKS: u64 = 4;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    model().write(&path);
    let engine = engine(dir.path());
    let request = GenerateRequest::new(&path, prompt(1, 250));
    answer(engine.generate(request).await.unwrap())
        .await
        .unwrap();
    let pid = engine.stats().borrow().worker_pid.unwrap();
    // What ends an answer ends before this does.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = ticks(pid);
    tokio::time::sleep(IDLE).await;
    let taken = ticks(pid) - before;
    assert!(taken <= MOST_TICKS, "{taken} hundredths of a second");
}

/// Processor time of a process so far, in the kernel's ticks (fields 14 and 15 of `proc_pid_stat(5)`).
#[cfg(target_os = "linux")]
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in brackets may hold spaces.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_measuring_worker_is_confined_before_it_opens_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    model().write(&path);
    let worker = std::process::Command::new(env!("CARGO_BIN_EXE_decentralgpt-worker"))
        .arg("--bench")
        .arg(&path)
        .args(["--prompt", "20", "--gen", "4", "--repeat", "2"])
        .output()
        .unwrap();
    let said = String::from_utf8(worker.stdout).unwrap();
    assert!(worker.status.success(), "{said}");
    assert_eq!(said.lines().count(), 2);
    for line in said.lines() {
        let figures: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(figures["prefill_tokens_per_second"].as_f64().unwrap() > 0.0);
        if cfg!(target_os = "linux") {
            assert_eq!(figures["isolation"]["files"], true, "{line}");
            assert_eq!(figures["isolation"]["network"], true, "{line}");
            assert!(figures["peak_rss_bytes"].as_u64().unwrap() > 0);
        }
    }
}
