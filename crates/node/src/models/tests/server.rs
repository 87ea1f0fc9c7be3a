//! An HTTP server of the tests: serves bytes, and cuts, stalls, lies or refuses as it is told.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// How one request is answered.
#[derive(Debug, Clone)]
pub(super) enum Manner {
    /// As a good server does: ranges, an ETag.
    Good,
    /// The whole file whatever was asked.
    NoRange,
    /// Closes the connection after this many bytes of the body.
    CutAfter(usize),
    /// Goes silent after this many bytes of the body.
    StallAfter(usize),
    /// This status, with headers.
    Status(u16, &'static str),
    /// 302 to another path.
    Redirect(&'static str),
    /// 206 with another start than was asked.
    LyingRange,
}

#[derive(Debug)]
struct Route {
    bytes: Vec<u8>,
    etag: String,
    manners: VecDeque<Manner>,
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) from: Option<u64>,
    pub(super) if_range: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    routes: BTreeMap<String, Route>,
    asked: Vec<Asked>,
}

#[derive(Debug, Clone)]
pub(super) struct Server {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            shared: Arc::default(),
        };
        let shared = server.shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, shared.clone()));
            }
        });
        server
    }

    /// Serves `bytes` at `path`, one manner per request; the last one stays.
    pub(super) fn serve(
        &self,
        path: &str,
        bytes: &[u8],
        etag: &str,
        manners: impl IntoIterator<Item = Manner>,
    ) -> String {
        let route = Route {
            bytes: bytes.to_vec(),
            etag: etag.to_owned(),
            manners: manners.into_iter().collect(),
        };
        self.shared
            .lock()
            .unwrap()
            .routes
            .insert(path.to_owned(), route);
        format!("http://{}{path}", self.address)
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.shared.lock().unwrap().asked.clone()
    }
}

async fn answer(mut stream: TcpStream, shared: Arc<Mutex<Shared>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.unwrap_or(0) == 0 || head.len() > 16_384 {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split_whitespace().nth(1).unwrap_or("/").to_owned();
    let header = |name: &str| {
        head.lines().find_map(|line| {
            line.to_lowercase()
                .starts_with(name)
                .then(|| line.split_once(':').unwrap().1.trim().to_owned())
        })
    };
    let from = header("range:").and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    });
    let if_range = header("if-range:");
    let reply = {
        let mut shared = shared.lock().unwrap();
        shared.asked.push(Asked {
            path: path.clone(),
            from,
            if_range: if_range.clone(),
        });
        shared.routes.get_mut(&path).map(|route| {
            let manner = if route.manners.len() > 1 {
                route.manners.pop_front().unwrap()
            } else {
                route.manners[0].clone()
            };
            (manner, route.bytes.clone(), route.etag.clone())
        })
    };
    let Some((manner, bytes, etag)) = reply else {
        let _ = stream
            .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await;
        return;
    };
    let start = match (&manner, from) {
        (Manner::NoRange, _) => None,
        (_, Some(_)) if if_range.is_some_and(|wanted| wanted != etag) => None,
        (_, from) => from,
    };
    let head = match (&manner, start) {
        (Manner::Status(status, headers), _) => {
            format!(
                "HTTP/1.1 {status} X\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n"
            )
        }
        (Manner::Redirect(to), _) => {
            format!(
                "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
        }
        (_, Some(start)) if start as usize >= bytes.len() => {
            format!(
                "HTTP/1.1 416 X\r\nContent-Range: bytes */{}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                bytes.len()
            )
        }
        (_, Some(start)) => {
            let told = if matches!(manner, Manner::LyingRange) {
                start + 1
            } else {
                start
            };
            format!(
                "HTTP/1.1 206 Partial Content\r\nETag: {etag}\r\nContent-Range: bytes {told}-{}/{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                bytes.len() - 1,
                bytes.len(),
                bytes.len() - start as usize
            )
        }
        (_, None) => {
            format!(
                "HTTP/1.1 200 OK\r\nETag: {etag}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                bytes.len()
            )
        }
    };
    if stream.write_all(head.as_bytes()).await.is_err() || head.contains("Content-Length: 0") {
        return;
    }
    let body = &bytes[start.unwrap_or(0) as usize..];
    let sent = match manner {
        Manner::CutAfter(limit) | Manner::StallAfter(limit) => &body[..limit.min(body.len())],
        Manner::Good
        | Manner::NoRange
        | Manner::Status(..)
        | Manner::Redirect(_)
        | Manner::LyingRange => body,
    };
    for piece in sent.chunks(4096) {
        if stream.write_all(piece).await.is_err() {
            return;
        }
    }
    let _ = stream.flush().await;
    if matches!(manner, Manner::StallAfter(_)) {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
}
