//! Certificates that expire under a running cluster, and are renewed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use graticule_common::tls::{CertFiles, Role};
use graticule_common::transport::{Authorized, Target};
use graticule_tests::cases::{self, Case};
use graticule_tests::certificates::{Authority, Time};
use graticule_tests::client::{Client, failure};
use graticule_tests::colorado::Imagery;
use graticule_tests::process::{Process, run};
use graticule_tests::{soon, until};

use crate::turn;

/// How long certificates are renewed for that are to expire: long enough to be noticed before.
const REST: Duration = Duration::from_secs(4);

const READ_AGAIN: &str = "certificates are read again";

fn arguments(cert: &CertFiles) -> [String; 4] {
    let (cert, key) = (cert.cert.display().to_string(), cert.key.display().to_string());
    ["--tls-cert".into(), cert, "--tls-key".into(), key]
}

fn worker(authority: &Authority, cert: &CertFiles, coordinator: SocketAddr) -> Process {
    let (url, ca) =
        (format!("https://localhost:{}", coordinator.port()), authority.ca().display().to_string());
    let command = ["worker", "--slots", "1", "--coordinator", &url, "--tls-ca", &ca].map(str::to_owned);
    Process::start(command.into_iter().chain(arguments(cert)))
}

/// A connection of a client that knows the coordinator by its name.
async fn connect(authority: &Authority, coordinator: SocketAddr) -> Result<Authorized, String> {
    let url = format!("https://localhost:{}", coordinator.port());
    let target = Target::new(&url, Some(&authority.client(None, None))).unwrap();
    soon("a connection or its refusal", target.connect()).await
}

/// Whether the answer has the right pixels, or the class and message of its error.
async fn ask(client: &Client, case: &Case) -> Result<(), (String, String)> {
    let mut received = soon("an answer", client.receive(&case.request)).await;
    if let Some(status) = received.error.take() {
        let failure = failure(&status);
        return Err((failure.class.to_string(), failure.message));
    }
    assert!(received.summary.is_some() && case.is_answered_by(received), "other pixels");
    Ok(())
}

/// Asks until a worker is there.
async fn computes(client: &Client, case: &Case) {
    let right = async || match ask(client, case).await {
        Ok(()) => true,
        Err((class, message)) => {
            assert_eq!(class, "unavailable", "{message}");
            false
        }
    };
    until("the right pixels", right).await;
}

/// Expected: who connects with or to an expired certificate is told so, and nothing else happens to those who
/// are connected; renewed files count without a restart, and the pixels are right.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "chaos"]
async fn chaos_certificates_that_expire_and_are_renewed() {
    let _turn = turn().await;
    let (imagery, folder) = (Imagery::committed(), tempfile::tempdir().unwrap());
    cases::register(&imagery);
    let case = cases::focal().await.anew();
    let ours = Authority::new(folder.path(), "ours");
    let issue = |time| {
        let coordinator = ours.issue("coordinator", Some(Role::Coordinator), time);
        (coordinator, ours.issue("worker", Some(Role::Worker), time))
    };
    let (coordinators, workers) = issue(Time::Now);
    let (data, ca) = (imagery.data().display().to_string(), ours.ca().display().to_string());
    let command = ["--data", &data, "coordinator", "--listen", "127.0.0.1:0", "--tls-client-ca", &ca];
    let mut coordinator =
        Process::start(command.map(str::to_owned).into_iter().chain(arguments(&coordinators)));
    let address = coordinator.address().await;
    let mut first = worker(&ours, &workers, address);
    let standing = Client::over(connect(&ours, address).await.unwrap());
    computes(&standing, &case).await;

    // New ones, good for some seconds, take the place of the old ones.
    let expired = Instant::now() + REST + Duration::from_secs(1);
    issue(Time::For(REST));
    coordinator.logs(READ_AGAIN).await;
    first.logs(READ_AGAIN).await;
    tokio::time::sleep_until(expired.into()).await;

    let refused = connect(&ours, address).await.unwrap_err();
    assert!(refused.contains("certificate has expired"), "{refused}");
    let url = format!("https://localhost:{}", address.port());
    let ended = run(["catalog", "list", "--endpoint", &url, "--tls-ca", &ca]).await;
    assert_eq!(ended.code, Some(9), "{}", ended.stderr);
    assert!(ended.stderr.contains("certificate has expired"), "{}", ended.stderr);
    // Who is connected stays so.
    ask(&standing, &case).await.unwrap();

    // A worker that starts with what has expired is told on the spot, and told what is wrong with its own once
    // the coordinator's is renewed.
    first.signal("KILL");
    first.ended().await;
    let mut second = worker(&ours, &workers, address);
    second.logs("the other side's certificate has expired").await;
    ours.issue("coordinator", Some(Role::Coordinator), Time::Now);
    until("the renewed certificate counts", async || connect(&ours, address).await.is_ok()).await;
    second.logs("the certificate shown to it has expired").await;
    coordinator.logs("the other side's certificate has expired").await;
    let (asked, client) = (Instant::now(), Client::over(connect(&ours, address).await.unwrap()));
    let (class, message) = ask(&client, &case).await.unwrap_err();
    assert_eq!(class, "unavailable", "{message}");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());

    // Renewed as well, without a restart.
    ours.issue("worker", Some(Role::Worker), Time::Now);
    computes(&client, &case).await;
    assert!(second.is_running() && coordinator.is_running());
}
