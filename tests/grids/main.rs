//! AOIs become the grids and masks that PROJ and GDAL make of them, and the documented ones.

mod documented;
mod oracle;
mod tiles;

use graticule_common::aoi::{Aoi, AoiError, Geometry, Outline, Sampling};
use graticule_common::grid::Grid;
use graticule_common::limits::Limits;
use graticule_common::transform::Proj;

/// An AOI of bounds alone.
pub fn aoi(crs: &str, bounds: [f64; 4], sampling: Sampling) -> Aoi {
    Aoi {
        geometry: Geometry::default(),
        bounds: Some(bounds),
        bounds_crs: None,
        crs: crs.to_owned(),
        sampling,
        align_pixels: false,
        all_touched: false,
    }
}

/// Square pixels.
pub fn resolution(size: f64) -> Sampling {
    Sampling::Resolution(size, size)
}

/// The grid and outline of an AOI.
pub fn resolve(aoi: &Aoi) -> Result<(Grid, Option<Outline>), AoiError> {
    aoi.resolve(&Proj::new(), &Limits::default())
}
