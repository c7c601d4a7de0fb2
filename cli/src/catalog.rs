//! `graticule catalog`: what imagery there is.

use std::path::PathBuf;

use clap::Subcommand;
use graticule_common::error::ErrorClass;
use graticule_common::transform::Proj;
use graticule_coordinator::catalog::{LocalCatalog, SceneCatalog};

use crate::Global;
use crate::failure::{Failure, say};

/// Register imagery and list what is registered.
#[derive(Debug, Subcommand)]
pub enum Catalog {
    /// Register a STAC catalog, collection or item on disk; adding it again updates it
    Add {
        /// The JSON file, or a folder with `catalog.json` or `collection.json`
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// List products with their bands, dates and number of scenes
    List,
}

impl Catalog {
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let catalog = LocalCatalog::open(&global.data()?).map_err(Failure::of)?;
        match self {
            Catalog::Add { paths } => {
                for path in paths {
                    let catalog = catalog.clone();
                    let added = tokio::task::spawn_blocking(move || catalog.add(&path, &Proj::new())).await;
                    let added = added.map_err(|error| Failure::new(ErrorClass::Internal, error))?;
                    for product in added.map_err(Failure::of)?.products {
                        say!("{}: {}", product.id, counted(product.items()));
                    }
                }
            }
            Catalog::List => {
                let products = catalog.products().await.map_err(Failure::of)?;
                if products.is_empty() {
                    eprintln!("the catalog is empty; `graticule catalog add PATH` registers STAC documents");
                }
                for product in products {
                    let dates = product.acquired.map_or(String::new(), |(first, last)| {
                        let day = |instant: graticule_common::scene::Timestamp| {
                            instant.to_string()[..10].to_owned()
                        };
                        format!("  {} .. {}", day(first), day(last))
                    });
                    say!("{}  {}{dates}", product.id, counted(product.scenes));
                    say!("    {}", product.title);
                    say!("    bands: {}", product.bands.join(" "));
                }
            }
        }
        Ok(())
    }
}

fn counted(scenes: u64) -> String {
    if scenes == 1 { "1 scene".to_owned() } else { format!("{scenes} scenes") }
}
