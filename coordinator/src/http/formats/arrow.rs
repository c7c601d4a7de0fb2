//! Results as an Arrow IPC stream: a table with a row for each pixel, in batches, each made when it is sent.
//!
//! Columns: of a stack `image` (number) and `id`; `x` and `y` of the pixel's centre in the grid's CRS; then
//! one for each band, null where invalid. A small array has its indices `i0`, `i1`, … and `value`; a number
//! or a list of numbers `value` alone. The schema's metadata has `graticule`: a JSON object of `kind`,
//! `crs`, `transform` (as GDAL's), `rows`, `cols` and `properties`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, RecordBatch, StringArray, UInt32Array,
};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use axum::body::Body;
use bytes::Bytes;
use graticule_common::assembly::{Finished, Outcome};
use graticule_common::block::{Block, DType, Kind, Samples};
use graticule_common::error::ErrorClass;
use graticule_common::grid::Grid;
use graticule_common::literal::Literal;
use graticule_common::ops::Props;
use serde_json::json;

use super::{axes, properties, props_of};
use crate::http::error::HttpError;
use crate::http::gather::Share;

/// Rows of a batch.
const ROWS: usize = 1 << 15;

/// The stream.
///
/// # Errors
/// A list that is no array of numbers.
pub(crate) fn encode(result: Finished, share: Share) -> Result<Body, HttpError> {
    let described = properties(props_of(&result.outcome));
    let table = match result.outcome {
        Outcome::Raster { grid, block, props } => Table::of_raster(grid, block, &props),
        Outcome::Array { block, .. } => Table::of_array(block),
        Outcome::Value { literal, .. } => Table::of_value(&literal)?,
    };
    let about = match &table.grid {
        Some(grid) => {
            let ((x, y), (res_x, res_y)) = (grid.origin(), grid.lattice().resolution());
            json!({
                "kind": table.kind, "crs": grid.crs().as_str(), "rows": grid.rows(), "cols": grid.cols(),
                "transform": [x, res_x, 0.0, y, 0.0, -res_y], "properties": described,
            })
        }
        None => json!({ "kind": table.kind, "properties": described }),
    };
    let metadata = HashMap::from([("graticule".to_owned(), about.to_string())]);
    let schema = Arc::new(Schema::new_with_metadata(table.fields(), metadata));
    let writer = StreamWriter::try_new(Vec::new(), &schema).map_err(HttpError::internal)?;
    let stream = Stream { table, schema, writer: Some(writer), next: 0, _share: share };
    Ok(Body::from_stream(tokio_stream::iter(stream)))
}

/// Batches of a table as bytes.
struct Stream {
    table: Table,
    schema: Arc<Schema>,
    writer: Option<StreamWriter<Vec<u8>>>,
    /// The first row that is not sent.
    next: usize,
    _share: Share,
}

impl Iterator for Stream {
    type Item = Result<Bytes, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut writer = self.writer.take()?;
        let rows = self.table.rows();
        let is_last = self.next >= rows;
        let wrote = if !is_last {
            let end = rows.min(self.next + ROWS);
            let columns = self.table.columns(self.next, end);
            self.next = end;
            RecordBatch::try_new(self.schema.clone(), columns).and_then(|batch| writer.write(&batch))
        } else {
            writer.finish()
        };
        if let Err(error) = wrote {
            return Some(Err(error));
        }
        let bytes = std::mem::take(writer.get_mut());
        if !is_last {
            self.writer = Some(writer);
        }
        Some(Ok(bytes.into()))
    }
}

/// A result as rows.
struct Table {
    kind: &'static str,
    grid: Option<Grid>,
    block: Block,
    /// Names of the columns of values.
    names: Vec<String>,
    /// Ids of a stack's images.
    ids: Option<Vec<Option<String>>>,
    /// Values that are no pixels, in double precision.
    doubles: Option<Vec<f64>>,
}

impl Table {
    fn of_raster(grid: Grid, block: Block, props: &Props) -> Table {
        let bands = block.kind().bands().unwrap_or(0);
        let known = props.bands().filter(|names| names.len() == bands as usize);
        let names = known.unwrap_or_else(|| (1..=bands).map(|at| format!("band {at}")).collect());
        let ids = block.kind().images().map(|_| {
            props.dicts().map(|dict| Some(dict.get("id")?.as_str()?.to_owned())).collect::<Vec<_>>()
        });
        Table { kind: block.kind().name(), grid: Some(grid), block, names, ids, doubles: None }
    }

    fn of_array(block: Block) -> Table {
        let names = vec!["value".to_owned()];
        Table { kind: "array", grid: None, block, names, ids: None, doubles: None }
    }

    fn of_value(literal: &Literal) -> Result<Table, HttpError> {
        let items = match literal {
            Literal::List(items) => items.as_slice(),
            value => std::slice::from_ref(value),
        };
        let number = |item: &Literal| match item {
            Literal::Int(_) | Literal::Float(_) | Literal::Bool(_) => item.as_f64(),
            _ => None,
        };
        let doubles: Option<Vec<f64>> = items.iter().map(number).collect();
        let doubles = doubles.ok_or_else(|| {
            let message = "the result is no array of numbers; ask for it as application/octet-stream";
            HttpError::new(ErrorClass::Impossible, message)
        })?;
        let (block, names) = (Block::invalid(Kind::Number, DType::F32, (1, 1)), vec!["value".to_owned()]);
        Ok(Table { kind: "number", grid: None, block, names, ids: None, doubles: Some(doubles) })
    }

    fn rows(&self) -> usize {
        match (&self.doubles, &self.grid) {
            (Some(doubles), _) => doubles.len(),
            (None, Some(_)) => self.images() * self.block.pixels(),
            (None, None) => self.block.valid().len(),
        }
    }

    fn images(&self) -> usize {
        self.block.kind().images().map_or(1, |images| images as usize)
    }

    fn fields(&self) -> Vec<Field> {
        let plain = |name: &str, kind: DataType| Field::new(name, kind, false);
        let mut fields = Vec::new();
        if self.ids.is_some() {
            fields.push(plain("image", DataType::UInt32));
            fields.push(Field::new("id", DataType::Utf8, true));
        }
        if self.grid.is_some() {
            fields.extend([plain("x", DataType::Float64), plain("y", DataType::Float64)]);
        } else if self.doubles.is_none() {
            fields.extend(
                (0..axes(&self.block).len()).map(|axis| plain(&format!("i{axis}"), DataType::UInt32)),
            );
        }
        let kind = match (&self.doubles, self.block.samples().dtype()) {
            (Some(_), _) => DataType::Float64,
            (None, DType::F32) => DataType::Float32,
            (None, DType::Bool) => DataType::Boolean,
        };
        fields.extend(self.names.iter().map(|name| Field::new(name, kind.clone(), true)));
        fields
    }

    fn columns(&self, start: usize, end: usize) -> Vec<ArrayRef> {
        if let Some(doubles) = &self.doubles {
            return vec![Arc::new(Float64Array::from(doubles[start..end].to_vec()))];
        }
        let mut columns: Vec<ArrayRef> = Vec::new();
        let Some(grid) = &self.grid else {
            let axes = axes(&self.block);
            for axis in 0..axes.len() {
                let inner: u64 = axes[axis + 1..].iter().product();
                let index = |at: usize| (at as u64 / inner.max(1) % axes[axis]) as u32;
                columns.push(Arc::new(UInt32Array::from_iter_values((start..end).map(index))));
            }
            columns.push(self.values(start..end, |at| at));
            return columns;
        };
        let pixels = self.block.pixels();
        let cols = grid.cols() as usize;
        if let Some(ids) = &self.ids {
            let image = |at: usize| at / pixels;
            columns.push(Arc::new(UInt32Array::from_iter_values((start..end).map(|at| image(at) as u32))));
            let id = |at: usize| ids.get(image(at)).and_then(Option::as_deref);
            columns.push(Arc::new((start..end).map(id).collect::<StringArray>()));
        }
        let ((west, north), (res_x, res_y)) = (grid.origin(), grid.lattice().resolution());
        let x = |at: usize| west + ((at % pixels % cols) as f64 + 0.5) * res_x;
        let y = |at: usize| north - ((at % pixels / cols) as f64 + 0.5) * res_y;
        columns.push(Arc::new(Float64Array::from_iter_values((start..end).map(x))));
        columns.push(Arc::new(Float64Array::from_iter_values((start..end).map(y))));
        let bands = self.names.len();
        for band in 0..bands {
            let place = |at: usize| (at / pixels * bands + band) * pixels + at % pixels;
            columns.push(self.values(start..end, place));
        }
        columns
    }

    /// A column of values; `place` is where in the block a row's value is.
    fn values(&self, rows: std::ops::Range<usize>, place: impl Fn(usize) -> usize) -> ArrayRef {
        let (valid, start) = (self.block.valid(), rows.start);
        let nulls = BooleanBuffer::collect_bool(rows.len(), |row| valid[place(start + row)] == 1);
        let nulls = Some(NullBuffer::new(nulls)).filter(|nulls| nulls.null_count() > 0);
        match self.block.samples() {
            Samples::F32(values) => {
                let values: Vec<f32> = rows.map(|row| values[place(row)]).collect();
                Arc::new(Float32Array::new(values.into(), nulls))
            }
            Samples::Bool(values) => {
                let bits = BooleanBuffer::collect_bool(rows.len(), |row| values[place(start + row)] != 0);
                Arc::new(BooleanArray::new(bits, nulls))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::gather::Memory;
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Float32Type, Float64Type, UInt32Type};
    use arrow_ipc::reader::StreamReader;
    use graticule_common::grid::{Crs, Lattice, Window};
    use http_body_util::BodyExt;
    use std::time::Duration;

    async fn read(outcome: Outcome) -> (Arc<Schema>, Vec<RecordBatch>) {
        let share = Memory::new(1 << 20, Duration::ZERO).take(1).await.unwrap();
        let finished = Finished { name: String::new(), outcome, bands: Vec::new() };
        let body = encode(finished, share).unwrap().collect().await.unwrap().to_bytes();
        let reader = StreamReader::try_new(&body[..], None).unwrap();
        (reader.schema(), reader.map(Result::unwrap).collect())
    }

    #[tokio::test]
    async fn a_stack_is_a_row_for_each_pixel_of_each_image() {
        let lattice = Lattice::try_new(Crs::from_canonical("EPSG:32613"), (10.0, 20.0), (0.0, 0.0)).unwrap();
        // More rows than a batch has.
        let (rows, cols) = (200u32, 110u32);
        let grid = Grid::from_window(lattice, Window { row: -200, col: 3, rows, cols });
        let pixels = (rows * cols) as usize;
        let values: Vec<f32> = (0..4 * pixels).map(|at| at as f32).collect();
        let valid: Vec<u8> = (0..4 * pixels).map(|at| u8::from(at != 5 && at != 3 * pixels)).collect();
        let kind = Kind::Stack { images: 2, bands: 2 };
        let block = Block::new(kind, (rows, cols), Samples::F32(values), valid);
        let dict = |id: &str| Arc::new([("id".to_owned(), id.into())].into_iter().collect());
        let props = Props::many(vec![dict("a"), dict("b")]).with_bands(&["red".into(), "nir".into()]);
        let (schema, batches) = read(Outcome::Raster { grid: grid.clone(), block, props }).await;
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["image", "id", "x", "y", "red", "nir"]);
        let about: serde_json::Value = serde_json::from_str(&schema.metadata()["graticule"]).unwrap();
        assert_eq!((&about["kind"], &about["rows"]), (&"ImageStack".into(), &rows.into()));
        assert_eq!(about["properties"][1]["id"], "b");
        assert_eq!(batches.len(), (2 * pixels).div_ceil(ROWS));
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 2 * pixels);
        let mut at = 0;
        for batch in &batches {
            let (image, red, nir) = (batch.column(0), batch.column(4), batch.column(5));
            for row in 0..batch.num_rows() {
                let (of, pixel) = (at / pixels, at % pixels);
                assert_eq!(image.as_primitive::<UInt32Type>().value(row) as usize, of);
                for (band, column) in [red, nir].into_iter().enumerate() {
                    let place = (2 * of + band) * pixels + pixel;
                    assert_eq!(column.is_null(row), place == 5 || place == 3 * pixels, "{place}");
                    if column.is_valid(row) {
                        assert_eq!(column.as_primitive::<Float32Type>().value(row), place as f32);
                    }
                }
                at += 1;
            }
        }
        let (west, north) = grid.origin();
        let value =
            |column: usize, row: usize| batches[0].column(column).as_primitive::<Float64Type>().value(row);
        assert_eq!((value(2, 111), value(3, 111)), (west + 15.0, north - 30.0));
        assert_eq!(batches[0].column(1).as_string::<i32>().value(0), "a");
    }

    #[tokio::test]
    async fn numbers_arrays_and_nothing() {
        let number = |literal| Outcome::Value { literal, props: Props::none() };
        let (_, batches) = read(number(Literal::Int(7))).await;
        assert_eq!(batches[0].column(0).as_primitive::<Float64Type>().values(), &[7.0]);
        let shape = graticule_common::block::ArrayShape::new(&[2, 2], true).unwrap();
        let valid = vec![1, 0, 1, 1];
        let block = Block::new(Kind::Array(shape), (1, 1), Samples::Bool(vec![1, 0, 0, 1]), valid);
        let (schema, batches) = read(Outcome::Array { block, props: Props::none() }).await;
        assert_eq!(schema.fields().len(), 3);
        assert_eq!(batches[0].column(1).as_primitive::<UInt32Type>().values(), &[0, 1, 0, 1]);
        assert!(batches[0].column(2).is_null(1) && batches[0].column(2).as_boolean().value(3));
        let lattice = Lattice::try_new(Crs::from_canonical("EPSG:32613"), (10.0, 20.0), (0.0, 0.0)).unwrap();
        let grid = Grid::from_window(lattice, Window { row: 0, col: 0, rows: 1, cols: 2 });
        let kind = Kind::Stack { images: 0, bands: 1 };
        let block = Block::invalid(kind, DType::F32, (1, 2));
        let props = Props::many(Vec::new());
        let (schema, batches) = read(Outcome::Raster { grid, block, props }).await;
        assert_eq!((schema.fields().len(), batches.len()), (5, 0));
        let share = Memory::new(1 << 20, Duration::ZERO).take(1).await.unwrap();
        let groups = Literal::List(vec![Literal::List(vec![Literal::Int(1), Literal::List(vec![])])]);
        let finished = Finished { name: String::new(), outcome: number(groups), bands: Vec::new() };
        assert_eq!(encode(finished, share).unwrap_err().class, ErrorClass::Impossible);
    }
}
