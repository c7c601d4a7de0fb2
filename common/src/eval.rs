//! The only interpreter: a tile's steps and the blocks they read → the tile's block.

use std::borrow::Cow;
use std::sync::Arc;

use crate::block::{Block, DType, Kind, Samples};
use crate::grid::Window;
use crate::literal::Literal;
use crate::ops::{
    BlockCall, Cancelled, Facts, Fold, FoldKernel, Kernel, OPERANDS_MAX, Op, PixelKernel, Spread, Strip,
    Values, ValuesMut,
};
use crate::plan::exit::Guard;
use crate::plan::{
    Input, Instr, NodeId, NodeKind, Operand, Program, Read, Root, Step, TilePlan, Work, stream,
};

/// What the interpreter asks of the world around it.
pub trait Surroundings {
    /// Why pixels could not be read.
    type Error;

    /// Pixels of a read on a window: a stack with one image for each scene, or the image of one of them.
    fn read(&mut self, read: &Read, image: Option<u32>, window: &Window) -> Result<Block, Self::Error>;

    /// Called with every read, or every image of one, that was not done because all of it is hidden.
    fn spared(&mut self, _read: &Read, _image: Option<u32>, _window: &Window) {}

    /// Called with every block that is worth remembering.
    fn finished(&mut self, node: NodeId, block: &Block);

    /// Whether nobody waits for the result any more; asked between steps.
    fn is_cancelled(&self) -> bool;
}

/// Why a tile has no block.
#[derive(Clone, Debug, PartialEq)]
pub enum EvalError<E> {
    /// Pixels could not be read.
    Read(E),
    /// Nobody waits for it any more.
    Cancelled,
}

/// Evaluates a tile: a block for each result of the plan, in order. `ready` holds blocks that are there already, by node, on the window that the tile
/// plan gives them; the steps must have been ordered with them ([`TilePlan::with_ready`]).
pub fn eval<S: Surroundings>(
    tile: &TilePlan<'_>,
    ready: Vec<(NodeId, Block)>,
    around: &mut S,
) -> Result<Vec<Block>, EvalError<S::Error>> {
    let plan = tile.plan();
    let hidden = vec![None; tile.guards().len()];
    let mut run = Run { tile, around, blocks: vec![None; plan.nodes().len()], hidden };
    for (id, block) in ready {
        run.blocks[id.index()] = Some(block);
    }
    for step in tile.steps() {
        match &step.work {
            Work::Node(id) => {
                let block = run.node(*id, None)?;
                run.keep(*id, block);
            }
            Work::Images { count, steps } => run.images(*count, steps)?,
        }
        run.drop_all(&step.drops);
    }
    let (roots, mut blocks) = (plan.roots(), run.blocks);
    let result = |(at, root): (usize, &Root)| {
        let slot = &mut blocks[root.node.index()];
        // One node may be the result under several names.
        let is_last = roots[at + 1..].iter().all(|later| later.node != root.node);
        let block = if is_last { slot.take() } else { slot.clone() };
        let block = block.expect("every result has its step and is never dropped");
        block.crop(&tile.node_window(root.node), &tile.window())
    };
    Ok(roots.iter().enumerate().map(result).collect())
}

/// A tile under way.
struct Run<'a, 'p, S> {
    tile: &'a TilePlan<'p>,
    around: &'a mut S,
    /// What is there, by node; inside a loop, of its nodes the image at hand.
    blocks: Vec<Option<Block>>,
    /// What the masks of the tile hide, as far as it is known, and for which image.
    hidden: Vec<Option<(Option<u32>, Vec<bool>)>>,
}

/// The image at hand of a loop.
#[derive(Clone, Copy)]
struct Turn {
    /// Which.
    image: u32,
    /// Of how many.
    of: u32,
}

impl<S: Surroundings> Run<'_, '_, S> {
    /// A finished block.
    fn keep(&mut self, id: NodeId, block: Block) {
        if self.tile.plan().node(id).cached {
            self.around.finished(id, &block);
        }
        self.blocks[id.index()] = Some(block);
    }

    fn drop_all(&mut self, ids: &[NodeId]) {
        ids.iter().for_each(|id| self.blocks[id.index()] = None);
    }

    /// A loop: of each image all steps, which the folds among them take.
    fn images(&mut self, of: u32, steps: &[Step]) -> Result<(), EvalError<S::Error>> {
        let plan = self.tile.plan();
        let steps: Vec<(NodeId, &[NodeId])> =
            steps.iter().flat_map(|step| step.nodes().into_iter().map(|id| (id, &step.drops[..]))).collect();
        let start = |(id, _): &(NodeId, &[NodeId])| {
            let node = plan.node(*id);
            let NodeKind::Call { params, .. } = &node.kind else { return None };
            let input = plan.node(*node.inputs().first()?).facts.dtype;
            let len = node.facts.kind.planes() * node.pixels(&self.tile.node_window(*id));
            Some((stream::fold(plan, node)?.start)(params, input, len))
        };
        let mut folds: Vec<Option<Box<dyn Fold>>> = steps.iter().map(start).collect();
        for image in 0..of {
            let turn = Turn { image, of };
            for ((id, drops), fold) in steps.iter().zip(&mut folds) {
                match fold {
                    Some(fold) => {
                        if let Some(input) = plan.node(*id).inputs().first() {
                            let block = self.input(*input, &self.tile.input_window(*id), Some(turn));
                            fold.add(values(block.samples(), 0..block.samples().len()), block.valid());
                        }
                    }
                    None => self.blocks[id.index()] = Some(self.node(*id, Some(turn))?),
                }
                self.drop_all(drops);
            }
        }
        for ((id, _), fold) in steps.into_iter().zip(folds) {
            if let Some(fold) = fold {
                let window = self.tile.node_window(id);
                let (samples, valid) = fold.finish();
                let kind = plan.node(id).facts.kind;
                self.keep(id, Block::new(kind, (window.rows, window.cols), samples, valid));
            }
        }
        Ok(())
    }

    /// The inputs of a node, each once, on the window that it needs them on; in a loop, of stacks the image
    /// at hand. They may be there on a larger window, for others, or end before it does: beyond its domain
    /// a node has no pixel.
    fn inputs(&self, id: NodeId, turn: Option<Turn>) -> Inputs<'_> {
        let wanted = self.tile.input_window(id);
        let mut inputs = self.tile.plan().node(id).inputs();
        inputs.sort_unstable();
        inputs.dedup();
        Inputs(inputs.into_iter().map(|input| (input, self.input(input, &wanted, turn))).collect())
    }

    fn input(&self, id: NodeId, wanted: &Window, turn: Option<Turn>) -> Cow<'_, Block> {
        let block = block_of(&self.blocks, id);
        let block = match turn {
            // A stack from outside the loop; those inside have one image.
            Some(turn) if turn.of > 1 && block.kind().images() == Some(turn.of) => {
                Cow::Owned(block.image(turn.image))
            }
            _ => Cow::Borrowed(block),
        };
        let there = self.tile.node_window(id);
        let is_same = there == *wanted || !block.kind().is_raster();
        if is_same { block } else { Cow::Owned(block.on(&there, wanted)) }
    }

    /// Whether the images of a read are hidden by a mask: of all images, or of the one at hand.
    fn is_hidden(&mut self, id: NodeId, turn: Option<Turn>) -> Vec<bool> {
        let tile = self.tile;
        let images = match turn {
            Some(_) => 1,
            None => tile.plan().node(id).facts.kind.images().unwrap_or(1) as usize,
        };
        let mut hidden = vec![false; images];
        for (at, guard) in tile.guards().iter().enumerate() {
            let Some((_, by_image)) = guard.reads.iter().find(|(read, _)| *read == id) else { continue };
            // In another loop, or before one, the mask may not be there yet.
            if guard.mask.inputs.iter().any(|input| self.blocks[input.index()].is_none()) {
                continue;
            }
            let turn = turn.filter(|_| tile.in_one_loop(id, guard.node));
            let image = turn.map(|turn| turn.image);
            if self.hidden[at].as_ref().is_none_or(|(of, _)| *of != image) {
                self.hidden[at] = Some((image, self.hides(guard, turn)));
            }
            let Some((_, masks)) = &self.hidden[at] else { continue };
            if *by_image && masks.len() == images {
                hidden.iter_mut().zip(masks).for_each(|(hidden, mask)| *hidden |= mask);
            } else if masks.iter().all(|mask| *mask) {
                hidden.fill(true);
            }
        }
        hidden
    }

    /// Whether a mask hides everything, for each of its images.
    fn hides(&self, guard: &Guard, turn: Option<Turn>) -> Vec<bool> {
        let window = self.tile.node_window(guard.node);
        let inputs: Vec<Cow<'_, Block>> =
            guard.mask.inputs.iter().map(|id| self.input(*id, &window, turn)).collect();
        let inputs: Vec<&Block> = inputs.iter().map(Cow::as_ref).collect();
        let facts = if turn.is_some() { stream::one_image(guard.facts) } else { guard.facts };
        let computed;
        let mask = match inputs[..] {
            [mask] if guard.mask.instrs.is_empty() => mask,
            _ => {
                computed = run(&guard.mask, &inputs, facts, (window.rows, window.cols));
                &computed
            }
        };
        let Samples::Bool(values) = mask.samples() else { return vec![false] };
        let images = mask.kind().images().unwrap_or(1) as usize;
        let len = values.len() / images.max(1);
        let is_hiding = |at: usize| {
            let range = at * len..(at + 1) * len;
            let mut pixels = values[range.clone()].iter().zip(&mask.valid()[range]);
            pixels.all(|(hides, valid)| *hides != 0 || *valid == 0)
        };
        (0..images).map(is_hiding).collect()
    }

    /// Pixels of a read, but for what is hidden.
    fn read(&mut self, id: NodeId, read: &Read, turn: Option<Turn>) -> Result<Block, EvalError<S::Error>> {
        let (node, window) = (self.tile.plan().node(id), self.tile.node_window(id));
        let (image, shape) = (turn.map(|turn| turn.image), (window.rows, window.cols));
        let facts = if turn.is_some() { stream::one_image(node.facts) } else { node.facts };
        let hidden = self.is_hidden(id, turn);
        if !hidden.contains(&true) {
            return self.around.read(read, image, &window).map_err(EvalError::Read);
        }
        if !hidden.contains(&false) {
            self.around.spared(read, image, &window);
            return Ok(Block::invalid(facts.kind, facts.dtype, shape));
        }
        let len = facts.kind.bands().unwrap_or(0) as usize * window.pixels();
        let (mut samples, mut valid) = (vec![0.0; hidden.len() * len], vec![0; hidden.len() * len]);
        for (at, is_hidden) in hidden.into_iter().enumerate() {
            let (image, range) = (Some(at as u32), at * len..(at + 1) * len);
            if is_hidden {
                self.around.spared(read, image, &window);
                continue;
            }
            let (one, one_valid) =
                self.around.read(read, image, &window).map_err(EvalError::Read)?.into_parts();
            if let Samples::F32(one) = one {
                samples[range.clone()].copy_from_slice(&one);
            }
            valid[range].copy_from_slice(&one_valid);
        }
        Ok(Block::new(facts.kind, shape, Samples::F32(samples), valid))
    }

    /// A node on its window; in a loop, of the image at hand.
    fn node(&mut self, id: NodeId, turn: Option<Turn>) -> Result<Block, EvalError<S::Error>> {
        if self.around.is_cancelled() {
            return Err(EvalError::Cancelled);
        }
        let node = self.tile.plan().node(id);
        let window = self.tile.node_window(id);
        let facts = if turn.is_some() { stream::one_image(node.facts) } else { node.facts };
        let shape = match facts.kind {
            Kind::Array(_) => (1, 1),
            Kind::Number | Kind::Mosaic { .. } | Kind::Stack { .. } => (window.rows, window.cols),
        };
        Ok(match &node.kind {
            NodeKind::Read(read) => self.read(id, read, turn)?,
            NodeKind::Outline(outline) => {
                let outside = outline.outside(&window);
                let valid = vec![1; outside.len()];
                Block::new(facts.kind, shape, Samples::Bool(outside), valid)
            }
            NodeKind::Constant(array) => Block::clone(array),
            NodeKind::Spread { input, spread, place } => {
                let image = turn.map(|turn| turn.image);
                lay_out(block_of(&self.blocks, *input), spread, place.as_ref(), &window, image)
            }
            NodeKind::Call { op, params, inputs } => {
                let windows = (window, self.tile.input_window(id));
                let blocks = self.inputs(id, turn);
                let operands = inputs.iter().map(|input| match input {
                    Input::Node(id) => Operands::Block(blocks.of(*id)),
                    Input::Number(literal) => Operands::Number(literal),
                });
                let around = &*self.around;
                let is_cancelled = || around.is_cancelled();
                let cancelled = Cancelled::by(&is_cancelled);
                let operands: Vec<_> = operands.collect();
                let block = call(*op, params, &operands, facts, (shape, windows, cancelled));
                if cancelled.now() {
                    return Err(EvalError::Cancelled);
                }
                block
            }
            NodeKind::Program(program) => {
                let blocks = self.inputs(id, turn);
                let inputs: Vec<&Block> = program.inputs.iter().map(|id| blocks.of(*id)).collect();
                run(program, &inputs, facts, shape)
            }
        })
    }
}

/// The inputs of a node.
struct Inputs<'b>(Vec<(NodeId, Cow<'b, Block>)>);

impl Inputs<'_> {
    fn of(&self, id: NodeId) -> &Block {
        let block = self.0.iter().find(|(input, _)| *input == id).map(|(_, block)| block.as_ref());
        block.expect("every input of the node is there")
    }
}

/// The value of an array node whose inputs are known, in order; `None` for nodes that need pixels.
pub(crate) fn array(kind: &NodeKind, inputs: &[Arc<Block>]) -> Option<Block> {
    let nowhere = Window { row: 0, col: 0, rows: 1, cols: 1 };
    match kind {
        NodeKind::Spread { spread, .. } => Some(lay_out(inputs.first()?, spread, None, &nowhere, None)),
        NodeKind::Call { op, params, inputs: sources } => {
            let mut blocks = inputs.iter();
            let operands = sources.iter().map(|source| match source {
                Input::Number(literal) => Some(Operands::Number(literal)),
                Input::Node(_) => blocks.next().map(|block| Operands::Block(block)),
            });
            let operands = operands.collect::<Option<Vec<_>>>()?;
            let facts: Vec<Facts> = operands.iter().map(facts_of).collect();
            let facts = op.infer(params, &facts).ok()?;
            Some(call(*op, params, &operands, facts, ((1, 1), (nowhere, nowhere), Cancelled::by(&|| false))))
        }
        NodeKind::Program(program) => {
            let inputs: Vec<&Block> = inputs.iter().map(Arc::as_ref).collect();
            // All of its ops have one kind, which is that of any input that is laid out.
            let kind = inputs.first()?.kind();
            let dtype = prepare(program, &inputs).last()?.kernel.result();
            Some(run(program, &inputs, Facts { kind, dtype }, (1, 1)))
        }
        NodeKind::Read(_) | NodeKind::Outline(_) | NodeKind::Constant(_) => None,
    }
}

/// An array along the axes of the raster, or of the larger array, that it meets. Where its rows and
/// columns have places, nothing is valid elsewhere. `image`: the only one of a stack that is wanted.
fn lay_out(
    array: &Block,
    spread: &Spread,
    place: Option<&Window>,
    window: &Window,
    image: Option<u32>,
) -> Block {
    let shape = if spread.kind.is_raster() { (window.rows, window.cols) } else { (1, 1) };
    // Lengths along image, band, row, col; an array has its last four axes instead.
    let (images, bands, rows, cols) = match spread.kind {
        Kind::Array(shape) => {
            let mut axes = [1; 4];
            axes[4 - shape.axes().len()..].copy_from_slice(shape.axes());
            (axes[0], axes[1], axes[2], axes[3])
        }
        kind => (kind.images().unwrap_or(1), kind.bands().unwrap_or(0), shape.0, shape.1),
    };
    let (kind, images) = match (spread.kind, image) {
        (Kind::Stack { .. }, Some(at)) => (Kind::Stack { images: 1, bands }, at..at + 1),
        (kind, _) => (kind, 0..images),
    };
    let dims = spread.dims.map(|dim| dim as usize);
    let (top, left) = match place {
        Some(place) => (window.row - place.row, window.col - place.col),
        None => (0, 0),
    };
    // Index along an axis; beyond the places of the array there is none.
    let index = |at: i64, dim: usize| match usize::try_from(at) {
        _ if dim == 1 => Some(0),
        Ok(at) if at < dim => Some(at),
        _ => None,
    };
    let places = (i64::from(images.start)..i64::from(images.end)).flat_map(|image| {
        (0..i64::from(bands)).flat_map(move |band| {
            (0..i64::from(rows))
                .flat_map(move |row| (0..i64::from(cols)).map(move |col| (image, band, row, col)))
        })
    });
    let source = |(image, band, row, col): (i64, i64, i64, i64)| {
        let (row, col) = (index(row + top, dims[2])?, index(col + left, dims[3])?);
        Some(((index(image, dims[0])? * dims[1] + index(band, dims[1])?) * dims[2] + row) * dims[3] + col)
    };
    let mut sources: Vec<Option<usize>> =
        Vec::with_capacity(kind.planes() * shape.0 as usize * shape.1 as usize);
    sources.extend(places.map(source));
    let valid = sources.iter().map(|at| at.map_or(0, |at| array.valid()[at])).collect();
    let samples = match array.samples() {
        Samples::F32(values) => {
            Samples::F32(sources.iter().map(|at| at.map_or(0.0, |at| values[at])).collect())
        }
        Samples::Bool(values) => {
            Samples::Bool(sources.iter().map(|at| at.map_or(0, |at| values[at])).collect())
        }
    };
    Block::new(kind, shape, samples, valid)
}

fn block_of(blocks: &[Option<Block>], id: NodeId) -> &Block {
    blocks[id.index()].as_ref().expect("steps are ordered after their inputs and drop nothing early")
}

enum Operands<'a> {
    Block(&'a Block),
    Number(&'a Literal),
}

fn call(
    op: &'static dyn Op,
    params: &[Literal],
    inputs: &[Operands<'_>],
    facts: Facts,
    (shape, (window, input_window), cancelled): ((u32, u32), (Window, Window), Cancelled<'_>),
) -> Block {
    let input_facts: Vec<Facts> = inputs.iter().map(facts_of).collect();
    match op.kernel(params, &input_facts) {
        Kernel::Block(kernel) | Kernel::PerBand(kernel) => {
            let inputs: Vec<&Block> = inputs
                .iter()
                .filter_map(|input| match input {
                    Operands::Block(block) => Some(*block),
                    Operands::Number(_) => None,
                })
                .collect();
            kernel(&BlockCall { cancelled, window, input_window, params, inputs: &inputs, facts })
        }
        Kernel::Fold(kernel) => match inputs {
            [Operands::Block(stack)] => fold(kernel, params, stack, facts),
            _ => unreachable!("type rules let a fold have one stack"),
        },
        // A single value-by-value op is a program of one.
        Kernel::Pixel(_) => {
            let mut blocks = Vec::new();
            let operands = inputs
                .iter()
                .map(|input| match input {
                    Operands::Number(literal) => Operand::Number((*literal).clone()),
                    Operands::Block(block) => {
                        blocks.push(*block);
                        Operand::Input(blocks.len() - 1)
                    }
                })
                .collect();
            let program =
                Program { inputs: Vec::new(), instrs: vec![Instr { op, params: params.to_vec(), operands }] };
            run(&program, &blocks, facts, shape)
        }
        Kernel::Pixels(_) => unreachable!("`{}` over pixels is a stage of its own", op.name()),
        Kernel::Bind => unreachable!("`{}` has no kernel; plans do not hold it", op.name()),
    }
}

/// A reduction of a stack that is there as a whole.
fn fold(kernel: FoldKernel, params: &[Literal], stack: &Block, facts: Facts) -> Block {
    let len = facts.kind.planes() * stack.pixels();
    let mut fold = (kernel.start)(params, stack.samples().dtype(), len);
    for image in 0..stack.kind().images().unwrap_or(0) as usize {
        let range = image * len..(image + 1) * len;
        fold.add(values(stack.samples(), range.clone()), &stack.valid()[range]);
    }
    let (samples, valid) = fold.finish();
    Block::new(facts.kind, stack.shape(), samples, valid)
}

fn values(samples: &Samples, range: std::ops::Range<usize>) -> Values<'_> {
    match samples {
        Samples::F32(values) => Values::F32(&values[range]),
        Samples::Bool(values) => Values::Bool(&values[range]),
    }
}

fn facts_of(operand: &Operands<'_>) -> Facts {
    match operand {
        Operands::Block(block) => Facts { kind: block.kind(), dtype: block.samples().dtype() },
        Operands::Number(literal) => number_facts(literal),
    }
}

fn number_facts(literal: &Literal) -> Facts {
    Facts::number(literal).expect("type rules let only numbers through")
}

/// Values of a strip. Small enough that a program's strips stay in the first-level cache.
pub(crate) const STRIP: usize = 1024;

/// The validity of a strip that is valid everywhere.
const ALL_VALID: [u8; STRIP] = [1; STRIP];

/// Values of one strip.
#[derive(Clone)]
enum Lane {
    F32(Vec<f32>),
    Bool(Vec<u8>),
}

impl Lane {
    fn new(dtype: DType) -> Lane {
        match dtype {
            DType::F32 => Lane::F32(vec![0.0; STRIP]),
            DType::Bool => Lane::Bool(vec![0; STRIP]),
        }
    }

    fn values(&self, width: usize) -> Values<'_> {
        match self {
            Lane::F32(values) => Values::F32(&values[..width]),
            Lane::Bool(values) => Values::Bool(&values[..width]),
        }
    }
}

impl<'a> Values<'a> {
    /// As numbers; truth values are converted into `scratch`.
    pub(crate) fn floats(self, scratch: &'a mut [f32]) -> &'a [f32] {
        match self {
            Values::F32(values) => values,
            Values::Bool(values) => {
                let scratch = &mut scratch[..values.len()];
                scratch.iter_mut().zip(values).for_each(|(out, value)| *out = f32::from(*value));
                scratch
            }
        }
    }

    pub(crate) fn bools(self) -> &'a [u8] {
        match self {
            Values::Bool(values) => values,
            Values::F32(_) => unreachable!("type rules keep numbers away from logic"),
        }
    }
}

/// A program's instruction with its kernel chosen and its constants spread out.
struct Prepared<'a> {
    kernel: PixelKernel,
    constants: Vec<f64>,
    operands: Vec<Source<'a>>,
}

enum Source<'a> {
    Input(&'a Block),
    Instr(usize),
    Number(Lane),
}

fn prepare<'a>(program: &'a Program, inputs: &[&'a Block]) -> Vec<Prepared<'a>> {
    let mut types: Vec<DType> = Vec::with_capacity(program.instrs.len());
    let mut prepared = Vec::with_capacity(program.instrs.len());
    for instr in &program.instrs {
        let facts: Vec<Facts> = instr
            .operands
            .iter()
            .map(|operand| match operand {
                Operand::Input(at) => facts_of(&Operands::Block(inputs[*at])),
                // Kernels are chosen by type alone.
                Operand::Instr(at) => Facts { kind: Kind::Number, dtype: types[*at] },
                Operand::Number(literal) => number_facts(literal),
            })
            .collect();
        let Kernel::Pixel(kernel) = instr.op.kernel(&instr.params, &facts) else {
            unreachable!("`{}` does not work value by value; programs do not hold it", instr.op.name())
        };
        let operands = instr
            .operands
            .iter()
            .map(|operand| match operand {
                Operand::Input(at) => Source::Input(inputs[*at]),
                Operand::Instr(at) => Source::Instr(*at),
                Operand::Number(literal) => Source::Number(spread(literal)),
            })
            .collect();
        types.push(kernel.result());
        let mut constants = Vec::new();
        instr.params.iter().for_each(|param| param.numbers(&mut constants));
        prepared.push(Prepared { kernel, constants, operands });
    }
    prepared
}

/// A constant as a strip. Numbers meet pixels in single precision.
fn spread(literal: &Literal) -> Lane {
    match literal {
        Literal::Bool(value) => Lane::Bool(vec![u8::from(*value); STRIP]),
        number => Lane::F32(vec![number.as_f64().unwrap_or(f64::NAN) as f32; STRIP]),
    }
}

/// Runs a program over the planes of its result, strip by strip. An input with one band, or one image,
/// serves for all.
fn run(program: &Program, inputs: &[&Block], facts: Facts, shape: (u32, u32)) -> Block {
    let pixels = shape.0 as usize * shape.1 as usize;
    let len = facts.kind.planes() * pixels;
    let prepared = prepare(program, inputs);
    let mut samples = Samples::zeros(facts.dtype, len);
    let mut valid = vec![0u8; len];
    let mut lanes: Vec<(Lane, Vec<u8>)> =
        prepared.iter().map(|instr| (Lane::new(instr.kernel.result()), vec![0; STRIP])).collect();
    let mut scratch: [Vec<f32>; OPERANDS_MAX] = std::array::from_fn(|_| vec![0.0; STRIP]);
    // The values of an array are planes of one pixel, alike in all operands.
    let bands = facts.kind.bands().map_or(len, |bands| bands as usize);
    for plane in 0..facts.kind.planes() {
        let (image, band) = (plane / bands, plane % bands);
        for start in (0..pixels).step_by(STRIP) {
            let width = STRIP.min(pixels - start);
            for (at, instr) in prepared.iter().enumerate() {
                let (done, rest) = lanes.split_at_mut(at);
                let (out, out_valid) = &mut rest[0];
                let out_valid = &mut out_valid[..width];
                out_valid.fill(1);
                let (values, valid) =
                    ([Values::Bool(&[]); OPERANDS_MAX], [&ALL_VALID[..width]; OPERANDS_MAX]);
                let mut strip = Strip { values, valid, constants: &instr.constants };
                for (at, source) in instr.operands.iter().enumerate() {
                    let (values, ok) = fetch(source, done, (image, band), start..start + width, pixels);
                    if let Some(ok) = ok {
                        out_valid.iter_mut().zip(ok).for_each(|(out, ok)| *out &= ok);
                        strip.valid[at] = ok;
                    }
                    strip.values[at] = values;
                }
                let out = match out {
                    Lane::F32(out) => ValuesMut::F32(&mut out[..width]),
                    Lane::Bool(out) => ValuesMut::Bool(&mut out[..width]),
                };
                apply(instr.kernel, strip, out, out_valid, &mut scratch);
            }
            let Some((lane, ok)) = lanes.last() else { continue };
            let range = plane * pixels + start..plane * pixels + start + width;
            valid[range.clone()].copy_from_slice(&ok[..width]);
            match (&mut samples, lane) {
                (Samples::F32(out), Lane::F32(values)) => out[range].copy_from_slice(&values[..width]),
                (Samples::Bool(out), Lane::Bool(values)) => out[range].copy_from_slice(&values[..width]),
                _ => unreachable!("the last instruction has the type of the result"),
            }
        }
    }
    Block::new(facts.kind, shape, samples, valid)
}

/// An operand's values on a strip, and their validity unless all are valid.
fn fetch<'a>(
    source: &'a Source<'_>,
    done: &'a [(Lane, Vec<u8>)],
    (image, band): (usize, usize),
    strip: std::ops::Range<usize>,
    pixels: usize,
) -> (Values<'a>, Option<&'a [u8]>) {
    let width = strip.len();
    match source {
        Source::Number(values) => (values.values(width), None),
        Source::Instr(at) => (done[*at].0.values(width), Some(&done[*at].1[..width])),
        Source::Input(block) => {
            let kind = block.kind();
            let bands = kind.bands().unwrap_or(kind.planes() as u32) as usize;
            let image = if kind.images().is_none_or(|images| images == 1) { 0 } else { image };
            let band = if bands == 1 { 0 } else { band };
            let from = (image * bands + band) * pixels;
            let range = from + strip.start..from + strip.end;
            let values = match block.samples() {
                Samples::F32(values) => Values::F32(&values[range.clone()]),
                Samples::Bool(values) => Values::Bool(&values[range.clone()]),
            };
            (values, Some(&block.valid()[range]))
        }
    }
}

fn apply(
    kernel: PixelKernel,
    strip: Strip<'_>,
    out: ValuesMut<'_>,
    valid: &mut [u8],
    scratch: &mut [Vec<f32>; OPERANDS_MAX],
) {
    let [a, b, _] = strip.values;
    let [scratch_a, scratch_b, _] = scratch;
    match (kernel, out) {
        (PixelKernel::Float1(f), ValuesMut::F32(out)) => f(a.floats(scratch_a), out, valid),
        (PixelKernel::Float2(f), ValuesMut::F32(out)) => {
            f(a.floats(scratch_a), b.floats(scratch_b), out, valid);
        }
        (PixelKernel::Compare(f), ValuesMut::Bool(out)) => {
            f(a.floats(scratch_a), b.floats(scratch_b), out);
        }
        (PixelKernel::Bool1(f), ValuesMut::Bool(out)) => f(a.bools(), out),
        (PixelKernel::Bool2(f), ValuesMut::Bool(out)) => f(a.bools(), b.bools(), out),
        (PixelKernel::Select(kernel), out) => {
            let mut strip = strip;
            for ((values, dtype), scratch) in strip.values.iter_mut().zip(kernel.operands).zip(scratch) {
                if *dtype == DType::F32 {
                    *values = Values::F32(values.floats(scratch));
                }
            }
            (kernel.run)(&strip, out, valid);
        }
        _ => unreachable!("a lane has the type of its kernel's result"),
    }
}
