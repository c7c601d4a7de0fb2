//! The catalog over gRPC: decode, call `catalog`, encode.

use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use graticule_common::error::ErrorClass;
use graticule_common::file::Inspect;
use graticule_common::limits::Limits;
use graticule_common::predicate::Predicate;
use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::catalog_service_server::{CatalogService, CatalogServiceServer};
use graticule_common::scene::{LonLatBox, Product, Scene, SceneQuery, Timestamp};
use graticule_common::status::{status, to_status};
use graticule_common::transform::Transform;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::access::layer::UnderWay;
use crate::catalog::{AddOptions, CatalogError, Checked, Fault, Input, LocalCatalog, SceneCatalog};

/// Messages that wait for the other side.
const WAITING_MAX: usize = 16;
/// The largest message: one document.
const MESSAGE_BYTES_MAX: usize = 17 << 20;
/// A client that sends documents says something this often: others wait for it.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Serves a catalog.
#[derive(Clone)]
pub struct Catalog {
    /// The catalog.
    pub catalog: LocalCatalog,
    /// What is known about CRSs.
    pub transform: Arc<dyn Transform>,
    /// Looks into files.
    pub inspect: Arc<dyn Inspect>,
    /// The folders that documents sent here may refer to; without any, no local file at all.
    pub roots: Vec<PathBuf>,
}

impl Catalog {
    /// The service, to be added to a server.
    pub fn into_service(self) -> CatalogServiceServer<Catalog> {
        CatalogServiceServer::new(self).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Runs what blocks.
async fn blocking<T: Send + 'static>(
    task: impl FnOnce() -> Result<T, CatalogError> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(task).await;
    done.map_err(|e| status(ErrorClass::Internal, &e.to_string()))?.map_err(|e| to_status(&e))
}

fn invalid(reason: impl Into<String>) -> Status {
    status(ErrorClass::InvalidRequest, &reason.into())
}

#[tonic::async_trait]
impl CatalogService for Catalog {
    type SearchScenesStream = Answers<pb::SearchScenesResponse>;
    type CheckStream = Answers<pb::CheckResponse>;

    async fn list_products(
        &self,
        _: Request<pb::ListProductsRequest>,
    ) -> Result<Response<pb::ListProductsResponse>, Status> {
        let products = self.catalog.products().await.map_err(|e| to_status(&e))?;
        let products = products.iter().map(|product| product_to(product, Vec::new())).collect();
        Ok(Response::new(pb::ListProductsResponse { products }))
    }

    async fn get_product(
        &self,
        request: Request<pb::GetProductRequest>,
    ) -> Result<Response<pb::GetProductResponse>, Status> {
        let (catalog, id) = (self.catalog.clone(), request.into_inner().product);
        let (product, extent) =
            blocking(move || Ok((catalog.product_now(&id)?, catalog.extent(&id)?))).await?;
        let extent = extent.map(|edges| edges.to_vec()).unwrap_or_default();
        Ok(Response::new(pb::GetProductResponse { product: Some(product_to(&product, extent)) }))
    }

    async fn get_scene(
        &self,
        request: Request<pb::GetSceneRequest>,
    ) -> Result<Response<pb::GetSceneResponse>, Status> {
        let (catalog, pb::GetSceneRequest { product, item }) = (self.catalog.clone(), request.into_inner());
        let (scene, document) =
            blocking(move || Ok((catalog.scene(&product, &item)?, catalog.document(&product, Some(&item))?)))
                .await?;
        let (scene, document) = (Some(scene_to(&scene)), document.unwrap_or_default());
        Ok(Response::new(pb::GetSceneResponse { scene, document }))
    }

    async fn search_scenes(
        &self,
        request: Request<pb::SearchScenesRequest>,
    ) -> Result<Response<Self::SearchScenesStream>, Status> {
        let request = request.into_inner();
        let area = match request.bounds[..] {
            [] => LonLatBox { west: -180.0, south: -90.0, east: 180.0, north: 90.0 },
            [west, south, east, north]
                if south <= north && [west, east].iter().all(|edge| edge.abs() <= 900.0) =>
            {
                LonLatBox { west, south, east: if east < west { east + 360.0 } else { east }, north }
            }
            _ => return Err(invalid("`bounds` are west, south, east, north in degrees, south <= north")),
        };
        let instant = |text: &str, name: &str| match text {
            "" => Ok(None),
            text => Timestamp::parse(text).map(Some).ok_or_else(|| {
                invalid(format!("`{name}` is `{text}`, a date such as `2024-06-01` is needed"))
            }),
        };
        let predicate = Some(request.predicate.as_str()).filter(|text| !text.is_empty());
        let predicate = predicate.map(Predicate::parse).transpose().map_err(|e| to_status(&e))?;
        let query = SceneQuery {
            start: instant(&request.start, "start")?,
            end: instant(&request.end, "end")?,
            predicate,
            ..SceneQuery::all(request.product)
        };
        let limit = match request.limit {
            0 => Limits::default().scenes,
            limit => limit.min(SCENES_MAX) as usize,
        };
        let scenes = self.catalog.search(&query, &area, limit).await.map_err(|e| to_status(&e))?;
        let answers =
            scenes.into_iter().map(|scene| Ok(pb::SearchScenesResponse { scene: Some(scene_to(&scene)) }));
        Ok(Response::new(Box::pin(tokio_stream::iter(answers))))
    }

    async fn add_documents(
        &self,
        request: Request<Streaming<pb::AddDocumentsRequest>>,
    ) -> Result<Response<pb::AddDocumentsResponse>, Status> {
        let mut documents = request.into_inner();
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let service = self.clone();
        let adding = tokio::spawn(blocking(move || service.add(receiver)));
        loop {
            let next = tokio::time::timeout(SILENCE_MAX, documents.next()).await;
            let (message, is_last) = match next {
                Ok(Some(Ok(message))) => (Ok(message.document), false),
                Ok(None) => break,
                Ok(Some(Err(error))) => (Err(io::Error::other(error.message().to_owned())), true),
                Err(_) => (Err(io::Error::from(io::ErrorKind::TimedOut)), true),
            };
            // It fails when registering has failed, which says why below.
            if sender.send(message).await.is_err() || is_last {
                break;
            }
        }
        drop(sender);
        let added = adding.await.map_err(|e| status(ErrorClass::Internal, &e.to_string()))??;
        let products = added.products.into_iter().map(|product| pb::add_documents_response::Product {
            id: product.id,
            new: product.new,
            updated: product.updated,
            unchanged: product.unchanged,
            removed: product.removed,
        });
        let (products, warnings) = (products.collect(), added.warnings);
        Ok(Response::new(pb::AddDocumentsResponse { products, warnings }))
    }

    async fn remove(
        &self,
        request: Request<pb::RemoveRequest>,
    ) -> Result<Response<pb::RemoveResponse>, Status> {
        let (catalog, pb::RemoveRequest { product, items }) = (self.catalog.clone(), request.into_inner());
        let removed = blocking(move || catalog.remove(&product, &items, &|_| ())).await?;
        Ok(Response::new(pb::RemoveResponse { removed }))
    }

    async fn check(&self, request: Request<pb::CheckRequest>) -> Result<Response<Self::CheckStream>, Status> {
        // Counts against its tenant until it has stopped, also when the client has gone before.
        let under_way = request.extensions().get::<UnderWay>().cloned();
        let pb::CheckRequest { product, pixels } = request.into_inner();
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let service = self.clone();
        let products = match product.as_str() {
            "" => self.catalog.products().await.map_err(|e| to_status(&e))?,
            id => vec![self.catalog.product(id).await.map_err(|e| to_status(&e))?],
        };
        tokio::task::spawn_blocking(move || {
            let _until_the_end = under_way;
            let mut sum = Checked::default();
            for product in products {
                // A client that has gone ends the check, whether there are faults to tell it of or not.
                let goes_on = &mut |_: &Checked| !sender.is_closed();
                let found = &mut |fault| {
                    let fault = Some(fault_to(fault));
                    sender.blocking_send(Ok(pb::CheckResponse { fault, ..Default::default() })).is_ok()
                };
                let (inspect, transform) = (service.inspect.as_ref(), service.transform.as_ref());
                match service.catalog.check(&product.id, pixels, inspect, transform, found, goes_on) {
                    Ok(checked) => {
                        sum.items += checked.items;
                        sum.assets += checked.assets;
                        sum.faults += checked.faults;
                    }
                    Err(error) => {
                        let _ = sender.blocking_send(Err(to_status(&error)));
                        return;
                    }
                }
                if sender.is_closed() {
                    return;
                }
            }
            let Checked { items, assets, faults } = sum;
            let _ = sender.blocking_send(Ok(pb::CheckResponse { fault: None, items, assets, faults }));
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Scenes that one search may ask for.
const SCENES_MAX: u32 = 100_000;

impl Catalog {
    fn add(
        &self,
        documents: mpsc::Receiver<io::Result<String>>,
    ) -> Result<crate::catalog::Added, CatalogError> {
        let mut reader = BufReader::new(Lines { documents, line: Vec::new(), read: 0 });
        let input = Input::Lines { reader: &mut reader, name: "document", folder: Path::new("/") };
        let roots = Some(self.roots.as_slice());
        let options = AddOptions { roots, ..AddOptions::new(self.transform.as_ref()) };
        self.catalog.add_all(&mut [input], &options)
    }
}

/// Documents that arrive, one a line.
struct Lines {
    documents: mpsc::Receiver<io::Result<String>>,
    line: Vec<u8>,
    read: usize,
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.line.len() {
            let Some(document) = self.documents.blocking_recv() else { return Ok(0) };
            // In JSON, line ends stand between tokens only.
            self.line = document?.replace(['\n', '\r'], " ").into_bytes();
            self.line.push(b'\n');
            self.read = 0;
        }
        let count = buffer.len().min(self.line.len() - self.read);
        buffer[..count].copy_from_slice(&self.line[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

fn product_to(product: &Product, extent: Vec<f64>) -> pb::CatalogProduct {
    let bands = product.bands.iter().map(|name| {
        let info = product.band_info.get(name).cloned().unwrap_or_default();
        let classes = info.classes.into_iter().map(|class| pb::CatalogClass {
            value: class.value,
            name: class.name,
            color: class.color.map(|color| color.to_vec()).unwrap_or_default(),
        });
        pb::CatalogBand {
            name: name.clone(),
            common_name: info.common_name.unwrap_or_default(),
            unit: info.unit.unwrap_or_default(),
            classes: classes.collect(),
        }
    });
    let ends = product.acquired.map(|(first, last)| (first.to_string(), last.to_string()));
    let (first, last) = ends.unwrap_or_default();
    pb::CatalogProduct {
        id: product.id.clone(),
        title: product.title.clone(),
        bands: bands.collect(),
        scenes: product.scenes,
        first,
        last,
        extent,
    }
}

fn scene_to(scene: &Scene) -> pb::CatalogScene {
    let bands = scene.bands.iter().map(|(name, band)| pb::CatalogSceneBand {
        name: name.clone(),
        asset: band.asset.key.clone(),
        href: band.asset.source.to_string(),
        band: band.band,
    });
    pb::CatalogScene {
        id: scene.id.clone(),
        product: scene.product.clone(),
        acquired: scene.acquired.to_string(),
        properties: serde_json::to_string(&*scene.properties).expect("properties are JSON"),
        bands: bands.collect(),
    }
}

fn fault_to(fault: Fault) -> pb::check_response::Fault {
    let Fault { product, item, asset, href, kind, reason } = fault;
    pb::check_response::Fault { product, item, asset, href, kind: kind.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Mutex, PoisonError};

    use graticule_common::file::{FileBand, FileInfo};
    use graticule_common::grid::Crs;
    use graticule_common::scene::{Affine, Asset, AssetGrid};
    use graticule_common::transform::Proj;

    use super::*;
    use crate::access::quota::{Quota, Quotas};

    /// Long enough for anything that works.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Finds nothing wrong with any file, each as soon as it is let.
    #[derive(Debug)]
    struct Gate {
        began: Sender<()>,
        may_end: Mutex<Receiver<()>>,
    }

    impl Inspect for Gate {
        fn inspect(&self, _: &Asset, _: bool) -> Result<FileInfo, String> {
            let _ = self.began.send(());
            let may_end = self.may_end.lock().unwrap_or_else(PoisonError::into_inner);
            may_end.recv_timeout(PATIENCE).map_err(|error| error.to_string())?;
            let affine = Affine::upright((0.0, 0.0), 10.0, -10.0);
            Ok(FileInfo {
                driver: "GTiff".into(),
                version: String::new(),
                grid: Ok(AssetGrid { crs: Crs::from_canonical("EPSG:32613"), affine, rows: 1, cols: 1 }),
                shape: (1, 1),
                bands: vec![FileBand { data_type: "uint8".into(), ..FileBand::default() }],
                tags: Default::default(),
                notes: Vec::new(),
            })
        }
    }

    fn with_items(folder: &Path, count: usize) -> LocalCatalog {
        let item = |at| {
            serde_json::json!({
                "type": "Feature", "stac_version": "1.0.0", "id": format!("i{at}"), "collection": "p",
                "geometry": {"type": "Point", "coordinates": [10, 40]}, "bbox": [10, 40, 10, 40],
                "properties": {"datetime": "2024-02-01T00:00:00Z"}, "links": [],
                "assets": {"red": {
                    "href": format!("s3://bucket/{at}.tif"), "type": "image/tiff", "roles": ["data"],
                }},
            })
        };
        let lines = (0..count).map(|at| item(at).to_string() + "\n").collect::<String>();
        let path = folder.join("items.ndjson");
        std::fs::write(&path, lines).unwrap();
        let catalog = LocalCatalog::open(&folder.join("data")).unwrap();
        catalog.add(&path, &Proj::new()).unwrap();
        catalog
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_check_stops_when_its_client_goes_and_counts_until_then() {
        let folder = tempfile::tempdir().unwrap();
        let ((began, begins), (lets, may_end)) = (channel(), channel());
        let service = Catalog {
            catalog: with_items(folder.path(), 50),
            transform: Arc::new(Proj::new()),
            inspect: Arc::new(Gate { began, may_end: may_end.into() }),
            roots: Vec::new(),
        };
        let (quotas, tenant) = (Quotas::new(Quota { per_second: 0, at_once: 1 }), "t".into());
        let mut request = Request::new(pb::CheckRequest { product: "p".into(), pixels: true });
        let permit = quotas.take(&tenant, Duration::ZERO).unwrap();
        request.extensions_mut().insert(UnderWay::new(permit.into()));

        let answers = service.check(request).await.unwrap().into_inner();
        begins.recv_timeout(PATIENCE).unwrap();
        lets.send(()).unwrap();
        begins.recv_timeout(PATIENCE).unwrap();
        // It goes in the middle of the second file.
        drop(answers);
        assert!(quotas.take(&tenant, Duration::ZERO).is_err(), "it is still under way");
        // All others could be looked at, but are not.
        (0..50).for_each(|_| lets.send(()).unwrap());
        let ended = async {
            while quotas.take(&tenant, Duration::ZERO).is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.unwrap();
        assert_eq!(begins.try_iter().count(), 0, "files were looked at for nobody");
    }
}
