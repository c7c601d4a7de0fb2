//! Who writes GeoTIFFs: the coordinator has no GDAL of its own for it and is given the worker's writer.

use bytes::Bytes;
use graticule_common::block::Block;
use graticule_common::error::ErrorClass;
use graticule_common::grid::Grid;
use graticule_common::ops::Props;
use graticule_common::proto::v1 as pb;

/// A raster to be written.
#[derive(Clone, Copy, Debug)]
pub struct Raster<'a> {
    /// Where the pixels are.
    pub grid: &'a Grid,
    /// The pixels of the whole grid.
    pub block: &'a Block,
    /// Their metadata: names of bands, ids of images.
    pub props: &'a Props,
    /// What the bands mean; empty where nothing is known.
    pub bands: &'a [pb::BandMeaning],
}

/// Why a raster was not written.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct RasterError {
    /// What the caller can do about it.
    pub class: ErrorClass,
    /// What is wrong.
    pub message: String,
}

impl graticule_common::error::Classify for RasterError {
    fn class(&self) -> ErrorClass {
        self.class
    }
}

/// Writes rasters as GeoTIFF.
pub trait RasterWriter: Send + Sync + std::fmt::Debug {
    /// The bytes of a file, as `graticule compute --out FILE.tif` writes it. Blocks.
    ///
    /// # Errors
    /// [`RasterError`].
    fn geotiff(&self, raster: Raster<'_>) -> Result<Bytes, RasterError>;
}
