//! The right to change an index: one process at a time, on one machine.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::CatalogError;
use super::store::in_dir;

/// How long a registration waits for others to finish.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(600);
/// After this long its caller hears that it waits.
const LOCK_WAIT_SILENT: Duration = Duration::from_millis(500);
/// What the lock's holder says of itself, at most.
const HOLDER_BYTES_MAX: u64 = 256;

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
