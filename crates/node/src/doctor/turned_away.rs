//! What strangers were refused, each kind with its count: a person who sees large ones knows that somebody tries.

use std::collections::BTreeMap;

use network::Refusals;
use protocol::frame::RefuseCode;

use super::Check;
use crate::node::Inner;

const NAME: &str = "Turned away";

/// Of both swarms, since each began, and of jobs, since the program did.
pub(super) fn turned_away(inner: &Inner) -> Check {
    let asking = inner.asking.now();
    let of_asking = asking.network.status().borrow().refusals;
    let of_serving = inner.serving.network_status().borrow().refusals;
    check(&[of_asking, of_serving], &inner.serving.refused().counts())
}

fn check(of_swarms: &[Refusals], of_jobs: &BTreeMap<RefuseCode, u64>) -> Check {
    let sum = |of: fn(&Refusals) -> u64| of_swarms.iter().map(of).sum::<u64>();
    let of_networks = [
        (sum(|of| of.connections), "connections over a limit"),
        (sum(|of| of.rate), "job streams over their rate"),
        (sum(|of| of.queue), "job streams without a place"),
        (sum(|of| of.violations), "messages that broke the protocol"),
        (
            sum(|of| of.offers),
            "offers that were forged, out of date or too many",
        ),
        (sum(|of| of.requests), "requests over their rate"),
        (sum(|of| of.relayed), "connections not carried for others"),
        (sum(|of| of.bans), "peers shut out for a while"),
    ];
    let jobs = of_jobs.iter().map(|(why, count)| (*count, job(*why)));
    let told: Vec<String> = of_networks
        .into_iter()
        .chain(jobs)
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if told.is_empty() {
        return Check::skip(NAME, "Nobody was, since the start.");
    }
    Check::pass(NAME, format!("Since the start: {}.", told.join("; ")))
}

fn job(why: RefuseCode) -> &'static str {
    match why {
        RefuseCode::Unspecified => "jobs without a reason that is known",
        RefuseCode::NodeOff => "jobs while the node was off or paused",
        RefuseCode::WrongProvider => "jobs for another provider",
        RefuseCode::Expired => "jobs whose time was over already",
        RefuseCode::ExpiryTooFar => "jobs whose time was too far ahead",
        RefuseCode::Replay => "jobs that were seen before",
        RefuseCode::ModelUnknown => "jobs for a model that is not served here",
        RefuseCode::PromptTooLong => "jobs longer than the context",
        RefuseCode::BadToken => "jobs with ids outside the vocabulary",
        RefuseCode::BadOpen => "jobs that were malformed",
        RefuseCode::BadSampling => "jobs with settings out of range",
        RefuseCode::SeedRefused => "jobs that asked for a seed",
        RefuseCode::NotAllowed => "jobs of peers that are not served",
        RefuseCode::ResumeUnknown => "jobs to be taken up that are not here",
        RefuseCode::Internal => "jobs that failed here",
        RefuseCode::EngineFailed => "jobs that the engine gave up",
        RefuseCode::TooLong => "jobs that ran for too long",
        RefuseCode::Stalled => "jobs whose asker did not read",
        RefuseCode::Violation => "jobs that broke the protocol",
        RefuseCode::PaymentRefused => "jobs whose payment does not count",
        RefuseCode::BadGrammar => "jobs with a form that cannot be held to",
        RefuseCode::BadLogprobs => "jobs that asked for too many probabilities",
        RefuseCode::QuoteUnknown => "jobs with a quote that is none or over",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::CheckState;

    #[test]
    fn every_kind_is_told_with_its_count_and_nothing_is_told_of_none() {
        let none = Refusals::default();
        let check_of = |refusals: Refusals| check(&[none, refusals], &BTreeMap::new());
        assert_eq!(check_of(none).state, CheckState::Skip);
        let each: [fn(&mut Refusals) -> &mut u64; 8] = [
            |of| &mut of.connections,
            |of| &mut of.rate,
            |of| &mut of.queue,
            |of| &mut of.violations,
            |of| &mut of.offers,
            |of| &mut of.requests,
            |of| &mut of.relayed,
            |of| &mut of.bans,
        ];
        for (number, field) in (1..).zip(each) {
            let mut refusals = none;
            *field(&mut refusals) = number;
            let detail = check_of(refusals).detail;
            assert!(
                detail.starts_with(&format!("Since the start: {number} ")),
                "{detail}"
            );
            assert!(!detail.contains(';'), "{detail}");
        }
    }

    #[test]
    fn the_two_swarms_and_the_jobs_are_told_together() {
        let violations = |violations| Refusals {
            violations,
            ..Refusals::default()
        };
        let jobs = BTreeMap::from([(RefuseCode::Replay, 2)]);
        let check = check(&[violations(1), violations(3)], &jobs);
        assert_eq!(
            check.detail,
            "Since the start: 4 messages that broke the protocol; 2 jobs that were seen before."
        );
    }
}
