//! What is the same computation, however it is written, and what is another.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::generate::Tape;
use crate::{expr_of, law};

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
