//! `graticule coordinator` and `graticule worker`: the parts of `serve` in processes of their own.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use graticule_common::telemetry::names::Role;
use graticule_common::transform::Proj;
use graticule_coordinator::Addresses;
use graticule_coordinator::fleet::{Fleet, Timing};
use tonic::service::RoutesBuilder;

use crate::Global;
use crate::access::AccessArgs;
use crate::admin::AdminArgs;
use crate::allowance::AllowanceArgs;
use crate::catalog::CatalogRoots;
use crate::failure::{Failure, print_line};
use crate::http::HttpArgs;
use crate::interrupt::{Interrupt, StopArgs};
use crate::request::FileArgs;
use crate::serve::sources;
use crate::store::StoreArgs;
use crate::tls::{TlsArgs, WorkerTlsArgs};

/// Run a coordinator.
#[derive(Args, Debug)]
pub struct Coordinator {
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
    admin: AdminArgs,
    #[command(flatten)]
    allowance: AllowanceArgs,
    #[command(flatten)]
    stop: StopArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    http: HttpArgs,
}

impl Coordinator {
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let stop = Interrupt::listen()?.token();
        let access = self.access.access(global, self.tls.has_worker_certificates()).await?;
        self.access.warn_if_open(self.listen);
        let mut config = graticule_coordinator::Config {
            listen: self.listen,
            access: Arc::new(access),
            tls: self.tls.server()?,
            fleet: Fleet::with_tls(Timing::default(), self.tls.workers()?),
            grace: self.stop.grace(),
            ..Default::default()
        };
        self.allowance.apply(&mut config);
        self.admin.start(&[Role::Coordinator, Role::Process], config.readiness.subscribe()).await?;
        // To make the index again may take minutes, in which it is alive and not ready.
        let catalog = Arc::new(self.store.open(global).await?);
        // A log that is closed is no reason to stop.
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        config.http = self.http.of_coordinator(catalog.objects().clone())?;
        let ready = |at: Addresses| {
            _ = print_line(format_args!("coordinator on {scheme}://{}", at.grpc));
            if let Some(address) = at.http {
                _ = print_line(format_args!("map on {scheme}://{address}/"));
            }
        };
        let (transform, mut extra) = (Arc::new(Proj::new()), RoutesBuilder::default());
        extra.add_service(self.roots.service(&catalog)?);
        self.store.watch(&catalog, &stop);
        graticule_coordinator::run(config, catalog, transform, extra, stop, ready).await.map_err(Failure::of)
    }
}

/// Run a worker.
#[derive(Args, Debug)]
pub struct Worker {
    /// Coordinator to register with; may be given several times
    #[arg(long, value_name = "URL", required = true)]
    coordinator: Vec<String>,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Address at which coordinators reach this worker [default: the one listened on]
    #[arg(long, value_name = "URL")]
    advertise: Option<String>,
    /// Tiles computed at the same time [default: one a processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    slots: Option<u32>,
    /// Memory for tiles, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(16..))]
    memory: u64,
    /// Redis to share intermediate results through: redis://HOST[:PORT][/DB]
    #[arg(long, value_name = "URL", env = "GRATICULE_CACHE", hide_env_values = true)]
    cache: Option<String>,
    /// A text that enters the key of all that is remembered: another one disowns it. The same for all workers
    #[arg(
        long,
        value_name = "TEXT",
        env = "GRATICULE_CACHE_SALT",
        default_value = "",
        hide_default_value = true
    )]
    cache_salt: String,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    tls: WorkerTlsArgs,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    stop: StopArgs,
}

impl Worker {
    pub async fn run(self) -> Result<(), Failure> {
        let stop = Interrupt::listen()?.token();
        let config = graticule_worker::Config {
            listen: self.listen,
            advertise: self.advertise,
            trust: self.tls.trust(&self.coordinator)?,
            coordinators: self.coordinator,
            slots: self
                .slots
                .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get() as u32)),
            memory_bytes: self.memory << 20,
            cache_url: self.cache,
            cache_salt: self.cache_salt,
            grace: self.stop.grace(),
            ..graticule_worker::Config::default()
        };
        self.admin.start(&[Role::Worker, Role::Process], config.readiness.subscribe()).await?;
        if config.trust.server.is_none() && !self.listen.ip().is_loopback() {
            tracing::warn!(listen = %self.listen, "whoever reaches this address can have tiles computed; see `--tls-cert`");
        }
        let scheme = config.trust.scheme();
        let ready = |address| _ = print_line(format_args!("worker on {scheme}://{address}"));
        graticule_worker::run(config, sources(&self.files), stop, ready).await.map_err(Failure::of)
    }
}
