//! What a catalog answers: scenes, their files, and how a band's stored values become pixels.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::grid::Crs;
use crate::predicate::Predicate;

/// Metadata of a scene or a result, by name. Sorted, so that equal metadata print equally.
pub type Properties = BTreeMap<String, serde_json::Value>;

/// An instant in microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Reads an ISO 8601 date or date-time as Python's `isoformat` prints it. Without an offset it
    /// is UTC; a date alone is its midnight.
    pub fn parse(text: &str) -> Option<Timestamp> {
        let text = text.trim();
        // As the end of a range: no instant is later.
        if text.starts_with("9999-12-31") && text.ends_with('Z') {
            return Timestamp::parse(text.trim_end_matches('Z'));
        }
        let instant = text.parse::<jiff::Timestamp>().ok().or_else(|| {
            let civil = text
                .parse::<jiff::civil::DateTime>()
                .or_else(|_| text.parse::<jiff::civil::Date>().map(|date| date.at(0, 0, 0, 0)))
                .ok()?;
            // The last two days that a date can say lie beyond the last instant: they mean the end of time.
            Some(jiff::tz::Offset::UTC.to_timestamp(civil).unwrap_or(jiff::Timestamp::MAX))
        })?;
        Some(Timestamp(instant.as_microsecond()))
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(instant) => write!(f, "{instant}"),
            Err(_) => write!(f, "{} us", self.0),
        }
    }
}

/// A rectangle in degrees: longitude and latitude in WGS 84.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LonLatBox {
    /// West edge.
    pub west: f64,
    /// South edge.
    pub south: f64,
    /// East edge, not below `west`.
    pub east: f64,
    /// North edge.
    pub north: f64,
}

impl LonLatBox {
    /// Whether two rectangles share a point.
    pub fn intersects(&self, other: &LonLatBox) -> bool {
        self.west <= other.east
            && other.west <= self.east
            && self.south <= other.north
            && other.south <= self.north
    }
}

/// What a graft asks of the catalog. The area comes from the request, not from the graft.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SceneQuery {
    /// Product id.
    pub product: String,
    /// First instant that counts; `None` is unbounded.
    pub start: Option<Timestamp>,
    /// First instant that no longer counts; `None` is unbounded.
    pub end: Option<Timestamp>,
    /// What else must hold for a scene's properties.
    pub predicate: Option<Predicate>,
    /// Pixels around the grid whose scenes are wanted as well. They enlarge the area; nothing else.
    pub pad: u32,
}

impl SceneQuery {
    /// Every scene of a product.
    pub fn all(product: impl Into<String>) -> Self {
        SceneQuery { product: product.into(), ..SceneQuery::default() }
    }
}

/// A product as a catalog knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    /// Product id: the STAC collection's id.
    pub id: String,
    /// Title, or the id where there is none.
    pub title: String,
    /// Names of all bands that any scene of the product has.
    pub bands: Vec<String>,
    /// What is known about bands, by name; a band of which nothing is known has no entry.
    pub band_info: BTreeMap<String, BandInfo>,
    /// Number of scenes.
    pub scenes: u64,
    /// Earliest and latest acquisition.
    pub acquired: Option<(Timestamp, Timestamp)>,
}

impl Product {
    /// A product without scenes.
    pub fn new(id: impl Into<String>, bands: Vec<String>) -> Self {
        let id = id.into();
        Product { title: id.clone(), id, bands, band_info: BTreeMap::new(), scenes: 0, acquired: None }
    }
}

/// What a band means, for people and for the files that results are written to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BandInfo {
    /// Common name of the eo extension, such as `red`.
    pub common_name: Option<String>,
    /// Unit of the physical values.
    pub unit: Option<String>,
    /// What the values stand for, where they are classes; by value.
    pub classes: Vec<ClassInfo>,
}

/// A class of a classified band.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassInfo {
    /// The stored value.
    pub value: i64,
    /// Its name.
    pub name: String,
    /// Its colour as red, green, blue.
    pub color: Option<[u8; 3]>,
}

/// One acquisition.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Image id: the STAC item's id.
    pub id: String,
    /// Product id.
    pub product: String,
    /// Time of acquisition.
    pub acquired: Timestamp,
    /// What grafts see of the scene: every STAC property by its name, and protocol names.
    pub properties: Arc<Properties>,
    /// Bands by name.
    pub bands: BTreeMap<String, BandSource>,
}

/// Where a band's pixels are stored and how they read.
#[derive(Clone, Debug, PartialEq)]
pub struct BandSource {
    /// The file.
    pub asset: Arc<Asset>,
    /// Band number in the file, from 1.
    pub band: u32,
    /// Stored value that means "no pixel". `None`: what the file says.
    pub nodata: Option<f64>,
    /// Physical value = stored value × scale + offset. `None`: what the file says.
    pub scale_offset: Option<(f64, f64)>,
    /// Bytes of a stored value, where the catalog knows; for estimates only.
    pub sample_bytes: Option<u32>,
    /// Whether the catalog says that values are classes: resamplers that blend take the nearest instead.
    pub is_classes: bool,
}

impl BandSource {
    /// A band of which only the file knows more.
    pub fn new(asset: Arc<Asset>, band: u32) -> Self {
        BandSource { asset, band, nodata: None, scale_offset: None, sample_bytes: None, is_classes: false }
    }
}

/// One file of a scene.
#[derive(Clone, Debug, PartialEq)]
pub struct Asset {
    /// Key of the asset in its STAC item, for messages.
    pub key: String,
    /// Where it is.
    pub source: SourceRef,
    /// What identifies its contents: for local files, size and time of change at registration.
    pub version: String,
    /// The file's pixel grid, where the catalog knows it.
    pub raster: Option<AssetGrid>,
    /// What the file may be opened as.
    pub format: Format,
    /// Names of files beside it that belong to it (`NAME.aux.xml`, `NAME.msk`, `NAME.ovr`); no other
    /// file there is looked at.
    pub sidecars: Vec<String>,
}

impl Asset {
    /// An asset of which only the file knows more.
    pub fn new(key: impl Into<String>, source: SourceRef, version: impl Into<String>) -> Self {
        let (key, version) = (key.into(), version.into());
        Asset { key, source, version, raster: None, format: Format::Image, sidecars: Vec::new() }
    }
}

/// What a file may be opened as. Formats that refer to other files, or whose decoders are large, are
/// only ever tried where the catalog's operator said so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// GeoTIFF, JPEG 2000, PNG or JPEG.
    #[default]
    Image,
    /// A VRT that the operator registered as one: it reads other files.
    Vrt,
    /// netCDF, where the operator allows it.
    NetCdf,
    /// Zarr, where the operator allows it.
    Zarr,
}

impl Format {
    /// Every format with its name on the wire.
    pub const ALL: [(&'static str, Format); 4] =
        [("image", Format::Image), ("vrt", Format::Vrt), ("netcdf", Format::NetCdf), ("zarr", Format::Zarr)];

    /// The format with a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Format::ALL.iter().find(|(known, _)| *known == name).map(|(_, format)| *format)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Format::ALL.iter().find(|(_, known)| *known == self).map_or("image", |(name, _)| name)
    }
}

/// Version of a local file: size in bytes and time of change, as `SIZE-MTIME_NS`.
pub fn file_version(size: u64, mtime_seconds: i64, mtime_nanoseconds: i64) -> String {
    let mtime_ns = i128::from(mtime_seconds) * 1_000_000_000 + i128::from(mtime_nanoseconds);
    format!("{size}-{mtime_ns}")
}

/// Where a file is. Only a catalog makes one: no text of a client ever becomes a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceRef {
    /// A file at an absolute path.
    Local(String),
    /// A file behind an `http:` or `https:` URL.
    Http(String),
    /// An object of an object store.
    Object {
        /// Which kind of store.
        store: Store,
        /// Bucket, or container.
        bucket: String,
        /// Key in the bucket.
        key: String,
    },
    /// Pixels made from a formula, for tests and demonstrations; the name tells which.
    Synthetic(String),
}

/// A kind of object store, by the scheme of its URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Store {
    /// Amazon S3 and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Az,
}

impl Store {
    /// Every kind with the scheme of its URLs.
    pub const ALL: [(&'static str, Store); 3] = [("s3", Store::S3), ("gs", Store::Gs), ("az", Store::Az)];

    /// The kind with a scheme.
    pub fn from_scheme(scheme: &str) -> Option<Self> {
        Store::ALL.iter().find(|(known, _)| *known == scheme).map(|(_, store)| *store)
    }

    /// The scheme of its URLs.
    pub fn scheme(self) -> &'static str {
        Store::ALL.iter().find(|(_, known)| *known == self).map_or("s3", |(scheme, _)| scheme)
    }
}

impl std::fmt::Display for SourceRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SourceRef::Local(path) | SourceRef::Http(path) => f.write_str(path),
            SourceRef::Object { store, bucket, key } => write!(f, "{}://{bucket}/{key}", store.scheme()),
            SourceRef::Synthetic(name) => write!(f, "synthetic:{name}"),
        }
    }
}

/// From places in a file (column, row; pixel corners are whole numbers) to coordinates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Coordinates of the outer corner of the first pixel.
    pub origin: (f64, f64),
    /// Step in x and y from column to column.
    pub col: (f64, f64),
    /// Step in x and y from row to row.
    pub row: (f64, f64),
}

impl Affine {
    /// Columns along x, rows along y; `step_y` is negative for a north-up file.
    pub fn upright(origin: (f64, f64), res_x: f64, step_y: f64) -> Self {
        Affine { origin, col: (res_x, 0.0), row: (0.0, step_y) }
    }

    /// From GDAL's geotransform: x, column step in x, row step in x, y, column step in y, row step in y.
    pub fn from_gdal([x, col_x, row_x, y, col_y, row_y]: [f64; 6]) -> Self {
        Affine { origin: (x, y), col: (col_x, col_y), row: (row_x, row_y) }
    }

    /// Its six numbers, origin first.
    pub fn numbers(&self) -> [f64; 6] {
        [self.origin.0, self.origin.1, self.col.0, self.col.1, self.row.0, self.row.1]
    }

    /// Whether columns run along x, eastwards, and rows along y.
    pub fn is_upright(&self) -> bool {
        self.col.1 == 0.0 && self.row.0 == 0.0 && self.col.0 > 0.0 && self.row.1 != 0.0
    }

    /// Coordinates of a place in the file.
    pub fn place(&self, col: f64, row: f64) -> (f64, f64) {
        (
            self.origin.0 + self.col.0 * col + self.row.0 * row,
            self.origin.1 + self.col.1 * col + self.row.1 * row,
        )
    }

    /// From coordinates to places in the file; `None` where rows and columns run along each other.
    pub fn inverse(&self) -> Option<Affine> {
        let Affine { origin: (x, y), col, row } = *self;
        let det = col.0 * row.1 - row.0 * col.1;
        if !(det.is_finite() && det != 0.0) {
            return None;
        }
        let (to_col, to_row) = ((row.1 / det, -row.0 / det), (-col.1 / det, col.0 / det));
        Some(Affine {
            origin: (-(to_col.0 * x + to_col.1 * y), -(to_row.0 * x + to_row.1 * y)),
            col: (to_col.0, to_row.0),
            row: (to_col.1, to_row.1),
        })
    }
}

/// The pixel grid of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct AssetGrid {
    /// CRS of x and y.
    pub crs: Crs,
    /// Where its pixels lie.
    pub affine: Affine,
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub cols: u32,
}

/// What becomes of several scenes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// One image for each scene.
    Stack,
    /// One image: each scene is painted over those before it where it is valid, band by band.
    Mosaic,
}

impl Layout {
    /// Its name, for people and digests.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Stack => "stack",
            Layout::Mosaic => "mosaic",
        }
    }
}

/// How stored pixels become pixels of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resampler {
    /// The stored pixel whose area holds the centre of the grid's pixel.
    Near,
    /// Linear in both directions over 2 × 2 pixels.
    Bilinear,
    /// Cubic convolution over 4 × 4 pixels.
    Cubic,
    /// Cubic B-spline over 4 × 4 pixels.
    CubicSpline,
    /// Windowed sinc over 6 × 6 pixels.
    Lanczos,
    /// Mean of the covered pixels.
    Average,
    /// Most frequent of the covered pixels.
    Mode,
    /// Largest of the covered pixels.
    Max,
    /// Smallest of the covered pixels.
    Min,
    /// Median of the covered pixels.
    Med,
    /// First quartile of the covered pixels.
    Q1,
    /// Third quartile of the covered pixels.
    Q3,
}

impl Resampler {
    /// Every resampler with the name grafts use.
    pub const ALL: [(&'static str, Resampler); 12] = [
        ("near", Resampler::Near),
        ("bilinear", Resampler::Bilinear),
        ("cubic", Resampler::Cubic),
        ("cubicspline", Resampler::CubicSpline),
        ("lanczos", Resampler::Lanczos),
        ("average", Resampler::Average),
        ("mode", Resampler::Mode),
        ("max", Resampler::Max),
        ("min", Resampler::Min),
        ("med", Resampler::Med),
        ("q1", Resampler::Q1),
        ("q3", Resampler::Q3),
    ];

    /// The resampler with a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Resampler::ALL.iter().find(|(known, _)| *known == name).map(|(_, resampler)| *resampler)
    }

    /// The name grafts use.
    pub fn name(self) -> &'static str {
        Resampler::ALL.iter().find(|(_, known)| *known == self).map_or("near", |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_as_python_prints_them() {
        let day = Timestamp::parse("2024-02-01").unwrap();
        for same in [
            "2024-02-01T00:00:00",
            "2024-02-01T00:00:00+00:00",
            "2024-02-01T00:00:00Z",
            "2024-02-01T01:00:00+01:00",
            "2024-02-01 00:00:00",
        ] {
            assert_eq!(Timestamp::parse(same), Some(day), "{same}");
        }
        assert_eq!(Timestamp::parse("2024-02-01T00:00:00.000001"), Some(Timestamp(day.0 + 1)));
        for bad in ["", "summer", "2024-13-01", "2024-02-30T00:00:00"] {
            assert_eq!(Timestamp::parse(bad), None, "{bad}");
        }
        // As the end of time.
        for last in ["9999-12-31", "9999-12-31T23:59:59", "9999-12-31T23:59:59Z"] {
            assert!(Timestamp::parse(last) > Timestamp::parse("9999-12-30"), "{last}");
        }
        assert_eq!(day.to_string(), "2024-02-01T00:00:00Z");
    }
}
