//! Programs that speak like a worker and are none of this build.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use engine::wire::{self, FromWorker, Say};
use engine::{BUILD, EngineError, EngineHandle, EngineOptions, Finish, GenerateRequest, Isolation};

use crate::{end_of, model, of_peer};

/// A program that says these frames and then waits for its end.
fn program(dir: &Path, says: &[Say]) -> PathBuf {
    let mut frames = Vec::new();
    for say in says {
        let frame = FromWorker {
            call: 0,
            say: say.clone(),
        };
        frames.extend(wire::encode(&frame).unwrap());
    }
    std::fs::write(dir.join("frames"), frames).unwrap();
    let path = dir.join("decentralgpt-worker");
    let frames = dir.join("frames");
    let script = format!("#!/bin/sh\n/bin/cat '{}'\nread line\n", frames.display());
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn handle(dir: &Path) -> EngineHandle {
    EngineHandle::new(EngineOptions {
        worker_dirs: vec![dir.to_owned()],
        ..EngineOptions::default()
    })
}

fn ready(build: &str) -> Say {
    Say::Ready {
        threads: 1,
        isolation: Isolation::default(),
        kernels: String::new(),
        build: build.to_owned(),
    }
}

#[tokio::test]
async fn one_of_another_build_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for build in ["0.0.9+1234", ""] {
        let path = program(dir.path(), &[ready(build)]);
        let refused = handle(dir.path()).open_text(Path::new("x.gguf")).await;
        let expected = EngineError::WorkerOtherBuild {
            program: path,
            worker: build.to_owned(),
            app: BUILD.to_owned(),
        };
        assert_eq!(refused, Err(expected));
    }
}

#[tokio::test]
async fn one_that_hung_says_in_which_step() {
    let dir = tempfile::tempdir().unwrap();
    let hung = EngineError::WorkerHung {
        step: "a step of 1 sequences and 0 tokens of prompts".into(),
        after_s: 61,
    };
    program(dir.path(), &[ready(BUILD), Say::Failed(hung.clone())]);
    let script = dir.path().join("decentralgpt-worker");
    let text = std::fs::read_to_string(&script).unwrap();
    std::fs::write(&script, text.replace("read line\n", "exit 70\n")).unwrap();
    let engine = handle(dir.path());
    assert_eq!(engine.open_text(Path::new("x.gguf")).await, Err(hung));
    assert_eq!(engine.stats().borrow().deaths, 1);
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn a_worker_whose_step_never_ends_is_ended_and_another_starts() {
    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = files.path().join("model.gguf");
    model().write(&path);
    let script = dir.path().join("decentralgpt-worker");
    let real = env!("CARGO_BIN_EXE_decentralgpt-worker");
    let text = format!("#!/bin/sh\nDECENTRALGPT_HANG_IN_STEP=3 exec '{real}' \"$@\"\n");
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let engine = EngineHandle::new(EngineOptions {
        worker_dirs: vec![dir.path().to_owned()],
        readable: vec![files.path().to_owned()],
        ..EngineOptions::default()
    });
    let request = |max_out| GenerateRequest {
        ignore_eog: true,
        max_out,
        ..GenerateRequest::new(&path, vec![1, 2, 3])
    };
    let hung = end_of(engine.generate(request(20)).await.unwrap()).await;
    assert!(
        matches!(&hung, Err(EngineError::WorkerHung { step, after_s: 1..10 }) if step.starts_with("a step of 1 sequences")),
        "{hung:?}"
    );
    assert_eq!(engine.stats().borrow().deaths, 1);
    // The next one hangs as late as this one did, and a shorter answer comes.
    let short = end_of(engine.generate(request(2)).await.unwrap()).await;
    assert_eq!(short, Ok(Finish::Length));
}

#[tokio::test]
async fn calls_of_others_leave_room_for_the_owners() {
    let dir = tempfile::tempdir().unwrap();
    program(dir.path(), &[ready(BUILD)]);
    let engine = handle(dir.path());
    let request = GenerateRequest::new("x.gguf", vec![1]);
    let mut open = Vec::new();
    for _ in 0..192 {
        let of_others = of_peer(request.clone(), "a");
        open.push(engine.generate(of_others).await.unwrap());
    }
    let refused = end_of(
        engine
            .generate(of_peer(request.clone(), "a"))
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(refused, Err(EngineError::TooManyCalls { limit: 192 }));
    let mut own = engine.generate(request).await.unwrap();
    let waits = std::time::Duration::from_millis(200);
    assert!(
        tokio::time::timeout(waits, own.next()).await.is_err(),
        "it is open"
    );
}

#[tokio::test]
async fn what_was_measured_reaches_this_worker_and_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let script = program(dir.path(), &[ready(BUILD)]);
    let heard = dir.path().join("heard");
    let text = std::fs::read_to_string(&script).unwrap();
    let listens = format!("exec /bin/cat >> '{}'\n", heard.display());
    std::fs::write(&script, text.replace("read line\n", &listens)).unwrap();
    let engine = handle(dir.path());
    let benchmark = engine::Benchmark {
        build: BUILD.to_owned(),
        device: "X, portable, 1 threads".to_owned(),
        prefill_tokens_per_second: 10.0,
        decode: Vec::new(),
    };
    let known = |frame: &wire::ToWorker| {
        matches!(&frame.ask, wire::Ask::Know { file, benchmark: told }
            if file == Path::new("a.gguf") && *told == benchmark)
    };
    engine
        .know(Path::new("a.gguf"), benchmark.clone())
        .await
        .unwrap();
    for workers in 1..=2 {
        // Starts one, which answers nothing.
        let asked = engine.open_text(Path::new("a.gguf"));
        let soon = std::time::Duration::from_secs(20);
        let all_heard = async {
            loop {
                let heard = std::fs::read(&heard).unwrap_or_default();
                let mut rest = heard.as_slice();
                let frames = std::iter::from_fn(|| wire::read::<wire::ToWorker>(&mut rest).ok()?);
                if frames.filter(|frame| known(frame)).count() == workers {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(soon, async {
            tokio::select! { _ = asked => {}, () = all_heard => {} }
        });
        waited.await.expect("it is told");
        engine.unload().await.unwrap();
    }
}
