//! Grafts over real rasters whose answers are known: what an undisturbed engine says of them.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use gdal::Dataset;
use graticule_common::proto::v1 as pb;
use graticule_common::transform::Proj;
use graticule_coordinator::catalog::LocalCatalog;
use serde_json::json;
use tokio::sync::OnceCell;

use crate::client::{Received, blocks, request, with};
use crate::cluster::{Cluster, Setup};
use crate::colorado::{Imagery, PRODUCT, examples, main_job, source};
use crate::scenes::{AREA, CRS, on_area, over_pixels, reduce};
use crate::world::folder;

/// A graft on an AOI, and its pixels.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What is asked.
    pub request: pb::ComputeRequest,
    /// The pixels of each result, encoded.
    pub expected: Vec<Bytes>,
}

impl Case {
    /// The same question with other options. The pixels stay the same.
    #[must_use]
    pub fn with(mut self, set: impl FnOnce(&mut pb::Options)) -> Case {
        self.request = with(self.request, set);
        self
    }

    /// The same question, computed anew whatever is remembered.
    #[must_use]
    pub fn anew(self) -> Case {
        self.with(|options| options.no_cache = true)
    }

    /// Whether an answer has the right pixels.
    pub fn is_answered_by(&self, received: Received) -> bool {
        received.header.is_some_and(|header| pixels(&header, received.chunks) == self.expected)
    }
}

fn pixels(header: &pb::Header, chunks: Vec<pb::TileChunk>) -> Vec<Bytes> {
    blocks(header, chunks).into_iter().map(|block| block.encode()).collect()
}

/// Registers the sample imagery that the cases are about.
pub fn register(imagery: &Imagery) {
    register_with(imagery, &[]);
}

/// The same and that of further folders.
pub fn register_with(imagery: &Imagery, folders: &[PathBuf]) -> Arc<LocalCatalog> {
    let catalog = imagery.register();
    for folder in [examples().join("potsdam")].iter().chain(folders) {
        catalog.add(folder, &Proj::new()).expect("the imagery is registered");
    }
    catalog
}

/// The main job, in sixteen tiles: a hundred files each.
pub async fn ndvi() -> Case {
    static CASE: OnceCell<Case> = OnceCell::const_new();
    CASE.get_or_init(|| one("ndvi", with(main_job(), |options| options.tile_size = 16))).await.clone()
}

/// Neighbourhoods of neighbourhoods: tiles with a margin.
pub async fn focal() -> Case {
    static CASE: OnceCell<Case> = OnceCell::const_new();
    let request = with(on_area(&focal_graft()), |options| options.tile_size = 16);
    CASE.get_or_init(|| one("focal", request)).await.clone()
}

fn focal_graft() -> String {
    let graft = json!({
        "product": PRODUCT, "band": "nir", "returns": "result", "three": 3,
        "ground": ["mosaic", "product", "band"], "smooth": ["focal_median", "ground", "three"],
        "result": ["slope", "smooth"],
    });
    graft.to_string()
}

/// A value that needs all pixels and goes back into them: two stages.
pub async fn stages() -> Case {
    static CASE: OnceCell<Case> = OnceCell::const_new();
    let request = with(on_area(&over_pixels(PRODUCT, "red", "less")), |options| options.tile_size = 16);
    CASE.get_or_init(|| one("stages", request)).await.clone()
}

/// Three bands of 1536 × 768 pixels in true colour: 14 MB in eighteen tiles of two pieces.
pub async fn mosaic() -> Case {
    static CASE: OnceCell<Case> = OnceCell::const_new();
    CASE.get_or_init(|| one("mosaic", true_colour(256))).await.clone()
}

/// The request of [`mosaic`], in tiles of this size.
pub fn true_colour(tile_size: u32) -> pb::ComputeRequest {
    let graft = std::fs::read_to_string(examples().join("true_colour.graft.json")).expect("the graft");
    let bounds = [330_000.0, 5_814_360.0, 345_360.0, 5_822_040.0];
    with(request(&graft, "EPSG:32633", bounds, 10.0), |options| options.tile_size = tile_size)
}

/// All of them.
pub async fn all() -> Vec<Case> {
    vec![ndvi().await, focal().await, stages().await, mosaic().await]
}

/// Small areas as a map in a browser asks for them: so many different ones of two products and three grafts.
pub async fn tiles(number: usize) -> Vec<Case> {
    let true_colour = std::fs::read_to_string(examples().join("true_colour.graft.json")).expect("the graft");
    let focal = focal_graft();
    let ndvi = crate::colorado::graft();
    let tile = |at: usize| {
        // Each a window of its own: the pixel they begin at moves on.
        let (row, col) = ((at / 3 / 20) as f64, (at / 3 % 20) as f64);
        let [west, _, _, north] = AREA;
        match at % 3 {
            0 => {
                let (west, north) = (330_000.0 + col * 700.0, 5_822_040.0 - row * 370.0);
                request(&true_colour, "EPSG:32633", [west, north - 640.0, west + 640.0, north], 10.0)
            }
            of => {
                let graft = if of == 1 { &focal } else { &ndvi };
                let (west, north) = (west + col * 30.0, north - row * 30.0);
                request(graft, CRS, [west, north - 960.0, west + 960.0, north], 30.0)
            }
        }
    };
    undisturbed((0..number).map(|at| ("tile", tile(at))).collect(), &[]).await
}

/// Folders of the shared test data that [`shared`] is about.
pub fn shared_folders() -> Vec<PathBuf> {
    let data = folder("../../shared/data");
    ["dem-swiss/stac", "landsat8-newyork/stac"].map(|name| data.join(name)).to_vec()
}

/// The slope of real elevations, and the median of a year of Landsat scenes that overlap in part.
pub async fn shared() -> Vec<Case> {
    let slope = json!({
        "product": "dem-swiss", "band": "elevation", "returns": "result",
        "dem": ["mosaic", "product", "band"], "result": ["slope", "dem"],
    });
    let elevations = Dataset::open(folder("../../shared/data/dem-swiss/dem.tif")).expect("elevations");
    let [x, width, _, y, _, height] = elevations.geo_transform().expect("a grid");
    let (cols, rows) = elevations.raster_size();
    let crs = elevations.spatial_ref().and_then(|crs| crs.to_wkt()).expect("a CRS");
    let bounds = [x, y + height * rows as f64, x + width * cols as f64, y];
    let slope = request(&slope.to_string(), &crs, bounds, width);
    let year = reduce("landsat8-newyork", "B4 B5", "median");
    let year = request(&year, "EPSG:32618", [527_685.0, 4_348_815.0, 755_685.0, 4_581_815.0], 1_000.0);
    let requests = vec![
        ("elevations", with(slope, |options| options.tile_size = 64)),
        ("year", with(year, |options| options.tile_size = 64)),
    ];
    undisturbed(requests, &shared_folders()).await
}

/// Cases, answered by an engine in this process that nothing happens to.
async fn undisturbed(requests: Vec<(&'static str, pb::ComputeRequest)>, folders: &[PathBuf]) -> Vec<Case> {
    let imagery = Imagery::committed();
    let catalog = register_with(&imagery, folders);
    let cluster = Cluster::start(Setup::new(2, catalog, source())).await;
    let mut cases = Vec::new();
    for (name, request) in requests {
        let received = cluster.client.receive(&request).await;
        assert!(received.error.is_none() && received.summary.is_some(), "{name}: {:?}", received.error);
        let header = received.header.expect("a header");
        let expected = pixels(&header, received.chunks);
        assert!(expected.iter().any(|block| block.len() > 1000), "{name} has pixels");
        cases.push(Case { name, request, expected });
    }
    cases
}

async fn one(name: &'static str, request: pb::ComputeRequest) -> Case {
    undisturbed(vec![(name, request)], &[]).await.remove(0)
}
