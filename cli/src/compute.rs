//! `graticule compute`: run a graft on an area, write files, say what was done.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use graticule_common::error::ErrorClass;
use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::compute_service_client::ComputeServiceClient;
use graticule_common::telemetry::{self, TraceContext};
use graticule_common::transport::Authorized;
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};

use crate::Global;
use crate::failure::{Failure, say};
use crate::interrupt::Interrupt;
use crate::output::{self, OutputArgs, write_properties};
use crate::progress::Progress;
use crate::publish::{Staging, interrupted};
use crate::receive::{Answer, Finished, Outcome, receive};
use crate::report::{self, Context};
use crate::request::RequestArgs;

/// Compute a graft and write the results.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Compute {
    #[command(flatten)]
    request: RequestArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// File for what was done, as JSON: grid, results, scenes, what was skipped and why, bytes, seconds,
    /// memory, and what was estimated
    #[arg(long, value_name = "FILE.json", help_heading = "Result")]
    report: Option<PathBuf>,
    /// Say nothing but errors, and which sources were skipped
    #[arg(long, help_heading = "Result")]
    quiet: bool,
    /// The span that this command is part of, as W3C Trace Context writes it
    #[arg(long, value_name = "TRACEPARENT", env = "TRACEPARENT", hide = true)]
    traceparent: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  A GeoTIFF and a picture of one result:
    graticule compute ndvi.graft.json --bounds 336375,4460595,338205,4462425 --crs EPSG:32613 \\
      --resolution 30 --out ndvi.tif --out ndvi.png --colormap RdYlGn
  Stored as integers, ten thousandths, 32767 where there is no value:
    … --out ndvi.tif --dtype int16 --scale 0.0001 --nodata 32767
  Two results of a graft that returns an object, and what was done:
    … --out median=median.tif --out clear=clear.npz --report report.json
  A number for a script:
    … --quiet --out -

All files of a command appear complete, or none does. docs/cli.md explains every option.";

impl Compute {
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let started = Instant::now();
        // From here on an interrupt is an error like any other, and leaves nothing behind.
        let mut interrupt = Interrupt::listen()?;
        self.check_files()?;
        let request = self.request.message()?;
        let mut progress = Progress::new(self.quiet);
        let mut pairs = Vec::new();
        let span = info_span!("compute", trace = Empty);
        // What is no trace context is as good as none.
        telemetry::follow(&span, self.traceparent.as_deref().and_then(TraceContext::parse));
        let computing = async {
            let (mut client, engine) = self.request.connect(global).await?;
            let mut asked = tonic::Request::new(request.clone());
            telemetry::inject(asked.metadata_mut(), &Span::current());
            let answers = client.compute(asked).await.map_err(|status| Failure::status(&status))?;
            let check = |header: &graticule_common::proto::v1::Header| {
                pairs = self.output.pair(&header.results)?;
                Ok(())
            };
            let answer = receive(answers.into_inner(), check, &mut progress).await?;
            let bill = match &self.report {
                Some(_) => bill(&mut client, &request).await,
                None => None,
            };
            Ok::<_, Failure>((answer, bill, engine))
        };
        let (answer, bill, engine) = tokio::select! {
            result = computing.instrument(span) => result?,
            () = interrupt.next() => {
                interrupt.end_at_next();
                return Err(interrupted());
            }
        };
        progress.writing();
        let staging = Staging::new();
        let paths = self.output.out.iter().map(|out| out.path());
        let files = paths.zip(&pairs).filter_map(|(path, at)| Some((path?.display().to_string(), *at)));
        let context = Context {
            parameters: self.request.how.parameters_json(),
            endpoint: self.request.endpoint().map(str::to_owned),
            files: files.collect(),
            seconds: started.elapsed().as_secs_f64(),
            request,
            bill,
        };
        let answer = Arc::new(answer);
        let mut writing = {
            let (answer, staging, pairs) = (answer.clone(), staging.clone(), pairs.clone());
            let (output, report) = (self.output.clone(), self.report.clone());
            tokio::task::spawn_blocking(move || {
                let notes = write(&answer, &pairs, &output, report.as_deref(), &context, &staging)?;
                staging.publish().map(|()| notes)
            })
        };
        let written = tokio::select! {
            written = &mut writing => written,
            () = interrupt.next() => {
                if staging.cancel() {
                    interrupt.end_at_next();
                    return Err(interrupted());
                }
                // Too late: everything is in its place.
                writing.await
            }
        };
        let notes = written.map_err(|error| Failure::new(ErrorClass::Internal, error))??;
        progress.done();
        self.tell(&answer, &pairs, &notes)?;
        match engine {
            Some(engine) => engine.stop().await,
            None => Ok(()),
        }
    }

    /// Files that will be written, the report included.
    fn paths(&self) -> impl Iterator<Item = &Path> {
        self.output.paths().chain(self.report.as_deref())
    }

    /// What is wrong with the files, found out now, not after minutes of computing.
    fn check_files(&self) -> Result<(), Failure> {
        self.output.check()?;
        let mut seen: Vec<PathBuf> = Vec::new();
        for path in self.paths() {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new(".")).canonicalize();
            let (Ok(folder), Some(name), false) = (folder, path.file_name(), path.is_dir()) else {
                return Err(Failure::file(path, "write", "no such folder, or a folder of this name"));
            };
            let place = folder.join(name);
            let place = place.canonicalize().unwrap_or(place);
            if seen.contains(&place) {
                return Err(Failure::usage(format!("`{}` would be written twice", path.display())));
            }
            seen.push(place);
        }
        Ok(())
    }

    /// Says what was done: for people on standard output, or on standard error where that is taken.
    fn tell(&self, answer: &Answer, pairs: &[usize], notes: &[String]) -> Result<(), Failure> {
        let skipped = report::skipped(&answer.summary);
        if !skipped.is_empty() {
            // Never left out: a result with a hole is not like any other.
            let count = skipped.len();
            eprintln!("graticule: {count} sources could not be read; their pixels are invalid in the result");
            skipped.iter().for_each(|line| eprintln!("{line}"));
        }
        notes.iter().for_each(|note| eprintln!("graticule: {note}"));
        let is_raster = |result: &Finished| matches!(result.outcome, Outcome::Raster { .. });
        if answer.header.scenes.is_empty() && answer.results.iter().any(is_raster) {
            eprintln!(
                "graticule: no scene is left: none lies in the area at these dates, or the filters keep none; every pixel is invalid"
            );
        }
        let on_stdout = self.output.on_stdout();
        if !self.quiet {
            let written = self.paths().map(|path| format!("wrote    {}", path.display()));
            for line in report::lines(answer).into_iter().chain(written) {
                if on_stdout {
                    eprintln!("{line}");
                } else {
                    say!("{line}");
                }
            }
        }
        for (out, at) in self.output.out.iter().zip(pairs) {
            if out.path().is_none() {
                output::print(&answer.results[*at].outcome)?;
            }
        }
        Ok(())
    }
}

/// What the request was to take. It is no part of the result: where nobody says, the report does without.
async fn bill(
    client: &mut ComputeServiceClient<Authorized>,
    request: &pb::ComputeRequest,
) -> Option<pb::Bill> {
    let answer = client.explain(pb::ExplainRequest { request: Some(request.clone()) }).await;
    answer.ok()?.into_inner().bill
}

/// Writes every file into its hidden place.
fn write(
    answer: &Answer,
    pairs: &[usize],
    output: &OutputArgs,
    report: Option<&Path>,
    context: &Context,
    staging: &Staging,
) -> Result<Vec<String>, Failure> {
    let mut notes = Vec::new();
    for (out, at) in output.out.iter().zip(pairs) {
        if let Some(path) = out.path() {
            notes.extend(out.write(&staging.stage(path)?, &answer.results[*at], output)?);
        }
    }
    if let Some(path) = &output.properties {
        write_properties(&staging.stage(path)?, path, &answer.results)?;
    }
    if let Some(path) = report {
        report::write(&staging.stage(path)?, path, answer, context)?;
    }
    Ok(notes)
}
