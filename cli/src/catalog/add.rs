//! `graticule catalog add`.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use clap::Args;
use graticule_common::error::ErrorClass;
use graticule_common::scene::Timestamp;
use graticule_common::transform::Proj;
use graticule_coordinator::catalog::{AddOptions, Added, FolderOptions, Input, is_stac_folder};

use super::{Where, blocking, instant, remote, waiting};
use crate::Global;
use crate::failure::{Failure, say};
use crate::request::FileArgs;
use crate::serve::inspector;

/// Register imagery.
#[derive(Args, Debug)]
pub struct Add {
    /// A STAC catalog, collection, item or item collection; items one a line (.ndjson); `-` reads such
    /// lines; or a folder: with `catalog.json` or `collection.json`, or of plain rasters
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<PathBuf>,
    /// Register items whose files are missing, too: `ok`
    #[arg(long, value_name = "ok", value_parser = ["ok"])]
    missing: Option<String>,
    /// Register VRTs: they read other files
    #[arg(long)]
    allow_vrt: bool,
    /// Product id of a folder of rasters [default: the folder's name]
    #[arg(long, value_name = "ID", help_heading = "Folders of rasters")]
    product: Option<String>,
    /// When the rasters were acquired, such as 2024-06-01 or 2024-06-01T10:20:30Z
    #[arg(long, value_name = "DATE", help_heading = "Folders of rasters", value_parser = instant)]
    date: Option<Timestamp>,
    /// What dates in names look like: %Y %m %d %j %H %M %S and other characters
    #[arg(long, value_name = "PATTERN", help_heading = "Folders of rasters", conflicts_with = "date")]
    date_pattern: Option<String>,
    /// Names of the bands of each file, in order; once for each band
    #[arg(long = "band", value_name = "NAME", help_heading = "Folders of rasters")]
    bands: Vec<String>,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    place: Where,
}

impl Add {
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let json = self.json;
        let added = match &self.place.endpoint {
            Some(endpoint) => {
                let mut remote = remote::Remote::connect(endpoint, &self.place.connect).await?;
                remote.add(&self.sources).await?
            }
            None => {
                let catalog = self.place.store.open(global).await?;
                blocking(move || self.add(&catalog)).await?
            }
        };
        report(&added, json)
    }

    fn add(
        &self,
        catalog: &graticule_coordinator::catalog::LocalCatalog,
    ) -> Result<Added, graticule_coordinator::catalog::CatalogError> {
        let proj = Proj::new();
        let mut options = AddOptions::new(&proj);
        options.may_miss = self.missing.is_some();
        options.allow_vrt = self.allow_vrt;
        options.waiting = &waiting;
        let folder = FolderOptions {
            product: self.product.clone(),
            date: self.date,
            date_pattern: self.date_pattern.clone(),
            bands: self.bands.clone(),
        };
        let inspect = inspector(&self.files);
        let inspect = inspect.as_ref();
        options.inspect = Some(inspect);
        let mut stdin = BufReader::new(std::io::stdin());
        let mut stdin = Some(&mut stdin);
        let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let mut inputs = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            inputs.push(match source.as_path() {
                path if path == Path::new("-") => match stdin.take() {
                    Some(reader) => Input::Lines { reader, name: "-", folder: &here },
                    None => continue,
                },
                path if path.is_dir() && !is_stac_folder(path) => {
                    Input::Folder { path, options: &folder, inspect }
                }
                path => Input::Path(path),
            });
        }
        catalog.add_all(&mut inputs, &options)
    }
}

fn report(added: &Added, json: bool) -> Result<(), Failure> {
    for warning in &added.warnings {
        eprintln!("warning: {warning}");
    }
    if added.more_warnings > 0 {
        eprintln!("warning: and {} more of the same", added.more_warnings);
    }
    if json {
        let products = added.products.iter().map(|product| {
            serde_json::json!({
                "id": product.id, "items": product.items(), "new": product.new, "updated": product.updated,
                "unchanged": product.unchanged, "removed": product.removed,
            })
        });
        let report =
            serde_json::json!({"products": products.collect::<Vec<_>>(), "warnings": added.warnings});
        say!("{report}");
        return Ok(());
    }
    for product in &added.products {
        let parts = [
            (product.new, "new"),
            (product.updated, "updated"),
            (product.unchanged, "unchanged"),
            (product.removed, "removed"),
        ];
        let parts: Vec<String> =
            parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        let detail = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
        say!("{}: {}{detail}", product.id, super::counted(product.items()));
    }
    if added.products.is_empty() {
        return Err(Failure::new(ErrorClass::InvalidRequest, "there was nothing to register"));
    }
    Ok(())
}
