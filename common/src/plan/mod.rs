//! Plans: what workers run. Read this first.
//!
//! [`build`] takes an expression, a grid and the catalog's answers and is pure. `bind` makes a plan
//! node of every op; the passes of [`PASSES`] make the plan cheaper and nothing else; `tile` cuts it.

use std::sync::Arc;

use crate::aoi::Outline;
use crate::block::Block;
use crate::expr::Expr;
use crate::grid::{Grid, TileSize, Window};
use crate::hash::ContentHash;
use crate::limits::Limits;
use crate::literal::Literal;
use crate::ops::{BindCx, Props, TypeError};
use builder::{Builder, infer, pad};
use stage::Form;

mod bind;
mod builder;
mod cache;
pub mod cost;
mod error;
pub(crate) mod exit;
pub mod explain;
mod fold;
mod fuse;
mod memory;
mod node;
mod pushdown;
pub mod stage;
pub(crate) mod stream;
mod thin;
pub mod tile;

pub use error::BindError;
pub use node::{Input, Instr, Node, NodeId, NodeKind, Operand, Program, Read, ReadScene};
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
    /// Whether reads may take overviews and, of very many scenes, some, where the grid is much coarser than
    /// the files.
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
