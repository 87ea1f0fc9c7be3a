//! Is everything in order? Checks in the order in which one depends on the other, each with its fix.

mod network;

use std::path::Path;

use engine::{
    WorkerKind,
    adapters::{Adapter, AdapterKind, Device},
};
use serde::{Deserialize, Serialize};

use crate::{
    clock,
    data::{self, AtomicWrite},
    energy::{self, MeterKind, MeterView},
    error::{NodeError, sentence},
    node::{Inner, Node},
    status::{ReachKind, Reachability, ServingState, SourceView},
};

/// Less than this on the data folder's disk, and chats are about to be lost.
const DISK_FAIL: u64 = 64 * 1024 * 1024;

/// Less than this, and the next model does not fit.
const DISK_WARN: u64 = 2 * 1024 * 1024 * 1024;

/// Clocks that differ by less are as good as equal for what is signed.
const CLOCK_BACK_MS: u64 = 2 * 60 * 1000;

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// In order.
    Pass,
    /// Broken: something does not work because of it.
    Fail,
    /// It works, and could be better.
    Warn,
    /// Not looked at, because of what was found before or because it is switched off.
    Skip,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// What was found.
    pub state: CheckState,
    /// The facts.
    pub detail: String,
    /// What to do, when something is to be done.
    pub fix: Option<String>,
    /// What this program can do about it, where a person says so.
    pub act: Option<CheckAct>,
}

/// What a button beside a check does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckAct {
    /// [`Node::forget_clock`].
    ForgetClock,
}

impl Check {
    fn new(name: &str, state: CheckState, detail: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            state,
            detail: detail.into(),
            fix: None,
            act: None,
        }
    }

    fn pass(name: &str, detail: impl Into<String>) -> Self {
        Self::new(name, CheckState::Pass, detail)
    }

    fn skip(name: &str, detail: impl Into<String>) -> Self {
        Self::new(name, CheckState::Skip, detail)
    }

    fn warn(name: &str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            fix: Some(fix.into()),
            ..Self::new(name, CheckState::Warn, detail)
        }
    }

    fn fail(name: &str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            fix: Some(fix.into()),
            ..Self::new(name, CheckState::Fail, detail)
        }
    }
}

impl Node {
    /// Checks everything, in the order in which one thing depends on the other. Starts the engine's worker.
    pub async fn doctor(&self) -> Vec<Check> {
        let inner = &self.inner;
        let root = inner.data.root().to_owned();
        let mut checks = tokio::task::spawn_blocking(move || vec![data_folder(&root), disk(&root)])
            .await
            .unwrap_or_default();
        checks.push(identity(inner));
        checks.push(settings(inner).await);
        let program = engine_program(inner);
        let found = program.state != CheckState::Fail;
        checks.push(program);
        let (graphics, device) = devices(inner, found).await;
        checks.extend(graphics);
        checks.push(meter(inner, device).await);
        checks.push(model(inner));
        checks.extend(engine_runs(inner, found).await);
        checks.push(listening(inner).await);
        checks.push(offered(inner));
        checks.push(peers(inner));
        let status = self.node_status();
        checks.push(reached(&status.reach));
        checks.extend(network::line(inner, status.reach.kind));
        checks.extend(status.sources.iter().map(source));
        checks.push(clock(inner).await);
        checks
    }

    /// Starts the clock of the list of jobs over, where it is ahead of this computer's: then it was once set wrong, and every job of
    /// others looks expired.
    ///
    /// What is given up: for ten minutes a job that was answered before could be asked again. None is taken for money until then; one
    /// that costs nothing may be computed twice.
    ///
    /// # Errors
    /// [`NodeError::ClockInOrder`] where there is nothing to forget, [`NodeError::ClockWrong`] where the network of money says that this
    /// computer's clock is the wrong one, [`NodeError::Ledger`].
    pub async fn forget_clock(&self) -> Result<(), NodeError> {
        let inner = &self.inner;
        let now_ms = clock::unix_ms();
        let highest_ms = inner.ledger.highest_clock_ms().await?;
        if highest_ms.saturating_sub(now_ms) <= CLOCK_BACK_MS {
            return Err(NodeError::ClockInOrder);
        }
        let chain_ms = inner.money.chain_time_ms().unwrap_or(0);
        let behind_ms = chain_ms.saturating_sub(now_ms);
        if behind_ms > CLOCK_BACK_MS {
            return Err(NodeError::ClockWrong {
                minutes: behind_ms / 60_000,
            });
        }
        inner.ledger.forget_clock(now_ms).await?;
        if let Some(till) = inner.money.till() {
            till.guarded_since(now_ms);
        }
        Ok(())
    }
}

fn data_folder(root: &Path) -> Check {
    let name = "Data folder";
    let probe = root.join("doctor.probe");
    let written = data::write_atomically(&probe, b"probe", AtomicWrite::Secret);
    // Left behind it is replaced by the next one.
    let _ = std::fs::remove_file(&probe);
    if let Err(error) = written {
        return Check::fail(
            name,
            format!("{} cannot be written: {error}.", root.display()),
            "Give yourself the right to write there, or choose another folder with --data.",
        );
    }
    match open_to_others(root) {
        Some(mode) => Check::warn(
            name,
            format!(
                "{} is open to others on this computer (mode {mode:03o}).",
                root.display()
            ),
            format!("Run `chmod 700 {}`.", root.display()),
        ),
        None => Check::pass(name, format!("{} can be written.", root.display())),
    }
}

/// The folder's mode, where others may look into it: one that the program made is its owner's alone.
#[cfg(unix)]
fn open_to_others(root: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(root).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

/// Windows: the profile folder's access list already names the owner alone.
#[cfg(not(unix))]
fn open_to_others(_root: &Path) -> Option<u32> {
    None
}

fn disk(root: &Path) -> Check {
    let name = "Disk";
    match fs4::available_space(root) {
        Ok(free) if free < DISK_FAIL => Check::fail(
            name,
            format!("{} are free.", bytes(free)),
            "Free some space: chats can no longer be saved.",
        ),
        Ok(free) if free < DISK_WARN => Check::warn(
            name,
            format!("{} are free.", bytes(free)),
            "Free some space before you download another model.",
        ),
        Ok(free) => Check::pass(name, format!("{} are free.", bytes(free))),
        Err(error) => Check::warn(
            name,
            format!("The free space is not known: {error}."),
            "Check the disk.",
        ),
    }
}

fn identity(inner: &Inner) -> Check {
    let name = "Identity";
    match &inner.identity_problem {
        None => Check::pass(name, format!("This node is {}.", inner.identity.peer_id())),
        Some(problem) => Check {
            fix: problem.fix.clone(),
            ..Check::new(name, CheckState::Fail, problem.message.clone())
        },
    }
}

async fn settings(inner: &Inner) -> Check {
    let name = "Settings";
    if let Some(problem) = inner
        .notices
        .iter()
        .find(|notice| notice.code.starts_with("settings"))
    {
        return Check {
            fix: problem.fix.clone(),
            ..Check::new(name, CheckState::Warn, problem.message.clone())
        };
    }
    let unknown = inner.settings_file.lock().await.unknown_keys();
    match unknown.is_empty() {
        true => Check::pass(name, "The settings are in order."),
        false => Check::warn(
            name,
            format!(
                "The settings file has keys that this version does not know: {}.",
                unknown.join(", ")
            ),
            "Correct their spelling, or leave them for another version: they are kept.",
        ),
    }
}

fn engine_program(inner: &Inner) -> Check {
    let name = "Engine program";
    match engine::locate_worker(&inner.worker_dirs) {
        Ok(program) => Check::pass(name, format!("{}.", program.display())),
        Err(error) => Check::fail(
            name,
            sentence(&error),
            "Install the program again: a part of it is missing.",
        ),
    }
}

/// The adapters with their memory, drivers that failed, and which device computes and why; and that device, where one does.
async fn devices(inner: &Inner, found: bool) -> (Vec<Check>, Option<Device>) {
    let (graphics, computes) = ("Graphics", "Device");
    if !found {
        let check = Check::skip(graphics, "The engine's program was not found.");
        return (vec![check], None);
    }
    let survey = match crate::devices::survey(inner).await {
        Ok(survey) => survey,
        Err(error) => {
            let fix = "Install the program again: a part of it is missing.";
            return (vec![Check::fail(graphics, sentence(&error), fix)], None);
        }
    };
    let device = survey.device();
    let inventory = &survey.inventory;
    let mut checks: Vec<Check> = inventory
        .adapters
        .iter()
        .map(|adapter| Check::pass(graphics, adapter_line(adapter)))
        .collect();
    checks.extend(inventory.failed.iter().map(|(source, why)| {
        Check::warn(
            graphics,
            format!("{} failed: {why}.", source.as_str()),
            "Install or update the driver of the graphics card.",
        )
    }));
    if checks.is_empty() {
        checks.push(Check::pass(graphics, "No graphics adapter was found."));
    }
    let refused = survey
        .workers
        .iter()
        .any(|worker| worker.program.kind != WorkerKind::Processor && worker.greeting.is_err());
    checks.push(if survey.choice.candidate.is_none() {
        let why = survey
            .workers
            .iter()
            .find_map(|worker| worker.greeting.as_ref().err());
        let reason = why.map_or(survey.choice.reason, String::clone);
        let fix = "Install the program again: its parts do not belong together.";
        Check::fail(computes, format!("No worker runs: {reason}."), fix)
    } else if refused {
        let fix =
            "Install or update the driver of the graphics card; until then the processor computes.";
        Check::warn(computes, survey.choice.reason, fix)
    } else {
        Check::pass(computes, survey.choice.reason)
    });
    (checks, device)
}

/// Which meter counts what computes, or why none does. One is asked also while nothing is lent.
async fn meter(inner: &Inner, device: Option<Device>) -> Check {
    let name = "Power meter";
    let Some(device) = device else {
        return Check::skip(name, "Nothing computes here.");
    };
    metered(name, energy::probe(inner, &device).await)
}

fn metered(name: &str, meter: MeterView) -> Check {
    let MeterView {
        kind, detail, fix, ..
    } = meter;
    match (kind, fix) {
        (MeterKind::Metered, None) => Check::pass(name, detail),
        (MeterKind::Stated, fix) => Check {
            fix,
            ..Check::pass(name, format!("{detail} Your own figure in watts stands in."))
        },
        (MeterKind::Metered | MeterKind::None, Some(fix)) => Check::warn(name, detail, fix),
        (MeterKind::None, None) => Check {
            fix: Some(
                "To see what answering costs, say how many watts it takes more: `decentralgpt electricity --watts W`."
                    .to_owned(),
            ),
            ..Check::skip(name, detail)
        },
    }
}

fn adapter_line(adapter: &Adapter) -> String {
    let mut line = adapter.name.clone();
    match adapter.kind {
        AdapterKind::Software => {
            line += ": software that computes on the processor, never used for answers";
        }
        AdapterKind::Integrated => line += ": shares the computer's memory",
        AdapterKind::Discrete | AdapterKind::Virtual | AdapterKind::Unknown => {}
    }
    if let Some((memory, source)) = &adapter.memory
        && adapter.can_serve()
    {
        line += &format!(", {} of memory", bytes(memory.total));
        if let Some(free) = memory.free {
            line += &format!(", {} free", bytes(free));
        }
        line += &format!(" ({})", source.as_str());
    }
    line + "."
}

fn model(inner: &Inner) -> Check {
    let name = "Model";
    match inner.preferred_model(None) {
        Some(model) if model.file.is_some() => match model.reference {
            Some(reference) => {
                let digest = reference.digest.to_string();
                Check::pass(
                    name,
                    format!("{} is here, SHA-256 {}….", model.name, &digest[..16]),
                )
            }
            None => Check::warn(
                name,
                format!("{} is here; its digest is not known yet.", model.name),
                "Wait until it has been read once: then it can be offered to others, too.",
            ),
        },
        Some(model) => Check::fail(
            name,
            format!("{} is not on this computer.", model.name),
            "Download it under Models (`decentralgpt models pull`), or add a GGUF file.",
        ),
        None => Check::fail(
            name,
            "There is no model on this computer.",
            "Download one under Models, or add a GGUF file.",
        ),
    }
}

async fn engine_runs(inner: &Inner, found: bool) -> [Check; 2] {
    let (runs, confined) = ("Engine", "Isolation");
    let skipped = |why: &str| [Check::skip(runs, why), Check::skip(confined, why)];
    if !found {
        return skipped("Its program was not found.");
    }
    let Some(file) = inner.models.all().into_iter().find_map(|model| model.file) else {
        return skipped("There is no model to open.");
    };
    let started = match inner.engine.open_text(&file).await {
        Ok(info) => Check::pass(
            runs,
            format!(
                "It starts, and reads {} ({}, {} tokens).",
                info.name, info.quant, info.vocab_size
            ),
        ),
        Err(error) => {
            let view = crate::error::NodeError::from(error).view();
            let failed = Check {
                fix: view.fix,
                ..Check::new(runs, CheckState::Fail, view.message)
            };
            return [failed, Check::skip(confined, "The engine does not run.")];
        }
    };
    let measured = inner.engine.stats().borrow().isolation;
    let isolated = match (measured.network, measured.files) {
        (true, true) => Check::pass(
            confined,
            "The engine tried the network and foreign files, and was refused both.",
        ),
        (network, files) => Check::warn(
            confined,
            format!(
                "The engine measured: network {}, foreign files {}.",
                if network { "refused" } else { "open" },
                if files { "refused" } else { "open" }
            ),
            "This system cannot confine the engine fully. Use only models from sources that you trust.",
        ),
    };
    [started, isolated]
}

async fn listening(inner: &Inner) -> Check {
    let name = "Listening";
    if matches!(inner.serving.view().borrow().state, ServingState::Off) {
        return Check::skip(
            name,
            "The node is off: nothing listens, and others cannot connect.",
        );
    }
    let addresses = inner.serving.network_status().borrow().listening.clone();
    if addresses.is_empty() {
        return Check::fail(
            name,
            "No listening address could be opened.",
            "Check the listening addresses in the settings: port 0 takes any free one.",
        );
    }
    if let Some(address) = addresses.iter().find_map(|address| tcp_address(address))
        && let Err(error) = tokio::net::TcpStream::connect(address).await
    {
        return Check::warn(
            name,
            format!("{address} does not answer on this computer: {error}."),
            "A firewall on this computer may be in the way.",
        );
    }
    Check::pass(
        name,
        format!(
            "{}. Whether it is reached from outside shows when a peer connects.",
            addresses.join(", ")
        ),
    )
}

/// The socket of a multiaddr like /ip4/127.0.0.1/tcp/4001/p2p/….
fn tcp_address(address: &str) -> Option<std::net::SocketAddr> {
    let mut parts = address.split('/').skip(1);
    let ip = match parts.next()? {
        "ip4" | "ip6" => parts.next()?.parse().ok()?,
        _ => return None,
    };
    let port = if parts.next()? == "tcp" {
        parts.next()?.parse().ok()?
    } else {
        return None;
    };
    Some(std::net::SocketAddr::new(ip, port))
}

fn offered(inner: &Inner) -> Check {
    let name = "Offers";
    let view = inner.serving.view().borrow().clone();
    match &view.state {
        ServingState::Off => Check::skip(name, "The node is off."),
        ServingState::Attention { error } | ServingState::NetworkProblem { error, .. } => Check {
            fix: error.fix.clone(),
            ..Check::new(name, CheckState::Fail, error.message.clone())
        },
        ServingState::PausedByYou { .. } => Check::skip(name, "You paused the node."),
        ServingState::Preparing { .. }
        | ServingState::Waiting { .. }
        | ServingState::Serving { .. }
        | ServingState::PausedOwnWork => {
            let names: Vec<&str> = view
                .served
                .iter()
                .map(|served| served.name.as_str())
                .collect();
            Check::pass(name, format!("Offered: {}.", names.join(", ")))
        }
    }
}

fn peers(inner: &Inner) -> Check {
    let name = "Peers";
    let session = inner.asking.now();
    let connected = session.network.status().borrow().peers.len();
    let known = inner.book().dialable().len();
    match (connected, known) {
        (0, 0) => Check::skip(
            name,
            "No peer is known yet. There are no built-in nodes: connect by an invite or an address.",
        ),
        (0, known) => Check::warn(
            name,
            format!("None of {known} known addresses is connected."),
            "Ask whether the nodes there are switched on, and check your own connection.",
        ),
        (connected, _) => Check::pass(name, format!("{connected} connected.")),
    }
}

fn reached(reach: &Reachability) -> Check {
    let name = "Reached by others";
    match reach.kind {
        ReachKind::Off | ReachKind::Unknown => Check::skip(name, &reach.text),
        ReachKind::Public => Check::pass(name, &reach.text),
        ReachKind::Relayed => Check::pass(name, format!("{} {}", reach.text, reach.upnp)),
        ReachKind::Unreachable => {
            let fix = reach.fixes.first();
            let fix = fix.map_or(
                "Connect to more peers: one of them may carry connections.",
                |fix| fix.text.as_str(),
            );
            Check::warn(name, format!("{} {}", reach.text, reach.upnp), fix)
        }
    }
}

/// One source of first peers: what it brought since the start.
fn source(source: &SourceView) -> Check {
    let name = format!("Found by: {}", source.name);
    match (&source.problem, source.found) {
        _ if !source.enabled => Check::skip(&name, "Off, or there is nothing to look at."),
        (_, found) if found > 0 => Check::pass(&name, format!("{found} met.")),
        (Some(problem), _) => Check::warn(
            &name,
            problem.clone(),
            "Any one source is enough: the others go on.",
        ),
        (None, _) => Check::skip(&name, "Nobody met there yet."),
    }
}

async fn clock(inner: &Inner) -> Check {
    let name = "Clock";
    match inner.ledger.highest_clock_ms().await {
        Ok(highest) => {
            let behind = highest.saturating_sub(clock::unix_ms());
            if behind > CLOCK_BACK_MS {
                let detail = format!(
                    "This computer's clock is {} minutes behind what it once was.",
                    behind / 60_000
                );
                let fix = "Set the clock: signed offers and jobs carry times, and are refused when they are wrong. Where it is right now, and was once ahead: `decentralgpt doctor --forget-clock`.";
                Check {
                    act: Some(CheckAct::ForgetClock),
                    ..Check::fail(name, detail, fix)
                }
            } else {
                Check::pass(name, "The clock has not gone back.")
            }
        }
        Err(error) => Check::warn(name, sentence(&error), "Start the program again."),
    }
}

fn bytes(bytes: u64) -> String {
    // A size for reading: one decimal is enough.
    format!("{:.1} GB", bytes as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_can_look_into_is_a_warning() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let checked = |mode| {
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            data_folder(folder.path())
        };
        assert_eq!(checked(0o700).state, CheckState::Pass);
        let check = checked(0o755);
        assert_eq!(check.state, CheckState::Warn);
        assert!(check.detail.contains("755"), "{}", check.detail);
    }

    #[test]
    fn a_meter_is_named_and_so_is_why_there_is_none() {
        let of = |kind, fix: Option<&str>| {
            metered(
                "Power meter",
                MeterView {
                    kind,
                    detail: "What there is.".to_owned(),
                    fix: fix.map(str::to_owned),
                    ..MeterView::default()
                },
            )
        };
        assert_eq!(of(MeterKind::Metered, None).state, CheckState::Pass);
        let in_part = of(MeterKind::Metered, Some("Unlock it."));
        assert_eq!(in_part.state, CheckState::Warn);
        let stated = of(MeterKind::Stated, Some("Unlock it."));
        assert_eq!(stated.state, CheckState::Pass);
        assert!(stated.detail.contains("own figure"));
        assert_eq!(stated.fix.as_deref(), Some("Unlock it."));
        let locked = of(MeterKind::None, Some("Unlock it."));
        assert_eq!(locked.state, CheckState::Warn);
        let none = of(MeterKind::None, None);
        assert_eq!(none.state, CheckState::Skip);
        assert!(none.fix.unwrap().contains("--watts"));
    }

    #[test]
    fn sockets_of_addresses() {
        assert_eq!(
            tcp_address("/ip4/127.0.0.1/tcp/4001/p2p/x"),
            "127.0.0.1:4001".parse().ok()
        );
        assert_eq!(tcp_address("/ip6/::1/tcp/1"), "[::1]:1".parse().ok());
        assert_eq!(tcp_address("/ip4/127.0.0.1/udp/4001/quic-v1"), None);
        assert_eq!(tcp_address(""), None);
    }
}
