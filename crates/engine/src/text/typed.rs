//! What a person typed is text and nothing but text.
//!
//! A template splices contents and structure into one string, in which `<|im_end|>` typed by a person and the template's
//! own look the same. So a marker character that occurs in none of the texts is put inside every spelling of a command,
//! whole or begun at a text's end, before rendering; after rendering the markers are taken out again, and where they stood
//! no special piece may be made. The marker stands behind the first character, so that trimming and prefix tests of
//! templates work as before.

use minijinja::Value;
use minijinja::value::ValueKind;

use super::Tokenizer;
use super::template::{chat, free_marker};
use crate::{ChatPrompt, EngineError, Role};

pub(super) struct Marked {
    pub(super) prompt: ChatPrompt,
    marker: char,
}

/// Marks the spellings of commands in everything that a chat carries. In what the model itself said before, markup such
/// as `<think>` stays as it is, since templates look for it there; control pieces are marked in these as well.
///
/// # Errors
/// When a tool or a call's arguments are no JSON, or every character that could mark is taken.
pub(super) fn mark(prompt: &ChatPrompt, tokenizer: &Tokenizer) -> Result<Marked, EngineError> {
    let mut prompt = prompt.clone();
    // JSON may spell any character by its number; written anew, it spells none.
    change_json(&mut prompt, &|_| None)?;
    let mut texts = Vec::new();
    change_texts(&mut prompt, &mut |text, _| texts.push(text.clone()));
    let json = prompt.tools.iter().chain(calls(&prompt));
    let texts = texts.iter().chain(json).map(String::as_str);
    let marker = free_marker(texts).ok_or_else(|| EngineError::BadRequest {
        what: "every private-use character occurs in the messages".to_owned(),
    })?;
    change_texts(&mut prompt, &mut |text, by_model| {
        if let Some(marked) = marked(text, marker, tokenizer, by_model) {
            *text = marked;
        }
    });
    change_json(&mut prompt, &|text| marked(text, marker, tokenizer, false))?;
    Ok(Marked { prompt, marker })
}

fn calls(prompt: &ChatPrompt) -> impl Iterator<Item = &String> {
    chat::calls(prompt).map(|call| &call.arguments)
}

/// Calls `change` with every text that is not JSON, and whether the model said it as its answer.
fn change_texts(prompt: &mut ChatPrompt, change: &mut impl FnMut(&mut String, bool)) {
    if let Some(system) = &mut prompt.system {
        change(system, false);
    }
    for message in &mut prompt.messages {
        let by_model = message.role == Role::Assistant;
        change(&mut message.content, by_model);
        let others = [
            &mut message.reasoning,
            &mut message.tool_call_id,
            &mut message.name,
        ];
        others
            .into_iter()
            .flatten()
            .for_each(|text| change(text, false));
        for call in &mut message.tool_calls {
            change(&mut call.name, false);
            if let Some(id) = &mut call.id {
                change(id, false);
            }
        }
    }
}

/// Writes every JSON anew, with the texts in it as `change` makes them.
fn change_json(
    prompt: &mut ChatPrompt,
    change: &impl Fn(&str) -> Option<String>,
) -> Result<(), EngineError> {
    let messages = prompt.messages.iter_mut();
    let calls = messages.flat_map(|message| &mut message.tool_calls);
    let arguments = calls.map(|call| &mut call.arguments);
    for json in prompt.tools.iter_mut().chain(arguments) {
        let value = changed(chat::parse(json)?, change)?;
        *json = serde_json::to_string(&value).map_err(|error| EngineError::BadRequest {
            what: format!("JSON of a tool: {error}"),
        })?;
    }
    Ok(())
}

fn changed(value: Value, change: &impl Fn(&str) -> Option<String>) -> Result<Value, EngineError> {
    if let Some(text) = value.as_str() {
        return Ok(change(text).map_or(value, Value::from));
    }
    let failed = |error: minijinja::Error| EngineError::BadRequest {
        what: format!("JSON of a tool: {error}"),
    };
    let kind = value.kind();
    if kind == ValueKind::Map {
        let mut pairs = Vec::new();
        for key in value.try_iter().map_err(failed)? {
            let item = value.get_item(&key).map_err(failed)?;
            pairs.push((changed(key, change)?, changed(item, change)?));
        }
        Ok(Value::from_pairs(pairs))
    } else if kind == ValueKind::Seq {
        let items = value.try_iter().map_err(failed)?;
        let items: Result<Vec<Value>, EngineError> =
            items.map(|item| changed(item, change)).collect();
        Ok(Value::from(items?))
    } else {
        Ok(value)
    }
}

/// The text with its marks; `None` where it needs none.
fn marked(text: &str, marker: char, tokenizer: &Tokenizer, controls_only: bool) -> Option<String> {
    let specials = tokenizer.specials();
    let mut out = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(candidate) = specials.next_candidate(text, at) {
        let first = text[candidate..].chars().next().map_or(1, char::len_utf8);
        at = candidate + first;
        if specials.command_at(&text[candidate..], controls_only) {
            out.push_str(&text[copied..at]);
            out.push(marker);
            copied = at;
        }
    }
    if copied == 0 {
        return None;
    }
    out.push_str(&text[copied..]);
    Some(out)
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
