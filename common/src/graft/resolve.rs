//! Names, scopes and functions disappear here: what is left is a DAG of ops.
//!
//! An abstract machine with a stack of its own: user depth never becomes Rust recursion, and every
//! step counts against `Limits::expansion_steps`, so that a short graft cannot unfold into a huge one.

use std::collections::HashMap;

use super::dialect::{self, Builtin, Meaning, Spelling};
use super::syntax::{Application, Definition, Graft};
use super::{GraftError, Parameters};
use crate::callable::{CallableError, Place};
use crate::error::GraftPath;
use crate::expr::{Expr, ExprBuilder, ExprId, is_date};
use crate::limits::Limits;
use crate::literal::Literal;
use crate::ops::images::Reduced;
use crate::ops::object::Object;
use crate::ops::{Op, Param};

/// Resolves a whole graft. Parameters of its top level are bound by the request's.
pub(super) fn resolve(graft: Graft, parameters: &Parameters, limits: &Limits) -> Result<Expr, GraftError> {
    let bind = |builder: &mut ExprBuilder, name: &str, at: &GraftPath| {
        let missing = || GraftError::MissingParameter { at: at.clone(), name: name.to_owned() };
        let value = parameters.get(name).ok_or_else(missing)?;
        Ok(builder.literal(value.clone(), at))
    };
    run(graft, parameters, limits, bind)
}

/// Resolves a graft whose parameters have no values yet.
pub(super) fn resolve_open(graft: Graft, limits: &Limits) -> Result<Expr, GraftError> {
    let bind = |builder: &mut ExprBuilder, name: &str, at: &GraftPath| match dialect::builtin(name) {
        None => Ok(builder.open(name, at)),
        // In the normal form, calls name ops directly, which it would hide.
        Some(_) => {
            let problem = format!("the parameter `{name}` has the name of an op; give it another one");
            Err(GraftError::Syntax { at: at.clone(), problem })
        }
    };
    run(graft, &Parameters::new(), limits, bind)
}

/// Resolves a graft; `bind` knows what the parameters of its top level are.
fn run(
    graft: Graft,
    parameters: &Parameters,
    limits: &Limits,
    bind: impl Fn(&mut ExprBuilder, &str, &GraftPath) -> Result<ExprId, GraftError>,
) -> Result<Expr, GraftError> {
    let mut bodies = Vec::new();
    flatten(graft, GraftPath::root(), &mut bodies);
    let mut machine = Machine {
        bodies: &bodies,
        parameters,
        limits,
        scopes: Vec::new(),
        builder: ExprBuilder::default(),
        steps: 0,
        functions: HashMap::new(),
    };
    let at = GraftPath::root().join("parameters");
    let mut bound = Vec::with_capacity(bodies[0].parameters.len());
    for name in &bodies[0].parameters {
        bound.push(Value::Node(bind(&mut machine.builder, name, &at)?));
    }
    let at = GraftPath::root().join("returns");
    match machine.run(bound)? {
        Value::Node(root) => Ok(machine.builder.finish(root)),
        value => Err(GraftError::Sort {
            at,
            name: bodies[0].returns.clone(),
            is: value.sort(),
            expected: "a value",
        }),
    }
}

/// A function body, its nested functions taken out.
struct Body {
    parameters: Vec<String>,
    returns: String,
    keys: Vec<(String, Def)>,
    by_name: HashMap<String, usize>,
    path: GraftPath,
}

enum Def {
    Literal(Literal),
    Apply(Application),
    Function(BodyId),
}

type BodyId = usize;
type ScopeId = usize;

/// Recursion is bounded by `Limits::json_depth`, which bounded the nesting of the text.
fn flatten(graft: Graft, path: GraftPath, bodies: &mut Vec<Body>) -> BodyId {
    let id = bodies.len();
    let Graft { parameters, returns, keys } = graft;
    let by_name = keys.iter().enumerate().map(|(at, (name, _))| (name.clone(), at)).collect();
    bodies.push(Body { parameters, returns, keys: Vec::new(), by_name, path: path.clone() });
    for (name, definition) in keys {
        let def = match definition {
            Definition::Literal(literal) => Def::Literal(literal),
            Definition::Apply(application) => Def::Apply(application),
            Definition::Function(inner) => Def::Function(flatten(inner, path.join(name.as_str()), bodies)),
        };
        bodies[id].keys.push((name, def));
    }
    id
}

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
enum Value {
    Node(ExprId),
    Closure(Closure),
    Builtin(Builtin),
}

impl Value {
    fn sort(self) -> &'static str {
        match self {
            Value::Node(_) => "a value",
            Value::Closure(_) | Value::Builtin(_) => "a function",
        }
    }
}

/// A body in use: its parameters bound, its keys evaluated as they are needed.
struct Scope {
    body: BodyId,
    parent: Option<ScopeId>,
    bound: Vec<Value>,
    /// Whether it belongs to the body of a function that is an argument: its parameters have no value yet.
    is_inside: bool,
    /// The keys that were asked for: a body may have many that one application does not need.
    memo: HashMap<usize, Memo>,
}

#[derive(Clone, Copy)]
enum Memo {
    /// Being evaluated: needing it now means it depends on itself.
    Busy,
    Done(Value),
}

/// A key being evaluated.
struct Frame {
    scope: ScopeId,
    key: usize,
    /// The function whose value this key waits for, once its arguments are known.
    call: Option<Call>,
}

/// A function in use.
#[derive(Clone, Debug)]
struct Call {
    scope: ScopeId,
    then: Then,
}

/// What becomes of a function's value.
#[derive(Clone, Debug)]
enum Then {
    /// It is the key's.
    Value,
    /// It is the body of a function that is an argument of the key's op.
    Function(Closure),
    /// It is a reduction of the first of these, along the second; the third is what the graft says it is.
    Reduced([ExprId; 3]),
}

/// A function and the scope that it was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Closure {
    body: BodyId,
    scope: ScopeId,
}

/// Outcome of looking a name up.
enum Found {
    Value(Value),
    /// It must be evaluated first.
    Need {
        scope: ScopeId,
        key: usize,
    },
}

struct Machine<'a> {
    bodies: &'a [Body],
    /// The request's.
    parameters: &'a Parameters,
    limits: &'a Limits,
    scopes: Vec<Scope>,
    builder: ExprBuilder,
    steps: usize,
    /// Functions that are arguments, by what they were written as.
    functions: HashMap<Closure, ExprId>,
}

impl Machine<'_> {
    fn run(&mut self, bound: Vec<Value>) -> Result<Value, GraftError> {
        self.scopes.push(Self::scope(0, None, bound, false));
        let at = GraftPath::root().join("returns");
        let mut stack: Vec<Frame> = Vec::new();
        // Frames of the stack that wait for a function's value.
        let mut depth = 0;
        loop {
            // The value of the graft is asked for until nothing is needed any more.
            if stack.is_empty() {
                match self.look_up(0, &self.bodies[0].returns, &at)? {
                    Found::Value(value) => return Ok(value),
                    Found::Need { scope, key } => self.enter(&mut stack, scope, key)?,
                }
            }
            while let Some(frame) = stack.last() {
                self.count_step(frame)?;
                match self.step(frame)? {
                    Step::Done(value) => {
                        self.scopes[frame.scope].memo.insert(frame.key, Memo::Done(value));
                        depth -= usize::from(frame.call.is_some());
                        stack.pop();
                    }
                    Step::Need { scope, key } => self.enter(&mut stack, scope, key)?,
                    Step::Argument => {
                        depth -= 1;
                        let last = stack.len() - 1;
                        stack[last].call = None;
                    }
                    Step::Call(call) => {
                        let at = self.path(frame.scope, frame.key);
                        if depth >= self.limits.call_depth {
                            let what =
                                "functions apply one another too deeply; does one apply itself?".into();
                            return Err(GraftError::Limit { at, what, limit: self.limits.call_depth });
                        }
                        depth += 1;
                        let last = stack.len() - 1;
                        stack[last].call = Some(call);
                    }
                }
            }
        }
    }

    fn count_step(&mut self, frame: &Frame) -> Result<(), GraftError> {
        self.steps += 1;
        if self.steps > self.limits.expansion_steps {
            let what = "the graft's functions unfold into too many steps".into();
            let at = self.path(frame.scope, frame.key);
            return Err(GraftError::Limit { at, what, limit: self.limits.expansion_steps });
        }
        Ok(())
    }

    fn scope(body: BodyId, parent: Option<ScopeId>, bound: Vec<Value>, is_inside: bool) -> Scope {
        Scope { body, parent, bound, is_inside, memo: HashMap::new() }
    }

    fn path(&self, scope: ScopeId, key: usize) -> GraftPath {
        let body = &self.bodies[self.scopes[scope].body];
        body.path.join(body.keys[key].0.as_str())
    }

    fn enter(&mut self, stack: &mut Vec<Frame>, scope: ScopeId, key: usize) -> Result<(), GraftError> {
        self.scopes[scope].memo.insert(key, Memo::Busy);
        stack.push(Frame { scope, key, call: None });
        Ok(())
    }

    /// One step of a key's evaluation: its value, or what it needs first.
    fn step(&mut self, frame: &Frame) -> Result<Step, GraftError> {
        let bodies = self.bodies;
        let body = &bodies[self.scopes[frame.scope].body];
        let (name, def) = &body.keys[frame.key];
        match def {
            Def::Literal(literal) => {
                let at = body.path.join(name.as_str());
                Ok(Step::Done(Value::Node(self.builder.literal(literal.clone(), &at))))
            }
            Def::Function(body) => {
                Ok(Step::Done(Value::Closure(Closure { body: *body, scope: frame.scope })))
            }
            Def::Apply(application) => {
                let at = body.path.join(name.as_str());
                if let Some(call) = &frame.call {
                    let inner = &bodies[self.scopes[call.scope].body];
                    let returns = inner.path.join("returns");
                    return match self.look_up(call.scope, &inner.returns, &returns)? {
                        Found::Value(value) => self.returned(&call.then, value, &at, &returns),
                        Found::Need { scope, key } => Ok(Step::Need { scope, key }),
                    };
                }
                self.apply(frame.scope, application, at)
            }
        }
    }

    fn apply(&mut self, scope: ScopeId, call: &Application, at: GraftPath) -> Result<Step, GraftError> {
        let function = match self.look_up(scope, &call.function, &at)? {
            Found::Value(value) => value,
            Found::Need { scope, key } => return Ok(Step::Need { scope, key }),
        };
        let names = call.args.iter().enumerate().map(|(i, key)| (at.join((i + 1).to_string()), key));
        let last = (call.args.len() + 1).to_string();
        let named = call.named.iter().map(|(name, key)| (at.join(last.as_str()).join(name.as_str()), key));
        let mut values = Vec::with_capacity(call.args.len() + call.named.len());
        for (at, key) in names.chain(named) {
            match self.look_up(scope, key, &at)? {
                Found::Value(value) => values.push(value),
                Found::Need { scope, key } => return Ok(Step::Need { scope, key }),
            }
        }
        match function {
            Value::Node(_) => Err(GraftError::Sort {
                at,
                name: call.function.clone(),
                is: function.sort(),
                expected: "a function",
            }),
            Value::Closure(Closure { body, scope: around }) => {
                let parameters = &self.bodies[body].parameters;
                let params: Vec<(&str, bool)> =
                    parameters.iter().map(|name| (name.as_str(), false)).collect();
                let bound = bind(&at, call, &call.function, &params, &values)?;
                let bound: Vec<Value> = bound.into_iter().flatten().collect();
                // What is bound is copied for every application: that counts too.
                self.steps += bound.len();
                let is_inside = self.scopes[around].is_inside || self.scopes[scope].is_inside;
                self.scopes.push(Self::scope(body, Some(around), bound, is_inside));
                Ok(Step::Call(Call { scope: self.scopes.len() - 1, then: Then::Value }))
            }
            Value::Builtin(Builtin::Code) => {
                let error = CallableError::Pickled { place: Place::Code };
                Err(GraftError::Callable { at, error })
            }
            Value::Builtin(Builtin::Op(op)) => {
                if let Some(call) = self.function_argument(op, (scope, call), &values, &at)? {
                    return Ok(Step::Call(call));
                }
                let mut args = self.bind_builtin(&at, call, op.doc().params, &values)?;
                self.bind_dates(op, &mut args, &at);
                Ok(Step::Done(Value::Node(self.builder.call(op, args, &at))))
            }
            Value::Builtin(Builtin::Object) => {
                let args = self.object(&at, call, &values)?;
                Ok(Step::Done(Value::Node(self.builder.call(&Object, args, &at))))
            }
            Value::Builtin(Builtin::Older(spelling)) => {
                if let Some(call) = self.reducer(spelling, (scope, call), &values, &at)? {
                    return Ok(Step::Call(call));
                }
                let args = self.bind_builtin(&at, call, spelling.params(), &values)?;
                let (op, args) = self.translate(&at, call, spelling, &args)?;
                Ok(Step::Done(Value::Node(self.builder.call(op, args, &at))))
            }
        }
    }

    /// What becomes of the value of a function.
    fn returned(
        &mut self,
        then: &Then,
        value: Value,
        at: &GraftPath,
        returns: &GraftPath,
    ) -> Result<Step, GraftError> {
        if let Then::Value = then {
            return Ok(Step::Done(value));
        }
        let Value::Node(body) = value else {
            let (at, name) = (returns.clone(), "returns".into());
            return Err(GraftError::Sort { at, name, is: value.sort(), expected: "a value" });
        };
        match then {
            Then::Value => Ok(Step::Done(value)),
            Then::Function(closure) => {
                let inner = &self.bodies[closure.body];
                let function = self.builder.function(inner.parameters.len() as u32, body, &inner.path);
                self.functions.insert(*closure, function);
                Ok(Step::Argument)
            }
            Then::Reduced([array, axis, kind]) => {
                let args = vec![*array, body, *axis, *kind];
                Ok(Step::Done(Value::Node(self.builder.call(&Reduced, args, at))))
            }
        }
    }

    /// A function among the arguments of an op that takes one, if its body has not been resolved yet.
    fn function_argument(
        &mut self,
        op: &'static dyn Op,
        (scope, call): (ScopeId, &Application),
        values: &[Value],
        at: &GraftPath,
    ) -> Result<Option<Call>, GraftError> {
        let doc = op.doc();
        if !doc.params.iter().any(|param| param.takes_function) {
            return Ok(None);
        }
        let params: Vec<(&str, bool)> = doc.params.iter().map(|param| (param.name, param.optional)).collect();
        let bound = bind(at, call, &call.function, &params, values)?;
        let closure = bound.iter().zip(doc.params).find_map(|(value, param)| match value {
            Some(Value::Closure(closure)) if param.takes_function => Some((*closure, param.name)),
            _ => None,
        });
        let Some((closure, name)) = closure.filter(|(closure, _)| !self.functions.contains_key(closure))
        else {
            return Ok(None);
        };
        let inner = &self.bodies[closure.body];
        let wrong = |problem: String| GraftError::Arguments {
            at: at.clone(),
            op: call.function.clone(),
            problem,
            params: doc.params.iter().map(|param| param.name.to_owned()).collect(),
        };
        if inner.parameters.len() != 1 {
            let count = inner.parameters.len();
            return Err(wrong(format!(
                "gives the function at `{name}` one argument, the image; it has {count} parameters"
            )));
        }
        if self.scopes[scope].is_inside || self.scopes[closure.scope].is_inside {
            return Err(wrong(format!(
                "takes a function at `{name}`, but stands inside a function that is an argument itself"
            )));
        }
        let param = Value::Node(self.builder.param(0, &inner.path.join("parameters")));
        self.scopes.push(Self::scope(closure.body, Some(closure.scope), vec![param], true));
        Ok(Some(Call { scope: self.scopes.len() - 1, then: Then::Function(closure) }))
    }

    /// A reduction whose reducer is a function: it is applied to the array and the axis.
    fn reducer(
        &mut self,
        spelling: Spelling,
        (scope, call): (ScopeId, &Application),
        values: &[Value],
        at: &GraftPath,
    ) -> Result<Option<Call>, GraftError> {
        if !matches!(spelling, Spelling::Reduction) {
            return Ok(None);
        }
        let params: Vec<(&str, bool)> =
            spelling.params().iter().map(|param| (param.name, param.optional)).collect();
        let bound = bind(at, call, &call.function, &params, values)?;
        let &[Some(array), Some(Value::Closure(closure)), Some(axis), kind, ..] = &bound[..] else {
            return Ok(None);
        };
        let nodes = (array, axis, kind.unwrap_or(Value::Node(self.builder.literal(Literal::Null, at))));
        let (Value::Node(array), Value::Node(axis), Value::Node(kind)) = nodes else {
            let (name, is) = (call.function.clone(), "a function");
            return Err(GraftError::Sort { at: at.clone(), name, is, expected: "an array and an axis" });
        };
        let inner = &self.bodies[closure.body];
        if inner.parameters.len() != 2 {
            return Err(GraftError::Arguments {
                at: at.clone(),
                op: call.function.clone(),
                problem: format!(
                    "gives the reducer two arguments, the array and the axis; it has {} parameters",
                    inner.parameters.len()
                ),
                params: params.iter().map(|(name, _)| (*name).to_owned()).collect(),
            });
        }
        let is_inside = self.scopes[scope].is_inside || self.scopes[closure.scope].is_inside;
        let bound = vec![Value::Node(array), Value::Node(axis)];
        self.steps += bound.len();
        self.scopes.push(Self::scope(closure.body, Some(closure.scope), bound, is_inside));
        Ok(Some(Call { scope: self.scopes.len() - 1, then: Then::Reduced([array, axis, kind]) }))
    }

    /// Arguments of a builtin: one node a parameter, null for those left out.
    fn bind_builtin(
        &mut self,
        at: &GraftPath,
        call: &Application,
        params: &[Param],
        values: &[Value],
    ) -> Result<Vec<ExprId>, GraftError> {
        let params: Vec<(&str, bool)> = params.iter().map(|param| (param.name, param.optional)).collect();
        let bound = bind(at, call, &call.function, &params, values)?;
        let mut args = Vec::with_capacity(bound.len());
        for (value, (param, _)) in bound.into_iter().zip(params) {
            args.push(match value {
                None => self.builder.literal(Literal::Null, at),
                Some(Value::Node(id)) => id,
                Some(Value::Closure(closure)) if self.functions.contains_key(&closure) => {
                    self.functions[&closure]
                }
                Some(value) => {
                    return Err(GraftError::Sort {
                        at: at.clone(),
                        name: param.to_owned(),
                        is: value.sort(),
                        expected: "a value",
                    });
                }
            });
        }
        Ok(args)
    }

    /// Arguments of `object`: the names, then a value for each.
    fn object(
        &mut self,
        at: &GraftPath,
        call: &Application,
        values: &[Value],
    ) -> Result<Vec<ExprId>, GraftError> {
        if !call.args.is_empty() {
            return Err(GraftError::Arguments {
                at: at.clone(),
                op: call.function.clone(),
                problem: "takes its results by name, such as `[\"object\", {\"ndvi\": \"7\"}]`".into(),
                params: Vec::new(),
            });
        }
        let names = call.named.iter().map(|(name, _)| Literal::Str(name.clone())).collect();
        let mut args = vec![self.builder.literal(Literal::List(names), at)];
        for ((name, _), value) in call.named.iter().zip(values) {
            let Value::Node(id) = value else {
                let (name, is) = (name.clone(), value.sort());
                return Err(GraftError::Sort { at: at.clone(), name, is, expected: "a value" });
            };
            args.push(*id);
        }
        Ok(args)
    }

    /// Dates that name a parameter of the request take its value.
    fn bind_dates(&mut self, op: &'static dyn Op, args: &mut [ExprId], at: &GraftPath) {
        for (arg, param) in args.iter_mut().zip(op.doc().params) {
            let text = self.builder.as_literal(*arg).and_then(Literal::as_str);
            let value = text.filter(|_| is_date(param.name)).and_then(|name| self.parameters.get(name));
            if let Some(value) = value {
                *arg = self.builder.literal(value.clone(), at);
            }
        }
    }

    fn translate(
        &self,
        at: &GraftPath,
        call: &Application,
        spelling: Spelling,
        args: &[ExprId],
    ) -> Result<(&'static dyn Op, Vec<ExprId>), GraftError> {
        let at = at.clone();
        match spelling.meaning(|arg| self.builder.as_literal(args[arg])) {
            Meaning::Op(op, taken) => Ok((op, taken.into_iter().map(|arg| args[arg]).collect())),
            Meaning::Callable(error) => Err(GraftError::Callable { at, error }),
            Meaning::Wrong(problem) => Err(GraftError::Arguments {
                at,
                op: call.function.clone(),
                problem,
                params: spelling.params().iter().map(|param| param.name.to_owned()).collect(),
            }),
        }
    }

    /// Innermost body first, then outward, then builtins.
    fn look_up(&self, from: ScopeId, name: &str, at: &GraftPath) -> Result<Found, GraftError> {
        let mut next = Some(from);
        while let Some(id) = next {
            let scope = &self.scopes[id];
            let body = &self.bodies[scope.body];
            if let Some(key) = body.by_name.get(name) {
                return match scope.memo.get(key) {
                    Some(Memo::Done(value)) => Ok(Found::Value(*value)),
                    None => Ok(Found::Need { scope: id, key: *key }),
                    Some(Memo::Busy) => {
                        let hint = match dialect::builtin(name) {
                            Some(_) => "a key hides the op of its name: give the key another one",
                            None => "a graft has no cycles",
                        };
                        Err(GraftError::Cycle { at: at.clone(), name: name.to_owned(), hint })
                    }
                };
            }
            if let Some(position) = body.parameters.iter().position(|parameter| parameter == name) {
                return Ok(Found::Value(scope.bound[position]));
            }
            next = scope.parent;
        }
        match dialect::builtin(name) {
            Some(builtin) => Ok(Found::Value(Value::Builtin(builtin))),
            None => {
                let hint =
                    dialect::closest(name).map_or(String::new(), |known| format!("; is `{known}` meant?"));
                Err(GraftError::UnknownName { at: at.clone(), name: name.to_owned(), hint })
            }
        }
    }
}

enum Step {
    Done(Value),
    Need {
        scope: ScopeId,
        key: usize,
    },
    Call(Call),
    /// A function that is an argument is known: the op can be looked at again.
    Argument,
}

/// Binds positional, then named arguments: each parameter at most once, those that are not optional
/// exactly once.
fn bind(
    at: &GraftPath,
    call: &Application,
    name: &str,
    params: &[(&str, bool)],
    values: &[Value],
) -> Result<Vec<Option<Value>>, GraftError> {
    let wrong = |problem: String| GraftError::Arguments {
        at: at.clone(),
        op: name.to_owned(),
        problem,
        params: params.iter().map(|(name, _)| (*name).to_owned()).collect(),
    };
    if call.args.len() > params.len() {
        return Err(wrong(format!("takes at most {} arguments, got {}", params.len(), call.args.len())));
    }
    let (positional, named) = values.split_at(call.args.len());
    let mut bound: Vec<Option<Value>> = positional.iter().copied().map(Some).collect();
    bound.resize(params.len(), None);
    for ((name, _), value) in call.named.iter().zip(named) {
        let Some(position) = params.iter().position(|(param, _)| param == name) else {
            return Err(wrong(format!("has no parameter `{name}`")));
        };
        if bound[position].replace(*value).is_some() {
            return Err(wrong(format!("got `{name}` twice")));
        }
    }
    let missing = bound.iter().zip(params).find(|(value, (_, optional))| value.is_none() && !optional);
    match missing {
        Some((_, (name, _))) => Err(wrong(format!("needs `{name}`"))),
        None => Ok(bound),
    }
}
