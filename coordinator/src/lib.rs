//! Turns requests into tiles and tiles into results.

pub mod catalog;
