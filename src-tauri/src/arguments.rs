//! The command line of the window.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Chat with open language models, on this computer or on a stranger's.
#[derive(Debug, Clone, Parser)]
#[command(name = "decentralgpt-desktop", version)]
pub(crate) struct Arguments {
    /// The folder that holds chats, models, settings and identity; the system's folder for such things when absent
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Reads the arguments of this process.
///
/// # Errors
/// The exit code to end with, after `--help`, `--version` or a mistake was answered in the terminal.
pub(crate) fn read() -> Result<Arguments, ExitCode> {
    Arguments::try_parse().map_err(|answer| {
        // The terminal may be gone; then there is nobody to tell.
        let _ = answer.print();
        if answer.use_stderr() {
            ExitCode::from(2)
        } else {
            ExitCode::SUCCESS
        }
    })
}
