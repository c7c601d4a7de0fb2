//! `graticule compute`: run a graft on an area, write files, say what was done.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use graticule_common::block::{Block, DType, Samples};
use graticule_common::error::ErrorClass;
use graticule_common::grid::{Grid, TileId, TileSize};
use graticule_common::ops::Props;
use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::compute_response::Message;
use graticule_common::wire;
use graticule_coordinator::render::Colormap;
use tokio::signal::unix::{SignalKind, signal};
use tonic::Streaming;

use crate::Global;
use crate::failure::{Failure, say};
use crate::output::{Outcome, Output, write_properties};
use crate::request::RequestArgs;

/// Compute a graft and write the pixels.
#[derive(Args, Debug)]
pub struct Compute {
    #[command(flatten)]
    request: RequestArgs,
    /// File to write; may be given several times. .tif: GeoTIFF (invalid: NaN, or 255 for truth values),
    /// .png: picture, .npz: numpy arrays `data` and `mask` (True = invalid)
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    out: Vec<Output>,
    /// File for the result's metadata, as JSON
    #[arg(long, value_name = "FILE.json", help_heading = "Result")]
    properties: Option<PathBuf>,
    /// Colours of a one-band picture: viridis, RdYlGn
    #[arg(long, value_name = "NAME", default_value = "viridis", help_heading = "Result", value_parser = colormap)]
    colormap: Colormap,
    /// Say nothing but errors
    #[arg(long, help_heading = "Result")]
    quiet: bool,
}

fn colormap(name: &str) -> Result<Colormap, String> {
    Colormap::from_name(name).map_err(|error| error.to_string())
}

impl Compute {
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        // From here on an interrupt is an error like any other, and leaves nothing behind.
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| {
            Failure::new(ErrorClass::Internal, format!("cannot listen for signals: {error}"))
        })?;
        let request = self.request.message()?;
        // Found out now, not after minutes of computing.
        for path in self.out.iter().map(Output::path).chain(self.properties.as_deref()) {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            if folder.is_some_and(|folder| !folder.is_dir()) || path.is_dir() {
                return Err(Failure::file(path, "write", "no such folder, or a folder of this name"));
            }
        }
        let computing = async {
            let (mut client, engine) = self.request.connect(global).await?;
            let answers = client.compute(request).await.map_err(|status| Failure::status(&status))?;
            Ok::<_, Failure>((receive(answers.into_inner()).await?, engine))
        };
        let ((outcome, header, summary), engine) = tokio::select! {
            result = computing => result?,
            _ = interrupt.recv() => {
                return Err(Failure::new(ErrorClass::Cancelled, "interrupted; nothing was written"));
            }
        };
        let outcome = Arc::new(outcome);
        let written = {
            let (outcome, out, properties, colormap) =
                (outcome.clone(), self.out.clone(), self.properties.clone(), self.colormap);
            // Short, and on a thread of its own: an interrupt now waits until the files are complete.
            tokio::task::spawn_blocking(move || {
                out.iter().try_for_each(|out| out.write(&outcome, colormap))?;
                properties.iter().try_for_each(|path| write_properties(path, &outcome))
            })
        };
        written.await.map_err(|error| Failure::new(ErrorClass::Internal, error))??;
        if !self.quiet {
            report(&outcome, &header, &summary)?;
            for path in self.out.iter().map(Output::path).chain(self.properties.as_deref()) {
                say!("wrote    {}", path.display());
            }
        }
        match engine {
            Some(engine) => engine.stop().await,
            None => Ok(()),
        }
    }
}

/// Puts a stream's messages together. A stream without a summary is no result.
async fn receive(
    mut answers: Streaming<pb::ComputeResponse>,
) -> Result<(Outcome, pb::Header, pb::Summary), Failure> {
    let mut header: Option<pb::Header> = None;
    let mut assembly: Option<Assembly> = None;
    while let Some(answer) = answers.message().await.map_err(|status| Failure::status(&status))? {
        match (answer.message, &mut assembly) {
            (Some(Message::Header(received)), None) if header.is_none() => {
                if received.results.first().is_some_and(|result| result.number.is_none()) {
                    assembly = Some(Assembly::new(&received)?);
                }
                header = Some(received);
            }
            (Some(Message::Chunk(chunk)), Some(assembly)) => assembly.add(chunk)?,
            (Some(Message::Summary(summary)), _) => {
                let header = header.ok_or_else(|| nonsense("a summary without a header"))?;
                let number = header.results.first().and_then(|result| result.number.as_ref());
                let outcome = match (assembly, number) {
                    (Some(assembly), _) => assembly.finish(&header)?,
                    (None, Some(number)) => Outcome::Number(wire::literal_from(number)),
                    (None, None) => return Err(nonsense("a header without a result")),
                };
                return Ok((outcome, header, summary));
            }
            _ => return Err(nonsense("messages out of order")),
        }
    }
    Err(Failure::new(ErrorClass::Unavailable, "the coordinator's answer ended early; nothing was written"))
}

fn nonsense(what: &str) -> Failure {
    Failure::new(ErrorClass::Internal, format!("the coordinator's answer makes no sense: {what}"))
}

/// A whole grid that grows by tiles.
struct Assembly {
    grid: Grid,
    size: TileSize,
    samples: Samples,
    valid: Vec<u8>,
    kind: graticule_common::block::Kind,
    /// Pieces of tiles that are not complete.
    pieces: BTreeMap<TileId, Vec<u8>>,
    tiles: u64,
}

impl Assembly {
    fn new(header: &pb::Header) -> Result<Self, Failure> {
        let grid = header.grid.as_ref().ok_or_else(|| nonsense("no grid"))?;
        let grid = wire::grid_from(grid).map_err(Failure::of)?;
        let result = header.results.first().ok_or_else(|| nonsense("no result"))?;
        let dtype = wire::dtype_from(result.data_type).map_err(Failure::of)?;
        let kind = wire::kind_from(result.shape.as_ref());
        let size = TileSize::new(header.tile_size).ok_or_else(|| nonsense("no tile size"))?;
        let (samples, valid) = Block::invalid(kind, dtype, (grid.rows(), grid.cols())).into_parts();
        Ok(Assembly { grid, size, samples, valid, kind, pieces: BTreeMap::new(), tiles: 0 })
    }

    fn add(&mut self, chunk: pb::TileChunk) -> Result<(), Failure> {
        let tile = wire::tile_from(chunk.tile.as_ref()).map_err(Failure::of)?;
        let bytes = self.pieces.entry(tile).or_default();
        if bytes.len() as u64 != chunk.offset {
            return Err(nonsense("a gap in a tile"));
        }
        bytes.extend_from_slice(&chunk.data);
        if (bytes.len() as u64) < chunk.total {
            return Ok(());
        }
        let block = Block::decode(bytes).map_err(Failure::of)?;
        self.pieces.remove(&tile);
        self.tiles += 1;
        self.place(tile, &block)
    }

    fn place(&mut self, tile: TileId, block: &Block) -> Result<(), Failure> {
        let grid = self.grid.window();
        let window =
            self.grid.tiling(self.size).window(tile).ok_or_else(|| nonsense("a tile outside the grid"))?;
        if block.kind() != self.kind || block.shape() != (window.rows, window.cols) {
            return Err(nonsense("a tile of another shape"));
        }
        let cols = window.cols as usize;
        for plane in 0..self.kind.planes() {
            for row in 0..window.rows as usize {
                let from = plane * window.pixels() + row * cols;
                let row_in_grid = (window.row - grid.row) as usize + row;
                let to = plane * grid.pixels()
                    + row_in_grid * grid.cols as usize
                    + (window.col - grid.col) as usize;
                self.valid[to..to + cols].copy_from_slice(&block.valid()[from..from + cols]);
                match (&mut self.samples, block.samples()) {
                    (Samples::F32(out), Samples::F32(values)) => {
                        out[to..to + cols].copy_from_slice(&values[from..from + cols]);
                    }
                    (Samples::Bool(out), Samples::Bool(values)) => {
                        out[to..to + cols].copy_from_slice(&values[from..from + cols]);
                    }
                    _ => return Err(nonsense("a tile of another type")),
                }
            }
        }
        Ok(())
    }

    fn finish(self, header: &pb::Header) -> Result<Outcome, Failure> {
        if self.tiles != header.tiles || !self.pieces.is_empty() {
            return Err(nonsense("tiles are missing"));
        }
        let results = header.results.iter().flat_map(|result| &result.properties);
        let mut dicts = results.map(wire::properties_from);
        let props = match self.kind.images() {
            Some(_) => Props::many(dicts.map(Arc::new).collect()),
            None => dicts.next().map_or_else(Props::none, Props::one),
        };
        let block = Block::new(self.kind, (self.grid.rows(), self.grid.cols()), self.samples, self.valid);
        Ok(Outcome::Raster { grid: self.grid, block, props })
    }
}

/// Says on standard output what was done.
fn report(outcome: &Outcome, header: &pb::Header, summary: &pb::Summary) -> Result<(), Failure> {
    match outcome {
        Outcome::Number(number) => say!("number   {number}"),
        Outcome::Raster { grid, block, props } => {
            say!("grid     {grid}");
            let names = props.bands().map_or(String::new(), |names| format!(" ({})", names.join(", ")));
            say!("result   {} of {}{names}", block.kind(), block.samples().dtype().name());
            let dates: Vec<&str> = header.scenes.iter().map(|scene| scene.acquired.as_str()).collect();
            if let (Some(first), Some(last)) = (dates.first(), dates.last()) {
                let distinct: std::collections::BTreeSet<&str> = dates.iter().copied().collect();
                let (scenes, day) = (dates.len(), |date: &str| date.get(..10).unwrap_or(date).to_owned());
                say!("dates    {} from {} to {} ({scenes} scenes)", distinct.len(), day(first), day(last));
            }
            say!("values   {}", statistics(block));
        }
    }
    say!(
        "work     {:.2} s, {} tiles on {} workers, {} bytes read ({:.2} s reading, {:.2} s computing), {} of {} cache look-ups hit{}",
        summary.wall_ms / 1e3,
        summary.tiles,
        summary.workers,
        summary.read_bytes,
        summary.read_ms / 1e3,
        summary.eval_ms / 1e3,
        summary.cache_hits,
        summary.cache_hits + summary.cache_misses,
        if summary.retries > 0 { format!(", {} tiles tried again", summary.retries) } else { String::new() },
    );
    Ok(())
}

/// Share of valid values, and their range.
fn statistics(block: &Block) -> String {
    let valid = block.valid().iter().filter(|valid| **valid == 1).count();
    let share = 100.0 * valid as f64 / block.valid().len().max(1) as f64;
    let of = |values: &mut dyn Iterator<Item = f64>| {
        let (mut min, mut max, mut sum) = (f64::INFINITY, f64::NEG_INFINITY, 0.0);
        for value in values {
            (min, max, sum) = (min.min(value), max.max(value), sum + value);
        }
        format!("{share:.1} % valid, min {min:.6}, mean {:.6}, max {max:.6}", sum / valid as f64)
    };
    let is_valid = |at: &usize| block.valid()[*at] == 1;
    match block.samples() {
        _ if valid == 0 => "0.0 % valid".to_owned(),
        Samples::F32(values) => of(&mut (0..values.len()).filter(is_valid).map(|at| f64::from(values[at]))),
        Samples::Bool(values) => {
            let hits = (0..values.len()).filter(is_valid).filter(|at| values[*at] == 1).count();
            debug_assert_eq!(block.samples().dtype(), DType::Bool);
            format!("{share:.1} % valid, {:.1} % of them true", 100.0 * hits as f64 / valid as f64)
        }
    }
}
