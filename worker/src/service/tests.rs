//! Calls of the service, without a network between.

use std::task::{Context, Poll, Waker};

use graticule_common::plan::Plan;
use serde_json::json;

use super::*;
use crate::testing::{Gate, Mood, OpenAtEnd, message, on_stack, planned, soon, stack_max, tiles};

fn call(plan: &Plan, tiles: u32) -> pb::ExecuteRequest {
    let tile = |col| pb::TileId { row: 0, col: i64::from(col) };
    pb::ExecuteRequest {
        plan: Some(message(plan)),
        tiles: (0..tiles).map(tile).collect(),
        versions: Some(versions::own()),
        no_cache: true,
        ..pb::ExecuteRequest::default()
    }
}

type Answers = Pin<Box<dyn Stream<Item = Answer> + Send>>;

async fn execute(service: &Service, call: pb::ExecuteRequest) -> Result<Answers, Status> {
    Ok(soon("an answer", service.execute(Request::new(call))).await?.into_inner())
}

async fn next(answers: &mut Answers) -> Option<Outcome> {
    soon("a message", answers.next()).await.map(|answer| answer.unwrap().outcome.unwrap())
}

fn failed(outcome: Option<Outcome>) -> pb::TileFailed {
    match outcome {
        Some(Outcome::Failed(failed)) => failed,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_tile_and_a_thread_that_goes_on_loses_its_slot() {
    let gate = Gate::new(Mood::Shut);
    let _open = OpenAtEnd(gate.clone());
    let service = Service::new(tiles(gate.clone(), 2));
    let mut lost = service.tiles.pool.lost_slots();
    let started = Instant::now();
    let call = pb::ExecuteRequest { remaining_ms: 50, ..call(&stack_max(2, 16), 1) };
    let mut answers = execute(&service, call).await.unwrap();
    let late = failed(next(&mut answers).await);
    assert_eq!(late.error_class, ErrorClass::Timeout.name(), "{}", late.message);
    assert!(!late.handed_back && started.elapsed() >= Duration::from_millis(50));
    assert!(next(&mut answers).await.is_none());
    soon("the slot is written off", lost.wait_for(|lost| *lost == 1)).await.unwrap();
    assert!(started.elapsed() >= crate::pool::STOPS_WITHIN);
    gate.set(Mood::Open);
    soon("the slot is back", lost.wait_for(|lost| *lost == 0)).await.unwrap();
    assert_eq!(*gate.reads.borrow(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_taken_yet_holds_memory() {
    let service = Service::new(tiles(Gate::new(Mood::Open), 2));
    let all = service.tiles.pool.free_bytes();
    // 4 MiB with their validity, in more pieces than may wait.
    let plan = planned(&on_stack(json!({ "top": ["max", "stack", "axis"] }), "top"), 1024, 2, 1024);
    let mut answers = execute(&service, call(&plan, 1)).await.unwrap();
    let first = next(&mut answers).await;
    let Some(Outcome::Chunk(first)) = first else { panic!("{first:?}") };
    assert!(first.total > 4 << 20, "{}", first.total);
    let held = || all - service.tiles.pool.free_bytes();
    let computed = async {
        while held() > 2 * first.total {
            tokio::task::yield_now().await;
        }
    };
    soon("the rest of the tile's memory is free", computed).await;
    let mut received = first.data.len() as u64;
    loop {
        assert!(held() >= first.total, "{} bytes at {received}", held());
        match next(&mut answers).await {
            Some(Outcome::Chunk(chunk)) => {
                assert_eq!(chunk.offset, received);
                received += chunk.data.len() as u64;
            }
            Some(Outcome::Done(done)) => {
                assert!(done.cpu_ms > 0.0 && done.eval_ms > 0.0 && done.waited_ms >= 0.0, "{done:?}");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((received, held()), (first.total, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_ends_hands_back_and_is_done_with_the_last() {
    let gate = Gate::new(Mood::Shut);
    let _open = OpenAtEnd(gate.clone());
    let service = Service::new(tiles(gate.clone(), 1));
    let plan = planned(&on_stack(json!({ "top": ["max", "stack", "axis"] }), "top"), 64, 1, 16);
    let mut begun = execute(&service, call(&plan, 1)).await.unwrap();
    gate.has_read(1).await;
    let queued = pb::ExecuteRequest {
        tiles: vec![pb::TileId { row: 1, col: 0 }, pb::TileId { row: 1, col: 1 }],
        ..call(&plan, 0)
    };
    let mut queued = execute(&service, queued).await.unwrap();
    service.tiles.draining.cancel();
    for _ in 0..2 {
        let back = failed(next(&mut queued).await);
        assert!(back.handed_back, "{}", back.message);
        assert_eq!(back.error_class, ErrorClass::Unavailable.name());
    }
    let late = pb::ExecuteRequest { tiles: vec![pb::TileId { row: 1, col: 1 }], ..call(&plan, 0) };
    let mut late = execute(&service, late).await.unwrap();
    assert!(failed(next(&mut late).await).handed_back);
    drop(late);
    let mut none = std::pin::pin!(service.calls.none());
    assert_eq!(none.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending);
    gate.set(Mood::Open);
    assert!(matches!(next(&mut begun).await, Some(Outcome::Chunk(_))));
    assert!(matches!(next(&mut begun).await, Some(Outcome::Done(_))));
    soon("no call is left", none).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_stops_its_tiles_and_stopping_all_calls_ends_them() {
    let gate = Gate::new(Mood::Shut);
    let _open = OpenAtEnd(gate.clone());
    let service = Service::new(tiles(gate.clone(), 1));
    let answers = execute(&service, call(&stack_max(9, 16), 1)).await.unwrap();
    gate.has_read(1).await;
    drop(answers);
    soon("no call is left", service.calls.none()).await;
    gate.set(Mood::Open);
    // The thread that reads has to see it open before it is shut again.
    let pool = service.tiles.pool.clone();
    let all_free = tiles(gate.clone(), 1).pool.free_bytes();
    let is_free = async {
        while pool.free_bytes() < all_free {
            tokio::task::yield_now().await;
        }
    };
    soon("its memory is free", is_free).await;
    gate.set(Mood::Shut);
    let mut answers = execute(&service, call(&stack_max(9, 16), 1)).await.unwrap();
    gate.has_read(2).await;
    assert_eq!(*gate.reads.borrow(), 2);
    service.calls.stop();
    assert!(next(&mut answers).await.is_none());
    soon("no call is left", service.calls.none()).await;
}

#[tokio::test]
async fn calls_that_make_no_sense_are_refused() {
    let service = Service::new(tiles(Gate::new(Mood::Open), 1));
    let plan = stack_max(1, 16);
    let good = || call(&plan, 1);
    let other = pb::Versions { ops: "other".into(), ..versions::own() };
    for (what, call, code) in [
        ("no versions", pb::ExecuteRequest { versions: None, ..good() }, tonic::Code::Internal),
        ("other ops", pb::ExecuteRequest { versions: Some(other), ..good() }, tonic::Code::Internal),
        ("no plan", pb::ExecuteRequest { plan: None, ..good() }, tonic::Code::InvalidArgument),
        (
            "an empty plan",
            pb::ExecuteRequest { plan: Some(pb::Plan::default()), ..good() },
            tonic::Code::InvalidArgument,
        ),
        ("a long name", pb::ExecuteRequest { tenant: "t".repeat(300), ..good() }, tonic::Code::OutOfRange),
    ] {
        let status = execute(&service, call).await.err().unwrap_or_else(|| panic!("{what}"));
        assert_eq!(status.code(), code, "{what}: {}", status.message());
    }
}
