//! What all value-by-value ops share: how operands combine, and how metadata travels
//! (protocol.md sections 4 and 5). The ops themselves are rows in `arith.rs` and `compare.rs`.

use super::bands::check_names;
use super::property::{Args, Fault, Order, Value};
use super::{
    Arg, BindCx, Bound, Facts, Kernel, Op, OpDoc, PixelKernel, Props, TypeError, broadcast, required, spread,
};
use crate::block::{DType, Kind};
use crate::literal::Literal;

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
    pub units: &'static str,
    pub validity: &'static str,
    pub accuracy: &'static str,
    pub source: &'static str,
}

impl Pointwise {
    fn operands(&self) -> usize {
        self.kernel.operands()
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
        let shapes = match (self.kernel.result(), self.on_bool) {
            (_, OnBool::Only) if self.operands() == 1 => {
                "A bool raster, array or constant; the result is of its kind, bool."
            }
            (DType::F32, OnBool::Kernel(_)) if self.operands() == 1 => {
                "A raster, array or number; the result is of its kind, float32, or bool of a bool operand."
            }
            (DType::F32, OnBool::Refuse(_)) if self.operands() == 1 => {
                "A raster, array or number, not of bools; the result is of its kind, float32."
            }
            (DType::F32, _) if self.operands() == 1 => {
                "A raster, array or number; the result is of its kind, float32. Truth values count as 0 and 1."
            }
            (_, OnBool::Only) => "Bool operands of any kind that fit each other; the result is bool.",
            (DType::Bool, _) => "Operands of any kind that fit each other; the result is bool.",
            (DType::F32, OnBool::Kernel(_)) => {
                "Operands of any kind that fit each other; the result is float32, or bool if all are."
            }
            (DType::F32, OnBool::Refuse(_)) => {
                "Operands of any kind that fit each other, not both of bools; the result is float32."
            }
            (DType::F32, _) => {
                "Operands of any kind that fit each other; the result is float32. Truth values count as 0 and 1."
            }
        };
        OpDoc {
            summary: self.summary,
            params,
            shapes,
            units: self.units,
            validity: self.validity,
            accuracy: self.accuracy,
            source: self.source,
        }
    }

    fn example(&self) -> serde_json::Value {
        let OnBool::Only = self.on_bool else { return super::example(self.name, self.doc().params) };
        let mut graft = serde_json::json!({
            "product": "made:up", "first": "a", "second": "b", "half": 0.5, "returns": "result",
        });
        for (key, band) in [("a", "first"), ("b", "second")].into_iter().take(self.operands()) {
            graft[format!("{band} band")] = serde_json::json!(["mosaic", "product", band]);
            graft[key] = serde_json::json!(["gt", format!("{band} band"), "half"]);
        }
        let keys = self.doc().params.iter().map(|param| param.name);
        graft["result"] = std::iter::once(self.name).chain(keys).collect::<Vec<_>>().into();
        graft
    }

    fn bind(&self, cx: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let (a, a_props) = args[0].operand("a")?;
        if self.operands() == 1 {
            if let Arg::Literal(literal) = args[0] {
                return self.on_numbers(literal, &Literal::Null);
            }
            self.infer(&[], &[a])?;
            return Ok(Bound::call(vec![], [0], a_props));
        }
        let (b, b_props) = args[1].operand("b")?;
        if let (Arg::Literal(left), Arg::Literal(right)) = (args[0], args[1]) {
            return self.on_numbers(left, right);
        }
        let mut facts = [a, b];
        let inputs = spread(cx, args, &mut facts)?;
        let kind = self.infer(&[], &facts)?.kind;
        let props = combine(self.joint, kind, &a_props, &b_props)?;
        Ok(Bound::Call { params: vec![], inputs, props })
    }

    fn infer(&self, _: &[Literal], inputs: &[Facts]) -> Result<Facts, TypeError> {
        if inputs.len() != self.operands() {
            return Err(TypeError::Argument {
                name: "a",
                expected: "one operand a parameter",
                got: "others",
            });
        }
        let dtype = self.select(inputs)?.result();
        let kind = match inputs {
            [left, right] => broadcast(left.kind, right.kind)?,
            _ => inputs[0].kind,
        };
        Ok(Facts { kind, dtype })
    }

    fn on_properties(&self, args: &Args<'_>) -> Result<Value, Fault> {
        match (self.on_bool, self.kernel) {
            (OnBool::Only, _) => self.logic(args),
            (_, PixelKernel::Compare(_)) => self.comparison(args.get(0)?, args.get(1)?),
            _ => self.arithmetic(args),
        }
    }

    fn kernel(&self, _: &[Literal], inputs: &[Facts]) -> Kernel {
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
            right: right.as_f64(),
        })
    }
}

/// What the ops do with properties follows from what they do with numbers.
impl Pointwise {
    /// Logic of truth tests. What the first operand decides needs no second.
    fn logic(&self, args: &Args<'_>) -> Result<Value, Fault> {
        let first = Literal::Bool(args.get(0)?.is_true());
        let with = |second: bool| (self.scalar)(&first, &Literal::Bool(second));
        let result = match self.operands() {
            1 => (self.scalar)(&first, &Literal::Null),
            _ if with(true) == with(false) => with(true),
            _ => with(args.get(1)?.is_true()),
        };
        result.map(Value::from_number).ok_or_else(|| Fault::new("has no value"))
    }

    /// The order of the operands is compared instead of them; where there is none, NaN is.
    fn comparison(&self, a: &Value, b: &Value) -> Result<Value, Fault> {
        let of = |order: Literal| (self.scalar)(&order, &Literal::Int(0));
        let is_equality = of(Literal::Int(-1)) == of(Literal::Int(1));
        let order = match a.order(b) {
            Order::Is(order) => Literal::Int(order as i64),
            Order::Unlike if !is_equality => {
                let (a, b) = (a.kind_name(), b.kind_name());
                return Err(Fault::new(format!("{a} and {b} have no order")));
            }
            Order::Missing | Order::Unlike => Literal::Float(f64::NAN),
        };
        of(order).map(Value::from_number).ok_or_else(|| Fault::new("has no value"))
    }

    fn arithmetic(&self, args: &Args<'_>) -> Result<Value, Fault> {
        let a = args.get(0)?;
        if self.operands() == 1 {
            let number =
                a.as_number().ok_or_else(|| Fault::new(format!("needs a number, got {}", a.kind_name())))?;
            let result = (self.scalar)(&number, &Literal::Null);
            return result.map(Value::from_number).ok_or_else(|| Fault::new("has no value"));
        }
        let b = args.get(1)?;
        if let (Some(left), Some(right)) = (a.as_number(), b.as_number()) {
            let result = (self.scalar)(&left, &right).map(Value::from_number);
            return result.ok_or_else(|| Fault::new(format!("{left} and {right} have no result")));
        }
        match (self.name, a, b) {
            ("add", Value::Str(a), Value::Str(b)) | ("radd", Value::Str(b), Value::Str(a)) => {
                Ok(Value::Str(format!("{a}{b}")))
            }
            ("add", Value::List(a), Value::List(b)) | ("radd", Value::List(b), Value::List(a)) => {
                Ok(Value::List([a.as_slice(), b].concat()))
            }
            _ => {
                let (a, b) = (a.kind_name(), b.kind_name());
                Err(Fault::new(format!("needs numbers, got {a} and {b}")))
            }
        }
    }
}

/// Padding of what two operands become.
pub(super) fn joint_pad(left: &Props, right: &Props) -> Result<i64, TypeError> {
    match (left.pad(), right.pad()) {
        (left, right) if left != 0 && right != 0 && left != right => Err(TypeError::TwoPads { left, right }),
        (0, right) => Ok(right),
        (left, _) => Ok(left),
    }
}

/// Metadata of the combination of two operands, in the order in which the graft has them.
pub(super) fn combine(joint: &str, result: Kind, left: &Props, right: &Props) -> Result<Props, TypeError> {
    let pad = joint_pad(left, right)?;
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
    // The dicts of the first operand that has as many as the result: a one-image stack that was spread
    // over many has no metadata for them.
    let images = result.images().map(|images| images as usize);
    let source = [left, right].into_iter().find(|props| props.images() == images).unwrap_or(left);
    let mut props = if images.is_some() { source.clone() } else { left.clone() };
    props = props.with("shape", None).with("pad", Some(pad.into()));
    if let Some(bands) = &bands {
        props = props.with_bands(bands);
    }
    if let Some(product) = product {
        props = props.with("product_id", Some(product.into()));
    }
    Ok(match other {
        Some(other) if images.is_some() => props.with("other_product_id", Some(other.into())),
        Some(other) => props.with_other_product(&other),
        None => props,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::Properties;

    fn mosaic(product: &str, bands: &[&str], pad: i64) -> Props {
        let properties: Properties = [
            ("product_id".to_owned(), product.into()),
            ("bands".to_owned(), bands.into()),
            ("pad".to_owned(), pad.into()),
        ]
        .into();
        Props::one(properties)
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
        assert_eq!(both.get("other_product_ids"), Some(&serde_json::json!(["q"])));
        let error = combine("sum", kind, &mosaic("p", &["a"], 1), &mosaic("q", &["a"], 3)).unwrap_err();
        assert_eq!(error, TypeError::TwoPads { left: 1, right: 3 });
        let plain = combine("sum", kind, &Props::none(), &mosaic("q", &["a"], 3)).unwrap();
        assert_eq!((plain.product(), plain.bands()), (Some("q"), Some(vec!["a".to_owned()])));
    }
}
