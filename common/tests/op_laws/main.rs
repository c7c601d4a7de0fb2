//! The laws of the engine, over random grafts of the whole language on a world without files.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use graticule_common::block::{Block, Samples};
use graticule_common::eval::{EvalError, Surroundings, eval};
use graticule_common::expr::{Expr, ExprNode};
use graticule_common::graft::{GraftError, resolve};
use graticule_common::grid::{TileSize, Window};
use graticule_common::hash::ContentHash;
use graticule_common::limits::Limits;
use graticule_common::ops::{BindCx, FAMILIES};
use graticule_common::plan::{self, NodeId, Options, Outcome, PASSES, Plan, Read, Step, TilePlan};
use graticule_common::transform::ByText;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use serde_json::{Map, Value, json};

mod generate;
mod world;

use generate::{Case, Tape};

/// Checks a law on random requests, the same ones in every run. Nearly all of them must have a type,
/// or the law would say little.
#[track_caller]
fn law(name: &str, cases: u32, check: impl Fn(&Case) -> Result<(), TestCaseError>) {
    let mut seed = [0u8; 32];
    seed.iter_mut().zip(name.bytes()).for_each(|(seed, byte)| *seed = byte);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 4096, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let (all, typed) = (Cell::new(0u32), Cell::new(0u32));
    let requests = vec(any::<u32>(), 10..200).prop_map(|words| Case::new(&words));
    let outcome = runner.run(&requests, |case| {
        all.set(all.get() + 1);
        if plan_of(&case, &Options::default()).is_some() {
            typed.set(typed.get() + 1);
            check(&case)?;
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    assert!(typed.get() * 100 >= all.get() * 80, "only {} of {} grafts have a type", typed.get(), all.get());
}

fn expr_of(graft: &Value) -> Result<Expr, GraftError> {
    resolve(graft.to_string().as_bytes(), &Limits::default())
}

fn outcome_of(expr: &Expr, case: &Case, grid: usize, options: &Options) -> Option<Outcome> {
    let (grid, answers, images) = (world::grid(grid), world::answers(expr)?, world::named_images(expr)?);
    let cx = BindCx { grid: &grid, transform: &ByText, answers: &answers, images: &images };
    plan::build(expr, &cx, case.outline.clone(), &Limits::default(), options).ok()
}

/// The plan of a request, if it is one and its value is a raster.
fn plan_of(case: &Case, options: &Options) -> Option<Plan> {
    plan_on(case, case.grid, options)
}

fn plan_on(case: &Case, grid: usize, options: &Options) -> Option<Plan> {
    match outcome_of(&expr_of(&case.graft).ok()?, case, grid, options)? {
        Outcome::Raster { plan, .. } => Some(plan),
        Outcome::Number(_) | Outcome::Array { .. } | Outcome::Several { .. } => None,
    }
}

fn options(tile_size: u32, passes_off: Vec<String>) -> Options {
    Options { tile_size: TileSize::new(tile_size), passes_off, ..Options::default() }
}

/// Every subset of the passes, as what is left out.
fn pass_subsets() -> Vec<Vec<String>> {
    let chosen = |set: usize| PASSES.iter().enumerate().filter(move |(at, _)| set >> at & 1 == 1);
    (0..1usize << PASSES.len())
        .map(|set| chosen(set).map(|(_, pass)| pass.name.to_owned()).collect())
        .collect()
}

/// The same plan with every node remembered.
fn remembering_all(plan: &Plan) -> Plan {
    let parts = plan.nodes().iter().map(|node| (node.kind.clone(), node.hash, true)).collect();
    Plan::from_parts(plan.grid().clone(), parts, plan.roots().to_vec(), plan.tile_size())
        .expect("a plan's own parts")
}

/// The world as the interpreter sees it; keeps what is worth remembering.
#[derive(Default)]
struct Around {
    finished: Vec<(NodeId, Block)>,
}

impl Surroundings for Around {
    type Error = std::convert::Infallible;

    fn read(&mut self, read: &Read, image: Option<u32>, window: &Window) -> Result<Block, Self::Error> {
        Ok(world::read(read, image, window))
    }

    fn spared(&mut self, _: &Read, _: Option<u32>, _: &Window) {}

    fn finished(&mut self, node: NodeId, block: &Block) {
        self.finished.push((node, block.clone()));
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}

fn eval_tile(tile: &TilePlan<'_>, ready: Vec<(NodeId, Block)>) -> (Block, Vec<(NodeId, Block)>) {
    let (mut blocks, finished) = eval_all(tile, ready);
    (blocks.swap_remove(0), finished)
}

fn eval_all(tile: &TilePlan<'_>, ready: Vec<(NodeId, Block)>) -> (Vec<Block>, Vec<(NodeId, Block)>) {
    let mut around = Around::default();
    match eval(tile, ready, &mut around) {
        Ok(blocks) => (blocks, around.finished),
        Err(EvalError::Cancelled) => panic!("nobody cancels"),
        Err(EvalError::Read(never)) => match never {},
    }
}

/// The whole grid, encoded; where there is no tile, nothing is valid.
fn evaluate(plan: &Plan) -> Bytes {
    evaluate_result(plan, 0)
}

fn evaluate_result(plan: &Plan, at: usize) -> Bytes {
    let (grid, facts) = (plan.grid().window(), plan.node(plan.roots()[at].node).facts);
    let whole = Block::invalid(facts.kind, facts.dtype, (grid.rows, grid.cols));
    let (mut samples, mut valid) = whole.into_parts();
    for id in plan.tiles() {
        let tile = plan.tile(id).expect("a tile of the plan");
        let (block, window) = (eval_all(&tile, Vec::new()).0.swap_remove(at), tile.window());
        let plane_rows = facts.kind.planes() * window.rows as usize;
        for line in 0..plane_rows {
            let (plane, row) = (line / window.rows as usize, line % window.rows as usize);
            let below = plane * grid.rows as usize + (window.row - grid.row) as usize + row;
            let to = below * grid.cols as usize + (window.col - grid.col) as usize;
            let from = line * window.cols as usize..(line + 1) * window.cols as usize;
            let to = to..to + window.cols as usize;
            valid[to.clone()].copy_from_slice(&block.valid()[from.clone()]);
            match (&mut samples, block.samples()) {
                (Samples::F32(out), Samples::F32(values)) => out[to].copy_from_slice(&values[from]),
                (Samples::Bool(out), Samples::Bool(values)) => out[to].copy_from_slice(&values[from]),
                _ => panic!("a tile of another type than its plan"),
            }
        }
    }
    Block::new(facts.kind, (grid.rows, grid.cols), samples, valid).encode()
}

/// Through the encoding in which blocks are remembered.
fn remembered(block: &Block) -> Block {
    Block::decode(&block.encode()).expect("what was encoded")
}

/// Ops that random grafts do not have yet.
const UNUSED: &[&str] = &[
    "array",
    "arccos",
    "arcsin",
    "arctan",
    "arctan2",
    "bit",
    "bits",
    "ceil",
    "clip",
    "cos",
    "dot",
    "exp",
    "filled",
    "floor",
    "isin",
    "log",
    "log10",
    "maximum",
    "minimum",
    "mod",
    "normalized_difference",
    "round",
    "sin",
    "sqrt",
    "tan",
    "where",
    "sum",
    "std",
    "argmax",
    "argmin",
    "count",
    "any",
    "all",
    "first",
    "last",
    "var",
    "ptp",
    "percentile",
];

#[test]
fn the_generator_knows_every_op_and_nearly_always_the_type() {
    let seen: RefCell<HashSet<&'static str>> = RefCell::default();
    let (rasters, large) = (Cell::new(0u32), Cell::new(0u32));
    law("generator", 300, |case| {
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
        assert!(seen.contains(op.name()) || UNUSED.contains(&op.name()), "no graft has `{}`", op.name());
    }
    assert!(large.get() * 2 >= rasters.get(), "{} of {} plans have a size", large.get(), rasters.get());
}

#[test]
fn tiled_equals_untiled() {
    law("tiles", 500, |case| {
        let tiled = |size| evaluate(&plan_of(case, &options(size, vec![])).expect("a plan"));
        let whole = tiled(1024);
        for size in [1, 5, 7, 16] {
            prop_assert_eq!(tiled(size), whole.clone(), "tiles of {}", size);
        }
        Ok(())
    });
}

#[test]
fn passes_change_nothing() {
    law("passes", 300, |case| {
        let with = |off: Vec<String>| evaluate(&plan_of(case, &options(16, off)).expect("a plan"));
        let all = with(vec![]);
        for off in pass_subsets() {
            prop_assert_eq!(with(off.clone()), all.clone(), "without {:?}", off);
        }
        Ok(())
    });
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

/// Two areas that see the same scenes share every tile that lies wholly in both.
#[test]
fn grids_on_one_lattice_share_keys() {
    let shared = Cell::new(0u32);
    law("lattice", 300, |case| {
        let plans = [0, 1].map(|grid| plan_on(case, grid, &options(4, vec![])));
        // The graft was made for another grid, where stacks have other lengths.
        let [Some(one), Some(other)] = plans else { return Ok(()) };
        prop_assert_eq!(one.root_node().hash, other.root_node().hash);
        let keys = |plan: &Plan| -> BTreeMap<Window, Vec<ContentHash>> {
            let tiles = plan.tiles().into_iter().filter_map(|id| plan.tile(id));
            tiles.map(|t| (t.window(), t.keys("salt").into_iter().map(|(_, key)| key).collect())).collect()
        };
        let (one, other) = (keys(&one), keys(&other));
        for (window, keys) in one {
            if let Some(others) = other.get(&window) {
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
                    prop_assert_eq!(block.shape(), (window.rows, window.cols));
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

#[test]
fn memory_is_what_was_said() {
    law("memory", 300, |case| {
        for off in pass_subsets() {
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
        let values = facts.kind.planes() * tile.node_window(*node).pixels();
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

#[test]
fn the_spelling_of_a_graft_does_not_matter() {
    law("spelling", 500, |case| {
        let mut tape = Tape::new(&case.rest);
        let hash = expr_of(&case.graft).expect("it was planned").hash();
        let graft = case.graft.as_object().expect("an object");
        let same = |graft: Map<String, Value>, how: &str| {
            let text = Value::Object(graft);
            match expr_of(&text) {
                Ok(expr) => prop_assert_eq!(expr.hash(), hash, "{}: {}", how, text),
                Err(error) => prop_assert!(false, "{}: {}: {}", how, error, text),
            }
            Ok(())
        };
        let renamed = rename(graft, &BTreeMap::new(), &mut tape, &mut 0);
        same(renamed.clone(), "renamed")?;
        same(merge(graft.clone()), "merged")?;
        same(merge(renamed.clone()), "renamed and merged")?;
        let split = split(graft, &mut tape);
        same(split.clone(), "split")?;
        same(merge(split), "split and merged")?;
        same(decorate(&renamed, &mut tape), "with more keys and cache ids")
    });
}

/// Is this the value of a key an application, and not quoted JSON?
fn application(value: &Value) -> Option<&Vec<Value>> {
    value.as_array().filter(|items| items.first().is_some_and(Value::is_string))
}

/// The same body with other names wherever it, or a function in it, refers to a key.
fn refer(body: &Map<String, Value>, new: &dyn Fn(&str) -> String) -> Map<String, Value> {
    let change = |(key, value): (&String, &Value)| {
        let value = match value {
            Value::String(returns) if key == "returns" => new(returns).into(),
            value if key == "parameters" => value.clone(),
            Value::Object(inner) => refer(inner, new).into(),
            value => application(value).map_or(value.clone(), |items| refer_items(items, new).into()),
        };
        (key.clone(), value)
    };
    body.iter().map(change).collect()
}

/// The keys of an application under other names; the names of its named arguments stay.
fn refer_items(items: &[Value], new: &dyn Fn(&str) -> String) -> Vec<Value> {
    let key = |key: &Value| Value::from(new(key.as_str().expect("a key")));
    let changed = items.iter().map(|item| match item {
        Value::Object(named) => {
            named.iter().map(|(name, value)| (name.clone(), key(value))).collect::<Map<_, _>>().into()
        }
        item => key(item),
    });
    changed.collect()
}

fn is_reserved(key: &str) -> bool {
    key == "returns" || key == "parameters"
}

/// Every key gets another name; parameters keep theirs.
fn rename(
    body: &Map<String, Value>,
    outside: &BTreeMap<String, String>,
    tape: &mut Tape,
    next: &mut usize,
) -> Map<String, Value> {
    let mut names = outside.clone();
    for parameter in body.get("parameters").and_then(Value::as_array).into_iter().flatten() {
        names.remove(parameter.as_str().expect("a name"));
    }
    for key in body.keys().filter(|key| !is_reserved(key)) {
        *next += 1;
        // The random part shuffles the keys' order.
        names.insert(key.clone(), format!("k{:03}é/~{next}", tape.below(1000)));
    }
    let new = |key: &str| names.get(key).cloned().unwrap_or_else(|| key.to_owned());
    let mut renamed = Map::new();
    for (key, value) in body {
        let value = match value {
            Value::String(returns) if key == "returns" => new(returns).into(),
            value if key == "parameters" => value.clone(),
            Value::Object(inner) => rename(inner, &names, tape, next).into(),
            value => application(value).map_or(value.clone(), |items| refer_items(items, &new).into()),
        };
        renamed.insert(if is_reserved(key) { key.clone() } else { new(key) }, value);
    }
    renamed
}

/// Names that functions in a body give a meaning of their own.
fn hidden(body: &Map<String, Value>) -> HashSet<String> {
    let mut names = HashSet::new();
    for inner in body.values().filter_map(Value::as_object) {
        names.extend(inner.keys().cloned());
        let parameters = inner.get("parameters").and_then(Value::as_array).into_iter().flatten();
        names.extend(parameters.filter_map(Value::as_str).map(str::to_owned));
        names.extend(hidden(inner));
    }
    names
}

/// Equal keys become one, again and again, as the published client does it.
fn merge(mut body: Map<String, Value>) -> Map<String, Value> {
    let hidden = hidden(&body);
    loop {
        let mut first: HashMap<String, String> = HashMap::new();
        let mut same: HashMap<String, String> = HashMap::new();
        for (key, value) in body.iter().filter(|(key, _)| !is_reserved(key) && !hidden.contains(*key)) {
            match first.get(&value.to_string()) {
                Some(known) => drop(same.insert(key.clone(), known.clone())),
                None => drop(first.insert(value.to_string(), key.clone())),
            }
        }
        if same.is_empty() {
            return body;
        }
        body.retain(|key, _| !same.contains_key(key));
        body = refer(&body, &|key| same.get(key).cloned().unwrap_or_else(|| key.to_owned()));
    }
}

/// Some uses of a key get a copy of it.
fn split(body: &Map<String, Value>, tape: &mut Tape) -> Map<String, Value> {
    let mut copies = Map::new();
    let mut out = body.clone();
    for items in out.values_mut().filter_map(Value::as_array_mut) {
        if !items.first().is_some_and(Value::is_string) {
            continue;
        }
        for item in items.iter_mut() {
            let original = item.as_str().and_then(|key| body.get(key));
            if let (Some(original), true) = (original, tape.once_in(2)) {
                let name = format!("copy {}", copies.len());
                *item = name.as_str().into();
                copies.insert(name, original.clone());
            }
        }
    }
    out.extend(copies);
    out
}

/// Hints on applications, and keys that nobody needs.
fn decorate(body: &Map<String, Value>, tape: &mut Tape) -> Map<String, Value> {
    let change = |(key, value): (&String, &Value)| {
        let mut value = value.clone();
        match &mut value {
            Value::Object(inner) => *inner = decorate(inner, tape),
            value if !is_reserved(key) && application(value).is_some() && tape.once_in(2) => {
                let Value::Array(items) = value else { return (key.clone(), value.clone()) };
                match items.last_mut() {
                    Some(Value::Object(named)) => drop(named.insert("cache_id".into(), "any".into())),
                    _ => items.push(json!({"cache_id": "any"})),
                }
            }
            _ => {}
        }
        (key.clone(), value)
    };
    let mut out: Map<String, Value> = body.iter().map(change).collect();
    if !body.contains_key("parameters") {
        out.insert("nobody 1".into(), json!(["no such op", "no such key"]));
        out.insert("nobody 2".into(), json!(["nobody 2"]));
        out.insert("nobody 3".into(), json!({"returns": "nowhere"}));
        out.insert("nobody 4".into(), json!(12.5));
    }
    out
}

#[test]
fn another_constant_or_op_is_another_computation() {
    let other_op = |op: &str| match op {
        "add" => Some("sub"),
        "sub" => Some("rsub"),
        "gt" => Some("ge"),
        "median" => Some("mean"),
        "pick_bands" => Some("rename_bands"),
        _ => None,
    };
    law("changes", 400, |case| {
        let expr = expr_of(&case.graft).expect("it was planned");
        // Every node of the normal form is part of the result.
        let normal = expr.to_graft();
        for (key, value) in normal.as_object().expect("an object").iter().filter(|(key, _)| !is_reserved(key))
        {
            let changed = match value {
                Value::Array(items) if application(value).is_some() => {
                    let Some(op) = items[0].as_str().and_then(other_op) else { continue };
                    let mut items = items.clone();
                    items[0] = op.into();
                    items.into()
                }
                Value::Array(items) => json!([[items[0].clone()]]),
                Value::Null => json!(0),
                Value::Bool(value) => json!(i64::from(*value)),
                Value::String(text) => json!(format!("{text} ")),
                Value::Number(number) if number.is_f64() => json!(-number.as_f64().unwrap_or(0.0)),
                // Another number, or the same one of another kind.
                Value::Number(number) => match number.as_i64() {
                    Some(number) if number % 2 == 0 => json!(number + 1),
                    _ => json!(number.as_f64().unwrap_or(0.0)),
                },
                Value::Object(_) => continue,
            };
            let mut graft = normal.clone();
            graft[key] = changed.clone();
            if let Ok(other) = expr_of(&graft) {
                prop_assert_ne!(other.hash(), expr.hash(), "{} for {}", changed, value);
            }
        }
        Ok(())
    });
}

#[test]
fn an_expression_prints_as_a_graft_that_means_the_same() {
    law("printing", 400, |case| {
        let expr = expr_of(&case.graft).expect("it was planned");
        let printed = expr.to_graft();
        let again = expr_of(&printed);
        prop_assert!(again.is_ok(), "{:?}: {}", again.err(), printed);
        let again = again.expect("it was checked");
        prop_assert_eq!(again.hash(), expr.hash());
        prop_assert_eq!(again.nodes().len(), expr.nodes().len());
        Ok(())
    });
}

/// Whatever the bytes are: an expression or an error, and a plan or an error. Never a panic.
fn survives(text: &[u8]) {
    let Ok(expr) = resolve(text, &Limits::default()) else { return };
    let Some(answers) = world::answers(&expr) else { return };
    let Some(images) = world::named_images(&expr) else { return };
    let grid = world::grid(0);
    let cx = BindCx { grid: &grid, transform: &ByText, answers: &answers, images: &images };
    if let Ok(Outcome::Raster { plan, .. }) =
        plan::build(&expr, &cx, None, &Limits::default(), &Options::default())
    {
        evaluate(&plan);
    }
}

const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "returns",
    "parameters",
    "\"returns\":",
    "null",
    "true",
    "-",
    "0",
    "1",
    "1e400",
    "1e-400",
    "0.1",
    "99999999999999999999",
    "\"math\"",
    "\"add\"",
    "\"k\"",
    "\"cache_id\"",
    "\u{feff}",
    " ",
    "\n",
    "é",
    "\"select_scenes\"",
    "\"p\"",
    "[[",
    "]]",
    "{}",
    "[]",
    "/",
    "*",
];

#[test]
fn no_text_makes_the_resolver_panic() {
    let config = Config { cases: 5000, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let texts = prop_oneof![
        vec(any::<u8>(), 0..60),
        vec(proptest::sample::select(PIECES), 0..60).prop_map(|pieces| pieces.concat().into_bytes()),
    ];
    let outcome = TestRunner::new_with_rng(config, rng).run(&texts, |text| {
        survives(&text);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn no_damage_to_a_graft_makes_it_panic() {
    law("damage", 500, |case| {
        let mut tape = Tape::new(&case.rest);
        for _ in 0..8 {
            let mut text = case.text();
            for _ in 0..1 + tape.below(3) {
                let at = tape.below(text.len());
                match tape.below(4) {
                    0 => drop(text.remove(at)),
                    1 => text[at] = tape.below(256) as u8,
                    2 => drop(text.splice(at..at, tape.one(PIECES).bytes())),
                    _ => {
                        let end = (at + 1 + tape.below(20)).min(text.len());
                        let part = text[at..end].to_vec();
                        let to = tape.below(text.len());
                        drop(text.splice(to..to, part));
                    }
                }
            }
            survives(&text);
        }
        // And damage that is still JSON: keys and values in each other's places.
        let mut graft = case.graft.as_object().expect("an object").clone();
        let keys: Vec<String> = graft.keys().cloned().collect();
        for _ in 0..1 + tape.below(3) {
            let (one, other) = (tape.one(&keys).clone(), tape.one(&keys).clone());
            match graft.get(&other).cloned() {
                Some(value) if tape.once_in(2) => drop(graft.insert(one, value)),
                _ => {
                    if let Some(Value::Array(items)) = graft.get_mut(&one) {
                        let at = tape.below(items.len());
                        items[at] = other.into();
                    }
                }
            }
        }
        survives(Value::Object(graft).to_string().as_bytes());
        Ok(())
    });
}

fn refusal(graft: &Value) -> GraftError {
    expr_of(graft).expect_err("it must be refused")
}

#[test]
fn ten_thousand_levels_are_refused() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let text = format!(r#"{{"returns": "a", "a": {}1{}}}"#, open.repeat(10_000), close.repeat(10_000));
        let error = resolve(text.as_bytes(), &Limits::default()).expect_err("too deep");
        assert!(matches!(error, GraftError::TooDeep { limit: 256, .. }), "{error}");
    }
    let unclosed = "[".repeat(1_000_000);
    let error = resolve(unclosed.as_bytes(), &Limits::default()).expect_err("too deep");
    assert!(matches!(error, GraftError::TooDeep { .. }), "{error}");
}

/// `f0(x) = x`, each further function applies the one before twice.
fn doubling(functions: usize, leaf: Value) -> Value {
    let mut graft = json!({"returns": "r", "one": 1, "f0": leaf});
    for at in 1..functions {
        let before = format!("f{}", at - 1);
        graft[format!("f{at}")] = json!({
            "parameters": ["x"], "returns": "b", "a": [before.as_str(), "x"], "b": [before.as_str(), "a"],
        });
    }
    graft["r"] = json!([format!("f{}", functions - 1), "one"]);
    graft
}

#[test]
fn an_expansion_that_explodes_is_refused() {
    let increment = json!({"parameters": ["x"], "returns": "y", "y": ["add", "x", "one"]});
    let error = refusal(&doubling(40, increment));
    assert!(matches!(error, GraftError::Limit { limit: 100_000, .. }), "{error}");
    // A body with many keys must not cost anything where they are not asked for.
    let mut wide = json!({"parameters": ["x"], "returns": "y", "y": ["add", "x", "one"]});
    for at in 0..9_000 {
        wide[format!("unused {at}")] = json!(at);
    }
    let error = refusal(&doubling(40, wide));
    assert!(matches!(error, GraftError::Limit { .. }), "{error}");
    // Nor may one with many parameters.
    let parameters: Vec<String> = (0..999).map(|at| format!("p{at}")).collect();
    let mut wide = json!({"parameters": ["x"], "returns": "y"});
    wide["inner"] = json!({"parameters": parameters, "returns": "p998"});
    wide["y"] = [vec!["inner"; 1], vec!["x"; 999]].concat().into();
    let error = refusal(&doubling(40, wide));
    assert!(matches!(error, GraftError::Limit { .. }), "{error}");
}

#[test]
fn lists_of_parameters_are_bounded() {
    let names: Vec<String> = (0..300_000).map(|at| format!("p{at}")).collect();
    let error = refusal(&json!({"returns": "x", "x": 1, "f": {"parameters": names, "returns": "x"}}));
    assert!(matches!(error, GraftError::Limit { limit: 1_000, .. }), "{error}");
}

#[test]
fn what_needs_itself_is_refused() {
    let error = refusal(&json!({"returns": "a", "a": ["neg", "b"], "b": ["abs", "a"]}));
    assert!(matches!(error, GraftError::Cycle { .. }), "{error}");
    let error = refusal(&json!({"returns": "a", "a": ["a"]}));
    assert!(matches!(error, GraftError::Cycle { .. }), "{error}");
    let recursive = json!({
        "returns": "r", "one": 1, "r": ["f", "one"],
        "f": {"parameters": ["x"], "returns": "y", "y": ["f", "x"]},
    });
    let error = refusal(&recursive);
    assert!(matches!(error, GraftError::Limit { limit: 256, .. }), "{error}");
    // A function that is applied to itself.
    let omega = json!({
        "returns": "r", "r": ["w", "w"],
        "w": {"parameters": ["x"], "returns": "y", "y": ["x", "x"]},
    });
    let error = refusal(&omega);
    assert!(matches!(error, GraftError::Limit { limit: 256, .. }), "{error}");
}

#[test]
fn keys_are_counted_and_stand_once() {
    let mut graft = json!({"returns": "0"});
    for at in 0..10_000 {
        graft[at.to_string()] = json!(at);
    }
    assert!(expr_of(&graft).is_ok());
    graft["one more"] = json!(1);
    let error = refusal(&graft);
    assert!(matches!(error, GraftError::Limit { limit: 10_000, .. }), "{error}");
    for twice in [r#"{"returns": "a", "a": 1, "a": 1}"#, r#"{"returns": "a", "a": [{"b": 1, "b": 2}]}"#] {
        let error = resolve(twice.as_bytes(), &Limits::default()).expect_err("a key twice");
        assert!(error.to_string().contains("stands twice"), "{error}");
    }
}

/// Chains as long as a graft may be, in whatever direction: nothing may recurse over them.
const LONG: usize = 9_000;

/// `stack`, then `LONG` times `step` of what was before, then what `last` adds.
fn chain(step: impl Fn(&str) -> Value, last: &[(&str, Value)]) -> Case {
    let mut graft = json!({
        "product": "p", "bands": "a b", "axis": "images", "half": 0.5, "images": "images", "picked": "b",
        "scenes": ["select_scenes", "product", "bands"], "0": ["stack_scenes", "scenes", "bands"],
        "zero": ["mask", "0", "false"], "false": ["gt", "0", "half"],
    });
    for at in 1..=LONG {
        graft[at.to_string()] = step(&(at - 1).to_string());
    }
    graft["returns"] = json!(LONG.to_string());
    for (key, value) in last {
        graft[*key] = value.clone();
    }
    Case { graft, grid: 2, outline: None, rest: vec![] }
}

#[test]
fn long_chains_resolve_and_evaluate() {
    let top = LONG.to_string();
    let pick = [("returns", json!("pick")), ("pick", json!(["pick_bands", top.as_str(), "picked"]))];
    let median =
        [("returns", json!("middle")), ("middle", json!(["median", "pick", "images"])), pick[1].clone()];
    let chains = [
        chain(|before| json!(["add", before, "half"]), &[]),
        chain(|before| json!(["add", before, "half"]), &pick),
        chain(|before| json!(["add", "zero", before]), &median),
        // Each node is used twice by the next: what follows both uses takes 2^9000 steps.
        chain(|before| json!(["add", before, before]), &pick),
        chain(|before| json!(["mul", before, before]), &median),
    ];
    for case in chains {
        let graft = case.graft.get("returns").cloned();
        let expr = expr_of(&case.graft).expect("long, and right");
        assert_eq!(expr_of(&expr.to_graft()).map(|again| again.hash()), Ok(expr.hash()));
        let with = |off: Vec<String>| evaluate(&plan_of(&case, &options(16, off)).expect("a plan"));
        let all = with(vec![]);
        for off in [vec!["pushdown".to_owned()], vec!["fuse".to_owned()]] {
            assert_eq!(with(off), all, "{graft:?}");
        }
        let plan = plan_of(&case, &options(16, vec![])).expect("a plan");
        assert!(plan::explain::text(&plan).len() < 4 << 20);
    }
}

/// Bands that are picked again and again, from nodes that others use too.
#[test]
fn chains_of_picks_stay_small() {
    let chains = [
        chain(|before| json!(["pick_bands", before, "bands"]), &[("turned", json!("b a"))]),
        chain(|before| json!(["pick_bands", before, "turned"]), &[("turned", json!("b a"))]),
    ];
    for case in chains {
        let with = |off: Vec<String>| plan_of(&case, &options(16, off)).expect("a plan");
        assert!(with(vec![]).nodes().len() < 10);
        assert_eq!(evaluate(&with(vec![])), evaluate(&with(vec!["pushdown".into()])));
    }
    // x = x + pick(x), where pick turns three bands.
    let mut graft = json!({
        "product": "p", "bands": "a b c", "turned": "b c a", "swapped": "b a c",
        "scenes": ["select_scenes", "product", "bands"], "0": ["stack_scenes", "scenes", "bands"],
        "names": "a b c",
    });
    for at in 0..1_000 {
        graft[format!("once {at}")] = json!(["pick_bands", at.to_string(), "turned"]);
        graft[format!("twice {at}")] = json!(["pick_bands", format!("once {at}"), "swapped"]);
        graft[format!("sum {at}")] = json!(["add", format!("once {at}"), format!("twice {at}")]);
        graft[(at + 1).to_string()] = json!(["rename_bands", format!("sum {at}"), "names"]);
    }
    graft["returns"] = "1000".into();
    let case = Case { graft, grid: 2, outline: None, rest: vec![] };
    let with = |off: Vec<String>| plan_of(&case, &options(16, off)).expect("a plan");
    assert!(with(vec![]).nodes().len() <= with(vec!["pushdown".into()]).nodes().len() + 3);
    assert_eq!(evaluate(&with(vec![])), evaluate(&with(vec!["pushdown".into()])));
}

/// A raster joined with itself again and again, and names that double with every step.
#[test]
fn bands_and_their_names_do_not_explode() {
    let start = json!({
        "product": "p", "bands": "a b", "one": "c",
        "scenes": ["select_scenes", "product", "bands"], "0": ["stack_scenes", "scenes", "bands"],
        "z": ["stack_scenes", "scenes", "one"], "returns": "40",
    });
    let (mut joined, mut named) = (start.clone(), start);
    for at in 0..40 {
        let (before, after) = (at.to_string(), (at + 1).to_string());
        joined[&after] = json!(["concat_bands", before, before]);
        named[format!("right {at}")] = json!(["concat_bands", before, "z"]);
        named[format!("left {at}")] = json!(["concat_bands", "z", before]);
        named[&after] = json!(["add", format!("left {at}"), format!("right {at}")]);
    }
    for (graft, problem) in
        [(joined, "2048 bands, the limit is 1024"), (named, "names of the bands would take")]
    {
        let expr = expr_of(&graft).expect("it is a graft");
        let (grid, answers) = (world::grid(0), world::answers(&expr).expect("known products"));
        let cx = BindCx { grid: &grid, transform: &ByText, answers: &answers, images: &Default::default() };
        let error = plan::build(&expr, &cx, None, &Limits::default(), &Options::default());
        let error = error.expect_err("too much").to_string();
        assert!(error.contains(problem), "{error}");
    }
}

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
    match outcome_of(&expr, &case, case.grid, options) {
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
