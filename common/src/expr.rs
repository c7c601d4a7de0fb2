//! Expressions: a DAG of ops in which equal computations exist once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

use crate::error::GraftPath;
use crate::hash::{ContentHash, Hasher};
use crate::literal::Literal;
use crate::ops::object::Object;
use crate::ops::source::{FromImageIds, Mosaic, SelectScenes};
use crate::ops::{Arg, Op, TypeError};
use crate::scene::{SceneQuery, Timestamp};

/// A node of an [`Expr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExprId(u32);

impl ExprId {
    /// Position in [`Expr::nodes`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A constant or a call.
#[derive(Clone, Debug)]
pub enum ExprNode {
    /// A constant.
    Literal(Literal),
    /// An op on as many arguments as it has parameters; those left out are null.
    Call {
        /// The op.
        op: &'static dyn Op,
        /// Its arguments, in order of its parameters.
        args: Vec<ExprId>,
    },
    /// A parameter, by position, of the function around it.
    Param(u32),
    /// A function as an argument of an op. Its nodes are those of the expression that need its parameters.
    Function {
        /// How many parameters it has; their names do not matter.
        parameters: u32,
        /// Its value.
        body: ExprId,
    },
    /// A parameter of the graft, by name, that has no value yet: of what
    /// [`resolve_open`](crate::graft::resolve_open) gives alone.
    Open(String),
}

impl ExprNode {
    /// The nodes that it needs.
    pub fn inputs(&self) -> &[ExprId] {
        match self {
            ExprNode::Literal(_) | ExprNode::Param(_) | ExprNode::Open(_) => &[],
            ExprNode::Call { args, .. } => args,
            ExprNode::Function { body, .. } => std::slice::from_ref(body),
        }
    }

    fn inputs_mut(&mut self) -> &mut [ExprId] {
        match self {
            ExprNode::Literal(_) | ExprNode::Param(_) | ExprNode::Open(_) => &mut [],
            ExprNode::Call { args, .. } => args,
            ExprNode::Function { body, .. } => std::slice::from_mut(body),
        }
    }
}

/// A closed expression. Nodes stand after their arguments; every node is part of the result.
#[derive(Clone, Debug)]
pub struct Expr {
    nodes: Vec<ExprNode>,
    /// Where in the graft each node stands; several places that say the same were merged.
    paths: Vec<Vec<GraftPath>>,
    hashes: Vec<ContentHash>,
    root: ExprId,
}

impl Expr {
    /// The nodes, arguments first.
    pub fn nodes(&self) -> &[ExprNode] {
        &self.nodes
    }

    /// The nodes with their ids, arguments first.
    pub fn iter(&self) -> impl Iterator<Item = (ExprId, &ExprNode)> {
        self.nodes.iter().enumerate().map(|(at, node)| (ExprId(at as u32), node))
    }

    /// The result.
    pub fn root(&self) -> ExprId {
        self.root
    }

    /// Identity of the computation: equal for any spelling, order or naming of the same graft.
    pub fn hash(&self) -> ContentHash {
        self.hashes[self.root.index()]
    }

    /// The first place in the graft where a node stands.
    pub fn path(&self, id: ExprId) -> GraftPath {
        self.paths[id.index()].first().cloned().unwrap_or_default()
    }

    /// What must be asked of the catalog before a plan can be built, with the place of the question.
    pub fn scene_queries(&self) -> Result<Vec<(SceneQuery, GraftPath)>, (TypeError, GraftPath)> {
        let mut queries: Vec<(SceneQuery, GraftPath)> = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            let ExprNode::Call { op, args } = node else { continue };
            let query = match op.name() {
                name if name == SelectScenes.name() => SelectScenes::query,
                name if name == Mosaic.name() => Mosaic::query,
                _ => continue,
            };
            let path = self.paths[at].first().cloned().unwrap_or_default();
            let query = query(&self.constants(args)).map_err(|error| (error, path.clone()))?;
            if !queries.iter().any(|(known, _)| *known == query) {
                queries.push((query, path));
            }
        }
        Ok(queries)
    }

    /// The images that are named by their ids, each once, with the first place that names it.
    pub fn image_ids(&self) -> Result<Vec<(String, GraftPath)>, (TypeError, GraftPath)> {
        let mut known: Vec<(String, GraftPath)> = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            let ExprNode::Call { op, args } = node else { continue };
            if op.name() != FromImageIds.name() {
                continue;
            }
            let path = self.paths[at].first().cloned().unwrap_or_default();
            let ids = FromImageIds::ids(&self.constants(args)).map_err(|error| (error, path.clone()))?;
            known.extend(ids.into_iter().map(|id| (id, path.clone())));
        }
        let mut seen = HashSet::new();
        known.retain(|(id, _)| seen.insert(id.clone()));
        Ok(known)
    }

    /// Arguments of a call as a type rule sees them, what is computed being null.
    fn constants(&self, args: &[ExprId]) -> Vec<Arg<'_>> {
        let constant = |arg: &ExprId| match &self.nodes[arg.index()] {
            ExprNode::Literal(literal) => Arg::Literal(literal),
            ExprNode::Call { .. } | ExprNode::Param(_) | ExprNode::Function { .. } | ExprNode::Open(_) => {
                Arg::Literal(&Literal::Null)
            }
        };
        args.iter().map(constant).collect()
    }

    /// Which nodes stand inside a function: those that need its parameters.
    pub fn inside_functions(&self) -> Vec<bool> {
        let mut inside: Vec<bool> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            inside.push(match node {
                ExprNode::Param(_) => true,
                ExprNode::Call { args, .. } => args.iter().any(|arg| inside[arg.index()]),
                ExprNode::Literal(_) | ExprNode::Function { .. } | ExprNode::Open(_) => false,
            });
        }
        inside
    }

    /// The nodes of a function in order, and those of the expression around it that they use; `inside` is
    /// [`inside_functions`](Self::inside_functions).
    pub fn body(&self, function: ExprId, inside: &[bool]) -> (Vec<ExprId>, Vec<ExprId>) {
        let mut seen = HashSet::new();
        let mut stack = self.nodes[function.index()].inputs().to_vec();
        let (mut own, mut outer) = (Vec::new(), Vec::new());
        while let Some(id) = stack.pop() {
            if !seen.insert(id) {
                continue;
            }
            if inside[id.index()] {
                own.push(id);
                stack.extend_from_slice(self.nodes[id.index()].inputs());
            } else {
                outer.push(id);
            }
        }
        own.sort_unstable();
        outer.sort_unstable();
        (own, outer)
    }

    /// Names of the parameters that a request gives values: the graft's own, and those that stand where a
    /// date is expected and are none. By name, each once.
    pub fn parameters(&self) -> Vec<String> {
        let mut names = BTreeSet::new();
        for node in &self.nodes {
            match node {
                ExprNode::Open(name) => _ = names.insert(name.clone()),
                ExprNode::Call { op, args } => {
                    let dates = op.doc().params.iter().zip(args).filter(|(param, _)| is_date(param.name));
                    for (_, arg) in dates {
                        if let ExprNode::Literal(Literal::Str(text)) = &self.nodes[arg.index()]
                            && Timestamp::parse(text).is_none()
                        {
                            names.insert(text.clone());
                        }
                    }
                }
                ExprNode::Literal(_) | ExprNode::Param(_) | ExprNode::Function { .. } => {}
            }
        }
        names.into_iter().collect()
    }

    /// Products that the expression names.
    pub fn products(&self) -> Vec<String> {
        let queries = self.scene_queries().unwrap_or_default();
        let names: BTreeSet<String> = queries.into_iter().map(|(query, _)| query.product).collect();
        names.into_iter().collect()
    }

    /// The expression as a graft that means the same, in normal form: whatever the keys of the graft it
    /// came from were, and in whatever order they stood. Calls name ops directly.
    pub fn to_graft(&self) -> serde_json::Value {
        let mut graft = serde_json::Map::new();
        let inside = self.inside_functions();
        let keys = self.keys();
        for (id, node) in self.iter().filter(|(id, _)| !inside[id.index()]) {
            let value = match node {
                ExprNode::Function { parameters, body } => {
                    let (own, _) = self.body(id, &inside);
                    let own = own.iter().filter(|id| !matches!(self.nodes[id.index()], ExprNode::Param(_)));
                    let mut function: serde_json::Map<_, _> =
                        own.map(|id| (keys.of(*id), self.definition(*id, &keys))).collect();
                    let names: Vec<String> =
                        (0..*parameters).map(|position| keys.parameter(position)).collect();
                    function.insert("parameters".into(), names.into());
                    function.insert("returns".into(), keys.of(*body).into());
                    function.into()
                }
                ExprNode::Open(_) => continue,
                _ => self.definition(id, &keys),
            };
            graft.insert(keys.of(id), value);
        }
        let open: BTreeSet<&str> = self.open().collect();
        if !open.is_empty() {
            let open: Vec<&str> = open.into_iter().collect();
            graft.insert("parameters".into(), open.into());
        }
        graft.insert("returns".into(), keys.of(self.root).into());
        graft.into()
    }

    /// Names of the parameters without values.
    fn open(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter_map(|node| match node {
            ExprNode::Open(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The keys of a graft in normal form: nodes are counted arguments first, in the order of arguments.
    fn keys(&self) -> Keys<'_> {
        let mut numbers = vec![None; self.nodes.len()];
        let mut count = 0u32;
        // With how many of a node's inputs have been looked at.
        let mut stack = vec![(self.root, 0usize)];
        while let Some((id, looked)) = stack.pop() {
            if numbers[id.index()].is_some() {
                continue;
            }
            match self.nodes[id.index()].inputs().get(looked) {
                Some(input) => {
                    stack.push((id, looked + 1));
                    stack.push((*input, 0));
                }
                None => {
                    numbers[id.index()] = Some(count);
                    count += 1;
                }
            }
        }
        let numbers = numbers.into_iter().map(Option::unwrap_or_default).collect();
        // A parameter keeps its name, so keys give way.
        let is_taken = |prefix: &str| {
            self.open().any(|name| {
                let rest = name.strip_prefix(prefix);
                rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
            })
        };
        let free = |first: &str| {
            let mut prefix = first.to_owned();
            while is_taken(&prefix) {
                prefix.push('_');
            }
            prefix
        };
        Keys { expr: self, numbers, key: free(""), parameter: free("p") }
    }

    /// What stands at the key of a constant or a call.
    fn definition(&self, id: ExprId, keys: &Keys<'_>) -> serde_json::Value {
        match &self.nodes[id.index()] {
            ExprNode::Literal(literal @ (Literal::List(_) | Literal::Object(_))) => {
                serde_json::Value::Array(vec![literal.to_json()])
            }
            ExprNode::Literal(literal) => literal.to_json(),
            ExprNode::Call { op, args } if op.name() == Object.name() => {
                let names = match args.first().map(|names| &self.nodes[names.index()]) {
                    Some(ExprNode::Literal(names)) => Object::names(names),
                    _ => Vec::new(),
                };
                let values = args.iter().skip(1).map(|arg| serde_json::Value::from(keys.of(*arg)));
                let results: serde_json::Map<_, _> = names.into_iter().zip(values).collect();
                serde_json::json!([op.name(), results])
            }
            ExprNode::Call { op, args } => {
                let args = args.iter().map(|arg| keys.of(*arg));
                std::iter::once(op.name().to_owned()).chain(args).collect::<Vec<_>>().into()
            }
            ExprNode::Param(_) | ExprNode::Function { .. } | ExprNode::Open(_) => serde_json::Value::Null,
        }
    }
}

/// Names of nodes in a graft.
struct Keys<'a> {
    expr: &'a Expr,
    numbers: Vec<u32>,
    /// What keys begin with.
    key: String,
    /// What names of functions' parameters begin with.
    parameter: String,
}

impl Keys<'_> {
    fn of(&self, id: ExprId) -> String {
        match &self.expr.nodes[id.index()] {
            ExprNode::Param(position) => self.parameter(*position),
            ExprNode::Open(name) => name.clone(),
            _ => format!("{}{}", self.key, self.numbers[id.index()]),
        }
    }

    fn parameter(&self, position: u32) -> String {
        format!("{}{position}", self.parameter)
    }
}

/// Whether a parameter of an op is a date, which a request may give by name.
pub(crate) fn is_date(parameter: &str) -> bool {
    matches!(parameter, "start_datetime" | "end_datetime")
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_graft())
    }
}

/// Builds expressions. Asking for an equal node again returns the one there is.
#[derive(Debug, Default)]
pub struct ExprBuilder {
    nodes: Vec<ExprNode>,
    paths: Vec<Vec<GraftPath>>,
    hashes: Vec<ContentHash>,
    known: HashMap<ContentHash, ExprId>,
}

/// Places kept for one node: enough for messages, however often it was merged.
const PATHS_MAX: usize = 4;

impl ExprBuilder {
    /// A constant.
    pub fn literal(&mut self, literal: Literal, path: &GraftPath) -> ExprId {
        let mut hasher = Hasher::new("literal");
        literal.hash_into(&mut hasher);
        self.intern(hasher.finish(), path, || ExprNode::Literal(literal))
    }

    /// A call with one argument for each parameter of the op.
    pub fn call(&mut self, op: &'static dyn Op, args: Vec<ExprId>, path: &GraftPath) -> ExprId {
        let mut hasher = Hasher::new("call");
        hasher.str(op.name()).int(op.version().into()).int(args.len() as i64);
        for arg in &args {
            hasher.hash(self.hashes[arg.index()]);
        }
        self.intern(hasher.finish(), path, || ExprNode::Call { op, args })
    }

    /// The constant at a node, if it is one.
    pub fn as_literal(&self, id: ExprId) -> Option<&Literal> {
        match &self.nodes[id.index()] {
            ExprNode::Literal(literal) => Some(literal),
            _ => None,
        }
    }

    /// A parameter of the graft that has no value yet.
    pub fn open(&mut self, name: &str, path: &GraftPath) -> ExprId {
        let mut hasher = Hasher::new("open");
        hasher.str(name);
        self.intern(hasher.finish(), path, || ExprNode::Open(name.to_owned()))
    }

    /// A parameter of the function that is being built.
    pub fn param(&mut self, position: u32, path: &GraftPath) -> ExprId {
        let mut hasher = Hasher::new("param");
        hasher.int(position.into());
        self.intern(hasher.finish(), path, || ExprNode::Param(position))
    }

    /// A function whose value is `body`.
    pub fn function(&mut self, parameters: u32, body: ExprId, path: &GraftPath) -> ExprId {
        let mut hasher = Hasher::new("function");
        hasher.int(parameters.into()).hash(self.hashes[body.index()]);
        self.intern(hasher.finish(), path, || ExprNode::Function { parameters, body })
    }

    fn intern(&mut self, hash: ContentHash, path: &GraftPath, node: impl FnOnce() -> ExprNode) -> ExprId {
        if let Some(id) = self.known.get(&hash) {
            let paths = &mut self.paths[id.index()];
            if paths.len() < PATHS_MAX && !paths.contains(path) {
                paths.push(path.clone());
            }
            return *id;
        }
        let id = ExprId(self.nodes.len() as u32);
        self.nodes.push(node());
        self.paths.push(vec![path.clone()]);
        self.hashes.push(hash);
        self.known.insert(hash, id);
        id
    }

    /// The expression whose result is `root`; nodes it does not need are gone.
    pub fn finish(self, root: ExprId) -> Expr {
        let mut needed = vec![false; self.nodes.len()];
        needed[root.index()] = true;
        for at in (0..self.nodes.len()).rev() {
            if needed[at] {
                self.nodes[at].inputs().iter().for_each(|arg| needed[arg.index()] = true);
            }
        }
        let mut renumbered = vec![ExprId(0); self.nodes.len()];
        let (mut nodes, mut paths, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
        let parts = self.nodes.into_iter().zip(self.paths).zip(self.hashes).zip(needed).enumerate();
        for (at, (((mut node, node_paths), hash), needed)) in parts {
            if !needed {
                continue;
            }
            node.inputs_mut().iter_mut().for_each(|arg| *arg = renumbered[arg.index()]);
            renumbered[at] = ExprId(nodes.len() as u32);
            nodes.push(node);
            paths.push(node_paths);
            hashes.push(hash);
        }
        Expr { nodes, paths, hashes, root: renumbered[root.index()] }
    }
}
