//! What a result's header says: kinds, metadata, and the scenes that are read.

use std::collections::BTreeMap;

use graticule_common::block::{Block, DType};
use graticule_common::grid::Grid;
use graticule_common::literal::Literal;
use graticule_common::ops::{Answer, Origin, Props};
use graticule_common::plan::{Named, NodeKind, Outcome, Plan, Root};
use graticule_common::proto::v1 as pb;
use graticule_common::scene::{BandInfo, ClassInfo, Product, Scene, SceneQuery, Timestamp};
use graticule_common::wire;

/// When the scenes that the catalog answered with were acquired, by product and id.
pub(crate) fn acquired(answers: &BTreeMap<SceneQuery, Answer>, images: &BTreeMap<String, Scene>) -> Acquired {
    let mut acquired = Acquired::new();
    for scene in answers.values().flat_map(|answer| &answer.scenes).chain(images.values()) {
        acquired.entry(scene.product.clone()).or_default().insert(scene.id.clone(), scene.acquired);
    }
    acquired
}

/// Times of acquisition by product and id.
pub(crate) type Acquired = BTreeMap<String, BTreeMap<String, Timestamp>>;

/// What a header says beside the outcome.
#[derive(Debug)]
pub(crate) struct Sources {
    /// Where.
    pub(crate) grid: Grid,
    /// When the scenes were acquired.
    pub(crate) acquired: Acquired,
    /// Their products.
    pub(crate) products: BTreeMap<String, Product>,
}

impl Sources {
    /// The header of an outcome. Arrays that are not known before pixels are reduced have no values in it.
    pub(crate) fn header(&self, outcome: &Outcome) -> pb::Header {
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
            display_quality: stages.iter().chain(plan).any(is_display),
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

/// Whether a plan may read overviews.
fn is_display(plan: &Plan) -> bool {
    plan.nodes().iter().any(|node| matches!(&node.kind, NodeKind::Read(read) if read.overviews))
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
