//! Receives a stream's messages: whole results, or a failure.

use graticule_common::assembly::{Assembly, AssemblyError};
use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::compute_response::Message;
use tonic::{Status, Streaming};

pub use graticule_common::assembly::{Finished, Outcome, kind_of};

use crate::failure::Failure;
use crate::progress::Progress;

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
            Some(_) => return Err(Failure::of(AssemblyError::OutOfOrder)),
            None => return Err(Failure::of(AssemblyError::EndedEarly)),
        }
    };
    check(&header)?;
    progress.tiles(header.tiles);
    let mut assembly = Assembly::new(&header).map_err(Failure::of)?;
    while let Some(answer) = answers.next().await.map_err(|status| Failure::status(&status))? {
        match answer.message {
            Some(Message::Chunk(chunk)) => {
                progress.bytes(chunk.data.len() as u64);
                if assembly.add(chunk).map_err(Failure::of)? {
                    progress.tile();
                }
            }
            Some(Message::Summary(summary)) => {
                let results = assembly.finish(&header).map_err(Failure::of)?;
                return Ok(Answer { header, results, summary });
            }
            _ => return Err(Failure::of(AssemblyError::OutOfOrder)),
        }
    }
    Err(Failure::of(AssemblyError::EndedEarly))
}

#[cfg(test)]
mod tests {
    use graticule_common::block::{Block, DType, Kind, Samples};
    use graticule_common::grid::{Crs, Grid, Lattice, TileId, Window};
    use graticule_common::literal::Literal;
    use graticule_common::wire;

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
            ..pb::Header::default()
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
