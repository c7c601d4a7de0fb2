//! `graticule catalog`: what imagery there is.

mod add;
mod look;
mod remote;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use graticule_common::error::ErrorClass;
use graticule_common::proto::v1::catalog_service_server::CatalogServiceServer;
use graticule_common::scene::Timestamp;
use graticule_common::transform::Proj;
use graticule_coordinator::catalog::LocalCatalog;
use graticule_coordinator::catalog_service::Catalog as CatalogOverGrpc;
use graticule_worker::source::gdal::{GdalSource, configure};

use crate::Global;
use crate::failure::{Failure, say};
use crate::store::StoreArgs;
use crate::tls::ConnectArgs;

/// Register imagery and look at what is registered.
#[derive(Debug, Subcommand)]
pub enum Catalog {
    /// Register imagery: STAC documents, or a folder of plain rasters; adding again updates
    Add(add::Add),
    /// List products with their bands, dates and number of scenes
    List(look::List),
    /// Show a product with its bands, or an item with its files
    Show(look::Show),
    /// Find scenes of a product
    Search(look::Search),
    /// Remove items, or a product with all its items; files stay
    Remove(Remove),
    /// Open every file of a product, or of all, and report what is missing, corrupt or not as registered
    Check(look::Check),
    /// Make the index again from the documents
    Reindex(StoreArgs),
}

/// Where the catalog is.
#[derive(Args, Debug)]
struct Where {
    /// Coordinator whose catalog it is [default: the catalog in the data folder of this machine]
    #[arg(long, value_name = "URL", visible_alias = "coordinator")]
    endpoint: Option<String>,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    store: StoreArgs,
}

/// What clients of a coordinator may register.
#[derive(Args, Clone, Debug, Default)]
pub struct CatalogRoots {
    /// Folder whose files may be registered through the network; may be given several times
    /// [default: none, only files behind URLs]
    #[arg(long, value_name = "DIR", help_heading = "Catalog")]
    catalog_root: Vec<PathBuf>,
}

impl CatalogRoots {
    /// The catalog as a service.
    pub fn service(&self, catalog: &LocalCatalog) -> Result<CatalogServiceServer<CatalogOverGrpc>, Failure> {
        let real = |root: &PathBuf| root.canonicalize().map_err(|e| Failure::file(root, "open", e));
        let roots = self.catalog_root.iter().map(real).collect::<Result<_, _>>()?;
        configure();
        let transform = Arc::new(Proj::new());
        let inspect = Arc::new(GdalSource::new(transform.clone()));
        let catalog = CatalogOverGrpc { catalog: catalog.clone(), transform, inspect, roots };
        Ok(catalog.into_service())
    }
}

/// Remove items, or a product.
#[derive(Args, Debug)]
pub struct Remove {
    /// Product id
    product: String,
    /// Item ids; without any, the whole product goes
    items: Vec<String>,
    #[command(flatten)]
    place: Where,
}

impl Catalog {
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Catalog::Add(add) => add.run(global).await,
            Catalog::List(list) => list.run(global).await,
            Catalog::Show(show) => show.run(global).await,
            Catalog::Search(search) => search.run(global).await,
            Catalog::Remove(remove) => remove.run(global).await,
            Catalog::Check(check) => check.run(global).await,
            Catalog::Reindex(store) => {
                let catalog = store.open(global).await?;
                blocking(move || catalog.reindex(&waiting)).await?;
                say!("the index is made again");
                Ok(())
            }
        }
    }
}

impl Remove {
    async fn run(self, global: &Global) -> Result<(), Failure> {
        let Remove { product, items, place } = self;
        let removed = match &place.endpoint {
            Some(endpoint) => {
                let mut remote = remote::Remote::connect(endpoint, &place.connect).await?;
                remote.remove(&product, items).await?
            }
            None => {
                let (catalog, product) = (place.store.open(global).await?, product.clone());
                blocking(move || catalog.remove(&product, &items, &waiting)).await?
            }
        };
        say!("{product}: {} removed", counted(removed));
        Ok(())
    }
}

/// A date of the command line.
fn instant(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "a date such as 2024-06-01 is needed".to_owned())
}

/// Runs what blocks.
async fn blocking<T: Send + 'static, E: graticule_common::error::Classify + Send + 'static>(
    task: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(task).await;
    done.map_err(|error| Failure::new(ErrorClass::Internal, error))?.map_err(Failure::of)
}

/// Says whom a registration waits for.
fn waiting(holder: &str) {
    eprintln!("waiting for {holder}, which changes the catalog");
}

fn counted(scenes: u64) -> String {
    if scenes == 1 { "1 scene".to_owned() } else { format!("{scenes} scenes") }
}

fn day(instant: Timestamp) -> String {
    instant.to_string().chars().take(10).collect()
}
