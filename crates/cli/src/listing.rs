//! Models, peers, checks and the node's state, as text.

use node::{
    Check, CheckState, FitKind, LogLine, ModelRow, ModelState, ModelsView, NodeStatus, Peer,
    PeerChoice, PeerRecord, ServingState,
    energy::{MeterKind, MeterView},
};

use crate::{earnings::watts, words};

pub(crate) fn models(view: &ModelsView) -> Vec<String> {
    let mut rows = vec![
        ["ID", "SIZE", "THIS COMPUTER", "STATE", "LICENCE", "NAME"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(view.rows.iter().map(|row| {
        vec![
            row.id.clone(),
            words::bytes(row.size_bytes),
            fit(row.fit.kind).to_owned(),
            state(row),
            row.licence.clone(),
            if row.is_default {
                format!("{} (default)", row.name)
            } else {
                row.name.clone()
            },
        ]
    }));
    let mut lines = words::columns(&rows);
    lines.push(String::new());
    lines.push(format!(
        "{} used in {}, {} free · {}",
        words::bytes(view.folder.used_bytes),
        view.folder.path,
        words::bytes(view.folder.free_bytes),
        view.computer
    ));
    lines
}

fn fit(kind: FitKind) -> &'static str {
    match kind {
        FitKind::Fits => "fits",
        FitKind::Tight => "fits barely",
        FitKind::TooLarge => "too large",
        FitKind::Unknown => "unknown",
    }
}

pub(crate) fn state(row: &ModelRow) -> String {
    match &row.state {
        ModelState::Absent if row.peers > 0 => format!("not here, {} peers have it", row.peers),
        ModelState::Absent => "not here".to_owned(),
        ModelState::Downloading {
            done,
            total,
            bytes_per_second,
            seconds_left,
            source,
        } => {
            let left = seconds_left
                .map(|left| format!(", {} left", words::seconds(left)))
                .unwrap_or_default();
            format!(
                "{} of {} from {source}, {}/s{left}",
                words::bytes(*done),
                words::bytes(*total),
                words::bytes(*bytes_per_second)
            )
        }
        ModelState::Verifying { done, total } => format!(
            "checking {} of {}",
            words::bytes(*done),
            words::bytes(*total)
        ),
        ModelState::Paused { done, total } => format!(
            "paused at {} of {}",
            words::bytes(*done),
            words::bytes(*total)
        ),
        ModelState::Failed { error, .. } => format!("failed: {}", error.message),
        ModelState::Ready { loaded: true, .. } => "ready, in memory".to_owned(),
        ModelState::Ready { loaded: false, .. } => "ready".to_owned(),
    }
}

pub(crate) fn peers(peers: &[Peer]) -> Vec<String> {
    if peers.is_empty() {
        return vec![
            "No peer is connected. `decentralgpt peers connect ADDRESS` connects one.".to_owned(),
        ];
    }
    let mut rows = vec![
        [
            "PEER",
            "FOR",
            "PATH",
            "ROUND TRIP",
            "MEASURED",
            "OFFERS",
            "ADDRESS",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    rows.extend(peers.iter().map(|peer| {
        vec![
            if peer.blocked {
                format!("{} (blocked)", peer.id)
            } else {
                peer.id.clone()
            },
            purpose(peer).to_owned(),
            match (peer.address.is_empty(), peer.relayed) {
                (true, _) => "-",
                (false, true) => "relay",
                (false, false) => "direct",
            }
            .to_owned(),
            peer.rtt_ms
                .map(|rtt| format!("{rtt:.0} ms"))
                .unwrap_or_else(|| "-".to_owned()),
            peer.record.map_or_else(|| "-".to_owned(), measured),
            offers(peer),
            peer.address.clone(),
        ]
    }));
    words::columns(&rows)
}

/// What a peer offers: by name what is in the list of models, and how many more.
fn offers(peer: &Peer) -> String {
    let more = (peer.unlisted > 0).then(|| format!("{} not in your catalogue", peer.unlisted));
    let offers: Vec<String> = peer.models.iter().cloned().chain(more).collect();
    match offers.is_empty() {
        true => "-".to_owned(),
        false => offers.join(", "),
    }
}

/// What a peer is connected for, in the words of the log.
fn purpose(peer: &Peer) -> &'static str {
    match (peer.asked, peer.asks) {
        (true, true) => "asking, serving",
        (true, false) => "asking",
        (false, true) => "serving",
        (false, false) => "-",
    }
}

/// What was seen of a peer that was asked.
fn measured(record: PeerRecord) -> String {
    let speed = record.tokens_per_second;
    let speed = speed.map_or_else(|| "-".to_owned(), |speed| format!("{speed:.1} tokens/s"));
    format!("{speed}, {} jobs, {} failed", record.jobs, record.failed)
}

/// `now_ms`: milliseconds since 1970.
pub(crate) fn choices(choices: &[PeerChoice]) -> Vec<String> {
    if choices.is_empty() {
        return vec!["No peer that offers this model is known yet.".to_owned()];
    }
    let number = |value: Option<f64>, unit: &str| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0} {unit}"))
    };
    let mut rows = vec![
        [
            "PEER",
            "ASKED FIRST",
            "FIRST TOKEN",
            "SPEED",
            "GOES WELL",
            "SAYS IT IS IN",
            "NOT TAKEN BECAUSE",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    rows.extend(choices.iter().map(|choice| {
        vec![
            choice.id.clone(),
            format!("{:.0} %", choice.chance * 100.0),
            number(choice.first_token_ms, "ms"),
            number(choice.tokens_per_second, "tokens/s"),
            format!("{:.0} %", choice.reliability * 100.0),
            choice.region.clone().unwrap_or_else(|| "-".to_owned()),
            choice.not_taken.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    }));
    words::columns(&rows)
}

pub(crate) fn log(lines: &[LogLine], now_ms: u64) -> Vec<String> {
    if lines.is_empty() {
        return vec!["Nothing happened to connections since the node started.".to_owned()];
    }
    let mut rows = vec![["WHEN", "SIDE", "PEER", "WHAT"].map(str::to_owned).to_vec()];
    rows.extend(lines.iter().map(|line| {
        vec![
            format!(
                "{} ago",
                words::seconds(now_ms.saturating_sub(line.at_ms) / 1000)
            ),
            if line.serving { "serving" } else { "asking" }.to_owned(),
            line.peer.clone().unwrap_or_else(|| "-".to_owned()),
            line.text.clone(),
        ]
    }));
    words::columns(&rows)
}

pub(crate) fn checks(checks: &[Check]) -> Vec<String> {
    let mut lines = Vec::new();
    for check in checks {
        let sign = match check.state {
            CheckState::Pass => "ok",
            CheckState::Fail => "FAIL",
            CheckState::Warn => "warn",
            CheckState::Skip => "skip",
        };
        lines.push(format!("{sign:<5} {}: {}", check.name, check.detail));
        lines.extend(check.fix.iter().map(|fix| format!("      next: {fix}")));
        lines.extend(
            check
                .command
                .iter()
                .map(|command| format!("      by:   {command}")),
        );
    }
    lines
}

pub(crate) fn status(status: &NodeStatus) -> Vec<String> {
    let mut lines = vec![
        format!("state      {}", serving(&status.serving)),
        format!("peer id    {}", status.peer_id),
        format!("data       {}", status.data_folder),
        format!("version    {}", status.version),
        format!(
            "peers      {} connected",
            status.peers.iter().filter(|peer| !peer.blocked).count()
        ),
        format!(
            "today      {} answers for others, {} tokens",
            status.answered_today, status.tokens_today
        ),
    ];
    if !status.offered.is_empty() {
        lines.push(format!("offers     {}", status.offered.join(", ")));
    }
    lines.extend(
        status
            .not_offered
            .iter()
            .map(|model| format!("not offered {}: {}", model.model, model.why)),
    );
    lines.extend(
        status
            .listening
            .iter()
            .map(|address| format!("listens    {address}")),
    );
    if status.engine.memory_bytes > 0 {
        let model = status.engine.model.as_deref().unwrap_or("no model");
        lines.push(format!(
            "worker     {model}, {} of memory",
            words::bytes(status.engine.memory_bytes)
        ));
    }
    lines.push(format!("power      {}", power(&status.meter)));
    lines.extend(
        status
            .off_ms
            .map(|took| format!("last off   took {took} ms")),
    );
    lines
}

fn power(meter: &MeterView) -> String {
    match (meter.kind, meter.now_mw) {
        (_, None) => "not measured".to_owned(),
        (MeterKind::Stated, Some(now)) => {
            format!("{} more than idle, by your own figure", watts(now))
        }
        (MeterKind::Metered | MeterKind::None, Some(now)) => watts(now),
    }
}

/// The node's state in the words of the window.
pub(crate) fn serving(state: &ServingState) -> String {
    match state {
        ServingState::Off => "off".to_owned(),
        ServingState::Preparing { step, done, total } => {
            let share = (done * 100)
                .checked_div(*total)
                .map(|percent| format!(" {percent}%"))
                .unwrap_or_default();
            format!("preparing: {step}{share}")
        }
        ServingState::Waiting { .. } => "ready; no requests".to_owned(),
        ServingState::Serving {
            jobs,
            tokens_per_second,
        } => {
            let speed = tokens_per_second
                .map(|speed| format!(", {speed:.1} tokens/s"))
                .unwrap_or_default();
            format!(
                "answering {jobs} {}{speed}",
                if *jobs == 1 { "request" } else { "requests" }
            )
        }
        ServingState::PausedByYou { until_ms: Some(_) } => "paused by you, for a while".to_owned(),
        ServingState::PausedByYou { until_ms: None } => "paused by you".to_owned(),
        ServingState::PausedOwnWork => "your own answer goes first".to_owned(),
        ServingState::Attention { error } => format!("needs you: {error}"),
        ServingState::NetworkProblem { error, .. } => format!("network trouble: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_is_not_plural() {
        assert_eq!(
            serving(&ServingState::Serving {
                jobs: 1,
                tokens_per_second: Some(12.34)
            }),
            "answering 1 request, 12.3 tokens/s"
        );
    }
}
