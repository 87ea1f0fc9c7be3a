//! A way over TCP between two nodes that can go dead without either end being told.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::TestNode;

const OPEN: usize = 0;
const SHUT: usize = usize::MAX;

/// Carries connections to one node.
pub struct Way {
    /// Where the node is dialled through it.
    pub address: String,
    /// Connections made before this many cuts carry nothing any more.
    cuts: Arc<AtomicUsize>,
}

impl Way {
    pub async fn to(node: &TestNode) -> Self {
        let target = node.addresses[0].clone();
        let port: u16 = target.split('/').nth(4).unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let cuts = Arc::new(AtomicUsize::new(OPEN));
        let seen = Arc::clone(&cuts);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let made = seen.load(Ordering::Acquire);
                if made == SHUT {
                    continue;
                }
                let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let ((near_in, near_out), (far_in, far_out)) =
                    (near.into_split(), far.into_split());
                tokio::spawn(carry(near_in, far_out, made, Arc::clone(&seen)));
                tokio::spawn(carry(far_in, near_out, made, Arc::clone(&seen)));
            }
        });
        Self {
            address: target.replace(&format!("/tcp/{port}/"), &format!("/tcp/{own}/")),
            cuts,
        }
    }

    /// The connections that are there carry nothing any more, and are not closed. New ones do.
    pub fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::AcqRel);
    }

    /// New ones are not made either.
    pub fn cut_for_good(&self) {
        self.cuts.store(SHUT, Ordering::Release);
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    made: usize,
    cuts: Arc<AtomicUsize>,
) {
    let mut buffer = vec![0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if cuts.load(Ordering::Acquire) == made && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    // The end is not passed on either.
    if cuts.load(Ordering::Acquire) != made {
        std::future::pending::<()>().await;
    }
}
