//! Results as files: which file for which result, in which form. What appears where is decided in
//! [`crate::publish`].

use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use graticule_common::block::{Block, Kind, Samples};
use graticule_common::error::ErrorClass;
use graticule_common::literal::Literal;
use graticule_common::ops::Props;
use graticule_common::proto::v1 as pb;
use graticule_coordinator::render::{self, Colormap, Style};
use graticule_worker::sink::{
    BandNote, ClassNote, Encoding, Nodata, RasterFile, SinkError, StoredType, write_geotiff,
};

use crate::arrays;
use crate::failure::Failure;
use crate::receive::{Finished, Outcome, kind_of};

/// What is written, and how.
#[derive(Args, Clone, Debug)]
pub struct OutputArgs {
    /// File to write; may be given several times. The ending says what: .tif Cloud-Optimized GeoTIFF,
    /// .png picture, .npz arrays `data` and `mask` (True = invalid), .npy one array, .json a number, a
    /// list or a small array; `-` is JSON on standard output. NAME chooses a result of a graft that returns an object
    #[arg(long, value_name = "[NAME=]FILE", help_heading = "Result")]
    pub out: Vec<Output>,
    /// File for the result's metadata, as JSON
    #[arg(long, value_name = "FILE.json", help_heading = "Result")]
    pub properties: Option<PathBuf>,
    /// Type of the values in .tif: uint8, uint16, int16, uint32, int32, float32, float64, bool
    /// [default: float32 for numbers, bool for truth values]
    #[arg(long, value_name = "TYPE", help_heading = "GeoTIFF", hide_possible_values = true)]
    pub dtype: Option<StoredType>,
    /// Stored in .tif is round((value - OFFSET) / SCALE), half to even; the file says so
    #[arg(
        long,
        value_name = "SCALE",
        default_value_t = 1.0,
        hide_default_value = true,
        help_heading = "GeoTIFF",
        allow_hyphen_values = true
    )]
    pub scale: f64,
    /// See --scale
    #[arg(
        long,
        value_name = "OFFSET",
        default_value_t = 0.0,
        hide_default_value = true,
        help_heading = "GeoTIFF",
        allow_hyphen_values = true
    )]
    pub offset: f64,
    /// What stands in .tif where a pixel is invalid, or `none` [default: NaN; of unsigned types the
    /// greatest value, of signed ones the least; of bool 255]
    #[arg(long, value_name = "VALUE", help_heading = "GeoTIFF", allow_hyphen_values = true, value_parser = nodata)]
    pub nodata: Option<Nodata>,
    /// Store the nearest value that TYPE can hold where it cannot hold a value, instead of failing; NaN
    /// becomes invalid. How many is said
    #[arg(long, help_heading = "GeoTIFF")]
    pub clamp: bool,
    /// What stands in .npy where a pixel is invalid [default: NaN for numbers; truth values need it]
    #[arg(long, value_name = "VALUE", help_heading = "Arrays", allow_hyphen_values = true)]
    pub fill: Option<f64>,
    /// Colours of a one-band picture: viridis, RdYlGn
    #[arg(long, value_name = "NAME", default_value = "viridis", help_heading = "Picture", value_parser = colormap)]
    pub colormap: Colormap,
    /// Values shown as the darkest and the brightest colour; given three times, one for each band
    /// [default: the 2nd and 98th percentile of each band]
    #[arg(long, value_name = "MIN,MAX", help_heading = "Picture", allow_hyphen_values = true, value_parser = range)]
    pub scale_range: Vec<(f32, f32)>,
}

fn colormap(name: &str) -> Result<Colormap, String> {
    Colormap::from_name(name).map_err(|error| error.to_string())
}

fn nodata(text: &str) -> Result<Nodata, String> {
    match text {
        "none" => Ok(Nodata::None),
        text => text.parse().map(Nodata::Value).map_err(|_| "a number or `none` is needed".to_owned()),
    }
}

fn range(text: &str) -> Result<(f32, f32), String> {
    let numbers = text
        .split_once(',')
        .and_then(|(low, high)| Some((low.trim().parse::<f32>().ok()?, high.trim().parse::<f32>().ok()?)));
    numbers
        .filter(|(low, high)| low.is_finite() && high.is_finite() && low < high)
        .ok_or_else(|| "two finite numbers are needed, the lower one first: MIN,MAX".to_owned())
}

/// A file to write, its kind known by its ending.
#[derive(Clone, Debug)]
pub struct Output {
    /// The result it is for; absent: the only one.
    name: Option<String>,
    path: PathBuf,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    GeoTiff,
    Png,
    Npz,
    Npy,
    Json,
    /// JSON on standard output.
    Stdout,
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, file) = match text.split_once('=') {
            // A folder's name may hold `=`, a result's name no `/`.
            Some((name, file)) if !name.is_empty() && !name.contains('/') => (Some(name.to_owned()), file),
            _ => (None, text),
        };
        let path = PathBuf::from(file);
        let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
        let format = match ending.as_deref() {
            _ if file == "-" => Format::Stdout,
            Some("tif" | "tiff") => Format::GeoTiff,
            Some("png") => Format::Png,
            Some("npz") => Format::Npz,
            Some("npy") => Format::Npy,
            Some("json") => Format::Json,
            _ => return Err("the file must end in .tif, .png, .npz, .npy or .json, or be `-`".into()),
        };
        Ok(Output { name, path, format })
    }
}

impl OutputArgs {
    /// Files that will be written, but for a report.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.out.iter().filter_map(Output::path).chain(self.properties.as_deref())
    }

    /// Whether standard output is taken by a result.
    pub fn on_stdout(&self) -> bool {
        self.out.iter().any(|out| out.format == Format::Stdout)
    }

    /// What is wrong with the options, whatever the result is.
    pub fn check(&self) -> Result<(), Failure> {
        let usage = |message: String| Err(Failure::usage(message));
        let has = |format: Format| self.out.iter().any(|out| out.format == format);
        let of_tif = self.dtype.is_some()
            || (self.scale, self.offset) != (1.0, 0.0)
            || self.nodata.is_some()
            || self.clamp;
        if of_tif && !has(Format::GeoTiff) {
            return usage(
                "--dtype, --scale, --offset, --nodata and --clamp are for a .tif; give `--out FILE.tif`"
                    .into(),
            );
        }
        if self.fill.is_some() && !has(Format::Npy) {
            return usage("--fill is for a .npy; give `--out FILE.npy`".into());
        }
        if !self.scale_range.is_empty() && !has(Format::Png) {
            return usage("--scale-range is for a .png; give `--out FILE.png`".into());
        }
        if self.out.iter().filter(|out| out.format == Format::Stdout).count() > 1 {
            return usage("only one result fits on standard output".into());
        }
        Ok(())
    }

    /// Which result each file is for, and whether it can be written as such a file: known from the
    /// header, before anything is computed.
    pub fn pair(&self, results: &[pb::Result]) -> Result<Vec<usize>, Failure> {
        self.out
            .iter()
            .map(|out| {
                let at = out.choose(results)?;
                out.check(kind_of(&results[at]).map_err(Failure::of)?, self)?;
                Ok(at)
            })
            .collect()
    }

    fn encoding(&self) -> Encoding {
        Encoding {
            dtype: self.dtype,
            scale: self.scale,
            offset: self.offset,
            nodata: self.nodata.unwrap_or_default(),
            clamp: self.clamp,
        }
    }

    fn style(&self) -> Style {
        Style { colormap: self.colormap, stretch: self.scale_range.clone(), ..Style::default() }
    }
}

fn impossible(message: String) -> Failure {
    Failure::new(ErrorClass::Impossible, message)
}

impl Output {
    /// The file; absent for standard output.
    pub fn path(&self) -> Option<&Path> {
        (self.format != Format::Stdout).then_some(&self.path)
    }

    fn choose(&self, results: &[pb::Result]) -> Result<usize, Failure> {
        let names = || graticule_common::error::listing(results.iter().map(|result| &result.name));
        match (&self.name, results) {
            (None, [_]) => Ok(0),
            (None, _) => Err(Failure::usage(format!(
                "the graft returns several results: {}; say which one `{}` is for: `--out NAME={}`",
                names(),
                self.path.display(),
                self.path.display()
            ))),
            (Some(name), [only]) if only.name.is_empty() => Err(Failure::usage(format!(
                "the graft returns one result, which has no name; write `--out {}` (a file that has a `=` in \
                 its name: `--out ./{name}={}`)",
                self.path.display(),
                self.path.display()
            ))),
            (Some(name), _) => results.iter().position(|result| result.name == *name).ok_or_else(|| {
                let message = format!("the graft returns no result `{name}`; it returns {}", names());
                Failure::new(ErrorClass::NotFound, message)
            }),
        }
    }

    /// Whether something of a kind can be written as such a file.
    fn check(&self, kind: Kind, how: &OutputArgs) -> Result<(), Failure> {
        let file = self.path.display();
        match (self.format, kind) {
            (Format::GeoTiff | Format::Png, Kind::Number | Kind::Array(_)) => Err(impossible(format!(
                "`{file}`: the result is not a raster; write it to .json, .npz or .npy"
            ))),
            (Format::Json | Format::Stdout, Kind::Mosaic { .. } | Kind::Stack { .. }) => Err(impossible(
                format!("`{file}`: a {kind} is no array, number or list; write it to .tif or .npz"),
            )),
            (Format::GeoTiff, kind) if kind.planes() == 0 => {
                Err(Failure::of(SinkError::NoBands { kind, path: file.to_string() }))
            }
            (Format::Png, kind) => render::check(kind, &how.style()).map_err(|error| {
                let failure = Failure::of(error);
                Failure { message: format!("`{file}`: {}", failure.message), ..failure }
            }),
            _ => Ok(()),
        }
    }

    /// Writes a result to `file`, which is to become this output. Gives what the user should know.
    pub fn write(&self, file: &Path, result: &Finished, how: &OutputArgs) -> Result<Option<String>, Failure> {
        let failed = |error: std::io::Error| Failure::file(&self.path, "write", error);
        match (self.format, &result.outcome) {
            (Format::GeoTiff, Outcome::Raster { grid, block, props }) => {
                let encoding = how.encoding();
                let bands = band_notes(block.kind(), props, &result.bands);
                let raster = RasterFile { grid, block, bands, encoding: &encoding };
                let clamped = write_geotiff(file, &self.path, &raster).map_err(|error| match error {
                    SinkError::Write { .. } => Failure::io(error),
                    error => Failure::of(error),
                })?;
                let note = |clamped| format!("`{}`: {clamped}", self.path.display());
                Ok((clamped.moved + clamped.nans > 0).then(|| {
                    note(format!(
                        "{} values stored as the nearest possible, {} NaN as invalid",
                        clamped.moved, clamped.nans
                    ))
                }))
            }
            (Format::Png, Outcome::Raster { block, .. }) => {
                let picture = render::png(block, &how.style()).map_err(Failure::of)?;
                std::fs::write(file, picture).map_err(failed).map(|()| None)
            }
            (Format::Npz, outcome) => arrays::write_npz(file, &self.path, outcome).map(|()| None),
            (Format::Npy, outcome) => arrays::write_npy(file, &self.path, outcome, how.fill).map(|()| None),
            (Format::Json | Format::Stdout, outcome @ (Outcome::Value { .. } | Outcome::Array { .. })) => {
                std::fs::write(file, format!("{}\n", as_json(outcome))).map_err(failed).map(|()| None)
            }
            // The header said that this cannot be.
            (Format::GeoTiff | Format::Png, Outcome::Value { .. } | Outcome::Array { .. })
            | (Format::Json | Format::Stdout, Outcome::Raster { .. }) => {
                Err(Failure::new(ErrorClass::Internal, "the result is not what the header said"))
            }
        }
    }
}

/// A result on standard output.
pub fn print(outcome: &Outcome) -> Result<(), Failure> {
    crate::failure::print_line(format_args!("{}", as_json(outcome)))
}

/// A number, a list or an array as JSON: an array as nested lists, null where it is invalid. JSON has no
/// numbers that are not finite: they are the texts `NaN`, `Infinity` and `-Infinity`.
pub fn as_json(outcome: &Outcome) -> serde_json::Value {
    fn number(value: f64) -> serde_json::Value {
        match value {
            value if value.is_finite() => value.into(),
            value if value.is_nan() => "NaN".into(),
            value if value > 0.0 => "Infinity".into(),
            _ => "-Infinity".into(),
        }
    }
    fn literal(value: &Literal) -> serde_json::Value {
        match value {
            Literal::Float(value) => number(*value),
            Literal::List(items) => items.iter().map(literal).collect(),
            value => value.to_json(),
        }
    }
    fn nested(axes: &[u32], values: &mut dyn Iterator<Item = serde_json::Value>) -> serde_json::Value {
        match axes {
            [] => values.next().unwrap_or_default(),
            [len, inner @ ..] => (0..*len).map(|_| nested(inner, values)).collect(),
        }
    }
    match outcome {
        Outcome::Value { literal: value, .. } => literal(value),
        Outcome::Array { block, .. } => {
            let axes = match block.kind() {
                Kind::Array(shape) => shape.axes().to_vec(),
                Kind::Number | Kind::Mosaic { .. } | Kind::Stack { .. } => Vec::new(),
            };
            let value = |at: usize| match block.samples() {
                _ if block.valid()[at] == 0 => serde_json::Value::Null,
                Samples::F32(values) => number(f64::from(values[at])),
                Samples::Bool(values) => (values[at] != 0).into(),
            };
            nested(&axes, &mut (0..block.valid().len()).map(value))
        }
        Outcome::Raster { .. } => serde_json::Value::Null,
    }
}

/// Writes metadata: of one result an object, or a list of objects for the images of a stack; of several
/// an object of these by name.
pub fn write_properties(file: &Path, shown: &Path, results: &[Finished]) -> Result<(), Failure> {
    let of = |result: &Finished| match &result.outcome {
        Outcome::Value { props, .. } | Outcome::Array { props, .. } | Outcome::Raster { props, .. } => {
            let mut dicts: Vec<_> = props.dicts().collect();
            if props.images().is_some() {
                serde_json::to_value(dicts)
            } else {
                serde_json::to_value(dicts.pop())
            }
        }
    };
    let properties = match results {
        [only] if only.name.is_empty() => of(only),
        results => results.iter().map(|result| Ok((result.name.clone(), of(result)?))).collect(),
    };
    let text = properties.and_then(|properties| serde_json::to_string_pretty(&properties));
    let text = text.map_err(|error| Failure::new(ErrorClass::Internal, error))?;
    let write = || writeln!(std::fs::File::create(file)?, "{text}");
    write().map_err(|error| Failure::file(shown, "write", error))
}

/// Names of a result's bands; `band 1`, … where they have none.
pub fn band_names(kind: Kind, props: &Props) -> Vec<String> {
    let bands = kind.bands().unwrap_or(0);
    let known = props.bands().filter(|names| names.len() == bands as usize);
    known.unwrap_or_else(|| (1..=bands).map(|at| format!("band {at}")).collect())
}

/// Names and meanings of the bands of a file: those of a stack image by image, named `ID:BAND`. The one
/// place that names them.
pub fn band_notes(kind: Kind, props: &Props, meanings: &[pb::BandMeaning]) -> Vec<BandNote> {
    let names = band_names(kind, props);
    let note = |at: usize, name: String| {
        let meaning = meanings.get(at).filter(|_| meanings.len() == names.len());
        let class = |class: &pb::ClassMeaning| ClassNote {
            value: class.value,
            name: class.name.clone(),
            color: class.color.map(|color| [(color >> 16) as u8, (color >> 8) as u8, color as u8]),
        };
        BandNote {
            name,
            unit: meaning.map_or_else(String::new, |meaning| meaning.unit.clone()),
            classes: meaning.map_or_else(Vec::new, |meaning| meaning.classes.iter().map(class).collect()),
        }
    };
    let Some(images) = kind.images() else {
        return names.iter().enumerate().map(|(at, name)| note(at, name.clone())).collect();
    };
    let mut dicts = props.dicts();
    (0..images)
        .flat_map(|image| {
            let id =
                dicts.next().and_then(|dict| dict.get("id").and_then(|id| id.as_str().map(str::to_owned)));
            let id = id.unwrap_or_else(|| format!("image {}", image + 1));
            let of_image = |(at, name): (usize, &String)| note(at, format!("{id}:{name}"));
            names.iter().enumerate().map(of_image).collect::<Vec<_>>()
        })
        .collect()
}

/// Values that are valid, in the order of the block.
pub fn valid_values(block: &Block) -> impl Iterator<Item = f64> {
    let value = |at: usize| match block.samples() {
        Samples::F32(values) => f64::from(values[at]),
        Samples::Bool(values) => f64::from(values[at]),
    };
    (0..block.valid().len()).filter(|at| block.valid()[*at] == 1).map(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(name: &str, bands: Option<u32>) -> pb::Result {
        pb::Result {
            name: name.into(),
            shape: bands.map(|bands| pb::Shape { images: None, bands }),
            ..pb::Result::default()
        }
    }

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        output: OutputArgs,
    }

    fn parsed(out: &[&str]) -> OutputArgs {
        let arguments = out.iter().flat_map(|out| ["--out", out]);
        <Line as clap::Parser>::try_parse_from(["x"].into_iter().chain(arguments)).unwrap().output
    }

    #[test]
    fn files_find_their_results() {
        let results = [result("a", Some(1)), result("b", None)];
        let pairs = parsed(&["b=b.json", "a=a.tif", "a=a.png"]).pair(&results).unwrap();
        assert_eq!(pairs, [1, 0, 0]);
        let code = |out: &str, results: &[pb::Result]| parsed(&[out]).pair(results).unwrap_err().code;
        assert_eq!(code("a.tif", &results), 2);
        assert_eq!(code("c=a.tif", &results), 6);
        assert_eq!(code("b=b.tif", &results), 4);
        assert_eq!(code("a=a.json", &results), 4);
        assert_eq!(code("a=a.tif", &[result("", Some(1))]), 2);
        assert_eq!(parsed(&["a.tif"]).pair(&[result("", Some(1))]).unwrap(), [0]);
        // One name is still a name.
        assert_eq!(parsed(&["a=a.tif"]).pair(&[result("a", Some(1))]).unwrap(), [0]);
    }

    #[test]
    fn arrays_are_nested_lists() {
        use graticule_common::block::ArrayShape;
        let array = |axes: &[u32], values: Vec<f32>, valid: Vec<u8>| Outcome::Array {
            block: Block::new(
                Kind::Array(ArrayShape::new(axes, true).unwrap()),
                (1, 1),
                Samples::F32(values),
                valid,
            ),
            props: Props::none(),
        };
        let inf = f32::INFINITY;
        let of = |outcome: &Outcome| as_json(outcome).to_string();
        // 0.1 in single precision, as numpy's `tolist` gives it.
        let values = vec![0.1, f32::NAN, inf, -inf, 2.0, 7.0];
        assert_eq!(
            of(&array(&[2, 3], values, vec![1, 1, 1, 1, 1, 0])),
            r#"[[0.10000000149011612,"NaN","Infinity"],["-Infinity",2.0,null]]"#
        );
        assert_eq!(of(&array(&[0, 3], vec![], vec![])), "[]");
        assert_eq!(of(&array(&[2, 0], vec![], vec![])), "[[],[]]");
        assert_eq!(of(&array(&[], vec![3.0], vec![1])), "3.0");
        let list = Literal::List(vec![Literal::Int(1), Literal::Float(f64::NAN), Literal::Str("x".into())]);
        assert_eq!(of(&Outcome::Value { literal: list, props: Props::none() }), r#"[1,"NaN","x"]"#);
    }

    #[test]
    fn an_array_is_no_picture() {
        let shape = graticule_common::block::ArrayShape::new(&[2], true).unwrap();
        let array = Block::new(Kind::Array(shape), (1, 1), Samples::F32(vec![0.0; 2]), vec![1; 2]);
        let result = pb::Result { array: Some(array.encode().into()), ..pb::Result::default() };
        for (file, code) in [("a.tif", 4), ("a.png", 4)] {
            let failure = parsed(&[file]).pair(std::slice::from_ref(&result)).unwrap_err();
            assert_eq!(failure.code, code, "{file}");
            assert!(failure.message.contains("not a raster"), "{}", failure.message);
        }
        for file in ["a.json", "a.npz", "a.npy", "-"] {
            assert_eq!(parsed(&[file]).pair(std::slice::from_ref(&result)).unwrap(), [0], "{file}");
        }
    }

    #[test]
    fn a_name_ends_at_the_first_equals_sign() {
        let path = |text: &str| text.parse::<Output>().unwrap();
        assert_eq!(path("a=b=c.tif").path, Path::new("b=c.tif"));
        assert_eq!((path("./a=b.tif").name, path("./a=b.tif").path), (None, PathBuf::from("./a=b.tif")));
        assert_eq!(path("x=-").path(), None);
        assert!("a.doc".parse::<Output>().is_err() && "a=".parse::<Output>().is_err());
    }

    #[test]
    fn bands_of_files_have_names_and_meanings() {
        let class = pb::ClassMeaning { value: 3, name: "wood".into(), color: Some(0x00_80_ff) };
        let meaning = pb::BandMeaning { unit: "K".into(), classes: vec![class] };
        let notes = band_notes(Kind::Mosaic { bands: 1 }, &Props::none(), &[meaning]);
        assert_eq!((notes[0].name.as_str(), notes[0].unit.as_str()), ("band 1", "K"));
        assert_eq!(notes[0].classes[0].color, Some([0, 0x80, 0xff]));
        let dict = |id: &str| {
            let members = [("id".to_owned(), id.into()), ("bands".to_owned(), serde_json::json!(["r", "g"]))];
            std::sync::Arc::new(members.into_iter().collect())
        };
        let props = Props::many(vec![dict("x"), dict("y")]);
        let names: Vec<String> = band_notes(Kind::Stack { images: 2, bands: 2 }, &props, &[])
            .into_iter()
            .map(|note| note.name)
            .collect();
        assert_eq!(names, ["x:r", "x:g", "y:r", "y:g"]);
    }
}
