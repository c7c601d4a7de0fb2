//! A coordinator and workers in this process that talk real gRPC over loopback. Each has threads of
//! its own, so that a worker can be killed: its connections break and its tasks are gone at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::fleet_service_client::FleetServiceClient;
use graticule_common::transform::Proj;
use graticule_coordinator::Addresses;
use graticule_coordinator::access::Access;
use graticule_coordinator::catalog::SceneCatalog;
use graticule_coordinator::fleet::{Fleet, Timing};
use graticule_coordinator::http::{HttpConfig, HttpRules};
use graticule_coordinator::objects::Objects;
use graticule_worker::source::TileSource;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;

use crate::client::{Client, request};
use crate::probe::{Behaviour, Probe};
use crate::rest::Rest;
use crate::{scenes, soon};

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Number of workers.
    pub workers: usize,
    /// Tiles each of them computes at the same time.
    pub slots: u32,
    /// Which scenes there are.
    pub catalog: Arc<dyn SceneCatalog>,
    /// Where pixels come from.
    pub source: Arc<dyn TileSource>,
    /// How long a request waits for a worker.
    pub patience: Duration,
    /// What requests go by beside.
    pub requests: graticule_coordinator::request::Rules,
    /// What scheduling goes by.
    pub schedule: graticule_coordinator::schedule::Rules,
    /// How often workers announce themselves.
    pub timing: Timing,
    /// The HTTP port; without it there is none.
    pub http: Option<HttpConfig>,
    /// Who may call.
    pub access: Arc<Access>,
}

impl Setup {
    /// Workers over a catalog.
    pub fn new(workers: usize, catalog: Arc<dyn SceneCatalog>, source: Arc<dyn TileSource>) -> Setup {
        Setup {
            workers,
            slots: 2,
            catalog,
            source,
            patience: Duration::from_secs(5),
            requests: Default::default(),
            schedule: Default::default(),
            timing: Timing::default(),
            http: None,
            access: Arc::new(Access::open()),
        }
    }

    /// With an HTTP port over a store.
    pub fn with_http(self, objects: Objects) -> Setup {
        Setup { http: Some(http_config(objects)), ..self }
    }
}

/// An HTTP port on a free port, over a store.
pub fn http_config(objects: Objects) -> HttpConfig {
    HttpConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        may_move: false,
        objects,
        cors: Vec::new(),
        layer_secret: None,
        geotiff: None,
        basemap: None,
        public_url: None,
        rules: HttpRules::default(),
    }
}

/// A running cluster; everything ends when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// Where the coordinator listens.
    pub address: SocketAddr,
    /// Where it answers over HTTP.
    pub http: Option<SocketAddr>,
    /// Where the workers listen.
    pub worker_addresses: Vec<SocketAddr>,
    /// What each worker reads through.
    pub probes: Vec<Arc<Probe>>,
    /// A connection to the coordinator.
    pub client: Client,
    coordinator: Part,
    workers: Vec<Part>,
}

/// A coordinator or worker.
#[derive(Debug)]
struct Part {
    runtime: Option<Runtime>,
    shutdown: CancellationToken,
    ended: Option<JoinHandle<()>>,
}

impl Part {
    /// Starts a part; `run` makes its future from what stops it and what it tells its address to.
    async fn start<A, F: Future<Output = ()> + Send + 'static>(
        run: impl FnOnce(CancellationToken, oneshot::Sender<A>) -> F,
    ) -> (Part, A) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("threads");
        let (sender, address) = oneshot::channel();
        let shutdown = CancellationToken::new();
        let ended = runtime.spawn(run(shutdown.clone(), sender));
        let address = soon("a listening server", address).await.expect("a listening server");
        (Part { runtime: Some(runtime), shutdown, ended: Some(ended) }, address)
    }

    /// Ends it as a crash would.
    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Cluster {
    /// Starts a cluster and waits until the coordinator knows all workers.
    pub async fn start(setup: Setup) -> Cluster {
        let config = graticule_coordinator::Config {
            requests: graticule_coordinator::request::Rules {
                patience: setup.patience,
                ..setup.requests.clone()
            },
            schedule: setup.schedule.clone(),
            fleet: Fleet::new(setup.timing),
            http: setup.http.clone(),
            access: setup.access.clone(),
            ..graticule_coordinator::Config::default()
        };
        let catalog = setup.catalog.clone();
        let (coordinator, Addresses { grpc: address, http }) =
            Part::start(move |shutdown, ready| async move {
                let (transform, extra) = (Arc::new(Proj::new()), RoutesBuilder::default());
                let ready = |at| _ = ready.send(at);
                let run = graticule_coordinator::run(config, catalog, transform, extra, shutdown, ready);
                run.await.expect("a coordinator");
            })
            .await;
        let client = Client::connect(address).await;
        let mut cluster = Cluster {
            address,
            http,
            worker_addresses: Vec::new(),
            probes: Vec::new(),
            client,
            coordinator,
            workers: Vec::new(),
        };
        for _ in 0..setup.workers {
            cluster.add_worker(&setup).await;
        }
        if setup.workers > 0 {
            cluster.wait_for_workers(&setup).await;
        }
        cluster
    }

    /// Starts one more worker. It makes itself known in its own time.
    pub async fn add_worker(&mut self, setup: &Setup) {
        let probe = Probe::new(setup.source.clone());
        let source: Arc<dyn TileSource> = probe.clone();
        let config = graticule_worker::Config {
            coordinators: vec![format!("http://{}", self.address)],
            slots: setup.slots,
            ..graticule_worker::Config::default()
        };
        let (worker, address) = Part::start(move |shutdown, ready| async move {
            let run = graticule_worker::run(config, source, shutdown, |address| _ = ready.send(address));
            run.await.expect("a worker");
        })
        .await;
        self.probes.push(probe);
        self.worker_addresses.push(address);
        self.workers.push(worker);
    }

    /// Only a request tells how many workers the coordinator knows.
    async fn wait_for_workers(&self, setup: &Setup) {
        let products = setup.catalog.products().await.expect("products");
        let product = products.first().expect("a product");
        let graft = scenes::reduce(&product.id, &product.bands[0], "max");
        let [west, _, _, north] = scenes::AREA;
        let pixel = [west, north - 30.0, west + 30.0, north];
        let hello = request(&graft, scenes::CRS, pixel, 30.0);
        let all_known = async {
            while self.client.compute(&hello).await.expect("a pixel").summary.workers < setup.workers as u32 {
            }
        };
        soon("all workers are known", all_known).await;
    }

    /// Ends a worker as a crash would: its connections break.
    pub fn kill_worker(&mut self, index: usize) {
        self.workers[index].kill();
    }

    /// Asks a worker to stop, as SIGTERM does, without waiting.
    pub fn stop_worker(&mut self, index: usize) {
        self.workers[index].shutdown.cancel();
    }

    /// Waits for the end of a worker that was asked to stop.
    pub async fn worker_ended(&mut self, index: usize) {
        if let Some(ended) = self.workers[index].ended.take() {
            soon("the worker's end", ended).await.expect("an orderly end");
        }
    }

    /// What the coordinator says of itself.
    pub async fn describe(&self) -> pb::DescribeResponse {
        let endpoint = format!("http://{}", self.address);
        let mut client = soon("a connection", FleetServiceClient::connect(endpoint)).await.expect("a fleet");
        let described = soon("a description", client.describe(pb::DescribeRequest {})).await;
        described.expect("a description").into_inner()
    }

    /// Waits until what the coordinator says of itself fits.
    pub async fn until(&self, what: &str, fits: impl Fn(&pb::DescribeResponse) -> bool) {
        soon(what, async { while !fits(&self.describe().await) {} }).await;
    }

    /// Its HTTP port.
    ///
    /// # Panics
    /// When the setup has none.
    pub fn rest(&self) -> Rest {
        Rest::new(self.http.expect("an HTTP port"))
    }

    /// Asks the coordinator to stop, as SIGTERM does, without waiting.
    pub fn stop_coordinator(&mut self) {
        self.coordinator.shutdown.cancel();
    }

    /// Ends the coordinator as a crash would.
    pub fn kill_coordinator(&mut self) {
        self.coordinator.kill();
    }

    /// Reads of all workers so far.
    pub fn reads(&self) -> u64 {
        self.probes.iter().map(|probe| probe.reads()).sum()
    }

    /// Computes with one line less.
    pub async fn compute(
        &self,
        request: &pb::ComputeRequest,
    ) -> Result<crate::client::Answer, crate::world::Failure> {
        self.client.compute(request).await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A thread that waits at a gate would outlive the test.
        self.probes.iter().for_each(|probe| probe.set(Behaviour::Pass));
    }
}
