//! Stop strings: where an answer ends does not depend on how its text was cut into tokens.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use std::sync::{Arc, LazyLock};

use engine::text::{PieceKind, TextModel};
use proptest::prelude::*;
use tiny::{Kind, Model, Tiny};

static MODEL: LazyLock<Arc<TextModel>> = LazyLock::new(|| {
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
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.gguf");
    Tiny::model(model, tiny::bpe()).write(&path);
    Arc::new(TextModel::open(&path).unwrap())
});

/// The bytes of the pieces that are text, which come first.
static BYTES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let pieces = MODEL.tokenizer().vocabulary().pieces();
    let text = pieces.take_while(|&(_, _, kind)| kind == PieceKind::Normal);
    text.map(|(_, piece, _)| piece.chars().filter_map(tiny::byte_of).collect())
        .collect()
});

/// The stop string that is complete first ends the text where it begins; of several complete at once the longest.
fn obviously<'t>(text: &'t str, stop: &[String]) -> (&'t str, bool) {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    for end in ends {
        let complete = stop
            .iter()
            .filter(|stop| text[..end].ends_with(stop.as_str()));
        if let Some(longest) = complete.map(String::len).max() {
            return (&text[..end - longest], true);
        }
    }
    (text, false)
}

fn words(count: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let parts = [
        "a",
        "b",
        "ab",
        "he",
        "hello",
        " w",
        "é",
        "\u{1F600}",
        "\u{1F601}",
        "\n",
    ];
    proptest::collection::vec(proptest::sample::select(parts.to_vec()), count)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn borders_of_tokens_do_not_matter(
        text in words(0..30),
        stop in proptest::collection::vec(words(1..5), 0..4),
        cuts in proptest::collection::vec(any::<u32>(), 200),
        together in 1usize..4,
    ) {
        let mut rest = text.as_bytes();
        let mut ids: Vec<u32> = Vec::new();
        let mut cuts = cuts.into_iter().cycle();
        while !rest.is_empty() {
            let fitting: Vec<usize> = (0..BYTES.len())
                .filter(|&id| rest.starts_with(&BYTES[id]))
                .collect();
            let id = fitting[cuts.next().unwrap() as usize % fitting.len()];
            rest = &rest[BYTES[id].len()..];
            ids.push(id as u32);
        }
        let (expected, stops) = obviously(&text, &stop);
        let mut detokenizer = MODEL.detokenizer(stop);
        let mut told = String::new();
        let mut stopped = false;
        for ids in ids.chunks(together) {
            let piece = detokenizer.push(ids);
            prop_assert!(!stopped || piece.text.is_empty());
            stopped |= piece.stopped;
            told.push_str(&piece.text);
            // Never more than what is certain.
            prop_assert!(expected.starts_with(&told), "{told:?} of {expected:?}");
        }
        prop_assert_eq!(stopped, stops);
        told.push_str(&detokenizer.finish().text);
        prop_assert_eq!(told, expected);
    }
}
