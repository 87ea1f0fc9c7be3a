//! Token ids against a reference implementation's, for real vocabularies.
//!
//! llama.cpp's source tree carries vocabularies (`models/ggml-vocab-NAME.gguf`) with texts and the ids it makes of them
//! (`.inp`, `.out`). Where it is at hand they are compared; without it this says so and passes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod reference;

use std::path::{Path, PathBuf};

use engine::EngineError;
use engine::file::ModelFile;
use engine::text::Tokenizer;

/// Vocabularies with texts and their ids.
const COMPARED: [&str; 15] = [
    "bert-bge",
    "command-r",
    "deepseek-coder",
    "deepseek-llm",
    "falcon",
    "gemma-4",
    "gpt-2",
    "llama-bpe",
    "llama-spm",
    "mpt",
    "phi-3",
    "qwen2",
    "qwen35",
    "refact",
    "starcoder",
];

/// Vocabularies without texts whose tokenizers are built.
const OPENED: [&str; 3] = ["aquila", "baichuan", "gpt-neox"];

/// Of this one the tree has no ids: they were asked of llama.cpp itself, for the texts of another.
const ASKED: &str = "nomic-bert-moe";
const ASKED_TEXTS: &str = "llama-bpe";
const ASKED_IDS: &str = include_str!("vocabularies/nomic-bert-moe.out");

const BETWEEN_TEXTS: &str = "\n__ggml_vocab_test__\n";

#[test]
fn ids_are_those_of_the_reference() {
    let Some(folder) = folder() else {
        return;
    };
    let mut wrong = Vec::new();
    let beside = |name: &str, extension: &str| {
        let path = path(&folder, name);
        std::fs::read_to_string(format!("{}.{extension}", path.display())).unwrap()
    };
    for name in COMPARED.into_iter().chain([ASKED]) {
        let tokenizer = tokenizer(&path(&folder, name)).unwrap();
        let (texts, expected) = match name {
            ASKED => (beside(ASKED_TEXTS, "inp"), ASKED_IDS.to_owned()),
            name => (beside(name, "inp"), beside(name, "out")),
        };
        let mut compared = 0;
        for (text, expected) in texts.split(BETWEEN_TEXTS).zip(expected.lines()) {
            let expected: Vec<u32> = expected
                .split_whitespace()
                .map(|id| id.parse().unwrap())
                .collect();
            let ids = tokenizer.encode_typed(text);
            compared += 1;
            if ids != expected {
                let at = ids
                    .iter()
                    .zip(&expected)
                    .take_while(|(a, b)| a == b)
                    .count();
                wrong.push(format!(
                    "{name}: {text:?} differs at token {at}: {:?} for {:?}",
                    ids.get(at),
                    expected.get(at)
                ));
            }
        }
        assert!(compared >= 40, "{name}: only {compared} texts");
        println!("{name}: {compared} texts");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_other_vocabulary_is_opened_or_refused_by_name() {
    let Some(folder) = folder() else {
        return;
    };
    for entry in std::fs::read_dir(&folder).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = file
            .strip_prefix("ggml-vocab-")
            .and_then(|rest| rest.strip_suffix(".gguf"))
        else {
            continue;
        };
        let opened = tokenizer(&path(&folder, name));
        if COMPARED.contains(&name) || OPENED.contains(&name) || name == ASKED {
            assert!(opened.is_ok(), "{name}: {opened:?}");
        } else {
            let refused = matches!(&opened, Err(EngineError::UnsupportedFeature { what, .. }) if what.starts_with("tokenizer."));
            assert!(refused, "{name}: {opened:?}");
            println!("refused: {name}: {}", opened.unwrap_err());
        }
    }
}

fn folder() -> Option<PathBuf> {
    reference::llama_cpp("vocabularies").map(|source| source.join("models"))
}

fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("ggml-vocab-{name}.gguf"))
}

fn tokenizer(path: &Path) -> Result<Tokenizer, EngineError> {
    let file = ModelFile::open(path)?;
    Tokenizer::from_metadata(&file.header().metadata).map_err(|problem| problem.of(&file))
}
