//! What a registered VRT may refer to: plain image files beside or below it, and nothing else.
//!
//! GDAL opens what a VRT names with any driver it has, and raw bands read the bytes of any file; so the
//! text is searched for every name before GDAL sees it.

use std::path::{Path, PathBuf};

use super::super::ReadProblem;
use super::header;
use super::open::{check_tiles, head, is_tiff, open_local, refuse_references};
use super::settings::{listen, reason};

/// Bytes of a VRT: GDAL reads it whole.
const VRT_BYTES_MAX: u64 = 16 << 20;

/// Files that a VRT names. The header of each is read before the VRT's first pixel.
const SOURCES_MAX: u64 = 1024;

/// Elements that hold the name of a file.
const NAMES: &[&str] = &["SourceFilename", "SourceDataset"];

/// What makes a VRT more than images put beside each other: bytes of any file as pixels, code, text
/// that another parser reads, a name in an attribute.
const FORBIDDEN: &[&str] = &[
    "VRTRawRasterBand",
    "VRTDerivedRasterBand",
    "VRTProcessedDataset",
    "VRTPansharpenedDataset",
    "VRTWarpedDataset",
    "GDALWarpOptions",
    "PixelFunction",
    "OVERVIEW_FILE",
    "<Overview",
    "<OpenOptions",
    "<Group",
    "<!DOCTYPE",
    "<!ENTITY",
    "<![CDATA[",
];

/// Checks a VRT's text, and the header of each file it names.
pub(super) fn check(path: &Path) -> Result<(), ReadProblem> {
    let missing = |error: std::io::Error| ReadProblem::Missing { reason: error.to_string() };
    let found = std::fs::metadata(path).map_err(missing)?.len();
    header::limit("bytes of VRT:", found, VRT_BYTES_MAX)?;
    let text = String::from_utf8(std::fs::read(path).map_err(missing)?)
        .map_err(|_| ReadProblem::Corrupt { reason: "the VRT is not UTF-8".to_owned() })?;
    if !text.trim_start_matches('\u{feff}').trim_start().starts_with("<VRTDataset") {
        // Without a look at what else it is: the text may be a secret.
        return Err(ReadProblem::Corrupt { reason: "it is not a VRT".to_owned() });
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    for source in sources(&text, folder)? {
        check_source(&source, folder)?;
    }
    Ok(())
}

/// The files that a VRT's text names, each once.
fn sources(text: &str, folder: &Path) -> Result<Vec<PathBuf>, ReadProblem> {
    let lower = text.to_ascii_lowercase();
    if let Some(what) = FORBIDDEN.iter().find(|word| lower.contains(&word.to_ascii_lowercase())) {
        return Err(ReadProblem::Refers { what: format!("a VRT with `{}`", what.trim_start_matches('<')) });
    }
    let mut found = Vec::new();
    for name in NAMES {
        let mut rest = text;
        let mut lower = lower.as_str();
        while let Some(at) = lower.find(&format!("<{}", name.to_ascii_lowercase())) {
            (rest, lower) = (&rest[at + 1..], &lower[at + 1..]);
            let broken = || ReadProblem::Corrupt { reason: format!("the VRT has a broken `{name}`") };
            let (tag, after) = rest.split_once('>').ok_or_else(broken)?;
            let (value, _) = after.split_once('<').ok_or_else(broken)?;
            found.push(plain_path(value, tag, folder)?);
        }
    }
    found.sort();
    found.dedup();
    header::limit("files in a VRT:", found.len() as u64, SOURCES_MAX)?;
    Ok(found)
}

fn plain_path(value: &str, tag: &str, folder: &Path) -> Result<PathBuf, ReadProblem> {
    let refuse = |why: &str| Err(ReadProblem::Refers { what: format!("a VRT, and a name in it {why}") });
    if value.contains(['&', '\\', '\0', ':', '?']) || value.trim() != value || value.is_empty() {
        return refuse("is no plain path");
    }
    let path = Path::new(value);
    let relative = tag.contains("relativeToVRT=\"1\"");
    match (path.is_absolute(), relative) {
        (true, _) if value.starts_with("/vsi") => refuse("is no plain path"),
        (true, _) => Ok(path.to_owned()),
        (false, true) => Ok(folder.join(path)),
        (false, false) => refuse("is neither absolute nor marked relative to the VRT"),
    }
}

fn check_source(source: &Path, folder: &Path) -> Result<(), ReadProblem> {
    let shown = source.strip_prefix(folder).unwrap_or(source).display().to_string();
    let real = source
        .canonicalize()
        .map_err(|error| ReadProblem::Missing { reason: format!("the VRT's `{shown}`: {error}") })?;
    if !real.starts_with(folder) {
        let what = format!("a VRT, and `{shown}` in it lies outside its folder");
        return Err(ReadProblem::Refers { what });
    }
    if !head(&real).is_ok_and(|head| is_image(&head)) {
        // What it is instead stays unsaid.
        return Err(ReadProblem::Refers { what: format!("a VRT, and `{shown}` in it is no image") });
    }
    check_tiles(&real)?;
    let (dataset, messages) = listen(|| open_local(&real));
    let dataset = dataset.map_err(|error| ReadProblem::Corrupt {
        reason: format!("the VRT's `{shown}`: {}", reason(&error, &messages)),
    })?;
    refuse_references(&dataset)?;
    header::check_limits(&dataset)
}

/// Whether a file begins as one of the formats that hold their own pixels does.
fn is_image(head: &[u8]) -> bool {
    const MAGICS: [&[u8]; 4] =
        [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"];
    is_tiff(head) || MAGICS.iter().any(|magic| head.starts_with(magic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_vrt() {
        let folder = Path::new("/data/scenes");
        let vrt = |inner: &str| sources(&format!("<VRTDataset>{inner}</VRTDataset>"), folder);
        let found = vrt("<SourceFilename relativeToVRT=\"1\">b/a.tif</SourceFilename>\
             <SOURCEFILENAME>/data/scenes/c.tif</SOURCEFILENAME>\
             <SourceFilename relativeToVRT=\"1\">b/a.tif</SourceFilename>");
        let paths = ["/data/scenes/b/a.tif", "/data/scenes/c.tif"];
        assert_eq!(found.unwrap(), paths.map(PathBuf::from));
        for name in
            ["/vsicurl/http://a/b", "MEM:::DATAPOINTER=1", "a&#58;b", "http://a/b", "GTIFF_DIR:1:/a", "a.tif"]
        {
            let refused = vrt(&format!("<SourceFilename>{name}</SourceFilename>"));
            assert!(matches!(refused, Err(ReadProblem::Refers { .. })), "{name}: {refused:?}");
        }
        for inner in [
            "<VRTRasterBand subClass='vrtrawrasterband'/>",
            "<PixelFunctionCode>import os</PixelFunctionCode>",
            "<SourceFilename><![CDATA[/etc/passwd]]></SourceFilename>",
        ] {
            assert!(matches!(vrt(inner), Err(ReadProblem::Refers { .. })), "{inner}");
        }
    }
}
