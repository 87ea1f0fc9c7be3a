//! One network: a file that says which chain, which contracts, and whom to ask about them.

use std::{collections::BTreeSet, fs, io, io::Read as _, net::IpAddr, path::Path};

use alloy::primitives::{Address, U256};
use reqwest::Url;
use serde::{Deserialize, Serialize};

/// A network file is some thirty lines: what is larger is none.
const MAX_FILE: u64 = 64 * 1024;
/// Answers of all endpoints are waited for: more of them make nothing safer, and everything slower.
const MAX_RPC: usize = 8;
/// The name is a file's name and stands in narrow places.
const MAX_NAME: usize = 32;
/// Texts of the file that are shown.
const MAX_TEXT: usize = 64;
/// A day of blocks of one second: beyond that nothing would ever be final for a person.
const MAX_CONFIRMATIONS: u64 = 86_400;
/// Blocks come at least this often on chains that are of use for this.
const MAX_BLOCK_MS: u64 = 600_000;
/// What one unit of the token is in base units, everywhere: vouchers and prices count in these.
pub const DECIMALS: u8 = 18;

/// A chain and the contracts on it, as `networks/NAME.toml` describes them. What was parsed was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Lower-case letters, digits and hyphens; the file's name.
    pub name: String,
    /// What people read.
    pub title: String,
    /// Every amount on it is worth nothing.
    pub test: bool,
    /// What the chain says of itself (EIP-155).
    pub chain_id: u64,
    /// Whom to ask. Two or more are compared.
    pub rpc: Vec<String>,
    /// How many blocks later a block counts as final.
    pub confirmations: u64,
    /// About how many milliseconds lie between two blocks.
    pub block_ms: u64,
    /// The newest opcodes that the chain was seen to have.
    pub evm: Evm,
    /// The token has a faucet, from which anybody takes.
    pub faucet: bool,
    /// PayVault.
    #[serde(with = "eip55")]
    pub vault: Address,
    /// ProviderStake.
    #[serde(with = "eip55")]
    pub stake: Address,
    /// VoteDgc.
    #[serde(with = "eip55")]
    pub votes: Address,
    /// DgcGovernor.
    #[serde(with = "eip55")]
    pub governor: Address,
    /// The timelock through which votes act.
    #[serde(with = "eip55")]
    pub timelock: Address,
    /// NetworkParams.
    #[serde(with = "eip55")]
    pub params: Address,
    /// ModelRegistry.
    #[serde(with = "eip55")]
    pub models: Address,
    /// MemoryRegistry, where there is one.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "eip55::optional"
    )]
    pub memory: Option<Address>,
    /// What pays for gas.
    pub coin: Coin,
    /// DGC, or what stands for it there.
    pub token: Token,
    /// What things cost there.
    pub gas: Gas,
}

/// What pays for gas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coin {
    /// As people know it.
    pub symbol: String,
    /// Of its smallest unit.
    pub decimals: u8,
}

/// The token that pays for answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// As people know it.
    pub symbol: String,
    /// In the domain of its permits (EIP-712).
    pub name: String,
    /// In the domain of its permits.
    pub version: String,
    /// Always [`DECIMALS`].
    pub decimals: u8,
    /// Where it is.
    #[serde(with = "eip55")]
    pub address: Address,
}

/// What things cost, in gas, and where the contracts begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gas {
    /// One row of a claim that is sent alone.
    pub claim_row: u64,
    /// One reservation.
    pub reserve: u64,
    /// What a unit of gas is taken to cost, in base units of the token. An assumption of this file, since no chain says what its
    /// coin is worth in another token; a claim or reservation is judged by it, and nothing is paid by it.
    #[serde(with = "crate::call::amount_as_text")]
    pub token_per_gas: u128,
    /// The block in which the first of the contracts was made: nothing of them is older.
    pub first_block: u64,
}

/// Opcodes, by the upgrade of Ethereum that brought them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Evm {
    /// What vault and stake need.
    Paris,
    /// With PUSH0.
    Shanghai,
    /// With transient storage and MCOPY, which the votes need.
    Cancun,
}

impl std::fmt::Display for Evm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Paris => "paris",
            Self::Shanghai => "shanghai",
            Self::Cancun => "cancun",
        })
    }
}

/// Why a file is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// It cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// Which file.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is larger than any network file.
    #[error("a network file has at most {MAX_FILE} bytes")]
    TooLarge,
    /// It is no TOML, lacks a field, or has one that is unknown.
    #[error("{message}")]
    Toml {
        /// What the reader says, with the line.
        message: String,
    },
    /// A field says what cannot be.
    #[error("{field} is {value}: {rule}")]
    Field {
        /// Its name in the file.
        field: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        rule: &'static str,
    },
}

impl Network {
    /// What so much gas is taken to cost, in base units of the token.
    pub fn in_token(&self, gas: u64) -> u128 {
        self.gas.token_per_gas.saturating_mul(u128::from(gas))
    }

    /// Reads and checks a network file.
    ///
    /// # Errors
    /// [`NetworkError`] with the field that is wrong.
    pub fn load(path: &Path) -> Result<Self, NetworkError> {
        let read = |source| NetworkError::Read {
            path: path.display().to_string(),
            source,
        };
        let mut text = String::new();
        fs::File::open(path)
            .map_err(read)?
            .take(MAX_FILE + 1)
            .read_to_string(&mut text)
            .map_err(read)?;
        Self::parse(&text)
    }

    /// Checks a network file's text.
    ///
    /// # Errors
    /// As [`Network::load`].
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        if text.len() as u64 > MAX_FILE {
            return Err(NetworkError::TooLarge);
        }
        let network: Self = toml::from_str(text).map_err(|error| NetworkError::Toml {
            message: error.to_string(),
        })?;
        network.check()?;
        Ok(network)
    }

    /// The file's text.
    ///
    /// # Errors
    /// [`NetworkError`] where a field says what cannot be: nothing is written that [`Network::parse`] would refuse.
    pub fn to_toml(&self) -> Result<String, NetworkError> {
        self.check()?;
        toml::to_string(self).map_err(|error| NetworkError::Toml {
            message: error.to_string(),
        })
    }

    /// Every contract of it, with the name that people read.
    pub fn contracts(&self) -> Vec<(&'static str, Address)> {
        let mut all = vec![
            ("token", self.token.address),
            ("vault", self.vault),
            ("stake", self.stake),
            ("votes", self.votes),
            ("governor", self.governor),
            ("timelock", self.timelock),
            ("params", self.params),
            ("models", self.models),
        ];
        all.extend(self.memory.map(|memory| ("memory", memory)));
        all
    }

    /// Which contract of it lies there.
    pub fn contract_at(&self, address: Address) -> Option<&'static str> {
        self.contracts()
            .into_iter()
            .find_map(|(name, at)| (at == address).then_some(name))
    }

    fn check(&self) -> Result<(), NetworkError> {
        name(&self.name)?;
        text("title", &self.title)?;
        text("coin.symbol", &self.coin.symbol)?;
        text("token.symbol", &self.token.symbol)?;
        text("token.name", &self.token.name)?;
        text("token.version", &self.token.version)?;
        within("chain_id", self.chain_id, 1, u64::MAX / 2)?;
        within("confirmations", self.confirmations, 1, MAX_CONFIRMATIONS)?;
        within("block_ms", self.block_ms, 1, MAX_BLOCK_MS)?;
        within("coin.decimals", self.coin.decimals.into(), 0, 36)?;
        within(
            "token.decimals",
            self.token.decimals.into(),
            DECIMALS.into(),
            DECIMALS.into(),
        )?;
        within("gas.claim_row", self.gas.claim_row, 1, 10_000_000)?;
        within("gas.reserve", self.gas.reserve, 1, 10_000_000)?;
        let mut seen = BTreeSet::from([Address::ZERO]);
        for (field, address) in self.contracts() {
            if !seen.insert(address) {
                return Err(NetworkError::Field {
                    field,
                    value: address.to_string(),
                    rule: "each contract has an address of its own, and none is zero",
                });
            }
        }
        self.check_rpc()
    }

    fn check_rpc(&self) -> Result<(), NetworkError> {
        let wrong = |value: &str, rule| {
            Err(NetworkError::Field {
                field: "rpc",
                value: value.to_owned(),
                rule,
            })
        };
        if self.rpc.is_empty() || self.rpc.len() > MAX_RPC {
            return wrong(&self.rpc.len().to_string(), "one to eight addresses");
        }
        let mut seen = BTreeSet::new();
        for text in &self.rpc {
            let Ok(url) = Url::parse(text) else {
                return wrong(text, "an address that begins with https://");
            };
            let plain_is_fine = url.scheme() == "http" && is_loopback(&url);
            if url.scheme() != "https" && !plain_is_fine {
                return wrong(text, "https, or http on this machine itself");
            }
            if !seen.insert(url) {
                return wrong(
                    text,
                    "each address once: one that is asked twice confirms nothing",
                );
            }
        }
        Ok(())
    }
}

/// Whether what is sent there never leaves this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
    })
}

fn name(name: &str) -> Result<(), NetworkError> {
    let fine = !name.is_empty()
        && name.len() <= MAX_NAME
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fine {
        return Ok(());
    }
    Err(NetworkError::Field {
        field: "name",
        value: name.to_owned(),
        rule: "1 to 32 lower-case letters, digits and hyphens",
    })
}

fn text(field: &'static str, value: &str) -> Result<(), NetworkError> {
    if !value.is_empty() && value.len() <= MAX_TEXT && !value.chars().any(char::is_control) {
        return Ok(());
    }
    Err(NetworkError::Field {
        field,
        value: value.escape_debug().to_string(),
        rule: "1 to 64 bytes of text in one line",
    })
}

fn within(field: &'static str, value: u64, least: u64, most: u64) -> Result<(), NetworkError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(NetworkError::Field {
        field,
        value: value.to_string(),
        rule: match field {
            "token.decimals" => "18: vouchers and prices count in these",
            _ => "out of its bounds",
        },
    })
}

/// An amount as people read it: `12.5 DGC`.
pub fn amount_text(amount: U256, decimals: u8, symbol: &str) -> String {
    let unit = U256::from(10u8).pow(U256::from(decimals));
    let whole = amount / unit;
    let rest = amount % unit;
    if rest.is_zero() {
        return format!("{whole} {symbol}");
    }
    let digits = format!("{rest:0>width$}", width = usize::from(decimals));
    format!("{whole}.{} {symbol}", digits.trim_end_matches('0'))
}

/// Addresses with their checksum (EIP-55): a mistyped one is not read.
mod eip55 {
    use alloy::primitives::Address;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(address: &Address, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&address.to_checksum(None))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Address, D::Error> {
        let text = String::deserialize(from)?;
        Address::parse_checksummed(&text, None).map_err(|_| {
            D::Error::custom("an address is 0x and 40 digits, with the capitals of its checksum")
        })
    }

    pub(super) mod optional {
        use super::{Address, Deserializer, Serializer};

        #[allow(clippy::ref_option, reason = "what serde's attribute calls")]
        pub(crate) fn serialize<S: Serializer>(
            address: &Option<Address>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            match address {
                Some(address) => super::serialize(address, to),
                None => to.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<Address>, D::Error> {
            super::deserialize(from).map(Some)
        }
    }
}
