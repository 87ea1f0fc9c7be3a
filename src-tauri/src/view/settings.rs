//! The settings file, as the page edits it.

use std::collections::BTreeMap;

use node::money::settings;
use serde::{Deserialize, Serialize};
use specta::Type;

use super::chat::Place;

/// Which colours the window wears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Theme {
    System,
    Light,
    Dark,
}

/// What matters most when peers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Preset {
    Cheap,
    Balanced,
    Fast,
}

/// What the switch means when it is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    Free,
    LendAndSpend,
    Earn,
}

/// What is asked for one model, in the place of what is asked for all.
#[derive(Debug, Clone, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelPrice {
    /// Per million output tokens; null is the median of the offers.
    pub price: Option<String>,
    /// The least that is asked where the median is taken.
    pub floor: Option<String>,
}

/// What the person set about money. Sums are decimal digits of base units.
#[derive(Debug, Clone, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Money {
    /// Null: there is no money here.
    pub network: Option<String>,
    pub mode: Mode,
    /// Per million output tokens; null is the median of the offers.
    pub price: Option<String>,
    /// The least that is asked where the median is taken.
    pub floor: Option<String>,
    /// What a token in the cache costs, in percent of one that is read; null: a tenth, or what the median asks.
    pub cached: Option<u32>,
    /// The most that may be spent in a day.
    pub daily: Option<String>,
    /// The most that one chat may cost.
    pub chat: Option<String>,
    /// Minutes after which an idle wallet locks; 0 is never, null is 15.
    pub lock: Option<u32>,
    /// What a kilowatt-hour costs the person.
    pub tariff: Option<f64>,
    /// What one token is worth to the person, in the same money.
    pub worth: Option<f64>,
    /// What that money is called.
    pub currency: Option<String>,
    /// Watts that this computer draws more while it answers, where it has no meter.
    pub watts: Option<f64>,
    /// Other figures for single models, by their ids.
    pub models: BTreeMap<String, ModelPrice>,
    /// The highest price that is paid for single models, by their ids, in the place of the one for all.
    pub caps: BTreeMap<String, String>,
}

/// The settings file, as the Settings page edits it.
#[derive(Debug, Clone, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Settings {
    pub theme: Theme,
    /// 1 is the normal size of text.
    pub text_scale: f64,
    pub default_model: Option<String>,
    pub place: Place,
    pub listen: Vec<String>,
    pub mdns: bool,
    /// Null follows the system.
    pub proxy: Option<String>,
    pub serve_models: Vec<String>,
    pub serve_free: bool,
    pub serve_max_out: u32,
    /// Percent of the device's time.
    pub network_share: u8,
    pub routing: Preset,
    /// Base units per million tokens, in digits; null is any.
    pub price_cap: Option<String>,
    pub regions_allow: Vec<String>,
    pub regions_deny: Vec<String>,
    /// Where this computer says that it is; null says nothing.
    pub region: Option<String>,
    pub explore: bool,
    /// List what peers offer and no row of the models names.
    pub community_models: bool,
    pub lan_only: bool,
    pub saved_peers: bool,
    pub dns_names: Vec<String>,
    pub mainline: bool,
    pub upnp: bool,
    pub relay: bool,
    /// Null lets the engine choose.
    pub threads: Option<u32>,
    /// What closing the window means while serving; null asks once.
    pub close_to_tray: Option<bool>,
    pub money: Money,
}

same_variants!(from node::Preset { Cheap, Balanced, Fast });
same_variants!(into node::Preset { Cheap, Balanced, Fast });
same_variants!(from node::Theme { System, Light, Dark });
same_variants!(into node::Theme { System, Light, Dark });

impl From<node::Settings> for Settings {
    fn from(settings: node::Settings) -> Self {
        Self {
            theme: settings.theme.into(),
            text_scale: settings.text_scale,
            default_model: settings.default_model,
            place: settings.place.into(),
            listen: settings.listen,
            mdns: settings.mdns,
            proxy: settings.proxy,
            serve_models: settings.serve_models,
            serve_free: settings.serve_free,
            serve_max_out: settings.serve_max_out,
            network_share: settings.network_share,
            routing: settings.routing.into(),
            price_cap: settings.price_cap,
            regions_allow: settings.regions_allow,
            regions_deny: settings.regions_deny,
            region: settings.region,
            explore: settings.explore,
            community_models: settings.community_models,
            lan_only: settings.lan_only,
            saved_peers: settings.saved_peers,
            dns_names: settings.dns_names,
            mainline: settings.mainline,
            upnp: settings.upnp,
            relay: settings.relay,
            // `node` refuses more threads than twice the processors, far below this.
            threads: settings
                .threads
                .map(|threads| u32::try_from(threads).unwrap_or(u32::MAX)),
            close_to_tray: settings.close_to_tray,
            money: settings.money.into(),
        }
    }
}

impl From<Settings> for node::Settings {
    fn from(settings: Settings) -> Self {
        Self {
            theme: settings.theme.into(),
            text_scale: settings.text_scale,
            default_model: settings.default_model,
            place: settings.place.into(),
            listen: settings.listen,
            mdns: settings.mdns,
            proxy: settings.proxy,
            serve_models: settings.serve_models,
            serve_free: settings.serve_free,
            serve_max_out: settings.serve_max_out,
            network_share: settings.network_share,
            routing: settings.routing.into(),
            price_cap: settings.price_cap,
            regions_allow: settings.regions_allow,
            regions_deny: settings.regions_deny,
            region: settings.region,
            explore: settings.explore,
            community_models: settings.community_models,
            lan_only: settings.lan_only,
            saved_peers: settings.saved_peers,
            dns_names: settings.dns_names,
            mainline: settings.mainline,
            upnp: settings.upnp,
            relay: settings.relay,
            threads: settings
                .threads
                .map(|threads| usize::try_from(threads).unwrap_or(usize::MAX)),
            close_to_tray: settings.close_to_tray,
            money: settings.money.into(),
        }
    }
}

impl From<settings::Mode> for Mode {
    fn from(mode: settings::Mode) -> Self {
        match mode {
            settings::Mode::Free => Self::Free,
            settings::Mode::LendAndSpend => Self::LendAndSpend,
            settings::Mode::Earn => Self::Earn,
        }
    }
}

impl From<Mode> for settings::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Free => Self::Free,
            Mode::LendAndSpend => Self::LendAndSpend,
            Mode::Earn => Self::Earn,
        }
    }
}

impl From<settings::ModelPrice> for ModelPrice {
    fn from(settings::ModelPrice { price, floor }: settings::ModelPrice) -> Self {
        Self { price, floor }
    }
}

impl From<ModelPrice> for settings::ModelPrice {
    fn from(ModelPrice { price, floor }: ModelPrice) -> Self {
        Self { price, floor }
    }
}

impl From<settings::MoneySettings> for Money {
    fn from(money: settings::MoneySettings) -> Self {
        Self {
            network: money.network,
            mode: money.mode.into(),
            price: money.price,
            floor: money.floor,
            cached: money.cached,
            daily: money.daily,
            chat: money.chat,
            lock: money.lock,
            tariff: money.tariff,
            worth: money.worth,
            currency: money.currency,
            watts: money.watts,
            models: money
                .models
                .into_iter()
                .map(|(id, price)| (id, price.into()))
                .collect(),
            caps: money.caps,
        }
    }
}

impl From<Money> for settings::MoneySettings {
    fn from(money: Money) -> Self {
        Self {
            network: money.network,
            mode: money.mode.into(),
            price: money.price,
            floor: money.floor,
            cached: money.cached,
            daily: money.daily,
            chat: money.chat,
            lock: money.lock,
            tariff: money.tariff,
            worth: money.worth,
            currency: money.currency,
            watts: money.watts,
            models: money
                .models
                .into_iter()
                .map(|(id, price)| (id, price.into()))
                .collect(),
            caps: money.caps,
        }
    }
}
