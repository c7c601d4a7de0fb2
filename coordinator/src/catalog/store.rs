//! The documents on disk: append-only segments of newline-delimited JSON, one for each registration.
//!
//! A segment is written beside its place and renamed into it, so it is there as a whole or not at all.
//! Later segments win. A segment named `NUMBER.base.ndjson` holds everything and replaces those before it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::CatalogError;

/// How long a registration waits for others to finish.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(600);
/// After this long its caller hears that it waits.
const LOCK_WAIT_SILENT: Duration = Duration::from_millis(500);
/// What the lock's holder says of itself, at most.
const HOLDER_BYTES_MAX: u64 = 256;
/// Longest record: an item of the largest size, and what registration found out about its files.
pub(super) const RECORD_BYTES_MAX: u64 = 64 << 20;

/// A segment's place in the order, and whether it replaces those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentId {
    pub(super) number: i64,
    pub(super) is_base: bool,
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: SegmentId,
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// The folder of segments.
#[derive(Debug)]
pub(super) struct Segments {
    dir: PathBuf,
    /// Bytes after which writing fails, as on a full disk.
    #[cfg(test)]
    pub(super) full_after: std::sync::atomic::AtomicU64,
}

impl Segments {
    /// Opens the folder; makes it where there is none.
    pub(super) fn open(dir: PathBuf) -> Result<Self, CatalogError> {
        fs::create_dir_all(&dir).map_err(|source| in_dir(&dir, source))?;
        Ok(Segments {
            dir,
            #[cfg(test)]
            full_after: std::sync::atomic::AtomicU64::new(u64::MAX),
        })
    }

    fn path(&self, id: SegmentId) -> PathBuf {
        let SegmentId { number, is_base } = id;
        self.dir.join(format!("{number:010}{}.ndjson", if is_base { ".base" } else { "" }))
    }

    /// The segments that count, in order, with their sizes in bytes.
    pub(super) fn list(&self) -> Result<Vec<(SegmentId, u64)>, CatalogError> {
        let mut found = self.all()?;
        if let Some(base) = found.iter().rposition(|(id, _)| id.is_base) {
            found.drain(..base);
        }
        Ok(found)
    }

    fn all(&self) -> Result<Vec<(SegmentId, u64)>, CatalogError> {
        let failed = |source| in_dir(&self.dir, source);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if let Some(id) = entry.file_name().to_str().and_then(segment_id) {
                match entry.metadata() {
                    Ok(metadata) => found.push((id, metadata.len())),
                    // Compaction removed it meanwhile.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(failed(e)),
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Removes drafts and replaced segments. Only for the holder of the lock.
    pub(super) fn tidy(&self, _: &Lock) -> Result<(), CatalogError> {
        let current = self.list()?;
        for (id, _) in self.all()? {
            if !current.iter().any(|(kept, _)| *kept == id) {
                self.remove(id);
            }
        }
        let failed = |source| in_dir(&self.dir, source);
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "draft") {
                // What stays costs space only.
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }

    /// Removes a segment. One that stays is removed by the next registration.
    pub(super) fn remove(&self, id: SegmentId) {
        let _ = fs::remove_file(self.path(id));
    }

    /// Begins a segment.
    pub(super) fn draft(&self, id: SegmentId, _: &Lock) -> Result<Draft, CatalogError> {
        let path = self.path(id);
        let draft = path.with_extension("draft");
        let file = File::create(&draft).map_err(|source| in_dir(&draft, source))?;
        Ok(Draft {
            id,
            path,
            draft,
            file: BufWriter::with_capacity(1 << 20, file),
            bytes: 0,
            is_kept: false,
            #[cfg(test)]
            full_after: self.full_after.load(std::sync::atomic::Ordering::Relaxed),
        })
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
        let (mut offset, mut line) = (0, Vec::new());
        loop {
            line.clear();
            let length =
                (&mut reader).take(RECORD_BYTES_MAX + 1).read_until(b'\n', &mut line).map_err(failed)? as u64;
            if length == 0 {
                return Ok(());
            }
            if line.pop() != Some(b'\n') {
                return Err(failed(io::Error::other("its last record is cut short or too long")));
            }
            each(Place { segment, offset, length: length - 1 }, &line)?;
            offset += length;
        }
    }
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

/// A segment under way. Dropped without [`commit`](Self::commit), it leaves nothing.
#[derive(Debug)]
pub(super) struct Draft {
    id: SegmentId,
    path: PathBuf,
    draft: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    is_kept: bool,
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

    /// Puts the segment into its place, for good.
    pub(super) fn commit(mut self) -> Result<SegmentId, CatalogError> {
        let mut moved = || {
            self.file.flush()?;
            self.file.get_ref().sync_all()?;
            fs::rename(&self.draft, &self.path)?;
            // The name, too, must outlast a power cut.
            self.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
        };
        moved().map_err(|e| self.failed(e))?;
        self.is_kept = true;
        Ok(self.id)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_kept {
            // What stays is removed by the next registration.
            let _ = fs::remove_file(&self.draft);
        }
    }
}

fn in_dir(path: &Path, source: io::Error) -> CatalogError {
    CatalogError::DataDir { path: path.display().to_string(), source }
}

/// The right to change the catalog. The system takes it back when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock if it is free.
    pub(super) fn try_take(path: &Path) -> Result<Option<Lock>, CatalogError> {
        let file = open_lock(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(in_dir(path, e.into())),
        }
    }

    /// Waits for the lock; `waiting` hears of whom, should it take long.
    pub(super) fn take(path: &Path, waiting: &dyn Fn(&str)) -> Result<Lock, CatalogError> {
        if let Some(lock) = Lock::try_take(path)? {
            return Ok(lock.announced());
        }
        let file = open_lock(path)?;
        let (sender, receiver) = mpsc::sync_channel(1);
        // The system call has no timeout. If nobody waits any more, the lock is released on arrival.
        std::thread::spawn(move || {
            let taken = flock(&file, FlockOperation::LockExclusive).map(|()| Lock { file });
            let _ = sender.send(taken);
        });
        let first = receiver.recv_timeout(LOCK_WAIT_SILENT);
        let taken = first.or_else(|_| {
            waiting(&holder(path));
            receiver.recv_timeout(LOCK_WAIT_MAX)
        });
        match taken {
            Ok(Ok(lock)) => Ok(lock.announced()),
            Ok(Err(e)) => Err(in_dir(path, e.into())),
            Err(_) => Err(CatalogError::Locked { holder: holder(path), seconds: LOCK_WAIT_MAX.as_secs() }),
        }
    }

    /// Writes down who holds it, for the messages of others.
    fn announced(mut self) -> Lock {
        let text = format!("process {}", std::process::id());
        // Only messages need it.
        let _ = self.file.set_len(0).and_then(|()| self.file.write_all(text.as_bytes()));
        self
    }
}

fn open_lock(path: &Path) -> Result<File, CatalogError> {
    let opened = File::options().create(true).truncate(false).read(true).write(true).open(path);
    opened.map_err(|source| in_dir(path, source))
}

fn holder(path: &Path) -> String {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(HOLDER_BYTES_MAX).read_to_string(&mut text));
    if read.is_err() || text.is_empty() { "another process".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(dir: &Path) -> (Segments, Lock) {
        let lock = Lock::try_take(&dir.join("lock")).unwrap().unwrap();
        (Segments::open(dir.join("segments")).unwrap(), lock)
    }

    fn id(number: i64, is_base: bool) -> SegmentId {
        SegmentId { number, is_base }
    }

    #[test]
    fn segments_are_there_as_a_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let (segments, lock) = segments(dir.path());
        let mut draft = segments.draft(id(1, false), &lock).unwrap();
        let (a, b) = (draft.append(b"{}").unwrap(), draft.append(b"[1,2]").unwrap());
        assert_eq!(draft.read(b).unwrap(), b"[1,2]");
        assert!(segments.list().unwrap().is_empty());
        draft.commit().unwrap();
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
        assert_eq!(fs::read_dir(dir.path().join("segments")).unwrap().count(), 1);
    }

    #[test]
    fn a_base_replaces_what_is_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let (segments, lock) = segments(dir.path());
        for (number, is_base) in [(1, false), (2, false), (3, true), (4, false)] {
            segments.draft(id(number, is_base), &lock).unwrap().commit().unwrap();
        }
        fs::write(dir.path().join("segments/0000000009.draft"), "left by a process that was killed").unwrap();
        let kept = [(id(3, true), 0), (id(4, false), 0)];
        assert_eq!(segments.list().unwrap(), kept);
        segments.tidy(&lock).unwrap();
        assert_eq!(segments.all().unwrap(), kept);
        assert_eq!(fs::read_dir(dir.path().join("segments")).unwrap().count(), 2);
    }

    #[test]
    fn a_record_cut_short_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (segments, _lock) = segments(dir.path());
        fs::write(dir.path().join("segments/0000000001.ndjson"), "{}\n{").unwrap();
        let error = segments.replay(id(1, false), |_, _| Ok(())).unwrap_err();
        assert!(error.to_string().contains("cut short"), "{error}");
        let error = segments.read(Place { segment: id(1, false), offset: 3, length: 9 }).unwrap_err();
        assert!(matches!(error, CatalogError::Read { .. }), "{error}");
    }

    #[test]
    fn the_lock_is_for_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = Lock::take(&path, &|_| panic!("it is free")).unwrap();
        assert!(Lock::try_take(&path).unwrap().is_none());
        let (heard, hears) = mpsc::channel();
        std::thread::scope(|scope| {
            let path = &path;
            let second = scope.spawn(move || Lock::take(path, &|who| heard.send(who.to_owned()).unwrap()));
            let who = hears.recv().unwrap();
            assert_eq!(who, format!("process {}", std::process::id()));
            drop(lock);
            second.join().unwrap().unwrap();
        });
    }
}
