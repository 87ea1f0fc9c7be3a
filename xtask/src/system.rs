//! What the machine itself must have: a C compiler, the web view, and for the desktop test a display server and a driver.

use std::process::Command;

use crate::sh::{self, Failure};

/// Debian's and Ubuntu's names for what the window is built with.
const TO_BUILD: &[&str] = &[
    "build-essential",
    "file",
    "libayatana-appindicator3-dev",
    "librsvg2-dev",
    "libssl-dev",
    "libwebkit2gtk-4.1-dev",
    "pkg-config",
];

/// And for what drives it in a test, with a keychain beside it.
const TO_TEST: &[&str] = &[
    "dbus",
    "dbus-x11",
    "gnome-keyring",
    "imagemagick",
    "webkit2gtk-driver",
    "xauth",
    "xvfb",
];

/// Which packages a task needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Build,
    BuildAndTest,
}

/// Checks for the packages, and installs what is missing where it may.
///
/// # Errors
/// When something is missing and may not be installed: the failure carries the command to type.
pub(crate) fn packages(need: Need) -> Result<(), Failure> {
    programs()?;
    if !cfg!(target_os = "linux") {
        println!("   the web view comes with this system");
        return Ok(());
    }
    let mut wanted: Vec<&str> = TO_BUILD.to_vec();
    if need == Need::BuildAndTest {
        wanted.extend(TO_TEST);
    }
    if !sh::answers("dpkg-query", "--version") {
        return without_apt();
    }
    let missing = missing(&wanted);
    if missing.is_empty() {
        println!("   {} system packages are there", wanted.len());
        return Ok(());
    }
    println!("   missing: {}", missing.join(" "));
    let Some(prefix) = privilege() else {
        return Err(Failure::new(
            "System packages are missing, and this user may not install them.",
        )
        .fix(format!(
            "sudo apt-get install --no-install-recommends {}",
            missing.join(" ")
        )));
    };
    apt(prefix, &["update", "-qq"])?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(missing);
    apt(prefix, &install)
}

/// What no package manager of ours can bring: said before half an hour of building.
fn programs() -> Result<(), Failure> {
    let node = Command::new("node").arg("--version").output();
    let version = node
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    let major = version
        .trim_start_matches('v')
        .split('.')
        .next()
        .and_then(|part| part.parse::<u32>().ok());
    if major.is_none_or(|major| major < 20) {
        let found = if version.is_empty() {
            "none was found".to_owned()
        } else {
            format!("found {version}")
        };
        return Err(Failure::new(format!(
            "The window is built with Node 20 or newer; {found}."
        ))
        .fix("install Node from your distribution or https://nodejs.org, then run this again"));
    }
    let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
    if !sh::answers(npm, "--version") {
        return Err(
            Failure::new("Node is there, but npm is not.").fix("install npm, then run this again")
        );
    }
    println!("   Node {version}");
    Ok(())
}

fn missing<'a>(wanted: &[&'a str]) -> Vec<&'a str> {
    wanted
        .iter()
        .copied()
        .filter(|package| {
            let shown = Command::new("dpkg-query")
                .args(["-W", "-f", "${db:Status-Status}", package])
                .output()
                .map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            !shown.is_ok_and(|status| status == "installed")
        })
        .collect()
}

/// Not Debian: only the one thing that everything else needs is looked for, since every distribution names it otherwise.
fn without_apt() -> Result<(), Failure> {
    let found = Command::new("pkg-config")
        .args([
            "--exists",
            "webkit2gtk-4.1",
            "ayatana-appindicator3-0.1",
            "librsvg-2.0",
        ])
        .status()
        .is_ok_and(|status| status.success());
    if found {
        println!("   WebKitGTK 4.1, appindicator and librsvg are there");
        return Ok(());
    }
    Err(Failure::new("WebKitGTK 4.1, ayatana-appindicator or librsvg, with their headers, are missing.").fix(
        "install what https://v2.tauri.app/start/prerequisites/ lists for your distribution, then run this again",
    ))
}

/// How to become root without asking: nothing when we are, sudo when it needs no password.
fn privilege() -> Option<Option<&'static str>> {
    let root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    if root {
        return Some(None);
    }
    let sudo = Command::new("sudo")
        .args(["-n", "true"])
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    sudo.then_some(Some("sudo"))
}

fn apt(prefix: Option<&str>, arguments: &[&str]) -> Result<(), Failure> {
    let mut command = match prefix {
        Some(program) => {
            let mut command = Command::new(program);
            command.args(["-n", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
            command
        }
        None => {
            let mut command = Command::new("apt-get");
            command.env("DEBIAN_FRONTEND", "noninteractive");
            command
        }
    };
    // Hundreds of lines about unpacking: shown when they say what went wrong.
    println!("   $ {}", sh::shown(command.args(arguments)));
    sh::quiet(&mut command).map(|_| ())
}
