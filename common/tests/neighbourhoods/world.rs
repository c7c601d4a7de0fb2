//! A world of one product with the bands `a` and `b`, whose pixels are written down, and grids of the
//! lattice (10.0, 10.0).

use std::collections::BTreeMap;
use std::sync::Arc;

use graticule_common::block::{Block, Samples};
use graticule_common::eval::{Surroundings, eval};
use graticule_common::expr::Expr;
use graticule_common::graft::resolve;
use graticule_common::grid::{Crs, Grid, Lattice, TileSize, Window};
use graticule_common::limits::Limits;
use graticule_common::ops::{Answer, BindCx};
use graticule_common::plan::{self, BindError, Options, Outcome, Plan, Read};
use graticule_common::scene::{Affine, Asset, AssetGrid, BandSource, Product, Scene, SourceRef, Timestamp};
use graticule_common::transform::{ByText, Transform};
use serde_json::{Value, json};

/// Pixels by row and column of the lattice; `None` where there is none.
pub type Pixels = fn(band: u32, row: i64, col: i64) -> Option<f32>;

/// What there is.
pub struct World {
    /// The pixels of every scene.
    pub pixels: Pixels,
    /// Where the scenes lie, in order of time.
    pub scenes: Vec<Window>,
    /// The CRS of grid and scenes.
    pub crs: &'static str,
    /// Width and height of a pixel.
    pub resolution: (f64, f64),
    /// What is known about the CRS.
    pub transform: Box<dyn Transform>,
}

impl World {
    /// One scene that covers all that a test looks at.
    pub fn new(pixels: Pixels) -> World {
        World {
            pixels,
            scenes: vec![Window { row: -100, col: -100, rows: 300, cols: 300 }],
            crs: "EPSG:32633",
            resolution: (10.0, 10.0),
            transform: Box::new(ByText),
        }
    }

    fn lattice(&self) -> Lattice {
        Lattice::try_new(Crs::from_canonical(self.crs), self.resolution, (0.0, 0.0)).expect("a lattice")
    }

    /// The outcome of a graft on a window.
    pub fn plan(&self, graft: &Value, window: Window, tile: u32) -> Result<Outcome, BindError> {
        self.plan_without(graft, window, tile, &[])
    }

    /// The same without some of the passes.
    pub fn plan_without(
        &self,
        graft: &Value,
        window: Window,
        tile: u32,
        off: &[&str],
    ) -> Result<Outcome, BindError> {
        let expr = resolve(graft.to_string().as_bytes(), &Limits::default()).expect("a graft");
        let grid = Grid::from_window(self.lattice(), window);
        let (answers, images) = (self.answers(&expr), BTreeMap::new());
        let cx =
            BindCx { grid: &grid, transform: self.transform.as_ref(), answers: &answers, images: &images };
        let passes_off = off.iter().map(|name| (*name).to_owned()).collect();
        let options = Options { tile_size: TileSize::new(tile), passes_off, ..Options::default() };
        plan::build(&expr, &cx, None, &Limits::default(), &options)
    }

    fn answers(&self, expr: &Expr) -> BTreeMap<graticule_common::scene::SceneQuery, Answer> {
        let lattice = self.lattice();
        let (res_x, res_y) = self.resolution;
        let scene = |(at, place): (usize, &Window)| {
            let origin = (lattice.x(place.col as f64), lattice.y(place.row as f64));
            let raster = AssetGrid {
                crs: lattice.crs().clone(),
                affine: Affine::upright(origin, res_x, -res_y),
                rows: place.rows,
                cols: place.cols,
            };
            let source = SourceRef::Synthetic(at.to_string());
            let asset = Arc::new(Asset { raster: Some(raster), ..Asset::new("data", source, "1") });
            let bands = ["a", "b"].map(str::to_owned).into_iter().zip(1..);
            Scene {
                id: format!("s{at}"),
                product: "p".into(),
                acquired: Timestamp(at as i64),
                properties: Arc::default(),
                bands: bands.map(|(name, band)| (name, BandSource::new(asset.clone(), band))).collect(),
            }
        };
        let scenes: Vec<Scene> = self.scenes.iter().enumerate().map(scene).collect();
        let product = Product::new("p", vec!["a".into(), "b".into()]);
        let queries = expr.scene_queries().expect("constant selections").into_iter();
        let answer = |query| (query, Answer { product: product.clone(), scenes: scenes.clone() });
        queries.map(|(query, _)| answer(query)).collect()
    }

    /// The first result on the whole grid, tile by tile.
    #[track_caller]
    pub fn eval(&self, graft: &Value, window: Window, tile: u32) -> Block {
        match self.plan(graft, window, tile) {
            Ok(Outcome::Raster { plan, .. }) => self.eval_plan(&plan),
            other => panic!("no raster: {other:?}"),
        }
    }

    /// The first result of a plan on the whole grid.
    pub fn eval_plan(&self, plan: &Plan) -> Block {
        let (window, facts) = (plan.grid().window(), plan.root_node().facts);
        let (mut samples, mut valid) =
            Block::invalid(facts.kind, facts.dtype, (window.rows, window.cols)).into_parts();
        for id in plan.tiles() {
            let tile = plan.tile(id).expect("a tile of the plan");
            let block = eval(&tile, Vec::new(), &mut Around(self)).expect("all can be read").swap_remove(0);
            assert!(tile.peak_bytes() <= plan.tile_peak_bytes(), "{id} takes more than was said");
            let block = block.on(&tile.window(), &window);
            let inside = |at: usize| {
                let at = at % window.pixels();
                let (row, col) = (at / window.cols as usize, at % window.cols as usize);
                let (row, col) = (window.row + row as i64, window.col + col as i64);
                tile.window().intersect(&Window { row, col, rows: 1, cols: 1 }).is_some()
            };
            for at in (0..valid.len()).filter(|at| inside(*at)) {
                valid[at] = block.valid()[at];
                match (&mut samples, block.samples()) {
                    (Samples::F32(out), Samples::F32(values)) => out[at] = values[at],
                    (Samples::Bool(out), Samples::Bool(values)) => out[at] = values[at],
                    _ => panic!("a tile of another type than its plan"),
                }
            }
        }
        Block::new(facts.kind, (window.rows, window.cols), samples, valid)
    }
}

struct Around<'a>(&'a World);

impl Surroundings for Around<'_> {
    type Error = std::convert::Infallible;

    fn read(&mut self, read: &Read, image: Option<u32>, window: &Window) -> Result<Block, Self::Error> {
        let (scenes, kind) = read.images(image);
        let len = kind.planes() * window.pixels();
        // What stands under an invalid pixel must never matter.
        let (mut samples, mut valid) = (vec![f32::NAN; len], vec![0; len]);
        for (at, band) in scenes.iter().flat_map(|scene| &scene.bands).enumerate() {
            let SourceRef::Synthetic(scene) = &band.asset.source else { panic!("a file") };
            let place = self.0.scenes[scene.parse::<usize>().expect("a number")];
            let plane = at % kind.planes() * window.pixels();
            for pixel in 0..window.pixels() {
                let row = window.row + (pixel / window.cols as usize) as i64;
                let col = window.col + (pixel % window.cols as usize) as i64;
                let is_there = place.intersect(&Window { row, col, rows: 1, cols: 1 }).is_some();
                if let Some(value) = (self.0.pixels)(band.band, row, col).filter(|_| is_there) {
                    (samples[plane + pixel], valid[plane + pixel]) = (value, 1);
                }
            }
        }
        Ok(Block::new(kind, (window.rows, window.cols), Samples::F32(samples), valid))
    }

    fn finished(&mut self, _: plan::NodeId, _: &Block) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Values of a block; `None` where invalid.
pub fn values(block: &Block) -> Vec<Option<f32>> {
    let value = |at: usize| match block.samples() {
        Samples::F32(values) => values[at],
        Samples::Bool(values) => f32::from(values[at]),
    };
    (0..block.valid().len()).map(|at| (block.valid()[at] == 1).then(|| value(at))).collect()
}

/// A graft over the bands `a` and `b` as the mosaics `a` and `b`, each with a padding.
pub fn graft(pads: (u32, u32), definitions: &[(&str, Value)]) -> Value {
    let mut graft = json!({
        "p": "p", "name a": "a", "name b": "b", "pad a": pads.0, "pad b": pads.1, "size": 3,
        "a": ["mosaic", "p", "name a", { "pad": "pad a" }],
        "b": ["mosaic", "p", "name b", { "pad": "pad b" }],
        "0": 0, "1": 1, "2": 2, "returns": "result",
    });
    for (name, value) in definitions {
        graft[*name] = value.clone();
    }
    graft
}

/// A window by its first row and column, rows and columns.
pub fn window(row: i64, col: i64, rows: u32, cols: u32) -> Window {
    Window { row, col, rows, cols }
}
