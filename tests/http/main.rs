//! The engine over HTTP: real servers, real connections.

mod tiles;
