//! The decoder against a slow and obvious one in 64-bit floats, on small models with random weights.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod textbook;
mod tiny;

use std::hash::{Hash as _, Hasher as _};
use std::path::Path;
use std::sync::Arc;

use engine::EngineError;
use engine::cache::{Asker, PAGE, PagePool, SequenceState, Sizes};
use engine::decoder::{Decoder, Plan, Span, Step, Wanted};
use engine::families::PREFILL_CHUNK;
use engine::file::ModelFile;
use textbook::Textbook;
use tiny::{Kind, Meta, Model, Tiny};

const IDS: [u32; 40] = {
    let mut ids = [0; 40];
    let mut at = 0;
    while at < 40 {
        ids[at] = (at as u32 * 37 + 11) % 250;
        at += 1;
    }
    ids
};

fn open(tiny: &Tiny) -> (tempfile::TempDir, Decoder) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.gguf");
    tiny.write(&path);
    let decoder = load(&path, 256).unwrap();
    (dir, decoder)
}

fn load(path: &Path, context: u32) -> Result<Decoder, EngineError> {
    let plan = Plan::of(&Arc::new(ModelFile::open(path)?))?;
    Decoder::new(&plan, context, &mut |_| Ok(()))
}

fn pool(decoder: &Decoder) -> PagePool {
    decoder.pool(1 << 30)
}

fn logits(
    decoder: &Decoder,
    pool: &mut PagePool,
    state: &mut SequenceState,
    ids: &[u32],
) -> Vec<f32> {
    let span = Span {
        state,
        ids,
        wanted: Wanted::Last,
    };
    match decoder.step(pool, &mut [span], &|| false).unwrap() {
        Step::Computed(mut rows) => rows.remove(0),
        Step::Interrupted => panic!("nobody interrupted"),
    }
}

fn from_nothing(decoder: &Decoder, ids: &[u32]) -> Vec<f32> {
    logits(
        decoder,
        &mut pool(decoder),
        &mut SequenceState::default(),
        ids,
    )
}

fn close(got: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    let scale = expected
        .iter()
        .fold(0.0f64, |largest, x| largest.max(x.abs()));
    for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
        let off = (f64::from(*got) - expected).abs();
        assert!(
            off < tolerance * scale,
            "logit {at} is {got}, not {expected}"
        );
    }
}

fn model(architecture: &'static str, kind: Kind) -> Model {
    Model {
        architecture,
        layers: 2,
        hidden: 64,
        heads: 4,
        kv_heads: 2,
        feed_forward: 96,
        tied: false,
        kind,
    }
}

/// Compares with the textbook, after changes to the file and to what the textbook makes of it.
fn check(
    model: Model,
    tolerance: f64,
    change: impl FnOnce(&mut Tiny),
    meaning: impl FnOnce(&mut Textbook<'_>),
) {
    let mut tiny = Tiny::model(model, tiny::bpe());
    change(&mut tiny);
    let mut book = Textbook::plain(&tiny, model);
    meaning(&mut book);
    let (_dir, decoder) = open(&tiny);
    let got = from_nothing(&decoder, &IDS);
    close(&got, &book.logits(&IDS), tolerance);
}

fn plain(model: Model, tolerance: f64) {
    check(model, tolerance, |_| (), |_| ());
}

const FAMILIES: [&str; 6] = ["llama", "qwen2", "qwen3", "qwen3moe", "gemma3", "phi3"];

#[test]
fn every_family_with_plain_floats() {
    for family in FAMILIES {
        plain(model(family, Kind::F32), 1e-5);
    }
}

#[test]
fn tied_heads_and_one_kv_head() {
    for family in FAMILIES {
        for kv_heads in [1, 4] {
            let model = Model {
                tied: true,
                kv_heads,
                ..model(family, Kind::F32)
            };
            plain(model, 1e-5);
        }
    }
}

#[test]
fn half_floats_and_blocks() {
    plain(model("llama", Kind::F16), 1e-5);
    // The block formats round activations to 8 bits; a wrong product is off by the whole scale.
    plain(model("llama", Kind::Q8_0), 0.12);
    plain(model("qwen2", Kind::Q4_1), 0.12);
    plain(model("phi3", Kind::Q8_0), 0.12);
}

/// Frequencies of heads of 16 values.
fn frequencies(base: f64) -> impl Fn(usize) -> f64 {
    move |pair| base.powf(-2.0 * pair as f64 / 16.0)
}

#[test]
fn linear_scaling_and_divisors() {
    check(
        model("llama", Kind::F32),
        1e-5,
        |tiny| {
            tiny.set("llama.rope.scaling.type", Meta::Text("linear".into()));
            tiny.set("llama.rope.scaling.factor", Meta::F32(4.0));
            tiny.set("llama.rope.freq_base", Meta::F32(500.0));
        },
        |book| book.frequency = Box::new(|pair, _| frequencies(500.0)(pair) / 4.0),
    );
    check(
        model("llama", Kind::F32),
        1e-5,
        |tiny| tiny.add_divisors("rope_freqs.weight", 8),
        |book| {
            let divisors = book.tiny.tensor("rope_freqs.weight").to_vec();
            book.frequency =
                Box::new(move |pair, _| frequencies(1e4)(pair) / f64::from(divisors[pair]));
        },
    );
}

#[test]
fn yarn() {
    check(
        model("qwen2", Kind::F32),
        1e-5,
        |tiny| {
            tiny.set("qwen2.rope.scaling.type", Meta::Text("yarn".into()));
            tiny.set("qwen2.rope.scaling.factor", Meta::F32(8.0));
            tiny.set("qwen2.rope.scaling.original_context_length", Meta::U32(64));
            tiny.set("qwen2.rope.scaling.yarn_beta_fast", Meta::F32(4.0));
        },
        |book| {
            // The dimension whose wavelength fits `turns` times into 64 positions, of 16 at base 10,000.
            let dimension = |turns: f64| {
                16.0 * (64.0 / (turns * std::f64::consts::TAU)).ln() / (2.0 * 1e4f64.ln())
            };
            let (low, high) = (dimension(4.0).floor().max(0.0), dimension(1.0).ceil());
            book.frequency = Box::new(move |pair, _| {
                let ramp = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
                let plain = frequencies(1e4)(pair);
                plain * (1.0 - ramp) + plain / 8.0 * ramp
            });
            book.magnitude = 1.0 + 0.1 * 8f64.ln();
        },
    );
}

#[test]
fn long_factors_count_beyond_the_original_context() {
    for (context, name) in [
        (256, "rope_factors_long.weight"),
        (64, "rope_factors_short.weight"),
    ] {
        let model = model("phi3", Kind::F32);
        let mut tiny = Tiny::model(model, tiny::bpe());
        tiny.set("phi3.rope.scaling.original_context_length", Meta::U32(64));
        tiny.set("phi3.rope.scaling.attn_factor", Meta::F32(1.25));
        tiny.add_divisors("rope_factors_long.weight", 8);
        tiny.add_divisors("rope_factors_short.weight", 8);
        let mut book = Textbook::plain(&tiny, model);
        let divisors = tiny.tensor(name).to_vec();
        book.frequency =
            Box::new(move |pair, _| frequencies(1e4)(pair) / f64::from(divisors[pair]));
        book.magnitude = 1.25;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tiny.gguf");
        tiny.write(&path);
        let decoder = load(&path, context).unwrap();
        close(&from_nothing(&decoder, &IDS), &book.logits(&IDS), 1e-5);
        // What was loaded for short sequences refuses long ones.
        let (mut pool, mut state) = (pool(&decoder), SequenceState::default());
        let span = Span {
            state: &mut state,
            ids: &[1; 65],
            wanted: Wanted::Last,
        };
        let step = decoder.step(&mut pool, &mut [span], &|| false);
        let refused = matches!(step, Err(EngineError::ContextTooLong { limit: 64, .. }));
        assert_eq!(refused, context == 64, "{step:?}");
    }
}

#[test]
fn windows() {
    check(
        model("gemma3", Kind::F32),
        1e-5,
        |tiny| {
            tiny.set("gemma3.attention.sliding_window", Meta::U32(9));
            tiny.set("gemma3.attention.sliding_window_pattern", Meta::U32(2));
            tiny.set("gemma3.rope.freq_base", Meta::F32(50_000.0));
            tiny.set("gemma3.rope.scaling.type", Meta::Text("linear".into()));
            tiny.set("gemma3.rope.scaling.factor", Meta::F32(8.0));
        },
        |book| {
            book.window = Box::new(|layer| (layer == 0).then_some(9));
            book.frequency = Box::new(|pair, local| match local {
                true => frequencies(10_000.0)(pair),
                false => frequencies(50_000.0)(pair) / 8.0,
            });
        },
    );
    check(
        model("phi3", Kind::F32),
        1e-5,
        |tiny| tiny.set("phi3.attention.sliding_window", Meta::U32(33)),
        |book| book.window = Box::new(|_| Some(33)),
    );
}

/// A model of a family, with windows where the family has them.
fn with_everything(family: &'static str, kind: Kind) -> Tiny {
    let mut tiny = Tiny::model(model(family, kind), tiny::bpe());
    if matches!(family, "gemma3" | "phi3") {
        tiny.set(&format!("{family}.attention.sliding_window"), Meta::U32(19));
    }
    if family == "gemma3" {
        tiny.set("gemma3.attention.sliding_window_pattern", Meta::U32(2));
    }
    tiny
}

#[test]
fn chunks_and_company_change_no_bit() {
    let kinds = [Kind::F32, Kind::F16, Kind::Q8_0, Kind::Q4_1];
    for (family, kind) in FAMILIES
        .into_iter()
        .flat_map(|family| kinds.map(|kind| (family, kind)))
    {
        let (_dir, decoder) = open(&with_everything(family, kind));
        let whole = all_logits(&decoder, &IDS, IDS.len());
        for chunk in [1usize, 7, 32, 33] {
            assert_eq!(
                all_logits(&decoder, &IDS, chunk),
                whole,
                "{family}, chunks of {chunk}"
            );
        }
    }
}

/// The logits of every token, read in chunks, with another sequence in every step.
fn all_logits(decoder: &Decoder, ids: &[u32], chunk: usize) -> Vec<f32> {
    let mut pool = pool(decoder);
    let (mut state, mut other) = (SequenceState::default(), SequenceState::default());
    let mut logits = Vec::new();
    for ids in ids.chunks(chunk) {
        let company = Span {
            state: &mut other,
            ids: &[3, 1, 2],
            wanted: Wanted::From(1),
        };
        let span = Span {
            state: &mut state,
            ids,
            wanted: Wanted::From(0),
        };
        // Before it or after it: which rows share a tile with it changes, too.
        let mut spans = match chunk.is_multiple_of(2) {
            true => [company, span],
            false => [span, company],
        };
        let step = decoder.step(&mut pool, &mut spans, &|| false).unwrap();
        let Step::Computed(rows) = step else {
            panic!("nobody interrupted");
        };
        let (of_company, of_span) = match chunk.is_multiple_of(2) {
            true => (&rows[0], &rows[1]),
            false => (&rows[1], &rows[0]),
        };
        assert_eq!(of_company.len(), 2 * decoder.vocabulary());
        logits.extend(of_span);
    }
    assert_eq!(logits.len(), ids.len() * decoder.vocabulary());
    logits
}

/// Set for the process that computes with that many threads.
const THREADS: &str = "DECENTRALGPT_TEST_THREADS";

#[test]
fn threads_change_no_bit() {
    if let Ok(threads) = std::env::var(THREADS) {
        engine::backend::Cpu::start(threads.parse().unwrap());
        let model = Model {
            hidden: 256,
            feed_forward: 512,
            ..model("qwen3moe", Kind::Q4_1)
        };
        let (_dir, decoder) = open(&Tiny::model(model, tiny::bpe()));
        let ids: Vec<u32> = (0..200).map(|at| (at * 37 + 11) % 250).collect();
        let mut hash = std::hash::DefaultHasher::new();
        for logit in all_logits(&decoder, &ids, 180) {
            logit.to_bits().hash(&mut hash);
        }
        println!("logits {:x}", hash.finish());
        return;
    }
    // The number of threads is the process's own.
    let logits = |threads: &str| {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "threads_change_no_bit", "--nocapture"])
            .env(THREADS, threads)
            .output()
            .unwrap();
        let said = String::from_utf8(child.stdout).unwrap();
        let line = said.lines().find(|line| line.contains("logits "));
        line.unwrap_or_else(|| panic!("{said}")).to_owned()
    };
    let alone = logits("1");
    assert_eq!(logits("2"), alone);
    assert_eq!(logits("4"), alone);
}

#[test]
fn an_adopted_prefix_changes_no_bit() {
    let (_dir, decoder) = open(&with_everything("gemma3", Kind::Q8_0));
    let mut pool = pool(&decoder);
    let ids: Vec<u32> = IDS.iter().chain(&IDS).copied().collect();
    let whole = from_nothing(&decoder, &ids);
    let mut first = SequenceState::default();
    logits(&decoder, &mut pool, &mut first, &ids[..70]);
    pool.retire(&Asker::OWNER, &ids[..70], first);
    for _ in 0..2 {
        let mut again = pool.adopt(&Asker::OWNER, &ids);
        assert_eq!(again.len(), 70);
        assert_eq!(logits(&decoder, &mut pool, &mut again, &ids[70..]), whole);
        pool.release(again);
    }
    let stranger = pool.adopt(&Asker::client([7; 32]), &ids);
    assert!(stranger.is_empty());
}

#[test]
fn what_left_the_window_is_given_back_and_changes_no_bit() {
    for family in ["gemma3", "phi3"] {
        let (_dir, decoder) = open(&with_everything(family, Kind::Q8_0));
        let ids: Vec<u32> = IDS.repeat(30);
        let whole = from_nothing(&decoder, &ids);
        let sizes = Sizes::of(decoder.shape());
        let most = sizes.bytes(ids.len() as u32);
        // One of two layers of the one has a window, both layers of the other.
        let without = ids.len().div_ceil(PAGE) as u64 * sizes.page();
        let part = if family == "gemma3" { 3 } else { 2 };
        assert!(most < without * part / 4, "{family}: {most} of {without}");
        // Room for what is promised, and for nothing more.
        let mut pool = decoder.pool(most);
        let mut state = SequenceState::default();
        let mut last = Vec::new();
        for chunk in ids.chunks(PREFILL_CHUNK as usize) {
            last = logits(&decoder, &mut pool, &mut state, chunk);
        }
        assert_eq!(last, whole, "{family}");
        let held = pool.capacity() - pool.free();
        let window = 19 + 2 * PAGE;
        let pages = window.div_ceil(PAGE) as u64 + 1;
        let all = if family == "gemma3" { without / 2 } else { 0 };
        let windows = pages * sizes.page() / if family == "gemma3" { 2 } else { 1 };
        assert!(held <= all + windows, "{family}: {held}");
        pool.release(state);
        assert_eq!(pool.free(), pool.capacity());
    }
}

#[test]
fn a_beginning_is_found_again_as_far_as_its_window_is_whole() {
    let (_dir, decoder) = open(&with_everything("gemma3", Kind::Q8_0));
    let mut pool = pool(&decoder);
    let ids: Vec<u32> = IDS.repeat(8);
    let (prompt, asked) = (&ids[..200], [&ids[..200], &[3, 5]].concat());
    let mut first = SequenceState::default();
    logits(&decoder, &mut pool, &mut first, prompt);
    pool.publish(&Asker::OWNER, prompt, &first);
    for at in 200..ids.len() {
        logits(&decoder, &mut pool, &mut first, &ids[at..=at]);
    }
    pool.retire(&Asker::OWNER, &ids, first);
    // The end of all of it, the end of the prompt that was made known, and nothing in between.
    let on = [ids.as_slice(), &[7]].concat();
    for (asked, known) in [(&on, ids.len()), (&asked, 192), (&ids[..260].to_vec(), 192)] {
        let mut again = pool.adopt(&Asker::OWNER, asked);
        assert_eq!(again.len(), known);
        let got = logits(&decoder, &mut pool, &mut again, &asked[known..]);
        assert_eq!(got, from_nothing(&decoder, asked));
        pool.release(again);
    }
    // Cut to before what its window still has, a sequence begins anew.
    let mut state = SequenceState::default();
    logits(&decoder, &mut pool, &mut state, &ids);
    state.truncate(&mut pool, ids.len() - 9);
    assert_eq!(state.len(), ids.len() - 9);
    state.truncate(&mut pool, 100);
    assert_eq!(state.len(), 0);
    assert_eq!(pool.free(), pool.capacity());
}

#[test]
fn a_step_without_room_leaves_no_trace() {
    let (_dir, decoder) = open(&Tiny::model(model("llama", Kind::Q8_0), tiny::bpe()));
    let page = pool(&decoder).page_bytes();
    let mut pool = decoder.pool(page * 2);
    let (mut one, mut other) = (SequenceState::default(), SequenceState::default());
    let mut spans = [(&mut one, 20), (&mut other, 40)].map(|(state, tokens)| Span {
        state,
        ids: &IDS[..tokens],
        wanted: Wanted::Last,
    });
    let step = decoder.step(&mut pool, &mut spans, &|| false);
    assert!(
        matches!(step, Err(EngineError::NotEnoughMemory { .. })),
        "{step:?}"
    );
    assert_eq!((one.len(), other.len(), pool.free()), (0, 0, 2 * page));
    logits(&decoder, &mut pool, &mut one, &IDS);
}

#[test]
fn an_interrupted_step_leaves_no_trace() {
    let tiny = Tiny::model(model("llama", Kind::Q8_0), tiny::bpe());
    let (_dir, decoder) = open(&tiny);
    let (mut pool, mut state) = (pool(&decoder), SequenceState::default());
    logits(&decoder, &mut pool, &mut state, &IDS[..10]);
    let free = pool.free();
    let asked = std::cell::Cell::new(0);
    let second_time = || asked.replace(asked.get() + 1) > 0;
    let span = Span {
        state: &mut state,
        ids: &IDS[10..],
        wanted: Wanted::Last,
    };
    let step = decoder.step(&mut pool, &mut [span], &second_time).unwrap();
    assert!(matches!(step, Step::Interrupted));
    assert_eq!((state.len(), pool.free()), (10, free));
    let whole = from_nothing(&decoder, &IDS);
    assert_eq!(logits(&decoder, &mut pool, &mut state, &IDS[10..]), whole);
    state.truncate(&mut pool, 5);
    assert_eq!(logits(&decoder, &mut pool, &mut state, &IDS[5..]), whole);
}
