//! The way to the peer of a chat, made again while the person types: a connection that nobody uses ends after two minutes, and the next
//! answer would wait for several round trips.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use memory::OpenChat;
use protocol::PeerId;

use super::target::Target;
use crate::node::Inner;

/// A peer that was dialled is not dialled again for this long, whatever came of it: a person types several keys a second.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Peers dialled within that time at most: a person writes in one chat, and looks into a few.
const MAX_DIALLED: usize = 4;

/// Peers that were dialled a moment ago, because somebody typed.
#[derive(Debug, Default)]
pub(crate) struct Warming(Mutex<BTreeMap<PeerId, Instant>>);

impl Warming {
    /// Whether this peer may be dialled now. Notes that it is.
    fn may_dial(&self, peer: PeerId, now: Instant) -> bool {
        let mut dialled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        dialled.retain(|_, at| now.saturating_duration_since(*at) < AGAIN_AFTER);
        if dialled.len() >= MAX_DIALLED || dialled.contains_key(&peer) {
            return false;
        }
        dialled.insert(peer, now);
        true
    }
}

impl Inner {
    /// Connects to the peer that gave the last answer of this chat, in the background, if the next one goes to peers.
    pub(crate) fn warm(self: &Arc<Self>, open: &OpenChat) {
        let messages = open.path.iter().map(|step| &step.message);
        let last = messages
            .rev()
            .find_map(|message| message.spans.last()?.peer.as_ref()?.parse().ok());
        let Some(peer) = last else { return };
        let session = self.asking.now();
        let wanted = session.is_outside()
            && !session.is_connected(&peer)
            && matches!(self.target(&open.chat.settings), Ok(Target::Peers(_)))
            && self.warming.may_dial(peer, Instant::now());
        if !wanted {
            return;
        }
        let inner = Arc::clone(self);
        self.tasks.spawn(async move {
            tokio::select! {
                () = inner.stop.cancelled() => {}
                reached = inner.reach(&session, &peer) => if let Err(error) = reached {
                    tracing::debug!(%error, %peer, "the peer of a chat is not reached");
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_typed_dial_once() {
        let (warming, now) = (Warming::default(), Instant::now());
        let peer = |byte| PeerId::from_public_key(&[byte; 32]);
        assert!(warming.may_dial(peer(1), now));
        assert!(!warming.may_dial(peer(1), now + AGAIN_AFTER / 2));
        for byte in 2..=4 {
            assert!(warming.may_dial(peer(byte), now + AGAIN_AFTER / 2));
        }
        assert!(!warming.may_dial(peer(5), now + AGAIN_AFTER / 2));
        assert!(warming.may_dial(peer(1), now + AGAIN_AFTER));
    }
}
