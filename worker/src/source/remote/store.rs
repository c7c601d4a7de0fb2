//! Objects of S3, Google Cloud Storage and Azure: their protocols are `object_store`'s, the connections
//! ours.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::BytesMut;
use graticule_common::scene::Store;
use graticule_common::web::{Client, Connector, NotSent, SendError};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, RetryConfig};

use tokio_stream::StreamExt as _;

use super::super::ReadProblem;
use super::file::{Fetch, FetchError, Part};

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
        if path.as_ref().is_empty() {
            return Err(wrong("it names no object".to_owned()));
        }
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
        // Counted as it comes: an answer may go on for ever.
        let (mut bytes, mut stream) = (BytesMut::new(), answer.into_stream());
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk.map_err(failed)?);
            if bytes.len() as u64 > sent.end - sent.start {
                return Err(FetchError::Wrong("it is longer than what was asked for".to_owned()));
            }
        }
        let bytes = bytes.freeze();
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
        if let Some(NotSent(SendError::Refused { host, reason })) = inner.downcast_ref() {
            return Some((host.clone(), reason.clone()));
        }
        cause = inner.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::Access;
    use super::super::tests::{Answer, Server};
    use super::*;

    /// The store's protocol spoken to a server of the test, by a client that may or may not connect.
    fn file(server: &Server, hosts: &[String]) -> StoreFile {
        let client = Client::new(Access::to_hosts(hosts).unwrap());
        let bucket = AmazonS3Builder::new()
            .with_bucket_name("scenes")
            .with_endpoint(format!("http://{}", server.address))
            .with_allow_http(true)
            .with_skip_signature(true)
            .with_http_connector(Connector(client))
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .build()
            .unwrap();
        StoreFile { bucket: Arc::new(bucket), path: Path::parse("2020/B04.tif").unwrap() }
    }

    async fn fetch(answer: Answer) -> Result<Part, FetchError> {
        let bytes: Vec<u8> = (0..200).collect();
        let server = Server::start(bytes, move |_, asked| {
            assert_eq!(asked.path, "/scenes/2020/B04.tif");
            answer.clone()
        });
        file(&server, &[server.address.to_string()]).fetch(10..20, Some("\"one\"")).await
    }

    #[tokio::test]
    async fn objects_come_in_parts_or_not_at_all() {
        let part = fetch(Answer::Good).await.unwrap();
        assert_eq!(part.bytes, (10..20).collect::<Vec<u8>>());
        assert_eq!((part.length, part.etag.as_deref()), (200, Some("\"one\"")));
        assert!(matches!(fetch(Answer::Status(503)).await, Err(FetchError::Transient(_))));
        assert!(matches!(fetch(Answer::Cut).await, Err(FetchError::Transient(_))));
        assert!(matches!(fetch(Answer::Status(404)).await, Err(FetchError::Missing(_))));
        assert!(matches!(fetch(Answer::Status(403)).await, Err(FetchError::Missing(_))));
        assert!(matches!(fetch(Answer::Tagged("\"two\"")).await, Err(FetchError::Changed { .. })));
        for answer in [Answer::Less, Answer::Whole, Answer::Redirect("http://b.example/".into())] {
            assert!(fetch(answer.clone()).await.is_err(), "{answer:?}");
        }
        let server = Server::start(vec![0; 200], |_, _| Answer::Good);
        let refused = file(&server, &[]).fetch(0..10, None).await.unwrap_err();
        assert!(matches!(refused, FetchError::Refused { .. }), "{refused:?}");
        assert_eq!(server.count(), 0);
    }

    #[test]
    fn keys_that_are_none() {
        let stores = Stores::new(Client::new(Access::default()));
        for key in ["", "/", "a//b", "../secret"] {
            let refused = stores.file(Store::S3, "scenes", key).unwrap_err();
            assert!(matches!(refused, ReadProblem::WrongAddress { .. }), "{key}: {refused}");
        }
    }
}
