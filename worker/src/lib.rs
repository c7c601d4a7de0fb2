//! Evaluates tiles of a plan over imagery.

pub mod cache;
#[cfg(feature = "gdal")]
pub mod sink;
pub mod source;
