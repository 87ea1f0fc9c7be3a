//! The bridge between the page and this program: the one list of commands and events, and the TypeScript made from it.

use specta_typescript::semantic;
use tauri::Wry;
use tauri_specta::{Builder, collect_commands, collect_events};

use crate::commands::{chat, models, node, peers, settings, system};
use crate::events::{ChatsChanged, ModelsChanged, StatusChanged};

/// Every command that the page may call and every event that it hears.
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
            settings::settings_get,
            settings::settings_set,
            settings::doctor,
        ])
        .events(collect_events![StatusChanged, ModelsChanged, ChatsChanged])
        // What the page sends and what it hears have one shape each.
        .disable_serde_phases()
        // Numbers that leave here are finite: `number` and not `number | null`.
        .semantic_types(semantic::Configuration::empty().enable_lossless_floats())
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
        let fresh = generated();
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ui/src/bindings.ts");
        if std::env::var_os(WRITE).is_some() {
            std::fs::write(&kept, fresh).unwrap();
            return;
        }
        let kept = std::fs::read_to_string(&kept).unwrap();
        let line = fresh
            .lines()
            .zip(kept.lines())
            .position(|(fresh, kept)| fresh != kept);
        assert!(
            fresh == kept,
            "ui/src/bindings.ts differs from line {:?} on: run `cargo xtask bindings`",
            line.map(|line| line + 1)
        );
    }

    #[test]
    fn the_window_is_allowed_exactly_the_commands_that_exist() {
        let generated = generated();
        // Each command is called by its name: `__TAURI_INVOKE("chat_open", …)`, with the answer's type before the bracket.
        let mut bound: Vec<&str> = generated
            .split("=> ")
            .skip(1)
            .filter_map(|call| call.split_once("__TAURI_INVOKE")?.1.split('"').nth(1))
            .collect();
        let permission = std::fs::read_to_string(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("permissions/window.toml"),
        )
        .unwrap();
        let mut allowed: Vec<&str> = permission
            .lines()
            .filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\","))
            .collect();
        bound.sort_unstable();
        allowed.sort_unstable();
        assert!(
            bound.contains(&"chat_send"),
            "the generated file has another shape than this test reads: {bound:?}"
        );
        assert_eq!(
            bound, allowed,
            "the commands that exist, and those that permissions/window.toml allows"
        );
    }

    fn generated() -> String {
        let folder = tempfile::tempdir().unwrap();
        let file: PathBuf = folder.path().join("bindings.ts");
        bindings().export(Typescript::default(), &file).unwrap();
        std::fs::read_to_string(file).unwrap()
    }
}
