//! What is asked for models: by others, and by this computer.

use protocol::price::{Price, Prices};
use serde::{Deserialize, Serialize};

use super::settings::ModelPrice;
use crate::{Node, serve};

/// What peers ask for one model now, per million tokens, in base units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfferPrice {
    /// The id of its row among the models; `sha256:` and the digest of one that no row names.
    pub model: String,
    /// The lowest for reading.
    pub input_low: String,
    /// The highest for reading.
    pub input_high: String,
    /// The lowest for writing.
    pub output_low: String,
    /// The highest for writing.
    pub output_high: String,
    /// Offers that are known.
    pub offers: u32,
}

/// What this computer asks for a model that it lends, per million tokens, in base units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AskedPrice {
    /// The id of its row among the models.
    pub model: String,
    /// For reading.
    pub input: String,
    /// For what is in the cache.
    pub cached: String,
    /// For writing.
    pub output: String,
    /// Offers of others that are known, of which the median is taken.
    pub offers: u32,
    /// What was set for this model in the place of what is set for all.
    pub own: Option<ModelPrice>,
}

impl Node {
    /// What peers ask for each model of the list, and for what no row names, as far as offers of it are known.
    #[must_use]
    pub fn money_offers(&self) -> Vec<OfferPrice> {
        let mut offered = Vec::new();
        for model in self.inner.models.all() {
            let Some(digest) = model.digest else {
                continue;
            };
            let seen = serve::offered_by_others(&self.inner, &digest);
            let of = |price: fn(&Prices) -> Price| {
                let mut prices: Vec<Price> = seen.iter().map(price).collect();
                prices.sort_unstable();
                Some((text(prices.first()?), text(prices.last()?)))
            };
            let (Some(input), Some(output)) = (of(|of| of.input), of(|of| of.output)) else {
                continue;
            };
            offered.push(OfferPrice {
                model: model.id,
                input_low: input.0,
                input_high: input.1,
                output_low: output.0,
                output_high: output.1,
                offers: u32::try_from(seen.len()).unwrap_or(u32::MAX),
            });
        }
        let session = self.inner.asking.now();
        offered.extend(self.inner.unlisted_offers(&session));
        offered
    }

    /// What this computer asks for each model that it lends, as it would offer it now.
    #[must_use]
    pub fn money_prices(&self) -> Vec<AskedPrice> {
        let settings = self.settings_get();
        let chosen =
            |id: &String| settings.serve_models.is_empty() || settings.serve_models.contains(id);
        let models = self.inner.models.all().into_iter();
        models
            .filter(|model| model.file.is_some() && model.not_served.is_none() && chosen(&model.id))
            .filter_map(|model| {
                let digest = model.reference?.digest;
                let prices = serve::prices_of(&self.inner, &digest);
                Some(AskedPrice {
                    input: text(&prices.input),
                    cached: text(&prices.cached),
                    output: text(&prices.output),
                    offers: u32::try_from(serve::offered_by_others(&self.inner, &digest).len())
                        .unwrap_or(u32::MAX),
                    own: settings.money.models.get(&model.id).cloned(),
                    model: model.id,
                })
            })
            .collect()
    }
}

fn text(price: &Price) -> String {
    price.base_units_per_mtok().to_string()
}
