//! A panic in any thread ends the process: what it left behind could not be trusted, and the app starts another. What it
//! leaves to read is where it was, what it was at, and which build it is. The panic's own message is not among it: it may
//! quote what somebody asked.

use std::cell::Cell;
use std::path::Path;

use super::leave;
use crate::BUILD;

/// Exit code after a panic, Rust's own.
const PANICKED: i32 = 101;

/// Folders told of a source file's path: enough to find it, without whose computer it was built on.
const TOLD_FOLDERS: usize = 3;

thread_local! {
    static PHASE: Cell<&'static str> = const { Cell::new("work") };
}

/// Says what the calling thread is at from now on.
pub(super) fn phase(what: &'static str) {
    PHASE.set(what);
}

/// From here on, a panic ends the process with a line that tells no content.
pub(super) fn end_with_a_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(
            || "an unknown place".to_owned(),
            |at| format!("{}:{}:{}", told(at.file()), at.line(), at.column()),
        );
        eprintln!(
            "{}",
            report(&place, PHASE.try_with(Cell::get).unwrap_or("its end"))
        );
        leave(PANICKED)
    }));
}

fn report(place: &str, phase: &str) -> String {
    let thread = std::thread::current();
    format!(
        "panicked at {place} during {phase} in the thread {}; engine {BUILD}, {} {}",
        thread.name().unwrap_or("without a name"),
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}

/// The end of a source file's path.
fn told(file: &str) -> String {
    let parts: Vec<_> = Path::new(file)
        .components()
        .filter_map(|part| part.as_os_str().to_str())
        .collect();
    parts[parts.len().saturating_sub(TOLD_FOLDERS)..].join("/")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_report_says_where_and_what_and_which_build() {
        let report = super::report(&super::told("/home/a/crates/engine/src/a.rs"), "a step");
        assert!(report.contains("engine/src/a.rs") && report.contains("a step"));
        assert!(report.contains(crate::BUILD) && !report.contains("home"));
    }
}
