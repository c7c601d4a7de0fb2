//! The engine from end to end: real gRPC on loopback, real files, real processes, real failures.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, helpers included")]

mod access;
mod admin;
mod broken_workers;
mod cancelling;
mod catalog;
mod dispatch;
mod exit_codes;
mod losing_workers;
#[cfg(feature = "otlp")]
mod otlp;
mod outputs;
mod processes;
mod redis;
mod same_bytes;
mod shutdown;
mod sources;
mod stages;
mod terrain;
mod tls;
mod top;
