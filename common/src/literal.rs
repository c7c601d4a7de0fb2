//! JSON values as grafts spell them: integers and floats stay apart, objects keep no duplicate keys.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::hash::Hasher;

/// A constant of a graft. Two are equal only in kind and bits: `1`, `1.0`, `true` and `-0.0` all differ.
#[derive(Clone, Debug)]
pub enum Literal {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number without fraction or exponent that fits 64 bits.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A text.
    Str(String),
    /// A list.
    List(Vec<Literal>),
    /// An object, sorted by key.
    Object(Vec<(String, Literal)>),
}

impl PartialEq for Literal {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Literal::Null, Literal::Null) => true,
            (Literal::Bool(a), Literal::Bool(b)) => a == b,
            (Literal::Int(a), Literal::Int(b)) => a == b,
            (Literal::Float(a), Literal::Float(b)) => a.to_bits() == b.to_bits(),
            (Literal::Str(a), Literal::Str(b)) => a == b,
            (Literal::List(a), Literal::List(b)) => a == b,
            (Literal::Object(a), Literal::Object(b)) => a == b,
            _ => false,
        }
    }
}

impl Literal {
    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Literal::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one; truth values count as 0 and 1, as in Python.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Literal::Bool(value) => Some(f64::from(u8::from(*value))),
            Literal::Int(value) => Some(*value as f64),
            Literal::Float(value) => Some(*value),
            Literal::Null | Literal::Str(_) | Literal::List(_) | Literal::Object(_) => None,
        }
    }

    /// Adds its numbers to others: itself, or those in a list.
    pub(crate) fn numbers(&self, out: &mut Vec<f64>) {
        match self {
            Literal::List(items) => items.iter().for_each(|item| item.numbers(out)),
            other => out.extend(other.as_f64()),
        }
    }

    /// The integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Literal::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// What it is, for messages.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Literal::Null => "null",
            Literal::Bool(_) => "a truth value",
            Literal::Int(_) => "an integer",
            Literal::Float(_) => "a number",
            Literal::Str(_) => "a string",
            Literal::List(_) => "a list",
            Literal::Object(_) => "an object",
        }
    }

    /// Adds the value to a digest.
    pub fn hash_into(&self, hasher: &mut Hasher) {
        match self {
            Literal::Null => _ = hasher.str("null"),
            Literal::Bool(value) => _ = hasher.str("bool").int(i64::from(*value)),
            Literal::Int(value) => _ = hasher.int(*value),
            Literal::Float(value) => _ = hasher.float(*value),
            Literal::Str(text) => _ = hasher.str("text").str(text),
            Literal::List(items) => {
                hasher.str("list").int(items.len() as i64);
                items.iter().for_each(|item| item.hash_into(hasher));
            }
            Literal::Object(members) => {
                hasher.str("object").int(members.len() as i64);
                for (key, value) in members {
                    hasher.str(key);
                    value.hash_into(hasher);
                }
            }
        }
    }

    /// The value as JSON. A float keeps its point, so that reading it again gives a float.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Literal::Null => serde_json::Value::Null,
            Literal::Bool(value) => (*value).into(),
            Literal::Int(value) => (*value).into(),
            Literal::Float(value) => (*value).into(),
            Literal::Str(text) => text.clone().into(),
            Literal::List(items) => items.iter().map(Literal::to_json).collect(),
            Literal::Object(members) => {
                members.iter().map(|(key, value)| (key.clone(), value.to_json())).collect()
            }
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_json())
    }
}

impl<'de> Deserialize<'de> for Literal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyJson;
        impl<'de> Visitor<'de> for AnyJson {
            type Value = Literal;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Literal, E> {
                Ok(Literal::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Literal, E> {
                Ok(Literal::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Literal, E> {
                Ok(Literal::Int(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Literal, E> {
                Ok(i64::try_from(value).map_or(Literal::Float(value as f64), Literal::Int))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Literal, E> {
                Ok(Literal::Float(value))
            }
            fn visit_str<E>(self, text: &str) -> Result<Literal, E> {
                Ok(Literal::Str(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Literal, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Literal::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Literal, A::Error> {
                let mut members: std::collections::BTreeMap<String, Literal> = Default::default();
                while let Some(key) = map.next_key::<String>()? {
                    if members.contains_key(&key) {
                        return Err(de::Error::custom(format_args!(
                            "the key `{key}` stands twice in one object"
                        )));
                    }
                    let value = map.next_value()?;
                    members.insert(key, value);
                }
                Ok(Literal::Object(members.into_iter().collect()))
            }
        }
        deserializer.deserialize_any(AnyJson)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Literal {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn numbers_keep_their_kind_and_bits() {
        assert_eq!(parse("1"), Literal::Int(1));
        assert_eq!(parse("1.0"), Literal::Float(1.0));
        assert_ne!(parse("1"), parse("1.0"));
        assert_ne!(parse("-0.0"), parse("0.0"));
        assert_eq!(parse("0.1"), Literal::Float(0.1));
        assert_eq!(parse("123456789012345678901"), Literal::Float(123456789012345678901.0));
        for text in ["1", "1.0", "true", "null", "[1,2.5]", r#"{"a":[{}]}"#, "1e300"] {
            assert_eq!(parse(&parse(text).to_string()), parse(text), "{text}");
        }
    }

    #[test]
    fn duplicate_keys_are_refused_at_any_depth() {
        let error = serde_json::from_str::<Literal>(r#"{"a": [{"b": 1, "b": 2}]}"#).unwrap_err();
        assert!(error.to_string().contains("`b` stands twice"), "{error}");
    }
}
