//! Ops that the generator has not been told of: applied as their examples apply them, to values in sight.

use graticule_common::block::DType;
use graticule_common::ops::{FAMILIES, Facts, Op};
use serde_json::Value;

use super::ty::Ty;
use super::{Body, Generator, reductions, values};

/// Ops that the other files apply, beside those of their tables.
const BY_HAND: &[&str] = &[
    "abs",
    "array",
    "aspect",
    "bit",
    "bits",
    "clip",
    "concat_bands",
    "convolve",
    "dilate",
    "dot",
    "erode",
    "filled",
    "filter_by_id",
    "filter_data",
    "focal_max",
    "focal_mean",
    "focal_median",
    "focal_min",
    "from_image_ids",
    "gradient_x",
    "gradient_y",
    "groupby_data",
    "index",
    "invert",
    "isin",
    "length",
    "mask",
    "mosaic",
    "neg",
    "pick_bands",
    "pick_images",
    "reduced",
    "rename_bands",
    "resolution_x",
    "resolution_y",
    "select_scenes",
    "slope",
    "stack_scenes",
    "where",
];

/// Whether another file applies an op.
fn is_known(name: &str) -> bool {
    let mut rows = values::BINARY.iter().map(|row| row.0).chain(reductions::REDUCERS.iter().map(|row| row.0));
    BY_HAND.contains(&name) || values::FUNCTIONS.contains(&name) || rows.any(|known| known == name)
}

impl Generator {
    pub(super) fn other(&mut self, body: &mut Body) {
        let all = FAMILIES.iter().flat_map(|family| family.iter().copied());
        let unknown: Vec<&dyn Op> = all.filter(|op| !is_known(op.name())).collect();
        if unknown.is_empty() {
            return;
        }
        let op = *self.tape.one(&unknown);
        let example = op.example();
        let calls =
            example.as_object().into_iter().flat_map(|graft| graft.values()).filter_map(Value::as_array);
        let Some(call) = calls.into_iter().find(|call| call[0] == op.name()) else { return };
        let call: Vec<Value> = call[1..].to_vec();
        let mut items = vec![Value::from(op.name())];
        let mut rasters: Vec<Ty> = Vec::new();
        for argument in &call {
            // Named arguments of an example may be left out.
            let Some(key) = argument.as_str() else { continue };
            let value = &example[key];
            let is_call = value.as_array().is_some_and(|items| items.first().is_some_and(Value::is_string));
            let key = if is_call {
                let is_stack = example_is_stack(&example, value);
                let fits = |ty: &Ty| {
                    let like =
                        rasters.first().is_none_or(|first| first.kind == ty.kind && first.pad == ty.pad);
                    ty.is_raster() && like && (!is_stack || ty.is_stack())
                };
                let Some((key, ty)) = self.recent(body, fits) else { return };
                rasters.push(ty);
                key
            } else if value.is_object() {
                return;
            } else {
                self.constant(body, value.clone())
            };
            items.push(key.into());
        }
        let key = self.add(body, items.into());
        let dtype = |ty: &Ty| if ty.is_bool { DType::Bool } else { DType::F32 };
        let inputs: Vec<Facts> = rasters.iter().map(|ty| Facts { kind: ty.kind, dtype: dtype(ty) }).collect();
        match (rasters.first(), op.infer(&[], &inputs)) {
            (Some(first), Ok(facts)) if rasters.len() == call.len() && facts.kind.is_raster() => {
                let is_bool = facts.dtype == DType::Bool;
                body.pool.push((key, first.raster(facts.kind, is_bool, None)));
            }
            _ => body.untyped = Some(key),
        }
    }
}

/// Whether an argument of an example is a stack.
fn example_is_stack(example: &Value, call: &Value) -> bool {
    let name = call[0].as_str().unwrap_or_default();
    name == "stack_scenes"
        || (name != "mosaic"
            && example
                .as_object()
                .is_some_and(|graft| graft.values().any(|value| value[0] == "stack_scenes")))
}
