//! Offers that travel from hand to hand name where their provider is: whoever hears of one can dial it.
//!
//! The public address is one that the test makes: in a network namespace, on the loopback. Where namespaces cannot be made the test says
//! so, and nothing is shown.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use std::{process::Command, time::Duration};

use common::{options, starter_folder};
use network::{Network, NetworkOptions};
use node::Node;

/// Of the range for measurements between networks (RFC 2544): nobody's home.
const OUTSIDE: &str = "198.18.0.1";
/// Set for the process inside the namespace.
const INSIDE: &str = "DECENTRALGPT_TEST_OUTSIDE";

#[test]
fn offers_say_where_their_provider_is_reached() {
    if starter_folder().is_none() {
        return;
    }
    if !Command::new("unshare")
        .args(["-rn", "ip", "link"])
        .output()
        .is_ok_and(|done| done.status.success())
    {
        println!(
            "SKIPPED: no network namespace can be made here; addresses in offers are not shown"
        );
        return;
    }
    let network = format!(
        "ip link set lo up && ip addr add {OUTSIDE}/32 dev lo && exec \"$0\" --ignored --exact inside"
    );
    let done = Command::new("unshare")
        .args(["-rn", "sh", "-c", &network])
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs inside the namespace that the other test makes"]
async fn inside() {
    assert!(std::env::var_os(INSIDE).is_some(), "only inside");
    let models = [starter_folder().unwrap()];
    for (listens, told) in [(OUTSIDE, 2), ("127.0.0.1", 0)] {
        let folder = tempfile::tempdir().unwrap();
        let settings = format!(
            "listen = [\"/ip4/{listens}/tcp/0\", \"/ip4/{listens}/udp/0/quic-v1\"]\nmdns = false\nmainline = false\nupnp = false\n"
        );
        std::fs::write(folder.path().join("settings.toml"), settings).unwrap();
        let provider = Node::start(options(folder.path(), &models)).await.unwrap();
        let status = provider.node_switch(true).await.unwrap();
        let (client, _inbound) = Network::start(NetworkOptions::new([9; 32])).await.unwrap();
        let peer = client.connect(&status.listening[0]).await.unwrap();
        let as_told = async {
            loop {
                let offers = client.offers(&peer).await.unwrap();
                if offers
                    .first()
                    .is_some_and(|offer| offer.addrs.len() == told)
                {
                    return;
                }
                // The file is checked first, and offers are made anew as soon as the node knows where it listens. It is not asked oftener than
                // it answers.
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        };
        let as_told = tokio::time::timeout(Duration::from_secs(60), as_told).await;
        assert!(as_told.is_ok(), "{listens}");
        client.shutdown().await;
        provider.stop().await;
    }
}
