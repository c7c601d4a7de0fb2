//! What a process tells of itself: log lines on standard error, the traces its spans belong to, and the
//! names of its metrics.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

pub mod names;
pub mod spans;
pub mod trace;

pub use spans::{context_of, follow, inject, parent_of, request_id};
pub use trace::TraceContext;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Whether a process takes work: what /readyz and the gRPC health service say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readiness {
    /// It does not listen yet.
    #[default]
    Starting,
    /// It has nobody to work with: a coordinator without workers, a worker that no coordinator knows.
    Alone,
    /// It takes work.
    Ready,
    /// It is ending: it finishes what it has and takes nothing new.
    Draining,
}

impl Readiness {
    /// Whether it takes work.
    pub fn is_ready(self) -> bool {
        self == Readiness::Ready
    }

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Readiness::Starting => "starting",
            Readiness::Alone => "alone",
            Readiness::Ready => "ready",
            Readiness::Draining => "draining",
        }
    }
}

/// Sends log lines to standard error and gives spans their place in a trace. `filter` is a directive such
/// as `info` or `graticule_worker=debug`, `colored` whether lines have colours. Does nothing when a log is
/// set up already.
///
/// # Errors
/// The filter as a message, when it is no directive.
pub fn start(
    filter: &str,
    colored: bool,
    format: LogFormat,
    sink: Option<spans::Sink>,
) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("log filter `{filter}`: {error}"))?;
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(colored).with_target(true);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    // Traces do not depend on what is logged: a client that logs errors only still begins one.
    let own = FilterFn::new(spans::Traces::concerns).with_max_level_hint(LevelFilter::INFO);
    let log = tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(spans::Traces::new(sink).with_filter(own));
    // A second start, as in tests, keeps the first log.
    let _ = log.try_init();
    Ok(())
}
