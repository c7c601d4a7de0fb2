//! The made-up world of `golden/arrays`: a catalog and pixels without files, evaluated in process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use graticule_common::aoi::Outline;
use graticule_common::block::{Block, Samples};
use graticule_common::error::Classify;
use graticule_common::eval::{EvalError, Surroundings, eval};
use graticule_common::expr::Expr;
use graticule_common::graft::{self, Parameters};
use graticule_common::grid::{Crs, Grid, Window};
use graticule_common::limits::Limits;
use graticule_common::ops::{Answer, BindCx, Facts};
use graticule_common::plan::stage::{self, RoundEnd};
use graticule_common::plan::{self, NodeId, Options, Outcome, Plan, Read};
use graticule_common::scene::{
    Affine, Asset, AssetGrid, BandSource, Product, Properties, Scene, SceneQuery, SourceRef, Timestamp,
};
use graticule_common::transform::Proj;
use ndarray::Array3;
use ndarray_npy::NpzReader;
use serde_json::Value;

/// Products, scenes and pixels held in memory.
pub struct World {
    /// The grid that all scenes lie on.
    pub grid: Grid,
    /// Products by id.
    pub products: BTreeMap<String, (Product, Vec<Scene>)>,
    /// Pixels by name of the synthetic source: values, masks (true = invalid), and where they lie.
    pixels: BTreeMap<String, (Array3<f32>, Array3<bool>, Window)>,
}

/// A folder of this crate.
pub fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A committed JSON file of this crate.
pub fn json(name: &str) -> Value {
    let text = std::fs::read(folder(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A committed array file of this crate.
pub fn npz(name: &str) -> NpzReader<std::fs::File> {
    let file = std::fs::File::open(folder(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    NpzReader::new(file).unwrap_or_else(|error| panic!("{name}: {error}"))
}

impl World {
    /// The world in `golden/arrays/world.{json,npz}`.
    pub fn load() -> World {
        let document = json("golden/arrays/world.json");
        let mut arrays = npz("golden/arrays/world.npz");
        World::build(&document, |name, _| {
            let data: Array3<f32> = arrays.by_name(&format!("{name}_data")).expect("data");
            let mask: Array3<bool> = arrays.by_name(&format!("{name}_mask")).expect("mask");
            (data, mask)
        })
    }

    /// The world that a document describes: its grid, and for each product its scenes, a window of the
    /// grid each. `pixels` gives values and masks (true = invalid) of a scene by its position and id, as
    /// in `0_s1`, and its entry in the document.
    pub fn build(
        document: &Value,
        mut pixels: impl FnMut(&str, &Value) -> (Array3<f32>, Array3<bool>),
    ) -> World {
        let number = |value: &Value, key: &str| value[key].as_f64().expect("a number");
        let text = |value: &Value, key: &str| value[key].as_str().expect("a string").to_owned();
        let names =
            |value: &Value| -> Vec<String> { serde_json::from_value(value["bands"].clone()).expect("names") };
        let place = &document["grid"];
        let (x, y) =
            (place["upper_left"][0].as_f64().expect("x"), place["upper_left"][1].as_f64().expect("y"));
        // One number, or one for columns and one for rows.
        let side = |at: usize| place["resolution"].as_f64().or(place["resolution"][at].as_f64());
        let (res_x, res_y) = (side(0).expect("a resolution"), side(1).expect("a resolution"));
        let size = (number(place, "rows") as u64, number(place, "cols") as u64);
        let crs = Crs::from_canonical(format!("EPSG:{}", place["epsg"]));
        let grid =
            Grid::try_new(crs.clone(), (x, y), (res_x, res_y), size, &Limits::default()).expect("a grid");
        let mut world = World { grid, products: BTreeMap::new(), pixels: BTreeMap::new() };
        for (index, entry) in document["products"].as_array().expect("products").iter().enumerate() {
            let product = text(entry, "id");
            let mut scenes = Vec::new();
            for scene in entry["scenes"].as_array().expect("scenes") {
                let id = text(scene, "id");
                let name = format!("{index}_{id}");
                let (data, mask) = pixels(&name, scene);
                let (row, col) = (number(scene, "row"), number(scene, "col"));
                let (rows, cols) = (data.dim().1 as u32, data.dim().2 as u32);
                let raster = AssetGrid {
                    crs: crs.clone(),
                    affine: Affine::upright((x + col * res_x, y - row * res_y), res_x, -res_y),
                    rows,
                    cols,
                };
                // On the grid's own lattice, beyond its edges too: reads may be padded.
                let origin = world.grid.window();
                let window =
                    Window { row: origin.row + row as i64, col: origin.col + col as i64, rows, cols };
                let source = SourceRef::Synthetic(name.clone());
                let asset = Arc::new(Asset { raster: Some(raster), ..Asset::new("data", source, "1") });
                world.pixels.insert(name, (data, mask, window));
                let mut properties: Properties =
                    serde_json::from_value(scene["properties"].clone()).expect("properties");
                let acquired = text(scene, "acquired");
                properties.insert("id".into(), id.as_str().into());
                properties.insert("acquired".into(), acquired.as_str().into());
                let bands = names(scene).into_iter().zip(1..).map(|(band, at)| {
                    (band, BandSource { sample_bytes: Some(4), ..BandSource::new(asset.clone(), at) })
                });
                scenes.push(Scene {
                    id,
                    product: product.clone(),
                    acquired: Timestamp::parse(&acquired).expect("an instant"),
                    properties: Arc::new(properties),
                    bands: bands.collect(),
                });
            }
            scenes.sort_by(|a, b| (a.acquired, &a.id).cmp(&(b.acquired, &b.id)));
            let known =
                Product { scenes: scenes.len() as u64, ..Product::new(product.clone(), names(entry)) };
            world.products.insert(product, (known, scenes));
        }
        world
    }

    /// Answers to an expression's queries, as a catalog would give them; the error is an unknown product.
    pub fn answers(&self, expr: &Expr) -> Result<BTreeMap<SceneQuery, Answer>, Failure> {
        let queries = expr.scene_queries().map_err(|(error, at)| Failure {
            class: error.class().name(),
            message: format!("{at}: {error}"),
        })?;
        let mut answers = BTreeMap::new();
        for (query, at) in queries {
            let Some((product, scenes)) = self.products.get(&query.product) else {
                let message = format!("{at}: there is no product `{}`", query.product);
                return Err(Failure { class: "not_found", message });
            };
            let in_range = |scene: &&Scene| {
                query.start.is_none_or(|start| start <= scene.acquired)
                    && query.end.is_none_or(|end| scene.acquired < end)
                    && query.predicate.as_ref().is_none_or(|predicate| predicate.holds(&scene.properties))
            };
            let scenes = scenes.iter().filter(in_range).cloned().collect();
            answers.insert(query, Answer { product: product.clone(), scenes });
        }
        Ok(answers)
    }

    /// Plans a graft on the world's grid.
    pub fn plan(
        &self,
        graft: &[u8],
        outline: Option<Outline>,
        options: &Options,
    ) -> Result<Outcome, Failure> {
        self.plan_on(graft, &self.grid, outline, options)
    }

    /// Plans a graft on another grid.
    pub fn plan_on(
        &self,
        graft: &[u8],
        grid: &Grid,
        outline: Option<Outline>,
        options: &Options,
    ) -> Result<Outcome, Failure> {
        self.plan_with(graft, &Parameters::default(), grid, outline, options)
    }

    /// Plans a graft on a grid, with values for its parameters.
    pub fn plan_with(
        &self,
        graft: &[u8],
        parameters: &Parameters,
        grid: &Grid,
        outline: Option<Outline>,
        options: &Options,
    ) -> Result<Outcome, Failure> {
        let limits = Limits::default();
        let expr = graft::resolve_with(graft, parameters, &limits).map_err(Failure::of)?;
        self.plan_expr(&expr, grid, outline, options)
    }

    /// Plans a resolved graft.
    pub fn plan_expr(
        &self,
        expr: &Expr,
        grid: &Grid,
        outline: Option<Outline>,
        options: &Options,
    ) -> Result<Outcome, Failure> {
        let answers = self.answers(expr)?;
        let images = self.images(expr)?;
        let cx = BindCx { grid, transform: &Proj::new(), answers: &answers, images: &images };
        plan::build(expr, &cx, outline, &Limits::default(), options).map_err(Failure::of)
    }

    /// An outcome after its stages: values that depend on all pixels are known.
    pub fn settle(&self, mut outcome: Outcome) -> Outcome {
        while let Outcome::Staged(staged) = outcome {
            let mut rounds = staged.rounds();
            let values = loop {
                let plan = rounds.plan().clone();
                for tile in plan.tiles() {
                    let tile = plan.tile(tile).expect("a tile of the plan");
                    let blocks = match eval(&tile, Vec::new(), &mut Pixels(self)) {
                        Ok(blocks) => blocks,
                        Err(EvalError::Cancelled) => panic!("nobody cancels"),
                        Err(EvalError::Read(never)) => match never {},
                    };
                    let partials = stage::collect(&plan, &blocks).expect("a stage");
                    rounds.merge(&partials).expect("partials of this round");
                }
                match rounds.end().expect("a round that ends") {
                    RoundEnd::Again(next) => rounds = next,
                    RoundEnd::Done(values) => break values,
                }
            };
            outcome = staged.resume(values).expect("what was planned");
        }
        outcome
    }

    /// Computes a plan tile by tile and puts the tiles together.
    pub fn evaluate(&self, plan: &Plan) -> Block {
        let tiles: Vec<(Window, Block)> = plan
            .tiles()
            .into_iter()
            .map(|tile| {
                let tile = plan.tile(tile).expect("a tile of the plan");
                match eval(&tile, Vec::new(), &mut Pixels(self)) {
                    Ok(mut blocks) => (tile.window(), blocks.swap_remove(0)),
                    Err(EvalError::Cancelled) => panic!("nobody cancels"),
                    Err(EvalError::Read(never)) => match never {},
                }
            })
            .collect();
        assemble(plan, tiles)
    }

    /// The images that an expression names.
    fn images(&self, expr: &Expr) -> Result<BTreeMap<String, Scene>, Failure> {
        let ids = expr.image_ids().map_err(|(error, at)| Failure {
            class: error.class().name(),
            message: format!("{at}: {error}"),
        })?;
        let scenes = || self.products.values().flat_map(|(_, scenes)| scenes);
        ids.into_iter()
            .map(|(id, at)| match scenes().find(|scene| scene.id == id) {
                Some(scene) => Ok((id, scene.clone())),
                None => {
                    Err(Failure { class: "not_found", message: format!("{at}: there is no image `{id}`") })
                }
            })
            .collect()
    }

    fn read(&self, read: &Read, image: Option<u32>, window: &Window) -> Block {
        let (scenes, kind) = read.images(image);
        let len = kind.planes() * window.pixels();
        // What stands under an invalid pixel must not matter: it is never a plausible value here.
        let (mut samples, mut valid) = (vec![-12345.0f32; len], vec![0u8; len]);
        let sources = scenes.iter().flat_map(|scene| &scene.bands);
        // In a mosaic every scene meets the planes of the one before it.
        for (at, source) in sources.enumerate() {
            let plane = (at % kind.planes()) * window.pixels();
            let plane = plane..plane + window.pixels();
            let (samples, valid) = (&mut samples[plane.clone()], &mut valid[plane]);
            let SourceRef::Synthetic(name) = &source.asset.source else {
                panic!("a file in a made-up world")
            };
            let (data, mask, place) = &self.pixels[name];
            let Some(common) = place.intersect(window) else { continue };
            for row in common.row..common.row_end() {
                for col in common.col..common.col_end() {
                    let at =
                        [source.band as usize - 1, (row - place.row) as usize, (col - place.col) as usize];
                    let to = (row - window.row) as usize * window.cols as usize + (col - window.col) as usize;
                    if !mask[at] {
                        (samples[to], valid[to]) = (data[at], 1);
                    }
                }
            }
        }
        Block::new(kind, (window.rows, window.cols), Samples::F32(samples), valid)
    }
}

struct Pixels<'a>(&'a World);

impl Surroundings for Pixels<'_> {
    type Error = std::convert::Infallible;

    fn read(&mut self, read: &Read, image: Option<u32>, window: &Window) -> Result<Block, Self::Error> {
        Ok(self.0.read(read, image, window))
    }

    fn spared(&mut self, _: &Read, _: Option<u32>, _: &Window) {}

    fn finished(&mut self, _: NodeId, _: &Block) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}

/// A refusal, as tests compare it.
#[derive(Debug, PartialEq)]
pub struct Failure {
    /// Name of its class.
    pub class: &'static str,
    /// Its message.
    pub message: String,
}

impl Failure {
    /// Of any stage.
    pub fn of(error: impl Classify) -> Self {
        Failure { class: error.class().name(), message: error.to_string() }
    }
}

/// The whole grid from a plan's tiles; where there is no tile, nothing is valid.
pub fn assemble(plan: &Plan, tiles: impl IntoIterator<Item = (Window, Block)>) -> Block {
    assemble_on(plan.grid().window(), plan.root_node().facts, tiles)
}

/// A grid from its tiles; where there is no tile, nothing is valid.
pub fn assemble_on(grid: Window, facts: Facts, tiles: impl IntoIterator<Item = (Window, Block)>) -> Block {
    let (mut samples, mut valid) =
        Block::invalid(facts.kind, facts.dtype, (grid.rows, grid.cols)).into_parts();
    for (window, block) in tiles {
        assert_eq!((block.kind(), block.samples().dtype()), (facts.kind, facts.dtype));
        for plane in 0..facts.kind.planes() {
            for row in 0..window.rows as usize {
                let from = plane * window.pixels() + row * window.cols as usize;
                let to = plane * grid.pixels()
                    + ((window.row - grid.row) as usize + row) * grid.cols as usize
                    + (window.col - grid.col) as usize;
                let (from, to) = (from..from + window.cols as usize, to..to + window.cols as usize);
                valid[to.clone()].copy_from_slice(&block.valid()[from.clone()]);
                match (&mut samples, block.samples()) {
                    (Samples::F32(out), Samples::F32(values)) => out[to].copy_from_slice(&values[from]),
                    (Samples::Bool(out), Samples::Bool(values)) => out[to].copy_from_slice(&values[from]),
                    _ => unreachable!("types were compared"),
                }
            }
        }
    }
    Block::new(facts.kind, (grid.rows, grid.cols), samples, valid)
}
