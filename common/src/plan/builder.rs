//! Growing plans: every node gets its facts, its padding and its identity.

use std::collections::{HashMap, HashSet};

use super::{Input, Node, NodeId, NodeKind, Operand, Plan, Root};
use crate::block::{DType, Kind};
use crate::grid::{Grid, Lattice, TileSize, Window};
use crate::hash::{ContentHash, Hasher};
use crate::ops::{Facts, Kernel, TypeError};

/// Facts of a node from those of its inputs; `None` when it refers to a node that does not stand before
/// it or is malformed.
pub(super) fn infer(kind: &NodeKind, nodes: &[Node]) -> Option<Result<Facts, TypeError>> {
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
pub(super) fn pad(kind: &NodeKind, facts: Facts, nodes: &[Node]) -> Option<u32> {
    let of_node = |id: &NodeId| nodes.get(id.index()).and_then(|node| node.pad);
    match kind {
        NodeKind::Read(read) => Some(read.pad),
        NodeKind::Outline(_) => Some(0),
        // What is laid out along rows and columns says itself where it ends.
        NodeKind::Constant(_) | NodeKind::Spread { .. } => None,
        NodeKind::Call { .. } | NodeKind::Program(_) if !facts.kind.is_raster() => None,
        // An empty stack has no image that could say its padding, so what is made of it has none.
        NodeKind::Call { inputs, .. }
            if facts.kind.images().is_none()
                && inputs.iter().any(|input| match input {
                    Input::Node(id) => {
                        nodes.get(id.index()).and_then(|node| node.facts.kind.images()) == Some(0)
                    }
                    Input::Number(_) => false,
                }) =>
        {
            Some(0)
        }
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
pub(super) struct Builder {
    pub(super) nodes: Vec<Node>,
    pub(super) known: HashMap<ContentHash, NodeId>,
    /// Values that are remembered already, wherever they are computed.
    pub(super) remembered: HashSet<ContentHash>,
}

impl Builder {
    /// For a rewrite of a plan: what is remembered stays so.
    pub(super) fn like(plan: &Plan) -> Builder {
        let remembered = plan.nodes.iter().filter(|node| node.cached).map(|node| node.hash).collect();
        Builder { remembered, ..Builder::default() }
    }

    /// Adds a node. `hash` is the identity of its value, where it is that of a value known under it;
    /// otherwise it follows from what is done.
    pub(super) fn add(&mut self, kind: NodeKind, hash: Option<ContentHash>) -> Result<NodeId, TypeError> {
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

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// The plan whose results are `roots`; nodes they do not need are gone.
    pub(super) fn finish(self, grid: Grid, mut roots: Vec<Root>) -> Plan {
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
pub(super) fn identity(kind: &NodeKind, nodes: &[Node]) -> ContentHash {
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

/// What places a tile's key beside its node: lattice and windows.
pub(super) fn hash_place(hasher: &mut Hasher, lattice: &Lattice, windows: impl IntoIterator<Item = Window>) {
    lattice.hash_into(hasher);
    windows.into_iter().for_each(|window| window.hash_into(hasher));
}
