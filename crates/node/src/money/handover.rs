//! Vouchers handed over: whoever may be away for as long as the vault waits gives them to somebody who brings them in time.
//!
//! A voucher pays the payout that the payee once named, whoever brings it: the file is no secret worth stealing. It says, though, who
//! paid this computer and how much.

use std::{io::Read as _, path::Path};

use chain::{Call, Network};
use ledger::OpenLine;
use protocol::voucher::{Address, B256};
use serde::{Deserialize, Serialize};

use super::ActError;
use crate::{
    Node,
    data::{AtomicWrite, write_atomically},
    error::NodeError,
    wallet::{Amount, WalletProblem},
};

/// Rows of one transaction.
pub const MAX_CLAIM_ROWS: usize = chain::MAX_ROWS;
/// What the file begins with.
const FORMAT: &str = "decentralgpt claims 1";
/// Rows that are read: a node that was asked by more payers than this claims meanwhile.
const MAX_ROWS: usize = 20_000;
/// Bytes that are read: a row takes about 330.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// Vouchers of one payee, for anybody to bring to the vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Claims {
    /// The file's kind and version.
    pub format: String,
    /// The chain that they count on.
    pub chain_id: u64,
    /// The vault that they count in.
    pub vault: String,
    /// Who is paid, by what it told the vault.
    pub payee: String,
    /// The highest voucher of each line with something left to claim.
    pub rows: Vec<ClaimRow>,
}

/// A voucher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimRow {
    /// Whose balance pays.
    pub payer: String,
    /// All that is owed on its line, in base units.
    pub cumulative: Amount,
    /// What it pays for, in hexadecimal.
    pub work: String,
    /// The signature as the vault takes it, in hexadecimal.
    pub signature: String,
}

/// Why vouchers cannot be handed over or brought.
#[derive(Debug, thiserror::Error)]
pub enum ClaimsError {
    /// It cannot be read.
    #[error("the file of vouchers cannot be read")]
    File(#[source] std::io::Error),
    /// It is none.
    #[error("that is no file of vouchers: {0}")]
    Malformed(String),
    /// They count elsewhere.
    #[error(
        "the vouchers count in the vault {vault} on chain {chain_id}, and not in that of this network"
    )]
    OtherVault {
        /// Their vault.
        vault: String,
        /// Their chain.
        chain_id: u64,
    },
    /// Nothing to bring.
    #[error("there is no voucher in it")]
    Empty,
}

impl Claims {
    /// Reads a file that was handed over, with at most 20,000 rows.
    ///
    /// # Errors
    /// [`ClaimsError::File`] and [`ClaimsError::Malformed`].
    pub fn read(path: &Path) -> Result<Self, ClaimsError> {
        let mut text = String::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text))
            .map_err(ClaimsError::File)?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, ClaimsError> {
        let bad = |why: &dyn std::fmt::Display| ClaimsError::Malformed(why.to_string());
        let claims: Self = serde_json::from_str(text).map_err(|error| bad(&error))?;
        if claims.format != FORMAT {
            return Err(bad(&"its kind is another one"));
        }
        if claims.rows.len() > MAX_ROWS {
            return Err(bad(&format!("more than {MAX_ROWS} rows")));
        }
        Ok(claims)
    }

    /// The same in parts that fit a transaction each.
    #[must_use]
    pub fn batches(&self) -> Vec<Self> {
        let parts = self.rows.chunks(MAX_CLAIM_ROWS);
        parts
            .map(|rows| Self {
                rows: rows.to_vec(),
                ..self.clone()
            })
            .collect()
    }

    /// As the transaction that brings them.
    pub(super) fn call(&self, network: &Network) -> Result<Call, ClaimsError> {
        let bad = |what: &str| ClaimsError::Malformed(format!("{what} is none"));
        let vault: Address = self.vault.parse().map_err(|_| bad("the vault"))?;
        if (self.chain_id, vault) != (network.chain_id, network.vault) {
            return Err(ClaimsError::OtherVault {
                vault: self.vault.clone(),
                chain_id: self.chain_id,
            });
        }
        if self.rows.is_empty() {
            return Err(ClaimsError::Empty);
        }
        let rows = self.rows.iter().map(|row| {
            let mut signature = [0; 64];
            hex::decode_to_slice(&row.signature, &mut signature).map_err(|_| bad("a signature"))?;
            Ok(chain::ClaimRow {
                payer: row.payer.parse().map_err(|_| bad("a payer"))?,
                cumulative: row.cumulative.0,
                work: row.work.parse::<B256>().map_err(|_| bad("a work"))?,
                signature,
            })
        });
        Ok(Call::Claim {
            payee: self.payee.parse().map_err(|_| bad("the payee"))?,
            rows: rows.collect::<Result<_, ClaimsError>>()?,
        })
    }
}

impl Node {
    /// Writes the vouchers that this computer holds and could not claim yet to a file that only its owner can read, and says what was
    /// written. Whoever brings them pays the fee; what they are worth goes to this wallet.
    ///
    /// # Errors
    /// [`NodeError::Act`] where nothing is earned here, [`NodeError::Ledger`], [`NodeError::File`].
    pub async fn export_claims(&self, path: &Path) -> Result<Claims, NodeError> {
        let live = self
            .inner
            .money
            .live()
            .ok_or(ActError::Wallet(WalletProblem::NoMoney))?;
        let till = live.till.as_ref().ok_or(ActError::NoAccount)?;
        let (network, payee) = (live.network(), till.payee());
        let now_s = live.chain_now();
        let open = live.ledger.open_lines(payee.into_array()).await?;
        let claims = Claims {
            format: FORMAT.to_owned(),
            chain_id: network.chain_id,
            vault: network.vault.to_checksum(None),
            payee: payee.to_checksum(None),
            rows: open
                .iter()
                .filter(|line| line.is_claimable(now_s))
                .map(row)
                .collect(),
        };
        let text = serde_json::to_string_pretty(&claims)
            .map_err(|error| ActError::Claims(ClaimsError::Malformed(error.to_string())))?;
        write_atomically(path, text.as_bytes(), AtomicWrite::Secret).map_err(|source| {
            NodeError::File {
                path: path.to_owned(),
                what: "written",
                source,
            }
        })?;
        Ok(claims)
    }
}

fn row(line: &OpenLine) -> ClaimRow {
    let held = &line.voucher;
    ClaimRow {
        payer: Address::from(held.line.payer).to_checksum(None),
        cumulative: Amount(held.cumulative),
        work: B256::from(held.work).to_string(),
        signature: hex::encode(held.signature),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(rows: usize) -> Claims {
        let row = ClaimRow {
            payer: Address::repeat_byte(1).to_checksum(None),
            cumulative: Amount(u128::MAX),
            work: B256::repeat_byte(2).to_string(),
            signature: hex::encode([3; 64]),
        };
        Claims {
            format: FORMAT.to_owned(),
            chain_id: 31_337,
            vault: Address::repeat_byte(4).to_checksum(None),
            payee: Address::repeat_byte(5).to_checksum(None),
            rows: vec![row; rows],
        }
    }

    #[test]
    fn what_is_handed_over_is_read_as_it_was_written() {
        let written = claims(2);
        let text = serde_json::to_string_pretty(&written).unwrap();
        assert_eq!(Claims::parse(&text).unwrap(), written);
        let other = text.replace("claims 1", "claims 2");
        for hostile in ["", "{}", "[]", &other] {
            assert!(matches!(
                Claims::parse(hostile),
                Err(ClaimsError::Malformed(_))
            ));
        }
        assert!(Claims::parse(&serde_json::to_string(&claims(MAX_ROWS + 1)).unwrap()).is_err());
    }

    #[test]
    fn many_are_brought_in_several_transactions() {
        let parts = claims(2 * MAX_CLAIM_ROWS + 1).batches();
        let rows: Vec<usize> = parts.iter().map(|part| part.rows.len()).collect();
        assert_eq!(rows, [MAX_CLAIM_ROWS, MAX_CLAIM_ROWS, 1]);
    }
}
