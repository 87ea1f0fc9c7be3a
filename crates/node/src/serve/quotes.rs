//! Quotes: what a job of a stranger's would take here, right now.

use std::{path::Path, sync::Arc, time::Duration};

use engine::{Asker, KnownPrefix, PrefixRequest};
use network::QuoteAsked;
use protocol::{
    PeerId,
    quote::{Bound, PREFIX_CONTEXT, Prefix, QUOTE_LIFETIME_MS, Quote, QuoteRequest},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use super::{ServedModel, ServingView, line::SLOTS, offers, rooms::Rooms};
use crate::{clock, node::Inner};

/// Output tokens of the job in front, of which nobody knows how long it still takes: half of a page.
const REST_OF_A_JOB: u32 = 150;

/// Tokens read per second before it was measured: a slow computer.
const UNMEASURED_PREFILL_TPS: u32 = 100;

/// The same for writing.
const UNMEASURED_DECODE_TPS: u32 = 10;

/// The shortest and longest time after which somebody may come again who found no room, in milliseconds: nobody asks all the time, and
/// nobody is away for long.
const RETRY_MS: (u32, u32) = (1_000, 10_000);

/// A model that is not in memory is read from the disk first: bytes per second of an ordinary one.
const LOAD_BYTES_PER_S: u64 = 500_000_000;

/// The engine says between two steps what it has of a peer's. What it does not say by then is charged as if it were not there: a quote
/// that is late is none.
const LOOK: Duration = Duration::from_millis(400);

/// Quotes that are being made at once. Only those that look into the cache take a while.
const AT_ONCE: usize = 16;

/// Answers peers who want to know what a job would take.
pub(super) async fn give(
    inner: Arc<Inner>,
    view: watch::Receiver<ServingView>,
    rooms: Rooms,
    mut asked: mpsc::Receiver<QuoteAsked>,
) {
    let mut giving = JoinSet::new();
    while let Some(asked) = asked.recv().await {
        while giving.try_join_next().is_some() {}
        if giving.len() >= AT_ONCE {
            giving.join_next().await;
        }
        let served = Arc::clone(&view.borrow().served);
        giving.spawn(answer(Arc::clone(&inner), served, rooms.clone(), asked));
    }
}

async fn answer(inner: Arc<Inner>, served: Arc<Vec<ServedModel>>, rooms: Rooms, asked: QuoteAsked) {
    let QuoteAsked {
        peer,
        request,
        request_hash,
        reply,
    } = asked;
    let model = served
        .iter()
        .find(|served| served.reference.digest == request.model)
        .filter(|served| request.n_in < served.ctx_max);
    let Some(served) = model else {
        // Nobody waits any more.
        let _ = reply.send(None);
        return;
    };
    let cached = cached(&inner, served, &peer, &request).await;
    let strangers = rooms.running.borrow().saturating_add(rooms.waiting());
    let in_front = in_front(strangers, inner.answers.own_work());
    let tokens = cached.map_or(0, |(tokens, _)| tokens);
    let input = (request.n_in, tokens);
    let quote = quote(&inner, served, input, in_front, request_hash).filter(|quote| {
        let bound = Bound {
            terms: quote.terms(),
            prefix: cached.map(|(_, prefix)| prefix),
        };
        let life = (quote.expires_unix_ms, clock::unix_ms());
        let whose = (peer, request.model);
        quote.prices.is_free() || rooms.quoted.keep(quote.quote_id, whose, bound, life)
    });
    let _ = reply.send(quote.map(|quote| quote.sign(&inner.identity.signer())));
}

/// How many of the asked tokens are in the cache of this peer's own, and what the input begins with then. A page that goes before the
/// job comes is computed again for the price of the cache: what a quote says holds.
async fn cached(
    inner: &Inner,
    served: &ServedModel,
    peer: &PeerId,
    request: &QuoteRequest,
) -> Option<(u32, Prefix)> {
    let prefixes = request.prefixes();
    let runs = inner.engine.stats().borrow().worker_pid.is_some();
    if prefixes.is_empty() || !runs {
        return None;
    }
    let prefix = |prefix: &Prefix| engine::Prefix {
        tokens: prefix.tokens,
        hash: prefix.hash,
    };
    let wanted = PrefixRequest {
        file: served.file.clone(),
        asker: Asker::Peer(peer.to_string()),
        context: PREFIX_CONTEXT.to_owned(),
        prefixes: prefixes.iter().map(prefix).collect(),
    };
    match timeout(LOOK, inner.engine.known_prefix(wanted)).await {
        Ok(Ok(known)) => known.and_then(|known| charged(&known, request.n_in)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "the engine does not say what it has in its cache");
            None
        }
        Err(_) => None,
    }
}

/// What of a known beginning is charged as cached: at most all of the input but its last token, which is always computed.
fn charged(known: &KnownPrefix, n_in: u32) -> Option<(u32, Prefix)> {
    let tokens = known.tokens.min(n_in.saturating_sub(1));
    let prefix = Prefix {
        tokens: known.prefix.tokens,
        hash: known.prefix.hash,
    };
    (tokens > 0).then_some((tokens, prefix))
}

fn quote(
    inner: &Inner,
    served: &ServedModel,
    (n_in, cached): (u32, u32),
    in_front: u32,
    request_hash: [u8; 32],
) -> Option<Quote> {
    let mut quote_id = [0; 16];
    getrandom::fill(&mut quote_id).ok()?;
    let (prefill_tps, decode_tps) = offers::speeds_of(inner, &served.file);
    let loaded = inner.engine.stats().borrow().model_file.as_deref() == Some(served.file.as_path());
    let load_ms = if loaded { 0 } else { load_ms(&served.file) };
    let to_read = n_in.saturating_sub(cached);
    Some(Quote {
        request_hash,
        eta_first_token_ms: eta_ms(to_read, (prefill_tps, decode_tps), in_front)
            .saturating_add(load_ms),
        decode_tps,
        queue_pos: in_front,
        prices: served.prices,
        cached_prefix_tokens: cached,
        quote_id,
        expires_unix_ms: clock::unix_ms() + QUOTE_LIFETIME_MS,
    })
}

/// Jobs that are done before a new one: strangers' beyond those that compute at once, and every answer of the owner's,
/// beside which there may be time for it, or none.
fn in_front(strangers: u32, owners: usize) -> u32 {
    let strangers = strangers.saturating_sub(SLOTS as u32 - 1);
    strangers.saturating_add(u32::try_from(owners).unwrap_or(u32::MAX))
}

/// Milliseconds until the first token: the jobs in front, then what is to be read of the prompt.
fn eta_ms(to_read: u32, (prefill_tps, decode_tps): (u32, u32), in_front: u32) -> u32 {
    let reading = u64::from(to_read) * 1000 / or(prefill_tps, UNMEASURED_PREFILL_TPS);
    let waiting = u64::from(in_front) * rest_ms(decode_tps);
    u32::try_from(reading + waiting).unwrap_or(u32::MAX)
}

/// Milliseconds until a job that computes is over, as far as anybody knows.
fn rest_ms(decode_tps: u32) -> u64 {
    u64::from(REST_OF_A_JOB) * 1000 / or(decode_tps, UNMEASURED_DECODE_TPS)
}

/// When somebody may come again for whom there is no room in line: one of the jobs that compute is over by then.
pub(super) fn retry_after_ms(decode_tps: u32) -> u32 {
    let next = rest_ms(decode_tps) / SLOTS as u64;
    u32::try_from(next).map_or(RETRY_MS.1, |next| next.clamp(RETRY_MS.0, RETRY_MS.1))
}

fn or(tps: u32, unmeasured: u32) -> u64 {
    u64::from(if tps == 0 { unmeasured } else { tps })
}

fn load_ms(file: &Path) -> u32 {
    let bytes = std::fs::metadata(file).map_or(0, |meta| meta.len());
    u32::try_from(bytes.saturating_mul(1000) / LOAD_BYTES_PER_S).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_token_comes_after_the_prompt_and_the_jobs_in_front() {
        assert_eq!(eta_ms(500, (1000, 50), 0), 500);
        assert_eq!(eta_ms(500, (1000, 50), 2), 500 + 2 * 3000);
        assert_eq!(eta_ms(500, (0, 0), 1), 5000 + 15_000);
        assert_eq!(eta_ms(u32::MAX, (1, 1), u32::MAX), u32::MAX);
    }

    #[test]
    fn who_finds_no_room_comes_again_when_a_job_is_over() {
        assert_eq!(retry_after_ms(50), 1_500);
        assert_eq!(retry_after_ms(10_000), 1_000);
        assert_eq!(retry_after_ms(0), 7_500);
        assert_eq!(retry_after_ms(1), 10_000);
    }

    #[test]
    fn the_owner_s_answers_are_in_front_of_everybody_s() {
        assert_eq!(in_front(1, 0), 0, "two strangers compute at once");
        assert_eq!(in_front(0, 1), 1);
        assert_eq!(in_front(2, 2), 3);
    }
}
