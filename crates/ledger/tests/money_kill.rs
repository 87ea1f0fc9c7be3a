//! Killed at any moment of a history of money, the books are whole: what a caller was told is there, and an audit passes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "money/desk.rs"]
mod desk;
#[path = "../../../tests/shared/killed.rs"]
mod killed;

use std::ffi::OsStr;
use std::io::Write as _;
use std::time::Duration;

use desk::*;
use ledger::*;

const FILE: &str = "LEDGER_MONEY_FILE";
/// Microseconds after its next mark at which the child ends itself hard: between two writes, or in one.
const DIES: &str = "LEDGER_MONEY_DIES";
/// Kills; `LEDGER_KILLS` asks for more of them.
const ROUNDS: u64 = 12;
/// A write takes about as long: a kill within it lands before, in and after it.
const SPREAD_US: u64 = 3_000;

/// The child: a payer and its payee in one file, for ever. Each step is named once the ledger has said that it is on disk.
#[tokio::test]
#[ignore = "the child of the test below"]
async fn child_pays_until_killed() {
    let Some(path) = std::env::var_os(FILE) else {
        return;
    };
    let dies: u64 = std::env::var(DIES).unwrap().parse().unwrap();
    let (marks, after_us) = (dies % 40 + 3, dies % SPREAD_US);
    let desk = Desk::at(path.into()).await;
    if desk.ledger.signer_begun(PAYER, SIGNER).await.is_err() {
        unreachable!("its book begins here");
    }
    let stood = desk.ledger.line(key(A)).await.unwrap();
    let booked = desk.book().await;
    let of_a = booked.lines.iter().find(|line| line.payee == A);
    // A promise may be on disk that the payee never saw.
    let mut total = of_a.map_or(0, |line| line.cumulative);
    assert!(total >= stood.cumulative);
    let mut nonce = of_a.map_or(0, |line| line.nonce);
    let mut claimed_to = stood.claimed;
    let mut granted = booked.granted;
    let mut told = 0;
    let tell = |what: String| {
        let mut out = std::io::stdout();
        writeln!(out, "booked {what}").unwrap();
        out.flush().unwrap();
    };
    loop {
        for _ in 0..3 {
            granted += 1_000;
            desk.grant(granted).await;
            total += 10;
            desk.promise(A, total, 1).await.unwrap();
            tell(format!("promise {total}"));
            // A machine that pays itself: one line, seen from both of its ends.
            let row = VoucherRow {
                line: key(A),
                ..desk.voucher_of(A, total, 1)
            };
            desk.ledger.voucher_held(row).await.unwrap();
            tell(format!("voucher {total}"));
            let mut energy = desk.metered(1);
            energy.job[..16].copy_from_slice(&total.to_be_bytes());
            desk.ledger.energy_counted(energy).await.unwrap();
            tell(format!("energy {total}"));
            nonce += 1;
            desk.hold(A, total + 5, CHAIN_S + 9, nonce).await.unwrap();
            tell(format!("hold {nonce}"));
            told += 4;
        }
        let both = |event| ChainRow {
            mine: Mine {
                payer: true,
                payee: true,
            },
            ..desk.payers(event)
        };
        desk.block(vec![
            both(claimed(A, total, total - claimed_to)),
            both(paid_out(A, total - claimed_to, 0)),
        ])
        .await;
        claimed_to = total;
        tell(format!("claim {total}"));
        told += 1;
        if told >= marks {
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_micros(after_us));
                let _ = killed_hard();
            });
        }
    }
}

/// What `kill -9` does, from inside: nothing is flushed, nothing dropped.
fn killed_hard() -> std::io::Result<std::process::ExitStatus> {
    std::process::Command::new("kill")
        .args(["-9", &std::process::id().to_string()])
        .status()
}

#[tokio::test]
async fn no_kill_loses_or_doubles_a_unit() {
    let rounds = std::env::var("LEDGER_KILLS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let ledger = Ledger::open(&path, NOW).await.unwrap();
    ledger.signer_begun(PAYER, SIGNER).await.unwrap();
    ledger.close().await.unwrap();
    let (mut promised, mut held, mut nonce, mut claimed) = (0, 0, 0, 0);
    let mut counted = Vec::new();
    for round in 0..rounds {
        let dies = (round * 7_919 + u64::from(std::process::id()) * 104_729).to_string();
        for line in killed::until_it_dies(
            "child_pays_until_killed",
            &[(FILE, path.as_os_str()), (DIES, OsStr::new(&dies))],
            "booked ",
        ) {
            let (what, value) = line.split_once(' ').unwrap();
            let value: u128 = value.parse().unwrap();
            match what {
                "promise" => promised = value,
                "voucher" => held = value,
                "hold" => nonce = value,
                "claim" => claimed = value,
                "energy" => counted.push(value),
                other => panic!("{other}"),
            }
        }
        let desk = Desk::at(path.clone()).await;
        let book = desk.book().await;
        let line = book.lines.iter().find(|line| line.payee == A).unwrap();
        assert!(line.cumulative >= promised && line.cumulative <= promised + 10);
        assert!(u128::from(line.nonce) >= nonce);
        let state = desk.ledger.line(key(A)).await.unwrap();
        assert!(state.cumulative >= held && state.cumulative <= line.cumulative);
        assert!(state.claimed >= claimed && state.claimed <= state.cumulative);
        let kept = desk.ledger.last_voucher(A, PAYER).await.unwrap().unwrap();
        assert_eq!(kept.cumulative, state.cumulative);
        // Money in both directions, to the unit.
        assert_eq!(
            desk.ledger.spent(PAYER, 0, u64::MAX).await.unwrap(),
            line.cumulative
        );
        assert_eq!(
            desk.ledger.debt(A, PAYER).await.unwrap(),
            Debt {
                open: state.cumulative - state.claimed,
                claimed: state.claimed,
                reserved: 0
            }
        );
        desk.audited().await;
        let raw = desk.raw().await;
        for total in &counted {
            let mut name = desk.metered(1).job;
            name[..16].copy_from_slice(&total.to_be_bytes());
            let taken: i64 = raw
                .query_row(
                    "SELECT taken_mj FROM energy WHERE job = ?1",
                    [name],
                    |row| row.get(0),
                )
                .unwrap();
            assert_eq!(taken, 7_000, "the energy told with {total}");
        }
    }
}
