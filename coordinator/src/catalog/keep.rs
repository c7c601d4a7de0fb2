//! Index and segments kept in agreement: what is registered, by whomever, gets into the index of this
//! machine, and what is registered here into the store.
//!
//! The store decides. A registration is made on top of what the index has, and counts when its segment
//! gets the next number; where another coordinator was first, it is made again on top of that one's.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use graticule_common::failpoint;
use graticule_common::scene::{LonLatBox, SceneQuery};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::add::{Added, Finished, PAGE, Registration};
use super::index::{self, Index};
use super::journal::Journal;
use super::local::known;
use super::lock::Lock;
use super::replay::replay;
use super::search;
use super::store::{Place, SegmentId, Segments, is_replaced};
use super::walk::display;
use super::{CatalogError, Listed};
use crate::objects::Objects;

/// Connections kept for the next search.
const IDLE_MAX: usize = 8;
/// Segments are written anew when they are larger than twice what counts in them and this, in bytes …
const GARBAGE_BYTES_MAX: u64 = 64 << 20;
/// … or when there are more of them than this: each is a file to open.
const SEGMENTS_MAX: usize = 256;
/// Who looks starts over when an index or a segment is replaced under it, this many times.
const REPLACED_MAX: u32 = 3;
/// How often a registration is made again because others were first.
const ATTEMPTS_MAX: u32 = 20;
/// Longest wait before that: coordinators that met should not meet again.
const PAUSE_MAX: Duration = Duration::from_millis(300);

/// A catalog's segments, the folder of its index, and idle connections to it.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
    pub(super) segments: Segments,
    idle: Mutex<Vec<(PathBuf, Connection)>>,
}

impl Store {
    /// Opens the segments of a store. Who has the index beside them, in `own_dir` of the store's folder,
    /// has them alone: others share the index, too.
    pub(super) fn open(objects: Objects, dir: PathBuf, own_dir: &str) -> Result<Store, CatalogError> {
        fs::create_dir_all(&dir).map_err(|source| CatalogError::DataDir { path: display(&dir), source })?;
        let dir =
            dir.canonicalize().map_err(|source| CatalogError::DataDir { path: display(&dir), source })?;
        let is_shared = objects.as_folder().is_none_or(|folder| folder.join(own_dir) != dir);
        let segments = Segments::open(objects, dir.join("copies"), is_shared)?;
        Ok(Store { dir, segments, idle: Mutex::default() })
    }

    pub(super) fn some(
        &self,
        query: &SceneQuery,
        area: &LonLatBox,
        scenes_max: usize,
    ) -> Result<(Vec<Listed>, bool), CatalogError> {
        self.with(|index| {
            let row = known(index, &query.product)?;
            search::search(index, row.key, query, area, scenes_max)
        })
    }

    pub(super) fn lock_path(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// The index in use: the one with the highest number. A new one is made beside it, never in its place.
    fn index_path(&self) -> Result<Option<(u64, PathBuf)>, CatalogError> {
        let failed = |source| CatalogError::DataDir { path: display(&self.dir), source };
        let mut last = None;
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let number = entry.file_name().to_str().and_then(index_number);
            last = last.max(number.map(|number| (number, entry.path())));
        }
        Ok(last)
    }

    /// Makes index and segments agree, unless somebody else is at it.
    pub(super) fn settle(&self) -> Result<(), CatalogError> {
        // Without an index nothing can be answered; with one, whoever changes it now will finish.
        let lock = match self.is_settled()? {
            Some(true) => return Ok(()),
            None => Lock::take(&self.lock_path(), &|_| ())?,
            Some(false) => match Lock::try_take(&self.lock_path())? {
                Some(lock) => lock,
                None => return Ok(()),
            },
        };
        self.agree(&lock)
    }

    /// Removes what is not needed any more, unless somebody changes the catalog.
    pub(super) fn tidy(&self) -> Result<(), CatalogError> {
        match Lock::try_take(&self.lock_path())? {
            Some(lock) => {
                let used = self.with(|index| index.segments())?;
                self.segments.tidy(&used, &lock)
            }
            None => Ok(()),
        }
    }

    /// Whether the index has just the segments that there are; `None` without a usable index.
    fn is_settled(&self) -> Result<Option<bool>, CatalogError> {
        let Some((path, connection)) = self.connect()? else { return Ok(None) };
        let index = Index { connection: &connection, path: &path };
        Ok(Some(index.segments()? == self.segments.list()?))
    }

    /// Makes index and segments agree.
    fn agree(&self, lock: &Lock) -> Result<(), CatalogError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.agree_once(lock) {
                // A base replaced a segment between the listing and the look at it.
                Err(error) if is_replaced(&error) && attempt < REPLACED_MAX => {}
                done => return done,
            }
        }
    }

    fn agree_once(&self, lock: &Lock) -> Result<(), CatalogError> {
        let Some((path, mut connection)) = self.connect()? else { return self.rebuild(lock) };
        let there = self.segments.list()?;
        let transaction = begin(&mut connection, &path)?;
        let index = Index { connection: &transaction, path: &path };
        let indexed = index.segments()?;
        let is_new_base =
            there.first().is_some_and(|(first, _)| first.is_base) && there.first() != indexed.first();
        let rest = match there.strip_prefix(indexed.as_slice()) {
            Some([]) => return Ok(()),
            Some(rest) => rest,
            None if is_new_base => there.as_slice(),
            // What was indexed is not there any more: the store is another, or was put back.
            None => {
                drop(transaction);
                return self.rebuild(lock);
            }
        };
        for (segment, bytes) in rest {
            replay(index, &self.segments, *segment, *bytes)?;
        }
        transaction.commit().map_err(|e| index::failed(&path, e))
    }

    /// Makes a new index from the segments.
    pub(super) fn rebuild(&self, lock: &Lock) -> Result<(), CatalogError> {
        let segments = self.segments.list()?;
        self.segments.tidy(&segments, lock)?;
        let before = self.index_path()?;
        let number = before.as_ref().map_or(0, |(number, _)| number + 1);
        let path = self.dir.join(format!("index-{number:06}.sqlite"));
        let draft = path.with_extension("draft");
        remove_index(&draft);
        let failed = |e| index::failed(&draft, e);
        let mut connection = index::create(&draft).map_err(failed)?;
        let transaction = connection.transaction().map_err(failed)?;
        for (segment, bytes) in segments {
            let index = Index { connection: &transaction, path: &draft };
            replay(index, &self.segments, segment, bytes)?;
        }
        transaction.commit().map_err(failed)?;
        // Closing writes what is in the log into the file, and removes the log.
        connection.close().map_err(|(_, e)| failed(e))?;
        fs::rename(&draft, &path).map_err(|source| CatalogError::Write { path: display(&path), source })?;
        if let Some((_, before)) = before {
            remove_index(&before);
        }
        Ok(())
    }

    fn connect(&self) -> Result<Option<(PathBuf, Connection)>, CatalogError> {
        for _ in 0..REPLACED_MAX {
            let Some((_, path)) = self.index_path()? else { return Ok(None) };
            match index::open(&path) {
                Ok(None) if !path.exists() => {}
                Ok(connection) => return Ok(connection.map(|connection| (path, connection))),
                Err(e) => return Err(index::failed(&path, e)),
            }
        }
        Ok(None)
    }

    /// Lends an index, at one moment; its connection serves again unless the task failed.
    pub(super) fn with<T>(
        &self,
        task: impl Fn(Index<'_>) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let (path, mut connection) = self.lend()?;
            let failed = |e| index::failed(&path, e);
            let transaction = connection.transaction().map_err(failed)?;
            let result = task(Index { connection: &transaction, path: &path });
            drop(transaction);
            match result {
                Ok(result) => {
                    let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                    if idle.len() < IDLE_MAX {
                        idle.push((path, connection));
                    }
                    return Ok(result);
                }
                // Compaction moved a record between the look at the index and the look at the segment.
                Err(error) if is_replaced(&error) && attempt < REPLACED_MAX => self.settle()?,
                Err(error) => return Err(error),
            }
        }
    }

    fn lend(&self) -> Result<(PathBuf, Connection), CatalogError> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                // Another process may have made the index again.
                Some((path, _)) if !path.exists() => {}
                Some(lent) => return Ok(lent),
                None => break,
            }
        }
        if let Some(lent) = self.connect()? {
            return Ok(lent);
        }
        self.settle()?;
        self.connect()?.ok_or_else(|| CatalogError::Record {
            item: display(&self.dir),
            problem: "its index is gone".to_owned(),
        })
    }

    /// Changes the catalog: all that `task` does, or nothing.
    pub(super) fn change(
        &self,
        waiting: &dyn Fn(&str),
        task: impl FnOnce(&mut Registration<'_>) -> Result<(), CatalogError>,
    ) -> Result<Added, CatalogError> {
        let lock = Lock::take(&self.lock_path(), waiting)?;
        self.tidy_drafts();
        match self.segments.is_shared() {
            true => self.segments.tidy_drafts(&lock)?,
            false => self.segments.tidy(&[], &lock)?,
        }
        self.agree(&lock)?;
        // Only where others may come first is there something to be done again.
        let mut journal = self.segments.is_shared().then(|| Journal::create(&self.dir)).transpose()?;
        let (mut task, mut warnings) = (Some(task), None);
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                self.segments.objects().pause(PAUSE_MAX);
                self.agree(&lock)?;
            }
            let (path, mut connection) = self.lend()?;
            let transaction = begin(&mut connection, &path)?;
            let index = Index { connection: &transaction, path: &path };
            let number = index.segments()?.last().map_or(1, |(last, _)| last.number + 1);
            let draft = self.segments.draft(SegmentId { number, is_base: false }, &lock)?;
            let done = match (task.take(), &mut journal) {
                (Some(task), journal) => {
                    let mut registration =
                        Registration::new(&transaction, &path, &self.segments, draft, journal.as_mut());
                    task(&mut registration)?;
                    registration.finish()?
                }
                (None, Some(journal)) => {
                    let mut registration =
                        Registration::new(&transaction, &path, &self.segments, draft, None);
                    registration.repeat(journal)?;
                    registration.finish()?
                }
                (None, None) => break,
            };
            // What documents were warned of, they are once.
            let (said, more) = warnings
                .get_or_insert_with(|| (done.added.warnings.clone(), done.added.more_warnings))
                .clone();
            let added = Added { warnings: said, more_warnings: more, ..done.added.clone() };
            if done.draft.bytes() == 0 {
                drop(transaction);
                self.compact(&lock);
                return Ok(added);
            }
            if self.put(done, transaction, &path)? {
                drop(connection);
                if self.segments.is_shared() {
                    // A look for what was just registered must find it.
                    self.agree(&lock)?;
                }
                self.compact(&lock);
                return Ok(added);
            }
        }
        Err(CatalogError::Contended { attempts: ATTEMPTS_MAX })
    }

    /// Removes what registrations of processes that are gone left beside the index.
    fn tidy_drafts(&self) {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == "draft") {
                // What stays costs space only.
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Puts a registration's segment into its place, then makes the index's change seen; `false` where
    /// another registration was first. Should the process end between the two, the next one to look
    /// finds the segment.
    fn put(&self, done: Finished, transaction: Transaction<'_>, path: &Path) -> Result<bool, CatalogError> {
        let index = Index { connection: &transaction, path };
        let (id, bytes) = (done.draft.id(), done.draft.bytes());
        let is_shared = self.segments.is_shared();
        if is_shared && self.segments.list()? != index.segments()? {
            return Ok(false);
        }
        index.add_segment(id, bytes)?;
        failpoint!(blocking "catalog.before_put", return Err(CatalogError::Contended { attempts: 1 }));
        if !self.segments.commit(done.draft)? {
            return Ok(false);
        }
        failpoint!(blocking "catalog.after_put", return Err(CatalogError::Contended { attempts: 1 }));
        // A number that was free because a base had replaced its segment, long ago: this one does not
        // count, or the base has it already. Only who stood still between the look above and now gets here.
        if is_shared && self.segments.list()?.iter().any(|(base, _)| base.is_base && base.number >= id.number)
        {
            return Ok(false);
        }
        // Then all indexes are to be made in the same order; this one was not.
        if is_shared && !done.is_ordered {
            return Ok(true);
        }
        match transaction.commit() {
            Ok(()) => Ok(true),
            Err(error) if is_shared => {
                let error = index::failed(path, error);
                tracing::warn!(%error, "a registration is in the store, and not in the index yet");
                Ok(true)
            }
            Err(error) => {
                self.segments.remove(id);
                Err(index::failed(path, error))
            }
        }
    }

    /// Writes what counts into one segment where most of what there is does not count any more. The
    /// registration before it is done; what fails here is done after the next.
    fn compact(&self, lock: &Lock) {
        if let Err(error) = self.compact_now(lock) {
            tracing::warn!(%error, "the catalog is not written anew");
        }
    }

    fn compact_now(&self, lock: &Lock) -> Result<(), CatalogError> {
        let (path, mut connection) = self.lend()?;
        // A read of one moment.
        let transaction = connection.transaction().map_err(|e| index::failed(&path, e))?;
        let index = Index { connection: &transaction, path: &path };
        let there = index.segments()?;
        let bytes: u64 = there.iter().map(|(_, bytes)| bytes).sum();
        let is_garbage = bytes > 2 * index.live_bytes()? + GARBAGE_BYTES_MAX;
        let [_, .., (last, _)] = there.as_slice() else { return Ok(()) };
        if !is_garbage && there.len() <= SEGMENTS_MAX {
            return Ok(());
        }
        // All segments up to this number are there, and in the index: it says what they say.
        let mut draft = self.segments.draft(SegmentId { number: last.number, is_base: true }, lock)?;
        for id in index.product_ids()? {
            let Some(row) = index.product(&id)? else { continue };
            if let Some(place) = row.place {
                draft.append(&self.segments.read(place)?)?;
            }
            let mut after = 0;
            loop {
                let page: Vec<(i64, Place)> = index.places(row.key, after, PAGE)?;
                let Some((last, _)) = page.last() else { break };
                after = *last;
                for (_, place) in page {
                    draft.append(&self.segments.read(place)?)?;
                }
            }
        }
        drop(transaction);
        drop(connection);
        // Whoever is second finds the same there.
        self.segments.commit(draft)?;
        self.agree(lock)?;
        let used = self.with(|index| index.segments())?;
        self.segments.tidy(&used, lock)
    }
}

fn begin<'a>(connection: &'a mut Connection, path: &Path) -> Result<Transaction<'a>, CatalogError> {
    let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    begun.map_err(|e| index::failed(path, e))
}

fn index_number(name: &str) -> Option<u64> {
    name.strip_prefix("index-")?.strip_suffix(".sqlite")?.parse().ok()
}

/// Removes an index with its log. What stays is never looked at again.
fn remove_index(path: &Path) {
    let name = path.as_os_str().to_owned();
    for end in ["", "-wal", "-shm", "-journal"] {
        let mut name = name.clone();
        name.push(end);
        let _ = fs::remove_file(name);
    }
}
