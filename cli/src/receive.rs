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
    let header = loop {
        let next = answers.next().await.map_err(|status| Failure::status(&status))?;
        match next.and_then(|answer| answer.message) {
            Some(Message::Progress(stage)) => progress.stage(&stage),
            Some(Message::Header(header)) => break header,
            Some(_) => return Err(nonsense("messages out of order")),
            None => return Err(ended_early()),
        }
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

/// Kind of a result; a list counts as a number.
pub fn kind_of(result: &pb::Result) -> Result<Kind, Failure> {
    match &result.array {
        Some(array) => Ok(Block::decode(array).map_err(Failure::of)?.kind()),
        None => Ok(wire::kind_from(result.shape.as_ref())),
    }
}

/// The pixels' kind of a result that has some.
fn raster_kind(result: &pb::Result) -> Option<Kind> {
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
            let Some(kind) = raster_kind(result) else { continue };
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
                (None, Some(array), _, _) => {
                    Outcome::Array { block: Block::decode(array).map_err(Failure::of)?, props }
                }
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

#[cfg(test)]
mod tests {
    use graticule_common::block::DType;
    use graticule_common::grid::{Crs, Lattice, Window};

    use super::*;

    /// Messages made by hand.
    struct Made(std::vec::IntoIter<Message>);

    impl Messages for Made {
        async fn next(&mut self) -> Result<Option<pb::ComputeResponse>, Status> {
            Ok(self.0.next().map(|message| pb::ComputeResponse { message: Some(message) }))
        }
    }

    async fn received(messages: Vec<Message>) -> Result<Answer, Failure> {
        receive(Made(messages.into_iter()), |_| Ok(()), &mut Progress::new(true)).await
    }

    fn array(values: [f32; 4], valid: [u8; 4]) -> Block {
        let shape = graticule_common::block::ArrayShape::new(&[2, 2], true).unwrap();
        Block::new(Kind::Array(shape), (1, 1), Samples::F32(values.to_vec()), valid.to_vec())
    }

    #[tokio::test]
    async fn progress_comes_before_the_header_and_arrays_in_it() {
        let block = array([1.5, f32::NAN, 0.0, f32::INFINITY], [1, 1, 0, 1]);
        let of_array = |array: &[u8]| pb::Result {
            array: Some(array.to_vec()),
            property_list: true,
            properties: vec![pb::ValueMap::default(); 2],
            ..pb::Result::default()
        };
        let stage = Message::Progress(pb::Progress { stage: 1, stages: 1, done: 3, tiles: 12 });
        let header = |array: &[u8]| {
            Message::Header(pb::Header { results: vec![of_array(array)], ..pb::Header::default() })
        };
        let end = Message::Summary(pb::Summary { tiles: 12, ..pb::Summary::default() });
        let whole = vec![stage.clone(), stage.clone(), header(&block.encode()), end.clone()];
        let answer = received(whole).await.unwrap();
        let Outcome::Array { block: arrived, props } = &answer.results[0].outcome else { panic!() };
        assert_eq!((arrived.encode(), props.images()), (block.encode(), Some(2)));
        let late = vec![header(&block.encode()), stage, end.clone()];
        assert_eq!(received(late).await.unwrap_err().code, 70, "progress of a stage after the last");
        let damaged = vec![header(&block.encode()[..30]), end];
        assert_eq!(received(damaged).await.unwrap_err().code, 70);
    }

    /// Three results on a grid of 1 x 40 pixels in two tiles: a mosaic, a number, a stack of truth values.
    fn header() -> pb::Header {
        let lattice = Lattice::try_new(Crs::from_canonical("EPSG:32613"), (1.0, 1.0), (0.0, 0.0)).unwrap();
        let grid = Grid::from_window(lattice, Window { row: 0, col: 0, rows: 1, cols: 40 });
        let raster = |name: &str, images, bands, dtype| pb::Result {
            name: name.into(),
            shape: Some(pb::Shape { images, bands }),
            property_list: images.is_some(),
            data_type: wire::dtype_to(dtype).into(),
            ..pb::Result::default()
        };
        let number = pb::Result {
            name: "n".into(),
            number: Some(wire::literal_to(&Literal::Int(7))),
            ..pb::Result::default()
        };
        pb::Header {
            grid: Some(wire::grid_to(&grid)),
            results: vec![raster("m", None, 1, DType::F32), number, raster("s", Some(2), 1, DType::Bool)],
            tile_size: 32,
            tiles: 2,
            scenes: Vec::new(),
        }
    }

    /// The bytes of a tile: the mosaic holds columns, the stack whether they are even.
    fn tile(cols: std::ops::Range<u32>) -> Vec<u8> {
        let shape = (1, cols.len() as u32);
        let columns = Samples::F32(cols.clone().map(|col| col as f32).collect());
        let valid = cols.clone().map(|col| u8::from(col != 3)).collect();
        let mosaic = Block::new(Kind::Mosaic { bands: 1 }, shape, columns, valid);
        let even: Vec<u8> = cols.map(|col| u8::from(col.is_multiple_of(2))).collect();
        let stack = Samples::Bool([even.clone(), even].concat());
        let valid = vec![1; 2 * shape.1 as usize];
        let stack = Block::new(Kind::Stack { images: 2, bands: 1 }, shape, stack, valid);
        [mosaic.encode(), stack.encode()].concat()
    }

    fn pieces(col: i64, bytes: &[u8]) -> Vec<Message> {
        let half = bytes.len() / 2;
        let piece = |from: usize, to: usize| {
            Message::Chunk(pb::TileChunk {
                tile: Some(wire::tile_to(TileId { row: 0, col })),
                offset: from as u64,
                total: bytes.len() as u64,
                data: bytes[from..to].to_vec().into(),
            })
        };
        vec![piece(0, half), piece(half, bytes.len())]
    }

    fn summary() -> Message {
        Message::Summary(pb::Summary { tiles: 2, ..pb::Summary::default() })
    }

    #[tokio::test]
    async fn several_results_come_in_the_same_tiles() {
        let (mut messages, first) = (vec![Message::Header(header())], pieces(0, &tile(0..32)));
        // Tiles come in any order, their pieces interleaved.
        let second = pieces(1, &tile(32..40));
        messages.extend([
            second[0].clone(),
            first[0].clone(),
            first[1].clone(),
            second[1].clone(),
            summary(),
        ]);
        let answer = received(messages).await.unwrap();
        let [m, n, s] = &answer.results[..] else { panic!("{:?}", answer.results) };
        assert_eq!([&m.name, &n.name, &s.name], ["m", "n", "s"]);
        let Outcome::Raster { block, grid, .. } = &m.outcome else { panic!() };
        assert_eq!((grid.cols(), block.valid()[3], block.valid()[4]), (40, 0, 1));
        let Samples::F32(values) = block.samples() else { panic!() };
        assert_eq!((values[4], values[39]), (4.0, 39.0));
        assert!(matches!(&n.outcome, Outcome::Value { literal: Literal::Int(7), .. }));
        let Outcome::Raster { block, .. } = &s.outcome else { panic!() };
        let Samples::Bool(values) = block.samples() else { panic!() };
        assert_eq!((values[38], values[39], values[78], values[79]), (1, 0, 1, 0));
    }

    #[tokio::test]
    async fn what_is_not_whole_is_no_result() {
        let (first, second) = (pieces(0, &tile(0..32)), pieces(1, &tile(32..40)));
        let head = || vec![Message::Header(header())];
        let code = async |messages| received(messages).await.unwrap_err().code;
        assert_eq!(code(vec![]).await, 9);
        assert_eq!(code([head(), first.clone(), second.clone()].concat()).await, 9, "no summary");
        assert_eq!(code([head(), first.clone(), vec![summary()]].concat()).await, 70, "a tile is missing");
        assert_eq!(code([head(), first.clone(), second[1..].to_vec()].concat()).await, 70, "a gap");
        let wrong = pieces(1, &tile(31..40));
        assert_eq!(code([head(), first.clone(), wrong].concat()).await, 70, "another shape");
        let longer = pieces(1, &[tile(32..40), tile(32..40)].concat());
        assert_eq!(code([head(), longer].concat()).await, 70, "more than the results");
        assert_eq!(code(vec![summary()]).await, 70, "no header");
        assert_eq!(code([head(), head()].concat()).await, 70, "two headers");
    }

    #[tokio::test]
    async fn what_the_check_refuses_is_not_waited_for() {
        let refuse = |_: &pb::Header| Err(Failure::usage("no"));
        let messages = Made(vec![Message::Header(header())].into_iter());
        let failure = receive(messages, refuse, &mut Progress::new(true)).await.unwrap_err();
        assert_eq!(failure.code, 2);
    }
}
