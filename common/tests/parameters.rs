//! Parameters of a request become constants of its expression.

use graticule_common::expr::{Expr, ExprNode};
use graticule_common::graft::{GraftError, Parameters, resolve_with};
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
