//! The bridge between the pages and this program: the lists of commands and events, one for each window, and the TypeScript
//! made from them.

use specta_typescript::semantic;
use tauri::Wry;
use tauri_specta::{Builder, collect_commands, collect_events};

use crate::commands::{chat, models, money, node, peers, settings, sign, system};
use crate::events::{
    ChatsChanged, FilesDragged, LinkArrived, ModelsChanged, MoneyChanged, StatusChanged,
};

/// Every command that the page of the main window may call and every event that it hears.
pub(crate) fn bindings() -> Builder<Wry> {
    Builder::<Wry>::new()
        .commands(collect_commands![
            system::startup,
            system::app_info,
            system::pick_file,
            system::pick_folder,
            system::save_text,
            system::open_link,
            system::copy_text,
            chat::chats_list,
            chat::chats_search,
            chat::chat_create,
            chat::chat_open,
            chat::chat_rename,
            chat::chat_pin,
            chat::chat_delete,
            chat::chat_restore,
            chat::chat_update,
            chat::chat_choose,
            chat::chat_send,
            chat::chat_continue,
            chat::chat_stop,
            chat::chat_context,
            chat::chat_summarise,
            chat::chat_export,
            models::models_list,
            models::model_download,
            models::model_pause,
            models::model_cancel,
            models::model_remove,
            models::model_add,
            models::model_default,
            models::models_move,
            models::community_list,
            models::community_search,
            models::community_look,
            node::node_status,
            node::node_switch,
            node::node_pause,
            node::node_resume,
            node::node_answers,
            node::receipt_open,
            peers::peers_connect,
            peers::peers_disconnect,
            peers::peers_block,
            peers::peers_invite,
            peers::peers_log,
            peers::peers_compare,
            peers::peers_new_name,
            peers::peers_forget_records,
            peers::peers_woke,
            peers::link_waiting,
            peers::link_done,
            money::money_status,
            money::earnings,
            money::energy_used,
            money::proof_open,
            money::payment_open,
            money::statement_save,
            money::transactions,
            money::money_receive,
            money::money_offers,
            money::money_prices,
            money::start_text,
            money::vote_status,
            settings::settings_get,
            settings::settings_set,
            settings::doctor,
            settings::forget_clock,
            sign::sign_open,
            sign::wallet_lock,
            sign::wallet_forget,
        ])
        .events(collect_events![
            StatusChanged,
            ModelsChanged,
            MoneyChanged,
            ChatsChanged,
            LinkArrived,
            FilesDragged
        ])
        // What the page sends and what it hears have one shape each.
        .disable_serde_phases()
        // Numbers that leave here are finite: `number` and not `number | null`.
        .semantic_types(semantic::Configuration::empty().enable_lossless_floats())
}

/// Every command that the page of the signing window may call. It hears no event.
pub(crate) fn signing_bindings() -> Builder<Wry> {
    Builder::<Wry>::new()
        .commands(collect_commands![
            sign::sign_intent,
            sign::sign_preview,
            sign::sign_confirm,
            sign::sign_cancel,
            sign::sign_finish,
            sign::wallet_create,
            sign::wallet_import,
            sign::wallet_import_v3,
            sign::wallet_unlock,
            sign::wallet_remember,
            sign::wallet_change_password,
            sign::wallet_export,
            sign::words_show,
            sign::words_ask,
            sign::words_check,
        ])
        .disable_serde_phases()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use specta_typescript::Typescript;

    use super::*;

    /// `cargo xtask bindings` sets this, and the test then writes the file instead of comparing it.
    const WRITE: &str = "DECENTRALGPT_WRITE_BINDINGS";

    #[test]
    fn bindings_are_current() {
        for (bindings, kept) in [
            (bindings(), "../ui/src/bindings.ts"),
            (signing_bindings(), "../ui/src/signing/bindings.ts"),
        ] {
            let fresh = generated(&bindings);
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(kept);
            if std::env::var_os(WRITE).is_some() {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, fresh).unwrap();
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let line = fresh
                .lines()
                .zip(text.lines())
                .position(|(fresh, kept)| fresh != kept);
            assert!(
                fresh == text,
                "{kept} differs from line {:?} on: run `cargo xtask bindings`",
                line.map(|line| line + 1)
            );
        }
    }

    #[test]
    fn each_window_is_allowed_exactly_the_commands_that_exist_for_it() {
        let mut all = Vec::new();
        for (bindings, permission, sample) in [
            (bindings(), "permissions/window.toml", "chat_send"),
            (
                signing_bindings(),
                "permissions/signing.toml",
                "sign_confirm",
            ),
        ] {
            let bound = commands(&generated(&bindings));
            assert!(
                bound.iter().any(|command| command == sample),
                "the generated file has another shape than this test reads: {bound:?}"
            );
            assert_eq!(
                bound,
                allowed(permission),
                "the commands that exist, and those that {permission} allows"
            );
            all.extend(bound);
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "a command belongs to both windows");
    }

    #[test]
    fn each_window_has_its_own_capability_and_not_the_other_ones() {
        for (window, own, permissions) in [
            (
                "main",
                "capabilities/main.json",
                vec![
                    "core:event:allow-listen",
                    "core:event:allow-unlisten",
                    "window",
                ],
            ),
            ("signing", "capabilities/signing.json", vec!["signing"]),
        ] {
            let capability: serde_json::Value = serde_json::from_str(&read(own)).unwrap();
            assert_eq!(capability["windows"], serde_json::json!([window]));
            assert_eq!(capability["permissions"], serde_json::json!(permissions));
            assert!(
                capability.get("remote").is_none() && capability.get("webviews").is_none(),
                "{own} names more than its window"
            );
        }
        let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("capabilities"));
        assert_eq!(files.unwrap().count(), 2, "a third capability");
    }

    fn commands(generated: &str) -> Vec<String> {
        // Each command is called by its name: `__TAURI_INVOKE("chat_open", …)`, with the answer's type before the bracket.
        let mut bound: Vec<String> = generated
            .split("=> ")
            .skip(1)
            .filter_map(|call| call.split_once("__TAURI_INVOKE")?.1.split('"').nth(1))
            .map(str::to_owned)
            .collect();
        bound.sort_unstable();
        bound
    }

    fn allowed(permission: &str) -> Vec<String> {
        let mut allowed: Vec<String> = read(permission)
            .lines()
            .filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\","))
            .map(str::to_owned)
            .collect();
        allowed.sort_unstable();
        allowed
    }

    fn read(path: &str) -> String {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
    }

    fn generated(bindings: &Builder<Wry>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file: PathBuf = folder.path().join("bindings.ts");
        bindings.export(Typescript::default(), &file).unwrap();
        std::fs::read_to_string(file).unwrap()
    }
}
