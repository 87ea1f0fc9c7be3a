//! A model that is in no catalogue, in the window: from the switch to the receipt.

use decentralgpt_tests::{Folder, QUESTION, Serving};

use crate::Bench;

#[test]
fn a_model_in_no_catalogue_is_listed_looked_at_and_answers_in_a_chat_of_its_own() {
    let folder = Folder::without_the_starter("theme = \"light\"\n");
    let Some(bench) = Bench::on(folder) else {
        return;
    };
    let peer = Serving::start_offering(Folder::new(), &bench.starter);
    let driver = bench.driver_without_models();
    let app = bench.open(&driver);
    app.connect(&peer.address);
    app.wait_for_text("1 not in your catalogue");

    app.go("Models");
    let section = "section[aria-label='Community models']";
    let row = format!("{section} li");
    app.click_on(&format!("{section} h2 button"));
    app.wait_for_text("Nobody reviewed them");
    assert!(app.find(&row).is_none(), "listed while it is off");
    app.click_on(&format!("{section} [role=switch]"));
    app.wait_for(&row);
    app.click_on(&format!(
        "{row} button[aria-label^='Look at its description']"
    ));
    app.wait_for_text("not checked");
    app.click_on(&format!("{row} button[aria-expanded='false']"));
    app.wait_for_text("By nobody");
    bench.picture(&app, "community-light");

    app.click_on(&format!("{row} button[aria-label^='Use on a peer']"));
    app.wait_for_text("A stranger's computer will read this.");
    app.be_greedy();
    app.ask(QUESTION);
    app.click_button("Send to a peer");
    let answer = app.wait_for_answer();
    for said in ["A peer's computer", "not in your catalogue"] {
        assert!(answer.footer.contains(said), "{answer:?}");
    }
    app.click_button("Receipt");
    app.wait_for_text("signed by both sides");
    app.wait_for_text("· not in your catalogue");
    app.quit();
}
