//! The sample imagery of `examples/`, and the main job computed a second time, straightforwardly.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gdal::Dataset;
use graticule_common::proto::v1 as pb;
use graticule_common::transform::Proj;
use graticule_coordinator::catalog::LocalCatalog;
use graticule_worker::source::Sources;
use graticule_worker::source::gdal::{GdalSource, configure};
use serde_json::Value;
use tempfile::TempDir;

use crate::scenes::on_area;
use crate::world::folder;

/// Product id.
pub const PRODUCT: &str = "landsat57-colorado";

/// The folder `examples`.
pub fn examples() -> PathBuf {
    folder("../examples").canonicalize().expect("the examples")
}

/// The main job: median over time of NDVI where Fmask is clear.
pub fn graft() -> String {
    std::fs::read_to_string(examples().join("ndvi_median.graft.json")).expect("the graft")
}

/// The main job on the native grid.
pub fn main_job() -> pb::ComputeRequest {
    on_area(&graft())
}

/// Files through GDAL, formulas too.
pub fn source() -> Arc<Sources> {
    configure();
    Arc::new(Sources::with_local(Arc::new(GdalSource::new(Arc::new(Proj::new())))))
}

/// A folder for a catalog, gone when dropped, and perhaps a copy of the imagery that a test may damage.
#[derive(Debug)]
pub struct Imagery {
    folder: TempDir,
    imagery: PathBuf,
}

impl Imagery {
    /// The imagery where it lies, which no test changes.
    pub fn committed() -> Imagery {
        Imagery { folder: TempDir::new().expect("a folder"), imagery: examples().join("colorado") }
    }

    /// A copy.
    pub fn copy() -> Imagery {
        let folder = TempDir::new().expect("a folder");
        let imagery = folder.path().join("imagery");
        copy(&examples().join("colorado"), &imagery);
        Imagery { folder, imagery }
    }

    /// A copy of its documents, which name their files at this URL instead of beside them.
    pub fn behind(url: &str) -> Imagery {
        let folder = TempDir::new().expect("a folder");
        let imagery = folder.path().join("imagery");
        std::fs::create_dir_all(imagery.join("items")).expect("a folder");
        let from = examples().join("colorado");
        std::fs::copy(from.join("collection.json"), imagery.join("collection.json")).expect("a copy");
        for item in std::fs::read_dir(from.join("items")).expect("items") {
            let path = item.expect("an item").path();
            let text = std::fs::read_to_string(&path).expect("an item");
            let text = text.replace("\"../scenes/", &format!("\"{url}/scenes/"));
            std::fs::write(imagery.join("items").join(path.file_name().expect("a name")), text)
                .expect("a copy");
        }
        Imagery { folder, imagery }
    }

    /// The data folder, as `--data` has it.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A folder for results.
    pub fn out(&self) -> PathBuf {
        let out = self.folder.path().join("out");
        std::fs::create_dir_all(&out).expect("a folder");
        out
    }

    /// Registers the imagery.
    pub fn register(&self) -> Arc<LocalCatalog> {
        let catalog = LocalCatalog::open(&self.data()).expect("a catalog");
        let added = catalog.add(&self.imagery, &Proj::new()).expect("the imagery is registered");
        let [product] = added.products.as_slice() else { panic!("one product: {added:?}") };
        assert_eq!((product.id.as_str(), product.items()), (PRODUCT, 105));
        Arc::new(catalog)
    }

    /// A file of a scene: `b3`, `b4`, `b5` or `fmask`.
    pub fn file(&self, scene: &str, file: &str) -> PathBuf {
        self.imagery.join(format!("scenes/{scene}/{scene}_{file}.tif"))
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("a copy");
        }
    }
}

/// The main job pixel by pixel, as its definition reads: nothing of the engine takes part.
pub fn ndvi_median() -> Vec<Option<f32>> {
    const PIXELS: usize = 61 * 61;
    let items = std::fs::read_dir(examples().join("colorado/items")).expect("items");
    let mut series: Vec<Vec<f32>> = vec![Vec::new(); PIXELS];
    for item in items {
        let text = std::fs::read_to_string(item.expect("an item").path()).expect("an item");
        let item: Value = serde_json::from_str(&text).expect("JSON");
        let stored = |asset: &str| -> Vec<i16> {
            let href = item["assets"][asset]["href"].as_str().expect("a reference");
            let path = examples().join("colorado/items").join(href);
            let file = Dataset::open(path).expect("a file");
            let band = file.rasterband(1).expect("a band");
            band.read_band_as::<i16>().expect("pixels").data().to_vec()
        };
        let (red, nir, fmask) = (stored("red"), stored("nir"), stored("fmask"));
        assert_eq!((red.len(), nir.len(), fmask.len()), (PIXELS, PIXELS, PIXELS));
        for at in 0..PIXELS {
            let total = f32::from(nir[at]) + f32::from(red[at]);
            if red[at] != -9999 && nir[at] != -9999 && fmask[at] <= 1 && total != 0.0 {
                series[at].push((f32::from(nir[at]) - f32::from(red[at])) / total);
            }
        }
    }
    series.into_iter().map(median).collect()
}

fn median(mut values: Vec<f32>) -> Option<f32> {
    values.sort_by(f32::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}
