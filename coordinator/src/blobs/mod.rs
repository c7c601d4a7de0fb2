//! Documents that users save under a name: computations of the published client. One space a tenant.
//!
//! Nothing in the store changes. A blob is a row of versions, each made under the next number by whoever
//! is first; the highest counts, and an empty one says that the blob was deleted. Content lies beside
//! them, an object for each upload. So coordinators share blobs without agreement, and of two who change
//! one at once the second does it again on top of the first.
//!
//! ```text
//! blobs/TENANT/BLOB/0000000002.json        a version: id, attributes, which upload
//! blobs/TENANT/BLOB/UPLOAD.content         the content of an upload
//! ```
//!
//! `TENANT` and `BLOB` are digests: no text of a client is part of a name in the store.

mod attributes;
mod id;
mod sweep;
#[cfg(test)]
mod tests;
mod ticket;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use graticule_common::error::{Classify, ErrorClass};
use graticule_common::hash::{ContentHash, Hasher};
use graticule_common::scene::Timestamp;
use md5::{Digest, Md5};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

pub use attributes::Attributes;
pub use id::{BlobId, STORAGE_TYPE};
pub use ticket::{Deed, Place, Tickets};

use crate::objects::{Listed, Made, ObjectError, Objects, random_name};

/// Where blobs are in the store.
const PREFIX: &str = "blobs";
/// Bytes of a version: attributes of the largest size, and what stands around them.
const VERSION_BYTES_MAX: u64 = 256 << 10;
/// Blobs of one tenant.
const BLOBS_MAX: usize = 10_000;
/// Others may be first this often before a change is given up.
const CHANGES_MAX: usize = 8;
/// Versions of one blob that are still there: those of the last quarter of an hour.
const VERSIONS_MAX: usize = 100;
/// Uploads for one blob that nobody has finished.
const UPLOADS_MAX: usize = 8;
/// Versions read at once.
const READS_MAX: usize = 16;
/// Bytes of versions that are remembered: whoever searches reads all of a tenant's.
const REMEMBERED_BYTES_MAX: u64 = 16 << 20;

/// Why a blob is not kept or not found.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// A name that is none.
    #[error("this is no name of a blob: {problem}")]
    Name {
        /// What is wrong with it.
        problem: String,
    },
    /// The name is taken.
    #[error("there is a blob `{id}` already; delete it, or save under another name")]
    Taken {
        /// The id.
        id: BlobId,
    },
    /// There is none of the name.
    #[error("there is no blob `{id}`")]
    Unknown {
        /// What was asked for.
        id: String,
    },
    /// Nothing was uploaded.
    #[error("nothing was uploaded for the blob `{id}`; ask for a place again, and put its content there")]
    NoContent {
        /// The id.
        id: BlobId,
    },
    /// An upload that was done with other content.
    #[error("something else was uploaded there before; ask for a new place")]
    Uploaded,
    /// Content that is no saved computation.
    #[error("the content is not a JSON object ({reason}); only saved computations are kept here")]
    Content {
        /// What the parser said.
        reason: String,
    },
    /// Content that is not what it was said to be.
    #[error("the content's {what} is `{found}`, and not `{said}`")]
    Differs {
        /// Size or hash.
        what: &'static str,
        /// What it is.
        found: String,
        /// What was said.
        said: String,
    },
    /// A value of another kind.
    #[error("the attribute `{name}` is not {wanted}")]
    Attribute {
        /// Its name.
        name: String,
        /// What it would have to be.
        wanted: &'static str,
    },
    /// An attribute that would be lost.
    #[error(
        "the attribute `{name}` of a blob is not kept here; leave it out, or keep it in `extra_properties`"
    )]
    NotKept {
        /// Its name.
        name: String,
    },
    /// Too much of something.
    #[error("the {what} of a blob have at most {limit} bytes")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// Too many blobs.
    #[error(
        "there are {limit} blobs, the limit for a tenant; delete some, and come back a quarter of an hour later"
    )]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// Too many changes or uploads of one blob.
    #[error("too many {what} of one blob within {}; come back later", human(*within))]
    TooOften {
        /// Of what.
        what: &'static str,
        /// How long they count.
        within: Duration,
    },
    /// Others are always first.
    #[error("the blob `{id}` is being changed by many at once; try again")]
    Busy {
        /// The id.
        id: BlobId,
    },
    /// What is in the store is not what was kept.
    #[error(
        "the blob's object `{name}` is damaged in the store: {reason}; delete the blob and save it again"
    )]
    Damaged {
        /// The object.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] ObjectError),
}

impl Classify for BlobError {
    fn class(&self) -> ErrorClass {
        match self {
            BlobError::Name { .. }
            | BlobError::Taken { .. }
            | BlobError::NoContent { .. }
            | BlobError::Uploaded
            | BlobError::Content { .. }
            | BlobError::Differs { .. }
            | BlobError::Attribute { .. } => ErrorClass::InvalidRequest,
            BlobError::NotKept { .. } => ErrorClass::Unsupported,
            BlobError::Unknown { .. } => ErrorClass::NotFound,
            BlobError::TooLarge { .. } | BlobError::TooMany { .. } | BlobError::TooOften { .. } => {
                ErrorClass::LimitExceeded
            }
            BlobError::Busy { .. } => ErrorClass::Unavailable,
            BlobError::Damaged { .. } => ErrorClass::Source,
            BlobError::Store(error) => error.class(),
        }
    }
}

/// A blob as its newest version has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Blob {
    /// Its id.
    pub id: BlobId,
    /// What its user says about it.
    pub attributes: Attributes,
    /// Bytes of its content.
    pub bytes: u64,
    /// MD5 of its content in hexadecimal digits, as the client compares it: no secret and no protection.
    pub md5: String,
    /// The upload that its content came with.
    #[serde(with = "hexadecimal")]
    upload: u128,
    /// When it was made, in microseconds since 1970.
    created: i64,
    /// When it was changed, likewise.
    modified: i64,
}

impl Blob {
    /// When it was made.
    pub fn created(&self) -> Timestamp {
        Timestamp(self.created)
    }

    /// When it was changed, or made.
    pub fn modified(&self) -> Timestamp {
        Timestamp(self.modified)
    }
}

/// Upload ids as text: JSON's numbers are too short for them.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(upload: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{upload:032x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

/// What a client says about content before and after it uploads.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// Its size in bytes.
    pub bytes: Option<u64>,
    /// Its MD5.
    pub md5: Option<String>,
}

/// The blobs of a store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blobs {
    objects: Objects,
    content_bytes_max: usize,
    /// Versions by their objects' names: they never change.
    remembered: Cache<String, Arc<Blob>>,
}

/// The state of one blob, as a listing has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Newest {
    number: u32,
    is_deleted: bool,
}

impl Blobs {
    /// The blobs of a store, with content of at most `content_bytes_max` each.
    pub fn new(objects: Objects, content_bytes_max: usize) -> Blobs {
        // Attributes of a blob are what takes space; its JSON is about as long.
        let weight = |name: &String, blob: &Arc<Blob>| {
            let bytes = serde_json::to_vec(&blob.attributes).map_or(0, |text| text.len());
            u32::try_from(name.len() + bytes + 256).unwrap_or(u32::MAX)
        };
        let remembered = Cache::builder().max_capacity(REMEMBERED_BYTES_MAX).weigher(weight).build();
        Blobs { objects, content_bytes_max, remembered }
    }

    /// A blob.
    ///
    /// # Errors
    /// [`BlobError::Unknown`], also for a blob of another tenant; [`BlobError::Damaged`],
    /// [`BlobError::Store`].
    pub async fn get(&self, tenant: &str, id: &BlobId) -> Result<Arc<Blob>, BlobError> {
        let folder = folder(tenant, id);
        match newest(&self.objects.list(&folder).await?) {
            Some(Newest { number, is_deleted: false }) => self.version(&folder, number).await,
            _ => Err(BlobError::Unknown { id: id.to_string() }),
        }
    }

    /// All blobs of a tenant, by id.
    ///
    /// # Errors
    /// [`BlobError::Damaged`], [`BlobError::Store`].
    pub async fn list(&self, tenant: &str) -> Result<Vec<Arc<Blob>>, BlobError> {
        let listed = self.objects.list(&tenant_folder(tenant)).await?;
        let mut places = Vec::new();
        for (folder, objects) in by_folder(listed) {
            if let Some(Newest { number, is_deleted: false }) = newest(&objects) {
                places.push((folder, number));
            }
        }
        let mut blobs = Vec::with_capacity(places.len());
        for part in places.chunks(READS_MAX) {
            let mut reads = JoinSet::new();
            for (folder, number) in part.iter().cloned() {
                let this = self.clone();
                reads.spawn(async move { this.version(&folder, number).await });
            }
            for read in reads.join_all().await {
                match read {
                    Ok(blob) => blobs.push(blob),
                    // It was changed and swept away since.
                    Err(BlobError::Unknown { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        blobs.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Ok(blobs)
    }

    /// A place for the content of a new blob. `now` decides what lies about for too long.
    ///
    /// # Errors
    /// [`BlobError::Taken`], [`BlobError::TooMany`], [`BlobError::Store`].
    pub async fn begin(&self, tenant: &str, id: &BlobId, now: SystemTime) -> Result<Place, BlobError> {
        let mut folders = by_folder(self.objects.list(&tenant_folder(tenant)).await?);
        for (folder, objects) in &folders {
            self.sweep(folder, objects, now).await;
        }
        if let Some(objects) = folders.remove(&folder(tenant, id))
            && newest(&objects).is_some_and(|newest| !newest.is_deleted)
        {
            return Err(BlobError::Taken { id: id.clone() });
        }
        if folders.len() >= BLOBS_MAX {
            return Err(BlobError::TooMany { limit: BLOBS_MAX });
        }
        let upload = u128::from_str_radix(&random_name(), 16).unwrap_or_default();
        Ok(Place { tenant: digest(tenant), blob: id.digest(), upload })
    }

    /// Puts content into its place. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`BlobError::Content`], [`BlobError::TooLarge`], [`BlobError::Uploaded`], [`BlobError::Store`].
    pub async fn put_content(&self, place: &Place, content: Bytes) -> Result<(), BlobError> {
        if content.len() > self.content_bytes_max {
            return Err(BlobError::TooLarge { what: "contents", limit: self.content_bytes_max });
        }
        check_json(&content)?;
        let folder = format!("{PREFIX}/{}/{}", place.tenant, place.blob);
        let listed = self.objects.list(&folder).await?;
        let others = listed.iter().filter_map(upload_of).filter(|upload| *upload != place.upload);
        if others.count() >= UPLOADS_MAX {
            return Err(BlobError::TooOften { what: "uploads", within: sweep::ABANDONED_AGE_MIN });
        }
        match self.objects.put_new(&content_name(place), content).await? {
            Made::Created | Made::Same => Ok(()),
            Made::Taken => Err(BlobError::Uploaded),
        }
    }

    /// Makes a blob of what was uploaded. Doing it again with the same upload changes nothing.
    ///
    /// # Errors
    /// [`BlobError::Taken`], [`BlobError::NoContent`], [`BlobError::Differs`], [`BlobError::Store`].
    pub async fn finish(
        &self,
        tenant: &str,
        id: &BlobId,
        place: &Place,
        attributes: Attributes,
        claims: &Claims,
        now: SystemTime,
    ) -> Result<Arc<Blob>, BlobError> {
        let is_meant = place.tenant == digest(tenant) && place.blob == id.digest();
        let content = match self.objects.get(&content_name(place), self.content_bytes_max as u64).await {
            Ok(content) if is_meant => content,
            Ok(_) | Err(ObjectError::Missing { .. }) => {
                return Err(BlobError::NoContent { id: id.clone() });
            }
            Err(error) => return Err(error.into()),
        };
        // Uploads that began when there was room may be many.
        if by_folder(self.objects.list(&tenant_folder(tenant)).await?).len() > BLOBS_MAX {
            return Err(BlobError::TooMany { limit: BLOBS_MAX });
        }
        let (bytes, md5) = (content.len() as u64, hex(&Md5::digest(&content)));
        claims.check(bytes, &md5)?;
        let at = micros(now);
        let made =
            Blob { id: id.clone(), attributes, bytes, md5, upload: place.upload, created: at, modified: at };
        self.append((tenant, id), now, |current| match current {
            // The client asks again when an answer is lost.
            Some(blob) if blob.upload == place.upload => Ok(Next::Stays),
            Some(_) => Err(BlobError::Taken { id: id.clone() }),
            None => Ok(Next::Is(Box::new(made.clone()))),
        })
        .await
        .map(|(_, blob)| blob.unwrap_or_else(|| Arc::new(made)))
    }

    /// Changes what is said about a blob.
    ///
    /// # Errors
    /// [`BlobError::Unknown`], those of [`Attributes::apply`], [`BlobError::Busy`], [`BlobError::Store`].
    pub async fn change(
        &self,
        tenant: &str,
        id: &BlobId,
        said: &serde_json::Map<String, serde_json::Value>,
        now: SystemTime,
    ) -> Result<Arc<Blob>, BlobError> {
        let unknown = || BlobError::Unknown { id: id.to_string() };
        let changed = self.append((tenant, id), now, |current| {
            let blob = current.ok_or_else(unknown)?;
            let attributes = blob.attributes.clone().apply(said)?;
            let changed = Blob { attributes, modified: micros(now), ..blob.clone() };
            Ok(Next::Is(Box::new(changed)))
        });
        changed.await?.1.ok_or_else(unknown)
    }

    /// Deletes a blob; the answer says whether there was one.
    ///
    /// # Errors
    /// [`BlobError::Busy`], [`BlobError::Store`].
    pub async fn delete(&self, tenant: &str, id: &BlobId, now: SystemTime) -> Result<bool, BlobError> {
        let deleted = self.append((tenant, id), now, |current| {
            Ok(if current.is_some() { Next::IsNothing } else { Next::Stays })
        });
        let Some(was) = deleted.await?.0 else { return Ok(false) };
        // Nobody reaches it any more; should this fail, it is swept away later.
        let place = Place { tenant: digest(tenant), blob: id.digest(), upload: was.upload };
        let _ = self.objects.remove(&content_name(&place)).await;
        Ok(true)
    }

    /// Where a blob's content is.
    pub fn place(&self, tenant: &str, blob: &Blob) -> Place {
        Place { tenant: digest(tenant), blob: blob.id.digest(), upload: blob.upload }
    }

    /// The content at a place, and its MD5.
    ///
    /// # Errors
    /// [`BlobError::Unknown`], [`BlobError::Store`].
    pub async fn content(&self, place: &Place) -> Result<(Bytes, String), BlobError> {
        match self.objects.get(&content_name(place), self.content_bytes_max as u64).await {
            Ok(content) => {
                let md5 = hex(&Md5::digest(&content));
                Ok((content, md5))
            }
            Err(ObjectError::Missing { .. }) => Err(BlobError::Unknown { id: "of this URL".to_owned() }),
            Err(error) => Err(error.into()),
        }
    }

    /// Adds what `decide` makes of the newest version; asks again when somebody was first. The answer is
    /// what there was, and what there is.
    async fn append(
        &self,
        (tenant, id): (&str, &BlobId),
        now: SystemTime,
        decide: impl Fn(Option<&Blob>) -> Result<Next, BlobError>,
    ) -> Result<(Option<Arc<Blob>>, Option<Arc<Blob>>), BlobError> {
        let folder = folder(tenant, id);
        for _ in 0..CHANGES_MAX {
            let listed = self.objects.list(&folder).await?;
            let newest = newest(&listed);
            let current = match newest {
                Some(Newest { number, is_deleted: false }) => Some(self.version(&folder, number).await?),
                _ => None,
            };
            let next: Option<Arc<Blob>> = match decide(current.as_deref())? {
                Next::Stays => return Ok((current.clone(), current)),
                Next::IsNothing => None,
                Next::Is(blob) => Some(Arc::<Blob>::from(blob)),
            };
            if listed.iter().filter_map(version_of).count() >= VERSIONS_MAX {
                self.sweep(&folder, &listed, now).await;
                return Err(BlobError::TooOften { what: "changes", within: sweep::REPLACED_AGE_MIN });
            }
            let document = match &next {
                Some(blob) => serde_json::to_vec(blob.as_ref()).map_err(|error| BlobError::Damaged {
                    name: folder.clone(),
                    reason: error.to_string(),
                })?,
                None => Vec::new(),
            };
            let name = version_name(&folder, newest.map_or(0, |newest| newest.number) + 1);
            match self.objects.put_new(&name, document.into()).await? {
                Made::Created | Made::Same => {
                    if let Some(blob) = &next {
                        self.remembered.insert(name, blob.clone());
                    }
                    return Ok((current, next));
                }
                Made::Taken => {}
            }
        }
        Err(BlobError::Busy { id: id.clone() })
    }

    async fn version(&self, folder: &str, number: u32) -> Result<Arc<Blob>, BlobError> {
        let name = version_name(folder, number);
        if let Some(blob) = self.remembered.get(&name) {
            return Ok(blob);
        }
        let document = match self.objects.get(&name, VERSION_BYTES_MAX).await {
            Ok(document) => document,
            Err(ObjectError::Missing { .. }) => return Err(BlobError::Unknown { id: name }),
            Err(error) => return Err(error.into()),
        };
        let blob: Blob = serde_json::from_slice(&document)
            .map_err(|error| BlobError::Damaged { name: name.clone(), reason: error.to_string() })?;
        let blob = Arc::new(blob);
        self.remembered.insert(name, blob.clone());
        Ok(blob)
    }
}

/// What becomes of a blob.
enum Next {
    Is(Box<Blob>),
    IsNothing,
    Stays,
}

impl Claims {
    fn check(&self, bytes: u64, md5: &str) -> Result<(), BlobError> {
        if let Some(said) = self.bytes.filter(|said| *said != bytes) {
            let (found, said) = (bytes.to_string(), said.to_string());
            return Err(BlobError::Differs { what: "size in bytes", found, said });
        }
        if let Some(said) = self.md5.as_ref().filter(|said| !said.eq_ignore_ascii_case(md5)) {
            return Err(BlobError::Differs { what: "hash", found: md5.to_owned(), said: said.clone() });
        }
        Ok(())
    }
}

/// Content is a JSON object, whose members the client knows.
fn check_json(content: &[u8]) -> Result<(), BlobError> {
    let parsed: Result<BTreeMap<String, serde::de::IgnoredAny>, _> = serde_json::from_slice(content);
    parsed.map(drop).map_err(|error| BlobError::Content { reason: error.to_string() })
}

/// A tenant's name may be any text; its digest is a name in every store.
fn digest(tenant: &str) -> ContentHash {
    Hasher::new("tenant").str(tenant).finish()
}

fn tenant_folder(tenant: &str) -> String {
    format!("{PREFIX}/{}", digest(tenant))
}

fn folder(tenant: &str, id: &BlobId) -> String {
    format!("{}/{}", tenant_folder(tenant), id.digest())
}

fn version_name(folder: &str, number: u32) -> String {
    format!("{folder}/{number:010}.json")
}

fn content_name(place: &Place) -> String {
    let Place { tenant, blob, upload } = place;
    format!("{PREFIX}/{tenant}/{blob}/{upload:032x}.content")
}

/// The number of the version that an object is.
fn version_of(object: &Listed) -> Option<u32> {
    let digits = object.name.rsplit('/').next()?.strip_suffix(".json")?;
    (digits.len() == 10).then(|| digits.parse().ok()).flatten()
}

/// The upload whose content an object is.
fn upload_of(object: &Listed) -> Option<u128> {
    let digits = object.name.rsplit('/').next()?.strip_suffix(".content")?;
    u128::from_str_radix(digits, 16).ok()
}

/// The version that counts.
fn newest(objects: &[Listed]) -> Option<Newest> {
    let versions = objects.iter().filter_map(|object| Some((version_of(object)?, object.bytes == 0)));
    versions.max().map(|(number, is_deleted)| Newest { number, is_deleted })
}

/// Objects by the folder they are in.
fn by_folder(objects: Vec<Listed>) -> BTreeMap<String, Vec<Listed>> {
    let mut folders: BTreeMap<String, Vec<Listed>> = BTreeMap::new();
    for object in objects {
        if let Some((folder, _)) = object.name.rsplit_once('/') {
            folders.entry(folder.to_owned()).or_default().push(object);
        }
    }
    folders
}

fn human(within: Duration) -> String {
    format!("{} minutes", within.as_secs() / 60)
}

fn micros(now: SystemTime) -> i64 {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
