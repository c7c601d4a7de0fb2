//! Random grafts over random small worlds, against the numpy oracle of `reference/`.

use graticule_tests::conform::Folder;

/// Written by `oracle/generate.py` (`make oracle-fixed`): needs no Python here.
#[test]
fn the_fixed_cases_compute_what_numpy_computes() {
    let folder = Folder::read("oracle/fixed");
    assert!(folder.cases.len() >= 300, "the cases are there");
    check(&folder);
}

/// `make fuzz-oracle` writes a folder and says which.
#[test]
#[ignore = "needs oracle cases: make fuzz-oracle"]
fn oracle_cases_of_a_folder() {
    #[expect(
        clippy::disallowed_methods,
        reason = "the folder comes from `make fuzz-oracle`, not from a setting"
    )]
    let name = std::env::var("GRATICULE_ORACLE").expect("GRATICULE_ORACLE names the folder");
    check(&Folder::read(&name));
}

fn check(folder: &Folder) {
    let (evaluations, wrong) = folder.check();
    println!("{evaluations} evaluations of {} grafts", folder.cases.len());
    assert!(wrong.is_empty(), "{} problems:\n{}", wrong.len(), wrong.join("\n"));
}
