//! JSON web tokens of an identity provider: what a token says counts once its signature does.
//!
//! The token chooses nothing: which algorithms count is the deployment's decision, which key is meant
//! must be among the provider's, and a key serves the algorithms of its own kind alone. Addresses and
//! keys inside a token (`jku`, `x5u`, `jwk`, `x5c`) are not looked at.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::identity::{Identity, Scopes, is_tenant};

/// Bytes of a token.
pub(super) const TOKEN_BYTES_MAX: usize = 8 << 10;
/// Clocks of provider and coordinator may differ by this much.
const LEEWAY: Duration = Duration::from_secs(60);
/// Keys of a provider.
const KEYS_MAX: usize = 100;
/// Bytes of a key's name.
const KID_BYTES_MAX: usize = 256;
/// RSA moduli from 2048 to 8192 bits, in bytes.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// Which tokens count.
#[derive(Clone, Debug)]
pub struct JwtRules {
    /// Who signs them: `iss`, compared as text.
    pub issuer: String,
    /// Whom they are for: among `aud`.
    pub audience: String,
    /// How they may be signed.
    pub algorithms: Vec<JwtAlgorithm>,
    /// The claim that says on whose behalf the caller acts.
    pub tenant_claim: String,
}

/// How a token may be signed: with public keys only, so that nothing a coordinator knows can sign one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JwtAlgorithm(Algorithm);

impl JwtAlgorithm {
    /// What is taken unless a deployment says otherwise.
    pub const DEFAULT: [JwtAlgorithm; 3] =
        [JwtAlgorithm(Algorithm::RS256), JwtAlgorithm(Algorithm::ES256), JwtAlgorithm(Algorithm::EdDSA)];
}

impl FromStr for JwtAlgorithm {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match Algorithm::from_str(name) {
            Ok(Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) | Err(_) => Err(format!(
                "`{name}` is no algorithm with a public key; those are RS256, RS384, RS512, PS256, PS384, \
                 PS512, ES256, ES384, EdDSA"
            )),
            Ok(algorithm) => Ok(JwtAlgorithm(algorithm)),
        }
    }
}

/// Why a token does not count; for the log only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// It has another form.
    #[error("not a token: {0}")]
    Form(String),
    /// Its header asks for something else.
    #[error("header: {0}")]
    Header(String),
    /// Its key is not among the provider's.
    #[error("no key `{kid}` for {algorithm}")]
    UnknownKey {
        /// The key's name.
        kid: String,
        /// The algorithm it was to be for.
        algorithm: String,
        /// Whether there is no key of that name at all, so that newer keys might have it.
        is_new: bool,
    },
    /// It is not signed by that key.
    #[error("the signature is wrong")]
    Signature,
    /// It counted once.
    #[error("the token has expired")]
    Expired,
    /// What it says does not count here or now.
    #[error("claims: {0}")]
    Claims(String),
}

/// A provider's keys.
#[derive(Default)]
pub struct KeySet(HashMap<String, ProviderKey>);

struct ProviderKey {
    key: DecodingKey,
    algorithms: Vec<Algorithm>,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl KeySet {
    /// From a JWKS document (RFC 7517). Keys that are not for verifying signatures, that are of another
    /// kind, or that share their name are left out; the second value says why, for the log.
    ///
    /// # Errors
    /// A reason, when it is no such document.
    pub fn parse(document: &[u8]) -> Result<(KeySet, Vec<String>), String> {
        let Strict(document) = serde_json::from_slice(document).map_err(|error| error.to_string())?;
        let keys = document.get("keys").and_then(Value::as_array).ok_or("it has no list `keys`")?;
        if keys.len() > KEYS_MAX {
            return Err(format!("it has more than {KEYS_MAX} keys"));
        }
        let (mut set, mut left_out, mut twice) = (HashMap::new(), Vec::new(), Vec::new());
        for value in keys {
            let name = value.get("kid").and_then(Value::as_str).unwrap_or_default().to_owned();
            match provider_key(value) {
                Ok((kid, key)) => {
                    if set.insert(kid.clone(), key).is_some() {
                        twice.push(kid);
                    }
                }
                Err(reason) => left_out.push(format!("`{name}`: {reason}")),
            }
        }
        for kid in twice {
            // Which of them is meant, nobody can tell.
            set.remove(&kid);
            left_out.push(format!("`{kid}`: two keys have this name"));
        }
        Ok((KeySet(set), left_out))
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn provider_key(value: &Value) -> Result<(String, ProviderKey), String> {
    let jwk: Jwk = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    let kid = jwk.common.key_id.clone().filter(|kid| !kid.is_empty() && kid.len() <= KID_BYTES_MAX);
    let kid = kid.ok_or("a key without a name")?;
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return Err("it is not for signatures".into());
    }
    if jwk.common.key_operations.as_ref().is_some_and(|ops| !ops.contains(&KeyOperations::Verify)) {
        return Err("it is not for verifying".into());
    }
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| "a number of it is none".to_owned());
    let mut algorithms = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            let modulus = bytes(&rsa.n)?;
            let length = modulus.iter().skip_while(|byte| **byte == 0).count();
            if !RSA_BYTES.contains(&length) {
                return Err(format!("an RSA key of {} bits", 8 * length));
            }
            bytes(&rsa.e)?;
            use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
            vec![RS256, RS384, RS512, PS256, PS384, PS512]
        }
        AlgorithmParameters::EllipticCurve(ec) => {
            let (size, algorithm) = match ec.curve {
                EllipticCurve::P256 => (32, Algorithm::ES256),
                EllipticCurve::P384 => (48, Algorithm::ES384),
                _ => return Err("a curve that is not used here".into()),
            };
            if bytes(&ec.x)?.len() != size || bytes(&ec.y)?.len() != size {
                return Err("a point of another curve".into());
            }
            vec![algorithm]
        }
        AlgorithmParameters::OctetKeyPair(pair) => {
            if pair.curve != EllipticCurve::Ed25519 || bytes(&pair.x)?.len() != 32 {
                return Err("a curve that is not used here".into());
            }
            vec![Algorithm::EdDSA]
        }
        AlgorithmParameters::OctetKey(_) => return Err("a shared secret is no public key".into()),
    };
    if let Some(only) = jwk.common.key_algorithm {
        algorithms.retain(|algorithm| format!("{algorithm:?}") == only.to_string());
        if algorithms.is_empty() {
            return Err(format!("it says it is for {only}"));
        }
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|error| error.to_string())?;
    Ok((kid, ProviderKey { key, algorithms }))
}

impl JwtRules {
    /// Whom a token stands for at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// [`TokenFault`], which is for the log and nobody else.
    pub fn identify(&self, keys: &KeySet, token: &str, now: u64) -> Result<Identity, TokenFault> {
        let form = |problem: &str| TokenFault::Form(problem.to_owned());
        if token.len() > TOKEN_BYTES_MAX {
            return Err(form("it is too long"));
        }
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(form("it does not have three parts"));
        };
        let (kid, algorithm) = self.header(&object(header, "header")?)?;
        let unknown =
            |is_new| TokenFault::UnknownKey { kid: kid.clone(), algorithm: format!("{algorithm:?}"), is_new };
        let key = keys.0.get(&kid).ok_or_else(|| unknown(true))?;
        if !key.algorithms.contains(&algorithm) {
            return Err(unknown(false));
        }
        let message = &token[..header.len() + 1 + claims.len()];
        // The key is of the algorithm's kind: checked above, and needed by what is called here.
        match jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.key, algorithm) {
            Ok(true) => self.claims(&object(claims, "claims")?, now),
            Ok(false) | Err(_) => Err(TokenFault::Signature),
        }
    }

    /// The key's name and the algorithm.
    fn header(&self, header: &Map<String, Value>) -> Result<(String, Algorithm), TokenFault> {
        let wrong = |problem: &str| TokenFault::Header(problem.to_owned());
        if header.contains_key("crit") {
            return Err(wrong("it has extensions that must be understood, and none is"));
        }
        match header.get("typ") {
            None => {}
            // An access token or a plain one; tokens for other purposes say so here.
            Some(Value::String(kind))
                if ["jwt", "at+jwt", "application/at+jwt"].contains(&kind.to_ascii_lowercase().as_str()) => {}
            Some(_) => return Err(wrong("it is a token for another purpose")),
        }
        let algorithm = header.get("alg").and_then(Value::as_str).ok_or_else(|| wrong("no algorithm"))?;
        // Compared with what is allowed, never looked up in what could be.
        let allowed = self.algorithms.iter().find(|allowed| format!("{:?}", allowed.0) == algorithm);
        let allowed = allowed.ok_or_else(|| wrong("an algorithm that is not allowed"))?;
        let kid = header.get("kid").and_then(Value::as_str).ok_or_else(|| wrong("it names no key"))?;
        if kid.is_empty() || kid.len() > KID_BYTES_MAX {
            return Err(wrong("it names no key"));
        }
        Ok((kid.to_owned(), allowed.0))
    }

    fn claims(&self, claims: &Map<String, Value>, now: u64) -> Result<Identity, TokenFault> {
        let wrong = |problem: &str| TokenFault::Claims(problem.to_owned());
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        if text("iss") != Some(self.issuer.as_str()) {
            return Err(wrong("another issuer"));
        }
        let is_for_us = match claims.get("aud") {
            Some(Value::String(audience)) => *audience == self.audience,
            Some(Value::Array(audiences)) => {
                audiences.iter().all(Value::is_string)
                    && audiences.iter().any(|audience| audience.as_str() == Some(self.audience.as_str()))
            }
            _ => false,
        };
        if !is_for_us {
            return Err(wrong("another audience"));
        }
        let instant = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(seconds) if seconds.is_finite() && seconds >= 0.0 => Ok(Some(seconds)),
                _ => Err(wrong("an instant that is none")),
            },
        };
        let (now, leeway) = (now as f64, LEEWAY.as_secs_f64());
        let expires = instant("exp")?.ok_or_else(|| wrong("it never expires"))?;
        if now >= expires + leeway {
            return Err(TokenFault::Expired);
        }
        // One that was made in the future was made by a clock that is wrong, or by nobody.
        for name in ["nbf", "iat"] {
            if instant(name)?.is_some_and(|from| now + leeway < from) {
                return Err(wrong("not valid yet"));
            }
        }
        let tenant = text(&self.tenant_claim).filter(|tenant| is_tenant(tenant));
        let tenant = tenant.ok_or_else(|| wrong("no tenant"))?;
        let scopes = match claims.get("scope").or_else(|| claims.get("scp")) {
            None => Scopes::default(),
            Some(Value::String(names)) => Scopes::known(names.split(' ')),
            Some(Value::Array(names)) if names.iter().all(Value::is_string) => {
                Scopes::known(names.iter().filter_map(Value::as_str))
            }
            Some(_) => return Err(wrong("scopes that are none")),
        };
        Ok(Identity { tenant: tenant.into(), scopes })
    }
}

/// A part of a token: base64 of a JSON object.
fn object(part: &str, name: &str) -> Result<Map<String, Value>, TokenFault> {
    let wrong = |problem: &str| TokenFault::Form(format!("{name}: {problem}"));
    let text = URL_SAFE_NO_PAD.decode(part).map_err(|_| wrong("no base64url"))?;
    match serde_json::from_slice(&text) {
        Ok(Strict(Value::Object(object))) => Ok(object),
        Ok(_) => Err(wrong("no object")),
        Err(error) => Err(wrong(&error.to_string())),
    }
}

/// JSON without an object that has a key twice: which of the two counts differs from reader to reader.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Strict;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }
            fn visit_unit<E>(self) -> Result<Strict, E> {
                Ok(Strict(Value::Null))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
                let mut list = Vec::new();
                while let Some(Strict(item)) = items.next_element()? {
                    list.push(item);
                }
                Ok(Strict(list.into()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Strict, A::Error> {
                let mut object = Map::new();
                while let Some((key, Strict(value))) = members.next_entry::<String, Strict>()? {
                    if object.insert(key.clone(), value).is_some() {
                        return Err(de::Error::custom(format!("`{key}` is there twice")));
                    }
                }
                Ok(Strict(object.into()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
