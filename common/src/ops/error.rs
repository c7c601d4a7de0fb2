//! Why a call has no meaning: every way in which arguments do not fit an op.

use crate::error::{Classify, ErrorClass, listing};

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
    #[error("argument `{name}`: {error}")]
    Predicate {
        /// Which argument.
        name: &'static str,
        /// What is wrong with it.
        error: crate::predicate::PredicateError,
    },
    /// A pickled Python function.
    #[error("argument `{name}`: {error}")]
    Callable {
        /// Which argument.
        name: &'static str,
        /// Why it is refused, and what to use.
        error: crate::callable::CallableError,
    },
    /// A function of properties has no value for an image.
    #[error("`{op}` at {at}, for image `{image}`: {problem}")]
    Property {
        /// The op inside the function.
        op: &'static str,
        /// Where it stands.
        at: crate::error::GraftPath,
        /// Id of the image.
        image: String,
        /// What is wrong.
        problem: String,
    },
    /// An op on constants of properties has no value.
    #[error("{problem}")]
    Constant {
        /// What is wrong.
        problem: String,
    },
    /// A function of properties that uses something else.
    #[error(
        "a function of an image's properties uses {what}; it sees the properties and constants alone, pixels are compared outside, as in `mask`"
    )]
    Captured {
        /// What it uses.
        what: &'static str,
    },
    /// A function of many steps, for many images.
    #[error(
        "the function would take {steps} steps for all images, the limit is {limit}; select fewer scenes"
    )]
    PropertySteps {
        /// Steps.
        steps: u64,
        /// The limit.
        limit: u64,
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
    /// A stack made of an array: its images have no metadata.
    #[error("the images of this stack have no properties; filter the stack before it meets an array")]
    NoImageProperties,
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
    /// An array that fits none of the axes of what it meets.
    #[error(
        "{left} and {right} do not fit; a vector runs along the images of a stack or the bands of a mosaic, other arrays along rows and columns"
    )]
    Shapes {
        /// The first.
        left: String,
        /// The second.
        right: String,
    },
    /// A sum of products of different lengths.
    #[error(
        "the first operand has {left} entries to multiply, the second {right}; they must have as many (bands of a mosaic, images of a stack, rows or columns of an array)"
    )]
    DotLength {
        /// Entries of the first.
        left: u32,
        /// Entries of the second.
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
    /// A reduction over pixels that would need an order of them.
    #[error("`{op}` over `pixels` is not defined: pixels have no order; reduce over `images` or `bands`")]
    NoOrder {
        /// The op.
        op: &'static str,
    },
    /// A function that was given as a reducer and did not reduce.
    #[error(
        "the reducer must give {expected} over `{axis}`, it gives {is}; reductions inside it take its `axis`"
    )]
    NotReduced {
        /// The axis.
        axis: String,
        /// Kind of a reduction.
        expected: String,
        /// Kind of its value.
        is: String,
    },
    /// Arithmetic on plain numbers without a result.
    #[error("{what} of {left}{} has no value", .right.map_or(String::new(), |right| format!(" and {right}")))]
    NoValue {
        /// The op.
        what: &'static str,
        /// First number.
        left: f64,
        /// Second number, where there is one.
        right: Option<f64>,
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
            TypeError::Unsupported { .. } => ErrorClass::Unsupported,
            TypeError::Callable { error, .. } => error.class(),
            TypeError::Predicate { error, .. } => error.class(),
            TypeError::TooManyBands { .. }
            | TypeError::LongBandNames { .. }
            | TypeError::PropertySteps { .. } => ErrorClass::LimitExceeded,
            TypeError::UnknownBand { .. }
            | TypeError::NoBandNames
            | TypeError::NoImageProperties
            | TypeError::Property { .. }
            | TypeError::Constant { .. }
            | TypeError::Captured { .. }
            | TypeError::BandCount { .. }
            | TypeError::ImageCount { .. }
            | TypeError::Shapes { .. }
            | TypeError::DotLength { .. }
            | TypeError::NameCount { .. }
            | TypeError::BoolArithmetic { .. }
            | TypeError::FloatLogic { .. }
            | TypeError::FloatMask
            | TypeError::StackMask
            | TypeError::TwoPads { .. }
            | TypeError::KindMismatch { .. }
            | TypeError::NoAxis { .. }
            | TypeError::NoOrder { .. }
            | TypeError::NotReduced { .. }
            | TypeError::NoValue { .. }
            | TypeError::SceneWithoutBand { .. } => ErrorClass::Impossible,
        }
    }
}
