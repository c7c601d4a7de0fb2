//! c

mod colormaps;
pub mod render;
