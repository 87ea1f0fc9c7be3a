//! What a person typed is text and nothing but text.
//!
//! A template splices contents and structure into one string, in which `<|im_end|>` typed by a person and the template's
//! own look the same. So a marker character that occurs in none of the contents is put inside every spelling of a
//! command before rendering; after rendering the markers are taken out again, and where they stood no special piece may
//! be made. The marker stands behind the first character, so that trimming and prefix tests of templates work as before.

use super::Tokenizer;
use crate::{ChatPrompt, EngineError, Role};

/// Where markers are looked for: Unicode's private use area.
const MARKERS: std::ops::RangeInclusive<char> = '\u{e000}'..='\u{f8ff}';

pub(super) struct Marked {
    pub(super) prompt: ChatPrompt,
    marker: char,
}

/// Marks the spellings of commands in every content. In the model's own earlier messages, markup such as `<think>`
/// stays as it is, since templates look for it there; control pieces are marked in these as well.
pub(super) fn mark(prompt: &ChatPrompt, tokenizer: &Tokenizer) -> Result<Marked, EngineError> {
    let contents = || {
        prompt
            .system
            .iter()
            .chain(prompt.messages.iter().map(|message| &message.content))
    };
    let used: std::collections::BTreeSet<char> = contents()
        .flat_map(|content| content.chars())
        .filter(|character| MARKERS.contains(character))
        .collect();
    let marker = MARKERS
        .into_iter()
        .find(|character| !used.contains(character));
    let marker = marker.ok_or_else(|| EngineError::BadRequest {
        what: "every private-use character occurs in the messages".to_owned(),
    })?;
    let mut prompt = prompt.clone();
    if let Some(system) = &mut prompt.system {
        *system = marked(system, marker, tokenizer, false);
    }
    for message in &mut prompt.messages {
        message.content = marked(
            &message.content,
            marker,
            tokenizer,
            message.role == Role::Assistant,
        );
    }
    Ok(Marked { prompt, marker })
}

fn marked(content: &str, marker: char, tokenizer: &Tokenizer, controls_only: bool) -> String {
    let mut out = String::with_capacity(content.len() + 16);
    for (at, character) in content.char_indices() {
        out.push(character);
        if tokenizer
            .specials()
            .command_at(&content[at..], controls_only)
        {
            out.push(marker);
        }
    }
    out
}

impl Marked {
    /// Takes the markers out of rendered text and says where they stood.
    pub(super) fn restore(&self, rendered: &str) -> (String, Vec<usize>) {
        let mut text = String::with_capacity(rendered.len());
        let mut protected = Vec::new();
        for character in rendered.chars() {
            if character == self.marker {
                protected.push(text.len());
            } else {
                text.push(character);
            }
        }
        (text, protected)
    }
}
