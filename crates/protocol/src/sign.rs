//! Ed25519 over a domain string and the exact bytes that travel.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::PeerId;

/// A signature does not hold. Which byte is wrong cannot be told, so there is one variant per place it can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The signature has the wrong length.
    #[error("a signature has 64 bytes, {got} came")]
    Length {
        /// Bytes that came.
        got: usize,
    },
    /// The peer id does not hold a valid key.
    #[error("the peer id holds no valid key")]
    Key,
    /// The signature is not this peer's over these bytes in this domain.
    #[error("the signature does not match")]
    Mismatch,
}

/// A node's secret key. It signs with a domain string in front, so that no message can pass for another kind.
#[derive(Clone)]
pub struct Signer {
    key: SigningKey,
    peer: PeerId,
}

impl Signer {
    /// The signer whose secret is this 32-byte seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let key = SigningKey::from_bytes(&seed);
        let peer = PeerId::from_public_key(key.verifying_key().as_bytes());
        Self { key, peer }
    }

    /// Whom a signature of this signer speaks for.
    pub fn peer_id(&self) -> PeerId {
        self.peer
    }

    /// Signs `domain`, a zero byte and `bytes`. A domain never contains a zero byte, so no two
    /// pairs of domain and bytes spell the same message.
    pub fn sign(&self, domain: &str, bytes: &[u8]) -> [u8; 64] {
        self.key.sign(&message(domain, bytes)).to_bytes()
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// Checks that `peer` signed `bytes` in `domain`. Strict: keys of small order and non-canonical signatures fail,
/// so a receipt cannot be made to verify in one program and not in another.
pub fn verify(peer: &PeerId, domain: &str, bytes: &[u8], sig: &[u8]) -> Result<(), SignatureError> {
    let sig: [u8; 64] = sig
        .try_into()
        .map_err(|_| SignatureError::Length { got: sig.len() })?;
    let key = VerifyingKey::from_bytes(&peer.public_key()).map_err(|_| SignatureError::Key)?;
    key.verify_strict(&message(domain, bytes), &Signature::from_bytes(&sig))
        .map_err(|_| SignatureError::Mismatch)
}

fn message(domain: &str, bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(domain.len() + 1 + bytes.len());
    message.extend_from_slice(domain.as_bytes());
    message.push(0);
    message.extend_from_slice(bytes);
    message
}
