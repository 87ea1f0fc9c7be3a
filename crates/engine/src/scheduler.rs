//! Who computes in the next step: a pure function of what waits.

use crate::Class;

/// A sequence that could be stepped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its call.
    pub call: u64,
    /// Whose work it is.
    pub class: Class,
    /// It is neither paused nor at its end.
    pub runnable: bool,
    /// The number of the step in which it was computed last; 0 for never.
    pub last_step: u64,
}

/// The next sequence: the owner's before the network's, and inside a class the one that waited longest (the oldest call
/// among equals). As long as one of the owner's can run, none of the network's does.
pub fn next(candidates: &[Candidate]) -> Option<u64> {
    let runnable = candidates.iter().filter(|candidate| candidate.runnable);
    let rank = |candidate: &&Candidate| (candidate.class, candidate.last_step, candidate.call);
    runnable.min_by_key(rank).map(|candidate| candidate.call)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(call: u64, class: Class, runnable: bool, last_step: u64) -> Candidate {
        Candidate {
            call,
            class,
            runnable,
            last_step,
        }
    }

    #[test]
    fn nothing_runs_when_nothing_can() {
        assert_eq!(next(&[]), None);
        assert_eq!(next(&[candidate(1, Class::Own, false, 0)]), None);
    }

    #[test]
    fn a_paused_own_answer_does_not_hold_the_network_up() {
        let candidates = [
            candidate(1, Class::Own, false, 0),
            candidate(2, Class::Free, true, 9),
        ];
        assert_eq!(next(&candidates), Some(2));
    }

    proptest::proptest! {
        #[test]
        fn own_first_and_everyone_in_turn(own in 0usize..4, network in 0usize..4, steps in 1u64..60) {
            let mut candidates: Vec<Candidate> = (0..own + network)
                .map(|at| candidate(at as u64 + 1, if at < own { Class::Own } else { Class::Free }, true, 0))
                .collect();
            for step in 1..=steps {
                let Some(call) = next(&candidates) else { break };
                let chosen = candidates.iter_mut().find(|candidate| candidate.call == call).unwrap();
                proptest::prop_assert!(own == 0 || chosen.class == Class::Own);
                chosen.last_step = step;
            }
            // Nobody of the running class is more than a round behind.
            let running: Vec<u64> = candidates
                .iter()
                .filter(|candidate| (candidate.class == Class::Own) == (own > 0))
                .map(|candidate| candidate.last_step)
                .collect();
            if let (Some(first), Some(last)) = (running.iter().min(), running.iter().max()) {
                proptest::prop_assert!(last - first <= running.len() as u64);
            }
        }
    }
}
