//! Hiding pixels: `mask`.

use super::pointwise::joint_pad;
use super::{
    Arg, BindCx, Bound, Facts, Kernel, Op, OpDoc, PixelKernel, SelectKernel, Strip, TypeError, Values,
    ValuesMut, broadcast, required, spread,
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
        let (mask, mask_props) = args[1].operand("mask")?;
        if mask.kind == Kind::Number {
            return Err(args[1].not("mask", "a raster or an array"));
        }
        let mut facts = [data, mask];
        let inputs = spread(cx, args, &mut facts)?;
        self.infer(&[], &facts)?;
        joint_pad(props, &mask_props)?;
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

    fn padding(&self, inputs: &[Option<u32>]) -> Option<u32> {
        inputs.first().copied().flatten()
    }

    fn kernel(&self, _: &[Literal], inputs: &[Facts]) -> Kernel {
        let (operands, result): (&[DType], DType) = match inputs[0].dtype {
            DType::F32 => (&[DType::F32, DType::Bool], DType::F32),
            DType::Bool => (&[DType::Bool, DType::Bool], DType::Bool),
        };
        Kernel::Pixel(PixelKernel::Select(SelectKernel { operands, result, run: hide }))
    }
}

/// The first operand as it is, hidden where the second is true; it is invalid already where either is.
fn hide(strip: &Strip<'_>, out: ValuesMut<'_>, valid: &mut [u8]) {
    match (strip.values[0], out) {
        (Values::F32(data), ValuesMut::F32(out)) => out.copy_from_slice(data),
        (Values::Bool(data), ValuesMut::Bool(out)) => out.copy_from_slice(data),
        _ => unreachable!("hiding keeps the type of the data"),
    }
    valid.iter_mut().zip(strip.values[1].bools()).for_each(|(valid, hidden)| *valid &= 1 - hidden);
}
