//! How servers show who they are, and how commands call a coordinator: certificates and tokens.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use graticule_common::error::ErrorClass;
use graticule_common::tls::{CertFiles, ClientTls, Clients, Role, ServerTls, Servers, TlsError};
use graticule_common::transport::{Authorized, Credentials, Target, Trust};

use crate::failure::Failure;

/// A key or token for every call.
#[derive(Args, Clone, Debug, Default)]
pub struct TokenArgs {
    /// API key or token to show to coordinators; better in the environment, where others do not see it
    #[arg(
        long,
        value_name = "TOKEN",
        env = "GRATICULE_TOKEN",
        hide_env_values = true,
        help_heading = "Connection"
    )]
    token: Option<String>,
}

impl TokenArgs {
    fn credentials(&self) -> Result<Credentials, Failure> {
        let token = self.token.as_deref().filter(|token| !token.trim().is_empty());
        let credentials = token.map(Credentials::new).transpose();
        let credentials = credentials.map_err(|reason| Failure::usage(format!("--token: {reason}")))?;
        Ok(credentials.unwrap_or_default())
    }
}

/// How a command calls a coordinator.
#[derive(Args, Clone, Debug, Default)]
pub struct ConnectArgs {
    #[command(flatten)]
    token: TokenArgs,
    /// CA of the coordinator's certificate, in PEM [default: those that this machine trusts]
    #[arg(
        long,
        value_name = "FILE",
        env = "GRATICULE_TLS_CA",
        hide_env_values = true,
        help_heading = "Connection"
    )]
    tls_ca: Option<PathBuf>,
    /// Certificate to show to the coordinator, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = "Connection")]
    tls_cert: Option<PathBuf>,
    /// Its key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "Connection")]
    tls_key: Option<PathBuf>,
}

impl ConnectArgs {
    /// A coordinator's address.
    pub fn target(&self, address: &str) -> Result<Target, Failure> {
        let is_encrypted = address.starts_with("https:");
        let tls = match is_encrypted {
            true => {
                let servers = self.tls_ca.clone().map_or(Servers::Public, Servers::Named);
                let cert = files(&self.tls_cert, &self.tls_key);
                Some(Arc::new(ClientTls::new(servers, cert).map_err(unusable)?))
            }
            false => None,
        };
        let target = Target::new(address, tls.as_ref()).map_err(|reason| unreachable(address, &reason))?;
        if self.token.token.is_some() && !is_encrypted && !target.is_on_this_machine() {
            tracing::warn!(address, "a token travels where others can read it; use an address of https:");
        }
        Ok(target.with(self.token.credentials()?))
    }

    /// A connection to a coordinator.
    pub async fn connect(&self, address: &str) -> Result<Authorized, Failure> {
        self.target(address)?.connect().await.map_err(|reason| unreachable(address, &reason))
    }
}

fn unreachable(address: &str, reason: &str) -> Failure {
    let message = format!("cannot reach a coordinator at `{address}`: {reason}");
    Failure::new(ErrorClass::Unavailable, message)
}

fn unusable(error: TlsError) -> Failure {
    Failure::io(error)
}

fn files(cert: &Option<PathBuf>, key: &Option<PathBuf>) -> Option<CertFiles> {
    cert.clone().zip(key.clone()).map(|(cert, key)| CertFiles { cert, key })
}

/// TLS of a coordinator's port.
#[derive(Args, Clone, Debug, Default)]
pub struct TlsArgs {
    /// Certificate of this server with its chain, in PEM [default: connections are not encrypted]
    #[arg(
        long,
        value_name = "FILE",
        env = "GRATICULE_TLS_CERT",
        hide_env_values = true,
        requires = "tls_key",
        help_heading = "Security"
    )]
    tls_cert: Option<PathBuf>,
    /// Its key, in PEM
    #[arg(
        long,
        value_name = "FILE",
        env = "GRATICULE_TLS_KEY",
        hide_env_values = true,
        requires = "tls_cert",
        help_heading = "Security"
    )]
    tls_key: Option<PathBuf>,
    /// CA of the cluster, in PEM: workers show a certificate from it, and are called over TLS
    #[arg(
        long,
        value_name = "FILE",
        env = "GRATICULE_TLS_CLIENT_CA",
        hide_env_values = true,
        requires = "tls_cert",
        help_heading = "Security"
    )]
    tls_client_ca: Option<PathBuf>,
}

impl TlsArgs {
    /// Whether workers show certificates.
    pub fn has_worker_certificates(&self) -> bool {
        self.tls_client_ca.is_some()
    }

    /// For those who call this coordinator.
    pub fn server(&self) -> Result<Option<Arc<ServerTls>>, Failure> {
        let Some(cert) = files(&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let clients = self.tls_client_ca.clone().map_or(Clients::All, Clients::Known);
        Ok(Some(Arc::new(ServerTls::new(cert, clients).map_err(unusable)?)))
    }

    /// For the workers that this coordinator calls.
    pub fn workers(&self) -> Result<Option<Arc<ClientTls>>, Failure> {
        let cert = files(&self.tls_cert, &self.tls_key);
        let Some(ca) = self.tls_client_ca.clone() else { return Ok(None) };
        Ok(Some(Arc::new(ClientTls::new(Servers::Only(ca, Role::Worker), cert).map_err(unusable)?)))
    }
}

/// How a worker and its coordinators know each other.
#[derive(Args, Clone, Debug, Default)]
pub struct WorkerTlsArgs {
    #[command(flatten)]
    token: TokenArgs,
    /// CA of the coordinators' certificates, in PEM [default: those that this machine trusts]
    #[arg(
        long,
        value_name = "FILE",
        env = "GRATICULE_TLS_CA",
        hide_env_values = true,
        help_heading = "Security"
    )]
    tls_ca: Option<PathBuf>,
    /// Certificate of this worker, in PEM: coordinators of --tls-ca call it over TLS, nobody else calls it
    #[arg(long, value_name = "FILE", env = "GRATICULE_TLS_CERT", hide_env_values = true, requires_all = ["tls_key", "tls_ca"], help_heading = "Security")]
    tls_cert: Option<PathBuf>,
    /// Its key, in PEM
    #[arg(
        long,
        value_name = "FILE",
        env = "GRATICULE_TLS_KEY",
        hide_env_values = true,
        requires = "tls_cert",
        help_heading = "Security"
    )]
    tls_key: Option<PathBuf>,
}

impl WorkerTlsArgs {
    /// For a worker of these coordinators.
    pub fn trust(&self, coordinators: &[String]) -> Result<Trust, Failure> {
        let credentials = self.token.credentials()?;
        let cert = files(&self.tls_cert, &self.tls_key);
        let (server, servers) = match (cert.clone(), self.tls_ca.clone()) {
            (Some(cert), Some(ca)) => {
                let clients = Clients::Only(ca.clone(), Role::Coordinator);
                let server = ServerTls::new(cert, clients).map_err(unusable)?;
                (Some(Arc::new(server)), Servers::Only(ca, Role::Coordinator))
            }
            (_, Some(ca)) => (None, Servers::Named(ca)),
            (_, None) => (None, Servers::Public),
        };
        // To read what this machine trusts takes a while, and is for nothing without an address that needs it.
        let needs_tls = server.is_some() || coordinators.iter().any(|address| address.starts_with("https:"));
        let client = needs_tls.then(|| ClientTls::new(servers, cert).map(Arc::new));
        Ok(Trust { server, client: client.transpose().map_err(unusable)?, credentials })
    }
}
