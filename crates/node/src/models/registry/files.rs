//! Files: found, hashed, added, removed; and what is remembered of them.

use std::path::{Path, PathBuf};

use tokio::sync::watch;

use super::{Done, Registry};
use crate::models::{
    ModelRow, ModelsError,
    digest::Sha,
    entries::{self, Entry, Standing, ToCheck},
    records::{Added, Facts, Pin},
    work::{self, Ended},
};

impl Registry {
    /// Looks at all folders anew. What is known of running work stays.
    pub(super) fn look(&mut self) {
        let found = entries::look(&self.catalogue, &self.folders(), &self.records, &self.pins);
        self.entries = found.entries;
        for check in found.to_check {
            self.check(check, None);
        }
    }

    pub(super) fn check(&mut self, check: ToCheck, known: Option<Sha>) {
        let total = std::fs::metadata(&check.path).map_or(0, |meta| meta.len());
        if let Some(entry) = self.entries.get_mut(&check.id) {
            entry.standing = Standing::Checking {
                path: check.path.clone(),
                done: 0,
                total,
            };
        }
        let (progress, seen) = watch::channel(0);
        self.checks.insert(check.id.clone(), seen);
        let (engine, turns, stop) = (
            self.engine.clone(),
            self.check_turns.clone(),
            self.stop.child_token(),
        );
        self.tasks.spawn(async move {
            let _turn = turns.acquire_owned().await;
            let ToCheck { id, path } = check;
            let result = work::inspect(engine, path.clone(), known, progress, stop).await;
            Ended::Checked { id, path, result }
        });
    }

    pub(super) async fn add(&mut self, path: PathBuf, done: Done<ModelRow>) {
        let path = match path.canonicalize() {
            Ok(path) => path,
            Err(source) => {
                let _ = done.send(Err(ModelsError::File {
                    path,
                    what: "read",
                    source,
                }));
                return;
            }
        };
        self.allow_reading(std::slice::from_ref(&path)).await;
        let (engine, stop) = (self.engine.clone(), self.stop.child_token());
        self.tasks.spawn(async move {
            let unseen = watch::Sender::new(0);
            let result = work::inspect(engine, path.clone(), None, unseen, stop).await;
            Ended::Added { path, result, done }
        });
    }

    /// Takes a file that was added into the list: as the file of the row that has its digest, or as a row of its own.
    pub(super) async fn added(
        &mut self,
        path: &Path,
        facts: Facts,
    ) -> Result<ModelRow, ModelsError> {
        self.records.remember(path, &facts);
        let known = self.entries.iter().find(|(_, entry)| {
            let expected = entry
                .row
                .as_ref()
                .and_then(|row| entries::expected(row, &self.pins));
            expected == Some(facts.digest)
                || entry
                    .facts()
                    .is_some_and(|here| here.digest == facts.digest)
        });
        let id = match known {
            Some((id, _)) => id.clone(),
            None => entries::free_id(path, |id| self.entries.contains_key(id)),
        };
        let ready = Standing::Ready {
            path: path.to_owned(),
            facts: Some(facts.clone()),
        };
        match self.entries.get_mut(&id) {
            Some(entry) if matches!(entry.standing, Standing::Ready { .. }) => {}
            Some(entry) => entry.standing = ready,
            None => {
                self.entries.insert(
                    id.clone(),
                    Entry {
                        row: None,
                        name: facts.name.clone(),
                        last_digest: Some(facts.digest),
                        standing: ready,
                    },
                );
            }
        }
        let used = self
            .entries
            .get(&id)
            .is_some_and(|entry| entry.path() == Some(path));
        if used
            && !self
                .folders()
                .iter()
                .any(|folder| path.parent() == Some(folder))
        {
            self.records.added.retain(|added| added.path != path);
            self.records.added.push(Added {
                id: id.clone(),
                path: path.to_owned(),
                facts,
            });
        }
        self.save_records()?;
        self.allow_reading(&[]).await;
        self.publish();
        let row = self
            .view
            .borrow()
            .rows
            .iter()
            .find(|row| row.id == id)
            .cloned();
        row.ok_or(ModelsError::Unknown { id })
    }

    pub(super) fn remove(&mut self, id: &str) -> Result<(), ModelsError> {
        self.not_moving()?;
        let entry = self
            .entries
            .get(id)
            .ok_or_else(|| ModelsError::Unknown { id: id.to_owned() })?;
        let path = entry.path().map(Path::to_owned);
        if let Some(path) = &path
            && path.parent() != Some(&self.folder)
            && self.dirs.iter().any(|dir| path.parent() == Some(dir))
        {
            return Err(ModelsError::NotOurs { path: path.clone() });
        }
        if let Some(job) = self.jobs.get(id) {
            job.stop.cancel();
        }
        // Or the next start would find it again by its digest.
        self.records
            .seen
            .retain(|seen| Some(&seen.path) != path.as_ref());
        if let Some(path) = path.filter(|path| path.parent() == Some(&self.folder)) {
            match std::fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(ModelsError::File {
                        path,
                        what: "removed",
                        source,
                    });
                }
            }
        }
        self.drop_part(id)?;
        self.records.added.retain(|added| added.id != id);
        self.records.forget_missing();
        self.save_records()?;
        match self.entries.get_mut(id) {
            Some(entry) if entry.row.is_some() => entry.standing = Standing::Absent,
            Some(_) => drop(self.entries.remove(id)),
            None => {}
        }
        Ok(())
    }

    pub(super) fn checked(&mut self, id: &str, path: PathBuf, result: Result<Facts, ModelsError>) {
        if !path.exists() {
            // Removed or moved while it was hashed: what is known of it would be of a file that is not there.
            return self.look();
        }
        let expected = self
            .entries
            .get(id)
            .and_then(|entry| entry.row.as_ref())
            .and_then(|row| entries::expected(row, &self.pins));
        let standing = match result {
            Ok(facts) => {
                self.records.remember(&path, &facts);
                match expected {
                    Some(expected) if expected != facts.digest => {
                        let name = self
                            .entries
                            .get(id)
                            .map(|entry| entry.name.clone())
                            .unwrap_or_default();
                        let error = ModelsError::WrongDigest {
                            name,
                            expected,
                            found: facts.digest,
                        };
                        Standing::Failed {
                            path: Some(path),
                            error: error.view(),
                            done: 0,
                        }
                    }
                    Some(_) | None => {
                        self.pin_facts(id, &facts, expected.is_none());
                        Standing::Ready {
                            path,
                            facts: Some(facts),
                        }
                    }
                }
            }
            Err(error) => {
                tracing::warn!(id, %error, "a model file cannot be used");
                Standing::Failed {
                    path: Some(path),
                    error: error.view(),
                    done: 0,
                }
            }
        };
        if let Err(error) = self.save_records() {
            tracing::warn!(%error, "what is known of the models could not be kept");
        }
        let stray = self
            .entries
            .get(id)
            .is_some_and(|entry| entry.row.is_none());
        if let (
            true,
            Standing::Ready {
                path,
                facts: Some(facts),
            },
        ) = (stray, &standing)
        {
            return self.stray_checked(id, path.clone(), facts.clone());
        }
        if let Some(entry) = self.entries.get_mut(id) {
            entry.standing = standing;
        }
    }

    /// A file without a row, now that its digest is known: perhaps a row's after all, perhaps one that is here already.
    pub(super) fn stray_checked(&mut self, id: &str, path: PathBuf, facts: Facts) {
        let of_row = self.entries.iter().find(|(_, entry)| {
            entry
                .row
                .as_ref()
                .and_then(|row| entries::expected(row, &self.pins))
                == Some(facts.digest)
        });
        let ready = Standing::Ready {
            path,
            facts: Some(facts.clone()),
        };
        match of_row.map(|(row, _)| row.clone()) {
            Some(row) => {
                self.entries.remove(id);
                if let Some(entry) = self.entries.get_mut(&row)
                    && !matches!(entry.standing, Standing::Ready { .. })
                {
                    entry.standing = ready;
                }
            }
            None => {
                if let Some(entry) = self.entries.get_mut(id) {
                    entry.name = facts.name;
                    entry.last_digest = Some(facts.digest);
                    entry.standing = ready;
                }
            }
        }
    }

    /// Keeps the head of a row that had none, and its digest where the file was put here by hand.
    pub(super) fn pin_facts(&mut self, id: &str, facts: &Facts, unpinned: bool) {
        let Some(row) = self.entries.get(id).and_then(|entry| entry.row.as_ref()) else {
            return;
        };
        if row.sha256.is_some() && row.head_sha256.is_some() {
            return;
        }
        if unpinned || row.sha256.is_some() || self.pins.pin.contains_key(id) {
            let pin = self.pins.pin.entry(id.to_owned()).or_insert_with(|| Pin {
                sha256: facts.digest,
                size: facts.size,
                head_len: None,
                head_sha256: None,
                source: "a file that was put here".to_owned(),
            });
            pin.head_len = Some(facts.head_len);
            pin.head_sha256 = Some(facts.head_sha256);
            self.save_pins();
        }
    }
}
