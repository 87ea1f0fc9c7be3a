//! Whom the next fault of the plan meets: a plain function of what is seen, so that no fault is timed that two of them made.

use super::Kind;
use crate::answer::Progress;

/// An answer is disturbed once this many of its tokens have come: past the first frames, well before the end.
const DISTURB_AFTER: u64 = 16;
/// And no later than this, so that there is something left to rescue.
const DISTURB_BEFORE: u64 = 160;
/// One answer is disturbed so often at most: who goes on with it must live to sign how long it read the prompt.
const DISTURBED: usize = 1;
/// Whole providers that an asking program still knows when one of its own is broken: who goes on, and one more.
const LEFT: usize = 2;
/// Providers that each asking program knows at its start, as one that is new here does.
const KNOWN: usize = 5;

/// A program that serves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Provider<'a> {
    pub(super) peer: &'a str,
    pub(super) address: &'a str,
    /// Its disk can be made full.
    pub(super) small: bool,
    /// Something was done to it that still holds.
    pub(super) broken: bool,
}

/// A program that asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) progress: &'a Progress,
    /// Addresses of the providers that it knows.
    pub(super) known: &'a [String],
    pub(super) ended: bool,
    /// It does not read, or has shown nothing since it reads again.
    pub(super) stands: bool,
}

impl Asking<'_> {
    pub(super) fn is_answered_by(&self, provider: &Provider<'_>) -> bool {
        self.progress.provider.as_deref() == Some(provider.peer)
    }

    fn was_disturbed(&self) -> bool {
        self.progress.moves.len() >= DISTURBED || self.progress.is_moving()
    }

    fn is_in_the_middle(&self) -> bool {
        (DISTURB_AFTER..DISTURB_BEFORE).contains(&self.progress.tokens)
            && self.progress.finished.is_none()
    }
}

/// Whom one more asking program knows: of the providers that are whole, those that the fewest know who still ask.
pub(super) fn acquaintances(providers: &[Provider<'_>], asking: &[Asking<'_>]) -> Vec<usize> {
    let known = |provider: &Provider<'_>| {
        asking
            .iter()
            .filter(|asking| !asking.ended && asking.known.iter().any(|it| it == provider.address))
            .count()
    };
    let mut whole: Vec<usize> = (0..providers.len())
        .filter(|number| !providers[*number].broken)
        .collect();
    whole.sort_by_key(|number| known(&providers[*number]));
    whole.truncate(KNOWN);
    whole
}

/// Answers that are, or are going to be, in their middle with a provider that is whole, and were never disturbed.
pub(super) fn to_be_disturbed(providers: &[Provider<'_>], asking: &[Asking<'_>]) -> usize {
    let broken = |asking: &Asking<'_>| {
        providers
            .iter()
            .any(|provider| provider.broken && asking.is_answered_by(provider))
    };
    asking
        .iter()
        .filter(|asking| !asking.ended && !asking.stands && !broken(asking))
        .filter(|asking| !asking.was_disturbed())
        .filter(|asking| asking.progress.tokens < DISTURB_BEFORE)
        .count()
}

/// Who stops reading: an asking program in the middle of an answer whose provider is whole. One that has to notice that its
/// provider is gone would notice it only when it runs again, and both times would be those of the other fault as well.
pub(super) fn reader(providers: &[Provider<'_>], asking: &[Asking<'_>]) -> Option<usize> {
    asking.iter().position(|asking| {
        asking.is_in_the_middle()
            && providers
                .iter()
                .any(|provider| !provider.broken && asking.is_answered_by(provider))
    })
}

/// The provider with fewest answers in their middle, so that there are enough for all of the plan; all who wait for it read, none of
/// them was disturbed too often, and all that know it know others that are whole.
pub(super) fn victim(
    providers: &[Provider<'_>],
    asking: &[Asking<'_>],
    kind: Kind,
) -> Option<usize> {
    let whole = |address: &String| {
        providers
            .iter()
            .any(|provider| provider.address == *address && !provider.broken)
    };
    let answers = |provider: &Provider<'_>| {
        asking
            .iter()
            .filter(|asking| asking.is_answered_by(provider) && asking.is_in_the_middle())
            .count()
    };
    let bears_it = |provider: &Provider<'_>| {
        asking
            .iter()
            .filter(|asking| asking.is_answered_by(provider) && !asking.ended)
            .all(|asking| !asking.stands && !asking.was_disturbed())
    };
    let spared = |provider: &Provider<'_>| {
        asking
            .iter()
            .filter(|asking| !asking.ended && asking.known.iter().any(|it| it == provider.address))
            .all(|asking| asking.known.iter().filter(|it| whole(it)).count() > LEFT)
    };
    providers
        .iter()
        .enumerate()
        .filter(|(_, provider)| kind != Kind::FullDisk || provider.small)
        .filter(|(_, provider)| !provider.broken && answers(provider) > 0)
        .filter(|(_, provider)| bears_it(provider) && spared(provider))
        .min_by_key(|(_, provider)| answers(provider))
        .map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["a", "b", "c", "d"];

    fn providers(broken: &[&str]) -> Vec<Provider<'static>> {
        let provider = |name: &'static str| Provider {
            peer: name,
            address: name,
            small: name != "a",
            broken: broken.contains(&name),
        };
        NAMES.into_iter().map(provider).collect()
    }

    fn answered_by(peer: &str, tokens: u64) -> Progress {
        let mut progress = Progress::default();
        progress.provider = Some(peer.to_owned());
        progress.tokens = tokens;
        progress
    }

    /// Programs that know everybody; the numbers are of those that stand.
    fn asking<'a>(
        progress: &'a [Progress],
        known: &'a [String],
        stand: &[usize],
    ) -> Vec<Asking<'a>> {
        let asking = |(number, progress)| Asking {
            progress,
            known,
            ended: false,
            stands: stand.contains(&number),
        };
        progress.iter().enumerate().map(asking).collect()
    }

    fn known() -> Vec<String> {
        NAMES.map(str::to_owned).to_vec()
    }

    #[test]
    fn who_waits_for_a_broken_provider_does_not_stop_reading() {
        let progress = [answered_by("a", 16), answered_by("b", 100)];
        let known = known();
        let asking = asking(&progress, &known, &[]);
        assert_eq!(reader(&providers(&[]), &asking), Some(0));
        assert_eq!(reader(&providers(&["a"]), &asking), Some(1));
        assert_eq!(reader(&providers(&["a", "b"]), &asking), None);
    }

    #[test]
    fn a_provider_whose_asker_does_not_read_is_not_broken() {
        let progress = [answered_by("a", 16), answered_by("b", 100)];
        let known = known();
        let victim = |stand: &[usize]| {
            victim(
                &providers(&[]),
                &asking(&progress, &known, stand),
                Kind::Kill,
            )
        };
        assert_eq!(victim(&[]), Some(0));
        assert_eq!(victim(&[0]), Some(1));
        assert_eq!(victim(&[0, 1]), None);
    }

    #[test]
    fn nobody_is_left_with_too_few_or_disturbed_twice_and_only_small_disks_are_filled() {
        let progress = [answered_by("a", 16), answered_by("b", 100)];
        let known = known();
        let both = asking(&progress, &known, &[]);
        assert_eq!(victim(&providers(&["c"]), &both, Kind::Kill), Some(0));
        assert_eq!(victim(&providers(&["c", "d"]), &both, Kind::Kill), None);
        assert_eq!(victim(&providers(&[]), &both, Kind::FullDisk), Some(1));
        let mut moved = progress.clone();
        moved[0].moves.push(crate::answer::Move {
            from: "c".to_owned(),
            index: 3,
            lost: std::time::Instant::now(),
            gap: std::time::Duration::ZERO,
            asked: Vec::new(),
        });
        let both = asking(&moved, &known, &[]);
        assert_eq!(victim(&providers(&[]), &both, Kind::Kill), Some(1));
        let late = [answered_by("a", DISTURB_BEFORE), answered_by("b", 15)];
        let late = asking(&late, &known, &[]);
        assert_eq!(victim(&providers(&[]), &late, Kind::Kill), None);
    }

    #[test]
    fn one_more_question_knows_those_that_are_whole_and_the_fewest_know() {
        let progress = [answered_by("a", 16), answered_by("b", 16)];
        let few = ["a".to_owned(), "b".to_owned()];
        let mut asking = asking(&progress, &few, &[]);
        assert_eq!(acquaintances(&providers(&[]), &asking), [2, 3, 0, 1]);
        assert_eq!(acquaintances(&providers(&["c"]), &asking), [3, 0, 1]);
        asking.iter_mut().for_each(|asking| asking.ended = true);
        assert_eq!(acquaintances(&providers(&[]), &asking), [0, 1, 2, 3]);
    }

    #[test]
    fn what_can_still_be_disturbed_is_counted() {
        let mut moved = answered_by("c", 16);
        moved.moves.push(crate::answer::Move {
            from: "d".to_owned(),
            index: 3,
            lost: std::time::Instant::now(),
            gap: std::time::Duration::ZERO,
            asked: Vec::new(),
        });
        let progress = [
            answered_by("a", 0),
            answered_by("b", 100),
            answered_by("c", DISTURB_BEFORE),
            moved,
        ];
        let known = known();
        let all = asking(&progress, &known, &[]);
        assert_eq!(to_be_disturbed(&providers(&[]), &all), 2);
        assert_eq!(to_be_disturbed(&providers(&["b"]), &all), 1);
        let stands = asking(&progress, &known, &[0, 1]);
        assert_eq!(to_be_disturbed(&providers(&[]), &stands), 0);
    }
}
