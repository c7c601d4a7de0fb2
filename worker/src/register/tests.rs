//! Registrations with made-up coordinators.

use std::pin::Pin;

use graticule_common::proto::v1::fleet_service_server::{FleetService, FleetServiceServer};
use tokio::net::TcpListener;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Streaming};

use super::*;
use crate::testing::soon;

/// Answers every announcement, or refuses; keeps the announcements.
struct Fake {
    heard: watch::Sender<Vec<pb::RegisterRequest>>,
    refusal: Option<Status>,
}

#[tonic::async_trait]
impl FleetService for Fake {
    type RegisterStream = Pin<Box<dyn Stream<Item = Result<pb::RegisterResponse, Status>> + Send>>;

    async fn register(
        &self,
        request: Request<Streaming<pb::RegisterRequest>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        let heard = self.heard.clone();
        let answers = request.into_inner().map(move |message| {
            let message = message?;
            heard.send_modify(|heard| heard.push(message));
            Ok(pb::RegisterResponse { heartbeat_ms: 60_000 })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn describe(
        &self,
        _: Request<pb::DescribeRequest>,
    ) -> Result<Response<pb::DescribeResponse>, Status> {
        Err(Status::unimplemented("a fake"))
    }
}

/// A coordinator on a port of its own, and what it hears.
async fn coordinator(
    refusal: Option<Status>,
) -> (Target, watch::Receiver<Vec<pb::RegisterRequest>>, tokio::task::JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, hears) = watch::channel(Vec::new());
    let server = tonic::transport::Server::builder()
        .add_service(FleetServiceServer::new(Fake { heard, refusal }))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let mut servers = tokio::task::JoinSet::new();
    servers.spawn(async move { server.await.unwrap() });
    (Target::new(&format!("http://{address}"), None).unwrap(), hears, servers)
}

fn announcement(pool: &Pool) -> Announcement {
    Announcement {
        presence: Presence::new(watch::Sender::default()),
        worker: "w".into(),
        address: "http://127.0.0.1:9".into(),
        slots: 2,
        memory_bytes: 8 << 20,
        pool: pool.clone(),
        draining: CancellationToken::new(),
        answer_within: ANSWER_WITHIN,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn news_is_told_at_once_to_every_coordinator() {
    let pool = Pool::new(2, 8 << 20);
    let announcement = announcement(&pool);
    let (one, mut one_hears, _one) = coordinator(None).await;
    let (other, mut other_hears, _other) = coordinator(None).await;
    let mut registrations = tokio::task::JoinSet::new();
    let (refusals, shutdown) = (Refusals::default(), CancellationToken::new());
    for endpoint in [one, other] {
        let (announcement, refusals) = (announcement.clone(), refusals.clone());
        registrations.spawn(keep_registered(endpoint, announcement, refusals, shutdown.clone()));
    }
    for hears in [&mut one_hears, &mut other_hears] {
        let heard = soon("the first announcement", hears.wait_for(|heard| heard.len() == 1)).await;
        let first = heard.unwrap()[0].clone();
        assert_eq!((first.slots, first.lost_slots, first.draining), (2, 0, false));
        assert_eq!((first.free_bytes, first.memory_bytes), (8 << 20, 8 << 20));
        assert_eq!(first.versions, Some(versions::own()));
    }
    let _place = pool.admit(3 << 20, false).await.unwrap();
    announcement.draining.cancel();
    for hears in [&mut one_hears, &mut other_hears] {
        // Long before the next heartbeat.
        let draining = |heard: &Vec<pb::RegisterRequest>| heard.iter().any(|heard| heard.draining);
        let heard = soon("it is draining", hears.wait_for(draining)).await.unwrap();
        assert_eq!(heard.last().map(|last| last.free_bytes), Some(5 << 20));
    }
    // Known to the last, until it is told otherwise.
    shutdown.cancel();
    while let Some(ended) = soon("the end", registrations.join_next()).await {
        ended.unwrap();
    }
    assert!(one_hears.borrow().len() == 2 && refusals.borrow().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_slot_is_told_at_once() {
    let pool = Pool::new(2, 8 << 20);
    let (endpoint, mut hears, _server) = coordinator(None).await;
    let (refusals, shutdown) = (Refusals::default(), CancellationToken::new());
    let registration = keep_registered(endpoint, announcement(&pool), refusals, shutdown.clone());
    let registration = tokio::spawn(registration);
    soon("the first announcement", hears.wait_for(|heard| heard.len() == 1)).await.unwrap();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let cancel = CancellationToken::new();
    cancel.cancel();
    let place = pool.admit(1, false).await.unwrap();
    assert!(soon("it is given up", place.run(&cancel, |_| 0, move || wait.recv().is_ok())).await.is_err());
    let lost = |heard: &Vec<pb::RegisterRequest>| heard.last().is_some_and(|last| last.lost_slots == 1);
    soon("it is told", hears.wait_for(lost)).await.unwrap();
    drop(go);
    let found = |heard: &Vec<pb::RegisterRequest>| heard.last().is_some_and(|last| last.lost_slots == 0);
    soon("that is told too", hears.wait_for(found)).await.unwrap();
    shutdown.cancel();
    soon("the end", registration).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_kept_until_it_is_taken_back() {
    let pool = Pool::new(1, 1 << 20);
    let (endpoint, _, _server) = coordinator(Some(Status::failed_precondition("other versions"))).await;
    let (refusals, shutdown) = (Refusals::default(), CancellationToken::new());
    let name = endpoint.address().to_owned();
    let mut refused = refusals.subscribe();
    let registration =
        tokio::spawn(keep_registered(endpoint, announcement(&pool), refusals.clone(), shutdown.clone()));
    let all = soon("a refusal", refused.wait_for(|refusals| refusals.len() == 1)).await.unwrap().clone();
    assert_eq!(all.get(&name).map(String::as_str), Some("other versions"));
    assert_eq!(soon("all refuse", crate::refused(&refusals, 1)).await, "other versions");
    shutdown.cancel();
    soon("the end", registration).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_says_nothing_is_left_and_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Target::new(&format!("http://{}", listener.local_addr().unwrap()), None).unwrap();
    let shutdown = CancellationToken::new();
    let within = Duration::from_millis(100);
    let announcement = Announcement { answer_within: within, ..announcement(&Pool::new(1, 1 << 20)) };
    let registration =
        tokio::spawn(keep_registered(endpoint, announcement, Refusals::default(), shutdown.clone()));
    let started = Instant::now();
    // Taken, and never answered.
    let first = soon("a connection", listener.accept()).await.unwrap();
    let second = soon("another one", listener.accept()).await.unwrap();
    assert!(started.elapsed() >= within, "{:?}", started.elapsed());
    assert_ne!(first.1, second.1);
    shutdown.cancel();
    soon("the end", registration).await.unwrap();
}

#[test]
fn pauses_grow_and_stay_bounded() {
    let pauses: Vec<u128> = (1..10).map(|failures| longest_pause(failures).as_millis()).collect();
    assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
    assert_eq!(longest_pause(u32::MAX), PAUSE_LAST);
}
