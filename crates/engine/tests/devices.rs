//! What could compute here, asked of real worker programs: the one of this build, and others that crash, hang or lie.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use engine::adapters::{AdapterKind, CardEnergy, Device, Probe, Reading, Source, choose};
use engine::{EngineHandle, EngineOptions, WorkerKind};

const WORKER: &str = env!("CARGO_BIN_EXE_decentralgpt-worker");

/// A folder with this build's worker and, beside it, a script that stands in for a card's.
fn installed(script: Option<&str>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(WORKER, folder.path().join("decentralgpt-worker")).unwrap();
    if let Some(script) = script {
        let path = folder.path().join("decentralgpt-worker-cuda");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

fn engine(folder: &Path) -> EngineHandle {
    EngineHandle::new(EngineOptions {
        worker_dirs: vec![folder.to_owned()],
        ..EngineOptions::default()
    })
}

#[tokio::test]
async fn every_source_answers_and_software_is_named_as_such() {
    let folder = installed(None);
    let inventory = engine(folder.path()).adapters().await.unwrap();
    assert!(inventory.failed.is_empty(), "{:?}", inventory.failed);
    let mut addresses: Vec<_> = inventory
        .adapters
        .iter()
        .filter_map(|adapter| adapter.pci)
        .collect();
    let before = addresses.len();
    addresses.dedup();
    assert_eq!(
        addresses.len(),
        before,
        "a card is listed twice: {inventory:?}"
    );
    let lavapipe = Path::new("/usr/share/vulkan/icd.d/lvp_icd.x86_64.json").exists();
    if !lavapipe {
        eprintln!("skipped: the software Vulkan driver (mesa-vulkan-drivers) is not installed");
        return;
    }
    let software: Vec<_> = inventory
        .adapters
        .iter()
        .filter(|adapter| adapter.kind == AdapterKind::Software)
        .collect();
    assert_eq!(software.len(), 1, "{inventory:?}");
    assert!(software[0].name.contains("llvmpipe"), "{:?}", software[0]);
    assert!(!software[0].can_serve());
    // It computes in the machine's memory, all of which it lists: more than a 32-bit counter could hold.
    let (memory, source) = software[0].memory.unwrap();
    assert_eq!(source, Source::Vulkan);
    assert!(memory.total > 0);
}

#[tokio::test]
async fn this_build_greets_as_the_processor() {
    let folder = installed(None);
    let workers = engine(folder.path()).workers().await.unwrap();
    assert_eq!(workers.len(), 1);
    assert_eq!(
        workers[0].greeting.as_ref().unwrap().device,
        Device::Processor
    );
}

#[tokio::test]
async fn a_worker_without_its_driver_is_a_line_and_the_processor_computes() {
    let missing = "echo 'error while loading shared libraries: libcuda.so.1' >&2; exit 127";
    let folder = installed(Some(missing));
    let workers = engine(folder.path()).workers().await.unwrap();
    let candidates: Vec<_> = workers
        .iter()
        .map(|worker| worker.candidate(None))
        .collect();
    let Probe::Refused(why) = &candidates[1].probe else {
        panic!("{candidates:?}");
    };
    assert!(why.contains("libcuda.so.1") && why.contains("127"), "{why}");
    let choice = choose(&candidates, None);
    assert_eq!(choice.candidate, Some(0));
    assert!(choice.reason.contains("libcuda.so.1"), "{}", choice.reason);
}

#[tokio::test]
async fn crashes_lies_and_nonsense_are_refused() {
    let scripts = [
        ("kill -SEGV $$", "signal 11"),
        ("echo hello", "nonsense"),
        // The processor's worker under a card's name.
        (
            &*format!("exec {WORKER} \"$@\""),
            "computes on another device",
        ),
    ];
    for (script, expected) in scripts {
        let folder = installed(Some(script));
        let workers = engine(folder.path()).workers().await.unwrap();
        let why = workers[1].greeting.clone().unwrap_err();
        assert!(why.contains(expected), "{script}: {why}");
    }
}

#[tokio::test]
async fn a_worker_that_was_measured_to_be_faster_is_started() {
    // Greets and measures as a card would, and serves by this build's worker.
    let build = engine::BUILD;
    let script = format!(
        r#"case "$1" in
--greet) echo '{{"build":"{build}","device":{{"adapter":{{"name":"Card","memory":null,"software":false}}}}}}' ;;
--bench) echo '{{"load_ms":1,"prefill_tokens_per_second":1000000,"decode_tokens_per_second":1000000}}' ;;
*) exec {WORKER} "$@" ;;
esac"#
    );
    let folder = installed(Some(&script));
    let engine = engine(folder.path());
    let workers = engine.workers().await.unwrap();
    let file = folder.path().join("any.gguf");
    let rates = engine
        .measure(&workers[1].program, &file, None)
        .await
        .unwrap();
    let processor = engine::adapters::Rates {
        prefill_tokens_per_second: 100.0,
        decode_tokens_per_second: 10.0,
    };
    let candidates = [
        workers[0].candidate(Some(processor)),
        workers[1].candidate(Some(rates)),
    ];
    let choice = choose(&candidates, None);
    assert_eq!(choice.candidate, Some(1), "{}", choice.reason);
    engine.set_worker(workers[1].program.kind).await.unwrap();
    // Any call starts it; that there is no such file is the worker's own answer.
    let refusal = engine.open_text(&file).await.unwrap_err();
    assert!(
        !matches!(refusal, engine::EngineError::WorkerDied { .. }),
        "{refusal}"
    );
    assert_eq!(engine.stats().borrow().worker, Some(WorkerKind::Cuda));
    engine.set_worker(WorkerKind::Processor).await.unwrap();
    engine.open_text(&file).await.unwrap_err();
    assert_eq!(engine.stats().borrow().worker, Some(WorkerKind::Processor));
    engine.shutdown().await;
}

/// A worker program that is this script.
fn scripted(script: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decentralgpt-worker");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

#[tokio::test]
async fn a_cards_counter_is_read_again_and_again_from_one_process() {
    let folder = scripted(
        r#"n=0; while read -r ask; do n=$((n + 7)); echo '{"cards":[{"name":"Card","pci":"0000:01:00.0","millijoules":'$n'}]}'; done"#,
    );
    let mut meter = engine(folder.path()).card_meter().unwrap();
    for millijoules in [7, 14, 21] {
        assert_eq!(
            meter.read().await.unwrap(),
            Reading::Cards(vec![CardEnergy {
                name: "Card".to_owned(),
                pci: Some("0000:01:00.0".parse().unwrap()),
                millijoules: Some(millijoules),
            }])
        );
    }
}

#[tokio::test]
async fn a_meter_that_dies_or_lies_is_an_error_and_no_reading() {
    for script in [
        "exit 0",
        "read -r ask; exit 1",
        "read -r ask; echo nonsense",
        "read -r ask; head -c 300000 /dev/zero",
    ] {
        let folder = scripted(script);
        let mut meter = engine(folder.path()).card_meter().unwrap();
        assert!(meter.read().await.is_err(), "{script}");
    }
}

/// This build's own worker: a machine without the driver says so, and one with it counts upwards.
#[tokio::test]
async fn the_worker_reads_the_cards_of_this_machine() {
    let folder = installed(None);
    let mut meter = engine(folder.path()).card_meter().unwrap();
    let (first, second) = (meter.read().await.unwrap(), meter.read().await.unwrap());
    match (first, second) {
        (Reading::Cards(first), Reading::Cards(second)) => {
            for (before, now) in first.iter().zip(&second) {
                assert!(now.millijoules >= before.millijoules, "{before:?} {now:?}");
            }
        }
        (Reading::Absent(first), Reading::Absent(second)) => assert_eq!(first, second),
        other => panic!("{other:?}"),
    }
}
