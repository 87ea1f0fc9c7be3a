//! Whether a model fits into this computer's memory, said with the numbers it follows from.

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use super::{Fit, FitKind, records::Facts};

/// The context that a first chat needs: longer ones grow the cache as they go.
const PLANNED_CONTEXT: u64 = 4096;

/// Scratch of the engine beside weights and cache: logits, activations of a prefill chunk, the worker itself.
const OVERHEAD_BYTES: u64 = 256 * 1024 * 1024;

/// Cache for [`PLANNED_CONTEXT`] of a model whose shape is not known yet, as a share of its file: an eighth is what an 8B model with
/// grouped heads takes at four bits, and smaller ones take less.
const UNKNOWN_CACHE_SHARE: u64 = 8;

/// A model that takes more than this share of the memory that is free leaves other programs little.
const EASY_SHARE: f64 = 0.7;

/// Of all memory, the system and its cache always keep some.
const USABLE_SHARE: f64 = 0.9;

const GB: f64 = 1e9;

/// A graphics adapter of this computer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Graphics {
    /// Its name.
    pub(crate) name: String,
    /// Its memory, where it is known.
    pub(crate) memory_bytes: Option<u64>,
    /// Answers are computed on it.
    pub(crate) computes: bool,
}

/// Memory and name of this computer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Computer {
    pub(super) total_bytes: u64,
    pub(super) available_bytes: u64,
    pub(super) cores: usize,
    pub(super) processor: String,
}

impl Computer {
    pub(super) fn look() -> Self {
        let what = RefreshKind::nothing()
            .with_memory(MemoryRefreshKind::nothing().with_ram())
            .with_cpu(CpuRefreshKind::nothing());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let system = match System::new_with_specifics(what) {
            Ok(system) => system,
            Err(error) => {
                tracing::warn!(%error, "this system does not tell its memory");
                return Self {
                    total_bytes: 0,
                    available_bytes: 0,
                    cores,
                    processor: String::new(),
                };
            }
        };
        // In a container the limit of its group is what there is.
        let (mut total, mut available) = (system.total_memory(), system.available_memory());
        if let Some(limits) = system.cgroup_limits() {
            total = total.min(limits.total_memory);
            available = available.min(limits.free_memory);
        }
        let processor = system
            .cpus()
            .first()
            .map(|cpu| cpu.brand().trim().to_owned())
            .unwrap_or_default();
        Self {
            total_bytes: total,
            available_bytes: available,
            cores,
            processor,
        }
    }

    /// One line for reading.
    pub(super) fn sentence(&self, graphics: &[Graphics]) -> String {
        let cores = if self.cores == 1 {
            "1 core".to_owned()
        } else {
            format!("{} cores", self.cores)
        };
        let memory = format!("{} GB of memory", (self.total_bytes as f64 / GB).round());
        let mut parts = vec![cores, memory];
        if !self.processor.is_empty() {
            parts.insert(0, self.processor.clone());
        }
        parts.extend(graphics.iter().map(|card| {
            let memory = card
                .memory_bytes
                .map_or(String::new(), |bytes| format!(" with {}", gb(bytes)));
            let use_of_it = if card.computes { "" } else { " (not used)" };
            format!("{}{memory}{use_of_it}", card.name)
        }));
        parts.join(" · ")
    }
}

/// Bytes that a model needs to answer at all: weights, cache for a first chat, scratch.
pub(super) fn need_bytes(size: Option<u64>, facts: Option<&Facts>) -> Option<u64> {
    if let Some(facts) = facts {
        let context = PLANNED_CONTEXT.min(u64::from(facts.context_train).max(1));
        return Some(
            facts.load_bytes.max(facts.size) + facts.kv_bytes_per_token * context + OVERHEAD_BYTES,
        );
    }
    size.map(|size| size + size / UNKNOWN_CACHE_SHARE + OVERHEAD_BYTES)
}

/// Adds to a verdict how fast the model wrote here when it was measured, where it may run.
pub(super) fn with_speed(fit: Fit, tokens_per_second: Option<f64>) -> Fit {
    let runs = match fit.kind {
        FitKind::Fits | FitKind::Tight => true,
        FitKind::TooLarge | FitKind::Unknown => false,
    };
    let Some(rate) = tokens_per_second.filter(|rate| runs && *rate > 0.0) else {
        return fit;
    };
    let rate = match rate < 10.0 {
        true => format!("{rate:.1}"),
        false => format!("{rate:.0}"),
    };
    Fit {
        sentence: format!("{} It wrote {rate} tokens a second here.", fit.sentence),
        ..fit
    }
}

/// The verdict for a model. A card counts only when answers are computed on it: memory that no worker uses helps nobody.
pub(super) fn fit(
    need: Option<u64>,
    loaded: bool,
    computer: &Computer,
    graphics: &[Graphics],
) -> Fit {
    let card = graphics.iter().find(|card| card.computes);
    if let (Some(need), Some(card), false) = (need, card, loaded)
        && let Some(total) = card.memory_bytes
        && need as f64 <= total as f64 * USABLE_SHARE
    {
        return Fit {
            kind: FitKind::Fits,
            need_bytes: need,
            have_bytes: total,
            sentence: format!(
                "Fits: it needs about {} of the {} of {}.",
                gb(need),
                gb(total),
                card.name
            ),
        };
    }
    let have = computer.available_bytes;
    let Some(need) = need.filter(|_| computer.total_bytes > 0) else {
        return Fit {
            kind: FitKind::Unknown,
            need_bytes: 0,
            have_bytes: have,
            sentence: if computer.total_bytes == 0 {
                "This system does not tell how much memory there is.".to_owned()
            } else {
                "How much memory it needs is known once it is downloaded.".to_owned()
            },
        };
    };
    let (n, free, total) = (gb(need), gb(have), gb(computer.total_bytes));
    let (kind, sentence) = if loaded {
        (
            FitKind::Fits,
            format!("It is in memory now and takes about {n}."),
        )
    } else if need as f64 <= have as f64 * EASY_SHARE {
        (
            FitKind::Fits,
            format!("Fits: it needs about {n} of memory, and {free} are free."),
        )
    } else if need as f64 <= computer.total_bytes as f64 * USABLE_SHARE {
        (
            FitKind::Tight,
            format!(
                "Tight: it needs about {n} of memory; {free} of {total} are free now. Other programs may slow down."
            ),
        )
    } else {
        (
            FitKind::TooLarge,
            format!("Too large: it needs about {n} of memory, and this computer has {total}."),
        )
    };
    let idle = graphics.iter().find(|card| {
        let holds = card.memory_bytes.is_some_and(|total| total >= need);
        holds && !card.computes
    });
    let sentence = match idle {
        Some(card) if kind == FitKind::TooLarge => format!(
            "{sentence} {} would hold it, and no worker computes on that here.",
            card.name
        ),
        Some(_) | None => sentence,
    };
    Fit {
        kind,
        need_bytes: need,
        have_bytes: have,
        sentence,
    }
}

fn gb(bytes: u64) -> String {
    let gb = bytes as f64 / GB;
    if gb < 10.0 {
        format!("{gb:.1} GB")
    } else {
        format!("{gb:.0} GB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn computer(total: u64, available: u64) -> Computer {
        Computer {
            total_bytes: total,
            available_bytes: available,
            cores: 2,
            processor: "X".into(),
        }
    }

    #[test]
    fn the_verdict_follows_from_the_numbers() {
        let g = 1_000_000_000;
        let kind = |need| fit(Some(need), false, &computer(16 * g, 10 * g), &[]).kind;
        assert_eq!(kind(7 * g), FitKind::Fits);
        assert_eq!(kind(8 * g), FitKind::Tight);
        assert_eq!(kind(14 * g), FitKind::Tight);
        assert_eq!(kind(15 * g), FitKind::TooLarge);
        assert_eq!(
            fit(None, false, &computer(g, g), &[]).kind,
            FitKind::Unknown
        );
        assert_eq!(
            fit(Some(15 * g), true, &computer(16 * g, g), &[]).kind,
            FitKind::Fits
        );
        let sentence = fit(Some(15 * g), false, &computer(16 * g, 10 * g), &[]).sentence;
        assert!(
            sentence.contains("15 GB") && sentence.contains("16 GB"),
            "{sentence}"
        );
    }

    #[test]
    fn a_card_counts_only_when_answers_are_computed_on_it() {
        let g = 1_000_000_000;
        let mut card = Graphics {
            name: "Card".to_owned(),
            memory_bytes: Some(24 * g),
            computes: false,
        };
        let small = computer(16 * g, 10 * g);
        let fit = |card: &Graphics| fit(Some(20 * g), false, &small, std::slice::from_ref(card));
        let unused = fit(&card);
        assert_eq!(unused.kind, FitKind::TooLarge);
        assert!(
            unused.sentence.contains("Card would hold it"),
            "{}",
            unused.sentence
        );
        assert!(
            small
                .sentence(&[card.clone()])
                .ends_with("Card with 24 GB (not used)")
        );
        card.computes = true;
        let used = fit(&card);
        assert_eq!((used.kind, used.have_bytes), (FitKind::Fits, 24 * g));
        card.memory_bytes = Some(20 * g);
        assert_eq!(fit(&card).kind, FitKind::TooLarge);
    }

    #[test]
    fn a_measured_speed_is_told_of_what_runs() {
        let g = 1_000_000_000;
        let told = |need, rate| {
            let verdict = fit(Some(need), false, &computer(16 * g, 10 * g), &[]);
            with_speed(verdict, rate).sentence
        };
        let fast = told(7 * g, Some(52.4));
        assert!(
            fast.ends_with("free. It wrote 52 tokens a second here."),
            "{fast}"
        );
        assert!(told(8 * g, Some(3.26)).ends_with("It wrote 3.3 tokens a second here."));
        assert!(!told(15 * g, Some(52.4)).contains("second"));
        assert!(
            !told(7 * g, None).contains("second") && !told(7 * g, Some(0.0)).contains("second")
        );
    }

    #[test]
    fn this_computer_has_memory_and_a_name() {
        let computer = Computer::look();
        assert!(computer.total_bytes > 0 && computer.available_bytes <= computer.total_bytes);
        assert!(computer.sentence(&[]).contains("memory"));
    }

    #[test]
    fn a_size_alone_is_enough_to_plan_with() {
        assert_eq!(need_bytes(Some(800), None), Some(900 + OVERHEAD_BYTES));
        assert_eq!(need_bytes(None, None), None);
    }
}
