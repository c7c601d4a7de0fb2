//! Workers by the hundred in this process that compute nothing: every tile is four bytes at once.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::execute_response::Outcome;
use graticule_common::proto::v1::fleet_service_client::FleetServiceClient;
use graticule_common::proto::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use graticule_common::versions;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status};

use crate::soon;

/// The workers; they end with this.
#[derive(Debug)]
pub struct Noops {
    tasks: JoinSet<()>,
    tiles: Arc<AtomicU64>,
    calls: Arc<AtomicU64>,
}

impl Noops {
    /// Registers so many workers with a coordinator.
    pub async fn start(coordinator: SocketAddr, workers: usize, slots: u32) -> Noops {
        let mut noops = Noops { tasks: JoinSet::new(), tiles: Arc::default(), calls: Arc::default() };
        for at in 0..workers {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            let service = Noop { tiles: noops.tiles.clone(), calls: noops.calls.clone() };
            let server = tonic::transport::Server::builder()
                .add_service(WorkerServiceServer::new(service).max_decoding_message_size(64 << 20))
                .serve_with_incoming(TcpListenerStream::new(listener));
            noops.tasks.spawn(async move { server.await.expect("a server") });
            let announcement = pb::RegisterRequest {
                worker: format!("noop-{at}"),
                address: format!("http://{address}"),
                slots,
                memory_bytes: 16 << 30,
                free_bytes: 16 << 30,
                versions: Some(versions::own()),
                ..pb::RegisterRequest::default()
            };
            noops.tasks.spawn(register(coordinator, announcement));
        }
        noops
    }

    /// Tiles they answered.
    pub fn tiles(&self) -> u64 {
        self.tiles.load(Ordering::Relaxed)
    }

    /// Calls they took.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

/// Announces a worker until the test ends.
async fn register(coordinator: SocketAddr, announcement: pb::RegisterRequest) {
    let endpoint = Endpoint::from_shared(format!("http://{coordinator}")).expect("an address");
    let channel = soon("a connection", endpoint.connect()).await.expect("a coordinator");
    let (sender, receiver) = mpsc::channel(1);
    sender.send(announcement.clone()).await.expect("a receiver");
    let answers = FleetServiceClient::new(channel).register(ReceiverStream::new(receiver)).await;
    let mut answers = answers.expect("a registration").into_inner();
    while let Some(Ok(answer)) = answers.next().await {
        tokio::time::sleep(Duration::from_millis(answer.heartbeat_ms.max(100).into())).await;
        if sender.send(announcement.clone()).await.is_err() {
            return;
        }
    }
}

struct Noop {
    tiles: Arc<AtomicU64>,
    calls: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl WorkerService for Noop {
    type ExecuteStream = Pin<Box<dyn Stream<Item = Result<pb::ExecuteResponse, Status>> + Send>>;

    async fn execute(
        &self,
        request: Request<pb::ExecuteRequest>,
    ) -> Result<Response<Self::ExecuteStream>, Status> {
        let tiles = request.into_inner().tiles;
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.tiles.fetch_add(tiles.len() as u64, Ordering::Relaxed);
        let answers = tiles.into_iter().flat_map(|tile| {
            let data = bytes::Bytes::from_static(b"noop");
            let chunk = pb::TileChunk { tile: Some(tile), offset: 0, total: 4, data };
            let done = pb::TileDone { tile: Some(tile), ..pb::TileDone::default() };
            [Outcome::Chunk(chunk), Outcome::Done(done)]
        });
        let answers = answers.map(|outcome| Ok(pb::ExecuteResponse { outcome: Some(outcome) }));
        Ok(Response::new(Box::pin(tokio_stream::iter(answers.collect::<Vec<_>>()))))
    }
}
