//! What can change a pixel and is not in a plan: versions on which coordinator and workers must agree.

use crate::ENGINE_VERSION;
use crate::hash::Hasher;
use crate::ops::FAMILIES;
use crate::proto::v1 as pb;

/// Versions of this process.
pub fn own() -> pb::Versions {
    let (gdal, proj) = libraries();
    pb::Versions { engine: ENGINE_VERSION.to_owned(), ops: ops(), gdal, proj }
}

/// What differs between two, as a text that names both sides; `None` where nothing does.
pub fn difference(ours: &pb::Versions, theirs: &pb::Versions) -> Option<String> {
    let pairs = [
        ("engine", &ours.engine, &theirs.engine),
        ("ops", &ours.ops, &theirs.ops),
        ("GDAL", &ours.gdal, &theirs.gdal),
        ("PROJ", &ours.proj, &theirs.proj),
    ];
    let named = |version: &String| if version.is_empty() { "none".to_owned() } else { version.clone() };
    let differing: Vec<String> = pairs
        .into_iter()
        .filter(|(_, ours, theirs)| ours != theirs)
        .map(|(what, ours, theirs)| format!("{what} {} instead of {}", named(theirs), named(ours)))
        .collect();
    (!differing.is_empty()).then(|| differing.join(", "))
}

/// Digest of the names and versions of all ops.
fn ops() -> String {
    let mut ops: Vec<_> =
        FAMILIES.iter().flat_map(|family| family.iter()).map(|op| (op.name(), op.version())).collect();
    ops.sort_unstable();
    let mut hasher = Hasher::new("ops");
    for (name, version) in ops {
        hasher.str(name).int(i64::from(version));
    }
    hasher.finish().to_string()[..16].to_owned()
}

#[cfg(feature = "proj")]
fn libraries() -> (String, String) {
    (gdal::version::VersionInfo::release_name(), crate::transform::proj_version())
}

#[cfg(not(feature = "proj"))]
fn libraries() -> (String, String) {
    (String::new(), String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_with_both_sides() {
        let ours = own();
        assert_eq!(difference(&ours, &own()), None);
        let theirs = pb::Versions { gdal: "9.9.9".into(), proj: String::new(), ..ours.clone() };
        let text = difference(&pb::Versions { proj: "9.1.1".into(), ..ours }, &theirs).unwrap_or_default();
        assert!(
            text.contains("GDAL 9.9.9 instead of") && text.contains("PROJ none instead of 9.1.1"),
            "{text}"
        );
    }
}
