//! Between libp2p's identities and those of `protocol`. Both are the same 38 bytes: the identity multihash of an Ed25519 key.

use libp2p::identity::Keypair;

use crate::error::NetworkError;

/// The key pair of a seed.
pub(crate) fn keypair(seed: [u8; 32]) -> Result<Keypair, NetworkError> {
    Keypair::ed25519_from_bytes(seed).map_err(|error| NetworkError::Start {
        reason: error.to_string(),
    })
}

/// `None` for an identity that is not an Ed25519 key: such a peer can sign nothing here, and is not let in.
pub(crate) fn to_protocol(peer: &libp2p::PeerId) -> Option<protocol::PeerId> {
    protocol::PeerId::from_bytes(&peer.to_bytes()).ok()
}

/// `None` only for bytes that `protocol::PeerId` cannot hold.
pub(crate) fn to_libp2p(peer: &protocol::PeerId) -> Option<libp2p::PeerId> {
    libp2p::PeerId::from_bytes(peer.as_bytes()).ok()
}
