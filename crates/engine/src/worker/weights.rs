//! What a model computes with: a decoder over pages, or an encoder of whole texts.

use std::sync::Arc;

use crate::cache::PagePool;
use crate::decoder::{self, Decoder};
use crate::encoder::{self, Encoder};
use crate::file::ModelFile;
use crate::pooling::Pooling;
use crate::{EngineError, LoadProgress};

/// A file that is understood, before a weight is touched.
#[derive(Debug)]
pub(super) enum Planned {
    Decoder(Box<decoder::Plan>),
    Encoder(encoder::Plan),
}

impl Planned {
    /// Understands a file, or says why not.
    pub(super) fn of(file: &Arc<ModelFile>) -> Result<Self, EngineError> {
        Ok(match encoder::Plan::is_for(file) {
            true => Self::Encoder(encoder::Plan::of(file)?),
            false => Self::Decoder(Box::new(decoder::Plan::of(file)?)),
        })
    }

    pub(super) fn file(&self) -> &Arc<ModelFile> {
        match self {
            Self::Decoder(plan) => plan.file(),
            Self::Encoder(plan) => plan.file(),
        }
    }

    /// Rows of the vocabulary's table, and the values of each.
    pub(super) fn table(&self) -> [usize; 2] {
        match self {
            Self::Decoder(plan) => [plan.vocabulary(), plan.shape().hidden],
            Self::Encoder(plan) => [plan.shape().rows, plan.shape().hidden],
        }
    }

    /// Bytes that the weights will take in memory.
    pub(super) fn weights_bytes(&self) -> u64 {
        match self {
            Self::Decoder(plan) => plan.weights_bytes(),
            Self::Encoder(plan) => plan.weights_bytes(),
        }
    }

    /// How the states of a text become a vector. A decoder whose file has no word about it, or one that is not understood,
    /// was not made to embed: the mean is what says most.
    pub(super) fn pooling(&self) -> Pooling {
        match self {
            Self::Encoder(plan) => plan.shape().pooling,
            Self::Decoder(plan) => {
                let metadata = &plan.file().header().metadata;
                let architecture = metadata.text("general.architecture").unwrap_or_default();
                let said = Pooling::of(metadata, architecture).ok().flatten();
                said.unwrap_or(Pooling::Mean)
            }
        }
    }
}

/// The weights in memory.
#[derive(Debug)]
pub(super) enum Weights {
    /// Computes tokens, one after the other.
    Decoder {
        decoder: Box<Decoder>,
        /// Keys and values of all sequences.
        pool: Box<PagePool>,
    },
    /// Computes texts, each as a whole.
    Encoder(Box<Encoder>),
}

impl Weights {
    /// Takes the weights of a file over, and leaves so many bytes for pages. An error of `report` ends it.
    pub(super) fn load(
        plan: &Planned,
        context: u32,
        pages: u64,
        report: &mut dyn FnMut(LoadProgress) -> Result<(), EngineError>,
    ) -> Result<Self, EngineError> {
        Ok(match plan {
            Planned::Decoder(plan) => {
                let decoder = Box::new(Decoder::new(plan, context, report)?);
                let pool = Box::new(decoder.pool(pages));
                Self::Decoder { decoder, pool }
            }
            Planned::Encoder(plan) => Self::Encoder(Box::new(Encoder::new(plan, report)?)),
        })
    }

    pub(super) fn pool(&self) -> Option<&PagePool> {
        match self {
            Self::Decoder { pool, .. } => Some(pool),
            Self::Encoder(_) => None,
        }
    }

    pub(super) fn pool_mut(&mut self) -> Option<&mut PagePool> {
        match self {
            Self::Decoder { pool, .. } => Some(pool),
            Self::Encoder(_) => None,
        }
    }

    /// Ids below it can be computed with.
    pub(super) fn vocabulary(&self) -> usize {
        match self {
            Self::Decoder { decoder, .. } => decoder.vocabulary(),
            Self::Encoder(encoder) => encoder.shape().rows,
        }
    }

    /// Values of a token's state.
    pub(super) fn hidden(&self) -> usize {
        match self {
            Self::Decoder { decoder, .. } => decoder.shape().hidden,
            Self::Encoder(encoder) => encoder.shape().hidden,
        }
    }
}
