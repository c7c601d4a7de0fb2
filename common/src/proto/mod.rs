//! Messages and stubs generated from `proto/` by `make gen`; never edited.

#[allow(missing_docs, clippy::all, unused_qualifications, reason = "generated code")]
#[rustfmt::skip]
#[path = "graticule.v1.rs"]
pub mod v1;

/// The services' descriptors, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("descriptors.bin");
