//! Vouchers: how a payer pays strangers by the token, without a transaction for each.
//!
//! A payer's session key signs, for one payee, a total that only grows; the highest such [`Voucher`] says all that is owed on
//! their line. A [`Reservation`] holds a part of the payer's grant for one payee alone. Both are EIP-712 structs in the
//! domain of one vault on one chain, so that none counts anywhere else.
//!
//! What comes from a stranger is [`Unchecked`]; [`Voucher::check`] makes it [`Checked`], and nothing that keeps or serves takes
//! the former. What leaves has gone through [`payer::Book`] first: it hands out no promise past what the chain granted.
//!
//! - [`payer`]: what a signer may still promise.
//! - [`payee`]: how long a payee serves on, and when it asks for more than a signature.
//! - [`Split`]: which of its jobs a line's total pays for.

mod known;
pub mod payee;
pub mod payer;
mod split;
mod typed;

pub use alloy_primitives::{Address, B256};
pub use split::{Opening, Split};
pub use typed::{SessionKey, SignerError, Vault};

use typed::{CompactSignature, Typed};

/// Bytes of a voucher on the wire: payer, total, work, signature. Its payee is who reads it.
pub const VOUCHER_BYTES: usize = 20 + 16 + 32 + 64;
/// Bytes of a reservation on the wire: payer, level, end, number, signature.
pub const RESERVATION_BYTES: usize = 20 + 16 + 8 + 8 + 64;

/// A promise whose signature nobody looked at yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unchecked {
    signature: CompactSignature,
}

/// A promise whose signature holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    signer: Address,
    signature: CompactSignature,
}

/// A total that a payer owes a payee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voucher<S = Checked> {
    /// Whose balance pays.
    pub payer: Address,
    /// Who is paid: the operator key of one machine.
    pub payee: Address,
    /// All that is owed on this line since it began, in base units.
    pub cumulative: u128,
    /// What it pays for: the digest of the last checkpoint, or the job's id before the first one.
    pub work: B256,
    state: S,
}

/// A level of a line that no other line can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation<S = Checked> {
    /// Whose balance pays.
    pub payer: Address,
    /// For whom it is held.
    pub payee: Address,
    /// Up to which total of the line it is held, in base units.
    pub upto: u128,
    /// Until when, in Unix seconds of the chain.
    pub until: u64,
    /// Counts up on each line; the vault takes each once.
    pub nonce: u64,
    state: S,
}

/// Why a promise does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VoucherError {
    /// It has another length.
    #[error("a promise of {expected} bytes was expected, {got} came")]
    Length {
        /// Bytes of such a promise.
        expected: usize,
        /// Bytes that came.
        got: usize,
    },
    /// No key signs like this.
    #[error("the signature is none")]
    Signature,
    /// Another key than the line's signed it.
    #[error("signed by {got}, where {expected} signs for this payer")]
    Signer {
        /// Whose line it is.
        expected: Address,
        /// Who signed.
        got: Address,
    },
}

impl<S> Voucher<S> {
    fn typed(&self) -> Typed {
        Typed::voucher(self.payer, self.payee, self.cumulative, self.work)
    }
}

impl Voucher<Unchecked> {
    /// Reads a voucher that `payee` was sent.
    ///
    /// # Errors
    /// [`VoucherError::Length`].
    pub fn decode(bytes: &[u8], payee: Address) -> Result<Self, VoucherError> {
        let bytes: &[u8; VOUCHER_BYTES] = sized(bytes)?;
        Ok(Self {
            payer: Address::from_slice(&bytes[..20]),
            payee,
            cumulative: u128::from_be_bytes(part(bytes, 20)),
            work: B256::from_slice(&bytes[36..68]),
            state: Unchecked {
                signature: CompactSignature(part(bytes, 68)),
            },
        })
    }

    /// Finds out who signed it.
    ///
    /// # Errors
    /// [`VoucherError::Signature`].
    pub fn check(self, vault: &Vault) -> Result<Voucher<Checked>, VoucherError> {
        let signer = vault.recover(&self.typed(), &self.state.signature)?;
        Ok(self.checked(signer))
    }

    /// The same for a line whose signer is known: one multiplication less.
    ///
    /// # Errors
    /// [`VoucherError::Signature`] where it is not that signer's.
    pub fn check_known(
        self,
        vault: &Vault,
        signer: &payee::KnownSigner,
    ) -> Result<Voucher<Checked>, VoucherError> {
        vault.verify(&self.typed(), &self.state.signature, signer)?;
        Ok(self.checked(signer.address()))
    }

    fn checked(self, signer: Address) -> Voucher<Checked> {
        Voucher {
            payer: self.payer,
            payee: self.payee,
            cumulative: self.cumulative,
            work: self.work,
            state: Checked {
                signer,
                signature: self.state.signature,
            },
        }
    }
}

impl Voucher<Checked> {
    /// Whose signature it carries.
    pub fn signer(&self) -> Address {
        self.state.signer
    }

    /// The signature as the vault takes it: r, and s with the parity of v in its top bit.
    pub fn signature(&self) -> [u8; 64] {
        self.state.signature.0
    }

    /// As it travels.
    pub fn encode(&self) -> [u8; VOUCHER_BYTES] {
        encode(
            self.payer,
            self.cumulative,
            self.work,
            &self.state.signature.0,
        )
    }
}

/// A voucher that was kept, as it travels.
pub fn encode(
    payer: Address,
    cumulative: u128,
    work: B256,
    signature: &[u8; 64],
) -> [u8; VOUCHER_BYTES] {
    let mut bytes = [0; VOUCHER_BYTES];
    bytes[..20].copy_from_slice(payer.as_slice());
    bytes[20..36].copy_from_slice(&cumulative.to_be_bytes());
    bytes[36..68].copy_from_slice(work.as_slice());
    bytes[68..].copy_from_slice(signature);
    bytes
}

impl<S> Reservation<S> {
    fn typed(&self) -> Typed {
        Typed::reservation(self.payer, self.payee, self.upto, self.until, self.nonce)
    }
}

impl Reservation<Unchecked> {
    /// Reads a reservation that `payee` was sent.
    ///
    /// # Errors
    /// [`VoucherError::Length`].
    pub fn decode(bytes: &[u8], payee: Address) -> Result<Self, VoucherError> {
        let bytes: &[u8; RESERVATION_BYTES] = sized(bytes)?;
        Ok(Self {
            payer: Address::from_slice(&bytes[..20]),
            payee,
            upto: u128::from_be_bytes(part(bytes, 20)),
            until: u64::from_be_bytes(part(bytes, 36)),
            nonce: u64::from_be_bytes(part(bytes, 44)),
            state: Unchecked {
                signature: CompactSignature(part(bytes, 52)),
            },
        })
    }

    /// Finds out who signed it.
    ///
    /// # Errors
    /// [`VoucherError::Signature`].
    pub fn check(self, vault: &Vault) -> Result<Reservation<Checked>, VoucherError> {
        let signer = vault.recover(&self.typed(), &self.state.signature)?;
        Ok(Reservation {
            payer: self.payer,
            payee: self.payee,
            upto: self.upto,
            until: self.until,
            nonce: self.nonce,
            state: Checked {
                signer,
                signature: self.state.signature,
            },
        })
    }
}

impl Reservation<Checked> {
    /// Whose signature it carries.
    pub fn signer(&self) -> Address {
        self.state.signer
    }

    /// The signature as the vault takes it.
    pub fn signature(&self) -> [u8; 64] {
        self.state.signature.0
    }

    /// As it travels.
    pub fn encode(&self) -> [u8; RESERVATION_BYTES] {
        let mut bytes = [0; RESERVATION_BYTES];
        bytes[..20].copy_from_slice(self.payer.as_slice());
        bytes[20..36].copy_from_slice(&self.upto.to_be_bytes());
        bytes[36..44].copy_from_slice(&self.until.to_be_bytes());
        bytes[44..52].copy_from_slice(&self.nonce.to_be_bytes());
        bytes[52..].copy_from_slice(&self.state.signature.0);
        bytes
    }
}

fn sized<const N: usize>(bytes: &[u8]) -> Result<&[u8; N], VoucherError> {
    bytes.try_into().map_err(|_| VoucherError::Length {
        expected: N,
        got: bytes.len(),
    })
}

/// `N` bytes from `at` on, of an array that is longer by its type's constant.
fn part<const N: usize, const M: usize>(bytes: &[u8; M], at: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[at..at + N]);
    part
}
