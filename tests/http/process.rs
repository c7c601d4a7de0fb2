//! The real binary: its port, its lines, its GeoTIFFs.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use graticule_tests::certificates::{Authority, Time};
use graticule_tests::colorado::{Imagery, examples, graft};
use graticule_tests::process::{Process, run};
use graticule_tests::rest::Rest;
use graticule_tests::scenes::{AREA, CRS};
use graticule_tests::soon;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The address after `map on http://`.
async fn map(process: &mut Process) -> SocketAddr {
    let printed = process.prints("map on http").await;
    let line = printed.lines().find_map(|line| line.strip_prefix("map on http")).expect("a line");
    line.trim_start_matches('s').trim_start_matches("://").trim_end_matches('/').parse().expect("an address")
}

fn serve(imagery: &Imagery, more: &[&str]) -> Process {
    let data = imagery.data().display().to_string();
    let mut arguments = vec!["--data", &data, "serve", "--listen", "127.0.0.1:0", "--workers", "1"];
    arguments.extend(more);
    Process::start(arguments)
}

#[tokio::test]
async fn a_geotiff_is_that_of_the_command() {
    let imagery = Imagery::committed();
    imagery.register();
    let mut process = serve(&imagery, &["--http", "127.0.0.1:0"]);
    let rest = Rest::new(map(&mut process).await);
    let id = rest.layer(&graft()).await;
    let area = json!({ "crs": CRS, "bounds": AREA, "resolution": 30 });
    let accept = [("accept", "image/tiff")];
    let reply = rest.send("POST", &format!("/layers/{id}/aoi"), &accept, area.to_string()).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "image/tiff"), "{:?}", reply.body);
    let out = imagery.out().join("ndvi.tif");
    let data = imagery.data().display().to_string();
    let bounds = AREA.map(|edge| edge.to_string()).join(",");
    let ended = run([
        "--data",
        &data,
        "compute",
        &examples().join("ndvi_median.graft.json").display().to_string(),
        "--bounds",
        &bounds,
        "--crs",
        CRS,
        "--resolution",
        "30",
        "--out",
        &out.display().to_string(),
    ])
    .await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(reply.body, std::fs::read(out).unwrap(), "the same file");
    // The id outlives the process.
    process.signal("TERM");
    assert_eq!(process.ended().await.code, Some(0));
    let mut process = serve(&imagery, &["--http", "127.0.0.1:0"]);
    let rest = Rest::new(map(&mut process).await);
    assert_eq!(rest.layer(&graft()).await, id);
    assert_eq!(rest.get(&format!("/layers/{id}")).await.json()["kind"], "mosaic");
}

#[tokio::test]
async fn the_port_is_where_it_is_said() {
    let imagery = Imagery::committed();
    imagery.register();
    let mut none = serve(&imagery, &["--http", "none"]);
    let printed = none.prints("serving on").await;
    assert!(!printed.contains("map on"), "{printed}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = serve(&imagery, &["--http", &address]).ended().await;
    assert_eq!(ended.code, Some(9), "a port that was named is not given up: {}", ended.stderr);
    assert!(ended.stderr.contains(&address), "{}", ended.stderr);
    // Unless it was not named: then there is one, whatever else listens on this machine.
    let mut first = serve(&imagery, &[]);
    let mut second = serve(&imagery, &[]);
    let (one, other) = (map(&mut first).await, map(&mut second).await);
    assert_ne!(one, other);
    assert_eq!(Rest::new(one).get("/healthz").await.status, 200);
    let short = imagery.out().join("secret");
    std::fs::write(&short, "too short").unwrap();
    let file = short.display().to_string();
    let ended = serve(&imagery, &["--http", "127.0.0.1:0", "--layer-secret-file", &file]).ended().await;
    assert!(ended.code != Some(0) && ended.stderr.contains("32 characters"), "{}", ended.stderr);
    for wrong in [["--http", "8080"], ["--cors", "example.org"]] {
        assert_eq!(serve(&imagery, &wrong).ended().await.code, Some(2), "{wrong:?}");
    }
}

/// What a server answers to a request over TLS, and the protocol that both sides chose.
async fn over_tls(address: SocketAddr, ca: &Path, protocols: &[&[u8]]) -> (String, Option<Vec<u8>>) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let stream = soon("a connection", TcpStream::connect(address)).await.unwrap();
    let host = ServerName::try_from("localhost").unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(host, stream);
    let mut stream = soon("a handshake", connecting).await.unwrap();
    let chosen = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    if chosen.as_deref() == Some(b"h2") {
        return (String::new(), chosen);
    }
    let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // A server may end a connection without a word of TLS.
    let _ = soon("an answer", stream.read_to_end(&mut answer)).await;
    (String::from_utf8_lossy(&answer).into_owned(), chosen)
}

#[tokio::test]
async fn browsers_have_the_tls_of_the_other_port() {
    let imagery = Imagery::committed();
    imagery.register();
    let authority = Authority::new(&imagery.out(), "ca");
    let files = authority.issue("server", None, Time::Now);
    let (cert, key) = (files.cert.display().to_string(), files.key.display().to_string());
    let mut process = serve(&imagery, &["--http", "127.0.0.1:0", "--tls-cert", &cert, "--tls-key", &key]);
    let address = map(&mut process).await;
    for protocols in [&[][..], &[&b"http/1.1"[..]], &[&b"http/1.1"[..], b"h2"]] {
        let (answer, chosen) = over_tls(address, &authority.ca(), protocols).await;
        let wants_h2 = chosen.as_deref() == Some(b"h2");
        assert!(wants_h2 || answer.starts_with("HTTP/1.1 200") && answer.contains("alive"), "{answer}");
        assert_eq!(wants_h2, protocols.len() == 2, "the server would rather speak HTTP/2");
    }
    // Without TLS there is nothing.
    let mut plain = soon("a connection", TcpStream::connect(address)).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = soon("the end", plain.read_to_end(&mut answer)).await;
    assert!(!String::from_utf8_lossy(&answer).contains("200"), "{answer:?}");
}
