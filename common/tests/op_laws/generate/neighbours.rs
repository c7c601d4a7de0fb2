//! Ops that look at neighbours.

use serde_json::json;

use super::ty::Ty;
use super::{Body, Generator};

impl Generator {
    pub(super) fn neighbourhood(&mut self, body: &mut Body) {
        match self.tape.below(5) {
            0 => self.gradient(body),
            1 => self.focal(body),
            2 => self.grown(body),
            3 => self.convolve(body),
            _ => self.terrain(body),
        }
    }

    fn gradient(&mut self, body: &mut Body) {
        let op = *self.tape.one(&["gradient_x", "gradient_y"]);
        let Some((a, ty)) = self.recent(body, |ty| ty.is_raster() && !ty.is_bool) else {
            return;
        };
        let key = self.math(body, op, op, a, None);
        body.pool.push((key, ty));
    }

    fn focal(&mut self, body: &mut Body) {
        let op = *self.tape.one(&["focal_mean", "focal_min", "focal_max", "focal_median"]);
        let Some((a, ty)) = self.recent(body, Ty::is_raster) else { return };
        let size = self.tape.one(&[json!(3), json!([[1, 3]]), json!([[5, 3]]), json!(1)]).clone();
        let size = self.constant(body, size);
        let key = self.apply(body, op, &[("a", Some(a)), ("size", Some(size))]);
        let is_bool = ty.is_bool && matches!(op, "focal_min" | "focal_max");
        body.pool.push((key, ty.of_type(is_bool)));
    }

    fn grown(&mut self, body: &mut Body) {
        let op = *self.tape.one(&["dilate", "erode"]);
        let fits = |ty: &Ty| ty.is_raster() && ty.is_bool;
        let Some((mask, ty)) = self.recent(body, fits) else { return };
        let size = match self.tape.below(3) {
            0 => None,
            1 => Some(self.constant(body, json!(5))),
            _ => Some(self.constant(body, json!([[3, 1]]))),
        };
        let key = self.apply(body, op, &[("mask", Some(mask)), ("size", size)]);
        body.pool.push((key, ty));
    }

    fn convolve(&mut self, body: &mut Body) {
        let Some((a, ty)) = self.recent(body, Ty::is_raster) else { return };
        let kernel = match self.tape.below(3) {
            0 => self.constant(body, json!([[[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]])),
            1 => self.constant(body, json!([[[0.25, 0.5, 0.25]]])),
            _ => self.array_of(body, &[3, 5], false),
        };
        let key = self.apply(body, "convolve", &[("a", Some(a)), ("kernel", Some(kernel))]);
        body.pool.push((key, ty.of_type(false)));
    }

    fn terrain(&mut self, body: &mut Body) {
        let op = *self.tape.one(&["slope", "aspect"]);
        let Some((a, ty)) = self.recent(body, |ty| ty.is_raster() && !ty.is_bool) else {
            return;
        };
        let key = self.apply(body, op, &[("a", Some(a))]);
        body.pool.push((key, ty));
    }
}
