//! `peers`: who is connected, and with whom to connect.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{
    arguments::{Peers, PeersAct},
    core::Core,
    failure::Failure,
    listing,
    output::Output,
    stop::Stop,
};

pub(crate) async fn peers(
    core: &Core,
    command: Peers,
    output: &mut Output,
    stop: &Stop,
) -> Result<(), Failure> {
    let Peers { act, json } = command;
    match act.unwrap_or(PeersAct::List) {
        PeersAct::List => list(core, json, output).await,
        PeersAct::Connect { address } => {
            output.progress("connecting");
            let connecting = core.client.peers_connect(&address);
            let peer = tokio::select! {
                peer = connecting => peer?,
                () = stop.asked() => return Err(Failure::Interrupted),
            };
            if json {
                return output.json(&peer);
            }
            listing::peers(&[peer])
                .iter()
                .try_for_each(|line| output.line(line))?;
            if !core.attached() {
                output.news("The address is remembered. The connection ends with this command: no window or `serve` runs on this data folder.");
            }
            Ok(())
        }
        PeersAct::Invite => {
            let invite = core.client.peers_invite().await?;
            if json {
                return output.json(&invite);
            }
            output.line(&invite.text)?;
            // Through a pipe, the text is all that is wanted.
            match node::qr_text(&invite.text) {
                Some(code) if output.answer_is_watched => output.line(&code),
                Some(_) | None => Ok(()),
            }
        }
        PeersAct::Compare { model } => {
            let choices = core.client.peers_compare(model.as_deref()).await?;
            if json {
                return output.json(&choices);
            }
            listing::choices(&choices)
                .iter()
                .try_for_each(|line| output.line(line))
        }
        PeersAct::NewName => {
            core.client.peers_new_name().await?;
            output.news("Peers are asked under another name from now on. Answers that are being written keep the old one.");
            Ok(())
        }
        PeersAct::ForgetRecords => {
            core.client.peers_forget_records().await?;
            output.news("What was measured of peers is forgotten.");
            Ok(())
        }
        PeersAct::Woke => {
            core.client.peers_woke().await?;
            output.news("All connections begin anew.");
            Ok(())
        }
        PeersAct::Log => {
            let log = core.client.peers_log().await?;
            if json {
                return output.json(&log);
            }
            listing::log(&log, now_ms())
                .iter()
                .try_for_each(|line| output.line(line))
        }
        PeersAct::Block { id, undo } => {
            core.client.peers_block(&id, !undo).await?;
            output.news(if undo {
                "The peer may connect again."
            } else {
                "The peer is blocked."
            });
            Ok(())
        }
    }
}

async fn list(core: &Core, json: bool, output: &mut Output) -> Result<(), Failure> {
    let status = core.client.node_status().await?;
    if json {
        return output.json(&status.peers);
    }
    listing::peers(&status.peers)
        .iter()
        .try_for_each(|line| output.line(line))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
