//! Error classes ↔ gRPC status, HTTP status and exit code. The only file that names codes.

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::error::{Classify, ErrorClass};

/// Trailer that carries the class: several classes share a gRPC code.
const CLASS_HEADER: &str = "graticule-error-class";

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
        ErrorClass::Internal => 70,
        ErrorClass::Cancelled => 130,
    }
}

/// An error as a gRPC status.
pub fn to_status(error: &dyn Classify) -> Status {
    status(error.class(), &error.to_string())
}

/// A class and a message as a gRPC status.
pub fn status(class: ErrorClass, message: &str) -> Status {
    let mut status = Status::new(grpc_code(class), shorten(message));
    status.metadata_mut().insert(CLASS_HEADER, MetadataValue::from_static(class.name()));
    status
}

/// Class of a status; of one that another server made, by its code.
pub fn class_of(status: &Status) -> ErrorClass {
    let named = status.metadata().get(CLASS_HEADER).and_then(|value| value.to_str().ok());
    named.and_then(ErrorClass::from_name).unwrap_or(match status.code() {
        Code::InvalidArgument => ErrorClass::InvalidRequest,
        Code::FailedPrecondition => ErrorClass::Impossible,
        Code::Unimplemented => ErrorClass::Unsupported,
        Code::NotFound => ErrorClass::NotFound,
        Code::OutOfRange | Code::ResourceExhausted => ErrorClass::LimitExceeded,
        Code::DeadlineExceeded => ErrorClass::Timeout,
        Code::Cancelled => ErrorClass::Cancelled,
        // A connection that broke shows up as `Unknown` or `Unavailable`: the peer is gone.
        Code::Unavailable | Code::Unknown | Code::Aborted => ErrorClass::Unavailable,
        Code::Ok
        | Code::Internal
        | Code::DataLoss
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unauthenticated => ErrorClass::Internal,
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
