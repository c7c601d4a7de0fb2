//! `--store`: where documents and layers are kept.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use graticule_common::error::{Classify, ErrorClass};
use graticule_common::hash::Hasher;
use graticule_coordinator::catalog::{CatalogError, LocalCatalog, POLL_EVERY};
use graticule_coordinator::objects::{ObjectError, Objects};
use tokio_util::sync::CancellationToken;

use crate::Global;
use crate::failure::Failure;

/// Where what must last is kept.
#[derive(Args, Clone, Debug, Default)]
pub struct StoreArgs {
    /// Object store that coordinators share: file:///DIR, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or
    /// az://CONTAINER/PREFIX, with credentials and end points from the environment, such as
    /// AWS_ACCESS_KEY_ID [default: the data folder]
    #[arg(long, value_name = "URL", env = "GRATICULE_STORE", hide_env_values = true, help_heading = "Store")]
    pub store: Option<String>,
    /// Folder for the index of the store, which may be lost [default: one below the data folder]
    #[arg(
        long,
        value_name = "DIR",
        env = "GRATICULE_INDEX_DIR",
        hide_env_values = true,
        help_heading = "Store"
    )]
    pub index_dir: Option<PathBuf>,
    /// Do not wait until what is registered is on disk: faster, and a power cut may take it
    #[arg(long, env = "GRATICULE_NO_FSYNC", hide_env_values = true, help_heading = "Store")]
    pub no_fsync: bool,
    /// Seconds after which a coordinator looks again whether others changed the catalog [default: 2]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "GRATICULE_CATALOG_POLL",
        hide_env_values = true,
        help_heading = "Store",
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    pub catalog_poll: Option<u64>,
}

/// Name of the folder of indexes in the data directory.
const INDEXES: &str = "stores";

impl StoreArgs {
    /// Opens the catalog, without blocking the runtime.
    pub async fn open(&self, global: &Global) -> Result<LocalCatalog, Failure> {
        let (args, global) = (self.clone(), global.clone());
        let opened = tokio::task::spawn_blocking(move || args.catalog(&global)).await;
        opened.map_err(|error| Failure::new(ErrorClass::Internal, error))?
    }

    /// Opens the catalog. Blocks.
    pub fn catalog(&self, global: &Global) -> Result<LocalCatalog, Failure> {
        let Some(url) = &self.store else {
            let data = global.data()?;
            // Whatever is wrong with it, a folder of this machine cannot be used.
            let objects = Objects::folder(&data, !self.no_fsync);
            return match (objects, &self.index_dir) {
                (Err(ObjectError::File { path, source }), _) => {
                    Err(Failure::io(CatalogError::DataDir { path, source }))
                }
                (Err(error), _) => Err(Failure::of(error)),
                (Ok(objects), None) => LocalCatalog::open_data(objects).map_err(Failure::io),
                (Ok(objects), Some(dir)) => LocalCatalog::open_in(objects, dir).map_err(Failure::io),
            };
        };
        let objects = Objects::open(url, !self.no_fsync).map_err(Failure::of)?;
        let index = match &self.index_dir {
            Some(dir) => dir.clone(),
            // Each store has its own.
            None => {
                let name = Hasher::new("index of a store").str(objects.url()).finish().to_string();
                global.data()?.join(INDEXES).join(&name[..16])
            }
        };
        LocalCatalog::open_in(objects, &index).map_err(|error| match error.class() {
            // A folder for the index is a folder of this machine.
            ErrorClass::InvalidRequest => Failure::io(error),
            _ => Failure::of(error),
        })
    }

    /// Lets a catalog take in what others change, until `stop`.
    pub fn watch(&self, catalog: &LocalCatalog, stop: &CancellationToken) {
        let every = self.catalog_poll.map_or(POLL_EVERY, Duration::from_secs);
        tokio::spawn(catalog.clone().watch(every, stop.clone()));
    }
}
