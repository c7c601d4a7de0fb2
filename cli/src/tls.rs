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

/// What a part shows of itself: a certificate with its key.
#[derive(Args, Clone, Debug, Default)]
struct CertArgs {
    /// Certificate to show to the other side, with its chain, in PEM [default: none; a server without one does
    /// not encrypt]
    #[arg(
        long,
        value_name = "FILE",
        env = "GRATICULE_TLS_CERT",
        hide_env_values = true,
        requires = "tls_key"
    )]
    tls_cert: Option<PathBuf>,
    /// Its key, in PEM
    #[arg(
        long,
        value_name = "FILE",
        env = "GRATICULE_TLS_KEY",
        hide_env_values = true,
        requires = "tls_cert"
    )]
    tls_key: Option<PathBuf>,
}

impl CertArgs {
    fn files(&self) -> Option<CertFiles> {
        self.tls_cert.clone().zip(self.tls_key.clone()).map(|(cert, key)| CertFiles { cert, key })
    }
}

/// Which coordinators are trusted.
#[derive(Args, Clone, Debug, Default)]
struct CaArgs {
    /// CA of coordinators' certificates, in PEM [default: those that this machine trusts]
    #[arg(long, value_name = "FILE", env = "GRATICULE_TLS_CA", hide_env_values = true)]
    tls_ca: Option<PathBuf>,
}

/// How a command calls a coordinator.
#[derive(Args, Clone, Debug, Default)]
pub struct ConnectArgs {
    #[command(flatten)]
    token: TokenArgs,
    #[command(flatten, next_help_heading = "Connection")]
    ca: CaArgs,
    #[command(flatten, next_help_heading = "Connection")]
    cert: CertArgs,
}

impl ConnectArgs {
    /// A coordinator's address.
    pub fn target(&self, address: &str) -> Result<Target, Failure> {
        let is_encrypted = address.starts_with("https:");
        let tls = match is_encrypted {
            true => {
                let servers = self.ca.tls_ca.clone().map_or(Servers::Public, Servers::Named);
                Some(Arc::new(ClientTls::new(servers, self.cert.files()).map_err(unusable)?))
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

/// TLS of a coordinator's port.
#[derive(Args, Clone, Debug, Default)]
pub struct TlsArgs {
    #[command(flatten, next_help_heading = "Security")]
    cert: CertArgs,
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
        let Some(cert) = self.cert.files() else { return Ok(None) };
        let clients = self.tls_client_ca.clone().map_or(Clients::All, Clients::Known);
        Ok(Some(Arc::new(ServerTls::new(cert, clients).map_err(unusable)?)))
    }

    /// For the workers that this coordinator calls.
    pub fn workers(&self) -> Result<Option<Arc<ClientTls>>, Failure> {
        let Some(ca) = self.tls_client_ca.clone() else { return Ok(None) };
        Ok(Some(Arc::new(
            ClientTls::new(Servers::Only(ca, Role::Worker), self.cert.files()).map_err(unusable)?,
        )))
    }
}

/// How a worker and its coordinators know each other.
#[derive(Args, Clone, Debug, Default)]
pub struct WorkerTlsArgs {
    #[command(flatten)]
    token: TokenArgs,
    #[command(flatten, next_help_heading = "Security")]
    ca: CaArgs,
    #[command(flatten, next_help_heading = "Security")]
    cert: CertArgs,
}

impl WorkerTlsArgs {
    /// For a worker of these coordinators.
    pub fn trust(&self, coordinators: &[String]) -> Result<Trust, Failure> {
        let credentials = self.token.credentials()?;
        let cert = self.cert.files();
        let (server, servers) = match (cert.clone(), self.ca.tls_ca.clone()) {
            (Some(cert), Some(ca)) => {
                let clients = Clients::Only(ca.clone(), Role::Coordinator);
                let server = ServerTls::new(cert, clients).map_err(unusable)?;
                (Some(Arc::new(server)), Servers::Only(ca, Role::Coordinator))
            }
            (Some(_), None) => {
                let missing =
                    "--tls-cert of a worker needs --tls-ca: coordinators of that CA call it, and nobody else";
                return Err(Failure::usage(missing));
            }
            (None, Some(ca)) => (None, Servers::Named(ca)),
            (None, None) => (None, Servers::Public),
        };
        // To read what this machine trusts takes a while, and is for nothing without an address that needs it.
        let needs_tls = server.is_some() || coordinators.iter().any(|address| address.starts_with("https:"));
        let client = needs_tls.then(|| ClientTls::new(servers, cert).map(Arc::new));
        Ok(Trust { server, client: client.transpose().map_err(unusable)?, credentials })
    }
}
