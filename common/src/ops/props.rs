//! Metadata that travels with values: names of bands, padding, products, and whatever a scene has.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::scene::Properties;

/// Metadata that travels with a value: a dict for a mosaic, a list of dicts for a stack.
///
/// What ops change is the same for every image, so it is kept once, over dicts that all values of a
/// graft share: thousands of images cost no copy for each op.
#[derive(Clone, Debug, PartialEq)]
pub struct Props {
    dicts: Arc<Vec<Arc<Properties>>>,
    is_list: bool,
    /// Entries that stand in for those of every dict; `None` removes one.
    changes: Arc<Changes>,
    /// Where the values of a result come from.
    origin: Option<Arc<Origin>>,
}

/// The bands of a product whose values a result has, unchanged; in the order of its bands.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// Product id.
    pub product: String,
    /// Names of the product's bands.
    pub bands: Vec<String>,
}

type Changes = BTreeMap<String, Option<serde_json::Value>>;

impl Props {
    /// No metadata.
    pub fn none() -> Props {
        Props::one(Properties::new())
    }

    /// Of a mosaic or a number.
    pub fn one(properties: Properties) -> Props {
        Props {
            dicts: Arc::new(vec![Arc::new(properties)]),
            is_list: false,
            changes: Arc::default(),
            origin: None,
        }
    }

    /// Of each image of a stack.
    pub fn many(images: Vec<Arc<Properties>>) -> Props {
        Props { dicts: Arc::new(images), is_list: true, changes: Arc::default(), origin: None }
    }

    /// Where the values of a result come from, if an op has not made others of them. Known of results
    /// alone.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_deref()
    }

    /// The same metadata of a result whose values come from there.
    pub(crate) fn with_origin(self, origin: Option<Origin>) -> Props {
        Props { origin: origin.map(Arc::new), ..self }
    }

    /// Number of images; `None` for a dict.
    pub fn images(&self) -> Option<usize> {
        self.is_list.then_some(self.dicts.len())
    }

    /// The dict, or that of each image.
    pub fn dicts(&self) -> impl Iterator<Item = Properties> + '_ {
        self.dicts.iter().map(|dict| {
            let mut dict = Properties::clone(dict);
            for (name, value) in self.changes.iter() {
                match value {
                    Some(value) => drop(dict.insert(name.clone(), value.clone())),
                    None => drop(dict.remove(name)),
                }
            }
            dict
        })
    }

    /// The metadata of one image, as of a mosaic. What is no list stays as it is.
    pub(super) fn image(&self, at: usize) -> Props {
        match self.dicts.get(at).filter(|_| self.is_list) {
            Some(dict) => Props { dicts: Arc::new(vec![dict.clone()]), is_list: false, ..self.clone() },
            None => self.clone(),
        }
    }

    /// The metadata of some images, in this order. What is no list stays as it is.
    pub(super) fn pick(&self, positions: &[u32]) -> Props {
        if !self.is_list {
            return self.clone();
        }
        let dicts = positions.iter().filter_map(|at| self.dicts.get(*at as usize)).cloned().collect();
        Props { dicts: Arc::new(dicts), ..self.clone() }
    }

    /// The ids of the images, where they have one.
    pub(super) fn ids(&self) -> impl Iterator<Item = Option<String>> + '_ {
        let changed = self.changes.get("id");
        self.dicts.iter().map(move |dict| {
            let id = changed.map_or_else(|| dict.get("id"), Option::as_ref);
            id.and_then(serde_json::Value::as_str).map(str::to_owned)
        })
    }

    /// An entry of the dict, or of the first image's.
    pub fn get(&self, name: &str) -> Option<&serde_json::Value> {
        let first = self.dicts.first()?;
        match self.changes.get(name) {
            Some(changed) => changed.as_ref(),
            None => first.get(name),
        }
    }

    /// Band names, where they are known.
    pub fn bands(&self) -> Option<Vec<String>> {
        let names = self.get("bands")?.as_array()?;
        let names: Option<Vec<String>> = names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
        names.filter(|names| !names.is_empty())
    }

    /// Pixels of padding.
    pub fn pad(&self) -> i64 {
        self.get("pad").and_then(serde_json::Value::as_i64).unwrap_or(0)
    }

    /// The product's id.
    pub fn product(&self) -> Option<&str> {
        self.get("product_id")?.as_str().filter(|id| !id.is_empty())
    }

    /// The same metadata with an entry of every dict set, or removed.
    pub fn with(mut self, name: &str, value: Option<serde_json::Value>) -> Props {
        Arc::make_mut(&mut self.changes).insert(name.to_owned(), value);
        self
    }

    /// The same metadata with other band names.
    pub fn with_bands(self, names: &[String]) -> Props {
        self.with("bands", Some(names.into()))
    }

    /// Records that a second product went into a result.
    pub(super) fn with_other_product(self, other: &str) -> Props {
        let known = self.get("other_product_ids").and_then(serde_json::Value::as_array);
        let ids = known.cloned().unwrap_or_default().into_iter().chain([other.into()]).collect();
        self.with("other_product_ids", Some(serde_json::Value::Array(ids)))
    }
}
