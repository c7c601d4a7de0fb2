//! Domain ↔ messages. The only translator: what comes in is checked here and nowhere else.

use std::collections::HashMap;
use std::sync::Arc;

use crate::aoi::{Aoi, Geometry, Line, Outline, Polygon, Sampling};
use crate::block::{ArrayShape, Block, DType, Kind};
use crate::error::{Classify, ErrorClass};
use crate::grid::{Crs, Grid, Lattice, TileId, TileSize, Window};
use crate::hash::ContentHash;
use crate::limits::PAD_MAX;
use crate::literal::Literal;
use crate::ops::{self, Op, Spread};
use crate::plan::{
    Input, Instr, NodeId, NodeKind, Operand, Options, Partial, Plan, Program, Read, ReadScene, Root,
};
use crate::proto::v1 as pb;
use crate::scene::{Affine, Asset, AssetGrid, BandSource, Format, Layout, Resampler, SourceRef, Store};

/// A message that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field that must be there is not.
    #[error("the message has no `{field}`")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A field's value is out of its range.
    #[error("the message's `{field}` is not valid: {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// Why.
        reason: String,
    },
}

impl Classify for WireError {
    fn class(&self) -> ErrorClass {
        match self {
            WireError::Missing { .. } | WireError::Invalid { .. } => ErrorClass::InvalidRequest,
        }
    }
}

type Checked<T> = Result<T, WireError>;

fn missing(field: &'static str) -> WireError {
    WireError::Missing { field }
}

fn invalid(field: &'static str, reason: impl ToString) -> WireError {
    WireError::Invalid { field, reason: reason.to_string() }
}

// Places.

/// A window as a message.
pub fn window_to(window: &Window) -> pb::Window {
    pb::Window { row: window.row, col: window.col, rows: window.rows, cols: window.cols }
}

/// Farther from the lattice's origin than any coordinate reaches; keeps sums of positions in range.
const POSITION_MAX: i64 = 1 << 44;

/// A window from a message.
pub fn window_from(window: &pb::Window) -> Checked<Window> {
    let place = [window.row, window.col].iter().all(|at| at.abs() <= POSITION_MAX);
    let size = [window.rows, window.cols].iter().all(|n| (1..=Window::SIDE_MAX).contains(n));
    if !place || !size {
        return Err(invalid("window", "empty, too large or too far away"));
    }
    Ok(Window { row: window.row, col: window.col, rows: window.rows, cols: window.cols })
}

/// A grid as a message.
pub fn grid_to(grid: &Grid) -> pb::Grid {
    let lattice = grid.lattice();
    let ((res_x, res_y), (phase_x, phase_y)) = (lattice.resolution(), lattice.phase());
    let crs = lattice.crs().as_str().to_owned();
    pb::Grid {
        lattice: Some(pb::Lattice { crs, res_x, res_y, phase_x, phase_y }),
        window: Some(window_to(&grid.window())),
    }
}

/// A grid from a message.
pub fn grid_from(grid: &pb::Grid) -> Checked<Grid> {
    let lattice = grid.lattice.as_ref().ok_or(missing("lattice"))?;
    let window = window_from(grid.window.as_ref().ok_or(missing("window"))?)?;
    let crs = Crs::from_canonical(lattice.crs.as_str());
    let lattice = Lattice::try_new(crs, (lattice.res_x, lattice.res_y), (lattice.phase_x, lattice.phase_y))
        .map_err(|error| invalid("lattice", error))?;
    Ok(Grid::from_window(lattice, window))
}

/// A tile as a message.
pub fn tile_to(tile: TileId) -> pb::TileId {
    pb::TileId { row: tile.row, col: tile.col }
}

/// A tile from a message.
pub fn tile_from(tile: Option<&pb::TileId>) -> Checked<TileId> {
    tile.map(|tile| TileId { row: tile.row, col: tile.col }).ok_or(missing("tile"))
}

/// A data type as a message.
pub fn dtype_to(dtype: DType) -> pb::DataType {
    match dtype {
        DType::F32 => pb::DataType::Float32,
        DType::Bool => pb::DataType::Bool,
    }
}

/// A data type from a message.
pub fn dtype_from(dtype: i32) -> Checked<DType> {
    match pb::DataType::try_from(dtype) {
        Ok(pb::DataType::Float32) => Ok(DType::F32),
        Ok(pb::DataType::Bool) => Ok(DType::Bool),
        Ok(pb::DataType::Unspecified) | Err(_) => Err(invalid("data_type", dtype)),
    }
}

/// A shape as a message; a number has none.
pub fn kind_to(kind: Kind) -> Option<pb::Shape> {
    Some(pb::Shape { images: kind.images(), bands: kind.bands()? })
}

/// A shape from a message.
pub fn kind_from(shape: Option<&pb::Shape>) -> Kind {
    match shape {
        None => Kind::Number,
        Some(pb::Shape { images: None, bands }) => Kind::Mosaic { bands: *bands },
        Some(pb::Shape { images: Some(images), bands }) => Kind::Stack { images: *images, bands: *bands },
    }
}

// Values.

/// A constant as a message.
pub fn literal_to(literal: &Literal) -> pb::Value {
    use pb::value::Kind as V;
    let kind = match literal {
        Literal::Null => None,
        Literal::Bool(value) => Some(V::BoolValue(*value)),
        Literal::Int(value) => Some(V::IntValue(*value)),
        Literal::Float(value) => Some(V::DoubleValue(*value)),
        Literal::Str(text) => Some(V::StringValue(text.clone())),
        Literal::List(items) => {
            Some(V::ListValue(pb::ValueList { items: items.iter().map(literal_to).collect() }))
        }
        Literal::Object(members) => Some(V::MapValue(pb::ValueMap {
            members: members.iter().map(|(key, value)| (key.clone(), literal_to(value))).collect(),
        })),
    };
    pb::Value { kind }
}

/// A constant from a message. Nesting is bounded by the decoder (prost refuses more than 100 levels).
pub fn literal_from(value: &pb::Value) -> Literal {
    use pb::value::Kind as V;
    match &value.kind {
        None => Literal::Null,
        Some(V::BoolValue(value)) => Literal::Bool(*value),
        Some(V::IntValue(value)) => Literal::Int(*value),
        Some(V::DoubleValue(value)) => Literal::Float(*value),
        Some(V::StringValue(text)) => Literal::Str(text.clone()),
        Some(V::ListValue(list)) => Literal::List(list.items.iter().map(literal_from).collect()),
        Some(V::MapValue(map)) => Literal::Object(
            map.members.iter().map(|(key, value)| (key.clone(), literal_from(value))).collect(),
        ),
    }
}

/// Metadata as a message.
pub fn properties_to(properties: &crate::scene::Properties) -> pb::ValueMap {
    let members = properties.iter().map(|(key, value)| (key.clone(), json_to(value))).collect();
    pb::ValueMap { members }
}

fn json_to(value: &serde_json::Value) -> pb::Value {
    use pb::value::Kind as V;
    use serde_json::Value as J;
    let kind = match value {
        J::Null => None,
        J::Bool(value) => Some(V::BoolValue(*value)),
        J::Number(number) => Some(match number.as_i64() {
            Some(value) => V::IntValue(value),
            None => V::DoubleValue(number.as_f64().unwrap_or(f64::NAN)),
        }),
        J::String(text) => Some(V::StringValue(text.clone())),
        J::Array(items) => Some(V::ListValue(pb::ValueList { items: items.iter().map(json_to).collect() })),
        J::Object(members) => Some(V::MapValue(pb::ValueMap {
            members: members.iter().map(|(key, value)| (key.clone(), json_to(value))).collect(),
        })),
    };
    pb::Value { kind }
}

/// Metadata from a message.
pub fn properties_from(map: &pb::ValueMap) -> crate::scene::Properties {
    map.members.iter().map(|(key, value)| (key.clone(), literal_from(value).to_json())).collect()
}

/// Values of a request's parameters from a message.
pub fn parameters_from(map: &pb::ValueMap) -> crate::graft::Parameters {
    map.members.iter().map(|(name, value)| (name.clone(), literal_from(value))).collect()
}

// Requests.

fn line_to(line: &Line) -> pb::Ring {
    let (cols, rows) = line.iter().copied().unzip();
    pb::Ring { cols, rows }
}

fn line_from(line: &pb::Ring) -> Checked<Line> {
    if line.cols.len() != line.rows.len() || line.cols.iter().chain(&line.rows).any(|v| !v.is_finite()) {
        return Err(invalid("ring", "not pairs of finite numbers"));
    }
    Ok(line.cols.iter().copied().zip(line.rows.iter().copied()).collect())
}

fn polygons_to(polygons: &[Polygon]) -> Vec<pb::Polygon> {
    polygons.iter().map(|rings| pb::Polygon { rings: rings.iter().map(line_to).collect() }).collect()
}

fn geometry_from(polygons: &[pb::Polygon], lines: &[pb::Ring]) -> Checked<Geometry> {
    let polygon = |polygon: &pb::Polygon| polygon.rings.iter().map(line_from).collect();
    Ok(Geometry {
        polygons: polygons.iter().map(polygon).collect::<Checked<_>>()?,
        lines: lines.iter().map(line_from).collect::<Checked<_>>()?,
    })
}

/// An AOI as a message.
pub fn aoi_to(aoi: &Aoi) -> pb::Aoi {
    use pb::aoi::Sampling as S;
    let sampling = match aoi.sampling {
        Sampling::Resolution(x, y) => S::Resolution(pb::Resolution { x, y }),
        Sampling::Shape { rows, cols } => S::Shape(pb::GridShape { rows, cols }),
    };
    pb::Aoi {
        geometry: polygons_to(&aoi.geometry.polygons),
        lines: aoi.geometry.lines.iter().map(line_to).collect(),
        bounds: aoi.bounds.map(|[west, south, east, north]| pb::Bounds { west, south, east, north }),
        bounds_crs: aoi.bounds_crs.clone().unwrap_or_default(),
        crs: aoi.crs.clone(),
        sampling: Some(sampling),
        align_pixels: aoi.align_pixels,
        all_touched: aoi.all_touched,
    }
}

/// An AOI from a message.
pub fn aoi_from(aoi: &pb::Aoi) -> Checked<Aoi> {
    use pb::aoi::Sampling as S;
    let sampling = match aoi.sampling.ok_or(missing("sampling"))? {
        S::Resolution(pb::Resolution { x, y }) => Sampling::Resolution(x, y),
        S::Shape(pb::GridShape { rows, cols }) => Sampling::Shape { rows, cols },
    };
    Ok(Aoi {
        geometry: geometry_from(&aoi.geometry, &aoi.lines)?,
        bounds: aoi.bounds.map(|b| [b.west, b.south, b.east, b.north]),
        bounds_crs: Some(aoi.bounds_crs.clone()).filter(|crs| !crs.is_empty()),
        crs: aoi.crs.clone(),
        sampling,
        align_pixels: aoi.align_pixels,
        all_touched: aoi.all_touched,
    })
}

/// Planning options from a message; `slots` is what the fleet offers.
pub fn options_from(options: Option<&pb::Options>, slots: u32) -> Checked<Options> {
    let Some(options) = options else { return Ok(Options { slots, ..Options::default() }) };
    let tile_size = match options.tile_size {
        0 => None,
        pixels => Some(TileSize::new(pixels).ok_or_else(|| {
            invalid("tile_size", format!("{pixels}, expected 1 to {} pixels", TileSize::MAX))
        })?),
    };
    let passes_off = options.passes_off.clone();
    Ok(Options { tile_size, passes_off, slots, overviews: options.display_quality })
}

// Plans.

/// A plan as a message.
pub fn plan_to(plan: &Plan) -> pb::Plan {
    let mut assets = Assets::default();
    let nodes = plan
        .nodes()
        .iter()
        .map(|node| pb::Node {
            hash: node.hash.as_bytes().to_vec(),
            cached: node.cached,
            kind: Some(node_to(&node.kind, &mut assets)),
        })
        .collect();
    pb::Plan {
        grid: Some(grid_to(plan.grid())),
        nodes,
        roots: plan
            .roots()
            .iter()
            .map(|root| pb::Root {
                name: root.name.clone(),
                node: root.node.0,
                partials: root.partials.iter().map(partial_to).collect(),
            })
            .collect(),
        tile_size: plan.tile_size().pixels(),
        assets: assets.messages,
        streams: plan.streams(),
        exits: plan.exits(),
    }
}

fn partial_to(partial: &Partial) -> pb::Partial {
    pb::Partial {
        op: partial.op.name().to_owned(),
        version: partial.op.version(),
        params: partial.params.iter().map(literal_to).collect(),
        round: Some(literal_to(&partial.round)),
    }
}

fn partial_from(partial: &pb::Partial) -> Checked<Partial> {
    Ok(Partial {
        op: op_from(&partial.op, partial.version)?,
        params: partial.params.iter().map(literal_from).collect(),
        round: literal_from(partial.round.as_ref().ok_or(missing("round"))?),
    })
}

/// The files of a plan, each once.
#[derive(Default)]
struct Assets {
    messages: Vec<pb::Asset>,
    /// By address: bands of one file share its `Arc`.
    known: HashMap<*const Asset, u32>,
}

impl Assets {
    fn index(&mut self, asset: &Arc<Asset>) -> u32 {
        *self.known.entry(Arc::as_ptr(asset)).or_insert_with(|| {
            self.messages.push(asset_to(asset));
            self.messages.len() as u32 - 1
        })
    }
}

fn asset_to(asset: &Asset) -> pb::Asset {
    let source = match &asset.source {
        SourceRef::Local(path) => pb::asset::Source::Local(path.clone()),
        SourceRef::Http(url) => pb::asset::Source::Http(url.clone()),
        SourceRef::Object { store, bucket, key } => pb::asset::Source::Object(pb::Object {
            store: store.scheme().to_owned(),
            bucket: bucket.clone(),
            key: key.clone(),
        }),
        SourceRef::Synthetic(name) => pb::asset::Source::Synthetic(name.clone()),
    };
    let raster = asset.raster.as_ref().map(|raster| pb::AssetGrid {
        crs: raster.crs.as_str().to_owned(),
        x: raster.affine.origin.0,
        y: raster.affine.origin.1,
        col_x: raster.affine.col.0,
        col_y: raster.affine.col.1,
        row_x: raster.affine.row.0,
        row_y: raster.affine.row.1,
        rows: raster.rows,
        cols: raster.cols,
    });
    pb::Asset {
        key: asset.key.clone(),
        source: Some(source),
        version: asset.version.clone(),
        raster,
        format: asset.format.name().to_owned(),
        sidecars: asset.sidecars.clone(),
    }
}

fn node_to(kind: &NodeKind, assets: &mut Assets) -> pb::node::Kind {
    match kind {
        NodeKind::Read(read) => pb::node::Kind::Read(pb::Read {
            product: read.product.clone(),
            bands: read.bands.clone(),
            resampler: read.resampler.name().to_owned(),
            mosaic: read.layout == Layout::Mosaic,
            overviews: read.overviews,
            pad: read.pad,
            scenes: read
                .scenes
                .iter()
                .map(|scene| pb::ReadScene {
                    product: scene.product.clone(),
                    id: scene.id.clone(),
                    reach: scene.reach.as_ref().map(window_to),
                    bands: scene.bands.iter().map(|band| band_to(band, assets)).collect(),
                })
                .collect(),
        }),
        NodeKind::Outline(outline) => {
            let Geometry { polygons, lines } = outline.geometry();
            pb::node::Kind::Outline(pb::Outline {
                polygons: polygons_to(polygons),
                all_touched: outline.all_touched(),
                lines: lines.iter().map(line_to).collect(),
            })
        }
        NodeKind::Constant(array) => pb::node::Kind::Constant(array.encode().into()),
        NodeKind::Spread { input, spread, place } => {
            let (axes, leading) = match spread.kind {
                Kind::Array(shape) => (shape.axes().to_vec(), shape.is_leading()),
                Kind::Number | Kind::Mosaic { .. } | Kind::Stack { .. } => (Vec::new(), false),
            };
            pb::node::Kind::Spread(pb::Spread {
                input: input.0,
                dims: spread.dims.to_vec(),
                shape: kind_to(spread.kind),
                axes,
                leading,
                place: place.as_ref().map(window_to),
            })
        }
        NodeKind::Call { op, params, inputs } => pb::node::Kind::Call(pb::Call {
            op: op.name().to_owned(),
            version: op.version(),
            params: params.iter().map(literal_to).collect(),
            inputs: inputs
                .iter()
                .map(|input| match input {
                    Input::Node(id) => operand(pb::operand::Source::Input(id.0)),
                    Input::Number(literal) => operand(pb::operand::Source::Number(literal_to(literal))),
                })
                .collect(),
        }),
        NodeKind::Program(program) => pb::node::Kind::Program(pb::Program {
            inputs: program.inputs.iter().map(|id| id.0).collect(),
            instrs: program
                .instrs
                .iter()
                .map(|instr| pb::Instr {
                    op: instr.op.name().to_owned(),
                    version: instr.op.version(),
                    params: instr.params.iter().map(literal_to).collect(),
                    operands: instr
                        .operands
                        .iter()
                        .map(|source| match source {
                            Operand::Input(at) => operand(pb::operand::Source::Input(*at as u32)),
                            Operand::Instr(at) => operand(pb::operand::Source::Instr(*at as u32)),
                            Operand::Number(literal) => {
                                operand(pb::operand::Source::Number(literal_to(literal)))
                            }
                        })
                        .collect(),
                })
                .collect(),
        }),
    }
}

fn operand(source: pb::operand::Source) -> pb::Operand {
    pb::Operand { source: Some(source) }
}

fn band_to(band: &BandSource, assets: &mut Assets) -> pb::BandSource {
    pb::BandSource {
        asset: assets.index(&band.asset),
        band: band.band,
        nodata: band.nodata,
        scale: band.scale_offset.map(|(scale, _)| scale),
        offset: band.scale_offset.map(|(_, offset)| offset),
        sample_bytes: band.sample_bytes,
        is_classes: band.is_classes,
    }
}

/// A plan from a message. Facts are derived anew, so a plan that arrives obeys the type rules.
pub fn plan_from(plan: &pb::Plan) -> Checked<Plan> {
    let grid = grid_from(plan.grid.as_ref().ok_or(missing("grid"))?)?;
    let size = TileSize::new(plan.tile_size).ok_or_else(|| invalid("tile_size", plan.tile_size))?;
    let assets = plan.assets.iter().map(asset_from).collect::<Checked<Vec<_>>>()?;
    let nodes = plan
        .nodes
        .iter()
        .map(|node| {
            let hash = node.hash.as_slice().try_into().map_err(|_| invalid("hash", "not 32 bytes"))?;
            let kind = node_from(node.kind.as_ref().ok_or(missing("kind"))?, &assets)?;
            Ok((kind, ContentHash::from_bytes(hash), node.cached))
        })
        .collect::<Checked<Vec<_>>>()?;
    let root = |root: &pb::Root| {
        let partials = root.partials.iter().map(partial_from).collect::<Checked<_>>()?;
        Ok(Root { name: root.name.clone(), node: NodeId(root.node), partials })
    };
    let roots = plan.roots.iter().map(root).collect::<Checked<_>>()?;
    let parts = Plan::from_parts(grid, nodes, roots, size).map_err(|error| invalid("nodes", error))?;
    Ok(parts.with_streams(plan.streams).with_exits(plan.exits))
}

fn asset_from(asset: &pb::Asset) -> Checked<Arc<Asset>> {
    let source = match asset.source.as_ref().ok_or(missing("source"))? {
        pb::asset::Source::Local(path) => SourceRef::Local(path.clone()),
        pb::asset::Source::Http(url) => SourceRef::Http(url.clone()),
        pb::asset::Source::Object(object) => SourceRef::Object {
            store: Store::from_scheme(&object.store).ok_or_else(|| invalid("store", &object.store))?,
            bucket: object.bucket.clone(),
            key: object.key.clone(),
        },
        pb::asset::Source::Synthetic(name) => SourceRef::Synthetic(name.clone()),
    };
    let raster = asset.raster.as_ref().map(|raster| AssetGrid {
        crs: Crs::from_canonical(raster.crs.as_str()),
        affine: Affine {
            origin: (raster.x, raster.y),
            col: (raster.col_x, raster.col_y),
            row: (raster.row_x, raster.row_y),
        },
        rows: raster.rows,
        cols: raster.cols,
    });
    let format = Format::from_name(&asset.format).ok_or_else(|| invalid("format", &asset.format))?;
    let (key, version, sidecars) = (asset.key.clone(), asset.version.clone(), asset.sidecars.clone());
    Ok(Arc::new(Asset { key, source, version, raster, format, sidecars }))
}

fn node_from(kind: &pb::node::Kind, assets: &[Arc<Asset>]) -> Checked<NodeKind> {
    Ok(match kind {
        pb::node::Kind::Read(read) => NodeKind::Read(Arc::new(Read {
            product: read.product.clone(),
            bands: read.bands.clone(),
            resampler: Resampler::from_name(&read.resampler)
                .ok_or_else(|| invalid("resampler", &read.resampler))?,
            overviews: read.overviews,
            layout: if read.mosaic { Layout::Mosaic } else { Layout::Stack },
            pad: Some(read.pad).filter(|pad| *pad <= PAD_MAX).ok_or_else(|| invalid("pad", read.pad))?,
            scenes: read.scenes.iter().map(|scene| scene_from(scene, assets)).collect::<Checked<_>>()?,
        })),
        pb::node::Kind::Outline(outline) => {
            let geometry = geometry_from(&outline.polygons, &outline.lines)?;
            NodeKind::Outline(Arc::new(Outline::new(geometry, outline.all_touched)))
        }
        pb::node::Kind::Constant(bytes) => {
            let array = Block::decode(bytes).map_err(|error| invalid("constant", error))?;
            NodeKind::Constant(Arc::new(array))
        }
        pb::node::Kind::Spread(spread) => {
            let dims = spread.dims.as_slice().try_into().map_err(|_| invalid("dims", "not four lengths"))?;
            let array =
                || ArrayShape::new(&spread.axes, spread.leading).ok_or_else(|| invalid("axes", "too many"));
            let kind = match spread.shape {
                Some(_) => kind_from(spread.shape.as_ref()),
                None => Kind::Array(array()?),
            };
            let place = spread.place.as_ref().map(window_from).transpose()?;
            NodeKind::Spread { input: NodeId(spread.input), spread: Spread { dims, kind }, place }
        }
        pb::node::Kind::Call(call) => NodeKind::Call {
            op: op_from(&call.op, call.version)?,
            params: call.params.iter().map(literal_from).collect(),
            inputs: call
                .inputs
                .iter()
                .map(|input| match input.source.as_ref().ok_or(missing("operand"))? {
                    pb::operand::Source::Input(at) => Ok(Input::Node(NodeId(*at))),
                    pb::operand::Source::Number(value) => Ok(Input::Number(literal_from(value))),
                    pb::operand::Source::Instr(_) => Err(invalid("operand", "of a program, in a call")),
                })
                .collect::<Checked<_>>()?,
        },
        pb::node::Kind::Program(program) => NodeKind::Program(Arc::new(Program {
            inputs: program.inputs.iter().map(|at| NodeId(*at)).collect(),
            instrs: program
                .instrs
                .iter()
                .map(|instr| {
                    let operands = instr.operands.iter().map(|operand| {
                        Ok(match operand.source.as_ref().ok_or(missing("operand"))? {
                            pb::operand::Source::Input(at) => Operand::Input(*at as usize),
                            pb::operand::Source::Instr(at) => Operand::Instr(*at as usize),
                            pb::operand::Source::Number(value) => Operand::Number(literal_from(value)),
                        })
                    });
                    Ok(Instr {
                        op: op_from(&instr.op, instr.version)?,
                        params: instr.params.iter().map(literal_from).collect(),
                        operands: operands.collect::<Checked<_>>()?,
                    })
                })
                .collect::<Checked<_>>()?,
        })),
    })
}

fn op_from(name: &str, version: u32) -> Checked<&'static dyn Op> {
    let op = ops::find(name).ok_or_else(|| invalid("op", format!("unknown: `{name}`")))?;
    if op.version() != version {
        return Err(invalid(
            "op",
            format!("`{name}` is version {} here, the plan has {version}", op.version()),
        ));
    }
    Ok(op)
}

fn scene_from(scene: &pb::ReadScene, assets: &[Arc<Asset>]) -> Checked<ReadScene> {
    let bands = scene.bands.iter().map(|band| {
        let asset = assets.get(band.asset as usize).ok_or_else(|| invalid("asset", band.asset))?;
        Ok(BandSource {
            asset: asset.clone(),
            band: band.band,
            nodata: band.nodata,
            scale_offset: band.scale.zip(band.offset),
            sample_bytes: band.sample_bytes,
            is_classes: band.is_classes,
        })
    });
    Ok(ReadScene {
        product: scene.product.clone(),
        id: scene.id.clone(),
        bands: bands.collect::<Checked<_>>()?,
        reach: scene.reach.as_ref().map(window_from).transpose()?,
    })
}
