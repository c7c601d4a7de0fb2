//! Making objects: each name once, whoever comes first, and an answer that is lost settled by looking.

use std::future::Future;
use std::io::{self, Read};
use std::path::{Path as FilePath, PathBuf};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, WriteMultipart,
};

use super::{
    ATTEMPT_WITHIN, DRAFTS, Made, ObjectError, Objects, PART_BYTES, Tries, in_file, random_name, text,
};

/// Larger objects are sent in parts, to a place of their own, and put into theirs when they are whole.
pub(super) const WHOLE_BYTES_MAX: u64 = 16 << 20;
/// Parts of one object on their way at once.
const PARTS_MAX: usize = 2;

impl Objects {
    /// Makes an object, if there is none of the name.
    ///
    /// # Errors
    /// [`ObjectError`]; after [`ObjectError::Unsure`] it may have been made.
    pub async fn put_new(&self, name: &str, bytes: Bytes) -> Result<Made, ObjectError> {
        let (objects, name) = (self.clone(), name.to_owned());
        self.run(async move {
            let path = objects.path(&name)?;
            let store = &objects.0.store;
            let put = || {
                let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                async { store.put_opts(&path, bytes.clone().into(), options).await.map(drop) }
            };
            objects.make(&name, bytes.len() as u64, || Ok(blake3::hash(&bytes)), put).await
        })
        .await
    }

    /// Makes an object by a request that never overwrites.
    async fn make<F>(
        &self,
        name: &str,
        bytes: u64,
        hash: impl Fn() -> Result<blake3::Hash, ObjectError>,
        mut put: impl FnMut() -> F,
    ) -> Result<Made, ObjectError>
    where
        F: Future<Output = Result<(), Error>>,
    {
        let mut tries = Tries::new();
        let mut is_unsure = false;
        loop {
            let reason = match tokio::time::timeout(ATTEMPT_WITHIN, put()).await {
                Ok(Ok(())) => return Ok(Made::Created),
                // An earlier attempt may have made it although its answer was lost; and stores say so, too,
                // when two requests met and neither was done.
                Ok(Err(error @ (Error::AlreadyExists { .. } | Error::Precondition { .. }))) => {
                    match self.is(name, bytes, &hash).await {
                        Ok(true) => return Ok(Made::Same),
                        Ok(false) => return Ok(Made::Taken),
                        Err(ObjectError::Missing { .. }) => text(&error),
                        Err(failure) => return Err(failure),
                    }
                }
                Ok(Err(error)) => match self.failed(name, &error) {
                    Some(failure) if !is_unsure => return Err(failure),
                    _ => {
                        is_unsure = true;
                        text(&error)
                    }
                },
                Err(_) => {
                    is_unsure = true;
                    "no answer in time".to_owned()
                }
            };
            if !tries.again().await {
                let (store, name, attempts) = (self.0.url.clone(), name.to_owned(), tries.made);
                return Err(match is_unsure {
                    true => ObjectError::Unsure { store, name, attempts, reason },
                    false => ObjectError::Unavailable { store, name, attempts, reason },
                });
            }
        }
    }

    /// Whether an object has these bytes.
    async fn is(
        &self,
        name: &str,
        bytes: u64,
        hash: impl Fn() -> Result<blake3::Hash, ObjectError>,
    ) -> Result<bool, ObjectError> {
        let path = self.path(name)?;
        let meta = self.patiently(name, || self.0.store.head(&path)).await?;
        if meta.size != bytes {
            return Ok(false);
        }
        let mut hasher = blake3::Hasher::new();
        self.each_part(name, bytes, |part| {
            hasher.update(&part);
            Ok(())
        })
        .await?;
        Ok(hasher.finalize() == hash()?)
    }

    /// Makes an object of a file, if there is none of the name. In a store that is a folder, the file
    /// must be in it, and stays as a second name.
    ///
    /// # Errors
    /// [`ObjectError`]; after [`ObjectError::Unsure`] it may have been made.
    pub async fn put_new_file(&self, name: &str, file: PathBuf) -> Result<Made, ObjectError> {
        let (objects, name) = (self.clone(), name.to_owned());
        self.run(async move {
            let bytes = std::fs::metadata(&file).map_err(|source| in_file(&file, source))?.len();
            let hash = || digest(&file);
            let to = objects.path(&name)?;
            let store = &objects.0.store;
            let copy = |from: Path| {
                let (store, to) = (store.clone(), to.clone());
                async move {
                    let options = CopyOptions { mode: CopyMode::Create, ..CopyOptions::default() };
                    store.copy_opts(&from, &to, options).await
                }
            };
            if let Some(folder) = &objects.0.folder {
                let inside = file.strip_prefix(folder).unwrap_or(&file);
                let from = objects.path(&inside.display().to_string())?;
                return objects.make(&name, bytes, hash, || copy(from.clone())).await;
            }
            if bytes <= WHOLE_BYTES_MAX {
                let whole = std::fs::read(&file).map_err(|source| in_file(&file, source))?;
                return objects.put_new(&name, whole.into()).await;
            }
            let draft = format!("{DRAFTS}/{}", random_name());
            let from = objects.path(&draft)?;
            objects.upload(&draft, &from, &file).await?;
            let made = objects.make(&name, bytes, hash, || copy(from.clone())).await;
            // What stays is removed when it is old.
            _ = store.delete(&from).await;
            made
        })
        .await
    }

    /// Sends a file in parts. A failure starts it over.
    async fn upload(&self, name: &str, path: &Path, file: &FilePath) -> Result<(), ObjectError> {
        let mut tries = Tries::new();
        loop {
            let reason = match self.upload_once(path, file).await? {
                Ok(()) => return Ok(()),
                Err(error) => match self.failed(name, &error) {
                    Some(failure) => return Err(failure),
                    None => text(&error),
                },
            };
            if !tries.again().await {
                let (store, name) = (self.0.url.clone(), name.to_owned());
                return Err(ObjectError::Unavailable { store, name, attempts: tries.made, reason });
            }
        }
    }

    async fn upload_once(&self, path: &Path, file: &FilePath) -> Result<Result<(), Error>, ObjectError> {
        let failed = |source| in_file(file, source);
        let mut from = std::fs::File::open(file).map_err(failed)?;
        let late = || Error::Generic { store: "object", source: "no answer in time".into() };
        let upload = match tokio::time::timeout(ATTEMPT_WITHIN, self.0.store.put_multipart(path)).await {
            Ok(Ok(upload)) => upload,
            Ok(Err(error)) => return Ok(Err(error)),
            Err(_) => return Ok(Err(late())),
        };
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        loop {
            let mut part = Vec::with_capacity(PART_BYTES);
            (&mut from).take(PART_BYTES as u64).read_to_end(&mut part).map_err(failed)?;
            if part.is_empty() {
                break;
            }
            match tokio::time::timeout(ATTEMPT_WITHIN, upload.wait_for_capacity(PARTS_MAX)).await {
                Ok(Ok(())) => upload.put(part.into()),
                // A failed or silent upload costs space until the store's rule for these removes it.
                Ok(Err(error)) => return Ok(upload.abort().await.and(Err(error))),
                Err(_) => return Ok(upload.abort().await.and(Err(late()))),
            }
        }
        let within = ATTEMPT_WITHIN * PARTS_MAX as u32;
        Ok(tokio::time::timeout(within, upload.finish()).await.unwrap_or_else(|_| Err(late())).map(drop))
    }
}

/// Digest of a file.
fn digest(path: &FilePath) -> Result<blake3::Hash, ObjectError> {
    let failed = |source| in_file(path, source);
    let mut hasher = blake3::Hasher::new();
    let mut file = std::fs::File::open(path).map_err(failed)?;
    io::copy(&mut file, &mut hasher).map_err(failed)?;
    Ok(hasher.finalize())
}
