//! The rules that no score outweighs, one variant each, so that a screen can say why a peer was not taken.

use super::{Known, Standing, VERSION, Want};

/// Why a peer is not taken for a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// It offers another file.
    #[error("it does not offer this model")]
    OtherModel,
    /// Its offer is over.
    #[error("its offer has ended")]
    Expired,
    /// It speaks no version of the protocol that this program speaks.
    #[error("it speaks versions {min} to {max} of the protocol, this program version {VERSION}")]
    Version {
        /// Its oldest.
        min: u32,
        /// Its newest.
        max: u32,
    },
    /// The input does not fit.
    #[error("it takes {ctx_max} tokens, and {needed} are needed")]
    Context {
        /// Tokens of the input and one of output.
        needed: u32,
        /// What it takes.
        ctx_max: u32,
    },
    /// It writes nothing.
    #[error("it writes no output")]
    NoOutput,
    /// It cannot do something that the job needs.
    #[error("it does not offer {feature}")]
    Feature {
        /// What.
        feature: String,
    },
    /// It asks for money, and this computer cannot pay it.
    #[error("it asks for money, and this computer cannot pay it")]
    Paid,
    /// It asks for more than the person pays.
    #[error("it asks for {asked} base units per million tokens, and your limit is {cap}")]
    Price {
        /// Its higher price.
        asked: u128,
        /// The person's limit.
        cap: u128,
    },
    /// The person refuses its region.
    #[error("it says that it is in {region}, which you excluded")]
    RegionDenied {
        /// What it claims.
        region: String,
    },
    /// The person chose regions, and its own is none of them.
    #[error("it says that it is in {}, which is not among your regions", region.as_deref().unwrap_or("no region"))]
    RegionNotAllowed {
        /// What it claims; `None` where it says nothing.
        region: Option<String>,
    },
    /// The person blocked it.
    #[error("you blocked it")]
    Blocked,
    /// It failed lately, and others are there.
    #[error("it failed lately, and is left alone for a while")]
    Banned {
        /// Until when, Unix milliseconds.
        until_ms: u64,
    },
    /// Enough of its neighbours, or of its owner's machines, are in the choice.
    #[error("enough peers of the same network or owner are in the choice")]
    Alike,
    /// Enough better ones are there.
    #[error("enough better ones are there")]
    Outscored,
}

/// Applies every rule that concerns this peer alone, in the order in which a person would want to hear them.
///
/// # Errors
/// The first rule that it breaks. [`NotTaken::Alike`] and [`NotTaken::Outscored`] depend on the others, and come from
/// [`super::shortlist`].
pub fn judge(want: &Want, known: &Known, now_ms: u64) -> Result<(), NotTaken> {
    let claims = &known.claims;
    if known.blocked {
        return Err(NotTaken::Blocked);
    }
    if claims.model != want.model {
        return Err(NotTaken::OtherModel);
    }
    if claims.expires_unix_ms <= now_ms {
        return Err(NotTaken::Expired);
    }
    let (min, max) = claims.versions;
    if !(min..=max).contains(&VERSION) {
        return Err(NotTaken::Version { min, max });
    }
    let needed = want.n_in.saturating_add(1);
    if claims.ctx_max < needed {
        return Err(NotTaken::Context {
            needed,
            ctx_max: claims.ctx_max,
        });
    }
    if claims.out_max == 0 {
        return Err(NotTaken::NoOutput);
    }
    let lacking = want
        .features
        .iter()
        .find(|feature| !claims.features.contains(feature));
    if let Some(feature) = lacking {
        return Err(NotTaken::Feature {
            feature: feature.clone(),
        });
    }
    price(want, known)?;
    region(want, known)?;
    match known.standing {
        Standing::Banned { until_ms } => Err(NotTaken::Banned { until_ms }),
        Standing::HalfOpen | Standing::Free => Ok(()),
    }
}

fn price(want: &Want, known: &Known) -> Result<(), NotTaken> {
    let prices = &known.claims.prices;
    if !known.payable && !prices.is_free() {
        return Err(NotTaken::Paid);
    }
    within_cap(want, known)
}

/// The person's limit, which no choice of a peer outweighs.
///
/// # Errors
/// [`NotTaken::Price`].
pub fn within_cap(want: &Want, known: &Known) -> Result<(), NotTaken> {
    let prices = &known.claims.prices;
    let dearest = prices.input.max(prices.cached).max(prices.output);
    match want.rules.price_cap {
        Some(cap) if dearest.base_units_per_mtok() > cap => Err(NotTaken::Price {
            asked: dearest.base_units_per_mtok(),
            cap,
        }),
        Some(_) | None => Ok(()),
    }
}

fn region(want: &Want, known: &Known) -> Result<(), NotTaken> {
    let region = known.claims.region.trim().to_uppercase();
    if want.rules.regions_deny.contains(&region) {
        return Err(NotTaken::RegionDenied { region });
    }
    let allowed = &want.rules.regions_allow;
    if !allowed.is_empty() && !allowed.contains(&region) {
        return Err(NotTaken::RegionNotAllowed {
            region: Some(region).filter(|region| !region.is_empty()),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use protocol::{
        ModelDigest,
        price::{Price, Prices},
    };

    use super::{
        super::examples::{NOW, known, want},
        *,
    };

    /// A peer that breaks one rule, and the job for which it does.
    fn breaking(change: impl FnOnce(&mut Known, &mut Want)) -> NotTaken {
        let (mut known, mut want) = (known(1), want());
        judge(&want, &known, NOW).unwrap();
        change(&mut known, &mut want);
        judge(&want, &known, NOW).unwrap_err()
    }

    #[test]
    fn each_rule_has_its_name() {
        let cases = [
            (breaking(|known, _| known.blocked = true), NotTaken::Blocked),
            (
                breaking(|known, _| known.claims.model = ModelDigest::new([1; 32])),
                NotTaken::OtherModel,
            ),
            (
                breaking(|known, _| known.claims.expires_unix_ms = NOW),
                NotTaken::Expired,
            ),
            (
                breaking(|known, _| known.claims.versions = (2, 3)),
                NotTaken::Version { min: 2, max: 3 },
            ),
            (
                breaking(|_, want| want.n_in = 8192),
                NotTaken::Context {
                    needed: 8193,
                    ctx_max: 8192,
                },
            ),
            (
                breaking(|_, want| want.n_in = u32::MAX),
                NotTaken::Context {
                    needed: u32::MAX,
                    ctx_max: 8192,
                },
            ),
            (
                breaking(|known, _| known.claims.out_max = 0),
                NotTaken::NoOutput,
            ),
            (
                breaking(|_, want| want.features = vec!["json".to_owned()]),
                NotTaken::Feature {
                    feature: "json".to_owned(),
                },
            ),
            (
                breaking(|known, _| {
                    known.payable = false;
                    known.claims.prices.cached = Price::new(1);
                }),
                NotTaken::Paid,
            ),
            (
                breaking(|known, want| {
                    want.rules.price_cap = Some(10);
                    known.claims.prices = Prices {
                        input: Price::new(3),
                        cached: Price::FREE,
                        output: Price::new(11),
                    };
                }),
                NotTaken::Price { asked: 11, cap: 10 },
            ),
            (
                breaking(|known, want| {
                    known.claims.region = "de".to_owned();
                    want.rules.regions_deny = vec!["DE".to_owned()];
                }),
                NotTaken::RegionDenied {
                    region: "DE".to_owned(),
                },
            ),
            (
                breaking(|_, want| want.rules.regions_allow = vec!["DE".to_owned()]),
                NotTaken::RegionNotAllowed { region: None },
            ),
            (
                breaking(|known, _| known.standing = Standing::Banned { until_ms: NOW + 1 }),
                NotTaken::Banned { until_ms: NOW + 1 },
            ),
        ];
        for (got, expected) in cases {
            assert_eq!(got, expected);
            assert!(!got.to_string().is_empty());
        }
    }

    #[test]
    fn what_a_rule_allows_is_taken() {
        let (mut known, mut want) = (known(1), want());
        known.claims.region = "De".to_owned();
        known.claims.prices.output = Price::new(10);
        known.standing = Standing::HalfOpen;
        want.n_in = 8191;
        want.rules.price_cap = Some(10);
        want.rules.regions_allow = vec!["FR".to_owned(), "DE".to_owned()];
        want.rules.regions_deny = vec!["US".to_owned()];
        judge(&want, &known, NOW).unwrap();
    }
}
