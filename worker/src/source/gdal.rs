//! Raster files, window by window. All reading through GDAL is here, and the one place that swaps
//! (row, col) for GDAL's (x, y).
//!
//! The last few datasets stay open; one thread at a time uses each. What a header says is
//! remembered for all threads, because to understand a CRS costs twenty times what opening a file does.

mod header;
mod inspect;
mod jp2;
mod open;
mod pixels;
mod read;
mod settings;
#[cfg(test)]
mod tests;
mod vrt;
mod vsi;
#[cfg(test)]
mod warp_tests;

use std::fmt;
use std::sync::Arc;

use graticule_common::grid::Crs;
use graticule_common::transform::Transform;
use moka::sync::Cache;

use self::header::Header;
use self::open::{Opened, Target, keep_open, take_kept};
pub use self::settings::{SETTINGS, allow, configure, drivers};
pub(crate) use self::{
    open::open_local,
    settings::{listen, reason},
};
use super::remote::{Access, Patience, Remote};
use super::{BandRead, ReadError, ReadProblem, ReadStats, TileSource};

/// Headers remembered per source.
const HEADERS_MAX: u64 = 4096;

/// Pairs of CRSs remembered as the same or not.
const CRS_PAIRS_MAX: u64 = 256;

/// Reads raster files.
pub struct GdalSource {
    transform: Arc<dyn Transform>,
    remote: Remote,
    headers: Cache<Target, Arc<Header>>,
    /// Whether two CRSs are the same.
    same: Cache<(Crs, Crs), bool>,
}

impl fmt::Debug for GdalSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GdalSource").field("headers", &self.headers.entry_count()).finish_non_exhaustive()
    }
}

impl GdalSource {
    /// A reader that compares CRSs with `transform`. Configures GDAL. Of remote files it opens those on
    /// public hosts.
    pub fn new(transform: Arc<dyn Transform>) -> Self {
        Self::with_remote(transform, Remote::new(Access::default(), Patience::default()))
    }

    /// The same with remote files as `remote` opens them.
    pub fn with_remote(transform: Arc<dyn Transform>, remote: Remote) -> Self {
        configure();
        GdalSource { transform, remote, headers: Cache::new(HEADERS_MAX), same: Cache::new(CRS_PAIRS_MAX) }
    }

    fn try_read(
        &self,
        read: &BandRead<'_>,
        target: &Target,
        samples: &mut [f32],
        valid: &mut [u8],
    ) -> Result<(ReadStats, Option<Opened>), ReadProblem> {
        let mut dataset = take_kept(target);
        let mut opened = 0;
        let mut open = || {
            opened += 1;
            target.open(&self.remote)
        };
        let header = match self.headers.get(target) {
            Some(header) => header,
            None => {
                let dataset = match &dataset {
                    Some(dataset) => dataset,
                    None => dataset.insert(open()?),
                };
                let header = Header::read(dataset, self.transform.as_ref());
                if let Some(fault) = dataset.fault() {
                    return Err(fault);
                }
                let header = Arc::new(header?);
                if target.is_versioned() {
                    self.headers.insert(target.clone(), header.clone());
                }
                header
            }
        };
        let bytes = read::band(self, read, &header, (&mut dataset, &mut open), samples, valid);
        // GDAL may have made something of what could not be fetched.
        if let Some(fault) = dataset.as_ref().and_then(Opened::fault) {
            return Err(fault);
        }
        let bytes = bytes?;
        Ok((ReadStats { bytes, opened }, dataset))
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
            let target = Target::of(&read.band.asset)?;
            target.check()?;
            let result = self.try_read(read, &target, samples, valid);
            // Once more: pixels of a file that was replaced meanwhile are neither the old nor the new
            // ones, and that explains a failure better than what the decoder says.
            let unchanged = target.check();
            match (unchanged, result) {
                (Ok(()), Ok((stats, dataset))) => {
                    if let Some(dataset) = dataset.filter(|_| target.is_versioned()) {
                        keep_open(&target, dataset);
                    }
                    Ok(stats)
                }
                (unchanged, result) => {
                    // Nothing stays of what may have been read from another file.
                    self.headers.invalidate(&target);
                    unchanged.and_then(|()| result.map(|(stats, _)| stats))
                }
            }
        };
        attempt().map_err(|problem| read.error(problem))
    }
}
