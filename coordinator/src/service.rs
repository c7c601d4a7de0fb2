//! The gRPC front door: decode, call `request.rs`, encode.

use std::pin::Pin;
use std::time::Duration;

use graticule_common::error::ErrorClass;
use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::compute_service_server::ComputeService;
use graticule_common::proto::v1::fleet_service_server::FleetService;
use graticule_common::status::{status, to_status};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use tracing::info;

use crate::drain::Drain;
use crate::fleet::Fleet;
use crate::request::Requests;

/// Messages of a result that wait for a slow client.
const WAITING_MAX: usize = 4;

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
        self.0.explain(request).await.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn compute(
        &self,
        request: Request<pb::ComputeRequest>,
    ) -> Result<Response<Self::ComputeStream>, Status> {
        let admitted = self.1.admit()?;
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let (requests, request) = (self.0.clone(), request.into_inner());
        tokio::spawn(async move { requests.compute(request, sender).await });
        // Under way until the client has taken the last message, or has gone.
        let answers = ReceiverStream::new(receiver).map(move |answer| {
            let _ = &admitted;
            answer
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Knows the workers.
pub struct Workers(pub Fleet);

/// How often workers announce themselves.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// A worker that says nothing for this long is lost: three heartbeats, less than the 15 s in which a
/// hung worker must be noticed.
const SILENCE_MAX: Duration = Duration::from_secs(14);

#[tonic::async_trait]
impl FleetService for Workers {
    type RegisterStream = Answers<pb::RegisterResponse>;

    async fn describe(
        &self,
        _: Request<pb::DescribeRequest>,
    ) -> Result<Response<pb::DescribeResponse>, Status> {
        Err(status(ErrorClass::Unsupported, "a fleet is not described yet"))
    }

    async fn register(
        &self,
        request: Request<Streaming<pb::RegisterRequest>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        let mut announcements = request.into_inner();
        let first = announcements.message().await?;
        let first = first.ok_or_else(|| status(ErrorClass::InvalidRequest, "an announcement is empty"))?;
        let registration = self.0.register(&first).map_err(|error| to_status(&error))?;
        info!(worker = %first.worker, address = %first.address, slots = first.slots, "worker registered");
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let answer = pb::RegisterResponse { heartbeat_ms: HEARTBEAT.as_millis() as u32 };
            let mut goes_on = sender.send(Ok(answer)).await.is_ok();
            while goes_on {
                let next = tokio::time::timeout(SILENCE_MAX, announcements.next());
                goes_on = tokio::select! {
                    () = registration.lost.cancelled() => false,
                    next = next => matches!(next, Ok(Some(Ok(_)))) && sender.send(Ok(answer)).await.is_ok(),
                };
            }
            info!(worker = %first.worker, "worker gone");
            drop(registration);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
