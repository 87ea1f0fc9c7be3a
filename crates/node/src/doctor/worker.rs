//! What computes: the worker's programs, devices, their meter, a model, and whether it all runs.

use engine::{
    WorkerKind,
    adapters::{Adapter, AdapterKind, Device},
};

use super::{Check, CheckState, bytes};
use crate::{
    energy::{self, MeterKind, MeterView},
    error::{NodeError, sentence},
    node::Inner,
};

pub(super) fn engine_program(inner: &Inner) -> Check {
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
pub(super) async fn devices(inner: &Inner, found: bool) -> (Vec<Check>, Option<Device>) {
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
pub(super) async fn meter(inner: &Inner, device: Option<Device>) -> Check {
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
            ..Check::pass(
                name,
                format!("{detail} Your own figure in watts stands in."),
            )
        },
        (MeterKind::Metered | MeterKind::None, Some(fix)) => Check::warn(name, detail, fix),
        (MeterKind::None, None) => Check {
            fix: Some("To see what answering costs, say how many watts it takes more.".to_owned()),
            ..Check::skip(name, detail).by("decentralgpt electricity --watts W")
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

pub(super) fn model(inner: &Inner) -> Check {
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
            "Download it under Models, or add a GGUF file.",
        )
        .by("decentralgpt models pull ID"),
        None => Check::fail(
            name,
            "There is no model on this computer.",
            "Download one under Models, or add a GGUF file.",
        )
        .by("decentralgpt models pull ID"),
    }
}

pub(super) async fn engine_runs(inner: &Inner, found: bool) -> [Check; 2] {
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
            let view = NodeError::from(error).view();
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(none.command.unwrap().contains("--watts"));
    }
}
