//! One Execute call: what a worker answers is handed to the flights, what it means to the actor.

use std::sync::Arc;
use std::time::Duration;

use graticule_common::error::ErrorClass;
use graticule_common::failpoint;
use graticule_common::grid::TileId;
use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::execute_response::Outcome;
use graticule_common::proto::v1::worker_service_client::WorkerServiceClient;
use graticule_common::{telemetry, wire};
use tokio::sync::mpsc;
use tonic::Status;
use tracing::{Span, warn};

use super::flight::Flight;
use super::{Command, DispatchError};
use crate::fleet::Worker;
use crate::schedule::{CallId, FlightId, TileFailure};

/// Time for a worker to end a call of which it has answered everything.
const LAST_WORD_WITHIN: Duration = Duration::from_secs(1);

/// A call that is to be made.
pub(super) struct Call {
    pub(super) id: CallId,
    pub(super) worker: Worker,
    pub(super) request: pb::ExecuteRequest,
    pub(super) flights: Vec<(FlightId, Arc<Flight>)>,
    pub(super) commands: mpsc::UnboundedSender<Command>,
}

/// How a call ended.
#[derive(Debug)]
pub(super) enum End {
    /// As agreed.
    Over,
    /// Nobody wanted it any more.
    Cancelled,
    /// Its worker did not answer all of it, and is well.
    Refused,
    /// Its worker is not to be trusted with more.
    Broken(Status),
}

/// Tells the actor that a call is over, however it ends: its credit would be lost otherwise.
struct Ending {
    id: CallId,
    end: End,
    commands: mpsc::UnboundedSender<Command>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let end = std::mem::replace(&mut self.end, End::Cancelled);
        // Nobody listens when the coordinator ends; then nobody needs to know.
        let _ = self.commands.send(Command::Ended { call: self.id, end });
    }
}

impl Call {
    /// Makes the call and takes in its answers to the end.
    pub(super) fn run(self) -> impl Future<Output = ()> + Send + 'static {
        // Made before the first poll: a task that is aborted without one ends as well.
        let ending = Ending { id: self.id, end: End::Cancelled, commands: self.commands.clone() };
        self.make(ending)
    }

    async fn make(mut self, mut ending: Ending) {
        let mut client = WorkerServiceClient::new(self.worker.channel.clone());
        let mut request = tonic::Request::new(std::mem::take(&mut self.request));
        telemetry::inject(request.metadata_mut(), &Span::current());
        failpoint!(
            "coordinator.before_send",
            return ending.end = End::Broken(Status::unavailable("a failpoint"))
        );
        let mut answers = match client.execute(request).await {
            Ok(answers) => answers.into_inner(),
            Err(status) => return ending.end = self.refused(status),
        };
        let mut unanswered = self.flights.len();
        while unanswered > 0 {
            let message = match answers.message().await {
                Ok(Some(message)) => message,
                // Cut off by a worker that lives, as at its end: what is unanswered is tried again.
                Ok(None) => {
                    self.is_cut();
                    return ending.end = End::Refused;
                }
                Err(status) => return ending.end = self.refused(status),
            };
            match self.take_in(message).await {
                Ok(answered) => unanswered = unanswered.saturating_sub(usize::from(answered)),
                Err(problem) => {
                    self.is_nonsense(problem);
                    return ending.end = End::Refused;
                }
            }
        }
        // Its end as well: a stream that is dropped before is reset, and servers count resets.
        let _ = tokio::time::timeout(LAST_WORD_WITHIN, answers.message()).await;
        ending.end = End::Over;
    }

    /// Takes in one message; whether it answers a tile. The error is what is wrong with it.
    async fn take_in(&self, message: pb::ExecuteResponse) -> Result<bool, String> {
        match message.outcome {
            None => Err("an empty message".into()),
            Some(Outcome::Chunk(chunk)) => {
                let (_, flight) = self.flight(chunk.tile.as_ref())?;
                if let Some(inbox) = flight.push(self.id, chunk)? {
                    inbox.room().await;
                }
                Ok(false)
            }
            Some(Outcome::Done(done)) => {
                let (id, flight) = self.flight(done.tile.as_ref())?;
                flight.finish(self.id, done.clone())?;
                self.tell(Command::Done { call: self.id, flight: id, done: Box::new(done) });
                Ok(true)
            }
            Some(Outcome::Failed(failed)) => {
                let (id, flight) = self.flight(failed.tile.as_ref())?;
                let class = ErrorClass::from_name(&failed.error_class).unwrap_or(ErrorClass::Internal);
                let failure = if failed.handed_back { TileFailure::HandedBack } else { of_class(class) };
                if failure != TileFailure::HandedBack {
                    flight.give_up(DispatchError::Tile { class, message: failed.message });
                }
                self.tell(Command::Failed { call: self.id, flight: id, failure });
                Ok(true)
            }
        }
    }

    fn tell(&self, command: Command) {
        // The actor outlives its calls, but for the coordinator's end.
        let _ = self.commands.send(command);
    }

    fn flight(&self, tile: Option<&pb::TileId>) -> Result<(FlightId, &Flight), String> {
        let tile: TileId = wire::tile_from(tile).map_err(|error| error.to_string())?;
        let flight = self.flights.iter().find(|(_, flight)| flight.tile == tile);
        let (id, flight) = flight.ok_or_else(|| format!("tile {tile}, which it was not asked for"))?;
        Ok((*id, flight))
    }

    /// What the status of a call means to its tiles and to its worker.
    fn refused(&self, status: Status) -> End {
        match graticule_common::status::class_of(&status) {
            ErrorClass::Unavailable | ErrorClass::Cancelled | ErrorClass::Internal => End::Broken(status),
            // No room, or no time left: the worker is well.
            class @ (ErrorClass::Overloaded | ErrorClass::Timeout) => {
                let failure = of_class(class);
                let error = DispatchError::Tile { class, message: status.message().to_owned() };
                for (id, flight) in &self.flights {
                    flight.give_up(error.clone());
                    self.tell(Command::Failed { call: self.id, flight: *id, failure });
                }
                End::Refused
            }
            class => {
                self.fail_all(&DispatchError::Tile { class, message: status.message().to_owned() });
                End::Refused
            }
        }
    }

    /// What is unanswered of a call that its worker ended.
    fn is_cut(&self) {
        warn!(worker = %self.worker.id, "the worker ended a call before it was answered");
        let message = "a worker ended its call before it was answered; try again".to_owned();
        let error = DispatchError::Tile { class: ErrorClass::Unavailable, message };
        self.flights.iter().for_each(|(_, flight)| flight.give_up(error.clone()));
    }

    /// A worker whose answers make no sense would say the same again.
    fn is_nonsense(&self, problem: String) {
        warn!(worker = %self.worker.id, problem, "the worker gave an answer that makes no sense");
        self.fail_all(&DispatchError::Nonsense { problem });
    }

    fn fail_all(&self, error: &DispatchError) {
        for (id, flight) in &self.flights {
            flight.give_up(error.clone());
            self.tell(Command::Failed { call: self.id, flight: *id, failure: TileFailure::Final });
        }
    }
}

/// Whether another try may help a tile that failed with an error of this class.
fn of_class(class: ErrorClass) -> TileFailure {
    match class {
        // No room there just now; or the call's time is over, but not that of everybody who waits.
        ErrorClass::Overloaded | ErrorClass::Timeout | ErrorClass::Cancelled => TileFailure::Transient,
        class if class.is_retryable() => TileFailure::Transient,
        _ => TileFailure::Final,
    }
}
