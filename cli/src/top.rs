//! `graticule top`: what a coordinator, its workers and its requests are doing.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use graticule_common::error::ErrorClass;
use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::fleet_service_client::FleetServiceClient;
use graticule_common::transport::Authorized;

use crate::failure::{Failure, say};
use crate::interrupt::Interrupt;
use crate::tls::ConnectArgs;

mod table;

use table::{Sample, lines};

/// Watch a coordinator.
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub struct Top {
    /// Coordinator to ask
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4000", env = "GRATICULE_ENDPOINT")]
    endpoint: String,
    #[command(flatten)]
    connect: ConnectArgs,
    /// Seconds from one table to the next
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = interval)]
    interval: f64,
    /// One table, and no rates, which need two
    #[arg(long)]
    once: bool,
    /// One JSON object a line instead of tables
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
On a terminal the table is drawn anew, elsewhere one follows the other; Ctrl-C ends it.
Each coordinator tells of its own requests; of its workers it tells what they do for it.
docs/operate.md explains the columns.";

/// Bounds of the time between tables, in seconds.
const INTERVAL_MIN: f64 = 0.1;
const INTERVAL_MAX: f64 = 3600.0;

/// Time for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Where the size of the terminal is not known: the least that the tables are made for.
const COLUMNS: usize = 80;

fn interval(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is not a number of seconds"))?;
    if (INTERVAL_MIN..=INTERVAL_MAX).contains(&seconds) {
        return Ok(seconds);
    }
    Err(format!("{INTERVAL_MIN} to {INTERVAL_MAX} seconds"))
}

impl Top {
    pub async fn run(self) -> Result<(), Failure> {
        let mut interrupt = Interrupt::listen()?;
        tokio::select! {
            result = self.watch() => result,
            () = interrupt.next() => Ok(()),
        }
    }

    async fn watch(&self) -> Result<(), Failure> {
        let mut client = self.connect()?;
        let is_live = !self.json && !self.once && std::io::stdout().is_terminal();
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(self.interval));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut earlier: Option<Sample> = None;
        loop {
            ticks.tick().await;
            let now = match (self.sample(&mut client).await, &earlier) {
                (Ok(now), _) => now,
                // Who has seen it once sees it come back.
                (Err(failure), Some(_)) if !self.once => {
                    eprintln!("graticule: {}", failure.message);
                    continue;
                }
                (Err(failure), _) => return Err(failure),
            };
            // A coordinator that began anew counts from nothing.
            let before = earlier.as_ref().filter(|earlier| earlier.precedes(&now));
            if self.json {
                say!("{}", table::json(before, &now));
            } else if is_live {
                draw(&lines(before, &now, columns()))?;
            } else {
                let mut text = lines(before, &now, COLUMNS);
                if !self.once {
                    text.push(String::new());
                }
                for line in text {
                    say!("{line}");
                }
            }
            if self.once {
                return Ok(());
            }
            earlier = Some(now);
        }
    }

    fn connect(&self) -> Result<FleetServiceClient<Authorized>, Failure> {
        let target = self.connect.target(&self.endpoint)?.tuned(|endpoint| endpoint.timeout(ANSWER_WITHIN));
        Ok(FleetServiceClient::new(target.connect_lazy()))
    }

    async fn sample(&self, client: &mut FleetServiceClient<Authorized>) -> Result<Sample, Failure> {
        match client.describe(pb::DescribeRequest {}).await {
            Ok(answer) => Ok(Sample::new(answer.into_inner())),
            Err(status) => {
                let failure = Failure::status(&status);
                let message = format!("`{}` does not say: {}", self.endpoint, failure.message);
                Err(Failure { message, ..failure })
            }
        }
    }
}

/// Columns and rows of the terminal.
fn size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col.into(), size.ws_row.into()))
}

fn columns() -> usize {
    size().map_or(COLUMNS, |(columns, _)| columns)
}

/// Draws over what is there: home, each line to its end, and away with what is below.
fn draw(lines: &[String]) -> Result<(), Failure> {
    // The last row stays free, so that nothing scrolls.
    let rows = size().map_or(usize::MAX, |(_, rows)| rows.saturating_sub(1).max(1));
    let mut text = String::from("\x1b[H");
    for (at, line) in lines.iter().take(rows).enumerate() {
        let is_last = at + 1 == rows && lines.len() > rows;
        text += if is_last { "…" } else { line };
        text += "\x1b[K\n";
    }
    text += "\x1b[J";
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written
        .map_err(|error| Failure::new(ErrorClass::Internal, format!("cannot write to the terminal: {error}")))
}
