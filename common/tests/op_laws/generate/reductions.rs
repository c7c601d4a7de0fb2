//! Many values to one: over images, bands and pixels.

use graticule_common::block::Kind;
use serde_json::json;

use super::ty::Ty;
use super::{Body, Generator};

/// Op, and what becomes of the type.
pub(super) const REDUCERS: &[(&str, Type)] = &[
    ("median", Type::Number),
    ("mean", Type::Number),
    ("min", Type::Kept),
    ("max", Type::Kept),
    ("sum", Type::Number),
    ("std", Type::Number),
    ("argmax", Type::Number),
    ("argmin", Type::Number),
    ("count", Type::Number),
    ("any", Type::Truth),
    ("all", Type::Truth),
    ("first", Type::Kept),
    ("last", Type::Kept),
    ("var", Type::Number),
    ("ptp", Type::NotOfTruth),
    ("percentile", Type::Number),
];

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Type {
    Number,
    Truth,
    Kept,
    /// A number; truth values are refused.
    NotOfTruth,
}

/// Reducers that ask for a position among the pixels, which depends on nothing but the grid's corner.
const NOT_OVER_PIXELS: [&str; 4] = ["argmax", "argmin", "first", "last"];

impl Generator {
    pub(super) fn reduce(&mut self, body: &mut Body) {
        let over_bands = self.tape.once_in(3);
        let fits = |ty: &Ty| if over_bands { ty.is_raster() } else { ty.is_stack() };
        let Some((a, ty)) = self.recent(body, fits) else { return };
        let Some((key, is_bool)) = self.reduced(body, a, &ty, if over_bands { "bands" } else { "images" })
        else {
            return;
        };
        let result = match (over_bands, ty.kind) {
            (true, _) => ty.with_bands(1, is_bool, None),
            (false, _) => ty.raster(Kind::Mosaic { bands: ty.bands() }, is_bool, ty.names.clone()),
        };
        body.pool.push((key, result));
    }

    /// Over all pixels: an array that meets pixels again.
    pub(super) fn reduce_pixels(&mut self, body: &mut Body) {
        let Some((a, ty)) = self.recent(body, Ty::is_raster) else { return };
        let Some((key, is_bool)) = self.reduced(body, a, &ty, "pixels") else { return };
        let array = match ty.kind {
            Kind::Stack { images, bands } => Ty::array(&[images, bands], true, is_bool),
            _ => Ty::array(&[ty.bands()], true, is_bool),
        };
        body.pool.extend(array.map(|array| (key, array)));
    }

    /// A reduction in one of its spellings, and whether it gives truth values.
    fn reduced(&mut self, body: &mut Body, a: String, ty: &Ty, axis: &str) -> Option<(String, bool)> {
        if self.tape.once_in(8) {
            return Some(self.reduced_by_function(body, a, ty, axis));
        }
        let (op, kind_of_result) = *self.tape.one(REDUCERS);
        let is_refused = (kind_of_result == Type::NotOfTruth && ty.is_bool)
            || (axis == "pixels" && NOT_OVER_PIXELS.contains(&op));
        if is_refused {
            return None;
        }
        let axis = self.constant(body, axis.into());
        let kind = if self.tape.once_in(2) { Some(self.constant(body, ty.kind_name().into())) } else { None };
        let q = *self.tape.one(&[50.0, 0.0, 12.5, 99.0]);
        let q = if op == "percentile" { Some(self.constant(body, json!(q))) } else { None };
        let key = if !self.tape.once_in(3) {
            let name = self.constant(body, op.into());
            let mut args = vec![("a", Some(a)), ("reducer", Some(name)), ("axis", Some(axis))];
            match (kind, q) {
                // By name, since what stands before it may be left out.
                (kind, Some(q)) => {
                    let kind = kind.unwrap_or_else(|| self.constant(body, ty.kind_name().into()));
                    args.extend([("kind", Some(kind)), ("q", Some(q))]);
                }
                (kind, None) => args.push(("kind", kind)),
            }
            self.apply(body, "reduction", &args)
        } else {
            let mut args = vec![("a", Some(a)), ("axis", Some(axis))];
            args.extend(q.map(|q| ("q", Some(q))));
            args.push(("kind", kind));
            self.apply(body, op, &args)
        };
        let is_bool = match kind_of_result {
            Type::Truth => true,
            Type::Kept => ty.is_bool,
            Type::Number | Type::NotOfTruth => false,
        };
        Some((key, is_bool))
    }

    /// `lambda a, axis: a.max(axis) + a.min(axis)`
    fn reduced_by_function(&mut self, body: &mut Body, a: String, ty: &Ty, axis: &str) -> (String, bool) {
        let function = json!({
            "parameters": ["a", "axis"], "high": ["max", "a", "axis"], "low": ["min", "a", "axis"],
            "both": ["add", "high", "low"], "returns": "both",
        });
        let (reducer, axis) = (self.constant(body, function), self.constant(body, axis.into()));
        let args = [("a", Some(a)), ("reducer", Some(reducer)), ("axis", Some(axis))];
        (self.apply(body, "reduction", &args), ty.is_bool)
    }
}
