//! A JSON document whose values know where they are, so that every complaint names the member.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::CatalogError;

/// Longest id or name, in bytes. They go into messages, properties and keys.
const ID_BYTES_MAX: usize = 512;

/// A value in a document, with the way to it for messages.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    file: &'a str,
    path: String,
    value: &'a Value,
}

impl<'a> Node<'a> {
    pub(super) fn root(file: &'a str, value: &'a Value) -> Self {
        Node { file, path: String::new(), value }
    }

    pub(super) fn file(&self) -> &'a str {
        self.file
    }

    /// The JSON pointer to this value.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    /// A value that is the member `key` of this one.
    pub(super) fn member<'b>(&self, key: &str, value: &'b Value) -> Node<'b>
    where
        'a: 'b,
    {
        Node { file: self.file, path: format!("{}/{}", self.path, escape(key)), value }
    }

    /// The member `key`; `None` where it is absent or null.
    pub(super) fn get(&self, key: &str) -> Result<Option<Node<'a>>, CatalogError> {
        let value = self.object()?.get(key).filter(|value| !value.is_null());
        Ok(value.map(|value| self.member(key, value)))
    }

    /// The member `key`, which must be there.
    pub(super) fn need(&self, key: &str) -> Result<Node<'a>, CatalogError> {
        self.get(key)?.ok_or_else(|| self.member_wrong(key, "is missing"))
    }

    pub(super) fn object(&self) -> Result<&'a Map<String, Value>, CatalogError> {
        self.value.as_object().ok_or_else(|| self.wrong("must be an object"))
    }

    pub(super) fn items(&self) -> Result<Vec<Node<'a>>, CatalogError> {
        let values = self.value.as_array().ok_or_else(|| self.wrong("must be an array"))?;
        let node = |(i, value)| Node { file: self.file, path: format!("{}/{i}", self.path), value };
        Ok(values.iter().enumerate().map(node).collect())
    }

    pub(super) fn text(&self) -> Result<&'a str, CatalogError> {
        self.value.as_str().ok_or_else(|| self.wrong("must be a string"))
    }

    pub(super) fn number(&self) -> Result<f64, CatalogError> {
        self.value.as_f64().ok_or_else(|| self.wrong("must be a number"))
    }

    pub(super) fn id(&self) -> Result<String, CatalogError> {
        let id = self.text()?;
        if id.is_empty() || id.len() > ID_BYTES_MAX || id.chars().any(char::is_control) {
            return Err(self.wrong("must be 1 to 512 bytes of text without control characters"));
        }
        Ok(id.to_owned())
    }

    /// The error that says what is wrong with this value.
    pub(super) fn wrong(&self, problem: &str) -> CatalogError {
        let member = if self.path.is_empty() { "/".to_owned() } else { self.path.clone() };
        CatalogError::Member { file: self.file.to_owned(), member, problem: problem.to_owned() }
    }

    /// The error that says what is wrong with the member `key`.
    pub(super) fn member_wrong(&self, key: &str, problem: &str) -> CatalogError {
        let member = format!("{}/{}", self.path, escape(key));
        CatalogError::Member { file: self.file.to_owned(), member, problem: problem.to_owned() }
    }
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// A document as serde reads it. Assets keep their order, for it is the order of a product's bands.
#[derive(Deserialize)]
pub(super) struct RawDocument {
    #[serde(default)]
    pub(super) assets: Option<RawAssets>,
    #[serde(flatten)]
    pub(super) members: Map<String, Value>,
}

/// The member `assets`.
#[derive(Default)]
pub(super) struct RawAssets(pub(super) Vec<(String, Value)>);

impl<'de> Deserialize<'de> for RawAssets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = RawAssets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of assets")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawAssets, A::Error> {
                let mut assets: Vec<(String, Value)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    if assets.iter().any(|(known, _)| *known == key) {
                        return Err(A::Error::custom(format!("asset `{key}` is defined twice")));
                    }
                    assets.push((key, value));
                }
                Ok(RawAssets(assets))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}
