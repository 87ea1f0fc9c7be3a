//! An endpoint between us and anvil that changes what it is told to change.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// What becomes of an answer.
pub(crate) enum Said {
    /// This is its result.
    Result(Value),
    /// This is its error.
    Refused(Value),
    /// These are its bytes.
    Raw(Vec<u8>),
    /// It never comes.
    Nothing,
}

type Lie = dyn Fn(&str, &Value, Value) -> Said + Send + Sync;

/// A running endpoint. While it is honest it only passes on.
pub(crate) struct Liar {
    pub(crate) url: String,
    lies: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Liar {
    /// `lie` gets the method, its parameters and anvil's result.
    pub(crate) async fn new(
        anvil: &str,
        lie: impl Fn(&str, &Value, Value) -> Said + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let lies = Arc::new(AtomicBool::new(true));
        let lie: Arc<Lie> = Arc::new(lie);
        let anvil = anvil.to_owned();
        let tells = Arc::clone(&lies);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (anvil, lie) = (anvil.clone(), Arc::clone(&lie));
                let tells = Arc::clone(&tells);
                connections.spawn(async move {
                    let _ = serve(stream, &anvil, &*lie, &tells).await;
                });
            }
        });
        Self { url, lies, task }
    }

    /// One that passes everything on.
    pub(crate) async fn honest(anvil: &str) -> Self {
        Self::new(anvil, |_, _, result| Said::Result(result)).await
    }

    pub(crate) fn lies(&self, lies: bool) {
        self.lies.store(lies, Ordering::SeqCst);
    }
}

async fn serve(
    mut stream: TcpStream,
    anvil: &str,
    lie: &Lie,
    tells: &AtomicBool,
) -> std::io::Result<()> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    while let Some(question) = question(&mut stream).await? {
        let method = question["method"].as_str().unwrap_or_default().to_owned();
        let answer = client
            .post(anvil)
            .header("content-type", "application/json")
            .body(question.to_string())
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let said = if tells.load(Ordering::SeqCst) && answer.get("error").is_none() {
            lie(&method, &question["params"], answer["result"].clone())
        } else {
            Said::Raw(answer.to_string().into_bytes())
        };
        let body = match said {
            Said::Result(result) => {
                json!({ "jsonrpc": "2.0", "id": question["id"], "result": result })
                    .to_string()
                    .into_bytes()
            }
            Said::Refused(error) => {
                json!({ "jsonrpc": "2.0", "id": question["id"], "error": error })
                    .to_string()
                    .into_bytes()
            }
            Said::Raw(bytes) => bytes,
            Said::Nothing => {
                std::future::pending::<()>().await;
                return Ok(());
            }
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await?;
    }
    Ok(())
}

/// One request's body.
async fn question(stream: &mut TcpStream) -> std::io::Result<Option<Value>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        if let Some(end) = bytes.windows(4).position(|at| at == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .map_or(0, |value| value.trim().parse().unwrap());
            if bytes.len() >= end + 4 + length {
                let body = &bytes[end + 4..end + 4 + length];
                return Ok(Some(serde_json::from_slice(body).unwrap()));
            }
        }
        match stream.read(&mut buffer).await? {
            0 => return Ok(None),
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}
