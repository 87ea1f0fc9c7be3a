//! One download at a time, against a server that misbehaves.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::server::{Manner, Server};
use crate::models::{
    DownloadError, Sha,
    download::{self, Arrived, Limits, Order, Progress, Source, Tell},
    fetch, part,
};

const SIZE: usize = 100_000;

/// Something that looks like a model, and like nothing else with this seed.
pub(super) fn model_bytes(seed: u32, size: usize) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(
        (4..size as u32).map(|n| (n.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 17) as u8),
    );
    bytes
}

pub(super) fn sha(bytes: &[u8]) -> Sha {
    Sha(Sha256::digest(bytes).into())
}

pub(super) fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(5),
        stall: Duration::from_millis(300),
        first_pause: Duration::from_millis(1),
        tries: 3,
        sync_every: 10_000,
        spare: 0,
        size: None,
        free: Arc::new(|| Ok(1 << 40)),
    }
}

struct Trial {
    folder: tempfile::TempDir,
    server: Server,
}

impl Trial {
    async fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            server: Server::start().await,
        }
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("m.gguf")
    }

    async fn fetch(
        &self,
        urls: &[&str],
        digest: Option<Sha>,
        limits: Limits,
    ) -> Result<Arrived, DownloadError> {
        self.fetch_until(urls, digest, limits, u64::MAX).await
    }

    /// Stops once this many bytes have come.
    async fn fetch_until(
        &self,
        urls: &[&str],
        digest: Option<Sha>,
        limits: Limits,
        enough: u64,
    ) -> Result<Arrived, DownloadError> {
        let client = fetch::client(Some(""), &limits).unwrap();
        let sources = urls
            .iter()
            .map(|url| Source::Http((*url).to_owned()))
            .collect();
        let order = Order {
            target: self.target(),
            sources,
            digest,
            proxy: Some(String::new()),
            limits,
        };
        let (tell, mut progress) = watch::channel(Progress::Waiting);
        let stop = CancellationToken::new();
        let stopper = stop.clone();
        let watcher = tokio::spawn(async move {
            let there = |progress: &Progress| matches!(progress, Progress::Fetching { done, .. } if *done >= enough);
            if progress.wait_for(there).await.is_ok() {
                stopper.cancel();
            }
        });
        let result = download::run(client, order, Tell(tell), stop).await;
        watcher.abort();
        result
    }

    fn nothing_left(&self) {
        let left: Vec<_> = std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }

    fn is_whole(&self, bytes: &[u8]) {
        assert_eq!(std::fs::read(self.target()).unwrap(), bytes);
        assert!(part::left_over(&self.target()).is_none());
        assert_eq!(std::fs::read_dir(self.folder.path()).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn a_cut_connection_is_gone_on_with_where_it_was() {
    let trial = Trial::new().await;
    let bytes = model_bytes(1, SIZE);
    let url = trial.server.serve(
        "/m",
        &bytes,
        "\"v1\"",
        [
            Manner::CutAfter(40_000),
            Manner::CutAfter(30_000),
            Manner::Good,
        ],
    );
    let arrived = trial
        .fetch(&[&url], Some(sha(&bytes)), limits())
        .await
        .unwrap();
    assert_eq!((arrived.digest, arrived.size), (sha(&bytes), SIZE as u64));
    trial.is_whole(&bytes);
    let asked = trial.server.asked();
    assert_eq!(
        asked.iter().map(|asked| asked.from).collect::<Vec<_>>(),
        [None, Some(40_000), Some(70_000)]
    );
    assert_eq!(asked[1].if_range.as_deref(), Some("\"v1\""));
}

#[tokio::test]
async fn a_stopped_download_goes_on_in_another_run() {
    let trial = Trial::new().await;
    let bytes = model_bytes(2, SIZE);
    let url = trial.server.serve(
        "/m",
        &bytes,
        "\"v1\"",
        [Manner::StallAfter(50_000), Manner::Good],
    );
    let stopped = trial
        .fetch_until(&[&url], Some(sha(&bytes)), limits(), 30_000)
        .await;
    assert_eq!(stopped, Err(DownloadError::Stopped));
    let (kept, size) = part::left_over(&trial.target()).unwrap();
    assert!(kept >= 30_000 && size == Some(SIZE as u64), "{kept}");
    // A power cut may leave anything behind what was synced.
    let torn = part::part_of(&trial.target());
    let mut left = std::fs::read(&torn).unwrap();
    left.extend([0; 5_000]);
    std::fs::write(&torn, left).unwrap();
    trial
        .fetch(&[&url], Some(sha(&bytes)), limits())
        .await
        .unwrap();
    trial.is_whole(&bytes);
    assert_eq!(trial.server.asked()[1].from, Some(kept));
}

#[tokio::test]
async fn a_part_without_readable_notes_starts_from_nothing() {
    let trial = Trial::new().await;
    let bytes = model_bytes(3, SIZE);
    let url = trial.server.serve("/m", &bytes, "\"v1\"", [Manner::Good]);
    std::fs::write(part::part_of(&trial.target()), vec![9; 5000]).unwrap();
    std::fs::write(trial.folder.path().join("m.gguf.part.json"), "{ nonsense").unwrap();
    trial
        .fetch(&[&url], Some(sha(&bytes)), limits())
        .await
        .unwrap();
    trial.is_whole(&bytes);
    assert_eq!(trial.server.asked()[0].from, None);
}

#[tokio::test]
async fn a_server_without_ranges_is_asked_for_the_whole_again() {
    let trial = Trial::new().await;
    let bytes = model_bytes(4, SIZE);
    let url = trial.server.serve(
        "/m",
        &bytes,
        "\"v1\"",
        [Manner::CutAfter(60_000), Manner::NoRange],
    );
    trial
        .fetch(&[&url], Some(sha(&bytes)), limits())
        .await
        .unwrap();
    trial.is_whole(&bytes);
}

#[tokio::test]
async fn a_range_that_starts_elsewhere_is_not_believed() {
    let trial = Trial::new().await;
    let bytes = model_bytes(5, SIZE);
    let url = trial.server.serve(
        "/m",
        &bytes,
        "\"v1\"",
        [Manner::CutAfter(60_000), Manner::LyingRange, Manner::Good],
    );
    trial
        .fetch(&[&url], Some(sha(&bytes)), limits())
        .await
        .unwrap();
    trial.is_whole(&bytes);
}

#[tokio::test]
async fn wrong_bytes_are_refused_and_removed_with_both_digests_named() {
    let trial = Trial::new().await;
    let (right, wrong) = (model_bytes(6, SIZE), model_bytes(7, SIZE));
    let url = trial.server.serve("/m", &wrong, "\"v1\"", [Manner::Good]);
    let error = trial
        .fetch(&[&url], Some(sha(&right)), limits())
        .await
        .unwrap_err();
    let host = "127.0.0.1".to_owned();
    assert_eq!(
        error,
        DownloadError::WrongDigest {
            host,
            expected: sha(&right),
            found: sha(&wrong)
        }
    );
    assert!(
        error.to_string().contains(&sha(&right).to_string())
            && error.to_string().contains(&sha(&wrong).to_string())
    );
    trial.nothing_left();
}

#[tokio::test]
async fn another_source_helps_where_the_first_is_wrong_gone_or_broken() {
    let trial = Trial::new().await;
    let bytes = model_bytes(8, SIZE);
    let wrong = trial
        .server
        .serve("/wrong", &model_bytes(9, SIZE), "\"w\"", [Manner::Good]);
    let gone = trial
        .server
        .serve("/gone", &bytes, "\"g\"", [Manner::Status(404, "")]);
    let broken = trial.server.serve(
        "/broken",
        &bytes,
        "\"b\"",
        [Manner::CutAfter(25_000), Manner::Status(503, "")],
    );
    let good = trial
        .server
        .serve("/good", &bytes, "\"v1\"", [Manner::Good]);
    trial
        .fetch(
            &[&wrong, &gone, &broken, &good],
            Some(sha(&bytes)),
            limits(),
        )
        .await
        .unwrap();
    trial.is_whole(&bytes);
    // With a known digest the bytes of one source go on with another's.
    let last = trial.server.asked().pop().unwrap();
    assert_eq!(
        (last.path.as_str(), last.from, last.if_range),
        ("/good", Some(25_000), None)
    );
}

#[tokio::test]
async fn a_refusal_is_named_with_its_status() {
    let trial = Trial::new().await;
    let bytes = model_bytes(10, SIZE);
    let missing = trial
        .server
        .serve("/m", &bytes, "\"v1\"", [Manner::Status(404, "")]);
    let locked = trial
        .server
        .serve("/locked", &bytes, "\"v1\"", [Manner::Status(401, "")]);
    let error = trial
        .fetch(&[&missing, &locked], Some(sha(&bytes)), limits())
        .await
        .unwrap_err();
    assert_eq!(
        error,
        DownloadError::Refused {
            host: "127.0.0.1".into(),
            status: 404
        }
    );
    let error = trial
        .fetch(&[&locked], Some(sha(&bytes)), limits())
        .await
        .unwrap_err();
    assert_eq!(
        error,
        DownloadError::Refused {
            host: "127.0.0.1".into(),
            status: 401
        }
    );
    trial.nothing_left();
}

#[tokio::test]
async fn a_busy_server_is_asked_again() {
    let trial = Trial::new().await;
    let bytes = model_bytes(11, SIZE);
    let busy = Manner::Status(503, "Retry-After: 0\r\n");
    let url = trial.server.serve(
        "/m",
        &bytes,
        "\"v1\"",
        [
            busy.clone(),
            Manner::Status(429, "Retry-After: 0\r\n"),
            Manner::Good,
        ],
    );
    trial
        .fetch(&[&url], Some(sha(&bytes)), limits())
        .await
        .unwrap();
    trial.is_whole(&bytes);
    let url = trial.server.serve("/n", &bytes, "\"v1\"", [busy]);
    std::fs::remove_file(trial.target()).unwrap();
    let error = trial
        .fetch(&[&url], Some(sha(&bytes)), limits())
        .await
        .unwrap_err();
    assert_eq!(
        error,
        DownloadError::Refused {
            host: "127.0.0.1".into(),
            status: 503
        }
    );
}

#[tokio::test]
async fn redirects_are_followed() {
    let trial = Trial::new().await;
    let bytes = model_bytes(12, SIZE);
    trial.server.serve(
        "/store",
        &bytes,
        "\"v1\"",
        [Manner::CutAfter(30_000), Manner::Good],
    );
    let url = trial
        .server
        .serve("/m", &bytes, "\"x\"", [Manner::Redirect("/store")]);
    trial
        .fetch(&[&url], Some(sha(&bytes)), limits())
        .await
        .unwrap();
    trial.is_whole(&bytes);
    let circle = trial
        .server
        .serve("/circle", &bytes, "\"x\"", [Manner::Redirect("/circle")]);
    std::fs::remove_file(trial.target()).unwrap();
    assert!(
        trial
            .fetch(&[&circle], Some(sha(&bytes)), limits())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn silence_is_noticed_and_what_came_is_kept() {
    let trial = Trial::new().await;
    let bytes = model_bytes(13, SIZE);
    let url = trial.server.serve(
        "/m",
        &bytes,
        "\"v1\"",
        [Manner::StallAfter(20_000), Manner::StallAfter(0)],
    );
    let error = trial
        .fetch(&[&url], Some(sha(&bytes)), limits())
        .await
        .unwrap_err();
    assert_eq!(
        error,
        DownloadError::Stalled {
            host: "127.0.0.1".into()
        }
    );
    assert_eq!(
        part::left_over(&trial.target()),
        Some((20_000, Some(SIZE as u64)))
    );
    trial.server.serve("/m", &bytes, "\"v1\"", [Manner::Good]);
    trial
        .fetch(&[&url], Some(sha(&bytes)), limits())
        .await
        .unwrap();
    trial.is_whole(&bytes);
}

#[tokio::test]
async fn a_file_that_changed_meanwhile_is_never_mixed_with_the_old_one() {
    let trial = Trial::new().await;
    let (old, new) = (model_bytes(14, SIZE), model_bytes(15, SIZE));
    let url = trial.server.serve(
        "/m",
        &old,
        "\"old\"",
        [Manner::CutAfter(40_000), Manner::Status(404, "")],
    );
    // No digest to go by: only the source's own name for the version tells.
    assert!(trial.fetch(&[&url], None, limits()).await.is_err());
    trial.server.serve("/m", &new, "\"new\"", [Manner::Good]);
    let arrived = trial.fetch(&[&url], None, limits()).await.unwrap();
    assert_eq!(arrived.digest, sha(&new));
    trial.is_whole(&new);
    assert_eq!(trial.server.asked()[2].if_range.as_deref(), Some("\"old\""));

    // And bytes of one address do not go on with another's.
    std::fs::remove_file(trial.target()).unwrap();
    let one = trial.server.serve(
        "/one",
        &old,
        "\"1\"",
        [Manner::CutAfter(40_000), Manner::Status(404, "")],
    );
    let two = trial.server.serve("/two", &new, "\"2\"", [Manner::Good]);
    trial.fetch(&[&one, &two], None, limits()).await.unwrap();
    trial.is_whole(&new);
}

#[tokio::test]
async fn a_file_of_another_size_is_refused_before_it_is_fetched() {
    let trial = Trial::new().await;
    let bytes = model_bytes(16, SIZE);
    let url = trial.server.serve("/m", &bytes, "\"v1\"", [Manner::Good]);
    let error = trial
        .fetch(
            &[&url],
            None,
            Limits {
                size: Some(77),
                ..limits()
            },
        )
        .await
        .unwrap_err();
    assert_eq!(
        error,
        DownloadError::WrongSize {
            host: "127.0.0.1".into(),
            expected: 77,
            found: SIZE as u64
        }
    );
    trial.nothing_left();
}

#[tokio::test]
async fn an_error_page_does_not_pass_for_a_model() {
    let trial = Trial::new().await;
    let url = trial.server.serve(
        "/m",
        b"<html>please log in</html>",
        "\"v1\"",
        [Manner::Good],
    );
    let error = trial.fetch(&[&url], None, limits()).await.unwrap_err();
    assert_eq!(
        error,
        DownloadError::NotAModel {
            host: "127.0.0.1".into()
        }
    );
    trial.nothing_left();
}

#[tokio::test]
async fn too_little_room_is_said_with_both_numbers_before_a_byte_is_written() {
    let trial = Trial::new().await;
    let bytes = model_bytes(17, SIZE);
    let url = trial.server.serve("/m", &bytes, "\"v1\"", [Manner::Good]);
    let little = Limits {
        free: Arc::new(|| Ok(50_000)),
        spare: 1_000,
        ..limits()
    };
    let error = trial
        .fetch(&[&url], Some(sha(&bytes)), little)
        .await
        .unwrap_err();
    assert_eq!(
        error,
        DownloadError::NoSpace {
            need: SIZE as u64 + 1_000,
            have: 50_000
        }
    );
    assert_eq!(
        std::fs::metadata(part::part_of(&trial.target())).map_or(0, |meta| meta.len()),
        0
    );
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let trial = Trial::new().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = trial
        .fetch(&[&format!("http://{free}/m")], None, limits())
        .await
        .unwrap_err();
    assert!(
        matches!(error, DownloadError::Unreachable { .. }),
        "{error}"
    );
    trial.nothing_left();
}

/// A disk that is really full, where this user may mount one.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_disk_that_fills_up_meanwhile_keeps_what_came() {
    let trial = Trial::new().await;
    let disk = trial.folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(&disk)
        .output()
        .is_ok_and(|out| out.status.success());
    if !mounted {
        eprintln!(
            "skipped: a_disk_that_fills_up_meanwhile_keeps_what_came (no right to mount a small disk)"
        );
        return;
    }
    let bytes = model_bytes(18, 1_000_000);
    let url = trial.server.serve("/m", &bytes, "\"v1\"", [Manner::Good]);
    let outcome = on_disk(&disk, &url, sha(&bytes)).await;
    let kept = part::left_over(&disk.join("m.gguf"));
    let whole_file = disk.join("m.gguf").exists();
    let _ = std::process::Command::new("umount").arg(&disk).status();
    assert!(
        matches!(outcome, Err(DownloadError::NoSpace { .. })),
        "{outcome:?}"
    );
    assert!(kept.is_some_and(|(kept, _)| kept > 0), "{kept:?}");
    assert!(!whole_file);
}

#[cfg(target_os = "linux")]
async fn on_disk(disk: &Path, url: &str, digest: Sha) -> Result<Arrived, DownloadError> {
    // The check before is told that there is room, so that the writes meet the end of the disk.
    let limits = limits();
    let client = fetch::client(Some(""), &limits).unwrap();
    let sources = vec![Source::Http(url.to_owned())];
    let order = Order {
        target: disk.join("m.gguf"),
        sources,
        digest: Some(digest),
        proxy: None,
        limits,
    };
    download::run(
        client,
        order,
        Tell(watch::Sender::new(Progress::Waiting)),
        CancellationToken::new(),
    )
    .await
}
