//! The documents: append-only segments of newline-delimited JSON, one for each registration, as objects
//! of a store.
//!
//! A segment is made under its number if there is none of that number yet: it is there as a whole or not
//! at all, and of two registrations at once one comes first. Later segments win. A base of a number holds
//! everything up to there and replaces the segments with numbers up to its own.
//!
//! Segments never change, so they are read as files: the store's own where it is a folder of this
//! machine, copies elsewhere.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::CatalogError;
use super::lock::Lock;
use crate::objects::{Listed, Made, ObjectError, Objects, random_name};

/// Longest record: an item of the largest size, and what registration found out about its files.
pub(super) const RECORD_BYTES_MAX: u64 = 64 << 20;
/// Where segments are in the store.
const PREFIX: &str = "catalog/segments";
/// A listing is taken again when segments are missing in it, this many times: it is not of one moment.
const LISTINGS_MAX: u32 = 3;
/// In a shared store, segments stay this long after a base replaced them: for coordinators that have not
/// read them yet, and so that no late registration takes one of their numbers.
const REPLACED_AGE_MIN: Duration = Duration::from_secs(900);
/// In a shared folder, a draft this old was left by a process that is gone.
const DRAFT_AGE_MAX: Duration = Duration::from_secs(86_400);

/// A segment's place in the order, and whether it replaces those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentId {
    pub(super) number: i64,
    pub(super) is_base: bool,
}

impl SegmentId {
    fn name(self) -> String {
        let SegmentId { number, is_base } = self;
        format!("{number:010}{}.ndjson", if is_base { ".base" } else { "" })
    }

    fn object(self) -> String {
        format!("{PREFIX}/{}", self.name())
    }
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: SegmentId,
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// The segments of a store.
#[derive(Debug)]
pub(super) struct Segments {
    objects: Objects,
    /// Where they are read.
    dir: PathBuf,
    /// Whether `dir` holds copies.
    is_copy: bool,
    /// Whether others change the store who do not hold the lock.
    is_shared: bool,
    /// Bytes after which writing fails, as on a full disk.
    #[cfg(test)]
    pub(super) full_after: std::sync::atomic::AtomicU64,
    /// Whether somebody is always first.
    #[cfg(test)]
    pub(super) is_overtaken: std::sync::atomic::AtomicBool,
}

impl Segments {
    /// The segments of a store. `copies` is the folder for copies, should the store be no folder itself.
    pub(super) fn open(objects: Objects, copies: PathBuf, is_shared: bool) -> Result<Self, CatalogError> {
        let own = objects.as_folder().map(|folder| folder.join(PREFIX));
        let (dir, is_copy) = own.map_or((copies, true), |dir| (dir, false));
        fs::create_dir_all(&dir).map_err(|source| in_dir(&dir, source))?;
        Ok(Segments {
            objects,
            dir,
            is_copy,
            is_shared,
            #[cfg(test)]
            full_after: std::sync::atomic::AtomicU64::new(u64::MAX),
            #[cfg(test)]
            is_overtaken: std::sync::atomic::AtomicBool::new(false),
        })
    }

    /// The store they are in.
    pub(super) fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Whether others change the store who do not hold the lock.
    pub(super) fn is_shared(&self) -> bool {
        self.is_shared
    }

    fn path(&self, id: SegmentId) -> PathBuf {
        self.dir.join(id.name())
    }

    /// The segments that count, in order, with their sizes in bytes.
    pub(super) fn list(&self) -> Result<Vec<(SegmentId, u64)>, CatalogError> {
        let mut missing = 0;
        for _ in 0..LISTINGS_MAX {
            let found: Vec<_> = self.all()?.iter().map(|(id, object)| (*id, object.bytes)).collect();
            let found = counting(found);
            match gap(&found) {
                None => return Ok(found),
                Some(number) => missing = number,
            }
        }
        Err(CatalogError::Gap { store: self.objects.url().to_owned(), number: missing })
    }

    fn all(&self) -> Result<Vec<(SegmentId, Listed)>, CatalogError> {
        let objects = self
            .objects
            .wait(|objects| async move { objects.list(PREFIX).await })
            .map_err(CatalogError::of_store)?;
        let known = |object: Listed| {
            let id = object.name.strip_prefix(PREFIX)?.strip_prefix('/').and_then(segment_id)?;
            Some((id, object))
        };
        let mut found: Vec<_> = objects.into_iter().filter_map(known).collect();
        found.sort_unstable_by_key(|(id, _)| *id);
        Ok(found)
    }

    /// Removes drafts and replaced segments, and copies of segments that are not in use any more. Only
    /// for the holder of the lock. What stays costs space only.
    pub(super) fn tidy(&self, used: &[(SegmentId, u64)], _: &Lock) -> Result<(), CatalogError> {
        let all = self.all()?;
        let base = all.iter().rev().find(|(id, _)| id.is_base);
        let is_old = |object: &Listed| object.made.elapsed().is_ok_and(|age| age > REPLACED_AGE_MIN);
        if let Some((base, _)) = base.filter(|(_, object)| !self.is_shared || is_old(object)) {
            for (id, _) in all.iter().filter(|(id, _)| id.number <= base.number && id != base) {
                self.remove(*id);
            }
        }
        self.sweep(Some(used))?;
        if self.is_copy {
            self.objects
                .wait(|objects| async move { objects.tidy().await })
                .map_err(CatalogError::of_store)?;
        }
        Ok(())
    }

    /// Removes drafts of processes that are gone.
    pub(super) fn tidy_drafts(&self, _: &Lock) -> Result<(), CatalogError> {
        self.sweep(None)
    }

    /// Removes drafts of processes that are gone, and copies that are not in use.
    fn sweep(&self, used: Option<&[(SegmentId, u64)]>) -> Result<(), CatalogError> {
        let failed = |source| in_dir(&self.dir, source);
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_over = match segment_id(name) {
                Some(id) => {
                    let is_used = |used: &[(SegmentId, u64)]| used.iter().any(|(used, _)| *used == id);
                    self.is_copy && used.is_some_and(|used| !is_used(used))
                }
                None if !name.ends_with(".draft") => false,
                // The lock's holder has none under way, and in its own folder there are no others'.
                None if self.is_copy || !self.is_shared => true,
                None => {
                    let made = path.metadata().and_then(|metadata| metadata.modified());
                    made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > DRAFT_AGE_MAX))
                }
            };
            if is_over {
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }

    /// Removes a segment. One that stays is removed by the next registration.
    pub(super) fn remove(&self, id: SegmentId) {
        let name = id.object();
        let _ = self.objects.wait(|objects| async move { objects.remove(&name).await });
    }

    /// Begins a segment.
    pub(super) fn draft(&self, id: SegmentId, _: &Lock) -> Result<Draft, CatalogError> {
        let path = self.path(id);
        let draft = self.dir.join(format!("{:010}-{}.draft", id.number, random_name()));
        let file = File::create(&draft).map_err(|source| in_dir(&draft, source))?;
        Ok(Draft {
            id,
            path,
            draft,
            file: BufWriter::with_capacity(1 << 20, file),
            bytes: 0,
            #[cfg(test)]
            full_after: self.full_after.load(std::sync::atomic::Ordering::Relaxed),
        })
    }

    /// Puts a segment into its place, for good; `false` where its number is taken.
    pub(super) fn commit(&self, mut draft: Draft) -> Result<bool, CatalogError> {
        let is_synced = self.objects.is_synced();
        let flushed = draft
            .file
            .flush()
            .and_then(|()| if is_synced { draft.file.get_ref().sync_all() } else { Ok(()) });
        flushed.map_err(|e| draft.failed(e))?;
        let (name, file) = (draft.id.object(), draft.draft.clone());
        #[cfg(test)]
        if self.is_overtaken.load(std::sync::atomic::Ordering::Relaxed) {
            let name = name.clone();
            let first = self.objects.wait(|objects| async move { objects.put_new(&name, "".into()).await });
            first.map_err(CatalogError::of_store)?;
        }
        let made = self
            .objects
            .wait(|objects| async move { objects.put_new_file(&name, file).await })
            .map_err(CatalogError::of_store)?;
        if made == Made::Taken {
            return Ok(false);
        }
        if self.is_copy {
            // Where this fails, it is fetched like any other.
            let _ = fs::rename(&draft.draft, &draft.path);
        }
        Ok(true)
    }

    /// Makes sure that a segment of this size can be read here.
    pub(super) fn fetch(&self, id: SegmentId, bytes: u64) -> Result<(), CatalogError> {
        let path = self.path(id);
        if !self.is_copy || path.metadata().is_ok_and(|metadata| metadata.len() == bytes) {
            return Ok(());
        }
        let draft = self.dir.join(format!("{:010}-{}.draft", id.number, random_name()));
        let (name, to) = (id.object(), draft.clone());
        let fetched = self.objects.wait(|objects| async move { objects.download(&name, bytes, to).await });
        let write = |source| CatalogError::Write { path: path.display().to_string(), source };
        let placed =
            fetched.map_err(CatalogError::of_store).and_then(|()| fs::rename(&draft, &path).map_err(write));
        if placed.is_err() {
            let _ = fs::remove_file(&draft);
        }
        placed
    }

    /// The record at a place, without its line end.
    pub(super) fn read(&self, place: Place) -> Result<Vec<u8>, CatalogError> {
        let path = self.path(place.segment);
        let failed = |source| CatalogError::Read { file: path.display().to_string(), source };
        let mut file = File::open(&path).map_err(failed)?;
        file.seek(SeekFrom::Start(place.offset)).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(place.length.min(RECORD_BYTES_MAX)).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 != place.length {
            return Err(failed(io::Error::from(io::ErrorKind::UnexpectedEof)));
        }
        Ok(bytes)
    }

    /// Calls `each` with every record of a segment.
    pub(super) fn replay(
        &self,
        segment: SegmentId,
        mut each: impl FnMut(Place, &[u8]) -> Result<(), CatalogError>,
    ) -> Result<(), CatalogError> {
        let path = self.path(segment);
        let failed = |source| CatalogError::Read { file: path.display().to_string(), source };
        let mut reader = BufReader::with_capacity(1 << 20, File::open(&path).map_err(failed)?);
        let mut offset = 0;
        while let Some(line) = next_line(&mut reader).map_err(failed)? {
            let length = line.len() as u64;
            each(Place { segment, offset, length }, &line)?;
            offset += length + 1;
        }
        Ok(())
    }
}

/// Whether an error says that a segment is not there any more: a base replaced it.
pub(super) fn is_replaced(error: &CatalogError) -> bool {
    match error {
        CatalogError::Read { source, .. } => source.kind() == io::ErrorKind::NotFound,
        CatalogError::Objects(ObjectError::Missing { .. }) => true,
        _ => false,
    }
}

/// The next line, without its end.
pub(super) fn next_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if reader.take(RECORD_BYTES_MAX + 1).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(io::Error::other("its last record is cut short or too long"));
    }
    Ok(Some(line))
}

/// Those of all segments that count: the last base, and what came after it.
fn counting(mut all: Vec<(SegmentId, u64)>) -> Vec<(SegmentId, u64)> {
    if let Some((base, _)) = all.iter().rev().find(|(id, _)| id.is_base).copied() {
        all.retain(|(id, _)| *id == base || id.number > base.number);
    }
    all
}

/// The first number that is missing: they follow each other without gaps.
fn gap(found: &[(SegmentId, u64)]) -> Option<i64> {
    let first = found.first().map_or(1, |(id, _)| if id.is_base { id.number } else { 1 });
    (first..).zip(found).find(|(number, (id, _))| id.number != *number).map(|(number, _)| number)
}

fn segment_id(name: &str) -> Option<SegmentId> {
    let stem = name.strip_suffix(".ndjson")?;
    let (digits, is_base) = match stem.strip_suffix(".base") {
        Some(digits) => (digits, true),
        None => (stem, false),
    };
    let legal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    legal.then(|| digits.parse().ok()).flatten().map(|number| SegmentId { number, is_base })
}

/// A segment under way. Dropped without [`commit`](Segments::commit), it leaves nothing.
#[derive(Debug)]
pub(super) struct Draft {
    id: SegmentId,
    path: PathBuf,
    draft: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    #[cfg(test)]
    full_after: u64,
}

impl Draft {
    fn failed(&self, source: io::Error) -> CatalogError {
        CatalogError::Write { path: self.path.display().to_string(), source }
    }

    /// Bytes written.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The segment it becomes.
    pub(super) fn id(&self) -> SegmentId {
        self.id
    }

    /// Appends a record, which has no line end in it.
    pub(super) fn append(&mut self, record: &[u8]) -> Result<Place, CatalogError> {
        #[cfg(test)]
        if self.bytes + record.len() as u64 > self.full_after {
            return Err(self.failed(io::ErrorKind::StorageFull.into()));
        }
        let written = self.file.write_all(record).and_then(|()| self.file.write_all(b"\n"));
        written.map_err(|e| self.failed(e))?;
        let place = Place { segment: self.id, offset: self.bytes, length: record.len() as u64 };
        self.bytes += place.length + 1;
        Ok(place)
    }

    /// A record of this draft.
    pub(super) fn read(&mut self, place: Place) -> Result<Vec<u8>, CatalogError> {
        let mut read = || {
            self.file.flush()?;
            let mut file = File::open(&self.draft)?;
            file.seek(SeekFrom::Start(place.offset))?;
            let mut bytes = vec![0; usize::try_from(place.length).unwrap_or(usize::MAX)];
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|e| self.failed(e))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It is in its place under another name, or given up. What stays is removed by the next
        // registration.
        let _ = fs::remove_file(&self.draft);
    }
}

pub(super) fn in_dir(path: &Path, source: io::Error) -> CatalogError {
    CatalogError::DataDir { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(dir: &Path) -> (Segments, Lock) {
        let lock = Lock::try_take(&dir.join("lock")).unwrap().unwrap();
        let objects = Objects::folder(dir, true).unwrap();
        (Segments::open(objects, dir.join("copies"), false).unwrap(), lock)
    }

    fn id(number: i64, is_base: bool) -> SegmentId {
        SegmentId { number, is_base }
    }

    fn folder(dir: &Path) -> PathBuf {
        dir.join(PREFIX)
    }

    fn count(dir: &Path) -> usize {
        fs::read_dir(folder(dir)).unwrap().count()
    }

    #[test]
    fn segments_are_there_as_a_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let (segments, lock) = segments(dir.path());
        let mut draft = segments.draft(id(1, false), &lock).unwrap();
        let (a, b) = (draft.append(b"{}").unwrap(), draft.append(b"[1,2]").unwrap());
        assert_eq!(draft.read(b).unwrap(), b"[1,2]");
        assert!(segments.list().unwrap().is_empty());
        assert!(segments.commit(draft).unwrap());
        assert_eq!(segments.list().unwrap(), [(id(1, false), 9)]);
        assert_eq!(
            (segments.read(a).unwrap(), segments.read(b).unwrap()),
            (b"{}".to_vec(), b"[1,2]".to_vec())
        );
        let mut seen = Vec::new();
        segments
            .replay(id(1, false), |place, line| {
                seen.push((place, line.to_vec()));
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, [(a, b"{}".to_vec()), (b, b"[1,2]".to_vec())]);
        drop(segments.draft(id(2, false), &lock).unwrap());
        assert_eq!(count(dir.path()), 1);
        // Whoever is second to take a number learns it, and changes nothing.
        let mut draft = segments.draft(id(1, false), &lock).unwrap();
        draft.append(b"[]").unwrap();
        assert!(!segments.commit(draft).unwrap());
        assert_eq!(segments.list().unwrap(), [(id(1, false), 9)]);
        assert_eq!(count(dir.path()), 1);
    }

    #[test]
    fn a_base_replaces_what_is_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let (segments, lock) = segments(dir.path());
        for (number, is_base) in [(1, false), (2, false), (3, false), (3, true), (4, false)] {
            assert!(segments.commit(segments.draft(id(number, is_base), &lock).unwrap()).unwrap());
        }
        fs::write(folder(dir.path()).join("0000000009.draft"), "left by a process that was killed").unwrap();
        let kept = [(id(3, true), 0), (id(4, false), 0)];
        assert_eq!(segments.list().unwrap(), kept);
        segments.tidy(&kept, &lock).unwrap();
        assert_eq!(segments.list().unwrap(), kept);
        assert_eq!(count(dir.path()), 2);
    }

    #[test]
    fn in_a_shared_store_what_is_replaced_stays_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::try_take(&dir.path().join("lock")).unwrap().unwrap();
        let objects = Objects::folder(dir.path(), false).unwrap();
        let segments = Segments::open(objects, dir.path().join("copies"), true).unwrap();
        for (number, is_base) in [(1, false), (1, true)] {
            assert!(segments.commit(segments.draft(id(number, is_base), &lock).unwrap()).unwrap());
        }
        let old = std::time::SystemTime::now() - REPLACED_AGE_MIN - Duration::from_secs(60);
        let base = folder(dir.path()).join(id(1, true).name());
        let left = folder(dir.path()).join("0000000009.draft");
        fs::write(&left, "of a process that may be there").unwrap();
        segments.tidy(&[], &lock).unwrap();
        assert_eq!(count(dir.path()), 3);
        File::options().write(true).open(base).unwrap().set_modified(old).unwrap();
        segments.tidy(&[], &lock).unwrap();
        assert_eq!(segments.all().unwrap().len(), 1);
        let old = old - DRAFT_AGE_MAX;
        File::options().write(true).open(&left).unwrap().set_modified(old).unwrap();
        segments.tidy(&[], &lock).unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn segments_that_are_missing_are_noticed() {
        assert_eq!(gap(&[]), None);
        assert_eq!(gap(&[(id(1, false), 0), (id(2, false), 0)]), None);
        assert_eq!(gap(&[(id(7, true), 0), (id(8, false), 0)]), None);
        assert_eq!(gap(&[(id(2, false), 0)]), Some(1));
        assert_eq!(gap(&[(id(7, true), 0), (id(8, false), 0), (id(10, false), 0)]), Some(9));
        let dir = tempfile::tempdir().unwrap();
        let (segments, _lock) = segments(dir.path());
        fs::write(folder(dir.path()).join(id(2, false).name()), "").unwrap();
        let error = segments.list().unwrap_err();
        assert!(matches!(error, CatalogError::Gap { number: 1, .. }), "{error}");
    }

    #[test]
    fn a_record_cut_short_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (segments, _lock) = segments(dir.path());
        fs::write(folder(dir.path()).join(id(1, false).name()), "{}\n{").unwrap();
        let error = segments.replay(id(1, false), |_, _| Ok(())).unwrap_err();
        assert!(error.to_string().contains("cut short"), "{error}");
        let error = segments.read(Place { segment: id(1, false), offset: 3, length: 9 }).unwrap_err();
        assert!(matches!(error, CatalogError::Read { .. }), "{error}");
    }
}
