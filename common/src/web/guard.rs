//! Whom to connect to: any host of the public internet, and those the operator lists.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

/// Hosts that the operator allows although their addresses are not public.
#[derive(Clone, Debug, Default)]
pub struct Access {
    hosts: Arc<[(String, Option<u16>)]>,
    is_open: bool,
}

/// A text that is no `HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host with or without a port, such as `storage.local:9000`")]
pub struct HostError(String);

impl Access {
    /// To every host: for addresses that only the operator names.
    pub fn anywhere() -> Access {
        Access { is_open: true, ..Access::default() }
    }

    /// From texts like `storage.local:9000`; a host without a port is allowed on all of them.
    ///
    /// # Errors
    /// [`HostError`] with the first text that is no host.
    pub fn to_hosts(texts: &[String]) -> Result<Access, HostError> {
        let parse = |text: &String| {
            let failed = || HostError(text.clone());
            let authority = http::uri::Authority::from_str(text).map_err(|_| failed())?;
            if text.contains('@') || authority.host().is_empty() || text.ends_with(':') {
                return Err(failed());
            }
            Ok((plain(authority.host()), authority.port_u16()))
        };
        Ok(Access { hosts: texts.iter().map(parse).collect::<Result<_, _>>()?, is_open: false })
    }

    /// Whether the operator lists a host.
    fn lists(&self, host: &str, port: u16) -> bool {
        let host = plain(host);
        self.hosts.iter().any(|(known, at)| *known == host && at.is_none_or(|at| at == port))
    }

    /// The addresses of a host that may be connected to, or why none may. It sees what was resolved, so
    /// a name that leads to an inner address is refused as the address itself would be.
    pub(super) fn addresses(
        &self,
        host: &str,
        port: u16,
        found: impl Iterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>, String> {
        let is_listed = self.is_open || self.lists(host, port);
        let found: Vec<SocketAddr> = found.filter(|at| is_listed || is_public(at.ip())).collect();
        if found.is_empty() {
            return Err("it has no address of the public internet".to_owned());
        }
        Ok(found)
    }
}

fn plain(host: &str) -> String {
    host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase()
}

/// Whether an address is of the public internet: not of this machine, its networks, their services, or
/// of ranges that stand for others.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(ip.is_unspecified()
        || a == 0
        || ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || ip.is_documentation()
        || a >= 240
        // Shared by carriers (100.64.0.0/10), protocol assignments (192.0.0.0/24), benchmarks (198.18.0.0/15).
        || (a == 100 && (64..128).contains(&b))
        || (a, b, c) == (192, 0, 0)
        || (a == 198 && (18..20).contains(&b)))
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let parts = ip.segments();
    // Only 2000::/3 is given out. In it: documentation, Teredo and the like (2001::/23), and addresses
    // that hold an IPv4 one (6to4).
    let is_global = parts[0] & 0xe000 == 0x2000;
    let is_special = (parts[0] == 0x2001 && (parts[1] < 0x200 || parts[1] == 0xdb8)) || parts[0] == 0x3fff;
    if parts[0] == 0x2002 {
        let [a, b] = parts[1].to_be_bytes();
        let [c, d] = parts[2].to_be_bytes();
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    // NAT64 (64:ff9b::/96) leads to the IPv4 address at its end.
    if parts[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        let [a, b] = parts[6].to_be_bytes();
        let [c, d] = parts[7].to_be_bytes();
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    is_global && !is_special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_not_public() {
        for ip in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.0.1",
            "192.0.0.192",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "64:ff9b::7f00:1",
            "2001::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["8.8.8.8", "100.63.0.1", "172.32.0.1", "2606:4700::1", "2002:808:808::", "::ffff:8.8.8.8"]
        {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn hosts_that_are_listed() {
        let access =
            Access::to_hosts(&["Storage.local:9000".into(), "10.0.0.7".into(), "[::1]:80".into()]).unwrap();
        for (host, port, is_listed) in [
            ("storage.local", 9000, true),
            ("storage.local.", 9000, true),
            ("storage.local", 9001, false),
            ("10.0.0.7", 1, true),
            ("10.0.0.8", 1, false),
            ("[::1]", 80, true),
        ] {
            let inner = [SocketAddr::from(([10, 0, 0, 7], port))];
            assert_eq!(access.addresses(host, port, inner.into_iter()).is_ok(), is_listed, "{host}:{port}");
        }
        let inner = [SocketAddr::from(([169, 254, 169, 254], 80))];
        assert!(Access::anywhere().addresses("metadata", 80, inner.into_iter()).is_ok());
        for bad in ["", "a b", "user@host", "http://host", "host:"] {
            assert_eq!(Access::to_hosts(&[bad.to_owned()]).unwrap_err(), HostError(bad.to_owned()));
        }
    }
}
