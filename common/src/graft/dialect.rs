//! The names that a graft may apply: ops by their own names, and the older spellings that the
//! published client uses. This table is the only place that knows the spellings.

use crate::callable::{self, CallableError, Place};
use crate::literal::Literal;
use crate::ops::{self, Op, reduce};

/// A builtin name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Builtin {
    /// An op under its own name.
    Op(&'static dyn Op),
    /// An older spelling: some arguments choose the op, the rest are its arguments.
    Older(Spelling),
    /// Several results by name.
    Object,
    /// A pickled callable and its arguments.
    Code,
}

/// The older spellings.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spelling {
    /// `math(name, a, b)`
    Math,
    /// `reduction(a, reducer, axis, kind, q)`
    Reduction,
    /// `functional(a, name)`
    Functional,
    /// `band_op(a, name, bands, other)`
    BandOp,
}

/// What an older spelling stands for.
pub(super) enum Meaning {
    /// The op and which of the arguments it takes, in order.
    Op(&'static dyn Op, Vec<usize>),
    /// A pickled callable; why it is refused.
    Callable(CallableError),
    /// Wrong; why.
    Wrong(String),
}

impl Spelling {
    /// Parameters, in order, for arguments given by name.
    pub(super) fn params(self) -> &'static [ops::Param] {
        use ops::{optional, required};
        match self {
            Spelling::Math => const { &[required("name"), required("a"), optional("b")] },
            Spelling::Functional => const { &[required("a"), required("name")] },
            Spelling::Reduction => {
                const { &[required("a"), required("reducer"), required("axis"), optional("kind"), optional("q")] }
            }
            Spelling::BandOp => {
                const { &[required("a"), required("name"), optional("bands"), optional("other")] }
            }
        }
    }

    /// Which argument names the op.
    fn selector(self) -> usize {
        match self {
            Spelling::Math => 0,
            Spelling::Functional | Spelling::Reduction | Spelling::BandOp => 1,
        }
    }

    /// What a call means; `literal` gives the constant at an argument, if it is one.
    pub(super) fn meaning<'a>(self, literal: impl Fn(usize) -> Option<&'a Literal>) -> Meaning {
        let is_null = |at: usize| matches!(literal(at), Some(Literal::Null));
        let selector = self.selector();
        let Some(name) = literal(selector).and_then(Literal::as_str) else {
            return Meaning::Wrong(format!("needs the name of an op as argument {selector}"));
        };
        match self {
            Spelling::Math => {
                let Some(op) = math(name) else { return Meaning::Wrong(format!("has no function `{name}`")) };
                match (op.doc().params.len(), is_null(2)) {
                    (1, true) => Meaning::Op(op, vec![1]),
                    (2, false) => Meaning::Op(op, vec![1, 2]),
                    (1, false) => {
                        Meaning::Wrong(format!("`{name}` takes one operand, the second must be null"))
                    }
                    _ => Meaning::Wrong(format!("`{name}` takes two operands, the second is null")),
                }
            }
            Spelling::Functional => match ops::math::OPS.iter().find(|op| op.name() == name) {
                Some(op) if op.doc().params.len() == 1 => Meaning::Op(*op, vec![0]),
                _ => Meaning::Wrong(format!("has no function `{name}`")),
            },
            Spelling::Reduction => {
                let known = reduce::OPS.iter().find(|op| op.name() == name);
                if let Some(op) = known {
                    return match (op.doc().params.len(), is_null(4)) {
                        (4, _) => Meaning::Op(*op, vec![0, 2, 4, 3]),
                        (_, true) => Meaning::Op(*op, vec![0, 2, 3]),
                        (_, false) => Meaning::Wrong(format!("`{name}` takes no `q`")),
                    };
                }
                match callable::decide(Place::Reducer, name) {
                    Err(error @ CallableError::Pickled { .. }) => Meaning::Callable(error),
                    _ => {
                        let names: Vec<_> = reduce::OPS.iter().map(|op| op.name()).collect();
                        Meaning::Wrong(format!("has no reducer `{name}`; there are {}", names.join(" ")))
                    }
                }
            }
            Spelling::BandOp => match name {
                "pick_bands" => Meaning::Op(&ops::bands::PickBands, vec![0, 2]),
                "rename_bands" => Meaning::Op(&ops::bands::RenameBands, vec![0, 2]),
                "concat_bands" => Meaning::Op(&ops::bands::ConcatBands, vec![0, 3]),
                _ => Meaning::Wrong(format!("has no operation `{name}`")),
            },
        }
    }
}

/// The builtin with a name.
pub(super) fn builtin(name: &str) -> Option<Builtin> {
    match name {
        "object" => Some(Builtin::Object),
        "code" => Some(Builtin::Code),
        "math" => Some(Builtin::Older(Spelling::Math)),
        "functional" => Some(Builtin::Older(Spelling::Functional)),
        "reduction" => Some(Builtin::Older(Spelling::Reduction)),
        "band_op" => Some(Builtin::Older(Spelling::BandOp)),
        _ => ops::find(name).map(Builtin::Op),
    }
}

/// The builtin name that a misspelt one is closest to.
pub(super) fn closest(name: &str) -> Option<&'static str> {
    let names = ops::FAMILIES.iter().flat_map(|family| family.iter()).map(|op| op.name());
    let all = names.chain(["object", "math", "functional", "reduction", "band_op"]);
    all.map(|known| (distance(known, name), known))
        .filter(|(distance, known)| *distance * 3 <= known.len())
        .min()
        .map(|(_, known)| known)
}

/// The op behind a name of `math`: Python's name of the method, sometimes with an underscore.
fn math(name: &str) -> Option<&'static dyn Op> {
    let name = match name {
        "_pow" => "pow",
        "_abs" => "abs",
        "_and" => "and",
        "_or" => "or",
        "pow" | "abs" | "and" | "or" => return None,
        other => other,
    };
    if matches!(name, "arctan2" | "gradient_x" | "gradient_y") {
        return ops::find(name);
    }
    let families = [ops::arith::OPS, ops::compare::OPS];
    families.into_iter().flatten().copied().find(|op| op.name() == name)
}

/// Ops that the published client calls by their own names.
const BY_NAME: &[&str] = &[
    "mosaic",
    "select_scenes",
    "stack_scenes",
    "from_image_ids",
    "filter_data",
    "filter_by_id",
    "groupby_data",
    "clip",
    "filled",
    "mask",
    "index",
    "length",
    "resolution_x",
    "resolution_y",
    "dot",
    "array",
];

/// The names that the published client gives to an older spelling.
const NAMES: &[(&str, &[&str])] = &[
    (
        "math",
        &[
            "add",
            "radd",
            "sub",
            "rsub",
            "mul",
            "rmul",
            "truediv",
            "rtruediv",
            "floordiv",
            "rfloordiv",
            "_pow",
            "rpow",
            "_abs",
            "neg",
            "eq",
            "ne",
            "gt",
            "ge",
            "lt",
            "le",
            "_and",
            "rand",
            "_or",
            "ror",
            "invert",
            "gradient_x",
            "gradient_y",
            "arctan2",
        ],
    ),
    ("functional", &["sqrt", "cos", "sin", "tan", "arccos", "arcsin", "arctan", "log", "log10"]),
    ("reduction", &["max", "min", "mean", "median", "sum", "std", "argmax", "argmin"]),
    ("band_op", &["pick_bands", "rename_bands", "concat_bands"]),
];

/// How the published client writes a call of an op: values in quotes are constants, `null` is none,
/// the rest are keys, by the names of the op's parameters. `None` for ops that it does not have.
pub(super) fn published(op: &dyn Op) -> Option<Vec<String>> {
    let params = op.doc().params;
    if BY_NAME.contains(&op.name()) {
        let keys = params.iter().map(|param| param.name.to_owned());
        return Some(std::iter::once(format!("{:?}", op.name())).chain(keys).collect());
    }
    for (older, names) in NAMES {
        let Some(Builtin::Older(spelling)) = builtin(older) else { continue };
        let (at, count) = (spelling.selector(), spelling.params().len());
        // As many arguments as it takes; what is left out is null.
        for (name, given) in names.iter().flat_map(|name| (0..=count).rev().map(move |given| (name, given))) {
            let selector = Literal::Str((*name).to_owned());
            let constant = |arg: usize| match arg {
                arg if arg == at => Some(&selector),
                arg => (arg >= given).then_some(&Literal::Null),
            };
            let Meaning::Op(found, taken) = spelling.meaning(constant) else { continue };
            if found.name() != op.name() {
                continue;
            }
            let mut call = vec![format!("{older:?}")];
            for arg in 0..given {
                call.push(match taken.iter().position(|taken| *taken == arg) {
                    _ if arg == at => format!("{name:?}"),
                    Some(param) => params[param].name.to_owned(),
                    None => "null".to_owned(),
                });
            }
            // The client gives every argument of these two.
            if matches!(spelling, Spelling::Math | Spelling::BandOp) {
                call.resize(count + 1, "null".to_owned());
            }
            return Some(call);
        }
    }
    None
}

/// Levenshtein distance, for names of a few letters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_find_their_op() {
        assert_eq!(closest("medain"), Some("median"));
        assert_eq!(closest("stack_scene"), Some("stack_scenes"));
        assert_eq!(closest("xyzzy"), None);
    }
}
