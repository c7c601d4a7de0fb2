//! A world of five scenes whose pixels tell where they come from.

use std::collections::BTreeMap;
use std::sync::Arc;

use graticule_common::block::{Block, Samples};
use graticule_common::error::Classify;
use graticule_common::eval::{EvalError, Surroundings, eval};
use graticule_common::graft::resolve;
use graticule_common::grid::{Crs, Grid, Lattice, TileSize, Window};
use graticule_common::limits::Limits;
use graticule_common::literal::Literal;
use graticule_common::ops::{Answer, BindCx, Props};
use graticule_common::plan::{self, NodeId, Options, Outcome, Plan, Read};
use graticule_common::scene::{Asset, BandSource, Product, Scene, SceneQuery, SourceRef, Timestamp};
use graticule_common::transform::ByText;
use serde_json::{Value, json};

/// Id, acquisition, cloud fraction, tags.
const SCENES: [(&str, &str, Option<f64>, &[&str]); 5] = [
    ("LE7_a", "2024-01-05T10:00:00Z", Some(0.5), &["x", "y"]),
    ("LE7_b", "2024-02-10T23:59:59.25Z", Some(0.25), &[]),
    ("LC8_c", "2024-02-11T00:00:00Z", None, &["x"]),
    ("LC8_d", "2024-03-31T12:00:00Z", Some(0.0), &[]),
    ("LC8_e", "2025-01-01T00:00:00Z", Some(1.0), &["y"]),
];

fn scene(at: usize) -> Scene {
    let (id, acquired, cloud, tags) = SCENES[at];
    let source = SourceRef::Synthetic(at.to_string());
    let asset = Arc::new(Asset::new("data", source, "1"));
    let properties =
        json!({"id": id, "acquired": acquired, "cloud_fraction": cloud, "tags": tags, "row": at});
    Scene {
        id: id.into(),
        product: "p".into(),
        acquired: Timestamp::parse(acquired).expect("of this world"),
        properties: Arc::new(properties.as_object().expect("of this world").clone().into_iter().collect()),
        bands: [("a", 1), ("b", 2)]
            .map(|(name, band)| (name.to_owned(), BandSource::new(asset.clone(), band)))
            .into(),
    }
}

/// A graft whose key `s` is the stack of all scenes and whose key `m` is a mosaic.
pub fn graft(more: Value) -> Value {
    let mut graft = json!({
        "p": "p", "ab": "a b", "scenes": ["select_scenes", "p", "ab"], "s": ["stack_scenes", "scenes", "ab"],
        "m": ["mosaic", "p", "ab"], "two": 2, "one": 1, "zero": 0, "images": "images", "bands": "bands",
        "never": "2030-01-01", "none": ["select_scenes", "p", "ab", {"start_datetime": "never"}],
        "empty": ["stack_scenes", "none", "ab"], "returns": "result",
    });
    graft.as_object_mut().expect("of this world").extend(more.as_object().expect("of this world").clone());
    graft
}

pub fn build(more: Value, options: &Options) -> Result<Outcome, Box<(String, String)>> {
    let said =
        |class: graticule_common::error::ErrorClass, text: String| Box::new((class.name().into(), text));
    let graft = graft(more);
    let expr = resolve(graft.to_string().as_bytes(), &Limits::default())
        .map_err(|error| said(error.class(), error.to_string()))?;
    let product = Product::new("p", vec!["a".into(), "b".into()]);
    let answer = |query: SceneQuery| {
        let scenes =
            (0..5).map(scene).filter(|scene| query.start.is_none_or(|start| start <= scene.acquired));
        let answer = Answer { product: product.clone(), scenes: scenes.collect() };
        (query, answer)
    };
    let answers =
        expr.scene_queries().expect("of this world").into_iter().map(|(query, _)| answer(query)).collect();
    let lattice =
        Lattice::try_new(Crs::from_canonical("EPSG:32633"), (10.0, 10.0), (0.0, 0.0)).expect("of this world");
    let grid = Grid::from_window(lattice, Window { row: 0, col: 0, rows: 3, cols: 4 });
    let cx = BindCx { grid: &grid, transform: &ByText, answers: &answers, images: &BTreeMap::new() };
    plan::build(&expr, &cx, None, &Limits::default(), options)
        .map_err(|error| said(error.class(), error.to_string()))
}

#[track_caller]
pub fn planned(more: Value, passes_off: &[&str]) -> (Plan, Props) {
    let passes_off = passes_off.iter().map(|name| (*name).to_owned()).collect();
    let options = Options { tile_size: TileSize::new(2), passes_off, ..Options::default() };
    match build(more, &options) {
        Ok(Outcome::Raster { plan, props }) => (plan, props),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub fn refused(more: Value) -> String {
    build(more, &Options::default()).expect_err("a fault").1
}

#[track_caller]
pub fn literal(more: Value) -> Literal {
    match build(more, &Options::default()) {
        Ok(Outcome::Value { literal, .. }) => literal,
        other => panic!("{other:?}"),
    }
}

/// Pixels that tell where they come from; what was read is noted as scene and band.
#[derive(Default)]
pub struct Around(Vec<(String, u32)>);

impl Surroundings for Around {
    type Error = std::convert::Infallible;

    fn read(&mut self, read: &Read, image: Option<u32>, window: &Window) -> Result<Block, Self::Error> {
        let ((scenes, kind), pixels) = (read.images(image), window.pixels());
        let mut samples = vec![0.0; kind.planes() * pixels];
        let mut valid = vec![0; samples.len()];
        for (at, band) in scenes.iter().flat_map(|scene| &scene.bands).enumerate() {
            let SourceRef::Synthetic(scene) = &band.asset.source else { unreachable!() };
            self.0.push((SCENES[scene.parse::<usize>().expect("of this world")].0.into(), band.band));
            let plane = at % kind.planes();
            for (pixel, (row, col)) in (window.row..window.row_end())
                .flat_map(|row| (window.col..window.col_end()).map(move |col| (row, col)))
                .enumerate()
            {
                let number = scene.parse::<f32>().expect("of this world");
                samples[plane * pixels + pixel] =
                    100.0 * number + (10 * row + col) as f32 + band.band as f32 / 4.0;
                valid[plane * pixels + pixel] = u8::from((number as i64 + row + col) % 3 != 0);
            }
        }
        Ok(Block::new(kind, (window.rows, window.cols), Samples::F32(samples), valid))
    }

    fn finished(&mut self, _: NodeId, _: &Block) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Every tile's bytes, and what was read for all of them: each scene and band once.
pub fn evaluate(plan: &Plan) -> (Vec<bytes::Bytes>, Vec<(String, u32)>) {
    let mut around = Around::default();
    let mut tiles = Vec::new();
    for id in plan.tiles() {
        let tile = plan.tile(id).expect("of this world");
        match eval(&tile, Vec::new(), &mut around) {
            Ok(blocks) => tiles.extend(blocks.iter().map(Block::encode)),
            Err(EvalError::Cancelled | EvalError::Read(_)) => unreachable!(),
        }
    }
    around.0.sort();
    around.0.dedup();
    (tiles, around.0)
}

pub fn ids(props: &Props) -> Vec<String> {
    props.dicts().map(|dict| dict["id"].as_str().expect("of this world").to_owned()).collect()
}

/// Checks that with and without every pass the pixels are the same, and gives what was read with them all.
#[track_caller]
pub fn reads(more: Value) -> Vec<(String, u32)> {
    let all = evaluate(&planned(more.clone(), &[]).0);
    for off in [&["pushdown"][..], &["fuse"], &["pushdown", "fuse", "fold"]] {
        assert_eq!(evaluate(&planned(more.clone(), off).0).0, all.0, "without {off:?}");
    }
    all.1
}

pub fn scenes_of(reads: &[(String, u32)]) -> Vec<&str> {
    let mut scenes: Vec<&str> = reads.iter().map(|(scene, _)| scene.as_str()).collect();
    scenes.dedup();
    scenes
}
