#![no_main]
//! A tokenizer built from any tables, and any text through it.

use std::sync::Arc;

use arbitrary::Arbitrary;
use engine::text::Tokenizer;
use libfuzzer_sys::fuzz_target;

const MODELS: [&str; 5] = ["gpt2", "llama", "gemma4", "bert", "t5"];
const RULES: [&str; 6] = ["gpt-2", "llama-bpe", "tekken", "deepseek-llm", "default", "glm4"];
const PIECES: [&str; 14] = [
    "a", "b", "ab", "▁", "▁a", "Ġ", "Ċ", "<0x61>", "<|im_end|>", "<think>", "[UNK]", "é", "\n\n", "▁ab",
];

#[derive(Debug, Arbitrary)]
struct Input {
    model: u8,
    rule: u8,
    known: Vec<(u8, u8)>,
    pieces: Vec<(String, u8, f32)>,
    merges: Vec<(u8, u8)>,
    loose_merge: Option<String>,
    ids: [Option<u8>; 4],
    text: String,
    protected: Vec<u8>,
}

fuzz_target!(|input: Input| {
    let known = input.known.iter().map(|&(piece, kind)| {
        (PIECES[usize::from(piece) % PIECES.len()].to_owned(), kind, -f32::from(piece))
    });
    let pieces: Vec<(String, u8, f32)> = known.chain(input.pieces).collect();
    if pieces.is_empty() {
        return;
    }
    let piece = |at: u8| pieces[usize::from(at) % pieces.len()].0.as_str();
    let merges = input.merges.iter().map(|&(left, right)| format!("{} {}", piece(left), piece(right)));
    let merges: Vec<String> = merges.chain(input.loose_merge).collect();
    let mut file = Header::default();
    file.text("tokenizer.ggml.model", MODELS[usize::from(input.model) % MODELS.len()]);
    file.text("tokenizer.ggml.pre", RULES[usize::from(input.rule) % RULES.len()]);
    file.texts("tokenizer.ggml.tokens", pieces.iter().map(|piece| piece.0.as_str()));
    file.texts("tokenizer.ggml.merges", merges.iter().map(String::as_str));
    file.numbers("tokenizer.ggml.scores", 6, pieces.iter().map(|piece| piece.2.to_le_bytes()));
    let kinds = pieces.iter().map(|piece| i32::from(piece.1 % 8).to_le_bytes());
    file.numbers("tokenizer.ggml.token_type", 5, kinds);
    for (name, id) in ["bos", "eos", "unknown", "seperator"].iter().zip(input.ids) {
        if let Some(id) = id {
            file.number(&format!("tokenizer.ggml.{name}_token_id"), u32::from(id));
        }
    }
    let header = engine::file::parse(&file.bytes()).expect("what is written here can be read");
    let Ok(tokenizer) = Tokenizer::from_metadata(&header.metadata) else {
        return;
    };
    let tokenizer = Arc::new(tokenizer);
    let vocabulary = tokenizer.vocabulary();
    let mut protected: Vec<usize> = input.protected.iter().map(|&at| usize::from(at)).collect();
    protected.sort_unstable();
    let typed = tokenizer.encode_typed(&input.text);
    for ids in [
        typed.clone(),
        tokenizer.encode_document(&input.text),
        tokenizer.encode_rendered(&input.text, &protected),
    ] {
        assert!(ids.iter().all(|&id| id < vocabulary.len()));
    }
    // Unknown text may be told by any piece that the file names for it, even one of structure.
    let unknown = header.metadata.u32("tokenizer.ggml.unknown_token_id");
    let structure = typed.iter().filter(|&&id| Some(id) != unknown);
    for id in structure {
        let (_, kind) = vocabulary.piece(*id).expect("within the vocabulary");
        assert_ne!(kind, engine::text::PieceKind::Control);
    }
});

/// A model file's header without tensors.
#[derive(Default)]
struct Header {
    entries: u64,
    body: Vec<u8>,
}

impl Header {
    fn key(&mut self, key: &str, kind: u32) {
        self.entries += 1;
        self.string(key);
        self.body.extend(kind.to_le_bytes());
    }

    fn string(&mut self, text: &str) {
        self.body.extend((text.len() as u64).to_le_bytes());
        self.body.extend(text.bytes());
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key, 8);
        self.string(text);
    }

    fn number(&mut self, key: &str, number: u32) {
        self.key(key, 4);
        self.body.extend(number.to_le_bytes());
    }

    fn texts<'t>(&mut self, key: &str, texts: impl ExactSizeIterator<Item = &'t str>) {
        self.key(key, 9);
        self.body.extend(8u32.to_le_bytes());
        self.body.extend((texts.len() as u64).to_le_bytes());
        texts.for_each(|text| self.string(text));
    }

    fn numbers(&mut self, key: &str, kind: u32, numbers: impl ExactSizeIterator<Item = [u8; 4]>) {
        self.key(key, 9);
        self.body.extend(kind.to_le_bytes());
        self.body.extend((numbers.len() as u64).to_le_bytes());
        numbers.for_each(|number| self.body.extend(number));
    }

    fn bytes(self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        bytes.extend(self.entries.to_le_bytes());
        bytes.extend(self.body);
        bytes
    }
}
