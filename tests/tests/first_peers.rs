//! Who was never told of anybody finds a provider through a signed list of first peers, as whole programs; and without one, a known
//! address still works.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use decentralgpt_tests::{Folder, QUESTION, SYSTEM, Said, Serving, run, starter};
use network::PeerList;
use protocol::{NetworkId, Signer};

/// Seconds for which a list holds.
const HOLDS_S: u64 = 3600;

#[test]
fn a_list_whose_key_was_changed_leads_to_a_provider() {
    let Some(starter) = starter() else { return };
    let provider = offering(&starter);
    let (first, second) = (Signer::from_seed([71; 32]), Signer::from_seed([72; 32]));
    // What the first key named is gone; it hands over to the second one.
    let gone = format!(
        "/ip4/127.0.0.1/udp/9/quic-v1/p2p/{}",
        Signer::from_seed([73; 32]).peer_id()
    );
    let before = PeerList {
        next: Some(second.peer_id()),
        ..list(1, &[gone])
    };
    let after = list(2, std::slice::from_ref(&provider.address));
    let lists = [before.sign(&first), after.sign(&second)].concat();

    let asker = Folder::new();
    put(&asker, &first, &lists);
    let said = ask(&asker, &[]);

    assert_eq!(said.code(), Some(0), "{}", said.err);
    assert!(said.out.contains("Paris"), "{}\n{}", said.out, said.err);
}

#[test]
fn a_list_that_somebody_else_signed_leads_nowhere_and_a_known_address_still_works() {
    let Some(starter) = starter() else { return };
    let provider = offering(&starter);
    let (maker, thief) = (Signer::from_seed([74; 32]), Signer::from_seed([75; 32]));
    let lists = list(1, std::slice::from_ref(&provider.address)).sign(&thief);

    let asker = Folder::with_settings("saved_peers = false\n");
    put(&asker, &maker, &lists);
    ask(&asker, &[]).is_a_failure_that_says(&[]);
    let said = ask(&asker, &["--peer", &provider.address]);
    assert_eq!(said.code(), Some(0), "{}", said.err);
    assert!(said.out.contains("Paris"), "{}\n{}", said.out, said.err);
}

#[test]
fn the_book_of_yesterday_leads_to_a_provider() {
    let Some(starter) = starter() else { return };
    let provider = offering(&starter);
    let asker = Folder::new();
    let said = ask(&asker, &["--peer", &provider.address]);
    assert_eq!(said.code(), Some(0), "{}", said.err);
    // What the person named is forgotten; what the program met is not.
    fs::remove_file(asker.path().join("peers.toml")).unwrap();

    let said = ask(&asker, &[]);
    assert_eq!(said.code(), Some(0), "{}", said.err);
    assert!(said.out.contains("Paris"), "{}\n{}", said.out, said.err);
}

/// A node that serves, and offers its model by now.
fn offering(starter: &Path) -> Serving {
    Serving::start_offering(Folder::new(), starter)
}

fn list(serial: u64, peers: &[String]) -> PeerList {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    PeerList {
        network: NetworkId::MAIN,
        serial,
        issued_unix_s: now - 10,
        expires_unix_s: now + HOLDS_S,
        next: None,
        peers: peers.to_vec(),
    }
}

fn put(folder: &Folder, maker: &Signer, lists: &str) {
    let text = format!("maker {}\n{lists}", maker.peer_id());
    fs::write(folder.path().join("first-peers.list"), text).unwrap();
}

fn ask(folder: &Folder, more: &[&str]) -> Said {
    let mut command = folder.decentralgpt();
    command.args([
        "chat",
        "--place",
        "peer",
        "--system",
        SYSTEM,
        "--temperature",
        "0",
    ]);
    run(command.args(more).arg(QUESTION))
}
