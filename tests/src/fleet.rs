//! Real processes: coordinators and workers of the built binary, with the fault proxy between any two.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::compute_response::Message;
use graticule_common::proto::v1::compute_service_client::ComputeServiceClient;
use graticule_common::proto::v1::fleet_service_client::FleetServiceClient;
use graticule_common::status::class_of;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use crate::cases::{self, Case};
use crate::client::Received;
use crate::colorado::Imagery;
use crate::process::{Ended, Process, graticule, graticule_with_failpoints};
use crate::proxy::Proxy;
use crate::{PATIENCE, until};

/// What a fleet is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Number of coordinators.
    pub coordinators: usize,
    /// Number of workers.
    pub workers: usize,
    /// Tiles each of them computes at the same time.
    pub slots: u32,
    /// Further arguments of coordinators.
    pub coordinator_arguments: Vec<String>,
    /// Further arguments of workers.
    pub worker_arguments: Vec<String>,
    /// `FAILPOINTS` of the coordinators, in their order; those that are not listed have none.
    pub coordinator_faults: Vec<String>,
    /// `FAILPOINTS` of the workers.
    pub worker_faults: Vec<String>,
    /// Whether everybody talks to everybody through a proxy.
    pub has_proxies: bool,
    /// Whether the binary has failpoints.
    pub has_failpoints: bool,
}

impl Default for Setup {
    /// A coordinator and two workers.
    fn default() -> Setup {
        Setup {
            coordinators: 1,
            workers: 2,
            slots: 1,
            coordinator_arguments: Vec::new(),
            worker_arguments: Vec::new(),
            coordinator_faults: Vec::new(),
            worker_faults: Vec::new(),
            has_proxies: false,
            has_failpoints: true,
        }
    }
}

impl Setup {
    /// Through proxies.
    #[must_use]
    pub fn proxied(self) -> Setup {
        Setup { has_proxies: true, ..self }
    }

    /// With this fault of the first worker.
    #[must_use]
    pub fn with_worker_fault(self, fault: &str) -> Setup {
        Setup { worker_faults: vec![fault.into()], ..self }
    }

    /// With workers that share what they remember.
    #[must_use]
    pub fn with_cache(mut self, url: &str) -> Setup {
        self.worker_arguments.extend(["--cache".into(), url.into()]);
        self
    }
}

/// What a worker writes down, at level debug, when it is called.
const CALL: &str = "computing tiles";

/// A request under way.
#[derive(Debug)]
pub struct Asking(tokio::task::JoinHandle<Outcome>);

impl Asking {
    /// How it ends.
    pub async fn outcome(self) -> Outcome {
        self.0.await.expect("an outcome")
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.0.is_finished()
    }

    /// The client goes away.
    pub fn abandon(self) {
        self.0.abort();
    }
}

/// Asks meanwhile.
pub fn asking(endpoint: String, case: &Case, within: Duration) -> Asking {
    let case = case.clone();
    Asking(tokio::spawn(async move { ask(&endpoint, &case, within).await }))
}

/// A server: its process, where it listens, and how it is started.
#[derive(Debug)]
pub struct Server {
    /// The process; `None` between its end and its next start.
    process: Option<Process>,
    /// Where it listens; the same after a restart.
    pub address: SocketAddr,
    /// Before it, where there are proxies: what others connect to.
    pub proxy: Option<Proxy>,
    arguments: Vec<String>,
    faults: String,
    has_failpoints: bool,
}

impl Server {
    async fn start(arguments: Vec<String>, faults: String, setup: &Setup, proxy: Option<Proxy>) -> Server {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let has_failpoints = setup.has_failpoints;
        let mut server = Server { process: None, address, proxy, arguments, faults, has_failpoints };
        server.launch().await;
        server
    }

    async fn launch(&mut self) {
        let binary = if self.has_failpoints { graticule_with_failpoints() } else { graticule() };
        let mut command = Command::new(binary);
        command.args(&self.arguments).args(["--listen", &self.address.to_string()]);
        command.env_remove("GRATICULE_DATA").env_remove("GRATICULE_LOG").env_remove("FAILPOINTS");
        if !self.faults.is_empty() {
            command.env("FAILPOINTS", &self.faults);
        }
        let mut process = Process::of(command);
        self.address = process.address().await;
        if let Some(proxy) = &self.proxy {
            proxy.leads_to(self.address);
        }
        self.process = Some(process);
    }

    /// Its process.
    ///
    /// # Panics
    /// Between its end and its next start.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("a process")
    }

    /// The proxy before it.
    ///
    /// # Panics
    /// Where the fleet has none.
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("a fleet with proxies")
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: &str) {
        self.process().signal(signal);
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> Ended {
        self.process.take().expect("a process").ended().await
    }

    /// Ends it as a crash does.
    pub async fn kill(&mut self) {
        self.signal("KILL");
        self.ended().await;
    }

    /// Starts it again at the same place, without faults.
    pub async fn restart(&mut self) {
        self.restart_with("").await;
    }

    /// Starts it again at the same place with faults.
    pub async fn restart_with(&mut self, faults: &str) {
        self.faults = faults.to_owned();
        self.launch().await;
    }

    /// Calls that this worker took since it started.
    pub fn calls(&mut self) -> usize {
        self.process().log().matches(CALL).count()
    }

    /// Waits until this worker has taken so many calls.
    pub async fn gets_calls(&mut self, calls: usize) {
        self.process().logs_times(CALL, calls).await;
    }

    /// Waits until a failpoint took effect.
    pub async fn fails_at(&mut self, name: &str) {
        self.process().logs(&format!("failpoint `{name}`")).await;
    }
}

/// Coordinators and workers; killed when dropped.
#[derive(Debug)]
pub struct Fleet {
    /// The coordinators.
    pub coordinators: Vec<Server>,
    /// The workers.
    pub workers: Vec<Server>,
    /// Between each worker (first index) and coordinator (second): the worker's registration.
    pub registrations: Vec<Vec<Proxy>>,
}

impl Fleet {
    /// Starts one over the sample imagery and waits until every coordinator knows every worker.
    pub async fn start(imagery: &Imagery, setup: &Setup) -> Fleet {
        if !imagery.data().exists() {
            cases::register(imagery);
        }
        let data = imagery.data().display().to_string();
        let mut fleet = Fleet { coordinators: Vec::new(), workers: Vec::new(), registrations: Vec::new() };
        for index in 0..setup.coordinators {
            let mut arguments = vec!["--data".to_owned(), data.clone(), "coordinator".into()];
            arguments.extend(setup.coordinator_arguments.iter().cloned());
            let faults = setup.coordinator_faults.get(index).cloned().unwrap_or_default();
            let proxy = if setup.has_proxies { Some(Proxy::start().await) } else { None };
            fleet.coordinators.push(Server::start(arguments, faults, setup, proxy).await);
        }
        for index in 0..setup.workers {
            let faults = setup.worker_faults.get(index).cloned().unwrap_or_default();
            fleet.add_worker(setup, faults).await;
        }
        fleet.everybody_is_known().await;
        fleet
    }

    /// Starts one more worker. It makes itself known in its own time.
    pub async fn add_worker(&mut self, setup: &Setup, faults: String) {
        let mut arguments: Vec<String> =
            ["--log", "info,graticule_worker=debug", "worker", "--slots"].map(str::to_owned).to_vec();
        arguments.push(setup.slots.to_string());
        arguments.extend(setup.worker_arguments.iter().cloned());
        let mut registrations = Vec::new();
        for coordinator in &self.coordinators {
            let mut url = format!("http://{}", coordinator.address);
            if setup.has_proxies {
                let proxy = Proxy::before(coordinator.address).await;
                url = proxy.url("http");
                registrations.push(proxy);
            }
            arguments.extend(["--coordinator".into(), url]);
        }
        let mut proxy = None;
        if setup.has_proxies {
            let before = Proxy::start().await;
            arguments.extend(["--advertise".into(), before.url("http")]);
            proxy = Some(before);
        }
        self.registrations.push(registrations);
        self.workers.push(Server::start(arguments, faults, setup, proxy).await);
    }

    /// Waits until every coordinator that runs knows every worker that runs.
    pub async fn everybody_is_known(&mut self) {
        let workers = self.workers.iter().filter(|worker| worker.process.is_some()).count();
        for coordinator in self.coordinators.iter().filter(|coordinator| coordinator.process.is_some()) {
            coordinator.knows(workers).await;
        }
    }

    /// Waits until the first coordinator computes with so many workers: they may have to come back first.
    pub async fn has_workers(&self, workers: u32) {
        self.coordinator_has_workers(0, workers).await;
    }

    /// Waits until a coordinator computes with so many workers.
    pub async fn coordinator_has_workers(&self, coordinator: usize, workers: u32) {
        let hello = cases::focal().await.anew();
        let all = async || match ask(&self.endpoint(coordinator), &hello, PATIENCE).await {
            Outcome::Right(summary) => summary.workers == workers,
            Outcome::Failed { may_retry: true, .. } => false,
            other => panic!("{other:?}"),
        };
        until(&format!("{workers} workers"), all).await;
    }

    /// All links there are proxies on.
    pub fn links(&self) -> impl Iterator<Item = &Proxy> {
        let servers =
            self.coordinators.iter().chain(&self.workers).filter_map(|server| server.proxy.as_ref());
        servers.chain(self.registrations.iter().flatten())
    }

    /// One of [`Fleet::links`].
    pub fn link(&self, at: usize) -> &Proxy {
        self.links().nth(at).expect("a link")
    }

    /// Where clients ask.
    pub fn endpoint(&self, coordinator: usize) -> String {
        let coordinator = &self.coordinators[coordinator];
        coordinator
            .proxy
            .as_ref()
            .map_or(format!("http://{}", coordinator.address), |proxy| proxy.url("http"))
    }

    /// Asks the first coordinator; what it says, within [`PATIENCE`].
    pub async fn ask(&self, case: &Case) -> Outcome {
        ask(&self.endpoint(0), case, PATIENCE).await
    }

    /// Asks the first coordinator meanwhile.
    pub fn asking(&self, case: &Case) -> Asking {
        asking(self.endpoint(0), case, PATIENCE)
    }

    /// Asks the first coordinator meanwhile, and waits until one of the workers computes for it.
    pub async fn busy_with(&mut self, case: &Case, worker: usize) -> Asking {
        let before = self.workers[worker].calls();
        let asking = self.asking(case);
        self.workers[worker].gets_calls(before + 1).await;
        asking
    }

    /// Asks the first coordinator, and insists on the right pixels.
    pub async fn computes(&self, case: &Case) -> pb::Summary {
        match self.ask(case).await {
            Outcome::Right(summary) => *summary,
            other => panic!("{}: {other:?}", case.name),
        }
    }

    /// All processes that run, by name.
    pub fn processes(&self) -> Vec<(String, &Process)> {
        let coordinators =
            self.coordinators.iter().enumerate().map(|(at, server)| (format!("coordinator {at}"), server));
        let workers = self.workers.iter().enumerate().map(|(at, server)| (format!("worker {at}"), server));
        coordinators
            .chain(workers)
            .filter_map(|(name, server)| Some((name, server.process.as_ref()?)))
            .collect()
    }

    /// Processor time of all workers.
    pub fn worker_cpu(&mut self) -> Duration {
        self.workers.iter_mut().filter_map(|worker| worker.process.as_ref().map(Process::cpu_time)).sum()
    }

    /// Waits until no worker has used processor time for a while; how long ago that began, counted from `since`.
    pub async fn workers_idle(&mut self, since: Instant) -> Duration {
        /// No computation that still runs takes less.
        const WHILE: Duration = Duration::from_millis(600);
        /// Heartbeats take some.
        const NEXT_TO_NOTHING: Duration = Duration::from_millis(30);
        let (mut used, mut quiet) = (self.worker_cpu(), Instant::now());
        let is_quiet = async || {
            let now = self.worker_cpu();
            if now > used + NEXT_TO_NOTHING {
                (used, quiet) = (now, Instant::now());
            }
            quiet.elapsed() >= WHILE
        };
        until("the workers stop computing", is_quiet).await;
        quiet.saturating_duration_since(since)
    }
}

impl Server {
    /// What this coordinator's fleet does.
    pub async fn describe(&self) -> Result<pb::DescribeResponse, Status> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).expect("an address");
        let channel = endpoint.connect().await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(FleetServiceClient::new(channel).describe(pb::DescribeRequest {}).await?.into_inner())
    }

    /// Waits until this coordinator knows so many workers.
    pub async fn knows(&self, workers: usize) {
        // One that starts has no answer yet.
        let known = async || self.describe().await.is_ok_and(|fleet| fleet.workers.len() == workers);
        until(&format!("{workers} workers"), known).await;
    }
}

/// How a request ended.
#[derive(Debug)]
pub enum Outcome {
    /// With the right pixels.
    Right(Box<pb::Summary>),
    /// With pixels that are not the right ones.
    Wrong,
    /// With an error that says its class, after some time.
    Failed {
        /// Name of the class.
        class: &'static str,
        /// What it says.
        message: String,
        /// Whether the same request may succeed if it is sent again at once.
        may_retry: bool,
        /// From the request to the error.
        after: Duration,
    },
    /// Not at all, within the time for it.
    Hung,
}

impl Outcome {
    /// Its name: `right`, `wrong`, `hung`, or an error's class.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Right(_) => "right",
            Outcome::Wrong => "wrong",
            Outcome::Hung => "hung",
            Outcome::Failed { class, .. } => class,
        }
    }

    /// Checks that it is the right pixels or an error of one of these classes.
    #[track_caller]
    pub fn is_right_or(&self, classes: &[&str]) {
        let is_clean = matches!(self, Outcome::Right(_)) || classes.contains(&self.name());
        assert!(is_clean, "{self:?}");
    }

    /// Checks that it is the right pixels.
    #[track_caller]
    pub fn is_right(&self) {
        self.is_right_or(&[]);
    }

    /// Whether it is.
    pub fn was_right(&self) -> bool {
        matches!(self, Outcome::Right(_))
    }
}

/// The largest message: headers list scenes.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Opens a stream.
///
/// # Errors
/// The server's, or the connection's.
pub async fn open(
    endpoint: &str,
    request: &pb::ComputeRequest,
) -> Result<Streaming<pb::ComputeResponse>, Status> {
    Ok(connect(endpoint).await?.compute(request.clone()).await?.into_inner())
}

/// A connection of one's own.
///
/// # Errors
/// The connection's.
pub async fn connect(endpoint: &str) -> Result<ComputeServiceClient<Channel>, Status> {
    let endpoint = Endpoint::from_shared(endpoint.to_owned()).expect("an address");
    let channel = graticule_common::transport::with_keepalive(endpoint).connect().await;
    let channel = channel.map_err(|error| Status::unavailable(format!("{error:?}")))?;
    Ok(ComputeServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
}

/// Asks a coordinator over a connection of its own.
pub async fn ask(endpoint: &str, case: &Case, within: Duration) -> Outcome {
    let started = Instant::now();
    let whole = async {
        let mut stream = open(endpoint, &case.request).await?;
        receive(&mut stream).await
    };
    let ended = tokio::time::timeout(within, whole).await;
    outcome(case, ended.ok(), started)
}

/// What it comes to; `None`: there was no end.
fn outcome(case: &Case, ended: Option<Result<Received, Status>>, started: Instant) -> Outcome {
    match ended {
        None => Outcome::Hung,
        Some(Err(status)) => failed(&status, started.elapsed()),
        Some(Ok(received)) => match received.summary.clone() {
            Some(summary) if case.is_answered_by(received) => Outcome::Right(Box::new(summary)),
            _ => Outcome::Wrong,
        },
    }
}

/// Asks, and says how long the answer may take: `deadline` travels with the request. Within two seconds more
/// there is an end.
pub async fn ask_by(endpoint: &str, case: &Case, deadline: Duration) -> Outcome {
    let started = Instant::now();
    let whole = async {
        let mut request = Request::new(case.request.clone());
        request.set_timeout(deadline);
        let mut stream = connect(endpoint).await?.compute(request).await?.into_inner();
        receive(&mut stream).await
    };
    let ended = tokio::time::timeout(deadline + Duration::from_secs(2), whole).await;
    outcome(case, ended.ok(), started)
}

/// Asks each endpoint in turn, once, as long as the errors are such that a client may ask again.
pub async fn ask_again(endpoints: &[String], case: &Case, within: Duration) -> Outcome {
    let mut outcome = Outcome::Hung;
    for endpoint in endpoints {
        outcome = ask(endpoint, case, within).await;
        if !matches!(outcome, Outcome::Failed { may_retry: true, .. }) {
            break;
        }
    }
    outcome
}

/// Reads a stream to its summary.
///
/// # Errors
/// The stream's; its end without a summary is one.
pub async fn receive(stream: &mut Streaming<pb::ComputeResponse>) -> Result<Received, Status> {
    let mut received = Received::default();
    while let Some(answer) = stream.message().await? {
        match answer.message {
            Some(Message::Header(header)) => received.header = Some(header),
            Some(Message::Chunk(chunk)) => received.chunks.push(chunk),
            Some(Message::Progress(progress)) => received.progress.push(progress),
            Some(Message::Summary(summary)) => received.summary = Some(summary),
            None => {}
        }
    }
    // As the protocol says: a stream without a summary is no result.
    if received.summary.is_none() {
        return Err(Status::unavailable("the stream ended without a summary"));
    }
    Ok(received)
}

fn failed(status: &Status, after: Duration) -> Outcome {
    let class = class_of(status).name();
    let is_transport = matches!(status.code(), Code::Unknown | Code::Unavailable | Code::Cancelled);
    Outcome::Failed {
        class,
        message: status.message().to_owned(),
        may_retry: is_transport || matches!(class, "unavailable" | "overloaded"),
        after,
    }
}
