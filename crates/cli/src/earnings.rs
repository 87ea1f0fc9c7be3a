//! `earnings` as a list, with what it took in energy, and `electricity`: the figures of the person's that this is reckoned with.

use std::time::Duration;

use node::{
    energy::{MeterKind, MeterView},
    money::{EarningView, EarningsBy, EnergyPart, EnergyView, settings::MoneySettings},
};
use serde_json::json;

use crate::{
    arguments::{ByArgument, Earnings, Electricity},
    core::Core,
    failure::Failure,
    money::{tokens, worth},
    output::Output,
    words::columns,
};

/// How long a command that was just started waits until the chosen network's file is open: without it no amount has a unit.
const OPENED: Duration = Duration::from_secs(5);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(50);

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// `electricity` tells of so many days, today the last of them.
const TOLD_DAYS: u64 = 30;

/// Lists what was earned, and all of it in a line.
pub(crate) async fn list(
    core: &Core,
    command: &Earnings,
    output: &mut Output,
) -> Result<(), Failure> {
    let by = match command.by {
        ByArgument::Job => EarningsBy::Job,
        ByArgument::Day => EarningsBy::Day,
        ByArgument::Model => EarningsBy::Model,
        ByArgument::Device => EarningsBy::Device,
        ByArgument::Total => EarningsBy::Total,
    };
    let unit = unit(core).await?;
    let before_today = u64::from(command.days.saturating_sub(1)) * DAY_MS;
    let from = midnight_ms().saturating_sub(before_today);
    let rows = core.client.earnings(from, u64::MAX, by).await?;
    if command.json {
        return output.json(&rows);
    }
    if rows.is_empty() {
        return output.line("Nothing was earned in this time.");
    }
    let currency = core.client.settings_get().await?.money.currency;
    let told: Vec<Vec<String>> = rows
        .iter()
        .map(|row| told(row, name(row), &unit, currency.as_deref()))
        .collect();
    columns(&told)
        .iter()
        .try_for_each(|line| output.line(line))?;
    if by == EarningsBy::Total {
        return Ok(());
    }
    let all = core
        .client
        .earnings(from, u64::MAX, EarningsBy::Total)
        .await?;
    all.iter().try_for_each(|row| {
        let cells = told_total(row, command.days, &unit, currency.as_deref());
        output.line(&cells)
    })
}

/// Shows the meter and the person's figures, and changes those that are given.
pub(crate) async fn electricity(
    core: &Core,
    command: Electricity,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut settings = core.client.settings_get().await?;
    let money = &mut settings.money;
    if command.forget {
        (money.tariff, money.worth, money.currency, money.watts) = (None, None, None, None);
    }
    let given = [
        (&mut money.tariff, command.tariff),
        (&mut money.worth, command.worth),
        (&mut money.watts, command.watts),
    ];
    let mut changes = command.forget;
    for (figure, given) in given {
        if given.is_some() {
            *figure = given;
            changes = true;
        }
    }
    if let Some(currency) = command.currency {
        money.currency = Some(currency);
        changes = true;
    }
    if changes {
        core.client.settings_set(settings.clone()).await?;
    }
    let meter = core.client.node_status().await?.meter;
    let from = midnight_ms().saturating_sub((TOLD_DAYS - 1) * DAY_MS);
    let used = core.client.energy_used(from, u64::MAX).await?;
    let money = settings.money;
    if command.json {
        return output.json(&json!({
            "meter": meter,
            "tariff": money.tariff,
            "worth": money.worth,
            "currency": money.currency,
            "watts": money.watts,
            "used": used,
        }));
    }
    let currency = money.currency.as_deref();
    figures(&meter, &money)
        .into_iter()
        .chain(told_used(&used, currency))
        .try_for_each(|line| output.line(&line))
}

/// What answers took, as far as it is known: a sentence for those that were paid, and one for those that were not.
fn told_used(used: &EnergyView, currency: Option<&str>) -> Vec<String> {
    let told = |part: &EnergyPart, which: &str| {
        let kwh = digits(part.kwh?);
        let how = match (part.metered, part.stated) {
            (_, 0) => "",
            (0, _) => " by your own figure",
            _ => " in part by your own figure",
        };
        let cost = part
            .cost
            .map(|cost| format!(", which cost you {}", own(cost, currency)))
            .unwrap_or_default();
        Some(format!(
            "In {TOLD_DAYS} days answers {which} took {kwh} kWh{how}{cost}."
        ))
    };
    [
        told(&used.paid, "that were paid"),
        told(&used.free, "for nothing"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn figures(meter: &MeterView, money: &MoneySettings) -> Vec<String> {
    let currency = money.currency.as_deref();
    let mut lines = vec![meter.detail.clone()];
    if let Some(fix) = &meter.fix {
        lines.push(fix.clone());
    }
    if let (MeterKind::Metered, Some(now)) = (meter.kind, meter.now_mw) {
        lines.push(format!("It counts {} now.", watts(now)));
    }
    lines.push(match (meter.kind, money.watts) {
        (MeterKind::Metered, _) => match meter.idle_mw {
            Some(idle) => format!(
                "While nothing is computed it counts {}, and that is no answer's.",
                watts(idle)
            ),
            None => "What it counts while nothing is computed is measured while this computer lends; answers before that are not measured.".to_owned(),
        },
        (MeterKind::None | MeterKind::Stated, Some(watts)) => format!("By your own figure this computer draws {watts} W more while it answers."),
        (MeterKind::None | MeterKind::Stated, None) => "Energy is not measured. Say how many watts this computer draws more while it answers: --watts W.".to_owned(),
    });
    lines.push(match money.tariff {
        Some(tariff) => format!("A kilowatt-hour costs you {}.", own(tariff, currency)),
        None => "What a kilowatt-hour costs you is not set: --tariff FIGURE.".to_owned(),
    });
    lines.push(match money.worth {
        Some(worth) => format!("A token is worth {} to you.", own(worth, currency)),
        None => {
            "What a token is worth to you is not set, and nothing is shown net: --worth FIGURE."
                .to_owned()
        }
    });
    lines
}

/// A power, with a tenth of a watt.
pub(crate) fn watts(milliwatts: u64) -> String {
    format!("{}.{} W", milliwatts / 1000, milliwatts % 1000 / 100)
}

/// What stands behind an amount; nothing where no network is chosen.
async fn unit(core: &Core) -> Result<String, Failure> {
    let chosen = core.client.settings_get().await?.money.network.is_some();
    let until = tokio::time::Instant::now() + OPENED;
    loop {
        let status = core.client.money_status().await?;
        if let Some(network) = status.network {
            return Ok(format!(" {}{}", network.symbol, worth(network.test)));
        }
        if !chosen || !status.problems.is_empty() || tokio::time::Instant::now() >= until {
            return Ok(String::new());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn name(row: &EarningView) -> String {
    let of_job = row.job.clone();
    of_job
        .or_else(|| row.model.clone())
        .or_else(|| row.device.clone())
        .or_else(|| row.day.map(day))
        .unwrap_or_else(|| "all".to_owned())
}

fn told(row: &EarningView, name: String, unit: &str, currency: Option<&str>) -> Vec<String> {
    let mut cells = vec![
        name,
        match row.jobs {
            1 => "1 job".to_owned(),
            jobs => format!("{jobs} jobs"),
        },
        match row.tokens_cached {
            0 => format!("{} in, {} out", row.tokens_in, row.tokens_out),
            cached => format!(
                "{} in ({cached} from the cache), {} out",
                row.tokens_in, row.tokens_out
            ),
        },
        format!("{}{unit}", tokens(&row.earned)),
        row.state
            .and_then(|state| serde_json::to_value(state).ok())
            .and_then(|state| state.as_str().map(|state| state.replace('_', " ")))
            .unwrap_or_default(),
        energy(row),
    ];
    cells.extend(row.cost.map(|cost| format!("cost {}", own(cost, currency))));
    cells.extend(row.net.map(|net| format!("net {}", own(net, currency))));
    cells
}

fn told_total(row: &EarningView, days: u32, unit: &str, currency: Option<&str>) -> String {
    let when = match days {
        1 => "Today".to_owned(),
        days => format!("In {days} days"),
    };
    let mut cells = told(row, when, unit, currency);
    // The state of the largest part says nothing of a sum.
    cells.remove(4);
    cells.join("  ")
}

/// Energy with how it is known; of how many jobs, where it is not known of all.
fn energy(row: &EarningView) -> String {
    let Some(kwh) = row.energy_kwh else {
        return "energy not measured".to_owned();
    };
    let known = row.metered + row.stated;
    let part = match known < row.jobs {
        true => format!(" for {known} of them"),
        false => String::new(),
    };
    let how = match (row.metered, row.stated) {
        (_, 0) => "",
        (0, _) => " by your own figure",
        _ => " in part by your own figure",
    };
    format!("{} kWh{part}{how}", digits(kwh))
}

/// An amount of the person's own money.
fn own(amount: f64, currency: Option<&str>) -> String {
    let unit = currency.map_or_else(
        || " of your money".to_owned(),
        |currency| format!(" {currency}"),
    );
    format!("{}{unit}", digits(amount))
}

/// Two decimals, and of what is smaller than one as many as it takes to show three digits.
fn digits(value: f64) -> String {
    let size = value.abs();
    let decimals = match size {
        _ if size >= 1.0 || size == 0.0 => 2,
        #[allow(clippy::cast_possible_truncation, reason = "the logarithm of a figure")]
        _ => ((-size.log10()).floor() as i64 + 3).clamp(2, 18),
    };
    let text = format!("{value:.*}", usize::try_from(decimals).unwrap_or(2));
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// The day in which a moment lies, where this computer is.
fn day(first_ms: u64) -> String {
    let at = i64::try_from(first_ms / 1000)
        .ok()
        .and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok());
    let here = time::UtcOffset::current_local_offset().unwrap_or(time::UtcOffset::UTC);
    at.map_or_else(String::new, |at| at.to_offset(here).date().to_string())
}

fn midnight_ms() -> u64 {
    let now = time::OffsetDateTime::now_local().unwrap_or_else(|_| time::OffsetDateTime::now_utc());
    let start = now.replace_time(time::Time::MIDNIGHT).unix_timestamp();
    u64::try_from(start).map_or(0, |seconds| seconds * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(metered: u64, stated: u64, energy_kwh: Option<f64>) -> EarningView {
        EarningView {
            job: None,
            day: None,
            at_unix_ms: None,
            model: Some("Model".to_owned()),
            device: None,
            jobs: 3,
            tokens_in: 5,
            tokens_cached: 0,
            tokens_out: 8,
            earned: "1500000000000000000".to_owned(),
            energy_kwh,
            metered,
            stated,
            cost: None,
            net: None,
            state: None,
        }
    }

    #[test]
    fn energy_says_how_it_is_known_and_of_how_many() {
        assert_eq!(energy(&row(0, 0, None)), "energy not measured");
        assert_eq!(energy(&row(3, 0, Some(0.5))), "0.5 kWh");
        assert_eq!(
            energy(&row(1, 0, Some(0.00001234))),
            "0.0000123 kWh for 1 of them"
        );
        assert_eq!(energy(&row(0, 3, Some(2.0))), "2 kWh by your own figure");
        assert_eq!(
            energy(&row(1, 1, Some(2.0))),
            "2 kWh for 2 of them in part by your own figure"
        );
    }

    #[test]
    fn what_answers_took_is_told_with_what_is_known_of_it() {
        let none = EnergyPart {
            metered: 0,
            stated: 0,
            kwh: None,
            cost: None,
        };
        let used = |paid, free| EnergyView { paid, free };
        let told = |used: &EnergyView| told_used(used, Some("€"));
        assert!(told(&used(none.clone(), none.clone())).is_empty());
        let metered = EnergyPart {
            metered: 2,
            kwh: Some(0.5),
            cost: Some(0.155),
            ..none.clone()
        };
        let stated = EnergyPart {
            stated: 1,
            kwh: Some(2.0),
            ..none
        };
        assert_eq!(
            told(&used(metered, stated)),
            [
                "In 30 days answers that were paid took 0.5 kWh, which cost you 0.155 €.",
                "In 30 days answers for nothing took 2 kWh by your own figure."
            ]
        );
    }

    #[test]
    fn a_row_has_its_units_and_net_only_where_it_is_known() {
        let unknown = told(&row(0, 0, None), "x".to_owned(), " DGC", Some("€"));
        assert_eq!(unknown[3], "1.5 DGC");
        assert_eq!(unknown.len(), 6);
        let known = EarningView {
            cost: Some(0.155),
            net: Some(-0.05),
            ..row(3, 0, Some(0.5))
        };
        let told = told(&known, "x".to_owned(), " DGC", Some("€"));
        assert_eq!(&told[6..], ["cost 0.155 €", "net -0.05 €"]);
        assert_eq!(
            told_total(&known, 7, " DGC", None),
            "In 7 days  3 jobs  5 in, 8 out  1.5 DGC  0.5 kWh  cost 0.155 of your money  net -0.05 of your money"
        );
    }

    #[test]
    fn figures_are_short_and_never_nothing_where_there_is_something() {
        for (value, text) in [
            (0.0, "0"),
            (12.0, "12"),
            (1234.567, "1234.57"),
            (0.31, "0.31"),
            (0.000_046_5, "0.0000465"),
            (-0.8, "-0.8"),
        ] {
            assert_eq!(digits(value), text);
        }
    }
}
