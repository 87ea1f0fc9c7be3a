//! What people and disks hand us by mistake, or worse: each gets an exit code, a sentence and a next step, and nothing is lost.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    os::unix::fs::PermissionsExt,
    process::Stdio,
};

use decentralgpt_tests::{Folder, QUESTION, SYSTEM, Serving, run, starter};

#[test]
fn a_truncated_model_file_is_refused_with_what_is_missing() {
    let Some(starter) = starter() else { return };
    let folder = Folder::new();
    let whole = fs::read(&starter).unwrap();
    // Inside the header, and inside the weights.
    for length in [0, 3, 100, 1_000_000, whole.len() - 1] {
        let cut = folder.path().join(format!("cut-{length}.gguf"));
        fs::write(&cut, &whole[..length]).unwrap();
        let said = run(folder.decentralgpt().args(["models", "add"]).arg(&cut));
        said.is_a_failure_that_says(&[]);
        assert!(cut.exists(), "the person's file is gone");
    }
}

#[test]
fn a_lying_model_file_costs_nothing() {
    let folder = Folder::new();
    // Magic, version 3, then counts of 2^60 tensors and entries: believing them would ask for more memory than there is.
    let mut lie = b"GGUF\x03\0\0\0".to_vec();
    lie.extend((1u64 << 60).to_le_bytes());
    lie.extend((1u64 << 60).to_le_bytes());
    let mut string = b"GGUF\x03\0\0\0".to_vec();
    string.extend(1u64.to_le_bytes());
    string.extend(1u64.to_le_bytes());
    string.extend(u64::MAX.to_le_bytes());
    for (name, bytes) in [
        ("counts", lie),
        ("string", string),
        ("noise", vec![0xa5; 4096]),
    ] {
        let path = folder.path().join(format!("{name}.gguf"));
        fs::write(&path, bytes).unwrap();
        run(folder.decentralgpt().args(["models", "add"]).arg(&path)).is_a_failure_that_says(&[]);
    }
}

#[test]
fn a_prompt_longer_than_the_context_is_said_before_it_is_computed() {
    let Some(starter) = starter() else { return };
    let folder = Folder::new();
    let mut child = folder
        .decentralgpt_with(&starter)
        .args(["chat", "--place", "local", "--temporary"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = "word and word ".repeat(8000);
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = decentralgpt_tests::Said {
        status: output.status,
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    said.is_a_failure_that_says(&["context"]);
}

#[test]
fn a_database_of_a_newer_version_is_left_alone() {
    let folder = Folder::new();
    assert_eq!(run(folder.decentralgpt().arg("status")).code(), Some(0));
    for name in ["memory.db", "ledger.db"] {
        let path = folder.path().join(name);
        let before = fs::read(&path).unwrap();
        // The user version of SQLite's file format: four bytes, big end first, at offset 60.
        let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(60)).unwrap();
        file.write_all(&9999u32.to_be_bytes()).unwrap();
        drop(file);
        let newer = fs::read(&path).unwrap();

        run(folder.decentralgpt().arg("status")).is_a_failure_that_says(&["version 9999"]);

        assert_eq!(fs::read(&path).unwrap(), newer, "{name} was touched");
        fs::write(&path, before).unwrap();
    }
    assert_eq!(run(folder.decentralgpt().arg("status")).code(), Some(0));
}

#[test]
fn a_second_instance_is_told_whose_folder_it_is() {
    let Some(starter) = starter() else { return };
    let serving = Serving::start(&starter);
    // Whoever removed the socket cut the one way in: the lock still says that the folder is taken.
    fs::remove_file(serving.folder().path().join("control.sock")).unwrap();

    run(serving.folder().decentralgpt().arg("status")).is_a_failure_that_says(&["already"]);

    let asker = Folder::new();
    let said = run(asker.decentralgpt().args([
        "chat",
        "--peer",
        &serving.address,
        "--system",
        SYSTEM,
        "--temperature",
        "0",
        QUESTION,
    ]));
    assert!(
        said.out.contains("Paris"),
        "the first one does not serve any more: {}",
        said.err
    );
}

#[test]
fn a_corrupt_settings_file_is_kept_and_said() {
    let folder = Folder::new();
    fs::write(folder.path().join("settings.toml"), "theme = [this is not").unwrap();

    let said = run(folder.decentralgpt().arg("status"));

    assert_eq!(
        said.code(),
        Some(0),
        "the defaults are in use: {}",
        said.err
    );
    assert!(
        said.err.contains("settings") && said.err.contains("next: "),
        "{}",
        said.err
    );
    let kept = fs::read_dir(folder.path())
        .unwrap()
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with("settings.toml.")
        })
        .map(|entry| fs::read_to_string(entry.path()).unwrap())
        .collect::<Vec<_>>();
    assert_eq!(kept, ["theme = [this is not"]);
}

#[test]
fn a_corrupt_identity_is_kept_and_does_not_serve() {
    let Some(starter) = starter() else { return };
    let folder = Folder::new();
    assert_eq!(run(folder.decentralgpt().arg("status")).code(), Some(0));
    let identity = folder.path().join("identity.key");
    assert_eq!(
        fs::metadata(&identity).unwrap().permissions().mode() & 0o777,
        0o600,
        "others can read the identity"
    );
    fs::write(&identity, "not a key").unwrap();

    let said = run(folder.decentralgpt_with(&starter).arg("serve"));

    said.is_a_failure_that_says(&["identity"]);
    assert_eq!(
        fs::read_to_string(&identity).unwrap(),
        "not a key",
        "the file was overwritten"
    );
    // A person still chats here.
    let said = run(folder.decentralgpt_with(&starter).args([
        "chat",
        "--place",
        "local",
        "--system",
        SYSTEM,
        "--temperature",
        "0",
        QUESTION,
    ]));
    assert!(said.out.contains("Paris"), "{}", said.err);
}

#[test]
fn a_price_that_is_wrong_in_one_part_changes_nothing() {
    let folder = Folder::with_settings("[money]\ncached = 50\n");
    let price = |arguments: &[&str]| {
        let mut command = folder.decentralgpt();
        run(command.args(["models", "price"]).args(arguments))
    };
    let file = folder.path().join("settings.toml");
    let settings = || fs::read_to_string(&file).unwrap();
    let before = settings();
    price(&["no-such-model", "--cached", "25"]).is_a_failure_that_says(&["no model no-such-model"]);
    price(&[
        "smollm2-135m-instruct-q4_1",
        "12 and a half",
        "--cached",
        "25",
    ])
    .is_a_failure_that_says(&[]);
    assert_eq!(settings(), before);
    // Nothing was wrong with that part itself.
    assert_eq!(price(&["--cached", "25"]).code(), Some(0));
    assert!(settings().contains("cached = 25"), "{}", settings());
}

#[test]
fn a_wrong_command_line_is_usage_and_not_failure() {
    let folder = Folder::new();
    for arguments in [
        &["chat", "--temperature", "hot"][..],
        &["no-such-command"],
        &["chat", "--place", "moon"],
    ] {
        let said = run(folder.decentralgpt().args(arguments));
        assert_eq!(said.code(), Some(2), "{}", said.err);
        assert!(
            said.err.contains("Usage") || said.err.contains("--help"),
            "{}",
            said.err
        );
    }
}

#[test]
fn nobody_at_an_address_is_said() {
    let folder = Folder::new();
    // Port 1 of this machine: nobody listens there.
    run(folder
        .decentralgpt()
        .args(["chat", "--peer", "/ip4/127.0.0.1/tcp/1", "Hello"]))
    .is_a_failure_that_says(&[]);
    run(folder
        .decentralgpt()
        .args(["peers", "connect", "dgpt1:notaninvite!"]))
    .is_a_failure_that_says(&["invite"]);
    run(folder
        .decentralgpt()
        .args(["models", "default", "no-such-model"]))
    .is_a_failure_that_says(&["no-such-model"]);
}

#[test]
fn a_data_folder_that_cannot_be_made_is_said() {
    let folder = Folder::new();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let mut command = std::process::Command::new(decentralgpt_tests::program("decentralgpt"));
    run(command.arg("--data").arg(file.join("below")).arg("status")).is_a_failure_that_says(&[]);
}
