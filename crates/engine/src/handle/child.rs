//! A worker program run for one answer: what could compute here, whether it does, how fast. It is a process of its own
//! because the answer takes loading a driver, and a driver that crashes is a reason to tell and not the end of the app.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use crate::EngineError;

/// Bytes of its answer that are read: 64 adapters take about 30 KB.
const MAX_ANSWER: u64 = 1 << 20;

/// Bytes of its error stream that are kept for the reason.
const MAX_REASON: u64 = 2048;

/// What of the environment a driver needs to be found where it is not in the system's own folders, or to be told which
/// card to show.
const PASSED_ON: [&str; 8] = [
    "CUDA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",
    "PATH",
    "SystemRoot",
    "VK_DRIVER_FILES",
    "VK_ICD_FILENAMES",
    "XDG_DATA_DIRS",
    "XDG_RUNTIME_DIR",
];

/// Runs it to its end and gives what it wrote.
///
/// # Errors
/// [`EngineError::WorkerNotStarted`]; [`EngineError::WorkerDied`] when it failed, crashed or took longer than `within`.
pub(super) async fn answer(
    program: &Path,
    arguments: &[&OsStr],
    within: Duration,
) -> Result<Vec<u8>, EngineError> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(driver_environment())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let not_started = |cause: String| EngineError::WorkerNotStarted {
        program: program.to_owned(),
        cause,
    };
    let mut child = command
        .spawn()
        .map_err(|error| not_started(error.to_string()))?;
    let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(not_started("its pipes are missing".to_owned()));
    };
    let ended = tokio::time::timeout(within, async {
        let (output, errors) = tokio::join!(read(output, MAX_ANSWER), read(errors, MAX_REASON));
        (child.wait().await, output, errors)
    });
    let Ok((status, output, errors)) = ended.await else {
        child.kill().await.ok();
        return Err(EngineError::WorkerDied {
            signal: None,
            code: None,
            detail: format!("it did not answer within {} s", within.as_secs()),
        });
    };
    match status {
        Ok(status) if status.success() => Ok(output),
        status => Err(EngineError::WorkerDied {
            signal: status
                .as_ref()
                .ok()
                .copied()
                .and_then(super::process::signal),
            code: status.ok().and_then(|status: ExitStatus| status.code()),
            detail: String::from_utf8_lossy(&errors).trim().to_owned(),
        }),
    }
}

/// What drivers are found by.
pub(super) fn driver_environment() -> impl Iterator<Item = (&'static str, OsString)> {
    let names = PASSED_ON.iter();
    names.filter_map(|name| Some((*name, std::env::var_os(name)?)))
}

/// Reads to the end, so that the child is never held up by a full pipe, and keeps the beginning.
async fn read(mut pipe: impl AsyncRead + Unpin, keep: u64) -> Vec<u8> {
    let mut kept = Vec::new();
    // A broken pipe ends the text.
    (&mut pipe).take(keep).read_to_end(&mut kept).await.ok();
    tokio::io::copy(&mut pipe, &mut tokio::io::sink())
        .await
        .ok();
    kept
}

#[cfg(all(test, unix))]
mod tests {
    use std::time::Instant;

    use super::*;

    async fn shell(script: &str, within: Duration) -> Result<Vec<u8>, EngineError> {
        answer(
            Path::new("/bin/sh"),
            &["-c".as_ref(), script.as_ref()],
            within,
        )
        .await
    }

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_crash_is_a_reason() {
        let crash = shell("echo 'the driver says no' >&2; kill -SEGV $$", SOON).await;
        let Err(EngineError::WorkerDied { signal, detail, .. }) = crash else {
            panic!("{crash:?}");
        };
        assert_eq!((signal, detail.as_str()), (Some(11), "the driver says no"));
    }

    #[tokio::test]
    async fn a_driver_that_hangs_is_left() {
        let begun = Instant::now();
        let hung = shell("exec sleep 30", Duration::from_millis(200)).await;
        assert!(
            matches!(hung, Err(EngineError::WorkerDied { .. })),
            "{hung:?}"
        );
        assert!(begun.elapsed() < Duration::from_secs(15));
    }

    #[tokio::test]
    async fn a_flood_is_cut() {
        let flood = shell(
            "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2",
            SOON,
        )
        .await;
        assert_eq!(flood.unwrap().len() as u64, MAX_ANSWER);
    }
}
