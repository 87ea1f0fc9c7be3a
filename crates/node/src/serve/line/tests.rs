//! Whatever comes and goes, the line is fair and nobody is forgotten.

use proptest::prelude::*;
use protocol::{Signer, voucher::Address};

use super::*;

/// Tokens that others' jobs may hold in these tests.
const MEMORY: u64 = 100;

fn peer(number: u8) -> PeerId {
    Signer::from_seed([number; 32]).peer_id()
}

fn house(number: u8) -> Payer {
    Payer::of(&format!("/ip4/203.0.113.{number}/tcp/1"))
}

fn free(peer_number: u8, house_number: u8) -> Asker {
    Asker {
        payer: house(house_number),
        peer: peer(peer_number),
        kind: Kind::New,
        memory: None,
        may_wait: true,
    }
}

fn paid(number: u8) -> Asker {
    Asker {
        payer: Payer::Wallet(Address::repeat_byte(number)),
        ..free(100 + number, number)
    }
}

/// Takes a job in and gives away what is free: its ticket, and whether it has a place.
fn ask(line: &mut Line, asker: Asker) -> Result<(Ticket, bool), Full> {
    let joined = line.join(asker)?;
    let seated = line.seat();
    assert!(
        seated.is_empty() || seated == [joined.ticket],
        "it passes somebody"
    );
    Ok((joined.ticket, !seated.is_empty()))
}

#[test]
fn of_one_household_two_compute_two_wait_and_a_fifth_is_told_so_at_once() {
    let mut line = Line::default();
    let seated = [1, 2].map(|number| ask(&mut line, free(number, 1)).unwrap());
    assert!(seated.iter().all(|(_, seated)| *seated));
    let waiting = [3, 4].map(|number| ask(&mut line, free(number, 1)).unwrap());
    assert!(waiting.iter().all(|(_, seated)| !*seated));
    assert_eq!(line.join(free(5, 1)), Err(Full { waiting: 2 }));
    assert!(
        line.join(free(6, 2)).is_ok(),
        "somebody else is not held up"
    );
    // A peer does not wait twice.
    let mut line = Line::default();
    for asker in [free(1, 1), free(2, 2), free(1, 1)] {
        ask(&mut line, asker).unwrap();
    }
    assert!(line.join(free(1, 1)).is_err());
}

#[test]
fn everybodys_first_comes_before_anybodys_second() {
    let mut line = Line::default();
    let first = [1, 2].map(|number| ask(&mut line, free(number, 1)).unwrap().0);
    let third = ask(&mut line, free(3, 1)).unwrap().0;
    let late = ask(&mut line, free(4, 2)).unwrap().0;
    let later = ask(&mut line, free(5, 3)).unwrap().0;
    assert_eq!(line.order(), [late, later, third]);
    line.leave(first[0]);
    assert_eq!(line.seat(), [late]);
    line.leave(first[1]);
    // Now that house 1 has nothing, who came first is first.
    assert_eq!(line.seat(), [third]);
    line.leave(third);
    assert_eq!(line.seat(), [later]);
}

#[test]
fn who_pays_comes_first_and_finds_room_in_a_full_line() {
    let mut line = Line::default();
    let seated = [1, 2].map(|number| ask(&mut line, free(number, number)).unwrap().0);
    let waiting: Vec<Ticket> = (10..10 + WAITING as u8)
        .map(|number| ask(&mut line, free(number, number)).unwrap().0)
        .collect();
    assert!(line.join(free(99, 99)).is_err(), "the line is full");
    let hasty = Asker {
        may_wait: false,
        ..paid(1)
    };
    assert!(
        line.join(hasty).is_err(),
        "nobody makes room for who does not stay"
    );
    let payer = line.join(paid(1)).unwrap();
    assert_eq!(payer.displaced, waiting.last().copied());
    line.leave(seated[0]);
    assert_eq!(line.seat(), [payer.ticket]);
}

#[test]
fn an_answer_that_broke_elsewhere_has_a_place_besides_and_no_other_advantage() {
    let mut line = Line::default();
    let broken = |number| Asker {
        kind: Kind::Broken,
        ..free(number, number)
    };
    let first = ask(&mut line, free(1, 1)).unwrap().0;
    ask(&mut line, free(2, 2)).unwrap();
    let waits = ask(&mut line, free(3, 3)).unwrap().0;
    assert!(ask(&mut line, broken(4)).unwrap().1);
    let other = ask(&mut line, broken(5)).unwrap();
    assert!(!other.1);
    assert_eq!(line.order(), [waits, other.0]);
    line.leave(first);
    assert_eq!(line.seat(), [waits]);
}

#[test]
fn a_long_job_is_not_passed_by_short_ones_and_one_that_never_fits_does_not_wait() {
    let long = |needs| Some(Memory { needs, of: MEMORY });
    let asks = |number, needs| Asker {
        memory: long(needs),
        ..free(number, number)
    };
    let mut line = Line::default();
    let first = ask(&mut line, asks(1, 60)).unwrap();
    let second = ask(&mut line, asks(2, 90)).unwrap();
    let third = ask(&mut line, asks(3, 10)).unwrap();
    assert_eq!((first.1, second.1, third.1), (true, false, false));
    assert!(line.join(asks(4, MEMORY + 1)).is_err());
    line.leave(first.0);
    assert_eq!(line.seat(), [second.0, third.0]);
}

#[derive(Debug, Clone)]
enum Step {
    Ask(Asker),
    /// The job of this number, counted over all that are here, is over or goes.
    Leave(usize),
}

fn any_asker() -> impl Strategy<Value = Asker> {
    let payer = prop_oneof![
        (1u8..5).prop_map(house),
        (1u8..4).prop_map(|number| Payer::Wallet(Address::repeat_byte(number))),
        Just(Payer::Relayed),
    ];
    let memory =
        prop::option::of((1u64..MEMORY + 20).prop_map(|needs| Memory { needs, of: MEMORY }));
    (payer, 1u8..9, any::<bool>(), memory, any::<bool>()).prop_map(
        |(payer, number, broken, memory, may_wait)| Asker {
            payer,
            peer: peer(number),
            kind: match broken {
                true => Kind::Broken,
                false => Kind::New,
            },
            memory,
            may_wait,
        },
    )
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => any_asker().prop_map(Step::Ask),
        2 => any::<usize>().prop_map(Step::Leave),
    ];
    prop::collection::vec(step, 0..120)
}

fn held(line: &Line) -> u64 {
    let memory = line
        .seated
        .values()
        .filter_map(|seated| seated.asker.memory);
    memory.map(|memory| memory.needs).sum()
}

/// What is true of a line at any time.
fn is_bounded(line: &Line) {
    let seated: Vec<&Seated> = line.seated.values().collect();
    let slots = seated.iter().filter(|seated| seated.place == Place::Slot);
    assert!(slots.count() <= SLOTS && seated.len() <= SLOTS + RESCUES);
    assert!(line.waiting.len() <= WAITING);
    let mine = |asker: &Asker, of: &Asker| asker.payer == of.payer;
    for of in line
        .waiting
        .values()
        .chain(seated.iter().map(|seated| &seated.asker))
    {
        let slots = seated.iter().filter(|seated| seated.place == Place::Slot);
        assert!(slots.filter(|seated| mine(&seated.asker, of)).count() <= PER_PAYER);
        let waiting = line.waiting.values();
        assert!(waiting.clone().filter(|other| mine(other, of)).count() <= PER_PAYER);
        if !of.payer.pays() {
            let same = |asker: &Asker| asker.peer == of.peer && !asker.payer.pays();
            assert!(seated.iter().filter(|seated| same(&seated.asker)).count() <= PER_FREE_PEER);
            assert!(waiting.filter(|other| same(other)).count() <= PER_FREE_PEER);
        }
    }
}

/// Nobody waits for a place that is free, unless who comes before it does not fit.
fn is_busy(line: &Line) {
    let first = line.order().into_iter().find_map(|ticket| {
        let asker = line.waiting[&ticket];
        line.place(&asker).map(|_| asker)
    });
    if let Some(asker) = first {
        let memory = asker.memory.expect("a place is left free");
        assert!(
            held(line) + memory.needs > memory.of,
            "a place is left free"
        );
    }
}

/// Whoever got a place passed nobody who may have had it and has the better right.
fn is_fair(before: &Line, seated: Ticket) {
    let asker = before.waiting[&seated];
    for (&ticket, other) in &before.waiting {
        if ticket == seated || before.place(other).is_none() {
            continue;
        }
        assert!(
            asker.payer.pays() || !other.payer.pays(),
            "a payer is passed by"
        );
        if asker.payer.pays() != other.payer.pays() {
            continue;
        }
        let has = |payer: &Payer| {
            let seated = before.seated.values();
            seated.filter(|seated| seated.asker.payer == *payer).count()
        };
        let is_first = |ticket: Ticket, payer: &Payer| {
            let mut earlier = before.waiting.iter().filter(|(other, _)| **other < ticket);
            earlier.all(|(_, other)| other.payer != *payer)
        };
        // Who has less, or as little and came before, is not passed.
        let (mine, theirs) = (has(&asker.payer), has(&other.payer));
        if is_first(ticket, &other.payer) {
            assert!(
                mine < theirs || (mine == theirs && seated < ticket),
                "it is passed by"
            );
        }
    }
}

proptest! {
    #[test]
    fn whatever_comes_and_goes_the_line_is_fair_and_nobody_is_forgotten(steps in any_steps()) {
        let mut line = Line::default();
        let mut here: Vec<Ticket> = Vec::new();
        for step in steps {
            match step {
                Step::Ask(asker) => {
                    let before = line.waiting.len();
                    match line.join(asker) {
                        Ok(joined) => {
                            here.push(joined.ticket);
                            here.retain(|ticket| Some(*ticket) != joined.displaced);
                        }
                        Err(full) => prop_assert_eq!(full.waiting as usize, before),
                    }
                }
                Step::Leave(at) if !here.is_empty() => {
                    let gone = here.remove(at % here.len());
                    line.leave(gone);
                    prop_assert!(!line.order().contains(&gone));
                }
                Step::Leave(_) => {}
            }
            loop {
                let before = Line { seated: line.seated.clone(), waiting: line.waiting.clone(), next: line.next };
                let Some((next, ..)) = line.next_seated() else { break };
                is_fair(&before, next);
                // One at a time, as they come.
                let (asker, place) = (line.waiting.remove(&next).unwrap(), before.place(&before.waiting[&next]).unwrap());
                line.seated.insert(next, Seated { asker, place });
            }
            prop_assert_eq!(line.seat(), Vec::<Ticket>::new());
            is_bounded(&line);
            is_busy(&line);
        }
        // When nobody comes any more, everybody has a turn.
        let mut waiting = line.waiting.len();
        while let Some((&first, _)) = line.seated.first_key_value() {
            line.leave(first);
            line.seat();
            prop_assert!(line.waiting.len() <= waiting);
            waiting = line.waiting.len();
        }
        prop_assert_eq!(waiting, 0);
    }
}
