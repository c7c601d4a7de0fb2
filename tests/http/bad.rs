//! What makes no sense is answered with one shape of JSON, a message and the place.

use bytes::Bytes;
use graticule_tests::scenes::reduce;
use serde_json::{Value, json};

use crate::{area, cluster};

#[tokio::test]
async fn grafts_and_bodies_that_are_wrong() {
    let cluster = cluster().await;
    let rest = cluster.rest();
    let json_type = [("content-type", "application/json")];
    for (body, status, path) in [
        ("", 400, Value::Null),
        ("{", 400, Value::Null),
        ("[]", 400, Value::Null),
        ("null", 400, Value::Null),
        ("{\"graft\": NaN}", 400, Value::Null),
        ("{\"graft\": {}, \"graft\": {}}", 400, Value::Null),
        ("{}", 400, "/graft".into()),
        ("{\"graft\": 7}", 400, Value::Null),
        (r#"{"graft": {"returns": "x"}}"#, 400, "/returns".into()),
        (r#"{"graft": {"returns": "x", "x": ["no-such-op"]}}"#, 400, "/x".into()),
        (r#"{"graft": {"returns": "x", "x": ["add", "x", "x"]}}"#, 400, "/x/1".into()),
        (r#"{"graft": {"returns": "x", "x": ["code", "f"], "f": "gASV"}}"#, 422, "/x".into()),
        (r#"{"graft": {"returns": "a/b", "a/b": ["add", "k"], "k": 1}}"#, 400, "/a~1b".into()),
    ] {
        let reply = rest.send("POST", "/layers/", &json_type, body).await;
        let error = reply.error();
        assert_eq!((reply.status, &error["path"]), (status, &path), "{body}: {error}");
        assert_eq!(error["retryable"], false);
    }
    let deep = format!("{{\"graft\": {}{}}}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(rest.send("POST", "/layers/", &json_type, deep).await.status, 413);
    let large = Bytes::from(vec![b' '; (4 << 20) + 1]);
    let reply = rest.send("POST", "/layers/", &json_type, large).await;
    assert_eq!((reply.status, &reply.error()["code"]), (413, &"limit_exceeded".into()));
    // Bytes that are no text.
    assert_eq!(rest.send("POST", "/layers/", &json_type, &b"\xff\xfe{}"[..]).await.status, 400);
}

#[tokio::test]
async fn areas_that_are_wrong() {
    let cluster = cluster().await;
    let rest = cluster.rest();
    let id = rest.layer(&reduce("made-up", "a", "max")).await;
    for (member, value, status) in [
        ("crs", json!("EPSG:999999"), 400),
        ("crs", json!("+proj=nonsense"), 400),
        ("bounds", json!([0, 0, 0, 0]), 400),
        ("bounds", json!([1, 2, 3]), 400),
        ("resolution", json!(-1), 400),
        ("resolution", json!("30"), 400),
        ("resolution", json!(0.000_1), 413),
        ("geometry", json!({"type": "Point"}), 400),
        ("align_pixels", json!("yes"), 400),
        ("parameters", json!([]), 400),
    ] {
        let mut body = area();
        body[member] = value.clone();
        let reply = rest.post(&format!("/layers/{id}/aoi"), &body).await;
        let error = reply.error();
        assert_eq!(reply.status, status, "{member} = {value}: {error}");
    }
    let unknown = rest.layer(&reduce("no-such-product", "a", "max")).await;
    let reply = rest.post(&format!("/layers/{unknown}/aoi"), &area()).await;
    assert_eq!((reply.status, &reply.error()["code"]), (404, &"not_found".into()));
    let no_band = rest.layer(&reduce("made-up", "no-such-band", "max")).await;
    let reply = rest.post(&format!("/layers/{no_band}/aoi"), &area()).await;
    let error = reply.error();
    assert!(matches!(reply.status, 404 | 422), "{error}");
    assert!(error["path"].as_str().is_some_and(|path| path.starts_with('/')), "{error}");
    let reply =
        rest.send("POST", &format!("/layers/{id}/aoi"), &[("accept", "text/html")], area().to_string()).await;
    assert_eq!((reply.status, &reply.error()["code"]), (400, &"invalid_request".into()));
    for query in [
        "",
        "?lon=1",
        "?lon=x&lat=1",
        "?lon=NaN&lat=1",
        "?lon=1&lat=91",
        "?lon=1&lat=1&z=27",
        "?lon=1&lon=2&lat=1",
        "?lon=1&lat=1&parameters=x",
    ] {
        let reply = rest.get(&format!("/layers/{id}/value{query}")).await;
        assert_eq!(reply.status, 400, "{query}");
        reply.error();
    }
}

#[tokio::test]
async fn addresses_and_methods_that_there_are_not() {
    let cluster = cluster().await;
    let rest = cluster.rest();
    for path in ["/nothing", "/layers/a/b/c/d", "/layers/%ff", "/../etc/passwd", "/%2e%2e/etc/passwd"] {
        let reply = rest.get(path).await;
        assert!(matches!(reply.status, 404 | 400), "{path}: {}", reply.status);
        reply.error();
    }
    for (method, path) in
        [("DELETE", "/layers/"), ("GET", "/layers/"), ("PUT", "/catalog/products"), ("POST", "/healthz")]
    {
        let reply = rest.send(method, path, &[], Bytes::new()).await;
        assert_eq!(
            (reply.status, &reply.error()["code"]),
            (405, &"invalid_request".into()),
            "{method} {path}"
        );
        assert!(!reply.header("allow").is_empty(), "{method} {path}");
    }
    let long = format!("/catalog/products?x={}", "x".repeat(31 << 10));
    assert_eq!(rest.get(&long).await.error()["code"], "limit_exceeded");
    let long = format!("/{}", "x".repeat(33 << 10));
    assert_eq!(rest.get(&long).await.error()["code"], "limit_exceeded");
}

#[tokio::test]
async fn probes_are_answered() {
    let cluster = cluster().await;
    let rest = cluster.rest();
    assert_eq!(rest.get("/healthz").await.json(), json!({ "status": "alive" }));
    let ready = rest.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["workers"]), (200, &1.into()));
    assert!(!ready.header("x-request-id").is_empty());
}
