//! A ledger with a payer and two payees on it. Included by path.
#![allow(dead_code, clippy::wildcard_enum_match_arm)] // Each test uses a part of it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use ledger::*;

pub(crate) const NOW: u64 = 1_700_000_000_000;
pub(crate) const CHAIN_S: u64 = NOW / 1000;
pub(crate) const DAY_S: u64 = 24 * 60 * 60;
pub(crate) const DAY_MS: u64 = DAY_S * 1000;
pub(crate) const UNTIL: u64 = CHAIN_S + 300 * DAY_S;
pub(crate) const PAYER: Address = [1; 20];
pub(crate) const SIGNER: Address = [2; 20];
/// Who pays the payees of this computer, and with which signer.
pub(crate) const STRANGER: Address = [3; 20];
pub(crate) const THEIRS: Address = [4; 20];
pub(crate) const A: Address = [0xa; 20];
pub(crate) const B: Address = [0xb; 20];

pub(crate) struct Desk {
    _folder: Option<tempfile::TempDir>,
    pub(crate) path: PathBuf,
    pub(crate) ledger: Ledger,
    block: AtomicU64,
}

impl Desk {
    /// A new file with a signer that was begun and not granted anything.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let desk = Self {
            path: folder.path().join("ledger.db"),
            ..Self::at(folder.path().join("ledger.db")).await
        };
        desk.ledger.signer_begun(PAYER, SIGNER).await.unwrap();
        Self {
            _folder: Some(folder),
            ..desk
        }
    }

    pub(crate) async fn at(path: PathBuf) -> Self {
        let ledger = Ledger::open(&path, NOW).await.unwrap();
        let head = ledger.final_block().await.unwrap();
        Self {
            _folder: None,
            path,
            ledger,
            block: AtomicU64::new(head.map_or(0, |head| head.block)),
        }
    }

    pub(crate) async fn restarted(self) -> Self {
        self.ledger.close().await.unwrap();
        Self {
            ledger: Ledger::open(&self.path, NOW).await.unwrap(),
            ..self
        }
    }

    /// A copy of the file as it is now.
    pub(crate) fn backup(&self) -> PathBuf {
        let copy = self.path.with_extension("backup");
        let raw = rusqlite::Connection::open(&self.path).unwrap();
        raw.execute("VACUUM INTO ?1", [copy.to_str().unwrap()])
            .unwrap();
        copy
    }

    /// The file under the ledger, which is closed first.
    pub(crate) async fn raw(&self) -> rusqlite::Connection {
        self.ledger.close().await.unwrap();
        let raw = rusqlite::Connection::open(&self.path).unwrap();
        raw.pragma_update(None, "foreign_keys", false).unwrap();
        raw
    }

    pub(crate) async fn grant(&self, granted: u128) {
        for (payer, signer) in [(PAYER, SIGNER), (STRANGER, THEIRS)] {
            self.ledger
                .signer_seen(payer, signer, granted, UNTIL)
                .await
                .unwrap();
        }
    }

    pub(crate) fn promise_of(&self, payee: Address, cumulative: u128, n: u8) -> Promise {
        Promise {
            line: key(payee),
            cumulative,
            work: [n; 32],
            job: PaidJob {
                chat: Some([n % 2; 16]),
                ..job(n)
            },
            tokens: tokens(),
            at_ms: NOW,
        }
    }

    pub(crate) async fn promise(
        &self,
        payee: Address,
        cumulative: u128,
        n: u8,
    ) -> Result<(), LedgerError> {
        self.ledger
            .promise(self.promise_of(payee, cumulative, n))
            .await
    }

    pub(crate) async fn hold(
        &self,
        payee: Address,
        upto: u128,
        until_s: u64,
        nonce: u64,
    ) -> Result<(), LedgerError> {
        self.ledger
            .hold(Hold {
                line: key(payee),
                upto,
                until_s,
                nonce,
                at_ms: NOW,
            })
            .await
    }

    pub(crate) fn voucher_of(&self, payee: Address, cumulative: u128, n: u8) -> VoucherRow {
        VoucherRow {
            line: theirs(payee),
            cumulative,
            work: [n; 32],
            signature: signature(cumulative),
            job: job(n),
            tokens: tokens(),
            at_ms: NOW,
        }
    }

    /// 10 J over 2 s at an idle of 1.5 W: 7 J are the job's.
    pub(crate) fn metered(&self, n: u8) -> JobEnergy {
        JobEnergy {
            job: job(n).job,
            at_ms: NOW,
            share_ms: 2_000,
            drawn: Drawn::Metered {
                drawn_mj: 10_000,
                idle_mw: 1_500,
            },
        }
    }

    /// 3 s at the person's 20 W: 60 J.
    pub(crate) fn stated(&self, n: u8) -> JobEnergy {
        JobEnergy {
            share_ms: 3_000,
            drawn: Drawn::Stated { power_mw: 20_000 },
            ..self.metered(n)
        }
    }

    pub(crate) async fn held(&self, payee: Address, cumulative: u128, n: u8) -> LineState {
        self.ledger
            .voucher_held(self.voucher_of(payee, cumulative, n))
            .await
            .unwrap()
    }

    pub(crate) async fn block(&self, rows: Vec<ChainRow>) {
        self.block_at(CHAIN_S, rows).await;
    }

    pub(crate) async fn block_at(&self, at_s: u64, mut rows: Vec<ChainRow>) {
        let block = self.block.fetch_add(1, Ordering::Relaxed) + 1;
        let mut tx = [0x77; 32];
        tx[..8].copy_from_slice(&block.to_be_bytes());
        for (n, row) in (0..).zip(&mut rows) {
            row.tx = tx;
            row.log_index = n;
        }
        let mut hash = [0x66; 32];
        hash[..8].copy_from_slice(&block.to_be_bytes());
        self.ledger
            .chain_block(ChainBlock {
                block,
                hash,
                at_s,
                rows,
            })
            .await
            .unwrap();
    }

    /// An event of a payer of ours.
    pub(crate) fn payers(&self, event: ChainEvent) -> ChainRow {
        row(
            Mine {
                payer: true,
                payee: false,
            },
            event,
        )
    }

    /// An event of which nobody says whose it is.
    pub(crate) fn strangers(&self, event: ChainEvent) -> ChainRow {
        row(Mine::default(), event)
    }

    /// An event of a payee of ours, and of the stranger who pays it.
    pub(crate) fn payees(&self, mut event: ChainEvent) -> ChainRow {
        match &mut event {
            ChainEvent::Claimed { payer, signer, .. }
            | ChainEvent::Reserved { payer, signer, .. }
            | ChainEvent::SignerSet { payer, signer, .. }
            | ChainEvent::GrantFreed { payer, signer, .. }
            | ChainEvent::OverdraftShown { payer, signer, .. }
            | ChainEvent::OverdraftDecided { payer, signer, .. }
            | ChainEvent::OverdraftPaid { payer, signer, .. } => {
                (*payer, *signer) = (STRANGER, THEIRS);
            }
            _ => {}
        }
        row(
            Mine {
                payer: false,
                payee: true,
            },
            event,
        )
    }

    pub(crate) async fn book(&self) -> BookRows {
        self.ledger
            .payer_book(PAYER, SIGNER)
            .await
            .unwrap()
            .unwrap()
    }

    /// Passes an audit in which every signature must be the one of its total.
    pub(crate) async fn audited(&self) -> AuditReport {
        let report = audit(&self.ledger).await;
        assert!(report.passed(), "{:#?}", report.disagreements);
        report
    }

    /// Four answers for nothing of which two are long over, and of these one row a day; and one of today, which made it so.
    pub(crate) async fn free_days(&self) {
        let old = NOW - FREE_ENERGY_MS;
        for (n, at_ms) in [
            (101, old - 2 * DAY_MS),
            (102, old - 2 * DAY_MS + 1),
            (103, NOW - DAY_MS),
            (104, NOW),
            (105, NOW),
        ] {
            let energy = JobEnergy {
                at_ms,
                ..self.metered(n)
            };
            self.ledger.energy_counted(energy).await.unwrap();
        }
    }

    /// Some of everything, on both sides.
    pub(crate) async fn history(&self) {
        self.block(vec![
            self.payers(ChainEvent::Deposited {
                payer: PAYER,
                amount: 5_000,
            }),
            self.payers(ChainEvent::SignerSet {
                payer: PAYER,
                signer: SIGNER,
                granted: 4_000,
                until_s: UNTIL,
                bond: 100,
                gas_pot: 30,
            }),
        ])
        .await;
        for n in 1..=3 {
            self.promise(A, u128::from(n) * 100, n).await.unwrap();
            self.held(B, u128::from(n) * 70, n).await;
        }
        for energy in [self.metered(1), self.stated(2)] {
            self.ledger.energy_counted(energy).await.unwrap();
        }
        self.hold(A, 500, CHAIN_S + DAY_S, 1).await.unwrap();
        self.block(vec![
            self.payers(reserved(A, 500, CHAIN_S + DAY_S, 1)),
            self.payers(claimed(A, 150, 150)),
            self.payees(claimed(B, 140, 140)),
            self.payees(paid_out(B, 126, 14)),
            self.strangers(kept(B, 126)),
        ])
        .await;
        self.held(B, 400, 4).await;
        self.block(vec![self.payers(released(A, 1))]).await;
    }
}

pub(crate) async fn audit(ledger: &Ledger) -> AuditReport {
    ledger
        .audit(NOW, |voucher| {
            voucher.signature == signature(voucher.cumulative)
        })
        .await
        .unwrap()
}

/// All jobs, whatever they owe.
pub(crate) fn everything() -> EarningsQuery {
    EarningsQuery {
        from_ms: 0,
        until_ms: u64::MAX,
        utc_offset_s: 0,
        worth: 1,
        now_s: CHAIN_S,
    }
}

pub(crate) fn key(payee: Address) -> LineKey {
    LineKey {
        payer: PAYER,
        signer: SIGNER,
        payee,
    }
}

pub(crate) fn theirs(payee: Address) -> LineKey {
    LineKey {
        payer: STRANGER,
        signer: THEIRS,
        payee,
    }
}

pub(crate) fn job(n: u8) -> PaidJob {
    PaidJob {
        job: [n; 32],
        peer: "12D3KooWpeer".into(),
        model: "Model".into(),
        model_digest: [3; 32],
        chat: None,
    }
}

fn tokens() -> JobTokens {
    JobTokens {
        input: 5,
        cached: 1,
        output: 8,
    }
}

/// What stands for the signature of a total.
pub(crate) fn signature(cumulative: u128) -> [u8; 64] {
    let mut signature = [5; 64];
    signature[..16].copy_from_slice(&cumulative.to_be_bytes());
    signature
}

fn row(mine: Mine, event: ChainEvent) -> ChainRow {
    ChainRow {
        tx: [0; 32],
        log_index: 0,
        mine,
        event,
    }
}

pub(crate) fn claimed(payee: Address, claimed: u128, paid: u128) -> ChainEvent {
    ChainEvent::Claimed {
        payer: PAYER,
        signer: SIGNER,
        payee,
        claimed,
        paid,
        work: [1; 32],
    }
}

pub(crate) fn paid_out(payee: Address, amount: u128, fee: u128) -> ChainEvent {
    ChainEvent::PaidOut {
        payee,
        payout: [0xcc; 20],
        amount,
        fee,
    }
}

/// What a payee of ours was paid, in the balance of our payer.
pub(crate) fn kept(payee: Address, amount: u128) -> ChainEvent {
    ChainEvent::Kept {
        payer: PAYER,
        signer: SIGNER,
        payee,
        amount,
    }
}

pub(crate) fn reserved(payee: Address, upto: u128, until_s: u64, nonce: u64) -> ChainEvent {
    ChainEvent::Reserved {
        payer: PAYER,
        signer: SIGNER,
        payee,
        upto,
        until_s,
        nonce,
    }
}

pub(crate) fn released(payee: Address, nonce: u64) -> ChainEvent {
    ChainEvent::Released {
        payer: PAYER,
        signer: SIGNER,
        payee,
        nonce,
    }
}
