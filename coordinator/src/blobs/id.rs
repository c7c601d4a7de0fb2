//! What blobs are called.

use std::fmt;

use graticule_common::hash::{ContentHash, Hasher};
use serde::{Deserialize, Serialize};

use super::BlobError;

/// The one kind of blobs there is: saved computations.
pub const STORAGE_TYPE: &str = "dyncomp";
/// Bytes of a namespace and a name together.
const BYTES_MAX: usize = 979;

/// Id of a blob: `dyncomp/NAMESPACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobId {
    namespace: String,
    name: String,
}

impl BlobId {
    /// The id of a name in a namespace.
    ///
    /// # Errors
    /// [`BlobError::Name`]: a character that is not allowed, or too many of them.
    pub fn new(namespace: &str, name: &str) -> Result<BlobId, BlobError> {
        let wrong = |problem: &str| Err(BlobError::Name { problem: problem.to_owned() });
        let is_plain = |c: u8| c.is_ascii_alphanumeric() || b":._-".contains(&c);
        if namespace.is_empty() || !namespace.bytes().all(is_plain) {
            return wrong("a namespace is made of the characters `a-zA-Z0-9:._-`");
        }
        if name.is_empty() || !name.bytes().all(|c| is_plain(c) || c == b'/') {
            return wrong("a name is made of the characters `a-zA-Z0-9:._/-`");
        }
        // On its way, a URL with such parts becomes another one.
        let is_odd = |part: &str| part.is_empty() || part == "." || part == "..";
        if is_odd(namespace) || name.split('/').any(is_odd) {
            return wrong("no part of a name between `/` is empty, `.` or `..`");
        }
        if namespace.len() + name.len() > BYTES_MAX {
            return wrong("a namespace and a name together have at most 979 bytes");
        }
        Ok(BlobId { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// The id that a text is.
    ///
    /// # Errors
    /// [`BlobError::Name`].
    pub fn parse(text: &str) -> Result<BlobId, BlobError> {
        let form = || BlobError::Name { problem: "an id is `dyncomp/NAMESPACE/NAME`".to_owned() };
        let rest = text.strip_prefix(STORAGE_TYPE).and_then(|rest| rest.strip_prefix('/'));
        let (namespace, name) = rest.and_then(|rest| rest.split_once('/')).ok_or_else(form)?;
        BlobId::new(namespace, name)
    }

    /// Whose it is.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// What it is called there.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its objects are filed under.
    pub(super) fn digest(&self) -> ContentHash {
        Hasher::new("blob").str(&self.to_string()).finish()
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORAGE_TYPE}/{}/{}", self.namespace, self.name)
    }
}

impl TryFrom<String> for BlobId {
    type Error = BlobError;

    fn try_from(text: String) -> Result<Self, BlobError> {
        BlobId::parse(&text)
    }
}

impl From<BlobId> for String {
    fn from(id: BlobId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let id = BlobId::parse("dyncomp/org:user/maps/ndvi.v1").unwrap();
        assert_eq!((id.namespace(), id.name()), ("org:user", "maps/ndvi.v1"));
        assert_eq!(BlobId::parse(&id.to_string()).unwrap(), id);
        let long = "x".repeat(979);
        for bad in [
            "",
            "dyncomp",
            "dyncomp/a",
            "dyncomp/a/",
            "dyncomp//a",
            "dyncomp/a//b",
            "dyncomp/a/b/",
            "dyncomp/a/../b",
            "dyncomp/../b",
            "dyncomp/a/.",
            "dyncomp/a b/c",
            "dyncomp/a/b c",
            "dyncomp/a/b\0",
            "dyncomp/a/ä",
            "data/a/b",
            "dyncompa/b/c",
            &format!("dyncomp/a/{long}"),
        ] {
            assert!(BlobId::parse(bad).is_err(), "{bad}");
        }
        assert!(BlobId::parse(&format!("dyncomp/a/{}", &long[1..])).is_ok());
    }
}
