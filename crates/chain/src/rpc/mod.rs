//! Questions to the chain: one endpoint ([`endpoint`]), several compared ([`compare`]), and what they answer in
//! ([`wire`]).

pub(crate) mod compare;
pub(crate) mod endpoint;
pub(crate) mod wire;

pub(crate) use compare::Endpoints;
