#![no_main]
//! Schemas, grammars and expressions of strangers, and an answer on its way through one.

use std::sync::OnceLock;

use engine::Constraint;
use engine::file::parse;
use engine::grammar::Grammars;
use engine::text::Tokenizer;
use libfuzzer_sys::fuzz_target;

/// A byte-level vocabulary with an end token.
fn words() -> &'static (Tokenizer, Grammars) {
    static WORDS: OnceLock<(Tokenizer, Grammars)> = OnceLock::new();
    WORDS.get_or_init(|| {
        let header = parse(include_bytes!("../seeds/gguf/bpe")).unwrap();
        let tokenizer = Tokenizer::from_metadata(&header.metadata).unwrap();
        let grammars = Grammars::new(tokenizer.vocabulary()).unwrap();
        (tokenizer, grammars)
    })
}

fuzz_target!(|input: (u8, u8, &str)| {
    let (kind, way, source) = input;
    let source = source.to_owned();
    let constraint = match kind % 3 {
        0 => Constraint::JsonSchema(source),
        1 => Constraint::Lark(source),
        _ => Constraint::Regex(source),
    };
    let (tokenizer, grammars) = words();
    let vocabulary = tokenizer.vocabulary().len();
    // An error is as good as a matcher, as long as it comes.
    let Ok(mut matcher) = grammars.compile(&constraint).and_then(|compiling| compiling.wait()) else {
        return;
    };
    let mut taken = Vec::new();
    for step in 0..24u32 {
        let Ok(mask) = matcher.mask() else { return };
        let from = (u32::from(way) * 31 + step * 97) % vocabulary;
        let allowed = (from..vocabulary).chain(0..from).find(|&id| mask.allows(id));
        let id = allowed.expect("a mask allows something");
        if matcher.advance(id).is_err() {
            return;
        }
        taken.push(id);
        if tokenizer.vocabulary().eog_ids().contains(&id) {
            break;
        }
    }
    let back = taken.len() / 2;
    if matcher.rollback((taken.len() - back) as u32).is_ok() {
        matcher.resume(&taken[back..]).expect("what was taken is taken again");
    }
});
