//! Did planning change, visibly? Each `plans/NAME.graft.json` has its plan as text beside it, without
//! and with passes. `make bless` rewrites the texts; the diff is what gets reviewed.

use graticule_common::block::Block;
use graticule_common::plan::{Options, Outcome, PASSES, Plan, explain};
use graticule_common::wire;
use graticule_tests::world::{World, folder};

#[test]
fn plans_are_as_they_were_reviewed() {
    #[expect(clippy::disallowed_methods, reason = "blessing is asked for by `make bless`, not by a setting")]
    let bless = std::env::var_os("GRATICULE_BLESS").is_some();
    let world = World::load();
    let mut names: Vec<_> = std::fs::read_dir(folder("golden/plans"))
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with(".graft.json"))
        .collect();
    names.sort();
    assert!(names.len() >= 6, "the grafts are there");
    for path in names {
        let graft = std::fs::read(&path).expect("a graft");
        let (without, plain) = plan(&world, &graft, PASSES.iter().map(|pass| pass.name.to_owned()).collect());
        let (with, passed) = plan(&world, &graft, Vec::new());
        assert_eq!(passed.encode(), plain.encode(), "{}: passes changed pixels", path.display());
        let text = format!("without passes\n{without}\nwith passes\n{with}");
        let golden = path.to_string_lossy().replace(".graft.json", ".plan.txt");
        if bless {
            std::fs::write(&golden, &text).expect("blessed");
        }
        let reviewed = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(text, reviewed, "{golden} differs; `make bless` if that is meant");
    }
}

fn plan(world: &World, graft: &[u8], passes_off: Vec<String>) -> (String, Block) {
    let options = Options { passes_off, ..Options::default() };
    let outcome = world.plan(graft, None, &options).expect("a plan");
    let text = explain::outcome(&outcome).0;
    match &outcome {
        Outcome::Staged(staged) => staged.plans().iter().chain(staged.last().plan()).for_each(check_sent),
        outcome => outcome.plan().into_iter().for_each(check_sent),
    }
    match world.settle(outcome) {
        Outcome::Raster { plan, .. } => (text, world.evaluate(&plan)),
        Outcome::Array { array, .. } => (text, array),
        other => panic!("neither pixels nor an array: {other:?}"),
    }
}

fn check_sent(plan: &Plan) {
    let sent = wire::plan_from(&wire::plan_to(plan)).expect("a plan arrives");
    assert_eq!(explain::text(&sent), explain::text(plan), "sending changed the plan");
    assert_eq!((sent.roots(), sent.tile_peak_bytes()), (plan.roots(), plan.tile_peak_bytes()));
}
