//! Runs of value-by-value ops become one program: one pass over the pixels instead of one for each op.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Builder, Input, Instr, Node, NodeId, NodeKind, Operand, Plan, Program};
use crate::ops::{Facts, Kernel};

pub(super) fn run(plan: Plan) -> Plan {
    let groups = groups(&plan);
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); plan.nodes.len()];
    for (at, group) in groups.iter().enumerate() {
        if let Some(last) = group {
            members[*last].push(at);
        }
    }
    let mut builder = Builder::like(&plan);
    let mut moved: Vec<NodeId> = Vec::with_capacity(plan.nodes.len());
    for (at, node) in plan.nodes.iter().enumerate() {
        let is_last = groups[at] == Some(at);
        let kind = match &node.kind {
            // A node inside a group is computed by the group's last; its place is never asked for.
            _ if groups[at].is_some() && !is_last => {
                moved.push(NodeId(u32::MAX));
                continue;
            }
            NodeKind::Call { .. } if is_last => {
                NodeKind::Program(Arc::new(program(&plan, &members[at], &moved)))
            }
            kind => kind.clone().on(|id| moved[id.index()]),
        };
        moved.push(builder.add(kind, Some(node.hash)).expect("a fused plan has the same types"));
    }
    let mut roots = plan.roots;
    roots.iter_mut().for_each(|root| root.node = moved[root.node.index()]);
    builder.finish(plan.grid, roots)
}

/// For each value-by-value node, the last node of the program it goes into. A node joins the program
/// of those that use it when all of them are in one, and its kind is theirs: otherwise it would be
/// computed more than once.
fn groups(plan: &Plan) -> Vec<Option<usize>> {
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); plan.nodes.len()];
    for (at, node) in plan.nodes.iter().enumerate() {
        node.inputs().into_iter().for_each(|id| users[id.index()].push(at));
    }
    let mut groups: Vec<Option<usize>> = vec![None; plan.nodes.len()];
    for at in (0..plan.nodes.len()).rev() {
        if !is_pixelwise(plan, &plan.nodes[at]) {
            continue;
        }
        let first = users[at].first().and_then(|user| groups[*user]);
        let joins = !plan.is_root(NodeId(at as u32))
            // Remembered by an earlier stage: it is there already.
            && !plan.nodes[at].cached
            && first.is_some_and(|group| {
                users[at].iter().all(|user| groups[*user] == Some(group))
                    && plan.nodes[group].facts.kind == plan.nodes[at].facts.kind
                    // Beyond its own domain it has no pixel, whatever its ops make of that.
                    && plan.nodes[group].pad == plan.nodes[at].pad
            });
        groups[at] = if joins { first } else { Some(at) };
    }
    groups
}

fn is_pixelwise(plan: &Plan, node: &Node) -> bool {
    let NodeKind::Call { op, params, inputs } = &node.kind else { return false };
    let facts: Option<Vec<Facts>> = inputs
        .iter()
        .map(|input| match input {
            Input::Node(id) => Some(plan.node(*id).facts),
            Input::Number(literal) => Facts::number(literal),
        })
        .collect();
    facts.is_some_and(|facts| matches!(op.kernel(params, &facts), Kernel::Pixel(_)))
}

fn program(plan: &Plan, members: &[usize], moved: &[NodeId]) -> Program {
    let mut program = Program { inputs: Vec::new(), instrs: Vec::new() };
    let mut instr_of: HashMap<usize, usize> = HashMap::new();
    for at in members {
        let NodeKind::Call { op, params, inputs } = &plan.nodes[*at].kind else { continue };
        let operands = inputs
            .iter()
            .map(|input| match input {
                Input::Number(literal) => Operand::Number(literal.clone()),
                Input::Node(id) if instr_of.contains_key(&id.index()) => {
                    Operand::Instr(instr_of[&id.index()])
                }
                Input::Node(id) => {
                    let id = moved[id.index()];
                    let known = program.inputs.iter().position(|input| *input == id);
                    Operand::Input(known.unwrap_or_else(|| {
                        program.inputs.push(id);
                        program.inputs.len() - 1
                    }))
                }
            })
            .collect();
        instr_of.insert(*at, program.instrs.len());
        program.instrs.push(Instr { op: *op, params: params.clone(), operands });
    }
    program
}
