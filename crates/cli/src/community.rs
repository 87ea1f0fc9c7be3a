//! `models community`: what peers offer that is in no row of the list.

use std::time::Duration;

use node::{CommunityModel, CommunityView, Settings};

use crate::{arguments::Listing, core::Core, failure::Failure, output::Output, stop::Stop, words};

/// How often a search is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// A list that nothing was added to for so long is shown: who is near has answered by then, and the node looks on.
const QUIET: Duration = Duration::from_secs(6);

/// What nobody knows of any of them.
const NOT_KNOWN: &str = "Not known of any of these: who made it, its licence, and whether it is what it calls itself. Nobody reviewed them.";

/// What is to be done.
pub(crate) enum Act {
    /// List what is offered.
    List,
    /// List them from now on, or no longer.
    Switch(bool),
    /// Look at what one says of itself.
    Look(String),
}

pub(crate) async fn community(
    core: &Core,
    act: Act,
    how: Listing,
    output: &mut Output,
    stop: &Stop,
) -> Result<(), Failure> {
    match act {
        Act::Switch(on) => switch(core, on, output).await,
        Act::Look(id) => {
            output.progress("fetching what it says of itself");
            let looking = core.client.community_look(&id);
            let model = tokio::select! {
                model = looking => model?,
                () = stop.asked() => return Err(Failure::Interrupted),
            };
            if how.json {
                return output.json(&model);
            }
            facts(&model).iter().try_for_each(|line| output.line(line))
        }
        Act::List => {
            let view = find(core, output, stop).await?;
            if how.json {
                return output.json(&view);
            }
            if !view.on {
                output.news("Community models are off, and none is listed.");
                output.news("next: `decentralgpt models community --on` lists what peers offer that is not in your catalogue.");
                return Ok(());
            }
            list(&view).iter().try_for_each(|line| output.line(line))?;
            if !view.rows.is_empty() {
                output.news(NOT_KNOWN);
            }
            Ok(())
        }
    }
}

async fn switch(core: &Core, on: bool, output: &mut Output) -> Result<(), Failure> {
    let settings = core.client.settings_get().await?;
    let settings = Settings {
        community_models: on,
        ..settings
    };
    core.client.settings_set(settings).await?;
    output.news(match on {
        true => {
            "Community models are listed from now on. None is asked for unless a chat names it."
        }
        false => "Community models are listed no longer. Chats that name one go on.",
    });
    Ok(())
}

/// The list, after providers were looked for.
async fn find(core: &Core, output: &mut Output, stop: &Stop) -> Result<CommunityView, Failure> {
    let mut view = core.client.community_list().await?;
    if !view.on {
        return Ok(view);
    }
    core.client.community_search().await?;
    output.progress("looking for peers");
    let mut quiet = Duration::ZERO;
    loop {
        let now = core.client.community_list().await?;
        quiet = match now.rows == view.rows {
            true => quiet + LOOK,
            false => LOOK,
        };
        let over = !now.searching || quiet >= QUIET;
        view = now;
        if over {
            return Ok(view);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.asked() => return Err(Failure::Interrupted),
        }
    }
}

fn list(view: &CommunityView) -> Vec<String> {
    if view.rows.is_empty() {
        return vec![
            "No peer that is at hand offers a model that is not in your catalogue.".to_owned(),
        ];
    }
    let mut rows = vec![
        [
            "ID",
            "PEERS",
            "CONTEXT",
            "ASKS",
            "SAID QUANT",
            "SAID SPEED",
            "CALLS ITSELF",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    rows.extend(view.rows.iter().map(|model| {
        vec![
            model.id.clone(),
            model.peers.to_string(),
            model.context_max.to_string(),
            asks(model),
            or_nothing(model.quants.join(", ")),
            speed(model),
            own_name(model).unwrap_or("not looked at").to_owned(),
        ]
    }));
    let mut lines = words::columns(&rows);
    if view.left_out > 0 {
        lines.push(format!("{} more are not listed.", view.left_out));
    }
    lines
}

/// One of them, fact by fact.
fn facts(model: &CommunityModel) -> Vec<String> {
    let mut rows = vec![("id", model.id.clone())];
    match &model.says {
        Some(says) => rows.extend([
            (
                "calls itself",
                format!(
                    "{} (its file's own word, not checked)",
                    or_nothing(says.name.clone())
                ),
            ),
            ("architecture", or_nothing(says.architecture.clone())),
            ("weights", or_nothing(says.parameters.clone())),
            ("quantisation", or_nothing(says.quant.clone())),
            ("trained context", says.context.to_string()),
            (
                "this engine",
                runs(says.runs_here, says.takes_chat).to_owned(),
            ),
        ]),
        None => rows.push(("calls itself", "not looked at".to_owned())),
    }
    rows.extend([
        (
            "peers",
            format!("{}, {} connected", model.peers, model.connected),
        ),
        (
            "they serve",
            format!("{} tokens of context", model.context_max),
        ),
        ("they ask", asks(model)),
        (
            "they say",
            format!("{}, {}", or_nothing(model.quants.join(", ")), speed(model)),
        ),
        ("who made it", "not known".to_owned()),
        ("licence", "not known".to_owned()),
        ("reviewed", "by nobody".to_owned()),
    ]);
    if model.heads > 1 {
        rows.push((
            "disagreement",
            format!(
                "peers name {} different descriptions for this one file: some are wrong",
                model.heads
            ),
        ));
    }
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    words::columns(&rows)
}

fn runs(runs_here: bool, takes_chat: bool) -> &'static str {
    match (runs_here, takes_chat) {
        (true, true) => "knows its architecture",
        (false, true) => "does not know its architecture: a peer may",
        (_, false) => "writes no chat to it: its file does not say how",
    }
}

fn own_name(model: &CommunityModel) -> Option<&str> {
    let says = model.says.as_ref()?;
    Some(says.name.as_str()).map(|name| if name.is_empty() { "no name" } else { name })
}

fn asks(model: &CommunityModel) -> String {
    let prices = &model.prices;
    match (model.peers - model.peers.min(prices.free), prices.free) {
        (0, _) => "nothing".to_owned(),
        (_, 0) => format!(
            "{} to {} per million written",
            prices.output_low, prices.output_high
        ),
        (_, _) => format!("nothing to {} per million written", prices.output_high),
    }
}

fn speed(model: &CommunityModel) -> String {
    model.speed.map_or_else(
        || "no speed".to_owned(),
        |speed| match speed.low == speed.high {
            true => format!("{} tokens/s", speed.low),
            false => format!("{} to {} tokens/s", speed.low, speed.high),
        },
    )
}

fn or_nothing(text: String) -> String {
    match text.is_empty() {
        true => "-".to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use node::{CommunityPrices, HeadSays, SpeedRange};

    use super::*;

    fn model(says: Option<HeadSays>, heads: u32) -> CommunityModel {
        CommunityModel {
            id: "sha256:12".to_owned(),
            name: "model 12".to_owned(),
            digest: "12".to_owned(),
            peers: 3,
            connected: 1,
            context_max: 2048,
            prices: CommunityPrices {
                input_low: "0".to_owned(),
                input_high: "7".to_owned(),
                output_low: "0".to_owned(),
                output_high: "9".to_owned(),
                free: 1,
            },
            quants: vec!["Q4_1".to_owned()],
            speed: Some(SpeedRange { low: 3, high: 9 }),
            heads,
            head_bytes: 1000,
            says,
        }
    }

    #[test]
    fn what_is_not_known_stands_beside_what_is_said() {
        let says = HeadSays {
            name: "Best Model".to_owned(),
            architecture: "llama".to_owned(),
            parameters: "135M".to_owned(),
            quant: "Q4_1".to_owned(),
            context: 8192,
            runs_here: true,
            takes_chat: true,
        };
        let text = facts(&model(Some(says), 2)).join("\n");
        for part in [
            "Best Model (its file's own word",
            "licence",
            "not known",
            "by nobody",
            "2 different",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_list_says_what_peers_ask_and_what_was_not_looked_at() {
        let view = CommunityView {
            on: true,
            searching: false,
            rows: vec![model(None, 1)],
            left_out: 4,
        };
        let text = list(&view).join("\n");
        for part in [
            "sha256:12",
            "nothing to 9",
            "3 to 9 tokens/s",
            "not looked at",
            "4 more",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
