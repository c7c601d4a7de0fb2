//! Loops over images: what they hold, and that they change nothing.

use std::sync::Arc;

use graticule_common::block::{Block, Samples};
use graticule_common::eval::{EvalError, Surroundings, eval};
use graticule_common::grid::{Crs, Grid, Lattice, TileSize, Window};
use graticule_common::hash::{ContentHash, Hasher};
use graticule_common::literal::Literal;
use graticule_common::ops::{self, Op};
use graticule_common::plan::{
    Input, Instr, NodeId, NodeKind, Operand, Plan, Program, Read, ReadScene, Root, Work,
};
use graticule_common::scene::{Asset, BandSource, Layout, Resampler, SourceRef};

fn op(name: &str) -> &'static dyn Op {
    ops::find(name).expect("an op")
}

/// A plan node by node.
#[derive(Default)]
struct Sketch(Vec<(NodeKind, ContentHash, bool)>);

impl Sketch {
    fn add(&mut self, kind: NodeKind) -> NodeId {
        let at = self.0.len() as u32;
        self.0.push((kind, Hasher::new("sketch").int(at.into()).finish(), false));
        NodeId(at)
    }

    /// One band of so many scenes.
    fn read(&mut self, name: &str, scenes: u32, layout: Layout) -> NodeId {
        let scene = |at: u32| {
            let source = SourceRef::Synthetic(format!("{name}{at}"));
            let bands = vec![BandSource::new(Arc::new(Asset::new("data", source, "1")), 1)];
            ReadScene { product: "made:up".into(), id: format!("{name}{at}"), bands, reach: None }
        };
        self.add(NodeKind::Read(Arc::new(Read {
            product: "made:up".into(),
            bands: vec![name.into()],
            resampler: Resampler::Near,
            overviews: false,
            layout,
            pad: 0,
            scenes: (0..scenes).map(scene).collect(),
        })))
    }

    fn call(&mut self, name: &str, inputs: &[NodeId]) -> NodeId {
        let inputs = inputs.iter().map(|id| Input::Node(*id)).collect();
        self.add(NodeKind::Call { op: op(name), params: over_images(name), inputs })
    }

    /// `mask(data, cloud == 1)` as one program.
    fn hidden(&mut self, data: NodeId, cloud: NodeId) -> NodeId {
        let is_cloud = vec![Operand::Input(1), Operand::Number(Literal::Int(1))];
        let instrs = vec![
            Instr { op: op("eq"), params: vec![], operands: is_cloud },
            Instr { op: op("mask"), params: vec![], operands: vec![Operand::Input(0), Operand::Instr(0)] },
        ];
        self.add(NodeKind::Program(Arc::new(Program { inputs: vec![data, cloud], instrs })))
    }

    fn plan(self, roots: &[NodeId], streams: bool) -> Plan {
        let lattice = Lattice::try_new(Crs::from_canonical("EPSG:32633"), (10.0, 10.0), (0.0, 0.0));
        let window = Window { row: 0, col: 0, rows: 8, cols: 9 };
        let grid = Grid::from_window(lattice.expect("a lattice"), window);
        let root =
            |(at, node): (usize, &NodeId)| Root { name: format!("r{at}"), node: *node, partials: vec![] };
        let roots = roots.iter().enumerate().map(root).collect();
        let size = TileSize::new(8).expect("a size");
        Plan::from_parts(grid, self.0, roots, size).expect("a plan").with_streams(streams).with_exits(true)
    }
}

/// Parameters of a plan node that reduces over images.
fn over_images(name: &str) -> Vec<Literal> {
    let is_reduction = ["mean", "max", "median"].contains(&name);
    is_reduction.then(|| Literal::Str("images".into())).into_iter().collect()
}

/// Pixels by a formula, a third of them invalid; counts the reads and the images of the largest.
#[derive(Default)]
struct World {
    reads: Vec<u32>,
    spared: usize,
    cancel_after: Option<usize>,
}

impl Surroundings for World {
    type Error = std::convert::Infallible;

    fn read(&mut self, read: &Read, image: Option<u32>, window: &Window) -> Result<Block, Self::Error> {
        let (scenes, kind) = read.images(image);
        self.reads.push(scenes.len() as u32);
        let (mut samples, mut valid) = (Vec::new(), Vec::new());
        let len = kind.planes() * window.pixels();
        for scene in scenes {
            for at in 0..window.pixels() as i64 {
                let (row, col) = (at / i64::from(window.cols), at % i64::from(window.cols));
                let mut hasher = Hasher::new("pixel");
                hasher.str(&scene.id).int(window.row + row).int(window.col + col);
                let digest = hasher.finish();
                let [first, second, ..] = *digest.as_bytes();
                // Scenes of `q` with an even number are 1 everywhere, the others 0.
                let even = scene.id.trim_start_matches('q').parse::<u32>().map(|number| number % 2 == 0);
                samples.push(even.map_or(f32::from(first) / 7.0, |even| f32::from(u8::from(even))));
                valid.push(u8::from(second % 3 != 0));
            }
        }
        samples.truncate(len);
        valid.truncate(len);
        Ok(Block::new(kind, (window.rows, window.cols), Samples::F32(samples), valid))
    }

    fn spared(&mut self, read: &Read, image: Option<u32>, _: &Window) {
        self.spared += read.images(image).0.len();
    }

    fn finished(&mut self, _: NodeId, _: &Block) {}

    fn is_cancelled(&self) -> bool {
        self.cancel_after.is_some_and(|after| self.reads.len() >= after)
    }
}

fn evaluate(plan: &Plan) -> (Vec<bytes::Bytes>, World) {
    let mut world = World::default();
    let mut results = Vec::new();
    for id in plan.tiles() {
        let tile = plan.tile(id).expect("a tile");
        match eval(&tile, Vec::new(), &mut world) {
            Ok(blocks) => results.extend(blocks.iter().map(Block::encode)),
            Err(EvalError::Cancelled) => panic!("nobody cancels"),
            Err(EvalError::Read(never)) => match never {},
        }
    }
    (results, world)
}

fn loops(plan: &Plan) -> Vec<Vec<NodeId>> {
    let tile = plan.tile(plan.tiles()[0]).expect("a tile");
    let loops = tile.steps().iter().filter(|step| matches!(step.work, Work::Images { .. }));
    loops.map(|step| step.nodes()).collect()
}

/// The mean over images of the difference of two bands: one loop, one image of each band at a time.
fn mean_of_difference(scenes: u32, streams: bool) -> Plan {
    let mut sketch = Sketch::default();
    let (a, b) = (sketch.read("a", scenes, Layout::Stack), sketch.read("b", scenes, Layout::Stack));
    let difference = sketch.call("sub", &[a, b]);
    let mean = sketch.call("mean", &[difference]);
    sketch.plan(&[mean], streams)
}

#[test]
fn memory_does_not_depend_on_the_number_of_scenes() {
    let peak = |scenes, streams| mean_of_difference(scenes, streams).tile_peak_bytes();
    assert_eq!(peak(1000, true), peak(2, true));
    assert!(peak(1000, false) > peak(2, false) + 900 * 3 * 5 * 64);
    let (_, world) = evaluate(&mean_of_difference(50, true));
    assert_eq!(world.reads.iter().max(), Some(&1), "a stack was read as a whole");
    assert_eq!(world.reads.len(), 2 * 50 * 2, "a read for each tile, band and scene");
}

#[test]
fn loops_change_nothing() {
    for scenes in [0, 1, 2, 7] {
        let (with, without) = (mean_of_difference(scenes, true), mean_of_difference(scenes, false));
        assert_eq!((loops(&with).len(), loops(&without).len()), (1, 0));
        assert_eq!(evaluate(&with).0, evaluate(&without).0, "{scenes} scenes");
    }
}

/// Results that look at the same images share a loop; each image is read once.
#[test]
fn folds_share_what_they_read() {
    let plan = |streams| {
        let mut sketch = Sketch::default();
        let a = sketch.read("a", 5, Layout::Stack);
        let doubled = sketch.call("add", &[a, a]);
        let (mean, max) = (sketch.call("mean", &[a]), sketch.call("max", &[doubled]));
        sketch.plan(&[mean, max], streams)
    };
    assert_eq!(loops(&plan(true)).len(), 1);
    let (blocks, world) = evaluate(&plan(true));
    assert_eq!(world.reads.len(), 2 * 5);
    assert_eq!(blocks, evaluate(&plan(false)).0);
}

/// The distance from the mean needs the mean first: the stack is held between the two loops.
#[test]
fn a_fold_that_needs_another_comes_after_it() {
    let plan = |streams| {
        let mut sketch = Sketch::default();
        let a = sketch.read("a", 5, Layout::Stack);
        let mean = sketch.call("mean", &[a]);
        let distance = sketch.call("sub", &[a, mean]);
        let squared = sketch.call("mul", &[distance, distance]);
        let variance = sketch.call("mean", &[squared]);
        sketch.plan(&[variance], streams)
    };
    let inside = loops(&plan(true));
    assert_eq!(inside, [[NodeId(2), NodeId(3), NodeId(4)]]);
    let (blocks, world) = evaluate(&plan(true));
    assert_eq!(world.reads, [5, 5], "one read a tile");
    assert_eq!(blocks, evaluate(&plan(false)).0);
}

/// A mosaic among stacks is there before the loop; what also goes elsewhere is no part of it.
#[test]
fn what_others_need_is_whole() {
    let plan = |streams| {
        let mut sketch = Sketch::default();
        let (a, b) = (sketch.read("a", 4, Layout::Stack), sketch.read("b", 4, Layout::Mosaic));
        let sum = sketch.call("add", &[a, b]);
        let (max, median) = (sketch.call("max", &[sum]), sketch.call("median", &[a]));
        sketch.plan(&[max, median], streams)
    };
    assert_eq!(loops(&plan(true)), [[NodeId(2), NodeId(3)]]);
    assert_eq!(evaluate(&plan(true)).0, evaluate(&plan(false)).0);
}

#[test]
fn a_loop_stops_between_images() {
    let plan = mean_of_difference(1000, true);
    let tile = plan.tile(plan.tiles()[0]).expect("a tile");
    let mut world = World { cancel_after: Some(7), ..World::default() };
    assert_eq!(eval(&tile, Vec::new(), &mut world), Err(EvalError::Cancelled));
    assert_eq!(world.reads.len(), 7);
}

/// Half of the images are cloud everywhere: their other band is not read, streamed or not.
#[test]
fn what_a_mask_hides_is_not_read() {
    for reducer in ["mean", "median"] {
        let plan = |streams| {
            let mut sketch = Sketch::default();
            // The data first: it is the order of evaluation that must change.
            let (a, q) = (sketch.read("a", 6, Layout::Stack), sketch.read("q", 6, Layout::Stack));
            let doubled = sketch.call("add", &[a, a]);
            let hidden = sketch.hidden(doubled, q);
            let reduced = sketch.call(reducer, &[hidden]);
            sketch.plan(&[reduced], streams)
        };
        let (with, without) = (evaluate(&plan(true)), evaluate(&plan(false)));
        assert_eq!(with.0, without.0);
        let (all, world) = evaluate(&plan(true).with_exits(false));
        let images: u32 = world.reads.iter().sum();
        assert_eq!((&all, world.spared, images), (&with.0, 0, 2 * (6 + 6)), "switched off");
        for (_, world) in [with, without] {
            let images: u32 = world.reads.iter().sum();
            assert_eq!((world.spared, images), (2 * 3, 2 * (6 + 3)), "{reducer}");
        }
    }
}

/// What is also shown elsewhere, remembered or a result itself is read.
#[test]
fn what_is_needed_elsewhere_is_read() {
    let spared = |change: &dyn Fn(&mut Sketch, NodeId) -> Option<NodeId>| {
        let mut sketch = Sketch::default();
        let (a, q) = (sketch.read("a", 4, Layout::Stack), sketch.read("q", 4, Layout::Stack));
        let other = change(&mut sketch, a);
        let hidden = sketch.hidden(a, q);
        let roots: Vec<NodeId> = [Some(hidden), other].into_iter().flatten().collect();
        evaluate(&sketch.plan(&roots, true)).1.spared
    };
    assert_eq!(spared(&|_, _| None), 2 * 2);
    assert_eq!(spared(&|_, a| Some(a)), 0);
    assert_eq!(spared(&|sketch, a| Some(sketch.call("max", &[a]))), 0);
    assert_eq!(
        spared(&|sketch, a| {
            sketch.0[a.index()].2 = true;
            None
        }),
        0
    );
}

/// One image of a stack below a reduction serves all images above: it is read unless all are hidden.
#[test]
fn images_are_spared_only_for_themselves() {
    let mut sketch = Sketch::default();
    let (a, q) = (sketch.read("a", 4, Layout::Stack), sketch.read("q", 4, Layout::Stack));
    let (b, median) = (sketch.read("b", 4, Layout::Stack), sketch.call("median", &[a]));
    let sum = sketch.call("add", &[b, median]);
    let hidden = sketch.hidden(sum, q);
    let (_, world) = evaluate(&sketch.plan(&[hidden], true));
    assert_eq!(world.spared, 2 * 2, "of `b` alone");
}
