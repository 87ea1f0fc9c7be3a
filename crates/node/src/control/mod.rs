//! The node's methods as JSON lines: over a socket in the data folder that only its owner may open, and in process.
//!
//! A command line started beside a running window attaches to it with [`Client::attach`]; without one it starts a
//! [`Node`](crate::Node) itself and speaks to it through [`Client::in_process`]. So there is one way.
//!
//! # The lines
//!
//! Each call is one line, `{"id":1,"method":"chat_open","params":{"chat":"…"}}`, with an id that the caller chooses and
//! uses once. Its answer is any number of `{"id":1,"item":…}` and then one `{"id":1,"done":…}` or
//! `{"id":1,"error":{"code":…,"message":…,"fix":…}}`. Answers of several calls may be mixed. `{"id":2,"method":"forget",
//! "params":{"call":1}}` ends a call whose items nobody wants any more.

mod client;
mod listen;
mod serve;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};
use zeroize::Zeroizing;

pub use client::{Client, ControlError, Stream};
pub(crate) use listen::{forget, listen};
pub use serve::serve;

use crate::{
    chat::{ChatPatch, ExportFormat},
    error::ErrorView,
    money::EarningsBy,
    settings::Settings,
    wallet::{Intent, Typed},
};

/// The longest line: a chat of a thousand long messages, opened whole.
pub const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;

/// The longest path of a socket that every Unix takes (macOS: 104 with its end).
#[cfg(unix)]
const MAX_SOCKET_PATH: usize = 100;

/// A call on the node. The names are those of the methods of [`Node`](crate::Node), where they are described.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params", rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "each call is documented at the method of Node that it names"
)]
pub enum Request {
    /// Who is there: answers with a [`Hello`].
    Hello,
    /// Ends a call of this connection whose items nobody wants any more.
    Forget {
        call: u64,
    },
    ChatsList,
    ChatsSearch {
        query: String,
    },
    ChatCreate {
        temporary: bool,
    },
    ChatOpen {
        chat: String,
    },
    ChatRename {
        chat: String,
        title: String,
    },
    ChatPin {
        chat: String,
        pinned: bool,
    },
    ChatDelete {
        chat: String,
    },
    ChatRestore {
        chat: String,
    },
    ChatUpdate {
        chat: String,
        patch: Box<ChatPatch>,
    },
    ChatChoose {
        chat: String,
        message: String,
    },
    /// Items: [`AnswerEvent`](crate::AnswerEvent).
    ChatSend {
        chat: String,
        parent: Option<String>,
        text: Option<String>,
    },
    /// Items: [`AnswerEvent`](crate::AnswerEvent).
    ChatContinue {
        chat: String,
        answer: String,
    },
    ChatStop {
        chat: String,
    },
    ChatContext {
        chat: String,
        draft: String,
    },
    /// Items: [`AnswerEvent`](crate::AnswerEvent); done: the new chat.
    ChatSummarise {
        chat: String,
    },
    ChatExport {
        chat: String,
        format: ExportFormat,
    },
    ModelsList,
    ModelDownload {
        id: String,
    },
    ModelPause {
        id: String,
    },
    ModelCancel {
        id: String,
    },
    ModelRemove {
        id: String,
    },
    ModelAdd {
        path: PathBuf,
    },
    ModelDefault {
        id: String,
    },
    ModelsMove {
        path: PathBuf,
    },
    CommunityList,
    CommunitySearch,
    CommunityLook {
        id: String,
    },
    NodeStatus,
    NodeSwitch {
        on: bool,
    },
    NodePause {
        minutes: Option<u32>,
    },
    NodeResume,
    NodeAnswers {
        limit: u32,
    },
    ReceiptOpen {
        job: String,
    },
    PeersConnect {
        text: String,
    },
    PeersDisconnect {
        id: String,
    },
    PeersBlock {
        id: String,
        blocked: bool,
    },
    PeersInvite,
    PeersLog,
    PeersCompare {
        model: Option<String>,
    },
    PeersNewName,
    PeersForgetRecords,
    PeersWoke,
    SettingsGet,
    SettingsSet {
        settings: Box<Settings>,
    },
    Doctor,
    ForgetClock,
    MoneyStatus,
    Transactions,
    Earnings {
        from_ms: u64,
        until_ms: u64,
        by: EarningsBy,
    },
    EnergyUsed {
        from_ms: u64,
        until_ms: u64,
    },
    ProofOpen {
        job: String,
    },
    PaymentOpen {
        job: String,
    },
    Statement {
        path: PathBuf,
        csv: bool,
    },
    MoneyPrices,
    StartText,
    ExportClaims {
        path: PathBuf,
    },
    VoteStatus,
    SignPreview {
        intent: Box<Intent>,
    },
    SignConfirm {
        intent: Box<Intent>,
        digest: String,
    },
    WalletStatus,
    WalletCreate {
        password: Typed,
    },
    WalletImportWords {
        words: Typed,
        password: Typed,
    },
    WalletImportKeyFile {
        text: Typed,
        file_password: Typed,
        password: Typed,
    },
    WalletUnlock {
        password: Typed,
    },
    WalletLock,
    WalletRemember {
        password: Typed,
    },
    WalletForget,
    WalletOpenRemembered,
    WalletChangePassword {
        old: Typed,
        fresh: Typed,
    },
    /// Which words are asked back.
    WalletAsk {
        password: Option<Typed>,
    },
    WalletCheck {
        words: Vec<Typed>,
    },
    /// Items: [`NodeStatus`](crate::NodeStatus), the present one first.
    WatchStatus,
    /// Items: [`ModelsView`](crate::ModelsView), the present one first.
    WatchModels,
    /// Items: lists of [`ChatSummary`](crate::ChatSummary), the present one first.
    WatchChats,
}

/// Who answers on the other side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// The program's version.
    pub version: String,
    /// Its process.
    pub process: u32,
}

/// One line to the node.
#[derive(Debug, Serialize, Deserialize)]
struct Call {
    id: u64,
    #[serde(flatten)]
    request: Request,
}

/// One line from the node.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Reply {
    id: u64,
    #[serde(flatten)]
    body: Body,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Body {
    Item(serde_json::Value),
    Done(serde_json::Value),
    Error(ErrorView),
}

/// The socket of a data folder; beside it in the user's runtime folder where its own path is too long for a socket.
/// `None` where there is no place for one.
#[cfg(unix)]
fn socket_path(data: &Path) -> Option<PathBuf> {
    let data = data.canonicalize().unwrap_or_else(|_| data.to_owned());
    let own = data.join("control.sock");
    if own.as_os_str().len() <= MAX_SOCKET_PATH {
        return Some(own);
    }
    let runtime = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?);
    let name = runtime.join(format!("decentralgpt-{}.sock", name_of(&data)));
    (name.as_os_str().len() <= MAX_SOCKET_PATH).then_some(name)
}

/// The pipe of a data folder.
#[cfg(windows)]
fn pipe_name(data: &Path) -> String {
    let data = data.canonicalize().unwrap_or_else(|_| data.to_owned());
    format!(r"\\.\pipe\decentralgpt-{}", name_of(&data))
}

fn name_of(data: &Path) -> String {
    hex::encode(&blake3::hash(data.as_os_str().as_encoded_bytes()).as_bytes()[..8])
}

/// Reads one line without its end. `None` at the end of the stream.
async fn read_line(
    reader: &mut (impl AsyncBufRead + Unpin),
) -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut line = Zeroizing::new(Vec::new());
    let read = (&mut *reader)
        .take(MAX_LINE_BYTES as u64 + 1)
        .read_until(b'\n', &mut line)
        .await?;
    if read == 0 {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        let what = if read > MAX_LINE_BYTES {
            "the line is too long"
        } else {
            "the line is cut short"
        };
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, what));
    }
    Ok(Some(line))
}

/// A value as one line with its end.
fn to_line(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// Long enough for every call that carries a password or words, so that its line never grows and leaves a copy behind.
const SECRET_LINE_BYTES: usize = 128 * 1024;

/// A call as one line, wiped when it was written: it may carry what somebody typed.
fn to_wiped_line(call: &Call) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    let room = if call.request.carries_secrets() {
        SECRET_LINE_BYTES
    } else {
        0
    };
    let mut line = Zeroizing::new(Vec::with_capacity(room));
    serde_json::to_writer(&mut *line, call)?;
    line.push(b'\n');
    Ok(line)
}

impl Request {
    fn carries_secrets(&self) -> bool {
        matches!(
            self,
            Self::WalletCreate { .. }
                | Self::WalletImportWords { .. }
                | Self::WalletImportKeyFile { .. }
                | Self::WalletUnlock { .. }
                | Self::WalletRemember { .. }
                | Self::WalletChangePassword { .. }
                | Self::WalletAsk { .. }
                | Self::WalletCheck { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_one_flat_object() {
        let call = Call {
            id: 7,
            request: Request::ChatOpen {
                chat: "x".to_owned(),
            },
        };
        let text = serde_json::to_string(&call).unwrap();
        assert_eq!(
            text,
            r#"{"id":7,"method":"chat_open","params":{"chat":"x"}}"#
        );
        let again: Call = serde_json::from_str(&text).unwrap();
        assert_eq!(again.request, call.request);
        let plain: Call = serde_json::from_str(r#"{"id":1,"method":"node_status"}"#).unwrap();
        assert_eq!(plain.request, Request::NodeStatus);
    }

    #[test]
    fn what_was_typed_is_in_the_line_and_in_no_debug() {
        let request = Request::WalletUnlock {
            password: Typed::from("correct horse"),
        };
        assert!(!format!("{request:?}").contains("horse"));
        let line = to_wiped_line(&Call { id: 1, request }).unwrap();
        assert_eq!(line.capacity(), SECRET_LINE_BYTES);
        let again: Call = serde_json::from_slice(&line).unwrap();
        let Request::WalletUnlock { password } = again.request else {
            panic!("another call came back");
        };
        assert_eq!(password.expose(), "correct horse");
    }

    #[test]
    fn a_reply_is_one_flat_object() {
        let reply = Reply {
            id: 7,
            body: Body::Done(serde_json::Value::Null),
        };
        let text = serde_json::to_string(&reply).unwrap();
        assert_eq!(text, r#"{"id":7,"done":null}"#);
        let again: Reply = serde_json::from_str(&text).unwrap();
        assert!(matches!(
            again,
            Reply {
                id: 7,
                body: Body::Done(serde_json::Value::Null)
            }
        ));
    }

    #[tokio::test]
    async fn lines_are_bounded_and_whole() {
        let mut text: &[u8] = b"one\ntwo\ncut";
        assert_eq!(*read_line(&mut text).await.unwrap().unwrap(), b"one");
        assert_eq!(*read_line(&mut text).await.unwrap().unwrap(), b"two");
        assert!(read_line(&mut text).await.is_err());
        let mut none: &[u8] = b"";
        assert!(read_line(&mut none).await.unwrap().is_none());
    }
}
