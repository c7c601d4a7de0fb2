//! What can go wrong between the engine and its object store.

use std::io;

use graticule_common::error::{Classify, ErrorClass};

/// Why an object store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The URL names no store.
    #[error(
        "`{url}` names no store: {reason}; say file:///DIR, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
    )]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The environment's settings do not make a client of the store.
    #[error("the store `{store}` cannot be used with the settings of the environment: {reason}")]
    Settings {
        /// The store.
        store: String,
        /// What is wrong with them.
        reason: String,
    },
    /// The store overwrites objects that exist, so two coordinators could undo each other's work.
    #[error(
        "the store `{store}` does not keep to `If-None-Match`: it overwrites objects that exist; use a store or a version of it that does conditional writes"
    )]
    NotConditional {
        /// The store.
        store: String,
    },
    /// What lies in the store is of another layout.
    #[error(
        "the store `{store}` has the layout {found}, this engine reads {known}; use an engine of its version"
    )]
    Layout {
        /// The store.
        store: String,
        /// What its marker says.
        found: String,
        /// What it would have to say.
        known: String,
    },
    /// There is no such object.
    #[error("the store `{store}` has no object `{name}`")]
    Missing {
        /// The store.
        store: String,
        /// The object.
        name: String,
    },
    /// An object is larger than what is read at once.
    #[error("the object `{name}` of the store `{store}` has more than {limit} bytes, the limit for its kind")]
    TooLarge {
        /// The store.
        store: String,
        /// The object.
        name: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// There are more objects than are listed.
    #[error(
        "the store `{store}` has more than {limit} objects below `{name}`; is the prefix used by something else?"
    )]
    TooMany {
        /// The store.
        store: String,
        /// The prefix.
        name: String,
        /// The limit.
        limit: usize,
    },
    /// The store refuses.
    #[error("the store `{store}` denies access to `{name}`: {reason}; check the engine's credentials")]
    Denied {
        /// The store.
        store: String,
        /// The object.
        name: String,
        /// What it said.
        reason: String,
    },
    /// A folder or file of this machine cannot be read or written.
    #[error("`{path}`: {source}")]
    File {
        /// The folder or file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// It may work later.
    #[error(
        "the store `{store}` did not answer for `{name}` in {attempts} attempts: {reason}; try again later"
    )]
    Unavailable {
        /// The store.
        store: String,
        /// The object.
        name: String,
        /// How often it was asked.
        attempts: u32,
        /// The last failure.
        reason: String,
    },
    /// Whether an object was made is not known.
    #[error(
        "the store `{store}` did not say whether `{name}` was written ({attempts} attempts, the last: {reason}); look whether it was, doing it again is harmless"
    )]
    Unsure {
        /// The store.
        store: String,
        /// The object.
        name: String,
        /// How often it was asked.
        attempts: u32,
        /// The last failure.
        reason: String,
    },
    /// A task ended early.
    #[error("a task of the store ended early: {reason}")]
    Task {
        /// What the runtime said.
        reason: String,
    },
}

impl Classify for ObjectError {
    fn class(&self) -> ErrorClass {
        match self {
            ObjectError::Url { .. } | ObjectError::Settings { .. } => ErrorClass::InvalidRequest,
            ObjectError::NotConditional { .. } | ObjectError::Layout { .. } => ErrorClass::Unsupported,
            ObjectError::Missing { .. } => ErrorClass::NotFound,
            ObjectError::TooLarge { .. } | ObjectError::TooMany { .. } => ErrorClass::LimitExceeded,
            ObjectError::Denied { .. } | ObjectError::File { .. } => ErrorClass::Source,
            ObjectError::Unavailable { .. } | ObjectError::Unsure { .. } => ErrorClass::Unavailable,
            ObjectError::Task { .. } => ErrorClass::Internal,
        }
    }
}
