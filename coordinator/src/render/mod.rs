//! Blocks as pictures to look at: one band through a colour map, three bands as red, green and blue,
//! truth values in two colours. Invalid pixels are transparent. Pictures carry no coordinates.
//!
//! `still` is a whole result as one picture, `paint` a tile of a map; `picture` encodes.

mod classes;
mod colormap;
mod colormaps;
mod legend;
mod message;
mod paint;
mod picture;
mod still;
mod text;

use graticule_common::block::Kind;
use graticule_common::error::{Classify, ErrorClass};

pub use classes::{CLASSES_MAX, Class, Classes, Matches};
pub use colormap::Colormap;
pub use legend::legend;
pub use message::message;
pub use paint::{Colours, TileStyle, paint};
pub use picture::{Picture, Pixels};
pub use still::png;

/// How a block becomes a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Style {
    /// Colours of a one-band raster; its two ends are the colours of false and true.
    pub colormap: Colormap,
    /// Values shown as the darkest and the brightest colour, one pair for all bands or one for each; what
    /// is beyond them is shown as they are. Empty: the 2nd and the 98th percentile of the valid, finite
    /// values, in a picture of three bands for each band on its own.
    pub stretch: Vec<(f32, f32)>,
    /// Every pixel is shown as a square of so many picture pixels that the longer side has at least
    /// this many; at most [`ENLARGE_MAX`].
    pub enlarge_to: u32,
}

/// The longer side that [`Style::enlarge_to`] may ask for.
pub const ENLARGE_MAX: u32 = 4096;

impl Default for Style {
    fn default() -> Self {
        Style { colormap: Colormap::default(), stretch: Vec::new(), enlarge_to: 640 }
    }
}

/// Why a block is not shown.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RenderError {
    /// A number or a time series.
    #[error("a {kind} is not a picture; reduce it over images to a mosaic of one or three bands")]
    NotAMosaic {
        /// What it is.
        kind: Kind,
    },
    /// Neither one band nor three.
    #[error("a picture shows one band or three, not {bands}; pick one or three with `pick_bands`")]
    BandCount {
        /// Number of bands.
        bands: u32,
    },
    /// A stretch without extent.
    #[error("cannot stretch from `{low}` to `{high}`; give two finite numbers, the lower one first")]
    Stretch {
        /// Value of the darkest colour.
        low: f32,
        /// Value of the brightest colour.
        high: f32,
    },
    /// As many stretches as there are no bands.
    #[error("{stretches} ranges of values for {bands} bands; give one for all or one for each")]
    StretchCount {
        /// Number of stretches.
        stretches: usize,
        /// Number of bands.
        bands: u32,
    },
    /// No such map.
    #[error("unknown colour map `{name}`; {}", colormap::way_out(name))]
    UnknownColormap {
        /// Name asked for.
        name: String,
    },
    /// Classes that are none.
    #[error("{problem}")]
    Classes {
        /// What does not fit, and the way out.
        problem: String,
    },
    /// An opacity that is not one value for every pixel.
    #[error(
        "the opacity (`alpha`) is a {kind} of {rows} x {cols} pixels; it must be a mosaic of one band on the tile"
    )]
    Alpha {
        /// What it is.
        kind: Kind,
        /// Its rows.
        rows: u32,
        /// Its columns.
        cols: u32,
    },
    /// The encoder refused.
    #[error("cannot encode the picture: {reason}")]
    Encode {
        /// What it said.
        reason: String,
    },
}

impl Classify for RenderError {
    fn class(&self) -> ErrorClass {
        match self {
            RenderError::NotAMosaic { .. } | RenderError::BandCount { .. } | RenderError::Alpha { .. } => {
                ErrorClass::Impossible
            }
            RenderError::Stretch { .. }
            | RenderError::StretchCount { .. }
            | RenderError::Classes { .. }
            | RenderError::UnknownColormap { .. } => ErrorClass::InvalidRequest,
            RenderError::Encode { .. } => ErrorClass::Internal,
        }
    }
}

/// Whether something of this kind can be shown.
///
/// # Errors
/// [`RenderError`], as [`png`] would give.
pub fn check(kind: Kind, style: &Style) -> Result<(), RenderError> {
    let bands = match kind {
        Kind::Mosaic { bands: bands @ (1 | 3) } => bands,
        Kind::Mosaic { bands } => return Err(RenderError::BandCount { bands }),
        Kind::Number | Kind::Array(_) | Kind::Stack { .. } => return Err(RenderError::NotAMosaic { kind }),
    };
    if let Some((low, high)) =
        style.stretch.iter().copied().find(|(low, high)| !(low.is_finite() && high.is_finite() && low < high))
    {
        return Err(RenderError::Stretch { low, high });
    }
    let stretches = style.stretch.len();
    if stretches > 1 && stretches != bands as usize {
        return Err(RenderError::StretchCount { stretches, bands });
    }
    Ok(())
}
