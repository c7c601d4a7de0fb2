//! Puts a stream's messages together to whole results. A stream without a summary is no result.

use std::collections::BTreeMap;
use std::sync::Arc;

use graticule_common::block::{Block, Kind, Samples};
use graticule_common::error::ErrorClass;
use graticule_common::grid::{Grid, TileId, TileSize};
use graticule_common::literal::Literal;
use graticule_common::ops::Props;
use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::compute_response::Message;
use graticule_common::wire;
use tonic::{Status, Streaming};

use crate::failure::Failure;
use crate::progress::Progress;

/// A result, whole.
#[derive(Debug)]
pub enum Outcome {
    /// A number or a list for the whole area.
    Value(Literal),
    /// Pixels.
    Raster {
        /// Where they lie.
        grid: Grid,
        /// The pixels.
        block: Block,
        /// Their metadata.
        props: Props,
    },
}

/// A result with its name.
#[derive(Debug)]
pub struct Finished {
    /// Its name; empty where the graft gives one result.
    pub name: String,
    /// The result.
    pub outcome: Outcome,
    /// What its bands mean; empty where nothing is known.
    pub bands: Vec<pb::BandMeaning>,
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    /// What came first.
    pub header: pb::Header,
    /// The results, in the header's order.
    pub results: Vec<Finished>,
    /// What came last.
    pub summary: pb::Summary,
}

/// What the stream's messages come from.
pub trait Messages {
    /// The next one; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<pb::ComputeResponse>, Status>> + Send;
}

impl Messages for Streaming<pb::ComputeResponse> {
    async fn next(&mut self) -> Result<Option<pb::ComputeResponse>, Status> {
        self.message().await
    }
}

/// Receives an answer. `check` sees the header before any pixel is computed for nothing.
pub async fn receive(
    mut answers: impl Messages,
    check: impl FnOnce(&pb::Header) -> Result<(), Failure>,
    progress: &mut Progress,
) -> Result<Answer, Failure> {
    let next = answers.next().await.map_err(|status| Failure::status(&status))?;
    let header = match next.and_then(|answer| answer.message) {
        Some(Message::Header(header)) => header,
        Some(_) => return Err(nonsense("messages out of order")),
        None => return Err(ended_early()),
    };
    check(&header)?;
    progress.tiles(header.tiles);
    let mut assembly = Assembly::new(&header)?;
    while let Some(answer) = answers.next().await.map_err(|status| Failure::status(&status))? {
        match answer.message {
            Some(Message::Chunk(chunk)) => {
                progress.bytes(chunk.data.len() as u64);
                if assembly.add(chunk)? {
                    progress.tile();
                }
            }
            Some(Message::Summary(summary)) => {
                let results = assembly.finish(&header)?;
                return Ok(Answer { header, results, summary });
            }
            _ => return Err(nonsense("messages out of order")),
        }
    }
    Err(ended_early())
}

fn ended_early() -> Failure {
    Failure::new(ErrorClass::Unavailable, "the coordinator's answer ended early; nothing was written")
}

fn nonsense(what: &str) -> Failure {
    Failure::new(ErrorClass::Internal, format!("the coordinator's answer makes no sense: {what}"))
}

/// Kind of a result; `None` for a number or a list.
pub fn kind_of(result: &pb::Result) -> Option<Kind> {
    result.shape.as_ref().map(|shape| wire::kind_from(Some(shape)))
}

/// Whole grids that grow by tiles.
struct Assembly {
    /// Absent where no result has pixels.
    place: Option<(Grid, TileSize)>,
    /// Results with pixels, in the header's order.
    rasters: Vec<Pixels>,
    /// Pieces of tiles that are not complete.
    pieces: BTreeMap<TileId, Vec<u8>>,
    tiles: u64,
}

struct Pixels {
    kind: Kind,
    samples: Samples,
    valid: Vec<u8>,
}

impl Assembly {
    fn new(header: &pb::Header) -> Result<Self, Failure> {
        if header.results.is_empty() {
            return Err(nonsense("a header without a result"));
        }
        let mut place = None;
        let mut rasters = Vec::new();
        for result in &header.results {
            let Some(kind) = kind_of(result) else { continue };
            let grid = header.grid.as_ref().ok_or_else(|| nonsense("no grid"))?;
            let grid = wire::grid_from(grid).map_err(Failure::of)?;
            let size = TileSize::new(header.tile_size).ok_or_else(|| nonsense("no tile size"))?;
            let dtype = wire::dtype_from(result.data_type).map_err(Failure::of)?;
            let (samples, valid) = Block::invalid(kind, dtype, (grid.rows(), grid.cols())).into_parts();
            rasters.push(Pixels { kind, samples, valid });
            place = Some((grid, size));
        }
        Ok(Assembly { place, rasters, pieces: BTreeMap::new(), tiles: 0 })
    }

    /// Adds a piece; whether its tile is complete now.
    fn add(&mut self, chunk: pb::TileChunk) -> Result<bool, Failure> {
        let tile = wire::tile_from(chunk.tile.as_ref()).map_err(Failure::of)?;
        let bytes = self.pieces.entry(tile).or_default();
        if bytes.len() as u64 != chunk.offset {
            return Err(nonsense("a gap in a tile"));
        }
        bytes.extend_from_slice(&chunk.data);
        if (bytes.len() as u64) < chunk.total {
            return Ok(false);
        }
        let bytes = self.pieces.remove(&tile).unwrap_or_default();
        self.place(tile, &bytes)?;
        self.tiles += 1;
        Ok(true)
    }

    fn place(&mut self, tile: TileId, bytes: &[u8]) -> Result<(), Failure> {
        let (grid, size) = self.place.as_ref().ok_or_else(|| nonsense("tiles of a number"))?;
        let window = grid.tiling(*size).window(tile).ok_or_else(|| nonsense("a tile outside the grid"))?;
        let mut rest = bytes;
        for raster in &mut self.rasters {
            let (block, after) = Block::decode_front(rest).map_err(Failure::of)?;
            rest = after;
            if block.kind() != raster.kind || block.shape() != (window.rows, window.cols) {
                return Err(nonsense("a tile of another shape"));
            }
            raster.place(grid, &window, &block)?;
        }
        if rest.is_empty() { Ok(()) } else { Err(nonsense("more in a tile than its results")) }
    }

    fn finish(self, header: &pb::Header) -> Result<Vec<Finished>, Failure> {
        if self.tiles != header.tiles || !self.pieces.is_empty() {
            return Err(nonsense("tiles are missing"));
        }
        let mut rasters = self.rasters.into_iter();
        let finished = |result: &pb::Result| {
            let outcome = match (kind_of(result), &result.number, &self.place) {
                (Some(_), _, Some((grid, _))) => {
                    let Pixels { kind, samples, valid } =
                        rasters.next().ok_or_else(|| nonsense("a result is missing"))?;
                    let mut dicts = result.properties.iter().map(wire::properties_from);
                    let props = match kind.images() {
                        Some(_) => Props::many(dicts.map(Arc::new).collect()),
                        None => dicts.next().map_or_else(Props::none, Props::one),
                    };
                    let block = Block::new(kind, (grid.rows(), grid.cols()), samples, valid);
                    Outcome::Raster { grid: grid.clone(), block, props }
                }
                (None, Some(number), _) => Outcome::Value(wire::literal_from(number)),
                _ => return Err(nonsense("a result without shape and value")),
            };
            Ok(Finished { name: result.name.clone(), outcome, bands: result.bands.clone() })
        };
        header.results.iter().map(finished).collect()
    }
}

impl Pixels {
    fn place(
        &mut self,
        grid: &Grid,
        window: &graticule_common::grid::Window,
        block: &Block,
    ) -> Result<(), Failure> {
        let whole = grid.window();
        let cols = window.cols as usize;
        for plane in 0..self.kind.planes() {
            for row in 0..window.rows as usize {
                let from = plane * window.pixels() + row * cols;
                let row_in_grid = (window.row - whole.row) as usize + row;
                let to = plane * whole.pixels()
                    + row_in_grid * whole.cols as usize
                    + (window.col - whole.col) as usize;
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
}
