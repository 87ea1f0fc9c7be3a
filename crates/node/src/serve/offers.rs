//! What is offered to others, and what not and why.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use protocol::{
    ModelDigest, ModelRef, NetworkId, PeerId,
    binding::{Binding, OperatorSigner, SignedBinding},
    offer::{
        FEATURE_GRAMMAR, FEATURE_LOGPROBS, FEATURE_PREPAID, FEATURE_RESUME, Offer, PROTO, Payment,
        SignedEnvelope,
    },
    price::Prices,
    voucher::payee::STREAM_WINDOW,
};

use super::line::{SLOTS, WAITING};
use crate::{clock, error::ErrorView, models::Model, money, node::Inner, status::NotOffered};

/// An offer lives this long: two refreshes may fail before it is gone.
const LIFETIME: Duration = Duration::from_secs(20 * 60);

/// How often offers are made anew.
const REFRESH: Duration = Duration::from_secs(8 * 60);

/// A binding is in force from a little before it was made, since clocks differ.
const BINDING_BEFORE_MS: u64 = 60 * 1000;
/// One is made with every offer, so its life is an offer's and some more for jobs that run.
const BINDING_LIFE_MS: u64 = 24 * 60 * 60 * 1000;

/// Context that strangers get at most: each of their tokens costs memory that is the owner's.
const SERVED_CONTEXT: u32 = 8192;

/// What of them a swarm publishes.
const MAX_OFFERS: usize = network::MAX_OWN_OFFERS;

/// What this node does for a job beside the basics.
const FEATURES: [&str; 4] = [
    FEATURE_RESUME,
    FEATURE_GRAMMAR,
    FEATURE_LOGPROBS,
    FEATURE_PREPAID,
];

/// A model that others may use now.
#[derive(Debug, Clone)]
pub(crate) struct ServedModel {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    pub(crate) reference: ModelRef,
    pub(crate) vocab_size: u32,
    pub(crate) ctx_max: u32,
    /// What is asked for it.
    pub(crate) prices: Prices,
}

/// Vocabulary and context of files whose header was read, by digest: a file of the same digest has the same header.
pub(super) type Headers = BTreeMap<ModelDigest, (u32, u32)>;

/// What of a model decides whether it is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Basis {
    file: PathBuf,
    reference: Option<ModelRef>,
    not_served: Option<String>,
    fits: bool,
}

/// Where an offer made now says that this node is: whoever hears of it from others dials it there.
pub(super) fn addresses(inner: &Inner) -> Vec<Bytes> {
    inner.serving.network_status().borrow().offerable.clone()
}

/// What the offers of now would be made from.
pub(super) fn basis(inner: &Inner) -> Vec<Basis> {
    let models = inner.models.all().into_iter();
    models
        .filter_map(|model| {
            Some(Basis {
                file: model.file?,
                reference: model.reference,
                not_served: model.not_served,
                fits: model.fits,
            })
        })
        .collect()
}

/// Whether nothing is taken for money yet, since jobs that were answered before could be shown again.
pub(super) fn is_closed(inner: &Inner) -> bool {
    let till = inner.money.till();
    till.is_some_and(|till| till.closed_until_ms().is_some())
}

/// When offers are to be made anew: in their own time, or as soon as money is taken again.
pub(super) fn next(inner: &Inner) -> Duration {
    let opens = inner.money.till().and_then(|till| till.closed_until_ms());
    opens.map_or(REFRESH, |at| {
        Duration::from_millis(at.saturating_sub(clock::unix_ms())).min(REFRESH)
    })
}

/// What [`build`] found.
#[derive(Debug)]
pub(super) struct Offers {
    pub(super) envelopes: Vec<SignedEnvelope>,
    pub(super) served: Vec<ServedModel>,
    pub(super) not_offered: Vec<NotOffered>,
}

/// Goes through the models at hand: an offer for each that may be served, a reason for each that may not.
/// `waiting`: strangers' jobs that wait in line.
pub(super) async fn build(inner: &Inner, headers: &mut Headers, waiting: u32) -> Offers {
    let settings = inner.settings.borrow().clone();
    let signer = inner.identity.signer();
    let mut offers = Offers {
        envelopes: Vec::new(),
        served: Vec::new(),
        not_offered: Vec::new(),
    };
    let closed = inner.money.till().and_then(|till| till.closed_until_ms());
    let charges = Charges::of(inner).filter(|_| closed.is_none());
    if charges.is_none() && closed.is_none() && !settings.serve_free {
        return offers;
    }
    let speeds = speeds(inner);
    let addresses = addresses(inner);
    for model in inner.models.all() {
        let Some(file) = model.file.clone() else {
            continue;
        };
        let why = |why: &str| NotOffered {
            model: model.name.clone(),
            why: why.to_owned(),
        };
        if !settings.serve_models.is_empty() && !settings.serve_models.contains(&model.id) {
            offers
                .not_offered
                .push(why("You did not choose it for others."));
            continue;
        }
        if let Some(reason) = &model.not_served {
            offers.not_offered.push(why(reason));
            continue;
        }
        let Some(reference) = model.reference else {
            offers.not_offered.push(why(
                "Its digest is not known yet, so others could not check what they get.",
            ));
            continue;
        };
        if !model.fits {
            offers
                .not_offered
                .push(why("It needs more memory than this computer has."));
            continue;
        }
        if offers.served.len() >= MAX_OFFERS {
            offers
                .not_offered
                .push(why("More models than this are not offered at once."));
            continue;
        }
        let (vocab_size, context) = match headers.get(&reference.digest) {
            Some(known) => *known,
            None => match inner.engine.open_text(&file).await {
                Ok(info) => {
                    let known = (info.vocab_size, info.context_train);
                    headers.insert(reference.digest, known);
                    known
                }
                Err(error) => {
                    offers
                        .not_offered
                        .push(why(&format!("It cannot be opened: {error}.")));
                    continue;
                }
            },
        };
        let ctx_max = context.min(SERVED_CONTEXT);
        let (prefill_tps, decode_tps) = speeds(&model);
        let now = clock::unix_ms();
        let prices = prices_of(inner, &reference.digest);
        if let (Some(until), false) = (closed, prices.is_free()) {
            let minutes = until.saturating_sub(now).div_ceil(60 * 1000);
            offers.not_offered.push(why(&format!(
                "The list of jobs that were answered here is new: in {minutes} min it is asked for money again."
            )));
            continue;
        }
        if charges.is_none() && !prices.is_free() {
            offers.not_offered.push(why(
                "It is to be paid for, and there is no network or wallet to be paid by yet.",
            ));
            continue;
        }
        if prices.is_free() && !settings.serve_free {
            offers.not_offered.push(why(
                "Nobody asks a price for it yet, and you set none; free answers are off.",
            ));
            continue;
        }
        let charges = charges.as_ref().filter(|_| !prices.is_free());
        let offer = Offer {
            network: NetworkId::MAIN,
            peer: signer.peer_id(),
            addrs: addresses.clone(),
            model: reference,
            quant: model
                .quant
                .chars()
                .take(protocol::offer::MAX_TEXT / 4)
                .collect(),
            ctx_max,
            out_max: settings.serve_max_out,
            parallel_slots: SLOTS as u32,
            features: FEATURES.map(str::to_owned).to_vec(),
            prices,
            payment: charges.map(|charges| charges.payment),
            binding: charges.map(|charges| charges.binding.clone()),
            prefill_tps,
            decode_tps,
            queue_depth: waiting,
            queue_max: WAITING as u32,
            region: settings
                .region
                .as_deref()
                .unwrap_or_default()
                .to_uppercase(),
            software: inner
                .agent
                .chars()
                .take(protocol::offer::MAX_TEXT / 4)
                .collect(),
            issued_unix_ms: now,
            expires_unix_ms: now + LIFETIME.as_millis() as u64,
            seq: now,
            engine_class: super::job::engine_class(),
            free_tokens: match prices.is_free() {
                true => settings.serve_max_out,
                false => 0,
            },
            proto_min: PROTO,
            proto_max: PROTO,
            vrf_key: None,
        };
        offers.envelopes.push(offer.sign(&signer));
        offers.served.push(ServedModel {
            name: model.name.clone(),
            file,
            reference,
            vocab_size,
            ctx_max,
            prices,
        });
    }
    offers
}

/// How paid offers of this node say whom to pay.
#[derive(Debug)]
struct Charges {
    payment: Payment,
    binding: SignedBinding,
}

impl Charges {
    /// `None` where nobody is to pay, or the keys that say so cannot be read.
    fn of(inner: &Inner) -> Option<Self> {
        let live = inner.money.live()?;
        let charging = live.till.as_ref()?.charging(STREAM_WINDOW);
        let network = live.network();
        let secret = inner.wallet.operator_key().ok()?;
        let operator = OperatorSigner::from_secret(secret.expose())?;
        let now = clock::unix_ms();
        let binding = Binding {
            network: NetworkId::MAIN,
            peer: inner.identity.peer_id(),
            chain_id: network.chain_id,
            operator: operator.account(),
            not_before_unix_ms: now.saturating_sub(BINDING_BEFORE_MS),
            not_after_unix_ms: now + BINDING_LIFE_MS,
            serial: now,
        };
        let binding = binding.sign(&inner.identity.signer(), &operator)?;
        Some(Self {
            payment: Payment {
                chain_id: network.chain_id,
                asset: network.token.address.into_array(),
                vault: network.vault.into_array(),
                stream_window: charging.stream_window,
            },
            binding,
        })
    }
}

/// What others ask for a model, as far as their offers are known.
pub(crate) fn offered_by_others(inner: &Inner, model: &ModelDigest) -> Vec<Prices> {
    let own = inner.identity.peer_id();
    // The swarm that serves and the one that asks may know the same offer.
    let mut seen: BTreeMap<PeerId, Prices> = BTreeMap::new();
    let networks = [
        inner.serving.network(),
        Some(inner.asking.now().network.clone()),
    ];
    for network in networks.into_iter().flatten() {
        let offers = network.known_offers();
        let others = offers
            .iter()
            .map(|known| &known.offer)
            .filter(|offer| offer.model.digest == *model && offer.peer != own);
        seen.extend(others.map(|offer| (offer.peer, offer.prices)));
    }
    seen.into_values().collect()
}

/// What is asked for a model: by the person's figure, or by what others ask for it.
pub(crate) fn prices_of(inner: &Inner, model: &ModelDigest) -> Prices {
    let seen = offered_by_others(inner, model);
    let id = inner.models.by_digest(model).map(|model| model.id);
    money::asked(&inner.settings.borrow().money, id.as_deref(), &seen)
}

/// Why a node that is on has nothing to offer.
pub(super) fn nothing(inner: &Inner) -> ErrorView {
    if !inner.settings.borrow().serve_free {
        return ErrorView::new(
            "nothing_offered",
            "You answer nobody who does not pay, and nobody can pay yet.",
            Some("Choose a network and a price, or allow free answers in the settings.".to_owned()),
        );
    }
    if let Some(problem) = inner.money.problem() {
        return problem;
    }
    ErrorView::new(
        "nothing_offered",
        "No model on this computer may be offered to others.",
        Some(
            "Download a model whose licence allows it, or choose one for others in the settings."
                .to_owned(),
        ),
    )
}

/// What others get of the measured speeds of the model in this file: tokens read and written per second; 0 where nothing
/// was measured.
pub(super) fn speeds_of(inner: &Inner, file: &Path) -> (u32, u32) {
    let models = inner.models.all();
    let model = models
        .iter()
        .find(|model| model.file.as_deref() == Some(file));
    model.map_or((0, 0), speeds(inner))
}

/// Tokens that the model in this file writes per second where all of the time is one job's; 0 where that was not measured.
pub(super) fn writes_at_most(inner: &Inner, file: &Path) -> u32 {
    let models = inner.models.all();
    let model = models
        .iter()
        .find(|model| model.file.as_deref() == Some(file));
    let view = inner.models.view();
    let rows = &view.borrow().rows;
    let measured = model.and_then(|model| {
        let row = rows.iter().find(|row| row.id == model.id)?;
        row.measured.as_ref()
    });
    // A float becomes the nearest u32 that holds it, and 0 when it is no number.
    measured.map_or(0, |speed| speed.decode_tokens_per_second.ceil() as u32)
}

/// What others get of the measured speeds per model, by the share of the time that is theirs: in whole tokens per second; 0
/// where nothing was measured.
fn speeds(inner: &Inner) -> impl Fn(&Model) -> (u32, u32) + use<> {
    let share = f64::from(inner.settings.borrow().sharing().network_share);
    let rows = inner.models.view().borrow().rows.clone();
    move |model| {
        let measured = rows
            .iter()
            .find(|row| row.id == model.id)
            .and_then(|row| row.measured.as_ref());
        // A float becomes the nearest u32 that holds it, and 0 when it is no number.
        measured.map_or((0, 0), |speed| {
            (
                (speed.prefill_tokens_per_second.unwrap_or(0.0) * share) as u32,
                (speed.decode_tokens_per_second * share) as u32,
            )
        })
    }
}
