//! `graticule ops`: the manual of the ops, for people, programs and `docs/ops.md`.

use std::fmt::Write as _;

use clap::Args;
use graticule_common::error::ErrorClass;
use graticule_common::graft;
use graticule_common::ops::object::Object;
use graticule_common::ops::{FAMILIES, Family, Op};
use serde_json::{Map, Value, json};

use crate::failure::{Failure, say};

/// List the ops that a graft may apply.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  graticule ops                  all of them, a line each
  graticule ops median           all about one
  graticule ops --json median    the same for programs")]
pub struct Ops {
    /// All about one op [default: a line about each]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
    /// Print the page `docs/ops.md`
    #[arg(long, conflicts_with_all = ["json", "name"])]
    markdown: bool,
}

impl Ops {
    pub fn run(self) -> Result<(), Failure> {
        let manual = manual();
        let text = match (&self.name, self.json) {
            _ if self.markdown => markdown(&manual),
            (None, true) => pretty(&json!(manual.iter().map(family_json).collect::<Vec<_>>())),
            (None, false) => table(&manual),
            (Some(name), json) => {
                let known = manual.iter().flat_map(Family::iter).find(|op| op.name() == name);
                let Some(op) = known else {
                    let message = format!("there is no op `{name}`; `graticule ops` lists them");
                    return Err(Failure::new(ErrorClass::NotFound, message));
                };
                if json { pretty(&op_json(*op)) } else { page(*op) }
            }
        };
        say!("{}", text.trim_end());
        Ok(())
    }
}

/// Every family, and what is a form of the language rather than an op.
fn manual() -> Vec<Family> {
    let several = Family {
        title: "Several results",
        summary: "One graft, several results, one pass over the data.",
        ops: &[&Object],
    };
    FAMILIES.iter().copied().chain([several]).collect()
}

/// How the op is called: names in quotes are constants, the others are keys.
fn signature(op: &dyn Op) -> String {
    if op.name() == Object.name() {
        return "[\"object\", {NAME: value, …}]".into();
    }
    let params = op.doc().params.iter();
    let params = params.map(|param| format!("{}{}", param.name, if param.optional { "?" } else { "" }));
    format!("[{}]", std::iter::once(format!("{:?}", op.name())).chain(params).collect::<Vec<_>>().join(", "))
}

/// How the published client writes it.
fn published(op: &dyn Op) -> String {
    match graft::published(op) {
        None if op.name() == Object.name() => "Has one result a graft.".into(),
        None => "Has no such op.".into(),
        Some(call) if call[0] == format!("{:?}", op.name()) => "By the same name.".into(),
        Some(call) => format!("`[{}]`", call.join(", ")),
    }
}

/// What is said of an op, in order.
fn entries(op: &dyn Op) -> [(&'static str, &'static str); 5] {
    let doc = op.doc();
    [
        ("Shapes", doc.shapes),
        ("Units", doc.units),
        ("Valid", doc.validity),
        ("Accuracy", doc.accuracy),
        ("Source", doc.source),
    ]
}

/// One line an op.
fn table(manual: &[Family]) -> String {
    let width = manual.iter().flat_map(Family::iter).map(|op| op.name().len()).max().unwrap_or(0);
    let mut text = String::new();
    for family in manual {
        _ = writeln!(text, "{}", family.title);
        for op in family.iter() {
            _ = writeln!(text, "  {:width$}  {}", op.name(), op.doc().summary);
        }
        text.push('\n');
    }
    text.push_str("`graticule ops NAME` tells all about one, docs/graft.md how a graft is written.\n");
    text
}

/// All about one op, for a terminal.
fn page(op: &dyn Op) -> String {
    let mut text = format!("{}\n\n{}\n\n", signature(op), op.doc().summary);
    for (what, said) in entries(op) {
        _ = writeln!(text, "{what:<10}{said}");
    }
    _ = writeln!(text, "{:<10}{}", "Client", published(op));
    _ = write!(text, "\nExample\n{}", graft_text(&op.example()));
    text
}

fn op_json(op: &dyn Op) -> Value {
    let doc = op.doc();
    let params = doc.params.iter().map(|param| json!({"name": param.name, "optional": param.optional}));
    json!({
        "name": op.name(),
        "version": op.version(),
        "summary": doc.summary,
        "params": params.collect::<Vec<_>>(),
        "shapes": doc.shapes,
        "units": doc.units,
        "validity": doc.validity,
        "accuracy": doc.accuracy,
        "source": doc.source,
        "published": graft::published(op),
        "example": op.example(),
    })
}

fn family_json(family: &Family) -> Value {
    let ops: Vec<Value> = family.iter().map(|op| op_json(*op)).collect();
    json!({"title": family.title, "summary": family.summary, "ops": ops})
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// A graft as people write it: a key a line, after those it needs, the result last.
fn graft_text(graft: &Value) -> String {
    let mut order = Vec::new();
    if let Some(members) = graft.as_object() {
        if let Some(result) = members.get("returns").and_then(Value::as_str) {
            visit(members, result, &mut order);
        }
        members.keys().filter(|key| *key != "returns").for_each(|key| visit(members, key, &mut order));
        order.push("returns");
    }
    let lines: Vec<String> =
        order.iter().map(|key| format!("  {}: {}", Value::from(*key), spaced(&graft[*key]))).collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

/// Puts a key behind those it needs. Recursion is as deep as an example's longest chain.
fn visit<'a>(members: &'a Map<String, Value>, key: &str, order: &mut Vec<&'a str>) {
    let Some((key, value)) = members.get_key_value(key) else { return };
    if order.contains(&key.as_str()) {
        return;
    }
    for argument in value.as_array().into_iter().flatten() {
        match argument {
            Value::String(needed) => visit(members, needed, order),
            Value::Object(named) => {
                named.values().filter_map(Value::as_str).for_each(|needed| visit(members, needed, order));
            }
            _ => {}
        }
    }
    order.push(key);
}

/// JSON on one line, with a space after commas and colons. Values nest no deeper than the ops' examples.
fn spaced(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(spaced).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let members = members
                .iter()
                .map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), spaced(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
        value => value.to_string(),
    }
}

/// A heading as a link target, as GitHub makes it.
fn anchor(title: &str) -> String {
    let kept = title.to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || "_- ".contains(*c)).collect::<String>().replace(' ', "-")
}

const HEAD: &str = "\
# The ops

Written by `make gen` from the op table; edit the ops. How a graft is written, what kinds of values there
are and how they meet, is told in [graft.md](graft.md). The test suite runs every example, on its made-up
product. A `?` marks parameters that may be left out; every op also takes, and ignores, `cache_id`. *Client*
is how the published client writes the call.

";

/// The page `docs/ops.md`.
fn markdown(manual: &[Family]) -> String {
    let mut text = HEAD.to_owned();
    for family in manual {
        let ops: Vec<String> =
            family.iter().map(|op| format!("[`{}`](#{})", op.name(), anchor(op.name()))).collect();
        _ = writeln!(text, "* [{}](#{}): {}", family.title, anchor(family.title), ops.join(" "));
    }
    for family in manual {
        _ = writeln!(text, "\n## {}\n\n{}", family.title, family.summary);
        for op in family.iter() {
            _ = writeln!(text, "\n### `{}`\n\n{}\n", op.name(), op.doc().summary);
            _ = writeln!(text, "```text\n{}\n```\n\n| | |\n|---|---|", signature(*op));
            for (what, said) in entries(*op) {
                _ = writeln!(text, "| {what} | {} |", said.replace('|', "\\|"));
            }
            _ = writeln!(text, "| Client | {} |", published(*op));
            _ = write!(text, "\n```json\n{}```\n", graft_text(&op.example()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_writes_older_spellings() {
        let published = |name| published(graticule_common::ops::find(name).unwrap());
        assert_eq!(published("pow"), r#"`["math", "_pow", a, b]`"#);
        assert_eq!(published("neg"), r#"`["math", "neg", a, null]`"#);
        assert_eq!(published("median"), r#"`["reduction", a, "median", axis, kind]`"#);
        assert_eq!(published("pick_bands"), r#"`["band_op", a, "pick_bands", bands, null]`"#);
        assert_eq!(published("mask"), "By the same name.");
    }

    #[test]
    fn the_page_names_every_op_once() {
        let page = markdown(&manual());
        for op in manual().iter().flat_map(Family::iter) {
            assert_eq!(page.matches(&format!("\n### `{}`\n", op.name())).count(), 1, "{}", op.name());
        }
        assert!(!page.lines().any(|line| line.ends_with(' ')));
    }

    #[test]
    fn examples_print_as_the_same_graft() {
        for op in manual().iter().flat_map(Family::iter) {
            let example = op.example();
            assert_eq!(serde_json::from_str::<Value>(&graft_text(&example)).unwrap(), example);
        }
    }
}
