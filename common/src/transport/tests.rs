//! Addresses, credentials and connections.

use tokio_stream::StreamExt;

use super::*;

#[test]
fn addresses_that_are_called() {
    for bad in ["", "127.0.0.1:4000", "ftp://a:1", "http://", "https://a:1", "unix:/x", "http://a b"] {
        assert!(Target::new(bad, None).is_err(), "{bad}");
    }
    let target = Target::new("http://coordinators", None).unwrap();
    assert_eq!(target.endpoint.uri().port_u16(), Some(80));
    assert!(!target.is_on_this_machine() && !target.is_encrypted());
    let machine = target.at("10.0.0.7:4000".parse().unwrap());
    assert_eq!(machine.address(), "http://10.0.0.7:4000");
    assert_eq!(machine.uri().host(), Some("coordinators"));
    for here in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"] {
        assert!(Target::new(here, None).unwrap().is_on_this_machine(), "{here}");
    }
}

#[test]
fn credentials_are_texts_of_a_header() {
    assert!(Credentials::new("gk_1_2\n").is_ok(), "a file's line end is no part of it");
    assert!(Credentials::new("a\nb").is_err() && Credentials::new("\u{0}").is_err());
    let shown = Credentials::new("secret").unwrap();
    assert!(!format!("{shown:?}").contains("secret"));
}

#[tokio::test]
async fn both_sides_hold_nothing_back_and_notice_a_peer_that_is_gone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut taken = incoming(listener, None);
    let uri = format!("http://{address}").parse().unwrap();
    let ours = Connector(None).connect(uri).await.unwrap().into_inner();
    let theirs = taken.next().await.unwrap().unwrap();
    for connection in [ours, theirs] {
        let Stream::Plain(stream) = connection.stream else { panic!("no TLS was asked for") };
        assert!(stream.nodelay().unwrap() && sockopt::socket_keepalive(&stream).unwrap());
        let (idle, interval) = (sockopt::tcp_keepidle(&stream), sockopt::tcp_keepintvl(&stream));
        let noticed = idle.unwrap() + interval.unwrap() * sockopt::tcp_keepcnt(&stream).unwrap();
        assert!(noticed <= Duration::from_secs(15), "{noticed:?}");
    }
}
