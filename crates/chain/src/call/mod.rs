//! What is sent: one variant per thing ([`Call`]), the transaction that it becomes ([`encode`]), and what a person reads
//! of it ([`describe`]).

mod describe;
mod encode;

use alloy::primitives::{Address, B256, Bytes, U256};

pub(crate) use describe::amount_as_text;
pub use describe::{Asset, Described};

use crate::{
    key::CompactSignature,
    network::Network,
    typed::{Permit, Start},
    votes::{Change, Motion, Support},
};

/// So many rows make a transaction of about half of what a block takes on the tightest chains.
pub const MAX_ROWS: usize = 200;
/// A description is read by people, and paid for by the byte.
const MAX_DESCRIPTION: usize = 16 * 1024;

/// Something that a transaction does. Amounts in base units (of the coin: in its smallest unit), times in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "the fields are the contracts' own, and say it there"
)]
pub enum Call {
    /// The chain's coin to somebody.
    TransferCoin { to: Address, amount: u128 },
    /// The token to somebody.
    TransferToken { to: Address, amount: u128 },
    /// Lets a contract of the network take exactly this much.
    Approve { spender: Spender, amount: u128 },
    /// Into one's own balance in the vault, by a permit or an allowance.
    Deposit {
        amount: u128,
        permit: Option<Permit>,
        nonce: U256,
    },
    /// A deposit and a first signer.
    Start {
        start: Start,
        permit: Option<Permit>,
    },
    /// The same for somebody without gas, who signed it.
    StartFor {
        start: Start,
        permit: Option<Permit>,
        signature: CompactSignature,
    },
    /// More for a signer, and longer.
    SetSigner {
        signer: Address,
        add: u128,
        until: u64,
        bond: u128,
        gas_pot: u128,
    },
    /// Ends a signer now.
    EndSigner { signer: Address },
    /// Gives a payer back what is due of an ended signer.
    Thaw { payer: Address, signer: Address },
    /// Out of the vault.
    Withdraw { amount: u128 },
    /// Says, once, where the sender's claims go.
    RegisterPayee { payout: Address },
    /// The payout's owner moves it.
    MovePayout { payee: Address, payout: Address },
    /// Keeps what a payee of the sender claims in the vault, for a signer of the sender; registers or extends that.
    Join {
        payee: Address,
        signer: Address,
        until: u64,
    },
    /// Lets it leave the vault again.
    Unjoin { payee: Address },
    /// Brings a signed reservation.
    Reserve {
        payer: Address,
        payee: Address,
        upto: u128,
        until: u64,
        nonce: u64,
        signature: CompactSignature,
    },
    /// Redeems vouchers of one payee.
    Claim { payee: Address, rows: Vec<ClaimRow> },
    /// Gives a reservation up.
    Release {
        payer: Address,
        signer: Address,
        payee: Address,
    },
    /// Shows that a signer promised more than it was granted.
    ProveOverdraft {
        payer: Address,
        signer: Address,
        rows: Vec<PromiseRow>,
    },
    /// Decides a case that is due, and pays the named lines.
    SettleOverdraft {
        payer: Address,
        signer: Address,
        payees: Vec<Address>,
    },
    /// Adds to the sender's stake.
    Stake { amount: u128 },
    /// Binds an operator key to the sender's stake.
    SetOperator {
        operator: Address,
        signature: CompactSignature,
    },
    /// Takes an operator key out of use.
    RetireOperator { operator: Address },
    /// Starts the way out of a stake.
    ThawStake { amount: u128 },
    /// Takes what has thawed.
    Unstake,
    /// Takes what shown faults brought.
    TakeReward,
    /// Shows two finals that contradict each other.
    Slash(Box<[FinalRow; 2]>),
    /// Tokens to votes, one to one.
    Wrap { amount: u128 },
    /// Votes to tokens, one to one.
    Unwrap { amount: u128 },
    /// Lends one's votes; to oneself, to use them.
    Delegate { to: Address },
    /// Votes.
    Vote {
        id: U256,
        support: Support,
        reason: String,
    },
    /// Proposes changes.
    Propose {
        changes: Vec<Change>,
        description: String,
    },
    /// Sends a motion that was carried into its timelock.
    Queue(Motion),
    /// Executes a motion that has waited.
    Execute(Motion),
    /// Test tokens, where there is a faucet.
    Faucet { to: Address },
    /// Where one's newest backup is.
    PointMemory { manifest: B256, generation: u64 },
}

/// Who may be allowed to take tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spender {
    /// PayVault.
    Vault,
    /// ProviderStake.
    Stake,
    /// VoteDgc.
    Votes,
}

/// A voucher of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in the voucher")]
pub struct ClaimRow {
    pub payer: Address,
    pub cumulative: u128,
    pub work: B256,
    pub signature: CompactSignature,
}

/// A voucher (`until` zero), or a live reservation, as evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in what was signed")]
pub struct PromiseRow {
    pub payee: Address,
    pub amount: u128,
    pub until: u64,
    pub nonce: u64,
    pub work: B256,
    pub signature: CompactSignature,
}

impl PromiseRow {
    /// The reservation that the vault holds for a payee already: its signature was checked when it was brought.
    pub fn held(payee: Address) -> Self {
        Self {
            payee,
            amount: 0,
            until: 0,
            nonce: 0,
            work: B256::ZERO,
            signature: [0; 64],
        }
    }
}

/// A final receipt in its on-chain form, signed by an operator key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in what was signed")]
pub struct FinalRow {
    pub job: B256,
    pub node: Address,
    pub model: B256,
    pub output: B256,
    pub out_tokens: u32,
    pub expiry: u64,
    pub signature: CompactSignature,
}

/// Why a call makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The network lacks what it needs.
    #[error("{network} has no {what}")]
    NotHere {
        /// Which network.
        network: String,
        /// What is missing.
        what: &'static str,
    },
    /// What is sent there is lost.
    #[error("what is sent to {to} is lost: it is {what}")]
    Lost {
        /// Where to.
        to: Address,
        /// What is there.
        what: &'static str,
    },
    /// More rows than fit a transaction, or none.
    #[error("{rows} rows; one transaction takes 1 to {MAX_ROWS}")]
    Rows {
        /// How many.
        rows: usize,
    },
    /// A first step in somebody else's name.
    #[error("{from} cannot send what {payer} has to send itself")]
    NotPayer {
        /// Who would send it.
        from: Address,
        /// Whose it is.
        payer: Address,
    },
    /// A description that is too long.
    #[error("a description of {bytes} bytes; at most {MAX_DESCRIPTION}")]
    Description {
        /// How long.
        bytes: usize,
    },
}

/// What goes into a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) to: Address,
    pub(crate) value: U256,
    pub(crate) input: Bytes,
}

impl Spender {
    pub(crate) fn address(self, network: &Network) -> Address {
        match self {
            Self::Vault => network.vault,
            Self::Stake => network.stake,
            Self::Votes => network.votes,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Vault => "the vault",
            Self::Stake => "the stake",
            Self::Votes => "the votes",
        }
    }
}
