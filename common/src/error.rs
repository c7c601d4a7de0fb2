//! What a caller can do about an error, and where in the graft it arose.
//!
//! Each stage has an error enum of its own (`GraftError`, `BindError`, `ReadError`, …); all of them
//! classify themselves here. Nothing else decides statuses, exit codes or retries.

use std::fmt;

/// What the caller can do about an error. The only input to status codes, exit codes and retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorClass {
    /// The request is malformed: fix the graft or the AOI.
    InvalidRequest,
    /// The request is understood but cannot be computed: types, bands, shapes.
    Impossible,
    /// Known to the language or the formats, not built into this engine yet.
    Unsupported,
    /// A product, scene, layer or file that is named does not exist.
    NotFound,
    /// A named limit is exceeded: ask for less, or raise the limit.
    LimitExceeded,
    /// A source file is missing, changed or corrupt: repair the data.
    Source,
    /// Nothing is wrong with the request; the same one may succeed later.
    Unavailable,
    /// There is too much to do just now: come back after the time that the answer names.
    Overloaded,
    /// Who asks is not known: no credentials, or none that count.
    Unauthenticated,
    /// Who asks is known and may not do this.
    Forbidden,
    /// The deadline passed.
    Timeout,
    /// The caller went away or asked to stop.
    Cancelled,
    /// A defect of the engine.
    Internal,
}

impl ErrorClass {
    /// Every class, in the order of the manual.
    pub const ALL: [ErrorClass; 13] = [
        ErrorClass::InvalidRequest,
        ErrorClass::Impossible,
        ErrorClass::Unsupported,
        ErrorClass::NotFound,
        ErrorClass::LimitExceeded,
        ErrorClass::Source,
        ErrorClass::Unavailable,
        ErrorClass::Overloaded,
        ErrorClass::Unauthenticated,
        ErrorClass::Forbidden,
        ErrorClass::Timeout,
        ErrorClass::Cancelled,
        ErrorClass::Internal,
    ];

    /// The name used on the wire and in reports.
    pub fn name(self) -> &'static str {
        match self {
            ErrorClass::InvalidRequest => "invalid_request",
            ErrorClass::Impossible => "impossible",
            ErrorClass::Unsupported => "unsupported",
            ErrorClass::NotFound => "not_found",
            ErrorClass::LimitExceeded => "limit_exceeded",
            ErrorClass::Source => "source",
            ErrorClass::Unavailable => "unavailable",
            ErrorClass::Overloaded => "overloaded",
            ErrorClass::Unauthenticated => "unauthenticated",
            ErrorClass::Forbidden => "forbidden",
            ErrorClass::Timeout => "timeout",
            ErrorClass::Cancelled => "cancelled",
            ErrorClass::Internal => "internal",
        }
    }

    /// The class with this [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<ErrorClass> {
        ErrorClass::ALL.into_iter().find(|class| class.name() == name)
    }

    /// Whether another worker, or a later moment, may succeed where this attempt failed.
    pub fn is_retryable(self) -> bool {
        matches!(self, ErrorClass::Unavailable)
    }
}

/// Implemented by the error enum of every stage.
pub trait Classify: std::error::Error {
    /// What the caller can do about this error.
    fn class(&self) -> ErrorClass;

    /// Where in the graft it arose, where it arose in one.
    fn place(&self) -> Option<&GraftPath> {
        None
    }
}

/// A place in a graft, written as a JSON pointer (RFC 6901) into the document, such as `/ndvi/1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GraftPath(Vec<String>);

impl GraftPath {
    /// The whole document.
    pub fn root() -> Self {
        GraftPath(Vec::new())
    }

    /// The member `key` of the place this path names.
    pub fn join(&self, key: impl Into<String>) -> Self {
        let mut parts = self.0.clone();
        parts.push(key.into());
        GraftPath(parts)
    }

    /// The JSON pointer itself; empty for the whole document.
    pub fn pointer(&self) -> String {
        self.0.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect()
    }
}

impl fmt::Display for GraftPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the graft");
        }
        write!(f, "`{}`", self.pointer())
    }
}

/// Names joined for a message, cut after a few so that a message stays a message.
pub fn listing<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    const SHOWN_MAX: usize = 20;
    let mut text = String::new();
    let mut left_out = 0usize;
    for (i, name) in names.into_iter().enumerate() {
        if i >= SHOWN_MAX {
            left_out += 1;
            continue;
        }
        if i > 0 {
            text.push_str(", ");
        }
        text.push_str(name.as_ref());
    }
    if left_out > 0 {
        text.push_str(&format!(" and {left_out} more"));
    }
    if text.is_empty() { "none".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_json_pointers() {
        let path = GraftPath::root().join("a/b").join("~").join("2");
        assert_eq!(path.to_string(), "`/a~1b/~0/2`");
        assert_eq!(GraftPath::root().to_string(), "the graft");
    }

    #[test]
    fn names_round_trip() {
        for class in ErrorClass::ALL {
            assert_eq!(ErrorClass::from_name(class.name()), Some(class));
        }
    }

    #[test]
    fn long_listings_are_cut() {
        let names: Vec<String> = (0..25).map(|i| i.to_string()).collect();
        assert!(listing(&names).ends_with("19 and 5 more"));
        assert_eq!(listing::<&str>([]), "none");
    }
}
