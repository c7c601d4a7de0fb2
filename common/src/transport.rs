//! How connections between the engine's parts behave: one place for all of them.

use std::time::Duration;

use tonic::transport::Endpoint;

/// HTTP/2 pings: a peer that is gone without a word is noticed within the sum of the two.
pub const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

/// Time for the answer to a ping.
pub const KEEPALIVE_WITHIN: Duration = Duration::from_secs(5);

/// Time for a connection to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// A client's side of a connection that notices a silent peer.
pub fn with_keepalive(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_WITHIN)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
}
