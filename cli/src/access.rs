//! Who may call a coordinator: the settings.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use graticule_coordinator::access::jwt::{JwtAlgorithm, JwtRules};
use graticule_coordinator::access::keys::{KeyFile, Pepper};
use graticule_coordinator::access::quota::Quota;
use graticule_coordinator::access::{Access, AccessSettings, JwksPlace, JwksUrl};

use crate::Global;
use crate::failure::Failure;

/// Who may call.
#[derive(Args, Clone, Debug, Default)]
pub struct AccessArgs {
    /// Refuse callers who do not show an API key, a token, or a worker's certificate
    #[arg(long, env = "GRATICULE_REQUIRE_AUTH", value_parser = BoolishValueParser::new(), help_heading = "Security")]
    require_auth: bool,
    #[command(flatten)]
    keys: KeyArgs,
    /// Issuer of tokens, as in their claim `iss`
    #[arg(long, value_name = "ISSUER", env = "GRATICULE_JWT_ISSUER", requires_all = ["jwt_audience", "jwt_keys"], help_heading = "Security")]
    jwt_issuer: Option<String>,
    /// Audience of tokens, among their claim `aud`
    #[arg(
        long,
        value_name = "AUDIENCE",
        env = "GRATICULE_JWT_AUDIENCE",
        requires = "jwt_issuer",
        help_heading = "Security"
    )]
    jwt_audience: Option<String>,
    /// The issuer's public keys: a JWKS document, as a file or an https: address
    #[arg(
        long,
        value_name = "FILE|URL",
        env = "GRATICULE_JWT_KEYS",
        requires = "jwt_issuer",
        help_heading = "Security"
    )]
    jwt_keys: Option<String>,
    /// Algorithms of tokens: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA
    #[arg(
        long,
        value_name = "NAME",
        env = "GRATICULE_JWT_ALGORITHMS",
        value_delimiter = ',',
        default_value = "RS256,ES256,EdDSA",
        help_heading = "Security"
    )]
    jwt_algorithms: Vec<JwtAlgorithm>,
    /// Claim of tokens that names the tenant
    #[arg(
        long,
        value_name = "CLAIM",
        env = "GRATICULE_JWT_TENANT_CLAIM",
        default_value = "sub",
        help_heading = "Security"
    )]
    jwt_tenant_claim: String,
    /// Calls a second of one tenant, 0 for any number [default: 100 with --require-auth]
    #[arg(long, value_name = "N", env = "GRATICULE_TENANT_RATE", help_heading = "Security")]
    tenant_rate: Option<u32>,
    /// Calls of one tenant at a time, 0 for any number [default: 40 with --require-auth]
    #[arg(long, value_name = "N", env = "GRATICULE_TENANT_CALLS", help_heading = "Security")]
    tenant_calls: Option<u32>,
}

/// Where API keys are kept.
#[derive(Args, Clone, Debug, Default)]
pub struct KeyArgs {
    /// File of API keys, as `graticule key create` makes it
    #[arg(
        long,
        value_name = "FILE",
        env = "GRATICULE_KEYS",
        hide_env_values = true,
        help_heading = "Security"
    )]
    keys: Option<PathBuf>,
    /// File of the secret that API keys are hashed with; it must be the same for all coordinators
    /// [default: `auth.key` in the data folder, made when it is needed]
    #[arg(
        long,
        value_name = "FILE",
        env = "GRATICULE_AUTH_SECRET_FILE",
        hide_env_values = true,
        help_heading = "Security"
    )]
    auth_secret_file: Option<PathBuf>,
}

impl KeyArgs {
    /// The file, if there is one.
    pub fn file(&self) -> Option<KeyFile> {
        self.keys.clone().map(KeyFile)
    }

    /// The secret.
    pub fn secret(&self, global: &Global) -> Result<Pepper, Failure> {
        let path = match &self.auth_secret_file {
            Some(path) => path.clone(),
            None => {
                let folder = global.data()?;
                std::fs::create_dir_all(&folder).map_err(|e| Failure::file(&folder, "make", e))?;
                folder.join("auth.key")
            }
        };
        Pepper::open(&path).map_err(Failure::io)
    }
}

impl AccessArgs {
    /// Who may call. With `has_worker_certificates` nobody is a worker without being asked.
    pub async fn access(&self, global: &Global, has_worker_certificates: bool) -> Result<Access, Failure> {
        let keys = match self.keys.file() {
            Some(file) => Some((file, self.keys.secret(global)?)),
            None => None,
        };
        let tokens = match (&self.jwt_issuer, &self.jwt_audience, &self.jwt_keys) {
            (Some(issuer), Some(audience), Some(keys)) => {
                let rules = JwtRules {
                    issuer: issuer.clone(),
                    audience: audience.clone(),
                    algorithms: self.jwt_algorithms.clone(),
                    tenant_claim: self.jwt_tenant_claim.clone(),
                };
                let place = match keys.contains("://") {
                    true => JwksPlace::Url(Box::new(
                        JwksUrl::new(keys)
                            .map_err(|reason| Failure::usage(format!("--jwt-keys `{keys}`: {reason}")))?,
                    )),
                    false => JwksPlace::File(keys.into()),
                };
                Some((rules, place))
            }
            _ => None,
        };
        let bounds = if self.require_auth { Quota::default() } else { Quota::NONE };
        let quota = Quota {
            per_second: self.tenant_rate.unwrap_or(bounds.per_second),
            at_once: self.tenant_calls.unwrap_or(bounds.at_once),
        };
        let settings = AccessSettings {
            is_required: self.require_auth,
            keys,
            tokens,
            quota: Some(quota),
            has_worker_certificates,
        };
        Access::new(settings).await.map_err(Failure::of)
    }

    /// Says aloud that everybody who reaches this address may do everything.
    pub fn warn_if_open(&self, listen: std::net::SocketAddr) {
        if !self.require_auth && !listen.ip().is_loopback() {
            tracing::warn!(
                %listen,
                "everybody who reaches this address may compute and change the catalog; see --require-auth"
            );
        }
    }
}
