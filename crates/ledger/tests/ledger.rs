//! The replay guard, what was answered, receipts, and files as they are found.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

#[path = "money/desk.rs"]
mod desk;

use ledger::*;

const NOW: u64 = 1_700_000_000_000;
const MINUTE: u64 = 60_000;

/// A file of every released version, written by that version's code.
const FIXTURES: [(u32, &str); 5] = [
    (1, include_str!("fixtures/v1.sql")),
    (2, include_str!("fixtures/v2.sql")),
    (3, include_str!("fixtures/v3.sql")),
    (4, include_str!("fixtures/v4.sql")),
    (5, include_str!("fixtures/v5.sql")),
];

fn job(n: u64) -> Job {
    let mut job = [7; 32];
    job[..8].copy_from_slice(&n.to_le_bytes());
    job
}

fn started(n: u64, at_ms: u64) -> NewAnswer {
    NewAnswer {
        job: job(n),
        at_ms,
        peer: "12D3KooWpeer".into(),
        model: "Model".into(),
        model_digest: [3; 32],
    }
}

fn receipt(n: u64, role: ReceiptRole) -> Receipt {
    Receipt {
        job: job(n),
        role,
        peer: "12D3KooWpeer".into(),
        model: "Model".into(),
        model_digest: [3; 32],
        tokens_in: 9,
        tokens_out: 60,
        finish: "stop".into(),
        at_ms: NOW + n,
        chain: [4; 32],
        signed: vec![1, 2, 3],
        provider_signature: [5; 64],
        client_signature: None,
    }
}

fn measured(n: u64) -> Measured {
    Measured {
        peer: format!("12D3KooWpeer{n}"),
        model: [3; 32],
        at_ms: NOW + n,
        rtt: (80.0, 2.0),
        late: (-12.5, 1.5),
        tps: (61.25, 2.0),
        successes: 1.75,
        failures: 0.5,
        stalls: 0.0,
        checked: 0.25,
        lies: 0.25,
    }
}

async fn fresh() -> (tempfile::TempDir, Ledger) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path().join("ledger.db"), NOW)
        .await
        .unwrap();
    (folder, ledger)
}

#[tokio::test]
async fn a_job_runs_once_also_after_a_restart() {
    let (folder, ledger) = fresh().await;
    assert!(
        ledger
            .record_job(job(1), NOW + MINUTE, NOW)
            .await
            .unwrap()
            .is_fresh()
    );
    assert_eq!(
        ledger.record_job(job(1), NOW + MINUTE, NOW).await.unwrap(),
        JobRecord::Repeat
    );
    ledger.close().await.unwrap();
    assert!(matches!(
        ledger.record_job(job(2), NOW + MINUTE, NOW).await,
        Err(LedgerError::Closed)
    ));
    let ledger = Ledger::open(folder.path().join("ledger.db"), NOW + 1)
        .await
        .unwrap();
    assert_eq!(
        ledger
            .record_job(job(1), NOW + MINUTE, NOW + 2)
            .await
            .unwrap(),
        JobRecord::Repeat
    );
    assert_eq!(ledger.guarded_since_ms().await.unwrap(), NOW);
}

#[tokio::test]
async fn a_job_counts_by_the_highest_clock_ever_seen() {
    let (_folder, ledger) = fresh().await;
    assert!(
        ledger
            .record_job(job(1), NOW + MINUTE, NOW)
            .await
            .unwrap()
            .is_fresh()
    );
    // Past its expiry the row is gone, and so is the job.
    assert!(
        ledger
            .record_job(job(2), NOW + 5 * MINUTE, NOW + 2 * MINUTE)
            .await
            .unwrap()
            .is_fresh()
    );
    assert_eq!(ledger.highest_clock_ms().await.unwrap(), NOW + 2 * MINUTE);
    // A clock set back does not bring it back.
    let verdict = ledger.record_job(job(1), NOW + MINUTE, NOW).await.unwrap();
    assert_eq!(
        verdict,
        JobRecord::Expired {
            clock_ms: NOW + 2 * MINUTE
        }
    );
    assert_eq!(
        ledger
            .record_job(job(3), NOW + 2 * MINUTE + MAX_EXPIRY_MS + 1, NOW)
            .await
            .unwrap(),
        JobRecord::TooLong
    );
    // What was refused was not recorded.
    assert!(
        ledger
            .record_job(job(3), NOW + 4 * MINUTE, NOW)
            .await
            .unwrap()
            .is_fresh()
    );
}

#[tokio::test]
async fn a_clock_that_was_once_far_ahead_is_named_and_can_be_forgotten() {
    let (_folder, ledger) = fresh().await;
    let year = 365 * 24 * 60 * MINUTE;
    assert!(
        ledger
            .record_job(job(1), NOW + year + MINUTE, NOW + year)
            .await
            .unwrap()
            .is_fresh()
    );
    let verdict = ledger.record_job(job(2), NOW + MINUTE, NOW).await.unwrap();
    assert_eq!(
        verdict,
        JobRecord::ClockBehind {
            clock_ms: NOW + year
        }
    );
    ledger.forget_clock(NOW).await.unwrap();
    assert!(
        ledger
            .record_job(job(2), NOW + MINUTE, NOW)
            .await
            .unwrap()
            .is_fresh()
    );
    assert_eq!(ledger.guarded_since_ms().await.unwrap(), NOW);
}

#[tokio::test]
async fn the_guard_is_bounded_and_refuses_rather_than_forgets() {
    let (folder, ledger) = fresh().await;
    ledger.close().await.unwrap();
    let path = folder.path().join("ledger.db");
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
         INSERT INTO job_seen (job, expires_ms) SELECT randomblob(32), ?2 FROM n",
        rusqlite::params![MAX_JOBS_SEEN, (NOW + MINUTE) as i64],
    )
    .unwrap();
    drop(raw);
    let ledger = Ledger::open(&path, NOW).await.unwrap();
    assert_eq!(
        ledger
            .record_job(job(1), NOW + 2 * MINUTE, NOW)
            .await
            .unwrap(),
        JobRecord::Full
    );
    // A minute later there is room again.
    assert!(
        ledger
            .record_job(job(1), NOW + 2 * MINUTE, NOW + MINUTE)
            .await
            .unwrap()
            .is_fresh()
    );
}

#[tokio::test]
async fn two_callers_with_one_job_get_one_fresh() {
    let (_folder, ledger) = fresh().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let ledger = ledger.clone();
        tasks.spawn(async move {
            ledger
                .record_job(job(1), NOW + MINUTE, NOW)
                .await
                .unwrap()
                .is_fresh()
        });
    }
    assert_eq!(
        tasks
            .join_all()
            .await
            .into_iter()
            .filter(|fresh| *fresh)
            .count(),
        1
    );
}

#[tokio::test]
async fn what_was_answered_is_counted_by_day_and_never_quoted() {
    let (folder, ledger) = fresh().await;
    let day = 24 * 60 * MINUTE;
    for (n, at) in [(1, NOW), (2, NOW + 1), (3, NOW - day)] {
        ledger.answer_started(started(n, at)).await.unwrap();
        ledger
            .answer_ended(job(n), 10, 100, "stop", AnsweredState::Signed)
            .await
            .unwrap();
    }
    ledger.answer_started(started(4, NOW + 2)).await.unwrap();
    let today = ledger.totals(NOW, NOW + day).await.unwrap();
    assert_eq!(
        today,
        Totals {
            jobs: 2,
            tokens_in: 20,
            tokens_out: 200
        }
    );
    let yesterday = ledger.totals(NOW - day, NOW).await.unwrap();
    assert_eq!(yesterday.jobs, 1);
    let list = ledger.answered(10).await.unwrap();
    assert_eq!(
        list.iter().map(|row| row.job).collect::<Vec<_>>(),
        [job(4), job(2), job(1), job(3)]
    );
    assert_eq!(
        (list[0].state, list[1].state),
        (AnsweredState::Answering, AnsweredState::Signed)
    );
    assert_eq!(ledger.answered(1).await.unwrap().len(), 1);

    // A crash ends what was running.
    ledger.close().await.unwrap();
    let ledger = Ledger::open(folder.path().join("ledger.db"), NOW)
        .await
        .unwrap();
    let list = ledger.answered(10).await.unwrap();
    assert_eq!(
        (list[0].state, list[0].finish.as_str()),
        (AnsweredState::Unsigned, "interrupted")
    );
}

#[tokio::test]
async fn a_receipt_is_completed_once_and_never_replaced() {
    let (folder, ledger) = fresh().await;
    ledger
        .store_receipt(receipt(1, ReceiptRole::Provider))
        .await
        .unwrap();
    let signed = Receipt {
        client_signature: Some([6; 64]),
        ..receipt(1, ReceiptRole::Provider)
    };
    ledger.store_receipt(signed.clone()).await.unwrap();
    // Again without the signature: what was there stays.
    ledger
        .store_receipt(receipt(1, ReceiptRole::Provider))
        .await
        .unwrap();
    assert_eq!(
        ledger.receipts_of(job(1)).await.unwrap(),
        vec![signed.clone()]
    );
    let other = Receipt {
        signed: vec![9],
        ..signed.clone()
    };
    assert!(matches!(
        ledger.store_receipt(other).await,
        Err(LedgerError::OtherReceipt)
    ));
    let huge = Receipt {
        signed: vec![0; MAX_RECEIPT_BYTES + 1],
        ..receipt(2, ReceiptRole::Client)
    };
    assert!(matches!(
        ledger.store_receipt(huge).await,
        Err(LedgerError::TooLarge { .. })
    ));

    ledger
        .store_receipt(receipt(1, ReceiptRole::Client))
        .await
        .unwrap();
    ledger
        .store_receipt(receipt(3, ReceiptRole::Client))
        .await
        .unwrap();
    let both = ledger.receipts_of(job(1)).await.unwrap();
    assert_eq!(
        both.iter().map(|kept| kept.role).collect::<Vec<_>>(),
        [ReceiptRole::Provider, ReceiptRole::Client]
    );
    let asked = ledger
        .receipts(ReceiptRole::Client, NOW, NOW + MINUTE, 10)
        .await
        .unwrap();
    assert_eq!(
        asked.iter().map(|kept| kept.job).collect::<Vec<_>>(),
        [job(3), job(1)]
    );
    ledger.close().await.unwrap();
    let ledger = Ledger::open(folder.path().join("ledger.db"), NOW)
        .await
        .unwrap();
    assert_eq!(ledger.receipts_of(job(1)).await.unwrap()[0], signed);
}

#[tokio::test]
async fn what_was_measured_survives_a_restart_and_is_replaced_and_forgotten() {
    let (folder, ledger) = fresh().await;
    ledger.store_measured(measured(1)).await.unwrap();
    ledger.store_measured(measured(2)).await.unwrap();
    let later = Measured {
        at_ms: NOW + 9,
        successes: 2.5,
        ..measured(1)
    };
    ledger.store_measured(later.clone()).await.unwrap();
    ledger.close().await.unwrap();
    let ledger = Ledger::open(folder.path().join("ledger.db"), NOW)
        .await
        .unwrap();
    assert_eq!(ledger.measured().await.unwrap(), [later, measured(2)]);
    // Not a number is refused by the table, and what was kept stays.
    let nonsense = Measured {
        lies: f64::NAN,
        ..measured(2)
    };
    assert!(ledger.store_measured(nonsense).await.is_err());
    assert_eq!(ledger.measured().await.unwrap().len(), 2);
    ledger.forget_measured().await.unwrap();
    assert!(ledger.measured().await.unwrap().is_empty());
}

async fn written(path: &Path) {
    let ledger = Ledger::open(path, NOW).await.unwrap();
    ledger.record_job(job(1), NOW + MINUTE, NOW).await.unwrap();
    ledger.answer_started(started(1, NOW)).await.unwrap();
    ledger
        .answer_ended(job(1), 9, 60, "stop", AnsweredState::Signed)
        .await
        .unwrap();
    ledger
        .store_receipt(Receipt {
            client_signature: Some([6; 64]),
            ..receipt(1, ReceiptRole::Provider)
        })
        .await
        .unwrap();
    ledger.store_measured(measured(1)).await.unwrap();
    ledger
        .signer_begun(desk::PAYER, desk::SIGNER)
        .await
        .unwrap();
    ledger.close().await.unwrap();
    let desk = desk::Desk::at(path.to_path_buf()).await;
    desk.ledger.bind_vault(31_337, [7; 20]).await.unwrap();
    desk.history().await;
    desk.free_days().await;
    desk.ledger.close().await.unwrap();
}

#[tokio::test]
async fn every_earlier_version_opens_with_all_it_held() {
    assert_eq!(
        FIXTURES.last().unwrap().0,
        SCHEMA_VERSION,
        "a new version needs its own fixture"
    );
    for (version, sql) in FIXTURES {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        rusqlite::Connection::open(&path)
            .unwrap()
            .execute_batch(sql)
            .unwrap();
        let ledger = Ledger::open(&path, NOW).await.unwrap();
        assert_eq!(
            ledger.record_job(job(1), NOW + MINUTE, NOW).await.unwrap(),
            JobRecord::Repeat
        );
        assert_eq!(ledger.answered(9).await.unwrap()[0].tokens_out, 60);
        assert_eq!(
            ledger.receipts_of(job(1)).await.unwrap()[0].client_signature,
            Some([6; 64])
        );
        let kept = ledger.measured().await.unwrap();
        assert_eq!(
            kept,
            if version < 2 {
                vec![]
            } else {
                vec![measured(1)]
            }
        );
        // Money is as it was, and every version can go on with it.
        let report = desk::audit(&ledger).await;
        assert!(report.passed(), "{:#?}", report.disagreements);
        assert_eq!(report.vouchers, if version < 3 { 0 } else { 7 });
        let known: u64 = ledger
            .job_earnings(desk::everything(), 9)
            .await
            .unwrap()
            .iter()
            .map(|job| job.energy.known())
            .sum();
        assert_eq!(known, if version < 4 { 0 } else { 2 });
        let used = ledger.energy_used(0, u64::MAX).await.unwrap();
        assert_eq!(used.free.known(), if version < 5 { 0 } else { 5 });
        ledger.close().await.unwrap();
        let desk = desk::Desk::at(path.clone()).await;
        if version < 3 {
            desk.ledger
                .signer_begun(desk::PAYER, desk::SIGNER)
                .await
                .unwrap();
        }
        desk.grant(9_000).await;
        desk.promise(desk::A, 350, 9).await.unwrap();
        desk.audited().await;
        desk.ledger.close().await.unwrap();
        let raw = rusqlite::Connection::open(&path).unwrap();
        let now: u32 = raw
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        assert_eq!(now, SCHEMA_VERSION);
    }
}

/// Writes a fixture of the present version to the path in `WRITE_FIXTURE`: run it once, before a version is released.
#[tokio::test]
#[ignore = "writes a file of the source tree"]
async fn write_the_fixture_of_this_version() {
    let Ok(target) = std::env::var("WRITE_FIXTURE") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    written(&path).await;
    let raw = rusqlite::Connection::open(&path).unwrap();
    let mut sql = String::from("-- Written by the code of this version; never edited.\n");
    let mut statement = raw
        .prepare(
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND type <> 'trigger' ORDER BY type DESC, name",
        )
        .unwrap();
    for line in statement
        .query_map([], |row| row.get::<_, String>(0))
        .unwrap()
    {
        sql.push_str(&format!("{};\n", line.unwrap()));
    }
    for table in [
        "clock",
        "job_seen",
        "answered",
        "receipt",
        "measured",
        "vault",
        "signer",
        "line",
        "paid_job",
        "voucher",
        "hold",
        "chain_event",
        "chain_head",
        "account",
        "journal",
        "audit",
        "energy",
        "energy_day",
        "energy_total",
    ] {
        let mut columns: Vec<String> = Vec::new();
        raw.pragma(None, "table_info", table, |row| {
            columns.push(row.get(1)?);
            Ok(())
        })
        .unwrap();
        let quoted: Vec<String> = columns
            .iter()
            .map(|column| format!("quote({column})"))
            .collect();
        let mut rows = raw
            .prepare(&format!(
                "SELECT {} FROM {table}",
                quoted.join(" || ', ' || ")
            ))
            .unwrap();
        for row in rows.query_map([], |row| row.get::<_, String>(0)).unwrap() {
            sql.push_str(&format!(
                "INSERT INTO {table} ({}) VALUES ({});\n",
                columns.join(", "),
                row.unwrap()
            ));
        }
    }
    // Last, since they refuse what was inserted above.
    let mut triggers = raw
        .prepare("SELECT sql FROM sqlite_schema WHERE type = 'trigger' ORDER BY name")
        .unwrap();
    for line in triggers
        .query_map([], |row| row.get::<_, String>(0))
        .unwrap()
    {
        sql.push_str(&format!("{};\n", line.unwrap()));
    }
    let id: i64 = raw
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .unwrap();
    sql.push_str(&format!(
        "PRAGMA application_id = {id};\nPRAGMA user_version = {SCHEMA_VERSION};\n"
    ));
    std::fs::write(target, sql).unwrap();
}

#[tokio::test]
async fn newer_foreign_and_damaged_files_are_named_and_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    written(&path).await;
    rusqlite::Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", SCHEMA_VERSION + 1)
        .unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(
        matches!(Ledger::open(&path, NOW).await, Err(LedgerError::NewerDatabase { found, .. }) if found == SCHEMA_VERSION + 1)
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);

    let foreign = folder.path().join("foreign.db");
    rusqlite::Connection::open(&foreign)
        .unwrap()
        .execute_batch("CREATE TABLE photos (id)")
        .unwrap();
    assert!(matches!(
        Ledger::open(&foreign, NOW).await,
        Err(LedgerError::NotALedger { .. })
    ));

    let damaged = folder.path().join("damaged.db");
    let garbage = vec![0x5a; 9000];
    std::fs::write(&damaged, &garbage).unwrap();
    assert!(matches!(
        Ledger::open(&damaged, NOW).await,
        Err(LedgerError::Corrupt { .. })
    ));
    assert_eq!(std::fs::read(&damaged).unwrap(), garbage);
    assert!(matches!(
        Ledger::open(folder.path().join("no/such.db"), NOW).await,
        Err(LedgerError::Access { .. })
    ));
}
