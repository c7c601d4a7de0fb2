//! Layers: what their ids are, and what is known of them.

use graticule_coordinator::objects::Objects;
use graticule_tests::cluster::{Cluster, http_config};
use graticule_tests::scenes::{over_pixels, reduce, stack};
use serde_json::{Value, json};

use crate::{area, cluster, made_up};

/// The same graft with every key called something else.
fn renamed(graft: &str) -> Value {
    let Value::Object(members) = serde_json::from_str(graft).unwrap() else { panic!("{graft}") };
    let name = |text: &str| match members.contains_key(text) && text != "returns" {
        true => format!("key {}", members.keys().position(|key| key == text).unwrap()),
        false => text.to_owned(),
    };
    let item = |item: &Value| match item {
        Value::String(text) => name(text).into(),
        Value::Object(named) => {
            named.iter().map(|(key, of)| (key.clone(), Value::from(name(of.as_str().unwrap())))).collect()
        }
        other => other.clone(),
    };
    let of = |(key, value): (&String, &Value)| match (key.as_str(), value) {
        ("returns", value) => ("returns".to_owned(), name(value.as_str().unwrap()).into()),
        (key, Value::Array(items)) => (name(key), items.iter().map(item).collect()),
        (key, value) => (name(key), value.clone()),
    };
    members.iter().map(of).collect()
}

#[tokio::test]
async fn equal_grafts_have_one_id_on_all_coordinators_of_a_store() {
    let store = Objects::memory();
    let first = Cluster::start(made_up().with_http(store.clone())).await;
    let graft = reduce("made-up", "a", "max");
    let id = first.rest().layer(&graft).await;
    assert!(id.len() == 66 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{id}");
    assert_eq!(first.rest().layer(&graft).await, id);
    assert_eq!(first.rest().layer(&renamed(&graft).to_string()).await, id, "other keys");
    let without = first.rest().post("/layers", &json!({ "graft": renamed(&graft), "x": 1 })).await;
    assert_eq!(without.json(), json!({ "layer_id": id }));
    assert_ne!(first.rest().layer(&reduce("made-up", "a", "min")).await, id);
    // Another coordinator, and one after all others have ended.
    let second = Cluster::start(made_up().with_http(store.clone())).await;
    assert_eq!(second.rest().layer(&graft).await, id);
    drop((first, second));
    let third = Cluster::start(made_up().with_http(store)).await;
    let reply = third.rest().post(&format!("/layers/{id}/aoi"), &area()).await;
    assert_eq!(reply.status, 200);
    let elsewhere = cluster().await;
    let unknown = elsewhere.rest().post(&format!("/layers/{id}/aoi"), &area()).await;
    assert_eq!((unknown.status, &unknown.error()["code"]), (404, &"not_found".into()), "another store");
}

#[tokio::test]
async fn what_was_not_given_out_is_no_id() {
    let cluster = cluster().await;
    let rest = cluster.rest();
    let id = rest.layer(&reduce("made-up", "a", "max")).await;
    let mut messages = Vec::new();
    let mut forged: Vec<String> = (0..id.len())
        .step_by(5)
        .map(|at| {
            let other = if id.as_bytes()[at] == b'A' { "B" } else { "A" };
            format!("{}{other}{}", &id[..at], &id[at + 1..])
        })
        .collect();
    forged.extend([
        id[..65].to_owned(),
        format!("{id}A"),
        "A".repeat(66),
        "x".into(),
        "%20".into(),
        "..".into(),
    ]);
    forged.push(id.replace(|c: char| c.is_ascii_lowercase(), "a"));
    for forged in forged {
        for path in ["", "/value?lon=0&lat=0"] {
            let reply = rest.get(&format!("/layers/{forged}{path}")).await;
            assert_eq!(reply.status, 404, "{forged}");
            messages.push(reply.error()["message"].clone());
        }
        let reply = rest.post(&format!("/layers/{forged}/aoi"), &area()).await;
        assert_eq!(reply.status, 404, "{forged}");
    }
    messages.retain(|message| !message.as_str().is_some_and(|text| text.contains("nothing at")));
    messages.dedup();
    assert_eq!(messages.len(), 1, "nobody learns what is wrong with an id: {messages:?}");
}

#[tokio::test]
async fn a_secret_of_ones_own_makes_other_ids() {
    let store = Objects::memory();
    let with = |secret: &str| {
        let mut config = http_config(store.clone());
        config.layer_secret = graticule_coordinator::http::LayerSecret::from_text(secret);
        assert!(config.layer_secret.is_some());
        graticule_tests::cluster::Setup { http: Some(config), ..made_up() }
    };
    let graft = reduce("made-up", "a", "max");
    let one = Cluster::start(with("0123456789abcdef0123456789abcdef")).await;
    let same = Cluster::start(with("0123456789abcdef0123456789abcdef\n")).await;
    let other = Cluster::start(with("an entirely different secret of one's own")).await;
    let id = one.rest().layer(&graft).await;
    assert_eq!(same.rest().layer(&graft).await, id);
    assert_ne!(other.rest().layer(&graft).await, id);
    assert_eq!(other.rest().get(&format!("/layers/{id}")).await.status, 404);
}

#[tokio::test]
async fn a_layer_tells_what_it_is() {
    let cluster = cluster().await;
    let rest = cluster.rest();
    let about = async |graft: &str| {
        let id = rest.layer(graft).await;
        let reply = rest.get(&format!("/layers/{id}")).await;
        assert_eq!(reply.status, 200, "{}", reply.json());
        let about = reply.json();
        assert_eq!(about["layer_id"], id.as_str());
        // What it says of its graft is that layer again.
        assert_eq!(rest.layer(&about["graft"].to_string()).await, id);
        about
    };
    let stacked = about(&stack("made-up", "a b")).await;
    assert_eq!((&stacked["kind"], &stacked["bands"]), (&"stack".into(), &json!(["a", "b"])));
    assert_eq!((&stacked["dtype"], &stacked["products"]), (&"float32".into(), &json!(["made-up"])));
    assert_eq!((&stacked["minzoom"], &stacked["maxzoom"]), (&0.into(), &15.into()));
    let reduced = about(&reduce("made-up", "b", "max")).await;
    assert_eq!((&reduced["kind"], &reduced["parameters"]), (&"mosaic".into(), &json!([])));
    assert_eq!(about(&over_pixels("made-up", "a", "images of")).await["kind"], "number");
    assert_eq!(about(&over_pixels("made-up", "a", "each")).await["kind"], "array");
    let open = json!({
        "parameters": ["least"], "returns": "x", "x": ["gt", "m", "least"], "p": "made-up", "b": "a",
        "since": "since", "m": ["mosaic", "p", "b", {"start_datetime": "since"}],
    });
    let open = about(&open.to_string()).await;
    assert_eq!((&open["kind"], &open["parameters"]), (&"unknown".into(), &json!(["least", "since"])));
    let gone = about(&reduce("no-such-product", "a", "max")).await;
    assert_eq!((&gone["kind"], &gone["bounds"]), (&"unknown".into(), &json!([-180.0, -90.0, 180.0, 90.0])));
}

#[tokio::test]
async fn parameters_are_given_when_something_is_computed() {
    let cluster = cluster().await;
    let rest = cluster.rest();
    let open = json!({
        "parameters": ["least"], "returns": "n", "n": ["add", "least", "one"], "one": 1,
    });
    let id = rest.layer(&open.to_string()).await;
    let value =
        async |parameters: &str| rest.get(&format!("/layers/{id}/value?lon=0&lat=0{parameters}")).await;
    let given = value("&parameters=%7B%22least%22%3A%204%2C%20%22unused%22%3A%201%7D").await;
    assert_eq!((given.status, &given.json()["value"]), (200, &5.into()), "{}", given.json());
    let missing = value("").await;
    assert_eq!(missing.status, 400);
    let error = missing.error();
    assert!(error["message"].as_str().unwrap().contains("`least`"), "{error}");
    assert_eq!(error["path"], "/parameters");
}
