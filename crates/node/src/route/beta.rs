//! The quantile of a beta distribution: how sure one may be of a share that was seen in a few trials.

/// Terms of the continued fraction; it converges in about √(a + b) of them, and records count to a few dozen.
const MAX_TERMS: u32 = 500;

/// Halvings of the unit interval: 60 reach the last bit of a double near 1.
const HALVINGS: u32 = 60;

/// The `p`-quantile of Beta(a, b): the x below which the variable lies with probability `p`.
///
/// `a` and `b` above 0, `p` between 0 and 1; anything else gives 0, the value that promises least.
#[must_use]
pub fn quantile(p: f64, a: f64, b: f64) -> f64 {
    if !(a > 0.0 && b > 0.0 && a.is_finite() && b.is_finite() && p > 0.0 && p < 1.0) {
        return 0.0;
    }
    // The distribution function rises, so bisection finds it without a derivative that could mislead.
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if cumulative(middle, a, b) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// The regularised incomplete beta function I_x(a, b) (DLMF 8.17.2).
fn cumulative(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = (a * x.ln() + b * (-x).ln_1p() + ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b)).exp();
    // The fraction converges fast below the mean; above it the symmetry I_x(a, b) = 1 − I_{1−x}(b, a) helps.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(x, a, b) / a
    } else {
        1.0 - front * fraction(1.0 - x, b, a) / b
    }
}

/// The continued fraction of DLMF 8.17.22, evaluated by the modified Lentz method.
fn fraction(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away_from_zero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut result = d;
    for m in 1..=MAX_TERMS {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        for term in [even, odd] {
            d = 1.0 / away_from_zero(1.0 + term * d);
            c = away_from_zero(1.0 + term / c);
            result *= c * d;
        }
        if (c * d - 1.0).abs() < 1e-15 {
            break;
        }
    }
    result
}

/// ln Γ(z) for z > 0: the recurrence lifts z to where Stirling's series (DLMF 5.11.1) is exact to a double.
fn ln_gamma(z: f64) -> f64 {
    let mut z = z;
    let mut below = 0.0;
    while z < 12.0 {
        below += z.ln();
        z += 1.0;
    }
    let (inverse, square) = (1.0 / z, 1.0 / (z * z));
    let series = inverse
        * (1.0 / 12.0
            - square
                * (1.0 / 360.0
                    - square * (1.0 / 1260.0 - square * (1.0 / 1680.0 - square / 1188.0))));
    (z - 0.5) * z.ln() - z + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - below
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// a, b, and the 5 % quantile computed with 30 digits by mpmath's incomplete beta function and bisection.
    const REFERENCE: &[(f64, f64, f64)] = &[
        (2.0, 2.0, 0.135350362171584),
        (12.0, 3.0, 0.614610317636118),
        (2.5, 1.5, 0.235534041442622),
        (31.4, 1.7, 0.874725122675789),
        (2.0, 31.0, 0.0112194943638801),
        (20.25, 12.5, 0.476473558380205),
        (3.0, 1.0625, 0.357244547744664),
        (100.0, 5.0, 0.914148566525427),
        (2.0, 10.0, 0.0333192176842298),
    ];

    #[test]
    fn equals_the_closed_forms() {
        // Beta(a, 1) has the distribution function x^a, Beta(1, b) has 1 − (1 − x)^b.
        for n in [0.5, 1.0, 2.0, 3.5, 10.0, 31.4, 200.0] {
            let first = quantile(0.05, n, 1.0);
            assert!(
                (first - 0.05f64.powf(1.0 / n)).abs() < 1e-12,
                "{n}: {first}"
            );
            let second = quantile(0.05, 1.0, n);
            assert!(
                (second - (1.0 - 0.95f64.powf(1.0 / n))).abs() < 1e-12,
                "{n}: {second}"
            );
        }
        // The new peer: nothing seen.
        assert!((quantile(0.05, 2.0, 1.0) - 0.223_606_797_749_979).abs() < 1e-12);
    }

    #[test]
    fn equals_an_independent_implementation() {
        for (a, b, expected) in REFERENCE {
            let got = quantile(0.05, *a, *b);
            assert!(
                (got - expected).abs() < 1e-11,
                "Beta({a}, {b}): {got}, not {expected}"
            );
        }
    }

    #[test]
    fn ln_gamma_of_whole_and_half_numbers() {
        let mut factorial: f64 = 1.0;
        for n in 1..30 {
            assert!(
                (ln_gamma(f64::from(n)) - factorial.ln()).abs() < 1e-12,
                "{n}"
            );
            factorial *= f64::from(n);
        }
        assert!((ln_gamma(0.5) - 0.5 * std::f64::consts::PI.ln()).abs() < 1e-13);
    }

    #[test]
    fn nonsense_promises_nothing() {
        for (p, a, b) in [
            (0.05, 0.0, 1.0),
            (0.05, 1.0, -1.0),
            (f64::NAN, 1.0, 1.0),
            (0.05, f64::INFINITY, 1.0),
            (1.0, 2.0, 2.0),
        ] {
            assert_eq!(quantile(p, a, b), 0.0);
        }
    }

    proptest! {
        #[test]
        fn a_success_never_lowers_it_and_a_failure_never_raises_it(s in 0.0..60.0f64, f in 0.0..60.0f64) {
            let before = quantile(0.05, 2.0 + s, 1.0 + f);
            prop_assert!((0.0..1.0).contains(&before));
            prop_assert!(quantile(0.05, 3.0 + s, 1.0 + f) > before);
            prop_assert!(quantile(0.05, 2.0 + s, 2.0 + f) < before);
        }

        #[test]
        fn the_quantile_inverts_the_distribution_function(a in 0.3..80.0f64, b in 0.3..80.0f64, p in 0.001..0.999f64) {
            let x = quantile(p, a, b);
            prop_assert!((cumulative(x, a, b) - p).abs() < 1e-9, "{x}");
        }
    }
}
