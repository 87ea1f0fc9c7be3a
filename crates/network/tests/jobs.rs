//! Job streams: frames both ways, and every way in which a stream ends.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{QUIC, TCP, TestNode, open, ping, within};
use network::{Flow, NetworkError, ReadError, WriteError};
use protocol::frame::{Accept, Cap, Frame, FrameError, MAX_OPEN, MAX_TOKENS_FRAME, Tokens};

#[tokio::test]
async fn frames_travel_both_ways_over_quic() {
    both_ways(QUIC).await;
}

#[tokio::test]
async fn frames_travel_both_ways_over_tcp() {
    both_ways(TCP).await;
}

async fn both_ways(listen: &str) {
    let mut server = TestNode::listening(1, &[listen]).await;
    let client = TestNode::dialing(2).await;
    client.connect(&server).await;

    let stream = client.network.open_job(&server.id()).await.unwrap();
    assert_eq!(stream.peer, server.id());
    let (mut from_server, to_server) = stream.split();
    let first = open(200_000);
    assert_eq!(to_server.send(&first), Ok(Flow::Flowing));

    let job = server.next_job().await;
    assert_eq!(job.peer, client.id());
    assert!(
        job.remote_addr.starts_with("/ip4/127.0.0.1/"),
        "{}",
        job.remote_addr
    );
    let (mut from_client, to_client) = job.split();
    let bytes = within("the first frame", from_client.open()).await.unwrap();
    assert_eq!(bytes, first.to_bytes());

    // Both write at once and neither waits for the other.
    to_client
        .send(&Frame::Accept(Accept {
            n_in: 1,
            ..Accept::default()
        }))
        .unwrap();
    for nonce in 0..100 {
        to_server.send(&ping(nonce)).unwrap();
        let tokens = Tokens {
            first_index: nonce as u32,
            ids: vec![nonce as u32],
            ..Tokens::default()
        };
        to_client.send(&Frame::Tokens(tokens)).unwrap();
    }
    assert!(matches!(
        within("Accept", from_server.next(Cap::Provider)).await,
        Ok(Frame::Accept(_))
    ));
    for at in 0..100 {
        assert_eq!(
            within("a ping", from_client.next(Cap::Client))
                .await
                .unwrap(),
            ping(at)
        );
        let tokens = within("tokens", from_server.next(Cap::Provider))
            .await
            .unwrap();
        assert!(matches!(tokens, Frame::Tokens(tokens) if u64::from(tokens.first_index) == at));
    }

    // The last frame arrives although its writer is dropped at once.
    to_client.send(&ping(7)).unwrap();
    drop((to_client, from_client));
    assert_eq!(
        within("the last frame", from_server.next(Cap::Provider))
            .await
            .unwrap(),
        ping(7)
    );
    assert_eq!(
        within("the end", from_server.next(Cap::Provider)).await,
        Err(ReadError::Closed)
    );
    assert_eq!(
        from_server.next(Cap::Provider).await,
        Err(ReadError::Closed),
        "and it stays so"
    );
}

#[tokio::test]
async fn a_stream_needs_a_connection_and_a_peer_that_speaks_it() {
    let client = TestNode::dialing(3).await;
    let stranger = protocol::Signer::from_seed([99; 32]).peer_id();
    let answer = client.network.open_job(&stranger).await;
    assert!(matches!(answer, Err(NetworkError::NotConnected { peer }) if peer == stranger));
}

#[tokio::test]
async fn a_peer_that_goes_is_noticed_in_the_middle_of_a_stream() {
    for listen in [QUIC, TCP] {
        let mut server = TestNode::listening(4, &[listen]).await;
        let client = TestNode::dialing(5).await;
        client.connect(&server).await;
        let (mut from_server, to_server) =
            client.network.open_job(&server.id()).await.unwrap().split();
        to_server.send(&open(10)).unwrap();
        let (_reader, to_client) = server.next_job().await.split();
        to_client.send(&ping(1)).unwrap();
        assert_eq!(
            within("a frame", from_server.next(Cap::Provider))
                .await
                .unwrap(),
            ping(1)
        );

        let waiting = tokio::spawn(async move { from_server.next(Cap::Provider).await });
        server.network.shutdown().await;
        assert_eq!(
            within("the loss", waiting).await.unwrap(),
            Err(ReadError::Closed)
        );
        let mut flow = to_server.flow();
        within(
            "the writer's end",
            flow.wait_for(|flow| *flow == Flow::Closed),
        )
        .await
        .unwrap();
        assert_eq!(to_server.send(&ping(2)), Err(WriteError::Closed));
    }
}

#[tokio::test]
async fn disconnecting_ends_streams_on_both_sides_at_once() {
    let mut server = TestNode::listening(6, &[QUIC]).await;
    let client = TestNode::dialing(7).await;
    client.connect(&server).await;
    let (mut from_server, to_server) = client.network.open_job(&server.id()).await.unwrap().split();
    to_server.send(&open(10)).unwrap();
    let (mut from_client, _to_client) = server.next_job().await.split();
    within("the first frame", from_client.open()).await.unwrap();
    client.network.disconnect(&server.id()).await;
    assert_eq!(
        within("the end here", from_server.next(Cap::Provider)).await,
        Err(ReadError::Closed)
    );
    assert_eq!(
        within("the end there", from_client.next(Cap::Client)).await,
        Err(ReadError::Closed)
    );
}

#[tokio::test]
async fn a_reader_that_stands_still_blocks_its_writer_and_nobody_else() {
    let mut server = TestNode::listening(8, &[TCP]).await;
    let client = TestNode::dialing(9).await;
    client.connect(&server).await;
    let (mut slow, to_server) = client.network.open_job(&server.id()).await.unwrap().split();
    to_server.send(&open(10)).unwrap();
    let (_from_client, to_slow) = server.next_job().await.split();

    // 16 KiB a frame: the windows of Yamux fill, then the queue.
    let tokens = |at: u32| {
        Frame::Tokens(Tokens {
            first_index: at,
            ids: vec![1; 1000],
            pad: vec![0; 13_000].into(),
            ..Tokens::default()
        })
    };
    let mut sent = 0;
    while to_slow.send(&tokens(sent)).unwrap() == Flow::Flowing {
        sent += 1;
        assert!(sent < 10_000, "the queue never fills");
        tokio::task::yield_now().await;
    }
    sent += 1;
    let mut refused = None;
    while refused.is_none() && sent < 10_000 {
        match to_slow.send(&tokens(sent)) {
            Ok(_) => sent += 1,
            Err(error) => refused = Some(error),
        }
    }
    assert!(
        matches!(refused, Some(WriteError::Full { .. })),
        "{refused:?}"
    );

    // Another stream of the same connection goes on.
    let (mut quick, to_server) = client.network.open_job(&server.id()).await.unwrap().split();
    to_server.send(&open(10)).unwrap();
    let (_from_quick, to_quick) = server.next_job().await.split();
    to_quick.send(&ping(3)).unwrap();
    assert_eq!(
        within("the quick stream", quick.next(Cap::Provider))
            .await
            .unwrap(),
        ping(3)
    );

    // Once it reads, everything that was taken arrives, in order, and the writer flows again.
    for at in 0..sent {
        let frame = within("a late frame", slow.next(Cap::Provider))
            .await
            .unwrap();
        assert!(
            matches!(frame, Frame::Tokens(tokens) if tokens.first_index == at),
            "at {at}"
        );
    }
    let mut flow = to_slow.flow();
    within("drained", flow.wait_for(|flow| *flow == Flow::Flowing))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_oversized_frame_is_refused_before_it_is_read_and_counted() {
    let mut server = TestNode::listening(10, &[QUIC]).await;
    let client = TestNode::dialing(11).await;
    client.connect(&server).await;
    let (_reader, to_server) = client.network.open_job(&server.id()).await.unwrap().split();
    to_server
        .send_bytes(protocol::frame::delimit(&vec![0; MAX_OPEN + 1]))
        .unwrap();
    let (mut from_client, _writer) = server.next_job().await.split();
    let error = within("the refusal", from_client.open()).await.unwrap_err();
    assert_eq!(
        error,
        ReadError::Violation(FrameError::TooLong {
            len: MAX_OPEN + 1,
            cap: MAX_OPEN
        })
    );
    server
        .until("the count", |status| status.refusals.violations == 1)
        .await;
    assert_eq!(
        server.network.status().borrow().peers.len(),
        1,
        "once is not a ban"
    );

    // The other side has caps, too.
    let (mut from_server, to_server) = client.network.open_job(&server.id()).await.unwrap().split();
    to_server.send(&open(10)).unwrap();
    let (_reader, to_client) = server.next_job().await.split();
    to_client
        .send_bytes(protocol::frame::delimit(&vec![0; MAX_TOKENS_FRAME + 1]))
        .unwrap();
    let error = within("the refusal", from_server.next(Cap::Provider))
        .await
        .unwrap_err();
    assert!(
        matches!(error, ReadError::Violation(FrameError::TooLong { .. })),
        "{error}"
    );
    client
        .until("the count", |status| status.refusals.violations == 1)
        .await;
}

#[tokio::test]
async fn garbage_three_times_is_a_ban() {
    let mut server = TestNode::listening(12, &[TCP]).await;
    let hostile = TestNode::dialing(13).await;
    hostile.connect(&server).await;
    let garbage: [&[u8]; 3] = [
        b"\xff\xff\xff\xff\xff\xff",
        b"\x80\x00",
        b"\x05\xff\xff\xff\xff\xff",
    ];
    for (at, bytes) in garbage.into_iter().enumerate() {
        let (_reader, writer) = hostile
            .network
            .open_job(&server.id())
            .await
            .unwrap()
            .split();
        writer.send_bytes(bytes.to_vec().into()).unwrap();
        let (mut reader, _writer) = server.next_job().await.split();
        let error = match at {
            // Its length is fine: what is inside is looked at by whoever judges the job, or as here by the next state.
            2 => within("the refusal", reader.next(Cap::Client))
                .await
                .unwrap_err(),
            _ => within("the refusal", reader.open()).await.unwrap_err(),
        };
        assert!(matches!(error, ReadError::Violation(_)), "{error}");
    }
    let status = server
        .until("the ban", |status| !status.banned.is_empty())
        .await;
    assert_eq!(
        (status.banned, status.refusals.violations),
        (vec![hostile.id()], 3)
    );
    hostile
        .until("being thrown out", |status| status.peers.is_empty())
        .await;
    let back = within("no way back", hostile.network.connect(&server.addresses[0])).await;
    assert!(back.is_err(), "{back:?}");
    let honest = TestNode::dialing(14).await;
    honest.connect(&server).await;
}

#[tokio::test]
async fn a_flood_of_streams_is_bounded_and_the_honest_peer_is_served() {
    let mut server = TestNode::listening(15, &[QUIC]).await;
    let hostile = TestNode::dialing(16).await;
    hostile.connect(&server).await;
    let flood = tokio::spawn({
        let (network, server) = (hostile.network.clone(), server.id());
        async move {
            let mut held = Vec::new();
            let mut busy = 0;
            for _ in 0..400 {
                let Ok(stream) = network.open_job(&server).await else {
                    break;
                };
                let (mut reader, writer) = stream.split();
                let _ = writer.send(&open(10));
                if held.len() < 16 {
                    // The first ones are kept open, as somebody does who wants to use up places.
                    held.push((reader, writer));
                } else {
                    let answer = reader.next(Cap::Provider).await;
                    busy += usize::from(
                        matches!(answer, Ok(Frame::Busy(busy)) if busy.retry_after_ms > 0),
                    );
                }
            }
            (held.len(), busy)
        }
    });

    let honest = TestNode::dialing(17).await;
    honest.connect(&server).await;
    let (mut from_server, to_server) = honest.network.open_job(&server.id()).await.unwrap().split();
    to_server.send(&open(10)).unwrap();

    let mut of_hostile = Vec::new();
    loop {
        let job = server.next_job().await;
        if job.peer == honest.id() {
            let (mut reader, writer) = job.split();
            within("the honest first frame", reader.open())
                .await
                .unwrap();
            writer.send(&ping(42)).unwrap();
            assert_eq!(
                within("the honest answer", from_server.next(Cap::Provider))
                    .await
                    .unwrap(),
                ping(42)
            );
            break;
        }
        of_hostile.push(job);
    }
    let (_, busy) = within("the end of the flood", flood).await.unwrap();
    assert!(busy > 0, "a refusal is said before it comes to a ban");
    server
        .until("the ban", |status| status.banned == [hostile.id()])
        .await;
    while let Ok(job) = server.inbound.jobs.try_recv() {
        of_hostile.push(job.stream);
    }
    assert!(
        of_hostile.len() <= 8,
        "{} streams of one peer at once",
        of_hostile.len()
    );
    let refusals = server.network.status().borrow().refusals;
    assert!(refusals.rate + refusals.queue > 100, "{refusals:?}");
}
