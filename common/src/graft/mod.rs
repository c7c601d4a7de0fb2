//! From bytes to an expression. [`resolve`] is the only entrance.

use std::collections::BTreeMap;

use crate::callable::{self, CallableError, Place};
use crate::error::{Classify, ErrorClass, GraftPath, listing};
use crate::expr::{Expr, ExprNode};
use crate::limits::Limits;
use crate::literal::Literal;
use crate::ops::Op;

mod dialect;
mod resolve;
mod syntax;

/// Reads a graft and resolves its names. Nothing is executed, nothing outside the text is looked at.
///
/// # Errors
/// [`GraftError`]: the text is not a graft, a name or a count of arguments is wrong, or a limit is
/// exceeded.
pub fn resolve(bytes: &[u8], limits: &Limits) -> Result<Expr, GraftError> {
    resolve_with(bytes, &Parameters::new(), limits)
}

/// Values of a request's parameters, by name.
pub type Parameters = BTreeMap<String, Literal>;

/// Like [`resolve`], with values for the graft's own parameters and for dates that name a parameter.
/// They become constants of the expression: nothing after this knows of parameters, and whatever is
/// filed under the expression is filed under their values. Names that the graft does not use are no
/// error.
///
/// # Errors
/// [`GraftError`], also for a parameter of the graft that has no value.
pub fn resolve_with(bytes: &[u8], parameters: &Parameters, limits: &Limits) -> Result<Expr, GraftError> {
    resolve::resolve(syntax::parse(bytes, limits)?, parameters, limits)
}

/// Like [`resolve`], where the graft's parameters stay without values: what is kept of a graft until
/// somebody gives them.
///
/// # Errors
/// [`GraftError`].
pub fn resolve_open(bytes: &[u8], limits: &Limits) -> Result<Expr, GraftError> {
    let expr = resolve::resolve_open(syntax::parse(bytes, limits)?, limits)?;
    refuse_callables(&expr)?;
    Ok(expr)
}

/// Refuses pickled functions of images when a graft is kept, and not only when it is first computed.
fn refuse_callables(expr: &Expr) -> Result<(), GraftError> {
    for (id, node) in expr.iter() {
        let ExprNode::Call { op, args } = node else { continue };
        let place = match op.name() {
            "filter_data" => Place::Predicate,
            "groupby_data" => Place::Key,
            _ => continue,
        };
        let function = args.get(1).map(|arg| &expr.nodes()[arg.index()]);
        let Some(ExprNode::Literal(Literal::Str(text))) = function else { continue };
        if callable::is_pickle(text)
            && let Err(error) = callable::decide(place, text)
        {
            return Err(GraftError::Callable { at: expr.path(id), error });
        }
    }
    Ok(())
}

/// Bounds the nesting of JSON before anything recurses over it.
///
/// # Errors
/// [`GraftError::TooDeep`].
pub fn check_depth(bytes: &[u8], limit: usize) -> Result<(), GraftError> {
    syntax::check_depth(bytes, limit)
}

/// How the published client writes a call of an op, piece by piece: constants in quotes, `null`, and keys
/// by the names of the op's parameters. `None` for ops that it does not have.
pub fn published(op: &dyn Op) -> Option<Vec<String>> {
    dialect::published(op)
}

/// Why a text is not a graft that means something.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GraftError {
    /// The text is longer than `Limits::graft_bytes`.
    #[error("the graft has {bytes} bytes, the limit is {limit}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// `Limits::graft_bytes`.
        limit: usize,
    },
    /// Nested deeper than `Limits::json_depth`.
    #[error("the graft is nested deeper than {limit} levels, at byte {byte}")]
    TooDeep {
        /// Offset of the bracket that is one too many.
        byte: usize,
        /// `Limits::json_depth`.
        limit: usize,
    },
    /// Not JSON, or an object with a key twice.
    #[error("the graft is not JSON as it must be: {reason}")]
    Json {
        /// What the parser said, with line and column.
        reason: String,
    },
    /// JSON, but not an expression.
    #[error("{at}: {problem}")]
    Syntax {
        /// Where.
        at: GraftPath,
        /// What is wrong and what is expected.
        problem: String,
    },
    /// A key or builtin that does not exist.
    #[error("{at}: there is no key or op `{name}` here{hint}")]
    UnknownName {
        /// Where.
        at: GraftPath,
        /// The name.
        name: String,
        /// A name that may have been meant, as a sentence part.
        hint: String,
    },
    /// A definition that needs itself.
    #[error("{at}: `{name}` depends on itself; {hint}")]
    Cycle {
        /// Where.
        at: GraftPath,
        /// The key.
        name: String,
        /// The way out.
        hint: &'static str,
    },
    /// A function where a value is needed, or the other way round.
    #[error("{at}: `{name}` is {is}, {expected} is needed")]
    Sort {
        /// Where.
        at: GraftPath,
        /// The key.
        name: String,
        /// What it is.
        is: &'static str,
        /// What is needed.
        expected: &'static str,
    },
    /// Arguments that do not bind each parameter once.
    #[error("{at}: `{op}` {problem}; its parameters are ({})", listing(.params))]
    Arguments {
        /// Where.
        at: GraftPath,
        /// Op or function.
        op: String,
        /// What is wrong.
        problem: String,
        /// The parameters.
        params: Vec<String>,
    },
    /// A parameter of the graft that the request gives no value.
    #[error("{at}: the graft's parameter `{name}` has no value; give it one, such as `--param {name}=VALUE`")]
    MissingParameter {
        /// Where.
        at: GraftPath,
        /// The parameter.
        name: String,
    },
    /// Part of the language that this engine does not have yet.
    #[error("{at}: `{name}` is not supported yet")]
    Unsupported {
        /// Where.
        at: GraftPath,
        /// Op, or op and variant.
        name: String,
    },
    /// A pickled Python function.
    #[error("{at}: {error}")]
    Callable {
        /// Where.
        at: GraftPath,
        /// Why it is refused, and what to use.
        error: CallableError,
    },
    /// A named bound is exceeded.
    #[error("{at}: {what}, the limit is {limit}")]
    Limit {
        /// Where.
        at: GraftPath,
        /// What there is too much of.
        what: String,
        /// The limit.
        limit: usize,
    },
}

impl Classify for GraftError {
    fn class(&self) -> ErrorClass {
        match self {
            GraftError::Json { .. }
            | GraftError::Syntax { .. }
            | GraftError::UnknownName { .. }
            | GraftError::Cycle { .. }
            | GraftError::Sort { .. }
            | GraftError::MissingParameter { .. }
            | GraftError::Arguments { .. } => ErrorClass::InvalidRequest,
            GraftError::Unsupported { .. } => ErrorClass::Unsupported,
            GraftError::Callable { error, .. } => error.class(),
            GraftError::TooLong { .. } | GraftError::TooDeep { .. } | GraftError::Limit { .. } => {
                ErrorClass::LimitExceeded
            }
        }
    }
    fn place(&self) -> Option<&GraftPath> {
        match self {
            GraftError::Syntax { at, .. }
            | GraftError::UnknownName { at, .. }
            | GraftError::Cycle { at, .. }
            | GraftError::Sort { at, .. }
            | GraftError::Arguments { at, .. }
            | GraftError::MissingParameter { at, .. }
            | GraftError::Unsupported { at, .. }
            | GraftError::Callable { at, .. }
            | GraftError::Limit { at, .. } => Some(at),
            GraftError::TooLong { .. } | GraftError::TooDeep { .. } | GraftError::Json { .. } => None,
        }
    }
}
