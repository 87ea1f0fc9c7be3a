//! What drafts of repeated text are worth. What is measured and how stands in the engine's example of the same name.

use serde::Deserialize;

use super::{Row, sharing};
use crate::{
    house::House,
    sh::{self, Failure},
    starter,
};

#[derive(Debug, Deserialize)]
struct Figures {
    repeated: f64,
    repeated_without: f64,
    new: f64,
    new_without: f64,
}

/// Rows of answers of the starter's, by the worker as it is shipped: such as repeat their prompt, and others.
pub(super) fn rows(house: &House, rounds: usize) -> Result<Vec<Row>, Failure> {
    let model = starter::fetch(house)?;
    sharing::build(house, "drafts")?;
    let mut command = sharing::example_with(house, "drafts", &house.shipped("decentralgpt-worker"));
    command.arg(model).arg(rounds.max(1).to_string());
    let output = sh::quiet(&mut command)?;
    let line = output.lines().rfind(|line| line.starts_with('{'));
    let figures: Figures = serde_json::from_str(line.unwrap_or_default())
        .map_err(|error| Failure::new(format!("The measured line is not JSON: {error}.")))?;
    let row = |work, with, without| {
        Row::alone(work, "tok/s", with).against("without drafts", Some(without))
    };
    Ok(vec![
        row(
            "drafts_repeated.starter",
            figures.repeated,
            figures.repeated_without,
        )
        .goal(">= 1.0"),
        row("drafts_new.starter", figures.new, figures.new_without).goal(">= 0.97"),
    ])
}
