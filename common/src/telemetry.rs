//! Setting up the log: lines on standard error, filtered by level.

use tracing_subscriber::EnvFilter;

pub mod names;

/// Sends log lines to standard error. `filter` is a directive such as `info` or
/// `graticule_worker=debug`, `colored` whether lines have colours. Does nothing when a log is set up already.
///
/// # Errors
/// The filter as a message, when it is no directive.
pub fn start(filter: &str, colored: bool) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("log filter `{filter}`: {error}"))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colored)
        .with_target(true);
    // A second start, as in tests, keeps the first log.
    let _ = log.try_init();
    Ok(())
}
