//! What a person reads before signing: taken from the call itself, never from words that somebody sent.

use alloy::primitives::{Address, U256};
use serde::{Deserialize, Serialize};

use super::Call;
use crate::{
    network::{Network, amount_text},
    typed::Start,
};

/// An amount of something that leaves the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asset {
    /// In its smallest unit.
    #[serde(with = "amount_as_text")]
    pub amount: u128,
    /// As people know it.
    pub symbol: String,
    /// How many of its digits stand behind the point.
    pub decimals: u8,
    /// It is the chain's coin, and not the token.
    pub coin: bool,
}

/// A call in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// What it does.
    pub title: String,
    /// Whom it reaches.
    pub to: Address,
    /// It reaches a contract of the network, or an account without code.
    pub contract_known: bool,
    /// What leaves the account at once, beside the fee.
    pub leaves: Vec<Asset>,
    /// The rest of it: names and values.
    pub fields: Vec<(String, String)>,
}

impl Call {
    /// What it does, in words and amounts. `to` is the recipient where somebody is paid, else the contract.
    pub fn describe(&self, network: &Network) -> Described {
        let words = Words { network };
        let (title, to, leaves, fields) = words.of(self);
        Described {
            title,
            to,
            contract_known: true,
            leaves,
            fields: fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        }
    }
}

type Parts = (String, Address, Vec<Asset>, Vec<(&'static str, String)>);

struct Words<'a> {
    network: &'a Network,
}

impl Words<'_> {
    fn of(&self, call: &Call) -> Parts {
        let n = self.network;
        let symbol = &n.token.symbol;
        let amount = |amount: &u128| amount_text(U256::from(*amount), n.token.decimals, symbol);
        match call {
            Call::TransferCoin { to, amount } => (
                format!("Send {}", n.coin.symbol),
                *to,
                vec![Asset {
                    amount: *amount,
                    symbol: n.coin.symbol.clone(),
                    decimals: n.coin.decimals,
                    coin: true,
                }],
                Vec::new(),
            ),
            Call::TransferToken { to, amount } => (
                format!("Send {symbol}"),
                *to,
                self.token(*amount),
                Vec::new(),
            ),
            Call::Approve { spender, amount: a } => (
                format!("Allow {} to take {symbol}", spender.name()),
                n.token.address,
                Vec::new(),
                vec![
                    ("Allowance", amount(a)),
                    ("Who may take it", spender.address(n).to_string()),
                ],
            ),
            Call::Faucet { to } => (
                "Take test tokens from the faucet".to_owned(),
                n.token.address,
                Vec::new(),
                vec![("For", to.to_string())],
            ),
            Call::Deposit { amount, .. } => (
                "Deposit into the vault".to_owned(),
                n.vault,
                self.token(*amount),
                Vec::new(),
            ),
            Call::Start { start, .. } => (
                "Deposit, and let this device pay".to_owned(),
                n.vault,
                self.token(start.deposit),
                self.start(start),
            ),
            Call::StartFor { start, .. } => {
                let mut fields = self.start(start);
                fields.push(("Payer", start.payer.to_string()));
                fields.push(("For bringing it", amount(&start.relayer_fee)));
                (
                    "Bring somebody's first deposit".to_owned(),
                    n.vault,
                    Vec::new(),
                    fields,
                )
            }
            Call::SetSigner {
                signer,
                add,
                until,
                bond,
                gas_pot,
            } => (
                "Let a device pay from the vault".to_owned(),
                n.vault,
                Vec::new(),
                vec![
                    ("Device", signer.to_string()),
                    ("It may spend, in addition", amount(add)),
                    ("Until (Unix seconds)", until.to_string()),
                    ("Bond", amount(bond)),
                    ("For late claims", amount(gas_pot)),
                ],
            ),
            Call::EndSigner { signer } => (
                "End a device's payments".to_owned(),
                n.vault,
                Vec::new(),
                vec![("Device", signer.to_string())],
            ),
            Call::Thaw { payer, signer } => (
                "Take back what an ended device has left".to_owned(),
                n.vault,
                Vec::new(),
                vec![("Payer", payer.to_string()), ("Device", signer.to_string())],
            ),
            Call::Withdraw { amount: a } => (
                "Withdraw from the vault".to_owned(),
                n.vault,
                Vec::new(),
                vec![("Comes back", amount(a))],
            ),
            Call::RegisterPayee { payout } => (
                "Say where earnings go".to_owned(),
                n.vault,
                Vec::new(),
                vec![("Earnings go to", payout.to_string())],
            ),
            Call::MovePayout { payee, payout } => (
                "Change where earnings go".to_owned(),
                n.vault,
                Vec::new(),
                vec![
                    ("Earned by", payee.to_string()),
                    ("Earnings go to", payout.to_string()),
                ],
            ),
            Call::Join {
                payee,
                signer,
                until,
            } => (
                "Spend what is earned at once".to_owned(),
                n.vault,
                Vec::new(),
                vec![
                    ("Earned by", payee.to_string()),
                    ("Device that may spend all of it", signer.to_string()),
                    ("Until (Unix seconds)", until.to_string()),
                ],
            ),
            Call::Unjoin { payee } => (
                "Let earnings go to the wallet again".to_owned(),
                n.vault,
                Vec::new(),
                vec![("Earned by", payee.to_string())],
            ),
            Call::Reserve {
                payer,
                payee,
                upto,
                until,
                ..
            } => (
                "Reserve what a payer promised".to_owned(),
                n.vault,
                Vec::new(),
                vec![
                    ("Payer", payer.to_string()),
                    ("Payee", payee.to_string()),
                    ("Up to", amount(upto)),
                    ("Until (Unix seconds)", until.to_string()),
                ],
            ),
            Call::Claim { payee, rows } => (
                "Claim earnings".to_owned(),
                n.vault,
                Vec::new(),
                vec![
                    ("Earned by", payee.to_string()),
                    ("Vouchers", rows.len().to_string()),
                ],
            ),
            Call::Release {
                payer,
                signer,
                payee,
            } => (
                "Give a reservation up".to_owned(),
                n.vault,
                Vec::new(),
                vec![
                    ("Payer", payer.to_string()),
                    ("Device", signer.to_string()),
                    ("Payee", payee.to_string()),
                ],
            ),
            Call::ProveOverdraft {
                payer,
                signer,
                rows,
            } => (
                "Show an overdraft".to_owned(),
                n.vault,
                Vec::new(),
                vec![
                    ("Payer", payer.to_string()),
                    ("Device", signer.to_string()),
                    ("Promises", rows.len().to_string()),
                ],
            ),
            Call::SettleOverdraft {
                payer,
                signer,
                payees,
            } => (
                "Settle an overdraft".to_owned(),
                n.vault,
                Vec::new(),
                vec![
                    ("Payer", payer.to_string()),
                    ("Device", signer.to_string()),
                    ("Payees", payees.len().to_string()),
                ],
            ),
            Call::Stake { amount } => (
                "Put down a stake".to_owned(),
                n.stake,
                self.token(*amount),
                Vec::new(),
            ),
            Call::SetOperator { operator, .. } => (
                "Answer for an operator key with the stake".to_owned(),
                n.stake,
                Vec::new(),
                vec![("Operator", operator.to_string())],
            ),
            Call::RetireOperator { operator } => (
                "Take an operator key out of use".to_owned(),
                n.stake,
                Vec::new(),
                vec![("Operator", operator.to_string())],
            ),
            Call::ThawStake { amount: a } => (
                "Start to take the stake back".to_owned(),
                n.stake,
                Vec::new(),
                vec![("Amount", amount(a))],
            ),
            Call::Unstake => (
                "Take the stake back".to_owned(),
                n.stake,
                Vec::new(),
                Vec::new(),
            ),
            Call::TakeReward => ("Take rewards".to_owned(), n.stake, Vec::new(), Vec::new()),
            Call::Slash(finals) => (
                "Show that a provider signed two different results".to_owned(),
                n.stake,
                Vec::new(),
                vec![
                    ("Node", finals[0].node.to_string()),
                    ("Job", finals[0].job.to_string()),
                ],
            ),
            Call::Wrap { amount } => (
                format!("Turn {symbol} into votes"),
                n.votes,
                self.token(*amount),
                Vec::new(),
            ),
            Call::Unwrap { amount: a } => (
                format!("Turn votes into {symbol}"),
                n.votes,
                Vec::new(),
                vec![("Comes back", amount(a))],
            ),
            Call::Delegate { to } => (
                "Give one's votes".to_owned(),
                n.votes,
                Vec::new(),
                vec![("To", to.to_string())],
            ),
            Call::Vote {
                id,
                support,
                reason,
            } => (
                "Vote".to_owned(),
                n.governor,
                Vec::new(),
                vec![
                    ("Proposal", id.to_string()),
                    ("Vote", support.to_string()),
                    ("Reason", reason.clone()),
                ],
            ),
            Call::Propose {
                changes,
                description,
            } => {
                let mut fields: Vec<_> = changes
                    .iter()
                    .map(|change| ("Change", change.text(n)))
                    .collect();
                fields.push(("Description", description.clone()));
                ("Propose changes".to_owned(), n.governor, Vec::new(), fields)
            }
            Call::Queue(motion) => (
                "Send a carried proposal into its waiting time".to_owned(),
                n.governor,
                Vec::new(),
                self.motion(motion),
            ),
            Call::Execute(motion) => (
                "Execute a proposal".to_owned(),
                n.governor,
                Vec::new(),
                self.motion(motion),
            ),
            Call::PointMemory { generation, .. } => (
                "Say where the newest backup is".to_owned(),
                n.memory.unwrap_or_default(),
                Vec::new(),
                vec![("Generation", generation.to_string())],
            ),
        }
    }

    fn token(&self, amount: u128) -> Vec<Asset> {
        let token = &self.network.token;
        vec![Asset {
            amount,
            symbol: token.symbol.clone(),
            decimals: token.decimals,
            coin: false,
        }]
    }

    fn start(&self, start: &Start) -> Vec<(&'static str, String)> {
        let token = &self.network.token;
        let amount = |amount| amount_text(U256::from(amount), token.decimals, &token.symbol);
        if start.signer.is_zero() {
            return Vec::new();
        }
        vec![
            ("Device", start.signer.to_string()),
            ("It may spend", amount(start.grant)),
            ("Until (Unix seconds)", start.until.to_string()),
            ("Bond", amount(start.bond)),
            ("For late claims", amount(start.gas_pot)),
        ]
    }

    fn motion(&self, motion: &crate::votes::Motion) -> Vec<(&'static str, String)> {
        motion
            .decode(self.network)
            .iter()
            .map(|call| ("Change", call.text(self.network)))
            .collect()
    }
}

/// JSON has no whole numbers of this size that every reader keeps.
pub(crate) mod amount_as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(amount: &u128, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&amount.to_string())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        let text = String::deserialize(from)?;
        // `parse` would take a sign.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse()
            .ok()
            .filter(|_| digits)
            .ok_or_else(|| D::Error::custom("a whole number, in digits, is expected"))
    }
}
