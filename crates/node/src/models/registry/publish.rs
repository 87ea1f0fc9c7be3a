//! What is written down, and what handles read.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::Registry;
use crate::models::{
    ModelsError, ModelsFolder, ModelsView,
    entries::{Entry, Standing},
    fit::Computer,
    records,
    rows::{self, Running},
    store,
};

/// How old the memory's figures may be in a snapshot.
const LOOK_EVERY: Duration = Duration::from_secs(2);

impl Registry {
    pub(super) fn save_records(&self) -> Result<(), ModelsError> {
        records::write(&self.data.join("models.toml"), &self.records)
    }

    pub(super) fn save_pins(&self) {
        if let Err(error) = records::write(&self.data.join("pins.toml"), &self.pins) {
            tracing::warn!(%error, "a pin could not be kept");
        }
    }

    pub(super) fn take_speeds(&mut self) {
        let speeds = self.outside.borrow_and_update().speeds.clone();
        let before = self.speeds.clone();
        for (id, mut measured) in speeds {
            // What an answer measured does not take the place of a measurement that was made for its own sake.
            if measured.benchmark.is_none() {
                let known = self.speeds.speed.get(&id);
                measured.benchmark = known.and_then(|known| known.benchmark.clone());
            }
            self.speeds.speed.insert(id, measured);
        }
        if before != self.speeds
            && let Err(error) = records::write(&self.data.join("speeds.toml"), &self.speeds)
        {
            tracing::warn!(%error, "a measured speed could not be kept");
        }
    }

    /// The folders that are looked into, the one that downloads go to first.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.folder.clone()];
        folders.extend(self.records.moving_to.clone());
        folders.extend(self.dirs.iter().cloned());
        folders.dedup();
        folders
    }

    /// Tells the engine what its worker may read: the folders, files added in place, the heads, and `also`.
    pub(super) async fn allow_reading(&mut self, also: &[PathBuf]) {
        let mut paths = self.folders();
        paths.extend(self.records.added.iter().map(|added| added.path.clone()));
        self.readable.send_replace(paths.clone());
        // The worker follows a link out of a folder only when the file it leads to is named as well.
        let files = paths.iter().flat_map(|folder| store::model_files(folder));
        let linked = files.filter(|file| file.is_symlink());
        let targets: Vec<_> = linked.filter_map(|file| file.canonicalize().ok()).collect();
        paths.extend(targets);
        paths.extend(also.iter().cloned());
        paths.push(self.data.join("heads"));
        if let Err(error) = self.engine.set_readable(paths).await {
            tracing::warn!(%error, "the engine was not told what it may read");
        }
    }

    pub(super) fn publish(&mut self) {
        if self.computer.0.elapsed() >= LOOK_EVERY {
            self.computer = (Instant::now(), Computer::look());
        }
        for (id, seen) in &self.checks {
            if let Some(Entry {
                standing: Standing::Checking { done, .. },
                ..
            }) = self.entries.get_mut(id)
            {
                *done = *seen.borrow();
            }
        }
        let running: BTreeMap<String, Running> = self
            .jobs
            .iter_mut()
            .map(|(id, job)| (id.clone(), job.running()))
            .collect();
        let outside = self.outside.borrow().clone();
        let (mut models, mut rows) = (Vec::new(), Vec::new());
        for (id, entry) in self.in_order() {
            let measured = self.speeds.speed.get(id);
            let fit = rows::fit_of(entry, &outside, &self.computer.1, measured);
            models.push(rows::model(id, entry, &self.pins, &fit));
            rows.push(rows::row(
                id,
                entry,
                running.get(id),
                &self.pins,
                &outside,
                measured,
                fit,
            ));
        }
        let view = ModelsView {
            better: rows::better(&rows, &self.speeds.speed),
            rows,
            folder: ModelsFolder {
                path: self.folder.display().to_string(),
                used_bytes: store::used_bytes(&self.folder),
                free_bytes: store::free_bytes(&self.folder).unwrap_or(0),
            },
            computer: self.computer.1.sentence(&outside.graphics),
        };
        self.list.send_replace(Arc::new(models));
        self.view.send_if_modified(|before| {
            let changed = *before != view;
            *before = view;
            changed
        });
    }

    /// The catalogue in its order, then what was added, by id.
    pub(super) fn in_order(&self) -> impl Iterator<Item = (&String, &Entry)> {
        let of_catalogue = self
            .catalogue
            .rows
            .iter()
            .filter_map(|row| self.entries.get_key_value(&row.id));
        let added = self.entries.iter().filter(|(_, entry)| entry.row.is_none());
        of_catalogue.chain(added)
    }
}
