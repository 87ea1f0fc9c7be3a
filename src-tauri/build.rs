//! Reads tauri.conf.json, capabilities and permissions at build time.

fn main() {
    tauri_build::build();
}
