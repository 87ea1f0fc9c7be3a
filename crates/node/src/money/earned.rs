//! What was earned, row by row, and the proof of each row: what was signed, by whom, and what the chain says of it.

use std::path::{Path, PathBuf};

use ledger::{
    By, EarningKey, Earnings, EarningsQuery, EnergySum, JobEarning, LineKey, StatementFormat,
    Tariff,
};
use protocol::{
    JobId,
    voucher::{self, Address, B256, Vault, Voucher},
};
use serde::{Deserialize, Serialize};

use super::{
    ActError, Live,
    electricity::{Figures, kilowatt_hours},
};
use crate::{Node, clock, error::NodeError, wallet::WalletProblem};

/// A list on a screen is not longer; who wants all of it saves a statement.
const MAX_ROWS: u32 = 1000;

/// How earnings are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EarningsBy {
    /// Job by job.
    Job,
    /// Day by day, of this computer's time zone.
    Day,
    /// Model by model.
    Model,
    /// Device by device.
    Device,
    /// All of it in one row.
    Total,
}

/// In which state an amount is, all of it or the largest part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EarningState {
    /// Vouchered, and not sure on the chain.
    Checking,
    /// Can be collected.
    Available,
    /// Less than collecting it costs.
    TooSmall,
    /// Collected, in final blocks.
    PaidOut,
    /// Never to be collected.
    Lost,
}

/// One row. Fields that a grouping puts together are `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EarningView {
    /// The job, in hexadecimal: its receipt and its proof have the same name.
    pub job: Option<String>,
    /// The first millisecond of the day.
    pub day: Option<u64>,
    /// When its first voucher came, in milliseconds since 1970.
    pub at_unix_ms: Option<u64>,
    /// The model.
    pub model: Option<String>,
    /// The operator address of the device.
    pub device: Option<String>,
    /// Jobs of it.
    pub jobs: u64,
    /// Tokens read.
    pub tokens_in: u64,
    /// Those of them that were in the cache.
    pub tokens_cached: u64,
    /// Tokens written.
    pub tokens_out: u64,
    /// What was vouchered, in base units.
    pub earned: String,
    /// Energy of those jobs whose energy is known, in kilowatt-hours beyond what idle draws; `None` where none is.
    pub energy_kwh: Option<f64>,
    /// Jobs that the computer's meters counted.
    pub metered: u64,
    /// Jobs whose energy follows from the person's own figure.
    pub stated: u64,
    /// What the energy cost, in the person's own money by their figure of now; `None` without that figure, or where the energy of a job is
    /// not known.
    pub cost: Option<f64>,
    /// What is left after the network's fee and that cost, in the person's own money.
    pub net: Option<f64>,
    /// Where most of it is.
    pub state: Option<EarningState>,
}

/// What answering took in energy in a stretch of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnergyView {
    /// Answers that were paid: those of the earnings.
    pub paid: EnergyPart,
    /// Answers for nothing.
    pub free: EnergyPart,
}

/// A part of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnergyPart {
    /// Answers that the computer's meters counted.
    pub metered: u64,
    /// Answers whose energy follows from the person's own figure.
    pub stated: u64,
    /// What all of these took beyond what idle draws, in kilowatt-hours; `None` where there is none.
    pub kwh: Option<f64>,
    /// What that cost, in the person's own money by their figure of now; `None` without that figure.
    pub cost: Option<f64>,
}

/// What proves a row of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// The job.
    pub job: String,
    /// A receipt of it is kept.
    pub receipt: bool,
    /// The voucher that covers it, checked anew.
    pub signed: Option<SignedView>,
    /// What the chain says; `None` where it was not asked: not checked.
    pub chain: Option<ChainView>,
}

/// A voucher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignedView {
    /// Whose balance pays.
    pub payer: String,
    /// Who is paid.
    pub payee: String,
    /// Whose key signed.
    pub signer: String,
    /// The contract that it counts in.
    pub vault: String,
    /// The chain that it counts on.
    pub chain_id: u64,
    /// All that is owed on its line, in base units.
    pub cumulative: String,
    /// What it pays for.
    pub work: String,
    /// As the vault takes it.
    pub signature: String,
    /// The signature is that key's.
    pub valid: bool,
}

/// What final blocks say of a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChainView {
    /// Paid on it, in base units.
    pub claimed: String,
    /// The voucher is paid, or what its signer has left covers it.
    pub covered: bool,
    /// The block that says so.
    pub block: u64,
    /// When it was asked, in milliseconds since 1970.
    pub checked_unix_ms: u64,
    /// How many endpoints agree.
    pub endpoints: u32,
}

impl Node {
    /// What was earned from one time to another, in milliseconds since 1970, the newest first.
    ///
    /// # Errors
    /// [`NodeError::Ledger`].
    pub async fn earnings(
        &self,
        from_ms: u64,
        until_ms: u64,
        by: EarningsBy,
    ) -> Result<Vec<EarningView>, NodeError> {
        let ledger = &self.inner.ledger;
        let query = self.query(from_ms, until_ms);
        let figures = self.figures();
        let by = match by {
            EarningsBy::Job => {
                let rows = ledger.job_earnings(query, MAX_ROWS).await?;
                return Ok(rows.into_iter().map(|row| job(row, &figures)).collect());
            }
            EarningsBy::Day => By::Day,
            EarningsBy::Model => By::Model,
            EarningsBy::Device => By::Device,
            EarningsBy::Total => By::Total,
        };
        let rows = ledger.earnings(query, by).await?;
        Ok(rows.into_iter().map(|row| grouped(row, &figures)).collect())
    }

    /// What proves the earnings of one job. The chain is asked now; where it does not answer, it says so by `None`.
    ///
    /// # Errors
    /// [`NodeError::ReceiptMissing`] for a job that earned nothing; [`NodeError::Ledger`].
    pub async fn proof_open(&self, job: &str) -> Result<Proof, NodeError> {
        let id: JobId = job.parse().map_err(|_| NodeError::ReceiptMissing)?;
        let ledger = &self.inner.ledger;
        let earning = ledger
            .job_earning(self.query(0, u64::MAX), *id.as_bytes())
            .await?
            .ok_or(NodeError::ReceiptMissing)?;
        let receipt = !ledger.receipts_of(*id.as_bytes()).await?.is_empty();
        let live = self.inner.money.live();
        let (signed, chain) = match &live {
            Some(live) => {
                let (signed, signer) = signed(live, &earning);
                let chain = match signer {
                    Some(signer) => {
                        let line = LineKey {
                            payer: earning.payer,
                            signer: signer.into_array(),
                            payee: earning.device,
                        };
                        on_chain(live, &line, earning.cumulative).await
                    }
                    None => None,
                };
                (Some(signed), chain)
            }
            None => (None, None),
        };
        Ok(Proof {
            job: job.to_owned(),
            receipt,
            signed,
            chain,
        })
    }

    /// What answering took in energy from one time to another, in milliseconds since 1970: of the answers whose energy is known.
    ///
    /// # Errors
    /// [`NodeError::Ledger`].
    pub async fn energy_used(&self, from_ms: u64, until_ms: u64) -> Result<EnergyView, NodeError> {
        let used = self.inner.ledger.energy_used(from_ms, until_ms).await?;
        let figures = self.figures();
        let part = |energy: EnergySum| {
            let kwh = energy_kwh(&energy);
            EnergyPart {
                metered: energy.metered,
                stated: energy.stated,
                cost: kwh.and_then(|_| figures.cost(energy.known(), &energy)),
                kwh,
            }
        };
        Ok(EnergyView {
            paid: part(used.paid),
            free: part(used.free),
        })
    }

    /// Writes every row of the books to a file: what was promised, earned, and what the chain said; and what answers took in energy, with
    /// what it costs by the person's figure of now.
    ///
    /// # Errors
    /// [`NodeError::File`], [`NodeError::Ledger`].
    pub async fn statement(&self, path: &Path, csv: bool) -> Result<PathBuf, NodeError> {
        let format = match csv {
            true => StatementFormat::Csv,
            false => StatementFormat::Json,
        };
        let tariff = {
            let settings = &self.inner.settings.borrow().money;
            settings.tariff.map(|per_kwh| Tariff {
                per_kwh,
                currency: settings.currency.clone(),
            })
        };
        let failed = |what| {
            move |source| NodeError::File {
                path: path.to_owned(),
                what,
                source,
            }
        };
        let file = std::fs::File::create(path).map_err(failed("made"))?;
        let mut out = std::io::BufWriter::new(file);
        self.inner
            .ledger
            .statement(0, u64::MAX, (format, tariff.as_ref()), &mut out)
            .await?;
        let file = out
            .into_inner()
            .map_err(|error| failed("written")(error.into_error()))?;
        file.sync_all().map_err(failed("written"))?;
        Ok(path.to_owned())
    }

    /// What the person set, and the fee; a fee that is not known yet is none.
    fn figures(&self) -> Figures {
        let live = self.inner.money.live();
        let fee_bps = live.map_or(0, |live| live.fee_bps());
        Figures::of(&self.inner.settings.borrow().money, fee_bps)
    }

    fn query(&self, from_ms: u64, until_ms: u64) -> EarningsQuery {
        let live = self.inner.money.live();
        EarningsQuery {
            from_ms,
            until_ms,
            utc_offset_s: time::UtcOffset::current_local_offset()
                .map_or(0, time::UtcOffset::whole_seconds),
            worth: live.as_ref().map_or(0, |live| live.worth_claiming()),
            now_s: live
                .as_ref()
                .map_or_else(|| clock::unix_ms() / 1000, |live| live.chain_now()),
        }
    }

    /// The account that a person is paid at, and its picture for a camera.
    ///
    /// # Errors
    /// [`NodeError::Act`] where there is no wallet.
    pub fn money_receive(&self, spend: bool) -> Result<Receiving, NodeError> {
        let role = match spend {
            true => crate::wallet::WalletRole::Spend,
            false => crate::wallet::WalletRole::Wallet,
        };
        let status = self.inner.wallet.status();
        let account = status
            .accounts
            .into_iter()
            .find(|account| account.role == role)
            .ok_or(ActError::Wallet(WalletProblem::None))?;
        Ok(Receiving {
            qr_svg: crate::peers::qr_svg(&account.address).unwrap_or_default(),
            address: account.address,
        })
    }
}

/// Where somebody pays to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receiving {
    /// The address.
    pub address: String,
    /// The same as a picture.
    pub qr_svg: String,
}

/// The state of the largest part, the better known one among equals; `None` where nothing was earned.
fn state(earned: &Earnings) -> Option<EarningState> {
    let parts = [
        (earned.paid_out, EarningState::PaidOut),
        (earned.available, EarningState::Available),
        (earned.too_small, EarningState::TooSmall),
        (earned.checking, EarningState::Checking),
        (earned.lost, EarningState::Lost),
    ];
    let mut largest = (0, None);
    for (amount, state) in parts {
        if amount > largest.0 {
            largest = (amount, Some(state));
        }
    }
    largest.1
}

fn job(row: JobEarning, figures: &Figures) -> EarningView {
    let cost = figures.cost(1, &row.energy);
    EarningView {
        job: Some(JobId::new(row.job).to_string()),
        day: None,
        at_unix_ms: Some(row.at_ms),
        model: Some(row.model),
        device: Some(Address::from(row.device).to_checksum(None)),
        jobs: 1,
        tokens_in: row.tokens.input.saturating_add(row.tokens.cached),
        tokens_cached: row.tokens.cached,
        tokens_out: row.tokens.output,
        earned: row.earned.vouchered().to_string(),
        energy_kwh: energy_kwh(&row.energy),
        metered: row.energy.metered,
        stated: row.energy.stated,
        cost,
        net: figures.net(&row.earned, cost),
        state: state(&row.earned),
    }
}

fn grouped(row: ledger::EarningRow, figures: &Figures) -> EarningView {
    let cost = figures.cost(row.jobs, &row.energy);
    let (mut day, mut model, mut device) = (None, None, None);
    match row.key {
        EarningKey::Day(first_ms) => day = Some(first_ms),
        EarningKey::Model(name) => model = Some(name),
        EarningKey::Device(address) => device = Some(Address::from(address).to_checksum(None)),
        EarningKey::Total => {}
    }
    EarningView {
        job: None,
        day,
        at_unix_ms: None,
        model,
        device,
        jobs: row.jobs,
        tokens_in: row.tokens_in,
        tokens_cached: row.tokens_cached,
        tokens_out: row.tokens_out,
        earned: row.earned.vouchered().to_string(),
        energy_kwh: energy_kwh(&row.energy),
        metered: row.energy.metered,
        stated: row.energy.stated,
        cost,
        net: figures.net(&row.earned, cost),
        state: state(&row.earned),
    }
}

/// Nothing where it is not known of any job.
fn energy_kwh(energy: &EnergySum) -> Option<f64> {
    (energy.known() > 0).then(|| kilowatt_hours(energy.taken_mj))
}

/// The voucher of a job, its signature checked anew; and who signed it.
fn signed(live: &Live, earning: &JobEarning) -> (SignedView, Option<Address>) {
    let network = live.network();
    let vault = Vault::new(network.chain_id, network.vault);
    let (payer, payee) = (Address::from(earning.payer), Address::from(earning.device));
    let work = B256::from(earning.work);
    let bytes = voucher::encode(payer, earning.cumulative, work, &earning.signature);
    let checked = Voucher::decode(&bytes, payee).and_then(|voucher| voucher.check(&vault));
    let signer = checked.ok().map(|voucher| voucher.signer());
    let view = SignedView {
        payer: payer.to_checksum(None),
        payee: payee.to_checksum(None),
        signer: signer.map_or_else(String::new, |signer| signer.to_checksum(None)),
        vault: network.vault.to_checksum(None),
        chain_id: network.chain_id,
        cumulative: earning.cumulative.to_string(),
        work: work.to_string(),
        signature: format!("0x{}", hex::encode(earning.signature)),
        valid: signer.is_some(),
    };
    (view, signer)
}

/// What the chain says now of a voucher of this total; `None` where it does not answer.
pub(super) async fn on_chain(live: &Live, line: &LineKey, cumulative: u128) -> Option<ChainView> {
    let [payer, signer, payee] = [line.payer, line.signer, line.payee].map(Address::from);
    let line = live.chain.line(payer, signer, payee).await.ok()?;
    let grant = live.chain.signer(payer, signer).await.ok()?;
    let open = cumulative.saturating_sub(line.claimed);
    let left = grant
        .filter(|grant| !grant.thawed)
        .map_or(0, |grant| grant.granted.saturating_sub(grant.spent));
    let health = live.chain.health();
    let health = health.borrow();
    Some(ChainView {
        claimed: line.claimed.to_string(),
        covered: open <= left,
        block: health.final_block?,
        checked_unix_ms: clock::unix_ms(),
        endpoints: health
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.agrees && endpoint.problem.is_none())
            .count()
            .try_into()
            .unwrap_or(u32::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_where_most_of_it_is() {
        let of = |checking, too_small, paid_out| {
            state(&Earnings {
                checking,
                too_small,
                paid_out,
                ..Earnings::default()
            })
        };
        assert_eq!(of(0, 0, 0), None);
        assert_eq!(of(1, 0, 0), Some(EarningState::Checking));
        assert_eq!(of(1, 2, 1), Some(EarningState::TooSmall));
        assert_eq!(of(2, 0, 2), Some(EarningState::PaidOut));
    }
}
