//! Conditions on scenes: the JSON form of protocol.md section 7 as a closed tree, and what it means.
//!
//! A predicate is data: nothing in it runs, and it looks at nothing but properties.

use crate::error::{Classify, ErrorClass};
use crate::literal::Literal;
use crate::scene::{Properties, Timestamp};
use serde_json::Value;

/// Nested `and` and `or`.
pub const DEPTH_MAX: usize = 32;
/// Comparisons, `and`s and `or`s of one predicate; a list of image ids is one comparison each.
pub const NODES_MAX: usize = 10_000;
/// Bytes of a name or a text that is compared with.
pub const TEXT_BYTES_MAX: usize = 4096;
/// Bytes of a predicate's JSON.
const BYTES_MAX: usize = 1 << 20;

/// Properties that are instants: they are compared as such, however they are spelled.
const TIMES: [&str; 12] = [
    "acquired",
    "acquired_end",
    "created",
    "datetime",
    "end_datetime",
    "expires",
    "modified",
    "processing:datetime",
    "published",
    "start_datetime",
    "unpublished",
    "updated",
];

/// Whether properties of this name are instants.
pub fn is_time(name: &str) -> bool {
    TIMES.contains(&name)
}

/// A condition on a scene's properties.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Predicate {
    /// All hold. Without any, it holds.
    And(Vec<Predicate>),
    /// At least one holds. Without any, it does not hold.
    Or(Vec<Predicate>),
    /// A property is absent or null (`true`), or neither (`false`).
    Null {
        /// Name of the property.
        name: String,
        /// Which of the two.
        is_null: bool,
    },
    /// A property compared with a constant.
    Compare {
        /// How.
        op: Comparison,
        /// Name of the property.
        name: String,
        /// The constant.
        value: Operand,
    },
}

/// How a property is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Comparison {
    /// Equal; a list: contains.
    Eq,
    /// Not equal, or missing; a list: does not contain.
    Ne,
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
    /// Begins with a text; a list: one of it does.
    Prefix,
    /// Matches a pattern: `%` is any run of characters, `_` is one. A list: one of it does.
    Like,
    /// `Like` without regard to case.
    ILike,
}

impl Comparison {
    const ALL: [(&'static str, Comparison); 9] = [
        ("eq", Comparison::Eq),
        ("ne", Comparison::Ne),
        ("gt", Comparison::Gt),
        ("gte", Comparison::Gte),
        ("lt", Comparison::Lt),
        ("lte", Comparison::Lte),
        ("prefix", Comparison::Prefix),
        ("like", Comparison::Like),
        ("ilike", Comparison::ILike),
    ];

    fn name(self) -> &'static str {
        Comparison::ALL.iter().find(|(_, op)| *op == self).map_or("eq", |(name, _)| name)
    }

    fn takes_text(self) -> bool {
        matches!(self, Comparison::Prefix | Comparison::Like | Comparison::ILike)
    }
}

/// A constant that a property is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operand {
    /// A truth value.
    Bool(bool),
    /// A finite number, by its bits; never `-0.0`.
    Number(u64),
    /// A text.
    Text(String),
}

impl Operand {
    /// A number. `None` if it is not finite.
    pub fn number(value: f64) -> Option<Operand> {
        // Adding turns -0.0 into 0.0: the two are equal and must look it.
        value.is_finite().then(|| Operand::Number((value + 0.0).to_bits()))
    }

    /// The number, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Operand::Number(bits) => Some(f64::from_bits(*bits)),
            Operand::Bool(_) | Operand::Text(_) => None,
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Operand::Text(text) => Some(text),
            Operand::Bool(_) | Operand::Number(_) => None,
        }
    }
}

/// Why something is not a predicate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PredicateError {
    /// Not of the form of a predicate.
    #[error("{at} of the predicate {problem}")]
    Form {
        /// Where, as a JSON pointer.
        at: String,
        /// What is wrong and what is expected.
        problem: String,
    },
    /// A text that is not JSON: a pickled function, most likely.
    #[error(
        "the predicate is not JSON ({reason}), and a pickled callable is never run; write it as comparisons of properties, such as `{{\"op\": \"lt\", \"name\": \"cloud_fraction\", \"val\": 0.2}}`"
    )]
    NotJson {
        /// What the parser said.
        reason: String,
    },
    /// A named bound is exceeded.
    #[error("the predicate has more than {limit} {what}, which is the limit")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
}

impl Classify for PredicateError {
    fn class(&self) -> ErrorClass {
        match self {
            PredicateError::Form { .. } => ErrorClass::InvalidRequest,
            PredicateError::NotJson { .. } => ErrorClass::Unsupported,
            PredicateError::Limit { .. } => ErrorClass::LimitExceeded,
        }
    }
}

impl Predicate {
    /// Reads a predicate as a graft has it: an object, a list (all must hold), or either as JSON text.
    ///
    /// # Errors
    /// [`PredicateError`].
    pub fn from_literal(literal: &Literal) -> Result<Predicate, PredicateError> {
        match literal {
            Literal::Str(text) => Predicate::parse(text),
            other => Reader { nodes: 0 }.read(other, "", 0),
        }
    }

    /// Reads a predicate from JSON text.
    ///
    /// # Errors
    /// [`PredicateError`].
    pub fn parse(text: &str) -> Result<Predicate, PredicateError> {
        if text.len() > BYTES_MAX {
            return Err(PredicateError::Limit { what: "bytes", limit: BYTES_MAX });
        }
        check_depth(text)?;
        let not_json = |error: serde_json::Error| PredicateError::NotJson { reason: error.to_string() };
        let literal: Literal = serde_json::from_str(text).map_err(not_json)?;
        if let Literal::Str(_) = literal {
            return Err(form("", "must be an object or a list"));
        }
        Reader { nodes: 0 }.read(&literal, "", 0)
    }

    /// Reads a predicate as people type it: JSON, or comparisons such as `cloud_fraction<0.2` joined by
    /// `and`. Texts may stand in quotes.
    ///
    /// # Errors
    /// [`PredicateError`].
    pub fn parse_simple(text: &str) -> Result<Predicate, PredicateError> {
        if text.trim_start().starts_with(['{', '[']) {
            return Predicate::parse(text);
        }
        let parts: Vec<Predicate> = text.split(" and ").map(simple).collect::<Result<_, _>>()?;
        match <[Predicate; 1]>::try_from(parts) {
            Ok([only]) => Ok(only),
            Err(parts) => Ok(Predicate::And(parts)),
        }
    }

    /// Whether it holds for a scene.
    pub fn holds(&self, properties: &Properties) -> bool {
        match self {
            Predicate::And(parts) => parts.iter().all(|part| part.holds(properties)),
            Predicate::Or(parts) => parts.iter().any(|part| part.holds(properties)),
            Predicate::Null { name, is_null } => properties.get(name).is_none_or(Value::is_null) == *is_null,
            Predicate::Compare { op, name, value } => match properties.get(name) {
                None | Some(Value::Null) => *op == Comparison::Ne,
                Some(Value::Array(items)) => match op {
                    Comparison::Eq | Comparison::Prefix | Comparison::Like | Comparison::ILike => {
                        items.iter().any(|item| compare(*op, name, item, value))
                    }
                    Comparison::Ne => !items.iter().any(|item| compare(Comparison::Eq, name, item, value)),
                    Comparison::Gt | Comparison::Gte | Comparison::Lt | Comparison::Lte => false,
                },
                Some(found) => compare(*op, name, found, value),
            },
        }
    }

    /// The predicate as JSON; [`parse`](Self::parse) reads it back.
    pub fn to_json(&self) -> Value {
        let list = |parts: &[Predicate]| parts.iter().map(Predicate::to_json).collect::<Vec<_>>();
        match self {
            Predicate::And(parts) => serde_json::json!({"and": list(parts)}),
            Predicate::Or(parts) => serde_json::json!({"or": list(parts)}),
            Predicate::Null { name, is_null } => {
                serde_json::json!({"op": if *is_null { "isnull" } else { "isnotnull" }, "name": name})
            }
            Predicate::Compare { op, name, value } => {
                let value = match value {
                    Operand::Bool(value) => Value::from(*value),
                    Operand::Number(bits) => Value::from(f64::from_bits(*bits)),
                    Operand::Text(text) => Value::from(text.as_str()),
                };
                serde_json::json!({"op": op.name(), "name": name, "val": value})
            }
        }
    }
}

/// Compares one value that is there. Values of different kinds are unequal and have no order.
fn compare(op: Comparison, name: &str, found: &Value, with: &Operand) -> bool {
    use std::cmp::Ordering;
    let order = match (found, with) {
        (Value::Bool(found), Operand::Bool(with)) => Some(found.cmp(with)),
        (Value::Number(found), Operand::Number(bits)) => {
            found.as_f64().and_then(|found| found.partial_cmp(&f64::from_bits(*bits)))
        }
        (Value::String(found), Operand::Text(with)) => match op {
            Comparison::Prefix => return found.starts_with(with.as_str()),
            Comparison::Like => return is_like(found, with),
            Comparison::ILike => return is_like(&found.to_lowercase(), &with.to_lowercase()),
            _ => match is_time(name).then(|| Timestamp::parse(found).zip(Timestamp::parse(with))) {
                Some(Some((found, with))) => Some(found.cmp(&with)),
                _ => Some(found.as_str().cmp(with.as_str())),
            },
        },
        _ => None,
    };
    match op {
        Comparison::Eq => order == Some(Ordering::Equal),
        Comparison::Ne => order != Some(Ordering::Equal),
        Comparison::Gt => order == Some(Ordering::Greater),
        Comparison::Gte => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        Comparison::Lt => order == Some(Ordering::Less),
        Comparison::Lte => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Comparison::Prefix | Comparison::Like | Comparison::ILike => false,
    }
}

/// Whether a text matches a pattern. Goes back to the last `%` only: time is bounded by the product of
/// the lengths.
fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    let (mut t, mut p) = (0, 0);
    let mut last: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('%') => {
                last = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '_' || *c == text[t] => (t, p) = (t + 1, p + 1),
            _ => match last {
                Some((star, from)) => {
                    last = Some((star, from + 1));
                    (t, p) = (from + 1, star + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '%')
}

fn form(at: &str, problem: impl Into<String>) -> PredicateError {
    let at = if at.is_empty() { "the whole".to_owned() } else { format!("`{at}`") };
    PredicateError::Form { at, problem: problem.into() }
}

/// Bounds nesting before anything recurses over it.
fn check_depth(text: &str) -> Result<(), PredicateError> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for c in text.bytes() {
        match c {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        // An `and` is an object and a list.
        if depth > 2 * DEPTH_MAX + 2 {
            return Err(PredicateError::Limit { what: "levels", limit: DEPTH_MAX });
        }
    }
    Ok(())
}

struct Reader {
    nodes: usize,
}

impl Reader {
    fn read(&mut self, literal: &Literal, at: &str, depth: usize) -> Result<Predicate, PredicateError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(PredicateError::Limit { what: "comparisons", limit: NODES_MAX });
        }
        if depth > DEPTH_MAX {
            return Err(PredicateError::Limit { what: "levels", limit: DEPTH_MAX });
        }
        let members = match literal {
            Literal::List(parts) => return Ok(Predicate::And(self.list(parts, at, depth)?)),
            Literal::Object(members) => members,
            other => return Err(form(at, format!("must be an object, it is {}", other.kind_name()))),
        };
        if let [(key, parts)] = members.as_slice()
            && (key == "and" || key == "or")
        {
            let at = format!("{at}/{key}");
            let Literal::List(parts) = parts else { return Err(form(&at, "must be a list")) };
            let parts = self.list(parts, &at, depth)?;
            return Ok(if key == "and" { Predicate::And(parts) } else { Predicate::Or(parts) });
        }
        comparison(members, at)
    }

    fn list(&mut self, parts: &[Literal], at: &str, depth: usize) -> Result<Vec<Predicate>, PredicateError> {
        let parts = parts.iter().enumerate();
        parts.map(|(i, part)| self.read(part, &format!("{at}/{i}"), depth + 1)).collect()
    }
}

fn comparison(members: &[(String, Literal)], at: &str) -> Result<Predicate, PredicateError> {
    let member = |name: &str| members.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    if let Some((key, _)) = members.iter().find(|(key, _)| !["op", "name", "val"].contains(&key.as_str())) {
        let problem = format!("has a member `{key}`; `op`, `name` and `val`, or `and`, or `or` are known");
        return Err(form(at, problem));
    }
    let text = |key: &str| match member(key) {
        Some(Literal::Str(text)) if !text.is_empty() => bounded(text),
        Some(_) => Err(form(&format!("{at}/{key}"), "must be a text that is not empty")),
        None => Err(form(at, format!("has no member `{key}`"))),
    };
    let (op, name) = (text("op")?, text("name")?);
    if op == "isnull" || op == "isnotnull" {
        return Ok(Predicate::Null { name, is_null: op == "isnull" });
    }
    let op = Comparison::ALL.iter().find(|(known, _)| *known == op).map(|(_, op)| *op).ok_or_else(|| {
        let known = crate::error::listing(Comparison::ALL.iter().map(|(name, _)| name));
        form(&format!("{at}/op"), format!("is `{op}`; {known}, isnull and isnotnull are known"))
    })?;
    let value_at = format!("{at}/val");
    let value = match member("val") {
        Some(Literal::Bool(value)) => Operand::Bool(*value),
        Some(Literal::Str(text)) => Operand::Text(bounded(text)?),
        Some(number @ (Literal::Int(_) | Literal::Float(_))) => number
            .as_f64()
            .and_then(Operand::number)
            .ok_or_else(|| form(&value_at, "must be a finite number"))?,
        Some(Literal::Null) => {
            return Err(form(&value_at, "is null; use `isnull` or `isnotnull` to ask for that"));
        }
        Some(other) => {
            return Err(form(&value_at, format!("must be one value, it is {}", other.kind_name())));
        }
        None => return Err(form(at, "has no member `val`")),
    };
    checked(op, name, value, &value_at)
}

fn checked(op: Comparison, name: String, value: Operand, at: &str) -> Result<Predicate, PredicateError> {
    if op.takes_text() && value.as_text().is_none() {
        return Err(form(at, format!("must be a text for `{}`", op.name())));
    }
    if is_time(&name)
        && !op.takes_text()
        && value.as_text().is_none_or(|text| Timestamp::parse(text).is_none())
    {
        return Err(form(
            at,
            format!("must be an ISO 8601 date such as `2024-06-01`, for `{name}` is a time"),
        ));
    }
    Ok(Predicate::Compare { op, name, value })
}

fn bounded(text: &str) -> Result<String, PredicateError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(PredicateError::Limit { what: "bytes in one text", limit: TEXT_BYTES_MAX });
    }
    Ok(text.to_owned())
}

/// One comparison as people type it.
fn simple(text: &str) -> Result<Predicate, PredicateError> {
    const OPS: [(&str, Comparison); 9] = [
        ("<=", Comparison::Lte),
        (">=", Comparison::Gte),
        ("!=", Comparison::Ne),
        ("==", Comparison::Eq),
        ("<", Comparison::Lt),
        (">", Comparison::Gt),
        ("=", Comparison::Eq),
        (" like ", Comparison::Like),
        (" ilike ", Comparison::ILike),
    ];
    let found = OPS.iter().filter_map(|(sign, op)| text.find(sign).map(|at| (at, sign.len(), *op)));
    // The first sign counts; of two that begin there, the longer.
    let first = found.min_by_key(|(at, length, _)| (*at, std::cmp::Reverse(*length)));
    let Some((at, length, op)) = first else {
        let problem =
            format!("is `{}`; write a comparison such as `cloud_fraction<0.2`, or JSON", text.trim());
        return Err(form("", problem));
    };
    let (name, value) = (bounded(text[..at].trim())?, text[at + length..].trim());
    if name.is_empty() || value.is_empty() {
        return Err(form("", format!("is `{}`, which lacks a name or a value", text.trim())));
    }
    if value.starts_with(['<', '>', '=', '!']) {
        return Err(form(
            "",
            format!("is `{}`, which has two signs in a row; quote a value that begins with one", text.trim()),
        ));
    }
    let quoted = ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote).and_then(|rest| rest.strip_suffix(*quote)));
    let value = match (quoted, value) {
        (Some(text), _) => Operand::Text(bounded(text)?),
        (None, "true") => Operand::Bool(true),
        (None, "false") => Operand::Bool(false),
        (None, bare) if op.takes_text() || is_time(&name) => Operand::Text(bounded(bare)?),
        (None, bare) => match bare.parse().ok().and_then(Operand::number) {
            Some(number) => number,
            None => Operand::Text(bounded(bare)?),
        },
    };
    checked(op, name, value, "val")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn properties() -> Properties {
        let all = json!({
            "id": "LE7_2008", "cloud_fraction": 0.25, "acquired": "2024-01-05T10:00:00.25Z", "gsd": 30,
            "tags": ["snow", "Alps", 7], "nothing": null, "good": true, "odd": {"a": 1},
        });
        all.as_object().unwrap().clone().into_iter().collect()
    }

    #[track_caller]
    fn check(predicate: Value, expect: bool) {
        let parsed = Predicate::parse(&predicate.to_string()).unwrap_or_else(|e| panic!("{predicate}: {e}"));
        assert_eq!(parsed.holds(&properties()), expect, "{predicate}");
        assert_eq!(Predicate::parse(&parsed.to_json().to_string()), Ok(parsed), "{predicate}");
    }

    #[test]
    fn comparisons() {
        let rows: [(&str, &str, Value, bool); 38] = [
            ("eq", "id", json!("LE7_2008"), true),
            ("eq", "id", json!("le7_2008"), false),
            ("eq", "gsd", json!(30.0), true),
            ("eq", "gsd", json!("30"), false),
            ("ne", "gsd", json!("30"), true),
            ("eq", "good", json!(true), true),
            ("eq", "good", json!(1), false),
            ("lt", "cloud_fraction", json!(0.25), false),
            ("lte", "cloud_fraction", json!(0.25), true),
            ("gt", "cloud_fraction", json!(0.25), false),
            ("gte", "cloud_fraction", json!(0.25), true),
            ("lt", "cloud_fraction", json!(1), true),
            ("lt", "cloud_fraction", json!("1"), false),
            ("eq", "odd", json!("a"), false),
            // What is missing: false, but `ne`.
            ("eq", "absent", json!(1), false),
            ("lt", "absent", json!(1), false),
            ("like", "absent", json!("%"), false),
            ("ne", "absent", json!(1), true),
            ("ne", "nothing", json!(1), true),
            ("eq", "nothing", json!("null"), false),
            // Instants, however they are spelled.
            ("eq", "acquired", json!("2024-01-05T11:00:00.250+01:00"), true),
            ("ne", "acquired", json!("2024-01-05T11:00:00.250+01:00"), false),
            ("lt", "acquired", json!("2024-01-05T10:00:00.250001"), true),
            ("gte", "acquired", json!("2024-01-05"), true),
            ("prefix", "acquired", json!("2024-01"), true),
            // Patterns.
            ("prefix", "id", json!("LE7"), true),
            ("prefix", "id", json!("E7"), false),
            ("like", "id", json!("LE7%"), true),
            ("like", "id", json!("L_7_2008"), true),
            ("like", "id", json!("%20_8%%"), true),
            ("like", "id", json!("le7%"), false),
            ("ilike", "id", json!("le7%"), true),
            ("like", "id", json!("LE7"), false),
            // Lists contain.
            ("eq", "tags", json!("snow"), true),
            ("eq", "tags", json!(7), true),
            ("ne", "tags", json!("snow"), false),
            ("ilike", "tags", json!("al%"), true),
            ("lt", "tags", json!(9), false),
        ];
        for (op, name, val, expect) in rows {
            check(json!({"val": val, "name": name, "op": op}), expect);
        }
    }

    #[test]
    fn combinations() {
        let (yes, no) = (json!({"op": "isnotnull", "name": "id"}), json!({"op": "isnull", "name": "id"}));
        check(json!({"op": "isnull", "name": "nothing"}), true);
        check(json!({"op": "isnull", "name": "absent"}), true);
        check(json!([yes, yes]), true);
        check(json!([yes, no]), false);
        check(json!([]), true);
        check(json!({"and": [yes, {"or": [no, yes]}]}), true);
        check(json!({"or": [no, {"and": [yes, no]}]}), false);
        check(json!({"or": []}), false);
    }

    #[test]
    fn what_is_no_predicate_is_refused() {
        for (text, says) in [
            ("7", "the whole of the predicate must be an object"),
            ("{}", "no member `op`"),
            (r#"{"op": "eq", "name": "a"}"#, "no member `val`"),
            (r#"{"op": "eq", "val": 1}"#, "no member `name`"),
            (r#"{"op": "eq", "name": "a", "val": null}"#, "isnull"),
            (r#"{"op": "eq", "name": "a", "val": [1]}"#, "one value"),
            (r#"{"op": "is", "name": "a", "val": 1}"#, "`is`"),
            (r#"[{"op": "like", "name": "a", "val": 1}]"#, "`/0/val`"),
            (r#"{"op": "lt", "name": "acquired", "val": "soon"}"#, "date"),
            (r#"{"op": "lt", "name": "acquired", "val": 2024}"#, "date"),
            (r#"{"op": "eq", "name": "a", "val": 1, "x": 1}"#, "`x`"),
            (r#"{"and": {"op": "eq"}}"#, "`/and`"),
            (r#"{"and": [], "or": []}"#, "member `and`"),
            (r#"{"op": "eq", "op": "ne", "name": "a", "val": 1}"#, "twice"),
            ("gASVHwAAAA==", "pickled"),
            ("\"{}\"", "object or a list"),
        ] {
            let error = Predicate::parse(text).unwrap_err();
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn bounds() {
        let nested = |levels: usize| {
            let inner = r#"{"op": "isnull", "name": "a"}"#.to_owned();
            (0..levels).fold(inner, |inner, _| format!(r#"{{"and": [{inner}]}}"#))
        };
        assert!(Predicate::parse(&nested(DEPTH_MAX)).is_ok());
        for text in [
            nested(DEPTH_MAX + 1),
            "[".repeat(100_000),
            format!("[{}1]", r#"{"op": "isnull", "name": "a"},"#.repeat(NODES_MAX)),
            format!(r#"{{"op": "eq", "name": "a", "val": "{}"}}"#, "x".repeat(TEXT_BYTES_MAX + 1)),
            " ".repeat(BYTES_MAX + 1),
        ] {
            let error = Predicate::parse(&text).unwrap_err();
            assert_eq!(error.class(), ErrorClass::LimitExceeded, "{error}");
        }
        // A pattern of many runs ends in time.
        assert!(!is_like(&"a".repeat(4000), &format!("{}b", "%a".repeat(2000))));
    }

    #[test]
    fn as_people_type_it() {
        for (text, expect) in [
            ("cloud_fraction<0.3", true),
            ("cloud_fraction < 0.2", false),
            ("id = LE7_2008", true),
            ("id == 'LE7_2008' and gsd>=30", true),
            ("id != LE7_2008", false),
            ("id like LE7%", true),
            ("id ilike \"le7%\"", true),
            ("acquired>2024", false),
            ("acquired>=2024-01-05", true),
            ("good=true", true),
            (r#"[{"op": "gt", "name": "gsd", "val": 29}]"#, true),
        ] {
            match Predicate::parse_simple(text) {
                Ok(predicate) => assert_eq!(predicate.holds(&properties()), expect, "{text}"),
                Err(error) => assert!(text.contains(">2024") && !expect, "{text}: {error}"),
            }
        }
        for text in ["", "cloud", "<0.3", "cloud_fraction<", "a and b"] {
            assert!(matches!(Predicate::parse_simple(text), Err(PredicateError::Form { .. })), "{text}");
        }
    }
}
