//! What a hostile asker sends: bytes that are no frames, frames that are no jobs, jobs that nobody may ask for.

use bytes::Bytes;
use network::Network;
use protocol::{
    ModelDigest, PeerId,
    frame::{Cap, Frame},
};

use crate::wire;

/// One thing that a hostile asker does, from a network of its own that is connected with the peer.
pub type Attack = for<'a> fn(
    &'a Network,
    PeerId,
    ModelDigest,
    &'a [u32],
) -> std::pin::Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Every one of them, by turns.
pub const ATTACKS: &[Attack] = &[
    |network, peer, _, _| {
        Box::pin(send(
            network,
            peer,
            vec![0x05, 0xff, 0xff, 0xff, 0xff, 0xff],
        ))
    },
    // A length of 2^27, then of four bytes that never end.
    |network, peer, _, _| Box::pin(send(network, peer, vec![0x80, 0x80, 0x80, 0x40])),
    |network, peer, _, _| Box::pin(send(network, peer, vec![0xff; 64])),
    // Half a frame, and then the stream closes.
    |network, peer, _, _| Box::pin(send(network, peer, vec![0xff, 0x03, 0x0a])),
    // Ids that the vocabulary does not have.
    |network, peer, model, _| {
        Box::pin(async move {
            let open = wire::open(peer, model, &[u32::MAX, 0, 49_999_999], &[], 8);
            send(
                network,
                peer,
                Frame::Open(Box::new(open)).to_delimited().to_vec(),
            )
            .await;
        })
    },
    // The same job twice.
    |network, peer, model, prompt| {
        Box::pin(async move {
            let open = Frame::Open(Box::new(wire::open(peer, model, prompt, &[], 4)))
                .to_delimited()
                .to_vec();
            send(network, peer, open.clone()).await;
            send(network, peer, open).await;
        })
    },
    // A job for somebody else, a model that nobody has, and one that asks for more than a context.
    |network, peer, model, prompt| {
        Box::pin(async move {
            let mut open = wire::open(peer, model, prompt, &[], 4);
            open.provider = Bytes::from_static(&[0; 38]);
            send(
                network,
                peer,
                Frame::Open(Box::new(open)).to_delimited().to_vec(),
            )
            .await;
            let unknown = wire::open(peer, ModelDigest::new([7; 32]), prompt, &[], 4);
            send(
                network,
                peer,
                Frame::Open(Box::new(unknown)).to_delimited().to_vec(),
            )
            .await;
            let long = wire::open(peer, model, &vec![1; 200_000], &[], u32::MAX);
            send(
                network,
                peer,
                Frame::Open(Box::new(long)).to_delimited().to_vec(),
            )
            .await;
        })
    },
];

/// Opens a stream, says this, and listens until the other side closes or has answered.
async fn send(network: &Network, peer: PeerId, bytes: Vec<u8>) {
    // A peer that was banned for the attack before is refused here, which is right as well.
    let Ok(stream) = network.open_job(&peer).await else {
        return;
    };
    let (mut reader, writer) = stream.split();
    let _ = writer.send_bytes(Bytes::from(bytes));
    writer.finish();
    // Ends by the node's own deadlines; nothing it says may be an answer to nonsense.
    while reader.next(Cap::Provider).await.is_ok() {}
}
