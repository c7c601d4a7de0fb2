//! A plan as text, for people and for golden files, and what it will take.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::{
    Input, Named, NodeId, NodeKind, Operand, Outcome, Plan, Program, Read, ReadScene, Staged, Step, exit,
    stage, stream,
};
use crate::literal::Literal;
use crate::scene::{BandSource, Layout, Resampler};

/// What a plan will take, counted before anything is read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
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
    /// Pixels of the grid that are read, once for each band and scene.
    pub read_pixels: u64,
    /// Processor time, in seconds, as [`cost`](super::cost) estimates it.
    pub cpu_s: f64,
}

/// The bill of a request.
pub fn bill_of(outcome: &Outcome) -> Bill {
    self::outcome(outcome).1
}

/// Bytes of a stored value where the catalog does not say: budgets must not allow too much, and wider ones
/// than single precision are rare.
const SAMPLE_BYTES: u64 = 4;

/// What a request will do and take, for people.
pub fn outcome(outcome: &Outcome) -> (String, Bill) {
    match outcome {
        Outcome::Value { literal, .. } => {
            let name = if crate::ops::Facts::number(literal).is_some() { "number" } else { "value " };
            (format!("{name}  {literal}\n"), Bill::default())
        }
        Outcome::Array { array, .. } => (format!("{}\n", array.kind()), Bill::default()),
        Outcome::Raster { plan, .. } => (text(plan), bill(plan)),
        Outcome::Several { plan, results } => {
            let (mut out, bill) =
                plan.as_ref().map_or_else(Default::default, |plan| (text(plan), bill(plan)));
            for (name, result) in results {
                let _ = match result {
                    Named::Value(literal, _) => writeln!(out, "result  {name} = {literal}"),
                    Named::Array(array, _) => writeln!(out, "result  {name} = {}", array.kind()),
                    Named::Raster(_) => Ok(()),
                };
            }
            (out, bill)
        }
        Outcome::Staged(staged) => stages(staged),
    }
}

/// All stages, one after another; every round over the same tiles counts.
fn stages(staged: &Staged) -> (String, Bill) {
    let (mut out, mut bill, mut scenes) = (String::new(), Bill::default(), BTreeSet::new());
    let all = staged.stages();
    for (plan, at) in staged.plans().iter().zip(staged.stage()..) {
        let rounds = stage::rounds(plan);
        let rounds_text = if rounds == 1 { "1 round".to_owned() } else { format!("at most {rounds} rounds") };
        let _ = writeln!(out, "stage   {at} of {all}, {rounds_text}\n{}", text(plan));
        let of_stage = collect(plan, &mut scenes);
        bill.tiles += of_stage.tiles * u64::from(rounds);
        bill.read_bytes += of_stage.read_bytes * u64::from(rounds);
        bill.read_pixels += of_stage.read_pixels * u64::from(rounds);
        bill.cpu_s += of_stage.cpu_s * f64::from(rounds);
        bill.tile_peak_bytes = bill.tile_peak_bytes.max(of_stage.tile_peak_bytes);
    }
    if staged.last().plan().is_some() {
        let _ = writeln!(out, "stage   {all} of {all}");
    }
    out.push_str(&outcome(staged.last()).0);
    if let Some(plan) = staged.last().plan() {
        let of_last = collect(plan, &mut scenes);
        bill.tiles += of_last.tiles;
        bill.read_bytes += of_last.read_bytes;
        bill.read_pixels += of_last.read_pixels;
        bill.cpu_s += of_last.cpu_s;
        bill.result_bytes += of_last.result_bytes;
        bill.tile_peak_bytes = bill.tile_peak_bytes.max(of_last.tile_peak_bytes);
    }
    (out, Bill { scenes: scenes.len() as u64, ..bill })
}

/// The bill of a plan.
pub fn bill(plan: &Plan) -> Bill {
    collect(plan, &mut BTreeSet::new())
}

/// The bill of a plan; its scenes join those that are known already, and the bill counts all of them.
fn collect<'p>(plan: &'p Plan, scenes: &mut BTreeSet<(&'p str, &'p str)>) -> Bill {
    let (mut read_bytes, mut read_pixels, mut cpu_s) = (0u64, 0u64, 0.0);
    let tiles = plan.tiles();
    for tile in tiles.iter().filter_map(|tile| plan.tile(*tile)) {
        let cpu = tile.cpu();
        cpu_s += cpu.read_s + cpu.eval_s;
        for id in tile.steps().iter().flat_map(Step::nodes) {
            let NodeKind::Read(read) = &plan.node(id).kind else { continue };
            let window = tile.node_window(id);
            for scene in read.scenes.iter().filter(|scene| scene.touches(&window)) {
                scenes.insert((scene.product.as_str(), scene.id.as_str()));
                let pixels =
                    scene.reach.and_then(|reach| reach.intersect(&window)).unwrap_or(window).pixels();
                for band in &scene.bands {
                    let (density, bytes) = stored(plan, read, scene, band);
                    read_pixels += pixels as u64;
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
        read_pixels,
        cpu_s,
    }
}

/// Stored pixels that are looked at for one pixel of the grid, and the bytes of one.
pub(super) fn stored(plan: &Plan, read: &Read, scene: &ReadScene, band: &BandSource) -> (f64, u64) {
    let bytes = band.sample_bytes.map_or(SAMPLE_BYTES, u64::from);
    (stored_per_pixel(plan, read, scene, band), bytes)
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
    let (loops, guards) = (stream::loops(plan), exit::guards(plan));
    for (at, node) in plan.nodes().iter().enumerate() {
        // What is done image by image, and what may be left out.
        let is_streamed = loops[at].is_some() && node.facts.kind.images().is_some();
        let streamed = if is_streamed { "  [image by image]" } else { "" };
        let mut guarded =
            guards.iter().filter(|guard| guard.reads.iter().any(|(read, _)| read.index() == at));
        let spared = guarded.next().map(|guard| format!("  [not read where %{} hides it]", guard.node.0));
        let spared = spared.unwrap_or_default();
        let mark = match plan.is_root(NodeId(at as u32)) {
            true if stage::is_stage(plan) => "stage",
            true => "result",
            false => "",
        };
        let cached = if node.cached { "  [remembered]" } else { "" };
        let what = describe(&node.kind);
        let _ = writeln!(
            out,
            "%{at:<3} {mark:6} {} {} = {what}{streamed}{spared}{cached}",
            node.facts.kind,
            node.facts.dtype.name()
        );
    }
    for root in plan.roots() {
        for partial in &root.partials {
            let params = partial.params.iter().map(|param| format!(", {param}")).collect::<String>();
            let _ = writeln!(out, "reduces {}(%{}{params}) over pixels", partial.op.name(), root.node.0);
        }
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
            let params = params.iter().map(constant);
            format!("{}({})", op.name(), inputs.chain(params).collect::<Vec<_>>().join(", "))
        }
        NodeKind::Program(program) if program.instrs.len() == 1 => formula(program),
        NodeKind::Program(program) => format!("fused {}", formula(program)),
    }
}

/// A constant of an op; the rest of a long list is left out.
fn constant(literal: &Literal) -> String {
    /// Values of a list that are shown.
    const SHOWN_MAX: usize = 16;
    match literal {
        Literal::List(items) if items.len() > SHOWN_MAX => {
            let shown: Vec<String> = items[..SHOWN_MAX].iter().map(Literal::to_string).collect();
            format!("[{}, ... {} more]", shown.join(","), items.len() - SHOWN_MAX)
        }
        other => other.to_string(),
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
        let params = instr.params.iter().map(constant);
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
