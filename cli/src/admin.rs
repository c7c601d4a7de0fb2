//! The admin port: what machines ask of a server, apart from what clients do. Off unless it is asked for,
//! and never on the public port.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use clap::Args;
use graticule_common::error::ErrorClass;
use graticule_common::telemetry::Readiness;
use graticule_common::telemetry::names::{self, METRICS, Role, SECONDS_BUCKETS};
use graticule_common::versions;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rustix::time::{ClockId, clock_gettime};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::failure::Failure;

/// Where a server says how it is.
#[derive(Args, Clone, Debug)]
pub struct AdminArgs {
    /// Address for /metrics, /livez, /readyz and /version; not for clients [default: none]
    #[arg(long = "admin", value_name = "ADDRESS", env = "GRATICULE_ADMIN", help_heading = "Operation")]
    address: Option<SocketAddr>,
}

/// How often distributions are brought up to date where nobody asks.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// What the handlers know.
#[derive(Clone, Debug)]
struct Known {
    readiness: watch::Receiver<Readiness>,
    metrics: PrometheusHandle,
    started: Instant,
}

impl AdminArgs {
    /// Listens, where that was asked for. To be called before anything counts: what is counted without it
    /// is not kept.
    pub async fn start(&self, roles: &[Role], readiness: watch::Receiver<Readiness>) -> Result<(), Failure> {
        let Some(address) = self.address else { return Ok(()) };
        let failed = |error: std::io::Error| {
            let message = format!("cannot listen on {address} (--admin): {error}");
            Failure::new(ErrorClass::Unavailable, message)
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let defect = |error: String| Failure::new(ErrorClass::Internal, format!("metrics: {error}"));
        let builder = PrometheusBuilder::new().set_buckets(SECONDS_BUCKETS);
        let metrics = builder.and_then(PrometheusBuilder::install_recorder);
        let metrics = metrics.map_err(|error| defect(error.to_string()))?;
        names::describe(roles);
        describe_build();
        let known = Known { readiness, metrics, started: Instant::now() };
        tokio::spawn(keep_up(known.metrics.clone()));
        let server = axum::serve(listener, router(known)).into_future();
        // It answers until the process ends: how a server drains is of interest, too.
        tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the admin port is closed");
            }
        });
        tracing::info!(%address, "admin port open");
        Ok(())
    }
}

fn router(known: Known) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        // Alive is who answers: that a tick of the event loop comes is all that is asked.
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/version", get(version))
        .with_state(known)
}

async fn keep_up(metrics: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP_EVERY);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}

fn describe_build() {
    let own = versions::own();
    let labels = [("engine", own.engine), ("ops", own.ops), ("gdal", own.gdal), ("proj", own.proj)];
    metrics::gauge!(names::BUILD_INFO, &labels).set(1.0);
}

async fn scrape(State(known): State<Known>) -> impl IntoResponse {
    let readiness = *known.readiness.borrow();
    let flag = |name, is_set| metrics::gauge!(name).set(if is_set { 1.0 } else { 0.0 });
    flag(names::READY, readiness.is_ready());
    flag(names::DRAINING, readiness == Readiness::Draining);
    metrics::gauge!(names::PROCESS_UPTIME_SECONDS).set(known.started.elapsed().as_secs_f64());
    if let Some(process) = Process::now() {
        metrics::gauge!(names::PROCESS_RESIDENT_BYTES).set(process.resident_bytes as f64);
        metrics::gauge!(names::PROCESS_THREADS).set(process.threads as f64);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        metrics::gauge!(names::PROCESS_OPEN_FILES).set(files.count() as f64);
    }
    let mut text = known.metrics.render();
    cpu_time(&mut text);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

/// The one counter that is no whole number, which the library does not know.
fn cpu_time(text: &mut String) {
    let name = names::PROCESS_CPU_SECONDS;
    let help = METRICS.iter().find(|metric| metric.name == name).map_or("", |metric| metric.help);
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
    // Writing to a string does not fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {seconds}\n");
}

async fn ready(State(known): State<Known>) -> impl IntoResponse {
    let readiness = *known.readiness.borrow();
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{}\n", readiness.name()))
}

async fn version() -> impl IntoResponse {
    let own = versions::own();
    axum::Json(serde_json::json!({
        "engine": own.engine, "ops": own.ops, "gdal": own.gdal, "proj": own.proj,
    }))
}

/// What the system knows of this process.
struct Process {
    resident_bytes: u64,
    threads: u64,
}

impl Process {
    fn now() -> Option<Process> {
        Process::parse(&std::fs::read_to_string("/proc/self/status").ok()?)
    }

    /// Reads `/proc/PID/status`.
    fn parse(status: &str) -> Option<Process> {
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        Some(Process { resident_bytes: number("VmRSS")? << 10, threads: number("Threads")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_memory_and_threads() {
        let status = "Name:\tgraticule\nVmHWM:\t  9000 kB\nVmRSS:\t  1024 kB\nThreads:\t7\n";
        let process = Process::parse(status).unwrap();
        assert_eq!((process.resident_bytes, process.threads), (1 << 20, 7));
        assert!(Process::parse("Name:\tgraticule\n").is_none());
        assert!(Process::now().is_some_and(|process| process.resident_bytes > 1 << 20));
    }

    #[test]
    fn processor_time_is_a_counter_with_fractions() {
        let mut text = String::new();
        cpu_time(&mut text);
        let value = text.lines().last().and_then(|line| line.split(' ').nth(1)).unwrap();
        assert!(value.parse::<f64>().unwrap() > 0.0 && text.contains("counter"), "{text}");
    }
}
