//! Where a provider's keys come from, and how fresh they are.
//!
//! They are read again every ten minutes, and at once for a key that is not known, at most every thirty
//! seconds: tokens with made-up names of keys do not make a coordinator ask its provider. While a
//! provider does not answer, what it said last counts for a day.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use graticule_common::telemetry::names;
use tracing::{info, warn};

use super::jwt::KeySet;

/// After this time keys are read again.
const FRESH: Duration = Duration::from_secs(600);
/// Between two attempts to read them pass this many seconds, whoever wants them.
const PAUSE: Duration = Duration::from_secs(30);
/// For this long keys count that could not be read again.
const STALE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Bytes of a JWKS document.
pub(super) const DOCUMENT_BYTES_MAX: usize = 256 << 10;

/// Where a JWKS document is.
#[async_trait]
pub trait Documents: Send + Sync + std::fmt::Debug {
    /// Its bytes, or why there are none.
    async fn load(&self) -> Result<Vec<u8>, String>;
}

/// A JWKS document on a disk.
#[derive(Debug)]
pub struct JwksFile(pub PathBuf);

#[async_trait]
impl Documents for JwksFile {
    async fn load(&self) -> Result<Vec<u8>, String> {
        let path = self.0.clone();
        let read = tokio::task::spawn_blocking(move || {
            use std::io::Read;
            let mut text = Vec::new();
            std::fs::File::open(&path)?.take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_end(&mut text)?;
            Ok::<_, std::io::Error>(text)
        });
        let text = read.await.map_err(|error| error.to_string())?;
        let text = text.map_err(|error| format!("`{}`: {error}", self.0.display()))?;
        if text.len() > DOCUMENT_BYTES_MAX {
            return Err(format!("`{}` has more than {DOCUMENT_BYTES_MAX} bytes", self.0.display()));
        }
        Ok(text)
    }
}

/// When keys were read, as times since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Freshness {
    tried: Option<Duration>,
    read: Option<Duration>,
}

impl Freshness {
    /// Whether they may be asked for now.
    fn may_try(self, now: Duration) -> bool {
        self.tried.is_none_or(|tried| now.saturating_sub(tried) >= PAUSE)
    }

    /// Whether they should be asked for now, though nobody misses one.
    fn should_try(self, now: Duration) -> bool {
        self.may_try(now) && self.read.is_none_or(|read| now.saturating_sub(read) >= FRESH)
    }

    /// Whether they still count.
    fn counts(self, now: Duration) -> bool {
        self.read.is_some_and(|read| now.saturating_sub(read) <= STALE_MAX)
    }
}

/// A provider's keys as they were read last.
#[derive(Debug)]
pub struct Jwks {
    documents: Arc<dyn Documents>,
    state: Mutex<State>,
    /// Held while they are read: who needs newer ones waits for those that are on their way.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct State {
    keys: Arc<KeySet>,
    freshness: Freshness,
    /// Counts successful reads.
    version: u64,
}

/// Keys that count, and which of the reads they come from.
#[derive(Debug)]
pub(super) struct Current {
    pub keys: Arc<KeySet>,
    version: u64,
}

impl Jwks {
    /// Nothing is read yet.
    pub fn new(documents: Arc<dyn Documents>) -> Jwks {
        Jwks { documents, state: Mutex::default(), reading: tokio::sync::Mutex::default() }
    }

    fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The keys, if they still count at `now`, a time since the start.
    pub(super) fn current(&self, now: Duration) -> Option<Current> {
        let State { keys, freshness, version } = self.state();
        freshness.counts(now).then_some(Current { keys, version })
    }

    /// Keys newer than those that were looked at, if there are some or some may be asked for.
    pub(super) async fn newer(&self, than: Option<&Current>, now: Duration) -> Option<Current> {
        let seen = than.map_or(0, |current| current.version);
        let is_newer = |current: &Current| current.version > seen;
        let _reading = self.reading.lock().await;
        if let Some(current) = self.current(now).filter(is_newer) {
            return Some(current);
        }
        if !self.state().freshness.may_try(now) {
            return None;
        }
        // The reason is in the log.
        let _ = self.read(now).await;
        self.current(now).filter(is_newer)
    }

    /// Reads them again when they are not fresh.
    pub(super) async fn refresh(&self, now: Duration) {
        let _reading = self.reading.lock().await;
        if self.state().freshness.should_try(now) {
            let _ = self.read(now).await;
        }
    }

    /// Reads them now. What cannot be read leaves what there was.
    ///
    /// # Errors
    /// Why they could not be read, which is in the log, too.
    pub async fn read(&self, now: Duration) -> Result<(), String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).freshness.tried = Some(now);
        let parsed = match self.documents.load().await {
            Ok(text) => KeySet::parse(&text),
            Err(error) => Err(error),
        };
        let parsed = parsed.and_then(|(keys, left_out)| match keys.is_empty() {
            true => Err(format!("it has no key that can be used; left out: {}", left_out.join("; "))),
            false => Ok((keys, left_out)),
        });
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match parsed {
            Ok((keys, left_out)) => {
                info!(keys = keys.len(), left_out = left_out.join("; "), "keys for tokens are read");
                state.keys = Arc::new(keys);
                state.freshness.read = Some(now);
                state.version += 1;
                Ok(())
            }
            Err(error) => {
                metrics::counter!(names::JWKS_ERRORS).increment(1);
                warn!(%error, "keys for tokens cannot be read; those read before count for a day");
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const EMPTY: &str = r#"{"keys": []}"#;

    fn one_key(kid: &str) -> String {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        format!(r#"{{"keys": [{{"kty": "OKP", "crv": "Ed25519", "kid": "{kid}", "x": "{x}"}}]}}"#)
    }

    #[derive(Debug)]
    struct Fake {
        loads: AtomicUsize,
        answers: Mutex<Vec<Result<String, String>>>,
    }

    #[async_trait]
    impl Documents for Fake {
        async fn load(&self) -> Result<Vec<u8>, String> {
            self.loads.fetch_add(1, Ordering::SeqCst);
            let answer = self.answers.lock().unwrap().pop().unwrap_or_else(|| Err("down".into()));
            tokio::task::yield_now().await;
            answer.map(String::into_bytes)
        }
    }

    fn fake(mut answers: Vec<Result<String, String>>) -> (Arc<Fake>, Jwks) {
        answers.reverse();
        let fake = Arc::new(Fake { loads: AtomicUsize::new(0), answers: Mutex::new(answers) });
        (fake.clone(), Jwks::new(fake))
    }

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[tokio::test]
    async fn unknown_keys_make_at_most_one_read_in_thirty_seconds() {
        let (fake, jwks) = fake(vec![Ok(one_key("a")), Ok(one_key("b")), Ok(one_key("c"))]);
        jwks.read(S(0)).await.unwrap();
        let seen = jwks.current(S(0)).unwrap();
        for second in 0..30 {
            assert!(jwks.newer(Some(&seen), S(second)).await.is_none());
        }
        assert_eq!(fake.loads.load(Ordering::SeqCst), 1);
        // Many that miss a key at once wait for the same read.
        let all = (0..50).map(|_| jwks.newer(Some(&seen), S(30)));
        for newer in join_all(all).await {
            assert_eq!(format!("{:?}", newer.unwrap().keys), r#"{"b"}"#);
        }
        assert_eq!(fake.loads.load(Ordering::SeqCst), 2);
    }

    async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
        let mut futures: Vec<_> = futures.map(Box::pin).collect();
        let mut done = Vec::new();
        std::future::poll_fn(|context| {
            futures.retain_mut(|future| match future.as_mut().poll(context) {
                std::task::Poll::Ready(value) => {
                    done.push(value);
                    false
                }
                std::task::Poll::Pending => true,
            });
            if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        done
    }

    #[tokio::test]
    async fn keys_count_for_a_day_without_their_provider() {
        let (fake, jwks) = fake(vec![Ok(one_key("a")), Ok("not json".into()), Ok(EMPTY.into())]);
        jwks.refresh(S(0)).await;
        assert_eq!(jwks.current(S(0)).unwrap().keys.len(), 1);
        jwks.refresh(S(599)).await;
        assert_eq!(fake.loads.load(Ordering::SeqCst), 1, "they are fresh");
        for at in [600, 610, 630, 660, 24 * 3600] {
            jwks.refresh(S(at)).await;
        }
        assert_eq!(fake.loads.load(Ordering::SeqCst), 5, "every thirty seconds at most");
        assert_eq!(jwks.current(S(24 * 3600)).unwrap().keys.len(), 1);
        assert!(jwks.current(S(24 * 3600 + 1)).is_none(), "for a day and no longer");
    }

    #[tokio::test]
    async fn a_file_too_large_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwks.json");
        let mut text = one_key("a");
        text.push_str(&" ".repeat(DOCUMENT_BYTES_MAX - text.len()));
        std::fs::write(&path, &text).unwrap();
        assert!(JwksFile(path.clone()).load().await.is_ok());
        text.push(' ');
        std::fs::write(&path, &text).unwrap();
        assert!(JwksFile(path).load().await.unwrap_err().contains("more than"));
    }
}
