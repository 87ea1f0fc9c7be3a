//! `serve`: the switch on, its addresses on standard output, its states on standard error, and off again.

use node::{NodeStatus, ServingState};

use crate::{
    arguments::Serve, core::Core, failure::Failure, listing, models, output::Output, stop::Stop,
};

pub(crate) async fn serve(
    core: &Core,
    serve: Serve,
    output: &mut Output,
    stop: &Stop,
) -> Result<(), Failure> {
    let was_on = core.client.node_status().await?.serving != ServingState::Off;
    configure(core, &serve).await?;
    output.progress("switching on");
    let switching = core.client.node_switch(true);
    tokio::select! {
        switched = switching => { switched?; }
        () = stop.asked() => {
            core.client.node_switch(false).await?;
            return Err(Failure::Interrupted);
        }
    }
    let ended = watch(core, &serve, output, stop).await;
    output.clear_progress();
    if was_on && core.attached() {
        output.news("The node was on before this command, and stays on.");
        return ended;
    }
    // The node that this command talked to may be gone already; then there is nothing to switch off.
    if let Ok(status) = core.client.node_switch(false).await {
        let took = status
            .off_ms
            .map(|took| format!(", after {took} ms"))
            .unwrap_or_default();
        output.news(&format!(
            "Off{took}: nothing listens, and the model is out of memory."
        ));
    }
    ended
}

/// What was given on the command line goes where the window shows it: into the settings.
async fn configure(core: &Core, serve: &Serve) -> Result<(), Failure> {
    if serve.model.is_empty() && serve.listen.is_empty() {
        return Ok(());
    }
    if !serve.model.is_empty() {
        let known = core.client.models_list().await?;
        if let Some(id) = serve
            .model
            .iter()
            .find(|id| known.rows.iter().all(|row| row.id != **id))
        {
            return Err(models::unknown(id));
        }
    }
    let mut settings = core.client.settings_get().await?;
    if !serve.model.is_empty() {
        settings.serve_models.clone_from(&serve.model);
    }
    if !serve.listen.is_empty() {
        settings.listen.clone_from(&serve.listen);
    }
    Ok(core.client.settings_set(settings).await?)
}

/// Tells what changes, until Ctrl-C or until the node cannot go on.
async fn watch(
    core: &Core,
    serve: &Serve,
    output: &mut Output,
    stop: &Stop,
) -> Result<(), Failure> {
    let mut changes = core.client.status().await?;
    let mut told = Told::default();
    loop {
        let status = tokio::select! {
            status = changes.next() => status?,
            () = stop.asked() => return Ok(()),
        };
        let Some(status) = status else {
            return Err(Failure::new(
                "ended",
                "The program that served has ended.",
                "`decentralgpt serve` starts it again.",
            ));
        };
        told.tell(&status, serve.json, output)?;
        match status.serving {
            ServingState::Attention { error } => return Err(error.into()),
            ServingState::Off => {
                return Err(Failure::new(
                    "switched_off",
                    "The node was switched off from elsewhere.",
                    "`decentralgpt serve` switches it on again.",
                ));
            }
            ServingState::NetworkProblem { error, .. } if status.listening.is_empty() => {
                return Err(error.into());
            }
            ServingState::NetworkProblem { .. }
            | ServingState::Preparing { .. }
            | ServingState::Waiting { .. }
            | ServingState::Serving { .. }
            | ServingState::PausedByYou { .. }
            | ServingState::PausedOwnWork => {}
        }
    }
}

/// What has been said already, so that nothing is said twice.
#[derive(Debug, Default)]
struct Told {
    addresses: Vec<String>,
    state: String,
    not_offered: Vec<String>,
}

impl Told {
    fn tell(
        &mut self,
        status: &NodeStatus,
        json: bool,
        output: &mut Output,
    ) -> Result<(), Failure> {
        // Not before it answers: whoever reads an address may dial it at once.
        if !matches!(status.serving, ServingState::Preparing { .. }) {
            for address in &status.listening {
                if !self.addresses.contains(address) {
                    output.line(address)?;
                    self.addresses.push(address.clone());
                }
            }
        }
        for model in &status.not_offered {
            if !self.not_offered.contains(&model.model) {
                output.news(&format!("{} is not offered: {}", model.model, model.why));
                self.not_offered.push(model.model.clone());
            }
        }
        let state = listing::serving(&status.serving);
        if self.state == state {
            return Ok(());
        }
        match &status.serving {
            // Many a second, with changing numbers: for a person alone, on one line.
            ServingState::Serving { .. } if self.state.starts_with("answering") => {
                output.progress(&state)
            }
            ServingState::Preparing { .. } => output.progress(&state),
            ServingState::Serving { .. }
            | ServingState::Off
            | ServingState::Waiting { .. }
            | ServingState::PausedByYou { .. }
            | ServingState::PausedOwnWork
            | ServingState::Attention { .. }
            | ServingState::NetworkProblem { .. } => output.news(&state),
        }
        self.state = state;
        if json { output.json(&status) } else { Ok(()) }
    }
}
