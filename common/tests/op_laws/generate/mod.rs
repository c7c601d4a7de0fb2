//! Random grafts that nearly always type-check: the generator tracks kind, type and band names of
//! everything it builds. Choices come from a tape of numbers, so that proptest can shrink them.

use std::fmt;

use graticule_common::aoi::{Geometry, Outline};
use graticule_common::grid::Grid;
use serde_json::{Map, Value};

use crate::world;
use ty::Ty;

mod bands;
mod images;
mod neighbours;
mod other;
mod reductions;
mod sources;
mod ty;
mod values;

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

/// A function's body while it grows: its keys, and the values in sight.
#[derive(Default)]
struct Body {
    keys: Map<String, Value>,
    pool: Vec<(String, Ty)>,
    /// The last value whose type is not known here.
    untyped: Option<String>,
}

struct Generator {
    tape: Tape,
    grid: Grid,
    /// Pixels of padding of the sources that have some: two different paddings never meet.
    pad: u32,
    next: usize,
}

type Make = fn(&mut Generator, &mut Body);

/// What a graft grows by, and how often.
const STEPS: &[(usize, Make)] = &[
    (8, Generator::binary),
    (2, Generator::source),
    (2, Generator::unary),
    (2, Generator::function_of_numbers),
    (2, Generator::mask),
    (2, Generator::choose),
    (2, Generator::pick),
    (2, Generator::rename_or_concat),
    (1, Generator::dot),
    (3, Generator::reduce),
    (1, Generator::reduce_pixels),
    (1, Generator::literal),
    (1, Generator::array),
    (1, Generator::resolution),
    (2, Generator::images),
    (3, Generator::neighbourhood),
    (2, Generator::other),
];

impl Case {
    /// The request that a tape describes.
    pub fn new(words: &[u32]) -> Case {
        let mut tape = Tape::new(words);
        let index = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3][tape.below(10)];
        let outlines =
            [None, None, Some(triangle()), Some(holed()), Some(elsewhere()), Some(touched()), Some(line())];
        let outline = outlines[tape.below(outlines.len())].clone();
        let grid = world::grid(index);
        let pad = [0, 0, 2, 1, 5][tape.below(5)];
        let mut generator = Generator { tape, grid, pad, next: 0 };
        let mut body = Body::default();
        generator.source(&mut body);
        let steps = 2 + generator.tape.below(14);
        generator.grow(&mut body, steps, 0);
        let returns = generator.result(&mut body);
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

impl Generator {
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
        let all: usize = STEPS.iter().map(|(weight, _)| weight).sum();
        for _ in 0..steps {
            if depth < 2 && self.tape.once_in(14) {
                self.function(body, depth);
                continue;
            }
            let mut left = self.tape.below(all);
            let step = STEPS.iter().find(|(weight, _)| {
                let is_it = left < *weight;
                left = left.saturating_sub(*weight);
                is_it
            });
            if let Some((_, make)) = step {
                make(self, body);
            }
        }
    }

    /// The key that the graft returns: a raster, now and then something else.
    fn result(&mut self, body: &mut Body) -> String {
        if self.tape.once_in(12)
            && let Some(key) = self.groups(body)
        {
            return key;
        }
        if self.tape.once_in(2)
            && let Some(key) = body.untyped.take()
        {
            return key;
        }
        let is_other = self.tape.once_in(12);
        let last = body.pool.iter().rev().find(|(_, ty)| ty.is_raster() != is_other).or(body.pool.last());
        last.map(|(key, _)| key.clone()).unwrap_or_default()
    }

    /// One of the values in sight that `fits`, a recent one rather than an old one.
    fn recent(&mut self, body: &Body, fits: impl Fn(&Ty) -> bool) -> Option<(String, Ty)> {
        let fitting: Vec<_> = body.pool.iter().rev().filter(|(_, ty)| fits(ty)).collect();
        let reach = if self.tape.once_in(3) { fitting.len() } else { fitting.len().min(2) };
        (!fitting.is_empty()).then(|| fitting[self.tape.below(reach)].clone())
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
