//! Which models stay in memory when another is to be loaded: a pure function of what they take and who uses them.

use crate::Class;

/// A model in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    /// Bytes that it may take: weights, scratch and pages.
    pub(super) bytes: u64,
    /// When it was used last; larger is later.
    pub(super) used: u64,
    /// An answer of the owner's runs on it.
    pub(super) own: bool,
    /// Some answer runs on it.
    pub(super) busy: bool,
    /// The owner's work used it last of all: the next turn of that chat is not kept waiting for a stranger's sake.
    pub(super) latest_own: bool,
}

/// What to do about a model that needs memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Unload these, by their index, then load. May be none.
    Evict(Vec<usize>),
    /// It fits once answers that run now have ended.
    Wait,
    /// It does not fit, whatever is unloaded for it; this many bytes are all there could be.
    TooLarge {
        /// Bytes.
        have: u64,
    },
}

/// Decides for a model that needs `need` bytes where `free` are, for work of `class`. The one that was unused longest goes
/// first. Others' work never costs the owner a model in use; the owner's may end answers of others.
pub(super) fn make_room(need: u64, free: u64, held: &[Held], class: Class) -> Verdict {
    let mut order: Vec<usize> = (0..held.len()).collect();
    let may_go = |model: &Held| match class {
        Class::Own => !model.own,
        Class::Paid | Class::Free | Class::Audit => !model.busy && !model.latest_own,
    };
    // Among those that may go, idle ones before those that somebody waits for.
    order.sort_by_key(|&at| (held[at].busy, held[at].used));
    let mut room = free;
    let mut evicted = Vec::new();
    for at in order.iter().copied().filter(|&at| may_go(&held[at])) {
        if room >= need {
            break;
        }
        room = room.saturating_add(held[at].bytes);
        evicted.push(at);
    }
    if room >= need {
        return Verdict::Evict(evicted);
    }
    // Whatever is used now will not be for ever, but for what the owner keeps from others.
    let one_day = |model: &&Held| class == Class::Own || !(model.latest_own || model.own);
    let have = held
        .iter()
        .filter(one_day)
        .fold(free, |sum, model| sum.saturating_add(model.bytes));
    if have >= need {
        Verdict::Wait
    } else {
        Verdict::TooLarge { have }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn models() -> impl Strategy<Value = Vec<Held>> {
        let model = (1u64..100, 0u64..50, any::<bool>(), any::<bool>());
        prop::collection::vec(model, 0..6).prop_map(|models| {
            let held = models
                .into_iter()
                .enumerate()
                .map(|(at, (bytes, used, own, busy))| Held {
                    bytes,
                    used: used * 8 + at as u64,
                    own,
                    busy: busy || own,
                    latest_own: false,
                });
            let mut held: Vec<Held> = held.collect();
            if let Some(latest) = held.iter_mut().max_by_key(|model| model.used) {
                latest.latest_own = true;
            }
            held
        })
    }

    proptest! {
        #[test]
        fn the_owners_models_are_safe_and_no_more_goes_than_must(
            held in models(), need in 1u64..300, free in 0u64..100, class in prop::sample::select(Class::ALL.to_vec()),
        ) {
            match make_room(need, free, &held, class) {
                Verdict::Evict(evicted) => {
                    let room = free + evicted.iter().map(|&at| held[at].bytes).sum::<u64>();
                    prop_assert!(room >= need);
                    prop_assert!(evicted.iter().all(|&at| !held[at].own));
                    if class.is_network() {
                        prop_assert!(evicted.iter().all(|&at| !held[at].busy && !held[at].latest_own));
                    }
                    if let Some(&last) = evicted.last() {
                        prop_assert!(room - held[last].bytes < need, "the last one was needed");
                        let idle_kept = (0..held.len()).filter(|at| !evicted.contains(at) && !held[*at].busy);
                        let idle_gone = evicted.iter().filter(|&&at| !held[at].busy).map(|&at| held[at].used).max();
                        for at in idle_kept {
                            prop_assert!(class.is_network() && held[at].latest_own || idle_gone.is_none_or(|gone| gone < held[at].used));
                        }
                    }
                }
                Verdict::Wait => prop_assert!(held.iter().any(|model| model.busy)),
                Verdict::TooLarge { have } => prop_assert!(have < need),
            }
        }
    }
}
