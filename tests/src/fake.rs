//! A worker that computes nothing: a test sees every call and says what is answered.

use std::net::SocketAddr;
use std::pin::Pin;
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
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::soon;

/// Messages that wait for the coordinator.
const WAITING_MAX: usize = 16;

/// A plan of a hundred thousand tiles is sent with each call.
const PLAN_BYTES_MAX: usize = 64 << 20;

type Answer = Result<pb::ExecuteResponse, Status>;

/// A call as it arrived, and where its answers go. The call ends when this is dropped.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: pb::ExecuteRequest,
    answers: mpsc::Sender<Answer>,
}

impl Call {
    /// Answers with one message; whether anybody listens.
    pub async fn say(&self, outcome: Outcome) -> bool {
        self.answers.send(Ok(pb::ExecuteResponse { outcome: Some(outcome) })).await.is_ok()
    }

    /// A piece of a tile.
    pub async fn piece(&self, tile: pb::TileId, offset: u64, total: u64, data: &[u8]) -> bool {
        let data = data.to_vec().into();
        self.say(Outcome::Chunk(pb::TileChunk { tile: Some(tile), offset, total, data })).await
    }

    /// A tile is complete.
    pub async fn done(&self, tile: pb::TileId) -> bool {
        let done = pb::TileDone { tile: Some(tile), eval_ms: 1.0, cpu_ms: 1.0, ..pb::TileDone::default() };
        self.say(Outcome::Done(done)).await
    }

    /// All of a tile.
    pub async fn whole(&self, tile: pb::TileId, data: &[u8]) -> bool {
        self.piece(tile, 0, data.len() as u64, data).await && self.done(tile).await
    }

    /// The call breaks off.
    pub async fn break_off(self) {
        let _ = self.answers.send(Err(Status::unavailable("a worker that breaks off"))).await;
    }

    /// Waits until nobody listens.
    pub async fn dropped(&self) {
        soon("the end of the call", self.answers.closed()).await;
    }
}

/// The worker; gone when dropped.
#[derive(Debug)]
pub struct FakeWorker {
    calls: mpsc::UnboundedReceiver<Call>,
    /// Keeps the registration.
    _standing: mpsc::Sender<pb::RegisterRequest>,
    _parts: JoinSet<()>,
}

struct Service(mpsc::UnboundedSender<Call>);

#[tonic::async_trait]
impl WorkerService for Service {
    type ExecuteStream = Pin<Box<dyn Stream<Item = Answer> + Send>>;

    async fn execute(
        &self,
        request: Request<pb::ExecuteRequest>,
    ) -> Result<Response<Self::ExecuteStream>, Status> {
        let (answers, receiver) = mpsc::channel(WAITING_MAX);
        let call = Call { request: request.into_inner(), answers };
        self.0.send(call).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl FakeWorker {
    /// Starts a worker that is known to a coordinator. It announces itself once, and then as often as
    /// `heartbeat` says; never again without.
    pub async fn start(
        coordinator: SocketAddr,
        name: &str,
        slots: u32,
        heartbeat: Option<Duration>,
    ) -> FakeWorker {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (sender, calls) = mpsc::unbounded_channel();
        let mut parts = JoinSet::new();
        parts.spawn(async move {
            let server = Server::builder().add_service(
                WorkerServiceServer::new(Service(sender)).max_decoding_message_size(PLAN_BYTES_MAX),
            );
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("a server");
        });
        let announcement = pb::RegisterRequest {
            worker: name.into(),
            address: format!("http://{address}"),
            slots,
            memory_bytes: 1 << 30,
            free_bytes: 1 << 30,
            versions: Some(versions::own()),
            ..pb::RegisterRequest::default()
        };
        let (standing, announcements) = mpsc::channel(1);
        standing.send(announcement.clone()).await.expect("room for one");
        let endpoint = format!("http://{coordinator}");
        let client = soon("a connection", FleetServiceClient::connect(endpoint)).await;
        let registration = client.expect("a fleet").register(ReceiverStream::new(announcements)).await;
        let mut answers = registration.expect("a registration").into_inner();
        soon("the registration", answers.message()).await.expect("an answer");
        let sender = standing.clone();
        parts.spawn(async move {
            let Some(heartbeat) = heartbeat else { return std::future::pending().await };
            loop {
                let silence =
                    tokio::time::timeout(heartbeat, async { while answers.next().await.is_some() {} });
                if silence.await.is_ok() || sender.send(announcement.clone()).await.is_err() {
                    return;
                }
            }
        });
        FakeWorker { calls, _standing: standing, _parts: parts }
    }

    /// The next call.
    pub async fn call(&mut self) -> Call {
        soon("a call", self.calls.recv()).await.expect("a worker that is there")
    }

    /// The next call, if it has come already.
    pub fn try_call(&mut self) -> Option<Call> {
        self.calls.try_recv().ok()
    }

    /// Answers every call, tile by tile, until the worker is gone.
    pub async fn answer_all(mut self, data: Vec<u8>) {
        while let Some(call) = self.calls.recv().await {
            let data = data.clone();
            self._parts.spawn(async move {
                for tile in &call.request.tiles {
                    if !call.whole(*tile, &data).await {
                        return;
                    }
                }
            });
            while self._parts.try_join_next().is_some() {}
        }
    }
}
