//! What a plan is made of: nodes, and what each does.

use std::sync::Arc;

use crate::aoi::Outline;
use crate::block::{Block, Kind};
use crate::grid::Window;
use crate::hash::ContentHash;
use crate::literal::Literal;
use crate::ops::{Facts, Footprint, Op, Spread};
use crate::scene::{BandSource, Layout, Resampler};

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
    pub(super) fn stored_per_pixel(&self) -> f64 {
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
