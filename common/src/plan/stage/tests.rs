//! Stages on reductions of their own, so that what is tested here is the cutting, not an op.

use std::collections::HashSet;
use std::convert::Infallible;

use super::*;
use crate::aoi::Outline;
use crate::block::{ArrayShape, DType, Kind, Samples};
use crate::eval::{EvalError, Surroundings, eval};
use crate::grid::{Crs, Grid, Lattice, TileSize, Window};
use crate::ops::mask::Mask;
use crate::ops::{Arg, BindCx, Bound, OpDoc, Spread, TypeError};
use crate::plan::{Input, Read, explain};

/// The greatest valid pixel (`times` = 0), or how many pixels are as great, which takes a second round.
#[derive(Debug)]
struct Greatest {
    counts: bool,
}

static GREATEST: Greatest = Greatest { counts: false };
static COUNT: Greatest = Greatest { counts: true };

impl Op for Greatest {
    fn name(&self) -> &'static str {
        if self.counts { "test_count" } else { "test_greatest" }
    }

    fn doc(&self) -> OpDoc {
        OpDoc { summary: "", params: &[], shapes: "", units: "", validity: "", accuracy: "", source: "" }
    }

    fn bind(&self, _: &BindCx<'_>, _: &[Arg<'_>]) -> Result<Bound, TypeError> {
        unreachable!("the plan is made by hand")
    }

    fn infer(&self, _: &[Literal], inputs: &[Facts]) -> Result<Facts, TypeError> {
        let axes: Vec<u32> = inputs[0].kind.images().into_iter().chain(inputs[0].kind.bands()).collect();
        let shape = ArrayShape::new(&axes, true).expect("a small array");
        Ok(Facts { kind: Kind::Array(shape), dtype: DType::F32 })
    }

    fn kernel(&self, params: &[Literal], _: &[Facts]) -> Kernel {
        let start: fn(&[Literal], Facts) -> Box<dyn OverPixels> = if self.counts {
            |_, input| Box::new(Merged { planes: vec![Vec::new(); input.kind.planes()], found: None, input })
        } else {
            |_, input| {
                let planes = vec![Vec::new(); input.kind.planes()];
                Box::new(Merged { planes, found: Some(Vec::new()), input })
            }
        };
        assert!(params.is_empty());
        Kernel::Pixels(PixelsKernel {
            start,
            collect: |_, round, block| {
                let Samples::F32(values) = block.samples() else { panic!("numbers") };
                let pixels = block.pixels();
                let mut bytes = Vec::new();
                for plane in 0..block.kind().planes() {
                    let range = plane * pixels..(plane + 1) * pixels;
                    let valid = values[range.clone()].iter().zip(&block.valid()[range]);
                    let valid = valid.filter(|(_, ok)| **ok == 1).map(|(value, _)| *value);
                    let of_plane = match round {
                        Literal::List(found) => {
                            let found = found[plane].as_f64().expect("a number") as f32;
                            valid.filter(|value| *value == found).count() as f32
                        }
                        _ => valid.fold(f32::NEG_INFINITY, f32::max),
                    };
                    bytes.extend_from_slice(&of_plane.to_le_bytes());
                }
                bytes
            },
            rounds: if self.counts { 2 } else { 1 },
            plane_bytes: 4,
        })
    }
}

struct Merged {
    planes: Vec<Vec<f32>>,
    /// What the first round found; empty where there is no second one.
    found: Option<Vec<f32>>,
    input: Facts,
}

impl OverPixels for Merged {
    fn round(&self) -> Literal {
        match &self.found {
            Some(found) if !found.is_empty() => {
                Literal::List(found.iter().map(|value| Literal::Float(f64::from(*value))).collect())
            }
            _ => Literal::Null,
        }
    }

    fn merge(&mut self, partial: &[u8]) -> Result<(), String> {
        if partial.len() != 4 * self.planes.len() {
            return Err(format!("{} bytes", partial.len()));
        }
        for (plane, bytes) in self.planes.iter_mut().zip(partial.chunks_exact(4)) {
            plane.push(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        }
        Ok(())
    }

    fn end_round(&mut self) -> Result<Option<Block>, String> {
        let greatest = |plane: &Vec<f32>| plane.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let values: Vec<f32> = match &self.found {
            None => {
                self.found = Some(self.planes.iter().map(greatest).collect());
                self.planes.iter_mut().for_each(Vec::clear);
                return Ok(None);
            }
            Some(found) if found.is_empty() => self.planes.iter().map(greatest).collect(),
            Some(_) => self.planes.iter().map(|plane| plane.iter().sum()).collect(),
        };
        let valid = values.iter().map(|value| u8::from(value.is_finite())).collect();
        let op: &dyn Op = &GREATEST;
        let kind = op.infer(&[], &[self.input]).expect("a raster").kind;
        Ok(Some(Block::new(kind, (1, 1), Samples::F32(values), valid)))
    }
}

const ROWS: u32 = 9;
const COLS: u32 = 7;

fn grid() -> Grid {
    let lattice = Lattice::try_new(Crs::from_canonical("EPSG:32613"), (1.0, 1.0), (0.0, 0.0)).unwrap();
    Grid::from_window(lattice, Window { row: -3, col: 5, rows: ROWS, cols: COLS })
}

/// Pixel values that are no arithmetic series; the greatest stands three times.
fn value(at: u32) -> f32 {
    if at % 20 == 7 { 97.0 } else { ((at * 37) % 89) as f32 - 31.0 }
}

/// A plan under construction whose pixels come from a constant.
struct Making(Builder);

impl Making {
    fn new() -> (Making, NodeId) {
        let mut making = Making(Builder::default());
        let shape = ArrayShape::new(&[ROWS, COLS], false).unwrap();
        let values = (0..ROWS * COLS).map(value).collect();
        let valid = (0..ROWS * COLS).map(|at| u8::from(at % 5 != 1)).collect();
        let array = Block::new(Kind::Array(shape), (1, 1), Samples::F32(values), valid);
        let array = making.add(NodeKind::Constant(Arc::new(array)));
        let spread = Spread { dims: [1, 1, ROWS, COLS], kind: Kind::Mosaic { bands: 1 } };
        let place = Some(grid().window());
        let pixels = making.add(NodeKind::Spread { input: array, spread, place });
        (making, pixels)
    }

    fn add(&mut self, kind: NodeKind) -> NodeId {
        self.0.add(kind, None).unwrap()
    }

    fn call(&mut self, op: &'static dyn Op, inputs: &[NodeId]) -> NodeId {
        let inputs = inputs.iter().map(|id| Input::Node(*id)).collect();
        self.add(NodeKind::Call { op, params: vec![], inputs })
    }

    /// `pixels - reduced`, pixel by pixel.
    fn minus(&mut self, pixels: NodeId, reduced: NodeId) -> NodeId {
        let spread = Spread { dims: [1, 1, 1, 1], kind: Kind::Mosaic { bands: 1 } };
        let along = self.add(NodeKind::Spread { input: reduced, spread, place: None });
        self.call(crate::ops::find("sub").unwrap(), &[pixels, along])
    }

    fn outcome(self, root: NodeId, limits: &Limits, options: &Options) -> Result<Outcome, BindError> {
        plan(self.0.finish(grid(), vec![Root::new("", root)]), Form::One(Props::none()), limits, options)
    }
}

struct NoReads;

impl Surroundings for NoReads {
    type Error = Infallible;

    fn read(&mut self, _: &Read, _: Option<u32>, _: &Window) -> Result<Block, Infallible> {
        unreachable!("pixels come from a constant")
    }

    fn finished(&mut self, _: NodeId, _: &Block) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}

fn tiles(plan: &Plan) -> Vec<(Window, Vec<Block>)> {
    let tile = |id| {
        let tile = plan.tile(id).unwrap();
        match eval(&tile, Vec::new(), &mut NoReads) {
            Ok(blocks) => (tile.window(), blocks),
            Err(EvalError::Cancelled) => panic!("nobody cancels"),
            Err(EvalError::Read(never)) => match never {},
        }
    };
    plan.tiles().into_iter().map(tile).collect()
}

/// The value after all stages, and the number of rounds that they took.
fn settled(mut outcome: Outcome) -> (Outcome, usize) {
    let mut count = 0;
    while let Outcome::Staged(staged) = outcome {
        let mut rounds = staged.rounds();
        let values = loop {
            count += 1;
            for (_, blocks) in tiles(rounds.plan()) {
                rounds.merge(&collect(rounds.plan(), &blocks).unwrap()).unwrap();
            }
            match rounds.end().unwrap() {
                RoundEnd::Again(next) => rounds = next,
                RoundEnd::Done(values) => break values,
            }
        };
        outcome = staged.resume(values).unwrap();
    }
    (outcome, count)
}

/// The value of a mosaic at each pixel of the grid, `None` where it is invalid.
fn pixels(plan: &Plan) -> Vec<Option<f32>> {
    let mut out = vec![None; (ROWS * COLS) as usize];
    let whole = grid().window();
    for (window, blocks) in tiles(plan) {
        let Samples::F32(values) = blocks[0].samples() else { panic!("numbers") };
        for (at, value) in values.iter().enumerate().filter(|(at, _)| blocks[0].valid()[*at] == 1) {
            let (row, col) = (at / window.cols as usize, at % window.cols as usize);
            let row = (window.row - whole.row) as usize + row;
            out[row * COLS as usize + (window.col - whole.col) as usize + col] = Some(*value);
        }
    }
    out
}

fn options(size: u32) -> Options {
    Options { tile_size: TileSize::new(size), ..Options::default() }
}

fn number(outcome: &Outcome) -> f32 {
    let Outcome::Array { array, .. } = outcome else { panic!("an array, not {outcome:?}") };
    let Samples::F32(values) = array.samples() else { panic!("numbers") };
    assert_eq!(array.valid(), [1]);
    values[0]
}

#[test]
fn values_go_back_into_pixels_whatever_the_tiles_are() {
    let expected: Vec<Option<f32>> =
        (0..ROWS * COLS).map(|at| (at % 5 != 1).then(|| value(at) - 97.0)).collect();
    for size in [1, 2, 3, 5, 64] {
        for off in [vec![], vec!["fold", "fuse"], vec!["fold", "pushdown", "fuse", "cache"]] {
            let (mut making, m) = Making::new();
            let greatest = making.call(&GREATEST, &[m]);
            let root = making.minus(m, greatest);
            let passes_off = off.iter().map(|name| (*name).to_owned()).collect();
            let options = Options { passes_off, ..options(size) };
            let outcome = making.outcome(root, &Limits::default(), &options).unwrap();
            let Outcome::Staged(staged) = &outcome else { panic!("stages") };
            assert_eq!((staged.stage(), staged.stages()), (1, 2));
            let (Outcome::Raster { plan, .. }, 1) = settled(outcome) else { panic!("pixels") };
            assert_eq!(pixels(&plan), expected, "tiles of {size} without {off:?}");
        }
    }
}

/// Tiles that the first stage remembers are found in the second: the same node, on the same windows.
#[test]
fn stages_share_what_they_remember() {
    let (mut making, m) = Making::new();
    // Dear enough to be remembered.
    let op = crate::ops::find("focal_median").unwrap();
    let sides = vec![Literal::Int(31), Literal::Int(31)];
    let calm = making.add(NodeKind::Call { op, params: sides, inputs: vec![Input::Node(m)] });
    let greatest = making.call(&GREATEST, &[calm]);
    let root = making.minus(calm, greatest);
    let outcome = making.outcome(root, &Limits::default(), &options(4)).unwrap();
    let keys = |plan: &Plan| -> HashSet<ContentHash> {
        let tiles = plan.tiles().into_iter().map(|id| plan.tile(id).unwrap());
        tiles.flat_map(|tile| tile.keys("salt")).map(|(_, key)| key).collect()
    };
    let Outcome::Staged(staged) = &outcome else { panic!("stages") };
    let first = keys(&staged.plans()[0]);
    assert_eq!(first.len(), staged.plans()[0].tiles().len());
    let planned = keys(staged.last().plan().unwrap());
    let (Outcome::Raster { plan, .. }, _) = settled(outcome) else { panic!("pixels") };
    assert!(first.is_subset(&keys(&plan)), "they are looked for");
    assert!(first.is_subset(&planned), "which was known before");
}

#[test]
fn another_value_is_another_computation() {
    let root_hash = |shift: f64| {
        let (mut making, m) = Making::new();
        let add = crate::ops::find("add").unwrap();
        let inputs = vec![Input::Node(m), Input::Number(Literal::Float(shift))];
        let shifted = making.add(NodeKind::Call { op: add, params: vec![], inputs });
        let greatest = making.call(&GREATEST, &[shifted]);
        let root = making.minus(m, greatest);
        let (outcome, _) = settled(making.outcome(root, &Limits::default(), &options(8)).unwrap());
        outcome.plan().unwrap().root_node().hash
    };
    assert_ne!(root_hash(1.0), root_hash(2.0));
    // Adding what single precision does not see gives the same value, and the same computation.
    assert_eq!(root_hash(1.0), root_hash(1.0 + 1e-12));
}

#[test]
fn stages_that_need_one_another() {
    for size in [2, 64] {
        let (mut making, m) = Making::new();
        let greatest = making.call(&GREATEST, &[m]);
        let below = making.minus(m, greatest);
        // All pixels lie at most at 0 then, three times exactly.
        let count = making.call(&COUNT, &[below]);
        let outcome = making.outcome(count, &Limits::default(), &options(size)).unwrap();
        let Outcome::Staged(staged) = &outcome else { panic!("stages") };
        assert_eq!((staged.stage(), staged.stages(), staged.plans().len()), (1, 2, 2));
        let (text, bill) = explain::outcome(&outcome);
        assert!(text.contains("stage   1 of 2, 1 round\n"), "{text}");
        assert!(text.contains("stage   2 of 2, at most 2 rounds\n"), "{text}");
        assert!(text.ends_with("array[1]\n"), "{text}");
        let one = staged.plans()[0].tiles().len() as u64;
        assert_eq!(bill.tiles, 3 * one);
        let (outcome, rounds) = settled(outcome);
        // Values 7, 27 and 47 of the series are 97, and valid; of 7 + 20k only these have no rest of 1.
        let equal = (0..ROWS * COLS).filter(|at| at % 5 != 1 && value(*at) == 97.0).count();
        assert_eq!((number(&outcome), rounds, equal), (equal as f32, 3, 3));
    }
}

/// Reductions of one stage are computed together; those that are done are not asked for again.
#[test]
fn rounds_ask_for_what_is_open() {
    let (mut making, m) = Making::new();
    let (greatest, count) = (making.call(&GREATEST, &[m]), making.call(&COUNT, &[m]));
    let root = making.call(crate::ops::find("add").unwrap(), &[greatest, count]);
    let outcome = making.outcome(root, &Limits::default(), &options(4)).unwrap();
    let Outcome::Staged(staged) = &outcome else { panic!("stages") };
    let mut rounds = staged.rounds();
    let asked = |plan: &Plan| -> Vec<&'static str> {
        plan.roots().iter().flat_map(|root| &root.partials).map(|partial| partial.op.name()).collect()
    };
    assert_eq!(rounds.plan().roots().len(), 1, "one input, read once");
    assert_eq!(asked(rounds.plan()), ["test_greatest", "test_count"]);
    let tiles = tiles(rounds.plan());
    for (_, blocks) in &tiles {
        let bytes = collect(rounds.plan(), blocks).unwrap();
        assert!(bytes.len() as u64 <= partial_bytes(rounds.plan()));
        rounds.merge(&bytes).unwrap();
    }
    let RoundEnd::Again(rounds) = rounds.end().unwrap() else { panic!("one more round") };
    assert_eq!(asked(rounds.plan()), ["test_count"]);
    assert_eq!(rounds.plan().roots()[0].partials[0].round, Literal::List(vec![Literal::Float(97.0)]));
    assert_eq!(rounds.plan().tiles(), staged.plans()[0].tiles());
    let (outcome, rounds) = settled(outcome);
    assert_eq!((number(&outcome), rounds), (97.0 + 3.0, 2));
}

#[test]
fn bytes_that_are_no_partials_are_refused() {
    let (mut making, m) = Making::new();
    let count = making.call(&COUNT, &[m]);
    let outcome = making.outcome(count, &Limits::default(), &options(64)).unwrap();
    let Outcome::Staged(staged) = &outcome else { panic!("stages") };
    let blocks = tiles(&staged.plans()[0]).remove(0).1;
    let good = collect(&staged.plans()[0], &blocks).unwrap();
    let merged = |bytes: &[u8]| staged.rounds().merge(bytes);
    assert_eq!(merged(&good), Ok(()));
    for cut in 0..good.len() {
        assert_eq!(merged(&good[..cut]), Err(StageError::Length), "{cut} bytes");
    }
    assert_eq!(merged(&[&good[..], &[0]].concat()), Err(StageError::Length));
    let short = [&3u32.to_le_bytes()[..], &[0; 3]].concat();
    assert!(matches!(merged(&short), Err(StageError::Partial { .. })));
}

/// What lies outside the AOI, where `bind` hides it, has no part in its numbers, and no tile of its own.
#[test]
fn the_outline_counts_below_a_reduction() {
    let square = vec![vec![vec![(5.0, -3.0), (8.0, -3.0), (8.0, 0.0), (5.0, 0.0), (5.0, -3.0)]]];
    for size in [1, 2, 64] {
        let (mut making, m) = Making::new();
        let outside = making.add(NodeKind::Outline(Arc::new(Outline::from_polygons(square.clone()))));
        let inside = making.call(&Mask, &[m, outside]);
        let greatest = making.call(&GREATEST, &[inside]);
        let outcome = making.outcome(greatest, &Limits::default(), &options(size)).unwrap();
        let Outcome::Staged(staged) = &outcome else { panic!("stages") };
        if size == 1 {
            assert_eq!(staged.plans()[0].tiles().len(), 9);
        }
        // Three rows and three columns at the upper left.
        let inside = (0..3).flat_map(|row| (0..3).map(move |col| row * COLS + col));
        let expected = inside.filter(|at| at % 5 != 1).map(value).fold(f32::NEG_INFINITY, f32::max);
        assert_eq!(number(&settled(outcome).0), expected, "tiles of {size}");
    }
}

#[test]
fn the_work_of_stages_is_bounded_before_a_pixel_is_read() {
    let of = |limits: &Limits, depth: usize, options: &Options| {
        let (mut making, mut m) = Making::new();
        for _ in 0..depth {
            let count = making.call(&COUNT, &[m]);
            m = making.minus(m, count);
        }
        making.outcome(m, limits, options)
    };
    let limits = Limits { stages: 3, ..Limits::default() };
    assert!(matches!(of(&limits, 3, &options(4)), Ok(Outcome::Staged(_))));
    assert_eq!(of(&limits, 4, &options(4)).unwrap_err(), BindError::Stages { limit: 3 });
    // Two rounds over a mosaic of 63 pixels in tiles of one.
    let limits = Limits { stage_planes: 125, ..Limits::default() };
    assert_eq!(of(&limits, 1, &options(1)).unwrap_err(), BindError::Stage { planes: 126, limit: 125 });
    let limits = Limits { partial_bytes: 15, ..Limits::default() };
    assert_eq!(of(&limits, 1, &options(4)).unwrap_err(), BindError::Partials { bytes: 16, limit: 15 });
    // The last stage's output, too.
    let limits = Limits { output_samples: 62, ..Limits::default() };
    assert!(matches!(of(&limits, 1, &options(4)).unwrap_err(), BindError::Output { samples: 63, .. }));
}

/// Without a tile there is nothing to merge, and still a value.
#[test]
fn an_area_without_a_pixel() {
    let elsewhere = vec![vec![vec![(90.0, 0.0), (99.0, 0.0), (99.0, 9.0), (90.0, 0.0)]]];
    let (mut making, m) = Making::new();
    let outside = making.add(NodeKind::Outline(Arc::new(Outline::from_polygons(elsewhere))));
    let inside = making.call(&Mask, &[m, outside]);
    let greatest = making.call(&GREATEST, &[inside]);
    let outcome = making.outcome(greatest, &Limits::default(), &options(4)).unwrap();
    let (Outcome::Array { array, .. }, 1) = settled(outcome) else { panic!("an array") };
    assert_eq!(array.valid(), [0]);
}
