//! The one binary, `graticule`: the command line and its exit codes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::failure::Failure;

mod catalog;
mod compute;
mod explain;
mod failure;
mod output;
mod request;
mod roles;
mod serve;

/// Computes maps: write an expression over imagery (a graft), name an area, get pixels.
///
/// Everything runs on this machine unless `--endpoint` names a coordinator.
#[derive(Debug, Parser)]
#[command(name = "graticule", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 a file cannot be read or written, 2 wrong command line, \
3 malformed graft or AOI, 4 impossible (types, bands), 5 not supported yet, 6 not found, 7 a limit is \
exceeded, 8 a source file is missing, changed or corrupt, 9 no worker or not reachable, 10 too late, \
70 a defect, 130 interrupted.";

/// Options of every command.
#[derive(Args, Clone, Debug)]
struct Global {
    /// Folder of the embedded catalog. Default: `graticule` in the user's data home
    #[arg(long, global = true, value_name = "DIR", env = "GRATICULE_DATA")]
    data: Option<PathBuf>,
    /// What to log on standard error: error, warn, info, debug, or per module (`graticule_worker=debug`)
    #[arg(long, global = true, value_name = "FILTER", env = "GRATICULE_LOG")]
    log: Option<String>,
}

impl Global {
    fn data(&self) -> Result<PathBuf, Failure> {
        self.data
            .clone()
            .or_else(|| {
                directories::ProjectDirs::from("", "", "graticule").map(|dirs| dirs.data_dir().to_owned())
            })
            .ok_or_else(|| {
                let message = "there is no home folder to keep the catalog in; say `--data DIR`";
                Failure::new(graticule_common::error::ErrorClass::InvalidRequest, message)
            })
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compute a graft on an area and write the pixels
    Compute(compute::Compute),
    /// Show what `compute` with the same arguments would do; reads no pixel
    Explain(explain::Explain),
    /// Register imagery and list what is registered
    #[command(subcommand)]
    Catalog(catalog::Catalog),
    /// Run a coordinator and workers in one process, for clients to connect to
    Serve(serve::Serve),
    /// Run a coordinator; workers connect to it
    Coordinator(roles::Coordinator),
    /// Run a worker of a coordinator
    Worker(roles::Worker),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("graticule: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let is_server = matches!(cli.command, Command::Serve(_) | Command::Coordinator(_) | Command::Worker(_));
    let filter = cli.global.log.as_deref().unwrap_or(if is_server { "info" } else { "error" });
    graticule_common::telemetry::start(filter)
        .map_err(|reason| Failure::new(graticule_common::error::ErrorClass::InvalidRequest, reason))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure { code: 1, message: format!("cannot start threads: {error}") })?;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Compute(command) => command.run(&cli.global).await,
            Command::Explain(command) => command.run(&cli.global).await,
            Command::Catalog(command) => command.run(&cli.global).await,
            Command::Serve(command) => command.run(&cli.global).await,
            Command::Coordinator(command) => command.run(&cli.global).await,
            Command::Worker(command) => command.run().await,
        }
    });
    // GDAL's own end must not meet a read that is under way: that would crash. Reads stop after the band
    // they are at; one that hangs on a dead disk must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}
