//! Error classes ↔ gRPC status, HTTP status and exit code. The only file that names codes.

use std::time::Duration;

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::error::{Classify, ErrorClass};

/// Trailer that carries the class: several classes share a gRPC code.
const CLASS_HEADER: &str = "graticule-error-class";

/// Trailer that says after how many milliseconds to come back.
const RETRY_AFTER_HEADER: &str = "graticule-retry-after-ms";

/// Trailer that says where in the graft an error arose: a JSON pointer.
const PATH_HEADER: &str = "graticule-error-path-bin";

/// Longer texts break HTTP/2 header frames; what is cut is marked.
const MESSAGE_BYTES_MAX: usize = 1024;

/// gRPC code of a class.
pub fn grpc_code(class: ErrorClass) -> Code {
    match class {
        ErrorClass::InvalidRequest => Code::InvalidArgument,
        ErrorClass::Impossible | ErrorClass::Source => Code::FailedPrecondition,
        ErrorClass::Unsupported => Code::Unimplemented,
        ErrorClass::NotFound => Code::NotFound,
        ErrorClass::LimitExceeded => Code::OutOfRange,
        ErrorClass::Unavailable => Code::Unavailable,
        ErrorClass::Overloaded => Code::ResourceExhausted,
        ErrorClass::Unauthenticated => Code::Unauthenticated,
        ErrorClass::Forbidden => Code::PermissionDenied,
        ErrorClass::Timeout => Code::DeadlineExceeded,
        ErrorClass::Cancelled => Code::Cancelled,
        ErrorClass::Internal => Code::Internal,
    }
}

/// HTTP status of a class.
pub fn http_status(class: ErrorClass) -> u16 {
    match class {
        ErrorClass::InvalidRequest => 400,
        ErrorClass::Impossible | ErrorClass::Unsupported | ErrorClass::Source => 422,
        ErrorClass::NotFound => 404,
        ErrorClass::LimitExceeded => 413,
        ErrorClass::Unavailable => 503,
        ErrorClass::Overloaded => 429,
        ErrorClass::Unauthenticated => 401,
        ErrorClass::Forbidden => 403,
        ErrorClass::Timeout => 504,
        ErrorClass::Cancelled => 499,
        ErrorClass::Internal => 500,
    }
}

/// Exit code of a command that failed with a class. 1 is any other failure, 2 a wrong command line.
pub fn exit_code(class: ErrorClass) -> u8 {
    match class {
        ErrorClass::InvalidRequest => 3,
        ErrorClass::Impossible => 4,
        ErrorClass::Unsupported => 5,
        ErrorClass::NotFound => 6,
        ErrorClass::LimitExceeded => 7,
        ErrorClass::Source => 8,
        ErrorClass::Unavailable => 9,
        ErrorClass::Timeout => 10,
        ErrorClass::Overloaded => 11,
        ErrorClass::Unauthenticated => 12,
        ErrorClass::Forbidden => 13,
        ErrorClass::Internal => 70,
        ErrorClass::Cancelled => 130,
    }
}

/// An error as a gRPC status.
pub fn to_status(error: &dyn Classify) -> Status {
    let mut status = status(error.class(), &error.to_string());
    if let Some(place) = error.place() {
        let pointer = place.pointer();
        if pointer.len() <= MESSAGE_BYTES_MAX {
            status.metadata_mut().insert_bin(PATH_HEADER, MetadataValue::from_bytes(pointer.as_bytes()));
        }
    }
    status
}

/// Where in the graft an error arose, as a JSON pointer, where a status says so.
pub fn path_of(status: &Status) -> Option<String> {
    let bytes = status.metadata().get_bin(PATH_HEADER)?.to_bytes().ok()?;
    String::from_utf8(bytes.to_vec()).ok()
}

/// A class and a message as a gRPC status.
pub fn status(class: ErrorClass, message: &str) -> Status {
    let mut status = Status::new(grpc_code(class), shorten(message));
    status.metadata_mut().insert(CLASS_HEADER, MetadataValue::from_static(class.name()));
    status
}

/// A status that says when to come back.
pub fn status_after(class: ErrorClass, message: &str, retry_after: Duration) -> Status {
    let mut status = status(class, message);
    let ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
    status.metadata_mut().insert(RETRY_AFTER_HEADER, MetadataValue::from(ms));
    status
}

/// After what time to come back, where a status says so.
pub fn retry_after(status: &Status) -> Option<Duration> {
    let ms = status.metadata().get(RETRY_AFTER_HEADER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_millis(ms))
}

/// Class of a status; of one that another server made, by its code.
pub fn class_of(status: &Status) -> ErrorClass {
    let named = status.metadata().get(CLASS_HEADER).and_then(|value| value.to_str().ok());
    named.and_then(ErrorClass::from_name).unwrap_or(match status.code() {
        Code::InvalidArgument => ErrorClass::InvalidRequest,
        Code::FailedPrecondition => ErrorClass::Impossible,
        Code::Unimplemented => ErrorClass::Unsupported,
        Code::NotFound => ErrorClass::NotFound,
        Code::OutOfRange => ErrorClass::LimitExceeded,
        Code::ResourceExhausted => ErrorClass::Overloaded,
        Code::Unauthenticated => ErrorClass::Unauthenticated,
        Code::PermissionDenied => ErrorClass::Forbidden,
        Code::DeadlineExceeded => ErrorClass::Timeout,
        Code::Cancelled => ErrorClass::Cancelled,
        // A connection that broke shows up as `Unknown` or `Unavailable`: the peer is gone.
        Code::Unavailable | Code::Unknown | Code::Aborted => ErrorClass::Unavailable,
        Code::Ok | Code::Internal | Code::DataLoss | Code::AlreadyExists => ErrorClass::Internal,
    })
}

fn shorten(message: &str) -> String {
    if message.len() <= MESSAGE_BYTES_MAX {
        return message.to_owned();
    }
    let cut = (0..=MESSAGE_BYTES_MAX - 4).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
    format!("{} …", &message[..cut])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_survives_the_wire() {
        for class in ErrorClass::ALL {
            assert_eq!(class_of(&status(class, "x")), class);
        }
    }

    #[test]
    fn when_to_come_back_survives_the_wire() {
        let status = status_after(ErrorClass::Overloaded, "x", Duration::from_millis(1500));
        assert_eq!(retry_after(&status), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn exit_codes_are_distinct() {
        let mut codes: Vec<u8> = ErrorClass::ALL.into_iter().map(exit_code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ErrorClass::ALL.len());
        assert!(codes.iter().all(|code| *code > 2));
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let cut = shorten(&"ä".repeat(3000));
        assert!(cut.len() <= MESSAGE_BYTES_MAX && cut.ends_with('…'));
    }
}
