//! Scenes that all cover the grid, with pixels that cost next to nothing, and grafts of every op on them.

use std::collections::BTreeMap;
use std::sync::Arc;

use graticule_common::block::{Block, Samples};
use graticule_common::eval::Surroundings;
use graticule_common::grid::{Crs, Grid, Lattice, TileSize, Window};
use graticule_common::limits::Limits;
use graticule_common::ops::{Answer, BindCx, FAMILIES};
use graticule_common::plan::{self, NodeId, Options, Outcome, Plan, Read};
use graticule_common::scene::{
    Affine, Asset, AssetGrid, BandSource, Product, Properties, Scene, SourceRef, Timestamp,
};
use graticule_common::transform::ByText;
use serde_json::{Value, json};

/// Edge of the grid in pixels.
pub const SIDE: u32 = 1024;

/// The bands of every scene.
pub const BANDS: [&str; 4] = ["a", "b", "c", "q"];

fn grid(side: u32) -> Grid {
    let lattice = Lattice::try_new(Crs::from_canonical("EPSG:32633"), (10.0, 10.0), (0.0, 0.0));
    Grid::from_window(lattice.expect("a lattice"), Window { row: 0, col: 0, rows: side, cols: side })
}

fn scenes(side: u32, count: u32) -> Vec<Scene> {
    let lattice = grid(side).lattice().clone();
    let raster = AssetGrid {
        crs: lattice.crs().clone(),
        affine: Affine::upright((lattice.x(0.0), lattice.y(0.0)), 10.0, -10.0),
        rows: side,
        cols: side,
    };
    let scene = |at: u32| {
        let id = format!("made:up:{at:04}");
        let source = SourceRef::Synthetic(id.clone());
        let asset = Arc::new(Asset { raster: Some(raster.clone()), ..Asset::new("data", source, "1") });
        let band = |band: u32| BandSource { sample_bytes: Some(4), ..BandSource::new(asset.clone(), band) };
        let properties: Properties = [("id".to_owned(), id.as_str().into())].into();
        Scene {
            product: "made:up".into(),
            acquired: Timestamp::parse(&format!("2020-01-01T00:{:02}:{:02}Z", at / 60, at % 60))
                .expect("an instant"),
            properties: Arc::new(properties),
            bands: BANDS.iter().map(|band| (*band).to_owned()).zip((1..).map(band)).collect(),
            id,
        }
    };
    (0..count).map(scene).collect()
}

/// Plans a graft on so many scenes; `None` where its value is no raster, or it does not fit.
pub fn plan(graft: &Value, count: u32, options: &Options) -> Option<Plan> {
    match outcome(graft, SIDE, count, options).ok()? {
        Outcome::Raster { plan, .. } | Outcome::Several { plan: Some(plan), .. } => Some(plan),
        _ => None,
    }
}

/// What a graft is on a square of pixels and so many scenes.
pub fn outcome(graft: &Value, side: u32, count: u32, options: &Options) -> Result<Outcome, String> {
    let (limits, grid) = (Limits::default(), grid(side));
    let expr = graticule_common::graft::resolve(graft.to_string().as_bytes(), &limits);
    let expr = expr.map_err(|error| error.to_string())?;
    let scenes = scenes(side, count);
    let product = Product::new("made:up", BANDS.map(str::to_owned).to_vec());
    let answers: BTreeMap<_, _> = expr
        .scene_queries()
        .map_err(|(error, at)| format!("{at}: {error}"))?
        .into_iter()
        .map(|(query, _)| (query, Answer { product: product.clone(), scenes: scenes.clone() }))
        .collect();
    let images = expr.image_ids().map_err(|(error, at)| format!("{at}: {error}"))?;
    let images = images.into_iter().map(|(id, _)| (id, scenes[0].clone())).collect();
    let cx = BindCx { grid: &grid, transform: &ByText, answers: &answers, images: &images };
    plan::build(&expr, &cx, None, &limits, options).map_err(|error| error.to_string())
}

/// A request of the matrix.
pub struct Case {
    /// What it is.
    pub name: String,
    /// Its plan.
    pub plan: Plan,
}

/// Every op on mosaics and on stacks where that has a meaning, and what people compute; on several
/// numbers of scenes and tile sizes.
pub fn matrix(sizes: &[u32], counts: &[u32]) -> Vec<Case> {
    let mut grafts = programs();
    for (name, graft) in &grafts {
        outcome(graft, SIDE, 1, &Options::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for op in FAMILIES.iter().flat_map(|family| family.iter()) {
        grafts.push((op.name().to_owned(), op.example()));
        grafts.push((format!("{} of stacks", op.name()), stacked(&op.example())));
    }
    let mut cases = Vec::new();
    for (name, graft) in &grafts {
        for (size, count) in sizes.iter().flat_map(|size| counts.iter().map(move |count| (*size, *count))) {
            let options = Options { tile_size: TileSize::new(size), ..Options::default() };
            if let Some(plan) = plan(graft, count, &options) {
                cases.push(Case { name: format!("{name}, {count} scenes, {size} px"), plan });
            }
        }
    }
    cases
}

/// A graft with stacks in the place of its mosaics.
fn stacked(graft: &Value) -> Value {
    let mut out = graft.clone();
    let Some(members) = graft.as_object() else { return out };
    for (key, value) in members {
        if let Some([op, product, bands]) = value.as_array().map(Vec::as_slice)
            && op == "mosaic"
        {
            let selected = format!("{key}_scenes");
            out[&selected] = json!(["select_scenes", product, bands]);
            out[key] = json!(["stack_scenes", selected, bands]);
        }
    }
    out
}

/// Grafts that people write.
fn programs() -> Vec<(String, Value)> {
    let stack = json!({
        "product": "made:up", "bands": "a b q", "axis": "images", "a_": "a", "b_": "b", "q_": "q",
        "scenes": ["select_scenes", "product", "bands"],
        "stack": ["stack_scenes", "scenes", "bands"],
        "a": ["pick_bands", "stack", "a_"], "b": ["pick_bands", "stack", "b_"],
        "q": ["pick_bands", "stack", "q_"],
        "half": 0.5, "cloud": ["gt", "q", "half"],
        "ndvi": ["truediv", "difference", "sum"],
        "difference": ["sub", "b", "a"], "sum": ["add", "b", "a"],
        "masked": ["mask", "ndvi", "cloud"],
        "other": ["mean", "masked", "axis"],
    });
    let with = |name: &str, result: Value| {
        let mut graft = stack.clone();
        graft["result"] = result;
        graft["returns"] = "result".into();
        (name.to_owned(), graft)
    };
    let mut several = stack.clone();
    several["spread"] = json!(["std", "masked", "axis"]);
    several["returns"] = json!("both");
    several["both"] = json!(["object", {"mean": "other", "std": "spread"}]);
    vec![
        with("ndvi of a stack", json!(["abs", "ndvi"])),
        with("masked ndvi median", json!(["median", "masked", "axis"])),
        with("masked ndvi mean", json!(["mean", "masked", "axis"])),
        with("masked ndvi std", json!(["std", "masked", "axis"])),
        with("max of three bands", json!(["max", "stack", "axis"])),
        with("median of three bands", json!(["median", "stack", "axis"])),
        with("distance from the mean", json!(["sub", "masked", "other"])),
        with("bands joined", json!(["concat_bands", "masked", "stack"])),
        ("mean and spread".to_owned(), several),
    ]
}

/// The world of one tile: pixels by a cheap formula; keeps what is remembered, as a worker does.
#[derive(Default)]
pub struct World {
    /// Encoded blocks.
    pub finished: Vec<(NodeId, bytes::Bytes)>,
    /// Seconds spent making pixels up.
    pub reading_s: f64,
}

impl Surroundings for World {
    type Error = std::convert::Infallible;

    fn read(&mut self, read: &Read, image: Option<u32>, window: &Window) -> Result<Block, Self::Error> {
        let started = std::time::Instant::now();
        let (scenes, kind) = read.images(image);
        let len = kind.planes() * window.pixels();
        let mut seed = scenes
            .iter()
            .flat_map(|scene| scene.id.bytes())
            .fold(1u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed >> 8
        };
        let samples = (0..len).map(|_| next() as f32 / (1 << 24) as f32).collect();
        let valid = (0..len).map(|_| u8::from(next() % 8 > 0)).collect();
        self.reading_s += started.elapsed().as_secs_f64();
        Ok(Block::new(kind, (window.rows, window.cols), Samples::F32(samples), valid))
    }

    fn spared(&mut self, _: &Read, _: Option<u32>, _: &Window) {}

    fn finished(&mut self, node: NodeId, block: &Block) {
        self.finished.push((node, block.encode()));
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}
