//! Results as the published client reads them: `pickle.dumps({"array": …, "properties": …})`, protocol 4,
//! written opcode by opcode.
//!
//! Four globals, which exist under the same names in numpy 1 and 2, and nothing else that a pickle could
//! run: `numpy.ma.core._mareconstruct`, `numpy.ma.core.MaskedArray`, `numpy.ndarray`, `numpy.dtype`.
//! Opcodes are those of Python's `pickletools`.

use std::sync::Arc;

use graticule_common::assembly::{Finished, Outcome};
use graticule_common::block::Block;
use graticule_common::literal::Literal;
use serde_json::Value;

use super::{Pieces, Writer, axes, descr, into_bytes, properties, props_of};
use crate::http::gather::Share;

const PROTO: &[u8] = b"\x80\x04";
const STOP: &[u8] = b".";
const NONE: &[u8] = b"N";
const TRUE: &[u8] = b"\x88";
const FALSE: &[u8] = b"\x89";
const MARK: &[u8] = b"(";
const TUPLE: &[u8] = b"t";
const TUPLE1: &[u8] = b"\x85";
const EMPTY_LIST: &[u8] = b"]";
const APPENDS: &[u8] = b"e";
const EMPTY_DICT: &[u8] = b"}";
const SETITEMS: &[u8] = b"u";
const REDUCE: &[u8] = b"R";
const BUILD: &[u8] = b"b";
const BININT: u8 = b'J';
const BININT1: u8 = b'K';
const LONG1: u8 = 0x8a;
const BINFLOAT: u8 = b'G';
const BINUNICODE: u8 = b'X';
const BINBYTES8: u8 = 0x8e;

const RECONSTRUCT: &[u8] = b"cnumpy.ma.core\n_mareconstruct\n";
const MASKED_ARRAY: &[u8] = b"cnumpy.ma.core\nMaskedArray\n";
const NDARRAY: &[u8] = b"cnumpy\nndarray\n";
const DTYPE: &[u8] = b"cnumpy\ndtype\n";

/// The pickle. One result without a name is itself; of several, array and properties are dicts by name.
pub(crate) fn encode(results: Vec<Finished>, share: Share) -> Pieces {
    let share = Arc::new(share);
    let mut out = Writer::default();
    out.put(PROTO);
    let is_one = results.len() == 1 && results[0].name.is_empty();
    let described: Vec<(String, Value)> =
        results.iter().map(|result| (result.name.clone(), properties(props_of(&result.outcome)))).collect();
    out.put(EMPTY_DICT);
    out.put(MARK);
    text(&mut out, "array");
    if is_one {
        results.into_iter().for_each(|result| array(&mut out, result.outcome, &share));
    } else {
        out.put(EMPTY_DICT);
        out.put(MARK);
        for result in results {
            text(&mut out, &result.name);
            array(&mut out, result.outcome, &share);
        }
        out.put(SETITEMS);
    }
    text(&mut out, "properties");
    match (is_one, described.first()) {
        (true, Some((_, only))) => json(&mut out, only),
        _ => json(&mut out, &Value::Object(described.into_iter().collect())),
    }
    out.put(SETITEMS);
    out.put(STOP);
    out.finish()
}

fn array(out: &mut Writer, outcome: Outcome, share: &Arc<Share>) {
    match outcome {
        Outcome::Array { block, .. } | Outcome::Raster { block, .. } => masked(out, block, share),
        Outcome::Value { literal: value, .. } => match groups(&value) {
            Some(groups) => list(out, groups, |out, (key, ids)| {
                out.put(MARK);
                hashable(out, key);
                literal(out, ids);
                out.put(TUPLE);
            }),
            None => literal(out, &value),
        },
    }
}

/// A list of pairs of a key and a list of ids, as a grouping of images is. Clients keep the keys in dicts.
fn groups(value: &Literal) -> Option<Vec<(&Literal, &Literal)>> {
    fn pair(item: &Literal) -> Option<(&Literal, &Literal)> {
        let Literal::List(pair) = item else { return None };
        match &pair[..] {
            [key, ids @ Literal::List(_)] => Some((key, ids)),
            _ => None,
        }
    }
    match value {
        Literal::List(items) => items.iter().map(pair).collect(),
        _ => None,
    }
}

/// An empty array, then its state: version 1, shape, type, C order, values, mask, no fill value.
fn masked(out: &mut Writer, block: Block, share: &Arc<Share>) {
    out.put(RECONSTRUCT);
    out.put(MARK);
    out.put(MASKED_ARRAY);
    out.put(NDARRAY);
    integer(out, 0);
    out.put(TUPLE1);
    out.put(&[BINBYTES8]);
    out.put(&1u64.to_le_bytes());
    out.put(b"b");
    out.put(TUPLE);
    out.put(REDUCE);
    out.put(MARK);
    integer(out, 1);
    out.put(MARK);
    // No axis is longer than 32 bits.
    axes(&block).into_iter().for_each(|axis| integer(out, i64::try_from(axis).unwrap_or(i64::MAX)));
    out.put(TUPLE);
    out.put(DTYPE);
    out.put(MARK);
    text(out, descr(block.samples().dtype()));
    out.put(TUPLE);
    out.put(REDUCE);
    out.put(FALSE);
    let (values, mask) = into_bytes(block, share);
    for bytes in [values, mask] {
        out.put(&[BINBYTES8]);
        out.put(&(bytes.len() as u64).to_le_bytes());
        out.put_large(bytes);
    }
    out.put(NONE);
    out.put(TUPLE);
    out.put(BUILD);
}

fn integer(out: &mut Writer, value: i64) {
    match (u8::try_from(value), i32::try_from(value)) {
        (Ok(value), _) => out.put(&[BININT1, value]),
        (_, Ok(value)) => {
            out.put(&[BININT]);
            out.put(&value.to_le_bytes());
        }
        _ => {
            out.put(&[LONG1, 8]);
            out.put(&value.to_le_bytes());
        }
    }
}

fn float(out: &mut Writer, value: f64) {
    out.put(&[BINFLOAT]);
    out.put(&value.to_be_bytes());
}

fn text(out: &mut Writer, text: &str) {
    out.put(&[BINUNICODE]);
    // Properties and names are bounded far below 4 GiB.
    out.put(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.put(text.as_bytes());
}

fn list<T>(out: &mut Writer, items: impl IntoIterator<Item = T>, each: impl Fn(&mut Writer, T)) {
    out.put(EMPTY_LIST);
    out.put(MARK);
    items.into_iter().for_each(|item| each(out, item));
    out.put(APPENDS);
}

fn dict<'a, T: 'a>(
    out: &mut Writer,
    members: impl IntoIterator<Item = (&'a String, &'a T)>,
    each: impl Fn(&mut Writer, &T),
) {
    out.put(EMPTY_DICT);
    out.put(MARK);
    for (name, value) in members {
        text(out, name);
        each(out, value);
    }
    out.put(SETITEMS);
}

fn truth(out: &mut Writer, value: bool) {
    out.put(if value { TRUE } else { FALSE });
}

fn literal(out: &mut Writer, value: &Literal) {
    match value {
        Literal::Null => out.put(NONE),
        Literal::Bool(value) => truth(out, *value),
        Literal::Int(value) => integer(out, *value),
        Literal::Float(value) => float(out, *value),
        Literal::Str(value) => text(out, value),
        Literal::List(items) => list(out, items, literal),
        Literal::Object(members) => dict(out, members.iter().map(|(name, value)| (name, value)), literal),
    }
}

/// A value as a key: lists are tuples.
fn hashable(out: &mut Writer, value: &Literal) {
    match value {
        Literal::List(items) => {
            out.put(MARK);
            items.iter().for_each(|item| hashable(out, item));
            out.put(TUPLE);
        }
        other => literal(out, other),
    }
}

fn json(out: &mut Writer, value: &Value) {
    match value {
        Value::Null => out.put(NONE),
        Value::Bool(value) => truth(out, *value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => integer(out, value),
            (None, Some(value)) => {
                // The highest bit is no sign.
                out.put(&[LONG1, 9]);
                out.put(&value.to_le_bytes());
                out.put(&[0]);
            }
            _ => float(out, number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(value) => text(out, value),
        Value::Array(items) => list(out, items, json),
        Value::Object(members) => dict(out, members, json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::gather::Memory;
    use graticule_common::block::{Kind, Samples};
    use graticule_common::grid::{Crs, Grid, Lattice, Window};
    use graticule_common::ops::Props;
    use serde_json::json;
    use std::time::Duration;

    async fn pickled(results: Vec<(&str, Outcome)>) -> Vec<u8> {
        let share = Memory::new(1 << 20, Duration::ZERO).take(1).await.unwrap();
        let finished =
            |(name, outcome): (&str, Outcome)| Finished { name: name.into(), outcome, bands: Vec::new() };
        encode(results.into_iter().map(finished).collect(), share).concat()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn raster() -> Outcome {
        let lattice = Lattice::try_new(Crs::from_canonical("EPSG:32613"), (1.0, 1.0), (0.0, 0.0)).unwrap();
        let grid = Grid::from_window(lattice, Window { row: 0, col: 0, rows: 2, cols: 2 });
        let values = Samples::F32(vec![1.5, 0.0, -2.0, 3.25]);
        let block = Block::new(Kind::Mosaic { bands: 1 }, (2, 2), values, vec![1, 0, 1, 1]);
        let dict = json!({"bands": ["red"], "cloud": 0.25, "id": null, "ok": true, "pad": -300});
        let Value::Object(dict) = dict else { panic!() };
        Outcome::Raster { grid, block, props: Props::one(dict.into_iter().collect()) }
    }

    /// As a program in Python writes them that knows nothing of this one, and reads them with `pickle`:
    /// a masked array of 1 x 2 x 2 with metadata, and groups of images.
    #[tokio::test]
    async fn the_bytes_are_those_of_the_recipe() {
        const ARRAY: &str = "80047d2858050000006172726179636e756d70792e6d612e636f72650a5f6d617265636f6e7374727563740a\
             28636e756d70792e6d612e636f72650a4d61736b656441727261790a636e756d70790a6e6461727261790a4b\
             00858e0100000000000000627452284b01284b014b024b0274636e756d70790a64747970650a285803000000\
             3c66347452898e10000000000000000000c03f00000000000000c0000050408e040000000000000000010000\
             4e7462580a00000070726f706572746965737d28580500000062616e64735d28580300000072656465580500\
             0000636c6f7564473fd0000000000000580200000069644e58020000006f6b8858030000007061644ad4feff\
             ff75752e";
        const GROUPS: &str = "80047d28580500000061727261795d28284b015d28580100000061580100000062657428284ae80700005801\
             00000078745d28657465580a00000070726f706572746965737d2875752e";
        assert_eq!(hex(&pickled(vec![("", raster())]).await), ARRAY);
        let list =
            |items: &[&str]| Literal::List(items.iter().map(|item| Literal::Str((*item).into())).collect());
        let key = Literal::List(vec![Literal::Int(2024), Literal::Str("x".into())]);
        let literal = Literal::List(vec![
            Literal::List(vec![Literal::Int(1), list(&["a", "b"])]),
            Literal::List(vec![key, list(&[])]),
        ]);
        let groups = Outcome::Value { literal, props: Props::none() };
        assert_eq!(hex(&pickled(vec![("", groups)]).await), GROUPS);
    }

    #[tokio::test]
    async fn numbers_and_several_results() {
        let number = |literal| Outcome::Value { literal, props: Props::none() };
        let large = pickled(vec![("", number(Literal::Int(1 << 40)))]).await;
        // LONG1 of eight bytes.
        assert!(hex(&large).contains("8a080000000000010000"), "{}", hex(&large));
        let both = pickled(vec![("a", number(Literal::Float(1.0))), ("b", raster())]).await;
        let text = String::from_utf8_lossy(&both);
        assert_eq!(text.matches("_mareconstruct").count(), 1);
        assert!(both.starts_with(b"\x80\x04}(X\x05\x00\x00\x00array}(X\x01\x00\x00\x00aG\x3f\xf0"));
        assert!(both.ends_with(b"uu."));
    }
}
