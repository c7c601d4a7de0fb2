//! Turns requests into tiles and tiles into results.

pub mod catalog;
mod colormaps;
pub mod render;
