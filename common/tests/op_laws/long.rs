//! Grafts as long as they may be: nothing recurses over them, and nothing doubles with every step.

use graticule_common::limits::Limits;
use graticule_common::ops::BindCx;
use graticule_common::plan::{self, Options};
use graticule_common::transform::ByText;
use serde_json::{Value, json};

use crate::generate::Case;
use crate::{evaluate, expr_of, options, plan_of, world};

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
