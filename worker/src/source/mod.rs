//! Where pixels come from: one band of one scene on a window of the grid's lattice.
//!
//! Everything that a source may do differently stays behind [`TileSource`]. What it gives out is
//! values with validity; nodata, scale and offset end here.

#[cfg(feature = "gdal")]
pub mod gdal;
#[cfg(feature = "remote")]
pub mod remote;
pub mod synthetic;
#[cfg_attr(not(feature = "gdal"), allow(dead_code, reason = "formulas never resample"))]
mod warp;

use std::fmt::Debug;
use std::sync::Arc;

use graticule_common::error::{Classify, ErrorClass};
use graticule_common::grid::{Crs, Lattice, Window};
use graticule_common::scene::{BandSource, Format, Resampler, SourceRef, Store};

use self::synthetic::Synthetic;

/// One band of one scene on a window of the grid's lattice.
#[derive(Clone, Copy, Debug)]
pub struct BandRead<'a> {
    /// Id of the scene, for messages.
    pub scene: &'a str,
    /// The file and the band in it.
    pub band: &'a BandSource,
    /// Name of the band, for messages.
    pub band_name: &'a str,
    /// The lattice that `window` counts on.
    pub lattice: &'a Lattice,
    /// The pixels to read.
    pub window: Window,
    /// How stored pixels become pixels of the lattice where the two do not coincide.
    pub resampler: Resampler,
    /// Whether an overview of the file may be read, where the lattice is coarser than the file.
    pub overviews: bool,
}

impl BandRead<'_> {
    /// An error about this read.
    pub fn error(&self, problem: ReadProblem) -> ReadError {
        let asset = &self.band.asset;
        ReadError {
            place: Box::new(ReadPlace {
                scene: self.scene.to_owned(),
                asset: asset.key.clone(),
                band: self.band_name.to_owned(),
                path: shown(&asset.source),
            }),
            problem,
        }
    }
}

/// A place for messages: without the query of a URL, which may hold a signature.
fn shown(source: &SourceRef) -> String {
    let text = source.to_string();
    match (source, text.split_once('?')) {
        (SourceRef::Http(_), Some((place, _))) => place.to_owned(),
        _ => text,
    }
}

/// What a read took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadStats {
    /// Stored bytes of the pixels read, after decompression.
    pub bytes: u64,
    /// Files opened.
    pub opened: u64,
}

/// A kind of place that pixels are read from. A read may block on a disk: call it on the pool.
pub trait TileSource: Send + Sync + Debug {
    /// Fills `samples` and `valid`, row by row from the north. Both have `window.pixels()` entries and
    /// arrive zeroed; pixels without a stored value stay as they are.
    ///
    /// The same read always gives the same pixels, and a pixel does not depend on the window it is
    /// read with.
    ///
    /// # Errors
    /// [`ReadError`]; what was written to `samples` and `valid` by then means nothing.
    fn read(
        &self,
        read: &BandRead<'_>,
        samples: &mut [f32],
        valid: &mut [u8],
    ) -> Result<ReadStats, ReadError>;
}

/// Which pixels a read was after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadPlace {
    /// Id of the scene.
    pub scene: String,
    /// Key of the asset in its STAC item.
    pub asset: String,
    /// Name of the band.
    pub band: String,
    /// Path of the file.
    pub path: String,
}

/// Why pixels could not be read, and which.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "cannot read band `{}` of scene `{}` (asset `{}`, `{}`): {problem}",
    .place.band, .place.scene, .place.asset, .place.path
)]
pub struct ReadError {
    /// Which pixels.
    pub place: Box<ReadPlace>,
    /// Why not.
    pub problem: ReadProblem,
}

impl Classify for ReadError {
    fn class(&self) -> ErrorClass {
        self.problem.class()
    }
}

/// Why pixels could not be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReadProblem {
    /// No such file, or not a regular file that may be read.
    #[error("{reason}; put the file back, or remove the scene from the catalog")]
    Missing {
        /// What the system said.
        reason: String,
    },
    /// Size or time of change differ from those at registration.
    #[error(
        "the file changed since it was registered (version `{registered}`, now `{found}`); run `graticule catalog add` again"
    )]
    Changed {
        /// `Asset::version`.
        registered: String,
        /// The file's version now.
        found: String,
    },
    /// A file that is not what the catalog says it is.
    #[error(
        "the STAC document says {catalog}, the file has {file}; correct the document and run `graticule catalog add` again"
    )]
    Misdescribed {
        /// The pixel grid in the catalog.
        catalog: String,
        /// The file's pixel grid.
        file: String,
    },
    /// A header or pixels that cannot be decoded.
    #[error("the file is damaged or of a format that is not read: {reason}; repair or replace it")]
    Corrupt {
        /// What the decoder said.
        reason: String,
    },
    /// A path that leads elsewhere than where it was registered.
    #[error(
        "a symbolic link is in its path, so it may lead out of the registered folder; register the file under its real path with `graticule catalog add`"
    )]
    Linked,
    /// A format that only an operator can allow.
    #[error(
        "files of the format `{}` are not opened unless the operator allows it: start the engine with `--allow-format {}`",
        .format.name(), .format.name()
    )]
    FormatNotAllowed {
        /// The format.
        format: Format,
    },
    /// A file that would make the decoder open another one.
    #[error("the file refers to others in a way that is not followed: it is {what}; convert it to a GeoTIFF")]
    Refers {
        /// What refers.
        what: String,
    },
    /// A server or store that does not answer as it should, for now.
    #[error("it cannot be reached: {reason}; try again later")]
    Unreachable {
        /// What went wrong, and how often it was tried.
        reason: String,
    },
    /// A server that answers with something else than what was asked for.
    #[error("the server does not give what is asked for: {reason}; copy the file to one that does")]
    WrongAnswer {
        /// What is wrong with the answer.
        reason: String,
    },
    /// A host that the engine must not connect to.
    #[error(
        "`{host}` is not connected to: {reason}; an operator can allow a host with `--allow-host HOST[:PORT]`"
    )]
    HostNotAllowed {
        /// The host.
        host: String,
        /// Why not.
        reason: String,
    },
    /// A URL or key that cannot be one.
    #[error("its address cannot be used: {reason}; correct it and run `graticule catalog add` again")]
    WrongAddress {
        /// What is wrong with it.
        reason: String,
    },
    /// An object store that is not set up.
    #[error("the store `{}` is not set up: {reason}; set its variables in the engine's environment", .store.scheme())]
    StoreSettings {
        /// Kind of the store.
        store: Store,
        /// What is missing.
        reason: String,
    },
    /// A format whose decoder needs a local file.
    #[error("files of the format `{}` are read from local disks only; copy it to one", .format.name())]
    RemoteFormat {
        /// The format.
        format: Format,
    },
    /// A listed side-car file that cannot be used.
    #[error(
        "its side-car file `{name}` cannot be used: {reason}; repair it, or register the file without it"
    )]
    Sidecar {
        /// Name of the side-car.
        name: String,
        /// Why not.
        reason: String,
    },
    /// A header that asks for more than a reader should do.
    #[error("the file has {what} {found}, the limit is {limit}; rewrite it, for example as a tiled GeoTIFF")]
    TooComplex {
        /// What there is too much of.
        what: &'static str,
        /// How much.
        found: u64,
        /// How much is allowed.
        limit: u64,
    },
    /// No pixel of the file has a place on the grid.
    #[error(
        "the file is in {file}, and none of it has a place in the grid's CRS {grid}; compute on a grid in {file}"
    )]
    NoPlace {
        /// CRS of the file.
        file: Crs,
        /// CRS of the grid.
        grid: Crs,
    },
    /// A CRS that PROJ cannot work with.
    #[error("{reason}; assign the file a CRS, for example with `gdal_edit.py -a_srs`")]
    UnknownCrs {
        /// What is wrong with it.
        reason: String,
    },
    /// The file does not say where its pixels are.
    #[error("the file has no geotransform of its own; assign one, for example with `gdal_edit.py -a_ullr`")]
    NoGeotransform,
    /// Pixels are placed by something other than a geotransform.
    #[error(
        "its pixels are placed by {what}, not by a geotransform, which is not supported; warp the file, for example with `gdalwarp`"
    )]
    OnlyPoints {
        /// What places them.
        what: &'static str,
    },
    /// No image in the file, or several of equal standing.
    #[error(
        "the file has no image of its own, only parts to choose from; convert the part that is wanted to a GeoTIFF"
    )]
    NoBands,
    /// Complex numbers, or a type of a later GDAL.
    #[error("it stores complex numbers or another type of pixel that is not supported; convert the file")]
    ComplexType,
    /// The band number is beyond the file's bands.
    #[error("the file has {bands} bands and no band {band}; run `graticule catalog add` again")]
    NoSuchBand {
        /// Band number that was asked for, from 1.
        band: u32,
        /// Number of bands of the file.
        bands: u32,
    },
    /// A path that is not an absolute path of a local file.
    #[error("only absolute paths of local files are read; register the file with `graticule catalog add`")]
    NotLocal,
    /// This worker cannot read files.
    #[error("this worker was built without GDAL and reads no files; build it with the feature `gdal`")]
    NoReader,
}

impl Classify for ReadProblem {
    fn class(&self) -> ErrorClass {
        match self {
            ReadProblem::Missing { .. }
            | ReadProblem::Changed { .. }
            | ReadProblem::Corrupt { .. }
            | ReadProblem::Misdescribed { .. }
            | ReadProblem::NoGeotransform
            | ReadProblem::Linked
            | ReadProblem::WrongAnswer { .. }
            | ReadProblem::WrongAddress { .. }
            | ReadProblem::StoreSettings { .. }
            | ReadProblem::Refers { .. }
            | ReadProblem::Sidecar { .. }
            | ReadProblem::UnknownCrs { .. }
            | ReadProblem::NoSuchBand { .. } => ErrorClass::Source,
            // Nothing is wrong with the data: another worker or a later moment may fare better.
            ReadProblem::Unreachable { .. } => ErrorClass::Unavailable,
            ReadProblem::TooComplex { .. } => ErrorClass::LimitExceeded,
            ReadProblem::NoPlace { .. }
            | ReadProblem::OnlyPoints { .. }
            | ReadProblem::HostNotAllowed { .. }
            | ReadProblem::RemoteFormat { .. }
            | ReadProblem::NoBands
            | ReadProblem::FormatNotAllowed { .. }
            | ReadProblem::ComplexType
            | ReadProblem::NotLocal
            | ReadProblem::NoReader => ErrorClass::Unsupported,
        }
    }
}

/// What identifies the contents of a local file, as `Asset::version` holds it.
#[cfg(feature = "gdal")]
pub(crate) fn version_of(metadata: &std::fs::Metadata) -> String {
    use std::os::unix::fs::MetadataExt;
    graticule_common::scene::file_version(metadata.size(), metadata.mtime(), metadata.mtime_nsec())
}

/// Every source of a worker; picks by the kind of [`SourceRef`].
#[derive(Clone, Debug, Default)]
pub struct Sources {
    local: Option<Arc<dyn TileSource>>,
}

impl Sources {
    /// Only scenes that are formulas.
    pub fn synthetic_only() -> Self {
        Sources::default()
    }

    /// Formulas, and files through `local`.
    pub fn with_local(local: Arc<dyn TileSource>) -> Self {
        Sources { local: Some(local) }
    }
}

impl TileSource for Sources {
    fn read(
        &self,
        read: &BandRead<'_>,
        samples: &mut [f32],
        valid: &mut [u8],
    ) -> Result<ReadStats, ReadError> {
        match (&read.band.asset.source, &self.local) {
            (SourceRef::Synthetic(_), _) => Synthetic.read(read, samples, valid),
            (_, Some(files)) => files.read(read, samples, valid),
            (_, None) => Err(read.error(ReadProblem::NoReader)),
        }
    }
}

#[cfg(test)]
mod tests {
    use graticule_common::scene::Asset;

    use super::*;

    /// What every source promises: a pixel does not depend on the window it is read with, and what is
    /// not valid is left alone.
    #[track_caller]
    pub(super) fn conformance(source: &dyn TileSource, read: &BandRead<'_>) {
        let (samples, valid) = read_all(source, read).expect("a readable window");
        assert_eq!(read_all(source, read).unwrap(), (samples.clone(), valid.clone()));
        for (i, ok) in valid.iter().enumerate() {
            assert!(*ok <= 1 && (*ok == 1 || samples[i] == 0.0) && !samples[i].is_nan(), "pixel {i}");
        }
        let whole = read.window;
        for (rows, cols) in [(1, whole.cols), (whole.rows, 1), (2, 3), (5, 4)] {
            for row in (whole.row..whole.row_end()).step_by(rows as usize) {
                for col in (whole.col..whole.col_end()).step_by(cols as usize) {
                    let part = Window { row, col, rows, cols }.intersect(&whole).unwrap();
                    let (got, ok) = read_all(source, &BandRead { window: part, ..*read }).unwrap();
                    for at in 0..part.pixels() {
                        let (r, c) = (at / part.cols as usize, at % part.cols as usize);
                        let (r, c) = (r + (row - whole.row) as usize, c + (col - whole.col) as usize);
                        let there = r * whole.cols as usize + c;
                        assert_eq!((got[at].to_bits(), ok[at]), (samples[there].to_bits(), valid[there]));
                    }
                }
            }
        }
    }

    pub(super) fn read_all(
        source: &dyn TileSource,
        read: &BandRead<'_>,
    ) -> Result<(Vec<f32>, Vec<u8>), ReadError> {
        let len = read.window.pixels();
        let (mut samples, mut valid) = (vec![0.0; len], vec![0; len]);
        source.read(read, &mut samples, &mut valid)?;
        Ok((samples, valid))
    }

    #[test]
    fn without_a_reader_files_are_refused_by_name() {
        let asset = Asset::new("B04", SourceRef::Local("/data/red.tif".to_owned()), "");
        let band = BandSource::new(Arc::new(asset), 1);
        let lattice = Lattice::try_new(Crs::from_canonical("EPSG:32613"), (1.0, 1.0), (0.0, 0.0)).unwrap();
        let window = Window { row: 0, col: 0, rows: 1, cols: 1 };
        let read = BandRead {
            scene: "S1",
            band: &band,
            band_name: "red",
            lattice: &lattice,
            window,
            resampler: Resampler::Near,
            overviews: false,
        };
        let error = read_all(&Sources::synthetic_only(), &read).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Unsupported);
        for part in ["`red`", "`S1`", "`B04`", "`/data/red.tif`", "feature `gdal`"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
