//! What each operation means. One file per family; [`FAMILIES`] is the one list.
//!
//! An op knows nothing of tiles, files or time. It sees facts, properties and blocks. To add an op,
//! write it in its family's file and put it into that file's `OPS`; nothing else.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use crate::block::{Block, DType, Kind};
use crate::error::{Classify, ErrorClass, listing};
use crate::grid::Grid;
use crate::literal::Literal;
use crate::scene::{Layout, Product, Properties, Resampler, Scene, SceneQuery};
use crate::transform::Transform;

pub mod arith;
pub mod bands;
pub mod compare;
pub mod mask;
pub mod object;
mod pointwise;
pub mod source;
pub mod stack;

/// Every op, in the order of the manual.
pub const FAMILIES: &[&[&dyn Op]] =
    &[source::OPS, arith::OPS, compare::OPS, mask::OPS, bands::OPS, stack::OPS];

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

    /// Type rule over a graft's values: resolves names, propagates properties, and says which of the
    /// arguments become inputs of the plan node.
    fn bind(&self, cx: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError>;

    /// Type rule of the plan node: facts of the result, or why the inputs do not fit.
    fn infer(&self, params: &[Literal], inputs: &[Facts]) -> Result<Facts, TypeError>;

    /// Input pixels that one output pixel depends on. Decides halos and what may be fused.
    fn footprint(&self) -> Footprint {
        Footprint::Pixel
    }

    /// Whether every value of the result is one of its first input's, of the same band where the op does
    /// not pick bands: units and classes of that input are those of the result.
    fn keeps_values(&self) -> bool {
        false
    }

    /// The code that computes it, for inputs with these facts.
    fn kernel(&self, inputs: &[Facts]) -> Kernel;
}

/// Manual entry of an op; the reference page is generated from it.
#[derive(Clone, Copy, Debug)]
pub struct OpDoc {
    /// One sentence: what it computes.
    pub summary: &'static str,
    /// Parameters, in order.
    pub params: &'static [Param],
    /// When a pixel of the result is valid.
    pub validity: &'static str,
    /// Paper or reference implementation, and how exactly they agree.
    pub source: &'static str,
}

/// A parameter of an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// Name, for named arguments.
    pub name: &'static str,
    /// Whether it may be left out; it is null then.
    pub optional: bool,
}

/// A parameter that must be given.
pub const fn required(name: &'static str) -> Param {
    Param { name, optional: false }
}

/// A parameter that may be left out.
pub const fn optional(name: &'static str) -> Param {
    Param { name, optional: true }
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

/// Metadata that travels with a value: a dict for a mosaic, a list of dicts for a stack.
///
/// What ops change is the same for every image, so it is kept once, over dicts that all values of a
/// graft share: thousands of images cost no copy for each op.
#[derive(Clone, Debug, PartialEq)]
pub struct Props {
    dicts: Arc<Vec<Arc<Properties>>>,
    is_list: bool,
    /// Entries that stand in for those of every dict; `None` removes one.
    changes: Arc<Changes>,
    /// Where the values of a result come from.
    origin: Option<Arc<Origin>>,
}

/// The bands of a product whose values a result has, unchanged; in the order of its bands.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// Product id.
    pub product: String,
    /// Names of the product's bands.
    pub bands: Vec<String>,
}

type Changes = BTreeMap<String, Option<serde_json::Value>>;

impl Props {
    /// No metadata.
    pub fn none() -> Props {
        Props::one(Properties::new())
    }

    /// Of a mosaic or a number.
    pub fn one(properties: Properties) -> Props {
        Props {
            dicts: Arc::new(vec![Arc::new(properties)]),
            is_list: false,
            changes: Arc::default(),
            origin: None,
        }
    }

    /// Of each image of a stack.
    pub fn many(images: Vec<Arc<Properties>>) -> Props {
        Props { dicts: Arc::new(images), is_list: true, changes: Arc::default(), origin: None }
    }

    /// Where the values of a result come from, if an op has not made others of them. Known of results
    /// alone.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_deref()
    }

    /// The same metadata of a result whose values come from there.
    pub(crate) fn with_origin(self, origin: Option<Origin>) -> Props {
        Props { origin: origin.map(Arc::new), ..self }
    }

    /// Number of images; `None` for a dict.
    pub fn images(&self) -> Option<usize> {
        self.is_list.then_some(self.dicts.len())
    }

    /// The dict, or that of each image.
    pub fn dicts(&self) -> impl Iterator<Item = Properties> + '_ {
        self.dicts.iter().map(|dict| {
            let mut dict = Properties::clone(dict);
            for (name, value) in self.changes.iter() {
                match value {
                    Some(value) => drop(dict.insert(name.clone(), value.clone())),
                    None => drop(dict.remove(name)),
                }
            }
            dict
        })
    }

    /// An entry of the dict, or of the first image's.
    pub fn get(&self, name: &str) -> Option<&serde_json::Value> {
        let first = self.dicts.first()?;
        match self.changes.get(name) {
            Some(changed) => changed.as_ref(),
            None => first.get(name),
        }
    }

    /// Band names, where they are known.
    pub fn bands(&self) -> Option<Vec<String>> {
        let names = self.get("bands")?.as_array()?;
        let names: Option<Vec<String>> = names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
        names.filter(|names| !names.is_empty())
    }

    /// Pixels of padding.
    pub fn pad(&self) -> i64 {
        self.get("pad").and_then(serde_json::Value::as_i64).unwrap_or(0)
    }

    /// The product's id.
    pub fn product(&self) -> Option<&str> {
        self.get("product_id")?.as_str().filter(|id| !id.is_empty())
    }

    /// The same metadata with an entry of every dict set, or removed.
    pub fn with(mut self, name: &str, value: Option<serde_json::Value>) -> Props {
        Arc::make_mut(&mut self.changes).insert(name.to_owned(), value);
        self
    }

    /// The same metadata with other band names.
    pub fn with_bands(self, names: &[String]) -> Props {
        self.with("bands", Some(names.into()))
    }

    /// Records that a second product went into a result.
    fn with_other_product(self, other: &str) -> Props {
        let known = self.get("other_product_ids").and_then(serde_json::Value::as_array);
        let ids = known.cloned().unwrap_or_default().into_iter().chain([other.into()]).collect();
        self.with("other_product_ids", Some(serde_json::Value::Array(ids)))
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
    /// Pixels.
    Raster(Facts, &'a Props),
}

impl<'a> Arg<'a> {
    /// What it is, for messages.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Arg::Literal(literal) => literal.kind_name(),
            Arg::Scenes(_) => "scenes",
            Arg::Raster(facts, _) => facts.kind.name(),
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
            Arg::Scenes(_) => Err(self.not(name, "a raster or a number")),
        }
    }

    /// Facts and metadata of pixels.
    fn raster(&self, name: &'static str) -> Result<(Facts, &'a Props), TypeError> {
        match self {
            Arg::Raster(facts, props) => Ok((*facts, props)),
            Arg::Literal(_) | Arg::Scenes(_) => Err(self.not(name, "a raster")),
        }
    }

    /// The constant.
    fn literal(&self, name: &'static str) -> Result<&'a Literal, TypeError> {
        match self {
            Arg::Literal(literal) => Ok(literal),
            Arg::Raster(..) | Arg::Scenes(_) => Err(self.not(name, "a constant")),
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
        /// Metadata of the images.
        props: Props,
    },
    /// A plan node of this op.
    Call {
        /// Constants the kernel needs.
        params: Vec<Literal>,
        /// Which arguments are its inputs.
        inputs: Vec<usize>,
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
    /// Does not reach the workers: `bind` replaces it.
    Bind,
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
    /// The first operand as it is, hidden where the second is true.
    Hide(DType),
}

impl PixelKernel {
    /// Type that operand `index` is converted to before the kernel sees it.
    pub fn operand(&self, index: usize) -> DType {
        match self {
            PixelKernel::Float1(_) | PixelKernel::Float2(_) | PixelKernel::Compare(_) => DType::F32,
            PixelKernel::Bool1(_) | PixelKernel::Bool2(_) => DType::Bool,
            PixelKernel::Hide(data) => [*data, DType::Bool][index],
        }
    }

    /// Type of the result.
    pub fn result(&self) -> DType {
        match self {
            PixelKernel::Float1(_) | PixelKernel::Float2(_) => DType::F32,
            PixelKernel::Compare(_) | PixelKernel::Bool1(_) | PixelKernel::Bool2(_) => DType::Bool,
            PixelKernel::Hide(data) => *data,
        }
    }
}

/// What a block kernel sees.
#[derive(Debug)]
pub struct BlockCall<'a> {
    /// Constants, as `bind` resolved them.
    pub params: &'a [Literal],
    /// Input blocks.
    pub inputs: &'a [&'a Block],
    /// Facts of the result, as `infer` gave them.
    pub facts: Facts,
}

/// Why arguments do not fit an op.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TypeError {
    /// An argument of the wrong sort.
    #[error("argument `{name}` must be {expected}, got {got}")]
    Argument {
        /// Which argument.
        name: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        got: &'static str,
    },
    /// A constant of the right sort with a wrong value.
    #[error("argument `{name}` is `{value}`, expected {expected}")]
    Value {
        /// Which argument.
        name: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        value: String,
    },
    /// Part of the language that is not built yet.
    #[error("{what} is not supported yet")]
    Unsupported {
        /// What was asked for.
        what: String,
    },
    /// A condition on scenes that is none.
    #[error("argument `predicate_filter`: {error}")]
    Predicate {
        /// What is wrong with it.
        error: crate::predicate::PredicateError,
    },
    /// A pickled Python function.
    #[error("a pickled callable is never run; use {instead}")]
    Callable {
        /// What to use.
        instead: &'static str,
    },
    /// A band that the product or raster does not have.
    #[error("there is no band `{band}` in {place}; it has {}", listing(.available))]
    UnknownBand {
        /// The name.
        band: String,
        /// Product or raster.
        place: String,
        /// The names there are.
        available: Vec<String>,
    },
    /// Band names are needed and were lost on the way.
    #[error("the bands of this raster have no names; give them some with `rename_bands`")]
    NoBandNames,
    /// Rasters with different numbers of bands.
    #[error(
        "rasters with {left} and {right} bands do not fit; select with `pick_bands`, or use one band on one side"
    )]
    BandCount {
        /// Bands of the first.
        left: u32,
        /// Bands of the second.
        right: u32,
    },
    /// Stacks with different numbers of images.
    #[error("stacks of {left} and {right} images do not fit")]
    ImageCount {
        /// Images of the first.
        left: u32,
        /// Images of the second.
        right: u32,
    },
    /// Not as many names as bands.
    #[error("{names} names for {bands} bands")]
    NameCount {
        /// Names given.
        names: usize,
        /// Bands there are.
        bands: u32,
    },
    /// More bands than a value may have.
    #[error("the result would have {bands} bands, the limit is {limit}")]
    TooManyBands {
        /// Bands.
        bands: u64,
        /// The limit.
        limit: u32,
    },
    /// Names of bands that were joined too often.
    #[error(
        "the names of the bands would take {bytes} bytes, the limit is {limit}; shorten them with `rename_bands`"
    )]
    LongBandNames {
        /// Bytes of all names together.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Arithmetic that numpy refuses for truth values.
    #[error("`{op}` of bool values is not defined; use {instead}")]
    BoolArithmetic {
        /// The op.
        op: &'static str,
        /// What to use.
        instead: &'static str,
    },
    /// Logic on numbers.
    #[error("`{op}` needs bool values, got numbers; compare first, as in `x > 0`")]
    FloatLogic {
        /// The op.
        op: &'static str,
    },
    /// A mask that is not a truth value.
    #[error("a mask must be bool (True hides), got numbers; compare first, as in `cloud > 0`")]
    FloatMask,
    /// A stack as the mask of a mosaic.
    #[error("an ImageStack cannot mask a Mosaic; reduce the mask over images first")]
    StackMask,
    /// Two different paddings meet.
    #[error("the operands are padded by {left} and {right} pixels; use one `pad` for both")]
    TwoPads {
        /// Padding of the first.
        left: i64,
        /// Padding of the second.
        right: i64,
    },
    /// The value is not of the kind that the graft says.
    #[error("the graft says {said}, the value is {is}")]
    KindMismatch {
        /// What the graft says.
        said: String,
        /// What it is.
        is: &'static str,
    },
    /// An axis that the value does not have.
    #[error("a {kind} has no axis `{axis}` to reduce")]
    NoAxis {
        /// Kind of the value.
        kind: &'static str,
        /// The axis.
        axis: String,
    },
    /// Arithmetic on plain numbers without a result.
    #[error("{what} of {left} and {right} has no value")]
    NoValue {
        /// The op.
        what: &'static str,
        /// First number.
        left: f64,
        /// Second number.
        right: f64,
    },
    /// A scene without one of its product's bands.
    #[error("scene `{scene}` has no band `{band}`; it has {}", listing(.available))]
    SceneWithoutBand {
        /// The scene.
        scene: String,
        /// The band.
        band: String,
        /// Bands it has.
        available: Vec<String>,
    },
}

impl Classify for TypeError {
    fn class(&self) -> ErrorClass {
        match self {
            TypeError::Argument { .. } | TypeError::Value { .. } => ErrorClass::InvalidRequest,
            TypeError::Unsupported { .. } | TypeError::Callable { .. } => ErrorClass::Unsupported,
            TypeError::Predicate { error } => error.class(),
            TypeError::TooManyBands { .. } | TypeError::LongBandNames { .. } => ErrorClass::LimitExceeded,
            TypeError::UnknownBand { .. }
            | TypeError::NoBandNames
            | TypeError::BandCount { .. }
            | TypeError::ImageCount { .. }
            | TypeError::NameCount { .. }
            | TypeError::BoolArithmetic { .. }
            | TypeError::FloatLogic { .. }
            | TypeError::FloatMask
            | TypeError::StackMask
            | TypeError::TwoPads { .. }
            | TypeError::KindMismatch { .. }
            | TypeError::NoAxis { .. }
            | TypeError::NoValue { .. }
            | TypeError::SceneWithoutBand { .. } => ErrorClass::Impossible,
        }
    }
}

/// Kind of a pixel-wise combination of two values (protocol.md section 4).
pub(crate) fn broadcast(left: Kind, right: Kind) -> Result<Kind, TypeError> {
    let (Some(left_bands), Some(right_bands)) = (left.bands(), right.bands()) else {
        return Ok(if left == Kind::Number { right } else { left });
    };
    let bands = match (left_bands, right_bands) {
        (a, b) if a == b => a,
        (1, b) => b,
        (a, 1) => a,
        (left, right) => return Err(TypeError::BandCount { left, right }),
    };
    match (left.images(), right.images()) {
        (None, None) => Ok(Kind::Mosaic { bands }),
        (Some(images), None) | (None, Some(images)) => Ok(Kind::Stack { images, bands }),
        (Some(a), Some(b)) if a == b || b == 1 => Ok(Kind::Stack { images: a, bands }),
        (Some(1), Some(images)) => Ok(Kind::Stack { images, bands }),
        (Some(left), Some(right)) => Err(TypeError::ImageCount { left, right }),
    }
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
            assert!(
                doc.summary.ends_with('.') && doc.validity.ends_with('.') && doc.source.ends_with('.'),
                "{}",
                op.name()
            );
            let first_optional = doc.params.iter().position(|p| p.optional).unwrap_or(doc.params.len());
            assert!(doc.params[first_optional..].iter().all(|p| p.optional), "{}", op.name());
        }
    }

    #[test]
    fn broadcasting_follows_the_protocol() {
        let (m1, m3) = (Kind::Mosaic { bands: 1 }, Kind::Mosaic { bands: 3 });
        let stack = |images, bands| Kind::Stack { images, bands };
        assert_eq!(broadcast(Kind::Number, m3), Ok(m3));
        assert_eq!(broadcast(m1, m3), Ok(m3));
        assert_eq!(broadcast(m3, stack(5, 1)), Ok(stack(5, 3)));
        assert_eq!(broadcast(stack(1, 1), stack(5, 3)), Ok(stack(5, 3)));
        assert_eq!(broadcast(stack(0, 2), m1), Ok(stack(0, 2)));
        assert_eq!(broadcast(m3, stack(5, 2)), Err(TypeError::BandCount { left: 3, right: 2 }));
        assert_eq!(broadcast(stack(0, 1), stack(5, 1)), Err(TypeError::ImageCount { left: 0, right: 5 }));
    }
}
