//! Files on web servers and in object stores, read range by range.
//!
//! All of it goes through one HTTP client of our own (`graticule_common::web`), which decides whom to connect to; the
//! stores' protocols above it are `object_store`'s. GDAL sees a [`RemoteFile`] as a file of its own
//! file system and does no networking.

mod file;
mod http;
mod store;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use graticule_common::scene::SourceRef;
use graticule_common::web::Client;
pub use graticule_common::web::{Access, HostError};
use tokio::runtime::{Handle, Runtime};

pub(crate) use self::file::RemoteFile;
use self::file::{Fetch, FetchError};
use self::http::WebFile;
use self::store::Stores;
use super::ReadProblem;

/// How long and how often a range is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Attempts at one range in all.
    pub attempts: u32,
    /// Wait after the first failure; doubled after each further one.
    pub first_wait: Duration,
    /// For one attempt, from connecting to the last byte.
    pub attempt: Duration,
    /// For all attempts at one range.
    pub total: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            attempts: 5,
            first_wait: Duration::from_millis(200),
            attempt: Duration::from_secs(20),
            total: Duration::from_secs(60),
        }
    }
}

/// Opens files of web servers and object stores.
pub struct Remote {
    client: Client,
    stores: Stores,
    patience: Patience,
    /// Made by the first file: threads that drive connections while pool threads wait for bytes.
    runtime: OnceLock<Runtime>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Remote {
    /// Opens what `access` allows. Credentials and end points of object stores come from the variables
    /// of the environment that `object_store` documents, such as `AWS_ACCESS_KEY_ID`.
    pub fn new(access: Access, patience: Patience) -> Self {
        let client = Client::new(access);
        Remote { stores: Stores::new(client.clone()), client, patience, runtime: OnceLock::new() }
    }

    fn handle(&self) -> Result<Handle, ReadProblem> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime.handle().clone());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("remote")
            .enable_all()
            .build()
            .map_err(|error| ReadProblem::Unreachable { reason: format!("no thread: {error}") })?;
        if let Err(surplus) = self.runtime.set(runtime) {
            surplus.shutdown_background();
        }
        self.handle()
    }

    /// Opens a file and pins the contents it has now; `version` empty: whatever they are. It blocks.
    pub(crate) fn open(&self, source: &SourceRef, version: &str) -> Result<RemoteFile, ReadProblem> {
        let fetch: Arc<dyn Fetch> = match source {
            SourceRef::Http(url) => Arc::new(WebFile::new(self.client.clone(), url)?),
            SourceRef::Object { store, bucket, key } => Arc::new(self.stores.file(*store, bucket, key)?),
            SourceRef::Local(_) | SourceRef::Synthetic(_) => return Err(ReadProblem::NotLocal),
        };
        RemoteFile::open(fetch, self.handle()?, self.patience, version)
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // A runtime must not wait for its threads where async code may be running.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl From<FetchError> for ReadProblem {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Missing(reason) => ReadProblem::Missing { reason },
            FetchError::Transient(reason) => ReadProblem::Unreachable { reason },
            FetchError::Wrong(reason) => ReadProblem::WrongAnswer { reason },
            FetchError::Refused { host, reason } => ReadProblem::HostNotAllowed { host, reason },
            FetchError::Changed { registered, found } => ReadProblem::Changed { registered, found },
        }
    }
}
