//! Turns among the askers of a class: start-time fair queueing over the device's time. An asker has a virtual time that
//! grows with the time computed for them, the slower the heavier their weight; the one whose is least comes first.

use std::collections::BTreeMap;

use super::Candidate;
use super::cost::Costs;
use crate::Class;

/// Askers remembered at once. Those that are not here any more are forgotten as soon as the others have caught up with
/// them; this bounds what a crowd that comes and goes can leave behind.
const MAX_REMEMBERED: usize = 1024;

/// Cost of a row where none was measured yet: any, the same for all.
const UNMEASURED: f64 = 1e-3;

#[derive(Debug, Clone, Default)]
pub(super) struct Fair {
    /// Virtual seconds by class and asker.
    had: BTreeMap<(Class, u64), f64>,
    /// The least virtual time of those who were here at the last step, by class: who is new starts there, and cannot save
    /// up by staying away.
    floor: BTreeMap<Class, f64>,
}

impl Fair {
    /// The candidates of a class in the order in which they come: always the next of the asker who has had least, counting
    /// what they get on the way. Of one asker, the one that waited longest.
    pub(super) fn order(
        &self,
        class: Class,
        queue: Vec<Candidate>,
        costs: &BTreeMap<u64, Costs>,
    ) -> Vec<Candidate> {
        let mut askers: BTreeMap<u64, (f64, Vec<Candidate>)> = BTreeMap::new();
        for candidate in queue {
            let entry = askers
                .entry(candidate.asker)
                .or_insert_with(|| (self.had(class, candidate.asker), Vec::new()));
            entry.1.push(candidate);
        }
        for (_, own) in askers.values_mut() {
            // The one to come next stands last.
            own.sort_by_key(|candidate| std::cmp::Reverse((candidate.last_step, candidate.call)));
        }
        let mut ordered = Vec::new();
        while let Some((_, (had, own))) = askers
            .iter_mut()
            .min_by(|(a, (a_had, _)), (b, (b_had, _))| a_had.total_cmp(b_had).then(a.cmp(b)))
        {
            if let Some(next) = own.pop() {
                let costs = costs.get(&next.model);
                let row = costs.map_or(0.0, Costs::row).max(UNMEASURED);
                let token = costs.map_or(0.0, Costs::token).max(UNMEASURED);
                let cost = match next.decodes() {
                    true => row,
                    false => token * f64::from(next.chunk(super::STEP_TOKENS)),
                };
                *had += cost / f64::from(next.weight.max(1));
                ordered.push(next);
            }
            askers.retain(|_, (_, own)| !own.is_empty());
        }
        ordered
    }

    /// Counts seconds for an asker.
    pub(super) fn charge(&mut self, candidate: &Candidate, seconds: f64) {
        let had = self.had(candidate.class, candidate.asker);
        let spent = seconds.max(0.0) / f64::from(candidate.weight.max(1));
        self.had
            .insert((candidate.class, candidate.asker), had + spent);
    }

    /// After a step: raises the floors, and forgets who is gone and owes nothing.
    pub(super) fn settle(&mut self, here: &[Candidate]) {
        for class in Class::ALL {
            let of_class = here.iter().filter(|candidate| candidate.class == class);
            let least = of_class
                .map(|candidate| self.had(class, candidate.asker))
                .min_by(f64::total_cmp);
            if let Some(least) = least {
                let floor = self.floor.entry(class).or_insert(0.0);
                *floor = floor.max(least);
            }
        }
        let floor = &self.floor;
        self.had.retain(|(class, asker), had| {
            let is_here = here
                .iter()
                .any(|candidate| candidate.class == *class && candidate.asker == *asker);
            is_here || floor.get(class).is_none_or(|floor| *had > *floor)
        });
        while self.had.len() > MAX_REMEMBERED {
            self.had.pop_first();
        }
    }

    fn had(&self, class: Class, asker: u64) -> f64 {
        let floor = self.floor.get(&class).copied().unwrap_or(0.0);
        let had = self.had.get(&(class, asker)).copied();
        had.map_or(floor, |had| had.max(floor))
    }
}
