//! The one binary, `graticule`: the command line and its exit codes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use graticule_common::telemetry;

use crate::failure::Failure;

mod access;
mod admin;
mod allowance;
mod arrays;
mod catalog;
mod compute;
mod explain;
mod failure;
mod http;
mod interrupt;
mod key;
mod manual;
mod ops;
mod options;
#[cfg(feature = "otlp")]
mod otlp;
mod output;
mod progress;
mod publish;
mod receive;
mod report;
mod request;
mod roles;
mod serve;
mod store;
mod tls;
mod top;

/// Computes maps: write an expression over imagery (a graft), name an area, get pixels.
///
/// Everything runs on this machine unless `--endpoint` names a coordinator.
#[derive(Debug, Parser)]
#[command(name = "graticule", version, infer_subcommands = false, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  graticule catalog add examples/colorado
  graticule explain examples/ndvi_median.graft.json --bounds 336375,4460595,338205,4462425 \\
    --crs EPSG:32613 --resolution 30
  graticule compute examples/ndvi_median.graft.json --bounds 336375,4460595,338205,4462425 \\
    --crs EPSG:32613 --resolution 30 --out ndvi.tif --out ndvi.png

`graticule help COMMAND` explains a command, `graticule help exit-codes` what a command ends with.";

/// Options of every command.
#[derive(Args, Clone, Debug)]
struct Global {
    /// Folder of the embedded catalog. Default: `graticule` in the user's data home
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "GRATICULE_DATA",
        hide_env_values = true,
        help_heading = "General"
    )]
    data: Option<PathBuf>,
    /// What to log on standard error: error, warn, info, debug, or per module (`graticule_worker=debug`)
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        env = "GRATICULE_LOG",
        hide_env_values = true,
        help_heading = "General"
    )]
    log: Option<String>,
    /// How log lines are written
    #[arg(
        long,
        global = true,
        value_name = "HOW",
        env = "GRATICULE_LOG_FORMAT",
        hide_env_values = true,
        default_value = "text",
        help_heading = "General"
    )]
    log_format: LogFormat,
    /// OpenTelemetry collector to send traces to, by OTLP over gRPC: http://HOST:4317
    #[cfg(feature = "otlp")]
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        hide_env_values = true,
        help_heading = "General"
    )]
    otlp: Option<String>,
    /// Colour in messages; `auto`: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", help_heading = "General")]
    color: ColorChoice,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
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
    /// List the ops that a graft may apply, or tell all about one
    Ops(ops::Ops),
    /// Register imagery and list what is registered
    #[command(subcommand)]
    Catalog(catalog::Catalog),
    /// Run a coordinator and workers in one process, for clients to connect to
    Serve(serve::Serve),
    /// Run a coordinator; workers connect to it
    Coordinator(roles::Coordinator),
    /// Run a worker of a coordinator
    Worker(roles::Worker),
    /// Watch a coordinator: its workers, its requests, what it does a second
    Top(top::Top),
    /// Make, list and revoke the API keys of a deployment
    #[command(subcommand)]
    Key(key::Key),
    /// Print completions for a shell
    Completions(manual::Completions),
    /// Write the manual pages
    Man(manual::Man),
    /// List what a command ends with
    #[command(after_help = manual::exit_codes())]
    ExitCodes,
}

fn main() -> ExitCode {
    ignore_file_size_signal();
    #[cfg(feature = "failpoints")]
    graticule_common::failpoint::start();
    let matches = Cli::command().color(color_choice()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let colored = is_colored(cli.global.color);
    match run(cli, colored) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (red, plain) = if colored { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
            eprintln!("{red}graticule:{plain} {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

/// A file that may not grow is an error like a full disk, not the end of the process with half of it left.
fn ignore_file_size_signal() {
    // SAFETY: no handler runs; the signal is ignored from here on, before there is another thread.
    #[expect(unsafe_code, reason = "the standard library has no word for it")]
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// What `--color` says, before the command line is understood: its errors have colours, too.
fn color_choice() -> ColorChoice {
    let mut arguments = std::env::args_os().skip_while(|argument| {
        argument.to_str().is_none_or(|argument| argument != "--color" && !argument.starts_with("--color="))
    });
    let first = arguments.next();
    let text = first.as_ref().and_then(|argument| argument.to_str());
    let value = match text.and_then(|text| text.strip_prefix("--color=")) {
        Some(value) => Some(value.to_owned()),
        None => arguments.next().and_then(|value| value.to_str().map(str::to_owned)),
    };
    value.and_then(|value| value.parse().ok()).unwrap_or(ColorChoice::Auto)
}

/// Whether messages on standard error have colours.
fn is_colored(choice: ColorChoice) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            #[expect(clippy::disallowed_methods, reason = "the way users say it to every program")]
            let set = |name: &str| std::env::var_os(name);
            let refused = set("NO_COLOR").is_some_and(|value| !value.is_empty())
                || set("TERM").is_some_and(|term| term == "dumb");
            !refused && std::io::IsTerminal::is_terminal(&std::io::stderr())
        }
    }
}

fn run(cli: Cli, colored: bool) -> Result<(), Failure> {
    match cli.command {
        Command::Completions(command) => return command.run(),
        Command::Man(command) => return command.run(),
        Command::Ops(command) => return command.run(),
        Command::Key(command) => return command.run(&cli.global),
        Command::ExitCodes => {
            return failure::print_line(format_args!("{}", manual::exit_codes().trim_end()));
        }
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure { code: 1, message: format!("cannot start threads: {error}") })?;
    let role = match cli.command {
        Command::Serve(_) => "serve",
        Command::Coordinator(_) => "coordinator",
        Command::Worker(_) => "worker",
        _ => "client",
    };
    let (sink, exporter) = traces(&cli.global, role, &runtime)?;
    let filter = cli.global.log.as_deref().unwrap_or(if role == "client" { "error" } else { "info" });
    let format = match cli.global.log_format {
        LogFormat::Text => telemetry::LogFormat::Text,
        LogFormat::Json => telemetry::LogFormat::Json,
    };
    telemetry::start(filter, colored, format, sink).map_err(Failure::usage)?;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Compute(command) => command.run(&cli.global).await,
            Command::Explain(command) => command.run(&cli.global).await,
            Command::Catalog(command) => command.run(&cli.global).await,
            Command::Serve(command) => command.run(&cli.global).await,
            Command::Coordinator(command) => command.run(&cli.global).await,
            Command::Worker(command) => command.run().await,
            Command::Top(command) => command.run().await,
            // Done above, without threads.
            Command::Completions(_)
            | Command::Man(_)
            | Command::Ops(_)
            | Command::Key(_)
            | Command::ExitCodes => Ok(()),
        }
    });
    if let Some(end) = exporter {
        end();
    }
    // GDAL's own end must not meet a read that is under way: that would crash. Reads stop after the band
    // they are at; one that hangs on a dead disk must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

/// Ends the sending of spans.
type EndTraces = Box<dyn FnOnce()>;

/// Where finished spans go.
#[cfg(feature = "otlp")]
fn traces(
    global: &Global,
    role: &str,
    runtime: &tokio::runtime::Runtime,
) -> Result<(Option<telemetry::spans::Sink>, Option<EndTraces>), Failure> {
    let Some(collector) = &global.otlp else { return Ok((None, None)) };
    let _inside = runtime.enter();
    let (exporter, sink) = otlp::Otlp::start(collector, role)?;
    Ok((Some(sink), Some(Box::new(|| exporter.end()))))
}

/// Where finished spans go: nowhere in this build.
#[cfg(not(feature = "otlp"))]
fn traces(
    _: &Global,
    _: &str,
    _: &tokio::runtime::Runtime,
) -> Result<(Option<telemetry::spans::Sink>, Option<EndTraces>), Failure> {
    Ok((None, None))
}
