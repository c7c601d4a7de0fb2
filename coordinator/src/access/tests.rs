//! What counts and what does not: forged, expired, misdirected and malformed credentials, each with the
//! same answer. The keys in `testdata` sign nothing but these tests.

use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use graticule_common::scene::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData};
use serde_json::{Value, json};

use super::jwt::JwtAlgorithm;
use super::keys::NewKey;
use super::*;

const RSA: &[u8] = include_bytes!("testdata/rsa-of-tests.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("testdata/rsa-of-tests.pub.pem");
const RSA_N: &str = include_str!("testdata/rsa-of-tests.n");
const OTHER_RSA: &[u8] = include_bytes!("testdata/other-rsa-of-tests.pem");

const ISSUER: &str = "https://id.example/";
const AUDIENCE: &str = "graticule";
const NOW: u64 = 1_800_000_000;

/// A provider with a key of each kind.
struct Provider {
    ec: KeyPair,
    ed: KeyPair,
    jwks: Value,
}

impl Provider {
    fn new() -> Provider {
        let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let ed = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let point = ec.der_bytes().to_vec();
        let (x, y) = (B64.encode(&point[1..33]), B64.encode(&point[33..65]));
        let jwks = json!({"keys": [
            {"kty": "RSA", "kid": "rsa", "use": "sig", "alg": "RS256", "n": RSA_N.trim(), "e": "AQAB"},
            {"kty": "RSA", "kid": "rsa-any", "n": RSA_N.trim(), "e": "AQAB"},
            {"kty": "RSA", "kid": "rsa-enc", "use": "enc", "n": RSA_N.trim(), "e": "AQAB"},
            {"kty": "RSA", "kid": "twice", "n": RSA_N.trim(), "e": "AQAB"},
            {"kty": "RSA", "kid": "twice", "n": RSA_N.trim(), "e": "AQAB"},
            {"kty": "EC", "crv": "P-256", "kid": "ec", "x": x, "y": y},
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": B64.encode(ed.der_bytes())},
            {"kty": "oct", "kid": "shared", "k": B64.encode("a secret that is shared with everybody")},
            {"kty": "new", "kid": "of-a-kind-to-come"},
        ]});
        Provider { ec, ed, jwks }
    }

    fn ec(&self) -> EncodingKey {
        EncodingKey::from_ec_der(self.ec.serialized_der())
    }

    fn ed(&self) -> EncodingKey {
        EncodingKey::from_ed_der(self.ed.serialized_der())
    }
}

fn rsa() -> EncodingKey {
    EncodingKey::from_rsa_pem(RSA).unwrap()
}

/// A token of any header and claims; the algorithm is how it is signed, whatever the header says.
fn token(header: &str, claims: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", B64.encode(header), B64.encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn header(algorithm: &str, kid: &str) -> String {
    json!({"alg": algorithm, "kid": kid, "typ": "JWT"}).to_string()
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 600, "nbf": NOW - 10, "iat": NOW - 10,
        "sub": "acme", "scope": "openid compute catalog:read",
    })
}

/// Claims with one of them changed; `null` leaves it out.
fn with(name: &str, value: Value) -> String {
    let mut claims = claims();
    match value {
        Value::Null => _ = claims.as_object_mut().unwrap().remove(name),
        value => claims[name] = value,
    }
    claims.to_string()
}

#[derive(Debug)]
struct Fixed(Mutex<Vec<u8>>);

#[async_trait::async_trait]
impl Documents for Fixed {
    async fn load(&self) -> Result<Vec<u8>, String> {
        Ok(self.0.lock().unwrap().clone())
    }
}

async fn access_with(provider: &Provider, keys: Option<KeyTable>) -> Access {
    let rules = JwtRules {
        issuer: ISSUER.into(),
        audience: AUDIENCE.into(),
        algorithms: JwtAlgorithm::DEFAULT.to_vec(),
        tenant_claim: "sub".into(),
    };
    let jwks = Jwks::new(Arc::new(Fixed(Mutex::new(provider.jwks.to_string().into_bytes()))));
    jwks.read(Duration::ZERO).await.unwrap();
    let tokens = Some(Tokens { rules, jwks, file: None });
    Access { is_required: true, tokens, keys, ..Access::open() }
}

#[tokio::test]
async fn tokens_that_count() {
    let provider = Provider::new();
    let access = access_with(&provider, None).await;
    let good = claims().to_string();
    let cases = [
        token(&header("RS256", "rsa"), &good, &rsa(), Algorithm::RS256),
        token(&header("RS256", "rsa-any"), &good, &rsa(), Algorithm::RS256),
        token(&header("ES256", "ec"), &good, &provider.ec(), Algorithm::ES256),
        token(&header("EdDSA", "ed"), &good, &provider.ed(), Algorithm::EdDSA),
        token(r#"{"alg": "EdDSA", "kid": "ed"}"#, &good, &provider.ed(), Algorithm::EdDSA),
        token(r#"{"alg": "EdDSA", "kid": "ed", "typ": "at+JWT"}"#, &good, &provider.ed(), Algorithm::EdDSA),
        // Addresses of keys are neither followed nor held against it.
        token(
            r#"{"alg": "EdDSA", "kid": "ed", "jku": "http://127.0.0.1:9/", "x5u": "http://127.0.0.1:9/"}"#,
            &good,
            &provider.ed(),
            Algorithm::EdDSA,
        ),
        token(
            &header("EdDSA", "ed"),
            &with("aud", json!(["other", AUDIENCE])),
            &provider.ed(),
            Algorithm::EdDSA,
        ),
        // Within the minute that clocks may differ by.
        token(&header("EdDSA", "ed"), &with("exp", json!(NOW - 59)), &provider.ed(), Algorithm::EdDSA),
        token(&header("EdDSA", "ed"), &with("nbf", json!(NOW + 60)), &provider.ed(), Algorithm::EdDSA),
        token(&header("EdDSA", "ed"), &with("nbf", Value::Null), &provider.ed(), Algorithm::EdDSA),
    ];
    for token in &cases {
        for form in [token.clone(), format!("Bearer {token}"), format!("bearer   {token}")] {
            let identity = access.identify(Some(form.as_bytes()), NOW).await;
            let identity = identity.unwrap_or_else(|error| panic!("{error}: {form}"));
            assert_eq!(&*identity.tenant, "acme");
            assert_eq!(identity.scopes, Scopes::of([Scope::Compute, Scope::CatalogRead]));
        }
    }
    let list = with("scope", Value::Null).replace("\"sub\"", r#""scp": ["worker", "x"], "sub""#);
    let token = token(&header("EdDSA", "ed"), &list, &provider.ed(), Algorithm::EdDSA);
    let identity = access.identify(Some(token.as_bytes()), NOW).await.unwrap();
    assert_eq!(identity.scopes, Scopes::of([Scope::Worker]));
}

/// Every way to make a token that does not count.
fn forgeries(provider: &Provider) -> Vec<(&'static str, String)> {
    use Algorithm::{ES256, EdDSA, HS256, HS384, HS512, PS256, RS256, RS384};
    let good = claims().to_string();
    let (ec, ed, rsa) = (provider.ec(), provider.ed(), rsa());
    let other_rsa = EncodingKey::from_rsa_pem(OTHER_RSA).unwrap();
    let other = Provider::new();
    let ours = token(&header("EdDSA", "ed"), &good, &ed, EdDSA);
    let parts: Vec<&str> = ours.split('.').collect();
    let unsigned = |header: &str| format!("{}.{}.", B64.encode(header), B64.encode(&good));
    let secret = |secret: &[u8]| EncodingKey::from_secret(secret);
    let n = B64.decode(RSA_N.trim()).unwrap();
    let ed_public = provider.ed.der_bytes();
    let signed = |header: &str| token(header, &good, &ed, EdDSA);
    let claiming = |claims: &str| token(&header("EdDSA", "ed"), claims, &ed, EdDSA);
    let mut cases = vec![
        // No signature, by every spelling.
        ("alg none", unsigned(r#"{"alg": "none", "kid": "ed"}"#)),
        ("alg None", unsigned(r#"{"alg": "None", "kid": "ed"}"#)),
        ("alg NONE", unsigned(r#"{"alg": "NONE", "kid": "ed"}"#)),
        ("alg empty", unsigned(r#"{"alg": "", "kid": "ed"}"#)),
        ("alg null", unsigned(r#"{"alg": null, "kid": "ed"}"#)),
        ("alg missing", unsigned(r#"{"kid": "ed"}"#)),
        ("alg a list", unsigned(r#"{"alg": ["EdDSA"], "kid": "ed"}"#)),
        ("alg none with a signature", signed(r#"{"alg": "none", "kid": "ed"}"#)),
        ("right header, no signature", unsigned(&header("EdDSA", "ed"))),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        // A public key taken for a secret.
        ("HS256 by the PEM", token(&header("HS256", "rsa"), &good, &secret(RSA_PUBLIC), HS256)),
        (
            "HS256 by the trimmed PEM",
            token(&header("HS256", "rsa"), &good, &secret(RSA_PUBLIC.trim_ascii()), HS256),
        ),
        ("HS256 by the modulus", token(&header("HS256", "rsa"), &good, &secret(&n), HS256)),
        ("HS256 by its text", token(&header("HS256", "rsa"), &good, &secret(RSA_N.trim().as_bytes()), HS256)),
        ("HS384 by the PEM", token(&header("HS384", "rsa"), &good, &secret(RSA_PUBLIC), HS384)),
        ("HS512 by the PEM", token(&header("HS512", "rsa-any"), &good, &secret(RSA_PUBLIC), HS512)),
        ("HS256 by the point", token(&header("HS256", "ed"), &good, &secret(ed_public), HS256)),
        ("HS256 by nothing", token(&header("HS256", "ed"), &good, &secret(b""), HS256)),
        ("HS256 said to be RS256", token(&header("RS256", "rsa"), &good, &secret(RSA_PUBLIC), HS256)),
        (
            "HS256 by the shared key of the set",
            token(
                &header("HS256", "shared"),
                &good,
                &secret(b"a secret that is shared with everybody"),
                HS256,
            ),
        ),
        // Another key.
        ("another RSA key", token(&header("RS256", "rsa"), &good, &other_rsa, RS256)),
        ("another EC key", token(&header("ES256", "ec"), &good, &other.ec(), ES256)),
        ("another Ed25519 key", token(&header("EdDSA", "ed"), &good, &other.ed(), EdDSA)),
        ("a key of another kind", token(&header("RS256", "ed"), &good, &rsa, RS256)),
        ("ES256 said to be EdDSA", token(&header("EdDSA", "ed"), &good, &ec, ES256)),
        ("EdDSA by the EC key's name", token(&header("EdDSA", "ec"), &good, &ed, EdDSA)),
        ("an algorithm that is not allowed", token(&header("RS384", "rsa-any"), &good, &rsa, RS384)),
        ("an algorithm not of this key", token(&header("PS256", "rsa"), &good, &rsa, PS256)),
        ("a key for encryption", token(&header("RS256", "rsa-enc"), &good, &rsa, RS256)),
        ("a name that two keys have", token(&header("RS256", "twice"), &good, &rsa, RS256)),
        ("an unknown key", token(&header("RS256", "new"), &good, &rsa, RS256)),
        ("a key of no name", token(r#"{"alg": "RS256"}"#, &good, &rsa, RS256)),
        ("a key of an empty name", token(&header("RS256", ""), &good, &rsa, RS256)),
        ("a key whose name is a number", token(r#"{"alg": "RS256", "kid": 1}"#, &good, &rsa, RS256)),
        ("a path for a name", token(&header("RS256", "../../dev/null"), &good, &rsa, RS256)),
        (
            "a key of its own",
            token(
                &json!({"alg": "EdDSA", "kid": "mine", "jwk": {"kty": "OKP", "crv": "Ed25519",
                    "kid": "mine", "x": B64.encode(other.ed.der_bytes())}})
                .to_string(),
                &good,
                &other.ed(),
                EdDSA,
            ),
        ),
        (
            "a key of its own under our name",
            token(
                &json!({"alg": "EdDSA", "kid": "ed", "jwk": {"kty": "OKP", "crv": "Ed25519",
                    "kid": "ed", "x": B64.encode(other.ed.der_bytes())}})
                .to_string(),
                &good,
                &other.ed(),
                EdDSA,
            ),
        ),
        (
            "an address of keys",
            token(
                r#"{"alg": "EdDSA", "kid": "theirs", "jku": "https://evil.example/jwks"}"#,
                &good,
                &other.ed(),
                EdDSA,
            ),
        ),
        // Headers.
        ("an extension", signed(r#"{"alg": "EdDSA", "kid": "ed", "crit": ["exp"], "exp": 1}"#)),
        ("an empty list of extensions", signed(r#"{"alg": "EdDSA", "kid": "ed", "crit": []}"#)),
        ("unencoded claims", signed(r#"{"alg": "EdDSA", "kid": "ed", "b64": false, "crit": ["b64"]}"#)),
        ("another purpose", signed(r#"{"alg": "EdDSA", "kid": "ed", "typ": "logout+jwt"}"#)),
        ("a purpose that is no text", signed(r#"{"alg": "EdDSA", "kid": "ed", "typ": 1}"#)),
        ("alg twice", signed(r#"{"alg": "none", "alg": "EdDSA", "kid": "ed"}"#)),
        ("kid twice", signed(r#"{"alg": "EdDSA", "kid": "x", "kid": "ed"}"#)),
        ("a header that is a list", signed(r#"["EdDSA", "ed"]"#)),
        ("a header that is no JSON", signed("EdDSA")),
        // Claims.
        ("expired", claiming(&with("exp", json!(NOW - 60)))),
        ("expired long ago", claiming(&with("exp", json!(1)))),
        ("expired before time began", claiming(&with("exp", json!(-1)))),
        ("never expires", claiming(&with("exp", Value::Null))),
        ("expires in text", claiming(&with("exp", json!((NOW + 600).to_string())))),
        ("expires at no time", claiming(&with("exp", json!([])))),
        ("expires beyond all numbers", claiming(&good.replace(&(NOW + 600).to_string(), "1e999"))),
        ("not valid yet", claiming(&with("nbf", json!(NOW + 61)))),
        ("valid from a text on", claiming(&with("nbf", json!("now")))),
        ("made in the future", claiming(&with("iat", json!(NOW + 61)))),
        ("another issuer", claiming(&with("iss", json!("https://evil.example/")))),
        ("an issuer like ours", claiming(&with("iss", json!("https://id.example")))),
        ("several issuers", claiming(&with("iss", json!([ISSUER])))),
        ("no issuer", claiming(&with("iss", Value::Null))),
        ("another audience", claiming(&with("aud", json!("other")))),
        ("an audience that begins like ours", claiming(&with("aud", json!("graticule-admin")))),
        ("other audiences", claiming(&with("aud", json!(["a", "b"])))),
        ("no audience among none", claiming(&with("aud", json!([])))),
        ("an audience among others things", claiming(&with("aud", json!([1, AUDIENCE])))),
        ("no audience", claiming(&with("aud", Value::Null))),
        ("no tenant", claiming(&with("sub", Value::Null))),
        ("an empty tenant", claiming(&with("sub", json!("")))),
        ("a tenant of two lines", claiming(&with("sub", json!("a\nb")))),
        ("a tenant that is a number", claiming(&with("sub", json!(1)))),
        ("a long tenant", claiming(&with("sub", json!("x".repeat(129))))),
        ("scopes that are a number", claiming(&with("scope", json!(7)))),
        ("scopes that are an object", claiming(&with("scope", json!({"compute": true})))),
        ("two tenants", claiming(&good.replacen('{', r#"{"sub": "umbrella", "#, 1))),
        ("two expiries", claiming(&good.replacen('{', r#"{"exp": 9999999999, "#, 1))),
        ("the same in another spelling", claiming(&good.replacen('{', r#"{"\u0073ub": "umbrella", "#, 1))),
        ("claims that are a list", claiming("[]")),
        ("no claims", claiming("{}")),
        ("claims that go on", claiming(&format!("{good}{good}"))),
        // Texts that are no tokens.
        ("nothing", String::new()),
        ("a word", "token".into()),
        ("dots", "..".into()),
        ("four parts", format!("{ours}.{}", parts[2])),
        ("five parts", format!("{ours}.{}.{}", parts[0], parts[1])),
        ("padded", format!("{ours}==")),
        ("with a line's end", format!("{ours}\n")),
        ("with a zero", format!("{ours}\0")),
        ("in quotes", format!("\"{ours}\"")),
        ("another scheme", format!("Basic {ours}")),
        ("two tokens", format!("{ours} {ours}")),
        ("a token and a comma", format!("{ours},{ours}")),
        ("Bearer alone", "Bearer ".into()),
        ("Bearer twice", format!("Bearer Bearer {ours}")),
        ("too long", claiming(&with("pad", json!("x".repeat(TOKEN_BYTES_MAX))))),
        (
            "the signature of other claims",
            format!("{}.{}.{}", parts[0], B64.encode(with("sub", json!("umbrella"))), parts[2]),
        ),
        (
            "another header, the same signature",
            format!("{}.{}.{}", B64.encode(header("EdDSA", "ed").replace("JWT", "jwt")), parts[1], parts[2]),
        ),
        ("an API key", format!("gk_{}_{}", "0".repeat(16), "0".repeat(64))),
    ];
    // A signature that is cut, at either end.
    for (name, cut) in [("half a byte short", 1), ("a byte short", 2), ("half", 43), ("one letter", 85)] {
        cases.push((name, ours[..ours.len() - cut].to_owned()));
    }
    cases.push(("begins later", format!("{}.{}.{}", parts[0], parts[1], &parts[2][4..])));
    // The last letter holds two bits that mean nothing: another spelling of the same bytes.
    let last = ours.chars().last().unwrap();
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = letters.chars().nth(letters.find(last).unwrap() ^ 1).unwrap();
    cases.push(("another last letter", format!("{}{next}", &ours[..ours.len() - 1])));
    let es = token(&header("ES256", "ec"), &good, &ec, ES256);
    let zeros = B64.encode([0; 64]);
    cases.push(("ES256 with zeros", format!("{}.{zeros}", es.rsplit_once('.').unwrap().0)));
    cases
}

#[tokio::test]
async fn forgeries_are_answered_alike() {
    let provider = Provider::new();
    let access = access_with(&provider, None).await;
    let cases = forgeries(&provider);
    assert!(cases.len() > 100, "{}", cases.len());
    for (name, forgery) in cases {
        for form in [forgery.clone(), format!("Bearer {forgery}")] {
            // What the header's own grammar lets through is judged; both ways in.
            let refused = access.identify(Some(form.as_bytes()), NOW).await;
            assert_eq!(refused, Err(AccessError::Unauthenticated), "{name}: {form}");
        }
    }
    // Neither text nor UTF-8.
    assert_eq!(access.identify(Some(&[0xff, 0xfe]), NOW).await, Err(AccessError::Unauthenticated));
    assert_eq!(access.identify(None, NOW).await, Err(AccessError::Unauthenticated));
}

#[tokio::test]
async fn every_flipped_bit_is_noticed() {
    let provider = Provider::new();
    let access = access_with(&provider, None).await;
    let ours = token(&header("EdDSA", "ed"), &claims().to_string(), &provider.ed(), Algorithm::EdDSA);
    assert!(access.identify(Some(ours.as_bytes()), NOW).await.is_ok());
    for at in 0..ours.len() {
        for bit in 0..8 {
            let mut forged = ours.clone().into_bytes();
            forged[at] ^= 1 << bit;
            let refused = access.identify(Some(&forged), NOW).await;
            assert_eq!(refused, Err(AccessError::Unauthenticated), "byte {at}, bit {bit}");
        }
    }
}

#[tokio::test]
async fn a_provider_may_change_its_keys() {
    let (old, new) = (Provider::new(), Provider::new());
    let document = Arc::new(Fixed(Mutex::new(old.jwks.to_string().into_bytes())));
    let access = access_with(&old, None).await;
    let jwks = Jwks::new(document.clone());
    jwks.read(Duration::ZERO).await.unwrap();
    let Tokens { rules, .. } = access.tokens.unwrap();
    let tokens = Some(Tokens { rules, jwks, file: None });
    // It has run for a minute, so that it may ask again.
    let started = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
    let access = Access { is_required: true, tokens, started, ..Access::open() };
    let theirs = token(&header("EdDSA", "next"), &claims().to_string(), &new.ed(), Algorithm::EdDSA);
    let mut changed = new.jwks.clone();
    changed["keys"][6]["kid"] = "next".into();
    *document.0.lock().unwrap() = changed.to_string().into_bytes();
    assert!(access.identify(Some(theirs.as_bytes()), NOW).await.is_ok());
    // The key before is not there any more.
    let before = token(&header("EdDSA", "ed"), &claims().to_string(), &old.ed(), Algorithm::EdDSA);
    assert_eq!(access.identify(Some(before.as_bytes()), NOW).await, Err(AccessError::Unauthenticated));
}

#[tokio::test]
async fn tokens_cannot_be_judged_without_keys() {
    #[derive(Debug)]
    struct Down;
    #[async_trait::async_trait]
    impl Documents for Down {
        async fn load(&self) -> Result<Vec<u8>, String> {
            Err("down".into())
        }
    }
    let provider = Provider::new();
    let access = access_with(&provider, None).await;
    let Tokens { rules, .. } = access.tokens.unwrap();
    let tokens = Some(Tokens { rules, jwks: Jwks::new(Arc::new(Down)), file: None });
    let access = Access { is_required: true, tokens, ..Access::open() };
    let ours = token(&header("EdDSA", "ed"), &claims().to_string(), &provider.ed(), Algorithm::EdDSA);
    assert_eq!(access.identify(Some(ours.as_bytes()), NOW).await, Err(AccessError::NoKeys));
    let none = unsigned();
    assert_eq!(access.identify(Some(none.as_bytes()), NOW).await, Err(AccessError::Unauthenticated));
}

fn unsigned() -> String {
    format!("{}.{}.", B64.encode(r#"{"alg": "none", "kid": "ed"}"#), B64.encode(claims().to_string()))
}

fn new_key(scopes: &[Scope]) -> NewKey {
    let scopes = Scopes::of(scopes.iter().copied());
    NewKey { name: "t".into(), tenant: "acme".into(), scopes, expires: None }
}

#[tokio::test]
async fn keys_are_read_again_when_their_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let file = KeyFile(folder.path().join("keys.jsonl"));
    let pepper = Pepper::open(&folder.path().join("auth.key")).unwrap();
    let now = Timestamp(NOW as i64 * 1_000_000);
    let (first, record) = file.create(&pepper, new_key(&[Scope::Compute]), now).unwrap();
    let settings = AccessSettings {
        is_required: true,
        keys: Some((file.clone(), pepper.clone())),
        ..AccessSettings::default()
    };
    let access = Access::new(settings).await.unwrap();
    assert!(access.identify(Some(first.as_bytes()), NOW).await.is_ok());
    // The published client sends it in the look of a token.
    let token = keys::as_token(&first, &record);
    for header in [token.clone(), format!("Bearer {token}")] {
        let identity = access.identify(Some(header.as_bytes()), NOW).await.unwrap();
        assert_eq!(&*identity.tenant, &*record.tenant);
    }
    let other = token.replace(&record.id, "0123456789abcdef");
    assert_eq!(access.identify(Some(other.as_bytes()), NOW).await, Err(AccessError::Unauthenticated));
    let (second, _) = file.create(&pepper, new_key(&[Scope::Admin]), now).unwrap();
    assert_eq!(access.identify(Some(second.as_bytes()), NOW).await, Err(AccessError::Unauthenticated));
    access.look().await;
    assert!(access.identify(Some(second.as_bytes()), NOW).await.is_ok());
    file.revoke(&record.id, now).unwrap();
    access.look().await;
    assert_eq!(access.identify(Some(first.as_bytes()), NOW).await, Err(AccessError::Unauthenticated));
    // A broken file, or none, changes nothing.
    std::fs::write(&file.0, "broken").unwrap();
    access.look().await;
    std::fs::remove_file(&file.0).unwrap();
    access.look().await;
    assert!(access.identify(Some(second.as_bytes()), NOW).await.is_ok());
    assert_eq!(access.identify(Some(first.as_bytes()), NOW).await, Err(AccessError::Unauthenticated));
}

#[tokio::test]
async fn nobody_is_asked_unless_a_deployment_says_so() {
    let open = Access::open();
    for header in [None, Some(b"anything".as_slice()), Some(b"Bearer \xff")] {
        assert_eq!(open.identify(header, NOW).await, Ok(Identity::anonymous()));
    }
    let nothing = AccessSettings { is_required: true, ..AccessSettings::default() };
    assert!(matches!(Access::new(nothing).await, Err(AccessSetupError::NothingCounts)));
    // With certificates for workers nobody is a worker by saying nothing.
    let certified = AccessSettings { has_worker_certificates: true, ..AccessSettings::default() };
    let access = Access::new(certified).await.unwrap();
    let somebody = access.identify(None, NOW).await.unwrap();
    assert!(access.admit(&somebody, "/graticule.v1.ComputeService/Compute").is_ok());
    let refused = access.admit(&somebody, "/graticule.v1.FleetService/Register").unwrap_err();
    assert_eq!(refused, AccessError::Forbidden { call: "Register".into(), scope: "worker" });
    // Credentials that are shown count or not, also where they need not be shown.
    let provider = Provider::new();
    let access = Access { is_required: false, ..access_with(&provider, None).await };
    assert!(access.identify(None, NOW).await.is_ok());
    assert_eq!(access.identify(Some(unsigned().as_bytes()), NOW).await, Err(AccessError::Unauthenticated));
}

#[tokio::test]
async fn the_key_of_this_process_is_a_workers() {
    let (access, key) = access_with(&Provider::new(), None).await.with_inner_key().unwrap();
    let identity = access.identify(Some(format!("Bearer {key}").as_bytes()), NOW).await.unwrap();
    assert_eq!(identity.scopes, Scopes::of([Scope::Worker]));
    let other = format!("{}{}", &key[1..], &key[..1]);
    if other != key {
        assert_eq!(access.identify(Some(other.as_bytes()), NOW).await, Err(AccessError::Unauthenticated));
    }
}

#[test]
fn symmetric_algorithms_cannot_be_allowed() {
    for name in ["HS256", "HS384", "HS512", "none", "", "rs256"] {
        assert!(name.parse::<JwtAlgorithm>().is_err(), "{name}");
    }
    assert!("ES384".parse::<JwtAlgorithm>().is_ok());
}

#[test]
fn keys_are_fetched_over_https() {
    for bad in ["http://id.example/jwks", "ftp://id.example/", "https://u:p@id.example/", "", "jwks.json"] {
        assert!(JwksUrl::new(bad).is_err(), "{bad}");
    }
    for good in ["https://id.example/jwks", "http://127.0.0.1:9/jwks", "http://[::1]:9/jwks"] {
        assert!(JwksUrl::new(good).is_ok(), "{good}");
    }
}

#[tokio::test]
async fn tiles_wait_for_their_turn() {
    let settings =
        AccessSettings { quota: Some(Quota { per_second: 0, at_once: 1 }), ..AccessSettings::default() };
    let access = Arc::new(Access::new(settings).await.unwrap());
    let tenant: Arc<str> = "a".into();
    let first = access.take(&tenant).unwrap();
    assert!(matches!(access.take(&tenant), Err(AccessError::TooMany { .. })), "other calls do not wait");
    let late = access.take_in_turn(&tenant, Duration::from_millis(10)).await.unwrap_err();
    assert!(matches!(late, AccessError::TooMany { .. }), "{late}");
    let mut turns = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (access, tenant) = (access.clone(), tenant.clone());
        turns
            .spawn(async move { drop(access.take_in_turn(&tenant, Duration::from_secs(60)).await.unwrap()) });
    }
    tokio::task::yield_now().await;
    drop(first);
    while let Some(turn) = turns.join_next().await {
        turn.unwrap();
    }
    assert!(access.take(&tenant).is_ok(), "all of them have gone");
}
