//! The wallet from a terminal: made, shown, taken over on another computer, opened in a running node; and what of it never
//! stands in a log.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use decentralgpt_tests::{Folder, Running, Said, run, starter};
use serde_json::Value;

const PASSWORD: &str = "correct horse battery staple";
const KEY_PASSWORD: &str = "for another wallet";

#[test]
fn a_wallet_is_made_shown_and_taken_over_on_another_computer() {
    let folder = Folder::new();
    let password = secret(&folder, "password", PASSWORD);
    assert_eq!(json(&wallet(&folder, &["show"]))["state"], "none");
    let made = wallet(&folder, &["new", "--password-file", &password]);
    let words = words_of(&made);
    assert_eq!(words.len(), 24);
    let shown = json(&wallet(&folder, &["show"]));
    assert_eq!(shown["backedUp"], false);
    let mode = fs::metadata(folder.path().join("wallet.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    // The next command is another process: the wallet is locked in it, and the words come with the password alone.
    assert_eq!(shown["state"], "locked");
    let again = wallet(&folder, &["words", "--password-file", &password]);
    assert_eq!(words_of(&again), words);
    let wrong = secret(&folder, "wrong", "correct horse battery stable");
    wallet(&folder, &["words", "--password-file", &wrong])
        .is_a_failure_that_says(&["password is wrong"]);
    let addresses = json(&wallet(&folder, &["addresses"]));
    assert_eq!(addresses[0]["path"], "m/44'/60'/0'/0/0");
    wallet(&folder, &["new", "--password-file", &password]).is_a_failure_that_says(&["already"]);

    let other = Folder::new();
    let file = secret(&other, "words", &words.join("\n"));
    let password = secret(&other, "password", "another password");
    let imported = wallet(
        &other,
        &[
            "import",
            "--words-file",
            &file,
            "--password-file",
            &password,
        ],
    );
    assert_eq!(json(&imported), addresses);
    assert_eq!(json(&wallet(&other, &["show"]))["backedUp"], true);

    // By one key, as another program takes it.
    let own = secret(&other, "own", KEY_PASSWORD);
    let exported = wallet(
        &other,
        &[
            "export",
            "--password-file",
            &password,
            "--key-password-file",
            &own,
        ],
    );
    assert!(exported.status.success(), "{exported:?}");
    let key_file = other.path().join("key.json");
    fs::write(&key_file, &exported.out).unwrap();
    let third = Folder::new();
    let password = secret(&third, "password", PASSWORD);
    let imported = wallet(
        &third,
        &[
            "import",
            "--key-file",
            &key_file.display().to_string(),
            "--key-password-file",
            &own,
            "--password-file",
            &password,
        ],
    );
    assert_eq!(json(&imported)[0]["address"], addresses[0]["address"]);
}

#[test]
fn a_secret_is_typed_or_in_a_file_of_its_owner() {
    let folder = Folder::new();
    let open = secret(&folder, "password", PASSWORD);
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    wallet(&folder, &["new", "--password-file", &open])
        .is_a_failure_that_says(&["can be read by others", "chmod 600"]);
    let short = secret(&folder, "short", "seven77");
    wallet(&folder, &["new", "--password-file", &short])
        .is_a_failure_that_says(&["at least 8 characters"]);
    assert!(!folder.path().join("wallet.json").exists());
    // Nothing runs whose wallet could be opened.
    let password = secret(&folder, "right", PASSWORD);
    wallet(&folder, &["new", "--password-file", &password]);
    wallet(&folder, &["unlock", "--password-file", &password])
        .is_a_failure_that_says(&["no `decentralgpt serve` runs"]);
}

#[test]
fn a_running_node_opens_closes_and_forgets_at_a_kill_and_no_log_holds_a_secret() {
    // One that has nothing to offer ends by itself.
    let Some(starter) = starter() else { return };
    let folder = Folder::new();
    let password = secret(&folder, "password", PASSWORD);
    let words = words_of(&wallet(&folder, &["new", "--password-file", &password]));

    let mut serving = serve(&folder, &starter);
    let unlocked = wallet(&folder, &["unlock", "--password-file", &password]);
    assert_eq!(json(&unlocked)["state"], "unlocked");
    assert!(json(&unlocked)["locksUnixMs"].is_u64());
    assert_eq!(json(&wallet(&folder, &["lock"]))["state"], "locked");
    wallet(&folder, &["unlock", "--password-file", &password]);
    let shown = wallet(&folder, &["words", "--password-file", &password]);
    assert_eq!(words_of(&shown), words);

    let line = fs::read(format!("/proc/{}/cmdline", serving.id())).unwrap();
    let environment = fs::read(format!("/proc/{}/environ", serving.id())).unwrap();
    serving.kill();
    let log = serving.wait().err;
    assert!(log.contains("TRACE"), "nothing was logged: {log}");
    let whole = words.join(" ");
    let pair = words[..2].join(" ");
    for secret in [PASSWORD, &whole, &pair] {
        for text in [
            log.as_bytes(),
            unlocked.err.as_bytes(),
            shown.err.as_bytes(),
            &line,
            &environment,
        ] {
            assert!(
                !text
                    .windows(secret.len())
                    .any(|part| part == secret.as_bytes()),
                "a secret is in a log"
            );
        }
    }

    let mut rebooted = serve(&folder, &starter);
    assert_eq!(json(&wallet(&folder, &["show"]))["state"], "locked");
    rebooted.kill();
}

fn serve(folder: &Folder, starter: &Path) -> Running {
    let mut serving = Running::start(
        folder
            .decentralgpt_with(starter)
            .arg("serve")
            .env("DECENTRALGPT_LOG", "trace"),
    );
    // Its first address: it listens, and its socket with it.
    serving.line().expect("an address");
    serving
}

fn wallet(folder: &Folder, arguments: &[&str]) -> Said {
    run(folder
        .decentralgpt()
        .args(["wallet", "--json"])
        .args(arguments)
        .env("DECENTRALGPT_LOG", "trace"))
}

/// A file that only its owner can read.
fn secret(folder: &Folder, name: &str, text: &str) -> String {
    let path: PathBuf = folder.path().join(format!("{name}.secret"));
    fs::write(&path, format!("{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    Path::new(&path).display().to_string()
}

fn json(said: &Said) -> Value {
    assert!(said.status.success(), "{said:?}");
    serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("no JSON: {said:?}"))
}

fn words_of(said: &Said) -> Vec<String> {
    serde_json::from_value(json(said)["words"].clone()).unwrap()
}
