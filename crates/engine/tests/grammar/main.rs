//! Answers of a given form: nothing but what fits comes out, whatever the logits, for every kind of vocabulary.
//!
//! The real vocabulary is the starter's, looked for at `$DECENTRALGPT_STARTER` and in the workspace's `models/`; without
//! it those tests say so and pass.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod schemas;
#[path = "../tiny/mod.rs"]
mod tiny;
mod words;

use std::time::{Duration, Instant};

use engine::grammar::{Grammars, Matcher};
use engine::sampler::Mask;
use engine::{Constraint, ConstraintProblem, EngineError, Sampling};
use proptest::prelude::*;
use schemas::{satisfies, schemas};
use serde_json::{Value, json};
use tiny::Meta;
use words::{Words, all_kinds, noise, spm_with_end_twice, tokenizer_of};

#[test]
fn random_logits_under_a_schema_give_json_that_satisfies_it() {
    for (kind, words) in all_kinds() {
        for schema in schemas() {
            let constraint = Constraint::JsonSchema(schema.to_string());
            for seed in 0..6 {
                let sampling = Sampling {
                    temperature: [0.0, 0.7, 1.5][seed as usize % 3],
                    seed,
                    ..Sampling::default()
                };
                let mut matcher = words.compile(&constraint).unwrap();
                let ids = words.answer(&mut matcher, &sampling);
                let text = String::from_utf8(words.text(&ids)).unwrap();
                let value: Value = serde_json::from_str(&text).unwrap();
                assert!(
                    satisfies(&schema, &schema, &value),
                    "{kind}: {text} for {schema}"
                );
            }
        }
    }
}

#[test]
fn random_logits_under_an_expression_or_a_grammar_give_what_it_matches() {
    // A regular expression of the language, beside the constraint.
    let cases = [
        (Constraint::Regex("[a-f]{3,9}".into()), "[a-f]{3,9}"),
        (
            Constraint::Regex("(é|😀){1,3}/ok".into()),
            "(é|😀){1,3}/ok",
        ),
        (
            Constraint::Regex(r"\d{4}-\d{2}\n[^a-z]?".into()),
            r"\d{4}-\d{2}\n[^a-z]?",
        ),
        (
            Constraint::Lark(
                "start: pair (\",\" pair)~0..3\npair: NAME \"=\" NUMBER\nNAME: /[a-z]{1,5}/\nNUMBER: /[1-9][0-9]{0,3}/"
                    .into(),
            ),
            "[a-z]{1,5}=[1-9][0-9]{0,3}(,[a-z]{1,5}=[1-9][0-9]{0,3}){0,3}",
        ),
    ];
    for (kind, words) in all_kinds() {
        for (constraint, language) in &cases {
            let language = regex::Regex::new(&format!("^(?:{language})$")).unwrap();
            for seed in 0..10 {
                let sampling = Sampling {
                    temperature: 1.0,
                    seed,
                    ..Sampling::default()
                };
                let mut matcher = words.compile(constraint).unwrap();
                let text = words.text(&words.answer(&mut matcher, &sampling));
                let text = String::from_utf8(text).unwrap();
                assert!(language.is_match(&text), "{kind}: {text:?}");
            }
        }
    }
}

#[test]
fn an_answer_resumed_or_taken_back_goes_on_as_if_never_interrupted() {
    for (kind, words) in all_kinds() {
        let constraint = Constraint::JsonSchema(schemas()[0].to_string());
        let sampling = Sampling {
            temperature: 1.0,
            seed: 3,
            ..Sampling::default()
        };
        let ids = words.answer(&mut words.compile(&constraint).unwrap(), &sampling);
        let mut straight = words.compile(&constraint).unwrap();
        let masks: Vec<Mask> = ids
            .iter()
            .map(|&id| {
                let mask = straight.mask().unwrap();
                straight.advance(id).unwrap();
                mask
            })
            .collect();
        let last = straight.mask().unwrap();
        let end = words.vocabulary().eog_ids()[0];
        straight.advance(end).unwrap();
        for cut in (0..ids.len()).step_by(7.min(ids.len())) {
            let mut resumed = words.compile(&constraint).unwrap();
            resumed.resume(&ids[..cut]).unwrap();
            assert_eq!(resumed.mask().unwrap(), masks[cut], "{kind} at {cut}");
            let mut back = words.compile(&constraint).unwrap();
            back.resume(&ids).unwrap();
            back.advance(end).unwrap();
            back.rollback((ids.len() - cut + 1) as u32).unwrap();
            assert_eq!(back.mask().unwrap(), masks[cut], "{kind} back to {cut}");
            back.resume(&ids[cut..]).unwrap();
            assert_eq!(back.mask().unwrap(), last);
            let wrong = back.rollback(ids.len() as u32 + 1);
            assert!(matches!(wrong, Err(EngineError::BadConstraint { .. })));
        }
    }
}

#[test]
fn a_foreign_answer_that_does_not_fit_is_refused_at_its_token() {
    let words = Words::made_up(tiny::bpe());
    let constraint = Constraint::Regex("abc".into());
    let ids = words.tokenizer.encode_typed("abd");
    let mut matcher = words.compile(&constraint).unwrap();
    let refused = matcher.resume(&ids);
    let at = |index| {
        Err(EngineError::BadConstraint {
            problem: ConstraintProblem::Differs { index },
        })
    };
    assert_eq!(refused, at(2));
    let end = words.vocabulary().eog_ids()[0];
    let mut matcher = words.compile(&constraint).unwrap();
    assert_eq!(matcher.resume(&[ids[0], end]), at(1));
    let mut matcher = words.compile(&constraint).unwrap();
    assert!(matcher.resume(&[u32::MAX]).is_err());
    let mut matcher = words.compile(&constraint).unwrap();
    let ids = words.tokenizer.encode_typed("abc");
    matcher.resume(&ids).unwrap();
    assert!(matcher.is_complete());
    assert!(matcher.mask().unwrap().allows(end) && !matcher.mask().unwrap().allows(ids[0]));
    assert_eq!(matcher.resume(&[ids[0]]), at(3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// The mask against its obvious definition, for languages of a few texts: a token is allowed when some text begins
    /// with what is there and the token, an end token when what is there is a text.
    #[test]
    fn a_mask_is_what_can_still_become_a_text(
        texts in proptest::collection::vec(
            proptest::collection::vec(proptest::sample::select(vec!["h", "e", "l", "o", " w", "é", "\u{1F600}", "\"", "\\"]), 1..7),
            1..5,
        ),
        steps in proptest::collection::vec(any::<u32>(), 12),
        byte_level in any::<bool>(),
    ) {
        let words = Words::made_up(if byte_level { tiny::bpe() } else { spm_with_end_twice() });
        let texts: Vec<String> = texts.iter().map(|parts| parts.concat()).collect();
        let quoted: Vec<String> = texts.iter().map(|text| serde_json::to_string(text).unwrap()).collect();
        let constraint = Constraint::Lark(format!("start: {}", quoted.join(" | ")));
        let mut matcher = words.compile(&constraint).unwrap();
        let mut there: Vec<u8> = Vec::new();
        for step in steps {
            let mask = matcher.mask().unwrap();
            let mut open = Vec::new();
            for id in 0..words.vocabulary().len() {
                let bytes = &words.bytes[id as usize];
                let longer = [there.as_slice(), bytes].concat();
                let fits = if words.is_end(id) {
                    texts.iter().any(|text| text.as_bytes() == there)
                } else {
                    !bytes.is_empty() && texts.iter().any(|text| text.as_bytes().starts_with(&longer))
                };
                prop_assert_eq!(mask.allows(id), fits, "{:?} after {:?}", bytes, there);
                if fits {
                    open.push(id);
                }
            }
            let id = open[step as usize % open.len()];
            matcher.advance(id).unwrap();
            if words.is_end(id) {
                break;
            }
            there.extend(&words.bytes[id as usize]);
        }
    }
}

fn problem(result: Result<Matcher, EngineError>) -> ConstraintProblem {
    match result {
        Err(EngineError::BadConstraint { problem }) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_cannot_be_met_is_refused_before_anything_is_computed() {
    let words = Words::made_up(tiny::bpe());
    let refused = |constraint: Constraint| match words.compile(&constraint) {
        Ok(_) => panic!("{constraint:?} compiles"),
        failed => problem(failed),
    };
    let schema = |schema: Value| Constraint::JsonSchema(schema.to_string());
    let lark = |text: &str| Constraint::Lark(text.to_owned());
    let cases = [
        // Nothing fits.
        schema(json!(false)),
        schema(json!({ "not": {} })),
        schema(json!({ "type": "string", "enum": [1, 2] })),
        schema(json!({ "type": "integer", "minimum": 5, "maximum": 4 })),
        schema(json!({ "allOf": [{ "type": "string" }, { "type": "null" }] })),
        Constraint::Regex("[^\\s\\S]".into()),
        lark("start: A & B\nA: \"a\"\nB: \"b\""),
        // Mistakes.
        Constraint::JsonSchema("{".into()),
        schema(json!(3)),
        schema(json!({ "type": "text" })),
        schema(json!({ "$ref": "#/nowhere" })),
        schema(json!({ "$ref": "https://example.org/schema" })),
        Constraint::Regex("(".into()),
        Constraint::Regex("a{3,2}".into()),
        lark(""),
        lark("start: nothing"),
        lark("begin: \"a\""),
        // Would be more than a function of the text.
        lark("start: <|im_start|>"),
        lark("start: \"a\" <[2]>"),
        lark("start: <[*]>"),
        lark("start: x \"b\"\nx[max_tokens=3]: /a*/"),
        lark("start: x \"b\"\nx[stop=\"b\"]: /.*/"),
    ];
    for constraint in cases {
        let problem = refused(constraint.clone());
        assert!(
            matches!(
                problem,
                ConstraintProblem::Refused { .. } | ConstraintProblem::Stuck { .. }
            ),
            "{constraint:?}: {problem:?}"
        );
        let told = problem.to_string();
        assert!(
            !told.is_empty() && told.len() < 1300 && !told.contains("panic"),
            "{told}"
        );
    }
}

#[test]
fn a_schema_does_not_bring_the_compilers_own_options() {
    let words = Words::made_up(tiny::bpe());
    let schema = json!({
        "x-guidance": { "whitespace_pattern": "x", "lenient": true },
        "type": "array", "items": { "type": "null" }, "minItems": 1
    });
    let mut matcher = words
        .compile(&Constraint::JsonSchema(schema.to_string()))
        .unwrap();
    let ids = words.tokenizer.encode_typed("[ null ]");
    matcher.resume(&ids).unwrap();
    let unknown =
        json!({ "type": "array", "uniqueItems": true, "x-guidance": { "lenient": true } });
    problem(words.compile(&Constraint::JsonSchema(unknown.to_string())));
}

#[test]
fn a_model_without_an_end_token_is_refused() {
    let mut metadata = tiny::bpe();
    metadata.retain(|(key, _)| key != "tokenizer.ggml.eos_token_id");
    for (key, value) in &mut metadata {
        if let (true, Meta::Texts(pieces)) = (key == "tokenizer.ggml.tokens", value) {
            for piece in pieces.iter_mut().filter(|piece| *piece == "<|im_end|>") {
                *piece = "<|nothing|>".into();
            }
        }
    }
    let refused = Grammars::new(tokenizer_of(metadata).vocabulary());
    let expected = EngineError::BadConstraint {
        problem: ConstraintProblem::NoEndToken,
    };
    assert_eq!(refused.err(), Some(expected));
}

#[test]
fn a_hostile_vocabulary_is_indexed_or_refused() {
    let mut metadata = tiny::bpe();
    for (key, value) in &mut metadata {
        match (key.as_str(), value) {
            ("tokenizer.ggml.tokens", Meta::Texts(pieces)) => {
                // Long, and empty. (A table with a piece twice is refused before it comes here.)
                pieces.extend(["a".repeat(5000), String::new(), "Ā".repeat(600)]);
            }
            ("tokenizer.ggml.token_type", Meta::I32s(kinds)) => kinds.extend([1, 1, 1]),
            _ => {}
        }
    }
    let words = Words::made_up(metadata);
    let he = (0..words.vocabulary().len()).find(|&id| words.bytes[id as usize] == b"he");
    let he = he.unwrap();
    let mut matcher = words.compile(&Constraint::Regex("hex".into())).unwrap();
    assert!(matcher.mask().unwrap().allows(he));
    matcher.advance(he).unwrap();

    let mut many = tiny::bpe();
    for (key, value) in &mut many {
        match (key.as_str(), value) {
            ("tokenizer.ggml.tokens", Meta::Texts(pieces)) => {
                pieces.extend((0..10_000).map(|at| format!("{at:0400}")));
            }
            ("tokenizer.ggml.token_type", Meta::I32s(kinds)) => kinds.extend([1; 10_000]),
            _ => {}
        }
    }
    let refused = Grammars::new(tokenizer_of(many).vocabulary());
    assert!(matches!(
        refused,
        Err(EngineError::UnsupportedFeature { .. })
    ));
}

/// Constraints made to cost much. Each is refused or works, within the time that one may take.
fn bombs() -> Vec<(&'static str, Constraint)> {
    let many = |count: usize, item: &dyn Fn(usize) -> String, between: &str| {
        (0..count).map(item).collect::<Vec<_>>().join(between)
    };
    let choice = |letter: char| {
        format!(
            "{{\"anyOf\":[{}]}}",
            many(
                6,
                &|at| format!(
                    "{{\"type\":\"object\",\"properties\":{{\"{letter}{at}\":{{\"type\":\"string\"}}}}}}"
                ),
                ","
            )
        )
    };
    vec![
        ("repetition of repetition", Constraint::Regex("((a{1000}){1000}){1000}b".into())),
        ("wide repetition", Constraint::Regex("(.{0,5000}x){0,5000}y".into())),
        ("exponential automaton", Constraint::Regex("(a|b)*a(a|b){200}c".into())),
        ("many alternatives", Constraint::Regex(many(6000, &|at| format!("w{at}.*"), "|"))),
        ("deep brackets", Constraint::Regex("(".repeat(30_000) + &")".repeat(30_000))),
        ("classes", Constraint::Regex(r"\p{L}{1,400}\p{N}{1,400}\w{400}".into())),
        ("rules in a chain", Constraint::Lark(format!("start: r0\n{}\nr4000: \"a\"", many(4000, &|at| format!("r{at}: r{}", at + 1), "\n")))),
        ("terminals in a chain", Constraint::Lark(format!("start: T0\n{}\nT3300: \"a\"", many(3300, &|at| format!("T{at}: \"a\" T{}", at + 1), "\n")))),
        ("terminals doubled", Constraint::Lark(format!("start: T0\n{}\nT60: \"a\"", many(60, &|at| format!("T{at}: T{} T{}", at + 1, at + 1), "\n")))),
        ("rules doubled", Constraint::Lark(format!("start: r0\n{}\nr60: \"a\"", many(60, &|at| format!("r{at}: r{} r{}", at + 1, at + 1), "\n")))),
        ("ambiguous", Constraint::Lark("start: s\ns: s s s | s s | \"a\" | ".into())),
        ("endless", Constraint::Lark("start: \"a\" start".into())),
        ("recursion to the right", Constraint::Lark("start: s\ns: /[a-z]/ s | t\nt: \"a\" t \"b\" | s".into())),
        ("counted rule", Constraint::Lark("start: s{1000000}\ns: (\"a\" | \"b\"){1000}".into())),
        ("negation", Constraint::Lark("start: T\nT: ~(/(.*a.{30}){30}/) & /(.*b.{30}){30}/".into())),
        ("schema in a grammar", Constraint::Lark("start: %json {\"type\":\"string\",\"maxLength\":100000000} ".into())),
        ("long string", Constraint::JsonSchema("{\"type\":\"string\",\"minLength\":50000,\"maxLength\":100000}".into())),
        ("long array", Constraint::JsonSchema("{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"minItems\":1000000,\"maxItems\":2000000}".into())),
        ("long arrays in arrays", Constraint::JsonSchema("{\"type\":\"array\",\"minItems\":3000,\"items\":".repeat(12) + "true" + &"}".repeat(12))),
        ("many patterns", Constraint::JsonSchema(format!("{{\"type\":\"object\",\"patternProperties\":{{{}}}}}", many(2500, &|at| format!("\"^a{at}.*b\":true"), ",")))),
        ("choices multiplied", Constraint::JsonSchema(format!("{{\"allOf\":[{}]}}", many(8, &|at| choice((b'a' + at as u8) as char), ",")))),
        ("properties", Constraint::JsonSchema(format!("{{\"type\":\"object\",\"properties\":{{{}}}}}", many(2500, &|at| format!("\"property{at}\":{{}}"), ",")))),
        ("enumeration", Constraint::JsonSchema(format!("{{\"enum\":[{}]}}", many(7000, &|at| format!("\"v{at}\""), ",")))),
        ("references in a circle", Constraint::JsonSchema("{\"$defs\":{\"a\":{\"$ref\":\"#/$defs/b\"},\"b\":{\"$ref\":\"#/$defs/a\"}},\"$ref\":\"#/$defs/a\"}".into())),
        ("itself and more", Constraint::JsonSchema("{\"allOf\":[{\"$ref\":\"#\"},{\"type\":\"object\"}]}".into())),
        ("numbers", Constraint::JsonSchema("{\"type\":\"number\",\"minimum\":0.000000000000000000001,\"maximum\":1e300,\"multipleOf\":0.0000007}".into())),
        ("nested", Constraint::JsonSchema("{\"properties\":{\"a\":".repeat(49) + "true" + &"}}".repeat(49))),
        ("deeply nested", Constraint::JsonSchema("{\"not\":".repeat(5000) + "true" + &"}".repeat(5000))),
        ("too long", Constraint::Regex("a".repeat(70_000))),
    ]
}

#[test]
fn bombs_cost_a_refused_request_at_most() {
    let Some(words) = Words::starter().or_else(|| Some(Words::made_up(tiny::bpe()))) else {
        return;
    };
    for (name, constraint) in bombs() {
        let begun = Instant::now();
        let compiled = loop {
            match words.compile(&constraint) {
                // The one before is still being compiled.
                Err(EngineError::BadConstraint {
                    problem: ConstraintProblem::Busy,
                }) => {
                    assert!(
                        begun.elapsed() < Duration::from_secs(60),
                        "{name}: still busy"
                    );
                    std::thread::sleep(Duration::from_millis(20));
                }
                other => break other,
            }
        };
        let compiling = begun.elapsed();
        let mut slowest = [Duration::ZERO; 2];
        let told = match compiled {
            Ok(mut matcher) => {
                let mut taken = 0;
                let stuck = (0..30).find_map(|step: u32| {
                    let begun = Instant::now();
                    let mask = matcher.mask();
                    slowest[0] = slowest[0].max(begun.elapsed());
                    let mask = match mask {
                        Ok(mask) => mask,
                        Err(error) => return Some(error.to_string()),
                    };
                    let vocabulary = words.vocabulary().len();
                    let start = (noise(7, step).abs() * vocabulary as f32) as u32;
                    let id = (start..vocabulary)
                        .chain(0..start)
                        .find(|&id| mask.allows(id) && !words.is_end(id))?;
                    taken += 1;
                    let begun = Instant::now();
                    let advanced = matcher.advance(id);
                    slowest[1] = slowest[1].max(begun.elapsed());
                    advanced.err().map(|error| error.to_string())
                });
                stuck.unwrap_or(format!("works for {taken} tokens"))
            }
            Err(EngineError::BadConstraint { problem }) => problem.to_string(),
            Err(other) => panic!("{name}: {other}"),
        };
        println!(
            "{name}: {compiling:.0?}, mask {:.0?}, advance {:.0?}: {told}",
            slowest[0], slowest[1]
        );
    }
}

/// Time of an answer's steps over the starter's vocabulary, for the record.
#[test]
#[ignore = "a measurement, not a check"]
fn time_of_a_mask() {
    let Some(words) = Words::starter() else {
        return;
    };
    let prepared = (0..5).map(|_| {
        let begun = Instant::now();
        let first = Grammars::new(words.vocabulary())
            .unwrap()
            .compile(&Constraint::Regex("a".into()));
        first.unwrap().wait().unwrap();
        begun.elapsed()
    });
    println!("the vocabulary: {:.1?} at best", prepared.min().unwrap());
    for schema in schemas() {
        let constraint = Constraint::JsonSchema(schema.to_string());
        let sampling = Sampling {
            temperature: 1.0,
            ..Sampling::default()
        };
        let begun = Instant::now();
        let mut matcher = words.compile(&constraint).unwrap();
        let compiling = begun.elapsed();
        let ids = words.answer(&mut matcher, &sampling);
        let mut matcher = words.compile(&constraint).unwrap();
        let mut times: Vec<Duration> = ids
            .iter()
            .map(|&id| {
                let begun = Instant::now();
                matcher.mask().unwrap();
                matcher.advance(id).unwrap();
                begun.elapsed()
            })
            .collect();
        times.sort();
        println!(
            "compiled in {compiling:.1?}; of {} steps the median {:.1?}, the longest {:.1?}: {schema}",
            times.len(),
            times[times.len() / 2],
            times[times.len() - 1]
        );
    }
}
