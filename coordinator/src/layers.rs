//! Grafts that are kept: documents under the hash of their content, one space for each tenant.
//!
//! A layer never changes, so coordinators share them without agreement: whoever keeps the same graft
//! again finds it there. Who may use one is decided before it gets here.

use std::sync::Arc;

use bytes::Bytes;
use graticule_common::error::{Classify, ErrorClass};
use graticule_common::hash::Hasher;
use moka::sync::Cache;
use serde_json::{Value, json};

use crate::objects::{Made, ObjectError, Objects};

/// Where layers are in the store.
const PREFIX: &str = "layers";
/// Bytes of layers that are remembered: tiles of a map ask for the same one again and again.
const REMEMBERED_BYTES_MAX: u64 = 16 << 20;
/// Bytes of a document beside its graft.
const DOCUMENT_BYTES: usize = 4 << 10;
/// Bytes of each part of a key.
const PART: usize = 16;

/// Where a layer is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LayerKey {
    /// Whose it is, told to nobody.
    pub tenant: [u8; PART],
    /// The hash of its graft.
    pub content: [u8; PART],
}

/// A layer as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Whose it is.
    pub tenant: Arc<str>,
    /// Its graft: JSON in normal form.
    pub graft: Bytes,
}

/// Why a layer is not kept or not found.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The graft is too large.
    #[error("the graft has {bytes} bytes, at most {limit} are kept")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// No layer has this key.
    #[error("there is no such layer; make it again from its graft: `POST /layers/`")]
    Unknown,
    /// What is in the store is not what was kept.
    #[error("the layer `{name}` is damaged in the store; remove it there and make it again from its graft")]
    Damaged {
        /// The object's name.
        name: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] ObjectError),
}

impl Classify for LayerError {
    fn class(&self) -> ErrorClass {
        match self {
            LayerError::TooLarge { .. } => ErrorClass::LimitExceeded,
            LayerError::Unknown => ErrorClass::NotFound,
            LayerError::Damaged { .. } => ErrorClass::Source,
            LayerError::Store(error) => error.class(),
        }
    }
}

/// The layers of a store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Layers {
    objects: Objects,
    bytes_max: usize,
    remembered: Cache<LayerKey, Kept>,
}

/// The hash of a graft in normal form. It depends on nothing but the text, so that ids outlast engines.
pub fn content_of(graft: &[u8]) -> [u8; PART] {
    let hash = Hasher::new("layer").bytes(graft).finish();
    let mut content = [0; PART];
    content.copy_from_slice(&hash.as_bytes()[..PART]);
    content
}

impl Layers {
    /// The layers of a store, with grafts of at most `bytes_max`.
    pub fn new(objects: Objects, bytes_max: usize) -> Self {
        let weight = |_: &LayerKey, kept: &Kept| {
            u32::try_from(2 * PART + kept.tenant.len() + kept.graft.len()).unwrap_or(u32::MAX)
        };
        let remembered = Cache::builder().max_capacity(REMEMBERED_BYTES_MAX).weigher(weight).build();
        Layers { objects, bytes_max, remembered }
    }

    /// Keeps a graft, which is JSON in normal form, for a tenant, whose space is `space`. Keeping it
    /// again changes nothing.
    ///
    /// # Errors
    /// [`LayerError::TooLarge`], [`LayerError::Damaged`], [`LayerError::Store`].
    pub async fn put(&self, space: [u8; PART], tenant: &str, graft: Value) -> Result<LayerKey, LayerError> {
        let text = Bytes::from(graft.to_string());
        if text.len() > self.bytes_max {
            return Err(LayerError::TooLarge { bytes: text.len(), limit: self.bytes_max });
        }
        let key = LayerKey { tenant: space, content: content_of(&text) };
        if self.remembered.contains_key(&key) {
            return Ok(key);
        }
        let document = Bytes::from(json!({ "tenant": tenant, "graft": graft }).to_string());
        match self.objects.put_new(&name(&key), document).await? {
            Made::Created | Made::Same => {
                self.remembered.insert(key, Kept { tenant: tenant.into(), graft: text });
                Ok(key)
            }
            Made::Taken => Err(LayerError::Damaged { name: name(&key) }),
        }
    }

    /// A layer.
    ///
    /// # Errors
    /// [`LayerError::Unknown`], [`LayerError::Damaged`], [`LayerError::Store`].
    pub async fn get(&self, key: LayerKey) -> Result<Kept, LayerError> {
        if let Some(kept) = self.remembered.get(&key) {
            return Ok(kept);
        }
        let damaged = || LayerError::Damaged { name: name(&key) };
        let limit = (self.bytes_max + DOCUMENT_BYTES) as u64;
        let document = match self.objects.get(&name(&key), limit).await {
            Ok(document) => document,
            Err(ObjectError::Missing { .. }) => return Err(LayerError::Unknown),
            Err(ObjectError::TooLarge { .. }) => return Err(damaged()),
            Err(error) => return Err(error.into()),
        };
        let kept = read(&document).filter(|kept| content_of(&kept.graft) == key.content);
        let kept = kept.ok_or_else(damaged)?;
        self.remembered.insert(key, kept.clone());
        Ok(kept)
    }
}

fn read(document: &[u8]) -> Option<Kept> {
    let mut deserializer = serde_json::Deserializer::from_slice(document);
    // What was kept was as deep as a graft may be, and serde's bound is less.
    deserializer.disable_recursion_limit();
    let document: Value = serde::Deserialize::deserialize(&mut deserializer).ok()?;
    let tenant = document.get("tenant")?.as_str()?.into();
    Some(Kept { tenant, graft: Bytes::from(document.get("graft")?.to_string()) })
}

/// Digests are names in every store, whatever a tenant is called.
fn name(key: &LayerKey) -> String {
    let hex = |part: &[u8; PART]| part.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{PREFIX}/{}/{}.json", hex(&key.tenant), hex(&key.content))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; PART] = [1; PART];
    const B: [u8; PART] = [2; PART];

    #[tokio::test]
    async fn layers_are_kept_for_their_tenant() {
        let dir = tempfile::tempdir().unwrap();
        for objects in [Objects::memory(), Objects::folder(dir.path(), true).unwrap()] {
            let layers = Layers::new(objects.clone(), 100);
            let graft = json!({ "returns": "x", "x": 1.0 });
            let key = layers.put(A, "a", graft.clone()).await.unwrap();
            assert_eq!(
                layers.put(A, "a", graft.clone()).await.unwrap(),
                key,
                "the same graft is the same layer"
            );
            let of_b = layers.put(B, "b", graft.clone()).await.unwrap();
            assert_eq!((of_b.content, of_b.tenant), (key.content, B));
            // Another coordinator.
            let other = Layers::new(objects, 100);
            let kept = other.get(key).await.unwrap();
            assert_eq!((&*kept.tenant, &*kept.graft), ("a", graft.to_string().as_bytes()));
            let error = layers.get(LayerKey { tenant: [3; PART], ..key }).await.unwrap_err();
            assert!(matches!(error, LayerError::Unknown), "{error}");
            let error = layers.put(A, "a", json!("x".repeat(101))).await.unwrap_err();
            assert_eq!(error.class(), ErrorClass::LimitExceeded, "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_damaged_is_not_given_out() {
        let right = json!({ "returns": "right" });
        let key = LayerKey { tenant: A, content: content_of(right.to_string().as_bytes()) };
        for document in [r#"{"tenant":"a","graft":{"returns":"wrong"}}"#, "{}", ""] {
            let objects = Objects::memory();
            let layers = Layers::new(objects.clone(), 100);
            objects.put_new(&name(&key), Bytes::copy_from_slice(document.as_bytes())).await.unwrap();
            let error = layers.get(key).await.unwrap_err();
            assert!(matches!(error, LayerError::Damaged { .. }), "{error}");
            let error = layers.put(A, "a", right.clone()).await.unwrap_err();
            assert!(matches!(error, LayerError::Damaged { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let bytes_max = usize::try_from(REMEMBERED_BYTES_MAX).unwrap();
        let layers = Layers::new(Objects::memory(), bytes_max);
        let big = |fill: u8| json!(char::from(fill).to_string().repeat(bytes_max / 3));
        let mut keys = Vec::new();
        for fill in b'a'..=b'f' {
            keys.push(layers.put(A, "", big(fill)).await.unwrap());
        }
        layers.remembered.run_pending_tasks();
        assert!(layers.remembered.weighted_size() <= REMEMBERED_BYTES_MAX);
        assert!(layers.remembered.entry_count() < 4);
        for (fill, key) in (b'a'..=b'f').zip(keys) {
            assert_eq!(layers.get(key).await.unwrap().graft, big(fill).to_string());
        }
    }
}
