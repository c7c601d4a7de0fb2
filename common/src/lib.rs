//! The graft language and its meaning: a pure compiler and interpreter.
//!
//! Without the feature `net` (and `proj`) this crate does no I/O and sees no clock, environment,
//! thread or random number.

pub mod aoi;
pub mod block;
pub mod error;
pub mod eval;
pub mod expr;
pub mod graft;
pub mod grid;
pub mod hash;
pub mod limits;
pub mod literal;
pub mod ops;
pub mod plan;
pub mod scene;
pub mod transform;
