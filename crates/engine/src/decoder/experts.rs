//! Mixtures of experts: a router chooses, per token, which of many feed-forward layers compute it.

use super::block::{Gated, Pass};
use crate::EngineError;
use crate::backend::{Backend, Share};

/// The least that weights are divided by, the smallest normal half float.
const LEAST_SUM: f32 = 6.103_515_6e-5;

/// Sends every row through its experts and adds what they give, weighted, in the order of their rank.
pub(super) fn compute<B: Backend>(
    pass: &Pass<'_, B>,
    router: &B::Matrix,
    experts: &[Gated<B::Matrix>],
    rows: &B::Rows,
) -> Result<B::Rows, EngineError> {
    let used = pass.shape.experts.map_or(1, |experts| experts.used);
    let [scores] = pass.backend.project(rows, [router])?;
    let scores = pass.backend.download(scores)?;
    let chosen: Vec<Vec<(usize, f32)>> = scores
        .chunks_exact(experts.len())
        .map(|scores| choose(scores, used))
        .collect();
    // The rows of every expert, and where each of them stands in its row's sum.
    let mut of_expert: Vec<Vec<usize>> = vec![Vec::new(); experts.len()];
    let mut shares: Vec<Vec<Share>> = Vec::with_capacity(chosen.len());
    for (row, chosen) in chosen.iter().enumerate() {
        let mut sum = Vec::with_capacity(used);
        for &(expert, weight) in chosen {
            sum.push(Share {
                part: expert,
                row: of_expert[expert].len(),
                weight,
            });
            of_expert[expert].push(row);
        }
        shares.push(sum);
    }
    let mut parts = Vec::new();
    let mut part_of = vec![0; experts.len()];
    for (expert, rows_of_it) in of_expert.iter().enumerate() {
        if rows_of_it.is_empty() {
            continue;
        }
        part_of[expert] = parts.len();
        let gathered = pass.backend.gather(rows, rows_of_it)?;
        parts.push(pass.gated(&experts[expert], &gathered)?);
    }
    for share in shares.iter_mut().flatten() {
        share.part = part_of[share.part];
    }
    pass.backend.combine(&parts, &shares)
}

/// The likeliest experts of a row, the likeliest first (of equals the lower), with weights that sum to one.
fn choose(scores: &[f32], used: usize) -> Vec<(usize, f32)> {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let likelihoods: Vec<f32> = scores.iter().map(|score| (score - largest).exp()).collect();
    let total: f32 = likelihoods.iter().sum();
    let mut ranked: Vec<usize> = (0..scores.len()).collect();
    ranked.sort_by(|&a, &b| likelihoods[b].total_cmp(&likelihoods[a]).then(a.cmp(&b)));
    ranked.truncate(used);
    let sum: f32 = ranked
        .iter()
        .map(|&expert| likelihoods[expert] / total)
        .sum();
    // `max` would hide a NaN, and with it a damaged model.
    let sum = if sum < LEAST_SUM { LEAST_SUM } else { sum };
    let weight = |&expert: &usize| (expert, likelihoods[expert] / total / sum);
    ranked.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_are_chosen_and_share_one() {
        let chosen = choose(&[1.0, 3.0, -2.0, 3.0, 2.0], 3);
        let which: Vec<usize> = chosen.iter().map(|(expert, _)| *expert).collect();
        assert_eq!(which, [1, 3, 4]);
        let total: f32 = chosen.iter().map(|(_, weight)| weight).sum();
        assert!((total - 1.0).abs() < 1e-6);
        assert!((chosen[0].1 / chosen[2].1 - 1f32.exp()).abs() < 1e-4);
    }

    #[test]
    fn numbers_gone_bad_stay_bad() {
        let chosen = choose(&[f32::NAN, 1.0, 2.0], 2);
        assert!(chosen.iter().all(|(_, weight)| weight.is_nan()));
    }
}
