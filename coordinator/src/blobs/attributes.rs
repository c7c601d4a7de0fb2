//! What is known about a blob beside its content.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::BlobError;

/// Bytes of all attributes of a blob as JSON: a description of 80,000 characters fits.
const BYTES_MAX: usize = 128 << 10;

/// Members that the engine says itself; a client may repeat them.
const OURS: [&str; 11] = [
    "namespace",
    "name",
    "storage_type",
    "storage_state",
    "size_bytes",
    "hash",
    "href",
    "created",
    "modified",
    "id",
    "upload_signature",
];

/// What its user says about a blob.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attributes {
    /// For people.
    pub description: Option<String>,
    /// What the client notes: the class of what was saved, and the version of Python.
    pub extra_properties: Map<String, Value>,
    /// Labels.
    pub tags: Vec<String>,
    /// With whom it is shared, as the client says it. Who may read is decided by tenants alone.
    pub readers: Vec<String>,
    /// With whom it is shared for changing.
    pub writers: Vec<String>,
    /// Whose it is.
    pub owners: Vec<String>,
}

impl Attributes {
    /// Takes over what a document says; what it does not name stays, and null takes back.
    ///
    /// # Errors
    /// [`BlobError::Attribute`] for a value of another kind, [`BlobError::NotKept`] for an attribute that
    /// would be lost, [`BlobError::TooLarge`].
    pub fn apply(mut self, said: &Map<String, Value>) -> Result<Attributes, BlobError> {
        for (name, value) in said {
            match name.as_str() {
                "description" => self.description = of_kind(name, value, "a text")?,
                "extra_properties" => {
                    let wanted = "an object of texts, numbers and truth values";
                    let properties: Map<String, Value> = of_kind(name, value, wanted)?.unwrap_or_default();
                    if properties.values().any(|value| value.is_array() || value.is_object()) {
                        return Err(BlobError::Attribute { name: name.clone(), wanted });
                    }
                    self.extra_properties = properties;
                }
                "tags" => self.tags = texts(name, value)?,
                "readers" => self.readers = texts(name, value)?,
                "writers" => self.writers = texts(name, value)?,
                "owners" => self.owners = texts(name, value)?,
                known if OURS.contains(&known) => {}
                _ if value.is_null() => {}
                _ => return Err(BlobError::NotKept { name: name.chars().take(64).collect() }),
            }
        }
        let bytes = serde_json::to_vec(&self).map_or(usize::MAX, |text| text.len());
        if bytes > BYTES_MAX {
            return Err(BlobError::TooLarge { what: "attributes", limit: BYTES_MAX });
        }
        Ok(self)
    }
}

fn texts(name: &str, value: &Value) -> Result<Vec<String>, BlobError> {
    Ok(of_kind(name, value, "a list of texts")?.unwrap_or_default())
}

fn of_kind<T: serde::de::DeserializeOwned>(
    name: &str,
    value: &Value,
    wanted: &'static str,
) -> Result<Option<T>, BlobError> {
    let wrong = |_| BlobError::Attribute { name: name.to_owned(), wanted };
    serde_json::from_value(value.clone()).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(value: Value) -> Map<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_said_is_taken_over() {
        let first = Attributes::default()
            .apply(&said(json!({
                "description": "d", "tags": ["a"], "extra_properties": {"graft_type": "Mosaic", "k": 1},
                "name": "n", "storage_state": "available", "geometry": null
            })))
            .unwrap();
        assert_eq!(first.description.as_deref(), Some("d"));
        assert_eq!(first.extra_properties["k"], json!(1));
        let second = first.clone().apply(&said(json!({"readers": ["org:x"], "description": null}))).unwrap();
        let expected = Attributes { readers: vec!["org:x".to_owned()], description: None, ..first };
        assert_eq!(second, expected);
    }

    #[test]
    fn what_cannot_be_kept_is_an_error() {
        for bad in [
            json!({"tags": "a"}),
            json!({"tags": [1]}),
            json!({"description": 1}),
            json!({"extra_properties": []}),
            json!({"extra_properties": {"a": []}}),
            json!({"expires": "2030-01-01"}),
            json!({"geometry": {"type": "Point", "coordinates": [0, 0]}}),
        ] {
            assert!(Attributes::default().apply(&said(bad.clone())).is_err(), "{bad}");
        }
        let text = |length: usize| said(json!({"description": "x".repeat(length)}));
        assert!(Attributes::default().apply(&text(80_000)).is_ok());
        let error = Attributes::default().apply(&text(BYTES_MAX)).unwrap_err();
        assert!(matches!(error, BlobError::TooLarge { .. }), "{error}");
    }
}
