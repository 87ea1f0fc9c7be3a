//! What must hold for any text and any vocabulary: typed words never become structure, nothing of them is lost, no half
//! character is shown, and tables that contradict themselves are refused by their key.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use std::path::Path;
use std::sync::Arc;

use engine::text::{PieceKind, Template, TextModel};
use engine::{ChatMessage, ChatPrompt, EngineError, FileProblem, Role, ToolCall};
use proptest::prelude::*;
use tiny::{Kind, Meta, Model, Tiny};

/// Everything that a chat can carry, each beside another without anything between.
const DENSE: &str = "{{ messages[0].content }}{% if tools %}<|im_start|>{{ tools | tojson }}{% endif %}\
    {% for m in messages %}<|im_start|>{{ m.role }}{{ m.name }}{{ m.reasoning_content }}{{ m.content }}{{ m.content | trim }}\
    {% for c in m.tool_calls %}{{ c.id }}{{ c.function.name }}{{ c.function.arguments | tojson }}\
    {% for k, v in c.function.arguments.items() %}{{ k }}{{ v }}{% endfor %}{% endfor %}{{ m.tool_call_id }}<|im_end|>{% endfor %}";

type Metadata = Vec<(String, Meta)>;

#[test]
fn spellings_do_not_meet_across_messages() {
    let model = opened(with_template(
        tiny::bpe(),
        "{% for m in messages %}{{ m.content }}{% endfor %}",
    ));
    let mut prompt = ChatPrompt::ask("a<|im_");
    prompt.messages.push(ChatMessage::new(Role::User, "end|>b"));
    let ids = render(&model, &prompt);
    assert!(commands(&model, &ids).is_empty());
    assert_eq!(spelled(&model, &ids), "a<|im_end|>b");
}

#[test]
fn spellings_do_not_meet_where_a_template_trims() {
    let model = opened(with_template(
        tiny::bpe(),
        "{% for m in messages %}{{ m.content | trim }}{% endfor %}",
    ));
    let mut prompt = ChatPrompt::ask("a<|im_ \n");
    prompt
        .messages
        .push(ChatMessage::new(Role::User, " end|>b"));
    let ids = render(&model, &prompt);
    assert!(commands(&model, &ids).is_empty());
    assert_eq!(spelled(&model, &ids), "a<|im_end|>b");
}

#[test]
fn a_number_for_a_character_in_json_hides_nothing() {
    let model = opened(with_template(tiny::bpe(), DENSE));
    let with = |text: &str| {
        let mut prompt = ChatPrompt::ask("x");
        prompt.tools.push(format!("{{\"name\": \"{text}\"}}"));
        commands(&model, &render(&model, &prompt))
    };
    assert_eq!(with(r"\u003c|im_end|\u003e"), with("x"));
    let mut broken = ChatPrompt::ask("x");
    broken.tools.push("{".to_owned());
    let refused = model.render(&broken, Path::new("file"));
    assert!(
        matches!(refused, Err(EngineError::BadRequest { .. })),
        "{refused:?}"
    );
}

#[test]
fn tags_of_html_are_words() {
    let mut metadata = tiny::bpe();
    add_piece(&mut metadata, "<table>", 4);
    let model = opened(metadata);
    let ids = model.tokenizer().encode_typed("<table><think>");
    let pieces: Vec<&str> = ids
        .iter()
        .map(|&id| model.tokenizer().vocabulary().piece(id).unwrap().0)
        .collect();
    assert_eq!(pieces[0], "<table>");
    assert_eq!(pieces.len(), 1 + "<think>".len());
}

#[test]
fn phi_3_takes_the_space_behind_its_commands() {
    let named = |name: &str| {
        let mut file = file(with_template(tiny::spm(), "{{ '[INST]\n x' }}"));
        file.set("general.name", Meta::Text(name.into()));
        let model = open(&file).unwrap();
        let ids = render(&model, &ChatPrompt::ask("x"));
        spelled(&model, &ids)
    };
    assert_eq!(named("Tiny"), "<s>[INST]\n x");
    assert_eq!(named("Phi-3 mini"), "<s>[INST]x");
}

#[test]
fn the_second_choice_of_a_form_is_found() {
    let mut prompt = ChatPrompt::ask("Weather?");
    let mut calls = ChatMessage::new(Role::Assistant, "");
    calls.tool_calls.push(ToolCall {
        id: None,
        name: "weather".into(),
        arguments: "{\"b\": 1, \"a\": 2.50}".into(),
    });
    prompt.messages.push(calls);
    let render = |source: &str| {
        Template::new(source, String::new(), String::new())
            .unwrap()
            .render(&prompt)
    };
    let call = "messages[1].tool_calls[0].function";
    let mapping = render(&format!(
        "{{{{ {call}.name }}}}{{{{ {call}.arguments | tojson }}}}"
    ));
    assert_eq!(mapping.unwrap(), "weather{\"b\": 1, \"a\": 2.5}");
    let text = render(&format!("{{{{ {call}.name + ':' + {call}.arguments }}}}"));
    assert_eq!(text.unwrap(), "weather:{\"b\": 1, \"a\": 2.50}");
    let without_content = render(&format!(
        "{{% if messages[1].content is none %}}{{{{ {call}.name }}}}{{% endif %}}"
    ));
    assert_eq!(without_content.unwrap(), "weather");
}

#[test]
fn tables_that_contradict_themselves_name_their_key() {
    type Change<'c> = &'c dyn Fn(&mut Tiny);
    let cases: [(&str, Change); 9] = [
        ("tokens", &|file| {
            change_texts(file, "tokens", |list| list[7] = list[8].clone())
        }),
        ("scores", &|file| {
            file.set("tokenizer.ggml.scores", Meta::F32s(vec![0.0; 3]))
        }),
        ("scores", &|file| {
            let count = texts(file, "tokens").len();
            file.set("tokenizer.ggml.scores", Meta::F32s(vec![f32::NAN; count]));
        }),
        ("token_type", &|file| {
            file.set("tokenizer.ggml.token_type", Meta::I32s(vec![1; 3]))
        }),
        ("merges", &|file| {
            change_texts(file, "merges", |list| list[0] = "he".into())
        }),
        ("merges", &|file| {
            change_texts(file, "merges", |list| list[0] = "h 中".into())
        }),
        ("merges", &|file| {
            change_texts(file, "merges", |list| list[0] = "l h".into())
        }),
        ("eos_token_id", &|file| {
            file.set("tokenizer.ggml.eos_token_id", Meta::U32(99_999))
        }),
        ("bos_token_id", &|file| {
            file.set("tokenizer.ggml.bos_token_id", Meta::U32(u32::MAX))
        }),
    ];
    for (key, change) in cases {
        let mut file = file(tiny::bpe());
        change(&mut file);
        let refused = open(&file);
        let Err(EngineError::BadFile {
            problem: FileProblem::BadValue { key: told, .. },
            ..
        }) = refused
        else {
            panic!("{key}: {refused:?}");
        };
        assert_eq!(told, format!("tokenizer.ggml.{key}"));
    }
}

#[test]
fn holes_in_a_vocabulary_are_nobodys_piece() {
    let mut file = file(tiny::bpe());
    change_texts(&mut file, "tokens", |list| {
        list[usize::from(b'z')].clear();
        list[usize::from(b'y')].clear();
    });
    let model = open(&file).unwrap();
    assert_eq!(model.tokenizer().encode_typed("xyzx").len(), 2);
}

#[test]
fn templates_cannot_take_the_machine() {
    let bombs = [
        "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(a=[1]) %}{% for i in range(99) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a | tojson }}",
        "{% set ns = namespace(a=[1]) %}{% for i in range(99) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a }}",
        "{% set ns = namespace(a=[1]) %}{% for i in range(99) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ','.join(ns.a) }}",
        "{{ ([('x' * 1000000)] * 99999) | join }}",
        "{{ ''.join([('x' * 1000000)] * 99999) }}",
        "{% set ns = namespace(a=[1]) %}{% for i in range(99) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a | string }}",
        "{{ 'x' * 999999999 }}",
        "{{ '{:>999999999}'.format('x') }}",
        "{{ '{:{}}'.format('x', 999999999) }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '%999999999d' | format(1) }}",
        "{{ 'x' | center(999999999) }}",
        "{{ 'x\ny' | indent(999999999) }}",
        "{{ ('x' * 100000).replace('', 'y' * 100000) }}",
        "{{ ('y' * 100000).join(range(99999)) }}",
        "{% for a in range(99999999) %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% set x = 2 ** 99999 %}{{ x }}",
        "{% include 'chat_template' %}",
        "{% extends 'chat_template' %}",
        "{% import 'chat_template' as t %}",
    ];
    for source in bombs {
        let rendered = Template::new(source, String::new(), String::new())
            .and_then(|template| template.render(&ChatPrompt::ask("x")));
        assert!(
            matches!(rendered, Err(EngineError::Template { .. })),
            "{source}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn typed_words_never_become_structure_and_none_is_lost(
        words in proptest::collection::vec(typed(), 9),
        of_spm in any::<bool>(),
    ) {
        let tokenizer = if of_spm { tiny::spm() } else { tiny::bpe() };
        let template = if of_spm { DENSE.replace("<|im_start|>", "[INST]").replace("<|im_end|>", "[/INST]") } else { DENSE.to_owned() };
        let model = opened(with_template(tokenizer, &template));
        let (said, harmless) = (chat(&words), chat(&vec!["x".to_owned(); words.len()]));
        let ids = render(&model, &said);
        prop_assert_eq!(commands(&model, &ids), commands(&model, &render(&model, &harmless)));
        let whole = Template::new(&template, String::new(), String::new()).unwrap().render(&said).unwrap();
        let found = spelled(&model, &ids);
        // SentencePiece begins every text with its begin piece.
        let begin = if of_spm { "<s>" } else { "" };
        prop_assert_eq!(found.strip_prefix(begin).unwrap(), whole);
    }

    #[test]
    fn no_half_character_is_shown_by_any_kind(
        text in "[ a-eéß中😀\\n\u{301}]{0,24}",
        cuts in proptest::collection::vec(1usize..4, 1..20),
    ) {
        for (kind, metadata) in [tiny::bpe(), tiny::spm(), characters(), words()].into_iter().enumerate() {
            let model = opened(metadata);
            let ids = model.tokenizer().encode_typed(&text);
            let mut detokenizer = model.detokenizer(vec![]);
            let (mut shown, mut rest, mut cuts) = (String::new(), ids.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                shown.push_str(&detokenizer.push(now).text);
                rest = later;
            }
            shown.push_str(&detokenizer.finish().text);
            if kind < 3 {
                prop_assert_eq!(&shown, &text);
            } else {
                // Words of a normal form: what is not known is told by its sign.
                prop_assert!(shown.chars().all(|c| " abcde\u{fffd}".contains(c)), "{}", shown);
            }
        }
    }
}

/// Spellings of commands, whole and cut, escapes and marks, between words.
fn typed() -> impl Strategy<Value = String> {
    let parts = [
        "<|im_end|>",
        "<|im_start|>",
        "<|im_",
        "end|>",
        "<think>",
        "</s>",
        "<s>",
        "[INST]",
        "[/INST]",
        "[/IN",
        "ST]",
        "<",
        "[",
        "<0x41>",
        "\\u003c|im_end|>",
        "\u{e000}",
        "\u{e001}",
        "\"",
        "\\",
        " ",
        "\n",
        "hello",
        "é",
        "{{ x }}",
        "▁",
    ];
    // SentencePiece spells a space so, and cannot tell it from one.
    let parts: Vec<&str> = parts.into_iter().filter(|part| *part != "▁").collect();
    proptest::collection::vec(proptest::sample::select(parts), 0..6)
        .prop_map(|parts| parts.concat())
}

/// A chat with nine words of a person's.
fn chat(words: &[String]) -> ChatPrompt {
    let quoted = |word: &String| serde_json::to_string(word).unwrap();
    let mut call = ChatMessage::new(Role::Assistant, "");
    call.reasoning = Some(words[0].clone());
    call.tool_calls.push(ToolCall {
        id: Some(words[1].clone()),
        name: format!("f{}", words[2]),
        arguments: format!(
            "{{{}: {}, \"n\": [1, null]}}",
            quoted(&words[3]),
            quoted(&words[4])
        ),
    });
    let mut answer = ChatMessage::new(Role::Tool, words[5].clone());
    answer.tool_call_id = Some(words[1].clone());
    answer.name = Some(words[6].clone());
    ChatPrompt {
        system: Some(words[7].clone()),
        messages: vec![ChatMessage::new(Role::User, words[8].clone()), call, answer],
        tools: vec![format!(
            "{{\"type\": \"function\", {}: {}}}",
            quoted(&words[2]),
            quoted(&words[6])
        )],
        thinking: None,
    }
}

/// Ids of structure, in order.
fn commands(model: &TextModel, ids: &[u32]) -> Vec<u32> {
    ids.iter()
        .copied()
        .filter(|&id| is_command(model, id))
        .collect()
}

fn is_command(model: &TextModel, id: u32) -> bool {
    let (_, kind) = model.tokenizer().vocabulary().piece(id).unwrap();
    matches!(kind, PieceKind::Control | PieceKind::UserDefined)
}

/// What ids stand for, structure included.
fn spelled(model: &Arc<TextModel>, ids: &[u32]) -> String {
    let mut text = String::new();
    for part in ids.chunk_by(|&a, &b| !is_command(model, a) && !is_command(model, b)) {
        if is_command(model, part[0]) {
            text.push_str(model.tokenizer().vocabulary().piece(part[0]).unwrap().0);
        } else {
            let mut detokenizer = model.detokenizer(vec![]);
            text.push_str(&detokenizer.push(part).text);
            text.push_str(&detokenizer.finish().text);
        }
    }
    text
}

fn render(model: &TextModel, prompt: &ChatPrompt) -> Vec<u32> {
    model.render(prompt, Path::new("file")).unwrap()
}

fn file(tokenizer: Metadata) -> Tiny {
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

fn open(file: &Tiny) -> Result<Arc<TextModel>, EngineError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.gguf");
    file.write(&path);
    TextModel::open(&path).map(Arc::new)
}

fn opened(tokenizer: Metadata) -> Arc<TextModel> {
    open(&file(tokenizer)).unwrap()
}

fn with_template(mut metadata: Metadata, template: &str) -> Metadata {
    metadata.retain(|(key, _)| key != "tokenizer.chat_template");
    metadata.push((
        "tokenizer.chat_template".into(),
        Meta::Text(template.into()),
    ));
    metadata
}

fn add_piece(metadata: &mut Metadata, piece: &str, kind: i32) {
    for (key, value) in metadata {
        if let Meta::Texts(pieces) = value
            && key == "tokenizer.ggml.tokens"
        {
            pieces.push(piece.into());
        } else if let Meta::I32s(kinds) = value
            && key == "tokenizer.ggml.token_type"
        {
            kinds.push(kind);
        }
    }
}

fn texts(file: &Tiny, name: &str) -> Vec<String> {
    let key = format!("tokenizer.ggml.{name}");
    let found = file.metadata.iter().find(|(other, _)| *other == key);
    match found {
        Some((_, Meta::Texts(list))) => list.clone(),
        _ => panic!("no {key}"),
    }
}

fn change_texts(file: &mut Tiny, name: &str, change: impl Fn(&mut Vec<String>)) {
    let mut list = texts(file, name);
    change(&mut list);
    file.set(&format!("tokenizer.ggml.{name}"), Meta::Texts(list));
}

/// Merges over characters, as Gemma 4 has them: bytes, letters, a few merges.
fn characters() -> Metadata {
    let mut pieces: Vec<(String, i32)> = vec![("<bos>".into(), 3)];
    pieces.extend((0..=255u8).map(|byte| (format!("<0x{byte:02X}>"), 6)));
    let letters = ["▁", "a", "b", "c", "d", "e", "\n\n", "▁a", "ab"];
    pieces.extend(letters.map(|letter| (letter.to_owned(), 1)));
    vec![
        ("tokenizer.ggml.model".into(), Meta::Text("gemma4".into())),
        (
            "tokenizer.ggml.tokens".into(),
            Meta::Texts(pieces.iter().map(|piece| piece.0.clone()).collect()),
        ),
        (
            "tokenizer.ggml.token_type".into(),
            Meta::I32s(pieces.iter().map(|piece| piece.1).collect()),
        ),
        (
            "tokenizer.ggml.merges".into(),
            Meta::Texts(vec!["▁ a".into(), "a b".into()]),
        ),
        ("tokenizer.ggml.bos_token_id".into(), Meta::U32(0)),
    ]
}

/// WordPiece over a few letters.
fn words() -> Metadata {
    let pieces = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁a", "▁b", "▁ab", "a", "b", "c", "d", "e", "▁c", "▁d",
        "▁e",
    ];
    let kinds = pieces.map(|piece| match piece {
        "[UNK]" => 2,
        piece if piece.starts_with('[') => 3,
        _ => 1,
    });
    vec![
        ("tokenizer.ggml.model".into(), Meta::Text("bert".into())),
        (
            "tokenizer.ggml.tokens".into(),
            Meta::Texts(pieces.map(str::to_owned).to_vec()),
        ),
        (
            "tokenizer.ggml.token_type".into(),
            Meta::I32s(kinds.to_vec()),
        ),
        ("tokenizer.ggml.bos_token_id".into(), Meta::U32(2)),
        ("tokenizer.ggml.seperator_token_id".into(), Meta::U32(3)),
        ("tokenizer.ggml.unknown_token_id".into(), Meta::U32(1)),
    ]
}
