//! How a command fails: one message, one exit code.

use std::fmt::Display;

use graticule_common::error::{Classify, ErrorClass};
use graticule_common::status::{class_of, exit_code};
use tonic::Status;

/// Prints a line on standard output. A reader that has seen enough, as `head`, is no failure; a full
/// disk is.
macro_rules! say {
    ($($text:tt)*) => { $crate::failure::print_line(format_args!($($text)*))? };
}
pub(crate) use say;

/// What `say!` does.
pub fn print_line(text: std::fmt::Arguments<'_>) -> Result<(), Failure> {
    use std::io::Write;
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure { code: IO, message: format!("cannot write to standard output: {error}") })
        }
        _ => Ok(()),
    }
}

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// The process's exit code.
    pub code: u8,
    /// What, where, and the way out.
    pub message: String,
}

/// Exit code for files that cannot be read or written.
const IO: u8 = 1;

/// Exit code for a wrong command line, as clap's.
const USAGE: u8 = 2;

impl Failure {
    /// An error of any stage.
    pub fn of(error: impl Classify) -> Self {
        Failure::new(error.class(), error.to_string())
    }

    /// An error of a class.
    pub fn new(class: ErrorClass, message: impl Display) -> Self {
        Failure { code: exit_code(class), message: message.to_string() }
    }

    /// An error whose cause is a file or folder, whatever its class.
    pub fn io(error: impl Display) -> Self {
        Failure { code: IO, message: error.to_string() }
    }

    /// A file that cannot be read or written.
    pub fn file(path: &std::path::Path, what: &str, error: impl Display) -> Self {
        Failure { code: IO, message: format!("cannot {what} `{}`: {error}", path.display()) }
    }

    /// A command line that means nothing.
    pub fn usage(message: impl Display) -> Self {
        Failure { code: USAGE, message: message.to_string() }
    }

    /// An answer of a coordinator.
    pub fn status(status: &Status) -> Self {
        Failure::new(class_of(status), status.message())
    }
}
