//! What paid for an answer that this computer asked for: what was signed, for whom, and what the chain says of it.

use ledger::JobPayment;
use protocol::{
    JobId,
    voucher::{Address, B256, Reservation, Vault, Voucher},
};
use serde::{Deserialize, Serialize};

use super::{ActError, ChainView, Live, earned::on_chain};
use crate::{Node, error::NodeError, wallet::WalletProblem};

/// What paid for one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Payment {
    /// The job, in hexadecimal: its receipt has the same name.
    pub job: String,
    /// A receipt of it is kept.
    pub receipt: bool,
    /// One voucher for each key that signed for it: two where this device took a new one meanwhile. Empty: it cost nothing.
    pub vouchers: Vec<PaidVoucher>,
}

/// The last voucher that one key signed for a job. Amounts in base units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaidVoucher {
    /// Whose balance pays.
    pub payer: String,
    /// Who is paid.
    pub payee: String,
    /// The key that signed.
    pub signer: String,
    /// The contract that it counts in.
    pub vault: String,
    /// The chain that it counts on.
    pub chain_id: u64,
    /// When it was signed, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// What this job cost by it.
    pub paid: String,
    /// All that was promised between the two until then.
    pub cumulative: String,
    /// What it pays for.
    pub work: String,
    /// As the vault takes it, made anew and checked; `None` where that key is not on this computer any more.
    pub signature: Option<String>,
    /// The reservation that stood between the two when it was signed.
    pub reservation: Option<ReservationView>,
    /// What the chain says; `None` where it was not asked: not checked.
    pub chain: Option<ChainView>,
}

/// A part of the grant that was held for one payee.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReservationView {
    /// Up to which running total, in base units.
    pub upto: String,
    /// Until when, in seconds of the chain.
    pub until_unix_s: u64,
    /// Its number between the two.
    pub nonce: u64,
    /// As the vault takes it, made anew and checked; `None` where it cannot be made any more.
    pub signature: Option<String>,
}

impl Node {
    /// What paid for a job that this computer asked for. The chain is asked now; where it does not answer, it says so by `None`.
    ///
    /// # Errors
    /// [`NodeError::ReceiptMissing`] for a name that is none; [`NodeError::Act`] where there is no network;
    /// [`NodeError::Ledger`].
    pub async fn payment_open(&self, job: &str) -> Result<Payment, NodeError> {
        let id: JobId = job.parse().map_err(|_| NodeError::ReceiptMissing)?;
        let live = self
            .inner
            .money
            .live()
            .ok_or(ActError::Wallet(WalletProblem::NoMoney))?;
        let ledger = &self.inner.ledger;
        let mut vouchers = Vec::new();
        for payment in ledger.job_payments(*id.as_bytes()).await? {
            vouchers.push(shown(&live, &payment).await);
        }
        Ok(Payment {
            job: job.to_owned(),
            receipt: !ledger.receipts_of(*id.as_bytes()).await?.is_empty(),
            vouchers,
        })
    }
}

async fn shown(live: &Live, payment: &JobPayment) -> PaidVoucher {
    let network = live.network();
    let line = &payment.line;
    let text = |address: [u8; 20]| Address::from(address).to_checksum(None);
    let (voucher, reservation) = match &live.purse {
        Some(purse) => purse.again(payment).await,
        None => (None, None),
    };
    let vault = Vault::new(network.chain_id, network.vault);
    let (payee, signer) = (Address::from(line.payee), Address::from(line.signer));
    let signature = voucher
        .and_then(|made| Voucher::decode(&made.encode(), payee).ok())
        .and_then(|read| read.check(&vault).ok())
        .filter(|checked| checked.signer() == signer)
        .map(|checked| hexadecimal(&checked.signature()));
    let reserved = reservation
        .and_then(|made| Reservation::decode(&made.encode(), payee).ok())
        .and_then(|read| read.check(&vault).ok())
        .filter(|checked| checked.signer() == signer)
        .map(|checked| hexadecimal(&checked.signature()));
    PaidVoucher {
        payer: text(line.payer),
        payee: text(line.payee),
        signer: text(line.signer),
        vault: network.vault.to_checksum(None),
        chain_id: network.chain_id,
        at_unix_ms: payment.at_ms,
        paid: payment.paid.to_string(),
        cumulative: payment.cumulative.to_string(),
        work: B256::from(payment.work).to_string(),
        signature,
        reservation: payment.hold.map(|hold| ReservationView {
            upto: hold.upto.to_string(),
            until_unix_s: hold.until_s,
            nonce: hold.nonce,
            signature: reserved,
        }),
        chain: on_chain(live, line, payment.cumulative).await,
    }
}

fn hexadecimal(signature: &[u8; 64]) -> String {
    format!("0x{}", hex::encode(signature))
}
