//! Is the manual true? Every op's example runs on the made-up world, and so does every graft of
//! `docs/graft.md`, whose limits are those of the engine.

use graticule_common::expr::{Expr, ExprNode};
use graticule_common::graft::{self, Parameters};
use graticule_common::limits::{self, Limits};
use graticule_common::ops::object::Object;
use graticule_common::ops::{FAMILIES, Op};
use graticule_common::plan::{Options, Outcome};
use graticule_tests::world::{Failure, World, folder};
use serde_json::Value;

/// Plans a graft and computes its rasters.
fn run(world: &World, text: &str, parameters: &Parameters) -> Result<Expr, Failure> {
    let expr = graft::resolve_with(text.as_bytes(), parameters, &Limits::default()).map_err(Failure::of)?;
    match world.settle(world.plan_expr(&expr, &world.grid, None, &Options::default())?) {
        Outcome::Raster { plan, .. } | Outcome::Several { plan: Some(plan), .. } => {
            drop(world.evaluate(&plan))
        }
        Outcome::Several { plan: None, .. } | Outcome::Array { .. } | Outcome::Value { .. } => {}
        Outcome::Staged(_) => panic!("a stage after the last"),
    }
    Ok(expr)
}

#[test]
fn every_example_runs_and_uses_its_op() {
    let world = World::load();
    let mut wrong = Vec::new();
    let all = FAMILIES.iter().flat_map(|family| family.iter()).copied().chain([&Object as &dyn Op]);
    for op in all {
        let example = op.example();
        let is_used = |expr: &Expr| {
            let is_call = |node: &ExprNode| matches!(node, ExprNode::Call { op: called, .. } if called.name() == op.name());
            expr.nodes().iter().any(is_call)
        };
        match run(&world, &example.to_string(), &Parameters::new()) {
            Err(failure) => wrong.push(format!("{}: {failure:?}: {example}", op.name())),
            Ok(expr) if !is_used(&expr) => wrong.push(format!("{}: is not in {example}", op.name())),
            Ok(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{} examples:\n{}", wrong.len(), wrong.join("\n"));
}

fn page() -> String {
    std::fs::read_to_string(folder("../docs/graft.md")).expect("docs/graft.md")
}

/// A block of code of a document.
struct Fenced<'a> {
    /// What stands after the opening fence.
    info: &'a str,
    /// Line of the opening fence.
    line: usize,
    text: String,
}

/// The blocks of code of a document.
fn fenced(document: &str) -> Vec<Fenced<'_>> {
    let mut blocks = Vec::new();
    let mut open: Option<Fenced<'_>> = None;
    for (at, line) in document.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => open = Some(Fenced { info, line: at + 1, text: String::new() }),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block of code without an end");
    blocks
}

/// A block that begins with ```` ```json graft ```` must run. A JSON object may follow: `parameters` of the
/// request; `fails`, the class in which the graft must be refused, and `says`, words of the message.
#[test]
fn every_graft_of_the_language_page_does_what_the_page_says() {
    let world = World::load();
    let document = page();
    let (mut wrong, mut grafts, mut refused) = (Vec::new(), 0, 0);
    for block in fenced(&document) {
        let Some(how) = block.info.strip_prefix("json graft") else { continue };
        grafts += 1;
        let how: Value = match how.trim() {
            "" => Value::Null,
            how => serde_json::from_str(how).expect("JSON after `json graft`"),
        };
        let parameters: Parameters = serde_json::from_value(how["parameters"].clone()).unwrap_or_default();
        let says = how["says"].as_str().unwrap_or_default();
        let mut problem = |problem: String| wrong.push(format!("line {}: {problem}", block.line));
        match (run(&world, &block.text, &parameters), how["fails"].as_str()) {
            (Ok(_), None) => {}
            (Ok(_), Some(class)) => problem(format!("runs, expected {class}")),
            (Err(failure), None) => problem(format!("{failure:?}")),
            (Err(failure), Some(class)) => {
                refused += 1;
                if failure.class != class || !failure.message.contains(says) {
                    problem(format!("{failure:?}, expected {class}, saying `{says}`"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} grafts:\n{}", wrong.len(), wrong.join("\n"));
    assert!(grafts >= 20 && refused >= 10, "only {grafts} grafts, {refused} of them refused");
}

#[test]
fn the_limits_of_the_language_page_are_those_of_the_engine() {
    let Limits {
        graft_bytes,
        json_depth,
        graft_nodes,
        fan_in,
        string_bytes,
        expansion_steps,
        call_depth,
        scenes,
        display_scenes,
        output_samples,
        grid_side,
        outline_vertices,
        tile_peak_bytes,
        tiles,
        stages,
        stage_planes,
        partial_bytes,
    } = Limits::default();
    let known = [
        ("graft_bytes", graft_bytes as u64),
        ("json_depth", json_depth as u64),
        ("graft_nodes", graft_nodes as u64),
        ("fan_in", fan_in as u64),
        ("string_bytes", string_bytes as u64),
        ("expansion_steps", expansion_steps as u64),
        ("call_depth", call_depth as u64),
        ("scenes", scenes as u64),
        ("display_scenes", display_scenes as u64),
        ("output_samples", output_samples),
        ("grid_side", grid_side.into()),
        ("outline_vertices", outline_vertices as u64),
        ("tile_peak_bytes", tile_peak_bytes),
        ("tiles", tiles),
        ("stages", stages as u64),
        ("stage_planes", stage_planes),
        ("partial_bytes", partial_bytes),
        ("PROPERTY_STEPS_MAX", limits::PROPERTY_STEPS_MAX),
        ("BANDS_MAX", limits::BANDS_MAX.into()),
        ("ARRAY_VALUES_MAX", limits::ARRAY_VALUES_MAX),
        ("BAND_NAMES_BYTES_MAX", limits::BAND_NAMES_BYTES_MAX as u64),
        ("PAD_MAX", limits::PAD_MAX.into()),
        ("FOCAL_SIDE_MAX", limits::FOCAL_SIDE_MAX.into()),
    ];
    let page = page();
    let row = |name: &str| {
        let row = page.lines().find_map(|line| line.strip_prefix(&format!("| `{name}` | ")))?;
        row.split(" |").next()?.replace(',', "").parse::<u64>().ok()
    };
    for (name, value) in known {
        assert_eq!(row(name), Some(value), "`{name}` in docs/graft.md");
    }
}
