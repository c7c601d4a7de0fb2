//! A certificate authority of a test, whose certificates are files.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use graticule_common::tls::{CertFiles, ClientTls, Clients, Role, ServerTls, Servers};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// When a certificate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Now.
    Now,
    /// It did.
    Past,
    /// It will.
    Future,
    /// Now, and so much longer, to the second.
    For(Duration),
}

impl Authority {
    /// A new one; `name` tells it from others.
    pub fn new(folder: &Path, name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, format!("authority {name}"));
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
        let issuer = issuer.expect("a certificate");
        let folder = folder.join(name);
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("ca.pem"), issuer.pem()).expect("a file");
        Authority { folder, issuer }
    }

    /// Its own certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A certificate for this machine, with a role or without.
    pub fn issue(&self, name: &str, role: Option<Role>, time: Time) -> CertFiles {
        let uri = role.map(|role| format!("graticule://{}", role.name()));
        self.issue_with(name, uri.into_iter().map(|uri| SanType::URI(uri.try_into().expect("text"))), time)
    }

    /// A certificate for this machine, with other names beside.
    pub fn issue_with(&self, name: &str, names: impl IntoIterator<Item = SanType>, time: Time) -> CertFiles {
        let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(hosts).expect("names");
        params.subject_alt_names.extend(names);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = match time {
            Time::Now => (date_time_ymd(2020, 1, 1), date_time_ymd(2200, 1, 1)),
            Time::Past => (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 1, 2)),
            Time::Future => (date_time_ymd(2199, 1, 1), date_time_ymd(2200, 1, 1)),
            Time::For(rest) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set");
                (date_time_ymd(2020, 1, 1), date_time_ymd(1970, 1, 1) + now + rest)
            }
        };
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let files = CertFiles {
            cert: self.folder.join(format!("{name}.pem")),
            key: self.folder.join(format!("{name}.key")),
        };
        std::fs::write(&files.cert, certificate.pem()).expect("a file");
        std::fs::write(&files.key, key.serialize_pem()).expect("a file");
        files
    }

    /// A server with a certificate of this authority.
    pub fn server(&self, cert: &CertFiles, clients: Clients) -> std::sync::Arc<ServerTls> {
        ServerTls::new(cert.clone(), clients).expect("a server").into()
    }

    /// A client that takes servers of this authority: with a role, or for their host name.
    pub fn client(&self, role: Option<Role>, cert: Option<&CertFiles>) -> std::sync::Arc<ClientTls> {
        let servers = match role {
            Some(role) => Servers::Only(self.ca(), role),
            None => Servers::Named(self.ca()),
        };
        ClientTls::new(servers, cert.cloned()).expect("a client").into()
    }
}
