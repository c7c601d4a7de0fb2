//! The ops of properties alone, one row each.

use super::value::{civil, isoformat};
use super::{Args, Fault, PropertyOp, Value};
use crate::ops::{Op, optional, required};
use crate::scene::Timestamp;

const PYTHON: &str = "Python's of the same name.";
const TEXT: &str = "A text; the result is a text.";

/// A row of a text and how it is changed.
macro_rules! text {
    ($name:literal, $summary:literal, $f:expr) => {
        &PropertyOp {
            name: $name,
            params: const { &[required("x")] },
            summary: $summary,
            shapes: TEXT,
            source: "Python's str methods.",
            example: concat!(r#"{"id": "id", "x": ["attr", "image", "id"], "key": [""#, $name, r#"", "x"]}"#),
            call: |args| {
                let f: fn(&str) -> String = $f;
                Ok(Value::Str(f(text(args, 0)?)))
            },
        }
    };
}

/// A row of a text and a text that is looked for in it.
macro_rules! test {
    ($name:literal, $summary:literal, $f:expr) => {
        &PropertyOp {
            name: $name,
            params: const { &[required("x"), required("part")] },
            summary: $summary,
            shapes: "A text, and a text or a tuple of texts of which one will do; the result is a truth value.",
            source: "Python's str methods.",
            example: concat!(
                r#"{"id": "id", "part": "s1", "x": ["attr", "image", "id"], "key": [""#,
                $name,
                r#"", "x", "part"]}"#
            ),
            call: |args| {
                let f: fn(&str, &str) -> bool = $f;
                let x = text(args, 0)?;
                let parts = match args.get(1)? {
                    Value::List(parts) => parts.as_slice(),
                    part => std::slice::from_ref(part),
                };
                for part in parts {
                    let Value::Str(part) = part else { return Err(not("a text", part)) };
                    if f(x, part) {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            },
        }
    };
}

/// The ops of this family.
pub const OPS: &[&dyn Op] = &[
    &PropertyOp {
        name: "attr",
        params: const { &[required("x"), required("name")] },
        summary: "A property of an image, or a part of a time; a property that is missing is null.",
        shapes: "An image and the name of a property; or a time and one of `year month day hour minute second microsecond weekday isoweekday dayofyear week date isoformat`.",
        source: "Python's datetime, in UTC: Monday is weekday 0, weeks are those of ISO 8601.",
        example: r#"{"acquired": "acquired", "month": "month", "x": ["attr", "image", "acquired"], "key": ["attr", "x", "month"]}"#,
        call: attr,
    },
    &PropertyOp {
        name: "tuple",
        params: const {
            &[
                required("a"),
                optional("b"),
                optional("c"),
                optional("d"),
                optional("e"),
                optional("f"),
                optional("g"),
                optional("h"),
            ]
        },
        summary: "A tuple of up to eight values.",
        shapes: "Values; the result is a tuple.",
        source: PYTHON,
        example: r#"{"names": ["tuple", "a", "b"], "a": "satellite_id", "b": "id", "x": ["attr", "image", "a"], "y": ["attr", "image", "b"], "key": ["tuple", "x", "y"]}"#,
        call: |args| {
            let values = (0..args.len()).map(|at| args.get(at).cloned());
            values.collect::<Result<Vec<_>, _>>().map(Value::List)
        },
    },
    &PropertyOp {
        name: "item",
        params: const { &[required("x"), required("i")] },
        summary: "An item of a tuple or list, or a character of a text; negative positions count from the end. Of an image, the property of a name.",
        shapes: "A text, tuple or list and a whole number.",
        source: "Python's indexing.",
        example: r#"{"id": "id", "last": -1, "x": ["attr", "image", "id"], "key": ["item", "x", "last"]}"#,
        call: item,
    },
    &PropertyOp {
        name: "slice",
        params: const { &[required("x"), optional("start"), optional("stop")] },
        summary: "A part of a text, tuple or list, from `start` up to before `stop`; negative positions count from the end.",
        shapes: "A text, tuple or list and whole numbers, or null for an end; the result is of the same sort.",
        source: "Python's slices.",
        example: r#"{"id": "id", "start": 0, "stop": 1, "x": ["attr", "image", "id"], "key": ["slice", "x", "start", "stop"]}"#,
        call: slice,
    },
    test!("startswith", "Whether a text begins with another.", |x, part| x.starts_with(part)),
    test!("endswith", "Whether a text ends with another.", |x, part| x.ends_with(part)),
    &PropertyOp {
        name: "contains",
        params: const { &[required("x"), required("item")] },
        summary: "Whether a text holds another, or a list has an equal item; a missing list has none.",
        shapes: "A text and a text, or a list and a value; the result is a truth value.",
        source: "Python's `item in x`.",
        example: r#"{"tags": "tags", "tag": "x", "all": ["attr", "image", "tags"], "key": ["contains", "all", "tag"]}"#,
        call: |args| args.get(0)?.contains(args.get(1)?).map(Value::Bool),
    },
    &PropertyOp {
        name: "split",
        params: const { &[required("x"), optional("separator")] },
        summary: "The parts of a text between separators; without one, between runs of white space.",
        shapes: "A text, and a text that is not empty; the result is a list of texts.",
        source: "Python's str.split.",
        example: r#"{"id": "id", "by": "s", "last": -1, "x": ["attr", "image", "id"], "parts": ["split", "x", "by"], "key": ["item", "parts", "last"]}"#,
        call: |args| {
            let x = text(args, 0)?;
            let parts: Vec<&str> = match args.get(1)? {
                Value::Null => x.split_whitespace().collect(),
                Value::Str(separator) if !separator.is_empty() => x.split(separator.as_str()).collect(),
                other => return Err(not("a separator, a text that is not empty", other)),
            };
            Ok(Value::List(parts.into_iter().map(|part| Value::Str(part.into())).collect()))
        },
    },
    text!("upper", "A text in upper case.", str::to_uppercase),
    text!("lower", "A text in lower case.", str::to_lowercase),
    &PropertyOp {
        name: "strip",
        params: const { &[required("x"), optional("characters")] },
        summary: "A text without the characters of another at its ends; without one, without white space.",
        shapes: "A text, and a text; the result is a text.",
        source: "Python's str.strip.",
        example: r#"{"id": "id", "s": "s", "x": ["attr", "image", "id"], "key": ["strip", "x", "s"]}"#,
        call: |args| {
            let x = text(args, 0)?;
            let stripped = match args.get(1)? {
                Value::Null => x.trim(),
                Value::Str(characters) => x.trim_matches(|c| characters.contains(c)),
                other => return Err(not("a text", other)),
            };
            Ok(Value::Str(stripped.into()))
        },
    },
    &PropertyOp {
        name: "replace",
        params: const { &[required("x"), required("old"), required("new")] },
        summary: "A text with every occurrence of one part replaced by another.",
        shapes: "Three texts; the result is a text.",
        source: "Python's str.replace.",
        example: r#"{"id": "id", "s": "s", "scene": "scene ", "x": ["attr", "image", "id"], "key": ["replace", "x", "s", "scene"]}"#,
        call: |args| {
            let (x, old, new) = (text(args, 0)?, text(args, 1)?, text(args, 2)?);
            // Checked before it is made: it may be far longer than what it is made of.
            let growth = (x.len() + 1).saturating_mul(new.len());
            if growth > 1 << 20 {
                return Err(Fault::new("the text would grow beyond the limit"));
            }
            Ok(Value::Str(x.replace(old, new)))
        },
    },
    &PropertyOp {
        name: "strftime",
        params: const { &[required("x"), required("format")] },
        summary: "A time as a text, by a format of `%Y %m %d %H %M %S %f %j %y %w %u %V %G %b %B %a %A %F %T %%`.",
        shapes: "A time or date and a text; the result is a text.",
        source: "Python's datetime.strftime, in UTC and English.",
        example: r#"{"acquired": "acquired", "format": "%Y-%m", "x": ["attr", "image", "acquired"], "key": ["strftime", "x", "format"]}"#,
        call: strftime,
    },
    &PropertyOp {
        name: "str",
        params: const { &[required("x")] },
        summary: "A value as a text.",
        shapes: "A number, truth value, text, time or null; the result is a text.",
        source: PYTHON,
        example: r#"{"cloud": "cloud_fraction", "x": ["attr", "image", "cloud"], "key": ["str", "x"]}"#,
        call: |args| python_str(args.get(0)?).map(Value::Str),
    },
    &PropertyOp {
        name: "int",
        params: const { &[required("x")] },
        summary: "A number without its fraction, or the whole number that a text spells.",
        shapes: "A number, truth value or text; the result is a whole number.",
        source: PYTHON,
        example: r#"{"id": "id", "one": 1, "x": ["attr", "image", "id"], "digits": ["slice", "x", "one"], "key": ["int", "digits"]}"#,
        call: int,
    },
    &PropertyOp {
        name: "float",
        params: const { &[required("x")] },
        summary: "A number in double precision, or the one that a text spells.",
        shapes: "A number, truth value or text; the result is a number.",
        source: PYTHON,
        example: r#"{"cloud": "cloud_fraction", "x": ["attr", "image", "cloud"], "key": ["float", "x"]}"#,
        call: |args| match args.get(0)? {
            Value::Float(value) => Ok(Value::Float(*value)),
            Value::Str(text) => match text.trim().parse::<f64>() {
                Ok(value) => Ok(Value::Float(value)),
                Err(_) => Err(Fault::new(format!("`{text}` is no number"))),
            },
            other => other.as_int().map(|int| Value::Float(int as f64)).ok_or_else(|| not("a number", other)),
        },
    },
    &PropertyOp {
        name: "len",
        params: const { &[required("x")] },
        summary: "How many characters a text has, or items a tuple or list.",
        shapes: "A text, tuple or list; the result is a whole number.",
        source: PYTHON,
        example: r#"{"tags": "tags", "x": ["attr", "image", "tags"], "key": ["len", "x"]}"#,
        call: |args| match args.get(0)? {
            Value::Str(text) => Ok(Value::Int(text.chars().count() as i64)),
            Value::List(items) => Ok(Value::Int(items.len() as i64)),
            other => Err(not("a text, tuple or list", other)),
        },
    },
    &PropertyOp {
        name: "is_null",
        params: const { &[required("x")] },
        summary: "Whether a property is missing.",
        shapes: "Any value; the result is a truth value.",
        source: "Python's `x is None`.",
        example: r#"{"angle": "view_angle", "x": ["attr", "image", "angle"], "key": ["is_null", "x"]}"#,
        call: |args| Ok(Value::Bool(*args.get(0)? == Value::Null)),
    },
];

/// A fault: something else was expected.
fn not(expected: &str, got: &Value) -> Fault {
    let hint = if *got == Value::Null { "; ask `is_null` first" } else { "" };
    Fault::new(format!("needs {expected}, got {}{hint}", got.kind_name()))
}

fn text<'a>(args: &Args<'a>, at: usize) -> Result<&'a str, Fault> {
    match args.get(at)? {
        Value::Str(text) => Ok(text),
        other => Err(not("a text", other)),
    }
}

fn attr(args: &Args<'_>) -> Result<Value, Fault> {
    let name = text(args, 1)?;
    match args.get(0)? {
        Value::Object(properties) => {
            Ok(properties.get(name).map_or(Value::Null, |value| Value::from_json(name, value)))
        }
        Value::Time(time) => part_of(*time, name, isoformat(*time, "T")),
        Value::Date(day) => {
            part_of(*day, name, isoformat(*day, "T").map(|text| text.chars().take(10).collect()))
        }
        other => Err(Fault::new(format!(
            "{} has no attribute `{name}`{}",
            other.kind_name(),
            if *other == Value::Null { "; ask `is_null` first" } else { "" }
        ))),
    }
}

fn part_of(time: Timestamp, name: &str, iso: Result<String, Fault>) -> Result<Value, Fault> {
    let t = civil(time)?;
    Ok(Value::Int(match name {
        "year" => t.year().into(),
        "month" => t.month().into(),
        "day" => t.day().into(),
        "hour" => t.hour().into(),
        "minute" => t.minute().into(),
        "second" => t.second().into(),
        "microsecond" => i64::from(t.subsec_nanosecond() / 1000),
        "weekday" => t.weekday().to_monday_zero_offset().into(),
        "isoweekday" => t.weekday().to_monday_one_offset().into(),
        "dayofyear" => t.day_of_year().into(),
        "week" => t.date().iso_week_date().week().into(),
        "date" => return Ok(Value::Date(Timestamp(time.0 - time.0.rem_euclid(86_400_000_000)))),
        "isoformat" => return iso.map(Value::Str),
        _ => {
            return Err(Fault::new(format!(
                "a time has no attribute `{name}`; it has year, month, day, hour, minute, second, microsecond, weekday, isoweekday, dayofyear, week, date and isoformat"
            )));
        }
    }))
}

fn item(args: &Args<'_>) -> Result<Value, Fault> {
    let (x, i) = (args.get(0)?, args.get(1)?);
    if let (Value::Object(_), Value::Str(_)) = (x, i) {
        return attr(args);
    }
    let i = i.as_int().ok_or_else(|| not("a whole number as position", i))?;
    let position = |len: usize| {
        let from_start = if i < 0 { i.saturating_add(len as i64) } else { i };
        let position = usize::try_from(from_start).ok().filter(|at| *at < len);
        position.ok_or_else(|| Fault::new(format!("there is no item {i} of {len}")))
    };
    match x {
        Value::List(items) => Ok(items[position(items.len())?].clone()),
        Value::Str(text) => {
            let at = position(text.chars().count())?;
            Ok(Value::Str(text.chars().skip(at).take(1).collect()))
        }
        other => Err(not("a text, tuple or list", other)),
    }
}

fn slice(args: &Args<'_>) -> Result<Value, Fault> {
    let end = |at: usize, missing: i64, len: usize| -> Result<usize, Fault> {
        let asked = match args.get(at)? {
            Value::Null => missing,
            other => other.as_int().ok_or_else(|| not("whole numbers as ends", other))?,
        };
        let from_start = if asked < 0 { asked.saturating_add(len as i64).max(0) } else { asked };
        Ok(usize::try_from(from_start).unwrap_or(usize::MAX).min(len))
    };
    let range = |len: usize| -> Result<std::ops::Range<usize>, Fault> {
        let (start, stop) = (end(1, 0, len)?, end(2, i64::MAX, len)?);
        Ok(start..stop.max(start))
    };
    match args.get(0)? {
        Value::List(items) => Ok(Value::List(items[range(items.len())?].to_vec())),
        Value::Str(text) => {
            let range = range(text.chars().count())?;
            Ok(Value::Str(text.chars().skip(range.start).take(range.len()).collect()))
        }
        other => Err(not("a text, tuple or list", other)),
    }
}

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

fn strftime(args: &Args<'_>) -> Result<Value, Fault> {
    use std::fmt::Write;
    let (Value::Time(time) | Value::Date(time)) = args.get(0)? else {
        return Err(not("a time", args.get(0)?));
    };
    let t = civil(*time)?;
    let (day, month) = (t.weekday().to_monday_zero_offset() as usize, t.month() as usize - 1);
    let mut out = String::new();
    let mut format = text(args, 1)?.chars();
    while let Some(c) = format.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let done = match format.next() {
            Some('Y') => write!(out, "{:04}", t.year()),
            Some('m') => write!(out, "{:02}", t.month()),
            Some('d') => write!(out, "{:02}", t.day()),
            Some('H') => write!(out, "{:02}", t.hour()),
            Some('M') => write!(out, "{:02}", t.minute()),
            Some('S') => write!(out, "{:02}", t.second()),
            Some('f') => write!(out, "{:06}", t.subsec_nanosecond() / 1000),
            Some('j') => write!(out, "{:03}", t.day_of_year()),
            Some('y') => write!(out, "{:02}", t.year().rem_euclid(100)),
            Some('w') => write!(out, "{}", (day + 1) % 7),
            Some('u') => write!(out, "{}", day + 1),
            Some('V') => write!(out, "{:02}", t.date().iso_week_date().week()),
            Some('G') => write!(out, "{:04}", t.date().iso_week_date().year()),
            Some('b') => write!(out, "{}", &MONTHS[month][..3]),
            Some('B') => write!(out, "{}", MONTHS[month]),
            Some('a') => write!(out, "{}", &DAYS[day][..3]),
            Some('A') => write!(out, "{}", DAYS[day]),
            Some('F') => write!(out, "{:04}-{:02}-{:02}", t.year(), t.month(), t.day()),
            Some('T') => write!(out, "{:02}:{:02}:{:02}", t.hour(), t.minute(), t.second()),
            Some('%') => write!(out, "%"),
            other => {
                let what = other.map_or("a % at the end".into(), |c| format!("`%{c}`"));
                return Err(Fault::new(format!("the format has {what}, which is not known")));
            }
        };
        done.map_err(|_| Fault::new("the text could not be written"))?;
    }
    Ok(Value::Str(out))
}

fn int(args: &Args<'_>) -> Result<Value, Fault> {
    match args.get(0)? {
        Value::Float(value) => {
            let whole = value.trunc();
            // Every float in this range is a whole number that fits.
            match (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&whole) {
                true => Ok(Value::Int(whole as i64)),
                false => Err(Fault::new(format!("{value} is no whole number of 64 bits"))),
            }
        }
        Value::Str(text) => match text.trim().parse() {
            Ok(value) => Ok(Value::Int(value)),
            Err(_) => Err(Fault::new(format!("`{text}` is no whole number"))),
        },
        other => other.as_int().map(Value::Int).ok_or_else(|| not("a number", other)),
    }
}

/// What Python's `str` prints.
fn python_str(value: &Value) -> Result<String, Fault> {
    Ok(match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) if value.is_nan() => "nan".into(),
        Value::Float(value) => {
            // Shortest digits in both languages, and powers from the same place on; only their spelling
            // differs: `1e-7` is `1e-07`.
            let text = format!("{value:?}");
            match text.split_once('e') {
                None => text,
                Some((digits, power)) => {
                    let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
                    format!("{digits}e{sign}{power:0>2}")
                }
            }
        }
        Value::Str(text) => text.clone(),
        Value::Time(time) => isoformat(*time, " ")?,
        Value::Date(day) => isoformat(*day, " ")?.chars().take(10).collect(),
        other => return Err(not("a number, text or time", other)),
    })
}
