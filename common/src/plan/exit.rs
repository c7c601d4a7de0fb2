//! Reads that a mask can make needless: what is hidden everywhere on a tile need not be looked at.
//!
//! `mask(data, mask)` shows nothing of the data where the mask is true or invalid. Where that is so for
//! a whole image, files that serve only this data are not read and count as invalid.

use super::{NodeId, NodeKind, Operand, Plan, Program, stream};
use crate::block::{DType, Kind};
use crate::ops::mask::Mask;
use crate::ops::{Facts, Op};

/// A mask inside a program, and the reads that serve only what it hides.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    /// The program.
    pub(crate) node: NodeId,
    /// The ops that compute the mask; none where it is the only input.
    pub(crate) mask: Program,
    /// Facts of the mask by itself.
    pub(crate) facts: Facts,
    /// The reads, and whether each of their images serves the image of the program alone.
    pub(crate) reads: Vec<(NodeId, bool)>,
}

/// The pass: lets tiles leave reads out. Which ones follows from the finished plan.
pub(super) fn run(mut plan: Plan) -> Plan {
    plan.exits = true;
    plan
}

/// Every mask of a plan that can spare a read.
pub(super) fn guards(plan: &Plan) -> Vec<Guard> {
    if !plan.exits {
        return Vec::new();
    }
    let mut users: Vec<Vec<NodeId>> = vec![Vec::new(); plan.nodes.len()];
    for (at, node) in plan.nodes.iter().enumerate() {
        node.inputs().into_iter().for_each(|id| users[id.index()].push(NodeId(at as u32)));
    }
    let mut guards = Vec::new();
    for (at, node) in plan.nodes.iter().enumerate() {
        let (NodeKind::Program(program), true) = (&node.kind, node.facts.kind.is_raster()) else { continue };
        for hide in 0..program.instrs.len() {
            let instr = &program.instrs[hide];
            let (true, [_, by]) = (instr.op.name() == Mask.name(), &instr.operands[..]) else { continue };
            let node = NodeId(at as u32);
            let mask = part(program, by);
            let facts = facts(plan, &mask);
            // An outline is known without reading, and tiles outside of it are never computed.
            if mask.inputs.iter().all(|id| matches!(plan.node(*id).kind, NodeKind::Outline(_))) {
                continue;
            }
            let hidden = hidden_inputs(program, hide);
            let reads = served(plan, &users, node, &hidden);
            if !reads.is_empty() {
                guards.push(Guard { node, mask, facts, reads });
            }
        }
    }
    guards
}

/// What a program computes for one operand of an instruction, as a program.
fn part(program: &Program, operand: &Operand) -> Program {
    let mut wanted = vec![false; program.instrs.len()];
    let mut inputs: Vec<usize> = Vec::new();
    let mut want = |operand: &Operand, wanted: &mut Vec<bool>| match operand {
        Operand::Instr(at) => wanted[*at] = true,
        Operand::Input(at) if !inputs.contains(at) => inputs.push(*at),
        Operand::Input(_) | Operand::Number(_) => {}
    };
    want(operand, &mut wanted);
    for at in (0..program.instrs.len()).rev() {
        if wanted[at] {
            program.instrs[at].operands.iter().for_each(|operand| want(operand, &mut wanted));
        }
    }
    let place = |of: usize| wanted[..of].iter().filter(|wanted| **wanted).count();
    let instrs = program.instrs.iter().zip(&wanted).filter(|(_, wanted)| **wanted).map(|(instr, _)| {
        let mut instr = instr.clone();
        for operand in &mut instr.operands {
            *operand = match operand {
                Operand::Instr(at) => Operand::Instr(place(*at)),
                Operand::Input(at) => {
                    Operand::Input(inputs.iter().position(|input| input == at).unwrap_or(0))
                }
                Operand::Number(literal) => Operand::Number(literal.clone()),
            };
        }
        instr
    });
    let instrs = instrs.collect();
    Program { inputs: inputs.into_iter().map(|at| program.inputs[at]).collect(), instrs }
}

/// Facts of a mask: as many bands and images as its inputs have, not as many as what it hides.
fn facts(plan: &Plan, mask: &Program) -> Facts {
    let kinds = || mask.inputs.iter().map(|id| plan.node(*id).facts.kind);
    let bands = kinds().filter_map(Kind::bands).max().unwrap_or(1);
    let kind = match kinds().filter_map(Kind::images).max() {
        // No image among several, or one that serves for all.
        Some(_) if kinds().any(|kind| kind.images() == Some(0)) => Kind::Stack { images: 0, bands },
        Some(images) => Kind::Stack { images, bands },
        None => Kind::Mosaic { bands },
    };
    Facts { kind, dtype: DType::Bool }
}

/// The inputs of a program that only the data of one of its masks needs.
fn hidden_inputs(program: &Program, hide: usize) -> Vec<NodeId> {
    let mut wanted = vec![false; program.instrs.len()];
    let mut shown = vec![false; program.inputs.len()];
    if let Some(last) = wanted.last_mut() {
        *last = true;
    }
    for at in (0..program.instrs.len()).rev() {
        if !wanted[at] {
            continue;
        }
        // Of the mask itself everything but its data.
        for operand in program.instrs[at].operands.iter().skip(usize::from(at == hide)) {
            match operand {
                Operand::Instr(from) => wanted[*from] = true,
                Operand::Input(from) => shown[*from] = true,
                Operand::Number(_) => {}
            }
        }
    }
    program.inputs.iter().zip(shown).filter(|(_, shown)| !shown).map(|(id, _)| *id).collect()
}

/// The reads below some inputs of a program that nothing else needs. What is remembered must be right
/// even where it is hidden.
fn served(plan: &Plan, users: &[Vec<NodeId>], program: NodeId, hidden: &[NodeId]) -> Vec<(NodeId, bool)> {
    let images = plan.node(program).facts.kind.images();
    // For each node below: whether each of its images serves one image of the program.
    let mut serves: Vec<Option<bool>> = vec![None; program.index()];
    let mut reads = Vec::new();
    for at in (0..program.index()).rev() {
        let (id, node) = (NodeId(at as u32), &plan.nodes[at]);
        let is_hidden = hidden.contains(&id);
        if node.cached || plan.is_root(id) || users[at].is_empty() {
            continue;
        }
        let by_user = users[at].iter().map(|user| match serves.get(user.index()) {
            Some(serves) => *serves,
            None => (*user == program && is_hidden).then_some(true),
        });
        let Some(by_user) = by_user.collect::<Option<Vec<bool>>>() else { continue };
        let is_own = images.is_some() && stream::images_of(plan, node) == images;
        let by_image = is_own && by_user.into_iter().all(|by_image| by_image);
        serves[at] = Some(by_image);
        if matches!(node.kind, NodeKind::Read(_)) {
            reads.push((id, by_image));
        }
    }
    reads
}
