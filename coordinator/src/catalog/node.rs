//! A JSON document whose values know where they are, so that every complaint names the member.

use std::fmt;
use std::rc::Rc;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::CatalogError;

/// Longest id or name, in bytes. They go into messages, properties and keys.
const ID_BYTES_MAX: usize = 512;

/// A value in a document, with the way to it for messages.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    file: &'a str,
    trail: Option<Rc<Trail<'a>>>,
    value: &'a Value,
}

/// The way to a value, from its end. Written out only for a message: most documents are right.
#[derive(Debug)]
struct Trail<'a> {
    parent: Option<Rc<Trail<'a>>>,
    step: Step<'a>,
}

#[derive(Debug)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> Node<'a> {
    pub(super) fn root(file: &'a str, value: &'a Value) -> Self {
        Node { file, trail: None, value }
    }

    pub(super) fn file(&self) -> &'a str {
        self.file
    }

    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    /// The JSON pointer to this value.
    pub(super) fn path(&self) -> String {
        let mut steps = Vec::new();
        let mut trail = self.trail.as_deref();
        while let Some(Trail { parent, step }) = trail {
            steps.push(match step {
                Step::Key(key) => format!("/{}", escape(key)),
                Step::Index(index) => format!("/{index}"),
            });
            trail = parent.as_deref();
        }
        steps.reverse();
        steps.concat()
    }

    /// A value that is the member `key` of this one.
    pub(super) fn member(&self, key: &'a str, value: &'a Value) -> Node<'a> {
        self.step(Step::Key(key), value)
    }

    fn step(&self, step: Step<'a>, value: &'a Value) -> Node<'a> {
        let trail = Trail { parent: self.trail.clone(), step };
        Node { file: self.file, trail: Some(Rc::new(trail)), value }
    }

    /// The member `key`; `None` where it is absent or null.
    pub(super) fn get(&self, key: &str) -> Result<Option<Node<'a>>, CatalogError> {
        let found = self.object()?.get_key_value(key).filter(|(_, value)| !value.is_null());
        Ok(found.map(|(key, value)| self.member(key, value)))
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
        Ok(values.iter().enumerate().map(|(i, value)| self.step(Step::Index(i), value)).collect())
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
        let member = if self.trail.is_none() { "/".to_owned() } else { self.path() };
        CatalogError::Member { file: self.file.to_owned(), member, problem: problem.to_owned() }
    }

    /// The error that says what is wrong with the member `key`.
    pub(super) fn member_wrong(&self, key: &str, problem: &str) -> CatalogError {
        let member = format!("{}/{}", self.path(), escape(key));
        CatalogError::Member { file: self.file.to_owned(), member, problem: problem.to_owned() }
    }
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// A document as serde reads it. Assets keep their order, for it is the order of a product's bands.
#[derive(Clone, Debug, Default)]
pub(super) struct RawDocument {
    pub(super) assets: Option<RawAssets>,
    /// The items of an item collection.
    pub(super) features: Option<Vec<RawDocument>>,
    /// All else, an object.
    pub(super) members: Value,
}

// By hand: `flatten` would read every member twice.
impl<'de> Deserialize<'de> for RawDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut features = None;
        let mut each = |feature: RawDocument| {
            features.get_or_insert_with(Vec::new).push(feature);
            Ok(())
        };
        let (document, has_features) = deserializer.deserialize_map(Members { each: &mut each })?;
        let features = has_features.then(|| features.unwrap_or_default());
        Ok(RawDocument { features, ..document })
    }
}

impl Serialize for RawDocument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in self.members.as_object().into_iter().flatten() {
            map.serialize_entry(key, value)?;
        }
        if let Some(assets) = &self.assets {
            map.serialize_entry("assets", assets)?;
        }
        if let Some(features) = &self.features {
            map.serialize_entry("features", features)?;
        }
        map.end()
    }
}

/// Reads a document of any size whose size is in its features; each is handed on as it is read.
pub(super) fn stream<'de, D: Deserializer<'de>>(
    deserializer: D,
    each: &mut dyn FnMut(RawDocument) -> Result<(), Stop>,
) -> Result<(RawDocument, bool), D::Error> {
    deserializer.deserialize_map(Members { each })
}

/// Says that reading must end; the reason is kept by whoever says it.
pub(super) struct Stop;

struct Members<'a> {
    each: &'a mut dyn FnMut(RawDocument) -> Result<(), Stop>,
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = (RawDocument, bool);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut assets, mut has_features, mut members) = (None, false, Map::new());
        while let Some(key) = map.next_key::<String>()? {
            let known = match key.as_str() {
                "assets" => assets.is_some(),
                "features" => has_features,
                _ => members.contains_key(&key),
            };
            if known {
                return Err(A::Error::custom(format!("member `{key}` is defined twice")));
            }
            match key.as_str() {
                "assets" => assets = map.next_value()?,
                "features" => {
                    has_features = true;
                    map.next_value_seed(Features { each: &mut *self.each })?;
                }
                _ => _ = members.insert(key, map.next_value()?),
            }
        }
        Ok((RawDocument { assets, features: None, members: Value::Object(members) }, has_features))
    }
}

struct Features<'a> {
    each: &'a mut dyn FnMut(RawDocument) -> Result<(), Stop>,
}

impl<'de> DeserializeSeed<'de> for Features<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Features<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(feature) = seq.next_element()? {
            (self.each)(feature).map_err(|Stop| A::Error::custom("a feature cannot be registered"))?;
        }
        Ok(())
    }
}

/// The member `assets`.
#[derive(Clone, Debug, Default)]
pub(super) struct RawAssets(pub(super) Vec<(String, Value)>);

impl Serialize for RawAssets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

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
