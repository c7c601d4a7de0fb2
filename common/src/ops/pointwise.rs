//! What all value-by-value ops share: how operands combine, and how metadata travels
//! (protocol.md sections 4 and 5). The ops themselves are rows in `arith.rs` and `compare.rs`.

use std::sync::Arc;

use super::bands::check_names;
use super::{
    Arg, BindCx, Bound, Facts, Kernel, Op, OpDoc, PixelKernel, Props, TypeError, broadcast, required,
};
use crate::block::{DType, Kind};
use crate::literal::Literal;
use crate::scene::Properties;

/// What an op does with truth values.
#[derive(Clone, Copy, Debug)]
pub(super) enum OnBool {
    /// They count as 0 and 1.
    AsNumbers,
    /// They stay truth values when all operands are.
    Kernel(PixelKernel),
    /// numpy refuses them; what to use instead.
    Refuse(&'static str),
    /// Nothing else is accepted.
    Only,
}

/// A row of a family: an op of one or two operands, value by value.
#[derive(Debug)]
pub(super) struct Pointwise {
    pub name: &'static str,
    /// Between the names of two bands that are combined; empty for ops of one operand.
    pub joint: &'static str,
    /// Kernel for numbers, or for what `on_bool` says is the only sort.
    pub kernel: PixelKernel,
    pub on_bool: OnBool,
    /// The same on plain numbers, as Python computes it; `None` where it has no value.
    pub scalar: fn(&Literal, &Literal) -> Option<Literal>,
    pub summary: &'static str,
    pub validity: &'static str,
    pub source: &'static str,
}

impl Pointwise {
    fn operands(&self) -> usize {
        match self.kernel {
            PixelKernel::Float1(_) | PixelKernel::Bool1(_) => 1,
            PixelKernel::Float2(_)
            | PixelKernel::Compare(_)
            | PixelKernel::Bool2(_)
            | PixelKernel::Hide(_) => 2,
        }
    }

    /// The kernel for inputs of these types.
    fn select(&self, inputs: &[Facts]) -> Result<PixelKernel, TypeError> {
        let all_bool = inputs.iter().all(|facts| facts.dtype == DType::Bool);
        match self.on_bool {
            OnBool::Only if !all_bool => Err(TypeError::FloatLogic { op: self.name }),
            OnBool::Kernel(kernel) if all_bool => Ok(kernel),
            OnBool::Refuse(instead) if all_bool => Err(TypeError::BoolArithmetic { op: self.name, instead }),
            OnBool::AsNumbers | OnBool::Kernel(_) | OnBool::Refuse(_) | OnBool::Only => Ok(self.kernel),
        }
    }
}

impl Op for Pointwise {
    fn name(&self) -> &'static str {
        self.name
    }

    fn doc(&self) -> OpDoc {
        let params: &[super::Param] = if self.operands() == 1 {
            const { &[required("a")] }
        } else {
            const { &[required("a"), required("b")] }
        };
        OpDoc { summary: self.summary, params, validity: self.validity, source: self.source }
    }

    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let (a, a_props) = args[0].operand("a")?;
        if self.operands() == 1 {
            if let Arg::Literal(literal) = args[0] {
                return self.on_numbers(literal, &Literal::Null);
            }
            self.infer(&[], &[a])?;
            return Ok(Bound::Call { params: vec![], inputs: vec![0], props: a_props });
        }
        let (b, b_props) = args[1].operand("b")?;
        if let (Arg::Literal(left), Arg::Literal(right)) = (args[0], args[1]) {
            return self.on_numbers(left, right);
        }
        let facts = self.infer(&[], &[a, b])?;
        let props = combine(self.joint, facts.kind, &a_props, &b_props)?;
        Ok(Bound::Call { params: vec![], inputs: vec![0, 1], props })
    }

    fn infer(&self, _: &[Literal], inputs: &[Facts]) -> Result<Facts, TypeError> {
        let dtype = self.select(inputs)?.result();
        let kind = match inputs {
            [one] => one.kind,
            [left, right] => broadcast(left.kind, right.kind)?,
            _ => {
                return Err(TypeError::Argument {
                    name: "a",
                    expected: "one or two operands",
                    got: "others",
                });
            }
        };
        Ok(Facts { kind, dtype })
    }

    fn kernel(&self, inputs: &[Facts]) -> Kernel {
        // `infer` has refused what `select` refuses; the number kernel stands in for the impossible.
        Kernel::Pixel(self.select(inputs).unwrap_or(self.kernel))
    }
}

impl Pointwise {
    fn on_numbers(&self, left: &Literal, right: &Literal) -> Result<Bound, TypeError> {
        if let OnBool::Only = self.on_bool {
            let is_bool = |literal: &Literal| matches!(literal, Literal::Bool(_) | Literal::Null);
            if !is_bool(left) || !is_bool(right) {
                return Err(TypeError::FloatLogic { op: self.name });
            }
        }
        (self.scalar)(left, right).map(Bound::Literal).ok_or(TypeError::NoValue {
            what: self.name,
            left: left.as_f64().unwrap_or(f64::NAN),
            right: right.as_f64().unwrap_or(f64::NAN),
        })
    }
}

/// Metadata of the combination of two operands, in the order in which the graft has them.
fn combine(joint: &str, result: Kind, left: &Props, right: &Props) -> Result<Props, TypeError> {
    let pad = match (left.pad(), right.pad()) {
        (left, right) if left != 0 && right != 0 && left != right => {
            return Err(TypeError::TwoPads { left, right });
        }
        (0, right) => right,
        (left, _) => left,
    };
    let bands = match (left.bands(), right.bands()) {
        (Some(a), Some(b)) if a == b => Some(a),
        (Some(a), Some(b)) if a.len() == b.len() && a.len() > 1 => {
            Some(a.iter().zip(&b).map(|(a, b)| format!("{a}_{joint}_{b}")).collect())
        }
        (Some(a), Some(b)) if a.len() == 1 => Some(b),
        (Some(a), _) => Some(a),
        (None, b) => b,
    };
    bands.as_deref().map_or(Ok(()), check_names)?;
    let (product, other) = match (left.product(), right.product()) {
        (Some(a), Some(b)) if a != b => (Some(a.to_owned()), Some(b.to_owned())),
        (Some(a), _) => (Some(a.to_owned()), None),
        (None, b) => (b.map(str::to_owned), None),
    };
    let finish = |properties: &mut Properties, is_stack: bool| {
        properties.remove("shape");
        properties.insert("pad".into(), pad.into());
        if let Some(bands) = &bands {
            properties.insert("bands".into(), bands.as_slice().into());
        }
        if let Some(product) = &product {
            properties.insert("product_id".into(), product.as_str().into());
        }
        match &other {
            Some(other) if is_stack => {
                properties.insert("other_product_id".into(), other.as_str().into());
            }
            Some(other) => append_other_product(properties, other),
            None => {}
        }
    };
    let Kind::Stack { images, .. } = result else {
        let mut properties = left.first().cloned().unwrap_or_default();
        finish(&mut properties, false);
        return Ok(Props::One(Arc::new(properties)));
    };
    // The list of the first operand that is a stack of the result's length; a one-image stack that
    // was spread over many has no metadata for them.
    let is_source = |props: &&Props| matches!(props, Props::Many(list) if list.len() == images as usize);
    let source = [left, right].into_iter().find(is_source).unwrap_or(left);
    Ok(source.map(|properties| finish(properties, true)))
}

/// Records that a second product went into a result.
pub(super) fn append_other_product(properties: &mut Properties, other: &str) {
    let list =
        properties.entry("other_product_ids".to_owned()).or_insert_with(|| serde_json::Value::Array(vec![]));
    if let serde_json::Value::Array(ids) = list {
        ids.push(other.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mosaic(product: &str, bands: &[&str], pad: i64) -> Props {
        let properties: Properties = [
            ("product_id".to_owned(), product.into()),
            ("bands".to_owned(), bands.into()),
            ("pad".to_owned(), pad.into()),
        ]
        .into();
        Props::One(Arc::new(properties))
    }

    fn bands_of(a: &[&str], b: &[&str]) -> Vec<String> {
        let kind = Kind::Mosaic { bands: a.len().max(b.len()) as u32 };
        combine("sub", kind, &mosaic("p", a, 0), &mosaic("p", b, 0)).unwrap().bands().unwrap()
    }

    #[test]
    fn band_names_of_a_combination() {
        assert_eq!(bands_of(&["nir"], &["red"]), ["red"]);
        assert_eq!(bands_of(&["a", "b"], &["a", "b"]), ["a", "b"]);
        assert_eq!(bands_of(&["a", "b"], &["c", "d"]), ["a_sub_c", "b_sub_d"]);
        assert_eq!(bands_of(&["a", "b"], &["c"]), ["a", "b"]);
        assert_eq!(bands_of(&["a"], &["c", "d"]), ["c", "d"]);
    }

    #[test]
    fn products_and_pads_of_a_combination() {
        let kind = Kind::Mosaic { bands: 1 };
        let both = combine("sum", kind, &mosaic("p", &["a"], 0), &mosaic("q", &["a"], 3)).unwrap();
        assert_eq!(both.product(), Some("p"));
        assert_eq!(both.pad(), 3);
        assert_eq!(both.first().unwrap()["other_product_ids"], serde_json::json!(["q"]));
        let error = combine("sum", kind, &mosaic("p", &["a"], 1), &mosaic("q", &["a"], 3)).unwrap_err();
        assert_eq!(error, TypeError::TwoPads { left: 1, right: 3 });
        let plain = combine("sum", kind, &Props::none(), &mosaic("q", &["a"], 3)).unwrap();
        assert_eq!((plain.product(), plain.bands()), (Some("q"), Some(vec!["a".to_owned()])));
    }
}
