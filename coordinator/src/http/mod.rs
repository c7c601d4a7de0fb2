//! The engine over HTTP: layers, tiles, whole results, the catalog, and a page to look at them.
//!
//! One router on a port of its own. Around all of its addresses is one layer ([`around`]): ids of
//! requests, errors as JSON, limits, and who may call ([`access`]). Every address is a row of the tables
//! in `access.rs` and `openapi.json`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use graticule_common::limits::Limits;
use graticule_common::transform::Transform;
use tokio::sync::Semaphore;

use crate::access::{Access, quota::Permit};
use crate::blobs::{Blobs, Tickets};
use crate::catalog::SceneCatalog;
use crate::drain::Drain;
use crate::fleet::Fleet;
use crate::layers::Layers;
use crate::objects::{ObjectError, Objects};
use crate::request::Requests;

mod access;
mod answers;
mod aoi;
mod around;
mod body;
mod capability;
mod catalog;
mod describe;
mod earthone;
mod error;
mod formats;
mod gather;
mod health;
mod layers;
mod openapi;
mod query;
mod raster;
mod serve;
mod site;
mod stretch;
mod tile_query;
mod tiles;
mod value;
mod web;
mod wmts;

pub use capability::LayerSecret;
pub use raster::{Raster, RasterError, RasterWriter};
pub use web::Basemap;

pub(crate) use serve::serve;

use capability::Capabilities;
use error::HttpError;
use gather::Memory;
use layers::Layer;

/// Settings of the HTTP port.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Whether another port is taken where this one is in use.
    pub may_move: bool,
    /// Where layers, statistics and blobs are kept.
    pub objects: Objects,
    /// Other sites whose pages may call: origins, or `*` for all of them.
    pub cors: Vec<String>,
    /// What layer ids are made with; without it, what is in the store.
    pub layer_secret: Option<LayerSecret>,
    /// Who writes GeoTIFFs; without it there are none.
    pub geotiff: Option<Arc<dyn RasterWriter>>,
    /// Under which address clients reach this server, where it is not the one they name.
    pub public_url: Option<String>,
    /// A base map of the page; without it the page asks nobody else.
    pub basemap: Option<Basemap>,
    /// What answers go by.
    pub rules: HttpRules,
}

/// Bounds of the HTTP port.
#[derive(Clone, Debug)]
pub struct HttpRules {
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Bytes of a request's address.
    pub url_bytes: usize,
    /// Bytes of the address after `?`.
    pub query_bytes: usize,
    /// Highest zoom level of tiles.
    pub zoom_max: u8,
    /// Connections at a time.
    pub connections: usize,
    /// Time for the head of a request.
    pub header_within: Duration,
    /// Time for its body.
    pub body_within: Duration,
    /// A client that takes nothing of its answer for this long is cut off.
    pub progress_within: Duration,
    /// Requests at a time.
    pub requests: usize,
    /// Bytes of whole results at a time.
    pub results_bytes: u64,
    /// Time to wait for them.
    pub results_within: Duration,
    /// Time that a tile waits for its tenant's turn.
    pub turn_within: Duration,
}

impl Default for HttpRules {
    fn default() -> Self {
        HttpRules {
            body_bytes: 4 << 20,
            url_bytes: 32 << 10,
            query_bytes: 31 << 10,
            zoom_max: 26,
            connections: 4096,
            header_within: Duration::from_secs(10),
            body_within: Duration::from_secs(30),
            progress_within: Duration::from_secs(60),
            requests: 1024,
            results_bytes: 512 << 20,
            results_within: Duration::from_secs(10),
            turn_within: Duration::from_secs(20),
        }
    }
}

/// What every address knows.
pub(crate) struct Http {
    pub(crate) requests: Requests,
    pub(crate) fleet: Fleet,
    pub(crate) catalog: Arc<dyn SceneCatalog>,
    pub(crate) transform: Arc<dyn Transform>,
    pub(crate) layers: Layers,
    pub(crate) objects: Objects,
    pub(crate) access: Arc<Access>,
    pub(crate) drain: Drain,
    pub(crate) capabilities: Capabilities,
    pub(crate) rules: HttpRules,
    /// What grafts may be.
    pub(crate) limits: Limits,
    pub(crate) geotiff: Option<Arc<dyn RasterWriter>>,
    pub(crate) statistics: stretch::Known,
    pub(crate) blobs: Blobs,
    pub(crate) tickets: Tickets,
    pub(crate) public_url: Option<String>,
    pub(crate) basemap: Option<Basemap>,
    memory: Memory,
    places: Arc<Semaphore>,
    cors: Vec<String>,
}

impl Http {
    /// With what the coordinator has.
    ///
    /// # Errors
    /// [`ObjectError`] where the secret of layer ids can be neither read nor made.
    pub(crate) async fn new(
        config: HttpConfig,
        requests: Requests,
        (catalog, transform): (Arc<dyn SceneCatalog>, Arc<dyn Transform>),
        (access, drain): (Arc<Access>, Drain),
        limits: Limits,
    ) -> Result<Arc<Http>, ObjectError> {
        let secret = match config.layer_secret {
            Some(secret) => secret,
            None => LayerSecret::of_store(&config.objects).await?,
        };
        let rules = config.rules;
        Ok(Arc::new(Http {
            fleet: requests.fleet.clone(),
            requests,
            catalog,
            transform,
            layers: Layers::new(config.objects.clone(), limits.graft_bytes),
            blobs: Blobs::new(config.objects.clone(), rules.body_bytes),
            tickets: Tickets::new(secret.bytes()),
            public_url: config.public_url,
            objects: config.objects,
            access,
            drain,
            capabilities: Capabilities::new(&secret),
            limits,
            geotiff: config.geotiff,
            basemap: config.basemap,
            statistics: stretch::Known::default(),
            memory: Memory::new(rules.results_bytes, rules.results_within),
            places: Arc::new(Semaphore::new(rules.requests)),
            cors: config.cors,
            rules,
        }))
    }

    /// Counts a request for a layer as its tenant's, until the answer is dropped. It waits for its turn: a
    /// map asks for more tiles at once than a tenant may have under way.
    ///
    /// # Errors
    /// When to come back, where its turn has not come in time.
    pub(crate) async fn admit_layer(&self, layer: &Layer) -> Result<Permit, HttpError> {
        Ok(self.access.take_in_turn(&layer.tenant, self.rules.turn_within).await?)
    }
}

/// All addresses, with everything around them.
pub(crate) fn router(http: Arc<Http>) -> Router {
    let routes = Router::new()
        .merge(health::routes())
        .merge(openapi::routes())
        .merge(layers::routes())
        .merge(tiles::routes())
        .merge(stretch::routes())
        .merge(wmts::routes())
        .merge(catalog::routes())
        .merge(earthone::routes())
        .merge(web::routes());
    around::put(routes, http)
}
