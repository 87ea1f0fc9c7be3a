//! Reads `docs/protocol.md`: every example on it is made anew and compared, every table of fields is held against the
//! bytes of its example, every number against the constant it stands for.
//!
//! `DECENTRALGPT_RECORD=1` writes the examples into the page, for whoever changes a message and means it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm
)]

mod examples;
mod page;

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::{
    binding, frame, head,
    job::{self, client, provider},
    lookup, offer, quote, receipt,
    voucher::{self, payee},
};

use page::{Field, Page, fields_of};

#[test]
fn every_example_is_what_the_code_makes() {
    let made = examples::all();
    if std::env::var_os("DECENTRALGPT_RECORD").is_some() {
        Page::record(&made);
    }
    let page = Page::read();
    let names: Vec<&str> = made.iter().map(|(name, _)| *name).collect();
    let written: Vec<&str> = page.examples.keys().map(String::as_str).collect();
    for name in &written {
        assert!(names.contains(name), "nothing makes the example {name}");
    }
    for (name, bytes) in &made {
        let shown = page
            .examples
            .get(*name)
            .unwrap_or_else(|| panic!("the page has no example {name}"));
        assert_eq!(hex::encode(shown), hex::encode(bytes), "{name}");
    }
}

/// An example has every field that its table names, of the type that it names, and no other.
#[test]
fn every_table_of_fields_is_that_of_its_example() {
    let page = Page::read();
    // A frame's kinds exclude each other, so they are checked one by one below.
    let tables = page.tables.iter().filter(|(name, _)| *name != "Envelope");
    let mut seen = 0;
    for (name, rows) in tables {
        let example = match name.as_str() {
            "Signed" => "SignedQuote",
            name => name,
        };
        let bytes = page
            .examples
            .get(example)
            .unwrap_or_else(|| panic!("{name} has no example"));
        let wire: BTreeMap<u32, u8> = fields_of(bytes)
            .into_iter()
            .map(|field| (field.number, field.wire_type))
            .collect();
        let told: BTreeMap<u32, u8> = rows
            .iter()
            .map(|row| (row.number, row.wire_type()))
            .collect();
        assert_eq!(told, wire, "fields of {name}");
        for Field { number, bytes, .. } in fields_of(bytes) {
            let row = rows.iter().find(|row| row.number == number).unwrap();
            if let (Some(cap), Some(bytes)) = (row.bytes_cap(), bytes) {
                assert!(bytes.len() <= cap, "{name}.{}", row.name);
            }
        }
        seen += 1;
    }
    assert!(seen > 25, "{seen} tables");
}

#[test]
fn every_kind_of_frame_has_its_number() {
    let page = Page::read();
    let rows = &page.tables["Envelope"];
    let kinds = examples::frames();
    assert_eq!(rows.len(), kinds.len() + 1, "and `crit`");
    for frame in kinds {
        let name = frame.kind().to_lowercase();
        let [field] = &fields_of(&frame.to_bytes())[..] else {
            panic!("{name} is one field")
        };
        let row = rows
            .iter()
            .find(|row| row.name == name)
            .unwrap_or_else(|| panic!("the page has no kind {name}"));
        assert_eq!(row.number, field.number, "{name}");
    }
    let crit = frame::Envelope {
        kind: None,
        crit: true,
    };
    let bytes = Bytes::from(prost::Message::encode_to_vec(&crit));
    assert_eq!(
        fields_of(&bytes)[0].number,
        rows.iter().find(|row| row.name == "crit").unwrap().number
    );
}

#[test]
fn every_code_has_its_number_and_none_is_left_out() {
    let page = Page::read();
    let named = |name: &str, code: fn(i32) -> Option<String>| {
        let told = page
            .codes
            .get(name)
            .unwrap_or_else(|| panic!("no table of {name}"));
        let known: Vec<(String, i32)> = (0..200)
            .filter_map(|number| Some((code(number)?, number)))
            .collect();
        assert_eq!(*told, known, "{name}");
    };
    named("RefuseCode", |number| {
        Some(format!("{:?}", frame::RefuseCode::try_from(number).ok()?))
    });
    named("Phase", |number| {
        Some(format!("{:?}", frame::Phase::try_from(number).ok()?))
    });
    named("CancelReason", |number| {
        Some(format!("{:?}", frame::CancelReason::try_from(number).ok()?))
    });
    named("GrammarKind", |number| {
        Some(format!("{:?}", frame::GrammarKind::try_from(number).ok()?))
    });
    named("HeadStatus", |number| {
        Some(format!("{:?}", head::HeadStatus::try_from(number).ok()?))
    });
    named("Finish", examples::finish_of);
}

#[test]
fn every_cap_in_a_table_is_the_code_s() {
    let page = Page::read();
    let of = |each: usize, many: usize| format!("{many} of {each}");
    for (message, field, cap) in [
        ("Offer", "binding", binding::MAX_BINDING.to_string()),
        (
            "Offer",
            "addrs",
            of(offer::MAX_ADDR_BYTES, offer::MAX_ADDRS),
        ),
        (
            "Offer",
            "features",
            of(offer::MAX_TEXT, offer::MAX_FEATURES),
        ),
        ("Offer", "quant", offer::MAX_TEXT.to_string()),
        ("Offer", "region", offer::MAX_TEXT.to_string()),
        ("Offer", "asset", offer::ACCOUNT.to_string()),
        (
            "OffersRequest",
            "model_digests",
            of(32, offer::MAX_DIGESTS_PER_REQUEST),
        ),
        (
            "OffersResponse",
            "offers",
            offer::MAX_OFFERS_PER_REPLY.to_string(),
        ),
        ("Bloom", "bits", offer::Bloom::BYTES.to_string()),
        ("QuoteRequest", "nonce", quote::NONCE.to_string()),
        ("QuoteRequest", "prefix_hashes", of(32, quote::MAX_PREFIXES)),
        ("Quote", "quote_id", quote::QUOTE_ID.to_string()),
        ("HeadResponse", "chunk", head::MAX_CHUNK.to_string()),
        (
            "Open",
            "stop",
            of(frame::MAX_STOP_BYTES, frame::MAX_STOP_STRINGS),
        ),
        ("Open", "want_logprobs_k", frame::MAX_LOGPROBS.to_string()),
        ("Grammar", "text", frame::MAX_GRAMMAR.to_string()),
        (
            "Accept",
            "last_voucher_held",
            frame::MAX_VOUCHER.to_string(),
        ),
        ("Accept", "paid", frame::MAX_SUM.to_string()),
        ("Pay", "voucher", frame::MAX_VOUCHER.to_string()),
        ("Pay", "adds", frame::MAX_SUM.to_string()),
        ("Reserve", "least", frame::MAX_SUM.to_string()),
        ("Reserved", "reservation", frame::MAX_VOUCHER.to_string()),
        ("Refuse", "msg", frame::MAX_TEXT.to_string()),
        ("Error", "msg", frame::MAX_TEXT.to_string()),
        ("Tokens", "ids", frame::MAX_IDS_PER_FRAME.to_string()),
        (
            "Tokens",
            "logprobs",
            frame::MAX_LOGPROB_IDS_PER_FRAME.to_string(),
        ),
        ("TokenLogprobs", "top_ids", frame::MAX_LOGPROBS.to_string()),
    ] {
        let row = page.tables[message]
            .iter()
            .find(|row| row.name == field)
            .unwrap_or_else(|| panic!("{message} has no {field}"));
        assert_eq!(row.cap, cap, "{message}.{field}");
    }
}

#[test]
fn every_name_and_number_in_the_text_is_the_code_s() {
    let page = Page::read();
    for name in [
        offer::PROTOCOL,
        quote::PROTOCOL,
        head::PROTOCOL,
        frame::PROTOCOL,
        lookup::PROTOCOL,
        offer::DOMAIN,
        binding::DOMAIN,
        quote::DOMAIN,
        receipt::CHECKPOINT_DOMAIN,
        receipt::RECEIPT_DOMAIN,
        receipt::COUNTERSIGN_DOMAIN,
        offer::FEATURE_RESUME,
        offer::FEATURE_GRAMMAR,
        offer::FEATURE_LOGPROBS,
        offer::FEATURE_PREPAID,
        receipt::SAMPLER,
        protocol::NetworkId::MAIN.as_str(),
    ] {
        page.says(&format!("`{name}`"));
    }
    for sentence in [
        format!("### SignedEnvelope At most {} bytes.", offer::MAX_ENVELOPE),
        format!("### OffersRequest At most {} bytes.", offer::MAX_REQUEST),
        format!("### OffersResponse At most {} bytes.", offer::MAX_REPLY),
        format!("### SignedBinding At most {} bytes.", binding::MAX_BINDING),
        format!("are at most {} bytes each", quote::MAX_QUOTE),
        format!(
            "A request is at most {} bytes, an answer {}.",
            head::MAX_REQUEST,
            head::MAX_RESPONSE
        ),
        format!("a provider, the first frame | {} |", frame::MAX_OPEN),
        format!("a provider, later frames | {} |", frame::MAX_CLIENT_FRAME),
        format!("a client, `Tokens` | {} |", frame::MAX_TOKENS_FRAME),
        format!("a client, all others | {} |", frame::MAX_PROVIDER_FRAME),
        format!("a multiple of {} bytes", frame::PAD_TO),
        format!("a second per {} bytes", frame::MIN_BYTES_PER_SECOND),
        format!(
            "after {} ms or {} of them",
            provider::FLUSH_MS,
            provider::FLUSH_TOKENS
        ),
        format!(
            "every {} tokens or {} s",
            provider::CHECKPOINT_TOKENS,
            provider::CHECKPOINT_MS / 1000
        ),
        format!(
            "every {} ms before the first token, {} ms after",
            job::HEARTBEAT_BEFORE_MS,
            job::HEARTBEAT_DECODE_MS
        ),
        format!("or {} tokens wait", provider::MAX_WAITING),
        format!("on up to {} tokens ahead", provider::MAX_WAITING),
        format!(
            "does not read for {} s, or",
            provider::BLOCKED_PAUSE_MS / 1000
        ),
        format!("does not read for {} s |", provider::BLOCKED_DROP_MS / 1000),
        format!("| Signing | {} s |", provider::ACK_MS / 1000),
        format!("at most {} times", provider::MAX_RESUMES),
        format!("a stream opens | {} |", client::OPEN_MS),
        format!("bytes per second | {} |", job::ACCEPT_MS),
        format!(
            "at least {0}, at most {1} (before the first token: {2}), and the round trip, of which {3} are believed | {0} |",
            client::MIN_SILENCE_MS,
            client::MAX_WRITING_SILENCE_MS,
            client::MAX_SILENCE_MS,
            client::MAX_RTT_MS
        ),
        format!(
            "the two next candidates are asked for a quote, once in {}:",
            client::SOUNDED_MS
        ),
        format!("the same added | {} |", client::ANSWER_PATIENCE_MS),
        format!(
            "a broken answer is to go on | {} |",
            client::RESCUE_PATIENCE_MS
        ),
        format!("it pauses for its owner | {} |", client::PAUSE_PATIENCE_MS),
        format!("without any change | {} |", client::STALL_MS),
        format!("| nothing comes | {} |", client::GIVE_UP_MS),
        format!("is not taken up | {} |", client::RESUME_PATIENCE_MS),
        format!(
            "and the round trip, of which {} are believed | {} | it is left",
            client::MAX_RTT_MS,
            client::MAX_SILENCE_MS
        ),
        format!("is looked at again after {} ms", client::LINE_AGAIN_MS),
        format!("nothing moved | {} |", client::HEDGE_MIN_MS),
        format!("at most {} input tokens", client::HEDGE_MAX_INPUT),
        format!(
            "| Unvouched | `Pay` within {} s |",
            provider::VOUCHER_WAIT_MS / 1000
        ),
        format!(
            "after {} s `Error` with `PaymentRefused`",
            provider::UNPAID_MS / 1000
        ),
        format!("SHA-256(\"{}\" ‖ network ‖ model", lookup::DOMAIN),
        format!("SHA-256(\"{}\" ‖ network", lookup::MAINLINE_DOMAIN),
        format!(
            "Unix ms divided by {}, rounded down; `shard`",
            lookup::DAY_MS
        ),
        format!("from 0 to {}. In place", lookup::SHARDS - 1),
        format!(
            "Unix ms divided by {}, rounded down. Within",
            lookup::WEEK_MS
        ),
        format!("signature`, {} bytes", voucher::VOUCHER_BYTES),
        format!("signature`, {} bytes", voucher::RESERVATION_BYTES),
        format!("steps of at least {} tokens", payee::PREFILL_STEP),
        format!(
            "`chunk_tokens` is from {} to {}",
            payee::PREFILL_STEP,
            payee::PREFILL_CHUNK
        ),
        format!("what {} tokens of input cost", payee::OPENING_TOKENS),
        format!("`stream_window` or {} tokens", payee::MIN_STRIDE),
        format!("and after {} ms", payee::VOUCHER_MS),
        format!(
            "{} for a signer whose bond is worth as much and {} for another",
            payee::FIRST_CREDIT_TOKENS,
            payee::UNBONDED_CREDIT_TOKENS
        ),
    ] {
        page.says(&sentence);
    }
    for (words, ms, number) in [
        ("ten minutes ahead", job::MAX_EXPIRY_MS, 10 * 60_000),
        ("half an hour", job::MAX_JOB_MS, 30 * 60_000),
        (
            "at most 30 minutes later",
            offer::MAX_LIFETIME_MS,
            30 * 60_000,
        ),
        (
            "at most 90 days later",
            binding::MAX_LIFETIME_MS,
            90 * 86_400_000,
        ),
        (
            "two minutes in the future",
            protocol::MAX_CLOCK_SKEW_MS,
            120_000,
        ),
        ("ten seconds ahead", quote::QUOTE_LIFETIME_MS, 10_000),
        ("within two seconds", quote::QUOTE_TIMEOUT_MS, 2_000),
        ("within 10 s", frame::OPEN_FRAME_MS, 10_000),
    ] {
        page.says(words);
        assert_eq!(ms, number, "{words}");
    }
    assert_eq!(payee::WORTH_THE_GAS, 50);
    page.says("at least fifty times the gas");
    page.says("at most to a hundred times the gas of a claim");
    assert_eq!(payee::MIN_SIGNER_LIFE_S, 86_400);
    page.says("has a day to live");
    assert_eq!(payee::stride(400), 100);
    page.says("every quarter of `stream_window`");
    assert_eq!(client::MAX_LINES, 2);
    page.says("waits in at most two lines");
    assert_eq!(client::MAX_FAILOVERS, 3);
    page.says("After three such moves");
    assert_eq!(offer::MAX_CONTEXT, 1 << 23);
    page.says("1 to 2²³");
    assert_eq!(head::MAX_HEAD, 1 << 25);
    page.says("1 to 2²⁵");
}
