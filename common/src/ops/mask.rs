//! Hiding pixels: `mask`.

use super::{
    Arg, BindCx, Bound, Facts, Kernel, Op, OpDoc, PixelKernel, TypeError, broadcast, required, spread,
};
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
            shapes: "A raster, and a bool raster or array that fits it: one band or as many, of one image or as many. The result is as the data.",
            units: "Those of the data.",
            validity: "Valid where the data is valid and the mask is valid and false.",
            accuracy: "Exact.",
            source: "numpy.ma; an invalid entry of the mask hides the pixel.",
        }
    }

    fn bind(&self, cx: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let (data, props) = args[0].raster("data")?;
        let (mask, _) = args[1].operand("mask")?;
        if mask.kind == Kind::Number {
            return Err(args[1].not("mask", "a raster or an array"));
        }
        let mut facts = [data, mask];
        let inputs = spread(cx, args, &mut facts)?;
        self.infer(&[], &facts)?;
        Ok(Bound::Call { params: vec![], inputs, props: props.clone() })
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

    fn kernel(&self, _: &[Literal], inputs: &[Facts]) -> Kernel {
        Kernel::Pixel(PixelKernel::Hide(inputs[0].dtype))
    }
}
