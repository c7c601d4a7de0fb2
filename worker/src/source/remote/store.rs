//! Objects of S3, Google Cloud Storage and Azure: their protocols are `object_store`'s, the connections
//! ours.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use graticule_common::scene::Store;
use http_body_util::BodyExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{ClientOptions, GetOptions, GetRange, ObjectStore, RetryConfig};

use super::super::ReadProblem;
use super::file::{Fetch, FetchError, Part};
use super::http::{Client, full};

/// Buckets with a client of their own.
const BUCKETS_MAX: usize = 64;

/// Makes and remembers a client for each bucket.
#[derive(Debug)]
pub(super) struct Stores {
    client: Client,
    made: Mutex<BTreeMap<(Store, String), Arc<dyn ObjectStore>>>,
}

impl Stores {
    pub(super) fn new(client: Client) -> Self {
        Stores { client, made: Mutex::default() }
    }

    /// A file of a bucket; connects to nobody yet.
    pub(super) fn file(&self, store: Store, bucket: &str, key: &str) -> Result<StoreFile, ReadProblem> {
        let wrong = |reason: String| ReadProblem::WrongAddress { reason };
        let path = Path::parse(key).map_err(|error| wrong(error.to_string()))?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let at = (store, bucket.to_owned());
        if let Some(bucket) = made.get(&at) {
            return Ok(StoreFile { bucket: bucket.clone(), path });
        }
        let bucket = self
            .make(store, bucket)
            .map_err(|error| ReadProblem::StoreSettings { store, reason: error.to_string() })?;
        if made.len() >= BUCKETS_MAX {
            made.pop_first();
        }
        made.insert(at, bucket.clone());
        Ok(StoreFile { bucket, path })
    }

    /// The one place where the environment's settings of object stores are read.
    fn make(&self, store: Store, bucket: &str) -> object_store::Result<Arc<dyn ObjectStore>> {
        let connector = Connector(self.client.clone());
        // Attempts are counted in one place, ours.
        let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        Ok(match store {
            Store::S3 => Arc::new(
                AmazonS3Builder::from_env()
                    .with_bucket_name(bucket)
                    .with_http_connector(connector)
                    .with_retry(retry)
                    .build()?,
            ),
            Store::Gs => Arc::new(
                GoogleCloudStorageBuilder::from_env()
                    .with_bucket_name(bucket)
                    .with_http_connector(connector)
                    .with_retry(retry)
                    .build()?,
            ),
            Store::Az => Arc::new(
                MicrosoftAzureBuilder::from_env()
                    .with_container_name(bucket)
                    .with_http_connector(connector)
                    .with_retry(retry)
                    .build()?,
            ),
        })
    }
}

/// An object.
#[derive(Debug)]
pub(super) struct StoreFile {
    bucket: Arc<dyn ObjectStore>,
    path: Path,
}

#[async_trait]
impl Fetch for StoreFile {
    async fn fetch(&self, range: Range<u64>, etag: Option<&str>) -> Result<Part, FetchError> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            if_match: etag.map(str::to_owned),
            ..GetOptions::default()
        };
        let failed = |error| self.failed(error, etag);
        let answer = self.bucket.get_opts(&self.path, options).await.map_err(failed)?;
        let (meta, sent) = (answer.meta.clone(), answer.range.clone());
        if sent != (range.start..range.end.min(meta.size)) {
            return Err(FetchError::Wrong(format!("bytes {} to {} came", sent.start, sent.end)));
        }
        let bytes = answer.bytes().await.map_err(failed)?;
        let changed = Some(meta.last_modified.to_rfc3339());
        Ok(Part { bytes, length: meta.size, etag: meta.e_tag, changed })
    }
}

impl StoreFile {
    fn failed(&self, error: object_store::Error, etag: Option<&str>) -> FetchError {
        use object_store::Error;
        let refused = refusal(&error);
        if let Some((host, reason)) = refused {
            return FetchError::Refused { host, reason };
        }
        match error {
            Error::NotFound { .. } => FetchError::Missing("there is no such object".to_owned()),
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                FetchError::Missing("the store denies access; check the engine's credentials".to_owned())
            }
            Error::Precondition { .. } | Error::NotModified { .. } => FetchError::Changed {
                registered: etag.unwrap_or_default().to_owned(),
                found: "another".to_owned(),
            },
            Error::NotSupported { .. } | Error::NotImplemented { .. } => {
                FetchError::Wrong("the store does not serve parts of objects".to_owned())
            }
            other => FetchError::Transient(other.to_string()),
        }
    }
}

/// The refusal to connect among an error's causes.
fn refusal(error: &(dyn std::error::Error + 'static)) -> Option<(String, String)> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(NotConnected(FetchError::Refused { host, reason })) = inner.downcast_ref() {
            return Some((host.clone(), reason.clone()));
        }
        cause = inner.source();
    }
    None
}

/// Hands our client to `object_store`.
#[derive(Debug)]
struct Connector(Client);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Service(self.0.clone())))
    }
}

#[derive(Debug)]
struct Service(Client);

/// What our client failed with, as an error for `object_store` to carry.
#[derive(Debug, thiserror::Error)]
#[error("{0:?}")]
struct NotConnected(FetchError);

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let bytes = match body.as_bytes() {
            Some(bytes) => bytes.clone(),
            None => body.collect().await?.to_bytes(),
        };
        let request = http::Request::from_parts(parts, full(bytes));
        let response = self.0.send(request).await.map_err(|error| {
            let kind = match error {
                FetchError::Transient(_) => HttpErrorKind::Connect,
                _ => HttpErrorKind::Unknown,
            };
            HttpError::new(kind, NotConnected(error))
        })?;
        let (parts, body) = response.into_parts();
        let body = body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error));
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}
