//! `graticule key`: the API keys of a deployment.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use graticule_common::scene::Timestamp;
use graticule_coordinator::access::keys::{KeyFile, NewKey, as_token};
use graticule_coordinator::access::{Scope, Scopes};

use crate::Global;
use crate::access::KeyArgs;
use crate::failure::{Failure, say};

/// Make, list and revoke API keys.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a key and print it; it is shown this once
    Create(Create),
    /// List keys without their secrets
    List(List),
    /// Make a key count no more; coordinators notice within seconds
    Revoke(Revoke),
}

/// Make a key.
#[derive(Args, Debug)]
pub struct Create {
    /// On whose behalf it acts: whose quota and remembered tiles these are
    #[arg(long, value_name = "NAME")]
    tenant: String,
    /// What it may do: compute, catalog:read, catalog:write, admin, worker. May be given several times
    #[arg(long, value_name = "SCOPE", value_delimiter = ',', default_value = "compute,catalog:read", value_parser = scope)]
    scope: Vec<Scope>,
    /// What it is for, for people
    #[arg(long, value_name = "TEXT", default_value = "")]
    name: String,
    /// The instant from which it does not count, such as 2027-01-01 [default: never]
    #[arg(long, value_name = "DATE", value_parser = instant)]
    expires: Option<Timestamp>,
    /// Print it in the look of a JSON web token, which clients of EarthOne need: the value for EARTHONE_TOKEN
    #[arg(long)]
    jwt: bool,
    #[command(flatten)]
    keys: KeyArgs,
}

/// List keys.
#[derive(Args, Debug)]
pub struct List {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    keys: KeyArgs,
}

/// Revoke a key.
#[derive(Args, Debug)]
pub struct Revoke {
    /// Its id, which stands between `gk_` and the next `_`
    id: String,
    #[command(flatten)]
    keys: KeyArgs,
}

fn scope(name: &str) -> Result<Scope, String> {
    Scope::from_name(name).ok_or_else(|| format!("the scopes are {}", Scope::ALL.map(Scope::name).join(", ")))
}

fn instant(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "a date such as 2027-01-01 is needed".to_owned())
}

fn file(keys: &KeyArgs) -> Result<KeyFile, Failure> {
    keys.file().ok_or_else(|| Failure::usage("say which file holds the keys: `--keys FILE`"))
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // To the second: nothing here is finer.
    Timestamp(i64::try_from(now.as_secs()).unwrap_or(0) * 1_000_000)
}

impl Key {
    pub fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Key::Create(Create { tenant, scope, name, expires, jwt, keys }) => {
                let wanted = NewKey { name, tenant, scopes: Scopes::of(scope), expires };
                let secret = keys.secret(global)?;
                let (key, record) = file(&keys)?.create(&secret, wanted, now()).map_err(Failure::io)?;
                eprintln!("key `{}` of `{}`; it is shown this once", record.id, record.tenant);
                say!("{}", if jwt { as_token(&key, &record) } else { key });
            }
            Key::List(List { json, keys }) => {
                for record in file(&keys)?.records().map_err(Failure::io)? {
                    if json {
                        // What counts as the key's hash is nobody's business.
                        let shown = serde_json::json!({
                            "id": record.id, "name": record.name, "tenant": record.tenant,
                            "scopes": record.scopes, "created": record.created,
                            "expires": record.expires, "revoked": record.revoked,
                        });
                        say!("{shown}");
                        continue;
                    }
                    let state = match (&record.revoked, &record.expires) {
                        (Some(at), _) => format!("revoked {at}"),
                        (None, Some(at)) => format!("expires {at}"),
                        (None, None) => "counts".to_owned(),
                    };
                    let scopes = record.scopes.join(",");
                    say!("{}  {}  {scopes}  {state}  {}", record.id, record.tenant, record.name);
                }
            }
            Key::Revoke(Revoke { id, keys }) => match file(&keys)?.revoke(&id, now()).map_err(Failure::io)? {
                true => say!("revoked"),
                false => say!("it was revoked before"),
            },
        }
        Ok(())
    }
}
