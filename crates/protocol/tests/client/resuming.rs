//! A stream that breaks: what is asked for, whom first, and what belongs together afterwards.

use bytes::Bytes;
use protocol::{
    JobId, PeerId,
    frame::{
        Accept, Busy, Frame, Grammar, GrammarKind, Open, Refuse, RefuseCode, TokenLogprobs, Tokens,
    },
    job::{
        CloseWhy, RESUME_GRACE_MS,
        client::{
            Action, AnswerPhase, AttemptEnd, Client, End, Event, GIVE_UP_MS, Lie, Local,
            LocalEvent, MAX_CUTS, MAX_SILENCE_MS, Quoted, RESCUE_PATIENCE_MS, RESUME_PATIENCE_MS,
            Request, SLEPT_MS, SOUNDED_MS,
        },
    },
    price::{Price, Prices},
};

use crate::desk::*;

/// An answer of these candidates whose first job was accepted at 0 ms and has given three tokens.
fn midway(candidates: &[u8]) -> (Client, JobId) {
    let mut client = client(Local::Never);
    let candidates = candidates.iter().map(|&number| candidate(number)).collect();
    client.step(Event::Start(candidates), at(0));
    let open = connected(&mut client, 0, 0);
    let frame = Frame::Open(Box::new(open));
    let job = JobId::new(*blake3::hash(&frame.to_bytes()).as_bytes());
    say(&mut client, 0, Frame::Accept(keeps(30)), 0);
    let tokens = Frame::Tokens(Tokens::padded(2, &[5, 6, 7]));
    assert_eq!(emitted(&say(&mut client, 0, tokens, 50)), [5, 6, 7]);
    (client, job)
}

fn keeps(max_out: u32) -> Accept {
    Accept {
        n_in: 5,
        heartbeat_ms: 1_000,
        resume_grace_s: (RESUME_GRACE_MS / 1000) as u32,
        max_out,
        ..Accept::default()
    }
}

/// When the provider that writes counts as silent; on the way there it is doubted, and others are asked whether they are there.
fn silent_ms(client: &mut Client) -> u64 {
    let doubted_ms = client.deadline().unwrap() - at(0).mono_ms;
    client.step(Event::Tick, at(doubted_ms));
    client.deadline().unwrap() - at(0).mono_ms
}

fn cut(client: &mut Client, attempt: u32, ms: u64) -> Vec<Action> {
    let why = CloseWhy::Cut("reset".into());
    client.step(Event::Closed { attempt, why }, at(ms))
}

fn emitted(actions: &[Action]) -> Vec<u32> {
    let ids = actions.iter().filter_map(|action| match action {
        Action::Emit { ids, .. } => Some(ids.clone()),
        _ => None,
    });
    ids.flatten().collect()
}

fn asks_for(open: &Open, job: &JobId) -> u32 {
    let resume = open.resume_of.as_ref().expect("it asks for the job");
    assert_eq!(resume.job, job.as_bytes().as_slice());
    let rest = Open {
        provider: Bytes::new(),
        expires_unix_ms: 0,
        resume_of: None,
        ..open.clone()
    };
    assert_eq!(rest, Open::default(), "the job itself is not told again");
    resume.from_index
}

#[test]
fn the_same_provider_is_asked_first_and_goes_on_where_it_was() {
    let (mut client, job) = midway(&[1, 2]);
    let actions = cut(&mut client, 0, 100);
    assert_eq!(connects(&actions), [peer(1)]);
    let told = actions.iter().any(|action| {
        matches!(action, Action::Progress(progress) if progress.phase == AnswerPhase::Resuming)
    });
    assert!(told, "{actions:?}");
    let open = connected(&mut client, 1, 150);
    assert_eq!(asks_for(&open, &job), 5);
    let actions = say(&mut client, 1, Frame::Accept(keeps(30)), 200);
    let goes_on = Action::Resumed {
        attempt: 1,
        before: 0,
    };
    assert!(actions.contains(&goes_on), "{actions:?}");
    // What was on its way when the stream broke may come again.
    let tokens = Frame::Tokens(Tokens::padded(4, &[7, 8, 9]));
    assert_eq!(emitted(&say(&mut client, 1, tokens, 250)), [8, 9]);
    assert_eq!(client.output(), [20, 21, 5, 6, 7, 8, 9]);
}

#[test]
fn a_job_that_is_kept_is_asked_for_again_when_nobody_else_may_be() {
    let (mut client, _) = midway(&[1, 2, 3, 4]);
    let unreachable = |client: &mut Client, attempt, ms| {
        let why = "no route".to_owned();
        client.step(Event::ConnectFailed { attempt, why }, at(ms))
    };
    cut(&mut client, 0, 100);
    let actions = unreachable(&mut client, 1, 101);
    assert_eq!(connects(&actions), [peer(2)]);
    // Three others begin it and break: that is all that are asked.
    for (attempt, ms) in [(2, 110), (3, 130), (4, 150)] {
        connected(&mut client, attempt, ms);
        accept(&mut client, attempt, 8, ms + 5);
        cut(&mut client, attempt, ms + 10);
    }
    assert_eq!(client.deadline(), Some(at(601).mono_ms));
    let actions = client.step(Event::Tick, at(601));
    assert_eq!(connects(&actions), [peer(1)]);
    unreachable(&mut client, 5, 602);
    // The others might be asked by now, and are not.
    client.step(Event::Tick, at(800));
    assert_eq!(client.deadline(), Some(at(1_602).mono_ms));
    let actions = client.step(Event::Tick, at(1_602));
    assert_eq!(connects(&actions), [peer(1)]);
}

#[test]
fn a_spare_that_is_not_reached_beforehand_is_asked_last() {
    let mut client = client(Local::Never);
    let three = (1..=3).map(candidate).collect();
    client.step(Event::Start(three), at(0));
    assert_eq!(client.step(Event::NotReached { peer: peer(2) }, at(10)), []);
    // One that is being asked shows by itself what it is.
    client.step(Event::NotReached { peer: peer(1) }, at(10));
    connected(&mut client, 0, 20);
    accept(&mut client, 0, 5, 30);
    let actions = cut(&mut client, 0, 600);
    assert_eq!(connects(&actions), [peer(3)]);
    let why = "no route".to_owned();
    let failed = Event::ConnectFailed { attempt: 1, why };
    assert_eq!(connects(&client.step(failed, at(610))), [peer(2)]);
}

#[test]
fn a_spare_is_asked_beside_one_that_takes_its_time_and_the_first_token_decides() {
    for resumed_wins in [true, false] {
        let (mut client, _) = midway(&[1, 2]);
        cut(&mut client, 0, 100);
        connected(&mut client, 1, 150);
        let deadline = client.deadline().unwrap();
        assert_eq!(deadline, at(100 + RESUME_PATIENCE_MS).mono_ms);
        let actions = client.step(Event::Tick, at(100 + RESUME_PATIENCE_MS));
        assert_eq!(connects(&actions), [peer(2)]);
        connected(&mut client, 2, 1_200);
        let spare = Accept {
            n_in: 8,
            max_out: 27,
            ..keeps(0)
        };
        say(&mut client, 2, Frame::Accept(spare), 1_250);
        say(&mut client, 1, Frame::Accept(keeps(30)), 1_260);
        let winner = if resumed_wins { 1 } else { 2 };
        let tokens = Frame::Tokens(Tokens::padded(5, &[8]));
        let actions = say(&mut client, winner, tokens, 1_300);
        assert_eq!(emitted(&actions), [8]);
        assert_eq!(ended(&actions), [AttemptEnd::LostRace]);
        let moved = actions
            .iter()
            .any(|action| matches!(action, Action::Moved { .. }));
        assert_eq!(moved, !resumed_wins);
    }
}

#[test]
fn a_job_that_is_not_known_any_more_goes_on_elsewhere() {
    let (mut client, _) = midway(&[1, 2]);
    cut(&mut client, 0, 100);
    connected(&mut client, 1, 150);
    let refuse = Refuse {
        code: RefuseCode::ResumeUnknown.into(),
        msg: String::new(),
    };
    let actions = say(&mut client, 1, Frame::Refuse(refuse), 200);
    assert_eq!(connects(&actions), [peer(2)]);
    let open = connected(&mut client, 2, 250);
    assert!(open.resume_of.is_none());
    let resume = protocol::tokens::unpack(&open.resume_tokens, 100).unwrap();
    assert_eq!(resume, [20, 21, 5, 6, 7]);
}

#[test]
fn who_keeps_no_jobs_is_not_asked_for_one() {
    let mut client = running(vec![candidate(1), candidate(2)], Local::Never);
    assert_eq!(connects(&cut(&mut client, 0, 100)), [peer(2)]);
}

#[test]
fn the_only_provider_is_asked_for_its_job_until_the_grace_is_over() {
    let (mut client, job) = midway(&[1]);
    let mut actions = cut(&mut client, 0, 100);
    let mut tries = 0;
    let mut ms = 100;
    while ms < 100 + RESUME_GRACE_MS {
        let connect = actions
            .iter()
            .find(|action| matches!(action, Action::Connect { .. }));
        if let Some(Action::Connect { attempt, .. }) = connect {
            let attempt = *attempt;
            if tries == 3 {
                let open = connected(&mut client, attempt, ms);
                assert_eq!(asks_for(&open, &job), 5);
                let busy = Busy {
                    retry_after_ms: 1,
                    queue: 1,
                };
                say(&mut client, attempt, Frame::Busy(busy), ms);
            } else {
                let why = "no route".to_owned();
                client.step(Event::ConnectFailed { attempt, why }, at(ms));
            }
            tries += 1;
        }
        ms = client.deadline().expect("it waits") - 1_000;
        actions = client.step(Event::Tick, at(ms));
    }
    assert!((20..=40).contains(&tries), "{tries} tries");
    assert!(!client.is_finished());
}

#[test]
fn a_silent_provider_is_asked_for_its_job_on_another_way_where_nobody_else_is_left() {
    let (mut client, job) = midway(&[1]);
    let silent = at(silent_ms(&mut client)).mono_ms;
    let (ms, clock) = (silent - 1_000, at(silent - 1_000));
    let actions = client.step(Event::Tick, clock);
    assert_eq!(ended(&actions), [AttemptEnd::Silent]);
    assert_eq!(connects(&actions), [peer(1)]);
    let open = connected(&mut client, 1, ms + 50);
    assert_eq!(asks_for(&open, &job), 5);
    say(&mut client, 1, Frame::Accept(keeps(30)), ms + 100);
    // Once more silent, and nothing came: what the way may be blamed for, it was.
    let actions = client.step(Event::Tick, at(ms + 100 + MAX_SILENCE_MS + 500));
    assert_eq!((ended(&actions), connects(&actions)), (vec![], vec![]));
    let actions = client.step(Event::Tick, at(ms + 100 + GIVE_UP_MS));
    assert_eq!(ended(&actions), [AttemptEnd::Silent]);
}

#[test]
fn a_silent_provider_is_asked_for_its_job_on_another_way_when_its_spare_cannot_be_reached() {
    let (mut client, job) = midway(&[1, 2]);
    let ms = silent_ms(&mut client);
    assert_eq!(connects(&client.step(Event::Tick, at(ms))), [peer(2)]);
    let why = "no address".to_owned();
    let actions = client.step(Event::ConnectFailed { attempt: 1, why }, at(ms + 10));
    assert_eq!(connects(&actions), [peer(1)]);
    let open = connected(&mut client, 2, ms + 50);
    assert_eq!(asks_for(&open, &job), 5);
    // The spare gets its second chance meanwhile.
    let actions = client.step(Event::Tick, at(ms + 1_000));
    assert_eq!(connects(&actions), [peer(2)]);
}

#[test]
fn a_spare_that_says_nothing_leads_to_another_way_and_to_another_spare_at_once() {
    let (mut client, _) = midway(&[1, 2, 3]);
    let ms = silent_ms(&mut client);
    assert_eq!(connects(&client.step(Event::Tick, at(ms))), [peer(2)]);
    let actions = client.step(Event::Tick, at(ms + RESCUE_PATIENCE_MS));
    assert_eq!(connects(&actions), [peer(1), peer(3)]);
}

#[test]
fn who_says_nothing_makes_room_for_one_that_was_not_asked() {
    let (mut client, _) = midway(&[1, 2, 3, 4, 5, 6]);
    // The next two are sounded out on the way there, and do not answer.
    let ms = silent_ms(&mut client);
    assert_eq!(connects(&client.step(Event::Tick, at(ms))), [peer(4)]);
    let actions = client.step(Event::Tick, at(ms + RESCUE_PATIENCE_MS));
    assert_eq!(connects(&actions), [peer(1), peer(5)]);
    let actions = client.step(Event::Tick, at(ms + 2 * RESCUE_PATIENCE_MS));
    assert_eq!(connects(&actions), [peer(6)]);
    assert_eq!(ended(&actions), [AttemptEnd::LostRace]);
    assert!(
        actions.contains(&Action::Close { attempt: 1 }),
        "{actions:?}"
    );
    // Those who do not answer take nobody's place.
    let actions = client.step(Event::Tick, at(ms + 3 * RESCUE_PATIENCE_MS));
    assert_eq!((connects(&actions), ended(&actions)), (vec![], vec![]));
    // The last one goes on, and its token ends what the others were asked for.
    connected(&mut client, 4, ms + 1_250);
    let spare = Accept {
        n_in: 8,
        max_out: 27,
        ..keeps(0)
    };
    say(&mut client, 4, Frame::Accept(spare), ms + 1_300);
    let tokens = Frame::Tokens(Tokens::padded(5, &[8]));
    assert_eq!(emitted(&say(&mut client, 4, tokens, ms + 1_350)), [8]);
}

#[test]
fn one_that_was_busy_is_asked_before_those_that_do_not_answer() {
    let mut client = client(Local::Never);
    client.step(Event::Start((1..=4).map(candidate).collect()), at(0));
    connected(&mut client, 0, 0);
    let busy = Busy {
        retry_after_ms: 300,
        queue: 0,
    };
    let actions = say(&mut client, 0, Frame::Busy(busy), 0);
    assert_eq!(connects(&actions), [peer(2)]);
    connected(&mut client, 1, 0);
    say(&mut client, 1, Frame::Accept(keeps(30)), 0);
    say(&mut client, 1, Frame::Tokens(Tokens::padded(2, &[5])), 50);
    client.step(Event::Tick, at(300));
    let ms = silent_ms(&mut client);
    assert_eq!(connects(&client.step(Event::Tick, at(ms))), [peer(1)]);
}

fn sounded(actions: &[Action]) -> Vec<PeerId> {
    let peers = actions.iter().filter_map(|action| match action {
        Action::SoundOut { candidate } => Some(candidate.peer),
        _ => None,
    });
    peers.collect()
}

fn there(number: u8, output: u128, queue_pos: u32) -> Event {
    let prices = Prices {
        output: Price::new(output),
        ..Prices::FREE
    };
    let quote = Quoted {
        terms: prices.into(),
        quote_id: [number; 16],
        queue_pos,
    };
    Event::Sounded {
        peer: peer(number),
        quote,
    }
}

#[test]
fn who_is_there_and_has_least_to_do_is_asked_when_the_writer_falls_silent() {
    let silent_after = |events: Vec<Event>| {
        let (mut client, _) = midway(&[1, 2, 3, 4]);
        let doubted_ms = client.deadline().unwrap() - at(0).mono_ms;
        let actions = client.step(Event::Tick, at(doubted_ms));
        assert_eq!(sounded(&actions), [peer(2), peer(3)], "the next two");
        assert_eq!(connects(&actions), []);
        let ms = client.deadline().unwrap() - at(0).mono_ms;
        for event in events {
            assert_eq!(client.step(event, at(doubted_ms + 20)), []);
        }
        assert!(ms >= doubted_ms + RESCUE_PATIENCE_MS);
        let actions = client.step(Event::Tick, at(ms));
        assert_eq!(sounded(&actions), [], "once in a while");
        connects(&actions)
    };
    assert_eq!(
        silent_after(vec![there(2, 0, 0), there(3, 0, 0)]),
        [peer(2)]
    );
    assert_eq!(
        silent_after(vec![there(2, 0, 1), there(3, 0, 0)]),
        [peer(3)]
    );
    assert_eq!(silent_after(vec![there(3, 0, 5)]), [peer(3)]);
    // Neither of the two answers: somebody else.
    assert_eq!(silent_after(Vec::new()), [peer(4)]);
    let gone = Event::NotReached { peer: peer(2) };
    assert_eq!(silent_after(vec![gone]), [peer(4)]);
    // One has become dearer than the person saw, and the other one is mute.
    assert_eq!(silent_after(vec![there(2, 1, 0)]), [peer(4)]);
}

#[test]
fn a_writer_that_goes_on_has_nobody_asked_again_at_once() {
    let (mut client, _) = midway(&[1, 2, 3]);
    let token = |index| Frame::Tokens(Tokens::padded(index, &[5]));
    let mut times = Vec::new();
    for index in 5..25 {
        let ms = u64::from(index - 4) * 1_000;
        say(&mut client, 0, token(index), ms);
        // Late enough to be doubted, and not yet silent.
        let actions = client.step(Event::Tick, at(ms + 900));
        assert_eq!(connects(&actions), []);
        if !sounded(&actions).is_empty() {
            times.push(ms);
        }
    }
    assert!(times.len() > 2, "{times:?}");
    for pair in times.windows(2) {
        assert!(pair[1] - pair[0] >= SOUNDED_MS, "{times:?}");
    }
}

#[test]
fn a_provider_that_takes_up_its_job_and_gives_nothing_is_left() {
    let (mut client, _) = midway(&[1, 2]);
    for round in 1..=MAX_CUTS {
        let actions = cut(&mut client, round - 1, 100 * u64::from(round));
        assert_eq!(connects(&actions), [peer(1)], "round {round}");
        connected(&mut client, round, 100 * u64::from(round));
        say(
            &mut client,
            round,
            Frame::Accept(keeps(30)),
            100 * u64::from(round),
        );
    }
    assert_eq!(connects(&cut(&mut client, MAX_CUTS, 900)), [peer(2)]);
}

#[test]
fn a_provider_that_promises_otherwise_when_it_takes_up_a_job_lies() {
    for (accept, lie) in [
        (keeps(29), Lie::TooManyTokens { max_out: 30 }),
        (
            Accept {
                n_in: 8,
                ..keeps(30)
            },
            Lie::WrongInput {
                expected: 5,
                got: 8,
            },
        ),
    ] {
        let (mut client, _) = midway(&[1]);
        cut(&mut client, 0, 100);
        connected(&mut client, 1, 150);
        let actions = say(&mut client, 1, Frame::Accept(accept), 200);
        assert_eq!(ended(&actions), [AttemptEnd::Lie(lie)]);
    }
}

#[test]
fn a_changed_network_or_a_sleep_counts_as_a_cut() {
    let (mut client, _) = midway(&[1, 2]);
    let actions = client.step(Event::PathChanged, at(100));
    assert!(actions.contains(&Action::Close { attempt: 0 }));
    assert_eq!(ended(&actions), [AttemptEnd::PathChanged]);
    assert_eq!(connects(&actions), [peer(1)]);

    let (mut client, _) = midway(&[1, 2]);
    let mut woken = at(100);
    woken.unix_ms += SLEPT_MS;
    let actions = client.step(Event::Tick, woken);
    assert_eq!(ended(&actions), [AttemptEnd::PathChanged]);
    assert_eq!(connects(&actions), [peer(1)]);

    // A clock that is set back, or a little forward, is no sleep.
    for by in [-86_400_000i64, SLEPT_MS as i64 - 1] {
        let (mut client, _) = midway(&[1, 2]);
        let mut set = at(100);
        set.unix_ms = set.unix_ms.saturating_add_signed(by);
        assert_eq!(client.step(Event::Tick, set), []);
    }
}

#[test]
fn a_stop_while_the_stream_is_away_is_immediate() {
    let (mut client, _) = midway(&[1]);
    cut(&mut client, 0, 100);
    let actions = client.step(Event::Cancel, at(150));
    assert_eq!(finish(&actions), Some(&End::Stopped));
}

#[test]
fn the_form_of_an_answer_goes_with_it_and_quotes_are_used_once() {
    let grammar = Grammar {
        kind: GrammarKind::Regex.into(),
        text: "a+".into(),
    };
    let request = Request {
        grammar: Some(grammar.clone()),
        deadline_ms: Some(60_000),
        ..request()
    };
    let mut client = Client::new(config(Local::Never), request);
    let quoted = protocol::job::client::Candidate {
        quote_id: Some([8; 16]),
        ..candidate(1)
    };
    client.step(Event::Start(vec![quoted, candidate(2)]), at(0));
    let open = connected(&mut client, 0, 1_000);
    assert_eq!(open.grammar, Some(grammar.clone()));
    assert_eq!(open.deadline_ms, 59_000);
    assert_eq!(open.quote_id, [8; 16].as_slice());
    let busy = Busy {
        retry_after_ms: 250,
        queue: 1,
    };
    say(&mut client, 0, Frame::Busy(busy), 1_100);
    let open = connected(&mut client, 1, 1_200);
    assert_eq!(open.grammar, Some(grammar));
    assert!(open.quote_id.is_empty());
    let why = "no route".to_owned();
    cut(&mut client, 1, 1_300);
    client.step(Event::ConnectFailed { attempt: 1, why }, at(1_300));
    client.step(Event::Tick, at(1_400));
    // The first one again: its quote is spent.
    let open = connected(&mut client, 2, 1_500);
    assert_eq!(open.provider, peer(1).as_bytes().as_slice());
    assert!(open.quote_id.is_empty());
}

#[test]
fn log_probabilities_come_with_every_token_or_the_provider_lies() {
    let likely = |logprob: f32, top: usize| TokenLogprobs {
        logprob,
        top_ids: vec![7; top],
        top_logprobs: vec![-0.5; top],
    };
    let asking = || {
        let request = Request {
            want_logprobs_k: Some(2),
            ..request()
        };
        let mut client = Client::new(config(Local::Never), request);
        client.step(Event::Start(vec![candidate(1)]), at(0));
        let open = connected(&mut client, 0, 0);
        assert_eq!(open.want_logprobs_k, Some(2));
        say(&mut client, 0, Frame::Accept(keeps(30)), 0);
        client
    };
    let mut client = asking();
    let good = vec![likely(-0.1, 2), likely(-3.0, 1)];
    let tokens = Tokens::padded_with(2, &[5, 6], good.clone());
    let actions = say(&mut client, 0, Frame::Tokens(tokens), 10);
    let came = actions.iter().find_map(|action| match action {
        Action::Emit { logprobs, .. } => Some(logprobs.clone()),
        _ => None,
    });
    assert_eq!(came, Some(good));
    // An end token is held back, and so is what belongs to it; one that comes twice brings it once.
    let tokens = Tokens::padded_with(3, &[6, 2], vec![likely(-3.0, 0); 2]);
    assert_eq!(say(&mut client, 0, Frame::Tokens(tokens), 20), []);

    for wrong in [
        vec![],
        vec![likely(-0.1, 0)],
        vec![likely(-0.1, 0), likely(0.5, 0)],
        vec![likely(-0.1, 0), likely(f32::NAN, 0)],
        vec![likely(-0.1, 0), likely(-0.1, 3)],
    ] {
        let tokens = Tokens::padded_with(2, &[5, 6], wrong);
        let actions = say(&mut asking(), 0, Frame::Tokens(tokens), 10);
        assert!(
            matches!(
                ended(&actions)[..],
                [AttemptEnd::Lie(Lie::BadLogprobs { .. })]
            ),
            "{actions:?}"
        );
    }
}

#[test]
fn this_computer_s_log_probabilities_are_passed_on() {
    let request = Request {
        want_logprobs_k: Some(0),
        ..request()
    };
    let mut client = Client::new(config(Local::Fallback), request);
    client.step(Event::Start(Vec::new()), at(0));
    let given = vec![
        TokenLogprobs {
            logprob: -1.0,
            ..TokenLogprobs::default()
        };
        2
    ];
    let event = LocalEvent::Tokens {
        first_index: 2,
        ids: vec![5, 6],
        logprobs: given.clone(),
    };
    let actions = client.step(Event::Local { attempt: 0, event }, at(5));
    let came = actions.iter().find_map(|action| match action {
        Action::Emit { logprobs, .. } => Some(logprobs.clone()),
        _ => None,
    });
    assert_eq!(came, Some(given));
}
