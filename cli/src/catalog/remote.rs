//! A coordinator's catalog.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graticule_common::error::ErrorClass;
use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::catalog_service_client::CatalogServiceClient;
use graticule_common::scene::{
    Asset, BandInfo, BandSource, ClassInfo, LonLatBox, Product, Scene, SceneQuery, SourceRef, Timestamp,
};
use graticule_common::transport::Authorized;
use graticule_coordinator::catalog::{Added, AddedProduct, Checked, Fault};

use crate::failure::Failure;
use crate::tls::ConnectArgs;

/// The largest message: a scene with its document.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A connection to a coordinator's catalog.
pub struct Remote(CatalogServiceClient<Authorized>);

impl Remote {
    pub async fn connect(address: &str, connect: &ConnectArgs) -> Result<Self, Failure> {
        let channel = connect.connect(address).await?;
        let client = CatalogServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Remote(client.max_encoding_message_size(MESSAGE_BYTES_MAX)))
    }

    pub async fn products(&mut self) -> Result<Vec<Product>, Failure> {
        let answer = self.0.list_products(pb::ListProductsRequest {}).await;
        let answer = answer.map_err(|e| Failure::status(&e))?.into_inner();
        Ok(answer.products.into_iter().map(|product| product_from(product).0).collect())
    }

    pub async fn product(&mut self, id: &str) -> Result<(Product, Option<[f64; 4]>), Failure> {
        let request = pb::GetProductRequest { product: id.to_owned() };
        let answer = self.0.get_product(request).await.map_err(|e| Failure::status(&e))?.into_inner();
        Ok(product_from(answer.product.unwrap_or_default()))
    }

    pub async fn scene(&mut self, product: &str, item: &str) -> Result<(Scene, String), Failure> {
        let request = pb::GetSceneRequest { product: product.to_owned(), item: item.to_owned() };
        let answer = self.0.get_scene(request).await.map_err(|e| Failure::status(&e))?.into_inner();
        Ok((scene_from(answer.scene.unwrap_or_default())?, answer.document))
    }

    pub async fn search(
        &mut self,
        query: &SceneQuery,
        area: &LonLatBox,
        scenes_max: usize,
    ) -> Result<Vec<Scene>, Failure> {
        let instant = |instant: Option<Timestamp>| instant.map(|at| at.to_string()).unwrap_or_default();
        let predicate = query.predicate.as_ref();
        let request = pb::SearchScenesRequest {
            product: query.product.clone(),
            bounds: vec![area.west, area.south, area.east, area.north],
            start: instant(query.start),
            end: instant(query.end),
            predicate: predicate.map(|predicate| predicate.to_json().to_string()).unwrap_or_default(),
            limit: u32::try_from(scenes_max).unwrap_or(u32::MAX),
        };
        let mut stream = self.0.search_scenes(request).await.map_err(|e| Failure::status(&e))?.into_inner();
        let mut scenes = Vec::new();
        while let Some(answer) = stream.message().await.map_err(|e| Failure::status(&e))? {
            scenes.push(scene_from(answer.scene.unwrap_or_default())?);
        }
        Ok(scenes)
    }

    /// Sends documents: files of one document, or of one a line. Links are not followed.
    pub async fn add(&mut self, sources: &[PathBuf]) -> Result<Added, Failure> {
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        let sources = sources.to_vec();
        let reading = tokio::task::spawn_blocking(move || {
            for source in &sources {
                read(source, &mut |document| {
                    sender.blocking_send(pb::AddDocumentsRequest { document }).is_ok()
                })?;
            }
            // Dropped here, and only here without an error: the end of the stream means all.
            Ok::<_, Failure>(sender)
        });
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let adding = self.0.add_documents(stream);
        let read = async {
            match reading.await {
                Ok(Ok(sender)) => {
                    drop(sender);
                    // What was added, or why not, is the answer of the call.
                    std::future::pending().await
                }
                Ok(Err(failure)) => failure,
                Err(error) => Failure::new(ErrorClass::Internal, error),
            }
        };
        let answer = tokio::select! {
            answer = adding => answer.map_err(|e| Failure::status(&e))?.into_inner(),
            failure = read => return Err(failure),
        };
        let products = answer.products.into_iter().map(|product| AddedProduct {
            id: product.id,
            new: product.new,
            updated: product.updated,
            unchanged: product.unchanged,
            removed: product.removed,
        });
        Ok(Added { products: products.collect(), warnings: answer.warnings, more_warnings: 0 })
    }

    pub async fn remove(&mut self, product: &str, items: Vec<String>) -> Result<u64, Failure> {
        let request = pb::RemoveRequest { product: product.to_owned(), items };
        Ok(self.0.remove(request).await.map_err(|e| Failure::status(&e))?.into_inner().removed)
    }

    pub async fn check(
        &mut self,
        product: Option<&str>,
        pixels: bool,
        found: &dyn Fn(&Fault) -> Result<(), Failure>,
    ) -> Result<Checked, Failure> {
        let request = pb::CheckRequest { product: product.unwrap_or_default().to_owned(), pixels };
        let mut stream = self.0.check(request).await.map_err(|e| Failure::status(&e))?.into_inner();
        while let Some(answer) = stream.message().await.map_err(|e| Failure::status(&e))? {
            let Some(fault) = answer.fault else {
                return Ok(Checked { items: answer.items, assets: answer.assets, faults: answer.faults });
            };
            let kinds = ["missing", "changed", "corrupt", "inconsistent"];
            found(&Fault {
                product: fault.product,
                item: fault.item,
                asset: fault.asset,
                href: fault.href,
                kind: kinds.into_iter().find(|kind| *kind == fault.kind).unwrap_or("fault"),
                reason: fault.reason,
            })?;
        }
        Err(Failure::new(ErrorClass::Unavailable, "the coordinator ended the check before its end"))
    }
}

/// Hands on the documents of a file; `-` is standard input, one a line.
fn read(source: &Path, each: &mut dyn FnMut(String) -> bool) -> Result<(), Failure> {
    use std::io::BufRead;
    let is_pipe = source == Path::new("-");
    let end = source.extension().and_then(|end| end.to_str()).unwrap_or_default();
    let failed = |error| Failure::file(source, "read", error);
    if !is_pipe && !["ndjson", "jsonl", "geojsonl", "geojsons"].contains(&end) {
        if source.is_dir() {
            let message = format!(
                "`{}` is a folder; a coordinator takes documents: items, item collections, collections, or lines of them",
                source.display()
            );
            return Err(Failure::new(ErrorClass::InvalidRequest, message));
        }
        each(std::fs::read_to_string(source).map_err(failed)?);
        return Ok(());
    }
    let mut lines: Box<dyn BufRead> = match is_pipe {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(std::io::BufReader::new(std::fs::File::open(source).map_err(failed)?)),
    };
    let mut line = String::new();
    while lines.read_line(&mut line).map_err(failed)? > 0 {
        if !line.trim().is_empty() && !each(std::mem::take(&mut line)) {
            break;
        }
        line.clear();
    }
    Ok(())
}

fn product_from(product: pb::CatalogProduct) -> (Product, Option<[f64; 4]>) {
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    let names = product.bands.iter().map(|band| band.name.clone()).collect();
    let info = product.bands.into_iter().map(|band| {
        let classes = band.classes.into_iter().map(|class| ClassInfo {
            value: class.value,
            name: class.name,
            color: class.color.try_into().ok(),
        });
        let (common_name, unit) = (text(band.common_name), text(band.unit));
        (band.name, BandInfo { common_name, unit, classes: classes.collect() })
    });
    let band_info: BTreeMap<_, _> = info.filter(|(_, info)| *info != BandInfo::default()).collect();
    let acquired = Timestamp::parse(&product.first).zip(Timestamp::parse(&product.last));
    let known = Product {
        title: product.title,
        band_info,
        scenes: product.scenes,
        acquired,
        ..Product::new(product.id, names)
    };
    (known, product.extent.try_into().ok())
}

fn scene_from(scene: pb::CatalogScene) -> Result<Scene, Failure> {
    let broken = |reason: String| Failure::new(ErrorClass::Internal, format!("a broken answer: {reason}"));
    let properties = serde_json::from_str(&scene.properties).map_err(|e| broken(e.to_string()))?;
    let acquired = Timestamp::parse(&scene.acquired).ok_or_else(|| broken(scene.acquired.clone()))?;
    let bands = scene.bands.into_iter().map(|band| {
        // Nothing is read here: where it is, is for people.
        let asset = Asset::new(band.asset, SourceRef::Local(band.href), "");
        (band.name, BandSource::new(Arc::new(asset), band.band))
    });
    Ok(Scene {
        id: scene.id,
        product: scene.product,
        acquired,
        properties: Arc::new(properties),
        bands: bands.collect(),
    })
}
