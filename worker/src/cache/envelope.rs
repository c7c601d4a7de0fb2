//! What a cached value is wrapped in, so that a damaged or misfiled one is recognised.
//!
//! | Bytes | Meaning |
//! |---|---|
//! | 0..4 | magic |
//! | 4 | version of this layout |
//! | 5 | codec of the payload: 0, as it is |
//! | 6..8 | zero |
//! | 8..16 | length of the value once decoded, little-endian |
//! | 16..32 | checksum over the bytes before it, the key, and the payload |
//! | 32.. | payload |

use bytes::Bytes;

use super::TileKey;

/// Bytes in front of the payload.
pub(super) const HEADER_BYTES: usize = 32;

const MAGIC: [u8; 4] = *b"GTIL";
const VERSION: u8 = 1;
/// The payload is the value. Compression would be another number here (byte shuffling and zstd
/// measured best), once the bytes it saves are worth a C library.
const CODEC_NONE: u8 = 0;
const CHECKSUM_AT: usize = 16;

/// Why a value was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("it is not a cached tile")]
    Foreign,
    #[error("its format is version `{0}`")]
    Version(u8),
    #[error("its codec is `{0}`")]
    Codec(u8),
    #[error("it says `{declared}` bytes and has `{actual}`")]
    Length { declared: u64, actual: u64 },
    #[error("its checksum does not match")]
    Checksum,
}

impl Refusal {
    /// The word of the metric's label.
    pub(super) fn label(self) -> &'static str {
        match self {
            Refusal::Foreign | Refusal::Version(_) | Refusal::Length { .. } => "envelope",
            Refusal::Codec(_) => "codec",
            Refusal::Checksum => "checksum",
        }
    }
}

/// Wraps `value` for filing under `key`.
pub(super) fn seal(key: &TileKey, value: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(HEADER_BYTES + value.len());
    sealed.extend_from_slice(&MAGIC);
    sealed.extend_from_slice(&[VERSION, CODEC_NONE, 0, 0]);
    sealed.extend_from_slice(&(value.len() as u64).to_le_bytes());
    let sum = checksum(&sealed, key, value);
    sealed.extend_from_slice(&sum);
    sealed.extend_from_slice(value);
    sealed
}

/// The value that was sealed under `key`; any doubt refuses it. Copies nothing.
pub(super) fn open(key: &TileKey, sealed: &Bytes) -> Result<Bytes, Refusal> {
    let Some((header, payload)) = sealed.split_at_checked(HEADER_BYTES) else {
        return Err(Refusal::Foreign);
    };
    let (head, sum) = header.split_at(CHECKSUM_AT);
    if head[..4] != MAGIC {
        return Err(Refusal::Foreign);
    }
    if head[4] != VERSION {
        return Err(Refusal::Version(head[4]));
    }
    if head[5] != CODEC_NONE {
        return Err(Refusal::Codec(head[5]));
    }
    let declared = head[8..].iter().rev().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
    let actual = payload.len() as u64;
    if declared != actual {
        return Err(Refusal::Length { declared, actual });
    }
    if checksum(head, key, payload) != sum {
        return Err(Refusal::Checksum);
    }
    Ok(sealed.slice(HEADER_BYTES..))
}

/// The key is in the sum, so that a value filed under a wrong key is refused like a damaged one.
fn checksum(head: &[u8], key: &TileKey, payload: &[u8]) -> [u8; HEADER_BYTES - CHECKSUM_AT] {
    let mut hasher = blake3::Hasher::new();
    // Both are of fixed length: no two different inputs feed the same bytes.
    hasher.update(head).update(key.as_bytes()).update(payload);
    let mut sum = [0; HEADER_BYTES - CHECKSUM_AT];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

#[cfg(test)]
mod tests {
    use super::super::testing::{key, value};
    use super::*;

    #[test]
    fn opens_what_was_sealed() {
        for len in [0, 1, 31, 32, 1000] {
            let sealed = Bytes::from(seal(&key(1), &value(1, len)));
            assert_eq!(sealed.len(), HEADER_BYTES + len);
            assert_eq!(open(&key(1), &sealed), Ok(value(1, len)));
        }
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        let sealed = seal(&key(1), &value(1, 40));
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut damaged = sealed.clone();
                damaged[at] ^= 1 << bit;
                assert!(open(&key(1), &damaged.into()).is_err(), "byte {at} bit {bit}");
            }
        }
    }

    /// What a disk, a cable or somebody else may do to a value, ten thousand times.
    #[test]
    fn of_ten_thousand_damaged_values_none_is_taken_for_another() {
        let mut random = fastrand::Rng::with_seed(14);
        for n in 0..10_000 {
            let (key, value) = (key(n), value(n, random.usize(0..3000)));
            let mut damaged = seal(&key, &value);
            for _ in 0..random.usize(1..8) {
                let at = random.usize(0..damaged.len());
                match random.u8(0..5) {
                    0 => damaged[at] ^= 1 << random.u8(0..8),
                    1 => damaged[at] = random.u8(..),
                    2 => damaged.truncate(at.max(1)),
                    3 => damaged.insert(at, random.u8(..)),
                    _ => damaged[at..].rotate_left(1),
                }
            }
            // Some of it undoes itself; what is opened is what was sealed, always.
            let opened = open(&key, &Bytes::from(damaged.clone()));
            assert!(opened.is_err() || damaged == seal(&key, &value), "{n}: {opened:?}");
        }
    }

    #[test]
    fn any_other_length_is_refused() {
        let sealed = seal(&key(1), &value(1, 40));
        for len in 0..sealed.len() {
            assert!(open(&key(1), &Bytes::copy_from_slice(&sealed[..len])).is_err(), "{len}");
        }
        let mut longer = sealed;
        longer.push(0);
        assert_eq!(open(&key(1), &longer.into()), Err(Refusal::Length { declared: 40, actual: 41 }));
    }

    #[test]
    fn another_key_is_refused() {
        let sealed = Bytes::from(seal(&key(1), &value(1, 40)));
        assert_eq!(open(&key(2), &sealed), Err(Refusal::Checksum));
    }

    #[test]
    fn a_value_of_another_version_or_codec_is_named() {
        let mut sealed = seal(&key(1), &value(1, 40));
        sealed[5] = 7;
        assert_eq!(open(&key(1), &sealed.clone().into()), Err(Refusal::Codec(7)));
        sealed[4] = 2;
        assert_eq!(open(&key(1), &sealed.into()), Err(Refusal::Version(2)));
    }

    /// Workers of two builds share one server: this layout changes only together with `VERSION`.
    #[test]
    fn the_layout_is_pinned() {
        let sealed = seal(&TileKey::from_bytes([7; 32]), b"abc");
        assert_eq!(sealed[..16], *b"GTIL\x01\0\0\0\x03\0\0\0\0\0\0\0");
        let hex: String = sealed[16..32].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "d0406270c46437a55102dc68fc732aff");
        assert_eq!(sealed[32..], *b"abc");
    }
}
