//! Products and scenes, of imagery that is registered.

use std::sync::Arc;

use graticule_coordinator::objects::Objects;
use graticule_tests::cluster::{Cluster, Setup};
use graticule_tests::colorado::{Imagery, graft};
use graticule_worker::source::Sources;

#[tokio::test]
async fn products_and_scenes_are_told() {
    let imagery = Imagery::committed();
    let catalog = imagery.register();
    let setup = Setup { workers: 0, ..Setup::new(1, catalog, Arc::new(Sources::synthetic_only())) };
    let cluster = Cluster::start(setup.with_http(Objects::memory())).await;
    let rest = cluster.rest();
    let products = rest.get("/catalog/products").await.json();
    let products = products.as_array().unwrap();
    assert!(!products.is_empty());
    let product = &products[0];
    let id = product["id"].as_str().unwrap();
    let footprint: Vec<f64> =
        product["footprint"].as_array().unwrap().iter().map(|edge| edge.as_f64().unwrap()).collect();
    assert!(footprint[0] < footprint[2] && footprint[1] < footprint[3], "{product}");
    assert!((-107.5..-106.5).contains(&footprint[0]) && (40.0..41.0).contains(&footprint[1]), "{product}");
    assert_eq!(product["resolution"], 30.0, "{product}");
    assert!(
        product["bands"].as_array().unwrap().iter().any(|band| band["common_name"] == "red"),
        "{product}"
    );
    assert_eq!(&rest.get(&format!("/catalog/products/{id}")).await.json(), product);
    let missing = rest.get("/catalog/products/no-such").await;
    assert_eq!((missing.status, &missing.error()["code"]), (404, &"not_found".into()));
    let scenes = async |query: &str| rest.get(&format!("/catalog/products/{id}/scenes{query}")).await;
    let all = scenes("?limit=1000").await.json();
    let count = product["scenes"].as_u64().unwrap() as usize;
    assert_eq!((all["scenes"].as_array().unwrap().len(), &all["more"]), (count, &false.into()));
    let first = &all["scenes"][0];
    assert_eq!(first["acquired"], product["acquired"][0]);
    assert_eq!(first["bbox"].as_array().unwrap().len(), 4);
    assert_eq!(first["properties"]["id"], first["id"]);
    let one = scenes("?limit=1").await.json();
    assert_eq!((one["scenes"].as_array().unwrap().len(), &one["more"]), (1, &true.into()));
    assert_eq!(scenes("?bbox=0,0,1,1").await.json()["scenes"].as_array().unwrap().len(), 0);
    let day = &first["acquired"].as_str().unwrap()[..10];
    assert_eq!(scenes(&format!("?datetime={day}")).await.json()["scenes"][0]["id"], first["id"]);
    let last = product["acquired"][1].as_str().unwrap();
    let before = scenes(&format!("?limit=1000&datetime=../{last}")).await.json();
    assert_eq!(before["scenes"].as_array().unwrap().len(), count - 1);
    for wrong in [
        "?limit=0",
        "?limit=x",
        "?bbox=1,2,3",
        "?bbox=1,2,3,NaN",
        "?bbox=0,2,1,1",
        "?datetime=x",
        "?datetime=2024-02-01/2024-01-01",
    ] {
        assert_eq!(scenes(wrong).await.status, 400, "{wrong}");
    }
    // A layer of the product is where the product is.
    let layer = rest.layer(&graft()).await;
    let about = rest.get(&format!("/layers/{layer}")).await.json();
    assert_eq!((&about["bounds"], &about["maxzoom"]), (&product["footprint"], &15.into()), "{about}");
    assert_eq!((&about["kind"], &about["products"][0]), (&"mosaic".into(), &id.into()), "{about}");
}
