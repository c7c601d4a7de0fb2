//! Whole results for answers that are one piece. What is held at a time is bounded for all of them together.

use std::sync::Arc;
use std::time::Duration;

use graticule_common::assembly::{Assembly, AssemblyError, Finished};
use graticule_common::error::ErrorClass;
use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::compute_response::Message;
use graticule_common::telemetry::names;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::Http;
use super::error::HttpError;
use crate::request::Caller;

/// Messages of a result that wait for its assembly.
const WAITING_MAX: usize = 4;

/// What memory is counted in.
const UNIT_BYTES: u64 = 1 << 10;

/// Memory for whole results.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    left: Arc<Semaphore>,
    bytes: u64,
    within: Duration,
}

/// A share of the memory; it is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    _permit: OwnedSemaphorePermit,
    bytes: f64,
}

impl Drop for Share {
    fn drop(&mut self) {
        metrics::gauge!(names::HTTP_RESULT_BYTES).decrement(self.bytes);
    }
}

impl Memory {
    /// So many bytes, for which one waits so long.
    pub(crate) fn new(bytes: u64, within: Duration) -> Self {
        let units = usize::try_from(bytes / UNIT_BYTES).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Memory { left: Arc::new(Semaphore::new(units)), bytes, within }
    }

    /// Takes a share.
    ///
    /// # Errors
    /// Whether it can never be had, or not now.
    pub(crate) async fn take(&self, bytes: u64) -> Result<Share, HttpError> {
        let units = bytes.div_ceil(UNIT_BYTES).max(1);
        if bytes > self.bytes {
            let message = format!(
                "the result takes {bytes} bytes, this server puts together at most {}; ask for a smaller AOI \
                 or a coarser resolution, select fewer scenes or bands, or have the result streamed over gRPC",
                self.bytes
            );
            return Err(HttpError::new(ErrorClass::LimitExceeded, message));
        }
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let taking = self.left.clone().acquire_many_owned(units);
        match tokio::time::timeout(self.within, taking).await {
            Ok(Ok(permit)) => {
                let bytes = bytes as f64;
                metrics::gauge!(names::HTTP_RESULT_BYTES).increment(bytes);
                Ok(Share { _permit: permit, bytes })
            }
            _ => {
                let message = "the memory for results is in use; try again";
                Err(HttpError::new(ErrorClass::Unavailable, message))
            }
        }
    }
}

/// A result, whole, with its share of the memory.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// The results, in the header's order.
    pub(crate) results: Vec<Finished>,
    /// What it took.
    pub(crate) summary: pb::Summary,
    /// Whether overviews may have been read.
    pub(crate) is_display: bool,
    /// To be kept as long as the results are.
    pub(crate) share: Share,
}

impl Gathered {
    /// What the header of answers says of it.
    pub(crate) fn quality(&self) -> &'static str {
        if self.is_display { "display" } else { "exact" }
    }
}

/// Computes a request to its end. Whoever drops this future, or lets it go with its connection, ends the
/// computation.
///
/// # Errors
/// Those of the request, and those of [`Memory::take`].
pub(crate) async fn gather(
    http: &Http,
    request: pb::ComputeRequest,
    caller: Caller,
) -> Result<Gathered, HttpError> {
    gather_copies(http, request, caller, 1).await
}

/// The same, with memory for so many copies of the results.
///
/// # Errors
/// As [`gather`].
pub(crate) async fn gather_copies(
    http: &Http,
    request: pb::ComputeRequest,
    caller: Caller,
    copies: u64,
) -> Result<Gathered, HttpError> {
    let (sender, mut receiver) = mpsc::channel(WAITING_MAX);
    let requests = http.requests.clone();
    // It ends when the receiver is dropped.
    tokio::spawn(async move { requests.compute(request, caller, sender).await });
    let header = loop {
        let answer = receiver.recv().await.ok_or(AssemblyError::EndedEarly)??;
        match answer.message {
            Some(Message::Progress(_)) => {}
            Some(Message::Header(header)) => break header,
            _ => return Err(AssemblyError::OutOfOrder.into()),
        }
    };
    let share = http.memory.take(Assembly::bytes(&header)?.saturating_mul(copies)).await?;
    let mut assembly = Assembly::new(&header)?;
    loop {
        let answer = receiver.recv().await.ok_or(AssemblyError::EndedEarly)??;
        match answer.message {
            Some(Message::Chunk(chunk)) => _ = assembly.add(chunk)?,
            Some(Message::Summary(summary)) => {
                let results = assembly.finish(&header)?;
                let is_display = header.display_quality;
                return Ok(Gathered { results, summary, is_display, share });
            }
            _ => return Err(AssemblyError::OutOfOrder.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_is_shared_and_given_back() {
        let memory = Memory::new(10 << 10, Duration::from_millis(5));
        let error = memory.take((10 << 10) + 1).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::LimitExceeded);
        let first = memory.take(6 << 10).await.unwrap();
        let error = memory.take(5 << 10).await.unwrap_err();
        assert_eq!((error.class, error.is_retryable()), (ErrorClass::Unavailable, true));
        drop(first);
        assert!(memory.take(10 << 10).await.is_ok());
    }
}
