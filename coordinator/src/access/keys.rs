//! API keys: made here, shown once, and kept only as keyed hashes.
//!
//! A key is `gk_<id>_<secret>`: an id of 64 random bits that names its line in the key file, and 256
//! random bits. The file holds one JSON object a line with the hash of the whole key under the
//! deployment's secret: who reads the file learns no key, and who can write it cannot make one that
//! counts without that secret.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use graticule_common::scene::Timestamp;
use serde::{Deserialize, Serialize};

use super::identity::{Identity, Scope, Scopes, is_tenant};

/// What a key begins with.
const PREFIX: &str = "gk_";
/// Random bytes of an id.
const ID_BYTES: usize = 8;
/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;
/// Keys of one deployment.
const KEYS_MAX: usize = 100_000;
/// Bytes of a key file.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Bytes of a key's name.
const NAME_BYTES_MAX: usize = 200;

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file.
    #[error("cannot {what} `{}`: {reason}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A line that is no key.
    #[error("`{}`, line {line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A key that is asked for and cannot be.
    #[error("{0}")]
    Wrong(String),
}

/// The deployment's secret, under which keys are hashed.
#[derive(Clone)]
pub struct Pepper([u8; 32]);

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper")
    }
}

impl Pepper {
    /// From its text: 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Pepper> {
        blake3::Hash::from_hex(text.trim()).ok().map(|bytes| Pepper(*bytes.as_bytes()))
    }

    /// From a file; without one, a new one is made there that only its owner can read.
    ///
    /// # Errors
    /// The file cannot be read or made, or holds something else.
    pub fn open(path: &Path) -> Result<Pepper, KeyError> {
        let failed = |what| move |reason| KeyError::File { what, path: path.to_owned(), reason };
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let secret = hex(&random::<32>().map_err(failed("make"))?);
                // Two that start at once agree on the one that was there first.
                match place(path, format!("{secret}\n").as_bytes(), Place::New) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        std::fs::read_to_string(path).map_err(failed("read"))?
                    }
                    Err(error) => return Err(failed("make")(error)),
                    Ok(()) => secret,
                }
            }
            other => other.map_err(failed("read"))?,
        };
        let problem = "it holds no 64 hexadecimal digits".to_owned();
        Pepper::from_hex(&text).ok_or(KeyError::Line { path: path.to_owned(), line: 1, problem })
    }

    /// What is kept of a key.
    fn hash(&self, key: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.0, key)
    }
}

/// A line of a key file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// What the key is told by.
    pub id: String,
    /// What it is for, for people.
    #[serde(default)]
    pub name: String,
    /// On whose behalf it acts.
    pub tenant: String,
    /// Names of what it may do.
    pub scopes: Vec<String>,
    /// Keyed hash of the key, in hexadecimal digits.
    pub hash: String,
    /// When it was made.
    #[serde(default)]
    pub created: String,
    /// The instant from which it does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// When it was revoked: it does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<String>,
}

/// A key that may count.
#[derive(Debug)]
struct Known {
    hash: blake3::Hash,
    identity: Identity,
    /// Seconds since 1970 from which it does not count.
    expires: Option<u64>,
    is_revoked: bool,
}

/// All keys of a deployment.
#[derive(Debug, Default)]
pub struct Keys(HashMap<Box<str>, Known>);

/// Why a key does not count; for the log only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// It is none of this deployment's keys.
    #[error("no such key")]
    Unknown,
    /// It was one.
    #[error("the key has expired")]
    Expired,
    /// It was one.
    #[error("the key is revoked")]
    Revoked,
}

impl Keys {
    /// From the lines of a key file.
    fn from_records(records: &[KeyRecord]) -> Result<Keys, (usize, String)> {
        let mut keys = HashMap::new();
        for (at, record) in records.iter().enumerate() {
            let wrong = |problem: &str| (at, problem.to_owned());
            let hash = blake3::Hash::from_hex(&record.hash).map_err(|_| wrong("its hash is none"))?;
            if !is_tenant(&record.tenant) {
                return Err(wrong("its tenant is no name: 1 to 128 printable ASCII characters"));
            }
            let scopes = record.scopes.iter().map(|name| {
                Scope::from_name(name).ok_or_else(|| (at, format!("there is no scope `{name}`")))
            });
            let scopes = Scopes::of(scopes.collect::<Result<Vec<_>, _>>()?);
            let expires = record.expires.as_deref().map(|text| {
                let instant = Timestamp::parse(text).ok_or_else(|| wrong("`expires` is no instant"));
                instant.map(|instant| u64::try_from(instant.0 / 1_000_000).unwrap_or(0))
            });
            let known = Known {
                hash,
                identity: Identity { tenant: record.tenant.as_str().into(), scopes },
                expires: expires.transpose()?,
                is_revoked: record.revoked.is_some(),
            };
            if keys.insert(record.id.as_str().into(), known).is_some() {
                return Err(wrong("its id is there twice"));
            }
        }
        Ok(Keys(keys))
    }

    /// Whom a key stands for at `now`, in seconds since 1970. The work is the same for every key that is
    /// none: one hash and one comparison whose time does not depend on where the two differ.
    ///
    /// # Errors
    /// [`KeyFault`], which is for the log and nobody else.
    pub fn identify(&self, pepper: &Pepper, key: &str, now: u64) -> Result<Identity, KeyFault> {
        let id = key.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).map_or("", |(id, _)| id);
        let known = self.0.get(id);
        let nobodys = blake3::Hash::from_bytes([0; 32]);
        // Equality of these hashes takes constant time.
        let is_same = pepper.hash(key.as_bytes()) == known.map_or(nobodys, |known| known.hash);
        match known {
            Some(known) if is_same => match known.expires {
                _ if known.is_revoked => Err(KeyFault::Revoked),
                Some(expires) if now >= expires => Err(KeyFault::Expired),
                _ => Ok(known.identity.clone()),
            },
            _ => Err(KeyFault::Unknown),
        }
    }

    /// Number of keys, those that do not count any more included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether a text is meant as an API key.
pub fn is_key(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// A key in the look of a JSON web token, the only one that the published client takes credentials in. The
/// key stands where a token has its signature. What stands before it is for the client alone, which
/// looks for an end and for names to save things under; the engine does not read it.
pub fn as_token(key: &str, record: &KeyRecord) -> String {
    let expires = record.expires.as_deref().and_then(Timestamp::parse);
    let header = serde_json::json!({"typ": "JWT", "alg": "API-KEY"});
    let claims = serde_json::json!({
        "sub": format!("graticule|{}", record.id),
        "exp": expires.map_or(NEVER, |instant| instant.0 / 1_000_000),
        "org": plain(&record.tenant),
        "userid": if record.name.is_empty() { "key".to_owned() } else { plain(&record.name) },
        "groups": ["dynamic-compute-user"],
    });
    let encoded = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{key}", encoded(header), encoded(claims))
}

/// 9999-12-31T23:59:59Z, in seconds since 1970.
const NEVER: i64 = 253_402_300_799;

/// A text of the characters that the client has in namespaces.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect()
}

/// The key in a text, where it is one in the look of a token; otherwise the text itself.
pub(super) fn bare(text: &str) -> &str {
    let mut parts = text.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        // Of one token's signature in a quarter of a million the first letters are those of a key.
        (Some(_), Some(_), Some(key), None) if has_form(key) => key,
        _ => text,
    }
}

/// Whether a text has the whole form of a key.
fn has_form(text: &str) -> bool {
    let is_hex = |text: &str, bytes: usize| {
        text.len() == 2 * bytes && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    };
    let parts = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_'));
    parts.is_some_and(|(id, secret)| is_hex(id, ID_BYTES) && is_hex(secret, SECRET_BYTES))
}

/// The file of a deployment's keys.
#[derive(Clone, Debug)]
pub struct KeyFile(pub PathBuf);

impl KeyFile {
    fn failed(&self, what: &'static str) -> impl FnOnce(io::Error) -> KeyError + '_ {
        move |reason| KeyError::File { what, path: self.0.clone(), reason }
    }

    /// Its lines.
    ///
    /// # Errors
    /// It cannot be read, or a line of it is no key.
    pub fn records(&self) -> Result<Vec<KeyRecord>, KeyError> {
        let length = std::fs::metadata(&self.0).map_err(self.failed("read"))?.len();
        if length > FILE_BYTES_MAX {
            return Err(KeyError::Wrong(format!(
                "`{}` has more than {FILE_BYTES_MAX} bytes",
                self.0.display()
            )));
        }
        let text = std::fs::read_to_string(&self.0).map_err(self.failed("read"))?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let records = lines
            .map(|(at, line)| serde_json::from_str(line).map_err(|error| self.line(at, error.to_string())));
        let records: Vec<KeyRecord> = records.collect::<Result<_, _>>()?;
        if records.len() > KEYS_MAX {
            return Err(KeyError::Wrong(format!("`{}` has more than {KEYS_MAX} keys", self.0.display())));
        }
        Ok(records)
    }

    fn line(&self, at: usize, problem: String) -> KeyError {
        KeyError::Line { path: self.0.clone(), line: at + 1, problem }
    }

    /// The keys it holds.
    ///
    /// # Errors
    /// It cannot be read, or a line of it is no key.
    pub fn load(&self) -> Result<Keys, KeyError> {
        Keys::from_records(&self.records()?).map_err(|(at, problem)| self.line(at, problem))
    }

    /// Makes a key and adds its line. The answer is the key, which is nowhere else.
    ///
    /// # Errors
    /// What is asked for makes no sense, or the file cannot be written.
    pub fn create(
        &self,
        pepper: &Pepper,
        wanted: NewKey,
        now: Timestamp,
    ) -> Result<(String, KeyRecord), KeyError> {
        let NewKey { name, tenant, scopes, expires } = wanted;
        if name.len() > NAME_BYTES_MAX {
            return Err(KeyError::Wrong(format!("a name has at most {NAME_BYTES_MAX} bytes")));
        }
        if expires.is_some_and(|expires| expires <= now) {
            return Err(KeyError::Wrong("a key that has expired is of no use; say a later instant".into()));
        }
        let _lock = self.lock()?;
        let mut records = match self.records() {
            Err(KeyError::File { reason, .. }) if reason.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let random = |reason| KeyError::File { what: "make a key for", path: self.0.clone(), reason };
        let id = hex(&self::random::<ID_BYTES>().map_err(random)?);
        let secret = hex(&self::random::<SECRET_BYTES>().map_err(random)?);
        let key = format!("{PREFIX}{id}_{secret}");
        let record = KeyRecord {
            id,
            name,
            tenant,
            scopes: scopes.iter().map(|scope| scope.name().to_owned()).collect(),
            hash: pepper.hash(key.as_bytes()).to_hex().to_string(),
            created: now.to_string(),
            expires: expires.map(|expires| expires.to_string()),
            revoked: None,
        };
        records.push(record.clone());
        Keys::from_records(&records).map_err(|(_, problem)| KeyError::Wrong(problem))?;
        self.write(&records)?;
        Ok((key, record))
    }

    /// Marks a key as revoked: it does not count as soon as coordinators have noticed. The answer says
    /// whether it counted until now.
    ///
    /// # Errors
    /// There is no such key, or the file cannot be written.
    pub fn revoke(&self, id: &str, now: Timestamp) -> Result<bool, KeyError> {
        let _lock = self.lock()?;
        let mut records = self.records()?;
        // Who pastes the whole key means its id.
        let id = id.strip_prefix(PREFIX).unwrap_or(id).split('_').next().unwrap_or_default();
        let record = records.iter_mut().find(|record| record.id == id).ok_or_else(|| {
            KeyError::Wrong(format!(
                "there is no key `{id}` in `{}`; see `graticule key list`",
                self.0.display()
            ))
        })?;
        if record.revoked.is_some() {
            return Ok(false);
        }
        record.revoked = Some(now.to_string());
        self.write(&records)?;
        Ok(true)
    }

    fn write(&self, records: &[KeyRecord]) -> Result<(), KeyError> {
        let mut text = Vec::new();
        for record in records {
            serde_json::to_writer(&mut text, record).map_err(|error| self.failed("write")(error.into()))?;
            text.push(b'\n');
        }
        place(&self.0, &text, Place::Over).map_err(self.failed("write"))
    }

    /// Keeps two commands that change the file from losing each other's change.
    fn lock(&self) -> Result<std::fs::File, KeyError> {
        let path = with_suffix(&self.0, ".lock");
        let failed = |reason| KeyError::File { what: "lock", path: path.clone(), reason };
        let file = private().create(true).truncate(false).open(&path).map_err(failed)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| failed(error.into()))?;
        Ok(file)
    }
}

/// What a new key is to be.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// What it is for.
    pub name: String,
    /// On whose behalf it acts.
    pub tenant: String,
    /// What it may do.
    pub scopes: Scopes,
    /// The instant from which it does not count.
    pub expires: Option<Timestamp>,
}

enum Place {
    New,
    Over,
}

/// Opens files that only their owner can read.
fn private() -> std::fs::OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Puts a file in place whole: readers see the old one or the new one.
fn place(path: &Path, bytes: &[u8], how: Place) -> io::Result<()> {
    let draft = with_suffix(path, &format!(".{}", hex(&random::<8>()?)));
    let placed = (|| {
        let mut file = private().create_new(true).open(&draft)?;
        file.write_all(bytes)?;
        if let (Place::Over, Ok(old)) = (&how, std::fs::metadata(path)) {
            use std::os::unix::fs::MetadataExt;
            // Whoever could read it can go on reading it: a coordinator, when another user revokes.
            std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
            file.set_permissions(old.permissions())?;
        }
        file.sync_all()?;
        match how {
            Place::Over => std::fs::rename(&draft, path),
            Place::New => std::fs::hard_link(&draft, path),
        }
    })();
    if !matches!((&placed, how), (Ok(()), Place::Over)) {
        // It is of no use to anybody; if it stays, it is only a file too many.
        let _ = std::fs::remove_file(&draft);
    }
    placed
}

/// Random bytes of the system.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
