//! What a person asks the wallet to do, and what they are shown before it is done.
//!
//! An intent is all that the main window may say: it names an act, and signs nothing. The preview is made from it by this
//! program, shown in a window of its own, and signed only by its digest.

use serde::{Deserialize, Serialize};

use super::WalletProblem;
use crate::money::Claims;

/// An act that needs the wallet. Amounts are decimal strings of base units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "snake_case",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Intent {
    /// Make a wallet.
    Create,
    /// Take one over, by words or a key file.
    Import,
    /// Open it.
    Unlock,
    /// Show the words.
    ShowWords,
    /// Ask three of the words back.
    ConfirmWords,
    /// Write the wallet key as a Web3 key file.
    Export,
    /// Have the keychain of this computer keep what opens it.
    Remember,
    /// Another password.
    ChangePassword,
    /// Send token or coin.
    Send {
        /// The address that gets it.
        to: String,
        /// What.
        asset: Asset,
        /// How much.
        amount: Amount,
    },
    /// From the wallet into the vault.
    Deposit {
        /// How much.
        amount: Amount,
    },
    /// From the vault into the wallet.
    Withdraw {
        /// How much.
        amount: Amount,
    },
    /// Let this device's session key spend so much.
    Grant {
        /// How much more.
        amount: Amount,
        /// For how many days from now.
        days: u32,
    },
    /// End this device's session key.
    EndSigner,
    /// Register this node's operator key as a payee of the wallet.
    RegisterPayee,
    /// Keep what this node earns in the vault, where this device's session key spends it at once.
    Join,
    /// Let it go to the wallet again.
    Unjoin,
    /// Give the voting power to an address; one's own is to vote oneself.
    Delegate {
        /// The address.
        to: String,
    },
    /// Token into votes.
    Wrap {
        /// How much.
        amount: Amount,
    },
    /// Votes into token.
    Unwrap {
        /// How much.
        amount: Amount,
    },
    /// Test tokens for the account that asking is paid from, where the network gives some.
    Faucet,
    /// A transaction that waits, again at a higher price.
    SpeedUp {
        /// Which.
        id: String,
    },
    /// Nothing, in the place of a transaction that waits.
    Cancel {
        /// Which.
        id: String,
    },
    /// Bring vouchers that somebody handed over to the vault: it pays whoever earned them, and the fee is the sender's.
    Claim {
        /// What was handed over.
        claims: Box<Claims>,
    },
    /// Vote on a proposal.
    Vote {
        /// The proposal.
        id: String,
        /// How.
        support: Support,
    },
    /// Send a carried proposal into its waiting time. Anybody may.
    Queue {
        /// The proposal.
        id: String,
    },
    /// Bring a carried proposal that has waited into force. Anybody may.
    Execute {
        /// The proposal.
        id: String,
    },
    /// Sign a first deposit that somebody else brings to the chain: nothing is sent from here.
    SignStart {
        /// How much leaves the account.
        amount: Amount,
        /// How much of it is for who brings it.
        fee: Amount,
    },
    /// Bring somebody's first deposit to the chain, for the share that was signed.
    Relay {
        /// What was signed, as text.
        start: String,
    },
    /// Propose a change of the network's parameters.
    Propose {
        /// One line.
        title: String,
        /// Why.
        description: String,
        /// What.
        changes: Vec<Change>,
    },
}

/// Base units of an asset, as decimal digits: they fit no number of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(pub u128);

impl Serialize for Amount {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl std::str::FromStr for Amount {
    type Err = WalletProblem;

    fn from_str(text: &str) -> Result<Self, WalletProblem> {
        // `parse` would take a sign.
        if !text.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(WalletProblem::NotAnAmount);
        }
        text.parse()
            .map(Self)
            .map_err(|_| WalletProblem::NotAnAmount)
    }
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asset {
    /// DGC.
    Token,
    /// What the chain takes its fees in.
    Coin,
}

/// A vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Support {
    /// Against it.
    Against,
    /// For it.
    For,
    /// Neither; it counts for the quorum.
    Abstain,
}

/// One parameter and its proposed value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Change {
    /// The parameter's name.
    pub what: String,
    /// Its value, as a person writes it.
    pub value: String,
}

impl Intent {
    /// Whether it moves something on a chain, and so has a preview.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        match self {
            Self::Create
            | Self::Import
            | Self::Unlock
            | Self::ShowWords
            | Self::ConfirmWords
            | Self::Export
            | Self::Remember
            | Self::ChangePassword => false,
            Self::Send { .. }
            | Self::Deposit { .. }
            | Self::Withdraw { .. }
            | Self::Grant { .. }
            | Self::EndSigner
            | Self::RegisterPayee
            | Self::Join
            | Self::Unjoin
            | Self::Delegate { .. }
            | Self::Wrap { .. }
            | Self::Unwrap { .. }
            | Self::Faucet
            | Self::SpeedUp { .. }
            | Self::Cancel { .. }
            | Self::Claim { .. }
            | Self::Vote { .. }
            | Self::Queue { .. }
            | Self::Execute { .. }
            | Self::SignStart { .. }
            | Self::Relay { .. }
            | Self::Propose { .. } => true,
        }
    }

    /// Whether what is signed is sent from here, as a transaction of this computer.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.is_signed() && !matches!(self, Self::SignStart { .. })
    }

    /// Why it cannot be signed where there is no network of money.
    pub(crate) fn without_money(&self) -> WalletProblem {
        if self.is_signed() {
            WalletProblem::NoMoney
        } else {
            WalletProblem::NothingToSign
        }
    }
}

/// What an intent would do, as it is shown before it is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// Binds all of it; signing takes this and nothing else.
    pub digest: String,
    /// What it is, in a line.
    pub title: String,
    /// The address that is called or paid.
    pub to: String,
    /// Whether that is a contract of this network; an unknown one is shown in red.
    pub known: bool,
    /// What leaves the account, besides the fee.
    pub leaves: Vec<Leaves>,
    /// The most that the chain takes for it, in base units of the coin.
    pub fee_max: String,
    /// The account's coin afterwards, in base units; `None` where there is not enough.
    pub coin_after: Option<String>,
    /// The account's token afterwards, in base units; `None` where there is not enough.
    pub token_after: Option<String>,
    /// What was asked for needs another transaction after this one, shown and signed the same way: an allowance before tokens are
    /// wrapped, what an ended key left before it is withdrawn.
    #[serde(default)]
    pub more: bool,
    /// The decoded call, field by field.
    pub fields: Vec<NamedValue>,
    /// What a simulation of the call said.
    pub simulation: Simulation,
    /// Why the simulation failed.
    pub reason: Option<String>,
    /// What the amounts are worth, and how they are called.
    pub network: PreviewNetwork,
}

/// The network of a preview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreviewNetwork {
    /// Its title.
    pub title: String,
    /// Its amounts are worth nothing.
    pub test: bool,
    /// The token's symbol.
    pub symbol: String,
    /// The coin's symbol.
    pub coin: String,
}

/// An amount that leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leaves {
    /// In base units.
    pub amount: String,
    /// Of what.
    pub symbol: String,
}

/// One field of a decoded call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedValue {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What a simulation of a call said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Simulation {
    /// It would work.
    Ok,
    /// It would be refused.
    Reverts,
    /// It could not be tried yet: no endpoint can. It is tried once it is signed, and not sent where it would be refused.
    NotTried,
    /// Nothing was tried: it is signed here, and tried by who sends it.
    NotSent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_is_read_as_the_page_writes_it() {
        let read = |text| serde_json::from_str::<Intent>(text);
        assert_eq!(read(r#"{"kind":"create"}"#).unwrap(), Intent::Create);
        let send = read(
            r#"{"kind":"send","to":"0x9858EfFD232B4033E47d90003D41EC34EcaEda94","asset":"token","amount":"340282366920938463463374607431768211455"}"#,
        )
        .unwrap();
        assert!(send.is_signed());
        assert!(matches!(
            send,
            Intent::Send {
                amount: Amount(u128::MAX),
                ..
            }
        ));
        for hostile in [
            r#"{"kind":"steal"}"#,
            r#"{"kind":"deposit","amount":"-1"}"#,
            r#"{"kind":"deposit","amount":"+1"}"#,
            r#"{"kind":"deposit","amount":"1e9"}"#,
            r#"{"kind":"deposit","amount":""}"#,
            r#"{"kind":"deposit","amount":1}"#,
            r#"{"kind":"deposit","amount":"340282366920938463463374607431768211456"}"#,
            r#"{"kind":"grant","amount":"1","days":-1}"#,
        ] {
            assert!(read(hostile).is_err(), "{hostile}");
        }
    }
}
