//! Puts a result's messages together to whole results: for a client of gRPC, and for the coordinator where
//! it answers over HTTP. A stream without a summary is no result.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::block::{Block, BlockError, Kind, Samples};
use crate::error::{Classify, ErrorClass};
use crate::grid::{Grid, TileId, TileSize, Window};
use crate::literal::Literal;
use crate::ops::Props;
use crate::proto::v1 as pb;
use crate::wire::{self, WireError};

/// A result, whole.
#[derive(Debug)]
pub enum Outcome {
    /// A number or a list for the whole area.
    Value {
        /// It.
        literal: Literal,
        /// Its metadata.
        props: Props,
    },
    /// A small array for the whole area.
    Array {
        /// Its values.
        block: Block,
        /// Their metadata.
        props: Props,
    },
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

/// Messages that make no result.
#[derive(Debug, thiserror::Error)]
pub enum AssemblyError {
    /// They contradict one another.
    #[error("the coordinator's answer makes no sense: {0}")]
    Nonsense(&'static str),
    /// They come in another order than the protocol's.
    #[error("the coordinator's answer makes no sense: messages out of order")]
    OutOfOrder,
    /// They stop before the summary.
    #[error("the coordinator's answer ended early; nothing was written")]
    EndedEarly,
    /// A message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The bytes of a tile.
    #[error(transparent)]
    Block(#[from] BlockError),
}

impl Classify for AssemblyError {
    fn class(&self) -> ErrorClass {
        match self {
            AssemblyError::Nonsense(_) | AssemblyError::OutOfOrder => ErrorClass::Internal,
            AssemblyError::EndedEarly => ErrorClass::Unavailable,
            AssemblyError::Wire(error) => error.class(),
            AssemblyError::Block(error) => error.class(),
        }
    }
}

fn nonsense(what: &'static str) -> AssemblyError {
    AssemblyError::Nonsense(what)
}

/// Kind of a result; a list counts as a number.
///
/// # Errors
/// [`AssemblyError::Block`] for an array that is none.
pub fn kind_of(result: &pb::Result) -> Result<Kind, AssemblyError> {
    match &result.array {
        Some(array) => Ok(Block::decode(array)?.kind()),
        None => Ok(wire::kind_from(result.shape.as_ref())),
    }
}

/// The pixels' kind of a result that has some.
fn raster_kind(result: &pb::Result) -> Option<Kind> {
    result.shape.as_ref().map(|shape| wire::kind_from(Some(shape)))
}

/// Whole grids that grow by tiles.
#[derive(Debug)]
pub struct Assembly {
    /// Absent where no result has pixels.
    place: Option<(Grid, TileSize)>,
    /// Results with pixels, in the header's order.
    rasters: Vec<Pixels>,
    /// Pieces of tiles that are not complete.
    pieces: BTreeMap<TileId, Vec<u8>>,
    tiles: u64,
}

#[derive(Debug)]
struct Pixels {
    kind: Kind,
    samples: Samples,
    valid: Vec<u8>,
}

impl Assembly {
    /// Grids without a valid pixel, as large as the header says.
    ///
    /// # Errors
    /// [`AssemblyError`] for a header that makes no sense.
    pub fn new(header: &pb::Header) -> Result<Self, AssemblyError> {
        if header.results.is_empty() {
            return Err(nonsense("a header without a result"));
        }
        let mut place = None;
        let mut rasters = Vec::new();
        for result in &header.results {
            let Some(kind) = raster_kind(result) else { continue };
            let grid = header.grid.as_ref().ok_or_else(|| nonsense("no grid"))?;
            let grid = wire::grid_from(grid)?;
            let size = TileSize::new(header.tile_size).ok_or_else(|| nonsense("no tile size"))?;
            let dtype = wire::dtype_from(result.data_type)?;
            let (samples, valid) = Block::invalid(kind, dtype, (grid.rows(), grid.cols())).into_parts();
            rasters.push(Pixels { kind, samples, valid });
            place = Some((grid, size));
        }
        Ok(Assembly { place, rasters, pieces: BTreeMap::new(), tiles: 0 })
    }

    /// Bytes that the results of a header take in memory, validity included.
    ///
    /// # Errors
    /// [`AssemblyError`] for a header that makes no sense.
    pub fn bytes(header: &pb::Header) -> Result<u64, AssemblyError> {
        let mut bytes = 0u64;
        for result in &header.results {
            let Some(kind) = raster_kind(result) else { continue };
            let grid = header.grid.as_ref().ok_or_else(|| nonsense("no grid"))?;
            let window = wire::grid_from(grid)?.window();
            let samples = (kind.planes() as u64).saturating_mul(window.pixels() as u64);
            let dtype = wire::dtype_from(result.data_type)?;
            bytes = bytes.saturating_add(samples.saturating_mul(dtype.bytes() + 1));
        }
        Ok(bytes)
    }

    /// Adds a piece; whether its tile is complete now.
    ///
    /// # Errors
    /// [`AssemblyError`] for a piece that does not fit.
    pub fn add(&mut self, chunk: pb::TileChunk) -> Result<bool, AssemblyError> {
        let tile = wire::tile_from(chunk.tile.as_ref())?;
        if chunk.offset == 0 && chunk.data.len() as u64 == chunk.total && !self.pieces.contains_key(&tile) {
            // Most tiles are one piece, which is not copied.
            self.place(tile, &chunk.data)?;
            self.tiles += 1;
            return Ok(true);
        }
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

    fn place(&mut self, tile: TileId, bytes: &[u8]) -> Result<(), AssemblyError> {
        let (grid, size) = self.place.as_ref().ok_or_else(|| nonsense("tiles of a number"))?;
        let window = grid.tiling(*size).window(tile).ok_or_else(|| nonsense("a tile outside the grid"))?;
        let mut rest = bytes;
        for raster in &mut self.rasters {
            let (block, after) = Block::decode_front(rest)?;
            rest = after;
            if block.kind() != raster.kind || block.shape() != (window.rows, window.cols) {
                return Err(nonsense("a tile of another shape"));
            }
            raster.place(grid, &window, block)?;
        }
        if rest.is_empty() { Ok(()) } else { Err(nonsense("more in a tile than its results")) }
    }

    /// The results, once everything has come.
    ///
    /// # Errors
    /// [`AssemblyError`] where something is missing.
    pub fn finish(self, header: &pb::Header) -> Result<Vec<Finished>, AssemblyError> {
        if self.tiles != header.tiles || !self.pieces.is_empty() {
            return Err(nonsense("tiles are missing"));
        }
        let mut rasters = self.rasters.into_iter();
        let finished = |result: &pb::Result| {
            let mut dicts = result.properties.iter().map(wire::properties_from);
            let props = if result.property_list {
                Props::many(dicts.map(Arc::new).collect())
            } else {
                dicts.next().map_or_else(Props::none, Props::one)
            };
            let outcome = match (raster_kind(result), &result.array, &result.number, &self.place) {
                (Some(_), _, _, Some((grid, _))) => {
                    let Pixels { kind, samples, valid } =
                        rasters.next().ok_or_else(|| nonsense("a result is missing"))?;
                    let block = Block::new(kind, (grid.rows(), grid.cols()), samples, valid);
                    Outcome::Raster { grid: grid.clone(), block, props }
                }
                (None, Some(array), _, _) => Outcome::Array { block: Block::decode(array)?, props },
                (None, None, Some(number), _) => {
                    Outcome::Value { literal: wire::literal_from(number), props }
                }
                _ => return Err(nonsense("a result without shape and value")),
            };
            Ok(Finished { name: result.name.clone(), outcome, bands: result.bands.clone() })
        };
        header.results.iter().map(finished).collect()
    }
}

impl Pixels {
    fn place(&mut self, grid: &Grid, window: &Window, block: Block) -> Result<(), AssemblyError> {
        let whole = grid.window();
        if *window == whole && block.samples().dtype() == self.samples.dtype() {
            (self.samples, self.valid) = block.into_parts();
            return Ok(());
        }
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
