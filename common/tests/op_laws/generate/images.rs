//! Images of stacks: by position, by id, by condition, in groups.

use graticule_common::ops::property;
use serde_json::{Value, json};

use super::sources::Condition;
use super::ty::Ty;
use super::{Body, Generator};
use crate::world;

impl Generator {
    pub(super) fn images(&mut self, body: &mut Body) {
        match self.tape.below(5) {
            0 => self.index(body),
            1 => self.length(body),
            2 => self.filter_by_id(body),
            _ => self.filter_data(body),
        }
    }

    fn index(&mut self, body: &mut Body) {
        let fits = |ty: &Ty| ty.kind.images().is_some_and(|images| images > 0);
        let Some((stack, ty)) = self.recent(body, fits) else { return };
        let images = ty.kind.images().unwrap_or(1);
        let at = self.tape.below(2 * images as usize) as i64 - i64::from(images);
        if self.tape.once_in(3) {
            let Some(ids) = ty.ids.clone() else { return };
            let at = at.rem_euclid(i64::from(images));
            let positions = self.constant(body, json!([[at]]));
            let key =
                self.apply(body, "pick_images", &[("stack", Some(stack)), ("positions", Some(positions))]);
            // Which image it is depends on the order of the stack.
            return body.pool.push((key, Ty { ids: None, ..ty.with_images(vec![ids[0]]) }));
        }
        let i = self.constant(body, json!(at));
        let key = self.apply(body, "index", &[("stack", Some(stack)), ("i", Some(i))]);
        let kind = graticule_common::block::Kind::Mosaic { bands: ty.bands() };
        body.pool.push((key, ty.raster(kind, ty.is_bool, ty.names.clone())));
    }

    fn length(&mut self, body: &mut Body) {
        let Some((stack, _)) = self.recent(body, Ty::is_stack) else { return };
        let key = self.apply(body, "length", &[("stack", Some(stack))]);
        body.pool.push((key, Ty::number(false)));
    }

    /// A stack whose images have metadata.
    fn described(&mut self, body: &Body) -> Option<(String, Ty, Vec<&'static str>)> {
        let (stack, ty) = self.recent(body, |ty| ty.ids.is_some())?;
        let ids = ty.ids.clone()?;
        Some((stack, ty, ids))
    }

    fn filter_by_id(&mut self, body: &mut Body) {
        let Some((stack, ty, ids)) = self.described(body) else { return };
        let mut listed: Vec<&str> = ids.iter().copied().filter(|_| !self.tape.once_in(3)).collect();
        listed.push("nobody");
        let kept = ids.into_iter().filter(|id| listed.contains(id)).collect();
        let list = self.constant(body, json!(json!(listed).to_string()));
        let key = self.apply(body, "filter_by_id", &[("stack", Some(stack)), ("ids", Some(list))]);
        body.pool.push((key, ty.with_images(kept)));
    }

    fn filter_data(&mut self, body: &mut Body) {
        let Some((stack, ty, ids)) = self.described(body) else { return };
        let (condition, holds) = match self.tape.once_in(2) {
            true => self.predicate(),
            false => self.condition(),
        };
        let kept = ids.into_iter().filter(|id| holds(id)).collect();
        let predicate = self.constant(body, condition);
        let key = self.apply(body, "filter_data", &[("stack", Some(stack)), ("predicate", Some(predicate))]);
        body.pool.push((key, ty.with_images(kept)));
    }

    /// A condition as a function of an image.
    fn predicate(&mut self) -> Condition {
        let known: &[Condition] = &[
            (
                // lambda image: image.cloud_fraction < 0.35
                json!({
                    "parameters": ["image"], "name": "cloud_fraction", "most": 0.35, "returns": "clear",
                    "cloud": ["attr", "image", "name"], "clear": ["lt", "cloud", "most"],
                }),
                |id| world::cloud(id).is_some_and(|cloud| cloud < 0.35),
            ),
            (
                // lambda i: i.acquired.month % 2 == 1
                json!({
                    "parameters": ["i"], "name": "acquired", "part": "month", "two": 2, "one": 1,
                    "date": ["attr", "i", "name"], "month": ["attr", "date", "part"],
                    "rest": ["mod", "month", "two"], "returns": "odd", "odd": ["eq", "rest", "one"],
                }),
                |id| world::date(id)[5..7].parse::<u32>().expect("a month") % 2 == 1,
            ),
            (
                // lambda i: i.id.startswith("p") or i.cloud_fraction is None
                json!({
                    "parameters": ["i"], "n": "id", "p": "p", "c": "cloud_fraction",
                    "id": ["attr", "i", "n"], "begins": ["startswith", "id", "p"],
                    "cloud": ["attr", "i", "c"], "unknown": ["is_null", "cloud"],
                    "either": ["or", "begins", "unknown"], "returns": "either",
                }),
                |id| id.starts_with('p') || world::cloud(id).is_none(),
            ),
        ];
        self.tape.one(known).clone()
    }

    /// Groups of images: a list, with nothing to compute from it.
    pub(super) fn groups(&mut self, body: &mut Body) -> Option<String> {
        let (stack, ..) = self.described(body)?;
        let known = [
            json!({
                "parameters": ["i"], "name": "acquired", "part": "month",
                "date": ["attr", "i", "name"], "month": ["attr", "date", "part"], "returns": "month",
            }),
            json!({
                "parameters": ["i"], "n": "id", "zero": 0, "y": "year", "a": "acquired", "id": ["attr", "i", "n"],
                "letter": ["item", "id", "zero"], "at": ["attr", "i", "a"], "year": ["attr", "at", "y"],
                "both": ["tuple", "letter", "year"], "returns": "both",
            }),
        ];
        let key_function = match self.tape.once_in(2) {
            true => {
                self.example_of_properties().unwrap_or(json!({"parameters": ["i"], "k": 1, "returns": "k"}))
            }
            false => self.tape.one(&known).clone(),
        };
        let key_function = self.constant(body, key_function);
        let args = [("stack", Some(stack)), ("key_function", Some(key_function))];
        Some(self.apply(body, "groupby_data", &args))
    }

    /// The function in the example of an op on properties.
    fn example_of_properties(&mut self) -> Option<Value> {
        let op = *self.tape.one(property::OPS);
        let example = op.example();
        example.as_object()?.values().find(|value| value.is_object()).cloned()
    }
}
