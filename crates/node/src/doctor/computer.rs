//! The computer under the node: folder, disk, name, settings and clock.

use std::path::Path;

use super::{CLOCK_BACK_MS, Check, CheckAct, CheckState, bytes};
use crate::{
    clock,
    data::{self, AtomicWrite},
    error::{sentence, span},
    node::Inner,
};

/// Less than this on the data folder's disk, and chats are about to be lost.
const DISK_FAIL: u64 = 64 * 1024 * 1024;

/// Less than this, and the next model does not fit.
const DISK_WARN: u64 = 2 * 1024 * 1024 * 1024;

pub(super) fn data_folder(root: &Path) -> Check {
    let name = "Data folder";
    let probe = root.join("doctor.probe");
    let written = data::write_atomically(&probe, b"probe", AtomicWrite::Secret);
    // Left behind it is replaced by the next one.
    let _ = std::fs::remove_file(&probe);
    if let Err(error) = written {
        return Check::fail(
            name,
            format!("{} cannot be written: {error}.", root.display()),
            "Give yourself the right to write there, or choose another folder.",
        );
    }
    match open_to_others(root) {
        Some(mode) => Check::warn(
            name,
            format!(
                "{} is open to others on this computer (mode {mode:03o}).",
                root.display()
            ),
            format!("Run `chmod 700 {}`.", root.display()),
        ),
        None => Check::pass(name, format!("{} can be written.", root.display())),
    }
}

/// The folder's mode, where others may look into it: one that the program made is its owner's alone.
#[cfg(unix)]
fn open_to_others(root: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(root).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

/// Windows: the profile folder's access list already names the owner alone.
#[cfg(not(unix))]
fn open_to_others(_root: &Path) -> Option<u32> {
    None
}

pub(super) fn disk(root: &Path) -> Check {
    let name = "Disk";
    match fs4::available_space(root) {
        Ok(free) if free < DISK_FAIL => Check::fail(
            name,
            format!("{} are free.", bytes(free)),
            "Free some space: chats can no longer be saved.",
        ),
        Ok(free) if free < DISK_WARN => Check::warn(
            name,
            format!("{} are free.", bytes(free)),
            "Free some space before you download another model.",
        ),
        Ok(free) => Check::pass(name, format!("{} are free.", bytes(free))),
        Err(error) => Check::warn(
            name,
            format!("The free space is not known: {error}."),
            "Check the disk.",
        ),
    }
}

pub(super) fn identity(inner: &Inner) -> Check {
    let name = "Identity";
    match &inner.identity_problem {
        None => Check::pass(name, format!("This node is {}.", inner.identity.peer_id())),
        Some(problem) => Check {
            fix: problem.fix.clone(),
            ..Check::new(name, CheckState::Fail, problem.message.clone())
        },
    }
}

pub(super) async fn settings(inner: &Inner) -> Check {
    let name = "Settings";
    if let Some(problem) = inner
        .notices
        .iter()
        .find(|notice| notice.code.starts_with("settings"))
    {
        return Check {
            fix: problem.fix.clone(),
            ..Check::new(name, CheckState::Warn, problem.message.clone())
        };
    }
    let unknown = inner.settings_file.lock().await.unknown_keys();
    match unknown.is_empty() {
        true => Check::pass(name, "The settings are in order."),
        false => Check::warn(
            name,
            format!(
                "The settings file has keys that this version does not know: {}.",
                unknown.join(", ")
            ),
            "Correct their spelling, or leave them for another version: they are kept.",
        ),
    }
}

pub(super) async fn clock(inner: &Inner) -> Check {
    let name = "Clock";
    match inner.ledger.highest_clock_ms().await {
        Ok(highest) => {
            let behind = highest.saturating_sub(clock::unix_ms());
            if behind > CLOCK_BACK_MS {
                let detail = format!(
                    "This computer's clock is {} behind what it once was.",
                    span(behind)
                );
                let fix = "Set the clock: signed offers and jobs carry times, and are refused when they are wrong. Where it is right now, \
                           and was once ahead, say so.";
                Check {
                    act: Some(CheckAct::ForgetClock),
                    ..Check::fail(name, detail, fix).by("decentralgpt doctor --forget-clock")
                }
            } else {
                Check::pass(name, "The clock has not gone back.")
            }
        }
        Err(error) => Check::warn(name, sentence(&error), "Start the program again."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_can_look_into_is_a_warning() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let checked = |mode| {
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            data_folder(folder.path())
        };
        assert_eq!(checked(0o700).state, CheckState::Pass);
        let check = checked(0o755);
        assert_eq!(check.state, CheckState::Warn);
        assert!(check.detail.contains("755"), "{}", check.detail);
    }
}
