//! The matrix of networks as a person reads it: rows and columns in place of a figure a line.

use std::{collections::BTreeSet, fmt::Write as _};

use super::Figure;

/// What stands where nothing was measured.
const NOTHING: &str = "-";
/// An answer that was not whole.
const LOST: &str = "lost";
/// Between two columns.
const GAP: usize = 2;

/// Longest pauses by network and by what happened, and how providers behind routers were reached; those of the two that were measured.
pub(super) fn tables(figures: &[Figure]) -> Vec<String> {
    [pauses(figures), reached(figures)]
        .into_iter()
        .flatten()
        .collect()
}

/// Rows: round trip and loss. Columns: what happened, and what stands before who asks.
fn pauses(figures: &[Figure]) -> Option<String> {
    let mut table = Table::default();
    for figure in figures {
        let parts: Vec<&str> = figure.work.split('.').collect();
        let (round_trip, loss, router, event, what) = match parts.as_slice() {
            [round_trip, loss, router, event] => (
                round_trip,
                loss,
                router,
                event,
                format!("{:.1}", figure.ours),
            ),
            [round_trip, loss, router, event, "lost"] => {
                (round_trip, loss, router, event, LOST.to_owned())
            }
            _ => continue,
        };
        let (Some(ms), Some(percent)) = (round_trip.strip_prefix("rtt"), loss.strip_prefix("loss"))
        else {
            continue;
        };
        let row = format!("{ms} ms, {percent} % lost");
        table.put(row, format!("{event} {router}"), what);
    }
    table.shown("the longest pause of an answer in seconds")
}

/// Rows: what stands before who serves. Columns: before who asks.
fn reached(figures: &[Figure]) -> Option<String> {
    let mut table = Table::default();
    for figure in figures {
        let parts: Vec<&str> = figure.work.split('.').collect();
        let (provider, asker, what) = match parts.as_slice() {
            ["direct", provider, asker] if figure.ours > 0.0 => (provider, asker, "direct"),
            ["direct", provider, asker] => (provider, asker, "relayed"),
            ["relayed", provider, asker, "lost"] => (provider, asker, LOST),
            _ => continue,
        };
        table.put(
            format!("{provider} provider"),
            format!("{asker} asker"),
            what.to_owned(),
        );
    }
    let direct = figures
        .iter()
        .find(|figure| figure.work == "direct_connections");
    let share = direct.map_or(String::new(), |direct| {
        format!("; {:.0} % of the connections direct", direct.ours * 100.0)
    });
    table.shown(&format!(
        "how a provider behind a router was reached{share}"
    ))
}

/// Cells by the names of their row and column, which stand in the order in which they came.
#[derive(Debug, Default)]
struct Table {
    rows: Vec<String>,
    columns: Vec<String>,
    cells: Vec<(usize, usize, String)>,
}

impl Table {
    fn put(&mut self, row: String, column: String, what: String) {
        let at = |names: &mut Vec<String>, name: String| {
            names
                .iter()
                .position(|known| *known == name)
                .unwrap_or_else(|| {
                    names.push(name);
                    names.len() - 1
                })
        };
        let (row, column) = (at(&mut self.rows, row), at(&mut self.columns, column));
        self.cells.push((row, column, what));
    }

    fn cell(&self, row: usize, column: usize) -> &str {
        // An answer that was lost has a pause as well where its way was measured: the worse one is told.
        let here: BTreeSet<&str> = self
            .cells
            .iter()
            .filter(|cell| (cell.0, cell.1) == (row, column))
            .map(|cell| cell.2.as_str())
            .collect();
        match here.contains(LOST) {
            true => LOST,
            false => here.into_iter().next().unwrap_or(NOTHING),
        }
    }

    /// With a title; `None` of nothing.
    fn shown(&self, title: &str) -> Option<String> {
        if self.cells.is_empty() {
            return None;
        }
        // A column is as wide as the longest word of its name: what happened stands above what stands before who asks.
        let words = |name: &String| -> Vec<String> { name.split(' ').map(str::to_owned).collect() };
        let names: Vec<Vec<String>> = self.columns.iter().map(words).collect();
        let widths: Vec<usize> = (0..names.len())
            .map(|column| {
                let cells = (0..self.rows.len()).map(|row| self.cell(row, column).len());
                let words = names[column].iter().map(String::len);
                cells.chain(words).max().unwrap_or(0) + GAP
            })
            .collect();
        let first = self.rows.iter().map(String::len).max().unwrap_or(0);
        let mut text = format!("{title}\n");
        for line in 0..names.iter().map(Vec::len).max().unwrap_or(0) {
            let _ = write!(text, "{:first$}", "");
            for (name, width) in names.iter().zip(&widths) {
                let word = name.get(line).map_or("", String::as_str);
                let _ = write!(text, "{word:>width$}");
            }
            text.push('\n');
        }
        for (number, row) in self.rows.iter().enumerate() {
            let _ = write!(text, "{row:first$}");
            for (column, width) in widths.iter().enumerate() {
                let _ = write!(text, "{:>width$}", self.cell(number, column));
            }
            text.push('\n');
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(rows: &[(&str, f64)]) -> Vec<Figure> {
        let figure = |(work, ours): &(&str, f64)| Figure {
            work: (*work).to_owned(),
            unit: "s".to_owned(),
            ours: *ours,
            peer: None,
            peer_name: None,
            goal: None,
        };
        rows.iter().map(figure).collect()
    }

    #[test]
    fn cells_stand_under_what_happened_and_before_which_router() {
        let tables = tables(&figures(&[
            ("rtt20.loss0.open.undisturbed", 0.24),
            ("rtt20.loss0.cone.cut_2s", 2.2),
            ("rtt300.loss5.open.undisturbed.lost", 1.0),
            ("longest_pause_p95.undisturbed", 9.9),
        ]));
        let [table] = tables.as_slice() else {
            panic!("{tables:?}")
        };
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines,
            [
                "the longest pause of an answer in seconds",
                "                  undisturbed  cut_2s",
                "                         open    cone",
                "20 ms, 0 % lost           0.2     2.2",
                "300 ms, 5 % lost         lost       -",
            ]
        );
    }

    #[test]
    fn the_share_of_direct_connections_stands_above_who_was_reached_how() {
        let tables = tables(&figures(&[
            ("relayed.full_cone.open", 0.1),
            ("direct.full_cone.open", 1.0),
            ("direct.symmetric.symmetric", 0.0),
            ("relayed.symmetric.open.lost", 1.0),
            ("direct_connections", 2.0 / 3.0),
        ]));
        let [table] = tables.as_slice() else {
            panic!("{tables:?}")
        };
        assert!(table.starts_with(
            "how a provider behind a router was reached; 67 % of the connections direct\n"
        ));
        let lines: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[3], ["full_cone", "provider", "direct", "-"]);
        assert_eq!(lines[4], ["symmetric", "provider", "lost", "relayed"]);
        assert!(super::tables(&figures(&[("tokens_wrong", 0.0)])).is_empty());
    }
}
