//! The captured grafts of the published client, on a made-up catalog with the products they name.
//! `oracle/captured.py` wrote the answers; the grafts are test data that is shared, not committed.

use graticule_common::plan::Options;
use graticule_tests::conform::{Folder, problems, ways};
use graticule_tests::world::{World, folder, json};
use serde_json::Value;

#[test]
#[ignore = "needs shared"]
fn captured_grafts_of_shared_compute_what_numpy_computes() {
    let answers = Folder::read("golden/compat");
    let traced = json("golden/compat/traced.json");
    let (mut wrong, mut callables) = (Vec::new(), 0);
    assert_eq!(answers.cases.len(), 67, "one case for each captured graft");
    for case in &answers.cases {
        let name = case["name"].as_str().expect("a name");
        let path = folder("../../shared/compat/grafts").join(format!("{name}.json"));
        let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let captured: Value = serde_json::from_slice(&text).expect("JSON");
        let (world, answer) = answers.answer(case);
        let mut case = case.clone();
        case["graft"] = captured["graft"].clone();
        case["parameters"] = captured["parameters"].clone();
        if case["callable"] == true {
            callables += 1;
            if let Some(problem) = accepted(world, &case["graft"]) {
                wrong.push(format!("{name}: {problem}"));
            }
            replace_callable(&mut case["graft"], &traced[name]);
        }
        for (way, options) in ways().iter().enumerate() {
            let problems = problems(world, &case, answer.as_ref(), options).into_iter();
            wrong.extend(problems.map(|problem| format!("{name} (way {way}): {problem}")));
        }
    }
    assert_eq!(callables, 4, "grafts that hold a pickled callable");
    assert!(wrong.is_empty(), "{} problems:\n{}", wrong.len(), wrong.join("\n"));
}

/// What is wrong with how a pickled callable is refused.
fn accepted(world: &World, graft: &Value) -> Option<String> {
    match world.plan(graft.to_string().as_bytes(), None, &Options::default()) {
        Ok(_) => Some("a pickled callable is accepted".into()),
        Err(failure) if failure.message.contains("callable") => None,
        Err(failure) => Some(format!("{failure:?} does not say `callable`")),
    }
}

/// Puts a graft function where the client put a pickle: the base64 of protocol 2 or later begins so.
fn replace_callable(graft: &mut Value, function: &Value) {
    let members = graft.as_object_mut().expect("a graft").values_mut();
    let is_pickle =
        |value: &Value| value.as_str().is_some_and(|text| text.len() > 40 && text.starts_with("gA"));
    let mut pickles: Vec<&mut Value> = members.filter(|value| is_pickle(value)).collect();
    assert_eq!(pickles.len(), 1, "one callable");
    *pickles[0] = function.clone();
}
