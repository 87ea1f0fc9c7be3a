//! A key for as long as something is signed with it.

use alloy::{
    consensus::SignableTransaction,
    primitives::{Address, B256, Signature, U256},
    signers::{SignerSync, local::PrivateKeySigner},
};

use crate::{
    network::Network,
    typed::{Permit, Start, operator_digest, permit_digest, start_digest},
};

/// r, and s with the parity of v in its top bit (EIP-2098), as the vault reads signatures.
pub type CompactSignature = [u8; 64];

/// These bytes are no key of secp256k1: zero, or not below the curve's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these 32 bytes are no key of secp256k1")]
pub struct KeyError;

/// A secret key of an account. It is wiped when it is dropped.
pub struct Key {
    signer: PrivateKeySigner,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

impl Key {
    /// The key whose secret this is.
    ///
    /// # Errors
    /// [`KeyError`] for zero, and for what is not below the curve's order.
    pub fn from_secret(secret: &[u8; 32]) -> Result<Self, KeyError> {
        let signer = PrivateKeySigner::from_slice(secret).map_err(|_| KeyError)?;
        Ok(Self { signer })
    }

    /// Whose it is.
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// A permit for the vault to take exactly `value` until `deadline` (seconds since 1970). `nonce` is
    /// [`Account::token_nonce`](crate::Account).
    ///
    /// # Errors
    /// [`KeyError`] when the curve gives no signature, which no input is known to do.
    pub fn permit(
        &self,
        network: &Network,
        value: u128,
        nonce: U256,
        deadline: U256,
    ) -> Result<Permit, KeyError> {
        let signature = self.sign(permit_digest(
            network,
            self.address(),
            value,
            nonce,
            deadline,
        ))?;
        Ok(Permit {
            value,
            deadline,
            v: 27 + u8::from(signature.v()),
            r: signature.r().into(),
            s: signature.s().into(),
        })
    }

    /// Signs first steps that somebody else will bring.
    ///
    /// # Errors
    /// As [`Key::permit`].
    pub fn start(&self, network: &Network, start: &Start) -> Result<CompactSignature, KeyError> {
        Ok(compact(self.sign(start_digest(network, start))?))
    }

    /// Signs, as an operator key, that this owner's stake answers for it.
    ///
    /// # Errors
    /// As [`Key::permit`].
    pub fn operator(
        &self,
        network: &Network,
        owner: Address,
    ) -> Result<CompactSignature, KeyError> {
        Ok(compact(self.sign(operator_digest(network, owner))?))
    }

    pub(crate) fn transaction<T: SignableTransaction<Signature>>(
        &self,
        transaction: &T,
    ) -> Result<Signature, KeyError> {
        self.sign(transaction.signature_hash())
    }

    fn sign(&self, digest: B256) -> Result<Signature, KeyError> {
        self.signer.sign_hash_sync(&digest).map_err(|_| KeyError)
    }
}

fn compact(signature: Signature) -> CompactSignature {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&signature.r().to_be_bytes::<32>());
    bytes[32..].copy_from_slice(&signature.s().to_be_bytes::<32>());
    if signature.v() {
        bytes[32] |= 0x80;
    }
    bytes
}
