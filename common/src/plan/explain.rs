//! A plan as text, for people and for golden files, and what it will take.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Input, NodeId, NodeKind, Operand, Plan, Program, Read, ReadScene, Step};
use crate::scene::{BandSource, Layout, Resampler};

/// What a plan will take, counted before anything is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bill {
    /// Tiles.
    pub tiles: u64,
    /// Scenes with at least one file that is read.
    pub scenes: u64,
    /// Stored bytes of the pixels to be read, decoded.
    pub read_bytes: u64,
    /// Bytes of pixels in the result, validity counted as bytes.
    pub result_bytes: u64,
    /// Most memory that one tile takes.
    pub tile_peak_bytes: u64,
}

/// Bytes of a stored value where the catalog does not say.
const SAMPLE_BYTES: u64 = 2;

/// The bill of a plan.
pub fn bill(plan: &Plan) -> Bill {
    let mut scenes = std::collections::BTreeSet::new();
    let mut read_bytes = 0u64;
    let tiles = plan.tiles();
    for tile in tiles.iter().filter_map(|tile| plan.tile(*tile)) {
        for id in tile.steps().iter().flat_map(Step::nodes) {
            let NodeKind::Read(read) = &plan.node(id).kind else { continue };
            let window = tile.node_window(id);
            for scene in read.scenes.iter().filter(|scene| scene.touches(&window)) {
                scenes.insert((&scene.product, &scene.id));
                let pixels =
                    scene.reach.and_then(|reach| reach.intersect(&window)).unwrap_or(window).pixels();
                for band in &scene.bands {
                    let bytes = band.sample_bytes.map_or(SAMPLE_BYTES, u64::from);
                    let density = stored_per_pixel(plan, read, scene, band);
                    read_bytes += (bytes as f64 * pixels as f64 * density).ceil() as u64;
                }
            }
        }
    }
    let grid = plan.grid().window();
    Bill {
        tiles: tiles.len() as u64,
        scenes: scenes.len() as u64,
        read_bytes,
        result_bytes: plan
            .roots()
            .iter()
            .map(|root| plan.node(root.node).facts.pixel_bytes() * grid.pixels() as u64)
            .sum(),
        tile_peak_bytes: plan.tile_peak_bytes(),
    }
}

/// Stored pixels that are looked at for one pixel of the grid. Where the nearest pixel is all that is
/// wanted, rows of a file that the grid skips are not read, columns are.
fn stored_per_pixel(plan: &Plan, read: &Read, scene: &ReadScene, band: &BandSource) -> f64 {
    let lattice = plan.grid().lattice();
    match &band.asset.raster {
        Some(raster)
            if read.resampler == Resampler::Near
                && raster.crs == *lattice.crs()
                && raster.affine.is_upright() =>
        {
            (lattice.resolution().0 / raster.affine.col.0).max(f64::MIN_POSITIVE)
        }
        _ => scene.stored_per_pixel(band),
    }
}

/// The plan as text, one line a node. Long scene lists are counted, not listed.
pub fn text(plan: &Plan) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "grid    {}", plan.grid());
    let size = plan.tile_size().pixels();
    let _ = writeln!(out, "tiles   {} of up to {size} x {size} pixels", plan.tiles().len());
    for (at, node) in plan.nodes().iter().enumerate() {
        let mark = if plan.is_root(NodeId(at as u32)) { "result" } else { "" };
        let cached = if node.cached { "  [remembered]" } else { "" };
        let what = describe(&node.kind);
        let _ = writeln!(
            out,
            "%{at:<3} {mark:6} {} {} = {what}{cached}",
            node.facts.kind,
            node.facts.dtype.name()
        );
    }
    for root in plan.roots().iter().filter(|root| !root.name.is_empty()) {
        let _ = writeln!(out, "result  {} = %{}", root.name, root.node.0);
    }
    out
}

fn describe(kind: &NodeKind) -> String {
    match kind {
        NodeKind::Read(read) => {
            let span = match (read.scenes.first(), read.scenes.last()) {
                (Some(first), Some(last)) if read.scenes.len() > 1 => format!(" {} .. {}", first.id, last.id),
                (Some(only), _) => format!(" {}", only.id),
                _ => String::new(),
            };
            let (bands, scenes) = (read.bands.join(" "), read.scenes.len());
            let level = if read.overviews { ", overviews allowed" } else { "" };
            let what = if read.layout == Layout::Mosaic { "mosaic" } else { "read" };
            format!(
                "{what} {}[{bands}] {scenes} scenes{span}, {}{level}",
                read.product,
                read.resampler.name()
            )
        }
        NodeKind::Outline(outline) => format!("outside of the AOI's {} polygons", outline.polygons().len()),
        NodeKind::Constant(array) => format!("constant {}", array.samples().dtype().name()),
        NodeKind::Spread { input, spread, .. } => format!("%{} along {:?}", input.0, spread.dims),
        NodeKind::Call { op, params, inputs } => {
            let inputs = inputs.iter().map(|input| match input {
                Input::Node(id) => format!("%{}", id.0),
                Input::Number(literal) => literal.to_string(),
            });
            let params = params.iter().map(|param| param.to_string());
            format!("{}({})", op.name(), inputs.chain(params).collect::<Vec<_>>().join(", "))
        }
        NodeKind::Program(program) if program.instrs.len() == 1 => formula(program),
        NodeKind::Program(program) => format!("fused {}", formula(program)),
    }
}

/// A program as nested calls; shared parts are named, and those that grow long.
fn formula(program: &Program) -> String {
    /// A longer text inside another is not read any more.
    const NESTED_MAX: usize = 400;
    let mut uses: BTreeMap<usize, usize> = BTreeMap::new();
    for operand in program.instrs.iter().flat_map(|instr| &instr.operands) {
        if let Operand::Instr(at) = operand {
            *uses.entry(*at).or_default() += 1;
        }
    }
    let mut texts: Vec<String> = Vec::with_capacity(program.instrs.len());
    let mut named = String::new();
    for (at, instr) in program.instrs.iter().enumerate() {
        let operands = instr.operands.iter().map(|operand| match operand {
            Operand::Input(input) => format!("%{}", program.inputs[*input].0),
            Operand::Instr(instr) => texts[*instr].clone(),
            Operand::Number(literal) => literal.to_string(),
        });
        let params = instr.params.iter().map(|param| param.to_string());
        let text = format!("{}({})", instr.op.name(), operands.chain(params).collect::<Vec<_>>().join(", "));
        let uses = uses.get(&at).copied().unwrap_or(0);
        texts.push(if uses > 1 || (uses == 1 && text.len() > NESTED_MAX) {
            let _ = write!(named, "t{at} = {text}; ");
            format!("t{at}")
        } else {
            text
        });
    }
    named + texts.last().map_or("", String::as_str)
}
