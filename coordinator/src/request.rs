//! One request from graft to stream. Read this first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use graticule_common::aoi::{AoiError, lon_lat_box};
use graticule_common::block::{Block, DType};
use graticule_common::error::{Classify, ErrorClass, GraftPath};
use graticule_common::expr::Expr;
use graticule_common::graft::{self, GraftError};
use graticule_common::grid::Grid;
use graticule_common::limits::Limits;
use graticule_common::literal::Literal;
use graticule_common::ops::{Answer, BindCx, Origin, Props, TypeError};
use graticule_common::plan::stage::StageError;
use graticule_common::plan::{self, BindError, Named, NodeKind, Outcome, Plan, Root, explain};
use graticule_common::proto::v1 as pb;
use graticule_common::proto::v1::compute_response::Message;
use graticule_common::scene::{BandInfo, ClassInfo, Product, Scene, SceneQuery, Timestamp};
use graticule_common::status::to_status;
use graticule_common::transform::Transform;
use graticule_common::wire::{self, WireError};
use tracing::{info, instrument};

use crate::catalog::{CatalogError, SceneCatalog};
use crate::dispatch::{self, DispatchError, Out, Sink, Work};
use crate::fleet::{Fleet, FleetError, Worker};
use crate::stages;

/// Everything a request needs.
#[derive(Clone)]
pub struct Requests {
    /// Which scenes there are.
    pub catalog: Arc<dyn SceneCatalog>,
    /// What is known about CRSs.
    pub transform: Arc<dyn Transform>,
    /// Who computes.
    pub fleet: Fleet,
    /// What one request may ask for.
    pub limits: Limits,
    /// Time for one request.
    pub deadline: Duration,
    /// Time to wait for a worker when there is none.
    pub patience: Duration,
}

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The graft.
    #[error(transparent)]
    Graft(#[from] GraftError),
    /// The AOI.
    #[error(transparent)]
    Aoi(#[from] AoiError),
    /// A selection of scenes.
    #[error("{at}: {error}")]
    Selection {
        /// Where in the graft.
        at: GraftPath,
        /// What does not fit.
        error: TypeError,
    },
    /// The catalog.
    #[error("{at}: {error}")]
    Catalog {
        /// Where in the graft.
        at: GraftPath,
        /// What it said.
        error: CatalogError,
    },
    /// The plan.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The workers.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The computation.
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
    /// A stage.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// More stored pixels than the request's budget.
    #[error(
        "the request would read {bytes} bytes of stored pixels, its budget is {limit} (`--max-bytes`, `max_read_bytes`); ask for a smaller AOI, select fewer scenes or bands, or allow more"
    )]
    ReadBudget {
        /// Bytes.
        bytes: u64,
        /// The budget.
        limit: u64,
    },
    /// More processor time than the request's budget.
    #[error(
        "the request would take about {seconds:.1} s of processor time, its budget is {limit} s (`--max-cpu-s`, `max_cpu_s`); ask for a smaller AOI or a coarser resolution, select fewer scenes or bands, or allow more"
    )]
    CpuBudget {
        /// Seconds.
        seconds: f64,
        /// The budget.
        limit: f64,
    },
    /// Planning or merging panicked: a defect.
    #[error("planning stopped by a defect of the engine: {reason}")]
    Panicked {
        /// What is known of it.
        reason: String,
    },
}

impl Classify for RequestError {
    fn class(&self) -> ErrorClass {
        match self {
            RequestError::Wire(error) => error.class(),
            RequestError::Graft(error) => error.class(),
            RequestError::Aoi(error) => error.class(),
            RequestError::Selection { error, .. } => error.class(),
            RequestError::Catalog { error, .. } => error.class(),
            RequestError::Bind(error) => error.class(),
            RequestError::Fleet(error) => error.class(),
            RequestError::Dispatch(error) => error.class(),
            RequestError::Stage(error) => error.class(),
            RequestError::ReadBudget { .. } | RequestError::CpuBudget { .. } => ErrorClass::LimitExceeded,
            RequestError::Panicked { .. } => ErrorClass::Internal,
        }
    }
}

/// Workers with less memory for a tile are not planned for.
const SHARE_BYTES_MIN: u64 = 128 << 20;

/// How a request is computed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    /// Whether remembered tiles are neither used nor made.
    no_cache: bool,
    /// Whether sources that cannot be read are skipped and listed.
    skip_faulty: bool,
    /// When it arrived.
    started: Instant,
}

/// A request with its plan.
struct Prepared {
    expr: Arc<Expr>,
    outcome: Outcome,
    sources: Sources,
}

impl Requests {
    /// Plans a request without reading a pixel.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn explain(&self, request: pb::ComputeRequest) -> Result<pb::ExplainResponse, RequestError> {
        let Prepared { expr, outcome, sources } = self.prepare(&request, &self.fleet.snapshot()).await?;
        let explaining = move || {
            let (text, bill) = explain::outcome(&outcome);
            (outcome, text, bill)
        };
        let (outcome, text, bill) = stages::blocking(explaining).await?;
        let bill = pb::Bill {
            tiles: bill.tiles,
            scenes: bill.scenes,
            read_bytes: bill.read_bytes,
            result_bytes: bill.result_bytes,
            tile_peak_bytes: bill.tile_peak_bytes,
            read_pixels: bill.read_pixels,
            cpu_s: bill.cpu_s,
        };
        let graft = expr.to_graft().to_string();
        let header = Some(sources.header(&outcome));
        Ok(pb::ExplainResponse { text, graft, bill: Some(bill), header })
    }

    /// Computes a request into `out`: header, pieces of tiles, summary; or an error as the last message.
    #[instrument(skip_all)]
    pub async fn compute(&self, request: pb::ComputeRequest, out: Out) {
        let started = Instant::now();
        let error = match self.stream(request, &out, started).await {
            Ok(summary) => {
                info!(
                    tiles = summary.tiles,
                    cache_hits = summary.cache_hits,
                    read_bytes = summary.read_bytes,
                    read_ms = summary.read_ms,
                    eval_ms = summary.eval_ms,
                    wall_ms = summary.wall_ms,
                    retries = summary.retries,
                    "request done"
                );
                return;
            }
            Err(error) => error,
        };
        info!(class = error.class().name(), error = %error, "request failed");
        // Fails only when the client has gone, and then nobody needs the error.
        let _ = out.send(Err(to_status(&error))).await;
    }

    async fn stream(
        &self,
        request: pb::ComputeRequest,
        out: &Out,
        started: Instant,
    ) -> Result<pb::Summary, RequestError> {
        let no_cache = request.options.as_ref().is_some_and(|options| options.no_cache);
        let skip_faulty = request.options.as_ref().is_some_and(|options| options.skip_faulty);
        let mut workers = self.fleet.snapshot();
        let mut prepared = self.prepare(&request, &workers).await?;
        if workers.is_empty() {
            // What cannot be computed was refused without waiting; how tiles are cut depends on the workers.
            workers = self.fleet.wait(self.patience).await?;
            prepared = self.prepare(&request, &workers).await?;
        }
        let Prepared { outcome, sources, .. } = prepared;
        let options = request.options.clone();
        let checking = move || check_budget(&outcome, options.as_ref()).map(|()| outcome);
        let outcome = stages::blocking(checking).await??;
        let how = How { no_cache, skip_faulty, started };
        let planned = sources.header(&outcome);
        let (outcome, mut sums) = stages::run(self, outcome, how, out).await?;
        // What is read was known before the stages; values were not.
        let header = pb::Header { scenes: planned.scenes, ..sources.header(&outcome) };
        let send =
            async |message| out.send(Ok(dispatch::message(message))).await.map_err(|_| DispatchError::Gone);
        send(Message::Header(header)).await?;
        if let Some(plan) = outcome.plan() {
            sums.add(dispatch::run(self.work(plan, how), &self.fleet, Sink::Client(out.clone())).await?)?;
        }
        let mut summary = sums.summary();
        summary.wall_ms = started.elapsed().as_secs_f64() * 1e3;
        send(Message::Summary(summary.clone())).await?;
        Ok(summary)
    }

    /// What is asked of the workers for a plan.
    pub(crate) fn work(&self, plan: &Plan, how: How) -> Work {
        Work {
            tiles: plan.tiles(),
            plan: wire::plan_to(plan),
            tile_peak_bytes: plan.tile_peak_bytes(),
            no_cache: how.no_cache,
            skip_faulty: how.skip_faulty,
            deadline: self.deadline.saturating_sub(how.started.elapsed()),
            patience: self.patience,
        }
    }

    /// bytes → expression → scenes → plan.
    async fn prepare(
        &self,
        request: &pb::ComputeRequest,
        workers: &[Worker],
    ) -> Result<Prepared, RequestError> {
        // Resolving and planning are computing: async threads only wait.
        let resolving = {
            let (graft, limits) = (request.graft.clone(), self.limits.clone());
            let parameters = request.parameters.as_ref().map(wire::parameters_from).unwrap_or_default();
            move || graft::resolve_with(&graft, &parameters, &limits)
        };
        let expr = Arc::new(stages::blocking(resolving).await??);
        let aoi = wire::aoi_from(request.aoi.as_ref().ok_or(WireError::Missing { field: "aoi" })?)?;
        let (grid, outline) = aoi.resolve(self.transform.as_ref(), &self.limits)?;
        let slots = workers.iter().map(|worker| worker.slots).sum::<u32>().max(1);
        let options = wire::options_from(request.options.as_ref(), slots)?;
        let answers = self.answers(&expr, &grid).await?;
        let images = self.images(&expr).await?;
        let products = self.products(&answers, &images).await?;
        let limits = self.limits_of(workers);
        let planning = {
            let (expr, grid, transform) = (expr.clone(), grid.clone(), self.transform.clone());
            move || {
                let transform = transform.as_ref();
                let cx = BindCx { grid: &grid, transform, answers: &answers, images: &images };
                let outcome = plan::build(&expr, &cx, outline, &limits, &options)?;
                let acquired = acquired(&answers, &images);
                Ok::<_, BindError>((outcome, Sources { grid, acquired, products }))
            }
        };
        let (outcome, sources) = stages::blocking(planning).await??;
        Ok(Prepared { expr, outcome, sources })
    }

    /// What the catalog has for every selection of the graft.
    async fn answers(&self, expr: &Expr, grid: &Grid) -> Result<BTreeMap<SceneQuery, Answer>, RequestError> {
        let queries = expr.scene_queries().map_err(|(error, at)| RequestError::Selection { at, error })?;
        let mut answers = BTreeMap::new();
        if queries.is_empty() {
            return Ok(answers);
        }
        for (query, at) in queries {
            let failed = |error| RequestError::Catalog { at: at.clone(), error };
            let area = lon_lat_box(&grid.pad(query.pad), self.transform.as_ref());
            let scenes = self.catalog.search(&query, &area, self.limits.scenes).await.map_err(failed)?;
            let product = self.catalog.product(&query.product).await.map_err(failed)?;
            answers.insert(query, Answer { product, scenes });
        }
        Ok(answers)
    }

    /// The products of the scenes that the catalog answered with.
    async fn products(
        &self,
        answers: &BTreeMap<SceneQuery, Answer>,
        images: &BTreeMap<String, Scene>,
    ) -> Result<BTreeMap<String, Product>, RequestError> {
        let known = answers.values().map(|answer| (answer.product.id.clone(), answer.product.clone()));
        let mut products: BTreeMap<String, Product> = known.collect();
        for scene in images.values() {
            if !products.contains_key(&scene.product) {
                let failed = |error| RequestError::Catalog { at: GraftPath::root(), error };
                let product = self.catalog.product(&scene.product).await.map_err(failed)?;
                products.insert(scene.product.clone(), product);
            }
        }
        Ok(products)
    }

    /// The images that the graft names by their ids.
    async fn images(&self, expr: &Expr) -> Result<BTreeMap<String, Scene>, RequestError> {
        let named = expr.image_ids().map_err(|(error, at)| RequestError::Selection { at, error })?;
        let Some((_, at)) = named.first() else { return Ok(BTreeMap::new()) };
        let ids: Vec<String> = named.iter().map(|(id, _)| id.clone()).collect();
        let failed = |error| RequestError::Catalog { at: at.clone(), error };
        let scenes = self.catalog.scenes_by_id(&ids).await.map_err(failed)?;
        Ok(ids.into_iter().zip(scenes).collect())
    }

    /// A tile must fit the share of memory of every worker that is planned for.
    fn limits_of(&self, workers: &[Worker]) -> Limits {
        // One dwarf must not shrink everybody's tiles; it takes part where tiles are small enough.
        let shares = || workers.iter().map(Worker::tile_bytes);
        let smallest = shares().filter(|share| *share >= SHARE_BYTES_MIN).min();
        let share = smallest.or(shares().max()).unwrap_or(u64::MAX);
        let tile_peak_bytes = share.min(self.limits.tile_peak_bytes);
        Limits { tile_peak_bytes, ..self.limits.clone() }
    }
}

/// Refuses what would take more than the request allows.
fn check_budget(outcome: &Outcome, options: Option<&pb::Options>) -> Result<(), RequestError> {
    let Some(options) = options.filter(|o| o.max_cpu_s.is_some() || o.max_read_bytes.is_some()) else {
        return Ok(());
    };
    let bill = explain::bill_of(outcome);
    if let Some(limit) = options.max_read_bytes.filter(|limit| bill.read_bytes > *limit) {
        return Err(RequestError::ReadBudget { bytes: bill.read_bytes, limit });
    }
    // A limit that is no number allows nothing.
    if let Some(limit) = options.max_cpu_s.filter(|limit| bill.cpu_s > *limit || limit.is_nan()) {
        return Err(RequestError::CpuBudget { seconds: bill.cpu_s, limit });
    }
    Ok(())
}

/// When the scenes that the catalog answered with were acquired, by product and id.
fn acquired(answers: &BTreeMap<SceneQuery, Answer>, images: &BTreeMap<String, Scene>) -> Acquired {
    let mut acquired = Acquired::new();
    for scene in answers.values().flat_map(|answer| &answer.scenes).chain(images.values()) {
        acquired.entry(scene.product.clone()).or_default().insert(scene.id.clone(), scene.acquired);
    }
    acquired
}

type Acquired = BTreeMap<String, BTreeMap<String, Timestamp>>;

/// What a header says beside the outcome.
struct Sources {
    grid: Grid,
    acquired: Acquired,
    products: BTreeMap<String, Product>,
}

impl Sources {
    /// The header of an outcome. Arrays that are not known before pixels are reduced have no values in it.
    fn header(&self, outcome: &Outcome) -> pb::Header {
        let (stages, last) = match outcome {
            Outcome::Staged(staged) => (staged.plans(), staged.last()),
            outcome => (&[][..], outcome),
        };
        let are_known = stages.is_empty();
        let small = |name: &str, array: &Block, props: &Props| pb::Result {
            array: are_known.then(|| array.encode().into()),
            ..described(name, props, array.samples().dtype())
        };
        let results = match last {
            Outcome::Value { literal, props } => vec![value("", literal, props)],
            Outcome::Array { array, props } => vec![small("", array, props)],
            Outcome::Raster { plan, props } => vec![raster(plan, &plan.roots()[0], props, &self.products)],
            Outcome::Several { plan, results } => {
                let mut roots =
                    plan.iter().flat_map(|plan| plan.roots().iter().map(move |root| (plan, root)));
                let results = results.iter().filter_map(|(name, result)| match result {
                    Named::Value(literal, props) => Some(value(name, literal, props)),
                    Named::Array(array, props) => Some(small(name, array, props)),
                    Named::Raster(props) => {
                        roots.next().map(|(plan, root)| raster(plan, root, props, &self.products))
                    }
                });
                results.collect()
            }
            // The last of a computation's stages has none after it.
            Outcome::Staged(_) => Vec::new(),
        };
        let plan = last.plan();
        pb::Header {
            grid: Some(wire::grid_to(&self.grid)),
            results,
            tile_size: plan.map_or(0, |plan| plan.tile_size().pixels()),
            tiles: plan.map_or(0, |plan| plan.tiles().len() as u64),
            scenes: scenes_read(stages.iter().chain(plan), &self.acquired),
        }
    }
}

fn described(name: &str, props: &Props, dtype: DType) -> pb::Result {
    pb::Result {
        name: name.to_owned(),
        data_type: wire::dtype_to(dtype).into(),
        properties: props.dicts().map(|properties| wire::properties_to(&properties)).collect(),
        property_list: props.images().is_some(),
        ..pb::Result::default()
    }
}

fn value(name: &str, literal: &Literal, props: &Props) -> pb::Result {
    pb::Result {
        name: name.to_owned(),
        number: Some(wire::literal_to(literal)),
        properties: props.dicts().map(|properties| wire::properties_to(&properties)).collect(),
        property_list: props.images().is_some(),
        ..pb::Result::default()
    }
}

fn raster(plan: &Plan, root: &Root, props: &Props, products: &BTreeMap<String, Product>) -> pb::Result {
    let facts = plan.node(root.node).facts;
    pb::Result {
        shape: wire::kind_to(facts.kind),
        bands: props
            .origin()
            .and_then(|origin| meanings(origin, products.get(&origin.product)?))
            .unwrap_or_default(),
        ..described(&root.name, props, facts.dtype)
    }
}

/// What the bands of a result mean; `None` where nothing is known of any.
fn meanings(origin: &Origin, product: &Product) -> Option<Vec<pb::BandMeaning>> {
    let class = |class: &ClassInfo| pb::ClassMeaning {
        value: class.value,
        name: class.name.clone(),
        color: class.color.map(|[red, green, blue]| u32::from_be_bytes([0, red, green, blue])),
    };
    let meaning = |info: &BandInfo| pb::BandMeaning {
        unit: info.unit.clone().unwrap_or_default(),
        classes: info.classes.iter().map(class).collect(),
    };
    let infos: Vec<Option<&BandInfo>> = origin.bands.iter().map(|band| product.band_info.get(band)).collect();
    infos
        .iter()
        .any(Option::is_some)
        .then(|| infos.into_iter().map(|info| info.map(meaning).unwrap_or_default()).collect())
}

/// The scenes that plans read, each once, in the order of time.
fn scenes_read<'a>(plans: impl Iterator<Item = &'a Plan>, acquired: &Acquired) -> Vec<pb::SceneUse> {
    let reads = plans.flat_map(|plan| {
        let nodes = plan.nodes().iter().zip(plan.windows());
        nodes.filter_map(|(node, window)| match &node.kind {
            NodeKind::Read(read) => Some((window, read)),
            _ => None,
        })
    });
    let mut used: Vec<_> = reads
        .flat_map(|(window, read)| {
            let touching = read.scenes.iter().filter(move |scene| scene.touches(&window));
            touching.map(|scene| (scene.product.as_str(), scene.id.as_str()))
        })
        .map(|(product, id)| (acquired.get(product).and_then(|of| of.get(id)).copied(), (product, id)))
        .collect();
    used.sort_unstable();
    used.dedup();
    used.into_iter()
        .map(|(acquired, (product, id))| pb::SceneUse {
            product: product.to_owned(),
            id: id.to_owned(),
            acquired: acquired.map(|instant| instant.to_string()).unwrap_or_default(),
        })
        .collect()
}
