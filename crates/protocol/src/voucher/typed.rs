//! What is signed: EIP-712 structs, and the keys that sign them.

use std::borrow::Cow;

use alloy_primitives::{Address, B256, Signature, U256, keccak256};
use alloy_sol_types::{Eip712Domain, SolStruct};
use k256::ecdsa::{SigningKey, VerifyingKey};

use super::{Checked, Reservation, Voucher, VoucherError, payee::KnownSigner, payer::Promised};

/// The domain's name and version, as the vault has them in its code.
const NAME: &str = "DGC Pay Vault";
const VERSION: &str = "1";

mod sol {
    alloy_sol_types::sol! {
        #[derive(Debug)]
        struct Voucher {
            address payer;
            address payee;
            uint128 cumulative;
            bytes32 work;
        }

        #[derive(Debug)]
        struct Reservation {
            address payer;
            address payee;
            uint128 upto;
            uint64 until;
            uint64 nonce;
        }
    }
}

/// A struct that can be signed.
#[derive(Debug)]
pub(super) enum Typed {
    Voucher(sol::Voucher),
    Reservation(sol::Reservation),
}

impl Typed {
    pub(super) fn voucher(payer: Address, payee: Address, cumulative: u128, work: B256) -> Self {
        Self::Voucher(sol::Voucher {
            payer,
            payee,
            cumulative,
            work,
        })
    }

    pub(super) fn reservation(
        payer: Address,
        payee: Address,
        upto: u128,
        until: u64,
        nonce: u64,
    ) -> Self {
        Self::Reservation(sol::Reservation {
            payer,
            payee,
            upto,
            until,
            nonce,
        })
    }
}

/// r, and s with the parity of v in its top bit (EIP-2098).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CompactSignature(pub(super) [u8; 64]);

impl CompactSignature {
    /// `None` for what no honest signer makes: s in the upper half of the curve's order, which the vault refuses as well.
    fn read(&self) -> Option<Signature> {
        let mut s = [0; 32];
        s.copy_from_slice(&self.0[32..]);
        let odd = s[0] & 0x80 != 0;
        s[0] &= 0x7f;
        let signature = Signature::new(
            U256::from_be_slice(&self.0[..32]),
            U256::from_be_bytes(s),
            odd,
        );
        signature.normalize_s().is_none().then_some(signature)
    }
}

/// One vault on one chain: the domain in which a promise counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vault {
    /// The hash of its domain: the same in every digest.
    separator: B256,
}

impl Vault {
    /// The vault at this address.
    pub fn new(chain_id: u64, contract: Address) -> Self {
        let domain = Eip712Domain::new(
            Some(Cow::Borrowed(NAME)),
            Some(Cow::Borrowed(VERSION)),
            Some(U256::from(chain_id)),
            Some(contract),
            None,
        );
        Self {
            separator: domain.separator(),
        }
    }

    /// The domain's hash, as the vault's `domainSeparator()` answers it.
    pub fn separator(&self) -> B256 {
        self.separator
    }

    pub(super) fn digest(&self, typed: &Typed) -> B256 {
        let content = match typed {
            Typed::Voucher(voucher) => voucher.eip712_hash_struct(),
            Typed::Reservation(reservation) => reservation.eip712_hash_struct(),
        };
        let mut signed = [0; 2 + 32 + 32];
        signed[..2].copy_from_slice(&[0x19, 0x01]);
        signed[2..34].copy_from_slice(self.separator.as_slice());
        signed[34..].copy_from_slice(content.as_slice());
        keccak256(signed)
    }

    pub(super) fn recover(
        &self,
        typed: &Typed,
        signature: &CompactSignature,
    ) -> Result<Address, VoucherError> {
        let signature = signature.read().ok_or(VoucherError::Signature)?;
        signature
            .recover_address_from_prehash(&self.digest(typed))
            .map_err(|_| VoucherError::Signature)
    }

    /// The key itself, for lines that will see more of it.
    pub(super) fn recover_key(
        &self,
        typed: &Typed,
        signature: &CompactSignature,
    ) -> Result<VerifyingKey, VoucherError> {
        let signature = signature.read().ok_or(VoucherError::Signature)?;
        signature
            .recover_from_prehash(&self.digest(typed))
            .map_err(|_| VoucherError::Signature)
    }

    pub(super) fn verify(
        &self,
        typed: &Typed,
        signature: &CompactSignature,
        signer: &KnownSigner,
    ) -> Result<(), VoucherError> {
        let read = signature.read().ok_or(VoucherError::Signature)?;
        let k256 = read.to_k256().map_err(|_| VoucherError::Signature)?;
        if signer.signed(&self.digest(typed), &k256) {
            Ok(())
        } else {
            Err(VoucherError::Signature)
        }
    }
}

/// A key that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these 32 bytes are no key of secp256k1")]
pub struct SignerError;

/// The secret of one device by which it pays. It signs nothing but what a [`payer::Book`](super::payer::Book) promised.
#[derive(Clone)]
pub struct SessionKey {
    key: SigningKey,
    address: Address,
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionKey")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl SessionKey {
    /// The key whose secret this is.
    ///
    /// # Errors
    /// [`SignerError`] for zero and for what is not below the curve's order.
    pub fn from_secret(secret: &[u8; 32]) -> Result<Self, SignerError> {
        let key = SigningKey::from_slice(secret).map_err(|_| SignerError)?;
        let address = Address::from_public_key(key.verifying_key());
        Ok(Self { key, address })
    }

    /// Under which address the vault knows it.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Signs a promise, once it is on disk.
    ///
    /// # Errors
    /// [`VoucherError::Signer`] when the promise was made in another key's book; [`VoucherError::Signature`] when the curve
    /// gives none, which no input is known to do.
    pub fn sign(
        &self,
        vault: &Vault,
        promised: Promised,
    ) -> Result<Voucher<Checked>, VoucherError> {
        self.own(promised.signer)?;
        let signature = self.signature(vault, &promised.typed())?;
        Ok(Voucher {
            payer: promised.payer,
            payee: promised.payee,
            cumulative: promised.cumulative,
            work: promised.work,
            state: Checked {
                signer: self.address,
                signature,
            },
        })
    }

    /// Signs a reservation, once it is on disk.
    ///
    /// # Errors
    /// As [`SessionKey::sign`].
    pub fn sign_reservation(
        &self,
        vault: &Vault,
        held: super::payer::Held,
    ) -> Result<Reservation<Checked>, VoucherError> {
        self.own(held.signer)?;
        let signature = self.signature(vault, &held.typed())?;
        Ok(Reservation {
            payer: held.payer,
            payee: held.payee,
            upto: held.upto,
            until: held.until,
            nonce: held.nonce,
            state: Checked {
                signer: self.address,
                signature,
            },
        })
    }

    fn own(&self, signer: Address) -> Result<(), VoucherError> {
        if signer == self.address {
            Ok(())
        } else {
            Err(VoucherError::Signer {
                expected: signer,
                got: self.address,
            })
        }
    }

    fn signature(&self, vault: &Vault, typed: &Typed) -> Result<CompactSignature, VoucherError> {
        let digest = vault.digest(typed);
        let (signature, recovery) = self
            .key
            .sign_prehash_recoverable(digest.as_slice())
            .map_err(|_| VoucherError::Signature)?;
        // The library signs with the lower s, as the vault asks.
        let mut bytes: [u8; 64] = signature.to_bytes().into();
        if recovery.is_y_odd() {
            bytes[32] |= 0x80;
        }
        Ok(CompactSignature(bytes))
    }
}
