//! What holds of every plan: tiles, passes, remembered blocks, keys, facts, memory.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use graticule_common::block::{Block, Kind, Samples};
use graticule_common::expr::ExprNode;
use graticule_common::grid::Window;
use graticule_common::hash::ContentHash;
use graticule_common::ops::{FAMILIES, Facts, property};
use graticule_common::plan::{NodeId, Options, Outcome, PASSES, Plan, Step, TilePlan};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::generate::{Case, Tape};
use crate::{
    eval_tile, expr_of, law, law_of_all, options, outcome_of, pass_subsets, plan_of, plan_on, remembered,
    remembering_all, result_of, settled, world,
};

#[test]
fn the_generator_knows_every_op_and_nearly_always_the_type() {
    let seen: RefCell<HashSet<&'static str>> = RefCell::default();
    let (rasters, large) = (Cell::new(0u32), Cell::new(0u32));
    law_of_all("generator", 1000, |case| {
        let expr = expr_of(&case.graft).expect("it was planned");
        for node in expr.nodes() {
            if let ExprNode::Call { op, .. } = node {
                seen.borrow_mut().insert(op.name());
            }
        }
        rasters.set(rasters.get() + 1);
        let bare = plan_of(case, &options(7, vec!["pushdown".into(), "fuse".into()]));
        large.set(large.get() + u32::from(bare.is_some_and(|plan| plan.nodes().len() >= 5)));
        Ok(())
    });
    let seen = seen.into_inner();
    for op in FAMILIES.iter().flat_map(|family| family.iter()) {
        let is_of_properties = property::OPS.iter().any(|other| other.name() == op.name());
        let is_known = seen.contains(op.name()) || is_of_properties;
        assert!(is_known, "no graft has `{}`", op.name());
    }
    assert!(large.get() * 2 >= rasters.get(), "{} of {} plans have a size", large.get(), rasters.get());
}

#[test]
fn tiled_equals_untiled() {
    law_of_all("tiles", 500, |case| {
        let tiled = |size| result_of(case, &options(size, vec![]));
        let whole = tiled(1024);
        for size in [1, 5, 7, 16] {
            prop_assert_eq!(tiled(size), whole.clone(), "tiles of {}", size);
        }
        Ok(())
    });
}

#[test]
fn passes_change_nothing() {
    law_of_all("passes", 500, |case| {
        let with = |off: Vec<String>| result_of(case, &options(16, off));
        let all = with(vec![]);
        let mut tape = Tape::new(&case.rest);
        for off in some_pass_subsets(&mut tape) {
            prop_assert_eq!(with(off.clone()), all.clone(), "without {:?}", off);
        }
        Ok(())
    });
}

/// Without any pass, without each of them, and some other subsets, as what is left out.
fn some_pass_subsets(tape: &mut Tape) -> Vec<Vec<String>> {
    let all: Vec<String> = PASSES.iter().map(|pass| pass.name.to_owned()).collect();
    let mut subsets: Vec<Vec<String>> = all.iter().map(|pass| vec![pass.clone()]).collect();
    subsets.extend((0..4).map(|_| all.iter().filter(|_| tape.once_in(2)).cloned().collect()));
    subsets.push(all);
    subsets
}

#[test]
fn cached_equals_computed() {
    law("cached", 500, |case| {
        let mut tape = Tape::new(&case.rest);
        let plan = plan_of(case, &options(7, vec![])).expect("a plan");
        check_cached(&plan, 1 << 4, &mut tape)?;
        // As if every node were worth remembering.
        let off = pass_subsets().swap_remove(tape.below(1 << PASSES.len()));
        let plan = plan_of(case, &options(7, off)).expect("a plan");
        check_cached(&remembering_all(&plan), 6, &mut tape)
    });
}

/// Evaluates tiles with some of their remembered blocks: every subset, or `most` random ones.
fn check_cached(plan: &Plan, most: usize, tape: &mut Tape) -> Result<(), TestCaseError> {
    for id in plan.tiles() {
        let tile = plan.tile(id).expect("a tile of the plan");
        let (computed, finished) = eval_tile(&tile, Vec::new());
        let filed: HashSet<NodeId> = tile.keys("salt").into_iter().map(|(node, _)| node).collect();
        prop_assert_eq!(&filed, &finished.iter().map(|(node, _)| *node).collect::<HashSet<_>>());
        let every = 1usize.checked_shl(finished.len() as u32).filter(|every| *every <= most);
        for set in 0..every.unwrap_or(most) {
            let ready: Vec<(NodeId, Block)> = finished
                .iter()
                .enumerate()
                .filter(|(at, _)| if every.is_some() { set >> at & 1 == 1 } else { tape.below(3) == 1 })
                .map(|(_, (node, block))| (*node, remembered(block)))
                .collect();
            let nodes: HashSet<NodeId> = ready.iter().map(|(node, _)| *node).collect();
            let shortened = tile.with_ready(&|node| nodes.contains(&node));
            check_peak(&shortened, &nodes)?;
            let (block, again) = eval_tile(&shortened, ready);
            prop_assert_eq!(block.encode(), computed.encode(), "with {:?} ready", nodes);
            prop_assert!(again.iter().all(|(node, _)| !nodes.contains(node)), "computed again");
        }
    }
    Ok(())
}

/// Keys are what tiles are shared by: whatever the graft, the grid, the tile size and the passes, one
/// key never stands for two contents.
#[test]
fn equal_keys_mean_equal_bytes() {
    let known: RefCell<HashMap<ContentHash, Bytes>> = RefCell::default();
    let shared = Cell::new(0u64);
    law("keys", 500, |case| {
        let mut tape = Tape::new(&case.rest);
        for grid in 0..world::GRID_COUNT {
            let off = pass_subsets().swap_remove(tape.below(1 << PASSES.len()));
            let size = *tape.one(&[7, 16, 4]);
            // On another grid stacks may have other lengths: not every graft fits there.
            let Some(plan) = plan_on(case, grid, &options(size, off)) else { continue };
            let plan = remembering_all(&plan);
            for id in plan.tiles() {
                let tile = plan.tile(id).expect("a tile of the plan");
                let keys: HashMap<NodeId, ContentHash> = tile.keys("salt").into_iter().collect();
                for (node, block) in eval_tile(&tile, Vec::new()).1 {
                    let bytes = block.encode();
                    let mut known = known.borrow_mut();
                    match known.get(&keys[&node]) {
                        Some(other) => {
                            prop_assert_eq!(other, &bytes, "node {:?} of {}", node, id);
                            shared.set(shared.get() + 1);
                        }
                        None => drop(known.insert(keys[&node], bytes)),
                    }
                }
            }
        }
        Ok(())
    });
    assert!(shared.get() > 1000, "only {} keys were met again", shared.get());
    let sample = known.into_inner().len();
    assert!(sample > 1000, "only {sample} keys");
}

#[test]
fn keys_depend_on_the_salt() {
    law("salt", 20, |case| {
        let plan = remembering_all(&plan_of(case, &options(16, vec![])).expect("a plan"));
        let tile = plan.tiles().first().and_then(|id| plan.tile(*id));
        if let Some(tile) = tile {
            let keys = |salt| tile.keys(salt).into_iter().map(|(_, key)| key).collect::<HashSet<_>>();
            prop_assert!(keys("one").is_disjoint(&keys("other")));
        }
        Ok(())
    });
}

/// Arrays of values that depend on all pixels: the same bytes whatever the tiles and the passes are.
#[test]
fn values_of_all_pixels_do_not_depend_on_the_way() {
    let arrays = |case: &Case, key: &str, options: &Options| -> Option<Bytes> {
        let mut graft = case.graft.clone();
        graft["returns"] = key.into();
        match settled(outcome_of(&expr_of(&graft).ok()?, case, case.grid, options)?) {
            Outcome::Array { array, .. } => Some(array.encode()),
            _ => None,
        }
    };
    law("values", 200, |case| {
        let keys = case.graft.as_object().into_iter().flat_map(|graft| graft.keys());
        for key in keys.filter(|key| *key != "returns") {
            let Some(whole) = arrays(case, key, &options(1024, vec![])) else { continue };
            for (size, off) in [(1, vec![]), (5, vec![]), (7, vec!["fold".into(), "fuse".into()])] {
                let way = arrays(case, key, &options(size, off));
                prop_assert_eq!(way.as_ref(), Some(&whole), "`{}` in tiles of {}", key, size);
            }
        }
        Ok(())
    });
}

/// Two areas that see the same scenes share every tile that lies wholly in both, but for those in whose
/// neighbourhoods one of them ends.
#[test]
fn grids_on_one_lattice_share_keys() {
    let shared = Cell::new(0u32);
    law("lattice", 300, |case| {
        let plans = [0, 1].map(|grid| plan_on(case, grid, &options(4, vec![])));
        // The graft was made for another grid, where stacks have other lengths.
        let [Some(one), Some(other)] = plans else { return Ok(()) };
        // Values of all pixels are those of an area, and so is what they go into.
        let expr = expr_of(&case.graft).expect("it was planned");
        if matches!(outcome_of(&expr, case, 0, &options(4, vec![])), Some(Outcome::Staged(_))) {
            return Ok(());
        }
        prop_assert_eq!(one.root_node().hash, other.root_node().hash);
        let tiles = |plan: &Plan| -> BTreeMap<Window, (Vec<Window>, Vec<ContentHash>)> {
            let tiles = plan.tiles().into_iter().filter_map(|id| plan.tile(id));
            let tile = |tile: TilePlan<'_>| {
                let keys = tile.keys("salt").into_iter().map(|(_, key)| key).collect();
                let nodes = (0..).map(NodeId).take(plan.nodes().len());
                let windows = nodes.flat_map(|id| [tile.node_window(id), tile.input_window(id)]);
                (tile.window(), (windows.collect(), keys))
            };
            tiles.map(tile).collect()
        };
        let (one, other) = (tiles(&one), tiles(&other));
        for (window, (windows, keys)) in one {
            // Where a neighbourhood ends at the edge of one grid, its pixels are others.
            if let Some((_, others)) = other.get(&window).filter(|(others, _)| *others == windows) {
                prop_assert_eq!(&keys, others);
                shared.set(shared.get() + 1);
            }
        }
        Ok(())
    });
    assert!(shared.get() > 100, "only {} tiles were shared", shared.get());
}

#[test]
fn facts_are_those_of_the_pixels() {
    law("facts", 400, |case| {
        for off in [vec![], vec!["fuse".to_owned()], vec!["pushdown".to_owned(), "fuse".to_owned()]] {
            let plan = remembering_all(&plan_of(case, &options(7, off)).expect("a plan"));
            for id in plan.tiles() {
                let tile = plan.tile(id).expect("a tile of the plan");
                for (node, block) in eval_tile(&tile, Vec::new()).1 {
                    let (facts, window) = (plan.node(node).facts, tile.node_window(node));
                    prop_assert_eq!(block.kind(), facts.kind);
                    prop_assert_eq!(block.samples().dtype(), facts.dtype);
                    let shape = if is_array(facts) { (1, 1) } else { (window.rows, window.cols) };
                    prop_assert_eq!(block.shape(), shape);
                    prop_assert!(block.valid().iter().all(|valid| *valid <= 1));
                    if let Samples::Bool(values) = block.samples() {
                        prop_assert!(values.iter().all(|value| *value <= 1), "a truth value above 1");
                    }
                }
            }
        }
        Ok(())
    });
}

/// Arrays have no pixels of their own.
fn is_array(facts: Facts) -> bool {
    matches!(facts.kind, Kind::Array(_))
}

#[test]
fn memory_is_what_was_said() {
    law("memory", 300, |case| {
        for off in some_pass_subsets(&mut Tape::new(&case.rest)) {
            let plan = plan_of(case, &options(7, off)).expect("a plan");
            for id in plan.tiles() {
                let tile = plan.tile(id).expect("a tile of the plan");
                check_peak(&tile, &HashSet::new())?;
                prop_assert!(tile.peak_bytes() <= plan.tile_peak_bytes());
            }
        }
        Ok(())
    });
}

/// Holds blocks as the interpreter does and adds up their bytes.
fn check_peak(tile: &TilePlan<'_>, ready: &HashSet<NodeId>) -> Result<(), TestCaseError> {
    let plan = tile.plan();
    let bytes = |node: &NodeId| {
        let facts = plan.node(*node).facts;
        let pixels = if is_array(facts) { 1 } else { tile.node_window(*node).pixels() };
        let values = facts.kind.planes() * pixels;
        values as u64 * (facts.dtype.bytes() + 1)
    };
    // A block that is ready and not asked for need not be fetched.
    let used = |node: &&NodeId| {
        **node == plan.root()
            || tile.steps().iter().flat_map(Step::nodes).any(|id| plan.node(id).inputs().contains(node))
    };
    let mut live: HashSet<NodeId> = ready.iter().filter(used).copied().collect();
    let mut peak = live.iter().map(bytes).sum::<u64>();
    for step in tile.steps() {
        let nodes = step.nodes();
        let here = |input: &NodeId| live.contains(input) || nodes.contains(input);
        prop_assert!(nodes.iter().all(|node| plan.node(*node).inputs().iter().all(here)));
        for result in step.results(plan) {
            prop_assert!(live.insert(result), "a step twice");
        }
        peak = peak.max(live.iter().map(bytes).sum());
        for dropped in &step.drops {
            prop_assert!(live.remove(dropped), "dropped what was not there");
        }
    }
    prop_assert_eq!(live, HashSet::from([plan.root()]), "blocks left over");
    prop_assert!(tile.peak_bytes() >= peak, "{} bytes said, {} held", tile.peak_bytes(), peak);
    // Beside the blocks there is some scratch space, little on tiles of this size.
    prop_assert!(tile.peak_bytes() <= peak + (8 << 20), "{} bytes said, {} held", tile.peak_bytes(), peak);
    Ok(())
}
