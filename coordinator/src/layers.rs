//! Grafts that are kept: documents under the hash of their content, one space for each tenant.
//!
//! A layer never changes, so coordinators share them without agreement: whoever keeps the same graft
//! again finds it there. The ids are no secrets; who may use one is decided before it gets here.

use bytes::Bytes;
use graticule_common::error::{Classify, ErrorClass};
use graticule_common::hash::{ContentHash, Hasher};
use moka::sync::Cache;

use crate::objects::{Made, ObjectError, Objects};

/// Where layers are in the store.
const PREFIX: &str = "layers";
/// Bytes of layers that are remembered: tiles of a map ask for the same one again and again.
const REMEMBERED_BYTES_MAX: u64 = 16 << 20;

/// Id of a layer: the hash of its document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LayerId(pub ContentHash);

/// Why a layer is not kept or not found.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The document is too large.
    #[error("the graft has {bytes} bytes, at most {limit} are kept")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// No layer has this id.
    #[error("there is no layer `{id}`; make it again from its graft")]
    Unknown {
        /// The id.
        id: ContentHash,
    },
    /// What is in the store is not what was kept.
    #[error("the layer `{id}` is damaged in the store; remove it there and make it again from its graft")]
    Damaged {
        /// The id.
        id: ContentHash,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] ObjectError),
}

impl Classify for LayerError {
    fn class(&self) -> ErrorClass {
        match self {
            LayerError::TooLarge { .. } => ErrorClass::LimitExceeded,
            LayerError::Unknown { .. } => ErrorClass::NotFound,
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
    /// By name.
    remembered: Cache<String, Bytes>,
}

impl Layers {
    /// The layers of a store, each of at most `bytes_max`.
    pub fn new(objects: Objects, bytes_max: usize) -> Self {
        let weight =
            |name: &String, document: &Bytes| u32::try_from(name.len() + document.len()).unwrap_or(u32::MAX);
        let remembered = Cache::builder().max_capacity(REMEMBERED_BYTES_MAX).weigher(weight).build();
        Layers { objects, bytes_max, remembered }
    }

    /// Keeps a document for a tenant. Keeping it again changes nothing.
    ///
    /// # Errors
    /// [`LayerError::TooLarge`], [`LayerError::Damaged`], [`LayerError::Store`].
    pub async fn put(&self, tenant: &str, document: Bytes) -> Result<LayerId, LayerError> {
        if document.len() > self.bytes_max {
            return Err(LayerError::TooLarge { bytes: document.len(), limit: self.bytes_max });
        }
        let id = id_of(&document);
        let name = name(tenant, id);
        match self.objects.put_new(&name, document.clone()).await? {
            Made::Created | Made::Same => {
                self.remembered.insert(name, document);
                Ok(id)
            }
            Made::Taken => Err(LayerError::Damaged { id: id.0 }),
        }
    }

    /// A tenant's document.
    ///
    /// # Errors
    /// [`LayerError::Unknown`], also for a layer of another tenant; [`LayerError::Damaged`],
    /// [`LayerError::Store`].
    pub async fn get(&self, tenant: &str, id: LayerId) -> Result<Bytes, LayerError> {
        let name = name(tenant, id);
        if let Some(document) = self.remembered.get(&name) {
            return Ok(document);
        }
        let document = match self.objects.get(&name, self.bytes_max as u64).await {
            Ok(document) => document,
            Err(ObjectError::Missing { .. }) => return Err(LayerError::Unknown { id: id.0 }),
            Err(ObjectError::TooLarge { .. }) => return Err(LayerError::Damaged { id: id.0 }),
            Err(error) => return Err(error.into()),
        };
        if id_of(&document) != id {
            return Err(LayerError::Damaged { id: id.0 });
        }
        self.remembered.insert(name, document.clone());
        Ok(document)
    }
}

fn id_of(document: &[u8]) -> LayerId {
    LayerId(Hasher::new("layer").bytes(document).finish())
}

/// A tenant's name may be any text; its digest is a name in every store.
fn name(tenant: &str, id: LayerId) -> String {
    let tenant = Hasher::new("tenant").str(tenant).finish();
    format!("{PREFIX}/{tenant}/{}.json", id.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    #[tokio::test]
    async fn layers_are_kept_for_their_tenant() {
        let dir = tempfile::tempdir().unwrap();
        for objects in [Objects::memory(), Objects::folder(dir.path(), true).unwrap()] {
            let layers = Layers::new(objects.clone(), 100);
            let graft = document(r#"{"returns": "x"}"#);
            let id = layers.put("a", graft.clone()).await.unwrap();
            assert_eq!(layers.put("a", graft.clone()).await.unwrap(), id, "the same graft is the same layer");
            // Another coordinator.
            let other = Layers::new(objects, 100);
            assert_eq!(other.get("a", id).await.unwrap(), graft);
            for tenant in ["", "b", "../a", "A"] {
                let error = layers.get(tenant, id).await.unwrap_err();
                assert!(matches!(error, LayerError::Unknown { .. }), "{tenant}: {error}");
            }
            let error = layers.put("a", document(&"x".repeat(101))).await.unwrap_err();
            assert_eq!(error.class(), ErrorClass::LimitExceeded, "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_damaged_is_not_given_out() {
        let objects = Objects::memory();
        let layers = Layers::new(objects.clone(), 100);
        let id = id_of(b"right");
        objects.put_new(&name("a", id), document("wrong")).await.unwrap();
        let error = layers.get("a", id).await.unwrap_err();
        assert!(matches!(error, LayerError::Damaged { .. }), "{error}");
        let error = layers.put("a", document("right")).await.unwrap_err();
        assert!(matches!(error, LayerError::Damaged { .. }), "{error}");
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let bytes_max = usize::try_from(REMEMBERED_BYTES_MAX).unwrap();
        let layers = Layers::new(Objects::memory(), bytes_max);
        let big = |fill: u8| Bytes::from(vec![fill; bytes_max / 3]);
        let mut ids = Vec::new();
        for fill in 0..6 {
            ids.push(layers.put("", big(fill)).await.unwrap());
        }
        layers.remembered.run_pending_tasks();
        assert!(layers.remembered.weighted_size() <= REMEMBERED_BYTES_MAX);
        assert!(layers.remembered.entry_count() < 4);
        for (fill, id) in (0..).zip(ids) {
            assert_eq!(layers.get("", id).await.unwrap(), big(fill));
        }
    }
}
