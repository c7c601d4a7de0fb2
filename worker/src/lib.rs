//! w

#[cfg(feature = "gdal")]
pub mod sink;
pub mod source;
