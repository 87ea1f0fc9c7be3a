//! Files that nobody should trust: whatever is done to one, the answer is a typed error or a file that holds together.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use std::path::Path;

use engine::file::{ModelFile, parse};
use engine::text::TextModel;
use engine::{ChatPrompt, EngineError, FileProblem};
use proptest::prelude::*;
use tiny::{Kind, Meta, Model, Tiny};

fn small(tokenizer: Vec<(String, Meta)>) -> Tiny {
    let model = Model {
        architecture: "llama",
        layers: 1,
        hidden: 32,
        heads: 2,
        kv_heads: 1,
        feed_forward: 32,
        tied: true,
        kind: Kind::Q8_0,
    };
    Tiny::model(model, tokenizer)
}

/// Opens bytes as a file and uses everything that text work uses. It must come back, with whatever result.
fn use_it(bytes: &[u8], dir: &Path) -> Result<(), EngineError> {
    let path = dir.join("file.gguf");
    std::fs::write(&path, bytes).unwrap();
    let file = ModelFile::open(&path)?;
    for tensor in &file.header().tensors {
        if let Ok(data) = file.tensor_bytes(tensor) {
            assert_eq!(Some(data.len() as u64), tensor.bytes());
        }
    }
    let model = std::sync::Arc::new(TextModel::open(&path)?);
    let ids = model.render(&ChatPrompt::ask("hello world <|im_end|> é 😀"), &path)?;
    let vocabulary = model.tokenizer().vocabulary().len();
    assert!(ids.iter().all(|&id| id < vocabulary));
    model.detokenizer(vec!["world".into()]).push(&ids);
    Ok(())
}

#[test]
fn every_truncation_is_an_error_or_a_head() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = small(tiny::bpe()).bytes();
    let head = parse(&bytes).unwrap().head_len as usize;
    for cut in (0..head).step_by(7).chain(head - 3..head) {
        let refused = use_it(&bytes[..cut], dir.path());
        assert!(
            matches!(refused, Err(EngineError::BadFile { .. })),
            "cut at {cut}: {refused:?}"
        );
    }
    use_it(&bytes[..head], dir.path()).unwrap();
    for cut in [
        bytes.len() - 1,
        bytes.len() - 33,
        (head + 64 + bytes.len()) / 2,
    ] {
        let Err(EngineError::BadFile { problem, .. }) = use_it(&bytes[..cut], dir.path()) else {
            panic!("a file cut in its weights was accepted");
        };
        assert!(
            matches!(problem, FileProblem::Truncated { .. }),
            "{problem:?}"
        );
    }
    use_it(&bytes, dir.path()).unwrap();
}

#[test]
fn lies_about_sizes_are_refused_with_the_number() {
    let whole = small(tiny::bpe()).bytes();
    let with = |at: usize, value: u64| {
        let mut bytes = whole.clone();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        parse(&bytes)
    };
    for value in [u64::MAX, u64::MAX / 2, 1 << 40, 100_000] {
        assert!(
            matches!(with(8, value), Err(FileProblem::TooLarge { value: told, .. }) if told == value),
            "tensors"
        );
        assert!(
            matches!(with(16, value), Err(FileProblem::TooLarge { value: told, .. }) if told == value),
            "entries"
        );
        // The first key's length.
        assert!(with(24, value).is_err());
    }
}

#[test]
fn tables_that_contradict_themselves_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |change: &dyn Fn(&mut Tiny)| {
        let mut file = small(tiny::bpe());
        change(&mut file);
        let outcome = use_it(&file.bytes(), dir.path());
        assert!(
            matches!(
                outcome,
                Err(EngineError::BadFile { .. }
                    | EngineError::UnsupportedFeature { .. }
                    | EngineError::Template { .. })
            ),
            "{outcome:?}"
        );
    };
    refused(&|file| file.set("tokenizer.ggml.token_type", Meta::I32s(vec![1; 3])));
    refused(&|file| file.set("tokenizer.ggml.tokens", Meta::Texts(vec![])));
    refused(&|file| file.set("tokenizer.ggml.tokens", Meta::U32(7)));
    refused(&|file| file.set("tokenizer.ggml.model", Meta::Text("rwkv".into())));
    refused(&|file| file.set("tokenizer.ggml.pre", Meta::Text("unheard-of".into())));
    refused(&|file| file.set("general.alignment", Meta::U32(3)));
    refused(&|file| file.set("general.alignment", Meta::U32(0)));
    refused(&|file| file.set("llama.block_count", Meta::U32(u32::MAX)));
    refused(&|file| file.set("llama.attention.head_count", Meta::U32(0)));
    refused(&|file| file.set("llama.embedding_length", Meta::F32(f32::NAN)));
    refused(&|file| {
        file.set(
            "llama.attention.layer_norm_rms_epsilon",
            Meta::F32(f32::NAN),
        )
    });
    refused(&|file| {
        file.set(
            "tokenizer.chat_template",
            Meta::Text("{{ messages[0".into()),
        )
    });
    refused(&|file| {
        file.set(
            "tokenizer.chat_template",
            Meta::Text(
                "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
                    .into(),
            ),
        )
    });
    refused(&|file| {
        let twice = file.tensors[0].clone();
        file.tensors.push(twice);
    });
}

#[test]
fn a_missing_or_strange_path_is_told() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        ModelFile::open(&dir.path().join("none")),
        Err(EngineError::BadFile { .. })
    ));
    assert!(matches!(
        ModelFile::open(dir.path()),
        Err(EngineError::BadFile { .. })
    ));
    std::fs::write(dir.path().join("empty"), "").unwrap();
    assert!(matches!(
        ModelFile::open(&dir.path().join("empty")),
        Err(EngineError::BadFile { .. })
    ));
}

#[test]
fn sentencepiece_spells_what_it_does_not_know() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spm.gguf");
    small(tiny::spm()).write(&path);
    let model = std::sync::Arc::new(TextModel::open(&path).unwrap());
    let piece = |id: &u32| {
        model
            .tokenizer()
            .vocabulary()
            .piece(*id)
            .unwrap()
            .0
            .to_owned()
    };
    let ids = model.tokenizer().encode_typed("hello world");
    assert_eq!(
        ids.iter().map(piece).collect::<Vec<_>>(),
        ["▁hello", "▁world"]
    );
    let ids = model.tokenizer().encode_typed("é");
    assert_eq!(
        ids.iter().map(piece).collect::<Vec<_>>(),
        ["▁", "<0xC3>", "<0xA9>"]
    );
    let mut text = model.detokenizer(vec![]);
    assert_eq!(text.push(&ids[..2]).text, "");
    assert_eq!(text.push(&ids[2..]).text, "é");
    // The template's own begin token is not doubled, and typed markup stays text.
    let ids = model
        .render(&ChatPrompt::ask("[/INST] </s> <0x41>"), &path)
        .unwrap();
    assert_eq!(ids.iter().filter(|&&id| id == 1).count(), 1);
    let commands: Vec<String> = ids
        .iter()
        .map(piece)
        .filter(|piece| piece.len() > 2 && !piece.starts_with("<0x") && piece.ends_with([']', '>']))
        .collect();
    assert_eq!(commands, ["<s>", "[INST]", "[/INST]"]);
    let shown = model.detokenizer(vec![]).push(&ids).text;
    assert!(shown.contains("[/INST] </s> <0x41>"), "{shown}");
}

#[test]
fn typed_markup_is_text_for_a_byte_level_tokenizer_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bpe.gguf");
    small(tiny::bpe()).write(&path);
    let model = std::sync::Arc::new(TextModel::open(&path).unwrap());
    let plain = model.render(&ChatPrompt::ask("x"), &path).unwrap();
    let typed = "<|im_end|><think>\u{e000}<|im_<|im_start|>start|>";
    let ids = model.render(&ChatPrompt::ask(typed), &path).unwrap();
    let commands = |ids: &[u32]| ids.iter().filter(|&&id| id >= 262).count();
    assert_eq!(commands(&ids), commands(&plain));
    assert!(model.detokenizer(vec![]).push(&ids).text.contains(typed));
    // What the model itself said before keeps its markup, though not its control tokens.
    let mut said = ChatPrompt::ask("x");
    said.messages.push(engine::ChatMessage::new(
        engine::Role::Assistant,
        "<think>a</think><|im_end|>",
    ));
    let ids = model.render(&said, &path).unwrap();
    assert_eq!(
        commands(&ids),
        commands(&plain) + 3,
        "two of the message's frame, one of its thought"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn mutated_files_never_panic(
        of_spm in any::<bool>(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        words in proptest::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            Just(u64::MAX), Just(1 << 32), Just(1 << 63), Just(0), Just(9), any::<u64>()
        ]), 0..3),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = small(if of_spm { tiny::spm() } else { tiny::bpe() }).bytes();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for (at, word) in words {
            let at = at.index(bytes.len() - 8);
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        use_it(&bytes, dir.path()).ok();
    }

    #[test]
    fn stop_strings_are_never_shown_and_nothing_else_is_lost(
        text in "[abc<> ]{0,60}|[aé😀 ]{0,30}",
        stop in proptest::collection::vec("[abc<>é]{1,4}", 0..3),
        cuts in proptest::collection::vec(1usize..5, 1..40),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bpe.gguf");
        small(tiny::bpe()).write(&path);
        let model = std::sync::Arc::new(TextModel::open(&path).unwrap());
        let ids = model.tokenizer().encode_typed(&text);
        let mut detokenizer = model.detokenizer(stop.clone());
        let (mut shown, mut rest, mut cut) = (String::new(), ids.as_slice(), cuts.iter().cycle());
        let mut stopped = false;
        while !rest.is_empty() && !stopped {
            let (now, later) = rest.split_at((*cut.next().unwrap()).min(rest.len()));
            let piece = detokenizer.push(now);
            shown.push_str(&piece.text);
            stopped = piece.stopped;
            rest = later;
        }
        if !stopped {
            shown.push_str(&detokenizer.finish().text);
        }
        // The first end of a stop string decides, as it does when text arrives byte by byte.
        let ends = stop.iter().flat_map(|stop| text.match_indices(stop.as_str()).map(|(at, stop)| (at + stop.len(), at)));
        let first = ends.min_by_key(|&(end, at)| (end, at));
        prop_assert_eq!(stopped, first.is_some());
        if let Some((_, at)) = first {
            prop_assert_eq!(shown.as_str(), &text[..at]);
        } else {
            prop_assert_eq!(shown, text);
        }
    }
}
