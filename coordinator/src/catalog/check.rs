//! Whether what is registered can be read, and is as STAC says.

use std::collections::BTreeSet;
use std::sync::Arc;

use graticule_common::error::ErrorClass;
use graticule_common::file::{FileInfo, Inspect};
use graticule_common::scene::{Asset, BandSource, Scene, SourceRef};
use graticule_common::transform::Transform;

use super::walk::version_of;
use super::{CatalogError, LocalCatalog};

/// Scenes that are looked at together.
const PAGE: u32 = 256;
/// Pixels that corners may differ by: rounding in documents.
const CORNER_PIXELS_MAX: f64 = 0.01;

/// What is wrong with an asset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Product id.
    pub product: String,
    /// Item id.
    pub item: String,
    /// Key of the asset.
    pub asset: String,
    /// Where it is.
    pub href: String,
    /// `missing`, `changed`, `corrupt` or `inconsistent`.
    pub kind: &'static str,
    /// What is wrong.
    pub reason: String,
}

/// What a check looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Items.
    pub items: u64,
    /// Assets.
    pub assets: u64,
    /// Faults.
    pub faults: u64,
}

impl Checked {
    /// The class of a check's outcome: a fault is one of a source.
    pub fn class(&self) -> Option<ErrorClass> {
        (self.faults > 0).then_some(ErrorClass::Source)
    }
}

impl LocalCatalog {
    /// Opens every asset of a product and compares it with what is registered; with `pixels`, decodes all
    /// of it. `found` hears of each fault, `looked` of each asset that was looked at; either ends it by saying
    /// `false`. Blocks.
    ///
    /// # Errors
    /// [`CatalogError::UnknownProduct`]; faults are no errors.
    pub fn check(
        &self,
        product: &str,
        pixels: bool,
        inspect: &dyn Inspect,
        transform: &dyn Transform,
        found: &mut dyn FnMut(Fault) -> bool,
        looked: &mut dyn FnMut(&Checked) -> bool,
    ) -> Result<Checked, CatalogError> {
        let mut checked = Checked::default();
        let mut after = 0;
        loop {
            let page = self.page(product, after, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(checked) };
            after = *last;
            for (_, scene) in &page {
                checked.items += 1;
                for (asset, bands) in assets(scene) {
                    checked.assets += 1;
                    for (kind, reason) in faults(asset, &bands, pixels, inspect, transform) {
                        checked.faults += 1;
                        let fault = Fault {
                            product: product.to_owned(),
                            item: scene.id.clone(),
                            asset: asset.key.clone(),
                            href: asset.source.to_string(),
                            kind,
                            reason,
                        };
                        if !found(fault) {
                            return Ok(checked);
                        }
                    }
                    if !looked(&checked) {
                        return Ok(checked);
                    }
                }
            }
        }
    }
}

/// An asset with the bands that it holds, by name.
type WithBands<'a> = (&'a Arc<Asset>, Vec<(&'a str, &'a BandSource)>);

/// The assets of a scene with their bands.
fn assets(scene: &Scene) -> Vec<WithBands<'_>> {
    let mut assets: Vec<WithBands<'_>> = Vec::new();
    for (name, band) in &scene.bands {
        match assets.iter_mut().find(|(asset, _)| Arc::ptr_eq(asset, &band.asset)) {
            Some((_, bands)) => bands.push((name, band)),
            None => assets.push((&band.asset, vec![(name, band)])),
        }
    }
    assets
}

fn faults(
    asset: &Asset,
    bands: &[(&str, &BandSource)],
    pixels: bool,
    inspect: &dyn Inspect,
    transform: &dyn Transform,
) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    if let SourceRef::Local(path) = &asset.source {
        match std::fs::metadata(path) {
            Err(e) => return vec![("missing", e.to_string())],
            Ok(metadata) if version_of(&metadata) != asset.version => faults.push((
                "changed",
                "it is not the file that was registered; register it again with `graticule catalog add`"
                    .to_owned(),
            )),
            Ok(_) => {}
        }
    }
    // What is wrong with the file as it is now, also where it changed.
    let version = match (&asset.source, faults.is_empty()) {
        (SourceRef::Local(path), false) => {
            std::fs::metadata(path).map(|metadata| version_of(&metadata)).unwrap_or_default()
        }
        _ => asset.version.clone(),
    };
    match inspect.inspect(&Asset { version, ..asset.clone() }, pixels) {
        Err(reason) => faults.push(("corrupt", reason)),
        Ok(info) => faults.extend(
            differences(asset, bands, &info, transform).into_iter().map(|reason| ("inconsistent", reason)),
        ),
    }
    faults
}

/// The beginning of a text: WKT is long, and begins with a name.
fn short(text: &str) -> String {
    const CHARS_MAX: usize = 72;
    let cut: String = text.chars().take(CHARS_MAX).collect();
    if cut.len() < text.len() { cut + "…" } else { cut }
}

/// Where STAC and the file say different things. STAC wins where pixels are read.
fn differences(
    asset: &Asset,
    bands: &[(&str, &BandSource)],
    info: &FileInfo,
    transform: &dyn Transform,
) -> Vec<String> {
    let mut found = BTreeSet::new();
    if let (None, Err(reason)) = (&asset.raster, &info.grid) {
        found.insert(format!("neither STAC nor the file says where its pixels lie: {reason}"));
    }
    if let (Some(said), Ok(file)) = (&asset.raster, &info.grid) {
        if said.crs != file.crs && !transform.same(&said.crs, &file.crs) {
            found.insert(format!(
                "STAC says CRS {}, the file {}",
                short(said.crs.as_str()),
                short(file.crs.as_str())
            ));
        }
        let (rows, cols) = (f64::from(file.rows), f64::from(file.cols));
        let pixel =
            file.affine.col.0.hypot(file.affine.col.1).max(file.affine.row.0.hypot(file.affine.row.1));
        let apart = |(x, y): (f64, f64)| {
            let (a, b) = (said.affine.place(x, y), file.affine.place(x, y));
            (a.0 - b.0).abs().max((a.1 - b.1).abs()) > CORNER_PIXELS_MAX * pixel
        };
        if [(0.0, 0.0), (cols, 0.0), (0.0, rows)].into_iter().any(apart) {
            found.insert(format!(
                "STAC says transform {:?}, the file {:?} (origin, column step, row step)",
                said.affine.numbers(),
                file.affine.numbers()
            ));
        }
    }
    if let Some(said) = &asset.raster
        && (said.rows, said.cols) != info.shape
    {
        let (rows, cols) = info.shape;
        found.insert(format!("STAC says {} × {} pixels, the file {rows} × {cols}", said.rows, said.cols));
    }
    for (name, band) in bands {
        let Some(file) = band.band.checked_sub(1).and_then(|at| info.bands.get(at as usize)) else {
            found.insert(format!(
                "STAC says that `{name}` is band {}, the file has {} bands",
                band.band,
                info.bands.len()
            ));
            continue;
        };
        if file.data_type.starts_with('c') || file.data_type == "other" {
            found.insert(format!("band `{name}` stores complex numbers or another type that is not read"));
        }
        if let (Some(said), Some(in_file)) = (band.nodata, file.nodata)
            && said != in_file
            && !(said.is_nan() && in_file.is_nan())
        {
            found.insert(format!("band `{name}`: STAC says nodata {said}, the file {in_file}"));
        }
        if let (Some(said), Some(in_file)) = (band.scale_offset, file.scale_offset)
            && said != in_file
        {
            found.insert(format!(
                "band `{name}`: STAC says scale {} and offset {}, the file {} and {}",
                said.0, said.1, in_file.0, in_file.1
            ));
        }
        let bytes = super::stac::sample_bytes(&file.data_type);
        if let (Some(said), Some(in_file)) = (band.sample_bytes, bytes)
            && said != in_file
        {
            found.insert(format!(
                "band `{name}`: STAC says values of {said} bytes, the file has {} of {in_file}",
                file.data_type
            ));
        }
    }
    found.into_iter().collect()
}
