//! Small tokenizers of the two kinds, learned from a page of English by merging what stands together most often.

use std::collections::BTreeMap;

use crate::tiny::{Meta, character_of};

/// What the pieces are learned from.
pub(crate) const TEXT: &str = include_str!("alice.txt");

/// Pieces that are learned beside single bytes and characters.
const LEARNED: usize = 240;

/// A control piece's number in `tokenizer.ggml.token_type`; the others are 1 (normal), 2 (unknown) and 6 (byte).
const CONTROL: i32 = 3;

/// The commands of a chat format: control pieces, the first of which begins a text and the last of which ends an answer.
pub(crate) struct Commands {
    pub(crate) pieces: &'static [&'static str],
    pub(crate) template: &'static str,
}

pub(crate) const LLAMA3: Commands = Commands {
    pieces: &[
        "<|begin_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ],
    template: "{{- bos_token }}\n{%- for message in messages %}\n    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n",
};

pub(crate) const MISTRAL: Commands = Commands {
    pieces: &["<s>", "[INST]", "[/INST]", "</s>"],
    template: "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}{{ ' ' + message['content'] + '</s>' }}{% else %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% endif %}{% endfor %}",
};

pub(crate) const CHATML: Commands = Commands {
    pieces: &["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    template: "{%- if messages[0].role != 'system' %}\n    {{- '<|im_start|>system\\nYou are Alice.<|im_end|>\\n' }}\n{%- endif %}\n{%- for message in messages %}\n    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n",
};

pub(crate) const GEMMA: Commands = Commands {
    pieces: &["<bos>", "<start_of_turn>", "<end_of_turn>"],
    template: "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}{%- set first = messages[0]['content'] + '\\n\\n' -%}{%- set rest = messages[1:] -%}{%- else -%}{%- set first = '' -%}{%- set rest = messages -%}{%- endif -%}{%- for message in rest -%}{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}{{ '<start_of_turn>' + role + '\\n' + (first if loop.first else '') }}{{ message['content'] | trim }}{{ '<end_of_turn>\\n' }}{%- endfor -%}{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}",
};

pub(crate) const PHI3: Commands = Commands {
    pieces: &["<s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"],
    template: "{% for message in messages %}{{ '<|' + message['role'] + '|>' + '\\n' + message['content'] + '<|end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}",
};

/// A byte-level tokenizer that cuts words as `pre` names it.
pub(crate) fn bpe(pre: &str, commands: &Commands) -> Vec<(String, Meta)> {
    let mut pieces: Vec<String> = (0..=255u8)
        .map(|byte| character_of(byte).to_string())
        .collect();
    let merges = learned(character_of(b' '));
    pieces.extend(merges.iter().map(|(left, right)| format!("{left}{right}")));
    let mut kinds = vec![1; pieces.len()];
    let first = pieces.len() as u32;
    pieces.extend(commands.pieces.iter().map(|&piece| piece.to_owned()));
    kinds.resize(pieces.len(), CONTROL);
    let merges = merges
        .iter()
        .map(|(left, right)| format!("{left} {right}"))
        .collect();
    let mut metadata = common("gpt2", pieces, kinds, first, commands);
    metadata.push(("tokenizer.ggml.pre".into(), Meta::Text(pre.into())));
    metadata.push(("tokenizer.ggml.merges".into(), Meta::Texts(merges)));
    metadata
}

/// A SentencePiece tokenizer; with `space_prefix` a text begins with a blank that nobody typed.
pub(crate) fn spm(space_prefix: bool, commands: &Commands) -> Vec<(String, Meta)> {
    let mut pieces = vec!["<unk>".to_owned()];
    pieces.extend(commands.pieces.iter().map(|&piece| piece.to_owned()));
    let mut kinds = vec![2];
    kinds.resize(pieces.len(), CONTROL);
    pieces.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
    kinds.resize(pieces.len(), 6);
    let unscored = pieces.len();
    let merged = learned('▁');
    pieces.extend(merged.iter().map(|(left, right)| format!("{left}{right}")));
    let letters = ('a'..='z')
        .chain('A'..='Z')
        .chain("▁.,!?'\"-:();0123456789é".chars());
    pieces.extend(letters.map(|letter| letter.to_string()));
    kinds.resize(pieces.len(), 1);
    let mut scores = vec![0.0; unscored];
    scores.extend((0..pieces.len() - unscored).map(|rank| -(rank as f32)));
    let mut metadata = common("llama", pieces, kinds, 1, commands);
    metadata.push(("tokenizer.ggml.scores".into(), Meta::F32s(scores)));
    metadata.push(("tokenizer.ggml.unknown_token_id".into(), Meta::U32(0)));
    metadata.push((
        "tokenizer.ggml.add_space_prefix".into(),
        Meta::Bool(space_prefix),
    ));
    metadata
}

fn common(
    model: &str,
    pieces: Vec<String>,
    kinds: Vec<i32>,
    first_command: u32,
    commands: &Commands,
) -> Vec<(String, Meta)> {
    let last_command = first_command + commands.pieces.len() as u32 - 1;
    vec![
        ("tokenizer.ggml.model".into(), Meta::Text(model.into())),
        ("tokenizer.ggml.tokens".into(), Meta::Texts(pieces)),
        ("tokenizer.ggml.token_type".into(), Meta::I32s(kinds)),
        (
            "tokenizer.ggml.bos_token_id".into(),
            Meta::U32(first_command),
        ),
        (
            "tokenizer.ggml.eos_token_id".into(),
            Meta::U32(last_command),
        ),
        ("tokenizer.ggml.add_bos_token".into(), Meta::Bool(false)),
        (
            "tokenizer.chat_template".into(),
            Meta::Text(commands.template.into()),
        ),
    ]
}

/// The commonest pairs of neighbours inside words, each merged before the next is looked for. A word's leading blank is
/// `space`.
fn learned(space: char) -> Vec<(String, String)> {
    let mut words: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    for word in TEXT.split(|character: char| !character.is_ascii_alphabetic()) {
        if !word.is_empty() {
            let letters = std::iter::once(space).chain(word.chars());
            *words
                .entry(letters.map(|letter| letter.to_string()).collect())
                .or_default() += 1;
        }
    }
    let mut merges = Vec::new();
    while merges.len() < LEARNED {
        let mut pairs: BTreeMap<(&String, &String), usize> = BTreeMap::new();
        for (word, count) in &words {
            for pair in word.windows(2) {
                *pairs.entry((&pair[0], &pair[1])).or_default() += count;
            }
        }
        let Some(((left, right), _)) = pairs
            .into_iter()
            .max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(&a.0)))
        else {
            break;
        };
        let pair = (left.clone(), right.clone());
        words = words
            .into_iter()
            .map(|(word, count)| (joined(&word, &pair), count))
            .collect();
        merges.push(pair);
    }
    merges
}

fn joined(word: &[String], (left, right): &(String, String)) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(word.len());
    let mut at = 0;
    while at < word.len() {
        if &word[at] == left && word.get(at + 1) == Some(right) {
            out.push(format!("{left}{right}"));
            at += 2;
        } else {
            out.push(word[at].clone());
            at += 1;
        }
    }
    out
}
