//! Choosing, naming and joining bands, and sums of products.

use graticule_common::block::Kind;
use serde_json::Value;

use super::ty::Ty;
use super::{Body, Generator};

impl Generator {
    fn band_op(
        &mut self,
        body: &mut Body,
        op: &str,
        a: String,
        bands: Option<String>,
        other: Option<String>,
    ) -> String {
        if self.tape.once_in(2) {
            let second = if bands.is_some() { ("bands", bands) } else { ("other", other) };
            return self.apply(body, op, &[("a", Some(a)), second]);
        }
        let name = self.constant(body, op.into());
        let null = self.constant(body, Value::Null);
        let or_null = |key: Option<String>| key.or(Some(null.clone()));
        self.apply(
            body,
            "band_op",
            &[("a", Some(a)), ("name", Some(name)), ("bands", or_null(bands)), ("other", or_null(other))],
        )
    }

    pub(super) fn pick(&mut self, body: &mut Body) {
        let has_names = |ty: &Ty| ty.names.is_some() || ty.kind.images() == Some(0);
        let Some((a, ty)) = self.recent(body, has_names) else { return };
        let known = ty.names.clone().unwrap_or_else(|| vec!["any".into(), "name".into()]);
        let count = 1 + self.tape.below(3);
        let picked: Vec<String> = (0..count).map(|_| self.tape.one(&known).clone()).collect();
        let bands = self.bands(body, &picked);
        let key = self.band_op(body, "pick_bands", a, Some(bands), None);
        body.pool.push((key, ty.with_bands(count as u32, ty.is_bool, Some(picked))));
    }

    pub(super) fn rename_or_concat(&mut self, body: &mut Body) {
        let Some((a, ty)) = self.recent(body, Ty::is_raster) else { return };
        let bands = ty.bands();
        if self.tape.once_in(3) {
            let names: Vec<String> = (0..bands).map(|at| format!("n{at}")).collect();
            let list = self.bands(body, &names);
            let key = self.band_op(body, "rename_bands", a, Some(list), None);
            return body.pool.push((key, ty.with_bands(bands, ty.is_bool, Some(names))));
        }
        let pads = |other: &Ty| other.pad == ty.pad || other.pad * ty.pad == 0;
        let fits = |other: &Ty| other.is_raster() && other.kind.images() == ty.kind.images() && pads(other);
        let Some((other, other_ty)) = self.recent(body, fits) else { return };
        let other_bands = other_ty.bands();
        if bands + other_bands > 6 {
            return;
        }
        let invent =
            |from: u32, count: u32| (from..from + count).map(|at| at.to_string()).collect::<Vec<_>>();
        let first = ty.names.clone().unwrap_or_else(|| invent(0, bands));
        let second = other_ty.names.unwrap_or_else(|| invent(first.len() as u32, other_bands));
        let key = self.band_op(body, "concat_bands", a, None, Some(other));
        body.pool.push((key, ty.with_bands(bands + other_bands, false, Some([first, second].concat()))));
    }

    /// A sum of products over the bands of mosaics or the images of stacks.
    pub(super) fn dot(&mut self, body: &mut Body) {
        let Some((a, ty)) = self.recent(body, Ty::is_raster) else { return };
        let len = ty.kind.images().unwrap_or(ty.bands());
        if len == 0 {
            return;
        }
        let lengths = |other: &Ty| {
            other.is_stack() == ty.is_stack()
                && other.kind == ty.kind
                && other.pad == ty.pad
                && other.is_raster()
        };
        let one = |ty: &Ty, names| ty.raster(Kind::Mosaic { bands: 1 }, false, names);
        let (other, result) = match self.tape.below(4) {
            0 => {
                let Some((other, other_ty)) = self.recent(body, lengths) else { return };
                let names = match (&ty.names, &other_ty.names) {
                    (Some(a), Some(b)) if a == b => Some(a.clone()),
                    (Some(a), Some(b)) => {
                        Some(a.iter().zip(b).map(|(a, b)| format!("{a}_dot_{b}")).collect())
                    }
                    _ => None,
                };
                let result = match ty.kind {
                    Kind::Stack { bands, .. } => ty.raster(Kind::Mosaic { bands }, false, names),
                    _ => one(&ty, None),
                };
                let keys = (a, other);
                return self.push_dot(body, keys, (&ty, &other_ty), result);
            }
            1 | 2 => {
                let vector = self.array_of(body, &[len], false);
                let result = match ty.kind {
                    Kind::Stack { bands, .. } => ty.raster(Kind::Mosaic { bands }, false, None),
                    _ => one(&ty, None),
                };
                (vector, result)
            }
            _ => {
                let many = 1 + self.tape.below(3) as u32;
                let is_second = self.tape.once_in(2);
                let matrix = self.array_of(body, &if is_second { [len, many] } else { [many, len] }, false);
                let result = match ty.kind {
                    Kind::Stack { bands, .. } => {
                        ty.raster(Kind::Stack { images: many, bands }, false, ty.names.clone())
                    }
                    _ => ty.raster(Kind::Mosaic { bands: many }, false, None),
                };
                let matrix_ty = Ty::array(&[1], false, false).expect("a small array");
                let (keys, types) = if is_second {
                    ((a, matrix), (&ty, &matrix_ty))
                } else {
                    ((matrix, a), (&matrix_ty, &ty))
                };
                return self.push_dot(body, keys, types, result);
            }
        };
        let vector_ty = Ty::array(&[1], false, false).expect("a small array");
        let is_second = self.tape.once_in(2);
        let (keys, types) =
            if is_second { ((a, other), (&ty, &vector_ty)) } else { ((other, a), (&vector_ty, &ty)) };
        self.push_dot(body, keys, types, result);
    }

    fn push_dot(&mut self, body: &mut Body, keys: (String, String), types: (&Ty, &Ty), result: Ty) {
        let kinds = [types.0, types.1].map(|ty| self.constant(body, ty.kind_name().into()));
        let [kind_a, kind_b] = kinds.map(Some);
        let args = [("a", Some(keys.0)), ("b", Some(keys.1)), ("kind_a", kind_a), ("kind_b", kind_b)];
        let key = self.apply(body, "dot", &args);
        body.pool.push((key, result));
    }
}
