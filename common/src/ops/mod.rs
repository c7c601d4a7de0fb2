//! What each operation means. One file per family; [`FAMILIES`] is the one list.
//!
//! An op knows nothing of tiles, files or time. It sees facts, properties and blocks. To add an op,
//! write it in its family's file and put it into that file's `OPS`; nothing else.

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::block::{Block, DType, Kind, Samples};
use crate::grid::{Grid, Window};
use crate::literal::Literal;
use crate::scene::{Layout, Product, Resampler, Scene, SceneQuery};
use crate::transform::Transform;

pub mod arith;
pub mod array;
pub mod bands;
mod broadcast;
pub mod compare;
pub mod dot;
mod error;
pub mod focal;
pub mod ground;
pub mod images;
pub mod mask;
pub mod math;
pub mod object;
mod pointwise;
pub mod property;
mod props;
pub mod reduce;
pub mod select;
pub mod source;
#[cfg(test)]
mod testing;

pub use broadcast::{BoundInput, Spread};
pub(crate) use broadcast::{broadcast, spread};
pub use error::TypeError;
pub use props::{Origin, Props};

/// Every op, in the order of the manual.
pub const FAMILIES: &[Family] = &[
    Family::new("Sources", "Where pixels come from: scenes of the catalog, chosen and read.", source::OPS),
    Family::new(
        "Arithmetic",
        "Value by value, in single precision; names that begin with `r` swap the operands.",
        arith::OPS,
    ),
    Family::new(
        "Functions",
        "Value by value; angles are in radians, and what is outside a function's domain is invalid.",
        math::OPS,
    ),
    Family::new("Comparison and logic", "Value by value; the result is true or false.", compare::OPS),
    Family::new("Choosing values", "Value by value: one of several, or a part of one.", select::OPS),
    Family::new("Masks", "What is valid.", mask::OPS),
    Family::new(
        "Neighbourhoods",
        "A pixel and those around it; `pad` of the sources gives the pixels at the edge their neighbours.",
        focal::OPS,
    ),
    Family::new("Bands", "Choosing, naming and joining bands.", bands::OPS),
    Family::new("Sums of products", "Over the bands of a mosaic or the images of a stack.", dot::OPS),
    Family::new("Images", "Images of a stack, by position, id, condition and group.", images::OPS),
    Family::new(
        "Reductions",
        "Many values to one: those of all images, all bands or all pixels.",
        reduce::OPS,
    ),
    Family::new("Places", "What the grid says of itself.", ground::OPS),
    Family::new("Arrays", "Constants that are no single number.", array::OPS),
    Family::new(
        "Properties of images",
        "Inside functions of one parameter, the image, that choose or group images; nothing here sees a pixel.",
        property::OPS,
    ),
];

/// Ops that belong together: one file.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Heading in the manual.
    pub title: &'static str,
    /// One sentence: what they do.
    pub summary: &'static str,
    /// The ops.
    pub ops: &'static [&'static dyn Op],
}

impl Family {
    const fn new(title: &'static str, summary: &'static str, ops: &'static [&'static dyn Op]) -> Family {
        Family { title, summary, ops }
    }

    /// The ops.
    pub fn iter(&self) -> std::slice::Iter<'static, &'static dyn Op> {
        self.ops.iter()
    }
}

/// The op with a name.
pub fn find(name: &str) -> Option<&'static dyn Op> {
    FAMILIES.iter().flat_map(|family| family.iter()).copied().find(|op| op.name() == name)
}

/// What an operation means. Everything the engine knows about it is behind these methods.
pub trait Op: Sync + Debug {
    /// Graft builtin name. Never reused for another meaning.
    fn name(&self) -> &'static str;

    /// Raised whenever results change; part of every content hash.
    fn version(&self) -> u32 {
        1
    }

    /// Signature and manual.
    fn doc(&self) -> OpDoc;

    /// A graft that uses the op, for the manual; the test suite runs it on the world of its golden
    /// cases: product `made:up` with the bands `a b c q`. This one goes by the names of the parameters that
    /// must be given, which mean the same in every op; rasters where they mean nothing.
    fn example(&self) -> serde_json::Value {
        example(self.name(), self.doc().params)
    }

    /// Type rule over a graft's values: resolves names, propagates properties, and says which of the
    /// arguments become inputs of the plan node.
    fn bind(&self, cx: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError>;

    /// Type rule of the plan node: facts of the result, or why the inputs do not fit.
    fn infer(&self, params: &[Literal], inputs: &[Facts]) -> Result<Facts, TypeError>;

    /// Padding of the result from that of its inputs; `None` where an input has pixels everywhere. As the
    /// metadata have it: the most that an input has, or that of the first where the metadata are the
    /// first's alone.
    fn padding(&self, inputs: &[Option<u32>]) -> Option<u32> {
        inputs.iter().copied().flatten().max()
    }

    /// Input pixels that one output pixel of a plan node with these constants depends on; `infer` has
    /// checked them. Decides halos and what may be fused.
    fn footprint(&self, _params: &[Literal]) -> Footprint {
        Footprint::Pixel
    }

    /// Whether every value of the result is one of its first input's, of the same band where the op does
    /// not pick bands: units and classes of that input are those of the result.
    fn keeps_values(&self) -> bool {
        false
    }

    /// Whether each image of the result depends on the same image of its inputs alone (on all of a mosaic):
    /// images that nobody needs can be left out. Unless an op says otherwise, that is so of what works value
    /// by value or looks at neighbouring pixels.
    fn is_imagewise(&self, params: &[Literal], inputs: &[Facts]) -> bool {
        matches!(self.kernel(params, inputs), Kernel::Pixel(_))
            || matches!(self.footprint(params), Footprint::Halo { .. })
    }

    /// The op on properties of an image, inside a function; most ops are of pixels alone.
    ///
    /// # Errors
    /// Why it has no value.
    fn on_properties(&self, _: &property::Args<'_>) -> Result<property::Value, property::Fault> {
        Err(property::Fault::new("is an op of pixels; a function of an image sees its properties alone"))
    }

    /// Bytes that its kernel holds beside its inputs and its result, for a plan node like this: of
    /// `PerBand` and `Block` kernels. The inputs have so many pixels.
    fn scratch_bytes(&self, _params: &[Literal], _inputs: &[Facts], _pixels: u64) -> u64 {
        0
    }

    /// The code that computes it, for a plan node with these constants and inputs with these facts.
    fn kernel(&self, params: &[Literal], inputs: &[Facts]) -> Kernel;
}

/// See [`Op::example`].
fn example(op: &str, params: &[Param]) -> serde_json::Value {
    use serde_json::json;
    let names: Vec<&str> = params.iter().filter(|param| !param.optional).map(|param| param.name).collect();
    let mut graft = json!({ "returns": "result" });
    // Keys of its own for each parameter; `wanted` are those the op itself takes.
    let mut add = |key: &str, value: serde_json::Value| {
        graft[key] = value;
        key.to_owned()
    };
    let mut rasters = ["a", "b", "c", "q"].into_iter();
    let mut wanted = Vec::new();
    for name in &names {
        wanted.push(match *name {
            "product_id" => add("product", "made:up".into()),
            "bands" => add("bands", "b a".into()),
            "ids" => add("ids", json!(json!(["s1", "s2"]).to_string())),
            "axis" => add("axis", "images".into()),
            "scenes" => {
                add("product", "made:up".into());
                add("bands", "b a".into());
                add("scenes", json!(["select_scenes", "product", "bands"]))
            }
            "mask" => {
                add("half", 0.5.into());
                add("bright", json!(["gt", "data", "half"]))
            }
            name => {
                let bands = if names.contains(&"bands") { "bands" } else { "band" };
                let bands = match rasters.next() {
                    Some("a") | None => add(bands, if bands == "band" { "a" } else { "b a" }.into()),
                    Some(band) => add(&format!("{band} band"), band.into()),
                };
                add("product", "made:up".into());
                if name == "stack" || names.contains(&"axis") {
                    add("scenes", json!(["select_scenes", "product", bands]));
                    add("stack", json!(["stack_scenes", "scenes", bands]))
                } else {
                    add(name, json!(["mosaic", "product", bands]))
                }
            }
        });
    }
    graft["result"] = std::iter::once(op).chain(wanted.iter().map(String::as_str)).collect::<Vec<_>>().into();
    graft
}

/// Manual entry of an op; the reference page is generated from it.
#[derive(Clone, Copy, Debug)]
pub struct OpDoc {
    /// One sentence: what it computes.
    pub summary: &'static str,
    /// Parameters, in order.
    pub params: &'static [Param],
    /// Kinds, bands and types of the arguments, and of the result.
    pub shapes: &'static str,
    /// Units of the values, and what they are in.
    pub units: &'static str,
    /// When a pixel of the result is valid.
    pub validity: &'static str,
    /// How exact the values are.
    pub accuracy: &'static str,
    /// Paper or reference implementation.
    pub source: &'static str,
}

/// A parameter of an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// Name, for named arguments.
    pub name: &'static str,
    /// Whether it may be left out; it is null then.
    pub optional: bool,
    /// Whether a function of one parameter, an image, may be given.
    pub takes_function: bool,
}

/// A parameter that must be given.
pub const fn required(name: &'static str) -> Param {
    Param { name, optional: false, takes_function: false }
}

/// A parameter that may be left out.
pub const fn optional(name: &'static str) -> Param {
    Param { name, optional: true, takes_function: false }
}

/// A parameter that must be given, and may be a function of an image.
pub const fn function(name: &'static str) -> Param {
    Param { name, optional: false, takes_function: true }
}

/// What is known about a value before any pixel is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Number, mosaic or stack, with its counts.
    pub kind: Kind,
    /// Type of its values.
    pub dtype: DType,
}

impl Facts {
    /// Facts of a constant.
    pub fn number(literal: &Literal) -> Option<Facts> {
        let dtype = match literal {
            Literal::Bool(_) => DType::Bool,
            Literal::Int(_) | Literal::Float(_) => DType::F32,
            Literal::Null | Literal::Str(_) | Literal::List(_) | Literal::Object(_) => return None,
        };
        Some(Facts { kind: Kind::Number, dtype })
    }

    /// Bytes of one pixel in memory: all planes with their validity.
    pub fn pixel_bytes(&self) -> u64 {
        self.kind.planes() as u64 * (self.dtype.bytes() + 1)
    }
}

/// What the catalog answered to one query.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The product.
    pub product: Product,
    /// Its scenes in the time range that touch the area, by time and id.
    pub scenes: Vec<Scene>,
}

/// Everything outside the graft that a type rule may look at.
pub struct BindCx<'a> {
    /// The grid of the request.
    pub grid: &'a Grid,
    /// What is known about CRSs.
    pub transform: &'a dyn Transform,
    /// Answers to [`Expr::scene_queries`](crate::expr::Expr::scene_queries).
    pub answers: &'a BTreeMap<SceneQuery, Answer>,
    /// The scenes that [`Expr::image_ids`](crate::expr::Expr::image_ids) names, by id as it is written.
    pub images: &'a BTreeMap<String, Scene>,
}

/// Scenes selected by a graft, not read yet.
#[derive(Clone, Debug)]
pub struct SceneSet {
    /// The product.
    pub product: Product,
    /// The scenes, in the order asked for.
    pub scenes: Vec<Scene>,
}

/// An argument, as a type rule sees it.
#[derive(Clone, Copy, Debug)]
pub enum Arg<'a> {
    /// A constant.
    Literal(&'a Literal),
    /// Scenes.
    Scenes(&'a SceneSet),
    /// Pixels, or an array.
    Raster(Facts, &'a Props),
    /// A function of an image's properties.
    Function(&'a property::Function),
}

impl<'a> Arg<'a> {
    /// What it is, for messages.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Arg::Literal(literal) => literal.kind_name(),
            Arg::Scenes(_) => "scenes",
            Arg::Raster(facts, _) => facts.kind.name(),
            Arg::Function(_) => "a function",
        }
    }

    /// Facts and metadata of pixels or a number.
    fn operand(&self, name: &'static str) -> Result<(Facts, Props), TypeError> {
        match self {
            Arg::Raster(facts, props) => Ok((*facts, (*props).clone())),
            Arg::Literal(literal) => match Facts::number(literal) {
                Some(facts) => Ok((facts, Props::none())),
                None => Err(self.not(name, "a raster or a number")),
            },
            Arg::Scenes(_) | Arg::Function(_) => Err(self.not(name, "a raster or a number")),
        }
    }

    /// Facts and metadata of pixels.
    fn raster(&self, name: &'static str) -> Result<(Facts, &'a Props), TypeError> {
        match self {
            Arg::Raster(facts, props) if facts.kind.is_raster() => Ok((*facts, props)),
            Arg::Raster(..) | Arg::Literal(_) | Arg::Scenes(_) | Arg::Function(_) => {
                Err(self.not(name, "a raster"))
            }
        }
    }

    /// The constant.
    fn literal(&self, name: &'static str) -> Result<&'a Literal, TypeError> {
        match self {
            Arg::Literal(literal) => Ok(literal),
            Arg::Raster(..) | Arg::Scenes(_) | Arg::Function(_) => Err(self.not(name, "a constant")),
        }
    }

    /// The constant text.
    fn text(&self, name: &'static str) -> Result<&'a str, TypeError> {
        self.literal(name)?.as_str().ok_or_else(|| self.not(name, "a string"))
    }

    fn is_null(&self) -> bool {
        matches!(self, Arg::Literal(Literal::Null))
    }

    fn not(&self, name: &'static str, expected: &'static str) -> TypeError {
        TypeError::Argument { name, expected, got: self.kind_name() }
    }
}

/// What a type rule made of a call.
#[derive(Clone, Debug)]
pub enum Bound {
    /// A constant: nothing is left to compute.
    Literal(Literal),
    /// A constant with metadata, for where it is a result.
    Value {
        /// The constant.
        literal: Literal,
        /// Its metadata.
        props: Props,
    },
    /// Scenes.
    Scenes(SceneSet),
    /// Pixels of scenes, to be read.
    Read {
        /// The scenes.
        scenes: Vec<Scene>,
        /// What becomes of them.
        layout: Layout,
        /// Names of the bands, in order.
        bands: Vec<String>,
        /// How stored pixels become the grid's.
        resampler: Resampler,
        /// Pixels around the grid that are read as well, where an op looks at them.
        pad: u32,
        /// Metadata of the images.
        props: Props,
    },
    /// A plan node of this op.
    Call {
        /// Constants the kernel needs.
        params: Vec<Literal>,
        /// Which arguments are its inputs.
        inputs: Vec<BoundInput>,
        /// Metadata of the result.
        props: Props,
    },
    /// A constant array.
    Array(Block),
    /// Some images of a stack.
    Images {
        /// Which argument is the stack.
        arg: usize,
        /// Their positions, ascending.
        positions: Vec<u32>,
        /// Metadata of the result.
        props: Props,
    },
    /// The pixels of an argument under other metadata.
    Same {
        /// Which argument.
        arg: usize,
        /// Metadata of the result.
        props: Props,
    },
}

impl Bound {
    /// A plan node whose inputs are these arguments as they are.
    fn call(params: Vec<Literal>, inputs: impl IntoIterator<Item = usize>, props: Props) -> Bound {
        Bound::Call { params, inputs: inputs.into_iter().map(BoundInput::Arg).collect(), props }
    }
}

/// Input pixels that one output pixel depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Footprint {
    /// The pixel at the same place.
    Pixel,
    /// Also its neighbours, so many rows and columns away.
    Halo {
        /// Rows above and below.
        rows: u32,
        /// Columns left and right.
        cols: u32,
    },
}

/// The code of an op.
#[derive(Clone, Copy, Debug)]
pub enum Kernel {
    /// Works value by value, the same for every image, band and pixel: can be fused with others.
    Pixel(PixelKernel),
    /// Works on whole blocks, each band for itself: bands that nobody needs can be left out.
    PerBand(fn(&BlockCall<'_>) -> Block),
    /// Works on whole blocks.
    Block(fn(&BlockCall<'_>) -> Block),
    /// Takes the images of its input one after another, each band for itself: never holds a stack.
    Fold(FoldKernel),
    /// Takes all pixels of each plane of its input: partials of tiles, which the coordinator merges.
    Pixels(PixelsKernel),
    /// Does not reach the workers: `bind` replaces it.
    Bind,
}

/// A reduction over images that takes one image after another.
#[derive(Clone, Copy, Debug)]
pub struct FoldKernel {
    /// A reduction of `len` values of one image, before the first image; `params` are the plan node's.
    pub start: fn(params: &[Literal], input: DType, len: usize) -> Box<dyn Fold>,
    /// Bytes that it holds for each of them.
    pub state_bytes: u64,
}

/// A reduction under way. Entries arrive in order; the result never depends on how the grid was cut.
pub trait Fold {
    /// Takes the next entry: as many values as it was started for, with their validity.
    fn add(&mut self, values: Values<'_>, valid: &[u8]);

    /// The result and its validity.
    fn finish(self: Box<Self>) -> (Samples, Vec<u8>);
}

/// A reduction over pixels. Workers collect a partial of every tile, the coordinator merges them, in any
/// order; some need several rounds over the same tiles.
#[derive(Clone, Copy, Debug)]
pub struct PixelsKernel {
    /// The reduction before its first round; `params` are the plan node's.
    pub start: fn(params: &[Literal], input: Facts) -> Box<dyn OverPixels>,
    /// The partial of a block in a round that [`OverPixels::round`] describes. The same pixels give the
    /// same bytes.
    pub collect: fn(params: &[Literal], round: &Literal, block: &Block) -> Vec<u8>,
    /// The most rounds that it takes.
    pub rounds: u32,
    /// Bytes that a partial takes while it is collected, for each plane of the input; its head takes up to
    /// [`PARTIAL_HEAD_BYTES`] more.
    pub plane_bytes: u64,
}

/// Bytes that a partial may take beside those of its planes.
pub const PARTIAL_HEAD_BYTES: u64 = 8;

/// A reduction over pixels under way, where partials are merged.
pub trait OverPixels: Send {
    /// What workers must know to collect this round.
    fn round(&self) -> Literal;

    /// Takes the partial of one tile.
    ///
    /// # Errors
    /// What is wrong with bytes that are no partial of this round.
    fn merge(&mut self, partial: &[u8]) -> Result<(), String>;

    /// Ends a round: the result, an array with leading axes; `None` if another round is needed.
    ///
    /// # Errors
    /// What is wrong with partials that are not of the pixels of the round before: a source has changed.
    fn end_round(&mut self) -> Result<Option<Block>, String>;
}

/// A run of values.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Numbers.
    F32(&'a [f32]),
    /// Truth values, 0 or 1.
    Bool(&'a [u8]),
}

/// Values to be written.
#[derive(Debug)]
pub enum ValuesMut<'a> {
    /// Numbers.
    F32(&'a mut [f32]),
    /// Truth values, 0 or 1.
    Bool(&'a mut [u8]),
}

/// Two runs of numbers to one, with its validity.
pub type FloatKernel = fn(&[f32], &[f32], &mut [f32], &mut [u8]);

/// A kernel over runs of values. The validity it is given is the conjunction of its operands';
/// it may take away from it.
#[derive(Clone, Copy, Debug)]
pub enum PixelKernel {
    /// Number to number.
    Float1(fn(&[f32], &mut [f32], &mut [u8])),
    /// Two numbers to number.
    Float2(FloatKernel),
    /// Two numbers to truth value.
    Compare(fn(&[f32], &[f32], &mut [u8])),
    /// Truth value to truth value.
    Bool1(fn(&[u8], &mut [u8])),
    /// Two truth values to truth value.
    Bool2(fn(&[u8], &[u8], &mut [u8])),
    /// Anything else: up to three operands, each with its own validity, and constants.
    Select(SelectKernel),
}

/// A kernel that sees the validity of its operands one by one, and the constants of its op.
#[derive(Clone, Copy, Debug)]
pub struct SelectKernel {
    /// Types that its operands are converted to before it sees them; at most [`OPERANDS_MAX`].
    pub operands: &'static [DType],
    /// Type of the result.
    pub result: DType,
    /// Writes the values; the validity it is given may become any other.
    pub run: fn(&Strip<'_>, ValuesMut<'_>, &mut [u8]),
}

/// The most operands of a value-by-value op.
pub const OPERANDS_MAX: usize = 3;

/// What a [`SelectKernel`] sees of a strip of values.
#[derive(Clone, Copy, Debug)]
pub struct Strip<'a> {
    /// The operands' values; beyond its operands nothing.
    pub values: [Values<'a>; OPERANDS_MAX],
    /// Their validity.
    pub valid: [&'a [u8]; OPERANDS_MAX],
    /// The numbers among the constants of the op, in order, those of lists among them.
    pub constants: &'a [f64],
}

impl PixelKernel {
    /// How many operands it takes.
    pub fn operands(&self) -> usize {
        match self {
            PixelKernel::Float1(_) | PixelKernel::Bool1(_) => 1,
            PixelKernel::Float2(_) | PixelKernel::Compare(_) | PixelKernel::Bool2(_) => 2,
            PixelKernel::Select(kernel) => kernel.operands.len(),
        }
    }

    /// Type of the result.
    pub fn result(&self) -> DType {
        match self {
            PixelKernel::Float1(_) | PixelKernel::Float2(_) => DType::F32,
            PixelKernel::Compare(_) | PixelKernel::Bool1(_) | PixelKernel::Bool2(_) => DType::Bool,
            PixelKernel::Select(kernel) => kernel.result,
        }
    }
}

/// Whether nobody waits for a result any more.
#[derive(Clone, Copy)]
pub struct Cancelled<'a>(&'a dyn Fn() -> bool);

impl<'a> Cancelled<'a> {
    /// What is asked.
    pub fn by(ask: &'a dyn Fn() -> bool) -> Self {
        Cancelled(ask)
    }

    /// The answer now. A kernel that takes more than moments for a row asks at each row; what it returns
    /// then is thrown away.
    pub fn now(&self) -> bool {
        (self.0)()
    }
}

impl Debug for Cancelled<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cancelled({})", self.now())
    }
}

/// What a block kernel sees.
#[derive(Debug)]
pub struct BlockCall<'a> {
    /// Whether to stop.
    pub cancelled: Cancelled<'a>,
    /// The pixels of the result.
    pub window: Window,
    /// The pixels that the inputs have: more than `window` where the op has a halo, as far as the node's
    /// domain goes. A side on which the halo is missing is an edge of the domain.
    pub input_window: Window,
    /// Constants, as `bind` resolved them.
    pub params: &'a [Literal],
    /// Input blocks.
    pub inputs: &'a [&'a Block],
    /// Facts of the result, as `infer` gave them.
    pub facts: Facts,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_documented() {
        let ops: Vec<_> = FAMILIES.iter().flat_map(|family| family.iter()).collect();
        for (i, op) in ops.iter().enumerate() {
            assert!(ops[..i].iter().all(|other| other.name() != op.name()), "{}", op.name());
            let doc = op.doc();
            for text in [doc.summary, doc.shapes, doc.units, doc.validity, doc.accuracy, doc.source] {
                assert!(text.ends_with('.'), "{}: {text}", op.name());
            }
            let family = FAMILIES.iter().find(|family| family.iter().any(|other| other.name() == op.name()));
            assert!(family.is_some_and(|family| family.summary.ends_with('.')), "{}", op.name());
            let first_optional = doc.params.iter().position(|p| p.optional).unwrap_or(doc.params.len());
            assert!(doc.params[first_optional..].iter().all(|p| p.optional), "{}", op.name());
        }
    }
}
