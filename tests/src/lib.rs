//! What the end-to-end and golden tests share: a made-up world of scenes whose pixels are known.

pub mod world;
