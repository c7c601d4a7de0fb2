//! Hiding pixels: `mask`.

use super::{Arg, BindCx, Bound, Facts, Kernel, Op, OpDoc, PixelKernel, TypeError, broadcast, required};
use crate::block::{DType, Kind};
use crate::literal::Literal;

/// The ops of this family.
pub const OPS: &[&dyn Op] = &[&Mask];

/// `mask(data, mask)`: data first.
#[derive(Debug)]
pub struct Mask;

impl Op for Mask {
    fn name(&self) -> &'static str {
        "mask"
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: "The data, hidden where the mask is true.",
            params: const { &[required("data"), required("mask")] },
            validity: "Valid where the data is valid and the mask is valid and false.",
            source: "numpy.ma; an invalid entry of the mask hides the pixel.",
        }
    }

    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let (data, props) = args[0].raster("data")?;
        let (mask, _) = args[1].raster("mask")?;
        self.infer(&[], &[data, mask])?;
        Ok(Bound::Call { params: vec![], inputs: vec![0, 1], props: props.clone() })
    }

    fn infer(&self, _: &[Literal], inputs: &[Facts]) -> Result<Facts, TypeError> {
        let [data, mask] = inputs else {
            return Err(TypeError::Argument { name: "mask", expected: "data and a mask", got: "others" });
        };
        if mask.dtype != DType::Bool {
            return Err(TypeError::FloatMask);
        }
        match (data.kind, mask.kind) {
            (Kind::Mosaic { .. }, Kind::Stack { .. }) => return Err(TypeError::StackMask),
            (Kind::Stack { images: left, .. }, Kind::Stack { images: right, .. }) if left != right => {
                return Err(TypeError::ImageCount { left, right });
            }
            _ => {}
        }
        // The mask fits the data, never the other way round.
        if broadcast(data.kind, mask.kind)? != data.kind {
            let bands = |kind: Kind| kind.bands().unwrap_or(0);
            return Err(TypeError::BandCount { left: bands(data.kind), right: bands(mask.kind) });
        }
        Ok(*data)
    }

    fn keeps_values(&self) -> bool {
        true
    }

    fn kernel(&self, inputs: &[Facts]) -> Kernel {
        Kernel::Pixel(PixelKernel::Hide(inputs[0].dtype))
    }
}
