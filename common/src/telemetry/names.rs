//! Every metric's name, kind, labels and meaning: the one list. Whoever counts something takes the name
//! from here: `metrics::counter!(names::TILES, "outcome" => "done").increment(1)`.
//!
//! Names are `graticule_<noun>_<unit>` in base units (seconds, bytes). Labels have few values, which are
//! listed; nothing that a client chooses is ever one.

use metrics::Unit;

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// What is now.
    Gauge,
    /// How values are distributed.
    Histogram,
}

/// Which processes have a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Those with a coordinator.
    Coordinator,
    /// Those with a worker.
    Worker,
    /// All.
    Process,
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Who has it.
    pub role: Role,
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// Its labels with all the values that each has.
    pub labels: &'static [(&'static str, &'static [&'static str])],
    /// What it counts.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($role:ident { $(
        $kind:ident $constant:ident $unit:ident $name:literal
        $({ $($label:ident: $values:expr),+ })? $help:literal;
    )+ })+) => {
        $($(#[doc = $help] pub const $constant: &str = $name;)+)+

        /// All metrics, in the order of docs/operate.md.
        pub const METRICS: &[Metric] = &[$($(Metric {
            role: Role::$role,
            name: $name,
            kind: Kind::$kind,
            unit: Unit::$unit,
            labels: &[$($((stringify!($label), $values)),+)?],
            help: $help,
        }),+),+];
    };
}

/// What ended a request: `done`, or the name of its error's class.
pub const CLASSES: &[&str] = &[
    "done",
    "invalid_request",
    "impossible",
    "unsupported",
    "not_found",
    "limit_exceeded",
    "source",
    "unavailable",
    "overloaded",
    "unauthenticated",
    "forbidden",
    "timeout",
    "cancelled",
    "internal",
];

/// Stages of a request's time: until it was planned, from there until its first tile began, until the
/// first byte of a tile went to the client, until its end.
pub const STAGES: &[&str] = &["plan", "queue", "first_byte", "total"];

/// Steps of a tile: waiting for memory and a slot, asking the cache, reading, evaluating, encoding.
pub const STEPS: &[&str] = &["wait", "cache", "read", "eval", "encode"];

/// What is asked for over HTTP.
pub const HTTP_WHAT: &[&str] =
    &["tile", "result", "value", "layer", "statistics", "catalog", "storage", "page", "probe", "other"];

/// Where remembered blocks are.
pub const TIERS: &[&str] = &["memory", "redis"];

metrics! {
    Coordinator {
        Counter REQUESTS Count "graticule_requests_total"
            { class: CLASSES }
            "Requests that ended, by what ended them: done, or the class of the error.";
        Gauge REQUESTS_ACTIVE Count "graticule_requests_active"
            "Requests under way.";
        Counter SHEDS Count "graticule_sheds_total"
            { reason: &["backlog", "tenant", "draining"] }
            "Requests refused because there was too much to do, or because the coordinator is ending.";
        Histogram REQUEST_SECONDS Seconds "graticule_request_seconds"
            { stage: STAGES }
            "Time of a request: plan (until it was planned), queue (from there until its first tile began), first_byte (until the first byte of a tile went out), total.";
        Gauge QUEUE_TILES Count "graticule_queue_tiles"
            "Tiles that wait for a worker.";
        Gauge RUNNING_TILES Count "graticule_running_tiles"
            "Tiles that workers have.";
        Gauge OUTSTANDING_CORE_SECONDS Seconds "graticule_outstanding_core_seconds"
            "Estimated processor time of all tiles that are not done: what to scale by.";
        Gauge SPOOL_BYTES Bytes "graticule_spool_bytes"
            "Bytes of tiles that wait in the coordinator for their readers.";
        Counter RESULT_BYTES Bytes "graticule_result_bytes_total"
            "Bytes of tiles passed to clients.";
        Counter TILES Count "graticule_tiles_total"
            { outcome: &["done", "cached", "coalesced", "failed"] }
            "Tiles answered to the coordinator: computed, remembered, computed for another call as well, failed.";
        Counter CALLS Count "graticule_calls_total"
            { outcome: &["done", "cancelled", "lost", "refused"] }
            "Execute calls that ended.";
        Counter RETRIES Count "graticule_retries_total"
            "Tiles sent again: their worker was lost or is ending, or a source failed for the moment.";
        Gauge WORKERS Count "graticule_workers"
            { state: &["ready", "draining"] }
            "Workers that are registered.";
        Gauge SLOTS Count "graticule_slots"
            "Tiles that all registered workers compute at the same time.";
        Gauge LOST_SLOTS Count "graticule_lost_slots"
            "Slots that computations which cannot be stopped hold for good.";
        Counter WORKERS_LOST Count "graticule_workers_lost_total"
            { cause: &["ended", "silent", "call", "access"] }
            "Workers lost: their registration ended, they said nothing for too long, a call to them failed, or their credentials do not count any more.";
        Counter WORKERS_REFUSED Count "graticule_workers_refused_total"
            "Announcements refused: other versions, or no address.";
        Counter SUSPECTS Count "graticule_suspects_total"
            "Tiles that were with a worker when it died and were sent again alone.";
        Gauge QUARANTINED Count "graticule_quarantined"
            "Tiles that are refused because they killed workers.";
        Counter SLOW_READERS Count "graticule_slow_readers_total"
            "Clients cut off because they took their results too slowly.";
        Counter ACCESS_REFUSED Count "graticule_access_refused_total"
            { reason: &["missing", "invalid", "expired", "scope"] }
            "Calls refused for their credentials.";
        Counter JWKS_ERRORS Count "graticule_jwks_errors_total"
            "Reads of the keys for tokens that failed; those read before count for a day.";
        Counter CATALOG_LOOKS Count "graticule_catalog_looks_total"
            { ok: &["yes", "no"] }
            "Looks for changes in the shared catalog; while they fail, answers may be old.";
        Counter STORE_RETRIES Count "graticule_store_retries_total"
            "Operations of the object store that were tried again.";
        Counter HTTP_REQUESTS Count "graticule_http_requests_total"
            { what: HTTP_WHAT, status: &["1xx", "2xx", "3xx", "4xx", "5xx"] }
            "Requests over HTTP that were answered, by what was asked for and by status.";
        Histogram HTTP_SECONDS Seconds "graticule_http_seconds"
            { what: HTTP_WHAT }
            "Time until the answer to a request over HTTP began.";
        Gauge HTTP_CONNECTIONS Count "graticule_http_connections"
            "Connections to the HTTP port.";
        Gauge HTTP_RESULT_BYTES Bytes "graticule_http_result_bytes"
            "Memory that whole results for clients of HTTP take.";
    }
    Worker {
        Counter WORKER_TILES Count "graticule_worker_tiles_total"
            { outcome: &["done", "cached", "coalesced", "failed", "cancelled", "handed_back"] }
            "Tiles that this worker ended.";
        Histogram TILE_SECONDS Seconds "graticule_tile_seconds"
            { step: STEPS }
            "Time of a tile's steps: wait (for memory and a slot), cache, read, eval, encode.";
        Histogram TILE_CPU_SECONDS Seconds "graticule_tile_cpu_seconds"
            "Processor time of tiles.";
        Gauge WORKER_SLOTS Count "graticule_worker_slots"
            "Tiles that this worker computes at the same time.";
        Gauge WORKER_BUSY_SLOTS Count "graticule_worker_busy_slots"
            "Slots that compute a tile now.";
        Gauge WORKER_LOST_SLOTS Count "graticule_worker_lost_slots"
            "Slots of this worker held by computations that cannot be stopped.";
        Gauge WORKER_MEMORY_BYTES Bytes "graticule_worker_memory_bytes"
            "Memory for tiles.";
        Gauge WORKER_FREE_BYTES Bytes "graticule_worker_free_bytes"
            "Memory for tiles that no tile has now.";
        Gauge REGISTRATIONS Count "graticule_registrations"
            "Coordinators that know this worker.";
        Gauge DRAINING Count "graticule_draining"
            "1 while the process is ending and takes no new work.";
        Counter READ_BYTES Bytes "graticule_read_bytes_total"
            "Decoded bytes of the stored pixels that were read.";
        Counter FILES_OPENED Count "graticule_files_opened_total"
            "Files opened.";
        Counter READ_ERRORS Count "graticule_read_errors_total"
            { class: &["source", "unavailable", "timeout"] }
            "Reads that failed, by class.";
        Counter CACHE_HITS Count "graticule_cache_hits_total"
            { tier: TIERS }
            "Blocks found.";
        Counter CACHE_MISSES Count "graticule_cache_misses_total"
            { tier: TIERS }
            "Blocks looked for and not found.";
        Counter CACHE_ERRORS Count "graticule_cache_errors_total"
            { kind: &["timeout", "connection", "answer"] }
            "Operations of Redis that failed; the tiles are computed.";
        Counter CACHE_REJECTED Count "graticule_cache_rejected_total"
            { reason: &["envelope", "checksum", "codec", "shape"] }
            "Remembered values that were not what they should be: taken for a miss and deleted.";
        Counter CACHE_SKIPPED Count "graticule_cache_skipped_total"
            { reason: &["breaker", "size", "queue"] }
            "Operations of Redis not tried: the breaker is open, the value is too large, too many writes wait.";
        Gauge CACHE_BREAKER_OPEN Count "graticule_cache_breaker_open"
            "1 while Redis is not asked because it failed.";
        Gauge CACHE_BYTES Bytes "graticule_cache_bytes"
            "Bytes of blocks remembered in the process.";
    }
    Process {
        Counter CONNECTIONS_REFUSED Count "graticule_connections_refused_total"
            "Connections refused in their handshake; the log says why.";
        Gauge READY Count "graticule_ready"
            "1 while /readyz says ready.";
        Gauge BUILD_INFO Count "graticule_build_info"
            { engine: &[], ops: &[], gdal: &[], proj: &[] }
            "Always 1; the labels are the versions that coordinators and workers must agree on.";
        Gauge PROCESS_RESIDENT_BYTES Bytes "graticule_process_resident_bytes"
            "Memory of the process.";
        Counter PROCESS_CPU_SECONDS Seconds "graticule_process_cpu_seconds_total"
            "Processor time of the process.";
        Gauge PROCESS_THREADS Count "graticule_process_threads"
            "Threads of the process.";
        Gauge PROCESS_OPEN_FILES Count "graticule_process_open_files"
            "Files and connections that the process has open.";
        Gauge PROCESS_UPTIME_SECONDS Seconds "graticule_process_uptime_seconds"
            "Time since the process started.";
    }
}

/// Upper bounds of histogram buckets, in seconds: from a remembered tile to the longest request.
pub const SECONDS_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// Tells the exporter what each metric means, and begins every counter of `roles` at 0: what has not
/// happened yet is not unknown.
pub fn describe(roles: &[Role]) {
    for metric in METRICS.iter().filter(|metric| roles.contains(&metric.role)) {
        // Counters of seconds are no whole numbers; whoever has one writes it itself.
        if metric.kind == Kind::Counter && metric.unit != Unit::Seconds {
            begin(metric);
        }
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.unit, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.unit, metric.help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.unit, metric.help),
        }
    }
}

fn begin(metric: &Metric) {
    let Some(((label, values), [])) = metric.labels.split_first() else {
        if metric.labels.is_empty() {
            metrics::counter!(metric.name).increment(0);
        }
        return;
    };
    for value in *values {
        metrics::counter!(metric.name, *label => *value).increment(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorClass;

    #[test]
    fn names_say_what_they_are() {
        let mut names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
        for metric in METRICS {
            let name = metric.name;
            assert!(name.starts_with("graticule_"), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            let base = name.trim_end_matches("_total");
            assert_eq!(base.ends_with("_seconds"), metric.unit == Unit::Seconds, "{name}");
            assert_eq!(base.ends_with("_bytes"), metric.unit == Unit::Bytes, "{name}");
            assert!(metric.help.ends_with('.'), "{name}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len(), "a name is one metric's");
    }

    #[test]
    fn every_class_of_error_is_a_value_of_the_label() {
        for class in ErrorClass::ALL {
            assert!(CLASSES.contains(&class.name()), "{}", class.name());
        }
        assert_eq!(CLASSES.len(), ErrorClass::ALL.len() + 1);
    }

    /// A row of the table in docs/operate.md.
    fn row(metric: &Metric) -> String {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let labels: String = metric.labels.iter().map(|(label, _)| format!(", `{label}`")).collect();
        format!("| `{}` | {kind}{labels} | {} |", metric.name, metric.help)
    }

    /// Names of metrics in a text, without what histograms add to theirs.
    fn named(text: &str) -> impl Iterator<Item = &str> {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let of_crates = ["graticule_worker", "graticule_coordinator", "graticule_common"];
        words.filter(move |word| word.starts_with("graticule_") && !of_crates.contains(word)).map(|word| {
            let known = |name: &&str| METRICS.iter().any(|metric| metric.name == *name);
            let base =
                ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end).filter(known));
            base.unwrap_or(word)
        })
    }

    #[test]
    fn the_manual_has_every_metric_and_the_dashboard_no_other() {
        let manual = include_str!("../../../docs/operate.md");
        let dashboard = include_str!("../../../deploy/grafana/graticule.json");
        for metric in METRICS {
            let row = row(metric);
            assert!(manual.lines().any(|line| line == row), "docs/operate.md lacks: {row}");
        }
        for name in named(manual).chain(named(dashboard)) {
            assert!(METRICS.iter().any(|metric| metric.name == name), "`{name}` is no metric");
        }
        assert!(named(dashboard).count() > 15);
    }

    #[test]
    fn buckets_grow() {
        assert!(SECONDS_BUCKETS.is_sorted_by(|a, b| a < b));
    }
}
