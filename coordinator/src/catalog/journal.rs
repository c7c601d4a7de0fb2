//! What a registration was given, line by line in a file: should another coordinator's registration come
//! first, it is done again on top of that one, and documents that came through a pipe do not come twice.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::CatalogError;
use super::store::next_line;
use crate::objects::random_name;

/// A journal. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Journal {
    /// Begins a journal in a folder. `.draft` files in it are removed by the next holder of its lock.
    pub(super) fn create(dir: &Path) -> Result<Journal, CatalogError> {
        let path = dir.join(format!("journal-{}.draft", random_name()));
        let failed = |source| CatalogError::Write { path: path.display().to_string(), source };
        let file = File::options().create_new(true).read(true).write(true).open(&path).map_err(failed)?;
        Ok(Journal { file: BufWriter::with_capacity(1 << 20, file), path })
    }

    fn failed(&self, source: io::Error) -> CatalogError {
        CatalogError::Write { path: self.path.display().to_string(), source }
    }

    /// Appends a record, and whether its collection's links are followed.
    pub(super) fn append(&mut self, follows: bool, line: &[u8]) -> Result<(), CatalogError> {
        let flag: &[u8] = if follows { b"+" } else { b"-" };
        let written = [flag, line, b"\n"].iter().try_for_each(|part| self.file.write_all(part));
        written.map_err(|e| self.failed(e))
    }

    /// Calls `each` with every record, in order.
    pub(super) fn each(
        &mut self,
        mut each: impl FnMut(bool, &[u8]) -> Result<(), CatalogError>,
    ) -> Result<(), CatalogError> {
        let rewound = self.file.flush().and_then(|()| self.file.get_mut().seek(SeekFrom::Start(0)));
        rewound.map_err(|e| self.failed(e))?;
        let mut reader = BufReader::with_capacity(1 << 20, self.file.get_ref());
        loop {
            match next_line(&mut reader) {
                Ok(None) => return Ok(()),
                Ok(Some(line)) => {
                    let (flag, line) = line.split_first().unwrap_or((&b'-', &[]));
                    each(*flag == b'+', line)?;
                }
                Err(e) => {
                    return Err(CatalogError::Read { file: self.path.display().to_string(), source: e });
                }
            }
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(dir.path()).unwrap();
        journal.append(true, b"{}").unwrap();
        journal.append(false, b"[1]").unwrap();
        for _ in 0..2 {
            let mut seen = Vec::new();
            journal
                .each(|follows, line| {
                    seen.push((follows, line.to_vec()));
                    Ok(())
                })
                .unwrap();
            assert_eq!(seen, [(true, b"{}".to_vec()), (false, b"[1]".to_vec())]);
        }
        drop(journal);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
