//! A transformer block: attention and a gated feed-forward layer, each on the normed stream and added to it.

use super::experts;
use super::{Span, wanted_rows};
use crate::EngineError;
use crate::backend::{Attention, Backend};
use crate::families::Shape;

/// The weights of a block: matrices as `M`, norms as `V`.
#[derive(Debug)]
pub(crate) struct Block<M, V> {
    pub(crate) attention_norm: V,
    pub(crate) query: M,
    pub(crate) key: M,
    pub(crate) value: M,
    pub(crate) query_norm: Option<V>,
    pub(crate) key_norm: Option<V>,
    pub(crate) output: M,
    pub(crate) attention_post_norm: Option<V>,
    pub(crate) feed_forward_norm: V,
    pub(crate) feed_forward: FeedForward<M>,
    pub(crate) feed_forward_post_norm: Option<V>,
}

/// The second half of a block.
#[derive(Debug)]
pub(crate) enum FeedForward<M> {
    /// One gated layer for all tokens.
    Gated(Gated<M>),
    /// One of several for each token, or some.
    Experts {
        /// Whose outputs choose the experts of a token.
        router: M,
        experts: Vec<Gated<M>>,
    },
}

/// `down · (activation(gate · x) · (up · x))`.
#[derive(Debug)]
pub(crate) struct Gated<M> {
    pub(crate) gate: M,
    pub(crate) up: M,
    pub(crate) down: M,
}

impl<M, V> Block<M, V> {
    /// The same block with its weights made into something else, in the order in which a step uses them.
    pub(super) fn load<N, W>(
        &self,
        mut matrix: impl FnMut(&M) -> Result<N, EngineError>,
        mut vector: impl FnMut(&V) -> Result<W, EngineError>,
    ) -> Result<Block<N, W>, EngineError> {
        let gated = |gated: &Gated<M>, matrix: &mut dyn FnMut(&M) -> Result<N, EngineError>| {
            Ok::<_, EngineError>(Gated {
                gate: matrix(&gated.gate)?,
                up: matrix(&gated.up)?,
                down: matrix(&gated.down)?,
            })
        };
        let mut optional = |norm: &Option<V>| norm.as_ref().map(&mut vector).transpose();
        let (query_norm, key_norm) = (optional(&self.query_norm)?, optional(&self.key_norm)?);
        let attention_post_norm = optional(&self.attention_post_norm)?;
        let feed_forward_post_norm = optional(&self.feed_forward_post_norm)?;
        Ok(Block {
            attention_norm: vector(&self.attention_norm)?,
            query: matrix(&self.query)?,
            key: matrix(&self.key)?,
            value: matrix(&self.value)?,
            query_norm,
            key_norm,
            output: matrix(&self.output)?,
            attention_post_norm,
            feed_forward_norm: vector(&self.feed_forward_norm)?,
            feed_forward: match &self.feed_forward {
                FeedForward::Gated(layer) => FeedForward::Gated(gated(layer, &mut matrix)?),
                FeedForward::Experts { router, experts } => FeedForward::Experts {
                    router: matrix(router)?,
                    experts: experts
                        .iter()
                        .map(|expert| gated(expert, &mut matrix))
                        .collect::<Result<_, _>>()?,
                },
            },
            feed_forward_post_norm,
        })
    }
}

/// What the blocks of one step share.
#[derive(Debug)]
pub(super) struct Pass<'d, B: Backend> {
    pub(super) backend: &'d B,
    pub(super) shape: &'d Shape,
    /// Of layers that see everything.
    pub(super) turns: B::Turns,
    /// Of layers with a window.
    pub(super) local_turns: Option<B::Turns>,
}

impl<B: Backend> Pass<'_, B> {
    /// Computes a block on `stream`, to which `pending` is added first; gives what is to be added next. Of the last
    /// block, only rows whose logits are wanted go on.
    pub(super) fn block(
        &self,
        layer: usize,
        block: &Block<B::Matrix, B::Vector>,
        stream: &mut B::Rows,
        pending: Option<B::Rows>,
        spans: &mut [Span<'_, B::Page>],
    ) -> Result<Option<B::Rows>, EngineError> {
        let (backend, shape) = (self.backend, self.shape);
        let epsilon = shape.rms_epsilon;
        let normed = backend.add_norm(stream, pending, &block.attention_norm, epsilon)?;
        let [queries, keys, values] =
            backend.project(&normed, [&block.query, &block.key, &block.value])?;
        let window = shape.window(layer);
        let turns = match (&self.local_turns, window) {
            (Some(turns), Some(_)) => turns,
            (Some(_) | None, _) => &self.turns,
        };
        let reach = shape.reach(layer);
        let attention = Attention {
            reach,
            layer: shape.before(layer, reach),
            heads: shape.heads,
            kv_heads: shape.kv_heads,
            head_width: shape.head_width,
            window,
            scale: shape.attention_scale,
        };
        let query_norm = block.query_norm.as_ref().map(|weight| (weight, epsilon));
        let queries = backend.rotate(queries, query_norm, turns)?;
        let key_norm = block.key_norm.as_ref().map(|weight| (weight, epsilon));
        let keys = backend.rotate(keys, key_norm, turns)?;
        let mut attended = backend.attend(&attention, queries, keys, values, spans)?;
        if layer + 1 == shape.layers {
            let wanted: Vec<usize> = wanted_rows(spans).into_iter().flatten().collect();
            if wanted.is_empty() {
                return Ok(None);
            }
            attended = backend.gather(&attended, &wanted)?;
            *stream = backend.gather(stream, &wanted)?;
        }
        let [out] = backend.project(&attended, [&block.output])?;
        let out = self.normed(out, block.attention_post_norm.as_ref())?;
        let normed = backend.add_norm(stream, Some(out), &block.feed_forward_norm, epsilon)?;
        let out = match &block.feed_forward {
            FeedForward::Gated(layer) => self.gated(layer, &normed)?,
            FeedForward::Experts { router, experts } => {
                experts::compute(self, router, experts, &normed)?
            }
        };
        self.normed(out, block.feed_forward_post_norm.as_ref())
            .map(Some)
    }

    /// A gated layer.
    pub(super) fn gated(
        &self,
        layer: &Gated<B::Matrix>,
        rows: &B::Rows,
    ) -> Result<B::Rows, EngineError> {
        let [gate, up] = self.backend.project(rows, [&layer.gate, &layer.up])?;
        let inner = self.backend.gate(gate, up, self.shape.activation)?;
        let [out] = self.backend.project(&inner, [&layer.down])?;
        Ok(out)
    }

    fn normed(&self, rows: B::Rows, weight: Option<&B::Vector>) -> Result<B::Rows, EngineError> {
        match weight {
            Some(weight) => self.backend.norm(&rows, weight, self.shape.rms_epsilon),
            None => Ok(rows),
        }
    }
}
