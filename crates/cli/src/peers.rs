//! `peers`: who is connected, and with whom to connect.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{
    arguments::{Listing, Peers},
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
    match command {
        Peers::List(how) => list(core, how, output).await,
        Peers::Connect { address, listing } => {
            output.progress("connecting");
            let connecting = core.client.peers_connect(&address);
            let peer = tokio::select! {
                peer = connecting => peer?,
                () = stop.asked() => return Err(Failure::Interrupted),
            };
            if listing.json {
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
        Peers::Invite(how) => {
            let invite = core.client.peers_invite().await?;
            if how.json {
                return output.json(&invite);
            }
            output.line(&invite.text)?;
            // Through a pipe, the text is all that is wanted.
            match node::qr_text(&invite.text) {
                Some(code) if output.answer_is_watched => output.line(&code),
                Some(_) | None => Ok(()),
            }
        }
        Peers::Compare { model, listing } => {
            let choices = core.client.peers_compare(model.as_deref()).await?;
            if listing.json {
                return output.json(&choices);
            }
            listing::choices(&choices)
                .iter()
                .try_for_each(|line| output.line(line))
        }
        Peers::NewName => {
            core.client.peers_new_name().await?;
            output.news("Peers are asked under another name from now on. Answers that are being written keep the old one.");
            Ok(())
        }
        Peers::ForgetRecords => {
            core.client.peers_forget_records().await?;
            output.news("What was measured of peers is forgotten.");
            Ok(())
        }
        Peers::Woke => {
            core.client.peers_woke().await?;
            output.news("All connections begin anew.");
            Ok(())
        }
        Peers::Log(how) => {
            let log = core.client.peers_log().await?;
            if how.json {
                return output.json(&log);
            }
            listing::log(&log, now_ms())
                .iter()
                .try_for_each(|line| output.line(line))
        }
        Peers::Block { id, undo } => {
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

async fn list(core: &Core, how: Listing, output: &mut Output) -> Result<(), Failure> {
    let status = core.client.node_status().await?;
    if how.json {
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
