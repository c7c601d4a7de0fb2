//! Values of properties, as Python has them.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Fault, Order};
use crate::literal::Literal;
use crate::predicate;
use crate::scene::{Properties, Timestamp};

/// Bytes that one value may take, texts and items counted.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// A value of a function of properties.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Missing: Python's `None`.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text.
    Str(String),
    /// An instant, in UTC.
    Time(Timestamp),
    /// A day: its midnight in UTC.
    Date(Timestamp),
    /// A list, or a tuple: nothing can change either.
    List(Vec<Value>),
    /// An image, or a property that has properties.
    Object(Arc<Properties>),
}

impl Value {
    /// A constant of a graft.
    pub fn from_literal(literal: &Literal) -> Value {
        match literal {
            Literal::Null => Value::Null,
            Literal::Bool(value) => Value::Bool(*value),
            Literal::Int(value) => Value::Int(*value),
            Literal::Float(value) => Value::Float(*value),
            Literal::Str(text) => Value::Str(text.clone()),
            Literal::List(items) => Value::List(items.iter().map(Value::from_literal).collect()),
            Literal::Object(members) => {
                let members = members.iter().map(|(key, value)| (key.clone(), value.to_json()));
                Value::Object(Arc::new(members.collect()))
            }
        }
    }

    /// A property as the catalog has it, under its name: names of times give instants.
    pub(super) fn from_json(name: &str, value: &serde_json::Value) -> Value {
        match value {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(int) => Value::Int(int),
                None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => match Timestamp::parse(text) {
                Some(time) if predicate::is_time(name) => Value::Time(time),
                _ => Value::Str(text.clone()),
            },
            serde_json::Value::Array(items) => {
                Value::List(items.iter().map(|item| Value::from_json("", item)).collect())
            }
            serde_json::Value::Object(members) => {
                let members = members.iter().map(|(key, value)| (key.clone(), value.clone()));
                Value::Object(Arc::new(members.collect()))
            }
        }
    }

    /// As a constant of a graft; instants as Python's `isoformat` prints them.
    pub(in crate::ops) fn to_literal(&self) -> Result<Literal, Fault> {
        Ok(match self {
            Value::Null => Literal::Null,
            Value::Bool(value) => Literal::Bool(*value),
            Value::Int(value) => Literal::Int(*value),
            Value::Float(value) => Literal::Float(*value),
            Value::Str(text) => Literal::Str(text.clone()),
            Value::Time(time) => Literal::Str(isoformat(*time, "T")?),
            Value::Date(day) => Literal::Str(isoformat(*day, "T")?.chars().take(10).collect()),
            Value::List(items) => {
                Literal::List(items.iter().map(Value::to_literal).collect::<Result<_, _>>()?)
            }
            Value::Object(_) => {
                return Err(Fault::new("an image is no such value; take one of its properties"));
            }
        })
    }

    /// What it is, for messages.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Value::Null => "a missing value",
            Value::Bool(_) => "a truth value",
            Value::Int(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Str(_) => "a text",
            Value::Time(_) => "a time",
            Value::Date(_) => "a date",
            Value::List(_) => "a tuple",
            Value::Object(_) => "an image",
        }
    }

    /// Python's truth test.
    pub fn is_true(&self) -> bool {
        match self {
            Value::Null => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::Str(text) => !text.is_empty(),
            Value::List(items) => !items.is_empty(),
            Value::Time(_) | Value::Date(_) | Value::Object(_) => true,
        }
    }

    /// As a number of a graft, if it is one.
    pub fn as_number(&self) -> Option<Literal> {
        match self {
            Value::Bool(value) => Some(Literal::Bool(*value)),
            Value::Int(value) => Some(Literal::Int(*value)),
            Value::Float(value) => Some(Literal::Float(*value)),
            _ => None,
        }
    }

    /// Back from what arithmetic of constants gave.
    pub fn from_number(number: Literal) -> Value {
        Value::from_literal(&number)
    }

    /// The value, if it is not too large: ops that join values cannot make one that fills memory.
    pub(super) fn bounded(self) -> Result<Value, Fault> {
        match self.within(VALUE_BYTES_MAX) {
            Some(_) => Ok(self),
            None => Err(Fault::new(format!(
                "the value takes more than {VALUE_BYTES_MAX} bytes, which is the limit"
            ))),
        }
    }

    /// What is left of some bytes after the value; `None` if it does not fit.
    pub(super) fn within(&self, left: usize) -> Option<usize> {
        let left = left.checked_sub(16)?;
        match self {
            Value::Str(text) => left.checked_sub(text.len()),
            Value::List(items) => items.iter().try_fold(left, |left, item| item.within(left)),
            _ => Some(left),
        }
    }

    /// How it compares with another. A time and a text that is a date compare as instants.
    pub fn order(&self, other: &Value) -> Order {
        let is = |order: Option<Ordering>| order.map_or(Order::Missing, Order::Is);
        match (self, other) {
            (Value::Null, _) | (_, Value::Null) => Order::Missing,
            (Value::Str(a), Value::Str(b)) => Order::Is(a.cmp(b)),
            (Value::Time(a) | Value::Date(a), Value::Time(b) | Value::Date(b)) => Order::Is(a.cmp(b)),
            (Value::Time(a) | Value::Date(a), Value::Str(b)) => match Timestamp::parse(b) {
                Some(b) => Order::Is(a.cmp(&b)),
                None => Order::Unlike,
            },
            (Value::Str(a), Value::Time(b) | Value::Date(b)) => match Timestamp::parse(a) {
                Some(a) => Order::Is(a.cmp(b)),
                None => Order::Unlike,
            },
            (Value::List(a), Value::List(b)) => {
                // The first pair that differs decides; two missing items are the same item.
                for (a, b) in a.iter().zip(b) {
                    match a.order(b) {
                        Order::Is(Ordering::Equal) => {}
                        _ if (a, b) == (&Value::Null, &Value::Null) => {}
                        Order::Missing if *a == Value::Null || *b == Value::Null => return Order::Unlike,
                        other => return other,
                    }
                }
                Order::Is(a.len().cmp(&b.len()))
            }
            (Value::Object(a), Value::Object(b)) if a == b => Order::Is(Ordering::Equal),
            _ => match (self.as_int(), other.as_int(), self.as_f64(), other.as_f64()) {
                (Some(a), Some(b), ..) => Order::Is(a.cmp(&b)),
                (Some(a), None, _, Some(b)) => is(compare_exactly(a, b)),
                (None, Some(b), Some(a), _) => is(compare_exactly(b, a).map(Ordering::reverse)),
                (None, None, Some(a), Some(b)) => is(a.partial_cmp(&b)),
                _ => Order::Unlike,
            },
        }
    }

    /// Python's `==` of keys: missing values are equal to each other, numbers by value.
    pub fn is_same(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            // One NaN is as good as another: they make one group.
            (Value::Float(a), Value::Float(b)) if a.is_nan() && b.is_nan() => true,
            (Value::List(a), Value::List(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_same(b))
            }
            _ => self.order(other) == Order::Is(Ordering::Equal),
        }
    }

    /// Whether a list has an equal item, or a text holds another.
    pub(super) fn contains(&self, item: &Value) -> Result<bool, Fault> {
        match (self, item) {
            (Value::List(items), item) => Ok(items.iter().any(|other| other.is_same(item))),
            (Value::Str(text), Value::Str(part)) => Ok(text.contains(part.as_str())),
            // A list that is missing holds nothing, as a comparison with it is false.
            (Value::Null, _) => Ok(false),
            (Value::Str(_), other) => {
                Err(Fault::new(format!("a text does not contain {}", other.kind_name())))
            }
            (other, _) => Err(Fault::new(format!("{} contains nothing", other.kind_name()))),
        }
    }

    pub(super) fn as_int(&self) -> Option<i64> {
        match self {
            Value::Bool(value) => Some(i64::from(*value)),
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Float(value) => Some(*value),
            other => other.as_int().map(|int| int as f64),
        }
    }
}

/// Compares a whole number with a float without rounding it, as Python does.
fn compare_exactly(int: i64, float: f64) -> Option<Ordering> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() {
        return None;
    }
    if float >= BEYOND {
        return Some(Ordering::Less);
    }
    if float < -BEYOND {
        return Some(Ordering::Greater);
    }
    let whole = float.trunc();
    Some(int.cmp(&(whole as i64)).then_with(|| whole.total_cmp(&float)))
}

/// Civil date and time of an instant in UTC.
pub(super) fn civil(time: Timestamp) -> Result<jiff::civil::DateTime, Fault> {
    let instant = jiff::Timestamp::from_microsecond(time.0);
    let instant = instant.map_err(|_| Fault::new("the time is outside the years -9999 to 9999"))?;
    Ok(jiff::tz::Offset::UTC.to_datetime(instant))
}

/// An instant as Python's `isoformat` prints it, with something between date and time.
pub(super) fn isoformat(time: Timestamp, between: &str) -> Result<String, Fault> {
    let t = civil(time)?;
    let micros = match t.subsec_nanosecond() / 1000 {
        0 => String::new(),
        micros => format!(".{micros:06}"),
    };
    Ok(format!(
        "{:04}-{:02}-{:02}{between}{:02}:{:02}:{:02}{micros}+00:00",
        t.year(),
        t.month(),
        t.day(),
        t.hour(),
        t.minute(),
        t.second()
    ))
}
