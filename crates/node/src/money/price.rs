//! What this computer asks for a model, and what a person may still spend. Pure.

use protocol::price::{Price, Prices};

use super::settings::{Mode, ModelPrice, MoneySettings, sum};

/// Reading a token costs this part of writing one: a prompt is read many tokens at a time, and an answer is written one by one.
const READING_PART: u128 = 5;

/// The prices of a model: the person's own figure, or the median of what others ask for it. What is set for this model goes before
/// what is set for all. Nothing is asked where nobody else does and no figure is set, and nothing in the mode that lends for free.
pub(crate) fn asked(settings: &MoneySettings, model: Option<&str>, seen: &[Prices]) -> Prices {
    if settings.mode == Mode::Free {
        return Prices::FREE;
    }
    let of_model = model.and_then(|id| settings.models.get(id));
    let (price, floor) = match of_model {
        Some(ModelPrice { price, floor }) => (price, floor),
        None => (&settings.price, &settings.floor),
    };
    let figure = |text: &Option<String>| text.as_deref().and_then(sum);
    if let Some(output) = figure(price) {
        return of_output(output);
    }
    let Some(median) = median(seen) else {
        return Prices::FREE;
    };
    match figure(floor) {
        Some(floor) if floor > median.output.base_units_per_mtok() => of_output(floor),
        _ => median,
    }
}

/// The three prices that follow from one figure. What lies in the cache was paid for when it was read.
fn of_output(output: u128) -> Prices {
    Prices {
        input: Price::new(output / READING_PART),
        cached: Price::FREE,
        output: Price::new(output),
    }
}

/// The offer in the middle by its output price: the three prices of one offer belong together.
fn median(seen: &[Prices]) -> Option<Prices> {
    let mut paid: Vec<Prices> = seen
        .iter()
        .copied()
        .filter(|prices| !prices.is_free())
        .collect();
    paid.sort_by_key(|prices| prices.output);
    paid.get(paid.len().saturating_sub(1) / 2).copied()
}

/// What a chat's next answer may cost: the least of what the day, the chat and the grant leave.
pub(crate) fn allowance(
    settings: &MoneySettings,
    spent_today: u128,
    spent_chat: u128,
    left_of_grant: u128,
) -> u128 {
    let rest = |cap: &Option<String>, spent: u128| {
        cap.as_deref()
            .and_then(sum)
            .map_or(u128::MAX, |cap| cap.saturating_sub(spent))
    };
    left_of_grant
        .min(rest(&settings.daily, spent_today))
        .min(rest(&settings.chat, spent_chat))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn earn(price: Option<&str>, floor: Option<&str>) -> MoneySettings {
        MoneySettings {
            mode: Mode::Earn,
            price: price.map(str::to_owned),
            floor: floor.map(str::to_owned),
            ..MoneySettings::default()
        }
    }

    #[test]
    fn the_own_figure_goes_before_the_median_and_the_floor_holds_it_up() {
        let seen: Vec<Prices> = [40, 10, 30, 20].map(of_output).to_vec();
        let output = |settings: &MoneySettings, seen: &[Prices]| {
            asked(settings, None, seen).output.base_units_per_mtok()
        };
        assert_eq!(output(&earn(None, None), &seen), 20);
        assert_eq!(output(&earn(None, Some("25")), &seen), 25);
        assert_eq!(output(&earn(None, Some("5")), &seen), 20);
        assert_eq!(output(&earn(Some("7"), Some("25")), &seen), 7);
        assert_eq!(
            asked(&earn(Some("100"), None), None, &[]).input,
            Price::new(20)
        );
    }

    #[test]
    fn what_is_set_for_a_model_goes_before_what_is_set_for_all() {
        let seen: Vec<Prices> = [40, 10, 30, 20].map(of_output).to_vec();
        let mut settings = earn(Some("7"), None);
        let of_model = |price: Option<&str>, floor: Option<&str>| ModelPrice {
            price: price.map(str::to_owned),
            floor: floor.map(str::to_owned),
        };
        settings
            .models
            .insert("dear".to_owned(), of_model(Some("9"), None));
        settings
            .models
            .insert("median".to_owned(), of_model(None, None));
        settings
            .models
            .insert("held".to_owned(), of_model(None, Some("25")));
        let output = |model| {
            asked(&settings, Some(model), &seen)
                .output
                .base_units_per_mtok()
        };
        assert_eq!(output("dear"), 9);
        assert_eq!(output("median"), 20);
        assert_eq!(output("held"), 25);
        assert_eq!(output("another"), 7);
    }

    #[test]
    fn nothing_is_asked_where_nobody_asks_or_the_mode_is_free() {
        assert!(asked(&earn(None, Some("25")), None, &[Prices::FREE]).is_free());
        let free = MoneySettings {
            price: Some("7".to_owned()),
            ..MoneySettings::default()
        };
        assert!(asked(&free, None, &[of_output(9)]).is_free());
    }

    #[test]
    fn the_least_of_day_chat_and_grant_is_left() {
        let caps = |daily: Option<&str>, chat: Option<&str>| MoneySettings {
            daily: daily.map(str::to_owned),
            chat: chat.map(str::to_owned),
            ..MoneySettings::default()
        };
        assert_eq!(allowance(&caps(None, None), 5, 5, 100), 100);
        assert_eq!(allowance(&caps(Some("50"), None), 20, 5, 100), 30);
        assert_eq!(allowance(&caps(Some("50"), Some("10")), 20, 5, 100), 5);
        assert_eq!(allowance(&caps(Some("50"), Some("10")), 60, 5, 100), 0);
    }
}
