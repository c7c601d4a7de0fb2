//! Who may call this coordinator, and what.
//!
//! One layer in front of all services ([`layer`]) asks [`Access::identify`] who calls, looks into one
//! table ([`table`]) what the call needs, and leaves an [`Identity`] in the request's extensions. Keys
//! and tokens are judged by pure functions ([`keys`], [`jwt`]); what does not count is answered with one
//! message, whatever was wrong with it. Nothing is asked of anybody until a deployment says so.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use graticule_common::error::{Classify, ErrorClass};
use graticule_common::telemetry::names;
use graticule_common::tls::Stamp;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

mod fetch;
pub mod identity;
pub mod jwks;
pub mod jwt;
pub mod keys;
pub mod layer;
pub mod quota;
pub mod table;
#[cfg(test)]
mod tests;

pub use fetch::JwksUrl;
pub use identity::{Identity, Scope, Scopes};
use jwks::{Documents, Jwks, JwksFile};
use jwt::{JwtRules, TOKEN_BYTES_MAX, TokenFault};
use keys::{KeyError, KeyFault, KeyFile, Keys, Pepper};
use quota::{Permit, Quota, Quotas};

/// How often files are looked at for changes.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Lines that say why somebody was refused, at most this often.
const REASONS_EVERY: Duration = Duration::from_millis(100);

/// Characters of a call's name in messages.
const CALL_CHARS_MAX: usize = 64;

/// Kinds of credentials that do not count, in metrics.
const MISSING: &str = "missing";
const INVALID: &str = "invalid";
const EXPIRED: &str = "expired";

/// Settings of access.
#[derive(Clone, Debug, Default)]
pub struct AccessSettings {
    /// Whether callers must say who they are.
    pub is_required: bool,
    /// API keys and the deployment's secret.
    pub keys: Option<(KeyFile, Pepper)>,
    /// Tokens that count, and where their keys are.
    pub tokens: Option<(JwtRules, JwksPlace)>,
    /// What one tenant may ask for.
    pub quota: Option<Quota>,
    /// Whether workers show who they are by a certificate: then nobody is one without being asked.
    pub has_worker_certificates: bool,
}

/// Where a provider publishes its keys.
#[derive(Clone, Debug)]
pub enum JwksPlace {
    /// A file, read again when it changes.
    File(PathBuf),
    /// An address.
    Url(Box<JwksUrl>),
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// No credentials, or none that count here. What was wrong with them is for the log.
    #[error(
        "no credentials that count here; send an API key or a token as `authorization`, \
         such as `graticule --token KEY`"
    )]
    Unauthenticated,
    /// Credentials that do not allow this call.
    #[error("these credentials do not allow `{call}`: it needs the scope `{scope}`")]
    Forbidden {
        /// The call.
        call: String,
        /// The scope's name.
        scope: &'static str,
    },
    /// A caller that asks for too much.
    #[error("too many calls of this tenant; come back after {} ms", retry_after.as_millis())]
    TooMany {
        /// When to come back.
        retry_after: Duration,
    },
    /// Tokens cannot be judged.
    #[error("tokens cannot be judged now: the keys of their provider cannot be read; try again later")]
    NoKeys,
}

impl Classify for AccessError {
    fn class(&self) -> ErrorClass {
        match self {
            AccessError::Unauthenticated => ErrorClass::Unauthenticated,
            AccessError::Forbidden { .. } => ErrorClass::Forbidden,
            AccessError::TooMany { .. } => ErrorClass::Overloaded,
            AccessError::NoKeys => ErrorClass::Unavailable,
        }
    }
}

/// Why access cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum AccessSetupError {
    /// Everybody would be refused.
    #[error("callers are asked for credentials, but none are known: say `--keys FILE` or `--jwt-issuer URL`")]
    NothingCounts,
    /// A key file.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// A file of a provider's keys.
    #[error("keys for tokens cannot be read: {0}")]
    Jwks(String),
}

impl Classify for AccessSetupError {
    fn class(&self) -> ErrorClass {
        ErrorClass::InvalidRequest
    }
}

/// Who may call.
#[derive(Debug)]
pub struct Access {
    is_required: bool,
    keys: Option<KeyTable>,
    tokens: Option<Tokens>,
    quotas: Quotas,
    anonymous: Identity,
    /// A key of this process's own workers; it is nowhere else.
    inner: Option<([u8; 32], blake3::Hash)>,
    started: Instant,
    said: std::sync::Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct KeyTable {
    file: KeyFile,
    pepper: Pepper,
    keys: RwLock<Arc<Keys>>,
    stamp: std::sync::Mutex<Stamp>,
}

#[derive(Debug)]
struct Tokens {
    rules: JwtRules,
    jwks: Jwks,
    /// A file that is looked at for changes.
    file: Option<(PathBuf, std::sync::Mutex<Stamp>)>,
}

impl Access {
    /// Everybody may do everything: the embedded engine.
    pub fn open() -> Access {
        Access {
            is_required: false,
            keys: None,
            tokens: None,
            quotas: Quotas::new(Quota::NONE),
            anonymous: Identity::anonymous(),
            inner: None,
            started: Instant::now(),
            said: std::sync::Mutex::default(),
        }
    }

    /// As settings say. A provider that does not answer now is asked again; files must be there.
    ///
    /// # Errors
    /// [`AccessSetupError`].
    pub async fn new(settings: AccessSettings) -> Result<Access, AccessSetupError> {
        let AccessSettings { is_required, keys, tokens, quota, has_worker_certificates } = settings;
        if is_required && keys.is_none() && tokens.is_none() {
            return Err(AccessSetupError::NothingCounts);
        }
        let keys = keys.map(|(file, pepper)| {
            let stamp = Stamp::of(&[&file.0]);
            let keys = file.load()?;
            info!(keys = keys.len(), file = %file.0.display(), "API keys are read");
            Ok::<_, KeyError>(KeyTable {
                file,
                pepper,
                keys: RwLock::new(Arc::new(keys)),
                stamp: stamp.into(),
            })
        });
        let keys = keys.transpose()?;
        let access = Access { is_required, keys, ..Access::open() };
        let tokens = match tokens {
            None => None,
            Some((rules, JwksPlace::File(path))) => {
                let stamp = Stamp::of(&[&path]);
                let jwks = Jwks::new(Arc::new(JwksFile(path.clone())));
                jwks.read(access.uptime()).await.map_err(AccessSetupError::Jwks)?;
                Some(Tokens { rules, jwks, file: Some((path, stamp.into())) })
            }
            Some((rules, JwksPlace::Url(url))) => {
                let jwks = Jwks::new(Arc::from(url as Box<dyn Documents>));
                // The reason is in the log; API keys count meanwhile.
                let _ = jwks.read(access.uptime()).await;
                Some(Tokens { rules, jwks, file: None })
            }
        };
        let quota = quota.unwrap_or(if is_required { Quota::default() } else { Quota::NONE });
        let mut anonymous = Identity::anonymous();
        if has_worker_certificates {
            anonymous.scopes = Scopes::all_but(Scope::Worker);
        }
        Ok(Access { tokens, quotas: Quotas::new(quota), anonymous, ..access })
    }

    /// Takes in a key that this process's own workers register with. The answer is the key.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn with_inner_key(mut self) -> std::io::Result<(Access, String)> {
        let pepper = keys::random::<32>()?;
        let key = keys::hex(&keys::random::<32>()?);
        self.inner = Some((pepper, blake3::keyed_hash(&pepper, key.as_bytes())));
        Ok((self, key))
    }

    /// Time since the start, which quotas and freshness count in.
    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether callers must say who they are.
    pub fn is_required(&self) -> bool {
        self.is_required
    }

    /// Who calls, by the `authorization` headers of a request.
    ///
    /// # Errors
    /// As [`identify`](Self::identify).
    pub async fn identify_header(
        &self,
        headers: &[http::HeaderValue],
        now: u64,
    ) -> Result<Identity, AccessError> {
        match headers {
            [] => self.identify(None, now).await,
            [header] => self.identify(Some(header.as_bytes()), now).await,
            // Two could be read differently in two places.
            _ => Err(self.refused(INVALID, "two `authorization` headers")),
        }
    }

    /// Who calls, by what the `authorization` header holds: a key or token, as it is or after `Bearer`.
    /// `now` is in seconds since 1970.
    ///
    /// # Errors
    /// [`AccessError::Unauthenticated`] for everything that does not count, with one message.
    pub async fn identify(&self, authorization: Option<&[u8]>, now: u64) -> Result<Identity, AccessError> {
        let Some(header) = authorization else {
            return match self.is_required {
                true => Err(self.refused(MISSING, "no credentials")),
                false => Ok(self.anonymous.clone()),
            };
        };
        let credentials = credentials(header);
        // Equality of these hashes takes constant time.
        if let (Some((pepper, hash)), Some(text)) = (&self.inner, credentials)
            && blake3::keyed_hash(pepper, text.as_bytes()) == *hash
        {
            return Ok(Identity { tenant: "".into(), scopes: Scopes::of([Scope::Worker]) });
        }
        if self.keys.is_none() && self.tokens.is_none() {
            // Credentials for somebody else's service mean nothing here, and nothing is asked for.
            return Ok(self.anonymous.clone());
        }
        let Some(text) = credentials else {
            return Err(self.refused(INVALID, "no text, or one that is too long"));
        };
        match (&self.keys, &self.tokens) {
            (Some(table), _) if keys::is_key(text) => {
                let keys = table.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
                keys.identify(&table.pepper, text, now).map_err(|fault| {
                    let is_old = matches!(fault, KeyFault::Expired);
                    self.refused(if is_old { EXPIRED } else { INVALID }, fault)
                })
            }
            (_, Some(tokens)) if !keys::is_key(text) => self.identify_token(tokens, text, now).await,
            _ => Err(self.refused(INVALID, "credentials of a kind that is not used here")),
        }
    }

    async fn identify_token(&self, tokens: &Tokens, text: &str, now: u64) -> Result<Identity, AccessError> {
        let Tokens { rules, jwks, .. } = tokens;
        let uptime = self.uptime();
        let current = jwks.current(uptime);
        let judged = match &current {
            Some(current) => rules.identify(&current.keys, text, now),
            None => rules.identify(&jwt::KeySet::default(), text, now),
        };
        let fault = match judged {
            Ok(identity) => return Ok(identity),
            Err(fault) => fault,
        };
        if !matches!(fault, TokenFault::UnknownKey { is_new: true, .. }) {
            return Err(self.refused_token(&fault));
        }
        // A provider changes its keys: this may be a new one.
        match (jwks.newer(current.as_ref(), uptime).await, current) {
            (Some(newer), _) => {
                rules.identify(&newer.keys, text, now).map_err(|fault| self.refused_token(&fault))
            }
            (None, Some(_)) => Err(self.refused_token(&fault)),
            (None, None) => Err(AccessError::NoKeys),
        }
    }

    fn refused_token(&self, fault: &TokenFault) -> AccessError {
        self.refused(if *fault == TokenFault::Expired { EXPIRED } else { INVALID }, fault)
    }

    /// Writes down why somebody is refused, now and then; the answer does not say it.
    fn refused(&self, kind: &'static str, reason: impl std::fmt::Display) -> AccessError {
        metrics::counter!(names::ACCESS_REFUSED, "reason" => kind).increment(1);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|at| at.elapsed() >= REASONS_EVERY) {
            *said = Some(Instant::now());
            debug!(%reason, "credentials do not count");
        }
        AccessError::Unauthenticated
    }

    /// Whether a caller may make the call at a path, within what its tenant may ask for. The answer
    /// counts as a call under way until it is dropped.
    ///
    /// # Errors
    /// [`AccessError::Forbidden`] or [`AccessError::TooMany`].
    pub fn admit(&self, identity: &Identity, path: &str) -> Result<Option<Permit>, AccessError> {
        self.allows(identity, path)?;
        if !table::is_counted(path) {
            return Ok(None);
        }
        self.take(&identity.tenant).map(Some)
    }

    /// Whether a caller has a scope; `call` is what it is needed for.
    ///
    /// # Errors
    /// [`AccessError::Forbidden`].
    pub fn allow(&self, identity: &Identity, scope: Scope, call: &str) -> Result<(), AccessError> {
        if identity.scopes.has(scope) {
            return Ok(());
        }
        metrics::counter!(names::ACCESS_REFUSED, "reason" => "scope").increment(1);
        let call = call.chars().take(CALL_CHARS_MAX).collect();
        Err(AccessError::Forbidden { call, scope: scope.name() })
    }

    /// Counts a call of a tenant until the answer is dropped.
    ///
    /// # Errors
    /// [`AccessError::TooMany`].
    pub fn take(&self, tenant: &Arc<str>) -> Result<Permit, AccessError> {
        let permit = self.quotas.take(tenant, self.uptime());
        permit.map_err(|retry_after| {
            metrics::counter!(names::SHEDS, "reason" => "tenant").increment(1);
            AccessError::TooMany { retry_after }
        })
    }

    /// Whether a caller has the scope that the call at a path needs.
    fn allows(&self, identity: &Identity, path: &str) -> Result<(), AccessError> {
        match table::needs(path) {
            // Only as much of it as a name has: it may be anything.
            table::Needs::Scope(scope) => {
                self.allow(identity, scope, path.rsplit('/').next().unwrap_or_default())
            }
            table::Needs::Nothing | table::Needs::Anybody => Ok(()),
        }
    }

    /// Counts a call of a tenant as [`take`](Self::take) does, and waits for its turn: a map asks for
    /// more tiles at once than a tenant may have under way.
    ///
    /// # Errors
    /// [`AccessError::TooMany`] where its turn has not come in time.
    pub async fn take_in_turn(&self, tenant: &Arc<str>, within: Duration) -> Result<Permit, AccessError> {
        let end = tokio::time::Instant::now() + within;
        let mut place = None;
        loop {
            // Whoever ends between the look and the wait is heard, too.
            let ended = self.quotas.ended();
            let retry_after = match self.quotas.take(tenant, self.uptime()) {
                Ok(permit) => return Ok(permit),
                Err(retry_after) => retry_after,
            };
            place = place.or_else(|| self.quotas.wait(tenant));
            if tokio::time::Instant::now() >= end || place.is_none() {
                metrics::counter!(names::SHEDS, "reason" => "tenant").increment(1);
                return Err(AccessError::TooMany { retry_after });
            }
            let later = (tokio::time::Instant::now() + retry_after).min(end);
            tokio::select! {
                () = ended => {}
                () = tokio::time::sleep_until(later) => {}
            }
        }
    }

    /// Follows changes of key files and providers until `stop`.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => self.look().await,
            }
        }
    }

    /// Reads again what has changed. What is broken leaves what there was.
    pub async fn look(&self) {
        if let Some(table) = &self.keys {
            let stamp = Stamp::of(&[&table.file.0]);
            let has_changed = replace(&table.stamp, stamp);
            if has_changed {
                match table.file.load() {
                    Ok(keys) => {
                        info!(keys = keys.len(), "API keys are read again");
                        *table.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
                    }
                    Err(error) => {
                        // What a moment spoils, such as files used up, must not keep a revoked key alive.
                        replace(&table.stamp, Stamp::of(&[]));
                        warn!(%error, "API keys cannot be read again; those read before count");
                    }
                }
            }
        }
        if let Some(tokens) = &self.tokens {
            let has_changed =
                tokens.file.as_ref().is_some_and(|(path, stamp)| replace(stamp, Stamp::of(&[path])));
            match has_changed {
                // A file costs nothing to ask.
                true => _ = tokens.jwks.read(self.uptime()).await,
                false => tokens.jwks.refresh(self.uptime()).await,
            }
        }
    }
}

fn replace(stamp: &std::sync::Mutex<Stamp>, new: Stamp) -> bool {
    let mut stamp = stamp.lock().unwrap_or_else(PoisonError::into_inner);
    let has_changed = *stamp != new;
    *stamp = new;
    has_changed
}

/// The key or token of a header: as it is, which the published client sends, or after `Bearer`.
fn credentials(header: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(header).ok()?;
    let text = match text.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => rest.trim_start_matches(' '),
        _ => text,
    };
    let is_plain = |byte: u8| byte.is_ascii_graphic();
    let text = keys::bare(text);
    (!text.is_empty() && text.len() <= TOKEN_BYTES_MAX && text.bytes().all(is_plain)).then_some(text)
}
