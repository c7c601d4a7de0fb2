//! Parameters of a request become constants of its expression.

use graticule_common::expr::{Expr, ExprNode};
use graticule_common::graft::{GraftError, Parameters, resolve_open, resolve_with};
use graticule_common::limits::Limits;
use graticule_common::literal::Literal;
use serde_json::{Value, json};

fn parameters(values: &[(&str, &str)]) -> Parameters {
    values.iter().map(|(name, value)| ((*name).to_owned(), Literal::Str((*value).to_owned()))).collect()
}

fn expr(graft: &Value, values: &[(&str, &str)]) -> Result<Expr, GraftError> {
    resolve_with(graft.to_string().as_bytes(), &parameters(values), &Limits::default())
}

fn mosaic(start: &str) -> Value {
    json!({
        "p": "sentinel", "b": "red", "start": start, "end": "2024-02-01", "returns": "m",
        "m": ["mosaic", "p", "b", {"start_datetime": "start", "end_datetime": "end"}],
    })
}

fn has_text(expr: &Expr, text: &str) -> bool {
    expr.nodes()
        .iter()
        .any(|node| matches!(node, ExprNode::Literal(literal) if literal.as_str() == Some(text)))
}

#[test]
fn a_date_that_names_a_parameter_takes_its_value() {
    let bound = expr(&mosaic("since"), &[("since", "2024-01-01"), ("unused", "x")]).unwrap();
    let written = expr(&mosaic("2024-01-01"), &[]).unwrap();
    assert_eq!(bound.hash(), written.hash());
    // What is filed under one value is not found under another.
    let other = expr(&mosaic("since"), &[("since", "2024-01-02")]).unwrap();
    assert_ne!(bound.hash(), other.hash());
    assert!(bound.scene_queries().is_ok());
}

#[test]
fn a_parameter_shadows_nothing_but_dates() {
    let bound = expr(&mosaic("2024-01-01"), &[("red", "2020-01-01"), ("sentinel", "other")]).unwrap();
    assert_eq!(bound.hash(), expr(&mosaic("2024-01-01"), &[]).unwrap().hash());
}

#[test]
fn a_date_that_is_neither_date_nor_parameter_is_named() {
    let expr = expr(&mosaic("since"), &[("until", "2024-01-01")]).unwrap();
    let (error, at) = expr.scene_queries().unwrap_err();
    assert!(error.to_string().contains("`since`") && error.to_string().contains("parameter"), "{error}");
    assert_eq!(at.to_string(), "`/m`");
}

#[test]
fn a_graft_names_its_parameters() {
    let graft = json!({
        "parameters": ["band", "limit"], "n": "add", "returns": "x", "x": ["math", "n", "m", "limit"],
        "p": "sentinel", "m": ["mosaic", "p", "band"],
    });
    let bound = expr(&graft, &[("band", "nir"), ("limit", "7")]).unwrap();
    assert!(has_text(&bound, "nir"));
    let missing = expr(&graft, &[("band", "nir")]).unwrap_err();
    assert!(matches!(&missing, GraftError::MissingParameter { name, .. } if name == "limit"), "{missing}");
}

fn open(graft: &Value) -> Result<Expr, GraftError> {
    resolve_open(graft.to_string().as_bytes(), &Limits::default())
}

/// The same computation under other keys, in another order.
fn renamed(graft: &Value) -> Value {
    let Value::Object(members) = graft else { panic!() };
    let is_key = |name: &str| members.contains_key(name) && name != "returns" && name != "parameters";
    let name = |text: &str| {
        if is_key(text) {
            format!("z{}", text.len() * 7 + text.bytes().map(usize::from).sum::<usize>())
        } else {
            text.into()
        }
    };
    let value = |value: &Value| match value {
        Value::Array(items) if items.len() > 1 => items
            .iter()
            .map(|item| match item {
                Value::String(text) => name(text).into(),
                Value::Object(named) => named
                    .iter()
                    .map(|(key, of)| (key.clone(), Value::from(name(of.as_str().expect("a name")))))
                    .collect(),
                other => other.clone(),
            })
            .collect(),
        other => other.clone(),
    };
    let of = |(key, given): (&String, &Value)| match key.as_str() {
        "returns" => (key.clone(), name(given.as_str().expect("a name")).into()),
        "parameters" => (key.clone(), given.clone()),
        key => (name(key), value(given)),
    };
    members.iter().map(of).collect()
}

#[test]
fn a_normal_form_does_not_depend_on_keys_and_is_its_own() {
    let with_parameters = json!({
        "parameters": ["limit", "7", "p0"], "n": "add", "returns": "x", "x": ["add", "m", "limit"],
        "p": "sentinel", "band": "red", "since": "since", "m0": ["mosaic", "p", "band", {"end_datetime": "since"}],
        "m": ["add", "m1", "7"], "m1": ["mul", "m0", "p0"],
    });
    for graft in [mosaic("since"), mosaic("2024-01-01"), with_parameters.clone()] {
        let normal = open(&graft).unwrap().to_graft();
        assert_eq!(open(&renamed(&graft)).unwrap().to_graft(), normal, "{graft}");
        assert_eq!(open(&normal).unwrap().to_graft(), normal, "{graft}");
    }
    let normal = open(&with_parameters).unwrap().to_graft();
    assert_eq!(normal["parameters"], json!(["7", "limit", "p0"]), "{normal}");
    assert_eq!(open(&with_parameters).unwrap().parameters(), ["7", "limit", "p0", "since"]);
    // Values mean the same to both.
    let values = [("limit", "1"), ("7", "2"), ("p0", "3"), ("since", "2024-01-01")];
    let given = expr(&with_parameters, &values).unwrap();
    assert_eq!(expr(&normal, &values).unwrap().hash(), given.hash());
    assert!(matches!(expr(&normal, &[]), Err(GraftError::MissingParameter { .. })));
}

#[test]
fn a_parameter_that_hides_an_op_is_refused() {
    let graft =
        json!({"parameters": ["add"], "a": 1, "x": ["math", "n", "a", "add"], "n": "sub", "returns": "x"});
    let error = open(&graft).unwrap_err();
    assert!(error.to_string().contains("`add`"), "{error}");
}

#[test]
fn pickled_functions_are_refused_when_a_graft_is_kept() {
    // Python's `pickle.dumps(len, 4)` in base64.
    let pickle = "gASVFAAAAAAAAACMCGJ1aWx0aW5zlIwDbGVulJOULg==";
    let graft = |call: Value, text: &str| {
        json!({
            "p": "sentinel", "b": "red", "scenes": ["select_scenes", "p", "b"], "f": text,
            "stack": ["stack_scenes", "scenes", "b"], "result": call, "returns": "result",
        })
    };
    for (op, says) in [("filter_data", "comparisons"), ("groupby_data", "traced function")] {
        let error = open(&graft(json!([op, "stack", "f"]), pickle)).unwrap_err();
        assert!(matches!(error, GraftError::Callable { .. }), "{error}");
        let text = error.to_string();
        assert!(text.starts_with("`/result`: a pickled callable") && text.contains(says), "{text}");
    }
    let clear = r#"{"op": "lt", "name": "cloud_fraction", "val": 0.5}"#;
    assert!(open(&graft(json!(["filter_data", "stack", "f"]), clear)).is_ok());
}
