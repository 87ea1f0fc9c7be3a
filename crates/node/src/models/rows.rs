//! From entries to what is shown and what the rest of the node uses.

use std::{collections::BTreeMap, path::Path};

use protocol::{HeadDigest, ModelDigest, ModelRef};

use super::{
    Fit, FitKind, Measured, Model, ModelRow, ModelState, Origin, ServeForPay,
    download::Progress,
    entries::{Entry, Standing, expected, expected_size},
    fit::{self, Computer},
    records::Pins,
    registry::Outside,
};

/// Below this many tokens per second an answer is slower than reading: such a model is not called better.
const READING_SPEED: f64 = 6.0;

/// Where nothing was measured yet: the largest file that a processor without a graphics card answers from at reading speed. Two channels of
/// DDR4 bring about 20 GB a second to the cores, and every token reads the whole file once.
const UNMEASURED_LIMIT_BYTES: u64 = 2_500_000_000;

/// A download that runs, as the rows need it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Running {
    pub(super) progress: Progress,
    pub(super) bytes_per_second: u64,
}

/// The digest and head of an entry's file, where both are known for certain.
pub(super) fn reference(id: &str, entry: &Entry, pins: &Pins) -> Option<ModelRef> {
    let of = |digest: [u8; 32], len: u32, head: [u8; 32]| ModelRef {
        digest: ModelDigest::new(digest),
        head_len: len,
        head_sha256: HeadDigest::new(head),
    };
    if let Some(row) = &entry.row {
        if let (Some(digest), Some(len), Some(head)) = (row.sha256, row.head_len, row.head_sha256) {
            return Some(of(digest.0, len, head.0));
        }
        if let Some(pin) = pins.pin.get(id)
            && let (Some(len), Some(head)) = (pin.head_len, pin.head_sha256)
        {
            return Some(of(row.sha256.unwrap_or(pin.sha256).0, len, head.0));
        }
    }
    let facts = entry.facts()?;
    Some(of(facts.digest.0, facts.head_len, facts.head_sha256.0))
}

/// The digest that an entry's file has, or must have; where it is away or being hashed again, the one that it had.
fn digest(entry: &Entry, pins: &Pins) -> Option<ModelDigest> {
    let row = entry.row.as_ref();
    let expected = row.and_then(|row| expected(row, pins));
    let digest = expected
        .or_else(|| entry.facts().map(|facts| facts.digest))
        .or(entry.last_digest);
    digest.map(|digest| ModelDigest::new(digest.0))
}

/// Why a model is not offered to others.
fn not_served(entry: &Entry, reference: Option<&ModelRef>) -> Option<String> {
    match &entry.row {
        Some(row) => match row.serve_for_pay {
            ServeForPay::Yes if reference.is_some() => None,
            ServeForPay::Yes => Some(
                "Its file was never downloaded here, so its digest is not known yet.".to_owned(),
            ),
            ServeForPay::No => Some(format!(
                "Its licence ({}) does not allow answering others: {}",
                row.licence, row.serve_for_pay_reason
            )),
            ServeForPay::Unknown => Some(format!(
                "It is not known whether its licence ({}) allows answering others: {}",
                row.licence, row.serve_for_pay_reason
            )),
        },
        None => Some("It was added from a file, and nobody read its licence.".to_owned()),
    }
}

pub(super) fn model(id: &str, entry: &Entry, pins: &Pins, fit: &Fit) -> Model {
    let row = entry.row.as_ref();
    let facts = entry.facts();
    let reference = reference(id, entry, pins);
    let file = match &entry.standing {
        Standing::Ready { path, .. } => Some(path.clone()),
        Standing::Absent
        | Standing::Left { .. }
        | Standing::Checking { .. }
        | Standing::Failed { .. } => None,
    };
    Model {
        id: id.to_owned(),
        name: entry.name.clone(),
        starter: row.is_some_and(|row| row.starter),
        file,
        digest: digest(entry, pins),
        reference,
        not_served: not_served(entry, reference.as_ref()),
        system_prompt: row.and_then(|row| row.system_prompt.clone()),
        architecture: row
            .map(|row| row.architecture.clone())
            .or_else(|| facts.map(|facts| facts.architecture.clone())),
        context_max: facts
            .map(|facts| facts.context_train)
            .or_else(|| row.and_then(|row| row.context)),
        quant: row
            .map(|row| row.quant.clone())
            .or_else(|| facts.map(|facts| facts.quant.clone()))
            .unwrap_or_default(),
        fits: fit.kind != FitKind::TooLarge,
    }
}

#[allow(clippy::too_many_arguments)]
pub(super) fn row(
    id: &str,
    entry: &Entry,
    running: Option<&Running>,
    pins: &Pins,
    outside: &Outside,
    measured: Option<&Measured>,
    fit: Fit,
) -> ModelRow {
    let row = entry.row.as_ref();
    let facts = entry.facts();
    let reference = reference(id, entry, pins);
    let text = |of: fn(&super::CatalogueRow) -> &String| row.map(|row| of(row).clone());
    let digest = digest(entry, pins);
    ModelRow {
        id: id.to_owned(),
        name: entry.name.clone(),
        family: text(|row| &row.family)
            .or_else(|| facts.map(|facts| facts.architecture.clone()))
            .unwrap_or_default(),
        parameters: text(|row| &row.parameters)
            .or_else(|| facts.map(|facts| short_count(facts.parameters)))
            .unwrap_or_default(),
        about: text(|row| &row.about).unwrap_or_else(|| "Added from this computer".to_owned()),
        size_bytes: size(entry, pins),
        context_max: facts
            .map(|facts| facts.context_train)
            .or_else(|| row.and_then(|row| row.context)),
        quant: text(|row| &row.quant)
            .or_else(|| facts.map(|facts| facts.quant.clone()))
            .unwrap_or_default(),
        licence: text(|row| &row.licence).unwrap_or_else(|| "unknown".to_owned()),
        licence_url: row.and_then(|row| row.licence_url.clone()),
        serve_for_pay: row.map_or(ServeForPay::Unknown, |row| row.serve_for_pay),
        may_serve: not_served(entry, reference.as_ref()).is_none(),
        training_data_open: row.and_then(|row| row.training_data_open),
        starter: row.is_some_and(|row| row.starter),
        origin: if row.is_some() {
            Origin::Catalogue
        } else {
            Origin::Added
        },
        digest: digest.map(|digest| digest.to_string()),
        state: state(entry, running, outside.loaded.as_deref(), size(entry, pins)),
        fit,
        measured: measured.cloned(),
        peers: digest
            .and_then(|digest| outside.peers.get(&digest).copied())
            .unwrap_or(0),
        is_default: outside.default_model.as_deref() == Some(id),
    }
}

/// Bytes of the file: as it lies there, else as the catalogue or a pin says, else as a page rounded it.
fn size(entry: &Entry, pins: &Pins) -> u64 {
    let row = entry.row.as_ref();
    entry
        .facts()
        .map(|facts| facts.size)
        .or_else(|| row.and_then(|row| expected_size(row, pins).or(row.size_about)))
        .or(match &entry.standing {
            Standing::Checking { total, .. } => Some(*total),
            Standing::Left { total, .. } => *total,
            Standing::Absent | Standing::Ready { .. } | Standing::Failed { .. } => None,
        })
        .unwrap_or(0)
}

fn state(entry: &Entry, running: Option<&Running>, loaded: Option<&Path>, size: u64) -> ModelState {
    if let Some(running) = running {
        let rate = running.bytes_per_second;
        return match &running.progress {
            Progress::Waiting => {
                let done = match &entry.standing {
                    Standing::Left { done, .. } | Standing::Failed { done, .. } => *done,
                    Standing::Absent | Standing::Checking { .. } | Standing::Ready { .. } => 0,
                };
                ModelState::Downloading {
                    done,
                    total: size,
                    bytes_per_second: 0,
                    seconds_left: None,
                    source: String::new(),
                }
            }
            Progress::Checking { done, total } => ModelState::Verifying {
                done: *done,
                total: *total,
            },
            Progress::Fetching {
                done,
                total,
                source,
            } => {
                let total = total.unwrap_or(size).max(*done);
                let seconds_left = (rate > 0).then(|| (total - done).div_ceil(rate));
                ModelState::Downloading {
                    done: *done,
                    total,
                    bytes_per_second: rate,
                    seconds_left,
                    source: source.clone(),
                }
            }
        };
    }
    match &entry.standing {
        Standing::Absent => ModelState::Absent,
        Standing::Left { done, total } => ModelState::Paused {
            done: *done,
            total: total.unwrap_or(size),
        },
        Standing::Checking { done, total, .. } => ModelState::Verifying {
            done: *done,
            total: *total,
        },
        Standing::Ready { path, .. } => ModelState::Ready {
            path: path.display().to_string(),
            loaded: loaded == Some(path.as_path()),
        },
        Standing::Failed { error, done, .. } => ModelState::Failed {
            error: error.clone(),
            done: *done,
        },
    }
}

pub(super) fn fit_of(
    entry: &Entry,
    outside: &Outside,
    computer: &Computer,
    measured: Option<&Measured>,
) -> Fit {
    let planned = entry
        .row
        .as_ref()
        .and_then(super::CatalogueRow::size_to_plan);
    let loaded = entry.path().is_some() && entry.path() == outside.loaded.as_deref();
    let need = fit::need_bytes(planned, entry.facts());
    let fit = fit::fit(need, loaded, computer, &outside.graphics);
    fit::with_speed(
        fit,
        measured.map(|measured| measured.decode_tokens_per_second),
    )
}

/// The row that would be better than what is here: the largest model of the catalogue that fits, may serve, and answers at reading speed
/// going by what was measured here.
pub(super) fn better(rows: &[ModelRow], measured: &BTreeMap<String, Measured>) -> Option<String> {
    let ready = |row: &&ModelRow| matches!(row.state, ModelState::Ready { .. });
    let largest_here = rows
        .iter()
        .filter(ready)
        .map(|row| row.size_bytes)
        .max()
        .unwrap_or(0);
    // Every token reads the file once, so that speed goes with the inverse of its size.
    let bytes_per_second = rows
        .iter()
        .filter(ready)
        .filter_map(|row| {
            Some(measured.get(&row.id)?.decode_tokens_per_second * row.size_bytes as f64)
        })
        .fold(None, |best: Option<f64>, rate| {
            Some(best.map_or(rate, |best| best.max(rate)))
        });
    let fast = |row: &&ModelRow| match bytes_per_second {
        Some(rate) => rate / row.size_bytes as f64 >= READING_SPEED,
        None => row.size_bytes <= UNMEASURED_LIMIT_BYTES,
    };
    rows.iter()
        .filter(|row| {
            row.origin == Origin::Catalogue && !row.starter && row.size_bytes > largest_here
        })
        .filter(|row| {
            row.fit.kind == FitKind::Fits && !matches!(row.state, ModelState::Ready { .. })
        })
        .filter(|row| row.serve_for_pay == ServeForPay::Yes)
        .filter(fast)
        .max_by_key(|row| row.size_bytes)
        .map(|row| row.id.clone())
}

/// A number of weights as people say it: 135M, 1.7B.
pub(crate) fn short_count(parameters: u64) -> String {
    match parameters {
        0 => String::new(),
        n if n >= 10_000_000_000 => format!("{}B", (n + 500_000_000) / 1_000_000_000),
        n if n >= 1_000_000_000 => format!("{:.1}B", n as f64 / 1e9),
        n => format!("{}M", n.div_ceil(1_000_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_counted_as_people_say_it() {
        assert_eq!(short_count(134_515_008), "135M");
        assert_eq!(short_count(1_711_376_384), "1.7B");
        assert_eq!(short_count(70_553_706_496), "71B");
        assert_eq!(short_count(0), "");
    }
}
