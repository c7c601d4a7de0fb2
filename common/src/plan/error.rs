//! Why an expression has no plan.

use super::pass_names;
use crate::error::{Classify, ErrorClass, GraftPath};
use crate::ops::TypeError;

/// Why an expression has no plan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BindError {
    /// Arguments do not fit an op.
    #[error("{at}: `{op}`: {error}")]
    Type {
        /// Where in the graft.
        at: GraftPath,
        /// The op.
        op: &'static str,
        /// What does not fit.
        error: TypeError,
    },
    /// The value of the graft is nothing that can be a result.
    #[error("{at}: the graft's value is {is}; it must be a raster, an array, a number or a list")]
    NoRaster {
        /// Where in the graft.
        at: GraftPath,
        /// What it is.
        is: &'static str,
    },
    /// A parameter of the graft without a value.
    #[error("{at}: the graft's parameter `{name}` has no value; give it one")]
    Open {
        /// Where in the graft.
        at: GraftPath,
        /// The parameter.
        name: String,
    },
    /// More output than `Limits::output_samples`.
    #[error(
        "the result would have {samples} values (images x bands x rows x columns), the limit is {limit}; ask for a smaller AOI or a coarser resolution"
    )]
    Output {
        /// Values.
        samples: u64,
        /// The limit.
        limit: u64,
    },
    /// Not even the smallest tile fits into memory.
    #[error(
        "a tile of {tile} x {tile} pixels would take {bytes} bytes, the limit is {limit}; select fewer scenes or bands"
    )]
    Memory {
        /// Edge of the smallest tile.
        tile: u32,
        /// Its peak.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// More tiles than `Limits::tiles`.
    #[error(
        "the request has {tiles} tiles of {size} x {size} pixels, the limit is {limit}; ask for a smaller AOI or a coarser resolution"
    )]
    Tiles {
        /// Tiles.
        tiles: u64,
        /// Their edge.
        size: u32,
        /// The limit.
        limit: u64,
    },
    /// More reductions over pixels that need one another than `Limits::stages`.
    #[error(
        "reductions over pixels depend on one another in more than {limit} stages; compute some of them in a request of their own"
    )]
    Stages {
        /// The limit.
        limit: usize,
    },
    /// More planes to be reduced over pixels than `Limits::stage_planes`.
    #[error(
        "reducing over pixels would take {planes} planes of tiles (images x bands x tiles x rounds), the limit is {limit}; ask for a smaller AOI or a coarser resolution, or select fewer scenes or bands"
    )]
    Stage {
        /// Planes.
        planes: u64,
        /// The limit.
        limit: u64,
    },
    /// More state of reductions over pixels than `Limits::partial_bytes`.
    #[error(
        "reducing over pixels would take {bytes} bytes for each tile in flight, the limit is {limit}; select fewer scenes or bands"
    )]
    Partials {
        /// Bytes of the partials of a tile.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A pass that does not exist was to be left out.
    #[error("there is no pass `{name}`; there are {}", pass_names())]
    UnknownPass {
        /// The name.
        name: String,
    },
}

impl Classify for BindError {
    fn class(&self) -> ErrorClass {
        match self {
            BindError::Type { error, .. } => error.class(),
            BindError::NoRaster { .. } | BindError::Open { .. } | BindError::UnknownPass { .. } => {
                ErrorClass::InvalidRequest
            }
            BindError::Output { .. }
            | BindError::Memory { .. }
            | BindError::Tiles { .. }
            | BindError::Stages { .. }
            | BindError::Stage { .. }
            | BindError::Partials { .. } => ErrorClass::LimitExceeded,
        }
    }
    fn place(&self) -> Option<&GraftPath> {
        match self {
            BindError::Type { at, .. } | BindError::NoRaster { at, .. } | BindError::Open { at, .. } => {
                Some(at)
            }
            BindError::Output { .. }
            | BindError::Memory { .. }
            | BindError::Tiles { .. }
            | BindError::Stages { .. }
            | BindError::Stage { .. }
            | BindError::Partials { .. }
            | BindError::UnknownPass { .. } => None,
        }
    }
}
