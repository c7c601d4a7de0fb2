//! What a server allows each request.

use std::time::Duration;

use clap::Args;
use graticule_coordinator::Config;
use graticule_coordinator::heavy::Heavy;

/// What one request may take.
#[derive(Args, Clone, Debug)]
pub struct AllowanceArgs {
    /// Processor time that one request may take by estimate, in seconds
    #[arg(
        long,
        value_name = "S",
        default_value_t = 60.0,
        env = "GRATICULE_MAX_REQUEST_CPU_S",
        help_heading = "Requests"
    )]
    max_request_cpu_s: f64,
    /// Scenes that one request may read
    #[arg(
        long,
        value_name = "N",
        default_value_t = 500,
        env = "GRATICULE_MAX_REQUEST_SCENES",
        help_heading = "Requests"
    )]
    max_request_scenes: u64,
    /// Pixels of one result, times its images and bands
    #[arg(
        long,
        value_name = "N",
        default_value_t = 64 << 20,
        env = "GRATICULE_MAX_REQUEST_SAMPLES",
        help_heading = "Requests"
    )]
    max_request_samples: u64,
    /// Time for one request, in seconds; waiting for its client does not count
    #[arg(
        long,
        value_name = "S",
        default_value_t = 300,
        env = "GRATICULE_REQUEST_DEADLINE_S",
        help_heading = "Requests",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    request_deadline_s: u64,
    /// A client that takes nothing of its result for this long, or too little for longer, is cut off, in seconds
    #[arg(
        long,
        value_name = "S",
        default_value_t = 60,
        env = "GRATICULE_SLOW_READER_S",
        help_heading = "Requests",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    slow_reader_s: u64,
}

impl AllowanceArgs {
    /// Writes them into a coordinator's settings.
    pub fn apply(&self, config: &mut Config) {
        let requests = &mut config.requests;
        requests.heavy = Some(Heavy { cpu_s: self.max_request_cpu_s, scenes: self.max_request_scenes });
        requests.limits.output_samples = self.max_request_samples;
        requests.deadline = Duration::from_secs(self.request_deadline_s);
        requests.slow_reader = Duration::from_secs(self.slow_reader_s);
    }
}
