//! Functions of an image's properties: what graft functions that stand as arguments may compute, and the
//! interpreter that computes it, image by image. Values and rules are Python's.
//!
//! The ops that work on pixels too (`eq`, `add`, …) say beside their kernels what they do with properties
//! ([`Op::on_properties`]); those of this family know nothing else.

use std::sync::Arc;

use super::{Arg, BindCx, Bound, Facts, Kernel, Op, OpDoc, Param, TypeError};
use crate::error::GraftPath;
use crate::literal::Literal;
use crate::scene::Properties;

mod rows;
mod value;

pub use rows::OPS;
pub use value::Value;

/// Why an op has no value for an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    problem: String,
    /// The step it comes from, where the interpreter knows it.
    step: Option<usize>,
}

impl Fault {
    /// A fault with what is wrong, as the end of a sentence.
    pub fn new(problem: impl Into<String>) -> Fault {
        Fault { problem: problem.into(), step: None }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.problem)
    }
}

/// Arguments of an op on properties, those given: each may have failed, which matters only where it is needed, so that
/// `and`, `or` and `where` decide as in Python.
#[derive(Debug)]
pub struct Args<'a>(Vec<&'a Result<Value, Fault>>);

impl<'a> Args<'a> {
    /// An argument.
    ///
    /// # Errors
    /// Why it has no value.
    pub fn get(&self, at: usize) -> Result<&'a Value, Fault> {
        match self.0.get(at) {
            Some(Ok(value)) => Ok(value),
            Some(Err(fault)) => Err(fault.clone()),
            None => Ok(&Value::Null),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Steps that every image costs beside those of the function.
const BASE_STEPS: usize = 1024;

/// Bytes of arguments and results that a step of the cost stands for: what a function does for an image
/// is bounded by its length, whatever texts go through it.
const STEP_BYTES: usize = 256;

const TOO_MUCH: &str =
    "texts and lists go through too many steps; compare shorter ones, or use the JSON conditions";

/// A function of one image's properties: steps after those that they need.
#[derive(Clone, Debug, Default)]
pub struct Function {
    steps: Vec<Step>,
    result: usize,
}

#[derive(Clone, Debug)]
struct Step {
    what: What,
    at: GraftPath,
}

#[derive(Clone, Debug)]
enum What {
    Constant(Value),
    Image,
    Call(&'static dyn Op, Vec<usize>),
}

impl Function {
    /// Adds the image as a step; gives its position.
    pub(crate) fn image(&mut self, at: GraftPath) -> usize {
        self.step(What::Image, at)
    }

    /// Adds a constant.
    pub(crate) fn constant(&mut self, literal: &Literal, at: GraftPath) -> usize {
        self.step(What::Constant(Value::from_literal(literal)), at)
    }

    /// Adds an op on earlier steps.
    pub(crate) fn call(&mut self, op: &'static dyn Op, args: Vec<usize>, at: GraftPath) -> usize {
        self.step(What::Call(op, args), at)
    }

    /// Says which step is its value.
    pub(crate) fn finish(&mut self, result: usize) {
        self.result = result;
    }

    fn step(&mut self, what: What, at: GraftPath) -> usize {
        self.steps.push(Step { what, at });
        self.steps.len() - 1
    }

    /// What it costs for an image at most, in steps.
    pub(crate) fn cost(&self) -> usize {
        self.steps.len() + BASE_STEPS
    }

    /// Its value for an image. Every step is taken once: there is nothing that could go on for ever.
    ///
    /// # Errors
    /// [`TypeError::Property`]: which op, where, for which image, and why.
    pub(super) fn of(&self, image: Properties) -> Result<Value, TypeError> {
        let id = image.get("id").and_then(serde_json::Value::as_str).unwrap_or("without id").to_owned();
        let image = Arc::new(image);
        let mut values: Vec<Result<Value, Fault>> = Vec::with_capacity(self.steps.len());
        let mut left = self.cost() * STEP_BYTES;
        for (at, step) in self.steps.iter().enumerate() {
            let value = match &step.what {
                What::Constant(value) => Ok(value.clone()),
                What::Image => Ok(Value::Object(image.clone())),
                What::Call(op, args) => {
                    let args = Args(args.iter().map(|arg| &values[*arg]).collect());
                    let given = args.0.iter().filter_map(|arg| arg.as_ref().ok());
                    let rest = given.clone().try_fold(left, |left, arg| arg.within(left));
                    rest.ok_or_else(|| Fault::new(TOO_MUCH)).and_then(|rest| {
                        let value = op.on_properties(&args)?.bounded()?;
                        left = value.within(rest).ok_or_else(|| Fault::new(TOO_MUCH))?;
                        Ok(value)
                    })
                }
            };
            values.push(value.map_err(|fault| Fault { step: fault.step.or(Some(at)), ..fault }));
        }
        let value = values.into_iter().nth(self.result).unwrap_or(Ok(Value::Null));
        value.map_err(|fault| {
            let step = fault.step.and_then(|at| self.steps.get(at));
            TypeError::Property {
                op: match step.map(|step| &step.what) {
                    Some(What::Call(op, _)) => op.name(),
                    _ => "function",
                },
                at: step.map(|step| step.at.clone()).unwrap_or_default(),
                image: id,
                problem: fault.problem,
            }
        })
    }
}

/// What comparing two values gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// An order.
    Is(std::cmp::Ordering),
    /// One is missing, or not a number: every comparison is false, but `ne`.
    Missing,
    /// Values of different kinds: not equal, and without order.
    Unlike,
}

/// `where(condition, a, b)` on properties: only the chosen one needs to have a value.
pub fn choose(args: &Args<'_>) -> Result<Value, Fault> {
    args.get(if args.get(0)?.is_true() { 1 } else { 2 }).cloned()
}

/// `isin(a, values)` on properties: whether a list has an equal item.
pub fn is_in(args: &Args<'_>) -> Result<Value, Fault> {
    args.get(1)?.contains(args.get(0)?).map(Value::Bool)
}

/// A row: an op of properties alone.
#[derive(Debug)]
struct PropertyOp {
    name: &'static str,
    params: &'static [Param],
    summary: &'static str,
    shapes: &'static str,
    source: &'static str,
    /// The keys of a function of `image` whose value is `key`, as JSON.
    example: &'static str,
    call: fn(&Args<'_>) -> Result<Value, Fault>,
}

impl Op for PropertyOp {
    fn name(&self) -> &'static str {
        self.name
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: self.summary,
            params: self.params,
            shapes: self.shapes,
            units: "None.",
            validity: "Has no pixels: a value of one image's properties, inside a function.",
            accuracy: "Exact.",
            source: self.source,
        }
    }

    fn example(&self) -> serde_json::Value {
        let mut function: serde_json::Value = serde_json::from_str(self.example).unwrap_or_default();
        function["parameters"] = serde_json::json!(["image"]);
        function["returns"] = "key".into();
        super::images::example(serde_json::json!({
            "function": function,
            "result": ["groupby_data", "stack", "function"],
        }))
    }

    /// Outside a function there are only constants to work on.
    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let mut values = Vec::with_capacity(args.len());
        let given = args.len() - args.iter().rev().take_while(|arg| arg.is_null()).count();
        for (arg, param) in args[..given.max(1)].iter().zip(self.params) {
            match arg {
                Arg::Literal(literal) => values.push(Ok(Value::from_literal(literal))),
                _ => return Err(arg.not(param.name, "a property of an image, inside a function")),
            }
        }
        let value = (self.call)(&Args(values.iter().collect())).and_then(Value::bounded);
        match value.and_then(|value| value.to_literal()) {
            Ok(literal) => Ok(Bound::Literal(literal)),
            Err(fault) => Err(TypeError::Constant { problem: fault.problem }),
        }
    }

    fn infer(&self, _: &[Literal], _: &[Facts]) -> Result<Facts, TypeError> {
        Err(TypeError::Unsupported { what: format!("`{}` in a plan", self.name) })
    }

    fn kernel(&self, _: &[Literal], _: &[Facts]) -> Kernel {
        Kernel::Bind
    }

    fn on_properties(&self, args: &Args<'_>) -> Result<Value, Fault> {
        (self.call)(args)
    }
}

#[cfg(test)]
mod tests;
