//! What a terminal shows while a request is under way. In a pipe, a log or with `--quiet`: nothing.

use std::time::Duration;

use graticule_common::proto::v1 as pb;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A line on standard error that is gone when the work is done.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    received: u64,
}

/// Time between two movements.
const TICK: Duration = Duration::from_millis(120);

impl Progress {
    /// Starts with what comes first: planning.
    pub fn new(quiet: bool) -> Self {
        // Hidden by itself unless standard error is a terminal.
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(style("{spinner} {msg} {elapsed}"));
        bar.set_message("planning");
        bar.enable_steady_tick(TICK);
        Progress { bar, received: 0 }
    }

    /// A stage before the result's pixels goes on.
    pub fn stage(&self, stage: &pb::Progress) {
        if self.bar.length() != Some(stage.tiles) || self.bar.position() > stage.done {
            self.bar.reset_eta();
            self.bar.set_length(stage.tiles);
            self.bar.set_style(style("{spinner} {bar:30} {pos}/{len} tiles  {msg}  {elapsed} elapsed"));
        }
        self.bar.set_message(format!("stage {} of {}", stage.stage, stage.stages));
        self.bar.set_position(stage.done);
    }

    /// So many tiles will come.
    pub fn tiles(&self, tiles: u64) {
        self.bar.set_position(0);
        self.bar.set_length(tiles);
        self.bar
            .set_style(style("{spinner} {bar:30} {pos}/{len} tiles  {msg}  {elapsed} elapsed, {eta} left"));
        self.bar.set_message(size(0));
    }

    /// Bytes arrived.
    pub fn bytes(&mut self, bytes: u64) {
        self.received += bytes;
        self.bar.set_message(size(self.received));
    }

    /// A tile is complete.
    pub fn tile(&self) {
        if self.bar.position() == 0 {
            // Before the first tile nobody knows how long one takes.
            let template = "{spinner} {bar:30} {pos}/{len} tiles  {msg}  {elapsed} elapsed, {eta} left";
            self.bar.set_style(style(template));
        }
        self.bar.inc(1);
    }

    /// Files are being written.
    pub fn writing(&self) {
        self.bar.set_style(style("{spinner} {msg} {elapsed}"));
        self.bar.set_message("writing");
    }

    /// Takes the line away.
    pub fn done(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.done();
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

/// A number of bytes for people.
pub fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
