//! The spellings that are found in a text before anything is split: those of a prompt's structure, and added text.

use super::vocabulary::{PieceKind, Vocabulary, is_command};
use crate::file::Metadata;

/// Which special spellings become their piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// All of them: the text is a template's.
    Template,
    /// Those that are text themselves: a person typed it.
    Typed,
}

#[derive(Debug)]
pub(super) struct Special {
    pub(super) spelling: String,
    pub(super) id: u32,
    /// White space behind it belongs to it.
    pub(super) takes_space: bool,
    /// Structure, not text: never made from what a person typed.
    command: bool,
    control: bool,
}

/// Special pieces by their first byte, the longest first.
#[derive(Debug)]
pub(super) struct Specials(Vec<Vec<Special>>);

impl Specials {
    pub(super) fn of(vocabulary: &Vocabulary, metadata: &Metadata) -> Self {
        let takes_space = space_takers(metadata);
        let mut by_first: Vec<Vec<Special>> = std::iter::repeat_with(Vec::new).take(256).collect();
        for (id, piece, kind) in vocabulary.pieces() {
            let added = matches!(kind, PieceKind::Control | PieceKind::UserDefined);
            let command = is_command(piece, kind);
            // A command of a single character could not be told from text; none is known.
            if !added || piece.is_empty() || (command && piece.chars().nth(1).is_none()) {
                continue;
            }
            by_first[usize::from(piece.as_bytes()[0])].push(Special {
                spelling: piece.to_owned(),
                id,
                takes_space: takes_space(piece),
                command,
                control: kind == PieceKind::Control,
            });
        }
        for same_first in &mut by_first {
            same_first.sort_by_key(|special: &Special| std::cmp::Reverse(special.spelling.len()));
        }
        Self(by_first)
    }

    /// The first position from `at` on where a special piece may begin.
    pub(super) fn next_candidate(&self, text: &str, at: usize) -> Option<usize> {
        let rest = text.as_bytes().get(at..)?;
        let found = rest
            .iter()
            .position(|&byte| !self.0[usize::from(byte)].is_empty());
        found.map(|found| at + found)
    }

    /// The longest one of `scope` that `text` begins with, of at most `most` bytes.
    pub(super) fn find(&self, text: &str, scope: Scope, most: usize) -> Option<&Special> {
        self.of_first(text).iter().find(|special| {
            special.spelling.len() <= most
                && (scope == Scope::Template || !special.command)
                && text.starts_with(&special.spelling)
        })
    }

    /// Whether `text` begins with a command, or is the beginning of one: white space at its end does not count, since
    /// templates trim it.
    pub(super) fn command_at(&self, text: &str, controls_only: bool) -> bool {
        let trimmed = text.trim_end();
        self.of_first(text).iter().any(|special| {
            special.command
                && (special.control || !controls_only)
                && (text.starts_with(&special.spelling) || special.spelling.starts_with(trimmed))
        })
    }

    fn of_first(&self, text: &str) -> &[Special] {
        let first = text.as_bytes().first();
        first.map_or(&[][..], |&byte| &self.0[usize::from(byte)])
    }
}

/// Files do not say which pieces take the white space behind them. It is known of one family: in Phi 3 the pieces added
/// to Llama's vocabulary do.
fn space_takers(metadata: &Metadata) -> impl Fn(&str) -> bool {
    let name = metadata.text("general.name").unwrap_or_default();
    let name = name.to_lowercase();
    let phi3 = name.contains("phi-3") || name.contains("phi3");
    move |piece| phi3 && !["<unk>", "<s>", "<|endoftext|>"].contains(&piece)
}
