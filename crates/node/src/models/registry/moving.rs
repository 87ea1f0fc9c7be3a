//! Moving the folder: noted before it begins, gone on with after a crash.

use std::path::PathBuf;

use super::{Done, Moving, Registry};
use crate::models::{
    ModelsError, records, store,
    work::{self, Ended},
};

impl Registry {
    pub(super) fn move_to(&mut self, to: PathBuf, done: Done<()>) {
        if self.moving.is_some() {
            let _ = done.send(Err(ModelsError::Moving));
        } else if to == self.folder {
            let _ = done.send(Ok(()));
        } else if let Err(error) = store::may_move(&self.folder, &to) {
            let _ = done.send(Err(error));
        } else {
            self.records.moving_to = Some(to.clone());
            // Noted before the first file moves: a run that ends in between is gone on with.
            if let Err(error) = self.save_records() {
                self.records.moving_to = None;
                let _ = done.send(Err(error));
                return;
            }
            for job in self.jobs.values() {
                job.stop.cancel();
            }
            self.moving = Some(Moving {
                to,
                done: Some(done),
                started: false,
            });
        }
    }

    /// Begins a move that was asked for, once no download writes any more.
    pub(super) fn start_move(&mut self) {
        let Some(moving) = &mut self.moving else {
            return;
        };
        if moving.started || !self.jobs.is_empty() {
            return;
        }
        moving.started = true;
        let (from, to, done) = (self.folder.clone(), moving.to.clone(), moving.done.take());
        let stop = self.stop.child_token();
        self.tasks.spawn(async move {
            let result = work::move_folder(from, to.clone(), stop).await;
            Ended::Moved { to, result, done }
        });
    }

    pub(super) async fn moved(
        &mut self,
        to: PathBuf,
        result: Result<(), ModelsError>,
    ) -> Result<(), ModelsError> {
        self.moving = None;
        let result = match result {
            Ok(()) => {
                self.records.moving_to = None;
                // Files keep size and time when they are renamed, not always when they are copied; these are the same bytes.
                let from = std::mem::replace(&mut self.folder, to.clone());
                for seen in &mut self.records.seen {
                    if seen.path.parent() == Some(&from)
                        && let Some(name) = seen.path.file_name()
                    {
                        seen.path = to.join(name);
                        if let Ok((_, modified_ms)) = records::stamp(&seen.path) {
                            seen.modified_ms = modified_ms;
                        }
                    }
                }
                self.records.folder = Some(to);
                self.save_records()
            }
            // The note stays: both folders are looked into, and the next start goes on.
            Err(error) => Err(error),
        };
        self.look();
        self.allow_reading(&[]).await;
        result
    }
}
