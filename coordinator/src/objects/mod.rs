//! The object store: what must outlast every process lies here, as objects that are made once and never
//! change. Whoever makes one of a name first wins; there is no other agreement between coordinators.

mod error;
mod make;
mod open;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::future::Future;
use std::io::{self, Write};
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use graticule_common::telemetry::names;
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::runtime::Runtime;
use tokio_stream::StreamExt as _;

pub use error::ObjectError;

/// Attempts at one request.
const ATTEMPTS_MAX: u32 = 6;
/// Wait after the first failure; doubled after each further one, and shortened by chance so that those
/// who failed together do not come back together.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest of these waits.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Time for one attempt at a small request, and for each part of a large one.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(20);
/// Time for all attempts at one request.
const TOTAL_WITHIN: Duration = Duration::from_secs(60);
/// Bytes of a part.
const PART_BYTES: usize = 8 << 20;
/// Objects below one prefix.
const LISTED_MAX: usize = 100_000;
/// Where parts become objects.
const DRAFTS: &str = "drafts";
/// A draft this old was left by a process that is gone.
const DRAFT_AGE_MAX: Duration = Duration::from_secs(86_400);
/// Where the layout is written down.
const MARKER: &str = "format.json";
/// What the layout is.
const LAYOUT: &[u8] = b"{\"graticule-store\":1}";

/// What came of making an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It did not exist, and does now.
    Created,
    /// It exists with the same bytes: somebody said the same, or an answer to this call was lost.
    Same,
    /// It exists with other bytes.
    Taken,
}

/// An object as a listing has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name below the store's root.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// When it was made, by the store's clock.
    pub made: SystemTime,
}

/// A store below a prefix. Cheap to clone.
#[derive(Clone)]
pub struct Objects(Arc<Inner>);

struct Inner {
    store: Arc<dyn ObjectStore>,
    root: Path,
    /// For messages.
    url: String,
    folder: Option<PathBuf>,
    is_synced: bool,
    /// Drives connections: callers may be threads without a runtime, or of several.
    runtime: Option<Runtime>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A runtime must not wait for its threads where async code may be running.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Objects({})", self.0.url)
    }
}

impl Objects {
    fn new(
        store: Arc<dyn ObjectStore>,
        root: Path,
        url: String,
        folder: Option<PathBuf>,
        is_synced: bool,
    ) -> Result<Objects, ObjectError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("objects")
            .enable_all()
            .build()
            .map_err(|error| ObjectError::Task { reason: error.to_string() })?;
        let runtime = Some(runtime);
        Ok(Objects(Arc::new(Inner { store, root, url, folder, is_synced, runtime })))
    }

    /// The URL, for messages.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// The folder of this machine that the store is.
    pub fn as_folder(&self) -> Option<&FilePath> {
        self.0.folder.as_deref()
    }

    /// Whether files must be on disk before they count.
    pub fn is_synced(&self) -> bool {
        self.0.is_synced
    }

    /// Runs a task where the store's connections live.
    async fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T, ObjectError>> + Send + 'static,
    ) -> Result<T, ObjectError> {
        let runtime = self.0.runtime.as_ref().expect("it is there until the end");
        let done = runtime.spawn(task).await;
        done.unwrap_or_else(|error| Err(ObjectError::Task { reason: error.to_string() }))
    }

    /// Runs a task of this store to its end. Blocks.
    ///
    /// # Errors
    /// As the task's.
    pub fn wait<T: Send + 'static, F>(&self, task: impl FnOnce(Objects) -> F) -> Result<T, ObjectError>
    where
        F: Future<Output = Result<T, ObjectError>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::sync_channel(1);
        let task = task(self.clone());
        let runtime = self.0.runtime.as_ref().expect("it is there until the end");
        // Nobody waits for the answer only when this thread is gone.
        runtime.spawn(async move { _ = sender.send(task.await) });
        let ended = || ObjectError::Task { reason: "the runtime ended".to_owned() };
        receiver.recv().unwrap_or_else(|_| Err(ended()))
    }

    /// Waits a while of the caller's choice, cut short by chance. Blocks.
    pub(crate) fn pause(&self, longest: Duration) {
        let wait = longest.mul_f64(0.5 + 0.5 * fastrand::f64());
        // A runtime that ended is reason enough to go on.
        let _ = self.wait(|_| async move {
            tokio::time::sleep(wait).await;
            Ok(())
        });
    }

    fn path(&self, name: &str) -> Result<Path, ObjectError> {
        let root = self.0.root.as_ref();
        let full = if root.is_empty() { name.to_owned() } else { format!("{root}/{name}") };
        Path::parse(full)
            .map_err(|error| ObjectError::Url { url: name.to_owned(), reason: error.to_string() })
    }

    /// An error as ours; `None` where another attempt may help.
    fn failed(&self, name: &str, error: &Error) -> Option<ObjectError> {
        let store = || self.0.url.clone();
        match error {
            Error::NotFound { .. } => Some(ObjectError::Missing { store: store(), name: name.to_owned() }),
            Error::PermissionDenied { source, .. } | Error::Unauthenticated { source, .. } => {
                Some(ObjectError::Denied {
                    store: store(),
                    name: name.to_owned(),
                    reason: source.to_string(),
                })
            }
            Error::NotSupported { .. } | Error::NotImplemented { .. } => {
                Some(ObjectError::Settings { store: store(), reason: error.to_string() })
            }
            Error::InvalidPath { source } => {
                Some(ObjectError::Url { url: name.to_owned(), reason: source.to_string() })
            }
            // What a disk refuses, it refuses again.
            _ => self.0.folder.as_ref().map(|folder| ObjectError::File {
                path: folder.join(name).display().to_string(),
                source: io_cause(error),
            }),
        }
    }

    /// Asks until there is an answer, a failure that stays, or no time.
    async fn patiently<T, F>(&self, name: &str, mut ask: impl FnMut() -> F) -> Result<T, ObjectError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut tries = Tries::new();
        loop {
            let reason = match tokio::time::timeout(ATTEMPT_WITHIN, ask()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => match self.failed(name, &error) {
                    Some(failure) => return Err(failure),
                    None => text(&error),
                },
                Err(_) => "no answer in time".to_owned(),
            };
            if !tries.again().await {
                let (store, name) = (self.0.url.clone(), name.to_owned());
                return Err(ObjectError::Unavailable { store, name, attempts: tries.made, reason });
            }
        }
    }

    /// Calls `each` with an object's bytes, part by part.
    async fn each_part(
        &self,
        name: &str,
        bytes: u64,
        mut each: impl FnMut(Bytes) -> Result<(), ObjectError>,
    ) -> Result<(), ObjectError> {
        let mut at = 0;
        while at < bytes {
            let end = bytes.min(at + PART_BYTES as u64);
            each(self.part(name, at..end).await?)?;
            at = end;
        }
        Ok(())
    }

    /// A part of an object: just these bytes, or an error.
    async fn part(&self, name: &str, range: std::ops::Range<u64>) -> Result<Bytes, ObjectError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let path = self.path(name)?;
        let ask = || async {
            let bytes = self.0.store.get_range(&path, range.clone()).await?;
            if bytes.len() as u64 != range.end - range.start {
                let source = format!("{} bytes came", bytes.len()).into();
                return Err(Error::Generic { store: "object", source });
            }
            Ok(bytes)
        };
        self.patiently(name, ask).await
    }

    /// An object of at most `bytes_max`.
    ///
    /// # Errors
    /// [`ObjectError::Missing`], [`ObjectError::TooLarge`], and those of connections.
    pub async fn get(&self, name: &str, bytes_max: u64) -> Result<Bytes, ObjectError> {
        let (objects, name) = (self.clone(), name.to_owned());
        self.run(async move {
            let path = objects.path(&name)?;
            // One byte more tells that there are more.
            let range = Some(GetRange::Bounded(0..bytes_max + 1));
            let ask = || async {
                let options = GetOptions { range: range.clone(), ..GetOptions::default() };
                match objects.0.store.get_opts(&path, options).await {
                    Ok(answer) => answer.bytes().await,
                    // An empty object has no first byte to ask for.
                    Err(error) => match objects.0.store.head(&path).await {
                        Ok(ObjectMeta { size: 0, .. }) => Ok(Bytes::new()),
                        _ => Err(error),
                    },
                }
            };
            let bytes = objects.patiently(&name, ask).await?;
            if bytes.len() as u64 > bytes_max {
                return Err(ObjectError::TooLarge { store: objects.0.url.clone(), name, limit: bytes_max });
            }
            Ok(bytes)
        })
        .await
    }

    /// A part of an object: just these bytes, or an error.
    ///
    /// # Errors
    /// [`ObjectError::Missing`], and those of connections.
    pub async fn get_range(&self, name: &str, range: std::ops::Range<u64>) -> Result<Bytes, ObjectError> {
        let (objects, name) = (self.clone(), name.to_owned());
        self.run(async move { objects.part(&name, range).await }).await
    }

    /// Writes an object of `bytes` into a file.
    ///
    /// # Errors
    /// [`ObjectError::Missing`], [`ObjectError::File`], and those of connections.
    pub async fn download(&self, name: &str, bytes: u64, to: PathBuf) -> Result<(), ObjectError> {
        let (objects, name) = (self.clone(), name.to_owned());
        self.run(async move {
            let failed = |source| in_file(&to, source);
            let mut file = std::fs::File::create(&to).map_err(failed)?;
            let write = |part: Bytes| file.write_all(&part).map_err(failed);
            objects.each_part(&name, bytes, write).await
        })
        .await
    }

    /// The objects below a prefix, by name.
    ///
    /// # Errors
    /// [`ObjectError::TooMany`], and those of connections.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectError> {
        let (objects, prefix) = (self.clone(), prefix.to_owned());
        self.run(async move {
            let below = objects.path(&prefix)?;
            let root = objects.0.root.as_ref().len();
            let ask = || async {
                let mut found = Vec::new();
                let mut metas = objects.0.store.list(Some(&below));
                while let Some(meta) = metas.next().await {
                    match meta {
                        Ok(meta) if found.len() <= LISTED_MAX => found.push(meta),
                        Ok(_) => break,
                        // It was removed while it was being listed.
                        Err(Error::NotFound { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(found)
            };
            let found = objects.patiently(&prefix, ask).await?;
            if found.len() > LISTED_MAX {
                let (store, limit) = (objects.0.url.clone(), LISTED_MAX);
                return Err(ObjectError::TooMany { store, name: prefix, limit });
            }
            let listed = |meta: ObjectMeta| Listed {
                name: meta.location.as_ref()[root..].trim_start_matches('/').to_owned(),
                bytes: meta.size,
                made: meta.last_modified.into(),
            };
            let mut found: Vec<_> = found.into_iter().map(listed).collect();
            found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            Ok(found)
        })
        .await
    }

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// Those of connections.
    pub async fn remove(&self, name: &str) -> Result<(), ObjectError> {
        let (objects, name) = (self.clone(), name.to_owned());
        self.run(async move {
            let path = objects.path(&name)?;
            match objects.patiently(&name, || objects.0.store.delete(&path)).await {
                Err(ObjectError::Missing { .. }) => Ok(()),
                done => done,
            }
        })
        .await
    }

    /// Removes what uploads of processes that are gone left.
    ///
    /// # Errors
    /// Those of connections.
    pub async fn tidy(&self) -> Result<(), ObjectError> {
        if self.0.folder.is_some() {
            return Ok(());
        }
        for draft in self.list(DRAFTS).await? {
            if draft.made.elapsed().is_ok_and(|age| age > DRAFT_AGE_MAX) {
                self.remove(&draft.name).await?;
            }
        }
        Ok(())
    }

    /// Makes sure that the store is of this layout and refuses to overwrite: everything depends on that.
    ///
    /// # Errors
    /// [`ObjectError::NotConditional`], [`ObjectError::Layout`], and those of connections.
    pub async fn prove(&self) -> Result<(), ObjectError> {
        if self.0.folder.is_some() {
            return Ok(());
        }
        let layout = Bytes::from_static(LAYOUT);
        let found = match self.get(MARKER, 1 << 10).await {
            Err(ObjectError::Missing { .. }) => {
                self.put_new(MARKER, layout.clone()).await?;
                self.get(MARKER, 1 << 10).await?
            }
            found => found?,
        };
        if found != layout {
            return Err(ObjectError::Layout {
                store: self.0.url.clone(),
                found: String::from_utf8_lossy(&found).into_owned(),
                known: String::from_utf8_lossy(&layout).into_owned(),
            });
        }
        match self.put_new(MARKER, layout).await? {
            Made::Created => Err(ObjectError::NotConditional { store: self.0.url.clone() }),
            Made::Same | Made::Taken => Ok(()),
        }
    }
}

/// A name that nobody else takes.
pub(crate) fn random_name() -> String {
    let mut bytes = [0; 16];
    // Without the system's randomness, chance of lesser quality: names are no secrets.
    if getrandom::fill(&mut bytes).is_err() {
        fastrand::fill(&mut bytes);
    }
    format!("{:032x}", u128::from_le_bytes(bytes))
}

/// Attempts at a request, within their number and time.
struct Tries {
    started: Instant,
    made: u32,
}

impl Tries {
    fn new() -> Tries {
        Tries { started: Instant::now(), made: 1 }
    }

    /// Waits for the next attempt; whether there is one.
    async fn again(&mut self) -> bool {
        let longest = WAIT_MAX.min(FIRST_WAIT * 2_u32.pow(self.made - 1));
        let wait = longest.mul_f64(0.5 + 0.5 * fastrand::f64());
        if self.made >= ATTEMPTS_MAX || self.started.elapsed() + wait >= TOTAL_WITHIN {
            return false;
        }
        metrics::counter!(names::STORE_RETRIES).increment(1);
        tokio::time::sleep(wait).await;
        self.made += 1;
        true
    }
}

fn in_file(path: &FilePath, source: io::Error) -> ObjectError {
    ObjectError::File { path: path.display().to_string(), source }
}

/// An error with its innermost cause, which says most.
fn text(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The system's error among an error's causes.
fn io_cause(error: &Error) -> io::Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref::<io::Error>() {
            return found.raw_os_error().map_or_else(|| found.kind().into(), io::Error::from_raw_os_error);
        }
        cause = inner.source();
    }
    io::Error::other(error.to_string())
}
