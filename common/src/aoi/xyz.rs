//! Tiles of web maps: the world in EPSG:3857 as a square, halved again with each zoom.

use super::{Aoi, Geometry, Sampling};

/// CRS of the tiles.
pub const WEB_MERCATOR: &str = "EPSG:3857";

/// The finest zoom.
pub const ZOOM_MAX: u32 = 26;

/// Half the width of the world in EPSG:3857, in metres.
pub const HALF_WORLD: f64 = std::f64::consts::PI * 6_378_137.0;

/// A tile; row 0 is the northernmost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct XyzTile {
    zoom: u32,
    col: u32,
    row: u32,
}

/// Why numbers name no tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XyzError {
    /// Too fine.
    #[error("zoom {zoom} is beyond {ZOOM_MAX}")]
    Zoom {
        /// Zoom asked for.
        zoom: u32,
    },
    /// Beside the world.
    #[error("zoom {zoom} has columns and rows 0 to {}, not column {col} and row {row}", (1u32 << zoom) - 1)]
    Place {
        /// Zoom asked for.
        zoom: u32,
        /// Column asked for.
        col: u32,
        /// Row asked for.
        row: u32,
    },
}

impl XyzTile {
    /// A tile by zoom, column (x) and row (y).
    ///
    /// # Errors
    /// [`XyzError`] beyond [`ZOOM_MAX`] and beside the world.
    pub fn new(zoom: u32, col: u32, row: u32) -> Result<XyzTile, XyzError> {
        if zoom > ZOOM_MAX {
            return Err(XyzError::Zoom { zoom });
        }
        if col >= 1 << zoom || row >= 1 << zoom {
            return Err(XyzError::Place { zoom, col, row });
        }
        Ok(XyzTile { zoom, col, row })
    }

    /// Zoom, column and row.
    pub fn numbers(self) -> (u32, u32, u32) {
        (self.zoom, self.col, self.row)
    }

    /// West, south, east, north in EPSG:3857.
    pub fn bounds(self) -> [f64; 4] {
        let size = self.size();
        let west = f64::from(self.col) * size - HALF_WORLD;
        let north = HALF_WORLD - f64::from(self.row) * size;
        [west, north - size, west + size, north]
    }

    /// Edge of the tile in metres of EPSG:3857.
    fn size(self) -> f64 {
        2.0 * HALF_WORLD / f64::from(1u32 << self.zoom)
    }

    /// Edge of a pixel in metres of EPSG:3857, where the tile has so many rows and columns.
    pub fn resolution(self, pixels: u32) -> f64 {
        self.size() / f64::from(pixels)
    }

    /// The tile as so many rows and columns of pixels.
    pub fn aoi(self, pixels: u32) -> Aoi {
        let resolution = self.resolution(pixels);
        Aoi {
            geometry: Geometry::default(),
            bounds: Some(self.bounds()),
            bounds_crs: Some(WEB_MERCATOR.to_owned()),
            crs: WEB_MERCATOR.to_owned(),
            sampling: Sampling::Resolution(resolution, resolution),
            align_pixels: true,
            all_touched: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_halve_the_world() {
        let tile = XyzTile::new(1, 1, 0).unwrap();
        assert_eq!(tile.bounds(), [0.0, 0.0, 20037508.342789244, 20037508.342789244]);
        assert_eq!(tile.aoi(256).sampling, Sampling::Resolution(HALF_WORLD / 256.0, HALF_WORLD / 256.0));
        assert_eq!(XyzTile::new(0, 0, 0).unwrap().bounds()[3], HALF_WORLD);
        assert!(XyzTile::new(ZOOM_MAX, (1 << ZOOM_MAX) - 1, 0).is_ok());
        assert_eq!(XyzTile::new(27, 0, 0), Err(XyzError::Zoom { zoom: 27 }));
        for (zoom, col, row) in [(0, 1, 0), (1, 0, 2), (26, 1 << 26, 0), (3, u32::MAX, 0)] {
            assert_eq!(XyzTile::new(zoom, col, row), Err(XyzError::Place { zoom, col, row }));
        }
    }
}
