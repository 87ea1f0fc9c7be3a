//! Downloads: begun, stopped, ended.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{Job, Registry};
use crate::models::{
    ModelsError,
    catalog::CatalogueRow,
    download::{self, Arrived, Limits, Order, Progress, Source, Tell},
    entries::{self, Standing, ToCheck},
    error::DownloadError,
    fetch, part,
    records::Pin,
    rows::Running,
    work::Ended,
};

/// The rate is taken over this long: shorter jumps, longer lies.
const RATE_OVER: Duration = Duration::from_secs(5);

/// Between two samples of it, whoever asks how often: so that there are at most twenty-five.
const SAMPLE_EVERY: Duration = Duration::from_millis(200);

impl Registry {
    pub(super) fn download(&mut self, id: &str) -> Result<(), ModelsError> {
        self.not_moving()?;
        let entry = self
            .entries
            .get(id)
            .ok_or_else(|| ModelsError::Unknown { id: id.to_owned() })?;
        let here = matches!(
            entry.standing,
            Standing::Ready { .. } | Standing::Checking { .. }
        );
        if here || self.jobs.contains_key(id) {
            return Ok(());
        }
        let Some(row) = entry.row.clone() else {
            return Err(ModelsError::NoSource {
                name: entry.name.clone(),
            });
        };
        let order = self.order(&row)?;
        let client = fetch::client(order.proxy.as_deref(), &order.limits)?;
        let (tell, progress) = watch::channel(Progress::Waiting);
        let stop = self.stop.child_token();
        let (turns, token, id_of_task) = (self.turns.clone(), stop.clone(), id.to_owned());
        self.tasks.spawn(async move {
            let result = tokio::select! {
                () = token.cancelled() => Err(DownloadError::Stopped),
                turn = turns.acquire_owned() => match turn {
                    Ok(turn) => {
                        let result = download::run(client, order, Tell(tell), token.clone()).await;
                        drop(turn);
                        result
                    }
                    Err(_) => Err(DownloadError::Stopped),
                },
            };
            Ended::Download {
                id: id_of_task,
                result,
            }
        });
        let job = Job {
            progress,
            stop,
            cancelled: Vec::new(),
            paused: Vec::new(),
            samples: VecDeque::new(),
        };
        self.jobs.insert(id.to_owned(), job);
        Ok(())
    }

    pub(super) fn order(&self, row: &CatalogueRow) -> Result<Order, ModelsError> {
        let mut sources: Vec<Source> = row.sources.iter().cloned().map(Source::Http).collect();
        sources.extend(row.pip.clone().map(Source::Pip));
        if sources.is_empty() {
            return Err(ModelsError::NoSource {
                name: row.name.clone(),
            });
        }
        let size = entries::expected_size(row, &self.pins);
        let limits = match &self.limits {
            Some(limits) => Limits {
                size,
                ..limits.clone()
            },
            None => Limits::of(&self.folder, size),
        };
        Ok(Order {
            target: self.folder.join(&row.file),
            sources,
            digest: entries::expected(row, &self.pins),
            proxy: self.outside.borrow().proxy.clone(),
            limits,
        })
    }

    pub(super) fn arrived(&mut self, id: &str, arrived: Arrived) {
        let Some(row) = self.entries.get(id).and_then(|entry| entry.row.clone()) else {
            return;
        };
        let path = self.folder.join(&row.file);
        if row.sha256.is_none() && !self.pins.pin.contains_key(id) {
            let pin = Pin {
                sha256: arrived.digest,
                size: arrived.size,
                head_len: None,
                head_sha256: None,
                source: arrived.source.clone(),
            };
            self.pins.pin.insert(id.to_owned(), pin);
            self.save_pins();
        }
        self.check(
            ToCheck {
                id: id.to_owned(),
                path,
            },
            Some(arrived.digest),
        );
    }

    pub(super) fn drop_part(&mut self, id: &str) -> Result<(), ModelsError> {
        let entry = self
            .entries
            .get_mut(id)
            .ok_or_else(|| ModelsError::Unknown { id: id.to_owned() })?;
        let Some(row) = &entry.row else { return Ok(()) };
        let target = self.folder.join(&row.file);
        part::remove(&target).map_err(|source| ModelsError::File {
            path: target,
            what: "removed",
            source,
        })?;
        if matches!(
            entry.standing,
            Standing::Left { .. } | Standing::Failed { path: None, .. }
        ) {
            entry.standing = Standing::Absent;
        }
        Ok(())
    }

    pub(super) fn download_ended(&mut self, id: &str, result: Result<Arrived, DownloadError>) {
        let result = match result {
            Ok(arrived) => return self.arrived(id, arrived),
            Err(error) => error,
        };
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        let Some(row) = &entry.row else { return };
        let left = part::left_over(&self.folder.join(&row.file));
        entry.standing = match (result, left) {
            (DownloadError::Stopped, None) => Standing::Absent,
            (DownloadError::Stopped, Some((done, total))) => Standing::Left {
                done,
                total: total.or(row.size),
            },
            (error, left) => {
                let done = left.map_or(0, |(done, _)| done);
                let error = ModelsError::Download {
                    name: row.name.clone(),
                    source: error,
                };
                Standing::Failed {
                    path: None,
                    error: error.view(),
                    done,
                }
            }
        };
    }
}

impl Job {
    /// How far it is, and how fast over the last seconds.
    pub(super) fn running(&mut self) -> Running {
        let progress = self.progress.borrow().clone();
        let mut bytes_per_second = 0;
        if let Progress::Fetching { done, .. } = &progress {
            let now = Instant::now();
            // A restart goes back to nothing: the samples before it say nothing about the rate.
            if self.samples.back().is_some_and(|(_, before)| before > done) {
                self.samples.clear();
            }
            if self
                .samples
                .back()
                .is_none_or(|(at, _)| now - *at >= SAMPLE_EVERY)
            {
                self.samples.push_back((now, *done));
            }
            while self.samples.len() > 2
                && self
                    .samples
                    .front()
                    .is_some_and(|(at, _)| now - *at > RATE_OVER)
            {
                self.samples.pop_front();
            }
            if let Some((at, before)) = self.samples.front() {
                let seconds = (now - *at).as_secs_f64();
                if seconds > 0.1 {
                    bytes_per_second = (done.saturating_sub(*before) as f64 / seconds) as u64;
                }
            }
        }
        Running {
            progress,
            bytes_per_second,
        }
    }
}
