//! One private key of secp256k1.

use alloy_primitives::Address;
use k256::ecdsa::SigningKey;
use zeroize::Zeroize as _;

use crate::error::WalletError;

/// 32 bytes that sign, wiped when dropped. They stay in one place on the heap, so that moving the value copies a pointer.
pub struct Secret(Box<[u8; 32]>);

impl Secret {
    /// A key from the system's randomness.
    ///
    /// # Errors
    /// [`WalletError::Random`].
    pub fn generate() -> Result<Self, WalletError> {
        let mut secret = Self(Box::new([0; 32]));
        // A number outside the group's order comes once in 2^128 draws.
        loop {
            getrandom::fill(&mut secret.0[..])
                .map_err(|error| WalletError::Random(error.to_string()))?;
            if secret.signing_key().is_ok() {
                return Ok(secret);
            }
        }
    }

    /// A key from its big-endian number.
    ///
    /// # Errors
    /// [`WalletError::NotAKey`] for zero, for a number not below the group's order, and for another length than 32.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, WalletError> {
        if bytes.len() != 32 {
            return Err(WalletError::NotAKey);
        }
        let mut secret = Self(Box::new([0; 32]));
        secret.0.copy_from_slice(bytes);
        secret.signing_key()?;
        Ok(secret)
    }

    /// The address that its signatures recover to (the last 20 bytes of Keccak-256 of the public key).
    #[must_use]
    pub fn address(&self) -> Address {
        // Every way to a `Secret` has made the same check.
        self.signing_key()
            .map_or(Address::ZERO, |key| Address::from_private_key(&key))
    }

    /// The key itself, for whoever signs with it. It is the caller's to wipe what it copies.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    fn signing_key(&self) -> Result<SigningKey, WalletError> {
        SigningKey::from_slice(&self.0[..]).map_err(|_| WalletError::NotAKey)
    }
}

impl Clone for Secret {
    fn clone(&self) -> Self {
        let mut copy = Self(Box::new([0; 32]));
        copy.0.copy_from_slice(&self.0[..]);
        copy
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_has_its_known_address() {
        // The private key 1: its address is in every list of weak keys.
        let mut one = [0; 32];
        one[31] = 1;
        let secret = Secret::from_slice(&one).unwrap();
        assert_eq!(
            secret.address().to_checksum(None),
            "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
        );
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        // The order of secp256k1 (SEC 2, section 2.4.1).
        let order = hex::decode("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141")
            .unwrap();
        for bytes in [&[0; 32][..], &order, &[0xff; 32], &[1; 31], &[1; 33], &[]] {
            assert!(matches!(
                Secret::from_slice(bytes),
                Err(WalletError::NotAKey)
            ));
        }
    }

    #[test]
    fn two_generated_keys_differ() {
        assert_ne!(
            Secret::generate().unwrap().address(),
            Secret::generate().unwrap().address()
        );
    }
}
