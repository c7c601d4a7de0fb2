//! Files of one command: all of them appear under their names, complete, or none does.
//!
//! Each is written into a hidden folder beside its place; when every one is complete and on the disk,
//! they are renamed, one right after the other. What was there before is replaced by that, and until
//! then is as it was. Only a process that is killed leaves its hidden folders (`.NAME.….part`).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use graticule_common::error::ErrorClass;
use tempfile::TempDir;

use crate::failure::Failure;

/// Files on their way. Clones are the same.
#[derive(Clone, Debug)]
pub struct Staging(Arc<Mutex<State>>);

#[derive(Debug)]
enum State {
    Open(Vec<Staged>),
    Published,
    Cancelled,
}

#[derive(Debug)]
struct Staged {
    folder: TempDir,
    file: PathBuf,
    /// As the user wrote it.
    shown: PathBuf,
    target: PathBuf,
}

/// Attempts to remove a folder that another thread still writes into.
const REMOVALS: usize = 100;

impl Staging {
    /// Nothing yet.
    pub fn new() -> Self {
        Staging(Arc::new(Mutex::new(State::Open(Vec::new()))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole after every statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where to write what is to become `path`.
    ///
    /// # Errors
    /// There is no such folder, it may not be written to, or the command was interrupted.
    pub fn stage(&self, path: &Path) -> Result<PathBuf, Failure> {
        let failed = |error: std::io::Error| Failure::file(path, "write", error);
        let name = path.file_name().ok_or_else(|| failed(std::io::ErrorKind::IsADirectory.into()))?;
        if path.is_dir() {
            return Err(failed(std::io::ErrorKind::IsADirectory.into()));
        }
        // A link keeps pointing to the file it points to.
        let target =
            if path.is_symlink() { fs::canonicalize(path).map_err(failed)? } else { path.to_owned() };
        let parent = target.parent().filter(|folder| !folder.as_os_str().is_empty());
        let parent = fs::canonicalize(parent.unwrap_or(Path::new("."))).map_err(failed)?;
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        let mut state = self.state();
        let State::Open(files) = &mut *state else { return Err(interrupted()) };
        let folder = tempfile::Builder::new().prefix(&prefix).suffix(".part").tempdir_in(&parent);
        let folder = folder.map_err(failed)?;
        let file = folder.path().join(name);
        let target = parent.join(target.file_name().unwrap_or(name));
        files.push(Staged { folder, file: file.clone(), shown: path.to_owned(), target });
        Ok(file)
    }

    /// Puts every file into its place.
    ///
    /// # Errors
    /// A file cannot be brought to the disk, or the command was interrupted: nothing changed. Should a
    /// renaming fail, which all before it make unlikely, the message names what is in its place already.
    pub fn publish(&self) -> Result<(), Failure> {
        let files: Vec<(PathBuf, PathBuf)> = match &*self.state() {
            State::Open(files) => {
                files.iter().map(|staged| (staged.file.clone(), staged.shown.clone())).collect()
            }
            State::Published => return Ok(()),
            State::Cancelled => return Err(interrupted()),
        };
        for (file, shown) in files {
            let synced = fs::File::open(file).and_then(|file| file.sync_all());
            synced.map_err(|error| Failure::file(&shown, "write", error))?;
        }
        let mut state = self.state();
        let State::Open(files) = &*state else { return Err(interrupted()) };
        for (done, staged) in files.iter().enumerate() {
            if let Err(error) = fs::rename(&staged.file, &staged.target) {
                let mut failure = Failure::file(&staged.shown, "write", error);
                let written: Vec<String> =
                    files[..done].iter().map(|staged| staged.shown.display().to_string()).collect();
                if !written.is_empty() {
                    failure.message += &format!("; already written: {}", written.join(", "));
                }
                return Err(failure);
            }
        }
        // The names, too; where the system knows no such thing, there is nothing to do.
        for folder in files.iter().filter_map(|staged| staged.target.parent()) {
            let _ = fs::File::open(folder).and_then(|folder| folder.sync_all());
        }
        *state = State::Published;
        Ok(())
    }

    /// Gives everything up, even while it is being written. False if the files are in their places.
    pub fn cancel(&self) -> bool {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Cancelled) {
            State::Published => {
                *state = State::Published;
                false
            }
            State::Cancelled => true,
            State::Open(files) => {
                for staged in files {
                    // What is being written may appear between listing the folder and removing it; in
                    // a folder that is gone nothing appears any more.
                    let path = staged.folder.path().to_owned();
                    (0..REMOVALS).find(|_| fs::remove_dir_all(&path).is_ok() || !path.exists());
                }
                true
            }
        }
    }
}

/// The error of a command that the user stopped.
pub fn interrupted() -> Failure {
    Failure::new(ErrorClass::Cancelled, "interrupted; nothing was written")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn all_files_appear_at_once_or_none_does() {
        let folder = TempDir::new().unwrap();
        let (a, b) = (folder.path().join("a.json"), folder.path().join("b.json"));
        fs::write(&a, "old").unwrap();
        let staging = Staging::new();
        fs::write(staging.stage(&a).unwrap(), "new").unwrap();
        let later = staging.stage(&b).unwrap();
        // The second one was never written.
        assert!(staging.publish().unwrap_err().message.contains("b.json"));
        assert_eq!(fs::read_to_string(&a).unwrap(), "old");
        fs::write(later, "new").unwrap();
        staging.publish().unwrap();
        assert!(!staging.cancel());
        drop(staging);
        assert_eq!(names(folder.path()), ["a.json", "b.json"]);
        assert_eq!(fs::read_to_string(&a).unwrap(), "new");
    }

    #[test]
    fn what_is_cancelled_or_dropped_leaves_nothing() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.json");
        for cancel in [true, false] {
            let staging = Staging::new();
            let file = staging.stage(&path).unwrap();
            fs::write(&file, "new").unwrap();
            if cancel {
                assert!(staging.cancel());
                assert_eq!(staging.publish().unwrap_err().code, 130);
                assert!(fs::write(&file, "late").is_err());
            }
            drop(staging);
            assert_eq!(names(folder.path()), Vec::<String>::new());
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        let folder = TempDir::new().unwrap();
        let (file, link) = (folder.path().join("file.json"), folder.path().join("link.json"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let staging = Staging::new();
        fs::write(staging.stage(&link).unwrap(), "new").unwrap();
        staging.publish().unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
    }

    #[test]
    fn folders_and_what_is_in_none_are_refused() {
        let folder = TempDir::new().unwrap();
        for bad in [folder.path().to_owned(), folder.path().join("none/a.json"), PathBuf::from("..")] {
            assert_eq!(Staging::new().stage(&bad).unwrap_err().code, 1);
        }
    }
}
