//! Grafts over real rasters whose answers are known: what an undisturbed engine says of them.

use bytes::Bytes;
use graticule_common::proto::v1 as pb;
use graticule_common::transform::Proj;
use serde_json::json;
use tokio::sync::OnceCell;

use crate::client::{Received, blocks, request, with};
use crate::cluster::{Cluster, Setup};
use crate::colorado::{Imagery, PRODUCT, examples, main_job, source};
use crate::scenes::{on_area, over_pixels};

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
    let catalog = imagery.register();
    catalog.add(&examples().join("potsdam"), &Proj::new()).expect("the imagery is registered");
}

/// The main job, in sixteen tiles: a hundred files each.
pub async fn ndvi() -> Case {
    static CASE: OnceCell<Case> = OnceCell::const_new();
    CASE.get_or_init(|| undisturbed("ndvi", with(main_job(), |options| options.tile_size = 16))).await.clone()
}

/// Neighbourhoods of neighbourhoods: tiles with a margin.
pub async fn focal() -> Case {
    static CASE: OnceCell<Case> = OnceCell::const_new();
    let graft = json!({
        "product": PRODUCT, "band": "nir", "returns": "result", "three": 3,
        "ground": ["mosaic", "product", "band"], "smooth": ["focal_median", "ground", "three"],
        "result": ["slope", "smooth"],
    });
    let request = with(on_area(&graft.to_string()), |options| options.tile_size = 16);
    CASE.get_or_init(|| undisturbed("focal", request)).await.clone()
}

/// A value that needs all pixels and goes back into them: two stages.
pub async fn stages() -> Case {
    static CASE: OnceCell<Case> = OnceCell::const_new();
    let request = with(on_area(&over_pixels(PRODUCT, "red", "less")), |options| options.tile_size = 16);
    CASE.get_or_init(|| undisturbed("stages", request)).await.clone()
}

/// Three bands of 1536 × 768 pixels in true colour: 14 MB in eighteen tiles of two pieces.
pub async fn mosaic() -> Case {
    static CASE: OnceCell<Case> = OnceCell::const_new();
    CASE.get_or_init(|| undisturbed("mosaic", true_colour(256))).await.clone()
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

/// A case, answered by an engine in this process that nothing happens to.
pub async fn undisturbed(name: &'static str, request: pb::ComputeRequest) -> Case {
    let imagery = Imagery::committed();
    let catalog = imagery.register();
    catalog.add(&examples().join("potsdam"), &Proj::new()).expect("the imagery is registered");
    let cluster = Cluster::start(Setup::new(2, catalog, source())).await;
    let received = cluster.client.receive(&request).await;
    assert!(received.error.is_none() && received.summary.is_some(), "{name}: {:?}", received.error);
    let header = received.header.expect("a header");
    let expected = pixels(&header, received.chunks);
    assert!(expected.iter().any(|block| block.len() > 1000), "{name} has pixels");
    Case { name, request, expected }
}
