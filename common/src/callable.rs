//! Pickled Python in grafts: the only place that looks at it. Nothing in it is ever run.
//!
//! The published client sends Python functions as the base64 of their pickles. They are refused, with the
//! graft's own way to say the same. One thing that comes as a pickle is data alone: the expression objects
//! of the catalog client, which are read by [`Reader`], opcode by opcode. [`decide`] is the one decision; a
//! sandbox that runs callables would be a further [`Permitted`], and nothing else would change.

use std::collections::HashMap;
use std::rc::Rc;

use base64::Engine as _;

use crate::error::{Classify, ErrorClass};
use crate::literal::Literal;
use crate::predicate::{DEPTH_MAX, NODES_MAX, Predicate, PredicateError};

/// Bytes of a pickle that is looked into; with them its opcodes, its stack and its memo are bounded.
const PICKLE_BYTES_MAX: usize = 1 << 20;

/// Bytes of a text in a pickle that is read.
const TEXT_BYTES_MAX: usize = 4096;

/// The module whose classes are expressions, and the classes.
const MODULE: &str = "earthdaily.earthone.core.common.property_filtering.filtering";

/// Classes of [`MODULE`] that are data: each with what it says.
const CLASSES: [(&str, Class); 10] = [
    ("EqExpression", Class::Compare("eq")),
    ("NeExpression", Class::Compare("ne")),
    ("PrefixExpression", Class::Compare("prefix")),
    ("LikeExpression", Class::Compare("like")),
    ("ILikeExpression", Class::Compare("ilike")),
    ("RangeExpression", Class::Range),
    ("IsNullExpression", Class::Null("isnull")),
    ("IsNotNullExpression", Class::Null("isnotnull")),
    ("AndExpression", Class::Parts("and")),
    ("OrExpression", Class::Parts("or")),
];

/// Where a callable stands in a graft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The condition of `filter_data`.
    Predicate,
    /// The key of `groupby_data`.
    Key,
    /// The reducer of `reduction`.
    Reducer,
    /// The function of `code`.
    Code,
}

impl Place {
    /// What says the same without a pickle.
    fn instead(self) -> &'static str {
        match self {
            Place::Predicate => {
                "write the condition as comparisons of properties in JSON, or as a traced function: a graft function of one parameter, the image, such as `{\"parameters\": [\"image\"], \"name\": \"cloud_fraction\", \"limit\": 0.2, \"x\": [\"attr\", \"image\", \"name\"], \"y\": [\"lt\", \"x\", \"limit\"], \"returns\": \"y\"}`"
            }
            Place::Key => {
                "write the key as a traced function: a graft function of one parameter, the image, such as `{\"parameters\": [\"image\"], \"name\": \"acquired\", \"part\": \"month\", \"x\": [\"attr\", \"image\", \"name\"], \"y\": [\"attr\", \"x\", \"part\"], \"returns\": \"y\"}`"
            }
            Place::Reducer => {
                "use a named reducer such as `median` or `percentile`, or a traced function: a graft function of two parameters, the array and the axis, such as `{\"parameters\": [\"a\", \"axis\"], \"high\": [\"max\", \"a\", \"axis\"], \"low\": [\"min\", \"a\", \"axis\"], \"y\": [\"sub\", \"high\", \"low\"], \"returns\": \"y\"}`"
            }
            Place::Code => "write what it computes with ops, or as a graft function",
        }
    }
}

/// What may be used of what a client encoded.
#[derive(Clone, Debug, PartialEq)]
pub enum Permitted {
    /// An expression object of the catalog client: data, read as what it says.
    Predicate(Predicate),
}

/// Why what a client encoded is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallableError {
    /// A pickled callable, or any other pickle.
    #[error("a pickled callable is never run; {}", .place.instead())]
    Pickled {
        /// Where it stands.
        place: Place,
    },
    /// A text that is no pickle.
    #[error("`{text}` is neither JSON nor a callable; {}", .place.instead())]
    Unreadable {
        /// Where it stands.
        place: Place,
        /// Its beginning.
        text: String,
    },
    /// An expression object that is no condition.
    #[error(transparent)]
    Predicate(#[from] PredicateError),
}

impl Classify for CallableError {
    fn class(&self) -> ErrorClass {
        match self {
            CallableError::Pickled { .. } => ErrorClass::Unsupported,
            CallableError::Unreadable { .. } => ErrorClass::InvalidRequest,
            CallableError::Predicate(error) => error.class(),
        }
    }
}

/// What becomes of a text that a client encoded as a callable: the one place that decides.
///
/// # Errors
/// [`CallableError`]: what is not permitted, with what says the same.
pub fn decide(place: Place, text: &str) -> Result<Permitted, CallableError> {
    let Some(pickle) = unwrap(text) else {
        return Err(CallableError::Unreadable { place, text: text.chars().take(40).collect() });
    };
    match Reader::read(&pickle) {
        Some(condition) if place == Place::Predicate => {
            Ok(Permitted::Predicate(Predicate::from_literal(&condition)?))
        }
        _ => Err(CallableError::Pickled { place }),
    }
}

/// Whether a text looks like the base64 of a pickle.
pub fn is_pickle(text: &str) -> bool {
    unwrap(text).is_some()
}

/// The bytes of a pickle of protocol 2 to 5; empty where it is longer than what is looked into.
fn unwrap(text: &str) -> Option<Vec<u8>> {
    let is_long = text.len() > PICKLE_BYTES_MAX / 3 * 4;
    // The first bytes tell; four letters are three of them.
    let text = if is_long { text.get(..4)? } else { text };
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()?;
    match bytes[..] {
        [0x80, 2..=5, ..] => Some(if is_long { Vec::new() } else { bytes }),
        _ => None,
    }
}

/// What an expression class says of its members.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Class {
    /// `name` compared with `value`.
    Compare(&'static str),
    /// `name` compared with each of `parts`.
    Range,
    /// `name` missing, or not.
    Null(&'static str),
    /// All, or one, of `parts`.
    Parts(&'static str),
}

/// A value on the stack. What can be changed later stands on the heap.
#[derive(Clone, Debug)]
enum Item {
    Mark,
    Constant(Literal),
    Text(Rc<str>),
    Class(Class),
    Heap(usize),
}

#[derive(Debug)]
enum Heap {
    Tuple(Vec<Item>),
    List(Vec<Item>),
    Dict(Vec<(Item, Item)>),
    Object(Class, Option<Item>),
}

/// Reads the pickle of an expression object. It knows the opcodes of such pickles, and no class but
/// [`CLASSES`]: whatever else a pickle holds ends it.
struct Reader<'a> {
    bytes: &'a [u8],
    stack: Vec<Item>,
    memo: HashMap<u32, Item>,
    heap: Vec<Heap>,
}

impl<'a> Reader<'a> {
    /// The condition that a pickle says, in the form of [`Predicate::from_literal`]; `None` if it is
    /// anything else.
    fn read(pickle: &'a [u8]) -> Option<Literal> {
        let mut reader = Reader { bytes: pickle, stack: Vec::new(), memo: HashMap::new(), heap: Vec::new() };
        while reader.step()? {}
        let result = reader.stack.pop()?;
        if !reader.stack.is_empty() || !reader.bytes.is_empty() {
            return None;
        }
        reader.condition(&result, 0, &mut 0)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn line(&mut self) -> Option<&'a str> {
        let end = self.bytes.iter().position(|byte| *byte == b'\n')?;
        let line = std::str::from_utf8(self.take(end)?).ok()?;
        self.take(1)?;
        Some(line)
    }

    /// One opcode; false at the end.
    fn step(&mut self) -> Option<bool> {
        let [opcode] = self.array()?;
        match opcode {
            // PROTO, FRAME: nothing to do, all bytes are there.
            0x80 => _ = self.array::<1>().filter(|[version]| (2..=5).contains(version))?,
            0x95 => _ = self.array::<8>()?,
            b'.' => return Some(false),
            b'N' => self.push(Literal::Null),
            0x88 => self.push(Literal::Bool(true)),
            0x89 => self.push(Literal::Bool(false)),
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Literal::Int(value.into()));
            }
            b'K' => {
                let [value] = self.array()?;
                self.push(Literal::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Literal::Int(value.into()));
            }
            // LONG1: two's complement of any length; what fits 64 bits is a number here.
            0x8a => {
                let [len] = self.array()?;
                let bytes = self.take(len.into())?;
                let fill = if bytes.last().is_some_and(|last| *last >= 0x80) { 0xff } else { 0 };
                let mut value = [fill; 8];
                value.get_mut(..bytes.len())?.copy_from_slice(bytes);
                self.push(Literal::Int(i64::from_le_bytes(value)));
            }
            b'G' => {
                let value = f64::from_be_bytes(self.array()?);
                self.push(Literal::Float(value));
            }
            0x8c => {
                let [len] = self.array()?;
                self.text(len.into())?;
            }
            b'X' => {
                let len = u32::from_le_bytes(self.array()?);
                self.text(len as usize)?;
            }
            b'(' => self.stack.push(Item::Mark),
            b')' => self.make(Heap::Tuple(Vec::new())),
            0x85..=0x87 => {
                let at = self.stack.len().checked_sub(usize::from(opcode - 0x84))?;
                let items = self.stack.split_off(at);
                self.make(Heap::Tuple(items));
            }
            b't' => {
                let items = self.above_mark()?;
                self.make(Heap::Tuple(items));
            }
            b']' => self.make(Heap::List(Vec::new())),
            b'}' => self.make(Heap::Dict(Vec::new())),
            b'a' | b'e' => {
                let new = if opcode == b'a' { vec![self.stack.pop()?] } else { self.above_mark()? };
                match self.top()? {
                    Heap::List(items) => items.extend(new),
                    _ => return None,
                }
            }
            b's' | b'u' => {
                let new = match opcode {
                    b's' => {
                        let at = self.stack.len().checked_sub(2)?;
                        self.stack.split_off(at)
                    }
                    _ => self.above_mark()?,
                };
                let Heap::Dict(members) = self.top()? else { return None };
                let (pairs, odd) = new.as_chunks::<2>();
                if !odd.is_empty() {
                    return None;
                }
                members.extend(pairs.iter().map(|[key, value]| (key.clone(), value.clone())));
            }
            b'q' => {
                let [at] = self.array()?;
                self.remember(at.into())?;
            }
            b'r' => {
                let at = u32::from_le_bytes(self.array()?);
                self.remember(at)?;
            }
            0x94 => {
                let at = u32::try_from(self.memo.len()).ok()?;
                self.remember(at)?;
            }
            b'h' => {
                let [at] = self.array()?;
                let item = self.memo.get(&at.into())?.clone();
                self.stack.push(item);
            }
            b'j' => {
                let at = u32::from_le_bytes(self.array()?);
                let item = self.memo.get(&at)?.clone();
                self.stack.push(item);
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.class(module, name)?;
            }
            0x93 => {
                let (Item::Text(name), Item::Text(module)) = (self.stack.pop()?, self.stack.pop()?) else {
                    return None;
                };
                self.class(&module, &name)?;
            }
            // NEWOBJ: an expression without members yet.
            0x81 => {
                let (Item::Heap(args), Item::Class(class)) = (self.stack.pop()?, self.stack.pop()?) else {
                    return None;
                };
                match &self.heap[args] {
                    Heap::Tuple(args) if args.is_empty() => self.make(Heap::Object(class, None)),
                    _ => return None,
                }
            }
            // BUILD: its members.
            b'b' => {
                let members = self.stack.pop()?;
                match self.top()? {
                    Heap::Object(_, state @ None) => *state = Some(members),
                    _ => return None,
                }
            }
            _ => return None,
        }
        Some(true)
    }

    fn push(&mut self, constant: Literal) {
        self.stack.push(Item::Constant(constant));
    }

    fn text(&mut self, len: usize) -> Option<()> {
        // A text may be used as often as there are conditions, and each has a copy.
        if len > TEXT_BYTES_MAX {
            return None;
        }
        let text = std::str::from_utf8(self.take(len)?).ok()?;
        self.stack.push(Item::Text(text.into()));
        Some(())
    }

    fn make(&mut self, heap: Heap) {
        self.heap.push(heap);
        self.stack.push(Item::Heap(self.heap.len() - 1));
    }

    /// What stands above the last mark, which is gone with it.
    fn above_mark(&mut self) -> Option<Vec<Item>> {
        let mark = self.stack.iter().rposition(|item| matches!(item, Item::Mark))?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Some(items)
    }

    /// The object on top of the stack, to be changed.
    fn top(&mut self) -> Option<&mut Heap> {
        match self.stack.last()? {
            Item::Heap(at) => self.heap.get_mut(*at),
            _ => None,
        }
    }

    fn remember(&mut self, at: u32) -> Option<()> {
        let item = self.stack.last().filter(|item| !matches!(item, Item::Mark))?.clone();
        self.memo.insert(at, item);
        Some(())
    }

    fn class(&mut self, module: &str, name: &str) -> Option<()> {
        let known = CLASSES.iter().find(|(known, _)| module == MODULE && *known == name);
        self.stack.push(Item::Class(known?.1));
        Some(())
    }

    /// An expression object as JSON has it. Objects may be shared, or hold themselves: every visit counts.
    fn condition(&self, item: &Item, depth: usize, visits: &mut usize) -> Option<Literal> {
        *visits += 1;
        if depth > DEPTH_MAX || *visits > NODES_MAX {
            return None;
        }
        let Item::Heap(at) = item else { return None };
        let Heap::Object(class, Some(Item::Heap(members))) = self.heap.get(*at)? else { return None };
        let Heap::Dict(members) = self.heap.get(*members)? else { return None };
        let member = |name: &str| {
            // As in Python, the last of equal keys counts.
            let is_it = |(key, _): &&(Item, Item)| matches!(key, Item::Text(key) if **key == *name);
            members.iter().rev().find(is_it).map(|(_, value)| value)
        };
        let name = || match member("name")? {
            Item::Text(name) => Some(Literal::Str(name.to_string())),
            _ => None,
        };
        let pair = |key: &str, value: Literal| (key.to_owned(), value);
        let compare = |op: &str, name: Literal, value: Literal| {
            let object = |op: &str, more: Option<Literal>| {
                let fixed = [pair("op", Literal::Str(op.into())), pair("name", name)];
                Literal::Object(fixed.into_iter().chain(more.map(|value| pair("val", value))).collect())
            };
            match (op, value) {
                ("eq", Literal::Null) => object("isnull", None),
                ("ne", Literal::Null) => object("isnotnull", None),
                (op, value) => object(op, Some(value)),
            }
        };
        match class {
            Class::Compare(op) => Some(compare(op, name()?, constant(member("value")?)?)),
            Class::Null(op) => {
                Some(Literal::Object(vec![pair("op", Literal::Str((*op).into())), pair("name", name()?)]))
            }
            Class::Range => {
                let Item::Heap(parts) = member("parts")? else { return None };
                let Heap::Dict(parts) = self.heap.get(*parts)? else { return None };
                let part = |(op, value): &(Item, Item)| match op {
                    Item::Text(op) if ["gt", "gte", "lt", "lte"].contains(&&**op) => {
                        Some(compare(op, name()?, constant(value)?))
                    }
                    _ => None,
                };
                *visits = visits.checked_add(parts.len()).filter(|visits| *visits <= NODES_MAX)?;
                Some(Literal::List(parts.iter().map(part).collect::<Option<_>>()?))
            }
            Class::Parts(op) => {
                let Item::Heap(parts) = member("parts")? else { return None };
                let (Heap::List(parts) | Heap::Tuple(parts)) = self.heap.get(*parts)? else { return None };
                let parts: Option<Vec<Literal>> =
                    parts.iter().map(|part| self.condition(part, depth + 1, visits)).collect();
                Some(Literal::Object(vec![pair(op, Literal::List(parts?))]))
            }
        }
    }
}

/// A constant that a property is compared with.
fn constant(item: &Item) -> Option<Literal> {
    match item {
        Item::Constant(literal) => Some(literal.clone()),
        Item::Text(text) => Some(Literal::Str(text.to_string())),
        Item::Mark | Item::Class(_) | Item::Heap(_) => None,
    }
}

#[cfg(test)]
mod tests;
