//! `object`: several results of one graft.

use super::{Arg, BindCx, Bound, Facts, Kernel, Op, OpDoc, TypeError};
use crate::literal::Literal;

/// `object({name: value, ...})`. Its first argument in an expression is the list of names; a value for
/// each follows. The planner takes it apart: it computes nothing, so it is no member of a family.
#[derive(Debug)]
pub struct Object;

impl Object {
    /// The names of the results, in the order of the graft.
    pub fn names(names: &Literal) -> Vec<String> {
        match names {
            Literal::List(names) => names.iter().filter_map(Literal::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }
}

impl Op for Object {
    fn name(&self) -> &'static str {
        "object"
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: "Several results by name, computed in one pass over the data; only as the value of a graft.",
            params: &[],
            shapes: "Values by name; each keeps its kind.",
            units: "Those of each result.",
            validity: "Each result keeps its own.",
            accuracy: "Exact.",
            source: "This engine.",
        }
    }

    fn example(&self) -> serde_json::Value {
        serde_json::json!({
            "product": "made:up",
            "bands": "a b",
            "image": ["mosaic", "product", "bands"],
            "half": 0.5,
            "bright": ["gt", "image", "half"],
            "results": ["object", { "image": "image", "bright": "bright" }],
            "returns": "results",
        })
    }

    fn bind(&self, _: &BindCx<'_>, _: &[Arg<'_>]) -> Result<Bound, TypeError> {
        Err(TypeError::Argument {
            name: "results",
            expected: "the final result of the graft",
            got: "an argument of another op",
        })
    }

    fn infer(&self, _: &[Literal], _: &[Facts]) -> Result<Facts, TypeError> {
        Err(TypeError::Unsupported { what: "`object` in a plan".into() })
    }

    fn kernel(&self, _: &[Literal], _: &[Facts]) -> Kernel {
        Kernel::Bind
    }
}
