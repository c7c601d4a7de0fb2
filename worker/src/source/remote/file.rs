//! One file behind a network: pinned to the contents it had when it was opened, its parts fetched as
//! they are read, few of them remembered.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::runtime::Handle;

use super::super::ReadProblem;
use super::Patience;

/// Files are fetched in whole blocks of this size: enough for a header, little for one tile.
pub(super) const BLOCK_BYTES: u64 = 32 << 10;

/// Blocks remembered of a file.
const BLOCKS_MAX: usize = 64;

/// Bytes asked for at once.
const REQUEST_BYTES_MAX: u64 = 8 << 20;

/// What a server said of a part of a file, and the part.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Bytes `range.start..range.end`, cut at the file's end.
    pub(super) bytes: Bytes,
    /// Length of the whole file.
    pub(super) length: u64,
    /// What identifies its contents, as the server names it.
    pub(super) etag: Option<String>,
    /// Time of change, where there is no name for the contents.
    pub(super) changed: Option<String>,
}

impl Part {
    /// The contents' version: the entity tag, or else length and time of change.
    fn version(&self) -> Option<String> {
        let by_time = || self.changed.as_ref().map(|changed| format!("{}-{changed}", self.length));
        self.etag.clone().or_else(by_time)
    }
}

/// Why a part was not fetched.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum FetchError {
    /// No such file, or no right to read it.
    Missing(String),
    /// It may work later.
    Transient(String),
    /// Not what was asked for.
    Wrong(String),
    /// A host that is not to be connected to.
    Refused { host: String, reason: String },
    /// Other contents than before.
    Changed { registered: String, found: String },
}

/// Fetches parts of one file.
#[async_trait]
pub(super) trait Fetch: Send + Sync + Debug {
    /// Fetches a part once. With `etag`, only of the contents it names.
    async fn fetch(&self, range: Range<u64>, etag: Option<&str>) -> Result<Part, FetchError>;
}

/// An open file of a server.
#[derive(Debug)]
pub(crate) struct RemoteFile {
    fetch: Arc<dyn Fetch>,
    runtime: Handle,
    patience: Patience,
    length: u64,
    version: String,
    etag: Option<String>,
    /// Blocks by number, the one used last at the end.
    blocks: Mutex<VecDeque<(u64, Bytes)>>,
    /// The first failure. A decoder may make a value of what it could not read; nobody sees it.
    fault: Mutex<Option<ReadProblem>>,
}

impl RemoteFile {
    pub(super) fn open(
        fetch: Arc<dyn Fetch>,
        runtime: Handle,
        patience: Patience,
        version: &str,
    ) -> Result<RemoteFile, ReadProblem> {
        let first = patiently(&fetch, &runtime, patience, 0..BLOCK_BYTES, None)?;
        let Some(found) = first.version() else {
            let reason = "the server names neither an ETag nor a time of change".to_owned();
            return Err(ReadProblem::WrongAnswer { reason });
        };
        if !version.is_empty() && version != found {
            return Err(ReadProblem::Changed { registered: version.to_owned(), found });
        }
        Ok(RemoteFile {
            fetch,
            runtime,
            patience,
            length: first.length,
            version: found,
            etag: first.etag,
            blocks: Mutex::new(VecDeque::from([(0, first.bytes)])),
            fault: Mutex::new(None),
        })
    }

    /// Length in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// What identifies its contents: the entity tag, or else length and time of change.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// The failure of a read since the file was opened.
    pub(crate) fn fault(&self) -> Option<ReadProblem> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fills `buffer` from `offset` on as far as the file goes; the number of bytes. `None` for a
    /// failure, which [`fault`](Self::fault) then tells. After one the file stays failed. It blocks.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Option<usize> {
        let end = offset.saturating_add(buffer.len() as u64).min(self.length);
        if offset >= end {
            return Some(0);
        }
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if fault.is_some() {
            return None;
        }
        match self.fill(offset..end, buffer) {
            Ok(()) => Some((end - offset) as usize),
            Err(problem) => {
                *fault = Some(problem);
                None
            }
        }
    }

    fn fill(&self, wanted: Range<u64>, buffer: &mut [u8]) -> Result<(), ReadProblem> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let last = (wanted.end - 1) / BLOCK_BYTES;
        let mut block = wanted.start / BLOCK_BYTES;
        while block <= last {
            if let Some(at) = blocks.iter().position(|(number, _)| *number == block) {
                let held = blocks.remove(at).unwrap_or_default();
                copy(&held.1, block * BLOCK_BYTES, &wanted, buffer);
                blocks.push_back(held);
                block += 1;
                continue;
            }
            // All that is missing up to the next block that is not, in one request.
            let mut end = block + 1;
            while end <= last
                && (end - block) * BLOCK_BYTES < REQUEST_BYTES_MAX
                && blocks.iter().all(|(number, _)| *number != end)
            {
                end += 1;
            }
            let range = block * BLOCK_BYTES..(end * BLOCK_BYTES).min(self.length);
            let part = self.part(range.clone())?;
            copy(&part, range.start, &wanted, buffer);
            for number in block..end {
                let from = ((number - block) * BLOCK_BYTES) as usize;
                let to = (from + BLOCK_BYTES as usize).min(part.len());
                // A copy, so that a block does not hold the whole request.
                blocks.push_back((number, Bytes::copy_from_slice(&part[from..to])));
                if blocks.len() > BLOCKS_MAX {
                    blocks.pop_front();
                }
            }
            block = end;
        }
        Ok(())
    }

    /// Exactly a range of the pinned contents.
    fn part(&self, range: Range<u64>) -> Result<Bytes, ReadProblem> {
        let etag = self.etag.as_deref();
        let part = patiently(&self.fetch, &self.runtime, self.patience, range, etag)?;
        match part.version() {
            Some(found) if found == self.version && part.length == self.length => Ok(part.bytes),
            found => Err(ReadProblem::Changed {
                registered: self.version.clone(),
                found: found.unwrap_or_else(|| format!("{} bytes", part.length)),
            }),
        }
    }
}

/// Copies what of `bytes`, which begin at `start` of the file, is wanted.
fn copy(bytes: &[u8], start: u64, wanted: &Range<u64>, buffer: &mut [u8]) {
    let from = start.max(wanted.start);
    let to = (start + bytes.len() as u64).min(wanted.end);
    if from < to {
        let source = &bytes[(from - start) as usize..(to - start) as usize];
        buffer[(from - wanted.start) as usize..(to - wanted.start) as usize].copy_from_slice(source);
    }
}

/// Fetches a range, again after failures that may pass, and checks its length.
fn patiently(
    fetch: &Arc<dyn Fetch>,
    runtime: &Handle,
    patience: Patience,
    range: Range<u64>,
    etag: Option<&str>,
) -> Result<Part, ReadProblem> {
    let (fetch, etag) = (fetch.clone(), etag.map(str::to_owned));
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    // On the runtime's threads: this one may belong to another runtime.
    runtime.spawn(async move {
        let result = attempts(fetch.as_ref(), patience, range, etag.as_deref()).await;
        // Nobody waits any more only when the process ends.
        _ = sender.send(result);
    });
    let ended = || FetchError::Transient("the engine is shutting down".to_owned());
    receiver.recv().unwrap_or_else(|_| Err(ended())).map_err(ReadProblem::from)
}

async fn attempts(
    fetch: &dyn Fetch,
    patience: Patience,
    range: Range<u64>,
    etag: Option<&str>,
) -> Result<Part, FetchError> {
    let (start, mut wait, mut attempt) = (Instant::now(), patience.first_wait, 1);
    loop {
        let once = tokio::time::timeout(patience.attempt, fetch.fetch(range.clone(), etag));
        let result = match once.await {
            Ok(Ok(part)) => {
                let expected = range.end.min(part.length).saturating_sub(range.start);
                if part.bytes.len() as u64 == expected {
                    return Ok(part);
                }
                let got = part.bytes.len();
                FetchError::Transient(format!("{got} bytes came where {expected} were asked for"))
            }
            Ok(Err(error)) => error,
            Err(_) => FetchError::Transient(format!("no answer within {:?}", patience.attempt)),
        };
        let FetchError::Transient(reason) = result else { return Err(result) };
        if attempt >= patience.attempts || start.elapsed() + wait >= patience.total {
            return Err(FetchError::Transient(format!("{reason} (attempt {attempt}, given up)")));
        }
        tracing::debug!(reason, attempt, "a range is asked for again");
        tokio::time::sleep(wait).await;
        (wait, attempt) = (wait * 2, attempt + 1);
    }
}
