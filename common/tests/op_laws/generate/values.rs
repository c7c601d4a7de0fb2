//! Value by value: arithmetic, comparison, functions, masks, choices, constants.

use base64::Engine as _;
use graticule_common::block::Kind;
use serde_json::{Value, json};

use super::ty::{Rule, Ty, broadcast, combine};
use super::{Body, Generator};

/// Op, its name in `math` (empty: it has none), its name between bands, what it does with types.
pub(super) const BINARY: &[(&str, &str, &str, Rule)] = &[
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
    ("mod", "", "mod", Rule::Float),
    ("minimum", "", "minimum", Rule::Float),
    ("maximum", "", "maximum", Rule::Float),
    ("arctan2", "arctan2", "arctan2", Rule::Float),
    ("normalized_difference", "", "normalized_difference", Rule::Float),
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

/// Functions of one number, those of `functional` first.
pub(super) const FUNCTIONS: [&str; 13] = [
    "sqrt", "cos", "sin", "tan", "arccos", "arcsin", "arctan", "log", "log10", "exp", "floor", "ceil",
    "round",
];

impl Generator {
    pub(super) fn literal(&mut self, body: &mut Body) {
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

    /// A constant array, sometimes of truth values; as double, single or truth values.
    pub(super) fn array_of(&mut self, body: &mut Body, axes: &[u32], is_bool: bool) -> String {
        let count = axes.iter().product::<u32>();
        let values: Vec<f64> = (0..count).map(|_| self.tape.below(9) as f64 / 2.0 - 1.0).collect();
        let (descr, bytes): (&str, Vec<u8>) = match is_bool {
            true => ("|b1", values.iter().map(|value| u8::from(*value > 1.0)).collect()),
            false if self.tape.once_in(2) => {
                ("<f4", values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect())
            }
            false => ("<f8", values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        };
        let shape: String = axes.iter().map(|axis| format!("{axis},")).collect();
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
        let header = format!("{header:<117}\n");
        let npy = [b"\x93NUMPY\x01\x00v\x00", header.as_bytes(), &bytes].concat();
        let npy = self.constant(body, base64::engine::general_purpose::STANDARD.encode(npy).into());
        self.apply(body, "array", &[("npy", Some(npy))])
    }

    /// A constant array that fits a value in sight, and its combination with that.
    pub(super) fn array(&mut self, body: &mut Body) {
        let Some((a, ty)) = self.recent(body, Ty::is_raster) else { return };
        let (rows, cols) = ty.pixels(&self.grid);
        let (images, bands) = (ty.kind.images(), ty.bands());
        let axes: &[u32] = match (self.tape.below(6), images) {
            (0 | 1, _) => &[images.unwrap_or(bands)],
            (2, _) => &[cols],
            (3, _) => &[rows, cols],
            (4, _) => &[bands, 1, 1],
            (_, Some(images)) => &[images, bands, 1, 1],
            _ => &[],
        };
        let is_bool = self.tape.once_in(4);
        let Some(array) = Ty::array(axes, false, is_bool) else { return };
        let key = self.array_of(body, axes, is_bool);
        body.pool.push((key.clone(), array.clone()));
        self.combined(body, (a, ty), Some((key, array)));
    }

    pub(super) fn binary(&mut self, body: &mut Body) {
        let is_logic = self.tape.once_in(5);
        let Some(a) = self.recent(body, |ty| ty.is_raster() && (!is_logic || ty.is_bool)) else { return };
        self.combined(body, a, None);
    }

    /// A combination of a raster with another value in sight, or with this one.
    fn combined(&mut self, body: &mut Body, (a, a_ty): (String, Ty), with: Option<(String, Ty)>) {
        let is_logic = a_ty.is_bool && self.tape.once_in(2);
        let fits = |rule: Rule| is_logic == (rule == Rule::OnlyBool);
        let ops: Vec<_> = BINARY.iter().filter(|(.., rule)| fits(*rule)).collect();
        let (op, older, joint, rule) = **self.tape.one(&ops);
        let flip = self.tape.once_in(3);
        let grid = self.grid.clone();
        let joined = |b: &Ty| {
            let (first, second) = if flip { (b, &a_ty) } else { (&a_ty, b) };
            combine(rule, joint, first, second, &grid)
        };
        let partner = match with {
            Some(with) => Some(with).filter(|(_, ty)| joined(ty).is_some()),
            None if self.tape.once_in(3) => None,
            None => self.recent(body, |b| joined(b).is_some()),
        };
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

    pub(super) fn math(
        &mut self,
        body: &mut Body,
        op: &str,
        older: &str,
        a: String,
        b: Option<String>,
    ) -> String {
        match self.tape.below(5) {
            0 | 1 if !older.is_empty() => {
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

    pub(super) fn unary(&mut self, body: &mut Body) {
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

    pub(super) fn function_of_numbers(&mut self, body: &mut Body) {
        let at = self.tape.below(FUNCTIONS.len());
        let op = FUNCTIONS[at];
        let Some((a, ty)) = self.recent(body, Ty::is_raster) else { return };
        let key = if at < 9 && self.tape.once_in(2) {
            let name = self.constant(body, op.into());
            self.apply(body, "functional", &[("a", Some(a)), ("name", Some(name))])
        } else {
            self.apply(body, op, &[("a", Some(a))])
        };
        body.pool.push((key, ty.of_type(false)));
    }

    pub(super) fn mask(&mut self, body: &mut Body) {
        let Some((mask, mask_ty)) = self.recent(body, |ty| ty.is_raster() && ty.is_bool) else {
            return self.binary(body);
        };
        let fits = |data: &Ty| match (data.kind, mask_ty.kind) {
            (Kind::Number | Kind::Array(_), _) | (Kind::Mosaic { .. }, Kind::Stack { .. }) => false,
            (Kind::Stack { images: a, .. }, Kind::Stack { images: b, .. }) if a != b => false,
            (a, b) => broadcast(a, b) == Some(a),
        };
        let Some((data, ty)) = self.recent(body, fits) else { return };
        let key = self.apply(body, "mask", &[("data", Some(data)), ("mask", Some(mask))]);
        body.pool.push((key, ty));
    }

    /// Ops that choose values, and those that look at what is valid.
    pub(super) fn choose(&mut self, body: &mut Body) {
        let Some((a, ty)) = self.recent(body, Ty::is_raster) else { return };
        let first = ("a", Some(a.clone()));
        let (key, ty) = match self.tape.below(6) {
            0 => {
                let (lo, hi) = (self.constant(body, json!(-1)), self.constant(body, json!(2.5)));
                (self.apply(body, "clip", &[first, ("lo", Some(lo)), ("hi", Some(hi))]), ty.of_type(false))
            }
            1 => {
                let value = self.tape.one(&[json!(0), json!(7.5), json!(-1)]).clone();
                let value = self.constant(body, value);
                (self.apply(body, "filled", &[first, ("value", Some(value))]), ty)
            }
            2 => {
                let values = self.tape.one(&[json!([[1, 2.5]]), json!([[0]]), json!([[]])]).clone();
                let values = self.constant(body, values);
                (self.apply(body, "isin", &[first, ("values", Some(values))]), ty.of_type(true))
            }
            3 => {
                let position = self.tape.below(4);
                let position = self.constant(body, json!(position));
                (self.apply(body, "bit", &[first, ("position", Some(position))]), ty.of_type(true))
            }
            4 => {
                let (start, count) = (self.tape.below(3), 1 + self.tape.below(3));
                let (start, count) = (self.constant(body, json!(start)), self.constant(body, json!(count)));
                let rest = [("start", Some(start)), ("count", Some(count))];
                (self.apply(body, "bits", &[&[first], &rest[..]].concat()), ty.of_type(false))
            }
            5 => return self.choice(body, (a, ty)),
            _ => return,
        };
        body.pool.push((key, ty));
    }

    /// `where(condition, a, b)`.
    fn choice(&mut self, body: &mut Body, (a, ty): (String, Ty)) {
        let grid = self.grid.clone();
        let known = self.recent(body, |other| {
            other.is_bool && other.is_raster() && combine(Rule::Compare, "", &ty, other, &grid).is_some()
        });
        let (condition, condition_ty) = known.unwrap_or_else(|| {
            let two = self.constant(body, json!(2));
            (self.math(body, "lt", "lt", a.clone(), Some(two)), ty.of_type(true))
        });
        let Some(both) = combine(Rule::Compare, "", &ty, &condition_ty, &grid) else { return };
        let fits = |other: &Ty| combine(Rule::Compare, "", &both, other, &grid).is_some();
        let Some((b, other)) = self.recent(body, fits) else { return };
        let Some(chosen) = combine(Rule::Compare, "where", &ty, &other, &grid) else { return };
        let Some(result) = combine(Rule::Compare, "", &both, &other, &grid) else { return };
        let names = chosen.names.or(condition_ty.names);
        let is_bool = ty.is_bool && other.is_bool;
        let args = [("condition", Some(condition)), ("a", Some(a)), ("b", Some(b))];
        let key = self.apply(body, "where", &args);
        body.pool.push((key, result.raster(result.kind, is_bool, names)));
    }

    /// The size of a pixel: a number.
    pub(super) fn resolution(&mut self, body: &mut Body) {
        let op = *self.tape.one(&["resolution_x", "resolution_y"]);
        let key = self.apply(body, op, &[]);
        body.pool.push((key, Ty::number(false)));
    }
}
