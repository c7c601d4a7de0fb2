//! Where pixels come from.

use graticule_common::block::Kind;
use serde_json::{Value, json};

use super::ty::Ty;
use super::{Body, Generator};
use crate::world;

/// A condition on images, as a graft has it, and whether it holds for the image with an id.
pub type Condition = (Value, fn(&str) -> bool);

impl Generator {
    /// Names of bands in one of the spellings.
    pub(super) fn bands(&mut self, body: &mut Body, names: &[String]) -> String {
        let value = match self.tape.below(4) {
            0 => json!(names.join(" ")),
            1 => json!(json!(names).to_string()),
            2 => json!(json!(names.join(" ")).to_string()),
            _ => json!([names]),
        };
        self.constant(body, value)
    }

    pub(super) fn source(&mut self, body: &mut Body) {
        let (product, bands) = *self.tape.one(&[world::PRODUCTS, &world::PRODUCTS[..1]].concat());
        let range = world::RANGES[[0, 0, 0, 1, 1, 2, 3, 4][self.tape.below(8)]];
        let mut names: Vec<String> = bands.iter().map(|band| (*band).to_owned()).collect();
        names.rotate_left(self.tape.below(bands.len()));
        names.truncate(bands.len() - self.tape.below(bands.len()));
        let bands_count = names.len() as u32;
        let of_product: Vec<&str> =
            world::SCENES.iter().filter(|(of, ..)| *of == product).map(|scene| scene.1).collect();
        let filter = self.tape.once_in(3).then(|| self.condition());
        let found: Vec<&'static str> = world::images(product, range, &self.grid)
            .into_iter()
            .filter(|id| filter.as_ref().is_none_or(|(_, holds)| holds(id)))
            .collect();
        let product = self.constant(body, product.into());
        let bands = self.bands(body, &names);
        let mut optional = |this: &mut Self, value: Option<Value>| match value {
            Some(value) => Some(this.constant(body, value)),
            None if this.tape.once_in(2) => Some(this.constant(body, Value::Null)),
            None => None,
        };
        let start = optional(self, range.0.map(Value::from));
        let end = optional(self, range.1.map(Value::from));
        let filter = optional(self, filter.map(|(json, _)| json));
        let by = [None, Some("acquired"), Some("cloud_fraction"), Some("missing")][self.tape.below(4)];
        let sort_by = optional(self, by.map(Value::from));
        let up = [None, Some(true), Some(false)][self.tape.below(3)];
        let ascending = optional(self, up.map(Value::from));
        let padding = [None, Some(0), Some(self.pad), Some(self.pad)][self.tape.below(4)];
        let pad = optional(self, padding.map(Value::from));
        let near = [None, Some("near"), Some("cubic")][self.tape.below(3)];
        let resampler = optional(self, near.map(Value::from));
        let padded = Ty { pad: padding.unwrap_or(0), ..Ty::number(false) };
        let mosaic = padded.raster(Kind::Mosaic { bands: bands_count }, false, Some(names.clone()));
        if self.tape.once_in(8) {
            let listed: Vec<&str> = (0..=self.tape.below(3)).map(|_| *self.tape.one(&of_product)).collect();
            let ids = self.constant(body, json!(json!(listed).to_string()));
            let image = self.apply(
                body,
                "from_image_ids",
                &[("ids", Some(ids)), ("bands", Some(bands)), ("pad", pad), ("resampler", resampler)],
            );
            body.pool.push((image, mosaic));
            return;
        }
        if self.tape.once_in(4) {
            let image = self.apply(
                body,
                "mosaic",
                &[
                    ("product_id", Some(product)),
                    ("bands", Some(bands)),
                    ("start_datetime", start),
                    ("end_datetime", end),
                    ("pad", pad),
                    ("resampler", resampler),
                ],
            );
            body.pool.push((image, mosaic));
            return;
        }
        let scenes = self.apply(
            body,
            "select_scenes",
            &[
                ("product_id", Some(product)),
                ("bands", Some(bands.clone())),
                ("start_datetime", start),
                ("end_datetime", end),
                ("predicate_filter", filter),
                ("sort_by", sort_by),
                ("ascending", ascending),
                ("pad", pad.clone()),
            ],
        );
        let stack = self.apply(
            body,
            "stack_scenes",
            &[("scenes", Some(scenes)), ("bands", Some(bands)), ("pad", pad), ("resampler", resampler)],
        );
        let kind = Kind::Stack { images: found.len() as u32, bands: bands_count };
        let ty = Ty { ids: Some(found), ..padded.raster(kind, false, Some(names)) };
        body.pool.push((stack, ty));
    }

    /// A condition as JSON.
    pub(super) fn condition(&mut self) -> Condition {
        let known: &[Condition] = &[
            (json!({"op": "lt", "name": "cloud_fraction", "val": 0.35}), |id| {
                world::cloud(id).is_some_and(|c| c < 0.35)
            }),
            (json!({"op": "ne", "name": "cloud_fraction", "val": 0.25}), |id| world::cloud(id) != Some(0.25)),
            (json!({"op": "isnull", "name": "cloud_fraction"}), |id| world::cloud(id).is_none()),
            (json!({"op": "prefix", "name": "id", "val": "p"}), |id| id.starts_with('p')),
            (
                json!({"or": [{"op": "eq", "name": "id", "val": "p0"}, {"op": "eq", "name": "id", "val": "q1"}]}),
                |id| matches!(id, "p0" | "q1"),
            ),
            (json!({"op": "gte", "name": "acquired", "val": "2020-02-01T01:00:00+01:00"}), |id| {
                world::date(id) >= "2020-02-01"
            }),
        ];
        let (json, holds) = self.tape.one(known).clone();
        let json = match self.tape.below(3) {
            0 => json.to_string().into(),
            1 => json!([json]).to_string().into(),
            _ => json!([json]),
        };
        (json, holds)
    }
}
