//! From a request to tasks for workers: bytes → expression → scenes → plan → what is sent.
//!
//! What was planned is remembered, so that a request that comes again costs a look-up, and requests that
//! come at the same time are planned once. How many are planned at a time is bounded, and how many wait.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use graticule_common::aoi::lon_lat_box;
use graticule_common::error::GraftPath;
use graticule_common::expr::Expr;
use graticule_common::graft;
use graticule_common::grid::Grid;
use graticule_common::hash::{ContentHash, Hasher};
use graticule_common::limits::Limits;
use graticule_common::ops::{Answer, BindCx};
use graticule_common::plan::explain::{self, Bill};
use graticule_common::plan::{self, BindError, Outcome, Plan, stage};
use graticule_common::proto::v1 as pb;
use graticule_common::scene::{Product, Scene, SceneQuery};
use graticule_common::transform::Transform;
use graticule_common::wire::{self, WireError};
use moka::sync::Cache;
use prost::Message;
use tokio::sync::{OnceCell, Semaphore};

use crate::catalog::SceneCatalog;
use crate::dispatch::{DispatchError, Task};
use crate::fleet::Shape;
use crate::header::{Sources, acquired};
use crate::request::RequestError;

/// Requests that are planned at the same time, for each processor: planning computes, and waits for the
/// catalog in between.
const PLANNED_AT_ONCE: usize = 2;

/// Requests that wait to be planned; beyond, they are refused.
const PLANNING_WAITING_MAX: usize = 256;

/// Time to wait for that before a request is refused.
const PLANNING_WAIT_MAX: Duration = Duration::from_secs(1);

/// Bytes of plans that are remembered.
const PLANS_BYTES_MAX: u64 = 64 << 20;

/// Bytes of expressions that are remembered.
const EXPRS_BYTES_MAX: u64 = 32 << 20;

/// Bytes in memory of a plan or an expression for each of its bytes as a message or as text.
const BYTES_IN_MEMORY: u64 = 8;

/// Bytes of an entry beside its contents.
const ENTRY_BYTES: u64 = 4096;

/// How tiles are computed. Nothing here changes a pixel that can be read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct How {
    /// Whether remembered tiles are neither used nor made.
    no_cache: bool,
    /// Whether sources that cannot be read are skipped and listed.
    skip_faulty: bool,
}

impl How {
    /// What the options of a request say.
    pub(crate) fn of(options: Option<&pb::Options>) -> How {
        options.map_or_else(How::default, |options| How {
            no_cache: options.no_cache,
            skip_faulty: options.skip_faulty,
        })
    }
}

/// What one tile of a plan takes, on average.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Estimate {
    cost: Duration,
}

impl Estimate {
    /// The share of a tile in a bill.
    pub(crate) fn of(bill: &Bill) -> Estimate {
        let seconds = bill.cpu_s / bill.tiles.max(1) as f64;
        Estimate { cost: Duration::try_from_secs_f64(seconds).unwrap_or_default() }
    }
}

/// What workers are asked for a plan. Takes time by its tiles and its scenes.
pub(crate) fn task(plan: &Plan, how: How, estimate: Estimate) -> Task {
    let message = wire::plan_to(plan);
    let bytes = message.encode_to_vec();
    let hash = {
        let mut hasher = Hasher::new("task");
        hasher.bytes(&bytes).int(how.no_cache.into()).int(how.skip_faulty.into());
        hasher.finish()
    };
    let place = {
        let mut hasher = Hasher::new("place");
        hasher.bytes(
            &message
                .grid
                .as_ref()
                .and_then(|grid| grid.lattice.as_ref())
                .map_or_else(Vec::new, Message::encode_to_vec),
        );
        message.assets.iter().for_each(|asset| _ = hasher.bytes(&asset.encode_to_vec()));
        hasher.finish()
    };
    Task {
        tiles: plan.tiles(),
        message_bytes: bytes.len() as u64,
        hash,
        place,
        peak_bytes: plan.tile_peak_bytes(),
        result_bytes: result_bytes(plan),
        cost: estimate.cost,
        no_cache: how.no_cache,
        skip_faulty: how.skip_faulty,
        plan: message,
    }
}

/// Most bytes of one tile's answer.
fn result_bytes(plan: &Plan) -> u64 {
    if stage::is_stage(plan) {
        return stage::partial_bytes(plan);
    }
    let (grid, side) = (plan.grid(), u64::from(plan.tile_size().pixels()));
    let pixels = side.min(u64::from(grid.rows())) * side.min(u64::from(grid.cols()));
    let of_root = |root: &plan::Root| plan.node(root.node).facts.pixel_bytes() * pixels + BLOCK_HEAD_BYTES;
    plan.roots().iter().map(of_root).sum()
}

/// Bytes of an encoded block beside its values.
const BLOCK_HEAD_BYTES: u64 = 24;

/// A request with its plan.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The graft's expression.
    pub(crate) expr: Arc<Expr>,
    /// What it turned out to be.
    pub(crate) outcome: Outcome,
    /// What its header says beside.
    pub(crate) sources: Sources,
    /// What it will take.
    pub(crate) bill: Bill,
    /// Its header, where it has stages as far as it is known before them.
    pub(crate) header: pb::Header,
    /// What workers are asked, where there are pixels and no stages before them.
    pub(crate) task: Option<Arc<Task>>,
}

impl Prepared {
    /// About what it takes to remember it, in bytes.
    fn bytes(&self) -> u64 {
        let tiles = self.bill.tiles * size_of::<graticule_common::grid::TileId>() as u64;
        let plans: u64 = match (&self.task, &self.outcome) {
            (Some(task), _) => task.message_bytes,
            (None, Outcome::Staged(staged)) => {
                let plans = staged.plans().iter().chain(staged.last().plan());
                plans.map(|plan| wire::plan_to(plan).encoded_len() as u64).sum()
            }
            (None, _) => 0,
        };
        ENTRY_BYTES + tiles + BYTES_IN_MEMORY * (plans + self.header.encoded_len() as u64)
    }
}

/// Plans requests.
pub(crate) struct Planner {
    catalog: Arc<dyn SceneCatalog>,
    transform: Arc<dyn Transform>,
    limits: Limits,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    exprs: Cache<ContentHash, (Arc<Expr>, u32)>,
    plans: Cache<ContentHash, (Arc<Prepared>, u32)>,
    /// What is being planned, for those who ask for it meanwhile.
    shared: Mutex<HashMap<ContentHash, Arc<OnceCell<Arc<Prepared>>>>>,
}

impl Planner {
    pub(crate) fn new(
        catalog: Arc<dyn SceneCatalog>,
        transform: Arc<dyn Transform>,
        limits: Limits,
    ) -> Planner {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Planner {
            catalog,
            transform,
            limits,
            permits: Arc::new(Semaphore::new(PLANNED_AT_ONCE * threads)),
            waiting: AtomicUsize::new(0),
            exprs: Cache::builder().max_capacity(EXPRS_BYTES_MAX).weigher(|_, (_, bytes)| *bytes).build(),
            plans: Cache::builder().max_capacity(PLANS_BYTES_MAX).weigher(|_, (_, bytes)| *bytes).build(),
            shared: Mutex::default(),
        }
    }

    /// What a request's plan for a fleet is remembered under; `None` where the catalog does not know
    /// whether it is still the same.
    pub(crate) fn key(&self, request: &pb::ComputeRequest, fleet: Shape) -> Option<ContentHash> {
        Some(key_of(request, fleet, self.catalog.generation()?))
    }

    /// A plan that is remembered.
    pub(crate) fn known(&self, key: Option<ContentHash>) -> Option<Arc<Prepared>> {
        Some(self.plans.get(&key?)?.0)
    }

    /// A request's plan for a fleet. The key was made before: where the catalog changes meanwhile, the
    /// plan may be younger than its key, but never older.
    ///
    /// # Errors
    /// [`RequestError`].
    pub(crate) async fn prepare(
        &self,
        request: &pb::ComputeRequest,
        fleet: Shape,
        key: Option<ContentHash>,
    ) -> Result<Arc<Prepared>, RequestError> {
        let Some(key) = key else { return self.plan(request, fleet).await };
        if let Some(prepared) = self.known(Some(key)) {
            return Ok(prepared);
        }
        let cell = self.planning().entry(key).or_default().clone();
        let sharing = Sharing { planner: self, key, cell };
        let planned = async {
            let prepared = self.plan(request, fleet).await?;
            let bytes = u32::try_from(prepared.bytes()).unwrap_or(u32::MAX);
            self.plans.insert(key, (prepared.clone(), bytes));
            Ok::<_, RequestError>(prepared)
        };
        sharing.cell.get_or_try_init(|| planned).await.cloned()
    }

    fn planning(&self) -> MutexGuard<'_, HashMap<ContentHash, Arc<OnceCell<Arc<Prepared>>>>> {
        // Consistent after every statement, so a panic elsewhere does not spoil it.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans a request when it is its turn.
    async fn plan(&self, request: &pb::ComputeRequest, fleet: Shape) -> Result<Arc<Prepared>, RequestError> {
        let overloaded = || DispatchError::Overloaded { retry_after: PLANNING_WAIT_MAX };
        let waiting = Waiting::enter(&self.waiting).ok_or_else(overloaded)?;
        let permit = tokio::time::timeout(PLANNING_WAIT_MAX, self.permits.clone().acquire_owned());
        // The semaphore is never closed.
        let permit = permit.await.map_err(|_| overloaded())?.map_err(|_| overloaded())?;
        drop(waiting);
        // Resolving and planning are computing: async threads only wait. Whoever goes away meanwhile leaves
        // a computation behind, which keeps the permit.
        let expr = self.resolve(request).await?;
        let aoi = wire::aoi_from(request.aoi.as_ref().ok_or(WireError::Missing { field: "aoi" })?)?;
        let (grid, outline) = aoi.resolve(self.transform.as_ref(), &self.limits)?;
        let options = wire::options_from(request.options.as_ref(), fleet.slots.max(1))?;
        let answers = self.answers(&expr, &grid, options.overviews).await?;
        let images = self.images(&expr).await?;
        let products = self.products(&answers, &images).await?;
        let limits = self.limits_for(fleet);
        let how = How::of(request.options.as_ref());
        let transform = self.transform.clone();
        let planning = move || {
            let _permit = permit;
            let cx =
                BindCx { grid: &grid, transform: transform.as_ref(), answers: &answers, images: &images };
            let outcome = plan::build(&expr, &cx, outline, &limits, &options)?;
            let sources = Sources { acquired: acquired(&answers, &images), grid, products };
            let bill = explain::bill_of(&outcome);
            let header = sources.header(&outcome);
            let task = outcome.plan().map(|plan| Arc::new(task(plan, how, Estimate::of(&bill))));
            Ok::<_, BindError>(Arc::new(Prepared { expr, outcome, sources, bill, header, task }))
        };
        Ok(blocking(planning).await??)
    }

    async fn resolve(&self, request: &pb::ComputeRequest) -> Result<Arc<Expr>, RequestError> {
        let parameters = request.parameters.as_ref().map(Message::encode_to_vec).unwrap_or_default();
        let key = Hasher::new("expr").bytes(&request.graft).bytes(&parameters).finish();
        if let Some((expr, _)) = self.exprs.get(&key) {
            return Ok(expr);
        }
        let resolving = {
            let (graft, limits) = (request.graft.clone(), self.limits.clone());
            let parameters = request.parameters.as_ref().map(wire::parameters_from).unwrap_or_default();
            move || graft::resolve_with(&graft, &parameters, &limits)
        };
        let expr = Arc::new(blocking(resolving).await??);
        let bytes = ENTRY_BYTES + BYTES_IN_MEMORY * (request.graft.len() + parameters.len()) as u64;
        self.exprs.insert(key, (expr.clone(), u32::try_from(bytes).unwrap_or(u32::MAX)));
        Ok(expr)
    }

    /// What the catalog has for every selection of the graft.
    async fn answers(
        &self,
        expr: &Expr,
        grid: &Grid,
        is_display: bool,
    ) -> Result<BTreeMap<SceneQuery, Answer>, RequestError> {
        let scenes_max = if is_display { self.limits.display_scenes } else { self.limits.scenes };
        let queries = expr.scene_queries().map_err(|(error, at)| RequestError::Selection { at, error })?;
        let mut answers = BTreeMap::new();
        if queries.is_empty() {
            return Ok(answers);
        }
        for (query, at) in queries {
            let failed = |error| RequestError::Catalog { at: at.clone(), error };
            let area = lon_lat_box(&grid.pad(query.pad), self.transform.as_ref());
            let scenes = self.catalog.search(&query, &area, scenes_max).await.map_err(failed)?;
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
    fn limits_for(&self, fleet: Shape) -> Limits {
        let share = if fleet.workers == 0 { u64::MAX } else { fleet.tile_bytes };
        let tile_peak_bytes = share.min(self.limits.tile_peak_bytes);
        Limits { tile_peak_bytes, ..self.limits.clone() }
    }
}

/// A place in the queue before planning.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Waiting(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < PLANNING_WAITING_MAX).then_some(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Part in a plan that several requests wait for; whoever leaves last takes it off the list.
struct Sharing<'a> {
    planner: &'a Planner,
    key: ContentHash,
    cell: Arc<OnceCell<Arc<Prepared>>>,
}

impl Drop for Sharing<'_> {
    fn drop(&mut self) {
        let mut shared = self.planner.planning();
        // Given up under the lock: of two that end at once, one is the last.
        self.cell = Arc::default();
        if shared.get(&self.key).is_some_and(|cell| Arc::strong_count(cell) == 1) {
            shared.remove(&self.key);
        }
    }
}

/// Everything that can change a plan.
fn key_of(request: &pb::ComputeRequest, fleet: Shape, generation: u64) -> ContentHash {
    // What only refuses does not change what is planned.
    let options = request.options.clone().unwrap_or_default();
    let options = pb::Options { max_cpu_s: None, max_read_bytes: None, ..options };
    let message = |message: Option<Vec<u8>>| message.unwrap_or_default();
    Hasher::new("request")
        .bytes(&request.graft)
        .bytes(&message(request.parameters.as_ref().map(Message::encode_to_vec)))
        .bytes(&message(request.aoi.as_ref().map(Message::encode_to_vec)))
        .bytes(&options.encode_to_vec())
        .bytes(&generation.to_le_bytes())
        .int(fleet.workers.min(1).into())
        .int(fleet.slots.into())
        .bytes(&fleet.tile_bytes.to_le_bytes())
        .finish()
}

/// Merging, planning and counting what a plan takes are computing: async threads only wait.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RequestError> {
    let panicked = |error: tokio::task::JoinError| RequestError::Panicked { reason: error.to_string() };
    tokio::task::spawn_blocking(work).await.map_err(panicked)
}
