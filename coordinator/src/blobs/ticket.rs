//! What stands in a URL for one thing to be done with one object: signed, for a while, and nothing else.
//!
//! The client sends no credentials with the content of a blob: the URL alone must say that it may. A
//! ticket holds all that leads to the object, so a server needs to remember none of it, and any
//! coordinator with the same secret takes it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use graticule_common::hash::ContentHash;

/// Form of what is signed.
const VERSION: u8 = 1;
/// Version, deed, tenant, blob, upload, end.
const SIGNED_BYTES: usize = 1 + 1 + 32 + 32 + 16 + 8;
/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 16;
/// What the deployment's secret is used for here.
const PURPOSE: &str = "graticule 2026 blob tickets";

/// What a ticket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Upload content.
    Put = 1,
    /// Make a blob of content that was uploaded.
    Finish = 2,
    /// Download content.
    Get = 3,
}

/// Where content is: whose, which blob's, which upload's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Digest of the tenant.
    pub(super) tenant: ContentHash,
    /// Digest of the blob's id.
    pub(super) blob: ContentHash,
    /// The upload.
    pub(super) upload: u128,
}

/// Signs tickets, and tells those it signed.
#[derive(Clone)]
pub struct Tickets([u8; 32]);

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tickets")
    }
}

impl Tickets {
    /// With the deployment's secret.
    pub fn new(secret: &[u8]) -> Tickets {
        Tickets(blake3::derive_key(PURPOSE, secret))
    }

    /// A ticket until `end`, in seconds since 1970.
    pub fn sign(&self, deed: Deed, place: &Place, end: u64) -> String {
        let mut bytes = Vec::with_capacity(SIGNED_BYTES + SIGNATURE_BYTES);
        bytes.extend([VERSION, deed as u8]);
        bytes.extend(place.tenant.as_bytes());
        bytes.extend(place.blob.as_bytes());
        bytes.extend(place.upload.to_be_bytes());
        bytes.extend(end.to_be_bytes());
        let signature = blake3::keyed_hash(&self.0, &bytes);
        bytes.extend(&signature.as_bytes()[..SIGNATURE_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Where a ticket leads, if it is for this deed at `now`, in seconds since 1970.
    pub fn check(&self, text: &str, deed: Deed, now: u64) -> Option<Place> {
        if text.len() > 2 * (SIGNED_BYTES + SIGNATURE_BYTES) {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        if bytes.len() != SIGNED_BYTES + SIGNATURE_BYTES {
            return None;
        }
        let (signed, signature) = bytes.split_at(SIGNED_BYTES);
        let expected = blake3::keyed_hash(&self.0, signed);
        // Takes the same time wherever the two differ.
        let differs =
            expected.as_bytes()[..SIGNATURE_BYTES].iter().zip(signature).fold(0, |d, (a, b)| d | (a ^ b));
        if std::hint::black_box(differs) != 0 || signed[..2] != [VERSION, deed as u8] {
            return None;
        }
        let hash = |from: usize| signed[from..from + 32].try_into().ok().map(ContentHash::from_bytes);
        let end = u64::from_be_bytes(signed[82..90].try_into().ok()?);
        let upload = u128::from_be_bytes(signed[66..82].try_into().ok()?);
        (now < end).then_some(Place { tenant: hash(2)?, blob: hash(34)?, upload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use graticule_common::hash::Hasher;

    fn place() -> Place {
        let hash = |text: &str| Hasher::new("test").str(text).finish();
        Place { tenant: hash("tenant"), blob: hash("blob"), upload: 0x0123_4567_89ab_cdef << 64 | 7 }
    }

    #[test]
    fn a_ticket_is_for_one_deed_and_a_while() {
        let tickets = Tickets::new(b"secret");
        let ticket = tickets.sign(Deed::Put, &place(), 100);
        assert_eq!(tickets.check(&ticket, Deed::Put, 99), Some(place()));
        assert_eq!(Tickets::new(b"secret").check(&ticket, Deed::Put, 0), Some(place()));
        assert_eq!(tickets.check(&ticket, Deed::Put, 100), None, "it has ended");
        assert_eq!(tickets.check(&ticket, Deed::Get, 99), None, "it is for something else");
        assert_eq!(tickets.check(&ticket, Deed::Finish, 99), None, "it is for something else");
        assert_eq!(Tickets::new(b"other").check(&ticket, Deed::Put, 99), None, "of another deployment");
    }

    #[test]
    fn no_bit_of_a_ticket_can_be_changed() {
        let tickets = Tickets::new(b"secret");
        let ticket = tickets.sign(Deed::Get, &place(), 100);
        let bytes = URL_SAFE_NO_PAD.decode(&ticket).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let forged = URL_SAFE_NO_PAD.encode(forged);
            for deed in [Deed::Put, Deed::Finish, Deed::Get] {
                assert_eq!(tickets.check(&forged, deed, 0), None, "bit {bit}");
            }
        }
        for cut in 0..ticket.len() {
            assert_eq!(tickets.check(&ticket[..cut], Deed::Get, 0), None);
        }
        for odd in [format!("{ticket}="), format!("{ticket}A"), "ä".repeat(71), "A".repeat(100_000)] {
            assert_eq!(tickets.check(&odd, Deed::Get, 0), None);
        }
    }
}
