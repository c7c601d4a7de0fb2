//! The one place that turns a URL and the environment's settings into a store.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use graticule_common::web::{Access, Client, Connector};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut, S3CopyIfNotExists};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, RetryConfig};

use super::{ObjectError, Objects};

/// What a URL says.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    Folder(&'a FilePath),
    Memory,
    S3 { bucket: &'a str, prefix: &'a str },
    Gs { bucket: &'a str, prefix: &'a str },
    Az { bucket: &'a str, prefix: &'a str },
}

fn place(url: &str) -> Result<Place<'_>, String> {
    let (scheme, rest) = url.split_once("://").ok_or("it has no scheme")?;
    if rest.contains(['?', '#', '@', '\0']) {
        return Err(
            "it may hold no query, fragment or user name; credentials come from the environment".into()
        );
    }
    if scheme == "file" {
        let path = FilePath::new(rest);
        return if path.is_absolute() {
            Ok(Place::Folder(path))
        } else {
            Err("its path is not absolute".into())
        };
    }
    if scheme == "memory" {
        return Ok(Place::Memory);
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err("it names no bucket".into());
    }
    match scheme {
        "s3" => Ok(Place::S3 { bucket, prefix }),
        "gs" => Ok(Place::Gs { bucket, prefix }),
        "az" => Ok(Place::Az { bucket, prefix }),
        _ => Err(format!("nothing here speaks `{scheme}`")),
    }
}

/// Addresses of the operator's own store are the operator's to choose, as are those that its credentials
/// come from.
fn connector() -> Connector {
    Connector(Client::new(Access::anywhere()))
}

/// Attempts are counted in one place, ours.
fn retry() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// What every S3 is told, whatever else is set.
pub(super) fn s3(settings: AmazonS3Builder, bucket: &str) -> AmazonS3Builder {
    let builder = settings
        .with_bucket_name(bucket)
        .with_http_connector(connector())
        .with_retry(retry())
        // Not left to the environment: without it, two coordinators undo each other's work.
        .with_conditional_put(S3ConditionalPut::ETagMatch);
    // Stores that copy in another way than Amazon's say so by AWS_COPY_IF_NOT_EXISTS.
    match builder.get_config_value(&AmazonS3ConfigKey::CopyIfNotExists) {
        Some(_) => builder,
        None => builder.with_copy_if_not_exists(S3CopyIfNotExists::Multipart),
    }
}

impl Objects {
    /// The store of a URL: `file:///DIR`, `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`,
    /// `az://CONTAINER/PREFIX`, or `memory://`, which is empty and ends with the process. Credentials and
    /// end points come from the variables of the environment that `object_store` documents, such as
    /// `AWS_ACCESS_KEY_ID`. With `is_synced`, files and folders are on disk before a write counts.
    ///
    /// Connects to nobody yet.
    ///
    /// # Errors
    /// [`ObjectError::Url`], [`ObjectError::Settings`], [`ObjectError::File`].
    pub fn open(url: &str, is_synced: bool) -> Result<Objects, ObjectError> {
        let wrong = |reason: String| ObjectError::Url { url: url.to_owned(), reason };
        let unset = |error: object_store::Error| ObjectError::Settings {
            store: url.to_owned(),
            reason: error.to_string(),
        };
        let (store, prefix): (Arc<dyn ObjectStore>, &str) = match place(url).map_err(wrong)? {
            Place::Folder(path) => return Objects::folder(path, is_synced),
            Place::Memory => return Ok(Objects::memory()),
            Place::S3 { bucket, prefix } => {
                let builder = s3(AmazonS3Builder::from_env(), bucket);
                (Arc::new(builder.build().map_err(unset)?), prefix)
            }
            Place::Gs { bucket, prefix } => {
                let builder = GoogleCloudStorageBuilder::from_env()
                    .with_bucket_name(bucket)
                    .with_http_connector(connector())
                    .with_retry(retry());
                (Arc::new(builder.build().map_err(unset)?), prefix)
            }
            Place::Az { bucket, prefix } => {
                let builder = MicrosoftAzureBuilder::from_env()
                    .with_container_name(bucket)
                    .with_http_connector(connector())
                    .with_retry(retry());
                (Arc::new(builder.build().map_err(unset)?), prefix)
            }
        };
        let prefix = Path::parse(prefix).map_err(|error| wrong(error.to_string()))?;
        Objects::new(store, prefix, url.trim_end_matches('/').to_owned(), None, is_synced)
    }

    /// The store in a folder of this machine, which is made where it does not exist. See
    /// [`open`](Self::open) for `is_synced`.
    ///
    /// # Errors
    /// [`ObjectError::File`].
    pub fn folder(path: &FilePath, is_synced: bool) -> Result<Objects, ObjectError> {
        let failed = |source| ObjectError::File { path: path.display().to_string(), source };
        std::fs::create_dir_all(path).map_err(failed)?;
        let path: PathBuf = path.canonicalize().map_err(failed)?;
        let store = LocalFileSystem::new_with_prefix(&path)
            .map_err(|error| failed(std::io::Error::other(error.to_string())))?
            .with_fsync(is_synced);
        let url = format!("file://{}", path.display());
        Objects::new(Arc::new(store), Path::default(), url, Some(path), is_synced)
    }

    /// A store of this process alone, for tests.
    ///
    /// # Panics
    /// When the system gives no thread.
    pub fn memory() -> Objects {
        let made =
            Objects::new(Arc::new(InMemory::new()), Path::default(), "memory://".to_owned(), None, false);
        made.expect("a thread")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        assert_eq!(place("file:///a/b").unwrap(), Place::Folder(FilePath::new("/a/b")));
        assert_eq!(place("s3://b").unwrap(), Place::S3 { bucket: "b", prefix: "" });
        assert_eq!(place("gs://b/p/q").unwrap(), Place::Gs { bucket: "b", prefix: "p/q" });
        assert_eq!(place("az://c/p/").unwrap(), Place::Az { bucket: "c", prefix: "p/" });
        for bad in
            ["", "b", "s3://", "s3:///p", "file://p", "ftp://b/p", "s3://u:p@b/p", "s3://b/p?x", "s3://b#x"]
        {
            let error = Objects::open(bad, false).unwrap_err();
            assert!(matches!(error, ObjectError::Url { .. }), "{bad}: {error}");
        }
        let error = Objects::open("s3://b/../c", false).unwrap_err();
        assert!(matches!(error, ObjectError::Url { .. }), "{error}");
    }
}
