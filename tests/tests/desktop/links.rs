//! Links: the system starts the program once more with one, or for the first time, and the window asks before anybody is dialled.

use std::time::Duration;

use decentralgpt_tests::{Serving, run};
use serde_json::{Value, json};

use crate::{Bench, page::App};

const QUESTION: &str = "Connect to this computer?";
/// A dial over loopback takes milliseconds: one that was made shows in the log by then.
const A_DIAL: Duration = Duration::from_secs(2);

#[test]
fn a_link_of_a_second_start_is_asked_about_before_anybody_is_dialled() {
    let Some(bench) = Bench::new() else { return };
    let peer = Serving::start(&bench.starter);
    let link = link_to(&peer);
    let driver = bench.driver();
    let app = bench.open(&driver);
    app.wait_until_focused("Ask anything");

    follow(&bench, &link);
    app.wait_for_text(QUESTION);
    app.wait_for_text(&peer.peer);
    bench.pictures(&app, "link");
    std::thread::sleep(A_DIAL);
    assert_eq!(knows(&app, &peer), (false, false), "it was dialled unasked");
    // What is asked about is not exchanged by a link that comes meanwhile.
    follow(&bench, "decentralgpt://pay/1/everything");
    std::thread::sleep(A_DIAL);
    assert!(app.text().contains(&peer.peer), "{}", app.text());
    app.settle();
    app.click_button("Cancel");
    closed(&app);
    std::thread::sleep(A_DIAL);
    assert_eq!(knows(&app, &peer), (false, false), "it was dialled anyway");

    for (text, why) in [
        (
            "decentralgpt://pay/1/everything",
            "nothing else can be opened by a link",
        ),
        ("decentralgpt://invite/9/aaaa", "newer form"),
        (&format!("{link}a"), "invite"),
    ] {
        follow(&bench, text);
        app.wait_for_text("This link was not opened");
        app.wait_for_text(why);
        assert!(app.find_button("Connect").is_none(), "{text}");
        bench.pictures(&app, "link-refused");
        app.close_dialog();
    }
    follow(&bench, &link);
    app.wait_for_text(QUESTION);
    app.settle();
    app.click_button("Connect");
    app.wait_for_text("Connected to");
    closed(&app);
    assert_eq!(knows(&app, &peer), (true, true));
    assert_eq!(app.complaints(), [""; 0], "the page broke its own rules");
    app.quit();
}

#[test]
fn a_link_that_starts_the_app_is_asked_about_as_well() {
    let Some(bench) = Bench::new() else { return };
    let peer = Serving::start(&bench.starter);
    let driver = bench.driver();
    let app = bench.open_with(&driver, &[&link_to(&peer)]);
    app.wait_for_text(QUESTION);
    app.wait_for_text(&peer.peer);
    std::thread::sleep(A_DIAL);
    assert_eq!(knows(&app, &peer), (false, false), "it was dialled unasked");
    bench.pictures(&app, "link-start");
    app.settle();
    app.click_button("Connect");
    app.wait_for_text("Connected to");
    assert_eq!(knows(&app, &peer), (true, true));
    app.quit();
}

/// The link that a serving computer gives away.
fn link_to(peer: &Serving) -> String {
    let said = run(peer
        .folder()
        .decentralgpt()
        .args(["peers", "invite", "--json"]));
    let invite: Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{said:?}"));
    invite["link"].as_str().unwrap().to_owned()
}

/// As the system does it: the program is started with the link, and ends at once since it runs already.
fn follow(bench: &Bench, link: &str) {
    let ended = bench.command().arg(link).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
}

fn closed(app: &App<'_>) {
    app.wait("the dialog to close", || {
        app.find("[role=dialog]").is_none().then_some(())
    });
}

/// Whether the peer is connected, and whether the log of connections names it.
fn knows(app: &App<'_>, peer: &Serving) -> (bool, bool) {
    let named = |list: Value, field: &str| {
        let mut list = list.as_array().unwrap().iter();
        list.any(|entry| entry[field] == peer.peer.as_str())
    };
    let status = app.invoke("node_status", json!({})).unwrap();
    let log = app.invoke("peers_log", json!({})).unwrap();
    (named(status["peers"].clone(), "id"), named(log, "peer"))
}
