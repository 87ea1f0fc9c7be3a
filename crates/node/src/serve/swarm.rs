//! The swarm that serves: it has the stable identity, and runs while the switch is on. Off, that identity is nowhere to
//! be met.

use std::sync::Arc;

use network::{
    HeadRequest, HeadSource, IncomingJob, Network, NetworkError, NetworkOptions, NetworkStatus,
};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::{ServingView, quotes, rooms::Rooms};
use crate::{node::Inner, peers::swarms, settings::Settings};

/// The running swarm, and what answers strangers besides jobs.
#[derive(Debug)]
pub(super) struct Swarm {
    pub(super) network: Network,
    pub(super) jobs: mpsc::Receiver<IncomingJob>,
    settings: Settings,
    _tasks: [AbortOnDropHandle<()>; 3],
}

impl Swarm {
    /// Starts it, listening at these addresses. `status` shows its state from now on.
    pub(super) async fn start(
        inner: &Arc<Inner>,
        (listen, mdns): (Vec<String>, bool),
        view: &watch::Sender<ServingView>,
        rooms: Rooms,
        status: watch::Sender<NetworkStatus>,
    ) -> Result<Self, NetworkError> {
        let settings = inner.settings.borrow().clone();
        let (known_peers, blocked) = {
            let book = inner.book();
            (book.dialable(), book.blocked())
        };
        let (network, inbound) = Network::start(NetworkOptions {
            listen,
            mdns,
            known_peers,
            agent: inner.agent.clone(),
            ..swarms::options(
                &settings,
                &inner.data,
                swarms::Swarm::Serving,
                inner.identity.seed(),
            )
        })
        .await?;
        for peer in blocked {
            network.set_blocked(&peer, true).await;
        }
        let heads = give_heads(view.subscribe(), inbound.heads);
        let quotes = quotes::give(Arc::clone(inner), view.subscribe(), rooms, inbound.quotes);
        let shown = show(network.status(), status);
        Ok(Self {
            network,
            jobs: inbound.jobs,
            settings,
            _tasks: [
                AbortOnDropHandle::new(tokio::spawn(heads)),
                AbortOnDropHandle::new(tokio::spawn(quotes)),
                AbortOnDropHandle::new(tokio::spawn(shown)),
            ],
        })
    }
}

impl Swarm {
    /// Whether these settings need another swarm.
    pub(super) fn is_outdated(&self, settings: &Settings) -> bool {
        swarms::changed(&self.settings, settings)
    }
}

/// Answers peers who want the head of a model that is offered to them right now.
async fn give_heads(view: watch::Receiver<ServingView>, mut requests: mpsc::Receiver<HeadRequest>) {
    while let Some(request) = requests.recv().await {
        let served = Arc::clone(&view.borrow().served);
        let source = served
            .iter()
            .find(|served| served.reference.digest == request.model)
            .map(|served| HeadSource::File {
                path: served.file.clone(),
                len: served.reference.head_len,
            });
        // Nobody waits any more.
        let _ = request.reply.send(source);
    }
}

/// Passes the swarm's state on to those who watch across switches.
async fn show(mut from: watch::Receiver<NetworkStatus>, to: watch::Sender<NetworkStatus>) {
    loop {
        to.send_replace(from.borrow_and_update().clone());
        if from.changed().await.is_err() {
            return;
        }
    }
}
