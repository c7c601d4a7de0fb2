//! Neighbourhoods: padding, the edges of grids, and ops that look at pixels around a pixel.

mod domains;
mod gradients;
mod terrain;
mod windows;
mod world;
