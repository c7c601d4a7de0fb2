//! Transforms between CRSs. A trait, so that the pure crate stays pure; PROJ is its one implementation.

#[cfg(feature = "proj")]
mod proj;

#[cfg(feature = "proj")]
pub use proj::{Proj, proj_version};

use crate::error::{Classify, ErrorClass};
use crate::grid::Crs;

/// Why a CRS or a point cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TransformError {
    /// Not an EPSG code, PROJ string or WKT that PROJ knows.
    #[error("unknown CRS `{text}`: {reason}; use `EPSG:32613`, a PROJ string or WKT")]
    UnknownCrs {
        /// What was given.
        text: String,
        /// What PROJ said.
        reason: String,
    },
    /// A point has no place in the other CRS.
    #[error("({x}, {y}) in {from} has no place in {to}")]
    NoPlace {
        /// First coordinate.
        x: f64,
        /// Second coordinate.
        y: f64,
        /// CRS of the point.
        from: Crs,
        /// CRS asked for.
        to: Crs,
    },
}

impl Classify for TransformError {
    fn class(&self) -> ErrorClass {
        match self {
            TransformError::UnknownCrs { .. } | TransformError::NoPlace { .. } => ErrorClass::InvalidRequest,
        }
    }
}

/// What one unit of a CRS's coordinates is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unit {
    /// So many metres, in the plane of the projection.
    Metres(f64),
    /// An angle of so many radians.
    Radians(f64),
}

/// Knowledge about CRSs. Coordinates are in traditional order: x (longitude) first, then y (latitude).
pub trait Transform: Send + Sync {
    /// The canonical form of a text that names a CRS: an authority code, a PROJ string or WKT.
    fn canonical(&self, text: &str) -> Result<Crs, TransformError>;

    /// Whether two CRSs place every coordinate pair at the same point.
    fn same(&self, a: &Crs, b: &Crs) -> bool;

    /// Whether coordinates are angles.
    fn is_geographic(&self, crs: &Crs) -> Result<bool, TransformError>;

    /// What one unit of its coordinates is: a degree or a metre where nothing else is known.
    fn unit(&self, crs: &Crs) -> Result<Unit, TransformError> {
        const DEGREE: f64 = std::f64::consts::PI / 180.0;
        Ok(if self.is_geographic(crs)? { Unit::Radians(DEGREE) } else { Unit::Metres(1.0) })
    }

    /// Moves points from one CRS to another, in place.
    ///
    /// # Errors
    /// [`TransformError::NoPlace`] for the first point that does not transform to finite coordinates.
    fn points(&self, from: &Crs, to: &Crs, points: &mut [(f64, f64)]) -> Result<(), TransformError>;

    /// Moves the points that have a place in the other CRS; the others become NaN.
    fn points_or_nan(&self, from: &Crs, to: &Crs, points: &mut [(f64, f64)]) {
        if points.is_empty() || self.points(from, to, points).is_ok() {
            return;
        }
        match points {
            [lost] => *lost = (f64::NAN, f64::NAN),
            _ => {
                let (a, b) = points.split_at_mut(points.len() / 2);
                self.points_or_nan(from, to, a);
                self.points_or_nan(from, to, b);
            }
        }
    }
}

/// Knows no transform: CRSs are the same where their texts are. For planning what has one CRS, and for
/// tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByText;

impl Transform for ByText {
    fn canonical(&self, text: &str) -> Result<Crs, TransformError> {
        Ok(Crs::from_canonical(text))
    }

    fn same(&self, a: &Crs, b: &Crs) -> bool {
        a == b
    }

    fn is_geographic(&self, _: &Crs) -> Result<bool, TransformError> {
        Ok(false)
    }

    fn points(&self, from: &Crs, to: &Crs, points: &mut [(f64, f64)]) -> Result<(), TransformError> {
        match points.first() {
            Some((x, y)) if from != to => {
                Err(TransformError::NoPlace { x: *x, y: *y, from: from.clone(), to: to.clone() })
            }
            _ => Ok(()),
        }
    }
}
