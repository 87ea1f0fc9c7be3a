//! Amounts for people: base units with their point, and whether they are worth anything.

/// Digits behind the point, of token and coin alike.
const DECIMALS: usize = 18;

/// What a network calls its money.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) symbol: String,
    /// Of a test network: every amount of it says so.
    pub(crate) test: bool,
}

impl Unit {
    /// An amount with its unit, exact to the last digit.
    pub(crate) fn text(&self, base_units: u128) -> String {
        let worth = if self.test { " (worth nothing)" } else { "" };
        format!("{} {}{worth}", tokens(base_units), self.symbol)
    }
}

/// Base units with their point. No digit is rounded away.
pub(crate) fn tokens(base_units: u128) -> String {
    let padded = format!("{base_units:0>width$}", width = DECIMALS + 1);
    let (whole, part) = padded.split_at(padded.len() - DECIMALS);
    let part = part.trim_end_matches('0');
    if part.is_empty() {
        whole.to_owned()
    } else {
        format!("{whole}.{part}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_and_say_what_they_are_worth() {
        assert_eq!(tokens(0), "0");
        assert_eq!(tokens(1), "0.000000000000000001");
        assert_eq!(tokens(12_500_000_000_000_000_000), "12.5");
        let unit = |test| Unit {
            symbol: "devDGC".to_owned(),
            test,
        };
        assert_eq!(unit(true).text(0), "0 devDGC (worth nothing)");
        assert_eq!(unit(false).text(10u128.pow(18)), "1 devDGC");
    }
}
