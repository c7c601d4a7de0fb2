//! Plans: what workers run. Read this first.
//!
//! [`build`] takes an expression, a grid and the catalog's answers and is pure. `bind` makes a plan
//! node of every op; the passes of [`PASSES`] make the plan cheaper and nothing else; `tile` cuts it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::aoi::Outline;
use crate::block::{Block, DType, Kind};
use crate::error::{Classify, ErrorClass, GraftPath};
use crate::expr::Expr;
use crate::grid::{Grid, Lattice, TileSize, Window};
use crate::hash::{ContentHash, Hasher};
use crate::limits::Limits;
use crate::literal::Literal;
use crate::ops::{BindCx, Facts, Footprint, Kernel, Op, Props, Spread, TypeError};
use crate::scene::{BandSource, Layout, Resampler};
use stage::Form;

mod bind;
mod cache;
pub mod cost;
pub(crate) mod exit;
pub mod explain;
mod fold;
mod fuse;
mod memory;
mod pushdown;
pub mod stage;
pub(crate) mod stream;
pub mod tile;

pub use stage::{Partial, Staged};
pub use tile::{Step, TilePlan, Work};

/// Rewrites that make a plan cheaper and nothing else: the same pixels, bit for bit. Order matters.
pub const PASSES: &[Pass] = &[
    // First: what is known needs no other pass.
    Pass { name: "fold", run: fold::run },
    // Before `fuse`: it moves the picking of bands, which stands between ops that could be fused.
    Pass { name: "pushdown", run: pushdown::run },
    // Before `cache`: nodes inside a fused program are never there to be remembered.
    Pass { name: "fuse", run: fuse::run },
    // After everything that makes or merges nodes: marks those that survive.
    Pass { name: "cache", run: cache::run },
    // After `cache`: what it streams is not remembered.
    Pass { name: "stream", run: stream::run },
    // After `cache`: what is remembered must be right even where it is hidden, and is read.
    Pass { name: "exit", run: exit::run },
];

/// The names of all passes, for messages.
fn pass_names() -> String {
    PASSES.iter().map(|pass| pass.name).collect::<Vec<_>>().join(", ")
}

/// A named rewrite.
#[derive(Debug)]
pub struct Pass {
    /// Its name, for switching it off.
    pub name: &'static str,
    run: fn(Plan) -> Plan,
}

/// A node of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

impl NodeId {
    /// Position in [`Plan::nodes`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a plan does at a node.
#[derive(Clone, Debug)]
pub enum NodeKind {
    /// Pixels from files.
    Read(Arc<Read>),
    /// One band, true outside the AOI's outline.
    Outline(Arc<Outline>),
    /// An array that is known.
    Constant(Arc<Block>),
    /// An array laid out along the axes of what it meets.
    Spread {
        /// The array.
        input: NodeId,
        /// How it lies.
        spread: Spread,
        /// Where its rows and columns lie; `None` where they do not differ.
        place: Option<Window>,
    },
    /// An op on earlier nodes and constants.
    Call {
        /// The op.
        op: &'static dyn Op,
        /// Constants its kernel needs.
        params: Vec<Literal>,
        /// Its inputs, in order.
        inputs: Vec<Input>,
    },
    /// Several value-by-value ops as one loop.
    Program(Arc<Program>),
}

impl NodeKind {
    /// The same on other inputs: `moved` gives the new node for each, in order.
    pub(crate) fn on(mut self, mut moved: impl FnMut(NodeId) -> NodeId) -> NodeKind {
        match &mut self {
            NodeKind::Read(_) | NodeKind::Outline(_) | NodeKind::Constant(_) => {}
            NodeKind::Spread { input, .. } => *input = moved(*input),
            NodeKind::Call { inputs, .. } => inputs.iter_mut().for_each(|input| {
                if let Input::Node(id) = input {
                    *id = moved(*id);
                }
            }),
            NodeKind::Program(program) => {
                Arc::make_mut(program).inputs.iter_mut().for_each(|id| *id = moved(*id));
            }
        }
        self
    }
}

/// An input of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Pixels of an earlier node.
    Node(NodeId),
    /// A number or truth value.
    Number(Literal),
}

/// Value-by-value ops in order; the last is the result. All have the result's kind.
#[derive(Clone, Debug)]
pub struct Program {
    /// Earlier nodes whose pixels it uses.
    pub inputs: Vec<NodeId>,
    /// The ops.
    pub instrs: Vec<Instr>,
}

/// One op of a [`Program`].
#[derive(Clone, Debug)]
pub struct Instr {
    /// The op; its kernel is a `Kernel::Pixel`.
    pub op: &'static dyn Op,
    /// Constants its kernel needs.
    pub params: Vec<Literal>,
    /// Its operands.
    pub operands: Vec<Operand>,
}

/// An operand of an [`Instr`].
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// An input of the program.
    Input(usize),
    /// The result of an earlier op of the program.
    Instr(usize),
    /// A number or truth value.
    Number(Literal),
}

/// Bands of scenes.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// Product ids, for people.
    pub product: String,
    /// Band names, for people and messages.
    pub bands: Vec<String>,
    /// How stored pixels become the grid's.
    pub resampler: Resampler,
    /// Whether smaller copies inside the files may stand in for their pixels, where the grid is coarser:
    /// for display.
    pub overviews: bool,
    /// What becomes of the scenes.
    pub layout: Layout,
    /// Pixels around the grid that it has as well, at most [`PAD_MAX`](crate::limits::PAD_MAX).
    pub pad: u32,
    /// The scenes, in the order of the images; in a mosaic from the bottom to the top.
    pub scenes: Vec<ReadScene>,
}

impl Read {
    /// Shape of its pixels.
    pub fn kind(&self) -> Kind {
        let (images, bands) = (self.scenes.len() as u32, self.bands.len() as u32);
        match self.layout {
            Layout::Stack => Kind::Stack { images, bands },
            Layout::Mosaic => Kind::Mosaic { bands },
        }
    }

    /// The scenes, and the shape of their pixels; of a stack only one image, where one is asked for.
    pub fn images(&self, image: Option<u32>) -> (&[ReadScene], Kind) {
        let one = |at: u32| self.scenes.get(at as usize..=at as usize);
        match image.filter(|_| self.layout == Layout::Stack).and_then(one) {
            Some(scene) => (scene, Kind::Stack { images: 1, bands: self.bands.len() as u32 }),
            None => (&self.scenes, self.kind()),
        }
    }
}

/// A scene of a [`Read`].
#[derive(Clone, Debug, PartialEq)]
pub struct ReadScene {
    /// Product id, for people and messages.
    pub product: String,
    /// Image id, for people and messages.
    pub id: String,
    /// Source of each band of the read.
    pub bands: Vec<BandSource>,
    /// The lattice pixels that its files cover; `None` where that is not known before they are opened.
    pub reach: Option<Window>,
}

impl Read {
    /// The most stored pixels that are held for one pixel of the grid, as far as it is known.
    fn stored_per_pixel(&self) -> f64 {
        /// Nearest pixels of a much coarser grid are read row by row; see the worker's warp.
        const NEAR_MAX: f64 = 2.0;
        let scenes = self.scenes.iter();
        let densities = scenes.flat_map(|scene| scene.bands.iter().map(|band| scene.stored_per_pixel(band)));
        let most = densities.fold(1.0, f64::max);
        if self.resampler == Resampler::Near { most.min(NEAR_MAX) } else { most }
    }
}

impl ReadScene {
    /// Stored pixels of a band for each pixel of the grid that the scene covers; 1 where it is not known.
    pub(crate) fn stored_per_pixel(&self, band: &BandSource) -> f64 {
        match (&band.asset.raster, &self.reach) {
            (Some(raster), Some(reach)) => {
                let area = |rows: u32, cols: u32| f64::from(rows) * f64::from(cols);
                area(raster.rows, raster.cols) / area(reach.rows, reach.cols)
            }
            _ => 1.0,
        }
    }

    /// Whether the scene can have a valid pixel in a window.
    pub fn touches(&self, window: &Window) -> bool {
        self.reach.is_none_or(|reach| reach.intersect(window).is_some())
    }
}

/// A node with what is known about it.
#[derive(Clone, Debug)]
pub struct Node {
    /// What is done.
    pub kind: NodeKind,
    /// What results.
    pub facts: Facts,
    /// Pixels around the grid that the node has as well: the grid so enlarged is its domain, beyond which
    /// it has no pixel. `None` where it has one value, or one along each axis, everywhere.
    pub pad: Option<u32>,
    /// Identity of the value, for any way of computing it: passes keep it.
    pub hash: ContentHash,
    /// Whether tiles of this node are worth remembering.
    pub cached: bool,
}

impl Node {
    /// Earlier nodes that this one needs.
    pub fn inputs(&self) -> Vec<NodeId> {
        match &self.kind {
            NodeKind::Read(_) | NodeKind::Outline(_) | NodeKind::Constant(_) => Vec::new(),
            NodeKind::Spread { input, .. } => vec![*input],
            NodeKind::Call { inputs, .. } => inputs
                .iter()
                .filter_map(|input| match input {
                    Input::Node(id) => Some(*id),
                    Input::Number(_) => None,
                })
                .collect(),
            NodeKind::Program(program) => program.inputs.clone(),
        }
    }

    /// Pixels of the inputs that one pixel of this node needs.
    pub fn footprint(&self) -> Footprint {
        match &self.kind {
            NodeKind::Call { op, params, .. } => op.footprint(params),
            NodeKind::Read(_)
            | NodeKind::Outline(_)
            | NodeKind::Constant(_)
            | NodeKind::Spread { .. }
            | NodeKind::Program(_) => Footprint::Pixel,
        }
    }

    /// Pixels of its block on a window: arrays have one.
    pub(crate) fn pixels(&self, window: &Window) -> usize {
        if matches!(self.facts.kind, Kind::Array(_)) { 1 } else { window.pixels() }
    }
}

/// A result of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Root {
    /// Its name; empty where there is one result.
    pub name: String,
    /// Its node.
    pub node: NodeId,
    /// Reductions over its pixels, which are wanted instead of them: all roots of a stage's plan have
    /// some, those of other plans none.
    pub partials: Vec<Partial>,
}

impl Root {
    /// A result whose pixels are wanted.
    pub fn new(name: &str, node: NodeId) -> Root {
        Root { name: name.to_owned(), node, partials: Vec::new() }
    }
}

/// A computation on a grid, ready to be cut into tiles.
///
/// Invariant: nodes stand after their inputs, every node is needed, facts agree with the ops' type
/// rules, and no tile of `tile_size` takes more memory than `tile_peak_bytes`.
#[derive(Clone, Debug)]
pub struct Plan {
    grid: Grid,
    nodes: Vec<Node>,
    /// At least one.
    roots: Vec<Root>,
    tile_size: TileSize,
    tile_peak_bytes: u64,
    /// Whether tiles take images one after another where they can.
    streams: bool,
    /// Whether reads that a mask hides are left out.
    exits: bool,
}

/// What a graft turned out to be.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A constant: no pixel needs to be looked at.
    Value {
        /// A number, a truth value or a list.
        literal: Literal,
        /// Metadata of the result.
        props: Props,
    },
    /// Pixels are reduced over the whole area first; the result follows from the values.
    Staged(Box<Staged>),
    /// A small array: no pixel needs to be looked at any more.
    Array {
        /// Its values.
        array: Block,
        /// Metadata of the result.
        props: Props,
    },
    /// Pixels with metadata.
    Raster {
        /// How to compute them.
        plan: Plan,
        /// Metadata of the result.
        props: Props,
    },
    /// An object of results.
    Several {
        /// How to compute those that are rasters, in one pass; `None` where none is.
        plan: Option<Plan>,
        /// The results by name, in the order of the graft; rasters are the plan's roots, in order.
        results: Vec<(String, Named)>,
    },
}

impl Outcome {
    /// How to compute the pixels of the result, where it has some and nothing comes before them.
    pub fn plan(&self) -> Option<&Plan> {
        match self {
            Outcome::Raster { plan, .. } => Some(plan),
            Outcome::Several { plan, .. } => plan.as_ref(),
            Outcome::Value { .. } | Outcome::Array { .. } | Outcome::Staged(_) => None,
        }
    }
}

/// A result of several.
#[derive(Clone, Debug)]
pub enum Named {
    /// A constant with metadata.
    Value(Literal, Props),
    /// A small array with metadata.
    Array(Block, Props),
    /// Pixels with metadata.
    Raster(Props),
}

/// How to plan. Nothing here changes a pixel, but for `overviews`.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Tile size to use instead of the planner's choice.
    pub tile_size: Option<TileSize>,
    /// Names of passes to leave out.
    pub passes_off: Vec<String>,
    /// Tiles that the fleet works on at the same time.
    pub slots: u32,
    /// Whether reads may take overviews.
    pub overviews: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { tile_size: None, passes_off: Vec::new(), slots: 2, overviews: false }
    }
}

/// Plans an expression on a grid: pixels outside `outline` are invalid in the result.
///
/// # Errors
/// [`BindError`]: types, bands or shapes do not fit, or a named limit is exceeded.
pub fn build(
    expr: &Expr,
    cx: &BindCx<'_>,
    outline: Option<Outline>,
    limits: &Limits,
    options: &Options,
) -> Result<Outcome, BindError> {
    if let Some(name) = options.passes_off.iter().find(|name| PASSES.iter().all(|pass| pass.name != **name)) {
        return Err(BindError::UnknownPass { name: name.clone() });
    }
    match bind::bind(expr, cx, outline, options.overviews)? {
        bind::Result::Value(literal, props) => Ok(Outcome::Value { literal, props }),
        bind::Result::Several(None, results) => Ok(Outcome::Several { plan: None, results }),
        bind::Result::Raster(plan, props) => stage::plan(plan, Form::One(props), limits, options),
        bind::Result::Several(Some(plan), results) => {
            stage::plan(plan, Form::Several(results), limits, options)
        }
    }
}

/// The outcome of a bound plan that reduces no pixels.
fn settle(bound: Plan, form: Form, (limits, options): (&Limits, &Options)) -> Result<Outcome, BindError> {
    let (plan, arrays) = known(bound);
    let plan = plan.map(|plan| finish(plan, limits, options)).transpose()?;
    let mut arrays = arrays.into_iter();
    Ok(match (form, plan) {
        (Form::One(props), Some(plan)) => Outcome::Raster { plan, props },
        (Form::One(props), None) => {
            let array = arrays.next().expect("a plan has a result");
            Outcome::Array { array: Block::clone(&array), props }
        }
        (Form::Several(mut results), plan) => {
            for (_, result) in &mut results {
                if let Named::Array(array, _) = result {
                    *array = Block::clone(&arrays.next().expect("an array a result"));
                }
            }
            Outcome::Several { plan, results }
        }
    })
}

/// A plan without those of its results that are arrays, and these: they are known before any pixel is.
fn known(plan: Plan) -> (Option<Plan>, Vec<Arc<Block>>) {
    if plan.roots.iter().all(|root| plan.node(root.node).facts.kind.is_raster()) {
        return (Some(plan), Vec::new());
    }
    let Plan { grid, nodes, roots, .. } = fold::run(plan);
    let array = |root: &Root| match &nodes[root.node.index()].kind {
        NodeKind::Constant(array) => Some(array.clone()),
        _ => None,
    };
    let arrays = roots.iter().filter_map(array).collect();
    let roots: Vec<Root> = roots.into_iter().filter(|root| array(root).is_none()).collect();
    let plan = (!roots.is_empty()).then(|| Builder { nodes, ..Builder::default() }.finish(grid, roots));
    (plan, arrays)
}

/// Runs the passes over a plan and chooses its tile size.
fn finish(plan: Plan, limits: &Limits, options: &Options) -> Result<Plan, BindError> {
    let planes: u64 = plan.roots.iter().map(|root| plan.node(root.node).facts.kind.planes() as u64).sum();
    let samples = planes * u64::from(plan.grid.rows()) * u64::from(plan.grid.cols());
    if samples > limits.output_samples {
        return Err(BindError::Output { samples, limit: limits.output_samples });
    }
    let mut plan = run_passes(plan, options);
    tile::choose_size(&mut plan, limits, options)?;
    Ok(plan)
}

/// Makes a plan cheaper.
fn run_passes(mut plan: Plan, options: &Options) -> Plan {
    let facts = |plan: &Plan| plan.roots.iter().map(|root| plan.node(root.node).facts).collect::<Vec<_>>();
    for pass in PASSES.iter().filter(|pass| !options.passes_off.iter().any(|off| off == pass.name)) {
        let before = facts(&plan);
        plan = (pass.run)(plan);
        assert_eq!(facts(&plan), before, "pass `{}` changed what the plan computes", pass.name);
    }
    plan
}

impl Plan {
    /// A plan from parts that were checked before, as they arrive on the wire.
    ///
    /// # Errors
    /// [`TypeError`] when the parts do not make a plan.
    pub fn from_parts(
        grid: Grid,
        parts: Vec<(NodeKind, ContentHash, bool)>,
        roots: Vec<Root>,
        tile_size: TileSize,
    ) -> Result<Plan, TypeError> {
        let unfit = TypeError::Argument { name: "plan", expected: "nodes after their inputs", got: "others" };
        let mut nodes: Vec<Node> = Vec::with_capacity(parts.len());
        for (kind, hash, cached) in parts {
            let facts = infer(&kind, &nodes).unwrap_or(Err(unfit.clone()))?;
            let pad = pad(&kind, facts, &nodes);
            nodes.push(Node { kind, facts, pad, hash, cached });
        }
        if roots.is_empty() || roots.iter().any(|root| root.node.index() >= nodes.len()) {
            return Err(unfit);
        }
        let is_stage = !roots[0].partials.is_empty();
        let is_sound = |root: &Root| {
            let facts = nodes[root.node.index()].facts;
            let mut kernels = root.partials.iter().map(|partial| partial.kernel(facts));
            root.partials.is_empty() != is_stage && kernels.all(|kernel| kernel.is_some())
        };
        if !roots.iter().all(is_sound) {
            return Err(TypeError::Argument {
                name: "plan",
                expected: "reductions over pixels",
                got: "others",
            });
        }
        let mut plan =
            Plan { grid, nodes, roots, tile_size, tile_peak_bytes: 0, streams: false, exits: false };
        plan.tile_peak_bytes = tile::peak_bytes(&plan, tile_size);
        Ok(plan)
    }

    /// The same plan with its images taken one after another where they can be, or not.
    pub fn with_streams(mut self, streams: bool) -> Plan {
        self.streams = streams;
        self.tile_peak_bytes = tile::peak_bytes(&self, self.tile_size);
        self
    }

    /// The same plan with reads left out that a mask hides, or not.
    pub fn with_exits(mut self, exits: bool) -> Plan {
        self.exits = exits;
        self.tile_peak_bytes = tile::peak_bytes(&self, self.tile_size);
        self
    }

    /// Whether reads are left out that a mask hides.
    pub fn exits(&self) -> bool {
        self.exits
    }

    /// Whether tiles take images one after another where they can.
    pub fn streams(&self) -> bool {
        self.streams
    }

    /// The grid.
    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    /// The nodes, inputs first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// The pixels that a node has; `None` where it has no end.
    pub fn domain(&self, id: NodeId) -> Option<Window> {
        self.node(id).pad.map(|pad| self.grid.window().pad(pad, pad))
    }

    /// The results, in the order of their blocks in a tile.
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// Whether a node is a result.
    pub fn is_root(&self, id: NodeId) -> bool {
        self.roots.iter().any(|root| root.node == id)
    }

    /// The most rounds over the pixels of a node that a stage takes; 0 where it reduces others.
    fn rounds_of(&self, id: NodeId) -> u32 {
        let facts = self.node(id).facts;
        let partials = self.roots.iter().filter(|root| root.node == id).flat_map(|root| &root.partials);
        partials.filter_map(|partial| Some(partial.kernel(facts)?.rounds)).max().unwrap_or(0)
    }

    /// The node of the first result; the only one unless the graft gives an object of results.
    pub fn root(&self) -> NodeId {
        self.roots[0].node
    }

    /// The node of the first result.
    pub fn root_node(&self) -> &Node {
        self.node(self.root())
    }

    /// Edge of its tiles.
    pub fn tile_size(&self) -> TileSize {
        self.tile_size
    }

    /// Memory that a worker sets aside for one tile.
    pub fn tile_peak_bytes(&self) -> u64 {
        self.tile_peak_bytes
    }

    /// The reads.
    pub fn reads(&self) -> impl Iterator<Item = &Arc<Read>> {
        self.nodes.iter().filter_map(|node| match &node.kind {
            NodeKind::Read(read) => Some(read),
            _ => None,
        })
    }

    /// The AOI's outline, where it has one.
    pub fn outline(&self) -> Option<&Arc<Outline>> {
        self.nodes.iter().find_map(|node| match &node.kind {
            NodeKind::Outline(outline) => Some(outline),
            _ => None,
        })
    }

    /// How many nodes use each node; a result counts as used once more.
    fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.nodes.len()];
        self.roots.iter().for_each(|root| uses[root.node.index()] += 1);
        for node in &self.nodes {
            let mut inputs = node.inputs();
            inputs.sort_unstable();
            inputs.dedup();
            inputs.into_iter().for_each(|id| uses[id.index()] += 1);
        }
        uses
    }
}

/// Facts of a node from those of its inputs; `None` when it refers to a node that does not stand before
/// it or is malformed.
fn infer(kind: &NodeKind, nodes: &[Node]) -> Option<Result<Facts, TypeError>> {
    let of_node = |id: &NodeId| nodes.get(id.index()).map(|node| node.facts);
    Some(match kind {
        NodeKind::Read(read) => {
            if read.bands.is_empty() || read.scenes.iter().any(|scene| scene.bands.len() != read.bands.len())
            {
                return None;
            }
            Ok(Facts { kind: read.kind(), dtype: DType::F32 })
        }
        NodeKind::Outline(_) => Ok(Facts { kind: Kind::Mosaic { bands: 1 }, dtype: DType::Bool }),
        NodeKind::Constant(array) => {
            let is_array = matches!(array.kind(), Kind::Array(_));
            return is_array.then(|| Ok(Facts { kind: array.kind(), dtype: array.samples().dtype() }));
        }
        NodeKind::Spread { input, spread, place } => {
            let array = of_node(input)?;
            let product = |product: u64, dim: &u32| product.checked_mul(u64::from(*dim));
            let values = spread.dims.iter().try_fold(1u64, product)?;
            let fits = matches!(array.kind, Kind::Array(shape) if shape.len() as u64 == values);
            if !fits || !spread.fits(place.map(|place| (place.rows, place.cols))) {
                return None;
            }
            Ok(Facts { kind: spread.kind, dtype: array.dtype })
        }
        NodeKind::Call { op, params, inputs } => {
            let inputs: Vec<Facts> = inputs
                .iter()
                .map(|input| match input {
                    Input::Node(id) => of_node(id),
                    Input::Number(literal) => Facts::number(literal),
                })
                .collect::<Option<_>>()?;
            op.infer(params, &inputs)
        }
        NodeKind::Program(program) => {
            if program.inputs.iter().any(|id| id.index() >= nodes.len()) {
                return None;
            }
            let mut results: Vec<Facts> = Vec::with_capacity(program.instrs.len());
            for instr in &program.instrs {
                let operands: Vec<Facts> = instr
                    .operands
                    .iter()
                    .map(|operand| match operand {
                        Operand::Input(at) => of_node(program.inputs.get(*at)?),
                        Operand::Instr(at) => results.get(*at).copied(),
                        Operand::Number(literal) => Facts::number(literal),
                    })
                    .collect::<Option<_>>()?;
                // The type rule first: a kernel may look at operands that only it has checked.
                match instr.op.infer(&instr.params, &operands) {
                    Ok(facts) => results.push(facts),
                    Err(error) => return Some(Err(error)),
                }
                if !matches!(instr.op.kernel(&instr.params, &operands), Kernel::Pixel(_)) {
                    return None;
                }
            }
            let last = *results.last()?;
            if results.iter().any(|facts| facts.kind != last.kind) {
                return None;
            }
            Ok(last)
        }
    })
}

/// Padding of a node; `None` of what has no pixels of its own.
fn pad(kind: &NodeKind, facts: Facts, nodes: &[Node]) -> Option<u32> {
    let of_node = |id: &NodeId| nodes.get(id.index()).and_then(|node| node.pad);
    match kind {
        NodeKind::Read(read) => Some(read.pad),
        NodeKind::Outline(_) => Some(0),
        // What is laid out along rows and columns says itself where it ends.
        NodeKind::Constant(_) | NodeKind::Spread { .. } => None,
        NodeKind::Call { .. } | NodeKind::Program(_) if !facts.kind.is_raster() => None,
        NodeKind::Call { op, inputs, .. } => {
            let pads = inputs.iter().map(|input| match input {
                Input::Node(id) => of_node(id),
                Input::Number(_) => None,
            });
            op.padding(&pads.collect::<Vec<_>>())
        }
        NodeKind::Program(program) => {
            let mut pads: Vec<Option<u32>> = Vec::with_capacity(program.instrs.len());
            for instr in &program.instrs {
                let operands = instr.operands.iter().map(|operand| match operand {
                    Operand::Input(at) => program.inputs.get(*at).and_then(of_node),
                    Operand::Instr(at) => pads.get(*at).copied().flatten(),
                    Operand::Number(_) => None,
                });
                pads.push(instr.op.padding(&operands.collect::<Vec<_>>()));
            }
            pads.pop().flatten()
        }
    }
}

/// Grows a plan node by node; equal values exist once.
#[derive(Debug, Default)]
struct Builder {
    nodes: Vec<Node>,
    known: HashMap<ContentHash, NodeId>,
    /// Values that are remembered already, wherever they are computed.
    remembered: HashSet<ContentHash>,
}

impl Builder {
    /// For a rewrite of a plan: what is remembered stays so.
    fn like(plan: &Plan) -> Builder {
        let remembered = plan.nodes.iter().filter(|node| node.cached).map(|node| node.hash).collect();
        Builder { remembered, ..Builder::default() }
    }

    /// Adds a node. `hash` is the identity of its value, where it is that of a value known under it;
    /// otherwise it follows from what is done.
    fn add(&mut self, kind: NodeKind, hash: Option<ContentHash>) -> Result<NodeId, TypeError> {
        let hash = hash.unwrap_or_else(|| identity(&kind, &self.nodes));
        if let Some(id) = self.known.get(&hash) {
            return Ok(*id);
        }
        let unfit = TypeError::Argument { name: "plan", expected: "nodes after their inputs", got: "others" };
        let facts = infer(&kind, &self.nodes).unwrap_or(Err(unfit))?;
        let id = NodeId(self.nodes.len() as u32);
        let pad = pad(&kind, facts, &self.nodes);
        let cached = self.remembered.contains(&hash);
        self.nodes.push(Node { kind, facts, pad, hash, cached });
        self.known.insert(hash, id);
        Ok(id)
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// The plan whose results are `roots`; nodes they do not need are gone.
    fn finish(self, grid: Grid, mut roots: Vec<Root>) -> Plan {
        let mut needed = vec![false; self.nodes.len()];
        roots.iter().for_each(|root| needed[root.node.index()] = true);
        for at in (0..self.nodes.len()).rev() {
            if needed[at] {
                self.nodes[at].inputs().into_iter().for_each(|id| needed[id.index()] = true);
            }
        }
        let mut renumbered = vec![NodeId(0); self.nodes.len()];
        let mut nodes = Vec::new();
        for (at, mut node) in self.nodes.into_iter().enumerate().filter(|(at, _)| needed[*at]) {
            node.kind = node.kind.on(|id| renumbered[id.index()]);
            renumbered[at] = NodeId(nodes.len() as u32);
            nodes.push(node);
        }
        // The size is a placeholder until `tile::choose_size` has seen the finished nodes.
        roots.iter_mut().for_each(|root| root.node = renumbered[root.node.index()]);
        Plan {
            grid,
            nodes,
            roots,
            tile_size: TileSize::SMALLEST_PLANNED,
            tile_peak_bytes: 0,
            streams: false,
            exits: false,
        }
    }
}

/// Everything that can change a pixel of the node, apart from lattice and window.
fn identity(kind: &NodeKind, nodes: &[Node]) -> ContentHash {
    let mut hasher = Hasher::new("node");
    match kind {
        NodeKind::Read(read) => {
            hasher.str("read").str(read.resampler.name()).str(read.layout.name());
            hasher.int(read.overviews.into()).int(read.pad.into());
            hasher.int(read.scenes.len() as i64).int(read.bands.len() as i64);
            for band in read.scenes.iter().flat_map(|scene| &scene.bands) {
                hasher.str(&band.asset.source.to_string()).str(&band.asset.version).int(band.band.into());
                // Where the catalog says a file lies decides which tiles look at it.
                hasher.int(band.asset.raster.is_some().into());
                if let Some(raster) = &band.asset.raster {
                    hasher.str(raster.crs.as_str());
                    raster.affine.numbers().into_iter().for_each(|number| _ = hasher.float(number));
                    hasher.int(raster.rows.into()).int(raster.cols.into());
                }
                hasher.str(band.asset.format.name()).int(band.asset.sidecars.len() as i64);
                band.asset.sidecars.iter().for_each(|name| _ = hasher.str(name));
                hasher.int(band.is_classes.into());
                hash_option(&mut hasher, band.nodata);
                hash_option(&mut hasher, band.scale_offset.map(|(scale, _)| scale));
                hash_option(&mut hasher, band.scale_offset.map(|(_, offset)| offset));
            }
        }
        NodeKind::Outline(outline) => {
            hasher.str("outline");
            outline.hash_into(&mut hasher);
        }
        NodeKind::Constant(array) => _ = hasher.str("array").bytes(&array.encode()),
        NodeKind::Spread { input, spread, place } => {
            hasher.str("spread").hash(nodes[input.index()].hash).str(&spread.kind.to_string());
            spread.dims.iter().for_each(|dim| _ = hasher.int((*dim).into()));
            hasher.int(place.is_some().into());
            if let Some(place) = place {
                place.hash_into(&mut hasher);
            }
        }
        NodeKind::Call { op, params, inputs } => {
            hasher.str("call").str(op.name()).int(op.version().into()).int(params.len() as i64);
            params.iter().for_each(|param| param.hash_into(&mut hasher));
            for input in inputs {
                match input {
                    Input::Node(id) => {
                        hasher.hash(nodes[id.index()].hash);
                    }
                    Input::Number(literal) => literal.hash_into(&mut hasher),
                }
            }
        }
        NodeKind::Program(program) => {
            hasher.str("program").int(program.inputs.len() as i64);
            for id in &program.inputs {
                hasher.hash(nodes[id.index()].hash);
            }
            for instr in &program.instrs {
                hasher.str(instr.op.name()).int(instr.op.version().into()).int(instr.params.len() as i64);
                instr.params.iter().for_each(|param| param.hash_into(&mut hasher));
                for operand in &instr.operands {
                    match operand {
                        Operand::Input(at) => _ = hasher.str("input").int(*at as i64),
                        Operand::Instr(at) => _ = hasher.str("instr").int(*at as i64),
                        Operand::Number(literal) => literal.hash_into(&mut hasher),
                    }
                }
            }
        }
    }
    hasher.finish()
}

fn hash_option(hasher: &mut Hasher, value: Option<f64>) {
    hasher.int(value.is_some().into());
    hasher.float(value.unwrap_or(0.0));
}

/// Why an expression has no plan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BindError {
    /// Arguments do not fit an op.
    #[error("{at}: `{op}`: {error}")]
    Type {
        /// Where in the graft.
        at: GraftPath,
        /// The op.
        op: &'static str,
        /// What does not fit.
        error: TypeError,
    },
    /// The value of the graft is nothing that can be a result.
    #[error("{at}: the graft's value is {is}; it must be a raster, an array, a number or a list")]
    NoRaster {
        /// Where in the graft.
        at: GraftPath,
        /// What it is.
        is: &'static str,
    },
    /// More output than `Limits::output_samples`.
    #[error(
        "the result would have {samples} values (images x bands x rows x columns), the limit is {limit}; ask for a smaller AOI or a coarser resolution"
    )]
    Output {
        /// Values.
        samples: u64,
        /// The limit.
        limit: u64,
    },
    /// Not even the smallest tile fits into memory.
    #[error(
        "a tile of {tile} x {tile} pixels would take {bytes} bytes, the limit is {limit}; select fewer scenes or bands"
    )]
    Memory {
        /// Edge of the smallest tile.
        tile: u32,
        /// Its peak.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// More tiles than `Limits::tiles`.
    #[error(
        "the request has {tiles} tiles of {size} x {size} pixels, the limit is {limit}; ask for a smaller AOI or a coarser resolution"
    )]
    Tiles {
        /// Tiles.
        tiles: u64,
        /// Their edge.
        size: u32,
        /// The limit.
        limit: u64,
    },
    /// More reductions over pixels that need one another than `Limits::stages`.
    #[error(
        "reductions over pixels depend on one another in more than {limit} stages; compute some of them in a request of their own"
    )]
    Stages {
        /// The limit.
        limit: usize,
    },
    /// More planes to be reduced over pixels than `Limits::stage_planes`.
    #[error(
        "reducing over pixels would take {planes} planes of tiles (images x bands x tiles x rounds), the limit is {limit}; ask for a smaller AOI or a coarser resolution, or select fewer scenes or bands"
    )]
    Stage {
        /// Planes.
        planes: u64,
        /// The limit.
        limit: u64,
    },
    /// More state of reductions over pixels than `Limits::partial_bytes`.
    #[error(
        "reducing over pixels would take {bytes} bytes for each tile in flight, the limit is {limit}; select fewer scenes or bands"
    )]
    Partials {
        /// Bytes of the partials of a tile.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A pass that does not exist was to be left out.
    #[error("there is no pass `{name}`; there are {}", pass_names())]
    UnknownPass {
        /// The name.
        name: String,
    },
}

impl Classify for BindError {
    fn class(&self) -> ErrorClass {
        match self {
            BindError::Type { error, .. } => error.class(),
            BindError::NoRaster { .. } | BindError::UnknownPass { .. } => ErrorClass::InvalidRequest,
            BindError::Output { .. }
            | BindError::Memory { .. }
            | BindError::Tiles { .. }
            | BindError::Stages { .. }
            | BindError::Stage { .. }
            | BindError::Partials { .. } => ErrorClass::LimitExceeded,
        }
    }
}

/// What places a tile's key beside its node: lattice and windows.
fn hash_place(hasher: &mut Hasher, lattice: &Lattice, windows: impl IntoIterator<Item = Window>) {
    lattice.hash_into(hasher);
    windows.into_iter().for_each(|window| window.hash_into(hasher));
}
