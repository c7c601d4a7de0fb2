//! The graft language and its meaning: a pure compiler and interpreter.
//!
//! Without the feature `net` (and `proj`) this crate does no I/O and sees no clock, environment,
//! thread or random number.

pub mod block;
pub mod error;
pub mod grid;
pub mod hash;
pub mod limits;
pub mod scene;
pub mod transform;
