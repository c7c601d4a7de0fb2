//! Workers that do not keep to the protocol: refused, or an error in bounded time.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::execute_response::Outcome;
use graticule_common::proto::v1::fleet_service_client::FleetServiceClient;
use graticule_common::proto::v1::worker_service_client::WorkerServiceClient;
use graticule_common::proto::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use graticule_common::{ENGINE_VERSION, versions};
use graticule_tests::client::failure;
use graticule_tests::cluster::{Cluster, Setup};
use graticule_tests::scenes::{MadeUp, on_area, reduce};
use graticule_tests::soon;
use graticule_tests::world::Failure;
use graticule_worker::source::Sources;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response, Status, Streaming};

fn made_up(workers: usize) -> Setup {
    let catalog = MadeUp::default().with("made-up", 4, &["a"]);
    let setup = Setup::new(workers, Arc::new(catalog), Arc::new(Sources::synthetic_only()));
    Setup { patience: Duration::from_millis(300), ..setup }
}

fn announcement(address: String) -> pb::RegisterRequest {
    pb::RegisterRequest {
        worker: "fake".into(),
        address,
        slots: 2,
        memory_bytes: 1 << 30,
        versions: Some(versions::own()),
        ..pb::RegisterRequest::default()
    }
}

/// Registers a worker; it is known as long as the stream lives, which is told by its first answer.
async fn register(
    cluster: &Cluster,
    announcement: pb::RegisterRequest,
) -> Result<Streaming<pb::RegisterResponse>, Status> {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    sender.send(announcement).await.unwrap();
    let mut client = FleetServiceClient::connect(format!("http://{}", cluster.address)).await.unwrap();
    // The announcement stands: its stream stays open after the first message.
    let standing = ReceiverStream::new(receiver).chain(tokio_stream::pending());
    drop(sender);
    let mut answers = soon("an answer", client.register(standing)).await?.into_inner();
    soon("the registration", answers.message()).await?;
    Ok(answers)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_refused_on_both_sides() {
    let cluster = Cluster::start(made_up(1)).await;
    let other = pb::RegisterRequest {
        versions: Some(pb::Versions { engine: "0.0.0-other".into(), ..versions::own() }),
        ..announcement("http://127.0.0.1:9".into())
    };
    let refusal = register(&cluster, other).await.unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    assert!(refusal.message().contains("0.0.0-other"), "{}", refusal.message());
    assert!(refusal.message().contains(ENGINE_VERSION), "{}", refusal.message());

    let worker = format!("http://{}", cluster.worker_addresses[0]);
    let mut worker = WorkerServiceClient::connect(worker).await.unwrap();
    let call = pb::ExecuteRequest {
        versions: Some(pb::Versions { engine: "0.0.0-other".into(), ..versions::own() }),
        ..pb::ExecuteRequest::default()
    };
    let refusal = worker.execute(call).await.unwrap_err();
    assert!(refusal.message().contains("0.0.0-other"), "{}", refusal.message());

    // The cluster goes on with those that fit.
    assert!(cluster.compute(&on_area(&reduce("made-up", "a", "max"))).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_none_is_refused() {
    let cluster = Cluster::start(made_up(0)).await;
    for address in ["", "not an address", "http://"] {
        let refusal = register(&cluster, announcement(address.into())).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument, "{address}: {}", refusal.message());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_not_where_it_says_is_given_up() {
    let cluster = Cluster::start(made_up(0)).await;
    let _standing = register(&cluster, announcement("http://127.0.0.1:1".into())).await.unwrap();
    let failure = cluster.compute(&on_area(&reduce("made-up", "a", "max"))).await.unwrap_err();
    assert_eq!(failure.class, "unavailable", "{}", failure.message);
    // Clients learn that, and no addresses.
    assert!(failure.message.contains("can be reached"), "{}", failure.message);
    assert!(!failure.message.contains("127.0.0.1"), "{}", failure.message);
}

/// Answers every call with the same messages, about its first tile.
struct Fake(Box<dyn Fn(pb::TileId) -> Vec<Outcome> + Send + Sync>);

#[tonic::async_trait]
impl WorkerService for Fake {
    type ExecuteStream = Pin<Box<dyn Stream<Item = Result<pb::ExecuteResponse, Status>> + Send>>;

    async fn execute(
        &self,
        request: Request<pb::ExecuteRequest>,
    ) -> Result<Response<Self::ExecuteStream>, Status> {
        let messages = self.0(request.into_inner().tiles[0]).into_iter();
        let messages = messages.map(|outcome| Ok(pb::ExecuteResponse { outcome: Some(outcome) }));
        Ok(Response::new(Box::pin(tokio_stream::iter(messages))))
    }
}

/// A request that a fake answers.
async fn answered_with(messages: impl Fn(pb::TileId) -> Vec<Outcome> + Send + Sync + 'static) -> Failure {
    let request = on_area(&reduce("made-up", "a", "max"));
    let cluster = Cluster::start(made_up(0)).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(WorkerServiceServer::new(Fake(Box::new(messages))))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let mut servers = tokio::task::JoinSet::new();
    servers.spawn(server);
    let _standing = register(&cluster, announcement(format!("http://{address}"))).await.unwrap();
    let started = Instant::now();
    let received = cluster.client.receive(&request).await;
    // Not only when the fake's silence is noticed.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(received.summary.is_none());
    failure(&received.error.expect("an error"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_early() {
    let failure = answered_with(|_| Vec::new()).await;
    assert_eq!(failure.class, "unavailable", "{}", failure.message);
    let piece = |tile| pb::TileChunk { tile: Some(tile), offset: 0, total: 100, data: vec![0; 50].into() };
    let failure = answered_with(move |tile| vec![Outcome::Chunk(piece(tile))]).await;
    assert_eq!(failure.class, "unavailable", "{}", failure.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_make_no_sense() {
    let done = |tile| Outcome::Done(pb::TileDone { tile: Some(tile), ..pb::TileDone::default() });
    let piece = |tile, offset, total| {
        Outcome::Chunk(pb::TileChunk { tile: Some(tile), offset, total, data: vec![0; 50].into() })
    };
    let elsewhere = pb::TileId { row: 1 << 40, col: 0 };
    for (what, failure) in [
        ("done without pixels", answered_with(move |tile| vec![done(tile)]).await),
        ("a gap", answered_with(move |tile| vec![piece(tile, 10, 60), done(tile)]).await),
        ("too much", answered_with(move |tile| vec![piece(tile, 0, 20), done(tile)]).await),
        ("too little", answered_with(move |tile| vec![piece(tile, 0, 60), done(tile)]).await),
        ("too far", answered_with(move |tile| vec![piece(tile, u64::MAX - 10, 60), done(tile)]).await),
        ("another tile", answered_with(move |_| vec![piece(elsewhere, 0, 50), done(elsewhere)]).await),
        ("no tile", answered_with(|_| vec![Outcome::Chunk(pb::TileChunk::default())]).await),
    ] {
        assert_eq!(failure.class, "internal", "{what}: {}", failure.message);
        assert!(failure.message.contains("makes no sense"), "{what}: {}", failure.message);
        assert!(!failure.message.contains("`fake`"), "{what}: {}", failure.message);
    }
}
