//! Content hashes: what identifies a computation, and what a remembered tile is filed under.

use std::fmt;

/// Digest of everything that can change a value's bytes. Only [`Hasher::finish`] makes one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// The digest's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A digest that arrived from elsewhere in this engine.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        ContentHash(bytes)
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Collects what enters a [`ContentHash`]. Every write carries its kind and length, so that two
/// different sequences of writes never feed the same bytes.
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// Starts a digest for one purpose; equal contents under different purposes differ.
    pub fn new(purpose: &str) -> Self {
        let mut hasher = Hasher(blake3::Hasher::new());
        hasher.str(purpose);
        hasher
    }

    /// Adds a text.
    pub fn str(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Adds raw bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(b"s");
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds an integer.
    pub fn int(&mut self, value: i64) -> &mut Self {
        self.0.update(b"i");
        self.0.update(&value.to_le_bytes());
        self
    }

    /// Adds a float by its bits: `0.0` and `-0.0` differ.
    pub fn float(&mut self, value: f64) -> &mut Self {
        self.0.update(b"f");
        self.0.update(&value.to_bits().to_le_bytes());
        self
    }

    /// Adds another digest.
    pub fn hash(&mut self, hash: ContentHash) -> &mut Self {
        self.0.update(b"h");
        self.0.update(&hash.0);
        self
    }

    /// The digest of all that was added.
    pub fn finish(&self) -> ContentHash {
        ContentHash(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_and_kinds_matter() {
        let digest = |f: &dyn Fn(&mut Hasher)| {
            let mut hasher = Hasher::new("test");
            f(&mut hasher);
            hasher.finish()
        };
        assert_ne!(digest(&|h| _ = h.str("ab").str("c")), digest(&|h| _ = h.str("a").str("bc")));
        assert_ne!(digest(&|h| _ = h.int(1)), digest(&|h| _ = h.float(1.0)));
        assert_ne!(digest(&|h| _ = h.float(0.0)), digest(&|h| _ = h.float(-0.0)));
        assert_ne!(Hasher::new("a").finish(), Hasher::new("b").finish());
    }
}
