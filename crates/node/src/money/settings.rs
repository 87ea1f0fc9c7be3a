//! What the person set about money. Names are single words, so that the file and the page spell them alike.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What the switch means when it is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Answers strangers for nothing.
    #[default]
    Free,
    /// Is paid, and asks from the account that its claims go to: once that is joined, each claim can be spent at once.
    LendAndSpend,
    /// Is paid; asking is paid from an account apart.
    Earn,
}

/// What is asked for one model, in the place of what is asked for all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelPrice {
    /// Base units per million output tokens; `None` is the median of the offers of this model.
    pub price: Option<String>,
    /// The least that is asked where the median is taken.
    pub floor: Option<String>,
}

/// The person's settings about money. Sums are decimal digits of base units, since they do not fit the numbers of TOML and
/// JSON.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MoneySettings {
    /// Name of the network's file, without its ending; `None`: there is no money, and everything else works.
    pub network: Option<String>,
    /// What the switch means.
    pub mode: Mode,
    /// Base units that are asked per million output tokens; `None` is the median of the offers that are seen.
    pub price: Option<String>,
    /// The least that is asked where the median is taken.
    pub floor: Option<String>,
    /// What a token in the cache costs, in percent of one that is read; `None` is [`CACHED_PERCENT`](super::CACHED_PERCENT), or what the
    /// offer asks that the median is.
    pub cached: Option<u32>,
    /// The most that may be spent in a day (UTC); `None` is as much as was granted.
    pub daily: Option<String>,
    /// The most that one chat may cost.
    pub chat: Option<String>,
    /// Minutes after which an idle wallet locks; 0 is never, `None` is [`LOCK_MINUTES`].
    pub lock: Option<u32>,
    /// What a kilowatt-hour costs the person, in money of theirs.
    pub tariff: Option<f64>,
    /// What one DGC is worth to the person, in the same money.
    pub worth: Option<f64>,
    /// What that money is called.
    pub currency: Option<String>,
    /// Watts that this computer draws more while it answers than while it does nothing: for one without a meter.
    pub watts: Option<f64>,
    /// Other figures for single models, by their ids in the list of models.
    pub models: BTreeMap<String, ModelPrice>,
    /// The highest price that is paid for single models, by their ids, in the place of the one for all: base units per million tokens.
    pub caps: BTreeMap<String, String>,
}

/// Long enough to read a preview and fetch the sheet with the words, short enough for an unattended desk.
pub const LOCK_MINUTES: u32 = 15;

impl MoneySettings {
    /// After how much idle time the wallet locks; `None` is never.
    #[must_use]
    pub fn lock_after(&self) -> Option<std::time::Duration> {
        match self.lock.unwrap_or(LOCK_MINUTES) {
            0 => None,
            minutes => Some(std::time::Duration::from_secs(u64::from(minutes) * 60)),
        }
    }

    /// The first setting that is no figure, with what it has to be.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        let sums = [
            ("money.price", &self.price),
            ("money.floor", &self.floor),
            ("money.daily", &self.daily),
            ("money.chat", &self.chat),
        ];
        let of_models = self.models.values().flat_map(|model| {
            [
                ("money.models", &model.price),
                ("money.models", &model.floor),
            ]
        });
        let caps = self.caps.values();
        let no_sum = sums
            .into_iter()
            .chain(of_models)
            .map(|(name, text)| (name, text.as_deref()))
            .chain(caps.map(|cap| ("money.caps", Some(cap.as_str()))))
            .find(|(_, text)| text.is_some_and(|text| sum(text).is_none()));
        if let Some((name, _)) = no_sum {
            return Some((name, "must be a whole number of base units, in digits"));
        }
        let named = [
            ("money.models", self.models.len()),
            ("money.caps", self.caps.len()),
        ];
        if let Some((name, _)) = named.iter().find(|(_, count)| *count > MAX_MODELS) {
            return Some((name, "must name at most 1000 models"));
        }
        let figures = [("money.tariff", self.tariff), ("money.worth", self.worth)];
        let no_figure = figures
            .iter()
            .find(|(_, figure)| figure.is_some_and(|figure| !figure.is_finite() || figure < 0.0));
        if let Some((name, _)) = no_figure {
            return Some((name, "must be a figure of zero or more"));
        }
        if self.cached.is_some_and(|percent| percent > 100) {
            return Some(("money.cached", "must be 0 to 100 percent"));
        }
        if self.watts.is_some_and(|watts| !WATTS.contains(&watts)) {
            return Some(("money.watts", "must be 0 to 100000 watts"));
        }
        let is_currency = |name: &String| {
            (1..=MAX_CURRENCY).contains(&name.chars().count())
                && name
                    .chars()
                    .all(|mark| !mark.is_control() && !mark.is_ascii_digit())
        };
        if self
            .currency
            .as_ref()
            .is_some_and(|name| !is_currency(name))
        {
            return Some((
                "money.currency",
                "must be a sign or a short name, as € or EUR",
            ));
        }
        let is_name = |name: &String| {
            !name.is_empty()
                && name.len() <= MAX_NAME
                && name
                    .chars()
                    .all(|mark| mark.is_ascii_alphanumeric() || mark == '-' || mark == '_')
        };
        match &self.network {
            Some(name) if !is_name(name) => Some((
                "money.network",
                "must be the name of a network's file: letters, digits, - and _",
            )),
            _ => None,
        }
    }
}

/// Models with a price or a limit of their own: a list that a person sees is shorter.
const MAX_MODELS: usize = 1000;

/// A figure of watts: no computer of a person draws more.
const WATTS: std::ops::RangeInclusive<f64> = 0.0..=100_000.0;

/// Characters of a currency: a sign, or a code of three letters and something beside it.
const MAX_CURRENCY: usize = 8;

/// Characters of a network's name: it is the name of a file.
const MAX_NAME: usize = 64;

/// A sum in decimal digits; `None` where it is none.
pub(crate) fn sum(digits: &str) -> Option<u128> {
    // `parse` also takes a sign, which no sum has.
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_sum_and_no_name_is_told_by_its_key() {
        let told = |change: fn(&mut MoneySettings)| {
            let mut settings = MoneySettings::default();
            change(&mut settings);
            settings.problem().map(|(name, _)| name)
        };
        assert_eq!(told(|_| ()), None);
        let lock = |lock| {
            MoneySettings {
                lock,
                ..MoneySettings::default()
            }
            .lock_after()
        };
        assert_eq!(lock(Some(0)), None);
        assert_eq!(lock(Some(2)), Some(std::time::Duration::from_secs(120)));
        assert!(lock(None).is_some());
        assert_eq!(told(|s| s.price = Some("+1".into())), Some("money.price"));
        assert_eq!(told(|s| s.floor = Some(String::new())), Some("money.floor"));
        assert_eq!(told(|s| s.daily = Some("1e3".into())), Some("money.daily"));
        let of_model = |price: Option<&str>, floor: Option<&str>| {
            let mut settings = MoneySettings::default();
            let of_model = ModelPrice {
                price: price.map(str::to_owned),
                floor: floor.map(str::to_owned),
            };
            settings.models.insert("starter".to_owned(), of_model);
            settings.problem().map(|(name, _)| name)
        };
        assert_eq!(of_model(Some("7"), None), None);
        assert_eq!(of_model(Some("-7"), None), Some("money.models"));
        assert_eq!(of_model(None, Some("")), Some("money.models"));
        let cap = |cap: &str| {
            let caps = BTreeMap::from([("starter".to_owned(), cap.to_owned())]);
            let settings = MoneySettings {
                caps,
                ..MoneySettings::default()
            };
            settings.problem().map(|(name, _)| name)
        };
        assert_eq!(cap("0"), None);
        assert_eq!(cap("1.5"), Some("money.caps"));
        assert_eq!(told(|s| s.chat = Some("9".repeat(40))), Some("money.chat"));
        assert_eq!(told(|s| s.tariff = Some(-0.1)), Some("money.tariff"));
        assert_eq!(told(|s| s.worth = Some(f64::NAN)), Some("money.worth"));
        assert_eq!(told(|s| s.cached = Some(101)), Some("money.cached"));
        assert_eq!(told(|s| s.cached = Some(100)), None);
        assert_eq!(told(|s| s.watts = Some(-1.0)), Some("money.watts"));
        assert_eq!(told(|s| s.watts = Some(f64::NAN)), Some("money.watts"));
        assert_eq!(told(|s| s.watts = Some(1e9)), Some("money.watts"));
        assert_eq!(told(|s| s.watts = Some(65.5)), None);
        for no_name in ["", "1", "a\nb", "much too long"] {
            let settings = MoneySettings {
                currency: Some(no_name.to_owned()),
                ..MoneySettings::default()
            };
            assert_eq!(
                settings.problem().map(|(name, _)| name),
                Some("money.currency"),
                "{no_name}"
            );
        }
        assert_eq!(told(|s| s.currency = Some("€".into())), None);
        assert_eq!(
            told(|s| s.network = Some("../etc".into())),
            Some("money.network")
        );
        assert_eq!(told(|s| s.network = Some("dev-net_2".into())), None);
    }
}
