//! Keys that count, and what is none.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn wanted(tenant: &str, scopes: &[Scope], expires: Option<i64>) -> NewKey {
    NewKey {
        name: "of a test".into(),
        tenant: tenant.into(),
        scopes: Scopes::of(scopes.iter().copied()),
        expires: expires.map(|seconds| Timestamp(seconds * 1_000_000)),
    }
}

const NOW: Timestamp = Timestamp(1_000 * 1_000_000);

#[test]
fn a_key_counts_until_it_expires_or_is_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let file = KeyFile(folder.path().join("keys.jsonl"));
    let pepper = Pepper::open(&folder.path().join("auth.key")).unwrap();
    let (lasting, record) = file.create(&pepper, wanted("acme", &[Scope::Compute], None), NOW).unwrap();
    let (brief, _) = file.create(&pepper, wanted("umbrella", &[Scope::Admin], Some(2_000)), NOW).unwrap();
    let keys = file.load().unwrap();
    let identity = keys.identify(&pepper, &lasting, 1_000).unwrap();
    assert_eq!((&*identity.tenant, identity.scopes), ("acme", Scopes::of([Scope::Compute])));
    assert_eq!(&*keys.identify(&pepper, &brief, 1_999).unwrap().tenant, "umbrella");
    assert_eq!(keys.identify(&pepper, &brief, 2_000), Err(KeyFault::Expired));
    assert!(file.revoke(&record.id, NOW).unwrap());
    assert!(!file.revoke(&lasting, NOW).unwrap(), "it was revoked before");
    assert_eq!(file.load().unwrap().identify(&pepper, &lasting, 1_000), Err(KeyFault::Revoked));
    assert!(file.load().unwrap().identify(&pepper, &brief, 1_000).is_ok());
    assert!(file.revoke("0000", NOW).unwrap_err().to_string().contains("no key `0000`"));
}

#[test]
fn what_is_no_key_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let file = KeyFile(folder.path().join("keys.jsonl"));
    let pepper = Pepper([7; 32]);
    let (key, record) = file.create(&pepper, wanted("a", &[Scope::Compute], None), NOW).unwrap();
    let (other, other_record) = file.create(&pepper, wanted("b", &[Scope::Worker], None), NOW).unwrap();
    let keys = file.load().unwrap();
    let secret = |key: &str| key.rsplit_once('_').unwrap().1.to_owned();
    let flipped = |at: usize| {
        let mut text = key.clone().into_bytes();
        text[at] = if text[at] == b'0' { b'1' } else { b'0' };
        String::from_utf8(text).unwrap()
    };
    let mut wrong = vec![
        String::new(),
        "gk_".into(),
        "gk__".into(),
        format!("gk_{}", record.id),
        format!("gk_{}_", record.id),
        format!("gk_{}_{}", record.id, secret(&other)),
        format!("gk_{}_{}", other_record.id, secret(&key)),
        format!("gk_{}_{}", record.id, secret(&key).to_uppercase()),
        format!("gk_{}_{}", record.id, "0".repeat(64)),
        format!("gk_{}_{}", "0".repeat(16), secret(&key)),
        format!("{key} "),
        format!("{key}0"),
        key[..key.len() - 1].to_owned(),
        record.hash.clone(),
        format!("gk_{}_{}", record.id, record.hash),
    ];
    wrong.extend((3..key.len()).map(flipped));
    for key in &wrong {
        assert_eq!(keys.identify(&pepper, key, 1_000), Err(KeyFault::Unknown), "{key}");
    }
    // The file is worth nothing without the deployment's secret.
    assert_eq!(keys.identify(&Pepper([8; 32]), &key, 1_000), Err(KeyFault::Unknown));
    assert!(keys.identify(&pepper, &key, 1_000).is_ok());
}

#[test]
fn the_files_are_their_owners() {
    let folder = tempfile::tempdir().unwrap();
    let file = KeyFile(folder.path().join("keys.jsonl"));
    let secret = folder.path().join("auth.key");
    let pepper = Pepper::open(&secret).unwrap();
    assert_eq!(Pepper::open(&secret).unwrap().0, pepper.0, "made once");
    let (key, _) = file.create(&pepper, wanted("a", &[Scope::Compute], None), NOW).unwrap();
    for path in [&secret, &file.0] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let text = std::fs::read_to_string(&file.0).unwrap();
    assert!(!text.contains(key.rsplit_once('_').unwrap().1), "the secret is nowhere");
    let files = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 3, "no drafts are left: the secret, the keys, their lock");
}

#[test]
fn lines_that_are_no_keys() {
    let folder = tempfile::tempdir().unwrap();
    let file = KeyFile(folder.path().join("keys.jsonl"));
    let hash = "00".repeat(32);
    let line = |tenant: &str, scope: &str, rest: &str| {
        format!(r#"{{"id": "x", "tenant": "{tenant}", "scopes": ["{scope}"], "hash": "{hash}"{rest}}}"#)
    };
    let good = line("a", "compute", "");
    let cases = [
        (line("a", "everything", ""), "no scope `everything`"),
        (line("", "compute", ""), "tenant"),
        (line("a", "compute", r#", "expires": "soon""#), "no instant"),
        (line("a", "compute", r#", "expired": "2020-01-01""#), "unknown field"),
        (line("a", "compute", r#", "tenant": "b""#), "duplicate field"),
        (good.clone(), "twice"),
        (good.replace("00", "0"), "hash"),
        ("not json".into(), "line 2"),
    ];
    for (bad, reason) in cases {
        std::fs::write(&file.0, format!("{good}\n{bad}\n")).unwrap();
        let error = file.load().unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains(reason), "{bad}: {error}");
    }
    let past = file.create(&Pepper([0; 32]), wanted("a", &[], Some(1)), NOW).unwrap_err();
    assert!(past.to_string().contains("expired"), "{past}");
}

#[test]
fn a_key_in_the_look_of_a_token_is_that_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = KeyFile(folder.path().join("keys.jsonl"));
    let pepper = Pepper([7; 32]);
    for (tenant, expires, exp) in [("acme", None, NEVER), ("auth0|5f7", Some(2_000), 2_000)] {
        let (key, record) = file.create(&pepper, wanted(tenant, &[Scope::Compute], expires), NOW).unwrap();
        let token = as_token(&key, &record);
        assert_eq!(bare(&token), key);
        let parts: Vec<_> = token.split('.').collect();
        let read = |part: &str| -> serde_json::Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        let claims = read(parts[1]);
        assert_eq!(read(parts[0])["typ"], "JWT");
        assert_eq!(claims["exp"], exp);
        assert_eq!(claims["org"], tenant.replace('|', "-"));
        assert_eq!(claims["userid"], "of-a-test");
        // What stands before the key says nothing to the engine, and cannot.
        assert_eq!(bare(&format!("..{key}")), key);
        for other in [
            key.clone(),
            format!("a.{key}"),
            format!("a.b.c.{key}"),
            format!("a.{key}.c"),
            format!("a.b.{}", &key[..83]),
            format!("a.b.{key}0"),
            format!("a.b.{}", key.to_uppercase()),
            "a.b.gk_x_y".to_owned(),
            "a.b.gk_".to_owned(),
        ] {
            assert_eq!(bare(&other), other);
        }
    }
}
