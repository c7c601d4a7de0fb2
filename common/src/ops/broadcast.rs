//! How operands of different shapes meet (protocol.md section 4).
//!
//! Rasters meet by [`broadcast`]. An array that meets a raster is laid out along the raster's axes
//! first: its [`Spread`] says along which. After that it is a raster like any other.

use super::{Arg, BindCx, Facts, Props, TypeError};
use crate::block::{ArrayShape, Kind};

/// An array laid out along the axes `[image, band, row, col]`: its values in order have these lengths
/// there, and are repeated along the axes of length 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spread {
    /// Lengths along the four axes; for an array, along the last four of its own.
    pub dims: [u32; 4],
    /// What it becomes.
    pub kind: Kind,
}

impl Spread {
    /// Whether it makes what it says, on planes of so many rows and columns where they differ.
    pub(crate) fn fits(&self, pixels: Option<(u32, u32)>) -> bool {
        let [images, bands, rows, cols] = self.dims;
        let one = |len: u32, of: u32| len == 1 || len == of;
        match self.kind {
            Kind::Number => false,
            Kind::Array(shape) => {
                let mut axes = [1; 4];
                axes[4 - shape.axes().len()..].copy_from_slice(shape.axes());
                pixels.is_none() && self.dims.iter().zip(axes).all(|(len, axis)| one(*len, axis))
            }
            Kind::Mosaic { .. } | Kind::Stack { .. } => {
                let planes = images == self.kind.images().unwrap_or(1) && Some(bands) == self.kind.bands();
                let (high, wide) = pixels.unwrap_or((1, 1));
                planes && self.has_pixels() == pixels.is_some() && one(rows, high) && one(cols, wide)
            }
        }
    }

    /// Whether the values differ from pixel to pixel, and so belong to one grid.
    pub fn has_pixels(&self) -> bool {
        self.kind.is_raster() && (self.dims[2] > 1 || self.dims[3] > 1)
    }
}

/// An input of a plan node, among the arguments of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundInput {
    /// The argument with this position, as it is.
    Arg(usize),
    /// An array, laid out.
    Spread(usize, Spread),
}

impl From<usize> for BoundInput {
    fn from(arg: usize) -> BoundInput {
        BoundInput::Arg(arg)
    }
}

/// Kind of a pixel-wise combination of two values that are laid out alike.
pub(crate) fn broadcast(left: Kind, right: Kind) -> Result<Kind, TypeError> {
    match (left, right) {
        (Kind::Number, other) | (other, Kind::Number) => return Ok(other),
        (Kind::Array(left), Kind::Array(right)) => return Ok(Kind::Array(joint(left, right)?)),
        _ => {}
    }
    let (Some(left_bands), Some(right_bands)) = (left.bands(), right.bands()) else {
        // `spread` has laid out every array that meets a raster.
        return Err(TypeError::Argument { name: "a", expected: "operands laid out alike", got: "others" });
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

/// Shape of a combination of two arrays: numpy's rule on trailing axes, but a vector that is as long as
/// the other's leading axis runs along that.
fn joint(left: ArrayShape, right: ArrayShape) -> Result<ArrayShape, TypeError> {
    let rank = left.axes().len().max(right.axes().len());
    let (a, b) = (lay_out(left, right), lay_out(right, left));
    let mut axes = Vec::with_capacity(rank);
    for at in 4 - rank..4 {
        axes.push(match (a[at], b[at]) {
            (a, b) if a == b || b == 1 => a,
            (1, b) => b,
            _ => return Err(TypeError::Shapes { left: left.to_string(), right: right.to_string() }),
        });
    }
    let leading = left.is_leading() || right.is_leading();
    ArrayShape::new(&axes, leading)
        .ok_or_else(|| TypeError::Shapes { left: left.to_string(), right: right.to_string() })
}

/// Lengths of an array along the last four axes of what it meets: another array, or their result.
fn lay_out(array: ArrayShape, other: ArrayShape) -> [u32; 4] {
    let mut dims = [1; 4];
    match (array.axes(), other.axes()) {
        (&[len], &[first, _, ..]) if len == first && !array.is_leading() => {
            dims[4 - other.axes().len()] = len
        }
        (axes, _) => dims[4 - axes.len()..].copy_from_slice(axes),
    }
    dims
}

/// How an array lies along the axes of a raster whose planes have `pixels` rows and columns.
fn along(array: ArrayShape, raster: Kind, pixels: (u32, u32)) -> Result<Spread, TypeError> {
    let misfit = || TypeError::Shapes {
        left: array.to_string(),
        right: format!("{raster} of {} x {} pixels", pixels.0, pixels.1),
    };
    let (images, bands) = (raster.images(), raster.bands().unwrap_or(0));
    // Rows and columns of an array are those of the grid, or one for all.
    let fits = |rows: u32, cols: u32| (rows == 1 || rows == pixels.0) && (cols == 1 || cols == pixels.1);
    let mosaic = |dims: [u32; 4]| Spread { dims, kind: Kind::Mosaic { bands: dims[1] } };
    let stack = |dims: [u32; 4]| Spread { dims, kind: Kind::Stack { images: dims[0], bands: dims[1] } };
    Ok(match (array.axes(), array.is_leading()) {
        (&[], _) => mosaic([1, 1, 1, 1]),
        (&[bands], true) => mosaic([1, bands, 1, 1]),
        (&[images, bands], true) => stack([images, bands, 1, 1]),
        (&[len], false) if images == Some(len) => stack([len, 1, 1, 1]),
        (&[len], false) if images.is_none() && len == bands => mosaic([1, len, 1, 1]),
        (&[cols], _) if fits(1, cols) => mosaic([1, 1, 1, cols]),
        (&[rows, cols], _) if fits(rows, cols) => mosaic([1, 1, rows, cols]),
        (&[bands, rows, cols], _) if fits(rows, cols) => mosaic([1, bands, rows, cols]),
        (&[images, bands, rows, cols], _) if fits(rows, cols) => stack([images, bands, rows, cols]),
        _ => return Err(misfit()),
    })
}

/// Lays out operands that meet pixel by pixel: `facts` become those of the inputs, which are returned.
///
/// # Errors
/// [`TypeError::Shapes`] for an array that fits neither the raster's axes nor the other arrays.
pub(crate) fn spread(
    cx: &BindCx<'_>,
    args: &[Arg<'_>],
    facts: &mut [Facts],
) -> Result<Vec<BoundInput>, TypeError> {
    let rasters = || facts.iter().map(|facts| facts.kind).filter(|kind| kind.is_raster());
    let raster = rasters().try_fold(Kind::Number, broadcast)?;
    let arrays = || facts.iter().map(|facts| facts.kind).filter(|kind| matches!(kind, Kind::Array(_)));
    let joint = arrays().try_fold(Kind::Number, |joint, array| match raster {
        Kind::Number => broadcast(joint, array),
        _ => Ok(joint),
    })?;
    let pad = args.iter().map(Arg::pad).max().unwrap_or(0);
    let domain = cx.grid.window().pad(pad, pad);
    let mut inputs = Vec::with_capacity(facts.len());
    for (at, facts) in facts.iter_mut().enumerate() {
        let spread = match (facts.kind, joint) {
            (Kind::Array(array), _) if raster.is_raster() => {
                Some(along(array, raster, (domain.rows, domain.cols))?)
            }
            (Kind::Array(array), Kind::Array(joint)) if array.axes() != joint.axes() => {
                Some(Spread { dims: lay_out(array, joint), kind: Kind::Array(joint) })
            }
            _ => None,
        };
        if let Some(spread) = spread {
            facts.kind = spread.kind;
        }
        inputs.push(spread.map_or(BoundInput::Arg(at), |spread| BoundInput::Spread(at, spread)));
    }
    Ok(inputs)
}

impl Arg<'_> {
    /// Pixels of padding of a raster; 0 for everything else.
    pub(crate) fn pad(&self) -> u32 {
        match self {
            Arg::Raster(facts, props) if facts.kind.is_raster() => Props::pad(props).try_into().unwrap_or(0),
            Arg::Raster(..) | Arg::Literal(_) | Arg::Scenes(_) | Arg::Function(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn stack(images: u32, bands: u32) -> Kind {
        Kind::Stack { images, bands }
    }

    fn array(axes: &[u32], leading: bool) -> ArrayShape {
        ArrayShape::new(axes, leading).unwrap()
    }

    #[test]
    fn rasters_follow_the_protocol() {
        let (m1, m3) = (Kind::Mosaic { bands: 1 }, Kind::Mosaic { bands: 3 });
        assert_eq!(broadcast(Kind::Number, m3), Ok(m3));
        assert_eq!(broadcast(m1, m3), Ok(m3));
        assert_eq!(broadcast(m3, stack(5, 1)), Ok(stack(5, 3)));
        assert_eq!(broadcast(stack(1, 1), stack(5, 3)), Ok(stack(5, 3)));
        assert_eq!(broadcast(stack(0, 2), m1), Ok(stack(0, 2)));
        assert_eq!(broadcast(m3, stack(5, 2)), Err(TypeError::BandCount { left: 3, right: 2 }));
        assert_eq!(broadcast(stack(0, 1), stack(5, 1)), Err(TypeError::ImageCount { left: 0, right: 5 }));
    }

    #[test]
    fn arrays_run_along_the_axes_that_the_protocol_says() {
        let dims = |axes: &[u32], leading, raster| {
            along(array(axes, leading), raster, (7, 5)).ok().map(|spread| spread.dims)
        };
        let m3 = Kind::Mosaic { bands: 3 };
        assert_eq!(dims(&[3], false, m3), Some([1, 3, 1, 1]));
        // Along the images, never along the bands, of a stack.
        assert_eq!(dims(&[4], false, stack(4, 3)), Some([4, 1, 1, 1]));
        assert_eq!(dims(&[3], false, stack(4, 3)), None);
        assert_eq!(dims(&[5], false, stack(4, 3)), Some([1, 1, 1, 5]));
        assert_eq!(dims(&[7, 5], false, stack(4, 3)), Some([1, 1, 7, 5]));
        assert_eq!(dims(&[4, 3], true, stack(4, 3)), Some([4, 3, 1, 1]));
        assert_eq!(dims(&[4, 3], false, stack(4, 3)), None);
        assert_eq!(dims(&[3], true, stack(3, 3)), Some([1, 3, 1, 1]));
        assert_eq!(dims(&[], false, m3), Some([1, 1, 1, 1]));
    }

    #[test]
    fn arrays_among_themselves() {
        let of = |a: ArrayShape, b: ArrayShape| joint(a, b).ok();
        assert_eq!(of(array(&[4, 3], true), array(&[3], false)), Some(array(&[4, 3], true)));
        assert_eq!(of(array(&[4], false), array(&[4, 3], true)), Some(array(&[4, 3], true)));
        assert_eq!(of(array(&[2], false), array(&[4, 3], true)), None);
        assert_eq!(of(array(&[], false), array(&[4], false)), Some(array(&[4], false)));
        assert_eq!(lay_out(array(&[4], false), array(&[4, 3], true)), [1, 1, 4, 1]);
    }
}
