//! Prices of models, as the page draws them: decimal digits of base units per million tokens.

use node::money;
use serde::Serialize;
use specta::Type;

use super::settings::ModelPrice;

/// What peers ask for one model now, per million tokens.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OfferPrice {
    /// The id of its row among the models.
    pub model: String,
    pub input_low: String,
    pub input_high: String,
    pub output_low: String,
    pub output_high: String,
    pub offers: u32,
}

impl From<money::OfferPrice> for OfferPrice {
    fn from(price: money::OfferPrice) -> Self {
        Self {
            model: price.model,
            input_low: price.input_low,
            input_high: price.input_high,
            output_low: price.output_low,
            output_high: price.output_high,
            offers: price.offers,
        }
    }
}

/// What this computer asks for a model that it lends, per million tokens.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AskedPrice {
    /// The id of its row among the models.
    pub model: String,
    pub input: String,
    pub output: String,
    /// Offers of others, of which the median is taken.
    pub offers: u32,
    /// What was set for this model; null: it is as for all.
    pub own: Option<ModelPrice>,
}

impl From<money::AskedPrice> for AskedPrice {
    fn from(asked: money::AskedPrice) -> Self {
        Self {
            model: asked.model,
            input: asked.input,
            output: asked.output,
            offers: asked.offers,
            own: asked.own.map(Into::into),
        }
    }
}
