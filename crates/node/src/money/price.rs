//! What this computer asks for a model, and what a person may still spend. Pure.

use protocol::price::{Price, Prices};

use super::settings::{Mode, ModelPrice, MoneySettings, sum};

/// Reading a token costs this part of writing one: a prompt is read many tokens at a time, and an answer is written one by one.
const READING_PART: u128 = 5;

/// A token in the cache costs this part of reading one, in percent, where the person set no other: nothing is computed for it, but
/// the memory that keeps it is nobody else's.
pub const CACHED_PERCENT: u32 = 10;

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
    let of_output = |output| of_output(output, settings.cached.unwrap_or(CACHED_PERCENT));
    if let Some(output) = figure(price) {
        return of_output(output);
    }
    let Some(median) = median(seen) else {
        return Prices::FREE;
    };
    match figure(floor) {
        Some(floor) if floor > median.output.base_units_per_mtok() => of_output(floor),
        _ => match settings.cached {
            Some(percent) => Prices {
                cached: cached(median.input, percent),
                ..median
            },
            None => median,
        },
    }
}

/// The three prices that follow from one figure.
fn of_output(output: u128, cached_percent: u32) -> Prices {
    let input = Price::new(output / READING_PART);
    Prices {
        input,
        cached: cached(input, cached_percent),
        output: Price::new(output),
    }
}

/// So many hundredths of a price, rounded down and never more than it.
fn cached(input: Price, percent: u32) -> Price {
    let input = input.base_units_per_mtok();
    let percent = u128::from(percent.min(100));
    // Exact, and without a product that does not fit.
    Price::new(input / 100 * percent + input % 100 * percent / 100)
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

    fn others() -> Vec<Prices> {
        [40, 10, 30, 20]
            .map(|output| of_output(output, CACHED_PERCENT))
            .to_vec()
    }

    #[test]
    fn what_is_cached_costs_a_part_of_reading_and_never_more() {
        let with = |price: Option<&str>, cached| MoneySettings {
            cached,
            ..earn(price, None)
        };
        let figure = |cached| {
            let prices = asked(&with(Some("5000"), cached), None, &[]);
            assert!(prices.favour_cached());
            prices.cached.base_units_per_mtok()
        };
        assert_eq!(figure(None), 100);
        assert_eq!(figure(Some(25)), 250);
        assert_eq!(figure(Some(0)), 0);
        assert_eq!(figure(Some(100)), 1000);
        // What a file of settings says that nobody checked.
        assert_eq!(figure(Some(u32::MAX)), 1000);
        // The median's own, unless the person has a figure.
        let seen = [of_output(5000, 50)];
        let median = |cached| asked(&with(None, cached), None, &seen).cached;
        assert_eq!(median(None), Price::new(500));
        assert_eq!(median(Some(25)), Price::new(250));
        let most = cached(Price::new(u128::MAX), 99);
        assert_eq!(
            most.base_units_per_mtok(),
            u128::MAX / 100 * 99 + u128::MAX % 100 * 99 / 100
        );
    }

    #[test]
    fn the_own_figure_goes_before_the_median_and_the_floor_holds_it_up() {
        let seen = others();
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
        let seen = others();
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
        assert!(asked(&free, None, &[of_output(9, 10)]).is_free());
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
