//! Layer ids: whoever has one may see its tiles, so nobody can guess or forge one.
//!
//! `base64url(version | opaque tenant | content hash | MAC)`. The tenant and the content say where the layer
//! is kept; the MAC says that a coordinator of this store said so. It is checked before anything is
//! looked up, and everything that is wrong with an id has one message.

use std::fmt;
use std::os::unix::fs::PermissionsExt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::json;

use super::error::HttpError;
use crate::access::keys;
use crate::layers::LayerKey;
use crate::objects::{Made, ObjectError, Objects};

/// Version of the form of ids.
const VERSION: u8 = 1;
/// Bytes of each part after the version.
const PART: usize = 16;
/// Bytes of an id.
const BYTES: usize = 1 + 3 * PART;
/// Characters of an id as text.
pub(crate) const ID_CHARS: usize = (BYTES * 4).div_ceil(3);

/// Where the secret is in the store.
const SECRET: &str = "secrets/layers.json";
/// Bytes of the object.
const SECRET_BYTES_MAX: u64 = 1 << 10;

/// What layer ids are made with.
#[derive(Clone)]
pub struct LayerSecret([u8; 32]);

impl fmt::Debug for LayerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LayerSecret")
    }
}

impl LayerSecret {
    /// Characters that a secret has at least.
    pub const CHARS_MIN: usize = 32;

    /// The secret that a text is; `None` for one that could be guessed.
    pub fn from_text(text: &str) -> Option<LayerSecret> {
        let text = text.trim();
        let long_enough = text.chars().count() >= LayerSecret::CHARS_MIN;
        long_enough.then(|| LayerSecret(*blake3::hash(text.as_bytes()).as_bytes()))
    }

    /// What other secrets are derived of.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The secret of a store: made by whoever comes first, the same for all who share the store, for good.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn of_store(objects: &Objects) -> Result<LayerSecret, ObjectError> {
        if let Some(secret) = LayerSecret::stored(objects).await? {
            return Ok(secret);
        }
        let random = keys::random::<32>().map_err(|error| ObjectError::Task { reason: error.to_string() })?;
        let document = json!({ "layer-secret": keys::hex(&random) }).to_string();
        // Somebody else may be first.
        let made = objects.put_new(SECRET, Bytes::from(document)).await?;
        if let (Made::Created, Some(folder)) = (made, objects.as_folder()) {
            // In a bucket, its own rules say who may read it.
            let path = folder.join(SECRET);
            let closed = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600));
            closed.map_err(|source| ObjectError::File { path: path.display().to_string(), source })?;
        }
        let damaged = || ObjectError::Task { reason: format!("`{SECRET}` in the store is no secret") };
        LayerSecret::stored(objects).await?.ok_or_else(damaged)
    }

    async fn stored(objects: &Objects) -> Result<Option<LayerSecret>, ObjectError> {
        let document = match objects.get(SECRET, SECRET_BYTES_MAX).await {
            Ok(document) => document,
            Err(ObjectError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let secret = serde_json::from_slice::<serde_json::Value>(&document)
            .ok()
            .and_then(|document| LayerSecret::from_text(document.get("layer-secret")?.as_str()?));
        let damaged = || ObjectError::Task { reason: format!("`{SECRET}` in the store is no secret") };
        secret.map(Some).ok_or_else(damaged)
    }
}

/// Makes layer ids and judges them.
#[derive(Clone, Debug)]
pub(crate) struct Capabilities {
    tenants: Key,
    macs: Key,
}

/// A key for one purpose.
#[derive(Clone)]
struct Key([u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    fn tag(&self, bytes: &[u8]) -> [u8; PART] {
        let mut tag = [0; PART];
        tag.copy_from_slice(&blake3::keyed_hash(&self.0, bytes).as_bytes()[..PART]);
        tag
    }
}

impl Capabilities {
    /// Those of a secret.
    pub(crate) fn new(secret: &LayerSecret) -> Self {
        Capabilities {
            tenants: Key(blake3::derive_key("graticule layer ids: tenants, version 1", &secret.0)),
            macs: Key(blake3::derive_key("graticule layer ids: codes, version 1", &secret.0)),
        }
    }

    /// Where a tenant's layers are kept: tells nothing of the tenant's name.
    pub(crate) fn tenant(&self, tenant: &str) -> [u8; PART] {
        self.tenants.tag(tenant.as_bytes())
    }

    /// The id of a layer.
    pub(crate) fn id(&self, key: &LayerKey) -> String {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&key.tenant);
        bytes.extend_from_slice(&key.content);
        let mac = self.macs.tag(&bytes);
        bytes.extend_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What an id stands for, if it is one of ours.
    ///
    /// # Errors
    /// One, whatever is wrong.
    pub(crate) fn check(&self, id: &str) -> Result<LayerKey, HttpError> {
        self.judge(id).ok_or_else(unknown)
    }

    fn judge(&self, id: &str) -> Option<LayerKey> {
        if id.len() != ID_CHARS {
            return None;
        }
        let bytes: [u8; BYTES] = URL_SAFE_NO_PAD.decode(id).ok()?.try_into().ok()?;
        let (said, mac) = bytes.split_at(BYTES - PART);
        // Equality of these hashes takes constant time.
        let is_ours =
            blake3::keyed_hash(&self.macs.0, mac) == blake3::keyed_hash(&self.macs.0, &self.macs.tag(said));
        let part = |at: usize| said.get(1 + at * PART..1 + (at + 1) * PART)?.try_into().ok();
        (is_ours && said[0] == VERSION).then_some(LayerKey { tenant: part(0)?, content: part(1)? })
    }
}

/// What is said of every id that is none.
pub(crate) fn unknown() -> HttpError {
    HttpError::not_found("there is no such layer; make it again from its graft: `POST /layers/`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(secret: &str) -> Capabilities {
        Capabilities::new(&LayerSecret::from_text(secret).unwrap())
    }

    const SECRET_TEXT: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn what_is_not_ours_is_none() {
        let capabilities = made(SECRET_TEXT);
        let key = LayerKey { tenant: capabilities.tenant("a"), content: [7; 16] };
        let id = capabilities.id(&key);
        assert_eq!(id.len(), ID_CHARS);
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        assert_eq!(capabilities.check(&id).unwrap(), key);
        assert_eq!(made(SECRET_TEXT).check(&id).unwrap(), key, "another coordinator");
        assert!(made("another secret of thirty-two letters").check(&id).is_err());
        // Every character counts.
        for at in 0..id.len() {
            let mut forged = id.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert!(capabilities.check(std::str::from_utf8(&forged).unwrap()).is_err(), "{at}");
            assert_eq!(capabilities.check(&id[..at]).unwrap_err(), unknown());
        }
        let other = |text: String| capabilities.check(&text).unwrap_err();
        for text in [format!("{id}="), format!("{id}A"), id.replace(['-', '_'], "+"), " ".repeat(66)] {
            if text != id {
                assert_eq!(other(text), unknown());
            }
        }
    }

    #[test]
    fn tenants_are_told_apart_and_not_told() {
        let capabilities = made(SECRET_TEXT);
        assert_ne!(capabilities.tenant("a"), capabilities.tenant("b"));
        assert_ne!(capabilities.tenant("a"), made("another secret of thirty-two letters").tenant("a"));
        assert!(LayerSecret::from_text("short").is_none());
        assert!(!format!("{capabilities:?}").contains("01"), "{capabilities:?}");
    }

    #[tokio::test]
    async fn the_secret_of_a_store_is_made_once() {
        let objects = Objects::memory();
        let (one, other) = tokio::join!(LayerSecret::of_store(&objects), LayerSecret::of_store(&objects));
        assert_eq!(one.unwrap().0, other.unwrap().0);
        let dir = tempfile::tempdir().unwrap();
        let folder = Objects::folder(dir.path(), true).unwrap();
        LayerSecret::of_store(&folder).await.unwrap();
        let mode = std::fs::metadata(dir.path().join(SECRET)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others of this machine do not read it: {mode:o}");
        let damaged = Objects::memory();
        damaged.put_new(SECRET, Bytes::from_static(b"{}")).await.unwrap();
        assert!(LayerSecret::of_store(&damaged).await.is_err());
    }
}
