//! Certificates: which are taken, which are refused and with which words, and what changes while it runs.

use std::net::SocketAddr;
use std::sync::Arc;

use graticule_common::tls::{CertFiles, ClientTls, Clients, Role, ServerTls};
use graticule_common::transport::{Authorized, Peer, Target, incoming, server};
use graticule_tests::certificates::{Authority, Time};
use graticule_tests::soon;
use rcgen::SanType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// A server of which only its connections matter; it ends when dropped.
struct Server {
    address: SocketAddr,
    _task: JoinSet<()>,
}

async fn serve(tls: Option<Arc<ServerTls>>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_reporter, health) = tonic_health::server::health_reporter();
    // Who calls is told in the text of an error.
    let tell = |request: Request<()>| -> Result<Request<()>, Status> {
        let peer = request.extensions().get::<Peer>().copied();
        match request.metadata().contains_key("who") {
            true => Err(Status::aborted(format!("{:?}", peer.and_then(|peer| peer.role)))),
            false => Ok(request),
        }
    };
    let health = tonic::service::interceptor::InterceptedService::new(health, tell);
    let served = server().add_service(health).serve_with_incoming(incoming(listener, tls));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { served.await.unwrap() });
    Server { address, _task: tasks }
}

impl Server {
    async fn connect(&self, tls: Option<&Arc<ClientTls>>) -> Result<Authorized, String> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let target = Target::new(&format!("{scheme}://localhost:{}", self.address.port()), tls).unwrap();
        soon("a connection or its refusal", target.connect()).await
    }
}

async fn call(channel: &Authorized) -> Result<(), Status> {
    let call = HealthClient::new(channel.clone());
    let answer = soon("an answer", async move { { call }.check(HealthCheckRequest::default()).await }).await;
    answer.map(|_| ())
}

/// What a server takes a client for.
async fn role(channel: &Authorized) -> String {
    let mut request = Request::new(HealthCheckRequest::default());
    request.metadata_mut().insert("who", "?".parse().unwrap());
    let refused = soon("an answer", HealthClient::new(channel.clone()).check(request)).await.unwrap_err();
    refused.message().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_takes_its_coordinator_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "theirs"));
    let worker = ours.issue("worker", Some(Role::Worker), Time::Now);
    let tls = ours.server(&worker, Clients::Only(ours.ca(), Role::Coordinator));
    let server = serve(Some(tls)).await;
    let client = |cert: Option<CertFiles>| ours.client(Some(Role::Worker), cert.as_ref());
    let coordinator = Some(Role::Coordinator);

    let good = server.connect(Some(&client(Some(ours.issue("good", coordinator, Time::Now))))).await.unwrap();
    call(&good).await.unwrap();
    assert_eq!(role(&good).await, "Some(Coordinator)");

    let refused = [
        (client(None), "asks for a certificate"),
        (client(Some(ours.issue("past", coordinator, Time::Past))), "shown to it has expired"),
        (client(Some(ours.issue("future", coordinator, Time::Future))), "shown to it has expired"),
        (client(Some(theirs.issue("foreign", coordinator, Time::Now))), "is from another CA"),
        (client(Some(ours.issue("nobody", None, Time::Now))), "does not name the role"),
        (client(Some(ours.issue("other", Some(Role::Worker), Time::Now))), "does not name the role"),
    ];
    for (client, reason) in refused {
        let error = server.connect(Some(&client)).await.unwrap_err();
        assert!(error.contains(reason), "{error}: {reason}");
    }
    // And it speaks nothing but TLS.
    let plain = server.connect(None).await;
    assert!(plain.is_err() || call(&plain.unwrap()).await.is_err());
    call(&good).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_take_servers_that_they_can_know() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "theirs"));
    let own = ours.issue("own", Some(Role::Coordinator), Time::Now);
    let by_role = ours.client(Some(Role::Worker), Some(&own));
    let by_name = ours.client(None, None);
    let worker = Some(Role::Worker);
    let both =
        |roles: [&str; 2]| roles.map(|role| SanType::URI(format!("graticule://{role}").try_into().unwrap()));
    let dns = [SanType::DnsName("worker.graticule.internal".try_into().unwrap())];
    let cases = [
        (ours.issue("good", worker, Time::Now), [None, None]),
        (ours.issue_with("dns", dns, Time::Now), [None, None]),
        (ours.issue("nobody", None, Time::Now), [Some("does not name the role"), None]),
        (ours.issue("other", Some(Role::Coordinator), Time::Now), [Some("does not name the role"), None]),
        // Whoever holds both could be taken for either.
        (
            ours.issue_with("both", both(["worker", "coordinator"]), Time::Now),
            [Some("does not name the role"), None],
        ),
        (
            ours.issue_with("like", both(["workers", "worker/"]), Time::Now),
            [Some("does not name the role"), None],
        ),
        (ours.issue("past", worker, Time::Past), [Some("certificate has expired"); 2]),
        (ours.issue("future", worker, Time::Future), [Some("not valid yet"); 2]),
        (theirs.issue("foreign", worker, Time::Now), [Some("from another CA"); 2]),
    ];
    for (cert, expected) in cases {
        let server = serve(Some(ours.server(&cert, Clients::All))).await;
        for (client, expected) in [&by_role, &by_name].into_iter().zip(expected) {
            match (server.connect(Some(client)).await, expected) {
                (Ok(channel), None) => call(&channel).await.unwrap(),
                (Err(error), Some(reason)) => assert!(error.contains(reason), "{error}: {reason}"),
                (other, expected) => panic!("{cert:?}: {:?}, not {expected:?}", other.err()),
            }
        }
    }
    // A certificate for another host.
    let server = serve(Some(ours.server(&own, Clients::All))).await;
    let elsewhere = Target::new(&format!("https://[::1]:{}", server.address.port()), Some(&by_name)).unwrap();
    let error = elsewhere.at(server.address).connect().await.unwrap_err();
    assert!(error.contains("certificate is refused"), "{error}");
    // A server that speaks no TLS.
    let plain = serve(None).await;
    let error = plain.connect(Some(&by_name)).await.unwrap_err();
    assert!(error.contains("does not speak TLS"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_while_connections_live_on() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new(folder.path(), "old"), Authority::new(folder.path(), "new"));
    let cert = old.issue("server", None, Time::Now);
    let tls = old.server(&cert, Clients::All);
    let server = serve(Some(tls.clone())).await;
    let (by_old, by_new) = (old.client(None, None), new.client(None, None));
    let before = server.connect(Some(&by_old)).await.unwrap();
    call(&before).await.unwrap();
    assert!(!tls.look().unwrap(), "nothing has changed");

    // Half of a change: the certificate is there and its key is not yet.
    let fresh = new.issue("server", None, Time::Now);
    std::fs::copy(&fresh.cert, &cert.cert).unwrap();
    let broken = tls.look().unwrap_err().to_string();
    assert!(broken.contains("not that of the certificate"), "{broken}");
    assert!(!tls.look().unwrap(), "what is broken is said once");
    call(&server.connect(Some(&by_old)).await.unwrap()).await.unwrap();
    std::fs::copy(&fresh.key, &cert.key).unwrap();
    assert!(tls.look().unwrap());

    call(&server.connect(Some(&by_new)).await.unwrap()).await.unwrap();
    assert!(server.connect(Some(&by_old)).await.unwrap_err().contains("from another CA"));
    call(&before).await.unwrap();

    // What is broken, or gone, leaves what there was.
    std::fs::write(&cert.cert, "broken").unwrap();
    assert!(tls.look().unwrap_err().to_string().contains("holds no certificate"));
    std::fs::remove_file(&cert.key).unwrap();
    assert!(tls.look().is_err());
    call(&server.connect(Some(&by_new)).await.unwrap()).await.unwrap();

    // A client follows its files, too.
    std::fs::copy(new.ca(), old.ca()).unwrap();
    assert!(by_old.look().unwrap());
    call(&server.connect(Some(&by_old)).await.unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_say_nothing_keep_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let cert = ours.issue("server", None, Time::Now);
    let server = serve(Some(ours.server(&cert, Clients::All))).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    call(&server.connect(Some(&ours.client(None, None))).await.unwrap()).await.unwrap();
    // They are let go within the time for a handshake.
    let mut byte = [0];
    for stream in &mut silent {
        assert!(matches!(soon("the end of a silent client", stream.read(&mut byte)).await, Ok(0) | Err(_)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_connection_may_ask_for_is_bounded() {
    let server = serve(None).await;
    let channel = server.connect(None).await.unwrap();
    let mut large = Request::new(HealthCheckRequest::default());
    large.metadata_mut().insert("pad", "x".repeat(64 << 10).parse().unwrap());
    let refused = soon("an answer", HealthClient::new(channel.clone()).check(large)).await;
    assert!(refused.is_err(), "headers of 64 KiB");
    call(&server.connect(None).await.unwrap()).await.unwrap();
    assert!(rapid_resets(server.address).await, "an attack is ended");
}

/// Calls that are taken back at once, many more than anybody means (CVE-2023-44487). Whether the server
/// ends that, and not merely the silence after it.
async fn rapid_resets(address: SocketAddr) -> bool {
    let (mut answers, mut calls) = TcpStream::connect(address).await.unwrap().into_split();
    let frame = |kind: u8, flags: u8, id: u32, payload: &[u8]| {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(id.to_be_bytes());
        frame.extend(payload);
        frame
    };
    let reading = tokio::spawn(async move {
        let mut answer = Vec::new();
        (answers.read_to_end(&mut answer).await.is_err(), answer)
    });
    calls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    calls.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    // `:method: POST`, `:scheme: http`, `:path: /` of the static table; then RST_STREAM with CANCEL.
    for call in 0..100_000u32 {
        let id = 2 * call + 1;
        let mut both = frame(1, 4, id, &[0x83, 0x86, 0x84]);
        both.extend(frame(3, 0, id, &8u32.to_be_bytes()));
        if calls.write_all(&both).await.is_err() {
            break;
        }
    }
    let (is_reset, answer) = soon("the end of an attack", reading).await.unwrap();
    // GOAWAY with ENHANCE_YOUR_CALM, unless it was lost with the connection.
    let mut rest = &answer[..];
    let mut is_told = false;
    while let [a, b, c, kind, ..] = *rest {
        let end = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
        is_told |= kind == 7 && rest.get(13..17) == Some(&11u32.to_be_bytes()[..]);
        rest = rest.get(end..).unwrap_or_default();
    }
    is_reset || is_told
}
