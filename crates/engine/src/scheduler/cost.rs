//! What a step costs, learned from the steps before: so much for the weights that every step reads, so much for each
//! sequence that decodes, so much for each token of a prompt.

/// How much of what was known a new measurement leaves: some fifty steps are remembered, so that a longer context or
/// another program's load are noticed within a second or two.
const KEEP: f64 = 0.98;

/// Before steps of different sizes were seen, one more sequence is taken to cost this part of a whole step: more than it
/// does on any device, so that the owner is not the one who pays for finding out.
const UNKNOWN_ROW: f64 = 0.5;

/// How much measurements must differ in size before a slope is read from them, in rows squared.
const TELLING: f64 = 0.05;

/// A model's costs on this device, in seconds.
#[derive(Debug, Clone, Default)]
pub struct Costs {
    // Sums of decode steps with weights that fade: of 1, rows, seconds, rows², rows × seconds.
    weight: f64,
    rows: f64,
    seconds: f64,
    squares: f64,
    products: f64,
    /// Seconds per token of a prompt.
    token: Option<f64>,
}

impl Costs {
    /// Takes a measured step into account.
    pub fn learn(&mut self, rows: usize, prefill: u32, seconds: f64) {
        if !(seconds.is_finite() && seconds > 0.0) {
            return;
        }
        if prefill == 0 {
            let rows = rows as f64;
            for sum in [
                &mut self.weight,
                &mut self.rows,
                &mut self.seconds,
                &mut self.squares,
                &mut self.products,
            ] {
                *sum *= KEEP;
            }
            self.weight += 1.0;
            self.rows += rows;
            self.seconds += seconds;
            self.squares += rows * rows;
            self.products += rows * seconds;
            return;
        }
        let decoding = if rows > 0 {
            self.step(rows, 0).unwrap_or(0.0)
        } else {
            0.0
        };
        let token = (seconds - decoding).max(0.0) / f64::from(prefill);
        // One measurement of hundreds of tokens says much already.
        self.token = Some(self.token.map_or(token, |known| known.midpoint(token)));
    }

    /// Seconds of a step that decodes `rows` sequences and reads `prefill` tokens of prompts; `None` before any like it
    /// was measured.
    pub fn step(&self, rows: usize, prefill: u32) -> Option<f64> {
        let decoding = match rows {
            0 => Some(0.0),
            rows => self.line().map(|(base, row)| base + row * rows as f64),
        };
        let reading = match prefill {
            0 => Some(0.0),
            // Before a prompt was measured, its tokens are taken to cost as much as decoding them one by one.
            tokens => self
                .token
                .or_else(|| self.line().map(|(base, row)| base + row))
                .map(|token| token * f64::from(tokens)),
        };
        Some(decoding? + reading?)
    }

    /// Seconds that one more decoding sequence adds to a step; 0 before any was measured.
    pub fn row(&self) -> f64 {
        self.line().map_or(0.0, |(_, row)| row)
    }

    /// Seconds per token of a prompt; 0 before any was measured.
    pub fn token(&self) -> f64 {
        self.token.unwrap_or(0.0)
    }

    /// Most tokens of a prompt that fit into that many seconds.
    pub fn affordable(&self, seconds: f64) -> u32 {
        match self.step(0, 1) {
            Some(token) if token > 0.0 => (seconds / token) as u32,
            _ => 0,
        }
    }

    /// Seconds of a decode step: fixed, and per row. By least squares; neither is negative.
    fn line(&self) -> Option<(f64, f64)> {
        if self.weight <= 0.0 {
            return None;
        }
        let (rows, seconds) = (self.rows / self.weight, self.seconds / self.weight);
        let spread = self.squares / self.weight - rows * rows;
        let row = if spread > TELLING {
            let together = self.products / self.weight - rows * seconds;
            (together / spread).clamp(0.0, seconds / rows.max(1.0))
        } else {
            seconds * UNKNOWN_ROW / rows.max(1.0)
        };
        Some(((seconds - row * rows).max(0.0), row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_known_before_a_step() {
        let costs = Costs::default();
        assert_eq!(costs.step(1, 0), None);
        assert_eq!(costs.step(0, 9), None);
        assert_eq!(costs.affordable(1.0), 0);
    }

    #[test]
    fn one_size_of_step_is_judged_with_caution() {
        let mut costs = Costs::default();
        for _ in 0..10 {
            costs.learn(1, 0, 0.004);
        }
        let one = costs.step(1, 0).unwrap();
        assert!((one - 0.004).abs() < 1e-9);
        assert!(costs.row() >= 0.002 - 1e-9);
    }

    proptest::proptest! {
        #[test]
        fn a_line_is_found_again(
            base in 0.001f64..0.1,
            row in 0.0f64..0.05,
            token in 0.0001f64..0.01,
            rows in proptest::collection::vec(1usize..32, 60..100),
        ) {
            let mut costs = Costs::default();
            let mut seen = std::collections::BTreeSet::new();
            for rows in rows {
                seen.insert(rows);
                costs.learn(rows, 0, base + row * rows as f64);
                costs.learn(0, 128, token * 128.0);
            }
            proptest::prop_assume!(seen.len() > 2);
            let close = |found: f64, true_one: f64| (found - true_one).abs() <= 1e-3 * true_one.max(1e-3);
            proptest::prop_assert!(close(costs.step(5, 0).unwrap(), base + row * 5.0));
            proptest::prop_assert!(close(costs.step(5, 10).unwrap(), base + row * 5.0 + token * 10.0));
        }
    }
}
