use super::*;

fn rope(scaling: Scaling) -> Rope {
    Rope {
        base: 10_000.0,
        width: 64,
        pairs: RopePairs::Halves,
        scaling,
        original_context: 4096,
        magnitude: 1.0,
    }
}

#[test]
fn what_is_said_to_run_has_its_code() {
    assert_eq!(FAMILIES.map(|(name, _)| name), crate::ARCHITECTURES);
}

#[test]
fn yarn_keeps_fast_pairs_and_divides_slow_ones() {
    let plain = rope(Scaling::Linear(1.0)).frequencies(None);
    let yarn = Scaling::Yarn {
        factor: 4.0,
        extrapolation: 1.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
    };
    let scaled = rope(yarn).frequencies(None);
    for (pair, (plain, scaled)) in plain.iter().zip(&scaled).enumerate() {
        let turns = 4096.0 * plain / std::f64::consts::TAU;
        let ratio = plain / scaled;
        assert!((0.999..=4.001).contains(&ratio), "pair {pair}: {ratio}");
        // The ramp begins and ends at whole pairs around the named turns: a factor of 1.34 each.
        if turns > 32.0 * 1.4 {
            assert!((ratio - 1.0).abs() < 1e-9, "pair {pair}: {ratio}");
        }
        if turns < 1.0 / 1.4 {
            assert!((ratio - 4.0).abs() < 1e-9, "pair {pair}: {ratio}");
        }
    }
}

#[test]
fn divisors_and_linear_scaling_divide() {
    let plain = rope(Scaling::Linear(1.0)).frequencies(None);
    let divisors: Vec<f32> = (0..32).map(|pair| 1.0 + pair as f32).collect();
    let both = rope(Scaling::Linear(2.0)).frequencies(Some(&divisors));
    for (pair, (plain, both)) in plain.iter().zip(both).enumerate() {
        assert!((plain / both - 2.0 * (1.0 + pair as f64)).abs() < 1e-9);
    }
}
