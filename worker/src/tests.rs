//! Whole workers, called over loopback.

use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::worker_service_client::WorkerServiceClient;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Streaming;
use tonic::transport::Channel;

use super::*;
use crate::testing::{Gate, Mood, OpenAtEnd, message, soon, stack_max};

type Ended = JoinHandle<Result<(), WorkerError>>;

/// A worker of one slot behind a gate.
async fn start(config: Config, gate: &Arc<Gate>) -> (WorkerServiceClient<Channel>, CancellationToken, Ended) {
    let (shutdown, (sender, address)) = (CancellationToken::new(), oneshot::channel());
    let source: Arc<dyn TileSource> = gate.clone();
    let stop = shutdown.clone();
    let ended = tokio::spawn(run(config, source, stop, |address| _ = sender.send(address)));
    let address = soon("a listening worker", address).await.unwrap();
    let client = WorkerServiceClient::connect(format!("http://{address}")).await.unwrap();
    (client, shutdown, ended)
}

async fn call(
    client: &mut WorkerServiceClient<Channel>,
    remaining_ms: u64,
) -> Streaming<pb::ExecuteResponse> {
    let call = pb::ExecuteRequest {
        plan: Some(message(&stack_max(2, 16))),
        tiles: vec![pb::TileId { row: 0, col: 0 }],
        versions: Some(versions::own()),
        remaining_ms,
        ..pb::ExecuteRequest::default()
    };
    soon("an answer", client.execute(call)).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_stop_sends_what_it_has_begun() {
    let gate = Gate::new(Mood::Shut);
    let _open = OpenAtEnd(gate.clone());
    let (mut client, shutdown, ended) = start(Config::default(), &gate).await;
    let mut answers = call(&mut client, 0).await;
    gate.has_read(1).await;
    shutdown.cancel();
    gate.set(Mood::Open);
    let mut outcomes = Vec::new();
    while let Some(answer) = soon("a message", answers.message()).await.unwrap() {
        outcomes.push(answer.outcome.unwrap());
    }
    assert!(matches!(outcomes.last(), Some(pb::execute_response::Outcome::Done(_))), "{outcomes:?}");
    // The connection is still open; the worker does not wait for it.
    soon("the end", ended).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_longer_than_the_grace_period_is_left() {
    let gate = Gate::new(Mood::Shut);
    let _open = OpenAtEnd(gate.clone());
    let config = Config { grace: Duration::from_millis(50), ..Config::default() };
    let (mut client, shutdown, ended) = start(config, &gate).await;
    let mut answers = call(&mut client, 0).await;
    gate.has_read(1).await;
    shutdown.cancel();
    let end = soon("the end", ended).await.unwrap();
    assert!(matches!(end, Err(WorkerError::Cut { calls: 1, .. })), "{end:?}");
    // The stream ends without an answer, in whatever way.
    let answer = soon("the end of the answer", answers.message()).await;
    assert!(matches!(answer, Ok(None) | Err(_)), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_a_slot_ends_with_an_error() {
    let gate = Gate::new(Mood::Shut);
    let _open = OpenAtEnd(gate.clone());
    let config = Config { lost_patience: Duration::from_millis(50), ..Config::default() };
    let (mut client, _shutdown, ended) = start(config, &gate).await;
    let mut answers = call(&mut client, 20).await;
    assert!(soon("a message", answers.message()).await.unwrap().is_some());
    let error = soon("the end", ended).await.unwrap().unwrap_err();
    assert!(matches!(error, WorkerError::Stuck { slots: 1, .. }), "{error}");
}

#[test]
fn every_version_and_the_operators_text_change_the_salt() {
    let plain = salt("");
    let Versions { engine, ops, gdal, proj } = versions::own();
    assert!([&engine, &ops, &gdal, &proj].iter().all(|version| plain.contains(version.as_str())), "{plain}");
    assert_ne!(salt("x"), plain);
}
