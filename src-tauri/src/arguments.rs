//! The command line of the window.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::links;

/// Chat with open language models, on this computer or on a stranger's.
#[derive(Debug, Clone, Parser)]
#[command(name = "decentralgpt-desktop", version)]
pub(crate) struct Arguments {
    /// The folder that holds chats, models, settings and identity; the system's folder for such things when absent
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// An invite as a link (decentralgpt://…), which the window shows and asks about
    #[arg(value_name = "LINK")]
    pub link: Option<String>,
}

/// Reads the arguments of this process.
///
/// # Errors
/// The exit code to end with, after `--help`, `--version` or a mistake was answered in the terminal.
pub(crate) fn read() -> Result<Arguments, ExitCode> {
    let given: Vec<String> = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    Arguments::try_parse()
        .and_then(|arguments| checked(arguments, &given))
        .map_err(|answer| {
            // The terminal may be gone; then there is nobody to tell.
            let _ = answer.print();
            if answer.use_stderr() {
                ExitCode::from(2)
            } else {
                ExitCode::SUCCESS
            }
        })
}

/// A link stands last, and nothing else stands where one may.
fn checked(arguments: Arguments, given: &[String]) -> Result<Arguments, clap::Error> {
    if arguments.link.as_deref() == links::among(given) {
        return Ok(arguments);
    }
    Err(Arguments::command().error(
        ErrorKind::ValueValidation,
        "a link begins with decentralgpt: and is the last argument",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &[&str]) -> Result<Arguments, clap::Error> {
        let given: Vec<String> = text.iter().map(|&text| text.to_owned()).collect();
        Arguments::try_parse_from(&given).and_then(|arguments| checked(arguments, &given))
    }

    #[test]
    fn a_link_is_taken_last_and_brings_no_arguments_of_its_own() {
        let link = "decentralgpt://invite/1/aaaa";
        assert_eq!(given(&["app"]).unwrap().link, None);
        let taken = given(&["app", "--data", "/tmp/a", link]).unwrap();
        assert_eq!(taken.link.as_deref(), Some(link));
        assert_eq!(taken.data, Some(PathBuf::from("/tmp/a")));
        for refused in [
            ["app", link, "--data=/tmp/evil"],
            ["app", "https://example.org", link],
            ["app", link, "https://example.org"],
        ] {
            assert!(given(&refused).is_err(), "{refused:?}");
        }
        assert!(given(&["app", "file:///etc/passwd"]).is_err());
    }
}
