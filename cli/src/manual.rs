//! What the command line says of itself: completions for shells, manual pages, exit codes.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use graticule_common::error::ErrorClass;
use graticule_common::status::exit_code;

use crate::Cli;
use crate::failure::{Failure, say};

/// Print completions for a shell.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  bash: graticule completions bash > ~/.local/share/bash-completion/completions/graticule
  zsh:  graticule completions zsh > ~/.zfunc/_graticule     (with ~/.zfunc in fpath)
  fish: graticule completions fish > ~/.config/fish/completions/graticule.fish")]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    pub fn run(self) -> Result<(), Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "graticule", &mut text);
        print_bytes(&text)
    }
}

/// Write the manual pages.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  graticule man | man -l -
  graticule man ~/.local/share/man/man1")]
pub struct Man {
    /// Folder for one page a command; made if it is not there [default: the main page to standard output]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Man {
    pub fn run(self) -> Result<(), Failure> {
        let Some(folder) = self.folder else {
            let mut text = Vec::new();
            let rendered = clap_mangen::Man::new(Cli::command()).render(&mut text);
            rendered.map_err(|error| Failure::new(ErrorClass::Internal, error))?;
            return print_bytes(&text);
        };
        std::fs::create_dir_all(&folder)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), &folder))
            .map_err(|error| Failure::file(&folder, "write", error))?;
        say!("wrote    {}", folder.display());
        Ok(())
    }
}

fn print_bytes(text: &[u8]) -> Result<(), Failure> {
    crate::failure::print_line(format_args!("{}", String::from_utf8_lossy(text).trim_end()))
}

/// One line a code.
pub fn exit_codes() -> String {
    let line = |(code, meaning): (u8, &str)| format!("  {code:>3}  {meaning}\n");
    let first = [
        (0, "done; with `--on-error skip` also where sources were skipped, which standard error lists"),
        (1, "a file cannot be read or written, or the data folder cannot be used"),
        (2, "wrong command line"),
    ];
    let classes = ErrorClass::ALL.map(|class| {
        let meaning = match class {
            ErrorClass::InvalidRequest => "malformed graft or area",
            ErrorClass::Impossible => "understood but impossible: types, bands, values a file cannot hold",
            ErrorClass::Unsupported => "known to the language or a format, not supported yet",
            ErrorClass::NotFound => "a product, band, result or file that is named does not exist",
            ErrorClass::LimitExceeded => "a limit is exceeded; the message names both numbers",
            ErrorClass::Source => "a source file is missing, changed or corrupt",
            ErrorClass::Unavailable => {
                "no worker, or a coordinator or source that cannot be reached; try again"
            }
            ErrorClass::Overloaded => {
                "too much to do just now; try again after the time that the message names"
            }
            ErrorClass::Unauthenticated => "no credentials, or none that count",
            ErrorClass::Forbidden => "the credentials do not allow it",
            ErrorClass::Timeout => "too late",
            ErrorClass::Internal => "a defect of the engine",
            ErrorClass::Cancelled => "interrupted",
        };
        (exit_code(class), meaning)
    });
    let mut lines: Vec<(u8, &str)> = first.into_iter().chain(classes).collect();
    lines.sort_by_key(|(code, _)| *code);
    lines.into_iter().map(line).collect()
}
