//! Several results of one graft are what each is alone.

use std::collections::HashSet;

use bytes::Bytes;
use graticule_common::hash::ContentHash;
use graticule_common::plan::Step;
use graticule_common::plan::{NodeId, Options, Outcome, Plan};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::generate::Case;
use crate::{
    eval_all, evaluate, evaluate_result, expr_of, law, options, outcome_of, plan_of, remembering_all, settled,
};

/// Up to four keys of a graft whose values are rasters, its result first.
fn raster_keys(case: &Case) -> Vec<String> {
    let keys = case.graft.as_object().expect("a graft").keys().filter(|key| *key != "returns").cloned();
    let result = case.graft["returns"].as_str().expect("a name").to_owned();
    let is_raster = |key: &String| plan_of(&returning(case, key), &Options::default()).is_some();
    std::iter::once(result).chain(keys.filter(is_raster).take(3)).collect()
}

fn returning(case: &Case, key: &str) -> Case {
    let mut case = case.clone();
    case.graft["returns"] = key.into();
    case
}

fn several_of(case: &Case, keys: &[String], options: &Options) -> Plan {
    let mut case = case.clone();
    let results: Map<String, Value> =
        keys.iter().enumerate().map(|(at, key)| (format!("r{at}"), key.as_str().into())).collect();
    case.graft["all results"] = json!(["object", results]);
    case.graft["returns"] = "all results".into();
    let expr = expr_of(&case.graft).expect("a graft");
    match outcome_of(&expr, &case, case.grid, options).map(settled) {
        Some(Outcome::Several { plan: Some(plan), results }) => {
            assert_eq!(results.len(), keys.len());
            plan
        }
        other => panic!("not several results: {other:?}"),
    }
}

#[test]
fn several_results_are_what_each_is_alone() {
    law("several results", 60, |case| {
        let keys = raster_keys(case);
        let alone: Vec<Bytes> = keys
            .iter()
            .map(|key| evaluate(&plan_of(&returning(case, key), &options(32, vec![])).expect("a plan")))
            .collect();
        for (size, off) in [(64, vec![]), (16, vec![]), (32, vec!["pushdown".into(), "fuse".into()])] {
            let plan = several_of(case, &keys, &options(size, off));
            for (at, alone) in alone.iter().enumerate() {
                prop_assert_eq!(&evaluate_result(&plan, at), alone, "result {}", &keys[at]);
            }
        }
        Ok(())
    });
}

#[test]
fn several_results_take_remembered_blocks() {
    law("several remembered", 60, |case| {
        let plan = remembering_all(&several_of(case, &raster_keys(case), &options(16, vec![])));
        for id in plan.tiles() {
            let tile = plan.tile(id).expect("a tile of the plan");
            let (computed, finished) = eval_all(&tile, Vec::new());
            for chosen in 0..3 {
                let ready: Vec<_> =
                    finished.iter().filter(|(node, _)| node.index() % 3 == chosen).cloned().collect();
                let is_ready = |id: NodeId| ready.iter().any(|(node, _)| *node == id);
                let shortened = tile.with_ready(&is_ready);
                let (again, _) = eval_all(&shortened, ready.clone());
                for (block, again) in computed.iter().zip(&again) {
                    prop_assert_eq!(block.encode(), again.encode());
                }
            }
        }
        Ok(())
    });
}

#[test]
fn results_that_share_a_node_compute_it_once() {
    law("shared nodes", 40, |case| {
        let keys = raster_keys(case);
        let plan = several_of(case, &keys, &options(32, vec![]));
        for id in plan.tiles() {
            let tile = plan.tile(id).expect("a tile of the plan");
            let computed: Vec<NodeId> = tile.steps().iter().flat_map(Step::nodes).collect();
            let nodes: HashSet<NodeId> = computed.iter().copied().collect();
            prop_assert_eq!(nodes.len(), computed.len(), "a node is computed twice");
            let hashes: HashSet<ContentHash> = nodes.iter().map(|id| plan.node(*id).hash).collect();
            prop_assert_eq!(hashes.len(), nodes.len(), "a value is computed twice");
        }
        Ok(())
    });
}
