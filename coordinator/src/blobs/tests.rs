use serde_json::{Map, Value, json};

use super::*;

const CONTENT: &str = r#"{"graft": {"returns": "x", "x": 1}, "bands": "red"}"#;

fn blobs(objects: &Objects) -> Blobs {
    Blobs::new(objects.clone(), 1000)
}

fn id(name: &str) -> BlobId {
    BlobId::new("org:user", name).unwrap()
}

fn said(value: Value) -> Map<String, Value> {
    serde_json::from_value(value).unwrap()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

async fn save(blobs: &Blobs, tenant: &str, name: &str, content: &str) -> Result<Arc<Blob>, BlobError> {
    let (id, now) = (id(name), at(1000));
    let place = blobs.begin(tenant, &id, now).await?;
    blobs.put_content(&place, Bytes::copy_from_slice(content.as_bytes())).await?;
    let attributes = Attributes { description: Some(name.to_owned()), ..Attributes::default() };
    blobs.finish(tenant, &id, &place, attributes, &Claims::default(), now).await
}

#[tokio::test]
async fn a_blob_is_saved_found_changed_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    for objects in [Objects::memory(), Objects::folder(dir.path(), true).unwrap()] {
        let first = blobs(&objects);
        let made = save(&first, "a", "maps/ndvi", CONTENT).await.unwrap();
        assert_eq!(made.bytes, CONTENT.len() as u64);
        // Another coordinator, or this one after a restart.
        let second = blobs(&objects);
        assert_eq!(second.get("a", &id("maps/ndvi")).await.unwrap(), made);
        assert_eq!(second.list("a").await.unwrap(), std::slice::from_ref(&made));
        let (content, md5) = second.content(&second.place("a", &made)).await.unwrap();
        assert_eq!((&content[..], &md5), (CONTENT.as_bytes(), &made.md5));
        let shared = said(json!({"readers": ["org:x"]}));
        let changed = second.change("a", &id("maps/ndvi"), &shared, at(2000)).await.unwrap();
        assert_eq!(changed.attributes.readers, ["org:x"]);
        assert_eq!(changed.attributes.description.as_deref(), Some("maps/ndvi"));
        assert_eq!((changed.created().0, changed.modified().0), (1_000_000_000, 2_000_000_000));
        assert_eq!(first.get("a", &id("maps/ndvi")).await.unwrap(), changed, "the other sees it");
        assert!(first.delete("a", &id("maps/ndvi"), at(0)).await.unwrap());
        assert!(!second.delete("a", &id("maps/ndvi"), at(0)).await.unwrap());
        let error = second.get("a", &id("maps/ndvi")).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::NotFound, "{error}");
        let error = second.change("a", &id("maps/ndvi"), &shared, at(2000)).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::NotFound, "{error}");
        assert!(second.list("a").await.unwrap().is_empty());
        let error = second.content(&second.place("a", &made)).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::NotFound, "{error}");
        // The name is free again, and its new life is another.
        let again = save(&second, "a", "maps/ndvi", r#"{"other": 1}"#).await.unwrap();
        assert_eq!(first.get("a", &id("maps/ndvi")).await.unwrap(), again);
        assert_ne!(again.md5, made.md5);
    }
}

#[tokio::test]
async fn tenants_do_not_see_each_other() {
    let blobs = blobs(&Objects::memory());
    let made = save(&blobs, "a", "x", CONTENT).await.unwrap();
    for other in ["", "b", "A", "../a"] {
        assert!(blobs.get(other, &made.id).await.is_err(), "{other}");
        assert!(blobs.list(other).await.unwrap().is_empty(), "{other}");
        assert!(!blobs.delete(other, &made.id, at(0)).await.unwrap(), "{other}");
        // Content that one tenant uploaded makes no blob of another's.
        let place = blobs.place("a", &made);
        let none = Claims::default();
        let finished = blobs.finish(other, &id("y"), &place, Attributes::default(), &none, at(0)).await;
        assert!(matches!(finished, Err(BlobError::NoContent { .. })), "{other}");
        save(&blobs, other, "x", CONTENT).await.unwrap();
    }
    assert_eq!(blobs.list("a").await.unwrap(), [made]);
}

#[tokio::test]
async fn a_name_is_taken_once() {
    let objects = Objects::memory();
    let (first, second) = (blobs(&objects), blobs(&objects));
    let (x, none) = (id("x"), Claims::default());
    // Both have a place and both upload: whoever finishes first has the name.
    let one = first.begin("", &x, at(0)).await.unwrap();
    let two = second.begin("", &x, at(0)).await.unwrap();
    first.put_content(&one, Bytes::from_static(b"{\"a\": 1}")).await.unwrap();
    second.put_content(&two, Bytes::from_static(b"{\"a\": 2}")).await.unwrap();
    let made = second.finish("", &x, &two, Attributes::default(), &none, at(0)).await.unwrap();
    let error = first.finish("", &x, &one, Attributes::default(), &none, at(0)).await.unwrap_err();
    assert!(matches!(error, BlobError::Taken { .. }), "{error}");
    let error = first.begin("", &x, at(0)).await.unwrap_err();
    assert!(matches!(error, BlobError::Taken { .. }), "{error}");
    // An answer that was lost is asked for again.
    let again = second.finish("", &x, &two, Attributes::default(), &none, at(9)).await.unwrap();
    assert_eq!(again, made);
    second.put_content(&two, Bytes::from_static(b"{\"a\": 2}")).await.unwrap();
    let error = second.put_content(&two, Bytes::from_static(b"{\"a\": 3}")).await.unwrap_err();
    assert!(matches!(error, BlobError::Uploaded), "{error}");
}

#[tokio::test]
async fn content_is_what_it_should_be() {
    let blobs = blobs(&Objects::memory());
    let x = id("x");
    let place = blobs.begin("", &x, at(0)).await.unwrap();
    let none = Claims::default();
    let error = blobs.finish("", &x, &place, Attributes::default(), &none, at(0)).await.unwrap_err();
    assert!(matches!(error, BlobError::NoContent { .. }), "{error}");
    let long = format!("{{\"a\": \"{}\"}}", "x".repeat(1000));
    for bad in ["", "[]", "1", "{", "{\"a\": 1} x", "\u{80}\u{4}", &long[..]] {
        assert!(blobs.put_content(&place, Bytes::copy_from_slice(bad.as_bytes())).await.is_err(), "{bad}");
    }
    blobs.put_content(&place, Bytes::from_static(CONTENT.as_bytes())).await.unwrap();
    for bad in [Claims { bytes: Some(1), md5: None }, Claims { bytes: None, md5: Some("0".repeat(32)) }] {
        let finished = blobs.finish("", &x, &place, Attributes::default(), &bad, at(0));
        assert!(matches!(finished.await, Err(BlobError::Differs { .. })), "{bad:?}");
    }
    // As `md5sum` says.
    let md5 = "DDE92d0fa5e447ae4cf1688b7457c83f".to_owned();
    let claims = Claims { bytes: Some(CONTENT.len() as u64), md5: Some(md5.clone()) };
    let made = blobs.finish("", &x, &place, Attributes::default(), &claims, at(0)).await.unwrap();
    assert_eq!(made.md5, md5.to_lowercase());
}

#[tokio::test]
async fn changes_at_once_are_all_kept() {
    let objects = Objects::memory();
    save(&blobs(&objects), "", "x", CONTENT).await.unwrap();
    let mut changes = JoinSet::new();
    for (key, value) in [("tags", "t"), ("readers", "r"), ("writers", "w"), ("owners", "o")] {
        let blobs = blobs(&objects);
        changes.spawn(async move { blobs.change("", &id("x"), &said(json!({key: [value]})), at(2)).await });
    }
    for changed in changes.join_all().await {
        changed.unwrap();
    }
    let blob = blobs(&objects).get("", &id("x")).await.unwrap();
    let Attributes { tags, readers, writers, owners, .. } = &blob.attributes;
    assert_eq!([tags, readers, writers, owners].map(|list| list.join("")), ["t", "r", "w", "o"]);
}

#[tokio::test]
async fn what_is_of_no_use_is_swept_away() {
    let objects = Objects::memory();
    let blobs = blobs(&objects);
    save(&blobs, "", "x", CONTENT).await.unwrap();
    save(&blobs, "", "gone", CONTENT).await.unwrap();
    blobs.change("", &id("x"), &said(json!({"tags": ["a"]})), at(0)).await.unwrap();
    let abandoned = blobs.begin("", &id("never"), at(0)).await.unwrap();
    blobs.put_content(&abandoned, Bytes::from_static(b"{}")).await.unwrap();
    blobs.delete("", &id("gone"), at(0)).await.unwrap();
    let later = SystemTime::now() + Duration::from_secs(2 * 86_400);
    blobs.begin("", &id("y"), later).await.unwrap();
    let names: Vec<_> = objects.list(PREFIX).await.unwrap().into_iter().map(|object| object.name).collect();
    assert_eq!(names.len(), 2, "one version and its content: {names:?}");
    assert_eq!(blobs.get("", &id("x")).await.unwrap().attributes.tags, ["a"]);
}

#[tokio::test]
async fn what_is_damaged_is_not_given_out() {
    let objects = Objects::memory();
    let blobs = blobs(&objects);
    let name = version_name(&folder("", &id("x")), 1);
    objects.put_new(&name, Bytes::from_static(b"{\"id\": 1}")).await.unwrap();
    let error = blobs.get("", &id("x")).await.unwrap_err();
    assert!(matches!(error, BlobError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn nobody_fills_the_store_with_one_blob() {
    let objects = Objects::memory();
    let blobs = blobs(&objects);
    let x = id("x");
    let mut places = Vec::new();
    for _ in 0..=UPLOADS_MAX {
        places.push(blobs.begin("", &x, at(0)).await.unwrap());
    }
    let (last, first) = places.split_last().unwrap();
    for place in first {
        blobs.put_content(place, Bytes::from_static(b"{}")).await.unwrap();
    }
    blobs.put_content(&first[0], Bytes::from_static(b"{}")).await.unwrap();
    let error = blobs.put_content(last, Bytes::from_static(b"{}")).await.unwrap_err();
    assert!(matches!(error, BlobError::TooOften { what: "uploads", .. }), "{error}");
    assert!(error.to_string().contains("1440 minutes"), "{error}");
    blobs.finish("", &x, &first[0], Attributes::default(), &Claims::default(), at(0)).await.unwrap();
    let tag = |number: usize| said(json!({"tags": [number.to_string()]}));
    for number in 1..VERSIONS_MAX {
        blobs.change("", &x, &tag(number), at(0)).await.unwrap();
    }
    let error = blobs.change("", &x, &tag(0), at(0)).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::LimitExceeded, "{error}");
    // Those that were replaced go away in time, and it goes on.
    let later = SystemTime::now() + Duration::from_secs(1000);
    blobs.change("", &x, &tag(0), later).await.unwrap_err();
    blobs.change("", &x, &tag(0), later).await.unwrap();
    assert_eq!(blobs.get("", &x).await.unwrap().attributes.tags, ["0"]);
}
