//! The graft language and its meaning: a pure compiler and interpreter.
//!
//! Without the features `net`, `proj` and `web` this crate does no I/O and sees no clock, environment, thread
//! or random number. The forms of a program, in order:
//!
//! | form | type | made by |
//! |---|---|---|
//! | text | `&[u8]` | the client |
//! | expression | [`expr::Expr`] | [`graft::resolve`] |
//! | plan | [`plan::Plan`] | [`plan::build`] |
//! | tile plan | [`plan::TilePlan`] | [`plan::Plan::tile`] |
//! | pixels | [`block::Block`] | [`eval::eval`] |

pub mod aoi;
#[cfg(feature = "net")]
pub mod assembly;
pub mod block;
pub mod callable;
pub mod error;
pub mod eval;
pub mod expr;
#[cfg(feature = "failpoints")]
pub mod failpoint;
pub mod file;
pub mod graft;
pub mod grid;
pub mod hash;
pub mod limits;
pub mod literal;
pub mod ops;
pub mod plan;
pub mod predicate;
#[cfg(feature = "net")]
pub mod proto;
pub mod reach;
pub mod scene;
#[cfg(feature = "net")]
pub mod status;
#[cfg(feature = "net")]
pub mod telemetry;
#[cfg(feature = "net")]
pub mod tls;
pub mod transform;
#[cfg(feature = "net")]
pub mod transport;
#[cfg(feature = "net")]
pub mod versions;
#[cfg(feature = "web")]
pub mod web;
#[cfg(feature = "net")]
pub mod wire;

/// Version of the engine and of the meaning of its ops. Coordinators and workers must agree on it; it
/// is part of every remembered tile's key.
pub const ENGINE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// A failpoint of an async function, by name; the second argument is what it does where an error is asked for
/// (without one, errors are not). `blocking` before the name: of a function of a thread. See `failpoint.rs`.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! failpoint {
    (blocking $name:literal $(, $failed:expr)?) => {
        if $crate::failpoint::here($name).is_err() { $($failed)? }
    };
    ($name:literal $(, $failed:expr)?) => {
        if $crate::failpoint::reached($name).await.is_err() { $($failed)? }
    };
}

/// Nothing: this build has no failpoints.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! failpoint {
    ($($anything:tt)*) => {};
}
