//! Coordinator and workers in one process: the embedded engine, and `graticule serve`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use graticule_common::error::ErrorClass;
use graticule_common::proto::DESCRIPTORS;
use graticule_common::telemetry::Readiness;
use graticule_common::telemetry::names::Role;
use graticule_common::transform::Proj;
use graticule_common::transport::{Credentials, Trust};
use graticule_coordinator::Addresses;
use graticule_coordinator::access::Access;
use graticule_coordinator::fleet::{Fleet, Timing};
use graticule_worker::source::Sources;
use graticule_worker::source::gdal::{GdalSource, allow, drivers};
use graticule_worker::source::remote::{self, Patience, Remote};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;

use crate::Global;
use crate::access::AccessArgs;
use crate::admin::AdminArgs;
use crate::allowance::AllowanceArgs;
use crate::catalog::CatalogRoots;
use crate::failure::{Failure, say};
use crate::http::HttpArgs;
use crate::interrupt::{Interrupt, StopArgs};
use crate::request::{EngineArgs, FileArgs};
use crate::tls::TlsArgs;

/// Run a coordinator and workers in one process.
#[derive(Args, Debug)]
pub struct Serve {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4000")]
    listen: SocketAddr,
    #[command(flatten)]
    roots: CatalogRoots,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    allowance: AllowanceArgs,
    #[command(flatten)]
    stop: StopArgs,
    #[command(flatten)]
    http: HttpArgs,
}

/// What an engine for others has beside one for this process alone.
#[derive(Debug)]
pub struct Public<'a> {
    listen: SocketAddr,
    roots: &'a CatalogRoots,
    allowance: &'a AllowanceArgs,
    readiness: watch::Sender<Readiness>,
    grace: Duration,
    access: Access,
    tls: &'a TlsArgs,
    http: &'a HttpArgs,
}

impl Serve {
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let mut interrupt = Interrupt::listen()?;
        let readiness = watch::Sender::default();
        let roles = [Role::Coordinator, Role::Worker, Role::Process];
        self.admin.start(&roles, readiness.subscribe()).await?;
        let access = self.access.access(global, self.tls.has_worker_certificates()).await?;
        self.access.warn_if_open(self.listen);
        let (listen, roots, grace) = (self.listen, &self.roots, self.stop.grace());
        let allowance = &self.allowance;
        let (tls, http) = (&self.tls, &self.http);
        let public = Public { listen, roots, allowance, readiness, grace, access, tls, http };
        let mut engine = Engine::start(global, &self.engine, Some(public)).await?;
        say!(
            "serving on {}://{} with {} workers; Ctrl-C stops",
            engine.scheme,
            engine.address,
            self.engine.workers
        );
        if let Some(address) = engine.http {
            say!("map on {}://{address}/", engine.scheme);
        }
        tokio::select! {
            () = interrupt.next() => interrupt.end_at_next(),
            failure = engine.failed() => return Err(failure),
        }
        engine.stop().await
    }
}

/// Time for the workers of this process to register.
const REGISTRATION_PATIENCE: Duration = Duration::from_secs(5);

/// A running engine: one coordinator and its workers, which talk gRPC over loopback.
#[derive(Debug)]
pub struct Engine {
    /// Where the coordinator listens.
    pub address: SocketAddr,
    /// Where it answers over HTTP.
    http: Option<SocketAddr>,
    /// How its address begins.
    scheme: &'static str,
    front: CancellationToken,
    back: CancellationToken,
    grace: Duration,
    parts: JoinSet<(Part, Result<(), Failure>)>,
}

/// A part of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Coordinator,
    Worker,
}

impl Engine {
    /// Starts an engine over the catalog in the data folder. Without `public` it is for this process
    /// alone: on a free port, without reflection.
    pub async fn start(
        global: &Global,
        args: &EngineArgs,
        public: Option<Public<'_>>,
    ) -> Result<Engine, Failure> {
        let catalog = Arc::new(args.store.open(global).await?);
        let (front, back) = (CancellationToken::new(), CancellationToken::new());
        let mut parts = JoinSet::new();
        let mut config = graticule_coordinator::Config::default();
        let mut trust = Trust::default();
        let mut extra = RoutesBuilder::default();
        if let Some(public) = public {
            // Its own workers show a key that nobody else has, and know the server by its very certificate.
            let (access, key) = public.access.with_inner_key().map_err(Failure::io)?;
            trust.credentials = Credentials::new(&key).map_err(Failure::usage)?;
            config.access = Arc::new(access);
            config.tls = public.tls.server()?;
            trust.client = config.tls.as_ref().map(|tls| Arc::new(tls.to_itself()));
            config.fleet = Fleet::with_tls(Timing::default(), public.tls.workers()?);
            (config.listen, config.readiness, config.grace) = (public.listen, public.readiness, public.grace);
            public.allowance.apply(&mut config);
            config.http = public.http.of_serve(catalog.objects().clone())?;
            extra.add_service(public.roots.service(&catalog)?);
            args.store.watch(&catalog, &front);
            let reflection = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .build_v1()
                .map_err(|error| Failure { code: 70, message: error.to_string() })?;
            extra.add_service(reflection);
        }
        let fleet = config.fleet.clone();
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let (sender, addresses) = oneshot::channel();
        let (stop, grace) = (front.clone(), config.grace);
        parts.spawn(async move {
            // Nobody waits for the address only when the start was given up.
            let ready = |addresses| _ = sender.send(addresses);
            let run = graticule_coordinator::run(config, catalog, Arc::new(Proj::new()), extra, stop, ready);
            (Part::Coordinator, run.await.map_err(Failure::of))
        });
        let Ok(Addresses { grpc: address, http }) = addresses.await else {
            return Err(end_of(&mut parts).await);
        };
        let source = sources(&args.files);
        // The machine's threads are shared out: together the workers use each once.
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        for _ in 0..args.workers {
            let config = graticule_worker::Config {
                coordinators: vec![format!("{scheme}://{address}")],
                trust: trust.clone(),
                slots: threads.div_ceil(args.workers),
                cache_url: args.cache.clone(),
                cache_salt: args.cache_salt.clone(),
                grace,
                ..graticule_worker::Config::default()
            };
            let (source, stop) = (source.clone(), back.clone());
            let (sender, ready) = oneshot::channel();
            parts.spawn(async move {
                let ready = |_| _ = sender.send(());
                let run = graticule_worker::run(config, source, stop, ready);
                (Part::Worker, run.await.map_err(Failure::of))
            });
            if ready.await.is_err() {
                return Err(end_of(&mut parts).await);
            }
        }
        // How tiles are cut depends on the workers: the first request is to see all of them.
        let mut changes = fleet.changes();
        let all = async {
            while fleet.snapshot().len() < args.workers as usize {
                if changes.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            // Who is late takes part as soon as it is there.
            _ = tokio::time::timeout(REGISTRATION_PATIENCE, all) => {}
            failure = end_of(&mut parts) => return Err(failure),
        }
        Ok(Engine { address, http, scheme, front, back, grace, parts })
    }

    /// Why a part of the engine ended, once one does.
    pub async fn failed(&mut self) -> Failure {
        end_of(&mut self.parts).await
    }

    /// Stops all parts and waits for them: first the coordinator, which finishes what is under way, then the
    /// workers, which have nothing left to do.
    pub async fn stop(mut self) -> Result<(), Failure> {
        let end = Instant::now() + self.grace;
        self.front.cancel();
        let mut result = Ok(());
        loop {
            let Some(ended) = self.parts.join_next().await else { break };
            let (part, ended) = ended.unwrap_or_else(|error| (Part::Coordinator, Err(defect(&error))));
            result = result.and(ended);
            if part == Part::Coordinator {
                break;
            }
        }
        self.back.cancel();
        let workers = async {
            while let Some(ended) = self.parts.join_next().await {
                let (_, ended) = ended.unwrap_or_else(|error| (Part::Worker, Err(defect(&error))));
                result = std::mem::replace(&mut result, Ok(())).and(ended);
            }
        };
        if tokio::time::timeout_at(end.max(Instant::now() + WORKERS_GRACE), workers).await.is_err() {
            let message = "a tile was still computed when the grace period was over; nobody waits for it";
            result = result.and(Err(Failure::new(ErrorClass::Timeout, message)));
        }
        result
    }
}

/// Time for workers after the coordinator has ended, at least.
const WORKERS_GRACE: Duration = Duration::from_secs(1);

fn defect(error: &JoinError) -> Failure {
    Failure { code: 70, message: error.to_string() }
}

/// Where workers read: files of disks, servers and stores through GDAL, and formulas.
pub fn sources(args: &FileArgs) -> Arc<Sources> {
    Arc::new(Sources::with_local(inspector(args)))
}

/// The one that opens files.
pub fn inspector(args: &FileArgs) -> Arc<GdalSource> {
    allow(&args.allow_format);
    tracing::info!(
        drivers = drivers().join(", "),
        "files are opened with these drivers of GDAL and no others"
    );
    // The command line's parser took each of the hosts; without them less is allowed, not more.
    let access = remote::Access::to_hosts(&args.allow_host).unwrap_or_default();
    Arc::new(GdalSource::with_remote(Arc::new(Proj::new()), Remote::new(access, Patience::default())))
}

async fn end_of(parts: &mut JoinSet<(Part, Result<(), Failure>)>) -> Failure {
    match parts.join_next().await {
        Some(Ok((_, Err(failure)))) => failure,
        Some(Err(error)) => defect(&error),
        Some(Ok((_, Ok(())))) | None => {
            Failure { code: 70, message: "a part of the engine ended by itself".into() }
        }
    }
}
