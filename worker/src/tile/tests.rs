//! Tiles of plans on formulas, held at a gate.

use graticule_common::grid::TileId;
use serde_json::json;

use super::*;
use crate::plans::Plans;
use crate::testing::{Gate, Mood, OpenAtEnd, message, on_stack, planned, soon, stack_max, tiles};

const FIRST: TileId = TileId { row: 0, col: 0 };

fn job(plan: Plan) -> Job {
    let known = Plans::default().decode(&message(&plan)).unwrap();
    Job {
        plan: known.plan,
        digest: known.digest,
        tenant: "".into(),
        options: TileOptions { use_cache: false, ..TileOptions::default() },
    }
}

fn with(job: &Job, change: impl FnOnce(&mut Job)) -> Job {
    let mut job = job.clone();
    change(&mut job);
    job
}

fn spawn(tiles: &Tiles, job: &Job, tile: TileId) -> tokio::task::JoinHandle<Outcome> {
    let (tiles, job) = (tiles.clone(), job.clone());
    tokio::spawn(async move { tiles.compute(&job, tile).await })
}

/// Waits until nothing is computed any more and everything is given back.
async fn idle(tiles: &Tiles, bytes: u64) {
    let idle = async {
        while tiles.pool.free_bytes() < bytes {
            tokio::task::yield_now().await;
        }
    };
    soon("an idle pool", idle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_tile_is_computed_once_for_all_who_ask() {
    let gate = Gate::new(Mood::Shut);
    let _open = OpenAtEnd(gate.clone());
    let (tiles, job) = (tiles(gate.clone(), 4), job(stack_max(3, 64)));
    let first = spawn(&tiles, &job, FIRST);
    gate.has_read(1).await;
    let others: Vec<_> = (0..50).map(|_| spawn(&tiles, &job, FIRST)).collect();
    // One that shares nothing: another tenant's.
    let apart = spawn(&tiles, &with(&job, |job| job.tenant = "t".into()), FIRST);
    gate.has_read(2).await;
    gate.set(Mood::Open);
    let first = soon("the first", first).await.unwrap().unwrap();
    assert!(!first.cost.coalesced && first.cost.read_bytes > 0 && first.cost.cpu > Duration::ZERO);
    let mut shared = 0;
    for other in others {
        let other = soon("another", other).await.unwrap().unwrap();
        assert_eq!(other.bytes, first.bytes);
        shared += u32::from(other.cost.coalesced);
        // What was done once is counted once.
        assert!(!other.cost.coalesced || (other.cost.read_bytes, other.cost.cpu) == (0, Duration::ZERO));
    }
    assert!(shared > 0);
    let apart = soon("the other tenant's", apart).await.unwrap().unwrap();
    assert!(!apart.cost.coalesced && apart.bytes == first.bytes);
    let alone = (50 - u64::from(shared) + 2) * 3;
    assert_eq!(*gate.reads.borrow(), alone, "{shared} shared");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_computation_goes_on_for_those_who_stay_and_stops_when_all_have_gone() {
    let gate = Gate::new(Mood::Shut);
    let _open = OpenAtEnd(gate.clone());
    let (tiles, job) = (tiles(gate.clone(), 1), job(stack_max(50, 16)));
    let all = tiles.pool.free_bytes();
    let first = spawn(&tiles, &job, FIRST);
    gate.has_read(1).await;
    let other = spawn(&tiles, &job, FIRST);
    // It waits too as soon as it is planned.
    let waiting = async {
        while tiles.flights.waiting() < 2 {
            tokio::task::yield_now().await;
        }
    };
    soon("two who wait", waiting).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    gate.set(Mood::Open);
    assert!(soon("the other", other).await.unwrap().unwrap().cost.coalesced);
    assert_eq!(*gate.reads.borrow(), 50);

    gate.set(Mood::Shut);
    let only = spawn(&tiles, &job, FIRST);
    gate.has_read(51).await;
    only.abort();
    assert!(only.await.unwrap_err().is_cancelled());
    gate.set(Mood::Open);
    idle(&tiles, all).await;
    // The read that was under way was the last.
    assert_eq!(*gate.reads.borrow(), 51);
}

/// The longest step there is: a median over large windows of a large tile, which takes minutes.
#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_under_way_stops_within_two_seconds() {
    let gate = Gate::new(Mood::Open);
    let graft =
        json!({ "top": ["max", "stack", "axis"], "side": 51, "calm": ["focal_median", "top", "side"] });
    let plan = planned(&on_stack(graft, "calm"), 1024, 1, 1024);
    let (tiles, job) = (tiles(gate.clone(), 1), job(plan));
    let all = tiles.pool.free_bytes();
    let task = spawn(&tiles, &job, FIRST);
    gate.has_read(1).await;
    assert!(!task.is_finished());
    task.abort();
    let gone = Instant::now();
    idle(&tiles, all).await;
    assert!(gone.elapsed() < Duration::from_secs(2), "{:?}", gone.elapsed());
    assert_eq!(*tiles.pool.lost_slots().borrow(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_everybodys_and_are_not_kept() {
    let gate = Gate::new(Mood::Shut);
    let (tiles, job) = (tiles(gate.clone(), 2), job(stack_max(2, 16)));
    let asked = [spawn(&tiles, &job, FIRST), spawn(&tiles, &job, FIRST)];
    gate.has_read(1).await;
    gate.set(Mood::Broken);
    for asked in asked {
        let error = soon("an error", asked).await.unwrap().unwrap_err();
        assert_eq!(error.class(), ErrorClass::Source, "{error}");
    }
    gate.set(Mood::Open);
    assert!(tiles.compute(&job, FIRST).await.is_ok());
    let nowhere = TileId { row: 99, col: 0 };
    assert_eq!(tiles.compute(&job, nowhere).await.unwrap_err(), TileError::NoSuchTile { tile: nowhere });
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_remember_for_themselves() {
    let gate = Gate::new(Mood::Open);
    let (tiles, job) = (tiles(gate.clone(), 1), job(stack_max(3, 16)));
    let job = with(&job, |job| job.options.use_cache = true);
    let theirs = with(&job, |job| job.tenant = "t".into());
    let mut bytes = Vec::new();
    for (job, reads, from_cache) in
        [(&job, 3, false), (&job, 3, true), (&theirs, 6, false), (&theirs, 6, true), (&job, 6, true)]
    {
        let result = tiles.compute(job, FIRST).await.unwrap();
        assert_eq!((*gate.reads.borrow(), result.cost.from_cache), (reads, from_cache));
        bytes.push(result.bytes);
    }
    assert!(bytes.iter().all(|other| *other == bytes[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_ends_finishes_what_it_has_begun_and_hands_back_the_rest() {
    let gate = Gate::new(Mood::Shut);
    let _open = OpenAtEnd(gate.clone());
    let plan = planned(&on_stack(json!({ "top": ["max", "stack", "axis"] }), "top"), 64, 2, 16);
    let (tiles, job) = (tiles(gate.clone(), 1), job(plan));
    let begun = spawn(&tiles, &job, FIRST);
    gate.has_read(1).await;
    let queued: Vec<_> = (0..4).map(|col| spawn(&tiles, &job, TileId { row: 1, col })).collect();
    tiles.draining.cancel();
    for queued in queued {
        assert_eq!(soon("a tile", queued).await.unwrap().unwrap_err(), TileError::HandedBack);
    }
    gate.set(Mood::Open);
    assert!(soon("the tile", begun).await.unwrap().is_ok());
    assert_eq!(*gate.reads.borrow(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspect_runs_alone_even_where_it_runs_already() {
    let gate = Gate::new(Mood::Shut);
    let _open = OpenAtEnd(gate.clone());
    let (tiles, job) = (tiles(gate.clone(), 2), job(stack_max(2, 16)));
    let begun = spawn(&tiles, &job, FIRST);
    gate.has_read(1).await;
    let alone = spawn(&tiles, &with(&job, |job| job.options.alone = true), FIRST);
    let waiting = async {
        while tiles.flights.waiting() < 2 {
            tokio::task::yield_now().await;
        }
    };
    soon("two who wait", waiting).await;
    assert_eq!(*gate.reads.borrow(), 1);
    gate.set(Mood::Open);
    let (begun, alone) = (soon("one", begun).await.unwrap(), soon("the other", alone).await.unwrap());
    let (begun, alone) = (begun.unwrap(), alone.unwrap());
    assert!(!alone.cost.coalesced && alone.bytes == begun.bytes);
    assert_eq!(*gate.reads.borrow(), 4);
}
