//! Which device computes: the one that was measured to be fastest, never the one whose name sounds fast.

use serde::{Deserialize, Serialize};

use super::AdapterMemory;

/// The job that devices are compared by, in tokens: a question with some history before it, answered in a paragraph.
/// Reading alone would favour cards that are slow to start, writing alone those with fast memory and little else.
const JOB: (f64, f64) = (512.0, 128.0);

/// How much faster than the processor another device must be to be taken: less is within the noise of two measurements,
/// and a choice that flips at every start is worth nothing.
const MARGIN: f64 = 1.1;

/// Tokens per second of one worker on one device with one model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Of a prompt that is read.
    pub prefill_tokens_per_second: f64,
    /// Of an answer that is written, one sequence at a time.
    pub decode_tokens_per_second: f64,
}

impl Rates {
    /// Seconds for the job that devices are compared by; `None` for rates that are no measurement.
    fn seconds(&self) -> Option<f64> {
        let rate = |rate: f64| rate.is_finite() && rate > 0.0;
        let seconds =
            JOB.0 / self.prefill_tokens_per_second + JOB.1 / self.decode_tokens_per_second;
        (rate(self.prefill_tokens_per_second)
            && rate(self.decode_tokens_per_second)
            && seconds.is_finite())
        .then_some(seconds)
    }
}

/// What a worker computes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// The processor, in the machine's memory.
    Processor,
    /// A graphics adapter.
    Adapter {
        /// Its name, for reading alone.
        name: String,
        /// Its memory, where it is known.
        memory: Option<AdapterMemory>,
        /// It is a program that computes on the processor.
        software: bool,
    },
}

impl Device {
    /// For reading.
    pub fn name(&self) -> &str {
        match self {
            Device::Processor => "The processor",
            Device::Adapter { name, .. } => name,
        }
    }
}

/// What is known of a worker on its device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// It did not start, or its self-check failed: why.
    Refused(String),
    /// It passed its self-check and was not measured yet.
    Unmeasured,
    /// It passed its self-check and was measured.
    Measured(Rates),
}

/// A worker that could be started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// What it computes on.
    pub device: Device,
    /// What is known of it.
    pub probe: Probe,
}

/// Which candidate computes, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Its place in the list of candidates; `None` when there is none that runs.
    pub candidate: Option<usize>,
    /// One or more sentences for a person.
    pub reason: String,
}

/// Chooses among workers for a model that needs `need` bytes (`None`: not known, any memory will do).
///
/// The processor computes unless another device was measured to be faster by a margin. A refused or unmeasured
/// worker, a device with too little memory and software that pretends to be a device are never chosen in its place.
pub fn choose(candidates: &[Candidate], need: Option<u64>) -> Choice {
    let runs = |candidate: &Candidate| !matches!(candidate.probe, Probe::Refused(_));
    let processor = candidates
        .iter()
        .position(|candidate| candidate.device == Device::Processor && runs(candidate));
    let Some(processor) = processor else {
        return Choice {
            candidate: None,
            reason: "No worker runs on the processor.".to_owned(),
        };
    };
    let others = candidates
        .iter()
        .enumerate()
        .filter(|(_, candidate)| candidate.device != Device::Processor);
    let (fit, unfit): (Vec<_>, Vec<_>) = others
        .map(|(at, candidate)| (at, contender(candidate, need)))
        .partition(|(_, contender)| contender.is_ok());
    let mut reasons: Vec<String> = unfit.into_iter().filter_map(|(_, why)| why.err()).collect();
    let best = fit
        .into_iter()
        .filter_map(|(at, seconds)| Some((at, seconds.ok()?)))
        .min_by(|a, b| a.1.total_cmp(&b.1));
    let own = match &candidates[processor].probe {
        Probe::Measured(rates) => rates.seconds(),
        Probe::Unmeasured | Probe::Refused(_) => None,
    };
    let (candidate, reason) = match (best, own) {
        (None, _) if reasons.is_empty() => {
            let alone = "The processor computes: no worker for another device is installed.";
            (processor, alone.to_owned())
        }
        (None, _) => (processor, "The processor computes.".to_owned()),
        (Some((at, _)), None) => {
            let name = candidates[at].device.name();
            let reason = format!(
                "The processor computes until its speed was measured as well as that of {name}."
            );
            (processor, reason)
        }
        (Some((at, seconds)), Some(own)) => {
            let faster = seconds * MARGIN < own;
            let chosen = if faster { at } else { processor };
            let reason = format!(
                "{} computes: {} tokens read and {} written took {seconds:.2} s on {} and {own:.2} s on the processor.",
                candidates[chosen].device.name(),
                JOB.0,
                JOB.1,
                candidates[at].device.name(),
            );
            (chosen, reason)
        }
    };
    reasons.insert(0, reason);
    Choice {
        candidate: Some(candidate),
        reason: reasons.join(" "),
    }
}

/// Seconds that a device other than the processor takes, or why it cannot be compared.
fn contender(candidate: &Candidate, need: Option<u64>) -> Result<f64, String> {
    let Device::Adapter {
        name,
        memory,
        software,
    } = &candidate.device
    else {
        return Err(String::new());
    };
    if *software {
        return Err(format!("{name} is software and not considered."));
    }
    let rates = match &candidate.probe {
        Probe::Refused(why) => return Err(format!("{name} is not used: {why}.")),
        Probe::Unmeasured => return Err(format!("{name} was not measured yet.")),
        Probe::Measured(rates) => rates,
    };
    if let (Some(need), Some(memory)) = (need, memory)
        && memory.total < need
    {
        return Err(format!(
            "{name} has {} of memory and the model needs {}.",
            gigabytes(memory.total),
            gigabytes(need)
        ));
    }
    let seconds = rates.seconds();
    seconds.ok_or_else(|| format!("{name} was measured, without a usable result."))
}

fn gigabytes(bytes: u64) -> String {
    // A size for reading: one decimal is enough.
    format!("{:.1} GB", bytes as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn measured(prefill: f64, decode: f64) -> Probe {
        Probe::Measured(Rates {
            prefill_tokens_per_second: prefill,
            decode_tokens_per_second: decode,
        })
    }

    fn processor(probe: Probe) -> Candidate {
        let device = Device::Processor;
        Candidate { device, probe }
    }

    fn card(name: &str, probe: Probe) -> Candidate {
        let device = Device::Adapter {
            name: name.to_owned(),
            memory: Some(AdapterMemory {
                total: 8_000_000_000,
                free: None,
            }),
            software: false,
        };
        Candidate { device, probe }
    }

    #[test]
    fn a_slow_card_with_a_great_name_is_not_taken() {
        let candidates = [
            processor(measured(400.0, 60.0)),
            card("Titan Ultra 9000", measured(300.0, 20.0)),
            card("Plain", measured(4_000.0, 200.0)),
        ];
        let choice = choose(&candidates, None);
        assert_eq!(choice.candidate, Some(2));
        assert_eq!(
            choice.reason,
            "Plain computes: 512 tokens read and 128 written took 0.77 s on Plain and 3.41 s on the processor."
        );
        assert_eq!(choose(&candidates[..2], None).candidate, Some(0));
    }

    #[test]
    fn a_model_larger_than_the_card_stays_on_the_processor() {
        let candidates = [
            processor(measured(400.0, 60.0)),
            card("Card", measured(4_000.0, 200.0)),
        ];
        assert_eq!(choose(&candidates, Some(8_000_000_000)).candidate, Some(1));
        let choice = choose(&candidates, Some(8_100_000_000));
        assert_eq!(choice.candidate, Some(0));
        assert!(
            choice
                .reason
                .contains("has 8.0 GB of memory and the model needs 8.1 GB")
        );
    }

    #[test]
    fn what_did_not_start_is_said_and_never_taken() {
        let candidates = [
            processor(Probe::Unmeasured),
            card("Card", Probe::Refused("libcuda.so.1 is missing".into())),
        ];
        let choice = choose(&candidates, None);
        assert_eq!(choice.candidate, Some(0));
        assert!(
            choice.reason.contains("libcuda.so.1 is missing"),
            "{}",
            choice.reason
        );
        let nothing = [
            processor(Probe::Refused("killed".into())),
            candidates[1].clone(),
        ];
        assert_eq!(choose(&nothing, None).candidate, None);
    }

    fn any_rate() -> impl Strategy<Value = f64> {
        prop_oneof![
            8 => 0.1..10_000.0f64,
            1 => prop::sample::select(vec![0.0, -1.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE]),
        ]
    }

    fn any_candidate() -> impl Strategy<Value = Candidate> {
        let probe = prop_oneof![
            1 => Just(Probe::Refused("broken".to_owned())),
            1 => Just(Probe::Unmeasured),
            4 => (any_rate(), any_rate()).prop_map(|(prefill, decode)| measured(prefill, decode)),
        ];
        let device = prop_oneof![
            1 => Just(Device::Processor),
            3 => ("[a-z]{1,6}", prop::option::of(any::<u64>()), any::<bool>()).prop_map(
                |(name, total, software)| Device::Adapter {
                    name,
                    memory: total.map(|total| AdapterMemory { total, free: None }),
                    software,
                }
            ),
        ];
        (device, probe).prop_map(|(device, probe)| Candidate { device, probe })
    }

    fn renamed(candidate: &Candidate) -> Candidate {
        let mut candidate = candidate.clone();
        if let Device::Adapter { name, .. } = &mut candidate.device {
            *name = format!("RTX {name}");
        }
        candidate
    }

    proptest! {
        #[test]
        fn the_choice_follows_from_measurements_alone(
            candidates in prop::collection::vec(any_candidate(), 0..6),
            need in prop::option::of(any::<u64>()),
        ) {
            let choice = choose(&candidates, need);
            prop_assert!(!choice.reason.is_empty());
            let names: Vec<_> = candidates.iter().map(renamed).collect();
            prop_assert_eq!(choose(&names, need).candidate, choice.candidate);
            let seconds = |candidate: &Candidate| match &candidate.probe {
                Probe::Measured(rates) => rates.seconds(),
                Probe::Refused(_) | Probe::Unmeasured => None,
            };
            let own = candidates.iter().position(|candidate| {
                candidate.device == Device::Processor && !matches!(candidate.probe, Probe::Refused(_))
            });
            let Some(at) = choice.candidate else {
                prop_assert_eq!(own, None);
                return Ok(());
            };
            let chosen = &candidates[at];
            prop_assert!(!matches!(chosen.probe, Probe::Refused(_)));
            if let Device::Adapter { memory, software, .. } = &chosen.device {
                prop_assert!(!software);
                if let (Some(memory), Some(need)) = (memory, need) {
                    prop_assert!(memory.total >= need);
                }
                let took = seconds(chosen);
                prop_assert!(took.is_some());
                let processor = own.and_then(|own| seconds(&candidates[own]));
                prop_assert!(processor > took);
            }
        }

        #[test]
        fn a_faster_choice_stays_the_choice_and_a_slower_rival_changes_nothing(
            candidates in prop::collection::vec(any_candidate(), 1..6),
        ) {
            let Some(at) = choose(&candidates, None).candidate else { return Ok(()) };
            let Probe::Measured(rates) = &candidates[at].probe else { return Ok(()) };
            let Some(own) = rates.seconds() else { return Ok(()) };
            let mut faster = candidates.clone();
            faster[at].probe = measured(
                rates.prefill_tokens_per_second * 2.0,
                rates.decode_tokens_per_second * 2.0,
            );
            prop_assert_eq!(choose(&faster, None).candidate, Some(at));
            let mut more = candidates.clone();
            let slow = measured(JOB.0 / own, JOB.1 / own);
            more.push(card("rival", slow));
            prop_assert_eq!(choose(&more, None).candidate, Some(at));
        }
    }
}
