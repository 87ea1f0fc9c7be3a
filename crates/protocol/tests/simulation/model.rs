//! A model that anybody can compute in his head: the next token is a function of prompt and prefix, so every honest
//! engine of the simulated network gives the same one.

pub(crate) const VOCAB: u32 = 1_000;
pub(crate) const EOG: u32 = 2;
pub(crate) const CONTEXT: u32 = 512;

/// The next token behind `prompt` and `output`.
pub(crate) fn next(prompt: &[u32], output: &[u32]) -> u32 {
    let seed = prompt.iter().fold(17u64, |hash, &id| mix(hash, id));
    let tail = &output[output.len().saturating_sub(4)..];
    if output.len() as u64 == 1 + seed % 150 {
        return EOG;
    }
    let hash = tail
        .iter()
        .fold(mix(seed, output.len() as u32), |hash, &id| mix(hash, id));
    3 + (hash % u64::from(VOCAB - 3)) as u32
}

fn mix(hash: u64, id: u32) -> u64 {
    let hash = (hash ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 29)
}

/// An engine that computes one job a token at a time.
#[derive(Debug)]
pub(crate) struct Engine {
    prompt: Vec<u32>,
    output: Vec<u32>,
    left: u32,
    ignore_eog: bool,
}

/// What one step of an engine gives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Token { index: u32, id: u32 },
    Stop,
    Length,
}

impl Engine {
    pub(crate) fn new(prompt: Vec<u32>, resume: Vec<u32>, max_out: u32, ignore_eog: bool) -> Self {
        Self {
            prompt,
            output: resume,
            left: max_out,
            ignore_eog,
        }
    }

    pub(crate) fn step(&mut self) -> Step {
        if !self.ignore_eog && self.output.last() == Some(&EOG) {
            return Step::Stop;
        }
        if self.left == 0 {
            return Step::Length;
        }
        self.left -= 1;
        let id = next(&self.prompt, &self.output);
        self.output.push(id);
        Step::Token {
            index: self.output.len() as u32 - 1,
            id,
        }
    }
}
