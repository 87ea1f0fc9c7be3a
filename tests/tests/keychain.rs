//! A real keychain on a bus of the test's own: what is remembered opens the wallet after a reboot, what is forgotten does not, and a
//! computer without one says so.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use decentralgpt_tests::{Folder, Running, Said, money::wait, run, starter};
use serde_json::Value;
use wallet::{Typed, WalletFile};

const PASSWORD: &str = "correct horse battery staple";
/// Of the keychain itself.
const LOGIN: &str = "the password of the login";
/// A bus that starts nothing by itself: a question before the keychain has its name would start another one, which is locked.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:tmpdir=/tmp</listen>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>"#;

#[test]
fn what_is_remembered_opens_the_wallet_after_a_reboot_until_it_is_forgotten() {
    let Some(starter) = starter() else { return };
    let Some(session) = Session::start() else {
        return;
    };
    let folder = Folder::new();
    let password = folder.secret("password", PASSWORD);
    let with = ["--password-file", password.as_str()];
    let wallet = |arguments: &[&str]| session.wallet(&folder, arguments);
    let words = json(&wallet(&[&["new"][..], &with].concat()))["words"].clone();
    let shown = json(&wallet(&["show"]));
    assert_eq!(shown["remembered"], false);
    let wrong = folder.secret("wrong", "correct horse battery stable");
    wallet(&["remember", "--password-file", &wrong]).is_a_failure_that_says(&["password is wrong"]);
    let shown = json(&wallet(&[&["remember"][..], &with].concat()));
    assert_eq!(shown["remembered"], true);

    // Two reboots: nothing is typed, and no log has what it was opened by.
    let file = WalletFile::read(&folder.path().join("wallet.json")).unwrap();
    let key = file.unlock_key(&Typed::from(PASSWORD)).unwrap();
    let key: String = key
        .expose()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let words: Vec<String> = serde_json::from_value(words).unwrap();
    for locked_by_hand in [false, true] {
        let mut serving = session.serve(&folder, &starter);
        wait("it is open", || {
            json(&wallet(&["show"]))["state"] == "unlocked"
        });
        if locked_by_hand {
            assert_eq!(json(&wallet(&["lock"]))["state"], "locked");
            assert_eq!(json(&wallet(&["show"]))["remembered"], true);
        }
        serving.kill();
        let log = serving.wait().err;
        assert!(log.contains("TRACE"), "nothing was logged: {log}");
        for secret in [PASSWORD, LOGIN, &key, &words[..2].join(" ")] {
            assert!(!log.contains(secret), "a secret is in a log");
        }
    }

    // Another password opens it, and is remembered in the place of the old one.
    let fresh = folder.secret("fresh", "another password");
    let said = wallet(&[&["password", "--new-password-file", &fresh][..], &with].concat());
    assert!(said.status.success(), "{said:?}");
    let mut serving = session.serve(&folder, &starter);
    wait("it is open", || {
        json(&wallet(&["show"]))["state"] == "unlocked"
    });
    let shown = json(&wallet(&["remember", "--off"]));
    assert_eq!(shown["remembered"], false);
    serving.kill();
    let _ = serving.wait();

    let mut serving = session.serve(&folder, &starter);
    let opened = wallet(&["show"]);
    assert_eq!(json(&opened)["state"], "locked");
    serving.kill();
    let _ = serving.wait();
    assert_eq!(json(&wallet(&["show"]))["remembered"], false);
}

#[test]
fn a_computer_without_a_keychain_says_so_and_takes_the_password() {
    let folder = Folder::new();
    let password = folder.secret("password", PASSWORD);
    let with = ["--password-file", password.as_str()];
    let wallet = |arguments: &[&str]| {
        let all = [&["wallet", "--json"][..], arguments, &with].concat();
        run(folder.decentralgpt().args(all))
    };
    assert!(wallet(&["new"]).status.success());
    wallet(&["remember"]).is_a_failure_that_says(&["no keychain", "password opens the wallet"]);
    wallet(&["remember", "--off"]).is_a_failure_that_says(&["no keychain"]);
    assert_eq!(json(&wallet(&["show"]))["remembered"], false);
    assert_eq!(
        json(&wallet(&["words"]))["words"].as_array().unwrap().len(),
        24
    );
}

/// A person's session: a bus, and a keychain on it that their login has opened.
struct Session {
    bus: Child,
    keychain: Child,
    address: String,
    home: tempfile::TempDir,
}

impl Session {
    /// Says that the test is skipped where one of the two programs is not here.
    fn start() -> Option<Self> {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("bus.conf");
        fs::write(&config, BUS).unwrap();
        let bus = Command::new("dbus-daemon")
            .args(["--nofork", "--nopidfile", "--print-address=1"])
            .arg(format!("--config-file={}", config.display()))
            .env("XDG_RUNTIME_DIR", home.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut bus) = bus else {
            return skipped("dbus-daemon");
        };
        let mut address = String::new();
        let mut told = BufReader::new(bus.stdout.take().unwrap());
        told.read_line(&mut address).unwrap();
        let address = address.trim().to_owned();
        let keychain = Command::new("gnome-keyring-daemon")
            .args(["--unlock", "--foreground", "--components=secrets"])
            .envs(environment(&address, home.path()))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut keychain) = keychain else {
            let _ = bus.kill();
            let _ = bus.wait();
            return skipped("gnome-keyring-daemon");
        };
        // Its password ends with the stream.
        let mut login = keychain.stdin.take().unwrap();
        login.write_all(LOGIN.as_bytes()).unwrap();
        drop(login);
        let session = Self {
            bus,
            keychain,
            address,
            home,
        };
        wait("the keychain answers", || session.answers());
        Some(session)
    }

    /// Whether the keychain has its name on the bus, and its login's collection.
    fn answers(&self) -> bool {
        let asked = Command::new("dbus-send")
            .args([
                "--session",
                "--print-reply",
                "--dest=org.freedesktop.secrets",
                "/org/freedesktop/secrets",
                "org.freedesktop.Secret.Service.ReadAlias",
                "string:default",
            ])
            .envs(environment(&self.address, self.home.path()))
            .output()
            .unwrap();
        asked.status.success()
            && String::from_utf8_lossy(&asked.stdout).contains("/org/freedesktop/secrets/")
    }

    fn wallet(&self, folder: &Folder, arguments: &[&str]) -> Said {
        run(self.inside(
            folder
                .decentralgpt()
                .args(["wallet", "--json"])
                .args(arguments),
        ))
    }

    fn serve(&self, folder: &Folder, starter: &Path) -> Running {
        let mut command = folder.decentralgpt_with(starter);
        command.arg("serve").env("DECENTRALGPT_LOG", "trace");
        let mut serving = Running::start(self.inside(&mut command));
        // Its first address: it listens, and its socket with it.
        serving.line().expect("an address");
        serving
    }

    fn inside<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("DBUS_SESSION_BUS_ADDRESS", &self.address)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for child in [&mut self.keychain, &mut self.bus] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Nothing of it reaches the session or the home of whoever runs the tests.
fn environment(address: &str, home: &Path) -> [(&'static str, std::ffi::OsString); 5] {
    let folder = |name: &str| home.join(name).into_os_string();
    [
        ("DBUS_SESSION_BUS_ADDRESS", address.into()),
        ("HOME", home.into()),
        ("XDG_DATA_HOME", folder("data")),
        ("XDG_CONFIG_HOME", folder("config")),
        ("XDG_RUNTIME_DIR", home.into()),
    ]
}

fn skipped<T>(program: &str) -> Option<T> {
    println!("skipped: a real keychain ({program} is not here)");
    None
}

fn json(said: &Said) -> Value {
    assert!(said.status.success(), "{said:?}");
    serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("no JSON: {said:?}"))
}
