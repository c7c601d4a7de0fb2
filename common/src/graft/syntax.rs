//! JSON to syntax: literal, quoted JSON, application, function (protocol.md section 1).

use super::GraftError;
use crate::error::GraftPath;
use crate::limits::Limits;
use crate::literal::Literal;

/// A function body: definitions by name, one of which is its value.
#[derive(Clone, Debug)]
pub(super) struct Graft {
    pub parameters: Vec<String>,
    pub returns: String,
    pub keys: Vec<(String, Definition)>,
}

/// What stands at a key.
#[derive(Clone, Debug)]
pub(super) enum Definition {
    Literal(Literal),
    Apply(Application),
    Function(Graft),
}

/// `[function, key, …, {name: key, …}]`.
#[derive(Clone, Debug)]
pub(super) struct Application {
    pub function: String,
    pub args: Vec<String>,
    pub named: Vec<(String, String)>,
}

/// A hint that never changes a value; accepted on every application.
const CACHE_ID: &str = "cache_id";

/// Reads a graft's text.
pub(super) fn parse(bytes: &[u8], limits: &Limits) -> Result<Graft, GraftError> {
    if bytes.len() > limits.graft_bytes {
        return Err(GraftError::TooLong { bytes: bytes.len(), limit: limits.graft_bytes });
    }
    check_depth(bytes, limits.json_depth)?;
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    // Depth is bounded above; serde's own bound of 128 would refuse what the language allows.
    deserializer.disable_recursion_limit();
    let json_error = |error: serde_json::Error| GraftError::Json { reason: error.to_string() };
    let document: Literal = serde::Deserialize::deserialize(&mut deserializer).map_err(json_error)?;
    deserializer.end().map_err(json_error)?;
    let Literal::Object(members) = document else {
        let problem = format!("a graft is an object with `returns`, this is {}", document.kind_name());
        return Err(GraftError::Syntax { at: GraftPath::root(), problem });
    };
    let mut reader = Reader { limits, nodes: 0 };
    reader.function(members, GraftPath::root())
}

/// Bounds nesting before anything recurses over it.
pub(super) fn check_depth(bytes: &[u8], limit: usize) -> Result<(), GraftError> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (byte, c) in bytes.iter().enumerate() {
        match c {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > limit {
                    return Err(GraftError::TooDeep { byte, limit });
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

struct Reader<'a> {
    limits: &'a Limits,
    nodes: usize,
}

impl Reader<'_> {
    /// Recursion is bounded by `Limits::json_depth`.
    fn function(&mut self, members: Vec<(String, Literal)>, at: GraftPath) -> Result<Graft, GraftError> {
        let (mut parameters, mut returns, mut keys) = (Vec::new(), None, Vec::new());
        for (key, value) in members {
            let at = at.join(key.as_str());
            match key.as_str() {
                "returns" => match value {
                    Literal::Str(name) => returns = Some(name),
                    other => {
                        let problem =
                            format!("`returns` is the name of a key, this is {}", other.kind_name());
                        return Err(GraftError::Syntax { at, problem });
                    }
                },
                "parameters" => parameters = names(value, &at, self.limits)?,
                _ => {
                    self.count(&at)?;
                    let definition = self.definition(value, at)?;
                    keys.push((key, definition));
                }
            }
        }
        let Some(returns) = returns else {
            let problem = "a function needs `returns`, the name of the key that is its value".into();
            return Err(GraftError::Syntax { at, problem });
        };
        if let Some(name) = parameters.iter().find(|name| keys.iter().any(|(key, _)| key == *name)) {
            let problem = format!("`{name}` is both a parameter and a key");
            return Err(GraftError::Syntax { at, problem });
        }
        Ok(Graft { parameters, returns, keys })
    }

    fn count(&mut self, at: &GraftPath) -> Result<(), GraftError> {
        self.nodes += 1;
        if self.nodes > self.limits.graft_nodes {
            let what = "the graft has too many keys".into();
            return Err(GraftError::Limit { at: at.clone(), what, limit: self.limits.graft_nodes });
        }
        Ok(())
    }

    fn definition(&mut self, value: Literal, at: GraftPath) -> Result<Definition, GraftError> {
        match value {
            Literal::Object(members) => self.function(members, at).map(Definition::Function),
            Literal::List(items) => self.list(items, at),
            Literal::Str(text) if text.len() > self.limits.string_bytes => {
                let what = format!("a string of {} bytes", text.len());
                Err(GraftError::Limit { at, what, limit: self.limits.string_bytes })
            }
            literal @ (Literal::Null
            | Literal::Bool(_)
            | Literal::Int(_)
            | Literal::Float(_)
            | Literal::Str(_)) => Ok(Definition::Literal(literal)),
        }
    }

    fn list(&mut self, mut items: Vec<Literal>, at: GraftPath) -> Result<Definition, GraftError> {
        let syntax = |at: GraftPath, problem: String| Err(GraftError::Syntax { at, problem });
        if let [Literal::List(_) | Literal::Object(_)] = items[..] {
            return Ok(Definition::Literal(items.remove(0)));
        }
        let mut items = items.into_iter().enumerate();
        let function = match items.next() {
            Some((_, Literal::Str(name))) => name,
            Some((_, other)) => {
                let what = other.kind_name();
                return syntax(
                    at.join("0"),
                    format!(
                        "an application begins with the name of a function, this is {what}; quote a list as [[…]]"
                    ),
                );
            }
            None => return syntax(at, "an empty list is no expression; quote it as [[]]".into()),
        };
        let (mut args, mut named, mut ended) = (Vec::new(), Vec::new(), false);
        for (index, item) in items {
            let at = at.join(index.to_string());
            match item {
                _ if ended => return syntax(at, "named arguments come last".into()),
                Literal::Str(key) => args.push(key),
                Literal::Object(members) => {
                    ended = true;
                    for (name, key) in members {
                        let at = at.join(name.as_str());
                        match key {
                            _ if name == CACHE_ID => {}
                            Literal::Str(key) => named.push((name, key)),
                            other => {
                                let what = other.kind_name();
                                return syntax(
                                    at,
                                    format!("an argument is the name of a key, this is {what}"),
                                );
                            }
                        }
                    }
                }
                other => {
                    let what = other.kind_name();
                    return syntax(
                        at,
                        format!(
                            "an argument is the name of a key, this is {what}; give the value a key of its own"
                        ),
                    );
                }
            }
        }
        if args.len() + named.len() > self.limits.fan_in {
            let what = format!("{} arguments", args.len() + named.len());
            return Err(GraftError::Limit { at, what, limit: self.limits.fan_in });
        }
        Ok(Definition::Apply(Application { function, args, named }))
    }
}

/// The value of `parameters`: distinct names.
fn names(value: Literal, at: &GraftPath, limits: &Limits) -> Result<Vec<String>, GraftError> {
    let problem =
        || GraftError::Syntax { at: at.clone(), problem: "`parameters` is a list of distinct names".into() };
    let Literal::List(items) = value else { return Err(problem()) };
    if items.len() > limits.fan_in {
        let what = format!("a function of {} parameters", items.len());
        return Err(GraftError::Limit { at: at.clone(), what, limit: limits.fan_in });
    }
    let mut names: Vec<String> = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Literal::Str(name) if !names.contains(&name) && name != "returns" && name != "parameters" => {
                names.push(name)
            }
            _ => return Err(problem()),
        }
    }
    Ok(names)
}
