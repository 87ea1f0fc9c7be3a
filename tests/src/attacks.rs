//! What a hostile asker sends: bytes that are no frames, frames that are no jobs, jobs that nobody may ask for; and how it sits on what it
//! was given.

use std::{net::Ipv4Addr, pin::Pin, time::Duration};

use bytes::Bytes;
use network::{JobStream, Network};
use protocol::{
    HeadDigest, ModelDigest, ModelRef, PeerId, Signer,
    frame::{Cap, Frame, Open, Pay, ResumeOf, Tokens},
};

use crate::wire;

/// Between two bytes of one that is slow.
const DROP: Duration = Duration::from_millis(250);
/// How long one that neither speaks nor reads is waited for: longer than a first frame may take.
const SITS: Duration = Duration::from_secs(15);
/// Streams that a flooding peer tries to open: several hundred times what one peer may have.
const STREAMS: usize = 10_000;
/// How long it holds those that it was given.
const HELD: Duration = Duration::from_secs(5);
/// Offers at a time, and how often other ones take their place.
const OFFERS: u8 = 16;
const OFFERED_ANEW: u8 = 32;
/// Between two such changes.
const CHANGE: Duration = Duration::from_millis(50);
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// An asker that attacks: an identity of its own, and a connection with the peer that is attacked.
#[derive(Debug)]
pub struct Attacker {
    network: Network,
    signer: Signer,
    peer: PeerId,
    address: String,
    model: ModelDigest,
    prompt: Vec<u32>,
}

/// One thing that it does.
pub type Attack = for<'a> fn(&'a Attacker) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Every one of them, by turns, with its name.
pub const ATTACKS: &[(&str, Attack)] = &[
    ("malformed frame", |a| {
        Box::pin(a.send(vec![0x05, 0xff, 0xff, 0xff, 0xff, 0xff]))
    }),
    // A length of 2^27.
    ("oversized frame", |a| {
        Box::pin(a.send(vec![0x80, 0x80, 0x80, 0x40]))
    }),
    ("length without an end", |a| {
        Box::pin(a.send(vec![0xff; 64]))
    }),
    ("half a frame", |a| Box::pin(a.send(vec![0xff, 0x03, 0x0a]))),
    ("slow bytes", |a| Box::pin(a.drops())),
    ("silence before the first frame", |a| {
        Box::pin(async move {
            if let Some(stream) = a.stream().await {
                sits(stream).await;
            }
        })
    }),
    ("an answer that is never read", |a| {
        Box::pin(async move {
            let Some(stream) = a.stream().await else {
                return;
            };
            let (reader, writer) = stream.split();
            let _ = writer.send(&Frame::Open(Box::new(a.open(512))));
            tokio::time::sleep(SITS).await;
            drop((reader, writer));
        })
    }),
    ("a stream half closed behind its job", |a| {
        Box::pin(a.ask(a.open(4)))
    }),
    ("a receipt that is never signed", |a| {
        Box::pin(async move {
            let Some(stream) = a.stream().await else {
                return;
            };
            let (mut reader, writer) = stream.split();
            let _ = writer.send(&Frame::Open(Box::new(a.open(2))));
            // Until the peer has had enough of waiting for it.
            while reader.next(Cap::Provider).await.is_ok() {}
        })
    }),
    ("ids out of range", |a| {
        Box::pin(a.ask(wire::open(
            a.peer,
            a.model,
            &[u32::MAX, 0, 49_999_999],
            &[],
            8,
        )))
    }),
    ("the same job twice", |a| {
        Box::pin(async move {
            let open = a.open(4);
            a.ask(open.clone()).await;
            a.ask(open).await;
        })
    }),
    ("a job of somebody else taken up", |a| {
        Box::pin(a.ask(Open {
            resume_of: Some(ResumeOf {
                job: Bytes::copy_from_slice(&wire::seed()),
                from_index: 3,
            }),
            ..a.open(4)
        }))
    }),
    ("a job for another peer", |a| {
        Box::pin(a.ask(Open {
            provider: Bytes::from_static(&[0; 38]),
            ..a.open(4)
        }))
    }),
    ("a model that nobody has", |a| {
        Box::pin(a.ask(wire::open(
            a.peer,
            ModelDigest::new([7; 32]),
            &a.prompt,
            &[],
            4,
        )))
    }),
    ("more than a context", |a| {
        Box::pin(a.ask(wire::open(
            a.peer,
            a.model,
            &vec![1; 200_000],
            &[],
            u32::MAX,
        )))
    }),
    // A few kilobytes that say millions of ids.
    ("a prompt that unfolds", |a| {
        Box::pin(a.ask(wire::open(a.peer, a.model, &vec![1; 8_000_000], &[], 4)))
    }),
    ("more received than can be", |a| {
        Box::pin(a.ask(wire::open(a.peer, a.model, &a.prompt, &vec![1; 100_000], 4)))
    }),
    ("a clock a day behind", |a| {
        Box::pin(a.ask(Open {
            expires_unix_ms: wire::now_ms() - DAY_MS,
            ..a.open(4)
        }))
    }),
    ("a clock a day ahead", |a| {
        Box::pin(a.ask(Open {
            expires_unix_ms: wire::now_ms() + DAY_MS,
            ..a.open(4)
        }))
    }),
    ("frames of the other side", |a| {
        Box::pin(a.ask_and_say(Frame::Tokens(Tokens::padded(0, &[1, 2, 3]))))
    }),
    ("money that is none", |a| {
        Box::pin(a.ask_and_say(Frame::Pay(Pay {
            voucher: Bytes::from_static(&[7; 300]),
            adds: Bytes::new(),
        })))
    }),
    ("streams by the thousand", |a| {
        Box::pin(async move {
            let held = a.hold(STREAMS).await;
            tokio::time::sleep(HELD).await;
            drop(held);
        })
    }),
    ("a flood of offers", |a| Box::pin(a.offers())),
];

impl Attacker {
    /// With an identity that nobody saw before. `None`: the peer lets it in no more, which is right as well.
    pub async fn connect(address: &str, model: ModelDigest, prompt: &[u32]) -> Option<Self> {
        let seed = wire::seed();
        let (network, _) = Network::start(network::NetworkOptions::new(seed))
            .await
            .unwrap();
        let Ok(peer) = network.connect(address).await else {
            network.shutdown().await;
            return None;
        };
        Some(Self {
            network,
            signer: Signer::from_seed(seed),
            peer,
            address: address.to_owned(),
            model,
            prompt: prompt.to_vec(),
        })
    }

    /// Ends it.
    pub async fn end(self) {
        self.network.shutdown().await;
    }

    /// Opens streams until the peer takes no more of them.
    pub async fn hold(&self, streams: usize) -> Vec<JobStream> {
        let mut held = Vec::new();
        for _ in 0..streams {
            match self.stream().await {
                Some(stream) => held.push(stream),
                None => break,
            }
        }
        held
    }

    /// A peer that was banned for the attack before is refused here, which is right as well.
    async fn stream(&self) -> Option<JobStream> {
        self.network.open_job(&self.peer).await.ok()
    }

    /// A job that is in order, of so many tokens.
    fn open(&self, max_out: u32) -> Open {
        wire::open(self.peer, self.model, &self.prompt, &[], max_out)
    }

    async fn ask(&self, open: Open) {
        self.send(Frame::Open(Box::new(open)).to_delimited().to_vec())
            .await;
    }

    async fn ask_and_say(&self, frame: Frame) {
        let mut bytes = Frame::Open(Box::new(self.open(32))).to_delimited().to_vec();
        bytes.extend_from_slice(&frame.to_delimited());
        self.send(bytes).await;
    }

    /// Opens a stream, says this, closes its half, and listens until the other side closes or has answered.
    async fn send(&self, bytes: Vec<u8>) {
        let Some(stream) = self.stream().await else {
            return;
        };
        let (mut reader, writer) = stream.split();
        let _ = writer.send_bytes(Bytes::from(bytes));
        writer.finish();
        // Ends by the node's own deadlines; nothing it says may be an answer to nonsense.
        while reader.next(Cap::Provider).await.is_ok() {}
    }

    /// A job that is in order, a byte now and then, until the peer has had enough.
    async fn drops(&self) {
        let Some(stream) = self.stream().await else {
            return;
        };
        let (mut reader, writer) = stream.split();
        let closed = tokio::spawn(async move { while reader.next(Cap::Provider).await.is_ok() {} });
        for byte in Frame::Open(Box::new(self.open(4))).to_delimited() {
            let sent = writer.send_bytes(Bytes::copy_from_slice(&[byte]));
            if sent.is_err() || closed.is_finished() {
                break;
            }
            tokio::time::sleep(DROP).await;
        }
        closed.abort();
    }

    /// Offers models that nobody has, at addresses that are the peer's own or nobody's, and other ones again and again.
    async fn offers(&self) {
        let own = binary(&self.address);
        for round in 0..OFFERED_ANEW {
            let offers = (0..OFFERS)
                .map(|number| {
                    let mut digest = [round; 32];
                    digest[0] = number;
                    let model = ModelRef {
                        digest: ModelDigest::new(digest),
                        head_len: 1000,
                        head_sha256: HeadDigest::new([round; 32]),
                    };
                    let mut offer = wire::offer(model);
                    offer.addrs = vec![own.clone(), Bytes::from_static(&[0xff; 40])];
                    offer.sign(&self.signer)
                })
                .collect();
            self.network.set_offers(offers).await;
            tokio::time::sleep(CHANGE).await;
        }
    }
}

/// A multiaddr over QUIC or TCP as it travels, without the peer at its end.
fn binary(address: &str) -> Bytes {
    let mut parts = address.split('/').skip(1);
    let mut bytes = Vec::new();
    while let Some(part) = parts.next() {
        match part {
            "ip4" => {
                bytes.push(4);
                let ip: Ipv4Addr = parts.next().unwrap().parse().unwrap();
                bytes.extend(ip.octets());
            }
            "tcp" | "udp" => {
                // The numbers of the two, 6 and 273, as unsigned varints.
                bytes.extend(if part == "tcp" {
                    &[6][..]
                } else {
                    &[0x91, 0x02]
                });
                let port: u16 = parts.next().unwrap().parse().unwrap();
                bytes.extend(port.to_be_bytes());
            }
            // 461.
            "quic-v1" => bytes.extend([0xcd, 0x03]),
            _ => break,
        }
    }
    Bytes::from(bytes)
}

/// Neither speaks nor closes, until the peer closes or it is enough.
async fn sits(stream: JobStream) {
    let (mut reader, writer) = stream.split();
    let _ = tokio::time::timeout(SITS, reader.next(Cap::Provider)).await;
    drop(writer);
}
