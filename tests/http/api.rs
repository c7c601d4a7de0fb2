//! The description at `/api` is true: every address answers as it says, and no other method does.

use graticule_coordinator::objects::Objects;
use graticule_tests::cluster::{Cluster, Setup};
use graticule_tests::colorado::{Imagery, source};
use graticule_tests::rest::{Reply, Rest};
use graticule_tests::scenes::reduce;
use serde_json::Value;

/// What is wrong with a value, by its JSON Schema: as much of the language as the description uses.
fn fault(api: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let found = api.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("{name}"));
        return fault(api, found, value, at);
    }
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = |kind: &Value| kind == is || (kind == "number" && is == "integer");
    let type_fits = match &schema["type"] {
        Value::Null => true,
        Value::Array(kinds) => kinds.iter().any(fits),
        kind => fits(kind),
    };
    if !type_fits {
        return Some(format!("{at} is {is}: {value}"));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        return Some(format!("{at} is {value}"));
    }
    if !schema["const"].is_null() && schema["const"] != *value {
        return Some(format!("{at} is {value}"));
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        if let Some(fault) = fault(api, part, value, at) {
            return Some(fault);
        }
    }
    if let Some(items) = value.as_array() {
        let within = |name: &str, fits: fn(u64, u64) -> bool| {
            schema[name].as_u64().is_none_or(|limit| fits(items.len() as u64, limit))
        };
        if !within("minItems", |len, least| len >= least) || !within("maxItems", |len, most| len <= most) {
            return Some(format!("{at} has {} items", items.len()));
        }
        return items
            .iter()
            .enumerate()
            .find_map(|(i, item)| fault(api, &schema["items"], item, &format!("{at}/{i}")));
    }
    let members = value.as_object()?;
    for name in schema["required"].as_array().into_iter().flatten() {
        if !members.contains_key(name.as_str()?) {
            return Some(format!("{at} has no {name}"));
        }
    }
    members.iter().find_map(|(name, member)| {
        let of = &schema["properties"][name];
        if of.is_null() { None } else { fault(api, of, member, &format!("{at}/{name}")) }
    })
}

/// Checks an answer against what is said of an operation.
fn check(api: &Value, operation: &Value, reply: &Reply, what: &str) {
    let mut said = &operation["responses"][reply.status.to_string()];
    assert!(!said.is_null(), "{what}: {} is not described: {:?}", reply.status, reply.body);
    if let Some(name) = said["$ref"].as_str() {
        said = api.pointer(name.trim_start_matches('#')).unwrap();
    }
    let Some(content) = said["content"].as_object() else {
        assert!(reply.body.is_empty(), "{what}: {:?}", reply.body);
        return;
    };
    let kind = reply.header("content-type");
    let schema = content.get(kind).unwrap_or_else(|| panic!("{what}: `{kind}` is not described"));
    if kind.contains("json") {
        let fault = fault(api, &schema["schema"], &reply.json(), "");
        assert_eq!(fault, None, "{what}: {}", reply.json());
    }
}

/// An address with the examples of its parameters.
fn address(api: &Value, path: &str, operation: &Value, layer: &str) -> String {
    let (mut path, mut query) = (path.to_owned(), Vec::new());
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let parameter = match parameter["$ref"].as_str() {
            Some(name) => api.pointer(name.trim_start_matches('#')).unwrap(),
            None => parameter,
        };
        let name = parameter["name"].as_str().unwrap();
        let example = match &parameter["example"] {
            Value::String(text) if text == "LAYER" => layer.to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match parameter["in"].as_str() {
            Some("path") => path = path.replace(&format!("{{{name}}}"), &example),
            _ if parameter["required"] == true => query.push(format!("{name}={example}")),
            _ => {}
        }
    }
    if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
}

async fn ask(rest: &Rest, method: &str, address: &str, operation: &Value) -> Reply {
    let content = operation["requestBody"]["content"].as_object();
    let (kind, of) =
        content.and_then(|content| content.iter().next()).map_or(("", &Value::Null), |(k, v)| (k, v));
    let body = if of["example"].is_null() { String::new() } else { of["example"].to_string() };
    let headers: &[(&str, &str)] = if kind.is_empty() { &[] } else { &[("content-type", kind)] };
    rest.send(&method.to_uppercase(), address, headers, body).await
}

#[tokio::test]
async fn every_address_answers_as_it_is_described() {
    let imagery = Imagery::committed();
    let setup = Setup::new(1, imagery.register(), source()).with_http(Objects::memory());
    let cluster = Cluster::start(setup).await;
    let rest = cluster.rest();
    let api = rest.get("/api").await.json();
    assert_eq!(api["openapi"], "3.1.0");
    let layer = rest.layer(&reduce(graticule_tests::colorado::PRODUCT, "red", "max")).await;
    let mut ids = std::collections::BTreeSet::new();
    for (path, operations) in api["paths"].as_object().unwrap() {
        for method in ["get", "put", "post", "patch", "delete"] {
            let operation = &operations[method];
            let what = format!("{method} {path}");
            if operation.is_null() {
                let first = operations.as_object().unwrap().values().next().unwrap();
                let reply = ask(&rest, method, &address(&api, path, first, &layer), &Value::Null).await;
                assert_eq!(reply.status, 405, "{what} is not described");
                continue;
            }
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{what}: its id is another's");
            let reply = ask(&rest, method, &address(&api, path, operation, &layer), operation).await;
            assert!(!matches!(reply.status, 405 | 500..), "{what}: {} {:?}", reply.status, reply.body);
            // Blobs are not there; everything else is.
            let is_made_up =
                path.contains("/storage") || path.starts_with("/products/") && path.contains("v2");
            assert!(reply.status == 200 || is_made_up, "{what}: {} {:?}", reply.status, reply.body);
            check(&api, operation, &reply, &what);
            // Errors look as they are said to.
            if path.contains("{id}") && path.starts_with("/layers") {
                let reply = ask(&rest, method, &address(&api, path, operation, "forged"), operation).await;
                assert_eq!(reply.status, 404, "{what}");
                check(&api, operation, &reply, &what);
            }
        }
    }
}
