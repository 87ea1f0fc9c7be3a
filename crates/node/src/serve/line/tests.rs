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
        memory: None,
        goes_on: false,
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
fn an_answer_that_broke_elsewhere_has_a_place_besides() {
    let broken = |asker| Asker {
        goes_on: true,
        ..asker
    };
    let mut line = Line::default();
    let computes = [1, 2].map(|number| ask(&mut line, paid(number)).unwrap().0);
    let waits = ask(&mut line, paid(3)).unwrap().0;
    let (again, is_seated) = ask(&mut line, broken(paid(1))).unwrap();
    assert!(!is_seated, "who has a place gets none besides");
    let (rescued, is_seated) = ask(&mut line, broken(free(9, 9))).unwrap();
    assert!(is_seated);
    let (_, is_seated) = ask(&mut line, broken(free(8, 8))).unwrap();
    assert!(!is_seated, "one at a time");
    line.leave(computes[0]);
    assert_eq!(
        line.seat(),
        [waits],
        "the others' places are in the line's order"
    );
    line.leave(rescued);
    assert_eq!(line.seat(), [again]);
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
fn while_payers_keep_coming_who_does_not_pay_has_every_fifth_place() {
    let mut line = Line::default();
    let mut computing = [1, 2].map(|number| ask(&mut line, paid(number)).unwrap().0);
    let mut waits: Vec<Ticket> = [1, 2]
        .map(|number| ask(&mut line, free(number, number)).unwrap().0)
        .into();
    // Three payers wait at any time.
    let mut next_payer = 3;
    let mut pay = |line: &mut Line| {
        next_payer += 1;
        ask(line, paid(next_payer)).unwrap();
    };
    for _ in 0..3 {
        pay(&mut line);
    }
    let mut places = String::new();
    for turn in 0..10 {
        line.leave(computing[turn % 2]);
        let seated = line.seat();
        assert_eq!(seated.len(), 1);
        computing[turn % 2] = seated[0];
        if waits.first() == seated.first() {
            waits.remove(0);
            places.push('f');
        } else {
            places.push('p');
            pay(&mut line);
        }
    }
    assert_eq!(places, "ppppfppppf");
    assert!(waits.is_empty());
}

#[test]
fn payers_leave_room_in_line_to_who_does_not_pay() {
    let mut line = Line::default();
    for number in 1..=2 + (WAITING - FREE_WAITING) as u8 {
        ask(&mut line, paid(number)).unwrap();
    }
    assert!(
        line.join(paid(99)).is_err(),
        "what is left is not a payer's"
    );
    let free: Vec<Ticket> = (1..=FREE_WAITING as u8)
        .map(|number| ask(&mut line, free(number, number)).unwrap().0)
        .collect();
    assert!(line.join(paid(99)).is_err(), "nobody is sent away for it");
    // The place that each is told is the one that it has.
    let order = line.order();
    assert_eq!((order[4], order[7]), (free[0], free[1]));
}

#[test]
fn behind_a_relay_are_many_and_they_come_before_nobody_for_it() {
    let relay = Payer::Relayed(Some(peer(200)));
    let through = |number| Asker {
        payer: relay,
        ..free(number, 0)
    };
    let mut line = Line::default();
    let computes = [1, 2].map(|number| ask(&mut line, through(number)).unwrap().0);
    let second = ask(&mut line, through(1)).unwrap().0;
    let waits: Vec<Ticket> = (3..=2 + PER_RELAY as u8 - 1)
        .map(|number| ask(&mut line, through(number)).unwrap().0)
        .collect();
    assert!(line.join(through(99)).is_err(), "the rest is for others");
    let other = ask(&mut line, free(50, 1)).unwrap().0;
    // However many ids it has: a household that has nothing comes first, and of those behind the relay whoever has nothing.
    let mut order = vec![other];
    order.extend(&waits);
    order.push(second);
    assert_eq!(line.order(), order);
    line.leave(computes[0]);
    assert_eq!(line.seat(), [other]);
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
        (1u8..3).prop_map(|number| Payer::Relayed(Some(peer(number)))),
    ];
    let memory =
        prop::option::of((1u64..MEMORY + 20).prop_map(|needs| Memory { needs, of: MEMORY }));
    (payer, 1u8..9, memory, any::<(bool, bool)>()).prop_map(
        |(payer, number, memory, (goes_on, may_wait))| Asker {
            payer,
            peer: peer(number),
            memory,
            goes_on,
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
    let memory = line.seated.values().filter_map(|seated| seated.memory);
    memory.map(|memory| memory.needs).sum()
}

/// What is true of a line at any time.
fn is_bounded(line: &Line) {
    assert!(line.seated.len() <= SLOTS + RESCUES && line.waiting.len() <= WAITING);
    assert!(line.rescues.len() <= RESCUES && line.seated.len() - line.rescues.len() <= SLOTS);
    let besides = line.rescues.iter().map(|ticket| &line.seated[ticket]);
    assert!(besides.into_iter().all(|asker| asker.goes_on));
    let paid = count(&line.waiting, |asker| asker.payer.pays());
    assert!(paid <= WAITING - FREE_WAITING);
    for of in line.waiting.values().chain(line.seated.values()) {
        let mine = |asker: &Asker| asker.payer == of.payer;
        assert!(count(&line.seated, mine) <= PER_PAYER);
        let most = match of.payer {
            Payer::Relayed(_) => PER_RELAY,
            Payer::House(_) | Payer::Wallet(_) => PER_PAYER,
        };
        assert!(count(&line.waiting, mine) <= most);
        if !of.payer.pays() {
            let same = |asker: &Asker| asker.peer == of.peer && !asker.payer.pays();
            assert!(count(&line.seated, same) <= PER_FREE_PEER);
            assert!(count(&line.waiting, same) <= PER_FREE_PEER);
        }
    }
}

/// Nobody waits for a place that is free, unless who comes before it does not fit.
fn is_busy(line: &Line) {
    let waiting = line.waiting.values();
    let able: Vec<&Asker> = waiting.filter(|asker| line.has_place(asker)).collect();
    let is_too_large = |asker: &&Asker| {
        let memory = asker.memory.map_or(0, |memory| memory.needs);
        held(line) + memory > MEMORY
    };
    assert!(
        able.is_empty() || able.iter().any(is_too_large),
        "a place is left free"
    );
}

/// Whoever got a place passed nobody who may have had it and has the better right.
fn is_fair(before: &Line, seated: Ticket) {
    let asker = before.waiting[&seated];
    for (&ticket, other) in &before.waiting {
        if ticket == seated
            || !before.has_place(other)
            || asker.payer.pays() != other.payer.pays()
            || ticket != front_of(before, &other.payer)
        {
            continue;
        }
        // Who has less, or as little and came before, is not passed.
        let has = |payer: &Payer| count(&before.seated, |seated| seated.payer == *payer);
        let (mine, theirs) = (has(&asker.payer), has(&other.payer));
        assert!(
            mine < theirs || (mine == theirs && seated < ticket),
            "it is passed by"
        );
    }
}

/// Whose turn it is among those behind one payer: who has least, and of these who came first.
fn front_of(line: &Line, payer: &Payer) -> Ticket {
    let waiting = line.waiting.iter();
    let mine = waiting.filter(|(_, asker)| asker.payer == *payer);
    let has = |(&ticket, asker): (&Ticket, &Asker)| {
        let of_peer = |other: &Asker| other.payer == *payer && other.peer == asker.peer;
        let earlier = line.waiting.range(..ticket);
        let earlier = earlier.filter(|(_, other)| of_peer(other)).count();
        (count(&line.seated, of_peer) + earlier, ticket)
    };
    mine.map(has).min().unwrap().1
}

/// How many payers passed somebody who does not pay and might have had the place, since the last such one had one.
#[derive(Default)]
struct Passing(usize);

impl Passing {
    fn seated(&mut self, before: &Line, seated: Ticket) {
        if !before.has_slot() {
            return;
        }
        let mut waiting = before.waiting.values();
        let passed = waiting.any(|other| !other.payer.pays() && before.has_place(other));
        match (before.waiting[&seated].payer.pays(), passed) {
            (true, true) => self.0 += 1,
            (true, false) => {}
            (false, _) => self.0 = 0,
        }
        assert!(self.0 <= PAID_BEFORE_FREE, "who does not pay is forgotten");
        // Nor the other way round: one that is not paid for goes first once, and when its turn has come.
        let mut waiting = before.waiting.values();
        if !before.waiting[&seated].payer.pays()
            && waiting.any(|other| other.payer.pays() && before.has_place(other))
        {
            assert_eq!(before.paid_before, PAID_BEFORE_FREE, "a payer is passed by");
        }
    }

    fn look(&mut self, line: &Line) {
        if !line.free_waits() {
            self.0 = 0;
        }
    }
}

proptest! {
    #[test]
    fn whatever_comes_and_goes_the_line_is_fair_and_nobody_is_forgotten(steps in any_steps()) {
        let mut line = Line::default();
        let mut here: Vec<Ticket> = Vec::new();
        let mut passing = Passing::default();
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
            passing.look(&line);
            let mut before = line.clone();
            while let Some(next) = line.seat_next() {
                is_fair(&before, next);
                passing.seated(&before, next);
                passing.look(&line);
                before = line.clone();
            }
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
