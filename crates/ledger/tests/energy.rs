//! What jobs took: once for each, in the sums of every grouping, and on disk when it is told.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "money/desk.rs"]
mod desk;

use desk::*;
use ledger::*;

#[tokio::test]
async fn what_jobs_took_stands_beside_what_they_earned() {
    let desk = Desk::new().await;
    desk.grant(10_000).await;
    for n in 1..=3 {
        desk.held(A, u128::from(n) * 10, n).await;
    }
    desk.ledger.energy_counted(desk.metered(1)).await.unwrap();
    desk.ledger.energy_counted(desk.stated(2)).await.unwrap();
    let known = EnergySum {
        metered: 1,
        stated: 1,
        taken_mj: 67_000,
    };
    for by in [By::Day, By::Model, By::Device, By::Total] {
        let rows = desk.ledger.earnings(everything(), by).await.unwrap();
        let [row] = rows.as_slice() else {
            panic!("{rows:?}");
        };
        // The third was not measured, and is not taken for nothing.
        assert_eq!((row.jobs, row.energy), (3, known));
        assert_eq!(row.energy.known(), 2);
    }
    let jobs = desk.ledger.job_earnings(everything(), 9).await.unwrap();
    let of = |energy: EnergySum| (energy.metered, energy.stated, energy.taken_mj);
    assert_eq!(
        jobs.iter().map(|job| of(job.energy)).collect::<Vec<_>>(),
        [(0, 0, 0), (0, 1, 60_000), (1, 0, 7_000)]
    );
    desk.audited().await;
}

#[tokio::test]
async fn a_job_takes_its_energy_once_also_after_a_restart() {
    let desk = Desk::new().await;
    desk.grant(10_000).await;
    desk.held(A, 10, 1).await;
    desk.ledger.energy_counted(desk.metered(1)).await.unwrap();
    let desk = desk.restarted().await;
    desk.ledger.energy_counted(desk.stated(1)).await.unwrap();
    let rows = desk.ledger.earnings(everything(), By::Total).await.unwrap();
    assert_eq!(
        rows[0].energy,
        EnergySum {
            metered: 1,
            stated: 0,
            taken_mj: 7_000
        }
    );
    desk.audited().await;
}

#[tokio::test]
async fn what_was_answered_for_nothing_took_energy_too_and_is_in_no_earnings() {
    let desk = Desk::new().await;
    desk.grant(10_000).await;
    desk.held(A, 10, 1).await;
    for energy in [desk.metered(1), desk.stated(2), desk.metered(3)] {
        desk.ledger.energy_counted(energy).await.unwrap();
    }
    let used = desk.ledger.energy_used(NOW, NOW + 1).await.unwrap();
    let sum = |metered, stated, taken_mj| EnergySum {
        metered,
        stated,
        taken_mj,
    };
    assert_eq!(used.paid, sum(1, 0, 7_000));
    assert_eq!(used.free, sum(1, 1, 67_000));
    let later = desk.ledger.energy_used(NOW + 1, u64::MAX).await.unwrap();
    assert_eq!(later, EnergyUsed::default());
    let rows = desk.ledger.earnings(everything(), By::Total).await.unwrap();
    assert_eq!((rows[0].jobs, rows[0].energy), (1, sum(1, 0, 7_000)));
    desk.audited().await;
}

#[tokio::test]
async fn what_answers_for_nothing_took_is_kept_by_the_day_once_they_are_old_and_no_sum_changes() {
    const DAYS: u8 = 50;
    let desk = Desk::new().await;
    desk.grant(10_000).await;
    let at = |day: u8| NOW + u64::from(day) * DAY_MS;
    for day in 0..DAYS {
        // A paid answer of the day, and three for nothing, of which one is known to be of a model.
        let n = day * 4;
        desk.held(A, u128::from(day) + 1, n).await;
        desk.ledger
            .answer_started(NewAnswer {
                job: job(n + 1).job,
                at_ms: at(day),
                peer: "12D3KooWpeer".into(),
                model: "Model".into(),
                model_digest: [3; 32],
            })
            .await
            .unwrap();
        for energy in [
            desk.metered(n),
            desk.metered(n + 1),
            desk.metered(n + 2),
            desk.stated(n + 3),
        ] {
            let energy = JobEnergy {
                at_ms: at(day),
                ..energy
            };
            desk.ledger.energy_counted(energy).await.unwrap();
        }
    }
    let of_days = |days: u64| EnergyUsed {
        paid: EnergySum {
            metered: days,
            stated: 0,
            taken_mj: days * 7_000,
        },
        free: EnergySum {
            metered: days * 2,
            stated: days,
            taken_mj: days * 74_000,
        },
    };
    let desk = desk.restarted().await;
    let used = async |from, until| desk.ledger.energy_used(from, until).await.unwrap();
    assert_eq!(used(0, u64::MAX).await, of_days(DAYS.into()));
    // A month is exact to the answer, wherever its day begins.
    assert_eq!(used(at(DAYS - 30), u64::MAX).await, of_days(30));
    assert_eq!(used(at(0) - 1, at(5) - 1).await.paid, of_days(5).paid);
    desk.audited().await;

    // In the statement stand the same sums: the oldest by day, model and how they are known.
    let mut out = Vec::new();
    let format = (StatementFormat::Json, None);
    let written = desk.ledger.statement(0, u64::MAX, format, &mut out);
    written.await.unwrap();
    let lines: Vec<serde_json::Value> = String::from_utf8(out)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &serde_json::Value| line["kind"] == "energy")
        .collect();
    let sum = |of: &str| -> u64 { lines.iter().filter_map(|line| line[of].as_u64()).sum() };
    let whole = of_days(DAYS.into());
    assert_eq!(sum("answers"), whole.paid.known() + whole.free.known());
    assert_eq!(sum("energy_mj"), whole.paid.taken_mj + whole.free.taken_mj);
    let by_day: Vec<_> = lines.iter().filter(|line| line["job"].is_null()).collect();
    let kept = u64::from(DAYS) - FREE_ENERGY_MS / DAY_MS - 1;
    assert_eq!(by_day.len() as u64, kept * 3);
    assert!(
        by_day
            .iter()
            .all(|day| day["answers"] == 1 && day["peer"].is_null())
    );
    let of_model = by_day.iter().filter(|day| day["model"] == "Model").count();
    assert_eq!(of_model as u64, kept);
}

#[tokio::test]
async fn what_idle_would_have_drawn_is_no_jobs_and_never_a_debt_of_it() {
    let desk = Desk::new().await;
    let taken = |drawn_mj, idle_mw, share_ms| {
        JobEnergy {
            share_ms,
            drawn: Drawn::Metered { drawn_mj, idle_mw },
            ..desk.metered(1)
        }
        .taken_mj()
    };
    assert_eq!(taken(10_000, 1_500, 2_000), 7_000);
    // It drew less than idle did: a governor that slept deeper meanwhile.
    assert_eq!(taken(2_000, 1_500, 2_000), 0);
    assert_eq!(taken(u64::MAX, u64::MAX, u64::MAX), 0);
    assert_eq!(taken(u64::MAX, 0, 1), u64::MAX);
    // The books hold the largest figures too, and count them again.
    for (n, energy) in [
        (
            1,
            JobEnergy {
                drawn: Drawn::Metered {
                    drawn_mj: 4 << 60,
                    idle_mw: 0,
                },
                ..desk.metered(1)
            },
        ),
        (2, desk.stated(2)),
    ] {
        desk.ledger.energy_counted(energy).await.unwrap();
        desk.held(A, n * 10, u8::try_from(n).unwrap()).await;
    }
    desk.audited().await;
}

#[tokio::test]
async fn recent_answers_say_what_was_vouchered_for_them() {
    let desk = Desk::new().await;
    for n in 1..=2 {
        let PaidJob {
            job,
            peer,
            model,
            model_digest,
            ..
        } = job(n);
        let new = NewAnswer {
            job,
            at_ms: NOW + u64::from(n),
            peer,
            model,
            model_digest,
        };
        desk.ledger.answer_started(new).await.unwrap();
    }
    desk.held(A, 100, 1).await;
    desk.held(A, 250, 1).await;
    let earned = async || {
        let answers = desk.ledger.answered(9).await.unwrap();
        let of = |answer: &Answered| (answer.job[0], answer.earned);
        answers.iter().map(of).collect::<Vec<_>>()
    };
    // The second was for nothing.
    assert_eq!(earned().await, [(2, None), (1, Some(250))]);
    desk.held(A, 300, 1).await;
    assert_eq!(earned().await, [(2, None), (1, Some(300))]);
}
