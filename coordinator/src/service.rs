//! The gRPC front door: decode, call `request.rs`, encode.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use graticule_common::error::ErrorClass;
use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::compute_service_server::ComputeService;
use graticule_common::proto::v1::fleet_service_server::FleetService;
use graticule_common::status::{status, to_status};
use graticule_common::telemetry::{self, names};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::metadata::MetadataMap;
#[cfg(test)]
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};

use crate::access::layer::Standing;
use crate::access::{AccessError, Identity};
use crate::drain::Drain;
use crate::fleet::Timing;
use crate::request::{Caller, Requests};

/// Messages of a result that wait for a slow client.
const WAITING_MAX: usize = 4;

/// How often a registration that stands is judged anew: as often as keys are read.
const LOOK_EVERY: Duration = Duration::from_secs(2);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Computes grafts for clients.
pub struct Compute(pub Requests, pub(crate) Drain);

#[tonic::async_trait]
impl ComputeService for Compute {
    type ComputeStream = Answers<pb::ComputeResponse>;

    async fn explain(
        &self,
        request: Request<pb::ExplainRequest>,
    ) -> Result<Response<pb::ExplainResponse>, Status> {
        let request = request.into_inner().request;
        let request =
            request.ok_or_else(|| status(ErrorClass::InvalidRequest, "there is nothing to explain"))?;
        self.0.explain(request).await.map(Response::new).map_err(|error| error.status())
    }

    async fn compute(
        &self,
        request: Request<pb::ComputeRequest>,
    ) -> Result<Response<Self::ComputeStream>, Status> {
        let admitted = self.1.admit()?;
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let parent = telemetry::parent_of(request.metadata());
        let timeout = timeout(request.metadata())?;
        let caller = Caller { tenant: Identity::of(&request).tenant, timeout, parent, id: None };
        let (requests, request) = (self.0.clone(), request.into_inner());
        tokio::spawn(async move { requests.compute(request, caller, sender).await });
        // Under way until the client has taken the last message, or has gone.
        let answers = ReceiverStream::new(receiver).map(move |answer| {
            let _ = &admitted;
            answer
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// How long a caller waits, as gRPC says it: up to eight digits and a unit.
fn timeout(metadata: &MetadataMap) -> Result<Option<Duration>, Status> {
    let Some(value) = metadata.get("grpc-timeout") else { return Ok(None) };
    let malformed = || status(ErrorClass::InvalidRequest, "`grpc-timeout` is no time: digits and a unit");
    let text = value.to_str().map_err(|_| malformed())?;
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(malformed)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed());
    }
    let count: u64 = digits.parse().map_err(|_| malformed())?;
    Ok(Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return Err(malformed()),
    }))
}

/// Knows the workers; beside them the address that this coordinator listens on.
pub struct Workers(pub Requests, pub SocketAddr);

#[tonic::async_trait]
impl FleetService for Workers {
    type RegisterStream = Answers<pb::RegisterResponse>;

    async fn describe(
        &self,
        _: Request<pb::DescribeRequest>,
    ) -> Result<Response<pb::DescribeResponse>, Status> {
        let described = self.0.describe().await;
        Ok(Response::new(pb::DescribeResponse { coordinator: self.1.to_string(), ..described }))
    }

    async fn register(
        &self,
        request: Request<Streaming<pb::RegisterRequest>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        let standing = request.extensions().get::<Standing>().cloned();
        let mut announcements = request.into_inner();
        let Timing { heartbeat, silence_max } = self.0.fleet.timing();
        let first = tokio::time::timeout(silence_max, announcements.message()).await;
        let first = first.map_err(|_| status(ErrorClass::Timeout, "a worker that says nothing"))??;
        let first = first.ok_or_else(|| status(ErrorClass::InvalidRequest, "an announcement is empty"))?;
        let registration = self.0.fleet.register(&first).map_err(|error| {
            metrics::counter!(names::WORKERS_REFUSED).increment(1);
            warn!(worker = %first.worker, address = %first.address, error = %error, "worker refused");
            to_status(&error)
        })?;
        info!(worker = %first.worker, address = %first.address, slots = first.slots, "worker registered");
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let answer = pb::RegisterResponse { heartbeat_ms: heartbeat.as_millis() as u32 };
            let mut goes_on = sender.send(Ok(answer)).await.is_ok();
            let mut cause = "ended";
            // Not anew with every look: a worker that hangs says nothing, however often one looks.
            let mut heard = Instant::now();
            let mut look = tokio::time::interval(LOOK_EVERY);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while goes_on {
                goes_on = tokio::select! {
                    _ = look.tick(), if standing.is_some() => match still_allowed(standing.as_ref()).await {
                        Ok(()) => true,
                        Err(error) => {
                            cause = "access";
                            // What it is told with; one that does not listen is not waited for.
                            let _ = sender.try_send(Err(to_status(&error)));
                            false
                        }
                    },
                    () = registration.lost.cancelled() => {
                        cause = "call";
                        false
                    }
                    next = tokio::time::timeout_at(heard + silence_max, announcements.next()) => match next {
                        Ok(Some(Ok(announcement))) => {
                            heard = Instant::now();
                            registration.heard(&announcement);
                            // A worker that does not take answers is not waited for.
                            !matches!(sender.try_send(Ok(answer)), Err(TrySendError::Closed(_)))
                        }
                        Ok(_) => false,
                        Err(_) => {
                            cause = "silent";
                            false
                        }
                    },
                };
            }
            info!(worker = %first.worker, cause, "worker gone");
            metrics::counter!(names::WORKERS_LOST, "cause" => cause).increment(1);
            drop(registration);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Whether a worker that registered could register again.
async fn still_allowed(standing: Option<&Standing>) -> Result<(), AccessError> {
    match standing {
        Some(standing) => standing.check().await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_caller_waits() {
        let parsed = |text: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", MetadataValue::from_static(text));
            timeout(&metadata).ok().flatten()
        };
        assert_eq!(parsed("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(parsed("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parsed("7u"), Some(Duration::from_micros(7)));
        for text in ["", "m", "15", "-1S", "+1S", "1.5S", "123456789S", "1x", "1 S"] {
            assert_eq!(parsed(text), None, "{text}");
        }
        assert_eq!(timeout(&MetadataMap::new()).unwrap(), None);
    }
}
