//! What was done: lines for people, and a file for programs.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use graticule_common::ENGINE_VERSION;
use graticule_common::block::{Block, DType};
use graticule_common::error::ErrorClass;
use graticule_common::grid::Grid;
use graticule_common::hash::Hasher;
use graticule_common::proto::v1 as pb;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output::{as_json, band_names, valid_values};
use crate::progress::size;
use crate::receive::{Answer, Finished, Outcome};

/// Share of valid values, and what they are like.
struct Statistics {
    /// Of all values, 0 to 1.
    valid: f64,
    /// Least, mean and greatest valid value; absent if there is none.
    range: Option<(f64, f64, f64)>,
}

impl Statistics {
    fn of(block: &Block) -> Self {
        let (mut count, mut min, mut max, mut sum) = (0u64, f64::INFINITY, f64::NEG_INFINITY, 0.0);
        for value in valid_values(block) {
            (count, min, max, sum) = (count + 1, min.min(value), max.max(value), sum + value);
        }
        Statistics {
            valid: count as f64 / block.valid().len().max(1) as f64,
            range: (count > 0).then(|| (min, sum / count as f64, max)),
        }
    }
}

/// The lines for people.
pub fn lines(answer: &Answer) -> Vec<String> {
    let mut lines = Vec::new();
    let grid = answer.results.iter().find_map(|result| match &result.outcome {
        Outcome::Raster { grid, .. } => Some(grid),
        Outcome::Value { .. } | Outcome::Array { .. } => None,
    });
    lines.extend(grid.map(|grid| format!("grid     {grid}")));
    for result in &answer.results {
        let name = if result.name.is_empty() { String::new() } else { format!("{}: ", result.name) };
        match &result.outcome {
            Outcome::Value { .. } => {
                lines.push(format!("value    {name}{}", shortened(&as_json(&result.outcome))));
            }
            Outcome::Array { block, .. } => {
                let dtype = block.samples().dtype().name();
                lines.push(format!("result   {name}{} of {dtype}", block.kind()));
                lines.push(format!("values   {}", shortened(&as_json(&result.outcome))));
            }
            Outcome::Raster { block, props, .. } => {
                let names = props.bands().map_or(String::new(), |names| format!(" ({})", names.join(", ")));
                let dtype = block.samples().dtype();
                lines.push(format!("result   {name}{} of {}{names}", block.kind(), dtype.name()));
                let Statistics { valid, range } = Statistics::of(block);
                lines.push(match range {
                    None => "values   0.0 % valid".to_owned(),
                    Some((_, mean, _)) if dtype == DType::Bool => {
                        format!("values   {:.1} % valid, {:.1} % of them true", 100.0 * valid, 100.0 * mean)
                    }
                    Some((min, mean, max)) => format!(
                        "values   {:.1} % valid, min {min:.6}, mean {mean:.6}, max {max:.6}",
                        100.0 * valid
                    ),
                });
            }
        }
    }
    let dates: Vec<&str> = answer
        .header
        .scenes
        .iter()
        .map(|scene| scene.acquired.as_str())
        .filter(|date| !date.is_empty())
        .collect();
    let distinct: BTreeSet<&str> = dates.iter().copied().collect();
    if let (Some(first), Some(last)) = (distinct.first(), distinct.last()) {
        let day = |date: &str| date.get(..10).unwrap_or(date).to_owned();
        let count = answer.header.scenes.len();
        let scenes = if count == 1 { "1 scene".to_owned() } else { format!("{count} scenes") };
        lines.push(format!("dates    {} from {} to {} ({scenes})", distinct.len(), day(first), day(last)));
    }
    let summary = &answer.summary;
    lines.push(format!(
        "work     {:.2} s, {} tiles on {} workers, {} read, files opened {} times{} ({:.2} s reading, {:.2} s computing), {} of {} cache look-ups hit{}",
        summary.wall_ms / 1e3,
        summary.tiles,
        summary.workers,
        size(summary.read_bytes),
        summary.files_opened,
        match summary.reads_spared {
            0 => String::new(),
            spared => format!(", {spared} reads spared by masks"),
        },
        summary.read_ms / 1e3,
        summary.eval_ms / 1e3,
        summary.cache_hits,
        summary.cache_hits + summary.cache_misses,
        if summary.retries > 0 { format!(", {} tiles tried again", summary.retries) } else { String::new() },
    ));
    lines
}

/// A value on one line, which a long list does not fit.
fn shortened(value: &Value) -> String {
    const CHARS_MAX: usize = 400;
    let text = value.to_string();
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text,
    }
}

/// Sources that are missing from the result, each with its reason.
pub fn skipped(summary: &pb::Summary) -> Vec<String> {
    let line = |source: &pb::SkippedSource| {
        let pb::SkippedSource { product, scene, asset, band, path, reason } = source;
        format!("skipped  {product} {scene}, asset `{asset}`, band `{band}`, `{path}`: {reason}")
    };
    summary.skipped.iter().map(line).collect()
}

/// What a report says beside the answer.
#[derive(Debug)]
pub struct Context {
    /// The request.
    pub request: pb::ComputeRequest,
    /// Its parameters.
    pub parameters: Value,
    /// The coordinator that was asked; absent: one on this machine.
    pub endpoint: Option<String>,
    /// For each file, the position of its result.
    pub files: Vec<(String, usize)>,
    /// Seconds since the command began.
    pub seconds: f64,
    /// What the request was to take, where it is known.
    pub bill: Option<pb::Bill>,
}

/// Writes the report for programs.
pub fn write(file: &Path, shown: &Path, answer: &Answer, context: &Context) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(&document(answer, context));
    let text = text.map_err(|error| Failure::new(ErrorClass::Internal, error))?;
    let write = || writeln!(std::fs::File::create(file)?, "{text}");
    write().map_err(|error| Failure::file(shown, "write", error))
}

fn document(answer: &Answer, context: &Context) -> Value {
    let summary = &answer.summary;
    let scenes: Vec<Value> = answer
        .header
        .scenes
        .iter()
        .map(|scene| json!({"product": scene.product, "id": scene.id, "acquired": scene.acquired}))
        .collect();
    let skipped: Vec<Value> = summary
        .skipped
        .iter()
        .map(|source| {
            json!({
                "product": source.product, "scene": source.scene, "asset": source.asset,
                "band": source.band, "path": source.path, "reason": source.reason,
            })
        })
        .collect();
    let grid = answer.results.iter().find_map(|result| match &result.outcome {
        Outcome::Raster { grid, .. } => Some(place(grid)),
        Outcome::Value { .. } | Outcome::Array { .. } => None,
    });
    let results: Vec<Value> =
        answer.results.iter().enumerate().map(|(at, result)| of_result(at, result, context)).collect();
    let graft = Hasher::new("graft text").bytes(&context.request.graft).finish();
    json!({
        "engine_version": ENGINE_VERSION,
        "endpoint": context.endpoint,
        "graft_hash": graft.to_string(),
        "parameters": context.parameters,
        "grid": grid,
        "results": results,
        "complete": summary.skipped.is_empty(),
        "scenes": scenes,
        "skipped": skipped,
        "tiles": summary.tiles,
        "tiles_from_cache": summary.tiles_from_cache,
        "tiles_tried_again": summary.retries,
        "workers": summary.workers,
        "cache_hits": summary.cache_hits,
        "cache_misses": summary.cache_misses,
        "bytes_read": summary.read_bytes,
        "files_opened": summary.files_opened,
        "reads_spared": summary.reads_spared,
        "seconds": {
            "total": context.seconds,
            "wall": summary.wall_ms / 1e3,
            "read": summary.read_ms / 1e3,
            "eval": summary.eval_ms / 1e3,
        },
        "peak_memory_bytes": peak_memory(),
        "estimate": context.bill.as_ref().map(|bill| estimate(bill, summary)),
    })
}

/// What was estimated, and how it was in fact; tiles that were remembered took nothing.
fn estimate(bill: &pb::Bill, summary: &pb::Summary) -> Value {
    let over = |actual: f64, estimate: f64| (estimate > 0.0).then(|| actual / estimate);
    json!({
        "cpu_s": bill.cpu_s,
        "read_bytes": bill.read_bytes,
        "tile_peak_bytes": bill.tile_peak_bytes,
        "actual_over_cpu_s": over((summary.read_ms + summary.eval_ms) / 1e3, bill.cpu_s),
        "actual_over_read_bytes": over(summary.read_bytes as f64, bill.read_bytes as f64),
    })
}

fn place(grid: &Grid) -> Value {
    let ((x, y), (res_x, res_y)) = (grid.origin(), grid.lattice().resolution());
    let (rows, cols) = (grid.rows(), grid.cols());
    json!({
        "crs": grid.crs().as_str(),
        "rows": rows,
        "cols": cols,
        "resolution": [res_x, res_y],
        "bounds": [x, y - f64::from(rows) * res_y, x + f64::from(cols) * res_x, y],
    })
}

fn of_result(at: usize, result: &Finished, context: &Context) -> Value {
    let files: Vec<&str> =
        context.files.iter().filter(|(_, of)| *of == at).map(|(file, _)| file.as_str()).collect();
    match &result.outcome {
        outcome @ Outcome::Value { .. } => {
            json!({"name": result.name, "value": as_json(outcome), "files": files})
        }
        outcome @ Outcome::Array { block, .. } => json!({
            "name": result.name,
            "kind": block.kind().name(),
            "dtype": block.samples().dtype().name(),
            "value": as_json(outcome),
            "files": files,
        }),
        Outcome::Raster { block, props, .. } => {
            let Statistics { valid, range } = Statistics::of(block);
            json!({
                "name": result.name,
                "kind": block.kind().name(),
                "images": block.kind().images(),
                "bands": band_names(block.kind(), props),
                "dtype": block.samples().dtype().name(),
                "valid_share": valid,
                "min": range.map(|(min, _, _)| min),
                "mean": range.map(|(_, mean, _)| mean),
                "max": range.map(|(_, _, max)| max),
                "files": files,
            })
        }
    }
}

/// The most memory this process had, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}
