//! The rotary embedding and its scalings, as metadata names them.

use super::{Keys, ShapeProblem};

/// The rotary embedding of a model's heads.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub base: f32,
    /// Values of a head that are rotated, from its beginning.
    pub width: usize,
    /// How values are paired.
    pub pairs: RopePairs,
    /// How it was stretched to a longer context.
    pub scaling: Scaling,
    /// The context before it was stretched, in tokens.
    pub original_context: u32,
    /// Rotated values are multiplied with it.
    pub magnitude: f32,
}

/// How the halves of a head are paired for the rotary embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairs {
    /// Neighbours (2i, 2i+1): GGUF files of the llama family have their rows permuted for it.
    Neighbours,
    /// The first half with the second.
    Halves,
}

/// How positions beyond the original context were made usable. (A file may carry divisors for every frequency in a tensor
/// as well, as those of Llama 3.1 do.)
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scaling {
    /// Positions are divided by it; 1 is off.
    Linear(f32),
    /// "YaRN: Efficient Context Window Extension of Large Language Models" (Peng and others, 2023): low frequencies are
    /// divided by the factor, high ones are not, with a ramp between.
    Yarn {
        /// How much longer the context became.
        factor: f32,
        /// Share of the ramp that counts.
        extrapolation: f32,
        /// Turns in the original context above which a frequency stays as it is.
        beta_fast: f32,
        /// Turns below which it is fully divided.
        beta_slow: f32,
    },
    /// "LongRoPE" (Ding and others, 2024): a tensor of divisors for contexts up to the original one, another for longer.
    Long,
}

impl Rope {
    /// Reads the embedding of an architecture.
    pub(super) fn read(
        keys: &Keys<'_>,
        pairs: RopePairs,
        head_width: u32,
        context_train: u32,
    ) -> Result<Self, ShapeProblem> {
        let width = keys.number_or("rope.dimension_count", head_width, head_width)?;
        if !width.is_multiple_of(2) {
            return Err(keys.bad("rope.dimension_count", format!("{width} of {head_width}")));
        }
        // Files of 2023 have an older key; both say 0 for off.
        let old = keys.factor("rope.scale_linear")?;
        let factor = keys.factor("rope.scaling.factor")?.or(old).unwrap_or(1.0);
        let attention = keys.positive("rope.scaling.attn_factor", Some(1.0))?;
        let (scaling, magnitude) = match keys.text("rope.scaling.type") {
            Some("none") => (Scaling::Linear(1.0), attention),
            None | Some("linear") => (Scaling::Linear(factor), attention),
            Some("yarn") => {
                let yarn = |name: &str, usual| {
                    keys.positive(&format!("rope.scaling.yarn_{name}"), Some(usual))
                };
                let scaling = Scaling::Yarn {
                    factor,
                    extrapolation: yarn("ext_factor", 1.0)?,
                    beta_fast: yarn("beta_fast", 32.0)?,
                    beta_slow: yarn("beta_slow", 1.0)?,
                };
                let log = keys.factor("rope.scaling.yarn_log_multiplier")?;
                let lessened = log.map_or(1.0, |multiplier| temperature(factor, multiplier));
                (scaling, temperature(factor, 1.0) / lessened * attention)
            }
            Some("longrope") => (Scaling::Long, attention),
            Some(other) => return Err(keys.unsupported("rope.scaling.type", other)),
        };
        Ok(Self {
            base: keys.positive("rope.freq_base", Some(10_000.0))?,
            width: width as usize,
            pairs,
            scaling,
            original_context: keys.number_or(
                "rope.scaling.original_context_length",
                context_train,
                super::MAX_CONTEXT,
            )?,
            magnitude,
        })
    }

    /// The same with another base and without scaling.
    pub(super) fn unscaled(&self, base: f32) -> Self {
        Self {
            base,
            scaling: Scaling::Linear(1.0),
            magnitude: 1.0,
            ..self.clone()
        }
    }

    /// Angle per position of every rotated pair, where `divisors` are a file's own (none: all 1).
    pub fn frequencies(&self, divisors: Option<&[f32]>) -> Vec<f64> {
        let (base, width) = (f64::from(self.base), self.width as f64);
        let frequency = |pair: usize| {
            let divisor = divisors.map_or(1.0, |divisors| f64::from(divisors[pair]));
            let plain = base.powf(-2.0 * pair as f64 / width) / divisor;
            match self.scaling {
                Scaling::Linear(factor) => plain / f64::from(factor),
                Scaling::Long => plain,
                Scaling::Yarn {
                    factor,
                    extrapolation,
                    beta_fast,
                    beta_slow,
                } => {
                    let low = self.pair_of(beta_fast).floor().max(0.0);
                    let high = self.pair_of(beta_slow).ceil().min(width - 1.0);
                    let along = (pair as f64 - low) / (high - low).max(0.001);
                    let kept = (1.0 - along.clamp(0.0, 1.0)) * f64::from(extrapolation);
                    plain / f64::from(factor) * (1.0 - kept) + plain * kept
                }
            }
        };
        (0..self.width / 2).map(frequency).collect()
    }

    /// The pair (as a fraction) whose frequency makes that many turns in the original context.
    fn pair_of(&self, turns: f32) -> f64 {
        let original = f64::from(self.original_context);
        let wavelength = original / (f64::from(turns) * std::f64::consts::TAU);
        self.width as f64 * wavelength.ln() / (2.0 * f64::from(self.base).ln())
    }
}

/// What YaRN multiplies rotated values with.
fn temperature(factor: f32, multiplier: f32) -> f32 {
    if factor <= 1.0 {
        return 1.0;
    }
    0.1 * multiplier * factor.ln() + 1.0
}

impl Keys<'_> {
    /// A factor of which 0 says that there is none.
    fn factor(&self, name: &str) -> Result<Option<f32>, ShapeProblem> {
        if self.metadata.float(&self.key(name)) == Some(0.0) {
            return Ok(None);
        }
        match self.metadata.get(&self.key(name)) {
            None => Ok(None),
            Some(_) => self.positive(name, None).map(Some),
        }
    }
}
