//! TLS of both sides: certificates from files, read again when they change, and who a certificate is of.
//!
//! Clients know a coordinator by its host name, as browsers do. Coordinators and workers know each other
//! by a *role* in their certificates, since they call each other at addresses that come and go: a name
//! among the certificate's alternative ones, `graticule://worker` as a URI or `worker.graticule.internal`
//! as a DNS name, and the same with `coordinator`. A certificate without such a name is somebody, but
//! neither of them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore, ServerConfig};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

mod verify;

pub(crate) use verify::reason;
use verify::{OfRole, ServerOfRole, ThisServer};

/// How often certificates are looked at for changes.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Bytes of a file with certificates or a key.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The protocol that is spoken.
pub(crate) const ALPN: &[u8] = b"h2";

/// What a part of a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Plans, and calls workers.
    Coordinator,
    /// Computes tiles.
    Worker,
}

impl Role {
    /// The name of the role in messages.
    pub fn name(self) -> &'static str {
        match self {
            Role::Coordinator => "coordinator",
            Role::Worker => "worker",
        }
    }

    /// Which role a certificate gives: none to one that names both, since whoever holds it could be
    /// taken for either. It says nothing about whether the certificate counts.
    fn of(certificate: &CertificateDer<'_>) -> Option<Role> {
        let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
        let has = |role: Role| {
            let (uri, host) =
                (format!("graticule://{}", role.name()), format!("{}.graticule.internal", role.name()));
            parsed.valid_uri_names().any(|name| name == uri)
                || parsed.valid_dns_names().any(|name| name.eq_ignore_ascii_case(&host))
        };
        match (has(Role::Coordinator), has(Role::Worker)) {
            (true, false) => Some(Role::Coordinator),
            (false, true) => Some(Role::Worker),
            _ => None,
        }
    }
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read.
    #[error("cannot read `{}`: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// A file that holds something else.
    #[error("`{}` {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// What tells a file that was changed: when, how long, and which it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp(Vec<Option<(Option<SystemTime>, u64, u64)>>);

impl Stamp {
    /// Of files; one that is not there has none. Links are followed: mounted secrets change behind them.
    pub fn of(paths: &[&PathBuf]) -> Stamp {
        use std::os::unix::fs::MetadataExt;
        let stamp = |path: &&PathBuf| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.modified().ok(), found.len(), found.ino()))
        };
        Stamp(paths.iter().map(stamp).collect())
    }
}

/// A certificate with the chain to its CA, and its key, in PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertFiles {
    /// The certificate first, then those between it and the CA.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

type Certified = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl CertFiles {
    fn load(&self) -> Result<Certified, TlsError> {
        let chain = certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?).map_err(|_| TlsError::Content {
            path: self.key.clone(),
            problem: "holds no private key in PEM".into(),
        })?;
        Ok((chain, key))
    }

    fn wrong(&self, error: &Error) -> TlsError {
        TlsError::Content { path: self.cert.clone(), problem: format!("cannot be used: {}", reason(error)) }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|reason| TlsError::File { path: path.to_owned(), reason })?;
    Ok(bytes)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError::Content { path: path.to_owned(), problem: "holds no certificate in PEM".into() }),
    }
}

fn roots(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| TlsError::Content {
            path: path.to_owned(),
            problem: format!("holds a certificate that is no CA: {error}"),
        })?;
    }
    Ok(Arc::new(roots))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What is made from files, and made again when they change. What is broken leaves what there was.
struct Kept<T> {
    made: RwLock<(Arc<T>, Stamp)>,
}

impl<T> Kept<T> {
    fn new(made: Arc<T>, stamp: Stamp) -> Kept<T> {
        Kept { made: RwLock::new((made, stamp)) }
    }

    fn get(&self) -> Arc<T> {
        self.made.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Whether there is something new, by the stamp of its files taken before they are read.
    fn renew(&self, stamp: Stamp, make: impl FnOnce() -> Result<Arc<T>, TlsError>) -> Result<bool, TlsError> {
        {
            let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
            if made.1 == stamp {
                return Ok(false);
            }
            // What is broken is tried again when it changes, not every two seconds.
            made.1 = stamp;
        }
        let new = make()?;
        self.made.write().unwrap_or_else(PoisonError::into_inner).0 = new;
        Ok(true)
    }
}

/// Which clients a server takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clients {
    /// All of them; who they are, they say otherwise.
    All,
    /// All of them; those with a certificate must have one from this CA.
    Known(PathBuf),
    /// Those with a certificate from this CA that gives a role.
    Only(PathBuf, Role),
}

/// A server's side of TLS.
pub struct ServerTls {
    files: CertFiles,
    clients: Clients,
    config: Kept<ServerConfig>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("files", &self.files).field("clients", &self.clients).finish()
    }
}

impl ServerTls {
    /// From files.
    ///
    /// # Errors
    /// [`TlsError`] when one of them cannot be read, or they do not belong together.
    pub fn new(files: CertFiles, clients: Clients) -> Result<ServerTls, TlsError> {
        let stamp = ServerTls::stamp(&files, &clients);
        let config = Kept::new(ServerTls::make(&files, &clients)?, stamp);
        Ok(ServerTls { files, clients, config })
    }

    fn stamp(files: &CertFiles, clients: &Clients) -> Stamp {
        match clients {
            Clients::All => Stamp::of(&[&files.cert, &files.key]),
            Clients::Known(ca) | Clients::Only(ca, _) => Stamp::of(&[&files.cert, &files.key, ca]),
        }
    }

    fn make(files: &CertFiles, clients: &Clients) -> Result<Arc<ServerConfig>, TlsError> {
        let (chain, key) = files.load()?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| files.wrong(&error))?;
        let verifier = |ca: &Path, role: Option<Role>| {
            let builder = WebPkiClientVerifier::builder_with_provider(roots(ca)?, provider());
            let builder = if role.is_none() { builder.allow_unauthenticated() } else { builder };
            let inner = builder
                .build()
                .map_err(|error| TlsError::Content { path: ca.to_owned(), problem: error.to_string() })?;
            Ok::<_, TlsError>(Arc::new(OfRole { inner, role }))
        };
        let builder = match clients {
            Clients::All => builder.with_no_client_auth(),
            Clients::Known(ca) => builder.with_client_cert_verifier(verifier(ca, None)?),
            Clients::Only(ca, role) => builder.with_client_cert_verifier(verifier(ca, Some(*role))?),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| files.wrong(&error))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Every connection shows its certificate: an earlier one's may have expired.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// What new connections are taken with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.get()
    }

    /// What new connections of browsers are taken with.
    pub(crate) fn web_config(&self) -> Arc<ServerConfig> {
        let mut config = ServerConfig::clone(&self.config.get());
        config.alpn_protocols = vec![ALPN.to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// Reads files again that have changed. The answer says whether there is something new.
    ///
    /// # Errors
    /// What is wrong with them; what there was goes on to count.
    pub fn look(&self) -> Result<bool, TlsError> {
        let stamp = ServerTls::stamp(&self.files, &self.clients);
        self.config.renew(stamp, || ServerTls::make(&self.files, &self.clients))
    }

    /// A client's side for a server of the same process: it takes this very certificate, whatever host
    /// name it is for, and no other.
    pub fn to_itself(self: &Arc<Self>) -> ClientTls {
        ClientTls {
            cert: None,
            servers: Servers::This(self.clone()),
            config: Kept::new(Arc::new(this_config(self.clone())), Stamp::of(&[])),
        }
    }
}

/// Which servers a client takes.
#[derive(Clone, Debug)]
pub enum Servers {
    /// Those with a certificate for their host name, from a CA that this machine trusts.
    Public,
    /// Those with a certificate for their host name, from this CA.
    Named(PathBuf),
    /// Those with a certificate from this CA that gives a role, whatever their address.
    Only(PathBuf, Role),
    /// The server of this process.
    This(Arc<ServerTls>),
}

/// A client's side of TLS.
pub struct ClientTls {
    cert: Option<CertFiles>,
    servers: Servers,
    config: Kept<ClientConfig>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("cert", &self.cert).field("servers", &self.servers).finish()
    }
}

impl ClientTls {
    /// From files; `cert` is what the client shows of itself, if anything.
    ///
    /// # Errors
    /// [`TlsError`] when one of them cannot be read, or they do not belong together.
    pub fn new(servers: Servers, cert: Option<CertFiles>) -> Result<ClientTls, TlsError> {
        let stamp = ClientTls::stamp(&servers, cert.as_ref());
        let config = Kept::new(ClientTls::make(&servers, cert.as_ref())?, stamp);
        Ok(ClientTls { cert, servers, config })
    }

    fn stamp(servers: &Servers, cert: Option<&CertFiles>) -> Stamp {
        let ca = match servers {
            Servers::Named(ca) | Servers::Only(ca, _) => Some(ca),
            Servers::Public | Servers::This(_) => None,
        };
        let cert = cert.map(|files| [&files.cert, &files.key]);
        Stamp::of(&cert.into_iter().flatten().chain(ca).collect::<Vec<_>>())
    }

    fn make(servers: &Servers, cert: Option<&CertFiles>) -> Result<Arc<ClientConfig>, TlsError> {
        let builder = client_builder();
        let builder = match servers {
            Servers::This(server) => return Ok(Arc::new(this_config(server.clone()))),
            Servers::Public => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                builder.with_root_certificates(roots)
            }
            Servers::Named(ca) => {
                let verifier = WebPkiServerVerifier::builder_with_provider(roots(ca)?, provider()).build();
                let verifier = verifier
                    .map_err(|error| TlsError::Content { path: ca.clone(), problem: error.to_string() })?;
                builder.with_webpki_verifier(verifier)
            }
            Servers::Only(ca, role) => {
                let verifier = ServerOfRole { roots: roots(ca)?, role: *role, provider: provider() };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
        };
        let config = match cert {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let (chain, key) = files.load()?;
                builder.with_client_auth_cert(chain, key).map_err(|error| files.wrong(&error))?
            }
        };
        Ok(Arc::new(with_manners(config)))
    }

    /// What new connections are made with.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        self.config.get()
    }

    /// Whether servers are known by their role in the cluster.
    pub fn is_of_a_cluster(&self) -> bool {
        matches!(self.servers, Servers::Only(..))
    }

    /// Reads files again that have changed. The answer says whether there is something new.
    ///
    /// # Errors
    /// What is wrong with them; what there was goes on to count.
    pub fn look(&self) -> Result<bool, TlsError> {
        let stamp = ClientTls::stamp(&self.servers, self.cert.as_ref());
        self.config.renew(stamp, || ClientTls::make(&self.servers, self.cert.as_ref()))
    }
}

fn client_builder() -> tokio_rustls::rustls::ConfigBuilder<ClientConfig, tokio_rustls::rustls::WantsVerifier>
{
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has the ciphers of its own versions")
}

fn this_config(server: Arc<ServerTls>) -> ClientConfig {
    let verifier = Arc::new(ThisServer { server, provider: provider() });
    let builder = client_builder().dangerous().with_custom_certificate_verifier(verifier);
    with_manners(builder.with_no_client_auth())
}

fn with_manners(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// Follows changes of certificates until `stop`.
pub async fn follow(server: Option<Arc<ServerTls>>, client: Option<Arc<ClientTls>>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let looked = [server.as_ref().map(|tls| tls.look()), client.as_ref().map(|tls| tls.look())];
        for looked in looked.into_iter().flatten() {
            match looked {
                Ok(true) => info!("certificates are read again"),
                Ok(false) => {}
                Err(error) => warn!(%error, "certificates cannot be read again; those read before count"),
            }
        }
    }
}

/// The role that a verified certificate of a peer gives.
pub(crate) fn role_of(chain: Option<&[CertificateDer<'_>]>) -> Option<Role> {
    chain.and_then(<[_]>::first).and_then(Role::of)
}
