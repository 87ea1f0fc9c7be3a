//! The payee's rules: how long it serves on without a further signature, and without the chain.
//!
//! Two numbers, never one. The *stream window* counts tokens computed and not vouchered: it bounds what a payer who falls silent
//! costs. The *credit* counts value vouchered and neither claimed nor reserved, per payer and not per signer: it bounds what a
//! payer costs whose vouchers turn out to be worth nothing.
//!
//! Plain functions over what the ledger keeps and final blocks say.

pub use super::known::KnownSigner;
use crate::price::{self, Prices, Totals};

/// Output tokens that may be computed without a voucher, at least: fast ones on long paths [may be more](stream_window).
pub const STREAM_WINDOW: u32 = 64;
/// Prompt tokens that are paid for ahead of being read, at most: what a payer loses to a payee that goes no further.
pub const PREFILL_CHUNK: u32 = 2048;
/// Prompt tokens between two vouchers while reading. A quarter of the chunk, so that the next voucher is here before the last one
/// is used up; and what a payee reads at once at most.
pub const PREFILL_STEP: u32 = PREFILL_CHUNK / 4;
/// Prompt tokens that the voucher behind a first frame may pay for, or cached ones for the same sum: the chunk but for a step. Where it
/// turns out not to count, that step is paid for again, and still no more than a chunk is at stake.
pub const OPENING_TOKENS: u32 = PREFILL_CHUNK - PREFILL_STEP;
/// The largest stream window, however fast the tokens and however long the path: four times what anybody may cost.
pub const MAX_STREAM_WINDOW: u32 = 4 * STREAM_WINDOW;
/// Round trips below this one need no larger window than the least: a neighbour's, and whatever a busy computer adds to its own.
const NEAR_MS: u64 = 25;
/// How long it takes a token to be paid for beside the round trip: it waits for the next frame and for others to be paid with, and both
/// sides write to disk.
const PAYING_MS: u64 = 150;
/// While decoding, a voucher for less than [`stride`] tokens is due after this long.
pub const VOUCHER_MS: u64 = 500;
/// A voucher is due at least every this many tokens while decoding, or a quarter of the window if that is more.
pub const MIN_STRIDE: u32 = 8;
/// A stranger's first credit, in tokens at the job's dearest price: an answer or two, so that nobody needs a transaction to ask.
pub const FIRST_CREDIT_TOKENS: u64 = 4096;
/// The credit of a payer whose bond is worth less than the first one.
pub const UNBONDED_CREDIT_TOKENS: u64 = 64;
/// A claim is sent when a debt is worth this many times its gas; credit rises to twice that, and a reservation covers it at least.
pub const WORTH_THE_GAS: u128 = 50;
/// A signer with less time than this left is not served: what it signs has to be claimed before its end.
pub const MIN_SIGNER_LIFE_S: u64 = 24 * 60 * 60;

/// What final blocks say of a payer's signer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignerFacts {
    /// What its vouchers can still draw.
    pub left: u128,
    /// When it ends, in Unix seconds.
    pub until: u64,
    /// What it loses if it promised too much.
    pub bond: u128,
}

/// What is owed by one payer, over all its signers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Debt {
    /// Vouchered, neither claimed nor reserved.
    pub open: u128,
    /// Claimed in final blocks, ever.
    pub claimed: u128,
}

/// What a claim costs here, in base units of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    /// Gas of one row.
    pub claim: u128,
    /// Gas of a reservation.
    pub reserve: u128,
}

/// Why a payer is not served at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotServed {
    /// The signer is at its end, or too near to it.
    #[error("the signer ends in {left_s} s, {MIN_SIGNER_LIFE_S} are needed")]
    SignerEnds {
        /// Seconds left.
        left_s: u64,
    },
    /// Nothing is left of the grant.
    #[error("the signer has nothing left to draw on")]
    NothingLeft,
    /// A reservation that is worth its gas would hold more than the signer has.
    #[error("a reservation has to be worth {least} base units on this chain, {left} are left")]
    TooDear {
        /// The least that is worth its gas.
        least: u128,
        /// What the signer has.
        left: u128,
    },
}

/// What the payee does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It goes on.
    Serve,
    /// It waits for a voucher of this total at least.
    Voucher {
        /// The line's total that is due.
        cumulative: u128,
    },
    /// It waits for a reservation of this value at least, beyond what is vouchered.
    Reservation {
        /// Base units.
        least: u128,
    },
}

/// Value that a payer may owe, vouchered and neither claimed nor reserved.
pub fn credit(prices: &Prices, signer: &SignerFacts, debt: &Debt, costs: &Costs) -> u128 {
    let first = worth(prices, FIRST_CREDIT_TOKENS);
    let base = if signer.bond >= first {
        first
    } else {
        worth(prices, UNBONDED_CREDIT_TOKENS)
    };
    let trigger = costs.claim.saturating_mul(WORTH_THE_GAS);
    // What was claimed from a payer was money: it may owe as much again, up to twice what is worth claiming.
    let earned = debt.claimed.min(trigger.saturating_mul(2));
    base.max(earned).min(signer.left)
}

/// Whether to go on, given what the job cost so far (`due`, on its totals) and what was vouchered for it, with the line's total before
/// the job.
///
/// # Errors
/// [`NotServed`] when nothing that this payer signs would help.
pub fn next(
    prices: &Prices,
    signer: &SignerFacts,
    debt: &Debt,
    costs: &Costs,
    line: &LineOfJob,
    now: u64,
) -> Result<Next, NotServed> {
    if prices.is_free() {
        return Ok(Next::Serve);
    }
    if let Some(least) = lacks(prices, signer, debt, costs, now)? {
        return Ok(Next::Reservation { least });
    }
    let unpaid = line.due.saturating_sub(line.vouchered);
    if unpaid >= worth(prices, u64::from(line.window)) {
        return Ok(Next::Voucher {
            cumulative: line.base.saturating_add(line.due),
        });
    }
    Ok(Next::Serve)
}

/// The reservation, in base units, without which this payer's credit is used up; `None` while it is not.
///
/// # Errors
/// [`NotServed`] when nothing that this payer signs would help.
pub fn lacks(
    prices: &Prices,
    signer: &SignerFacts,
    debt: &Debt,
    costs: &Costs,
    now: u64,
) -> Result<Option<u128>, NotServed> {
    let left_s = signer.until.saturating_sub(now);
    if left_s < MIN_SIGNER_LIFE_S {
        return Err(NotServed::SignerEnds { left_s });
    }
    let credit = credit(prices, signer, debt, costs);
    if debt.open <= credit && credit > 0 {
        return Ok(None);
    }
    if signer.left == 0 {
        return Err(NotServed::NothingLeft);
    }
    let least = costs
        .claim
        .saturating_add(costs.reserve)
        .saturating_mul(WORTH_THE_GAS);
    if least > signer.left {
        return Err(NotServed::TooDear {
            least,
            left: signer.left,
        });
    }
    Ok(Some(least))
}

/// One job on its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineOfJob {
    /// The line's total when the job began.
    pub base: u128,
    /// What the job cost so far, by [`price::due`] on its totals.
    pub due: u128,
    /// What was vouchered for it.
    pub vouchered: u128,
    /// Output tokens that may be computed without a voucher.
    pub window: u32,
}

/// Output tokens that a payee computes without a voucher for a payer at this round trip, at so many tokens a second: what is on the way
/// until it is paid for. A quarter of the window waits at the payer for its [`stride`].
pub fn stream_window(decode_tps: u32, rtt_ms: u64) -> u32 {
    if rtt_ms < NEAR_MS {
        return STREAM_WINDOW;
    }
    let on_the_way = u64::from(decode_tps).saturating_mul(rtt_ms.saturating_add(PAYING_MS)) / 1000;
    let window = on_the_way.saturating_mul(4).div_ceil(3);
    u32::try_from(window).map_or(MAX_STREAM_WINDOW, |window| {
        window.clamp(STREAM_WINDOW, MAX_STREAM_WINDOW)
    })
}

/// How many tokens lie between two vouchers while decoding.
pub fn stride(window: u32) -> u32 {
    (window / 4).max(MIN_STRIDE)
}

/// What this many tokens cost at the dearest of the three prices; more than anybody has where that does not fit.
fn worth(prices: &Prices, tokens: u64) -> u128 {
    let dearest = prices.input.max(prices.cached).max(prices.output);
    let totals = Totals {
        output: tokens,
        ..Totals::default()
    };
    let dearest = Prices {
        output: dearest,
        ..Prices::FREE
    };
    price::due(&dearest, &totals).unwrap_or(u128::MAX)
}
