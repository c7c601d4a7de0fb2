//! Expression + grid + scenes → plan. Scene ops vanish here; every node gets its facts.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::thin;
use super::{BindError, Builder, Input, Named, NodeId, NodeKind, Plan, Read, ReadScene, Root};
use crate::aoi::Outline;
use crate::block::{Block, Kind};
use crate::error::GraftPath;
use crate::expr::{Expr, ExprId, ExprNode};
use crate::grid::{Grid, Window};
use crate::limits::PROPERTY_STEPS_MAX;
use crate::literal::Literal;
use crate::ops::bands::PickBands;
use crate::ops::images::{FilterData, PickImages, Reduced};
use crate::ops::object::Object;
use crate::ops::property::Function;
use crate::ops::{self, Arg, BindCx, Bound, BoundInput, Kernel, Op as _, Origin, Props, SceneSet, TypeError};
use crate::scene::{AssetGrid, Layout, Resampler, Scene};

/// A plan before its passes, or a constant.
pub(super) enum Result {
    Value(Literal, Props),
    Raster(Plan, Props),
    Several(Option<Plan>, Vec<(String, Named)>),
}

/// Results of one graft: each is held in memory while its tile is computed.
const RESULTS_MAX: usize = 64;

/// Value of an expression's node.
enum Value {
    Literal(Literal, Props),
    Scenes(SceneSet),
    /// Pixels, or an array.
    Raster(NodeId, Props),
    /// A function of an image's properties.
    Function(Function),
    /// It has no value of its own: it is part of a function.
    Inside,
    /// It has none, which matters only where it is needed.
    Failed(BindError),
}

pub(super) fn bind(
    expr: &Expr,
    cx: &BindCx<'_>,
    outline: Option<Outline>,
    overviews: bool,
) -> std::result::Result<Result, BindError> {
    let mut builder = Builder::default();
    let outline = outline.map(Arc::new);
    let mut values: Vec<Value> = Vec::with_capacity(expr.nodes().len());
    let inside = expr.inside_functions();
    let mut steps = Steps::default();
    // A reducer that is a function is not looked at where the stack is empty.
    let may_fail = expr
        .nodes()
        .iter()
        .any(|node| matches!(node, ExprNode::Call { op, .. } if op.name() == Reduced.name()));
    for (id, node) in expr.iter() {
        if let Some(names) = several(expr, id) {
            return results(builder, (expr, cx, outline.as_ref()), &names, &values);
        }
        let value = match node {
            ExprNode::Literal(literal) => Value::Literal(literal.clone(), Props::none()),
            _ if inside[id.index()] => Value::Inside,
            ExprNode::Param(_) => Value::Inside,
            ExprNode::Open(name) => return Err(BindError::Open { at: expr.path(id), name: name.clone() }),
            ExprNode::Function { .. } => match function(expr, id, (&inside, &values), &mut steps) {
                Ok(function) => Value::Function(function),
                Err(error) if may_fail => Value::Failed(error),
                Err(error) => return Err(error),
            },
            ExprNode::Call { op, args } => {
                let args: Vec<&Value> = args.iter().map(|arg| &values[arg.index()]).collect();
                steps.count(questions(&builder, *op, &args)).map_err(|error| {
                    let at = expr.path(id);
                    BindError::Type { at, op: op.name(), error }
                })?;
                match call(&mut builder, cx, *op, &args, (expr.path(id), overviews, outline.as_ref())) {
                    Ok(value) => value,
                    Err(error) if may_fail => Value::Failed(error),
                    Err(error) => return Err(error),
                }
            }
        };
        values.push(value);
    }
    let root = expr.root();
    let no_raster = |is| Err(BindError::NoRaster { at: expr.path(root), is });
    match values.swap_remove(root.index()) {
        Value::Literal(literal, props) if is_result(&literal) => Ok(Result::Value(literal, props)),
        Value::Literal(literal, _) => no_raster(literal.kind_name()),
        Value::Scenes(_) => no_raster("a selection of scenes, not read yet"),
        Value::Function(_) | Value::Inside => no_raster("a function"),
        Value::Failed(error) => Err(error),
        Value::Raster(root, props) => {
            let props = props.with_origin(origin(&builder, root));
            let node = hide_outside(&mut builder, outline.as_ref(), root)?;
            let roots = vec![Root::new("", node)];
            Ok(Result::Raster(builder.finish(cx.grid.clone(), roots), props))
        }
    }
}

/// Whether a constant can be a result: numbers and lists can.
fn is_result(literal: &Literal) -> bool {
    matches!(literal, Literal::List(_)) || ops::Facts::number(literal).is_some()
}

/// The bands whose values a node has, where nothing but picking and hiding lies between it and a read of
/// one product.
fn origin(builder: &Builder, node: NodeId) -> Option<Origin> {
    let mut at = node;
    // Positions in the bands of the node that is looked at; none: all of them.
    let mut picked: Option<Vec<u32>> = None;
    loop {
        match &builder.node(at).kind {
            NodeKind::Read(read) => {
                let is_one = read.scenes.iter().all(|scene| scene.product == read.product);
                let bands = match picked {
                    None => read.bands.clone(),
                    Some(positions) => positions.iter().map(|p| read.bands[*p as usize].clone()).collect(),
                };
                return is_one.then(|| Origin { product: read.product.clone(), bands });
            }
            NodeKind::Call { op, params, inputs } if op.keeps_values() => {
                let Some(Input::Node(input)) = inputs.first() else { return None };
                if let Some(positions) =
                    PickBands::positions(params).filter(|_| op.name() == PickBands.name())
                {
                    picked = Some(match picked {
                        None => positions,
                        Some(outer) => outer.iter().map(|p| positions[*p as usize]).collect(),
                    });
                }
                // What joins bands has none of their values as its own.
                let bands = |id: NodeId| builder.node(id).facts.kind.bands();
                if op.name() != PickBands.name() && bands(at) != bands(*input) {
                    return None;
                }
                at = *input;
            }
            NodeKind::Call { .. }
            | NodeKind::Outline(_)
            | NodeKind::Constant(_)
            | NodeKind::Spread { .. }
            | NodeKind::Program(_) => return None,
        }
    }
}

/// The names of an expression's results, where its root is an object of them.
fn several(expr: &Expr, id: ExprId) -> Option<Vec<(String, ExprId)>> {
    match &expr.nodes()[id.index()] {
        ExprNode::Call { op, args } if id == expr.root() && op.name() == Object.name() => {
            let ExprNode::Literal(names) = &expr.nodes()[args.first()?.index()] else { return None };
            Some(Object::names(names).into_iter().zip(args[1..].iter().copied()).collect())
        }
        _ => None,
    }
}

fn results(
    mut builder: Builder,
    (expr, cx, outline): (&Expr, &BindCx<'_>, Option<&Arc<Outline>>),
    names: &[(String, ExprId)],
    values: &[Value],
) -> std::result::Result<Result, BindError> {
    let wrong = |expected: String, value: String| BindError::Type {
        at: expr.path(expr.root()),
        op: Object.name(),
        error: TypeError::Value { name: "results", expected, value },
    };
    if names.is_empty() || names.len() > RESULTS_MAX {
        return Err(wrong(format!("1 to {RESULTS_MAX} results by name"), names.len().to_string()));
    }
    let (mut results, mut roots) = (Vec::with_capacity(names.len()), Vec::new());
    for (name, id) in names {
        if name.is_empty() {
            return Err(wrong("names that are not empty".into(), name.clone()));
        }
        let no_raster = |is| BindError::NoRaster { at: expr.path(*id), is };
        let result = match &values[id.index()] {
            Value::Literal(literal, props) if is_result(literal) => {
                Named::Value(literal.clone(), props.clone())
            }
            Value::Literal(literal, _) => return Err(no_raster(literal.kind_name())),
            Value::Scenes(_) => return Err(no_raster("a selection of scenes, not read yet")),
            Value::Function(_) | Value::Inside => return Err(no_raster("a function")),
            Value::Failed(error) => return Err(error.clone()),
            Value::Raster(root, props) => {
                let props = props.clone().with_origin(origin(&builder, *root));
                let node = hide_outside(&mut builder, outline, *root)?;
                roots.push(Root::new(name, node));
                match builder.node(node).facts {
                    // Its values are filled in as soon as they are known.
                    ops::Facts { kind: kind @ Kind::Array(_), dtype } => {
                        Named::Array(Block::invalid(kind, dtype, (1, 1)), props)
                    }
                    _ => Named::Raster(props),
                }
            }
        };
        results.push((name.clone(), result));
    }
    let plan = (!roots.is_empty()).then(|| builder.finish(cx.grid.clone(), roots));
    Ok(Result::Several(plan, results))
}

/// A result, hidden outside the AOI's outline; arrays have no pixels to hide.
fn hide_outside(
    builder: &mut Builder,
    outline: Option<&Arc<Outline>>,
    root: NodeId,
) -> std::result::Result<NodeId, BindError> {
    let Some(outline) = outline.filter(|_| builder.node(root).facts.kind.is_raster()) else {
        return Ok(root);
    };
    let typed = |error| BindError::Type { at: GraftPath::root(), op: "mask", error };
    let outside = builder.add(NodeKind::Outline(outline.clone()), None).map_err(typed)?;
    let inputs = vec![Input::Node(root), Input::Node(outside)];
    let hide = NodeKind::Call { op: &ops::mask::Mask, params: vec![], inputs };
    builder.add(hide, None).map_err(typed)
}

fn call(
    builder: &mut Builder,
    cx: &BindCx<'_>,
    op: &'static dyn ops::Op,
    args: &[&Value],
    (at, overviews, outline): (GraftPath, bool, Option<&Arc<Outline>>),
) -> std::result::Result<Value, BindError> {
    let typed = |error: TypeError| BindError::Type { at: at.clone(), op: op.name(), error };
    let seen: Vec<Arg<'_>> = args
        .iter()
        .map(|value| match value {
            Value::Literal(literal, _) => Arg::Literal(literal),
            Value::Scenes(scenes) => Arg::Scenes(scenes),
            Value::Raster(id, props) => Arg::Raster(builder.node(*id).facts, props),
            Value::Function(function) => Arg::Function(function),
            Value::Inside | Value::Failed(_) => Arg::Literal(&Literal::Null),
        })
        .collect();
    let failed = args.iter().find_map(|value| match value {
        Value::Failed(error) => Some(error),
        _ => None,
    });
    if let Some(error) = failed.filter(|_| op.name() != Reduced.name() || Reduced::needs_value(&seen)) {
        return Err(error.clone());
    }
    Ok(match op.bind(cx, &seen).map_err(typed)? {
        Bound::Literal(literal) => Value::Literal(literal, Props::none()),
        Bound::Value { literal, props } => Value::Literal(literal, props),
        Bound::Scenes(scenes) => Value::Scenes(scenes),
        Bound::Array(array) => {
            let array = NodeKind::Constant(Arc::new(array));
            Value::Raster(builder.add(array, None).map_err(typed)?, Props::none())
        }
        Bound::Read { scenes, bands, resampler, layout, pad, props } => {
            let exact = read(cx, &scenes, bands, (resampler, layout, pad));
            let (read, props) = match overviews && is_much_coarser(&exact) {
                true => thinned(cx, exact, props),
                false => (exact, props),
            };
            Value::Raster(builder.add(NodeKind::Read(Arc::new(read)), None).map_err(typed)?, props)
        }
        Bound::Call { params, inputs, props } => {
            let pad = seen.iter().map(Arg::pad).max().unwrap_or(0);
            let domain = cx.grid.window().pad(pad, pad);
            let mut inputs = inputs
                .into_iter()
                .map(|input| self::input(builder, args, input, &domain))
                .collect::<std::result::Result<Vec<_>, _>>()
                .map_err(typed)?;
            // What lies outside the AOI has no part in its numbers.
            if let [Input::Node(id)] = &mut inputs[..]
                && matches!(op.kernel(&params, &[builder.node(*id).facts]), Kernel::Pixels(_))
            {
                *id = hide_outside(builder, outline, *id)?;
            }
            Value::Raster(builder.add(NodeKind::Call { op, params, inputs }, None).map_err(typed)?, props)
        }
        Bound::Images { arg, positions, props } => {
            let inputs = vec![input(builder, args, arg.into(), &cx.grid.window()).map_err(typed)?];
            let pick = NodeKind::Call { op: &PickImages, params: PickImages::params(&positions), inputs };
            Value::Raster(builder.add(pick, None).map_err(typed)?, props)
        }
        Bound::Same { arg, props } => match args[arg] {
            Value::Raster(id, _) => Value::Raster(*id, props),
            Value::Literal(literal, _) => Value::Literal(literal.clone(), props),
            Value::Scenes(scenes) => Value::Scenes(scenes.clone()),
            Value::Function(function) => Value::Function(function.clone()),
            Value::Inside | Value::Failed(_) => Value::Literal(Literal::Null, props),
        },
    })
}

/// Steps on properties of images so far.
#[derive(Default)]
struct Steps(u64);

impl Steps {
    fn count(&mut self, steps: u64) -> std::result::Result<(), TypeError> {
        self.0 = self.0.saturating_add(steps);
        match self.0 > PROPERTY_STEPS_MAX {
            true => Err(TypeError::PropertySteps { steps: self.0, limit: PROPERTY_STEPS_MAX }),
            false => Ok(()),
        }
    }
}

/// Steps that a call takes to ask the images of a stack about their properties.
fn questions(builder: &Builder, op: &'static dyn ops::Op, args: &[&Value]) -> u64 {
    /// Bytes of a condition's text that cost as much as a step.
    const STEP_BYTES: usize = 256;
    let [Value::Raster(stack, _), question, ..] = args else { return 0 };
    let images = u64::from(builder.node(*stack).facts.kind.images().unwrap_or(0));
    let steps = match question {
        Value::Function(function) => function.cost(),
        Value::Literal(Literal::Str(text), _) if op.name() == FilterData.name() => {
            1 + text.len() / STEP_BYTES
        }
        _ => 0,
    };
    images * steps as u64
}

/// A function as the interpreter of properties takes it. What it uses of the graft around it must be
/// constant.
fn function(
    expr: &Expr,
    id: ExprId,
    (inside, values): (&[bool], &[Value]),
    count: &mut Steps,
) -> std::result::Result<Function, BindError> {
    let (own, outer) = expr.body(id, inside);
    count.count((own.len() + outer.len()) as u64).map_err(|error| {
        let at = expr.path(id);
        BindError::Type { at, op: "function", error }
    })?;
    let mut function = Function::default();
    let mut steps = HashMap::new();
    for id in outer {
        let captured = |what| {
            let error = TypeError::Captured { what };
            Err(BindError::Type { at: expr.path(id), op: "function", error })
        };
        let step = match &values[id.index()] {
            Value::Literal(literal, _) => function.constant(literal, expr.path(id)),
            Value::Failed(error) => return Err(error.clone()),
            Value::Raster(..) => return captured("pixels"),
            Value::Scenes(_) => return captured("scenes"),
            Value::Function(_) | Value::Inside => return captured("another function"),
        };
        steps.insert(id, step);
    }
    for id in own {
        let at = expr.path(id);
        let step = match &expr.nodes()[id.index()] {
            ExprNode::Call { op, args } => {
                // Those left out at the end were not given.
                let is_given =
                    |arg: &ExprId| !matches!(expr.nodes()[arg.index()], ExprNode::Literal(Literal::Null));
                let given = args.iter().rposition(is_given).map_or(0, |last| last + 1);
                let args = args[..given].iter().map(|arg| steps[arg]).collect();
                function.call(*op, args, at)
            }
            _ => function.image(at),
        };
        steps.insert(id, step);
    }
    if let [body] = expr.nodes()[id.index()].inputs() {
        function.finish(steps[body]);
    }
    Ok(function)
}

/// An input of a node; an array that meets pixels is laid out on their domain first.
fn input(
    builder: &mut Builder,
    args: &[&Value],
    input: BoundInput,
    domain: &Window,
) -> std::result::Result<Input, TypeError> {
    let (BoundInput::Arg(arg) | BoundInput::Spread(arg, _)) = input;
    let node = match args[arg] {
        Value::Raster(id, _) => *id,
        Value::Literal(literal, _) => return Ok(Input::Number(literal.clone())),
        Value::Scenes(_) | Value::Function(_) | Value::Inside | Value::Failed(_) => {
            return Err(TypeError::Argument { name: "a", expected: "a raster", got: "another value" });
        }
    };
    Ok(Input::Node(match input {
        BoundInput::Arg(_) => node,
        BoundInput::Spread(_, spread) => {
            let place = spread.has_pixels().then_some(*domain);
            builder.add(NodeKind::Spread { input: node, spread, place }, None)?
        }
    }))
}

fn read(
    cx: &BindCx<'_>,
    scenes: &[Scene],
    bands: Vec<String>,
    (resampler, layout, pad): (Resampler, Layout, u32),
) -> Read {
    let domain = cx.grid.pad(pad);
    let products: BTreeSet<&str> = scenes.iter().map(|scene| scene.product.as_str()).collect();
    let product = products.into_iter().collect::<Vec<_>>().join("+");
    let image = |scene: &Scene| {
        let sources = bands.iter().filter_map(|band| scene.bands.get(band)).cloned().collect();
        let (product, id) = (scene.product.clone(), scene.id.clone());
        ReadScene { product, id, bands: sources, reach: reach((&domain, cx), scene, &bands) }
    };
    let images = scenes.iter().map(image).collect();
    Read { product, bands, resampler, overviews: false, layout, pad, scenes: images }
}

/// Whether the grid is so much coarser than any of the files that overviews may have enough pixels for it:
/// where it is not, or hardly, reading the files themselves costs little, and is exact.
fn is_much_coarser(read: &Read) -> bool {
    /// Overviews are halves; those of odd sides have a pixel more or less.
    const HALF: f64 = 0.53;
    read.scenes.iter().any(|scene| {
        let Some(reach) = scene.reach else { return true };
        scene.bands.iter().any(|band| {
            let Some(raster) = &band.asset.raster else { return true };
            let (cols, rows) = (f64::from(raster.cols), f64::from(raster.rows));
            f64::from(reach.cols) < HALF * cols || f64::from(reach.rows) < HALF * rows
        })
    })
}

/// A read for a picture: with overviews, and of very many scenes with some.
fn thinned(cx: &BindCx<'_>, read: Read, props: Props) -> (Read, Props) {
    let domain = cx.grid.pad(read.pad).window();
    let reach: Vec<Option<Window>> = read.scenes.iter().map(|scene| scene.reach).collect();
    let kept = match read.layout {
        Layout::Mosaic => thin::mosaic(&reach, &domain),
        Layout::Stack => thin::stack(&reach, &domain),
    };
    let Some(kept) = kept else { return (Read { overviews: true, ..read }, props) };
    let scenes = kept.iter().map(|at| read.scenes[*at].clone()).collect();
    let props = match props.images() {
        Some(_) => {
            let mut kept = kept.iter().peekable();
            let some = props.dicts().enumerate().filter(|(at, _)| kept.next_if(|next| *next == at).is_some());
            Props::many(some.map(|(_, dict)| Arc::new(dict)).collect())
        }
        None => props,
    };
    (Read { overviews: true, scenes, ..read }, props)
}

/// The window that holds all pixels of a scene's bands, where their files' grids are known.
fn reach((domain, cx): (&Grid, &BindCx<'_>), scene: &Scene, bands: &[String]) -> Option<Window> {
    let mut rasters: Vec<&AssetGrid> = Vec::new();
    for band in bands.iter().filter_map(|band| scene.bands.get(band)) {
        let raster = band.asset.raster.as_ref()?;
        // Bands share grids.
        if !rasters.contains(&raster) {
            rasters.push(raster);
        }
    }
    let mut union: Option<Window> = None;
    for raster in rasters {
        let window = raster.reach(domain, cx.transform)?;
        union = Some(union.map_or(window, |union| union.union(&window)));
    }
    union
}
