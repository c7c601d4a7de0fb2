//! `graticule top` over a coordinator that says what the test wants.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};

use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::fleet_service_server::{FleetService, FleetServiceServer};
use graticule_tests::process::{Process, run};
use tokio::net::TcpListener;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

/// A fleet that does ten tiles between two questions, which come a second apart by its own clock.
#[derive(Default)]
struct Fake(AtomicU64);

#[tonic::async_trait]
impl FleetService for Fake {
    type RegisterStream = Pin<Box<dyn Stream<Item = Result<pb::RegisterResponse, Status>> + Send>>;

    async fn register(
        &self,
        _: Request<Streaming<pb::RegisterRequest>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn describe(
        &self,
        _: Request<pb::DescribeRequest>,
    ) -> Result<Response<pb::DescribeResponse>, Status> {
        let asked = self.0.fetch_add(1, Ordering::Relaxed);
        let counts = Some(pb::Counts {
            tiles: asked * 10,
            cache_hits: asked * 3,
            cache_misses: asked,
            ..pb::Counts::default()
        });
        let worker = pb::WorkerState {
            worker: "10.0.0.5:4001-17".into(),
            slots: 2,
            tiles: 3,
            memory_bytes: 1 << 30,
            free_bytes: 1 << 28,
            counts,
            ..pb::WorkerState::default()
        };
        let request = pb::RequestState {
            id: "00f067aa0ba902b7".into(),
            done: asked,
            tiles: 40,
            running: 3,
            ..pb::RequestState::default()
        };
        Ok(Response::new(pb::DescribeResponse {
            coordinator: "fake".into(),
            uptime_ms: 5000 + asked * 1000,
            workers: vec![worker],
            requests: vec![request],
            counts,
        }))
    }
}

async fn fake() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().add_service(FleetServiceServer::new(Fake::default()));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn one_table_and_many() {
    let endpoint = format!("http://{}", fake().await);
    let once = run(["top", "--once", "--endpoint", &endpoint]).await;
    assert_eq!(once.code, Some(0), "{}", once.stderr);
    assert!(once.stdout.contains("10.0.0.5:4001-17") && once.stdout.contains("00f067aa0ba902b7"));
    assert!(once.stdout.contains("- tiles/s"), "{}", once.stdout);
    assert!(once.stdout.lines().all(|line| line.chars().count() <= 80), "{}", once.stdout);

    let mut live = Process::start(["top", "--interval", "0.1", "--endpoint", &endpoint]);
    let text = live.prints("10.0 tiles/s").await;
    assert!(!text.contains('\x1b'), "what is no terminal gets no escapes: {text:?}");
    live.signal("INT");
    let ended = live.ended().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn json_for_programs() {
    let endpoint = format!("http://{}", fake().await);
    let mut live = Process::start(["top", "--json", "--interval", "0.1", "--endpoint", &endpoint]);
    let text = live.prints("hit_share\":0.75").await;
    live.signal("TERM");
    assert_eq!(live.ended().await.code, Some(0));
    let whole: Vec<&str> = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
    assert!(!whole.is_empty());
    for line in whole {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["workers"][0]["slots"], 2);
        assert_eq!(value["requests"][0]["tiles"], 40);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_to_ask() {
    // Bound, so that nobody else has the port, and never listened on.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let endpoint = format!("http://{}", socket.local_addr().unwrap());
    let ended = run(["top", "--endpoint", &endpoint]).await;
    assert_eq!(ended.code, Some(9), "{}", ended.stderr);
    assert!(ended.stderr.contains(&endpoint), "{}", ended.stderr);
    assert_eq!(run(["top", "--interval", "0", "--once"]).await.code, Some(2));
}
