//! Does the engine compute what numpy computes? `arrays/make.py` wrote the cases and the answers.

use graticule_common::plan::Options;
use graticule_tests::conform::{named_answer, problems, ways};
use graticule_tests::world::{World, json, npz};
use serde_json::Value;

#[test]
fn every_case_computes_what_numpy_computes() {
    let world = World::load();
    let mut expected = npz("golden/arrays/expected.npz");
    let cases = json("golden/arrays/cases.json");
    let cases = cases.as_array().expect("cases");
    assert!(cases.len() > 600, "the cases are there");
    let mut wrong = Vec::new();
    for case in cases {
        let answer = named_answer(case, &mut expected);
        for (way, options) in ways().iter().enumerate() {
            let problems = problems(&world, case, answer.as_ref(), options).into_iter();
            wrong.extend(problems.map(|problem| format!("{} (way {way}): {problem}", case["name"])));
        }
    }
    assert!(wrong.is_empty(), "{} problems:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_faulty_graft_is_refused_at_its_place() {
    let world = World::load();
    let cases = json("golden/arrays/errors.json");
    let cases = cases.as_array().expect("cases");
    assert!(cases.len() > 50, "the cases are there");
    let mut wrong = Vec::new();
    for case in cases {
        let (name, class) = (&case["name"], case["class"].as_str().expect("a class"));
        let failure = match world.plan(case["graft"].to_string().as_bytes(), None, &Options::default()) {
            Ok(_) => {
                wrong.push(format!("{name}: accepted, expected {class}"));
                continue;
            }
            Err(failure) => failure,
        };
        let words = case["contains"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let missing: Vec<&str> = words.filter(|word| !failure.message.contains(word)).collect();
        let at = case["at"].as_str().map(|at| format!("`{at}`"));
        let is_there = at.as_ref().is_none_or(|at| failure.message.contains(at));
        if failure.class != class || !missing.is_empty() || !is_there {
            wrong.push(format!("{name}: {failure:?}, expected {class} at {at:?} with {missing:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} problems:\n{}", wrong.len(), wrong.join("\n"));
}
