//! Tiles of plans on formulas, held at a gate.

use graticule_common::grid::{TileId, TileSize};
use graticule_common::plan::{self, NodeKind, Options};
use graticule_common::scene::SourceRef;
use serde_json::{Value, json};

use super::*;
use crate::plans::Plans;
use crate::testing::{Gate, Mood, OpenAtEnd, message, on_stack, outcome, planned, soon, stack_max, tiles};

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

/// What of a plan is remembered: the names of the ops, `read` and `fused` for others.
fn remembered(graft: &Value, (side, count): (u32, usize), source: fn(String) -> SourceRef) -> Vec<String> {
    let options = Options { tile_size: TileSize::new(256), ..Options::default() };
    let plan = match outcome(graft, (side, count), &options, source) {
        plan::Outcome::Raster { plan, .. } => plan,
        plan::Outcome::Staged(staged) => staged.plans()[0].clone(),
        other => panic!("no pixels: {other:?}"),
    };
    let name = |kind: &NodeKind| match kind {
        NodeKind::Call { op, .. } => op.name().to_owned(),
        NodeKind::Read(_) => "read".to_owned(),
        _ => "fused".to_owned(),
    };
    plan.nodes().iter().filter(|node| node.cached).map(|node| name(&node.kind)).collect()
}

#[test]
fn what_is_remembered_is_what_is_dear_for_its_size() {
    let local: fn(String) -> SourceRef = |id| SourceRef::Local(format!("/data/{id}.tif"));
    let jp2: fn(String) -> SourceRef = |id| SourceRef::Local(format!("/data/{id}.jp2"));
    let remote: fn(String) -> SourceRef = |id| SourceRef::Http(format!("https://example.com/{id}.tif"));
    let mosaic = json!({
        "product": "made:up", "bands": "a", "a": ["mosaic", "product", "bands"], "half": 0.5,
        "above": ["gt", "a", "half"], "returns": "a",
    });
    let step = |graft: &Value, name: &str| {
        let mut graft = graft.clone();
        graft["returns"] = name.into();
        graft
    };
    let median = on_stack(
        json!({ "mid": ["median", "stack", "axis"], "two": 2.5, "more": ["mul", "mid", "two"],
                "stack_more": ["mul", "stack", "two"] }),
        "mid",
    );
    for (what, graft, size, source, expected) in [
        // A file is a cache itself, and one step of arithmetic is cheaper than a look-up; a server is far.
        ("a file", &mosaic, (1024, 1), local, vec![]),
        ("a file of JPEG 2000", &mosaic, (1024, 1), jp2, vec![]),
        ("a file on a server", &mosaic, (1024, 1), remote, vec!["read"]),
        ("a step on a file of JPEG 2000", &step(&mosaic, "above"), (1024, 1), jp2, vec!["fused"]),
        ("a reduction", &median, (1024, 9), local, vec!["median"]),
        // The step after it is as long as the result: only what it is computed from is remembered.
        ("a step after a reduction", &step(&median, "more"), (1024, 9), local, vec!["median"]),
        // 2 MiB are stored, 78 are not.
        ("a stack of two", &step(&median, "stack_more"), (1024, 2), jp2, vec!["fused"]),
        ("a stack of many", &step(&median, "stack_more"), (256, 300), jp2, vec![]),
    ] {
        assert_eq!(remembered(graft, size, source), expected, "{what}");
    }
}

/// An interactive change: another constant after an expensive reduction.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_constant_computes_only_the_last_step_again() {
    let gate = Gate::new(Mood::Open);
    let tiles = tiles(gate.clone(), 1);
    let with_constant = |two: f64| {
        let graft = json!({ "mid": ["median", "stack", "axis"], "two": two, "more": ["mul", "mid", "two"] });
        let job = job(planned(&on_stack(graft, "more"), 64, 9, 64));
        with(&job, |job| job.options.use_cache = true)
    };
    let first = tiles.compute(&with_constant(2.5), FIRST).await.unwrap();
    assert_eq!((*gate.reads.borrow(), first.cost.cache_hits, first.cost.cache_misses), (9, 0, 1));
    let (changed, other) = (with_constant(3.5), with_constant(3.5));
    let second = tiles.compute(&changed, FIRST).await.unwrap();
    assert_eq!((*gate.reads.borrow(), second.cost.cache_hits, second.cost.cache_misses), (9, 1, 0));
    assert_eq!((second.cost.read_bytes, second.cost.read), (0, Duration::ZERO));
    assert!(!second.cost.from_cache && second.bytes != first.bytes);
    // One step is left of the plan.
    let plan = &changed.plan;
    let median = |id: NodeId| plan.node(id).cached;
    assert_eq!(plan.tile(FIRST).unwrap().with_ready(&median).steps().len(), 1);
    // And it computes what it would have without any memory.
    let plain = tiles.compute(&with(&other, |job| job.options.use_cache = false), FIRST).await.unwrap();
    assert_eq!((plain.bytes, *gate.reads.borrow()), (second.bytes, 18));
}

/// The published client computes a `cache_id` of its own: another tenant could choose it.
#[test]
fn what_clients_call_a_computation_is_not_its_key() {
    let keys = |op: &str, cache_id: Option<&str>| {
        let named = cache_id.map(|id| json!({ "cache_id": id }));
        let call = [json!(op), json!("stack"), json!("axis")].into_iter().chain(named);
        let call: Vec<Value> = call.collect();
        let plan = planned(&on_stack(json!({ "out": call }), "out"), 16, 3, 16);
        let keys = plan.tile(FIRST).unwrap().keys("salt");
        assert_eq!(keys.len(), 1);
        keys[0].1
    };
    assert_eq!(keys("median", Some("mine")), keys("median", None));
    assert_ne!(keys("max", Some("mine")), keys("median", Some("mine")));
}
