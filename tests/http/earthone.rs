//! The catalog calls of the published client, as anybody may send them.

use graticule_coordinator::http::HttpConfig;
use graticule_coordinator::objects::Objects;
use graticule_tests::cluster::{Cluster, Setup, http_config};
use graticule_tests::rest::{Reply, Rest};
use serde_json::{Value, json};

use crate::{cluster, made_up};

/// What an error says, in the shape that all have and in that of JSON:API.
fn error(reply: &Reply, status: u16, code: &str) -> String {
    let body = reply.json();
    assert_eq!((reply.status, &body["code"]), (status, &code.into()), "{body}");
    assert_eq!(body["errors"][0]["detail"], body["message"]);
    assert_eq!(body["errors"][0]["status"], status.to_string());
    assert_eq!(reply.header("x-request-id"), body["request_id"]);
    body["message"].as_str().expect("a text").to_owned()
}

fn attributes(name: &str) -> Value {
    json!({
        "name": name, "namespace": "org:user", "storage_type": "dyncomp", "storage_state": "available",
        "extra_properties": {"graft_type": "Mosaic", "python_version": "3.11"},
    })
}

/// Asks for a place; the path of its URL, and the signature.
async fn upload(rest: &Rest, prefix: &str, attributes: &Value) -> Reply {
    let nested = json!({ "data": { "type": "storage", "attributes": attributes } });
    let body = json!({ "data": { "type": "storage_upload", "attributes": { "storage": nested } } });
    rest.post(&format!("{prefix}/storage/upload"), &body).await
}

fn place(rest: &Rest, reply: &Reply) -> (String, String) {
    let said = reply.json()["data"]["attributes"].clone();
    let url = said["resumable_url"].as_str().expect("a text");
    let path = url.strip_prefix(&format!("http://{}", rest.address)).expect("the address that was asked");
    (path.to_owned(), said["signature"].as_str().expect("a text").to_owned())
}

async fn finish(rest: &Rest, signature: &str, mut attributes: Value) -> Reply {
    attributes["upload_signature"] = signature.into();
    let id = format!("dyncomp/org:user/{}", attributes["name"].as_str().expect("a text"));
    let body = json!({ "data": { "type": "storage", "id": id, "attributes": attributes } });
    rest.post("/storage", &body).await
}

async fn put(rest: &Rest, path: &str, content: &[u8]) -> Reply {
    rest.send("PUT", path, &[], content.to_vec()).await
}

const CONTENT: &[u8] = br#"{"graft": {"returns": "x", "x": 1}}"#;

/// Saves a blob; its id.
async fn save(rest: &Rest, name: &str) -> String {
    let (path, signature) = place(rest, &upload(rest, "", &attributes(name)).await);
    assert_eq!(put(rest, &path, CONTENT).await.status, 200);
    let reply = finish(rest, &signature, attributes(name)).await;
    assert_eq!(reply.status, 201, "{}", reply.json());
    reply.json()["data"]["id"].as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn a_blob_lives_below_both_addresses_and_on_all_coordinators() {
    let objects = Objects::memory();
    let setup = || Setup { http: Some(http_config(objects.clone())), workers: 0, ..made_up() };
    let (first, second) = (Cluster::start(setup()).await, Cluster::start(setup()).await);
    let (one, two) = (first.rest(), second.rest());
    for prefix in ["", "/catalog/v2"] {
        let name = format!("maps/ndvi{}", prefix.len());
        let (path, signature) = place(&one, &upload(&one, prefix, &attributes(&name)).await);
        assert!(path.starts_with(&format!("{prefix}/storage/content/")), "{path}");
        // Another coordinator takes what the first gave out.
        assert_eq!(put(&two, &path, CONTENT).await.status, 200);
        assert_eq!(put(&one, &path, CONTENT).await.status, 200, "again is no harm");
        error(&put(&one, &path, b"{}").await, 400, "invalid_request");
        assert_eq!(finish(&two, &signature, attributes(&name)).await.status, 201);
        let id = format!("dyncomp/org%3Auser/{name}");
        let got = one.get(&format!("{prefix}/storage/{id}")).await;
        let data = got.json()["data"].clone();
        assert_eq!((got.status, &data["attributes"]["size_bytes"]), (200, &CONTENT.len().into()));
        assert_eq!(got.header("content-type"), "application/vnd.api+json");
        assert_eq!(two.send("HEAD", &format!("{prefix}/storage/{id}"), &[], "").await.status, 200);
        let download = two.get(&format!("{prefix}/storage/download/{id}")).await;
        let url = download.json()["data"]["attributes"]["resumable_url"].as_str().unwrap().to_owned();
        let path = url.strip_prefix(&format!("http://{}", two.address)).unwrap();
        let hash = data["attributes"]["hash"].as_str().unwrap();
        let content = one.send("GET", path, &[("if-match", hash)], "").await;
        assert_eq!((content.status, &content.body[..]), (200, CONTENT));
        assert_eq!(one.send("GET", path, &[("if-match", "\"other\"")], "").await.status, 412);
        let shared = json!({ "data": { "type": "storage", "attributes": { "readers": ["org:x"] } } });
        let patched = two.send("PATCH", &format!("/storage/{id}"), &[], shared.to_string()).await;
        assert_eq!(patched.json()["data"]["attributes"]["readers"], json!(["org:x"]));
        let filter = json!({ "filter": format!(r#"[{{"op": "eq", "name": "name", "val": "{name}"}}]"#) });
        let found = one.send("PUT", &format!("{prefix}/storage"), &[], filter.to_string()).await;
        assert_eq!(
            (found.json()["meta"]["count"].clone(), found.json()["links"].clone()),
            (1.into(), json!({}))
        );
        let delete = json!({ "data": { "attributes": { "ids": [&data["id"]], "raise_on_missing": true } } });
        let deleted = one.post(&format!("{prefix}/storage/delete"), &delete).await;
        assert_eq!(
            (deleted.status, &deleted.json()["data"]["attributes"]["status"]),
            (201, &"SUCCESS".into())
        );
        error(&two.get(&format!("{prefix}/storage/{id}")).await, 404, "not_found");
        error(&two.get(path).await, 404, "not_found");
        error(&one.post("/storage/delete", &delete).await, 404, "not_found");
    }
}

#[tokio::test]
async fn nothing_in_an_address_or_a_body_leads_elsewhere() {
    let cluster = cluster().await;
    let rest = cluster.rest();
    let id = save(&rest, "mine").await;
    let download = rest.get(&format!("/storage/download/{id}")).await;
    let url = download.json()["data"]["attributes"]["resumable_url"].as_str().unwrap().to_owned();
    let path = url.strip_prefix(&format!("http://{}", rest.address)).unwrap().to_owned();
    error(&put(&rest, &path, CONTENT).await, 404, "not_found");
    for ticket in ["x", "..%2F..%2Fsecrets%2Flayers.json", "%00", "AAAA", &"A".repeat(30_000)] {
        for reply in [
            rest.get(&format!("/storage/content/{ticket}")).await,
            put(&rest, &format!("/storage/content/{ticket}"), CONTENT).await,
        ] {
            assert!(matches!(reply.status, 404 | 413), "{ticket}: {}", reply.status);
        }
    }
    let (upload_path, signature) = place(&rest, &upload(&rest, "", &attributes("other")).await);
    error(&rest.get(&upload_path).await, 404, "not_found");
    error(&put(&rest, &upload_path, b"\x80\x04.").await, 400, "invalid_request");
    error(&put(&rest, &upload_path, &vec![b' '; (4 << 20) + 1]).await, 413, "limit_exceeded");
    // Nothing came, and no signature is for another blob.
    error(&finish(&rest, &signature, attributes("other")).await, 400, "invalid_request");
    assert_eq!(put(&rest, &upload_path, CONTENT).await.status, 200);
    error(&finish(&rest, &signature, attributes("stolen")).await, 400, "invalid_request");
    for forged in ["", "unsigned", &signature[1..], upload_path.rsplit('/').next().unwrap()] {
        error(&finish(&rest, forged, attributes("other")).await, 400, "invalid_request");
    }
    assert_eq!(finish(&rest, &signature, attributes("other")).await.status, 201);
    error(&upload(&rest, "", &attributes("other")).await, 400, "invalid_request");
    for name in ["", "a b", "../a", "a//b", "/a", "a/", "ä"] {
        error(&upload(&rest, "", &attributes(name)).await, 400, "invalid_request");
    }
    let with = |name: &str, value: Value| {
        let mut attributes = attributes("new");
        attributes[name] = value;
        attributes
    };
    error(&upload(&rest, "", &with("storage_type", "data".into())).await, 422, "unsupported");
    error(&upload(&rest, "", &with("expires", "2030-01-01".into())).await, 422, "unsupported");
    error(&upload(&rest, "", &with("tags", "a".into())).await, 400, "invalid_request");
    error(&upload(&rest, "", &with("description", "x".repeat(200_000).into())).await, 413, "limit_exceeded");
    for body in ["", "x", "[]", "{}", r#"{"data": []}"#, r#"{"data": {"attributes": 1}}"#] {
        for (method, path) in [
            ("POST", "/storage"),
            ("POST", "/storage/upload"),
            ("POST", "/storage/delete"),
            ("PATCH", "/storage/dyncomp/org:user/mine"),
        ] {
            error(&rest.send(method, path, &[], body).await, 400, "invalid_request");
        }
    }
    for (body, status, code) in [
        (json!({ "filter": "gASVBQ==" }), 422, "unsupported"),
        (json!({ "filter": 1 }), 400, "invalid_request"),
        (json!({ "limit": -1 }), 400, "invalid_request"),
        (json!({ "intersects": "{}" }), 422, "unsupported"),
    ] {
        error(&rest.send("PUT", "/storage", &[], body.to_string()).await, status, code);
    }
    error(&rest.send("PUT", "/storage?continuation=x", &[], "{}").await, 400, "invalid_request");
    for path in ["/storage/x", "/storage/dyncomp/a", "/storage/dyncomp/a/b", "/products/no:thing"] {
        error(&rest.get(path).await, 404, "not_found");
    }
    assert_eq!(rest.get("/storage/upload").await.status, 405);
}

#[tokio::test]
async fn addresses_begin_as_the_client_or_the_operator_says() {
    let named = cluster().await;
    let rest = named.rest();
    let body =
        json!({ "data": { "attributes": { "storage": { "data": { "attributes": attributes("x") } } } } });
    let begin = async |rest: &Rest, headers: &[(&str, &str)]| {
        let reply = rest.send("POST", "/storage/upload", headers, body.to_string()).await;
        (reply.status, reply.json()["data"]["attributes"]["resumable_url"].as_str().map(str::to_owned))
    };
    // Anybody can send these, so they say nothing.
    let forwarded = [("x-forwarded-host", "evil.example"), ("x-forwarded-proto", "https")];
    let (status, url) = begin(&rest, &forwarded).await;
    assert_eq!(status, 201);
    assert!(url.unwrap().starts_with(&format!("http://{}/storage/content/", rest.address)));
    let (status, url) = begin(&rest, &[("host", "maps.example:8443")]).await;
    assert_eq!(status, 201);
    assert!(url.unwrap().starts_with("http://maps.example:8443/storage/content/"));
    for host in ["user@maps.example", "a/b", ""] {
        assert_eq!(begin(&rest, &[("host", host)]).await.0, 400, "{host}");
    }
    let public_url = Some("https://maps.example/engine".to_owned());
    let config = HttpConfig { public_url, ..http_config(Objects::memory()) };
    let behind = Cluster::start(Setup { http: Some(config), workers: 0, ..made_up() }).await;
    let (_, url) = begin(&behind.rest(), &[("host", "10.0.0.1")]).await;
    assert!(url.unwrap().starts_with("https://maps.example/engine/storage/content/"));
}

#[tokio::test]
async fn products_are_those_of_the_catalog() {
    let cluster = cluster().await;
    let rest = cluster.rest();
    for prefix in ["", "/catalog/v2"] {
        let product = rest.get(&format!("{prefix}/products/made-up")).await;
        assert_eq!((product.status, &product.json()["data"]["type"]), (200, &"product".into()));
        let all = rest.send("PUT", &format!("{prefix}/products"), &[], "{}").await;
        assert_eq!(all.json()["data"][0]["id"], "made-up");
        let message = error(&rest.get(&format!("{prefix}/products/other%3Aone")).await, 404, "not_found");
        assert!(message.contains("`other:one`") && message.contains("made-up"), "{message}");
    }
}
