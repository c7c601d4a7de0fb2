//! The HTTP port, asked over real HTTP.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, helpers included")]

mod access;
mod aoi;
mod api;
mod bad;
mod catalog;
mod earthone;
mod layers;
mod limits;
mod process;
mod tiles;
mod wmts;

use std::sync::Arc;

use graticule_coordinator::objects::Objects;
use graticule_tests::cluster::{Cluster, Setup};
use graticule_tests::scenes::{AREA, CRS, MadeUp};
use graticule_worker::source::Sources;
use serde_json::{Value, json};

/// Eight images of two bands, and a store in memory.
fn made_up() -> Setup {
    let catalog = MadeUp::default().with("made-up", 8, &["a", "b"]);
    let setup = Setup::new(1, Arc::new(catalog), Arc::new(Sources::synthetic_only()));
    setup.with_http(Objects::memory())
}

async fn cluster() -> Cluster {
    Cluster::start(made_up()).await
}

/// The body for an area of 61 x 61 pixels.
fn area() -> Value {
    json!({
        "geometry": null, "resolution": 30.0, "shape": null, "crs": CRS, "bounds": AREA,
        "bounds_crs": CRS, "align_pixels": false, "all_touched": false, "parameters": {},
        "python_version": "3.11", "dynamic_compute_version": "1.6.0",
    })
}
