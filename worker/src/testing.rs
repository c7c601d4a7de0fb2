//! Plans on made-up scenes, and a source that a test steers.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use graticule_common::grid::{Crs, Grid, Lattice, TileSize, Window};
use graticule_common::limits::Limits;
use graticule_common::ops::{Answer, BindCx};
use graticule_common::plan::{self, Options, Outcome, Plan};
use graticule_common::proto::v1 as pb;
use graticule_common::scene::{
    Affine, Asset, AssetGrid, BandSource, Product, Properties, Scene, SourceRef, Timestamp,
};
use graticule_common::transform::ByText;
use graticule_common::wire;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cache::{MemoryCache, TileCache};
use crate::pool::Pool;
use crate::source::synthetic::Synthetic;
use crate::source::{BandRead, ReadError, ReadProblem, ReadStats, TileSource};
use crate::tile::Tiles;

/// Long enough for anything that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, event).await {
        Ok(value) => value,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

const BANDS: [&str; 2] = ["a", "b"];

/// What a graft is on a square grid and so many scenes of the product `made:up`, bands `a` and `b`; `source`
/// says where the pixels of each are.
pub(crate) fn outcome(
    graft: &Value,
    (side, count): (u32, usize),
    options: &Options,
    source: fn(String) -> SourceRef,
) -> Outcome {
    let lattice = Lattice::try_new(Crs::from_canonical("EPSG:32633"), (10.0, 10.0), (0.0, 0.0)).unwrap();
    let raster = AssetGrid {
        crs: lattice.crs().clone(),
        affine: Affine::upright((lattice.x(0.0), lattice.y(0.0)), 10.0, -10.0),
        rows: side,
        cols: side,
    };
    let scene = |at: usize| {
        let id = format!("made:up:{at:04}");
        let source = source(id.clone());
        let asset = Arc::new(Asset { raster: Some(raster.clone()), ..Asset::new("data", source, "1") });
        let band = |band: u32| BandSource { sample_bytes: Some(4), ..BandSource::new(asset.clone(), band) };
        let properties: Properties = [("id".to_owned(), id.as_str().into())].into();
        Scene {
            product: "made:up".into(),
            acquired: Timestamp(at as i64),
            properties: Arc::new(properties),
            bands: BANDS.iter().map(|band| (*band).to_owned()).zip((1..).map(band)).collect(),
            id,
        }
    };
    let scenes: Vec<Scene> = (0..count).map(scene).collect();
    let grid = Grid::from_window(lattice, Window { row: 0, col: 0, rows: side, cols: side });
    let limits = Limits::default();
    let expr = graticule_common::graft::resolve(graft.to_string().as_bytes(), &limits).unwrap();
    let product = Product::new("made:up", BANDS.map(str::to_owned).to_vec());
    let answers: BTreeMap<_, _> = expr
        .scene_queries()
        .unwrap()
        .into_iter()
        .map(|(query, _)| (query, Answer { product: product.clone(), scenes: scenes.clone() }))
        .collect();
    let images = BTreeMap::new();
    let cx = BindCx { grid: &grid, transform: &ByText, answers: &answers, images: &images };
    plan::build(&expr, &cx, None, &limits, options).unwrap()
}

/// The plan of a raster.
pub(crate) fn planned(graft: &Value, side: u32, count: usize, tile: u32) -> Plan {
    let options = Options { tile_size: TileSize::new(tile), ..Options::default() };
    match outcome(graft, (side, count), &options, SourceRef::Synthetic) {
        Outcome::Raster { plan, .. } => plan,
        other => panic!("no raster: {other:?}"),
    }
}

/// A graft on the stack of all scenes' band `a`.
pub(crate) fn on_stack(rest: Value, returns: &str) -> Value {
    let mut graft = json!({
        "product": "made:up", "bands": "a", "axis": "images",
        "scenes": ["select_scenes", "product", "bands"],
        "stack": ["stack_scenes", "scenes", "bands"],
        "returns": returns,
    });
    for (key, value) in rest.as_object().unwrap() {
        graft[key] = value.clone();
    }
    graft
}

/// The largest value of so many scenes, on a square of one tile.
pub(crate) fn stack_max(count: usize, side: u32) -> Plan {
    planned(&on_stack(json!({ "top": ["max", "stack", "axis"] }), "top"), side, count, 2048)
}

/// A plan as it travels.
pub(crate) fn message(plan: &Plan) -> pb::Plan {
    wire::plan_to(plan)
}

/// Formulas behind a gate.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<(Mood, u64)>,
    changed: Condvar,
    /// Reads so far.
    pub(crate) reads: watch::Sender<u64>,
}

/// What happens at the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Open,
    /// Reads wait.
    Shut,
    /// Reads fail.
    Broken,
}

impl Gate {
    pub(crate) fn new(mood: Mood) -> Arc<Gate> {
        Arc::new(Gate { state: Mutex::new((mood, 0)), changed: Condvar::new(), reads: watch::Sender::new(0) })
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = (mood, 0);
        self.changed.notify_all();
    }

    /// Waits until so many reads have begun.
    pub(crate) async fn has_read(&self, count: u64) {
        let mut reads = self.reads.subscribe();
        soon("reads", reads.wait_for(|reads| *reads >= count)).await.unwrap();
    }
}

impl TileSource for Gate {
    fn read(
        &self,
        read: &BandRead<'_>,
        samples: &mut [f32],
        valid: &mut [u8],
    ) -> Result<ReadStats, ReadError> {
        self.reads.send_modify(|reads| *reads += 1);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.0 == Mood::Shut {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.0 == Mood::Broken {
            return Err(read.error(ReadProblem::Corrupt { reason: "as planned".into() }));
        }
        drop(state);
        Synthetic.read(read, samples, valid)
    }
}

/// Opens the gate when a test ends, however: a thread that waits at it would outlive the test.
pub(crate) struct OpenAtEnd(pub(crate) Arc<Gate>);

impl Drop for OpenAtEnd {
    fn drop(&mut self) {
        self.0.set(Mood::Open);
    }
}

/// Tiles over a source, with a cache in memory.
pub(crate) fn tiles(source: Arc<dyn TileSource>, slots: u32) -> Tiles {
    let cache: Arc<dyn TileCache> = Arc::new(MemoryCache::new(64 << 20));
    Tiles {
        source,
        cache,
        pool: Pool::new(slots, 1 << 30),
        flights: Default::default(),
        salt: "test".into(),
        draining: CancellationToken::new(),
    }
}
