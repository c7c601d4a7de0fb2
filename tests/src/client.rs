//! A client: sends a request, puts the tiles together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use graticule_common::aoi::{Aoi, Geometry, Sampling};
use graticule_common::block::Block;
use graticule_common::grid::{TileId, TileSize, Window};
use graticule_common::ops::Facts;
use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::compute_response::Message;
use graticule_common::proto::v1::compute_service_client::ComputeServiceClient;
use graticule_common::status::class_of;
use graticule_common::transport::{Authorized, Target};
use graticule_common::wire;
use tonic::{Status, Streaming};

use crate::soon;
use crate::world::{Failure, assemble_on};

/// A request for a graft on a rectangle, in one CRS.
pub fn request(graft: &str, crs: &str, bounds: [f64; 4], resolution: f64) -> pb::ComputeRequest {
    let aoi = Aoi {
        geometry: Geometry::default(),
        bounds: Some(bounds),
        bounds_crs: None,
        crs: crs.to_owned(),
        sampling: Sampling::Resolution(resolution, resolution),
        align_pixels: false,
        all_touched: false,
    };
    let options = Some(pb::Options::default());
    pb::ComputeRequest {
        graft: graft.as_bytes().to_vec(),
        aoi: Some(wire::aoi_to(&aoi)),
        options,
        parameters: None,
    }
}

/// The same request with other options.
pub fn with(mut request: pb::ComputeRequest, set: impl FnOnce(&mut pb::Options)) -> pb::ComputeRequest {
    set(request.options.get_or_insert_default());
    request
}

/// A whole result.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What it is.
    pub header: pb::Header,
    /// Its pixels.
    pub block: Block,
    /// What it took.
    pub summary: pb::Summary,
}

/// Everything that arrived of a result, whole or not.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// First message.
    pub header: Option<pb::Header>,
    /// How far stages before the last were.
    pub progress: Vec<pb::Progress>,
    /// Pieces of tiles.
    pub chunks: Vec<pb::TileChunk>,
    /// Last message.
    pub summary: Option<pb::Summary>,
    /// What ended the stream, if not its end.
    pub error: Option<Status>,
}

/// A connection to a coordinator.
#[derive(Clone, Debug)]
pub struct Client(ComputeServiceClient<Authorized>);

/// Headers list scenes.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

impl Client {
    /// Connects.
    pub async fn connect(coordinator: SocketAddr) -> Client {
        let target = Target::new(&format!("http://{coordinator}"), None).expect("an address");
        Client::over(soon("a connection", target.connect()).await.expect("a coordinator"))
    }

    /// Over a connection that there is.
    pub fn over(channel: Authorized) -> Client {
        Client(ComputeServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Plans.
    pub async fn explain(&self, request: &pb::ComputeRequest) -> Result<pb::ExplainResponse, Failure> {
        let request = pb::ExplainRequest { request: Some(request.clone()) };
        let answer = soon("an explanation", self.0.clone().explain(request)).await;
        answer.map(tonic::Response::into_inner).map_err(|status| failure(&status))
    }

    /// Starts computing; the caller reads the stream, or drops it.
    pub async fn stream(&self, request: &pb::ComputeRequest) -> Streaming<pb::ComputeResponse> {
        let answers = soon("an answer", self.0.clone().compute(request.clone())).await;
        answers.expect("errors come in the stream").into_inner()
    }

    /// Starts computing for a caller who waits for so long.
    pub async fn stream_within(
        &self,
        request: &pb::ComputeRequest,
        timeout: Duration,
    ) -> Streaming<pb::ComputeResponse> {
        let mut request = tonic::Request::new(request.clone());
        request.set_timeout(timeout);
        let answers = soon("an answer", self.0.clone().compute(request)).await;
        answers.expect("errors come in the stream").into_inner()
    }

    /// Computes, and reads the stream to its end or error.
    pub async fn receive(&self, request: &pb::ComputeRequest) -> Received {
        Client::read(self.stream(request).await).await
    }

    /// Reads a stream to its end or error.
    pub async fn read(mut answers: Streaming<pb::ComputeResponse>) -> Received {
        let mut received = Received::default();
        loop {
            match soon("the next message", answers.message()).await {
                Ok(None) => return received,
                Err(status) => {
                    received.error = Some(status);
                    return received;
                }
                Ok(Some(answer)) => match answer.message.expect("a message") {
                    Message::Header(header) => {
                        assert!(
                            received.header.is_none() && received.chunks.is_empty(),
                            "the header is first"
                        );
                        received.header = Some(header);
                    }
                    Message::Chunk(chunk) => {
                        assert!(received.header.is_some() && received.summary.is_none(), "{chunk:?}");
                        assert!(chunk.data.len() <= 1 << 20, "pieces are bounded");
                        received.chunks.push(chunk);
                    }
                    Message::Progress(progress) => {
                        assert!(received.header.is_none(), "progress comes before the header");
                        received.progress.push(progress);
                    }
                    Message::Summary(summary) => {
                        assert!(received.header.is_some() && received.summary.is_none(), "{summary:?}");
                        received.summary = Some(summary);
                    }
                },
            }
        }
    }

    /// Computes a raster.
    pub async fn compute(&self, request: &pb::ComputeRequest) -> Result<Answer, Failure> {
        let received = self.receive(request).await;
        match (received.error, received.header, received.summary) {
            (Some(status), _, None) => Err(failure(&status)),
            (None, Some(header), Some(summary)) => {
                let block = whole(&header, received.chunks);
                Ok(Answer { header, block, summary })
            }
            other => panic!("neither a result nor an error: {other:?}"),
        }
    }
}

/// An error as tests compare it.
pub fn failure(status: &Status) -> Failure {
    Failure { class: class_of(status).name(), message: status.message().to_owned() }
}

/// A grid from the pieces of all its tiles.
fn whole(header: &pb::Header, chunks: Vec<pb::TileChunk>) -> Block {
    let [_] = &header.results[..] else { panic!("one result") };
    blocks(header, chunks).remove(0)
}

/// The grids of all results that have pixels, from the pieces of all tiles.
pub fn blocks(header: &pb::Header, chunks: Vec<pb::TileChunk>) -> Vec<Block> {
    let grid = wire::grid_from(header.grid.as_ref().expect("a grid")).expect("a grid");
    let tiling = grid.tiling(TileSize::new(header.tile_size).expect("a tile size"));
    let mut tiles: BTreeMap<TileId, (Vec<u8>, u64)> = BTreeMap::new();
    for chunk in chunks {
        let tile = wire::tile_from(chunk.tile.as_ref()).expect("a tile");
        let (bytes, total) = tiles.entry(tile).or_default();
        assert_eq!(chunk.offset, bytes.len() as u64, "pieces come in order and without gaps");
        bytes.extend_from_slice(&chunk.data);
        *total = chunk.total;
    }
    assert_eq!(tiles.len() as u64, header.tiles, "every tile is sent");
    let rasters: Vec<&pb::Result> = header.results.iter().filter(|result| result.shape.is_some()).collect();
    let mut parts: Vec<Vec<(Window, Block)>> = vec![Vec::new(); rasters.len()];
    for (tile, (bytes, total)) in tiles {
        assert_eq!(bytes.len() as u64, total, "tile {tile} is complete");
        let window = tiling.window(tile).expect("a tile of the grid");
        let mut rest = &bytes[..];
        for part in &mut parts {
            let (block, after) = Block::decode_front(rest).expect("a block");
            part.push((window, block));
            rest = after;
        }
        assert!(rest.is_empty(), "a block a result");
    }
    let whole = |(result, tiles): (&&pb::Result, Vec<(Window, Block)>)| {
        let dtype = wire::dtype_from(result.data_type).expect("a type");
        let facts = Facts { kind: wire::kind_from(result.shape.as_ref()), dtype };
        assemble_on(grid.window(), facts, tiles)
    };
    rasters.iter().zip(parts).map(whole).collect()
}
