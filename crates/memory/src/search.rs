//! Full-text search over messages and titles.

use rusqlite::params;
use serde::{Deserialize, Serialize};

use crate::store::Store;
use crate::{ChatId, MemoryError, MessageId};

/// Stands before a match in a snippet. A control character, so that it is not mistaken for text.
pub const MARK_START: char = '\u{1}';
/// Stands after a match in a snippet.
pub const MARK_END: char = '\u{2}';

/// Most hits of one search: more than anybody reads.
pub const MAX_HITS: usize = 50;

/// Words of a query that are used. A longer one is a pasted text, and its first words find it.
const MAX_WORDS: usize = 16;
/// Bytes of a query that are looked at.
const MAX_QUERY_BYTES: usize = 512;

/// One place where the words were found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchHit {
    /// The conversation.
    pub chat: ChatId,
    /// Its title.
    pub title: String,
    /// The message, perhaps on another branch ([`crate::Memory::choose`] opens it); none where the title matched.
    pub message: Option<MessageId>,
    /// Some words around the match, with [`MARK_START`] and [`MARK_END`] around what matched.
    pub snippet: String,
}

impl Store {
    pub(crate) fn search(&mut self, query: &str) -> Result<Vec<SearchHit>, MemoryError> {
        let words = words_of(query);
        if words.is_empty() {
            return Ok(Vec::new());
        }
        let mut hits = self.indexed_hits(&match_expression(&words))?;
        if hits.is_empty() && words.iter().any(|word| has_no_spaces_between_words(word)) {
            hits = self.scanned_hits(&words)?;
        }
        Ok(hits)
    }

    fn indexed_hits(&self, expression: &str) -> Result<Vec<SearchHit>, MemoryError> {
        let titles = "SELECT chat.id, chat.title, NULL, highlight(chat_title, 0, char(1), char(2))
             FROM chat_title JOIN chat ON chat.n = chat_title.rowid
             WHERE chat_title MATCH ?1 AND chat.deleted_ms IS NULL ORDER BY rank LIMIT ?2";
        let messages = "SELECT chat.id, chat.title, message.id, snippet(message_text, 0, char(1), char(2), '…', 16)
             FROM message_text JOIN message ON message.n = message_text.rowid JOIN chat ON chat.id = message.chat
             WHERE message_text MATCH ?1 AND chat.deleted_ms IS NULL ORDER BY rank LIMIT ?2";
        let mut hits = self.hits(titles, expression)?;
        hits.extend(self.hits(messages, expression)?);
        hits.truncate(MAX_HITS);
        Ok(hits)
    }

    fn hits(&self, sql: &str, expression: &str) -> Result<Vec<SearchHit>, MemoryError> {
        let mut statement = self
            .connection()
            .prepare_cached(sql)
            .map_err(|error| self.sqlite(error))?;
        let rows = statement
            .query_map(params![expression, MAX_HITS as i64], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, Option<String>>(2)?,
                    row.get::<_, String>(3)?,
                ))
            })
            .map_err(|error| self.sqlite(error))?;
        let mut hits = Vec::new();
        for row in rows {
            let (chat, title, message, snippet) = row.map_err(|error| self.sqlite(error))?;
            hits.push(SearchHit {
                chat: crate::tree::chat_id(&chat)?,
                title,
                message: message
                    .as_deref()
                    .map(crate::tree::message_id)
                    .transpose()?,
                snippet: balanced(&snippet),
            });
        }
        Ok(hits)
    }

    /// Chinese, Japanese and Thai are written without spaces, so that the index holds whole sentences as one word. They are looked for
    /// as they stand, newest first: slow, and right.
    fn scanned_hits(&self, words: &[&str]) -> Result<Vec<SearchHit>, MemoryError> {
        let Some(first) = words.first() else {
            return Ok(Vec::new());
        };
        let mut statement = self
            .connection()
            .prepare_cached(
                "SELECT chat.id, chat.title, message.id, message.content FROM message JOIN chat ON chat.id = message.chat
                 WHERE chat.deleted_ms IS NULL AND message.state <> 'streaming' AND instr(message.content, ?1) > 0 ORDER BY message.n DESC",
            )
            .map_err(|error| self.sqlite(error))?;
        let mut rows = statement
            .query(params![first])
            .map_err(|error| self.sqlite(error))?;
        let mut hits = Vec::new();
        while let Some(row) = rows.next().map_err(|error| self.sqlite(error))? {
            let read = |index| {
                row.get::<_, String>(index)
                    .map_err(|error| self.sqlite(error))
            };
            let content = read(3)?;
            if !words.iter().all(|word| content.contains(word)) {
                continue;
            }
            hits.push(SearchHit {
                chat: crate::tree::chat_id(&read(0)?)?,
                title: read(1)?,
                message: Some(crate::tree::message_id(&read(2)?)?),
                snippet: around(&content, first),
            });
            if hits.len() == MAX_HITS {
                break;
            }
        }
        Ok(hits)
    }
}

/// The words of a query, bounded.
fn words_of(query: &str) -> Vec<&str> {
    let mut end = query.len().min(MAX_QUERY_BYTES);
    while !query.is_char_boundary(end) {
        end -= 1;
    }
    query[..end]
        .split(|c: char| c.is_whitespace() || c.is_control())
        // A "word" without a letter or digit is none to the index, and would make the whole query find nothing.
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .take(MAX_WORDS)
        .collect()
}

/// Every word quoted, so that nothing a person types is an operator; the last one may be unfinished.
fn match_expression(words: &[&str]) -> String {
    let quoted: Vec<String> = words
        .iter()
        .map(|word| format!("\"{}\"", word.replace('"', "\"\"")))
        .collect();
    format!("{}*", quoted.join(" "))
}

fn has_no_spaces_between_words(word: &str) -> bool {
    word.chars().any(|c| matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3134f}'))
}

/// Characters of text on each side of a scanned match.
const AROUND_CHARS: usize = 40;

fn around(content: &str, word: &str) -> String {
    let Some((before, after)) = content.split_once(word) else {
        return String::new();
    };
    let clean = |c: &char| *c != MARK_START && *c != MARK_END;
    let mut left: Vec<char> = before
        .chars()
        .rev()
        .filter(clean)
        .take(AROUND_CHARS)
        .collect();
    left.reverse();
    let right: String = after.chars().filter(clean).take(AROUND_CHARS).collect();
    let mut snippet = String::new();
    if before.chars().count() > AROUND_CHARS {
        snippet.push('…');
    }
    snippet.extend(left);
    snippet.extend(
        [MARK_START]
            .into_iter()
            .chain(word.chars())
            .chain([MARK_END]),
    );
    snippet.push_str(&right);
    if after.chars().count() > AROUND_CHARS {
        snippet.push('…');
    }
    snippet
}

/// Drops marks that do not pair up: a message may contain these characters itself.
fn balanced(snippet: &str) -> String {
    let mut out = String::with_capacity(snippet.len());
    let mut open = false;
    for c in snippet.chars() {
        match c {
            MARK_START if !open => open = true,
            MARK_END if open => open = false,
            MARK_START | MARK_END => continue,
            _ => {}
        }
        out.push(c);
    }
    if open {
        out.push(MARK_END);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_of_the_index_are_plain_words() {
        assert_eq!(
            match_expression(&words_of("a OR \"b\" NEAR(c")),
            "\"a\" \"OR\" \"\"\"b\"\"\" \"NEAR(c\"*"
        );
        assert!(words_of(" - * \" ").is_empty());
        assert_eq!(words_of(&"é".repeat(600)).len(), 1);
    }

    #[test]
    fn marks_always_pair_up() {
        assert_eq!(balanced("a\u{1}b\u{1}c\u{2}d\u{2}e"), "a\u{1}bc\u{2}de");
        assert_eq!(balanced("\u{2}x\u{1}y"), "x\u{1}y\u{2}");
    }

    #[test]
    fn a_scanned_match_is_cut_out_with_its_surroundings() {
        assert_eq!(
            around("今日は天気がいい", "天気"),
            "今日は\u{1}天気\u{2}がいい"
        );
    }
}
