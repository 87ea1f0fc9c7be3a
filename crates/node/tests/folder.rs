//! The data folder: one node at a time, files that are bad, the control socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use common::{loopback, options, start};
use node::{CheckAct, CheckState, Node, NodeError, control::Client};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_on_the_same_folder_is_refused() {
    let test = start(&[]).await;
    let second = Node::start(options(test.folder.path(), &[])).await;
    let error = second.err().unwrap();
    assert!(matches!(error, NodeError::Data(_)));
    assert_eq!(error.view().code, "already_running");
    test.node.stop().await;
    Node::start(options(test.folder.path(), &[]))
        .await
        .unwrap()
        .stop()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_last_handle_frees_the_folder() {
    let test = start(&[]).await;
    drop(test.node);
    for _ in 0..100 {
        match Node::start(options(test.folder.path(), &[])).await {
            Ok(node) => return node.stop().await,
            Err(error) => assert_eq!(error.view().code, "already_running"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the folder is still held");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_files_are_said_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let owner_alone = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(folder.path(), owner_alone).unwrap();
    }
    std::fs::write(folder.path().join("settings.toml"), loopback("")).unwrap();
    Node::start(options(folder.path(), &[]))
        .await
        .unwrap()
        .stop()
        .await;
    std::fs::write(folder.path().join("settings.toml"), "listen = 7").unwrap();
    let key = folder.path().join("identity.key");
    let damaged = std::fs::read_to_string(&key)
        .unwrap()
        .replace("seed ", "seed x");
    std::fs::write(&key, &damaged).unwrap();

    let node = Node::start(options(folder.path(), &[])).await.unwrap();
    let status = node.node_status();
    let codes: Vec<&str> = status
        .notices
        .iter()
        .map(|notice| notice.code.as_str())
        .collect();
    assert_eq!(codes, ["settings_corrupt", "identity_corrupt"]);
    assert!(status.notices.iter().all(|notice| notice.fix.is_some()));
    assert_eq!(
        std::fs::read_to_string(folder.path().join("settings.toml.broken-1")).unwrap(),
        "listen = 7"
    );
    assert_eq!(std::fs::read_to_string(&key).unwrap(), damaged);
    // It chats, and it does not serve under a name that is not its own.
    assert_eq!(
        node.node_switch(true).await.unwrap_err().view().code,
        "no_identity"
    );
    let checks = node.doctor().await;
    let state = |name: &str| {
        checks
            .iter()
            .find(|check| check.name == name)
            .unwrap()
            .state
    };
    assert_eq!(state("Identity"), CheckState::Fail);
    assert_eq!(state("Settings"), CheckState::Warn);
    assert_eq!(state("Data folder"), CheckState::Pass);
    assert!(
        checks
            .iter()
            .filter(|check| check.state == CheckState::Fail)
            .all(|check| check.fix.is_some())
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_database_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("settings.toml"), loopback("")).unwrap();
    std::fs::write(
        folder.path().join("memory.db"),
        b"this is no database at all, but long enough to be looked at",
    )
    .unwrap();
    let error = Node::start(options(folder.path(), &[]))
        .await
        .err()
        .unwrap();
    assert_eq!(error.view().code, "memory_damaged");
    assert!(error.view().fix.is_some());
    // The folder is free again after a start that failed.
    std::fs::remove_file(folder.path().join("memory.db")).unwrap();
    Node::start(options(folder.path(), &[]))
        .await
        .unwrap()
        .stop()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_line_attaches() {
    let test = start(&[]).await;
    let path = test.folder.path();
    assert!(
        Client::attach(tempfile::tempdir().unwrap().path())
            .await
            .unwrap()
            .is_none()
    );
    let client = Client::attach(path).await.unwrap().unwrap();
    assert_eq!(client.hello().await.unwrap().process, std::process::id());
    let mut chats = client.chats().await.unwrap();
    assert!(chats.next().await.unwrap().unwrap().is_empty());
    let chat = client.chat_create(false).await.unwrap();
    assert_eq!(chats.next().await.unwrap().unwrap()[0].id, chat.id);
    drop(chats);
    client.chat_rename(&chat.id, "a name").await.unwrap();
    assert_eq!(test.node.chat_open(&chat.id).await.unwrap().title, "a name");
    // The node's own errors travel whole.
    let mut answer = client
        .chat_send(&chat.id, None, Some("hello".to_owned()))
        .await
        .unwrap();
    assert_eq!(answer.next().await.unwrap_err().code, "model_missing");
    assert_eq!(
        client.chat_open("nonsense").await.unwrap_err().code,
        "chat_missing"
    );
    let inside = Client::in_process(&test.node);
    assert_eq!(
        inside.node_status().await.unwrap().peer_id,
        client.node_status().await.unwrap().peer_id
    );
    let settings = inside.settings_get().await.unwrap();
    inside
        .settings_set(node::Settings {
            serve_max_out: 99,
            ..settings
        })
        .await
        .unwrap();
    assert!(
        std::fs::read_to_string(path.join("settings.toml"))
            .unwrap()
            .contains("serve_max_out = 99")
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(path.join("control.sock"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    test.node.stop().await;
    assert_eq!(client.hello().await.unwrap_err().code, "disconnected");
    assert!(Client::attach(path).await.unwrap().is_none());
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn nonsense_on_the_socket_is_answered_and_survived() {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    let test = start(&[]).await;
    let socket = tokio::net::UnixStream::connect(test.folder.path().join("control.sock"))
        .await
        .unwrap();
    let (read, mut write) = socket.into_split();
    let mut lines = BufReader::new(read).lines();
    for bad in ["{\n", "\u{0}\n", "{\"id\":5,\"method\":\"fly\"}\n", "[]\n"] {
        write.write_all(bad.as_bytes()).await.unwrap();
        assert!(
            lines
                .next_line()
                .await
                .unwrap()
                .unwrap()
                .contains("bad_call")
        );
    }
    write
        .write_all(b"{\"id\":6,\"method\":\"hello\"}\n")
        .await
        .unwrap();
    assert!(
        lines
            .next_line()
            .await
            .unwrap()
            .unwrap()
            .contains("\"done\"")
    );
    test.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_once_ahead_is_forgotten_when_a_person_says_so() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("settings.toml"), loopback("")).unwrap();
    let start = async || Node::start(options(folder.path(), &[])).await.unwrap();
    start().await.stop().await;
    let books = folder.path().join("ledger.db");
    let now = u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let ahead = now + 24 * 60 * 60 * 1000;
    let ledger = ledger::Ledger::open(&books, now).await.unwrap();
    let noted = ledger.record_job([1; 32], ahead + 1_000, ahead).await;
    assert!(noted.unwrap().is_fresh());
    ledger.close().await.unwrap();

    let node = start().await;
    let clock = async || {
        let checks = node.doctor().await;
        checks
            .into_iter()
            .find(|check| check.name == "Clock")
            .unwrap()
    };
    let wrong = clock().await;
    assert_eq!(wrong.state, CheckState::Fail);
    assert_eq!(wrong.act, Some(CheckAct::ForgetClock));
    assert!(wrong.command.unwrap().contains("doctor --forget-clock"));
    // What the window says names its own button, and no command.
    assert!(!wrong.fix.unwrap().contains("decentralgpt"));
    node.forget_clock().await.unwrap();
    let right = clock().await;
    assert_eq!((right.state, right.act), (CheckState::Pass, None));
    let again = node.forget_clock().await.unwrap_err();
    assert_eq!(again.view().code, "clock_in_order");
    node.stop().await;

    // Jobs of before may be shown again: none is taken for money until they have expired.
    let ledger = ledger::Ledger::open(&books, now).await.unwrap();
    assert!(ledger.guarded_since_ms().await.unwrap() >= now);
    let job = ledger.record_job([2; 32], now + 60_000, now).await;
    assert!(job.unwrap().is_fresh(), "jobs are taken again");
}
