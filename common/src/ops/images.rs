//! Images of a stack: `index length filter_data filter_by_id groupby_data pick_images`, and reductions by a
//! function.
//!
//! What is asked of images is asked of their properties, which travel with the pixels: any stack will do,
//! also a computed or masked one. `bind` decides which images are meant; a plan only picks positions.

use super::property::{Order, Value};
use super::reduce::Axis;
use super::{
    Arg, BindCx, BlockCall, Bound, Facts, Kernel, Op, OpDoc, Props, TypeError, function, optional, required,
};
use crate::block::{Block, DType, Kind, Samples};
use crate::callable::{self, CallableError, Permitted, Place};
use crate::literal::Literal;
use crate::predicate::{Predicate, PredicateError};

/// The ops of this family.
pub const OPS: &[&dyn Op] = &[&Index, &Length, &FilterData, &FilterById, &GroupbyData, &PickImages, &Reduced];

/// `index(stack, i)`. As a plan node its parameter is the position, from 0.
#[derive(Debug)]
pub struct Index;

impl Index {
    /// The position that a plan node of this op takes.
    pub fn position(params: &[Literal]) -> Option<u32> {
        let [Literal::Int(position)] = params else { return None };
        u32::try_from(*position).ok()
    }

    /// Parameters of a plan node that takes this position.
    pub fn params(position: u32) -> Vec<Literal> {
        vec![Literal::Int(position.into())]
    }
}

impl Op for Index {
    fn name(&self) -> &'static str {
        "index"
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: "One image of a stack, by its position from 0; negative positions count from the end.",
            params: const { &[required("stack"), required("i")] },
            shapes: "A stack of n images and a whole number from -n to n - 1; the result is a mosaic.",
            units: "Those of the stack.",
            validity: "As in the stack.",
            accuracy: "Exact.",
            source: "A selection, exactly.",
        }
    }

    fn example(&self) -> serde_json::Value {
        example(serde_json::json!({ "last": -1, "result": ["index", "stack", "last"] }))
    }

    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let (images, props) = stack(&args[0])?;
        let asked = args[1].literal("i")?;
        let Literal::Int(at) = asked else { return Err(args[1].not("i", "a whole number")) };
        let from_start = if *at < 0 { at.saturating_add(images.into()) } else { *at };
        let position =
            u32::try_from(from_start).ok().filter(|at| *at < images).ok_or_else(|| TypeError::Value {
                name: "i",
                expected: match images {
                    0 => "nothing: the stack has no images".into(),
                    _ => format!("a position from -{images} to {}, for {images} images", images - 1),
                },
                value: asked.to_string(),
            })?;
        Ok(Bound::call(Index::params(position), [0], props.image(position as usize)))
    }

    fn infer(&self, params: &[Literal], inputs: &[Facts]) -> Result<Facts, TypeError> {
        let bad = TypeError::Argument { name: "i", expected: "the position of an image", got: "another" };
        match (Index::position(params), inputs) {
            (Some(at), [Facts { kind: Kind::Stack { images, bands }, dtype }]) if at < *images => {
                Ok(Facts { kind: Kind::Mosaic { bands: *bands }, dtype: *dtype })
            }
            _ => Err(bad),
        }
    }

    fn keeps_values(&self) -> bool {
        true
    }

    fn kernel(&self, _: &[Literal], _: &[Facts]) -> Kernel {
        Kernel::PerBand(|call| gather(call, &[Index::position(call.params).unwrap_or(0)]))
    }
}

/// `pick_images(stack, positions)`. As a plan node its parameter is the list of positions.
#[derive(Debug)]
pub struct PickImages;

impl PickImages {
    /// The image positions that a plan node of this op picks.
    pub fn positions(params: &[Literal]) -> Option<Vec<u32>> {
        let [Literal::List(items)] = params else { return None };
        items.iter().map(|item| u32::try_from(item.as_int()?).ok()).collect()
    }

    /// Parameters of a plan node that picks these positions.
    pub fn params(positions: &[u32]) -> Vec<Literal> {
        vec![Literal::List(positions.iter().map(|at| Literal::Int((*at).into())).collect())]
    }
}

impl Op for PickImages {
    fn name(&self) -> &'static str {
        "pick_images"
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: "The images at some positions, in order; negative positions count from the end.",
            params: const { &[required("stack"), required("positions")] },
            shapes: "A stack of n images and a quoted list of whole numbers from -n to n - 1, ascending and each once; the result is a stack.",
            units: "Those of the stack.",
            validity: "As in the stack.",
            accuracy: "Exact.",
            source: "A selection, exactly.",
        }
    }

    fn example(&self) -> serde_json::Value {
        example(serde_json::json!({ "ends": [[0, -1]], "result": ["pick_images", "stack", "ends"] }))
    }

    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let (images, props) = stack(&args[0])?;
        let asked = args[1].literal("positions")?;
        let position = |item: &Literal| {
            let at = item.as_int()?;
            let at = if at < 0 { at.checked_add(images.into())? } else { at };
            u32::try_from(at).ok().filter(|at| *at < images)
        };
        let positions: Option<Vec<u32>> = match asked {
            Literal::List(items) => items.iter().map(position).collect(),
            _ => None,
        };
        // Ascending: a plan then never has more images than its stacks.
        let positions = positions.filter(|at| at.is_sorted_by(|a, b| a < b)).ok_or_else(|| {
            let expected = format!("ascending positions of {images} images, such as `[[0, -1]]`");
            TypeError::Value { name: "positions", expected, value: asked.to_string() }
        })?;
        Ok(picked(positions, images, props))
    }

    fn infer(&self, params: &[Literal], inputs: &[Facts]) -> Result<Facts, TypeError> {
        let bad = TypeError::Argument { name: "positions", expected: "positions of images", got: "others" };
        let positions = PickImages::positions(params).ok_or(bad.clone())?;
        let [Facts { kind: Kind::Stack { images, bands }, dtype }] = inputs else { return Err(bad) };
        if !positions.is_sorted_by(|a, b| a < b) || positions.last().is_some_and(|last| last >= images) {
            return Err(bad);
        }
        let kind = Kind::Stack { images: positions.len() as u32, bands: *bands };
        Ok(Facts { kind, dtype: *dtype })
    }

    fn keeps_values(&self) -> bool {
        true
    }

    fn kernel(&self, _: &[Literal], _: &[Facts]) -> Kernel {
        Kernel::PerBand(|call| gather(call, &PickImages::positions(call.params).unwrap_or_default()))
    }
}

/// `length(stack)`.
#[derive(Debug)]
pub struct Length;

impl Op for Length {
    fn name(&self) -> &'static str {
        "length"
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: "How many images a stack has; no pixel is read.",
            params: const { &[required("stack")] },
            shapes: "A stack; the result is a whole number.",
            units: "Images.",
            validity: "Always valid.",
            accuracy: "Exact.",
            source: "The published client's op of this name.",
        }
    }

    fn example(&self) -> serde_json::Value {
        example(serde_json::json!({ "result": ["length", "stack"] }))
    }

    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let (images, _) = stack(&args[0])?;
        // The published client makes an int of what says so.
        let props = Props::none().with("return_type", Some("int".into()));
        Ok(Bound::Value { literal: Literal::Int(images.into()), props })
    }

    fn infer(&self, _: &[Literal], _: &[Facts]) -> Result<Facts, TypeError> {
        Err(TypeError::Unsupported { what: "`length` in a plan".into() })
    }

    fn kernel(&self, _: &[Literal], _: &[Facts]) -> Kernel {
        Kernel::Bind
    }
}

/// `filter_data(stack, predicate)`.
#[derive(Debug)]
pub struct FilterData;

impl Op for FilterData {
    fn name(&self) -> &'static str {
        "filter_data"
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: "The images of a stack whose properties meet a condition, in their order.",
            params: const { &[required("stack"), function("predicate")] },
            shapes: "A stack, and a condition as JSON or a function of the image; the result is a stack of as many images or fewer.",
            units: "Those of the stack.",
            validity: "As in the stack.",
            accuracy: "Exact.",
            source: "The published client's op of this name.",
        }
    }

    fn example(&self) -> serde_json::Value {
        example(serde_json::json!({
            "clear": [{ "op": "lt", "name": "cloud_fraction", "val": 0.2 }],
            "result": ["filter_data", "stack", "clear"],
        }))
    }

    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let (images, props) = described(&args[0])?;
        let mut kept = Vec::new();
        match args[1] {
            Arg::Function(function) => {
                for (at, image) in (0..).zip(props.dicts()) {
                    if function.of(image)?.is_true() {
                        kept.push(at);
                    }
                }
            }
            _ => {
                let predicate = predicate(args[1].literal("predicate")?)?;
                kept.extend(
                    (0..).zip(props.dicts()).filter(|(_, image)| predicate.holds(image)).map(|(at, _)| at),
                );
            }
        }
        Ok(picked(kept, images, props))
    }

    fn infer(&self, _: &[Literal], _: &[Facts]) -> Result<Facts, TypeError> {
        Err(TypeError::Unsupported { what: "`filter_data` in a plan".into() })
    }

    fn kernel(&self, _: &[Literal], _: &[Facts]) -> Kernel {
        Kernel::Bind
    }
}

/// `filter_by_id(stack, ids)`.
#[derive(Debug)]
pub struct FilterById;

impl Op for FilterById {
    fn name(&self) -> &'static str {
        "filter_by_id"
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: "The images of a stack whose ids are listed, in the order of the stack.",
            params: const { &[required("stack"), required("ids")] },
            shapes: "A stack and a JSON list of ids; the result is a stack of as many images or fewer.",
            units: "Those of the stack.",
            validity: "As in the stack.",
            accuracy: "Exact.",
            source: "The published client's op of this name.",
        }
    }

    fn example(&self) -> serde_json::Value {
        example(serde_json::json!({
            "ids": "[\"s2\", \"s3\"]",
            "result": ["filter_by_id", "stack", "ids"],
        }))
    }

    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let (images, props) = described(&args[0])?;
        let literal = args[1].literal("ids")?;
        let parsed: Option<Literal> = match literal {
            Literal::Str(text) => serde_json::from_str(text).ok(),
            other => Some(other.clone()),
        };
        let ids: Option<std::collections::HashSet<&str>> = match &parsed {
            Some(Literal::List(items)) => items.iter().map(Literal::as_str).collect(),
            _ => None,
        };
        let ids = ids.ok_or_else(|| TypeError::Value {
            name: "ids",
            expected: "a JSON list of image ids, such as `[\"a\", \"b\"]`".into(),
            value: literal.to_string().chars().take(80).collect(),
        })?;
        let is_listed = |id: Option<String>| id.is_some_and(|id| ids.contains(id.as_str()));
        let kept = (0..).zip(props.ids()).filter(|(_, id)| is_listed(id.clone()));
        Ok(picked(kept.map(|(at, _)| at).collect(), images, props))
    }

    fn infer(&self, _: &[Literal], _: &[Facts]) -> Result<Facts, TypeError> {
        Err(TypeError::Unsupported { what: "`filter_by_id` in a plan".into() })
    }

    fn kernel(&self, _: &[Literal], _: &[Facts]) -> Kernel {
        Kernel::Bind
    }
}

/// A condition as JSON, or as an expression object of the catalog client.
fn predicate(literal: &Literal) -> Result<Predicate, TypeError> {
    let name = "predicate";
    match (Predicate::from_literal(literal), literal) {
        (Ok(predicate), _) => Ok(predicate),
        (Err(PredicateError::NotJson { .. }), Literal::Str(text)) => {
            match callable::decide(Place::Predicate, text) {
                Ok(Permitted::Predicate(predicate)) => Ok(predicate),
                Err(error) => Err(TypeError::Callable { name, error }),
            }
        }
        (Err(error), _) => Err(TypeError::Predicate { name, error }),
    }
}

/// `groupby_data(stack, key_function)`.
#[derive(Debug)]
pub struct GroupbyData;

impl Op for GroupbyData {
    fn name(&self) -> &'static str {
        "groupby_data"
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: "The images of a stack by a key: each key with the ids of its images; no pixel is read.",
            params: const { &[required("stack"), function("key_function")] },
            shapes: "A stack and a function of the image; the result is a list of pairs of a key and a list of ids, sorted by key where keys have an order, else in the order of the stack. Times as keys become texts.",
            units: "None.",
            validity: "Has no pixels.",
            accuracy: "Exact.",
            source: "The published client's op of this name.",
        }
    }

    fn example(&self) -> serde_json::Value {
        example(serde_json::json!({
            "month": {
                "parameters": ["image"],
                "acquired": "acquired",
                "month": "month",
                "time": ["attr", "image", "acquired"],
                "key": ["attr", "time", "month"],
                "returns": "key",
            },
            "result": ["groupby_data", "stack", "month"],
        }))
    }

    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let (_, props) = described(&args[0])?;
        let key = match args[1] {
            Arg::Function(key) => key,
            Arg::Literal(Literal::Str(text)) => {
                let error = match callable::decide(Place::Key, text) {
                    Ok(Permitted::Predicate(_)) => CallableError::Pickled { place: Place::Key },
                    Err(error) => error,
                };
                return Err(TypeError::Callable { name: "key_function", error });
            }
            _ => return Err(args[1].not("key_function", "a function of the image")),
        };
        let mut groups: Vec<(Value, Vec<Literal>)> = Vec::new();
        for (image, id) in props.dicts().zip(props.ids()) {
            let (key, id) = (key.of(image)?, Literal::Str(id.ok_or(TypeError::NoImageProperties)?));
            match groups.iter_mut().find(|(known, _)| known.is_same(&key)) {
                Some((_, ids)) => ids.push(id),
                None => groups.push((key, vec![id])),
            }
        }
        let order = |a: &Value, b: &Value| match a.order(b) {
            Order::Is(order) => Some(order),
            Order::Missing | Order::Unlike => None,
        };
        let keys: Vec<&Value> = groups.iter().map(|(key, _)| key).collect();
        let is_sortable =
            keys.iter().enumerate().all(|(at, a)| keys[at + 1..].iter().all(|b| order(a, b).is_some()));
        if is_sortable {
            groups.sort_by(|(a, _), (b, _)| order(a, b).unwrap_or(std::cmp::Ordering::Equal));
        }
        let pair = |(key, ids): (Value, Vec<Literal>)| {
            let key = key.to_literal().map_err(|fault| TypeError::Constant { problem: fault.to_string() })?;
            Ok(Literal::List(vec![key, Literal::List(ids)]))
        };
        groups
            .into_iter()
            .map(pair)
            .collect::<Result<_, _>>()
            .map(|groups| Bound::Literal(Literal::List(groups)))
    }

    fn infer(&self, _: &[Literal], _: &[Facts]) -> Result<Facts, TypeError> {
        Err(TypeError::Unsupported { what: "`groupby_data` in a plan".into() })
    }

    fn kernel(&self, _: &[Literal], _: &[Facts]) -> Kernel {
        Kernel::Bind
    }
}

/// `reduced(a, value, axis, kind)`: what a function that was given as a reducer made of `a`. It says that
/// `value` is a reduction of `a`; as a plan node it is what an empty stack becomes.
#[derive(Debug)]
pub struct Reduced;

impl Reduced {
    /// Whether the function's value matters: over the images of an empty stack it is not even looked at.
    pub fn needs_value(args: &[Arg<'_>]) -> bool {
        let is_over_images =
            matches!(args.get(2), Some(Arg::Literal(Literal::Str(axis))) if axis == "images");
        let is_empty =
            matches!(args.first(), Some(Arg::Raster(Facts { kind: Kind::Stack { images: 0, .. }, .. }, _)));
        !(is_over_images && is_empty)
    }
}

impl Op for Reduced {
    fn name(&self) -> &'static str {
        "reduced"
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: "A value as a reduction of a raster: what `reduction` by a function of the array and the axis stands for.",
            params: const { &[required("a"), required("value"), required("axis"), optional("kind")] },
            shapes: "A raster and a value that has lost the axis: over images a mosaic, over bands one band, over pixels an array. An empty stack over images gives a mosaic without valid pixels, whatever the value.",
            units: "Those of the value.",
            validity: "As the value.",
            accuracy: "Exact.",
            source: "The published client's reductions by a callable.",
        }
    }

    fn example(&self) -> serde_json::Value {
        example(serde_json::json!({
            "range": {
                "parameters": ["array", "axis"],
                "high": ["max", "array", "axis"],
                "low": ["min", "array", "axis"],
                "range": ["sub", "high", "low"],
                "returns": "range",
            },
            "images": "images",
            "result": ["reduction", "stack", "range", "images"],
        }))
    }

    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let (a, props) = args[0].raster("a")?;
        let axis = Axis::of_arg(&args[2])?;
        if !args[3].is_null() {
            let said = args[3].text("kind")?;
            if said != a.kind.name() {
                return Err(TypeError::KindMismatch { said: format!("`{said}`"), is: a.kind.name() });
            }
        }
        let expected = axis.reduced(a.kind)?;
        let props = axis.metadata(props);
        if !Reduced::needs_value(args) {
            return Ok(Bound::call(vec![], [0], props));
        }
        let is = match args[1] {
            Arg::Raster(facts, _) => facts.kind.to_string(),
            other => other.kind_name().into(),
        };
        if !matches!(args[1], Arg::Raster(facts, _) if facts.kind == expected) {
            return Err(TypeError::NotReduced {
                axis: axis.name().into(),
                expected: expected.to_string(),
                is,
            });
        }
        Ok(Bound::Same { arg: 1, props })
    }

    fn infer(&self, _: &[Literal], inputs: &[Facts]) -> Result<Facts, TypeError> {
        match inputs {
            [Facts { kind: Kind::Stack { images: 0, bands }, .. }] => {
                Ok(Facts { kind: Kind::Mosaic { bands: *bands }, dtype: DType::F32 })
            }
            _ => Err(TypeError::Argument { name: "a", expected: "an empty stack", got: "another value" }),
        }
    }

    fn kernel(&self, _: &[Literal], _: &[Facts]) -> Kernel {
        Kernel::Block(|call| {
            Block::invalid(call.facts.kind, call.facts.dtype, (call.window.rows, call.window.cols))
        })
    }
}

/// Number of images and metadata of a stack.
fn stack<'a>(arg: &Arg<'a>) -> Result<(u32, &'a Props), TypeError> {
    match arg {
        Arg::Raster(Facts { kind: Kind::Stack { images, .. }, .. }, props) => Ok((*images, props)),
        _ => Err(arg.not("stack", "an ImageStack")),
    }
}

/// The same of a stack whose images have properties. An array along images has pixels alone.
fn described<'a>(arg: &Arg<'a>) -> Result<(u32, &'a Props), TypeError> {
    let (images, props) = stack(arg)?;
    match props.images() == Some(images as usize) {
        true => Ok((images, props)),
        false => Err(TypeError::NoImageProperties),
    }
}

/// A stack of some images of the first argument.
fn picked(positions: Vec<u32>, images: u32, props: &Props) -> Bound {
    if positions.len() == images as usize {
        return Bound::Same { arg: 0, props: props.clone() };
    }
    let props = props.pick(&positions);
    Bound::Images { arg: 0, positions, props }
}

/// A block of some images of another, in order.
fn gather(call: &BlockCall<'_>, images: &[u32]) -> Block {
    let input = call.inputs[0];
    let len = input.kind().bands().unwrap_or(0) as usize * input.pixels();
    let ranges = images.iter().map(|image| *image as usize * len..(*image as usize + 1) * len);
    let mut valid = Vec::with_capacity(images.len() * len);
    ranges.clone().for_each(|range| valid.extend_from_slice(&input.valid()[range]));
    let samples = match input.samples() {
        Samples::F32(values) => Samples::F32(ranges.flat_map(|range| &values[range]).copied().collect()),
        Samples::Bool(values) => Samples::Bool(ranges.flat_map(|range| &values[range]).copied().collect()),
    };
    Block::new(call.facts.kind, input.shape(), samples, valid)
}

/// An example of the manual: a graft on a stack of the made-up world.
pub(super) fn example(more: serde_json::Value) -> serde_json::Value {
    let mut graft = serde_json::json!({
        "product": "made:up",
        "bands": "a b",
        "scenes": ["select_scenes", "product", "bands"],
        "stack": ["stack_scenes", "scenes", "bands"],
        "returns": "result",
    });
    if let (Some(graft), serde_json::Value::Object(more)) = (graft.as_object_mut(), more) {
        graft.extend(more);
    }
    graft
}
