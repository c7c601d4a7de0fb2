//! Results as `.npz`: `data`, `mask` (true where invalid) and `properties` (JSON). Of several results each
//! name has a folder.

use std::io::Write;
use std::sync::Arc;

use graticule_common::assembly::{Finished, Outcome};
use graticule_common::error::ErrorClass;
use graticule_common::literal::Literal;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::{Pieces, axes, counted, descr, into_bytes, npy, properties, props_of};
use crate::http::error::HttpError;
use crate::http::gather::Share;

/// The file.
///
/// # Errors
/// A list that is no array of numbers.
pub(crate) fn encode(results: Vec<Finished>, share: Share) -> Result<Pieces, HttpError> {
    let share = Arc::new(share);
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for result in results {
        let folder = if result.name.is_empty() { String::new() } else { format!("{}/", result.name) };
        let described = properties(props_of(&result.outcome)).to_string();
        let (kind, shape, data, mask) = arrays(result.outcome, &share)?;
        // Values are stored as they are: whoever wants them smaller asks for a GeoTIFF.
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let mut add = |name: &str, parts: [&[u8]; 2]| {
            zip.start_file(format!("{folder}{name}"), options)?;
            parts.into_iter().try_for_each(|part| Ok(zip.write_all(part)?))
        };
        let failed = |error: zip::result::ZipError| HttpError::internal(error);
        add("data.npy", [&npy::header(kind, &shape), &data]).map_err(failed)?;
        add("mask.npy", [&npy::header("|b1", &shape), &mask]).map_err(failed)?;
        add("properties.json", [described.as_bytes(), b""]).map_err(failed)?;
    }
    let file = zip.finish().map_err(HttpError::internal)?.into_inner();
    Ok(counted(file, &share).into())
}

type Arrays = (&'static str, Vec<u64>, bytes::Bytes, bytes::Bytes);

fn arrays(outcome: Outcome, share: &Arc<Share>) -> Result<Arrays, HttpError> {
    match outcome {
        Outcome::Array { block, .. } | Outcome::Raster { block, .. } => {
            let (kind, shape) = (descr(block.samples().dtype()), axes(&block));
            let (data, mask) = into_bytes(block, share);
            Ok((kind, shape, data, mask))
        }
        Outcome::Value { literal, .. } => {
            let (shape, items) = match &literal {
                Literal::List(items) => (vec![items.len() as u64], items.as_slice()),
                value => (vec![], std::slice::from_ref(value)),
            };
            let number = |item: &Literal| match item {
                Literal::Int(_) | Literal::Float(_) | Literal::Bool(_) => item.as_f64(),
                _ => None,
            };
            let values: Option<Vec<f64>> = items.iter().map(number).collect();
            let values = values.ok_or_else(|| {
                let message =
                    "the result is no array of numbers; ask for it as application/octet-stream".to_owned();
                HttpError::new(ErrorClass::Impossible, message)
            })?;
            let mask = vec![0; values.len()];
            let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            Ok(("<f8", shape, data.into(), mask.into()))
        }
    }
}
