//! The audit finds whatever is changed in the file behind its back, and finds nothing where nothing was.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "money/desk.rs"]
mod desk;

use desk::*;
use ledger::*;

/// What a damaged disk, a bug, or somebody with the file open could do; and a word of what names it.
const PLANTED: &[(&str, &str)] = &[
    // The levels of a line.
    (
        "UPDATE line SET cumulative = X'000000000000000000000000000003e8' WHERE side = 'payee'",
        "total of",
    ),
    (
        "UPDATE line SET cumulative = zeroblob(16) WHERE side = 'payer'",
        "total of",
    ),
    (
        "UPDATE line SET claimed = X'00000000000000000000000000000001' WHERE side = 'payee'",
        "claimed level of",
    ),
    (
        "UPDATE line SET shared = X'00000000000000000000000000000001' WHERE side = 'payee'",
        "overdraft's share",
    ),
    (
        "UPDATE line SET written_off = X'00000000000000000000000000000001' WHERE side = 'payee'",
        "written-off part",
    ),
    (
        "UPDATE line SET nonce = 0 WHERE side = 'payer'",
        "last reservation",
    ),
    (
        "UPDATE line SET released = 9 WHERE side = 'payer'",
        "last release",
    ),
    (
        "UPDATE line SET reserved_upto = X'00000000000000000000000000000001' WHERE side = 'payer'",
        "reserved level",
    ),
    (
        "UPDATE line SET reserved_until_s = 9 WHERE side = 'payer'",
        "reservation's end",
    ),
    (
        "UPDATE signer SET granted = X'00000000000000000000000000000001'",
        "grant of the signer",
    ),
    // Vouchers.
    (
        "DELETE FROM voucher WHERE n = (SELECT max(n) FROM voucher WHERE origin = 'held')",
        "total of",
    ),
    (
        "DELETE FROM voucher WHERE n = (SELECT min(n) FROM voucher WHERE origin = 'held')",
        "entry of voucher",
    ),
    (
        "UPDATE voucher SET cumulative = zeroblob(16) WHERE n = (SELECT max(n) FROM voucher WHERE origin = 'held')",
        "must be above",
    ),
    (
        "UPDATE voucher SET signature = zeroblob(64) WHERE n = (SELECT max(n) FROM voucher WHERE origin = 'held')",
        "signature of",
    ),
    // Reservations.
    ("DELETE FROM hold", "last reservation"),
    // The journal.
    (
        "DELETE FROM journal WHERE n = (SELECT min(n) FROM journal WHERE kind = 'voucher')",
        "entry of voucher",
    ),
    (
        "UPDATE journal SET amount = X'00000000000000000000000000000047' WHERE n = (SELECT min(n) FROM journal WHERE kind = 'voucher')",
        "entry of voucher",
    ),
    (
        "INSERT INTO journal SELECT NULL, at_ms, kind, debit, credit, amount, voucher, event FROM journal WHERE kind = 'promise' LIMIT 1",
        "entry of voucher",
    ),
    (
        "DELETE FROM journal WHERE kind = 'claim'",
        "the claim of event",
    ),
    (
        "UPDATE journal SET amount = X'00000000000000000000000000000001' WHERE kind = 'deposit'",
        "the deposit of event",
    ),
    (
        "INSERT INTO journal SELECT NULL, at_ms, kind, debit, credit, amount, voucher, event FROM journal WHERE kind = 'fee'",
        "the fee of event",
    ),
    (
        "DELETE FROM journal WHERE kind = 'kept'",
        "the kept of event",
    ),
    (
        "UPDATE chain_event SET body = replace(body, '\"126\"', '\"127\"') WHERE body LIKE '%kept%'",
        "the kept of event",
    ),
    (
        "UPDATE chain_event SET mine_payee = 0 WHERE body LIKE '%kept%'",
        "credits of paid_out",
    ),
    (
        "UPDATE journal SET debit = credit, credit = debit WHERE kind = 'grant'",
        "grant/",
    ),
    (
        "UPDATE journal SET debit = (SELECT debit FROM journal WHERE kind = 'fee') WHERE kind = 'claimed'",
        "debits of",
    ),
    ("DELETE FROM journal WHERE kind = 'bond'", "debits of bond/"),
    (
        "UPDATE account SET name = 'earned/0x00' WHERE name LIKE 'earned/%'",
        "earned/0x00",
    ),
    // Energy.
    (
        "UPDATE energy SET drawn_mj = drawn_mj + 1 WHERE source = 'metered'",
        "energy of the job",
    ),
    (
        "UPDATE energy SET share_ms = 0 WHERE source = 'stated'",
        "energy of the job",
    ),
    (
        "UPDATE energy SET power_mw = power_mw * 2 WHERE source = 'stated'",
        "energy of the job",
    ),
    (
        "DELETE FROM energy WHERE source = 'metered'",
        "jobs whose energy is known",
    ),
    ("UPDATE energy_total SET taken_mj = 1", "energy of all jobs"),
    ("DELETE FROM energy_total", "energy of all jobs"),
    (
        "UPDATE energy_day SET taken_mj = taken_mj + 1",
        "energy of all jobs",
    ),
    ("DELETE FROM energy_day", "jobs whose energy is known"),
    (
        "DELETE FROM energy WHERE n > (SELECT folded_to FROM energy_total)",
        "jobs whose energy is known",
    ),
    // Events of the chain.
    (
        "DELETE FROM chain_event WHERE body LIKE '%claimed%' AND mine_payee = 1",
        "claimed level of",
    ),
    (
        "UPDATE chain_event SET body = replace(body, '\"5000\"', '\"5001\"')",
        "the deposit of event",
    ),
    (
        "UPDATE chain_event SET body = replace(body, '\"150\"', '\"151\"')",
        "the claimed of event",
    ),
    (
        "UPDATE chain_event SET body = replace(body, '\"126\"', '\"125\"')",
        "transfers to the payout",
    ),
    ("UPDATE chain_event SET mine_payer = 0", "event"),
    (
        "INSERT INTO chain_event SELECT NULL, block, at_s, zeroblob(32), log_index, mine_payer, mine_payee, body FROM chain_event WHERE body LIKE '%deposited%'",
        "the deposit of event",
    ),
];

#[tokio::test]
async fn each_planted_corruption_is_named() {
    let clean = Desk::new().await;
    clean.history().await;
    clean.free_days().await;
    clean.audited().await;
    let copy = clean.path.with_extension("damaged");
    let whole = clean.backup();
    for (sql, named) in PLANTED {
        std::fs::copy(&whole, &copy).unwrap();
        let raw = rusqlite::Connection::open(&copy).unwrap();
        raw.pragma_update(None, "foreign_keys", false).unwrap();
        drop_triggers(&raw);
        assert!(raw.execute(sql, []).unwrap() > 0, "{sql}");
        drop(raw);
        let ledger = Ledger::open(&copy, NOW).await.unwrap();
        let report = audit(&ledger).await;
        assert!(
            report
                .disagreements
                .iter()
                .any(|found| found.what.contains(named)),
            "{sql}\n{:#?}",
            report.disagreements
        );
        ledger.close().await.unwrap();
        std::fs::remove_file(&copy).unwrap();
    }
    // The copies were damaged, and never the file itself.
    clean.audited().await;
}

#[tokio::test]
async fn an_audit_leaves_the_books_as_they_are() {
    let desk = Desk::new().await;
    desk.history().await;
    let raw = rusqlite::Connection::open(&desk.path).unwrap();
    // Another number as soon as another connection wrote anything.
    let written = || -> i64 {
        raw.pragma_query_value(None, "data_version", |row| row.get(0))
            .unwrap()
    };
    let before = written();
    desk.audited().await;
    desk.audited().await;
    assert_eq!(written(), before);
    desk.grant(9_000).await;
    assert_ne!(written(), before, "it would show");
}

/// Bytes of the amounts that the journal, the vouchers and the lines hold, changed one at a time and put back.
#[tokio::test]
async fn no_flipped_byte_of_an_amount_goes_unseen() {
    let desk = Desk::new().await;
    desk.history().await;
    let raw = rusqlite::Connection::open(&desk.path).unwrap();
    drop_triggers(&raw);
    let flip = |table: &str, key: &str, column: &str, row: i64, byte: usize| {
        let sql = format!("SELECT {column} FROM {table} WHERE {key} = ?1");
        let mut value: Vec<u8> = raw.query_row(&sql, [row], |row| row.get(0)).unwrap();
        value[byte] ^= 0x10;
        let sql = format!("UPDATE {table} SET {column} = ?2 WHERE {key} = ?1");
        raw.execute(&sql, rusqlite::params![row, value]).unwrap();
    };
    for (table, key, column) in [
        ("journal", "n", "amount"),
        ("voucher", "n", "cumulative"),
        ("line", "id", "cumulative"),
        ("line", "id", "claimed"),
    ] {
        for byte in (0..16).step_by(3) {
            let row = [1, 2][byte % 2];
            flip(table, key, column, row, byte);
            assert!(
                !audit(&desk.ledger).await.passed(),
                "{table}.{column}, row {row}, byte {byte}"
            );
            flip(table, key, column, row, byte);
        }
    }
    desk.audited().await;
}

fn drop_triggers(raw: &rusqlite::Connection) {
    let mut statement = raw
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
        .unwrap();
    let names: Vec<String> = statement
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    for name in names {
        raw.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
    }
}
