//! `models`: what there is, and what comes and goes.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use node::{ModelRow, ModelState};

use crate::{
    arguments::{Listing, Models},
    community::{self, Act},
    core::Core,
    failure::Failure,
    listing,
    output::Output,
    prices,
    stop::Stop,
    words,
};

/// How often a download is looked at: a person sees it move, and a script pays nothing for it.
const LOOK: Duration = Duration::from_millis(250);

pub(crate) async fn models(
    core: &Core,
    command: Models,
    output: &mut Output,
    stop: &Stop,
) -> Result<(), Failure> {
    match command {
        Models::List(how) => list(core, how, output).await,
        Models::Pull { id } => pull(core, &id, output, stop).await,
        Models::Add { file, listing } => add(core, &file, listing, output, stop).await,
        Models::Remove { id } => {
            core.client.model_remove(&id).await?;
            output.news(&format!("{id} is removed."));
            Ok(())
        }
        Models::Default { id } => {
            core.client.model_default(&id).await?;
            output.news(&format!("New chats use {id}."));
            Ok(())
        }
        Models::Price {
            id,
            amount,
            median,
            floor,
            as_all,
            cached,
            listing,
        } => {
            let set = prices::Set {
                amount,
                median,
                floor,
                as_all,
                cached,
            };
            prices::prices(core, id, set, listing, output).await
        }
        Models::Cap {
            id,
            amount,
            as_all,
            listing,
        } => prices::caps(core, id, (amount, as_all), listing, output).await,
        Models::Community {
            on,
            off,
            look,
            listing,
        } => {
            let act = match (on, off, look) {
                (true, _, _) => Act::Switch(true),
                (_, true, _) => Act::Switch(false),
                (_, _, Some(id)) => Act::Look(id),
                (_, _, None) => Act::List,
            };
            community::community(core, act, listing, output, stop).await
        }
        Models::Move { folder } => {
            output.progress("moving");
            let folder = absolute(&folder)?;
            let moving = core.client.models_move(&folder);
            tokio::select! {
                moved = moving => moved?,
                () = stop.asked() => {
                    output.news("Stopped. Every file is whole in one of the two folders: the same command goes on from there.");
                    return Err(Failure::Interrupted);
                }
            }
            output.news(&format!("Models are kept in {}.", folder.display()));
            Ok(())
        }
    }
}

async fn list(core: &Core, how: Listing, output: &mut Output) -> Result<(), Failure> {
    let view = core.client.models_list().await?;
    if how.json {
        return output.json(&view);
    }
    listing::models(&view)
        .iter()
        .try_for_each(|line| output.line(line))
}

async fn add(
    core: &Core,
    file: &Path,
    how: Listing,
    output: &mut Output,
    stop: &Stop,
) -> Result<(), Failure> {
    let path = absolute(file)?;
    output.progress("reading the file");
    let adding = core.client.model_add(&path);
    let row = tokio::select! {
        row = adding => row?,
        () = stop.asked() => return Err(Failure::Interrupted),
    };
    if how.json {
        return output.json(&row);
    }
    output.news(&format!(
        "{}: {}, {}. {}",
        row.name,
        row.parameters,
        words::bytes(row.size_bytes),
        row.fit.sentence
    ));
    output.line(&row.id)
}

/// The node may run in another folder than this command.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        Failure::new(
            "file",
            format!("{} is no path: {error}.", path.display()),
            "give the path of a file or folder.",
        )
    })
}

async fn pull(core: &Core, id: &str, output: &mut Output, stop: &Stop) -> Result<(), Failure> {
    let row = row(core, id).await?;
    if matches!(row.state, ModelState::Ready { .. }) {
        output.news(&format!("{} is here already.", row.name));
        return Ok(());
    }
    core.client.model_download(id).await?;
    let mut told = String::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.asked() => {
                core.client.model_pause(id).await?;
                output.news("Stopped. What came is kept: the same command goes on from there.");
                return Err(Failure::Interrupted);
            }
        }
        let row = self::row(core, id).await?;
        match &row.state {
            ModelState::Ready { path, .. } => {
                output.news(&format!(
                    "{} is here, and its digest is right: {path}",
                    row.name
                ));
                return Ok(());
            }
            ModelState::Failed { error, .. } => return Err(error.clone().into()),
            ModelState::Paused { .. } => {
                return Err(Failure::new(
                    "paused",
                    format!("The download of {} was paused from elsewhere.", row.name),
                    "the same command goes on with it.",
                ));
            }
            ModelState::Absent => {
                return Err(Failure::new(
                    "cancelled",
                    format!("The download of {} was cancelled from elsewhere.", row.name),
                    "the same command begins anew.",
                ));
            }
            ModelState::Downloading { source, .. } => {
                if told != *source {
                    told.clone_from(source);
                    output.news(&format!(
                        "{} ({}) from {source}",
                        row.name,
                        words::bytes(row.size_bytes)
                    ));
                }
                output.progress(&listing::state(&row));
            }
            ModelState::Verifying { .. } => output.progress(&listing::state(&row)),
        }
    }
}

async fn row(core: &Core, id: &str) -> Result<ModelRow, Failure> {
    core.client
        .models_list()
        .await?
        .rows
        .into_iter()
        .find(|row| row.id == id)
        .ok_or_else(|| unknown(id))
}

/// The same words whether the node or this command noticed.
pub(crate) fn unknown(id: &str) -> Failure {
    Failure::new(
        "model_unknown",
        format!("There is no model named {id}."),
        "`decentralgpt models list` shows the ones there are; `decentralgpt models add FILE` adds one from this disk.",
    )
}
