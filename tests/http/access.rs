//! Who may call, and how much.

use std::path::Path;
use std::sync::Arc;

use graticule_common::scene::Timestamp;
use graticule_coordinator::access::keys::{KeyFile, NewKey, Pepper};
use graticule_coordinator::access::quota::Quota;
use graticule_coordinator::access::{Access, AccessSettings, Scope, Scopes};
use graticule_tests::cluster::{Cluster, Setup};
use graticule_tests::scenes::reduce;

use crate::made_up;

/// A file of keys, and keys in it.
fn keys(dir: &Path, of: &[(&str, &[Scope])]) -> (KeyFile, Pepper, Vec<String>) {
    let file = KeyFile(dir.join("keys.jsonl"));
    let pepper_file = dir.join("auth.key");
    let pepper = Pepper::open(&pepper_file).expect("a pepper");
    let keys = of.iter().map(|(tenant, scopes)| {
        let scopes = Scopes::of(scopes.iter().copied());
        let wanted = NewKey { name: String::new(), tenant: (*tenant).into(), scopes, expires: None };
        file.create(&pepper, wanted, Timestamp(0)).expect("a key").0
    });
    let keys = keys.collect();
    (file, pepper, keys)
}

async fn secured(dir: &Path, quota: Option<Quota>) -> (Cluster, Vec<String>) {
    let of: &[(&str, &[Scope])] = &[
        ("acme", &[Scope::Compute, Scope::CatalogRead]),
        ("other", &[Scope::Compute]),
        ("reader", &[Scope::CatalogRead]),
    ];
    let (file, pepper, keys) = keys(dir, of);
    let settings =
        AccessSettings { is_required: true, keys: Some((file, pepper)), quota, ..AccessSettings::default() };
    let access = Arc::new(Access::new(settings).await.expect("access"));
    (Cluster::start(Setup { workers: 0, access, ..made_up() }).await, keys)
}

#[tokio::test]
async fn who_says_nothing_or_something_wrong_is_not_let_in() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, keys) = secured(dir.path(), None).await;
    let rest = cluster.rest();
    for path in ["/catalog/products", "/layers/x", "/layers/x/value?lon=0&lat=0"] {
        let reply = rest.get(path).await;
        assert_eq!((reply.status, &reply.error()["code"]), (401, &"unauthenticated".into()), "{path}");
        assert_eq!(reply.header("www-authenticate"), "Bearer");
        for wrong in ["x", "Bearer ", "Bearer x.y.z", &keys[0][..keys[0].len() - 1]] {
            assert_eq!(rest.with(wrong).get(path).await.status, 401, "{path} {wrong}");
        }
    }
    // What needs nothing.
    assert_eq!((rest.get("/healthz").await.status, rest.get("/readyz").await.status), (200, 503));
    assert_eq!(rest.get("/nothing").await.status, 404);
    for form in [keys[0].clone(), format!("Bearer {}", keys[0]), format!("bearer {}", keys[0])] {
        assert_eq!(rest.with(&form).get("/catalog/products").await.status, 200, "{form}");
    }
    let reply = rest.with(&keys[1]).get("/catalog/products").await;
    assert_eq!((reply.status, &reply.error()["code"]), (403, &"forbidden".into()));
    assert!(reply.error()["message"].as_str().unwrap().contains("catalog:read"));
    let reply = rest.with(&keys[2]).post("/layers/", &serde_json::json!({ "graft": {} })).await;
    assert_eq!(reply.status, 403);
}

#[tokio::test]
async fn each_tenant_has_layers_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, keys) = secured(dir.path(), None).await;
    let rest = cluster.rest();
    let graft = reduce("made-up", "a", "max");
    let (acme, other) = (rest.with(&keys[0]), rest.with(&keys[1]));
    let id = acme.layer(&graft).await;
    let theirs = other.layer(&graft).await;
    assert_ne!(id, theirs);
    assert_eq!(acme.layer(&graft).await, id);
    // Who has an id may use it.
    assert_eq!(other.get(&format!("/layers/{id}")).await.status, 200);
    assert_eq!(rest.get(&format!("/layers/{id}")).await.status, 401);
}

#[tokio::test]
async fn a_tenant_may_ask_for_so_much() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, keys) = secured(dir.path(), Some(Quota { per_second: 1, at_once: 0 })).await;
    let acme = cluster.rest().with(&keys[0]);
    let mut refused = None;
    for _ in 0..20 {
        let reply = acme.get("/catalog/products").await;
        if reply.status == 429 {
            refused = Some(reply);
            break;
        }
        assert_eq!(reply.status, 200);
    }
    let refused = refused.expect("twenty calls at once are more than one a second");
    assert_eq!(
        (&refused.error()["code"], &refused.error()["retryable"]),
        (&"overloaded".into(), &true.into())
    );
}
