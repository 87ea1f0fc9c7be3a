//! Connections that are made beforehand, for the case that the peer that answers fails: then a dial is time that a person waits.

use std::sync::Arc;

use futures::StreamExt as _;
use protocol::{PeerId, job::client::Event};
use tokio::sync::mpsc;

use super::{
    attempts::{Report, is_ours},
    session::Session,
};
use crate::node::Inner;

/// Peers that are connected beside the one that answers: one may be busy, or fail with it.
const READY: usize = 2;

/// Connects spares in this order until enough are there, and tells of those that are not reached.
pub(super) async fn connect(
    inner: Arc<Inner>,
    session: Arc<Session>,
    spares: Vec<PeerId>,
    reports: mpsc::Sender<Report>,
) {
    let dial = |peer| {
        let (inner, session) = (&inner, &session);
        async move { (peer, inner.reach(session, &peer).await) }
    };
    let mut dials = futures::stream::iter(spares)
        .map(dial)
        .buffer_unordered(READY);
    let mut ready = 0;
    while ready < READY
        && let Some((peer, reached)) = dials.next().await
    {
        match reached {
            Ok(()) => ready += 1,
            Err(error) => {
                tracing::debug!(%error, %peer, "a spare is not reached");
                if !is_ours(&error) {
                    // The drive is gone only when the answer is over.
                    let _ = reports
                        .send(Report::Event(Event::NotReached { peer }))
                        .await;
                }
            }
        }
    }
}
