//! The signing window: the only place where words and passwords are, and the only way to a signature.

use decentralgpt_tests::QUESTION;
use serde_json::{Value, json};

use crate::{
    Bench,
    page::App,
    processes::below,
    signature::{
        Signing, nobody_knows, nothing_is_written, open_by_script, outcome, pages, secrets,
    },
};

/// Typed in this test and found nowhere else.
const PASSWORD: &str = "violet-anvil-97-ostrich";

#[test]
fn a_wallet_is_made_in_a_window_of_its_own_and_no_other_process_hears_of_it() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let app = bench.open(&driver);
    app.wait_until_focused("Ask anything");
    // The engine's worker runs from here on.
    app.ask(QUESTION);
    app.wait_for_answer();
    let main_pages = pages(&app);

    open_by_script(&app, &json!({ "kind": "create" }));
    let signing = Signing::of(&app);
    app.wait_for_text("Create a wallet");
    signing.choose_password(PASSWORD);
    let its_page = app.wait("a web process of its own", || {
        below(app.process())
            .into_iter()
            .find(|process| process.draws_pages() && !main_pages.contains(process))
    });
    // A search that cannot find proves nothing.
    let typed = [PASSWORD.to_owned()];
    assert_eq!(its_page.remembers(&typed), Some(PASSWORD), "the search");
    nobody_knows(&app, &main_pages, &typed);

    app.click_button("Continue");
    let words = signing.words();
    let secrets = secrets(PASSWORD, &words);
    nobody_knows(&app, &main_pages, &secrets);

    app.click_button("I wrote them down");
    signing.type_asked(&words);
    app.click_button("Check");
    app.wait_for_text("Done");
    signing.end_with("Close");
    assert_eq!(outcome(&app), "done");
    let file = std::fs::read_to_string(bench.folder.path().join("wallet.json")).unwrap();
    let file: Value = serde_json::from_str(&file).unwrap();
    assert_eq!(file["backed_up"], true);

    nobody_knows(&app, &main_pages, &secrets);
    nothing_is_written(&bench, &secrets);
    app.quit();
}

#[test]
fn the_main_window_signs_nothing_and_sees_no_words() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let app = bench.open(&driver);
    app.wait_until_focused("Ask anything");
    let main = app.window();
    refuses_everything(&app);
    assert!(
        !bench.folder.path().join("wallet.json").exists(),
        "the main window made a wallet"
    );

    // Also while the signing window is open, and for what it is open for.
    open_by_script(&app, &json!({ "kind": "deposit", "amount": "1000" }));
    let signing = app.wait("the signing window", || {
        app.windows().into_iter().find(|window| *window != main)
    });
    refuses_everything(&app);
    let busy = app.invoke("sign_open", json!({ "intent": { "kind": "unlock" } }));
    assert!(busy.unwrap_err().contains("signing_busy"));

    // The signing window has none of the main window's commands.
    app.take(&signing);
    for command in [
        "chats_list",
        "settings_get",
        "node_status",
        "copy_text",
        "sign_open",
    ] {
        assert!(app.invoke(command, json!({})).is_err(), "{command}");
    }
    // It confirms no digest that it was not shown, and what needs a signature is not done without one.
    let confirmed = app.invoke(
        "sign_confirm",
        json!({ "digest": "0x00", "password": null }),
    );
    assert!(confirmed.unwrap_err().contains("signing_other_preview"));
    let finished = app.invoke("sign_finish", json!({}));
    assert!(finished.unwrap_err().contains("signing_not_done"));
    cancel_by_script(&app, &main);
    app.quit();
}

#[test]
fn the_open_signing_window_follows_the_theme_and_the_size_of_text() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let app = bench.open(&driver);
    app.wait_until_focused("Ask anything");
    let main = app.window();
    open_by_script(&app, &json!({ "kind": "create" }));
    let signing = app.wait("the signing window", || {
        app.windows().into_iter().find(|window| *window != main)
    });
    for (theme, scale, size) in [
        ("light", 1.0, "16px"),
        ("dark", 1.5, "24px"),
        ("light", 1.0, "16px"),
    ] {
        app.take(&main);
        let mut settings = app.invoke("settings_get", json!({})).unwrap();
        settings["theme"] = json!(theme);
        settings["textScale"] = json!(scale);
        app.invoke("settings_set", json!({ "settings": settings }))
            .unwrap();
        app.take(&signing);
        app.wait(&format!("a window that is {theme} at {scale}"), || {
            let shown = app.script("return document.documentElement.style.fontSize", json!([]));
            (app.is_dark() == (theme == "dark") && shown == size).then_some(())
        });
    }
    cancel_by_script(&app, &main);
    app.quit();
}

/// The window goes with the answer, and with the window whoever would hear it.
fn cancel_by_script(app: &App<'_>, main: &str) {
    app.script(
        "setTimeout(() => window.__TAURI_INTERNALS__.invoke('sign_cancel', {}), 100)",
        json!([]),
    );
    app.take(main);
    assert_eq!(outcome(app), "cancelled");
}

/// Every command of the signing window, with arguments that it would take there.
fn refuses_everything(app: &App<'_>) {
    for (command, arguments) in [
        ("sign_intent", json!({})),
        ("sign_preview", json!({})),
        (
            "sign_confirm",
            json!({ "digest": "0x00", "password": PASSWORD }),
        ),
        ("sign_cancel", json!({})),
        ("sign_finish", json!({})),
        ("wallet_create", json!({ "password": PASSWORD })),
        (
            "wallet_import",
            json!({ "words": "", "password": PASSWORD }),
        ),
        (
            "wallet_import_v3",
            json!({ "file": "{}", "filePassword": "", "password": PASSWORD }),
        ),
        ("wallet_unlock", json!({ "password": PASSWORD })),
        (
            "wallet_change_password",
            json!({ "old": PASSWORD, "fresh": PASSWORD }),
        ),
        (
            "wallet_export",
            json!({ "password": PASSWORD, "filePassword": PASSWORD }),
        ),
        ("words_show", json!({ "password": PASSWORD })),
        ("words_ask", json!({ "password": PASSWORD })),
        ("words_check", json!({ "words": [] })),
    ] {
        let refused = app.invoke(command, arguments).expect_err(command);
        // Refused before it runs, and not by what it would have said.
        assert!(
            refused.contains("not allowed"),
            "{command} answered: {refused}"
        );
    }
}
