//! Who may call: a whole cluster with credentials and certificates.

use std::net::SocketAddr;
use std::sync::Arc;

use graticule_common::error::ErrorClass;
use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::catalog_service_client::CatalogServiceClient;
use graticule_common::proto::v1::compute_service_client::ComputeServiceClient;
use graticule_common::proto::v1::fleet_service_client::FleetServiceClient;
use graticule_common::scene::Timestamp;
use graticule_common::status::{class_of, retry_after};
use graticule_common::tls::{ClientTls, Clients, Role, ServerTls};
use graticule_common::transform::Proj;
use graticule_common::transport::{Authorized, Credentials, Target, Trust};
use graticule_coordinator::access::keys::{KeyFile, NewKey, Pepper};
use graticule_coordinator::access::quota::Quota;
use graticule_coordinator::access::{Access, AccessSettings, Scope, Scopes};
use graticule_coordinator::fleet::{Fleet, Timing};
use graticule_tests::certificates::{Authority, Time};
use graticule_tests::client::Client;
use graticule_tests::cluster::{Cluster, Setup};
use graticule_tests::scenes::{MadeUp, masked_index, on_area};
use graticule_tests::soon;
use graticule_worker::source::Sources;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use tonic::service::RoutesBuilder;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// A coordinator and its workers in this runtime; they end when dropped.
struct Secured {
    address: SocketAddr,
    fleet: Fleet,
    parts: JoinSet<()>,
    stop: CancellationToken,
    _stops: DropGuard,
}

fn catalog() -> Arc<MadeUp> {
    Arc::new(MadeUp::default().with("made-up", 4, &["a", "b", "c"]))
}

impl Secured {
    async fn start(access: Access, tls: Option<Arc<ServerTls>>, workers: Option<Arc<ClientTls>>) -> Secured {
        let fleet = Fleet::with_tls(Timing::default(), workers);
        let config = graticule_coordinator::Config {
            access: Arc::new(access),
            tls,
            fleet: fleet.clone(),
            ..graticule_coordinator::Config::default()
        };
        let stop = CancellationToken::new();
        let (sender, address) = oneshot::channel();
        let mut parts = JoinSet::new();
        let token = stop.clone();
        parts.spawn(async move {
            let ready = |at: graticule_coordinator::Addresses| _ = sender.send(at.grpc);
            let (transform, extra) = (Arc::new(Proj::new()), RoutesBuilder::default());
            let run = graticule_coordinator::run(config, catalog(), transform, extra, token, ready);
            run.await.unwrap();
        });
        let address = soon("a coordinator", address).await.unwrap();
        Secured { address, fleet, parts, _stops: stop.clone().drop_guard(), stop }
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://localhost:{}", self.address.port())
    }

    /// Starts a worker and waits until it is registered.
    async fn add_worker(&mut self, scheme: &str, trust: Trust) {
        let config = graticule_worker::Config {
            coordinators: vec![self.url(scheme)],
            trust,
            ..graticule_worker::Config::default()
        };
        let (token, source) = (self.stop.clone(), Arc::new(Sources::synthetic_only()));
        let mut changes = self.fleet.changes();
        let before = self.fleet.snapshot().len();
        self.parts.spawn(async move { graticule_worker::run(config, source, token, |_| ()).await.unwrap() });
        let registered = async {
            while self.fleet.snapshot().len() == before {
                changes.changed().await.unwrap();
            }
        };
        soon("a registered worker", registered).await;
    }

    async fn connect(&self, tls: Option<&Arc<ClientTls>>, token: Option<&str>) -> Authorized {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let credentials = token.map(|token| Credentials::new(token).unwrap()).unwrap_or_default();
        let target = Target::new(&self.url(scheme), tls).unwrap().with(credentials);
        soon("a connection", target.connect()).await.unwrap()
    }
}

/// Keys of a deployment.
struct Keys {
    _folder: TempDir,
    file: KeyFile,
    pepper: Pepper,
}

impl Keys {
    fn new() -> Keys {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile(folder.path().join("keys.jsonl"));
        let pepper = Pepper::open(&folder.path().join("auth.key")).unwrap();
        Keys { file, pepper, _folder: folder }
    }

    fn key(&self, tenant: &str, scopes: &[Scope]) -> String {
        let scopes = Scopes::of(scopes.iter().copied());
        let wanted = NewKey { name: String::new(), tenant: tenant.into(), scopes, expires: None };
        self.file.create(&self.pepper, wanted, Timestamp(0)).unwrap().0
    }

    async fn access(&self, quota: Option<Quota>) -> Access {
        let keys = Some((self.file.clone(), self.pepper.clone()));
        let settings = AccessSettings { is_required: true, keys, quota, ..AccessSettings::default() };
        Access::new(settings).await.unwrap()
    }
}

/// What a registration is answered with.
async fn register(channel: Authorized, address: &str) -> Result<(), Status> {
    let announcement = pb::RegisterRequest {
        worker: "w".into(),
        address: address.into(),
        slots: 1,
        memory_bytes: 1 << 30,
        versions: Some(graticule_common::versions::own()),
        ..pb::RegisterRequest::default()
    };
    let stream = tokio_stream::iter([announcement]);
    let mut client = FleetServiceClient::new(channel);
    let mut answers = soon("an answer", client.register(stream)).await?.into_inner();
    soon("an answer", answers.message()).await.map(|_| ())
}

/// The class that each call is answered with; none where it is let through.
async fn calls(channel: &Authorized) -> [Option<ErrorClass>; 7] {
    let class = |status: Status| {
        Some(class_of(&status)).filter(|class| {
            matches!(class, ErrorClass::Unauthenticated | ErrorClass::Forbidden | ErrorClass::Overloaded)
        })
    };
    let mut compute = ComputeServiceClient::new(channel.clone());
    let mut catalog = CatalogServiceClient::new(channel.clone());
    let mut fleet = FleetServiceClient::new(channel.clone());
    let remove = pb::RemoveRequest { product: "none".into(), items: Vec::new() };
    [
        soon("an answer", compute.compute(pb::ComputeRequest::default())).await.err().and_then(class),
        soon("an answer", compute.explain(pb::ExplainRequest::default())).await.err().and_then(class),
        soon("an answer", catalog.list_products(pb::ListProductsRequest {})).await.err().and_then(class),
        soon("an answer", catalog.remove(remove)).await.err().and_then(class),
        soon("an answer", fleet.describe(pb::DescribeRequest {})).await.err().and_then(class),
        register(channel.clone(), "http://127.0.0.1:9").await.err().and_then(class),
        soon("an answer", HealthClient::new(channel.clone()).check(HealthCheckRequest::default()))
            .await
            .err()
            .and_then(class),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_needs_its_scope() {
    let keys = Keys::new();
    let all: Vec<String> = Scope::ALL.map(|scope| keys.key("acme", &[scope])).to_vec();
    let cluster = Secured::start(keys.access(Some(Quota::NONE)).await, None, None).await;
    let (no, who) = (Some(ErrorClass::Forbidden), Some(ErrorClass::Unauthenticated));
    let nobody = [who, who, who, who, who, who, None];
    let expected = [
        [None, None, no, no, no, no, None],
        [no, no, None, no, no, no, None],
        [no, no, no, None, no, no, None],
        [no, no, no, no, None, no, None],
        [no, no, no, no, no, None, None],
    ];
    for (key, expected) in all.iter().zip(expected) {
        assert_eq!(calls(&cluster.connect(None, Some(key)).await).await, expected);
    }
    assert_eq!(calls(&cluster.connect(None, None).await).await, nobody);
    assert_eq!(calls(&cluster.connect(None, Some("eyJhbGciOiJub25lIn0.e30.")).await).await, nobody);
    let forged = format!("{}0", &all[0][..all[0].len() - 1]);
    if forged != all[0] {
        assert_eq!(calls(&cluster.connect(None, Some(&forged)).await).await, nobody);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_asks_too_much_is_told_when_to_come_back() {
    let keys = Keys::new();
    let [busy, other] = ["busy", "other"].map(|tenant| keys.key(tenant, &[Scope::CatalogRead]));
    let quota = Quota { per_second: 1, at_once: 0 };
    let cluster = Secured::start(keys.access(Some(quota)).await, None, None).await;
    let mut client = CatalogServiceClient::new(cluster.connect(None, Some(&busy)).await);
    let mut refused = None;
    for _ in 0..1000 {
        if let Err(status) = soon("an answer", client.list_products(pb::ListProductsRequest {})).await
            && class_of(&status) == ErrorClass::Overloaded
        {
            refused = Some(status);
            break;
        }
    }
    let refused = refused.expect("a thousand calls are more than one a second");
    let pause = retry_after(&refused).expect("when to come back");
    assert!(pause.as_millis() > 0 && pause.as_secs() < 2, "{pause:?}");
    let mut client = CatalogServiceClient::new(cluster.connect(None, Some(&other)).await);
    let answer = soon("an answer", client.list_products(pb::ListProductsRequest {})).await;
    assert_ne!(answer.err().map(|status| class_of(&status)), Some(ErrorClass::Overloaded));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_certificates_computes_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "theirs"));
    let coordinator = ours.issue("coordinator", Some(Role::Coordinator), Time::Now);
    let tls = ours.server(&coordinator, Clients::Known(ours.ca()));
    let keys = Keys::new();
    let key = keys.key("acme", &[Scope::Compute]);
    let calls_workers = ours.client(Some(Role::Worker), Some(&coordinator));
    let mut cluster = Secured::start(keys.access(None).await, Some(tls), Some(calls_workers)).await;

    let worker = ours.issue("worker", Some(Role::Worker), Time::Now);
    let trust = Trust {
        server: Some(ours.server(&worker, Clients::Only(ours.ca(), Role::Coordinator))),
        client: Some(ours.client(Some(Role::Coordinator), Some(&worker))),
        credentials: Credentials::default(),
    };
    cluster.add_worker("https", trust.clone()).await;
    cluster.add_worker("https", trust).await;

    let by_name = ours.client(None, None);
    let client = Client::over(cluster.connect(Some(&by_name), Some(&key)).await);
    let request = on_area(&masked_index("made-up", ["a", "b", "c"]));
    let answer = client.compute(&request).await.unwrap();
    let plain = Cluster::start(Setup::new(1, catalog(), Arc::new(Sources::synthetic_only()))).await;
    assert_eq!(answer.block.encode(), plain.compute(&request).await.unwrap().block.encode());

    // Who may not register: a worker by name only, a client with a certificate, one of another CA.
    let at = "https://127.0.0.1:9";
    let certified = |cert| ours.client(None, Some(&cert));
    let nobody = certified(ours.issue("nobody", None, Time::Now));
    let refused = register(cluster.connect(Some(&nobody), None).await, at).await.unwrap_err();
    assert_eq!(class_of(&refused), ErrorClass::Unauthenticated);
    let refused = register(cluster.connect(Some(&nobody), Some(&key)).await, at).await.unwrap_err();
    assert_eq!(class_of(&refused), ErrorClass::Forbidden);
    assert!(refused.message().contains("`worker`"), "{}", refused.message());
    let other = certified(ours.issue("other", Some(Role::Coordinator), Time::Now));
    let refused = register(cluster.connect(Some(&other), None).await, at).await.unwrap_err();
    assert_eq!(class_of(&refused), ErrorClass::Unauthenticated);
    for (name, authority, time, reason) in
        [("past", &ours, Time::Past, "has expired"), ("foreign", &theirs, Time::Now, "from another CA")]
    {
        let cert = authority.issue(name, Some(Role::Worker), time);
        let target = Target::new(&cluster.url("https"), Some(&certified(cert))).unwrap();
        let error = soon("a refusal", target.connect()).await.unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
    // A worker by its certificate registers, but is no client, and is called over TLS or on this machine.
    let certified = certified(ours.issue("worker-2", Some(Role::Worker), Time::Now));
    let channel = cluster.connect(Some(&certified), None).await;
    let refused = register(channel.clone(), "http://10.0.0.1:9").await.unwrap_err();
    assert!(refused.message().contains("over TLS only"), "{}", refused.message());
    let mut compute = ComputeServiceClient::new(channel.clone());
    let refused = soon("an answer", compute.compute(pb::ComputeRequest::default())).await.unwrap_err();
    assert_eq!(class_of(&refused), ErrorClass::Forbidden);
    register(channel, at).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_may_also_show_a_key() {
    let keys = Keys::new();
    let [worker, client] = [Scope::Worker, Scope::Compute].map(|scope| keys.key("acme", &[scope]));
    let mut cluster = Secured::start(keys.access(None).await, None, None).await;
    let credentials = Credentials::new(&worker).unwrap();
    cluster.add_worker("http", Trust { credentials, ..Trust::default() }).await;
    let client = Client::over(cluster.connect(None, Some(&client)).await);
    let request = on_area(&masked_index("made-up", ["a", "b", "c"]));
    assert!(client.compute(&request).await.is_ok());
}

/// A key is made worthless in its file: whoever registered with it is no worker any more, though it never
/// went away.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_key_is_revoked_is_let_go() {
    let keys = Keys::new();
    let [first, second] = [(); 2].map(|()| keys.key("acme", &[Scope::Worker]));
    let mut cluster = Secured::start(keys.access(None).await, None, None).await;
    for key in [&first, &second] {
        let credentials = Credentials::new(key).unwrap();
        cluster.add_worker("http", Trust { credentials, ..Trust::default() }).await;
    }
    let mut changes = cluster.fleet.changes();
    assert!(keys.file.revoke(&first, Timestamp(1)).unwrap());
    let let_go = async {
        while cluster.fleet.snapshot().len() > 1 {
            changes.changed().await.unwrap();
        }
    };
    let revoked = std::time::Instant::now();
    soon("the worker is let go", let_go).await;
    // Keys are read every two seconds, registrations judged as often.
    assert!(revoked.elapsed() < std::time::Duration::from_secs(8), "{:?}", revoked.elapsed());
    // It asks again, and is refused; the other one stays.
    let refused =
        register(cluster.connect(None, Some(&first)).await, "http://127.0.0.1:9").await.unwrap_err();
    assert_eq!(class_of(&refused), ErrorClass::Unauthenticated);
    assert_eq!(cluster.fleet.snapshot().len(), 1);
}
