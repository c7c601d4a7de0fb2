//! Grafts that are none: an error, never a panic, and never more work than the limits allow.

use graticule_common::graft::{GraftError, resolve};
use graticule_common::limits::Limits;
use graticule_common::ops::BindCx;
use graticule_common::plan::{self, Options, Outcome};
use graticule_common::transform::ByText;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::generate::Tape;
use crate::{evaluate, expr_of, law, world};

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
