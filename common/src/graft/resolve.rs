//! Names, scopes and functions disappear here: what is left is a DAG of ops.
//!
//! An abstract machine with a stack of its own: user depth never becomes Rust recursion, and every
//! step counts against `Limits::expansion_steps`, so that a short graft cannot unfold into a huge one.

use std::collections::HashMap;

use super::dialect::{self, Builtin, Meaning, Spelling};
use super::syntax::{Application, Definition, Graft};
use super::{GraftError, Parameters};
use crate::error::GraftPath;
use crate::expr::{Expr, ExprBuilder, ExprId};
use crate::limits::Limits;
use crate::literal::Literal;
use crate::ops::object::Object;
use crate::ops::{Op, Param};

/// Resolves a whole graft. Parameters of its top level are bound by the request's.
pub(super) fn resolve(graft: Graft, parameters: &Parameters, limits: &Limits) -> Result<Expr, GraftError> {
    let mut bodies = Vec::new();
    flatten(graft, GraftPath::root(), &mut bodies);
    let mut machine = Machine {
        bodies: &bodies,
        parameters,
        limits,
        scopes: Vec::new(),
        builder: ExprBuilder::default(),
        steps: 0,
    };
    let at = GraftPath::root().join("parameters");
    let mut bound = Vec::with_capacity(bodies[0].parameters.len());
    for name in &bodies[0].parameters {
        let missing = || GraftError::MissingParameter { at: at.clone(), name: name.clone() };
        let value = parameters.get(name).ok_or_else(missing)?;
        bound.push(Value::Node(machine.builder.literal(value.clone(), &at)));
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
    Closure { body: BodyId, scope: ScopeId },
    Builtin(Builtin),
}

impl Value {
    fn sort(self) -> &'static str {
        match self {
            Value::Node(_) => "a value",
            Value::Closure { .. } | Value::Builtin(_) => "a function",
        }
    }
}

/// A body in use: its parameters bound, its keys evaluated as they are needed.
struct Scope {
    body: BodyId,
    parent: Option<ScopeId>,
    bound: Vec<Value>,
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
    /// The scope of the function whose value this key waits for, once its arguments are known.
    call: Option<ScopeId>,
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
}

impl Machine<'_> {
    fn run(&mut self, bound: Vec<Value>) -> Result<Value, GraftError> {
        self.scopes.push(Self::scope(0, None, bound));
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
                    Step::Call(scope) => {
                        let at = self.path(frame.scope, frame.key);
                        if depth >= self.limits.call_depth {
                            let what =
                                "functions apply one another too deeply; does one apply itself?".into();
                            return Err(GraftError::Limit { at, what, limit: self.limits.call_depth });
                        }
                        depth += 1;
                        let last = stack.len() - 1;
                        stack[last].call = Some(scope);
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

    fn scope(body: BodyId, parent: Option<ScopeId>, bound: Vec<Value>) -> Scope {
        Scope { body, parent, bound, memo: HashMap::new() }
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
            Def::Function(body) => Ok(Step::Done(Value::Closure { body: *body, scope: frame.scope })),
            Def::Apply(application) => {
                let at = body.path.join(name.as_str());
                if let Some(scope) = frame.call {
                    let inner = &bodies[self.scopes[scope].body];
                    return Ok(match self.look_up(scope, &inner.returns, &inner.path.join("returns"))? {
                        Found::Value(value) => Step::Done(value),
                        Found::Need { scope, key } => Step::Need { scope, key },
                    });
                }
                self.apply(frame.scope, application, at)
            }
        }
    }

    fn apply(&mut self, scope: ScopeId, call: &Application, at: GraftPath) -> Result<Step, GraftError> {
        let function = match self.look_up(scope, &call.function, &at)? {
            Found::Value(Value::Builtin(Builtin::Later)) => {
                return Err(GraftError::Unsupported { at, name: call.function.clone() });
            }
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
            Value::Closure { body, scope } => {
                let parameters = &self.bodies[body].parameters;
                let params: Vec<(&str, bool)> =
                    parameters.iter().map(|name| (name.as_str(), false)).collect();
                let bound = bind(&at, call, &call.function, &params, &values)?;
                let bound: Vec<Value> = bound.into_iter().flatten().collect();
                // What is bound is copied for every application: that counts too.
                self.steps += bound.len();
                self.scopes.push(Self::scope(body, Some(scope), bound));
                Ok(Step::Call(self.scopes.len() - 1))
            }
            Value::Builtin(Builtin::Later) => {
                Err(GraftError::Unsupported { at, name: call.function.clone() })
            }
            Value::Builtin(Builtin::Op(op)) => {
                let mut args = self.bind_builtin(&at, call, op.doc().params, &values)?;
                self.bind_dates(op, &mut args, &at);
                Ok(Step::Done(Value::Node(self.builder.call(op, args, &at))))
            }
            Value::Builtin(Builtin::Object) => {
                let args = self.object(&at, call, &values)?;
                Ok(Step::Done(Value::Node(self.builder.call(&Object, args, &at))))
            }
            Value::Builtin(Builtin::Older(spelling)) => {
                let args = self.bind_builtin(&at, call, spelling.params(), &values)?;
                let (op, args) = self.translate(&at, call, spelling, &args)?;
                Ok(Step::Done(Value::Node(self.builder.call(op, args, &at))))
            }
        }
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
        let dates = ["start_datetime", "end_datetime"];
        for (arg, param) in args.iter_mut().zip(op.doc().params) {
            let text = self.builder.as_literal(*arg).and_then(Literal::as_str);
            let value =
                text.filter(|_| dates.contains(&param.name)).and_then(|name| self.parameters.get(name));
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
            Meaning::Callable(instead) => Err(GraftError::Callable { at, instead }),
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
                    Some(Memo::Busy) => Err(GraftError::Cycle { at: at.clone(), name: name.to_owned() }),
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
    Need { scope: ScopeId, key: usize },
    Call(ScopeId),
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
