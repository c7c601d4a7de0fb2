//! Evaluates tiles of a plan over imagery.

pub mod cache;
