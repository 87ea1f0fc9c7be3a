//! Moving the folder: noted before it begins, gone on with after a crash.

use std::path::PathBuf;

use super::{Done, Moving, Registry};
use crate::models::{
    ModelsError, records, store,
    work::{self, Ended},
};

impl Registry {
    pub(super) fn move_to(&mut self, to: PathBuf, done: Done<()>) {
        if let Some(moving) = &mut self.moving {
            // A move of an earlier run, or one whose asker is gone: whoever asks for the same again waits for it.
            let nobody_waits = moving.done.as_ref().is_none_or(Done::is_closed);
            if moving.to == to && nobody_waits {
                moving.done = Some(done);
            } else {
                let to = moving.to.clone();
                let _ = done.send(Err(ModelsError::Moving { to }));
            }
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

    /// # Errors
    /// [`ModelsError::Moving`] while files are on their way.
    pub(super) fn not_moving(&self) -> Result<(), ModelsError> {
        match &self.moving {
            Some(moving) => Err(ModelsError::Moving {
                to: moving.to.clone(),
            }),
            None => Ok(()),
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
        let (from, to) = (self.folder.clone(), moving.to.clone());
        let stop = self.stop.child_token();
        self.tasks.spawn(async move {
            let result = work::move_folder(from, to.clone(), stop).await;
            Ended::Moved { to, result }
        });
    }

    /// Takes note of how a move ended, and tells who waits for it.
    pub(super) async fn moved(&mut self, to: PathBuf, result: Result<(), ModelsError>) {
        let done = self.moving.take().and_then(|moving| moving.done);
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
        self.publish();
        match (done, result) {
            (Some(done), result) => drop(done.send(result)),
            (None, Err(error)) => {
                tracing::warn!(%error, "a move of an earlier run could not be ended")
            }
            (None, Ok(())) => {}
        }
    }
}
