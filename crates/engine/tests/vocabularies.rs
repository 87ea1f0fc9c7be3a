//! Token ids against a reference implementation's, for real vocabularies.
//!
//! llama.cpp's source tree carries vocabularies (`models/ggml-vocab-NAME.gguf`) with texts and the ids it makes of them
//! (`.inp`, `.out`). With that folder in `$DECENTRALGPT_VOCABULARIES` they are compared; without it this says so and
//! passes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::path::PathBuf;

use engine::file::ModelFile;
use engine::text::Tokenizer;

/// Those whose tokenizers are built here.
const NAMES: [&str; 10] = [
    "llama-bpe",
    "llama-spm",
    "qwen2",
    "gpt-2",
    "deepseek-llm",
    "deepseek-coder",
    "starcoder",
    "refact",
    "command-r",
    "phi-3",
];

const BETWEEN_TEXTS: &str = "\n__ggml_vocab_test__\n";

#[test]
fn ids_are_those_of_the_reference() {
    let Some(folder) = std::env::var_os("DECENTRALGPT_VOCABULARIES").map(PathBuf::from) else {
        println!("skipped: DECENTRALGPT_VOCABULARIES names no folder");
        return;
    };
    let mut wrong = Vec::new();
    for name in NAMES {
        let path = folder.join(format!("ggml-vocab-{name}.gguf"));
        let beside =
            |extension: &str| std::fs::read_to_string(format!("{}.{extension}", path.display()));
        let (Ok(texts), Ok(expected)) = (beside("inp"), beside("out")) else {
            println!("skipped: {name} is not there");
            continue;
        };
        let file = ModelFile::open(&path).unwrap();
        let tokenizer = Tokenizer::from_metadata(&file.header().metadata).unwrap();
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
        println!("{name}: {compared} texts");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
