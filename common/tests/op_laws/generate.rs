//! Random grafts that nearly always type-check: the generator tracks kind, type and band names of
//! everything it builds. Choices come from a tape of numbers, so that proptest can shrink them.

use std::fmt;

use graticule_common::aoi::{Geometry, Outline};
use graticule_common::block::Kind;
use graticule_common::grid::Grid;
use serde_json::{Map, Value, json};

use crate::world;

/// A request: graft, grid, outline.
#[derive(Clone)]
pub struct Case {
    /// The graft.
    pub graft: Value,
    /// Which grid.
    pub grid: usize,
    /// The AOI's outline.
    pub outline: Option<Outline>,
    /// Choices left over, for the laws.
    pub rest: Vec<u32>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grid {}, outline {:?}, graft {}", self.grid, self.outline, self.graft)
    }
}

/// Choices, one after another; when they run out, the first of everything.
pub struct Tape {
    words: Vec<u32>,
    at: usize,
}

impl Tape {
    /// A tape of these choices.
    pub fn new(words: &[u32]) -> Tape {
        Tape { words: words.to_vec(), at: 0 }
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        let word = self.words.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        word as usize % n.max(1)
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    /// One of several.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// What is known of a value.
#[derive(Clone, Debug, PartialEq)]
struct Ty {
    kind: Kind,
    is_bool: bool,
    names: Option<Vec<String>>,
}

impl Ty {
    fn number(is_bool: bool) -> Ty {
        Ty { kind: Kind::Number, is_bool, names: None }
    }

    fn raster(kind: Kind, is_bool: bool, names: Option<Vec<String>>) -> Ty {
        // An empty stack has no image whose metadata could name bands.
        Ty { kind, is_bool, names: names.filter(|_| kind.images() != Some(0)) }
    }

    fn is_raster(&self) -> bool {
        self.kind != Kind::Number
    }
}

/// A function's body while it grows: its keys, and the values in sight.
#[derive(Default)]
struct Body {
    keys: Map<String, Value>,
    pool: Vec<(String, Ty)>,
}

struct Generator<'t> {
    tape: &'t mut Tape,
    grid: Grid,
    next: usize,
}

/// Op, its name in `math`, its name between bands, what it does with types.
const BINARY: &[(&str, &str, &str, Rule)] = &[
    ("add", "add", "sum", Rule::Logical),
    ("sub", "sub", "sub", Rule::NotBool),
    ("mul", "mul", "mul", Rule::Logical),
    ("truediv", "truediv", "div", Rule::Float),
    ("floordiv", "floordiv", "floordiv", Rule::Float),
    ("pow", "_pow", "exp", Rule::Float),
    ("radd", "radd", "sum", Rule::Logical),
    ("rsub", "rsub", "sub", Rule::NotBool),
    ("rmul", "rmul", "mul", Rule::Logical),
    ("rtruediv", "rtruediv", "div", Rule::Float),
    ("rfloordiv", "rfloordiv", "floordiv", Rule::Float),
    ("rpow", "rpow", "exp", Rule::Float),
    ("gt", "gt", "cmp", Rule::Compare),
    ("eq", "eq", "cmp", Rule::Compare),
    ("ne", "ne", "cmp", Rule::Compare),
    ("lt", "lt", "cmp", Rule::Compare),
    ("le", "le", "cmp", Rule::Compare),
    ("ge", "ge", "cmp", Rule::Compare),
    ("and", "_and", "and", Rule::OnlyBool),
    ("rand", "rand", "and", Rule::OnlyBool),
    ("or", "_or", "or", Rule::OnlyBool),
    ("ror", "ror", "or", Rule::OnlyBool),
];

#[derive(Clone, Copy, PartialEq)]
enum Rule {
    Logical,
    NotBool,
    Float,
    Compare,
    OnlyBool,
}

/// Type of a combination; `None` where it has none.
fn combine(rule: Rule, joint: &str, a: &Ty, b: &Ty) -> Option<Ty> {
    let both = a.is_bool && b.is_bool;
    let is_constant = !a.is_raster() && !b.is_raster();
    let is_bool = match rule {
        // Python's `True + True` is the number 2.
        Rule::Logical => both && !is_constant,
        Rule::NotBool if both && !is_constant => return None,
        Rule::NotBool | Rule::Float => false,
        Rule::Compare => true,
        Rule::OnlyBool if both => true,
        Rule::OnlyBool => return None,
    };
    let names = match (&a.names, &b.names) {
        (Some(a), Some(b)) if a == b => Some(a.clone()),
        (Some(a), Some(b)) if a.len() == b.len() && a.len() > 1 => {
            Some(a.iter().zip(b).map(|(a, b)| format!("{a}_{joint}_{b}")).collect())
        }
        (Some(a), Some(b)) if a.len() == 1 => Some(b.clone()),
        (Some(a), _) => Some(a.clone()),
        (None, b) => b.clone(),
    };
    Some(Ty::raster(broadcast(a.kind, b.kind)?, is_bool, names))
}

fn broadcast(a: Kind, b: Kind) -> Option<Kind> {
    let (Some(a_bands), Some(b_bands)) = (a.bands(), b.bands()) else {
        return Some(if a == Kind::Number { b } else { a });
    };
    let common = |a: u32, b: u32| if a == b || b == 1 { Some(a) } else { (a == 1).then_some(b) };
    let bands = common(a_bands, b_bands)?;
    Some(match (a.images(), b.images()) {
        (None, None) => Kind::Mosaic { bands },
        (Some(images), None) | (None, Some(images)) => Kind::Stack { images, bands },
        (Some(a), Some(b)) => Kind::Stack { images: common(a, b)?, bands },
    })
}

impl Case {
    /// The request that a tape describes.
    pub fn new(words: &[u32]) -> Case {
        let mut tape = Tape::new(words);
        let index = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3][tape.below(10)];
        let outlines =
            [None, None, Some(triangle()), Some(holed()), Some(elsewhere()), Some(touched()), Some(line())];
        let outline = outlines[tape.below(outlines.len())].clone();
        let grid = world::grid(index);
        let mut generator = Generator { tape: &mut tape, grid, next: 0 };
        let mut body = Body::default();
        generator.source(&mut body);
        let steps = 2 + generator.tape.below(14);
        generator.grow(&mut body, steps, 0);
        let last = body.pool.iter().rev().find(|(_, ty)| ty.is_raster()).or(body.pool.last());
        let returns = last.map(|(key, _)| key.clone()).unwrap_or_default();
        let mut graft = body.keys;
        graft.insert("returns".into(), returns.into());
        let rest = words.iter().rev().copied().collect();
        Case { graft: Value::Object(graft), grid: index, outline, rest }
    }

    /// The graft's text.
    pub fn text(&self) -> Vec<u8> {
        self.graft.to_string().into_bytes()
    }
}

fn triangle() -> Outline {
    Outline::from_polygons(vec![vec![vec![(249.3, -6.1), (262.2, 1.0), (250.5, 8.9), (249.3, -6.1)]]])
}

fn holed() -> Outline {
    let square = |from: f64, to: f64, up: f64, down: f64| {
        vec![(from, up), (to, up), (to, down), (from, down), (from, up)]
    };
    Outline::from_polygons(vec![vec![square(250.0, 270.0, -6.0, 7.0), square(252.5, 255.0, -3.0, 3.0)]])
}

fn touched() -> Outline {
    Outline::new(triangle().geometry().clone(), true)
}

fn line() -> Outline {
    Outline::new(
        Geometry { polygons: vec![], lines: vec![vec![(249.3, -6.1), (262.2, 1.0), (250.5, 8.9)]] },
        true,
    )
}

fn elsewhere() -> Outline {
    Outline::from_polygons(vec![vec![vec![(0.0, 0.0), (9.0, 0.0), (9.0, 9.0), (0.0, 0.0)]]])
}

impl Generator<'_> {
    fn fresh(&mut self) -> String {
        self.next += 1;
        self.next.to_string()
    }

    fn add(&mut self, body: &mut Body, value: Value) -> String {
        let key = self.fresh();
        body.keys.insert(key.clone(), value);
        key
    }

    /// A key with a constant; often one that is there already.
    fn constant(&mut self, body: &mut Body, value: Value) -> String {
        let known = body.keys.iter().find(|(_, known)| **known == value).map(|(key, _)| key.clone());
        match known {
            Some(key) if !self.tape.once_in(4) => key,
            _ => self.add(body, value),
        }
    }

    /// An application; the last arguments sometimes by name, `None` left out.
    fn apply(&mut self, body: &mut Body, function: &str, args: &[(&str, Option<String>)]) -> String {
        let given = args.iter().take_while(|(_, key)| key.is_some()).count();
        let positional = if self.tape.once_in(4) { self.tape.below(given + 1) } else { given };
        let mut items = vec![Value::from(function)];
        items.extend(args[..positional].iter().filter_map(|(_, key)| key.clone()).map(Value::from));
        let mut named = Map::new();
        for (name, key) in &args[positional..] {
            if let Some(key) = key {
                named.insert((*name).into(), key.as_str().into());
            }
        }
        if self.tape.once_in(8) {
            let id = self.constant(body, "c0ffee".into());
            named.insert("cache_id".into(), id.into());
        }
        if !named.is_empty() {
            items.push(named.into());
        }
        self.add(body, items.into())
    }

    fn grow(&mut self, body: &mut Body, steps: usize, depth: usize) {
        for _ in 0..steps {
            match self.tape.below(13) {
                0..=4 => self.binary(body),
                5 => self.source(body),
                6 => self.unary(body),
                7 => self.mask(body),
                8 => self.pick(body),
                9 => self.rename_or_concat(body),
                10 => self.reduce(body),
                11 => self.literal(body),
                _ if depth < 2 => self.function(body, depth),
                _ => self.unary(body),
            }
        }
    }

    fn literal(&mut self, body: &mut Body) {
        let values = [
            json!(2),
            json!(1),
            json!(0.5),
            json!(-3),
            json!(0),
            json!(1.0),
            json!(-0.0),
            json!(true),
            json!(1e30),
        ];
        let value = self.tape.one(&values).clone();
        let ty = Ty::number(value.is_boolean());
        let key = self.constant(body, value);
        body.pool.push((key, ty));
    }

    /// Names of bands in one of the spellings.
    fn bands(&mut self, body: &mut Body, names: &[String]) -> String {
        let value = match self.tape.below(4) {
            0 => json!(names.join(" ")),
            1 => json!(json!(names).to_string()),
            2 => json!(json!(names.join(" ")).to_string()),
            _ => json!([names]),
        };
        self.constant(body, value)
    }

    fn source(&mut self, body: &mut Body) {
        let (product, bands) = *self.tape.one(&[world::PRODUCTS, &world::PRODUCTS[..1]].concat());
        let range = world::RANGES[[0, 0, 0, 1, 1, 2, 3, 4][self.tape.below(8)]];
        let mut names: Vec<String> = bands.iter().map(|band| (*band).to_owned()).collect();
        names.rotate_left(self.tape.below(bands.len()));
        names.truncate(bands.len() - self.tape.below(bands.len()));
        let kind =
            Kind::Stack { images: world::images(product, range, &self.grid), bands: names.len() as u32 };
        let ids: Vec<&str> =
            world::SCENES.iter().filter(|(of, ..)| *of == product).map(|scene| scene.1).collect();
        let product = self.constant(body, product.into());
        let bands = self.bands(body, &names);
        let mut optional = |this: &mut Self, value: Option<Value>| match value {
            Some(value) => Some(this.constant(body, value)),
            None if this.tape.once_in(2) => Some(this.constant(body, Value::Null)),
            None => None,
        };
        let start = optional(self, range.0.map(Value::from));
        let end = optional(self, range.1.map(Value::from));
        let filter = optional(self, None);
        let by = [None, Some("acquired"), Some("cloud"), Some("missing")][self.tape.below(4)];
        let sort_by = optional(self, by.map(Value::from));
        let up = [None, Some(true), Some(false)][self.tape.below(3)];
        let ascending = optional(self, up.map(Value::from));
        let select_pad = optional(self, Some(json!(0)));
        let padded = [None, Some(json!(0)), Some(json!(2))][self.tape.below(3)].clone();
        let pad = optional(self, padded);
        let near = [None, Some("near"), Some("cubic")][self.tape.below(3)];
        let resampler = optional(self, near.map(Value::from));
        let mosaic = Kind::Mosaic { bands: names.len() as u32 };
        if self.tape.once_in(8) {
            let listed: Vec<&str> = (0..=self.tape.below(3)).map(|_| *self.tape.one(&ids)).collect();
            let ids = self.constant(body, json!(json!(listed).to_string()));
            let image = self.apply(
                body,
                "from_image_ids",
                &[("ids", Some(ids)), ("bands", Some(bands)), ("pad", pad), ("resampler", resampler)],
            );
            body.pool.push((image, Ty::raster(mosaic, false, Some(names))));
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
            body.pool.push((image, Ty::raster(mosaic, false, Some(names))));
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
                ("pad", select_pad),
            ],
        );
        let stack = self.apply(
            body,
            "stack_scenes",
            &[("scenes", Some(scenes)), ("bands", Some(bands)), ("pad", pad), ("resampler", resampler)],
        );
        body.pool.push((stack, Ty::raster(kind, false, Some(names))));
    }

    /// One of the values in sight that `fits`, a recent one rather than an old one.
    fn recent(&mut self, body: &Body, fits: impl Fn(&Ty) -> bool) -> Option<(String, Ty)> {
        let fitting: Vec<_> = body.pool.iter().rev().filter(|(_, ty)| fits(ty)).collect();
        let reach = if self.tape.once_in(3) { fitting.len() } else { fitting.len().min(2) };
        (!fitting.is_empty()).then(|| fitting[self.tape.below(reach)].clone())
    }

    fn binary(&mut self, body: &mut Body) {
        let (op, older, joint, rule) = *self.tape.one(BINARY);
        let fits_some = |a: &Ty| rule != Rule::OnlyBool || a.is_bool;
        let Some((a, a_ty)) = self.recent(body, |ty| fits_some(ty) && ty.is_raster()) else { return };
        let flip = self.tape.once_in(3);
        let joined = |b: &Ty| {
            let (first, second) = if flip { (b, &a_ty) } else { (&a_ty, b) };
            combine(rule, joint, first, second)
        };
        let partner = if self.tape.once_in(3) { None } else { self.recent(body, |b| joined(b).is_some()) };
        let (b, b_ty) = partner.unwrap_or_else(|| {
            let value = if rule == Rule::OnlyBool { json!(true) } else { json!(2) };
            let ty = Ty::number(value.is_boolean());
            (self.constant(body, value), ty)
        });
        let Some(ty) = joined(&b_ty) else { return };
        let (first, second) = if flip { (b, a) } else { (a, b) };
        let key = self.math(body, op, older, first, Some(second));
        body.pool.push((key, ty));
    }

    fn math(&mut self, body: &mut Body, op: &str, older: &str, a: String, b: Option<String>) -> String {
        match self.tape.below(5) {
            0 | 1 => {
                let name = self.constant(body, older.into());
                let null = b.is_none().then(|| self.constant(body, Value::Null));
                self.apply(body, "math", &[("name", Some(name)), ("a", Some(a)), ("b", b.or(null))])
            }
            // Through a function that gets the op as an argument.
            2 if b.is_some() => {
                let apply = json!({"parameters": ["f", "u", "v"], "returns": "r", "r": ["f", "u", "v"]});
                let apply = self.constant(body, apply);
                let f = Some(op.to_owned());
                self.apply(body, &apply, &[("f", f), ("u", Some(a)), ("v", b)])
            }
            _ if b.is_some() => self.apply(body, op, &[("a", Some(a)), ("b", b)]),
            _ => self.apply(body, op, &[("a", Some(a))]),
        }
    }

    fn unary(&mut self, body: &mut Body) {
        let Some((a, ty)) = self.recent(body, Ty::is_raster) else { return };
        let (op, older) = match self.tape.below(3) {
            _ if ty.is_bool && self.tape.once_in(2) => ("abs", "_abs"),
            _ if ty.is_bool => ("invert", "invert"),
            0 => ("abs", "_abs"),
            _ => ("neg", "neg"),
        };
        let key = self.math(body, op, older, a, None);
        body.pool.push((key, ty));
    }

    fn mask(&mut self, body: &mut Body) {
        let Some((mask, mask_ty)) = self.recent(body, |ty| ty.is_raster() && ty.is_bool) else {
            return self.binary(body);
        };
        let fits = |data: &Ty| match (data.kind, mask_ty.kind) {
            (Kind::Number, _) | (Kind::Mosaic { .. }, Kind::Stack { .. }) => false,
            (Kind::Stack { images: a, .. }, Kind::Stack { images: b, .. }) if a != b => false,
            (a, b) => broadcast(a, b) == Some(a),
        };
        let Some((data, ty)) = self.recent(body, fits) else { return };
        let key = self.apply(body, "mask", &[("data", Some(data)), ("mask", Some(mask))]);
        body.pool.push((key, ty));
    }

    fn with_bands(kind: Kind, bands: u32) -> Kind {
        match kind {
            Kind::Stack { images, .. } => Kind::Stack { images, bands },
            Kind::Mosaic { .. } | Kind::Array(_) | Kind::Number => Kind::Mosaic { bands },
        }
    }

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

    fn pick(&mut self, body: &mut Body) {
        let has_names = |ty: &Ty| ty.names.is_some() || ty.kind.images() == Some(0);
        let Some((a, ty)) = self.recent(body, has_names) else { return };
        let known = ty.names.unwrap_or_else(|| vec!["any".into(), "name".into()]);
        let count = 1 + self.tape.below(3);
        let picked: Vec<String> = (0..count).map(|_| self.tape.one(&known).clone()).collect();
        let kind = Self::with_bands(ty.kind, count as u32);
        let bands = self.bands(body, &picked);
        let key = self.band_op(body, "pick_bands", a, Some(bands), None);
        body.pool.push((key, Ty::raster(kind, ty.is_bool, Some(picked))));
    }

    fn rename_or_concat(&mut self, body: &mut Body) {
        let Some((a, ty)) = self.recent(body, Ty::is_raster) else { return };
        let bands = ty.kind.bands().unwrap_or(0);
        if self.tape.once_in(3) {
            let names: Vec<String> = (0..bands).map(|at| format!("n{at}")).collect();
            let list = self.bands(body, &names);
            let key = self.band_op(body, "rename_bands", a, Some(list), None);
            return body.pool.push((key, Ty::raster(ty.kind, ty.is_bool, Some(names))));
        }
        let fits = |other: &Ty| other.is_raster() && other.kind.images() == ty.kind.images();
        let Some((other, other_ty)) = self.recent(body, fits) else { return };
        let other_bands = other_ty.kind.bands().unwrap_or(0);
        if bands + other_bands > 6 {
            return;
        }
        let invent =
            |from: u32, count: u32| (from..from + count).map(|at| at.to_string()).collect::<Vec<_>>();
        let first = ty.names.unwrap_or_else(|| invent(0, bands));
        let second = other_ty.names.unwrap_or_else(|| invent(first.len() as u32, other_bands));
        let kind = Self::with_bands(ty.kind, bands + other_bands);
        let key = self.band_op(body, "concat_bands", a, None, Some(other));
        body.pool.push((key, Ty::raster(kind, false, Some([first, second].concat()))));
    }

    fn reduce(&mut self, body: &mut Body) {
        let Some((a, ty)) = self.recent(body, |ty| ty.kind.images().is_some()) else { return };
        let op = *self.tape.one(&["median", "mean", "min", "max"]);
        let axis = self.constant(body, "images".into());
        let kind = if self.tape.once_in(2) { Some(self.constant(body, "ImageStack".into())) } else { None };
        let key = if self.tape.once_in(3) {
            self.apply(body, op, &[("a", Some(a)), ("axis", Some(axis)), ("kind", kind)])
        } else {
            let name = self.constant(body, op.into());
            self.apply(
                body,
                "reduction",
                &[("a", Some(a)), ("reducer", Some(name)), ("axis", Some(axis)), ("kind", kind)],
            )
        };
        let is_bool = ty.is_bool && matches!(op, "min" | "max");
        let mosaic = Kind::Mosaic { bands: ty.kind.bands().unwrap_or(0) };
        body.pool.push((key, Ty::raster(mosaic, is_bool, ty.names)));
    }

    /// A function of some values in sight, a closure over the others, applied once or twice.
    fn function(&mut self, body: &mut Body, depth: usize) {
        let count = self.tape.below(3);
        let args: Vec<(String, Ty)> = (0..count).filter_map(|_| self.recent(body, |_| true)).collect();
        let mut params: Vec<String> = Vec::new();
        for at in 0..args.len() {
            // A parameter may hide a key of the surrounding body.
            let hidden = self.recent(body, |_| true).map(|(key, _)| key).filter(|key| !params.contains(key));
            let hidden = hidden.filter(|_| self.tape.once_in(3));
            params.push(hidden.unwrap_or_else(|| format!("p{depth}_{at}")));
        }
        let mut inner = Body::default();
        inner.pool.extend(body.pool.iter().filter(|(key, _)| !params.contains(key)).cloned());
        inner.pool.extend(params.iter().cloned().zip(args.iter().map(|(_, ty)| ty.clone())));
        let steps = 1 + self.tape.below(4);
        self.grow(&mut inner, steps, depth + 1);
        let Some((returns, ty)) = inner.pool.last().cloned() else { return };
        let mut value = inner.keys;
        if !params.is_empty() || self.tape.once_in(2) {
            value.insert("parameters".into(), params.clone().into());
        }
        value.insert("returns".into(), returns.into());
        let function = self.add(body, value.into());
        let mut bound: Vec<(&str, Option<String>)> = Vec::new();
        for (param, (key, _)) in params.iter().zip(&args) {
            bound.push((param, Some(key.clone())));
        }
        let key = self.apply(body, &function, &bound);
        body.pool.push((key, ty.clone()));
        // Once more, on other values of the same types.
        if self.tape.once_in(2) {
            let mut others = Vec::new();
            for (param, (_, ty)) in params.iter().zip(&args) {
                others.push((param.as_str(), self.recent(body, |other| other == ty).map(|(key, _)| key)));
            }
            if others.iter().all(|(_, key)| key.is_some()) {
                let key = self.apply(body, &function, &others);
                body.pool.push((key, ty));
            }
        }
    }
}
