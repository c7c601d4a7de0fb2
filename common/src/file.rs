//! What a look into a file finds: for catalogs, which describe files, and for checks of what they say.

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::scene::{Asset, AssetGrid, ClassInfo};

/// What a file says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct FileInfo {
    /// Short name of the driver that read it, such as `GTiff`.
    pub driver: String,
    /// What identifies its contents now, as `Asset::version` holds it: of a local file, size and time of
    /// change; of one on a server, its ETag, or else length and time of change.
    pub version: String,
    /// Where its pixels lie, or why that is not known: no CRS, no geotransform, control points only.
    pub grid: Result<AssetGrid, String>,
    /// Rows and columns.
    pub shape: (u32, u32),
    /// Its bands, in order.
    pub bands: Vec<FileBand>,
    /// Tags of the file, by name, such as `TIFFTAG_DATETIME`.
    pub tags: BTreeMap<String, String>,
    /// What an operator should know: more images in the file, side-car files that are not listed, a
    /// layout that is slow to read.
    pub notes: Vec<String>,
}

/// What a file says about one of its bands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileBand {
    /// Type of the stored values, as the raster extension of STAC spells it, such as `uint16`.
    pub data_type: String,
    /// Its description; absent: none.
    pub name: Option<String>,
    /// Stored value that means "no pixel".
    pub nodata: Option<f64>,
    /// Physical value = stored value × scale + offset; absent: the file does not say.
    pub scale_offset: Option<(f64, f64)>,
    /// Unit of the physical values.
    pub unit: Option<String>,
    /// Its classes, where it has a palette or category names.
    pub classes: Vec<ClassInfo>,
    /// Whether it says how opaque the other bands are.
    pub is_alpha: bool,
}

/// Looks into files. It may block on a disk or a network: not for async threads.
pub trait Inspect: Send + Sync + Debug {
    /// Opens a file and reads its header; with `pixels`, decodes every block of it too.
    ///
    /// # Errors
    /// Why it cannot be read, in the words that a request would be refused with.
    fn inspect(&self, asset: &Asset, pixels: bool) -> Result<FileInfo, String>;
}
