//! Slow clients, many of them, other sites, and the end of a coordinator.

use std::net::SocketAddr;
use std::time::Duration;

use graticule_coordinator::http::HttpRules;
use graticule_coordinator::objects::Objects;
use graticule_tests::cluster::{Cluster, Setup, http_config};
use graticule_tests::probe::Behaviour;
use graticule_tests::scenes::{reduce, stack};
use graticule_tests::{soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{area, made_up};

async fn with(rules: HttpRules) -> Cluster {
    let config = graticule_coordinator::http::HttpConfig { rules, ..http_config(Objects::memory()) };
    Cluster::start(Setup { http: Some(config), ..made_up() }).await
}

/// What a server answers to these bytes before it ends the connection.
async fn said(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = soon("a connection", TcpStream::connect(address)).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = soon("the end of a connection", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_slow_client_is_not_waited_for() {
    let rules = HttpRules {
        header_within: Duration::from_millis(300),
        body_within: Duration::from_millis(300),
        ..HttpRules::default()
    };
    let cluster = with(rules).await;
    let address = cluster.http.unwrap();
    assert_eq!(said(address, b"").await, "", "who says nothing");
    said(address, b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
    let answer =
        said(address, b"POST /layers/ HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"graft\"").await;
    assert!(answer.starts_with("HTTP/1.1 504") && answer.contains("\"timeout\""), "{answer}");
    let answer = said(address, b"nonsense\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let head = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n", "x".repeat(300 << 10));
    let answer = said(address, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431") || answer.is_empty(), "{answer}");
    assert_eq!(cluster.rest().get("/healthz").await.status, 200, "others are unharmed");
}

#[tokio::test]
async fn two_thousand_connections_harm_nobody() {
    let cluster = with(HttpRules::default()).await;
    let address = cluster.http.unwrap();
    let mut idle = Vec::new();
    for _ in 0..2000 {
        match TcpStream::connect(address).await {
            Ok(stream) => idle.push(stream),
            // The files that this test may open.
            Err(_) => break,
        }
    }
    assert!(idle.len() > 200, "{}", idle.len());
    drop(idle.split_off(idle.len() - 10));
    assert_eq!(cluster.rest().get("/healthz").await.status, 200);
}

#[tokio::test]
async fn more_requests_than_there_are_places_are_refused() {
    let cluster = with(HttpRules { requests: 2, ..HttpRules::default() }).await;
    let rest = cluster.rest();
    let id = rest.layer(&reduce("made-up", "a", "max")).await;
    cluster.probes[0].set(Behaviour::Hold);
    let path = format!("/layers/{id}/aoi");
    let mut under_way = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (rest, path) = (rest.clone(), path.clone());
        under_way.spawn(async move { rest.post(&path, &area()).await.status });
    }
    until("both are under way", async || rest.get("/catalog/products").await.status == 429).await;
    let refused = rest.get("/catalog/products").await;
    assert_eq!(refused.error()["code"], "overloaded");
    assert_eq!(rest.get("/healthz").await.status, 200, "probes are answered");
    cluster.probes[0].set(Behaviour::Pass);
    while let Some(status) = under_way.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    until("there is room again", async || rest.get("/catalog/products").await.status == 200).await;
}

#[tokio::test]
async fn memory_for_results_is_bounded() {
    let cluster = with(HttpRules { results_bytes: 20_000, ..HttpRules::default() }).await;
    let rest = cluster.rest();
    let id = rest.layer(&reduce("made-up", "a", "max")).await;
    // 61 x 61 x 5 bytes.
    assert_eq!(rest.post(&format!("/layers/{id}/aoi"), &area()).await.status, 200);
    let both = rest.layer(&reduce("made-up", "a b", "max")).await;
    let refused = rest.post(&format!("/layers/{both}/aoi"), &area()).await;
    assert_eq!((refused.status, &refused.error()["code"]), (413, &"limit_exceeded".into()));
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    // Room for one result of 366 x 366 pixels.
    let rules = HttpRules {
        results_bytes: 12 << 20,
        results_within: Duration::from_millis(100),
        progress_within: Duration::from_millis(500),
        ..HttpRules::default()
    };
    let cluster = with(rules).await;
    let rest = cluster.rest();
    let id = rest.layer(&stack("made-up", "a b")).await;
    let mut body = area();
    body["resolution"] = 5.0.into();
    let body = body.to_string();
    let head = format!("POST /layers/{id}/aoi HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut lazy = soon("a connection", TcpStream::connect(cluster.http.unwrap())).await.unwrap();
    lazy.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    // The first bytes come, and then nobody takes more.
    let mut first = [0; 12];
    soon("the first bytes", lazy.read_exact(&mut first)).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    until("its memory is free again", async || {
        let reply = rest.send("POST", &format!("/layers/{id}/aoi"), &[], body.clone()).await;
        assert!(matches!(reply.status, 200 | 503), "{}", reply.status);
        reply.status == 200
    })
    .await;
    let mut rest_of_it = Vec::new();
    let _ = soon("the end", lazy.read_to_end(&mut rest_of_it)).await;
    assert!(rest_of_it.len() < 10 << 20, "{} bytes", rest_of_it.len());
}

#[tokio::test]
async fn a_client_that_goes_away_ends_what_it_asked_for() {
    let cluster = with(HttpRules::default()).await;
    let rest = cluster.rest();
    let id = rest.layer(&reduce("made-up", "a", "max")).await;
    cluster.probes[0].set(Behaviour::Hold);
    let asking = tokio::spawn({
        let (rest, path) = (rest.clone(), format!("/layers/{id}/aoi"));
        async move { rest.post(&path, &area()).await }
    });
    cluster.until("a request under way", |described| described.requests.len() == 1).await;
    asking.abort();
    cluster.until("no request under way", |described| described.requests.is_empty()).await;
}

#[tokio::test]
async fn what_is_under_way_is_finished_at_the_end() {
    let mut cluster = with(HttpRules::default()).await;
    let rest = cluster.rest();
    let id = rest.layer(&reduce("made-up", "a", "max")).await;
    cluster.probes[0].set(Behaviour::Hold);
    let asking = tokio::spawn({
        let (rest, path) = (rest.clone(), format!("/layers/{id}/aoi"));
        async move { rest.post(&path, &area()).await.status }
    });
    cluster.until("a request under way", |described| described.requests.len() == 1).await;
    cluster.stop_coordinator();
    until("nothing new is taken", async || rest.get("/readyz").await.status == 503).await;
    let refused = rest.get("/catalog/products").await;
    assert_eq!((refused.status, &refused.error()["code"]), (503, &"unavailable".into()));
    cluster.probes[0].set(Behaviour::Pass);
    assert_eq!(soon("the answer", asking).await.unwrap(), 200);
}

#[tokio::test]
async fn other_sites_may_call_where_they_are_named() {
    let origin = [("origin", "https://maps.example.org")];
    let config = |cors: &[&str]| {
        let cors = cors.iter().map(|origin| (*origin).to_owned()).collect();
        let http = graticule_coordinator::http::HttpConfig { cors, ..http_config(Objects::memory()) };
        Setup { workers: 0, http: Some(http), ..made_up() }
    };
    let closed = Cluster::start(config(&[])).await;
    let reply = closed.rest().send("GET", "/catalog/products", &origin, "").await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, ""));
    let named = Cluster::start(config(&["https://maps.example.org"])).await;
    let reply = named.rest().send("GET", "/catalog/products", &origin, "").await;
    assert_eq!(reply.header("access-control-allow-origin"), "https://maps.example.org");
    let other = [("origin", "https://evil.example.org")];
    let reply = named.rest().send("GET", "/catalog/products", &other, "").await;
    assert_eq!(reply.header("access-control-allow-origin"), "");
    let preflight = [
        origin[0],
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type"),
    ];
    let reply = named.rest().send("OPTIONS", "/layers/", &preflight, "").await;
    assert_eq!(reply.status, 200);
    assert!(reply.header("access-control-allow-headers").contains("authorization"), "{:?}", reply.headers);
    let all = Cluster::start(config(&["*"])).await;
    let reply = all.rest().send("GET", "/nothing", &other, "").await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (404, "*"), "errors too");
}
