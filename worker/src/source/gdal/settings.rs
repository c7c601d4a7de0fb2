//! GDAL as this process uses it: which drivers there are, which settings hold, and what it says.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::CStr;
use std::sync::{Mutex, Once, PoisonError};

use gdal::DriverManager;
use gdal::errors::{CplErrType, GdalError};
use graticule_common::scene::Format;

use super::vsi;

/// The drivers of files that hold their own pixels. COG only writes; what it wrote opens as GTiff.
pub(super) const IMAGE_DRIVERS: &[&str] = &["GTiff", "JP2OpenJPEG", "PNG", "JPEG"];

/// The drivers that are always there. Each open still names those it may use.
const DRIVERS: &[&str] = &["VRT", "GTiff", "COG", "PNG", "JPEG", "JP2OpenJPEG"];

/// The settings of GDAL that matter here. They are set, not inherited: a variable in somebody's
/// environment must not change a pixel, start a thread or open a second file.
pub const SETTINGS: &[(&str, &str)] = &[
    // A file is read alone: its contents are what its version identifies. Side-cars that the catalog
    // lists are named at each open.
    ("GDAL_DISABLE_READDIR_ON_OPEN", "EMPTY_DIR"),
    ("GDAL_PAM_ENABLED", "NO"),
    ("GDAL_GEOREF_SOURCES", "INTERNAL"),
    ("USE_RRD", "NO"),
    ("ESRI_XML_PAM", "NO"),
    // MiB for the whole process; the default is a share of the machine.
    ("GDAL_CACHEMAX", "512"),
    ("VSI_CACHE", "FALSE"),
    // Tiles are what runs in parallel.
    ("GDAL_NUM_THREADS", "1"),
    ("OPJ_NUM_THREADS", "0"),
    // No code from elsewhere.
    ("GDAL_DRIVER_PATH", "disable"),
    ("GDAL_VRT_ENABLE_PYTHON", "NO"),
    ("GDAL_VRT_TRUSTED_MODULES", ""),
    ("GDAL_VRT_PYTHON_TRUSTED_MODULES", ""),
    // Later GDALs have locks of their own where ours are in `vrt.rs` and `vsi.rs`.
    ("GDAL_VRT_RAWRASTERBAND_ALLOWED_SOURCE", "SIBLING_OR_CHILD_OF_VRT_PATH"),
    ("CPL_VSIL_CURL_HEADER_FILE_KVP_ENABLED", "NO"),
    ("CPL_VSIL_CURL_ALLOWED_EXTENSIONS", "{noext}"),
    // A pixel that cannot be read is an error, and each is read in the one well-trodden way.
    ("GTIFF_IGNORE_READ_ERRORS", "NO"),
    ("GTIFF_DIRECT_IO", "NO"),
    ("GTIFF_VIRTUAL_MEM_IO", "NO"),
    ("GTIFF_POINT_GEO_IGNORE", "NO"),
    ("GTIFF_HONOUR_NEGATIVE_SCALEY", "NO"),
    ("GDAL_TIFF_INTERNAL_MASK_TO_8BIT", "YES"),
    ("GTIFF_REPORT_COMPD_CS", "NO"),
    ("GTIFF_HAS_OPTIMIZED_READ_MULTI_RANGE", "YES"),
    ("CONVERT_YCBCR_TO_RGB", "YES"),
    ("GDAL_JPEG_TO_RGB", "YES"),
    ("GDAL_ERROR_ON_LIBJPEG_WARNING", "YES"),
    ("USE_TILE_AS_BLOCK", "NO"),
    ("VRT_SHARED_SOURCE", "0"),
    // What a decoder may ask for at once.
    ("GDAL_ALLOW_LARGE_LIBJPEG_MEM_ALLOC", "NO"),
    ("GDAL_JPEG_MAX_ALLOWED_SCAN_NUMBER", "100"),
    ("GDAL_MAX_DATASET_POOL_SIZE", "64"),
    ("CPL_DEBUG", "OFF"),
];

/// Formats that were allowed beyond those that always are.
static ALLOWED: Mutex<BTreeSet<Format>> = Mutex::new(BTreeSet::new());

/// Sets up GDAL for this process: [`SETTINGS`], no driver but those of images and VRT, no network of
/// its own, and messages kept for our errors instead of printed. Everything in this crate that uses
/// GDAL calls it; only the first call acts.
pub fn configure() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        ignore_environment();
        for (key, value) in SETTINGS {
            gdal::config::set_config_option(key, value).expect("a constant without NUL");
        }
        gdal::config::set_error_handler(|class, _number, text| keep(class, text));
        DriverManager::prevent_auto_registration();
        vsi::install();
        register(&BTreeSet::new());
    });
}

/// The one variable of the environment that GDAL still learns: where its tables of CRSs are.
const DATA_FOLDER: &str = "GDAL_DATA";

/// Tells GDAL to look up no variable of the environment, of which it knows a thousand.
#[allow(unsafe_code, reason = "the bindings lack files of settings")]
fn ignore_environment() {
    const FILE: &CStr = c"/vsimem/graticule-settings";
    // As GDAL itself finds it, while it still looks there.
    let folder = gdal::config::get_config_option(DATA_FOLDER, "").unwrap_or_default();
    if !folder.is_empty() {
        gdal::config::set_config_option(DATA_FOLDER, &folder).expect("no variable holds a NUL");
    }
    let text = b"[directives]\nignore-env-vars=yes\n".to_vec();
    let name = FILE.to_string_lossy();
    gdal::vsi::create_mem_file(name.as_ref(), text).expect("a file in memory");
    // SAFETY: the name is a constant, and GDAL does not keep it. The call changes settings of the
    // process; nothing else of GDAL runs yet.
    unsafe { gdal_sys::CPLLoadConfigOptionsFromFile(FILE.as_ptr(), 0) };
    gdal::vsi::unlink_mem_file(name.as_ref()).expect("the file in memory");
}

/// Adds formats that only an operator can allow: netCDF and Zarr. To be called at start-up: while it
/// runs, GDAL knows all of its drivers.
pub fn allow(formats: &[Format]) {
    configure();
    let mut allowed = ALLOWED.lock().unwrap_or_else(PoisonError::into_inner);
    let before = allowed.len();
    allowed.extend(formats.iter().filter(|format| optional_driver(**format).is_some()));
    if allowed.len() > before {
        register(&allowed);
    }
}

/// The driver of a format that only an operator can allow.
pub(super) fn optional_driver(format: Format) -> Option<&'static str> {
    match format {
        Format::NetCdf => Some("netCDF"),
        Format::Zarr => Some("Zarr"),
        Format::Image | Format::Vrt => None,
    }
}

/// Names of the drivers there are: whatever a file says, no other one can touch it.
pub fn drivers() -> Vec<String> {
    configure();
    DriverManager::all().map(|driver| driver.short_name()).collect()
}

fn register(allowed: &BTreeSet<Format>) {
    DriverManager::register_all();
    let wanted = |name: &str| {
        DRIVERS.contains(&name) || allowed.iter().any(|format| optional_driver(*format) == Some(name))
    };
    let others: Vec<_> = DriverManager::all().filter(|driver| !wanted(&driver.short_name())).collect();
    others.iter().for_each(DriverManager::deregister_driver);
}

thread_local! {
    static MESSAGES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Messages kept of one operation. A header may earn a warning for each of its tags.
const MESSAGES_MAX: usize = 256;

/// Messages that make up a reason; what GDAL says after them is how the failure went up its layers.
const REASON_MESSAGES_MAX: usize = 3;

/// Characters of a reason: a decoder may quote what it does not understand.
const REASON_CHARS_MAX: usize = 500;

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
    let text = if messages.is_empty() {
        match error {
            GdalError::CplError { msg, .. } | GdalError::NullPointer { msg, .. } if !msg.is_empty() => {
                msg.clone()
            }
            other => other.to_string(),
        }
    } else {
        messages[..messages.len().min(REASON_MESSAGES_MAX)].join("; ")
    };
    text.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect()
}
