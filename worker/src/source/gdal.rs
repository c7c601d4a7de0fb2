//! GeoTIFFs in the grid's CRS, window by window. All reading through GDAL is here, and the one place
//! that swaps (row, col) for GDAL's (x, y).
//!
//! A file is opened, read and closed within one call, so no handle crosses threads. What its header
//! says is remembered, because to understand a CRS costs twenty times what opening a file does.

mod header;
mod pixels;
mod read;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod warp_tests;

use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Once};

use gdal::errors::{CplErrType, GdalError};
use gdal::{Dataset, DatasetOptions, DriverManager, GdalOpenFlags};
use graticule_common::grid::Crs;
use graticule_common::scene::SourceRef;
use graticule_common::transform::Transform;
use moka::sync::Cache;

use self::header::Header;
use super::{BandRead, ReadError, ReadProblem, ReadStats, TileSource, version_of};

/// The formats that are opened, whatever a file's name says.
const DRIVERS: &[&str] = &["GTiff"];

/// Headers remembered per source.
const HEADERS_MAX: u64 = 4096;

/// Pairs of CRSs remembered as the same or not.
const CRS_PAIRS_MAX: u64 = 256;

/// The settings of GDAL that matter here. They are set, not inherited: a variable in somebody's
/// environment must not change a pixel, start a thread or open a second file.
pub const SETTINGS: &[(&str, &str)] = &[
    // A file is read alone: its contents are what its version identifies.
    ("GDAL_DISABLE_READDIR_ON_OPEN", "EMPTY_DIR"),
    ("GDAL_PAM_ENABLED", "NO"),
    ("GDAL_GEOREF_SOURCES", "INTERNAL"),
    // MiB for the whole process; the default is a share of the machine.
    ("GDAL_CACHEMAX", "128"),
    // Tiles are what runs in parallel.
    ("GDAL_NUM_THREADS", "1"),
    // No code from elsewhere.
    ("GDAL_DRIVER_PATH", "disable"),
    ("GDAL_VRT_ENABLE_PYTHON", "NO"),
    // A pixel that cannot be read is an error, and each is read in the one well-trodden way.
    ("GTIFF_IGNORE_READ_ERRORS", "NO"),
    ("GTIFF_DIRECT_IO", "NO"),
    ("GTIFF_VIRTUAL_MEM_IO", "NO"),
    ("GTIFF_POINT_GEO_IGNORE", "NO"),
    ("CPL_DEBUG", "OFF"),
];

/// Sets up GDAL for this process: [`SETTINGS`], no driver but GTiff, and messages kept for our errors
/// instead of printed. Everything in this crate that uses GDAL calls it; only the first call acts.
pub fn configure() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (key, value) in SETTINGS {
            gdal::config::set_config_option(key, value).expect("a constant without NUL");
        }
        gdal::config::set_error_handler(|class, _number, text| keep(class, text));
        DriverManager::prevent_auto_registration();
        DriverManager::register_all();
        // A second lock beside the list of drivers given at every open.
        let others: Vec<_> =
            DriverManager::all().filter(|driver| !DRIVERS.contains(&driver.short_name().as_str())).collect();
        others.iter().for_each(DriverManager::deregister_driver);
    });
}

thread_local! {
    static MESSAGES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Messages kept of one operation. A header may earn a warning for each of its tags.
const MESSAGES_MAX: usize = 256;

/// Messages that make up a reason; what GDAL says after them is how the failure went up its layers.
const REASON_MESSAGES_MAX: usize = 3;

fn keep(class: CplErrType, text: &str) {
    if matches!(class, CplErrType::None | CplErrType::Debug) {
        return;
    }
    tracing::debug!(text, "gdal spoke");
    MESSAGES.with_borrow_mut(|messages| {
        if messages.len() < MESSAGES_MAX {
            messages.push(text.trim().to_owned());
        }
    });
}

/// Runs `f` and hands back what GDAL said meanwhile.
pub(crate) fn listen<R>(f: impl FnOnce() -> R) -> (R, Vec<String>) {
    MESSAGES.take();
    let result = f();
    (result, MESSAGES.take())
}

/// The cause of a failure: what GDAL said first, as its last message only repeats that it failed.
pub(crate) fn reason(error: &GdalError, messages: &[String]) -> String {
    if !messages.is_empty() {
        return messages[..messages.len().min(REASON_MESSAGES_MAX)].join("; ");
    }
    match error {
        GdalError::CplError { msg, .. } | GdalError::NullPointer { msg, .. } if !msg.is_empty() => {
            msg.clone()
        }
        other => other.to_string(),
    }
}

/// Reads local GeoTIFFs.
pub struct GdalSource {
    transform: Arc<dyn Transform>,
    /// By path and version.
    headers: Cache<(String, String), Arc<Header>>,
    /// Whether two CRSs are the same.
    same: Cache<(Crs, Crs), bool>,
}

impl fmt::Debug for GdalSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GdalSource").field("headers", &self.headers.entry_count()).finish_non_exhaustive()
    }
}

impl GdalSource {
    /// A reader that compares CRSs with `transform`. Configures GDAL.
    pub fn new(transform: Arc<dyn Transform>) -> Self {
        configure();
        GdalSource { transform, headers: Cache::new(HEADERS_MAX), same: Cache::new(CRS_PAIRS_MAX) }
    }

    fn try_read(
        &self,
        read: &BandRead<'_>,
        path: &str,
        samples: &mut [f32],
        valid: &mut [u8],
    ) -> Result<ReadStats, ReadProblem> {
        let key = (path.to_owned(), read.band.asset.version.clone());
        let mut opened = None;
        let header = match self.headers.get(&key) {
            Some(header) => header,
            None => {
                let dataset = opened.insert(open(path)?);
                let header = Arc::new(Header::read(dataset, self.transform.as_ref())?);
                self.headers.insert(key, header.clone());
                header
            }
        };
        read::band(self, read, &header, path, opened, samples, valid)
    }

    fn same_crs(&self, a: &Crs, b: &Crs) -> bool {
        a == b || self.same.get_with((a.clone(), b.clone()), || self.transform.same(a, b))
    }
}

impl TileSource for GdalSource {
    fn read(
        &self,
        read: &BandRead<'_>,
        samples: &mut [f32],
        valid: &mut [u8],
    ) -> Result<ReadStats, ReadError> {
        let pixels = read.window.pixels();
        assert!(samples.len() == pixels && valid.len() == pixels, "buffers of the size of the window");
        let mut attempt = || {
            let path = local_path(&read.band.asset.source)?;
            let registered = &read.band.asset.version;
            check_version(path, registered)?;
            let result = self.try_read(read, path, samples, valid);
            // Once more: pixels of a file that was replaced meanwhile are neither the old nor the new
            // ones, and that explains a failure better than what the decoder says.
            check_version(path, registered)?;
            result
        };
        attempt().map_err(|problem| read.error(problem))
    }
}

/// The path, if GDAL will take it for a plain file: it gives names like `/vsicurl/…` or `GTIFF_DIR:…`
/// meanings of their own.
fn local_path(source: &SourceRef) -> Result<&str, ReadProblem> {
    match source {
        SourceRef::Local(path)
            if path.starts_with('/') && !path.starts_with("/vsi") && !path.contains('\0') =>
        {
            Ok(path)
        }
        SourceRef::Local(_) | SourceRef::Http(_) | SourceRef::Object { .. } | SourceRef::Synthetic(_) => {
            Err(ReadProblem::NotLocal)
        }
    }
}

fn check_version(path: &str, registered: &str) -> Result<(), ReadProblem> {
    let metadata =
        std::fs::metadata(path).map_err(|error| ReadProblem::Missing { reason: error.to_string() })?;
    if !metadata.is_file() {
        return Err(ReadProblem::Missing { reason: "not a regular file".to_owned() });
    }
    let found = version_of(&metadata);
    if found == registered {
        return Ok(());
    }
    Err(ReadProblem::Changed { registered: registered.to_owned(), found })
}

fn open(path: &str) -> Result<Dataset, ReadProblem> {
    let (result, messages) = listen(|| open_local(Path::new(path)));
    refuse_lost_tags(&messages)?;
    result.map_err(|error| ReadProblem::Corrupt { reason: reason(&error, &messages) })
}

/// Opens a file to read, as one of [`DRIVERS`] and without a look at the files beside it.
pub(crate) fn open_local(path: &Path) -> Result<Dataset, GdalError> {
    let options = DatasetOptions {
        open_flags: GdalOpenFlags::GDAL_OF_READONLY
            | GdalOpenFlags::GDAL_OF_RASTER
            | GdalOpenFlags::GDAL_OF_VERBOSE_ERROR,
        allowed_drivers: Some(DRIVERS),
        open_options: None,
        sibling_files: Some(&[]),
    };
    Dataset::open_ex(path, options)
}

/// A tag that lies beyond the end of a cut file is left out with a mere warning; without its nodata or
/// its scale the file would read, and read wrong.
fn refuse_lost_tags(messages: &[String]) -> Result<(), ReadProblem> {
    match messages.iter().find(|text| text.contains("IO error during reading")) {
        Some(text) => Err(ReadProblem::Corrupt { reason: text.clone() }),
        None => Ok(()),
    }
}
