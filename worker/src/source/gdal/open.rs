//! From a catalog's asset to an open dataset: what may be opened, as what, and together with what.

use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use gdal::config::{clear_thread_local_config_option, set_thread_local_config_option};
use gdal::errors::GdalError;
use gdal::{Dataset, DatasetOptions, GdalOpenFlags, Metadata};
use graticule_common::scene::{Asset, Format, SourceRef};

use super::super::remote::Remote;
use super::super::{ReadProblem, version_of};
use super::settings::{IMAGE_DRIVERS, drivers, listen, optional_driver, reason};
use super::vsi::Mount;
use super::{jp2, vrt};

/// Datasets kept open by all threads together, the ones used last. A system gives a process 1024 files as a rule.
const KEPT_MAX: usize = 256;

/// Bytes of a side-car of text: GDAL reads it whole.
const SIDECAR_TEXT_BYTES_MAX: u64 = 4 << 20;

/// Side-cars of an asset.
const SIDECARS_MAX: usize = 16;

/// A file that may be opened: its name for GDAL is made here, never a text as it came.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    /// Absolute path; empty for a file of a server.
    pub(super) name: String,
    /// Where it is, if on a server.
    pub(super) remote: Option<SourceRef>,
    /// Version at registration.
    pub(super) version: String,
    pub(super) format: Format,
    /// Names beside it that belong to it.
    pub(super) sidecars: Vec<String>,
}

impl Target {
    /// Checks where an asset is and what it may be opened as.
    pub(super) fn of(asset: &Asset) -> Result<Target, ReadProblem> {
        let (name, remote) = match &asset.source {
            SourceRef::Http(_) | SourceRef::Object { .. } if asset.format != Format::Image => {
                return Err(ReadProblem::RemoteFormat { format: asset.format });
            }
            SourceRef::Http(_) | SourceRef::Object { .. } => ("", Some(asset.source.clone())),
            SourceRef::Local(_) | SourceRef::Synthetic(_) => (local_path(&asset.source)?, None),
        };
        if let Some(driver) = optional_driver(asset.format)
            && !drivers().iter().any(|known| known == driver)
        {
            return Err(ReadProblem::FormatNotAllowed { format: asset.format });
        }
        let sidecars = asset.sidecars.clone();
        if sidecars.len() > SIDECARS_MAX {
            let (found, limit) = (sidecars.len() as u64, SIDECARS_MAX as u64);
            return Err(ReadProblem::TooComplex { what: "side-car files:", found, limit });
        }
        if let Some(name) = sidecars.iter().find(|name| !is_file_name(name)) {
            return Err(ReadProblem::Sidecar { name: name.clone(), reason: "it is not a file name".into() });
        }
        if remote.is_some() && !sidecars.is_empty() {
            let (name, reason) = (sidecars[0].clone(), "those of remote files are not read".to_owned());
            return Err(ReadProblem::Sidecar { name, reason });
        }
        let (name, version) = (name.to_owned(), asset.version.clone());
        Ok(Target { name, remote, version, format: asset.format, sidecars })
    }

    /// Whether what lies there is still what was registered, and no link has come into the path: one
    /// could lead out of the folder that an operator registered.
    ///
    /// A remote file is pinned when it is opened, and every part of it is checked as it comes.
    pub(super) fn check(&self) -> Result<(), ReadProblem> {
        if self.remote.is_some() {
            return Ok(());
        }
        let found = version_of(&self.check_place()?);
        if found != self.version {
            return Err(ReadProblem::Changed { registered: self.version.clone(), found });
        }
        Ok(())
    }

    /// The same without a look at the version.
    pub(super) fn check_place(&self) -> Result<std::fs::Metadata, ReadProblem> {
        let missing = |error: std::io::Error| ReadProblem::Missing { reason: error.to_string() };
        let metadata = std::fs::symlink_metadata(&self.name).map_err(missing)?;
        let real = std::fs::canonicalize(&self.name).map_err(missing)?;
        if real != Path::new(&self.name) {
            return Err(ReadProblem::Linked);
        }
        // A Zarr store is a folder.
        if !(metadata.is_file() || (self.format == Format::Zarr && metadata.is_dir())) {
            return Err(ReadProblem::Missing { reason: "not a regular file".to_owned() });
        }
        Ok(metadata)
    }

    /// Whether what is read of it may be kept for later: its contents are known by a version.
    pub(super) fn is_versioned(&self) -> bool {
        !self.version.is_empty()
    }

    /// Opens it. Nothing is read yet but the header.
    pub(super) fn open(&self, remote: &Remote) -> Result<Opened, ReadProblem> {
        let Some(source) = &self.remote else {
            return Ok(Opened { dataset: self.open_file()?, mount: None });
        };
        let mount = Mount::new(remote.open(source, &self.version)?);
        jp2::check(|at, buffer| {
            mount.file.read_at(at, buffer).filter(|read| *read == buffer.len()).map(drop)
        })?;
        let name = mount.name();
        let (result, messages) = listen(|| open_as(Path::new(&name), IMAGE_DRIVERS, &[]));
        if let Some(fault) = mount.file.fault() {
            return Err(fault);
        }
        refuse_lost_tags(&messages)?;
        let dataset = result.map_err(|error| ReadProblem::Corrupt { reason: reason(&error, &messages) })?;
        refuse_references(&dataset)?;
        Ok(Opened { dataset, mount: Some(mount) })
    }

    fn open_file(&self) -> Result<Dataset, ReadProblem> {
        let path = Path::new(&self.name);
        let drivers: &[&str] = match self.format {
            Format::Image => {
                check_tiles(path)?;
                IMAGE_DRIVERS
            }
            Format::Vrt => {
                vrt::check(path)?;
                &["VRT"]
            }
            Format::NetCdf => &["netCDF"],
            Format::Zarr => &["Zarr"],
        };
        for name in &self.sidecars {
            check_sidecar(path, name)?;
        }
        let (result, messages) = listen(|| {
            let _settings = (!self.sidecars.is_empty()).then(WithSidecars::enter);
            let dataset = open_as(path, drivers, &self.sidecars)?;
            if !self.sidecars.is_empty() {
                // GDAL looks for side-cars when it first needs one: let it be now.
                _ = dataset.geo_transform();
                _ = dataset.metadata_domain("");
                _ = dataset.rasterband(1).and_then(|band| band.mask_flags());
            }
            Ok(dataset)
        });
        refuse_lost_tags(&messages)?;
        let dataset =
            result.map_err(|error: GdalError| ReadProblem::Corrupt { reason: reason(&error, &messages) })?;
        refuse_references(&dataset)?;
        Ok(dataset)
    }
}

/// An open dataset, and the remote file under it.
pub(super) struct Opened {
    /// Dropped first: it reads to the end from the file.
    dataset: Dataset,
    mount: Option<Mount>,
}

impl Opened {
    /// What failed below GDAL, which may have made something else of it.
    pub(super) fn fault(&self) -> Option<ReadProblem> {
        self.mount.as_ref().and_then(|mount| mount.file.fault())
    }

    /// The version of a remote file's contents.
    pub(super) fn remote_version(&self) -> Option<&str> {
        self.mount.as_ref().map(|mount| mount.file.version())
    }
}

impl Deref for Opened {
    type Target = Dataset;

    fn deref(&self) -> &Dataset {
        &self.dataset
    }
}

/// The path, if GDAL will take it for a plain file: it gives names like `/vsicurl/…` or `GTIFF_DIR:…`
/// meanings of their own.
fn local_path(source: &SourceRef) -> Result<&str, ReadProblem> {
    let SourceRef::Local(path) = source else { return Err(ReadProblem::NotLocal) };
    let plain = path.starts_with('/')
        && !path.starts_with("/vsi")
        && !path.contains(['\0', '<', '\\'])
        && path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    plain.then_some(path.as_str()).ok_or(ReadProblem::NotLocal)
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !matches!(name, "." | "..") && !name.contains(['/', '\\', '\0', '<'])
}

/// A side-car is opened by GDAL without a list of drivers, so it must be what its name says: an image
/// is a TIFF, text is short and names no other file.
fn check_sidecar(path: &Path, name: &str) -> Result<(), ReadProblem> {
    let refuse =
        |reason: &str| Err(ReadProblem::Sidecar { name: name.to_owned(), reason: reason.to_owned() });
    let path = path.with_file_name(name);
    let metadata = match std::fs::symlink_metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) => return refuse(&error.to_string()),
    };
    if !metadata.is_file() {
        return refuse("it is not a regular file");
    }
    if name.ends_with(".msk") || name.ends_with(".ovr") {
        return match head(&path) {
            Ok(head) if is_tiff(&head) => Ok(()),
            _ => refuse("it is not a TIFF"),
        };
    }
    if metadata.len() > SIDECAR_TEXT_BYTES_MAX {
        return refuse("it is too long");
    }
    match std::fs::read(&path) {
        Ok(text) if text.windows(13).any(|word| word.eq_ignore_ascii_case(b"OVERVIEW_FILE")) => {
            refuse("it refers to another file")
        }
        Ok(_) => Ok(()),
        Err(error) => refuse(&error.to_string()),
    }
}

/// See [`jp2`].
pub(super) fn check_tiles(path: &Path) -> Result<(), ReadProblem> {
    let file =
        std::fs::File::open(path).map_err(|error| ReadProblem::Missing { reason: error.to_string() })?;
    jp2::check(|at, buffer| file.read_exact_at(buffer, at).ok())
}

/// The first bytes of a file.
pub(super) fn head(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    const HEAD_BYTES: u64 = 64;
    let mut head = Vec::new();
    std::fs::File::open(path)?.take(HEAD_BYTES).read_to_end(&mut head)?;
    Ok(head)
}

/// Whether a file begins as a TIFF or BigTIFF does.
pub(super) fn is_tiff(head: &[u8]) -> bool {
    [&b"II*\0"[..], b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|magic| head.starts_with(magic))
}

/// Opens a file to read, as one of `drivers`; `sidecars` are the names beside it that exist for GDAL.
fn open_as(path: &Path, drivers: &[&str], sidecars: &[String]) -> Result<Dataset, GdalError> {
    // The file's own name: to GDAL an empty list is none, and without a list it looks for itself.
    let own = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let siblings: Vec<&str> = std::iter::once(own).chain(sidecars.iter().map(String::as_str)).collect();
    let options = DatasetOptions {
        open_flags: GdalOpenFlags::GDAL_OF_READONLY
            | GdalOpenFlags::GDAL_OF_RASTER
            | GdalOpenFlags::GDAL_OF_VERBOSE_ERROR,
        allowed_drivers: Some(drivers),
        open_options: None,
        sibling_files: Some(&siblings),
    };
    Dataset::open_ex(path, options)
}

/// Opens an image file alone, without any of the checks of assets: for files of our own making, and
/// for those a VRT names.
pub(crate) fn open_local(path: &Path) -> Result<Dataset, GdalError> {
    open_as(path, IMAGE_DRIVERS, &[])
}

/// Settings of this thread while a file with side-cars is opened.
struct WithSidecars;

impl WithSidecars {
    const SETTINGS: [(&'static str, &'static str); 2] =
        [("GDAL_PAM_ENABLED", "YES"), ("GDAL_GEOREF_SOURCES", "PAM,INTERNAL,WORLDFILE")];

    fn enter() -> Self {
        for (key, value) in Self::SETTINGS {
            set_thread_local_config_option(key, value).expect("a constant without NUL");
        }
        WithSidecars
    }
}

impl Drop for WithSidecars {
    fn drop(&mut self) {
        for (key, _) in Self::SETTINGS {
            // It fails for a NUL in the key alone.
            _ = clear_thread_local_config_option(key);
        }
    }
}

/// A tag that lies beyond the end of a cut file is left out with a mere warning; without its nodata or
/// its scale the file would read, and read wrong.
pub(super) fn refuse_lost_tags(messages: &[String]) -> Result<(), ReadProblem> {
    match messages.iter().find(|text| text.contains("IO error during reading")) {
        Some(text) => Err(ReadProblem::Corrupt { reason: text.clone() }),
        None => Ok(()),
    }
}

/// Metadata of a file can name another one as its overviews, and GDAL would open whatever stands there.
pub(super) fn refuse_references(dataset: &Dataset) -> Result<(), ReadProblem> {
    let names = |item: Option<String>| item.is_some_and(|name| !name.is_empty());
    let count = dataset.raster_count();
    let named = names(dataset.metadata_item("OVERVIEW_FILE", "OVERVIEWS"))
        || (1..=count.min(super::header::BANDS_MAX as usize)).any(|band| {
            dataset.rasterband(band).is_ok_and(|band| names(band.metadata_item("OVERVIEW_FILE", "OVERVIEWS")))
        });
    if named {
        let what = "its metadata names another file as its overviews".to_owned();
        return Err(ReadProblem::Refers { what });
    }
    Ok(())
}

/// Datasets that are kept open, the one used last at the end. One thread at a time has a dataset; it may be
/// another one each time, so that what one thread has decoded is there for the next.
#[derive(Default)]
struct Kept(Vec<(Target, Opened)>);

static OPEN: Mutex<Kept> = Mutex::new(Kept(Vec::new()));

impl Kept {
    fn take(&mut self, target: &Target) -> Option<Opened> {
        let at = self.0.iter().rposition(|(kept, _)| kept == target)?;
        Some(self.0.remove(at).1)
    }

    /// Keeps a dataset; the one that has to go for it.
    fn put(&mut self, target: &Target, dataset: Opened) -> Option<(Target, Opened)> {
        self.0.push((target.clone(), dataset));
        (self.0.len() > KEPT_MAX).then(|| self.0.remove(0))
    }
}

/// A dataset that was kept of a target, of exactly this version.
pub(super) fn take_kept(target: &Target) -> Option<Opened> {
    // Consistent after every statement, so a panic elsewhere does not spoil it.
    OPEN.lock().unwrap_or_else(PoisonError::into_inner).take(target)
}

/// Keeps a dataset for the next read of the target. Only for one whose file is known to be of the target's
/// version still.
pub(super) fn keep_open(target: &Target, dataset: Opened) {
    let gone = OPEN.lock().unwrap_or_else(PoisonError::into_inner).put(target, dataset);
    // To close a file takes time, which nobody else waits for.
    drop(gone);
}
