//! Which of its jobs a line's total pays for.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use protocol::{
    JobId,
    voucher::{Opening, Split},
};

fn job(number: u8) -> JobId {
    JobId::new([number; 32])
}

/// A voucher behind a first frame that shows this total, of which so much is the job's.
fn shows(cumulative: u128, adds: u128) -> Opening {
    Opening { cumulative, adds }
}

#[test]
fn one_job_is_paid_what_its_line_rises() {
    let mut split = Split::default();
    split.open(job(1), 100, shows(100, 0));
    assert_eq!(split.paid(&job(1)), 0);
    split.take(&job(1), 150);
    split.take(&job(1), 150);
    split.take(&job(1), 120);
    assert_eq!(split.paid(&job(1)), 50);
    split.close(&job(1));
    assert!(split.is_idle());
    // What was left over or owed is over with the last job.
    split.open(job(2), 150, shows(150, 0));
    assert_eq!(split.paid(&job(2)), 0);
}

#[test]
fn a_line_that_is_held_higher_than_it_is_shown_pays_for_nothing_twice() {
    let mut split = Split::default();
    // Its payer shows 100, and 400 are held already.
    split.open(job(1), 400, shows(100, 0));
    split.take(&job(1), 300);
    assert_eq!(split.paid(&job(1)), 0);
    split.take(&job(1), 410);
    assert_eq!(split.paid(&job(1)), 10);
}

#[test]
fn a_late_voucher_takes_its_part_out_of_a_later_raise() {
    let mut split = Split::default();
    split.open(job(1), 0, shows(0, 0));
    split.open(job(2), 0, shows(0, 0));
    // Five for the first, then three for the second; the second arrives first.
    split.take(&job(2), 8);
    assert_eq!((split.paid(&job(1)), split.paid(&job(2))), (0, 8));
    split.take(&job(1), 5);
    assert_eq!((split.paid(&job(1)), split.paid(&job(2))), (5, 3));
}

#[test]
fn what_a_first_voucher_adds_is_paid_for_its_job_alone() {
    let mut split = Split::default();
    // Nobody was told of the 30 before, and nobody is paid with them.
    split.open(job(1), 100, shows(150, 20));
    assert_eq!(split.paid(&job(1)), 20);
    split.take(&job(1), 155);
    assert_eq!(split.paid(&job(1)), 25);
    // No more than the line rose, whatever the voucher says.
    let mut split = Split::default();
    split.open(job(1), 140, shows(150, 20));
    assert_eq!(split.paid(&job(1)), 10);
    let mut split = Split::default();
    split.open(job(1), 400, shows(150, 150));
    assert_eq!(split.paid(&job(1)), 0);
}

#[test]
fn a_new_job_s_first_voucher_shows_what_another_is_about_to_pay() {
    let mut split = Split::default();
    split.open(job(1), 10, shows(10, 0));
    split.open(job(2), 10, shows(20, 3));
    assert_eq!((split.paid(&job(1)), split.paid(&job(2))), (0, 3));
    split.take(&job(1), 17);
    split.take(&job(2), 21);
    assert_eq!((split.paid(&job(1)), split.paid(&job(2))), (7, 4));
}

#[test]
fn a_first_voucher_that_another_overtook_counts_all_the_same() {
    let mut split = Split::default();
    split.open(job(1), 10, shows(10, 0));
    // Three for the second, then five for the first, which arrive first.
    split.take(&job(1), 18);
    split.open(job(2), 18, shows(13, 3));
    assert_eq!((split.paid(&job(1)), split.paid(&job(2))), (5, 3));
}

#[test]
fn a_job_that_is_over_takes_nothing() {
    let mut split = Split::default();
    split.open(job(1), 0, shows(0, 0));
    split.open(job(2), 0, shows(0, 0));
    split.close(&job(1));
    split.take(&job(1), 50);
    split.take(&job(2), 60);
    assert_eq!((split.paid(&job(1)), split.paid(&job(2))), (0, 60));
}

#[test]
fn what_a_job_used_is_not_paid_to_another_one_again() {
    let mut split = Split::default();
    split.open(job(1), 100, shows(200, 100));
    split.uses(&job(1), 100);
    // While it lives, and when it is over: a lower total for a new job takes nothing out of what was used.
    split.open(job(2), 200, shows(199, 99));
    assert_eq!(split.paid(&job(2)), 0);
    split.close(&job(1));
    split.open(job(3), 200, shows(198, 98));
    assert_eq!(split.paid(&job(3)), 0);
    split.take(&job(3), 230);
    assert_eq!(split.paid(&job(3)), 30, "what the line rises pays");
}

/// One raise that a payer made: for which job, by how much (a voucher that raises nothing is sent behind a first frame alone), and how many of the raises before it on other streams it overtakes.
fn raises() -> impl Strategy<Value = Vec<(u8, u128, usize)>> {
    prop::collection::vec((0u8..3, 1u128..100, 0usize..4), 1..150)
}

proptest! {
    /// Streams keep their own order, and no other. In the end each job was paid what was meant for it, and on the way never more
    /// was given out than the line rose.
    #[test]
    fn every_order_of_streams_gives_each_job_its_own(
        opened in prop::array::uniform3(0u128..50),
        raises in raises(),
    ) {
        let mut line = 1_000u128;
        let mut split = Split::default();
        let mut meant: BTreeMap<u8, u128> = BTreeMap::new();
        for (number, adds) in (0..3).zip(opened) {
            line += adds;
            split.open(job(number), line - adds, shows(line, adds));
            meant.insert(number, adds);
        }
        let began = line - opened.iter().sum::<u128>();
        let mut on_the_way: Vec<(u8, u128, usize)> = Vec::new();
        for (number, add, early) in raises {
            line += add;
            *meant.entry(number).or_default() += add;
            on_the_way.push((number, line, early));
        }
        let mut highest = began + opened.iter().sum::<u128>();
        let mut at = 0;
        while at < on_the_way.len() {
            // The one that arrives next: a later one, unless one before it is of the same stream.
            let (_, _, early) = on_the_way[at];
            let mut next = (at + early).min(on_the_way.len() - 1);
            while on_the_way[at..next].iter().any(|(job, ..)| *job == on_the_way[next].0) {
                next -= 1;
            }
            let (number, total, _) = on_the_way.remove(next);
            on_the_way.insert(at, (number, total, 0));
            at += 1;
            split.take(&job(number), total);
            highest = highest.max(total);
            let given: u128 = (0..3).map(|number| split.paid(&job(number))).sum();
            prop_assert_eq!(given, highest - began);
        }
        for number in 0..3 {
            prop_assert_eq!(split.paid(&job(number)), meant.get(&number).copied().unwrap_or(0));
        }
    }

    /// Whatever a hostile payer sends, on whatever stream, and however much each job uses of what it is paid: all that was used is never
    /// more than what the line rose.
    #[test]
    fn nothing_is_used_twice(
        steps in prop::collection::vec((0u8..5, 0u8..4, 0u128..500, 0u128..600), 0..200)
    ) {
        let mut split = Split::default();
        let (mut floor, mut highest) = (0, 0);
        let mut used: BTreeMap<u8, u128> = BTreeMap::new();
        let mut gone = 0;
        for (what, number, total, adds) in steps {
            let lives = used.contains_key(&number);
            match what {
                0 => {
                    if split.is_idle() {
                        (floor, gone) = (highest, 0);
                    }
                    split.open(job(number), highest, shows(total, adds));
                    used.entry(number).or_default();
                    highest = highest.max(total);
                }
                1 => {
                    split.close(&job(number));
                    gone += used.remove(&number).unwrap_or(0);
                }
                2 if lives => {
                    split.take(&job(number), total);
                    highest = highest.max(total);
                }
                3 | 4 if lives => {
                    let so_far = used.entry(number).or_default();
                    *so_far = (*so_far).max(split.paid(&job(number)).min(adds));
                    split.uses(&job(number), *so_far);
                }
                _ => {}
            }
            let all = gone + used.values().sum::<u128>();
            prop_assert!(all <= highest - floor, "{all} of {}", highest - floor);
        }
    }

    /// Whatever a hostile payer sends, on whatever stream: what jobs were paid is never more than what the line rose.
    #[test]
    fn nothing_is_given_out_twice(
        steps in prop::collection::vec((0u8..4, 0u8..3, 0u128..500, 0u128..600), 0..200)
    ) {
        let mut split = Split::default();
        let (mut floor, mut highest) = (0, 0);
        for (what, number, total, adds) in steps {
            match what {
                0 => {
                    if split.is_idle() {
                        floor = highest;
                    }
                    split.open(job(number), highest, shows(total, adds));
                    highest = highest.max(total);
                }
                1 => split.close(&job(number)),
                _ => {
                    split.take(&job(number), total);
                    if (0..3).any(|number| split.paid(&job(number)) > 0) || !split.is_idle() {
                        highest = highest.max(total);
                    }
                }
            }
            let given: u128 = (0..3).map(|number| split.paid(&job(number))).sum();
            prop_assert!(given <= highest - floor.min(highest));
        }
    }
}
