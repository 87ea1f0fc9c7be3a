//! What a run found. The program prints it as its last line, and `cargo xtask` makes the table and the file of it.

use serde::Serialize;

/// One measured thing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What was measured.
    pub work: String,
    /// Of what.
    pub unit: String,
    /// The figure.
    pub ours: f64,
    /// What it is compared with.
    pub peer: Option<f64>,
    /// What that is.
    pub peer_name: Option<String>,
    /// In ASCII, on the ratio to the peer where there is one, else on the figure itself.
    pub goal: Option<String>,
}

impl Row {
    /// A figure with nothing to compare it with.
    pub fn new(work: impl Into<String>, unit: &str, ours: f64) -> Self {
        Self {
            work: work.into(),
            unit: unit.to_owned(),
            ours,
            peer: None,
            peer_name: None,
            goal: None,
        }
    }

    /// With what it is compared with.
    #[must_use]
    pub fn against(mut self, name: &str, peer: f64) -> Self {
        self.peer = Some(peer);
        self.peer_name = Some(name.to_owned());
        self
    }

    /// With what it should be.
    #[must_use]
    pub fn goal(mut self, goal: &str) -> Self {
        self.goal = Some(goal.to_owned());
        self
    }
}

/// Everything that a run found.
#[derive(Debug, Default, Serialize)]
pub struct Figures {
    /// In the order of the table.
    pub rows: Vec<Row>,
    /// What was not shown, by name, with the reason.
    pub skipped: Vec<String>,
}

impl Figures {
    /// One more figure.
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Something that this run does not show.
    pub fn skip(&mut self, what: impl Into<String>) {
        self.skipped.push(what.into());
    }
}

/// The value below which this share of the values lies, by the nearest rank. `None` of nothing.
#[must_use]
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(last)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        assert_eq!(quantile(&[], 0.95), None);
        assert_eq!(quantile(&[3.0], 0.95), Some(3.0));
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.95), Some(95.0));
        assert_eq!(quantile(&values, 0.5), Some(50.0));
        assert_eq!(quantile(&[9.0, 1.0], 0.95), Some(9.0));
    }
}
