//! A walk through the routing table in disjoint paths, modelled on what libp2p's Kademlia does with the product's settings: six paths,
//! six requests of each at a time, each path until its twenty nearest have answered.

use std::collections::{BTreeMap, HashMap};

/// Requests of one path at a time, and paths.
const PARALLEL: usize = 6;
/// A path is over when this many of the nearest have answered.
const RESULTS: usize = 20;

type Place = [u8; 32];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Waiting,
    Answered,
    Failed,
}

/// One path's view.
#[derive(Debug)]
struct Path {
    known: BTreeMap<Place, (usize, State)>,
    waiting: usize,
    fruitless: usize,
    over: bool,
}

/// All paths of one walk. Distances to the target are handed in with each machine.
#[derive(Debug)]
pub struct Walk {
    paths: Vec<Path>,
    /// Whom some path has asked already: which one, and what came of it.
    asked: HashMap<usize, (usize, State)>,
}

impl Walk {
    /// From the nearest that the walker knows itself.
    #[must_use]
    pub fn new(nearest: &[(Place, usize)]) -> Self {
        let known: BTreeMap<Place, (usize, State)> = nearest
            .iter()
            .take(RESULTS)
            .map(|(distance, machine)| (*distance, (*machine, State::New)))
            .collect();
        let path = || Path {
            known: known.clone(),
            waiting: 0,
            fruitless: 0,
            over: false,
        };
        Self {
            paths: (0..PARALLEL).map(|_| path()).collect(),
            asked: HashMap::new(),
        }
    }

    /// Whom to ask now: one path after the other takes a turn, until none wants more.
    pub fn wants(&mut self) -> Vec<usize> {
        let mut ask = Vec::new();
        loop {
            let before = ask.len();
            for number in 0..self.paths.len() {
                ask.extend(self.turn(number));
            }
            if ask.len() == before {
                return ask;
            }
        }
    }

    /// Whether every path is over.
    #[must_use]
    pub fn over(&self) -> bool {
        self.paths.iter().all(|path| path.over)
    }

    /// The nearest that answered, of each path: where paths know different ones, more than of one.
    #[must_use]
    pub fn nearest(&self) -> Vec<usize> {
        let mut all: BTreeMap<Place, usize> = BTreeMap::new();
        for path in &self.paths {
            let answered = path
                .known
                .iter()
                .filter(|(_, (_, state))| *state == State::Answered)
                .take(RESULTS);
            all.extend(answered.map(|(distance, (machine, _))| (*distance, *machine)));
        }
        all.into_values().collect()
    }

    /// A machine answered with whom it knows nearer.
    pub fn answered(&mut self, machine: usize, distance: Place, nearer: &[(Place, usize)]) {
        let Some((by, state)) = self.asked.get_mut(&machine) else {
            return;
        };
        *state = State::Answered;
        let by = *by;
        for (number, path) in self.paths.iter_mut().enumerate() {
            let told = if number == by { nearer } else { &[] };
            path.answered(distance, told);
        }
    }

    /// A machine did not answer.
    pub fn failed(&mut self, machine: usize, distance: Place) {
        if let Some((_, state)) = self.asked.get_mut(&machine) {
            *state = State::Failed;
        }
        for path in &mut self.paths {
            path.settle(distance, State::Failed);
        }
    }

    fn turn(&mut self, number: usize) -> Option<usize> {
        loop {
            let path = &mut self.paths[number];
            let (distance, machine) = path.choose()?;
            match self.asked.get(&machine) {
                None => {
                    self.asked.insert(machine, (number, State::Waiting));
                    return Some(machine);
                }
                // Another path has asked it: what came of it there counts here, without whom it named.
                Some((_, State::Answered)) => path.answered(distance, &[]),
                Some((_, State::Failed)) => {
                    path.settle(distance, State::Failed);
                }
                Some((_, State::Waiting | State::New)) => {}
            }
        }
    }
}

impl Path {
    fn room(&self) -> bool {
        let most = if self.fruitless >= PARALLEL {
            RESULTS
        } else {
            PARALLEL
        };
        self.waiting < most
    }

    /// The nearest that was not asked yet, if it is its turn.
    fn choose(&mut self) -> Option<(Place, usize)> {
        if self.over {
            return None;
        }
        let room = self.room();
        let (mut in_a_row, mut gapless) = (0, true);
        for (distance, (machine, state)) in &mut self.known {
            match state {
                State::New if room => {
                    *state = State::Waiting;
                    self.waiting += 1;
                    return Some((*distance, *machine));
                }
                State::New => return None,
                State::Waiting if !room => return None,
                State::Waiting => gapless = false,
                State::Answered if gapless => {
                    in_a_row += 1;
                    if in_a_row >= RESULTS {
                        self.over = true;
                        return None;
                    }
                }
                State::Answered | State::Failed => {}
            }
        }
        self.over = self.waiting == 0;
        None
    }

    fn settle(&mut self, distance: Place, to: State) -> bool {
        if self.over {
            return false;
        }
        match self.known.get_mut(&distance) {
            Some((_, state)) if *state == State::Waiting => {
                *state = to;
                self.waiting -= 1;
                true
            }
            Some(_) | None => false,
        }
    }

    fn answered(&mut self, distance: Place, nearer: &[(Place, usize)]) {
        if !self.settle(distance, State::Answered) {
            return;
        }
        let edge = self
            .known
            .keys()
            .nth(RESULTS - 1)
            .or_else(|| self.known.keys().last())
            .copied();
        let mut progress = self.known.len() < RESULTS;
        for (distance, machine) in nearer {
            if !self.known.contains_key(distance) {
                self.known.insert(*distance, (*machine, State::New));
                progress |= edge.is_none_or(|edge| *distance < edge);
            }
        }
        self.fruitless = if progress { 0 } else { self.fruitless + 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: usize) -> Place {
        let mut place = [0; 32];
        place[24..].copy_from_slice(&(number as u64).to_be_bytes());
        place
    }

    fn near(numbers: impl IntoIterator<Item = usize>) -> Vec<(Place, usize)> {
        numbers
            .into_iter()
            .map(|number| (place(number), number))
            .collect()
    }

    #[test]
    fn it_ends_with_the_nearest_that_answer() {
        // Everybody knows the ten before and behind; the walker knows the far end; every fifth is gone.
        let all = 200;
        let mut walk = Walk::new(&near(all - 20..all));
        let mut asked = 0;
        let mut waiting = walk.wants();
        while let Some(machine) = waiting.pop() {
            asked += 1;
            if machine % 5 == 0 {
                walk.failed(machine, place(machine));
            } else {
                let knows = machine.saturating_sub(10)..(machine + 10).min(all);
                walk.answered(machine, place(machine), &near(knows));
            }
            waiting.extend(walk.wants());
        }
        assert!(walk.over());
        let right: Vec<usize> = (0..all)
            .filter(|number| number % 5 != 0)
            .take(RESULTS)
            .collect();
        assert_eq!(walk.nearest()[..RESULTS], right);
        assert!(asked <= all);
    }

    #[test]
    fn nobody_is_asked_twice() {
        let mut walk = Walk::new(&near(0..20));
        let mut asked = Vec::new();
        let mut waiting = walk.wants();
        while let Some(machine) = waiting.pop() {
            asked.push(machine);
            walk.answered(machine, place(machine), &near(0..40));
            waiting.extend(walk.wants());
        }
        let count = asked.len();
        asked.sort_unstable();
        asked.dedup();
        assert_eq!(asked.len(), count);
        assert!(walk.over());
    }
}
