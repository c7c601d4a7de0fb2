//! Which products and scenes there are: the catalog's contract, and the catalogs that keep it.
//!
//! A graft names products, never files; only a catalog turns a product into places of files.

mod add;
mod check;
#[cfg(test)]
mod conformance;
mod dates;
mod digest;
mod error;
mod folder;
mod footprint;
mod index;
mod journal;
mod keep;
mod local;
mod lock;
mod node;
mod replay;
mod search;
mod stac;
mod store;
mod walk;

#[cfg(test)]
mod tests;

use std::fmt::Debug;

use async_trait::async_trait;
use graticule_common::scene::{LonLatBox, Product, Scene, SceneQuery};

pub use add::{Added, AddedProduct};
pub use check::{Checked, Fault};
pub use error::{CatalogError, HrefProblem};
pub use folder::FolderOptions;
pub use local::{AddOptions, Input, LocalCatalog, POLL_EVERY, is_stac_folder};

/// A scene as a listing has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// The scene.
    pub scene: Scene,
    /// West, south, east and north of its box in degrees, as registered, where that is known.
    pub bbox: Option<[f64; 4]>,
}

/// Answers which scenes a selection finds.
#[async_trait]
pub trait SceneCatalog: Send + Sync + Debug {
    /// Changes whenever an answer may: what was planned is used again as long as it stays the same. `None`
    /// from a catalog that does not know.
    fn generation(&self) -> Option<u64> {
        None
    }

    /// Every product, by id.
    async fn products(&self) -> Result<Vec<Product>, CatalogError>;

    /// A product.
    ///
    /// # Errors
    /// [`CatalogError::UnknownProduct`].
    async fn product(&self, id: &str) -> Result<Product, CatalogError> {
        let products = self.products().await?;
        let unknown = || CatalogError::UnknownProduct {
            product: id.to_owned(),
            available: graticule_common::error::listing(products.iter().map(|product| &product.id)),
        };
        products.iter().find(|product| product.id == id).cloned().ok_or_else(unknown)
    }

    /// The scenes of a product with `start <= acquired < end` whose bounding box shares a point with
    /// `area`, by time of acquisition, then by id. An area or a box beyond 180 degrees, either way,
    /// goes on at the other side of the world.
    ///
    /// # Errors
    /// [`CatalogError::UnknownProduct`]; [`CatalogError::TooManyScenes`] when there are more than
    /// `scenes_max`: an answer is whole or an error.
    async fn search(
        &self,
        query: &SceneQuery,
        area: &LonLatBox,
        scenes_max: usize,
    ) -> Result<Vec<Scene>, CatalogError>;

    /// Up to `scenes_max` scenes that a search finds, and whether they are all.
    ///
    /// # Errors
    /// [`CatalogError::UnknownProduct`].
    async fn list(
        &self,
        query: &SceneQuery,
        area: &LonLatBox,
        scenes_max: usize,
    ) -> Result<(Vec<Listed>, bool), CatalogError> {
        let mut scenes = self.search(query, area, usize::MAX).await?;
        let is_all = scenes.len() <= scenes_max;
        scenes.truncate(scenes_max);
        Ok((scenes.into_iter().map(|scene| Listed { scene, bbox: None }).collect(), is_all))
    }

    /// West, south, east and north of a product's scenes in degrees; west above east goes on at the other
    /// side of the world. `None` without scenes, or where nobody knows.
    ///
    /// # Errors
    /// [`CatalogError::UnknownProduct`].
    async fn footprint(&self, product: &str) -> Result<Option<[f64; 4]>, CatalogError> {
        self.product(product).await.map(|_| None)
    }

    /// The scenes with these ids, in their order. `PRODUCT:ID` names one where several products have
    /// an image of the id.
    ///
    /// # Errors
    /// [`CatalogError::UnknownImage`]; [`CatalogError::AmbiguousImage`] for an id of several products.
    async fn scenes_by_id(&self, ids: &[String]) -> Result<Vec<Scene>, CatalogError>;
}
