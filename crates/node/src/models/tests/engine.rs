//! The list with the real engine behind it: headers are read by the worker, in its sandbox.

use std::path::PathBuf;

use engine::{EngineHandle, EngineOptions};

use crate::models::{FitKind, ModelState, Models, ModelsError, ModelsOptions};

/// The worker that lies beside the tests' own folder, and the starter; both are there after `cargo xtask`.
fn parts() -> Option<(PathBuf, PathBuf)> {
    let exe = std::env::current_exe().ok()?;
    let beside = exe.parent()?.parent()?.to_owned();
    let worker = engine::locate_worker(std::slice::from_ref(&beside)).is_ok();
    let starter = std::env::var_os("DECENTRALGPT_STARTER")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                .join("../../models/SmolLM2-135M-Instruct.Q4_1.gguf")
        });
    (worker && starter.is_file()).then_some((beside, starter))
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_is_a_link_out_of_its_folder_is_read() {
    let Some((beside, starter)) = parts() else {
        eprintln!(
            "skipped: a_file_that_is_a_link_out_of_its_folder_is_read (no worker or no starter here)"
        );
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let bundle = root.path().join("bundle");
    let elsewhere = root.path().join("elsewhere.gguf");
    std::fs::create_dir(&bundle).unwrap();
    std::fs::copy(&starter, &elsewhere).unwrap();
    let link = bundle.join("SmolLM2-135M-Instruct.Q4_1.gguf");
    std::os::unix::fs::symlink(&elsewhere, link).unwrap();
    let engine = EngineHandle::new(EngineOptions {
        worker_dirs: vec![beside],
        ..EngineOptions::default()
    });
    let options = ModelsOptions {
        data: root.path().join("data"),
        dirs: vec![bundle],
        proxy: None,
        default_model: None,
    };
    let models = Models::open(options, engine.clone()).await.unwrap();
    models.settled().await;
    let found = models.all().into_iter().find(|model| model.starter);
    assert!(found.unwrap().file.is_some());
    models.shutdown().await;
    engine.shutdown().await;
}

#[tokio::test]
async fn the_engine_reads_what_is_found_and_what_is_added() {
    let Some((beside, starter)) = parts() else {
        eprintln!(
            "skipped: the_engine_reads_what_is_found_and_what_is_added (no worker or no starter here)"
        );
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let bundle = root.path().join("bundle");
    std::fs::create_dir(&bundle).unwrap();
    std::fs::copy(&starter, bundle.join("SmolLM2-135M-Instruct.Q4_1.gguf")).unwrap();
    let engine = EngineHandle::new(EngineOptions {
        worker_dirs: vec![beside],
        threads: None,
        readable: Vec::new(),
        ..EngineOptions::default()
    });
    let options = ModelsOptions {
        data: root.path().join("data"),
        dirs: vec![bundle],
        proxy: None,
        default_model: None,
    };
    let models = Models::open(options, engine.clone()).await.unwrap();
    models.settled().await;
    let found = models
        .all()
        .into_iter()
        .find(|model| model.starter)
        .unwrap();
    assert!(found.file.is_some() && found.fits && found.not_served.is_none());
    assert_eq!(found.context_max, Some(8192));
    let row = models
        .view()
        .borrow()
        .rows
        .iter()
        .find(|row| row.starter)
        .cloned()
        .unwrap();
    assert_eq!(
        (row.size_bytes, row.fit.kind),
        (98_362_432, FitKind::Fits),
        "{}",
        row.fit.sentence
    );
    // The head that the catalogue pins is the head that the engine finds.
    let text = engine.open_text(&found.file.unwrap()).await.unwrap();
    let reference = found.reference.unwrap();
    assert_eq!(
        (reference.head_len, reference.head_sha256.as_bytes()),
        (text.head_len, &text.head_sha256)
    );

    // A head alone is no model to run, and a cut file is named.
    let whole = std::fs::read(&starter).unwrap();
    for (name, bytes) in [
        ("head.gguf", &whole[..text.head_len as usize]),
        ("cut.gguf", &whole[..1000]),
    ] {
        let path = root.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = models.add(&path).await.unwrap_err();
        assert!(
            matches!(error, ModelsError::NotRunnable { .. }),
            "{name}: {error}"
        );
    }
    // The same bytes with one more are another file, added in place, outside every folder.
    let longer = root.path().join("Mine.gguf");
    std::fs::write(&longer, [whole.as_slice(), &[0]].concat()).unwrap();
    let row = models.add(&longer).await.unwrap();
    assert!(
        matches!(row.state, ModelState::Ready { .. })
            && row.quant == "Q4_1"
            && row.parameters == "135M",
        "{row:?}"
    );
    models.shutdown().await;
    engine.shutdown().await;
}
