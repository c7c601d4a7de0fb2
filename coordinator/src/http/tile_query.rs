//! How a tile is asked for: every parameter of its address as a value, or what is wrong with it.
//!
//! Parameters that say nothing about pixels (`python_version`, `param_id`, `log_level`, `session_id`, …) are
//! left alone, as is every other that is not known: the published client sends some.

use std::collections::BTreeMap;
use std::sync::Arc;

use graticule_common::graft::Parameters;
use graticule_common::hash::{ContentHash, Hasher};
use graticule_common::literal::Literal;
use serde_json::Value;

use super::body::object;
use super::error::HttpError;
use crate::render::{CLASSES_MAX, Class, Classes, Colormap, Colours, Matches, TileStyle};

/// Most ranges of values: a picture has three bands, and an alpha at most.
pub(super) const SCALES_MAX: usize = 4;

/// Pixels along a tile.
pub(super) const SIZE: u32 = 256;
/// Pixels along a tile of twice the resolution.
pub(super) const SIZE_2X: u32 = 512;

/// The parameters that mean something here.
const KNOWN: &[&str] = &[
    "scales",
    "stretch",
    "colormap",
    "checkerboard",
    "classes",
    "val_range",
    "alpha",
    "parameters",
    "quality",
    "size",
    "nocache",
];

/// A range of values, from the first colour to the last.
pub(crate) type Range = (f64, f64);

/// Where the ranges of bands come from that have none of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Auto {
    /// From the tile alone.
    #[default]
    Tile,
    /// From the layer, the same for all of its tiles.
    Layer,
}

/// How pixels are shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Look {
    /// For each band its range; `None` and those that are missing: as `auto` says.
    pub(crate) scales: Vec<Option<Range>>,
    /// What stands in for missing ranges.
    pub(crate) auto: Auto,
    /// Colours of one band.
    pub(crate) colours: Colours,
    /// Whether a checkerboard is seen where there is no value.
    pub(crate) checkerboard: bool,
}

/// Everything that an address says beside which tile of which layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TileQuery {
    /// How pixels are shown.
    pub(crate) look: Look,
    /// Id of the layer that is the opacity.
    pub(crate) alpha: Option<String>,
    /// Values of the graft's parameters.
    pub(crate) parameters: Parameters,
    /// Whether overviews may be read; absent: as the format is used.
    pub(crate) is_display: Option<bool>,
    /// Pixels along the tile; absent: as the address says.
    pub(crate) size: Option<u32>,
    /// Whether nothing remembered is used.
    pub(crate) no_cache: bool,
    /// The parameters that count, as they came.
    said: BTreeMap<String, String>,
}

impl Look {
    /// The style where the layer's own ranges are known, or not asked for.
    pub(crate) fn style(&self, of_layer: &[Range]) -> TileStyle {
        let bands = self.scales.len().max(of_layer.len());
        let range =
            |band: usize| self.scales.get(band).copied().flatten().or_else(|| of_layer.get(band).copied());
        TileStyle {
            stretch: (0..bands).map(range).collect(),
            colours: self.colours.clone(),
            checkerboard: self.checkerboard,
        }
    }

    /// Whether the layer's own ranges are needed to show so many bands.
    pub(crate) fn needs_layer(&self) -> bool {
        self.auto == Auto::Layer && matches!(self.colours, Colours::Map(_))
    }

    /// A look from members of a JSON object, spelled as the parameters of an address or as JSON.
    ///
    /// # Errors
    /// What is wrong with the first of them, at its place below `/style`.
    pub(crate) fn from_members(members: &[(String, Literal)]) -> Result<Look, HttpError> {
        let text = |value: &Literal| match value {
            Literal::Str(text) => text.clone(),
            other => other.to_json().to_string(),
        };
        let given = members.iter().filter(|(_, value)| *value != Literal::Null);
        let said: BTreeMap<String, String> = given.map(|(name, value)| (name.clone(), text(value))).collect();
        let look = look(&said).map_err(|error| error.at("/style"))?;
        if look.auto == Auto::Layer {
            let message = "a picture of an area has no other tiles; give `scales`, or leave `stretch` out";
            return Err(HttpError::invalid(message).at("/style/stretch"));
        }
        Ok(look)
    }
}

impl TileQuery {
    /// Reads what stands behind the `?`.
    ///
    /// # Errors
    /// What is wrong with the first parameter that is, and what to send instead.
    pub(crate) fn parse(query: &str) -> Result<TileQuery, HttpError> {
        let mut said = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if KNOWN.contains(&&*name) && said.insert(name.to_string(), value.to_string()).is_some() {
                return Err(HttpError::invalid(format!("`{name}` is given twice; give it once")));
            }
        }
        let get = |name: &str| said.get(name).map(String::as_str);
        let parsed = TileQuery {
            look: look(&said)?,
            alpha: get("alpha").map(str::to_owned),
            parameters: get("parameters").map(parameters).transpose()?.unwrap_or_default(),
            is_display: match get("quality") {
                None => None,
                Some("display") => Some(true),
                Some("exact") => Some(false),
                Some(other) => return Err(wrong("quality", "`display` or `exact`", other)),
            },
            size: match get("size") {
                None => None,
                Some("256") => Some(SIZE),
                Some("512") => Some(SIZE_2X),
                Some(other) => return Err(wrong("size", "`256` or `512`", other)),
            },
            no_cache: get("nocache").map(|text| truth("nocache", text)).transpose()?.unwrap_or(false),
            said,
        };
        Ok(parsed)
    }

    /// The parameters that count, as the address of another tile has them.
    pub(crate) fn to_text(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.said).finish()
    }

    /// The same without a size of its own.
    pub(crate) fn without_size(mut self) -> TileQuery {
        self.said.remove("size");
        TileQuery { size: None, ..self }
    }

    /// What the parameters that count hash to.
    pub(crate) fn hash(&self) -> ContentHash {
        let mut hasher = Hasher::new("tile query");
        self.said.iter().for_each(|(name, value)| _ = hasher.str(name).str(value));
        hasher.finish()
    }
}

fn look(said: &BTreeMap<String, String>) -> Result<Look, HttpError> {
    let get = |name: &str| said.get(name).map(String::as_str);
    let mut scales = get("scales").map(scales).transpose()?.unwrap_or_default();
    let auto = match get("stretch") {
        None | Some("tile") => Auto::Tile,
        Some("layer") => Auto::Layer,
        Some(ranges) => {
            if scales.iter().any(Option::is_some) {
                let message = "`scales` and the ranges of `stretch` say the same; give one of them";
                return Err(HttpError::invalid(message));
            }
            scales = stretch(ranges)?;
            Auto::Tile
        }
    };
    let colormap = get("colormap").map(Colormap::from_name).transpose()?;
    let is_ranges = get("val_range").map(|text| truth("val_range", text)).transpose()?.unwrap_or(false);
    let classes = get("classes").map(|text| classes(text, is_ranges)).transpose()?.flatten();
    let colours = match classes {
        Some(classes) => Colours::Classes(Arc::new(classes)),
        None => Colours::Map(colormap.unwrap_or_default()),
    };
    let checkerboard = get("checkerboard").map(|text| truth("checkerboard", text)).transpose()?;
    Ok(Look { scales, auto, colours, checkerboard: checkerboard.unwrap_or(false) })
}

/// Characters of a wrong value that a message repeats.
const REPEATED_MAX: usize = 60;

fn wrong(name: &str, expected: &str, got: &str) -> HttpError {
    let mut shown: String = got.chars().take(REPEATED_MAX).collect();
    if shown.len() < got.len() {
        shown.push('…');
    }
    HttpError::invalid(format!("`{name}` must be {expected}, not `{shown}`"))
}

fn truth(name: &str, text: &str) -> Result<bool, HttpError> {
    match text {
        "True" | "true" | "1" => Ok(true),
        // A widget of the published client that was never set says `None`; its JSON says `null`.
        "False" | "false" | "0" | "None" | "null" => Ok(false),
        other => Err(wrong(name, "`True` or `False`", other)),
    }
}

fn json(name: &str, expected: &str, text: &str) -> Result<Value, HttpError> {
    serde_json::from_str(text).map_err(|_| wrong(name, expected, text))
}

fn scales(text: &str) -> Result<Vec<Option<Range>>, HttpError> {
    const EXPECTED: &str = "a JSON list of ranges of finite numbers, one for each band, such as `[[0, 0.4], [0, 0.4], [0, 0.4]]`";
    let wrong = || wrong("scales", EXPECTED, text);
    let list = match json("scales", EXPECTED, text)? {
        Value::Null => return Ok(Vec::new()),
        Value::Array(list) => list,
        _ => return Err(wrong()),
    };
    at_most_scales(list.len())?;
    let range = |value: &Value| match value {
        Value::Null => Ok(None),
        Value::Array(ends) => match &ends[..] {
            // The client sends half a range while its user types the other half.
            [Value::Null, Value::Null | Value::Number(_)] | [Value::Number(_), Value::Null] => Ok(None),
            [low, high] => {
                let (low, high) = (low.as_f64().ok_or_else(wrong)?, high.as_f64().ok_or_else(wrong)?);
                ends_of(low, high).map(Some).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    };
    list.iter().map(range).collect()
}

fn stretch(text: &str) -> Result<Vec<Option<Range>>, HttpError> {
    const EXPECTED: &str = "`tile`, `layer`, or a range `LOW,HIGH` for each band, joined by `;`";
    let wrong = || wrong("stretch", EXPECTED, text);
    let ranges: Vec<&str> = text.split(';').collect();
    at_most_scales(ranges.len())?;
    let range = |range: &str| {
        let (low, high) = range.split_once(',')?;
        ends_of(low.trim().parse().ok()?, high.trim().parse().ok()?)
    };
    ranges.into_iter().map(|text| range(text).map(Some).ok_or_else(wrong)).collect()
}

fn at_most_scales(count: usize) -> Result<(), HttpError> {
    if count <= SCALES_MAX {
        return Ok(());
    }
    let message = format!("{count} ranges of values; a picture has at most {SCALES_MAX} bands");
    Err(HttpError::invalid(message))
}

/// The ends of a range, if they are finite as pixels are.
fn ends_of(low: f64, high: f64) -> Option<Range> {
    let is_pixel = |value: f64| (value as f32).is_finite();
    (is_pixel(low) && is_pixel(high)).then_some((low, high))
}

fn parameters(text: &str) -> Result<Parameters, HttpError> {
    const EXPECTED: &str = "a JSON object of the graft's parameters, such as `{\"start\": \"2024-02-01\"}`";
    if text == "null" {
        return Ok(Parameters::new());
    }
    let members = object(text.as_bytes()).map_err(|_| wrong("parameters", EXPECTED, text))?;
    Ok(members.into_iter().collect())
}

/// The classes of a JSON list; none where the list is empty.
fn classes(text: &str, is_ranges: bool) -> Result<Option<Classes>, HttpError> {
    const EXPECTED: &str =
        "a JSON list of classes, such as `[{\"value\": 1, \"color\": \"#20a040\", \"name\": \"wood\"}]`";
    let list = match json("classes", EXPECTED, text)? {
        Value::Null => return Ok(None),
        Value::Array(list) if list.is_empty() => return Ok(None),
        Value::Array(list) => list,
        _ => return Err(wrong("classes", EXPECTED, text)),
    };
    if list.len() > CLASSES_MAX {
        let message = format!("{} classes; a picture has at most {CLASSES_MAX}", list.len());
        return Err(HttpError::invalid(message));
    }
    let of_class = |(at, value): (usize, &Value)| {
        class(value, is_ranges)
            .map_err(|problem| HttpError::invalid(format!("class {at} of `classes`: {problem}")))
    };
    let classes = list.iter().enumerate().map(of_class).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(Classes::new(classes)?))
}

fn class(value: &Value, is_ranges: bool) -> Result<Class, &'static str> {
    let members = value.as_object().ok_or("it must be an object")?;
    let colour = members.get("color").and_then(Value::as_str).and_then(colour);
    let number = |name: &str| match members.get(name)? {
        Value::Bool(value) => Some(f32::from(u8::from(*value))),
        other => other.as_f64().map(|value| value as f32).filter(|value| value.is_finite()),
    };
    let ends = number("min").zip(number("max"));
    let matches = match (is_ranges, number("value"), ends) {
        // The published client asks for ranges by `val_range=true` only when its layer is changed once
        // more; a class that has no value can be nothing else.
        (true, _, Some((low, high))) | (false, None, Some((low, high))) => Matches::Range(low, high),
        (true, _, None) => return Err("with `val_range` it must have finite numbers as `min` and `max`"),
        (false, Some(value), _) => Matches::Value(value),
        (false, None, None) => {
            return Err("it must have a finite number as `value`, or as `min` and `max`");
        }
    };
    let name = members.get("name").or(members.get("label")).and_then(Value::as_str).unwrap_or_default();
    let colour = colour.ok_or("`color` must be `#rrggbb`, six hexadecimal digits")?;
    Ok(Class { matches, colour, name: name.to_owned() })
}

fn colour(text: &str) -> Option<[u8; 3]> {
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6)?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let [_, red, green, blue] = u32::from_str_radix(digits, 16).ok()?.to_be_bytes();
    Some([red, green, blue])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<TileQuery, HttpError> {
        TileQuery::parse(&form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish())
    }

    #[test]
    fn what_the_published_client_sends() {
        let query = parse(&[
            ("python_version", "3.11"),
            ("scales", "[[0.0, 1.0], [0, 2]]"),
            ("colormap", "RdYlGn_r"),
            ("checkerboard", "True"),
            ("val_range", "false"),
            ("alpha", "some-id"),
            ("parameters", "{\"start\": \"2024-01-01\"}"),
            ("param_id", "abc"),
            ("session_id", "x"),
        ])
        .unwrap();
        assert_eq!(query.look.scales, [Some((0.0, 1.0)), Some((0.0, 2.0))]);
        assert_eq!(query.look.colours, Colours::Map(Colormap::from_name("RdYlGn_r").unwrap()));
        assert!(query.look.checkerboard);
        assert_eq!(query.alpha.as_deref(), Some("some-id"));
        assert_eq!(query.parameters["start"], Literal::Str("2024-01-01".into()));
        assert!(!query.to_text().contains("param_id"));
        assert_eq!(parse(&[("scales", "[[0, null], [null, 1]]")]).unwrap().look.scales, [None, None]);
        let plain = TileQuery::parse("").unwrap();
        assert_eq!(plain, TileQuery::default());
        let same =
            TileQuery::parse("scales=[]&classes=null&val_range=null&parameters={}&param_id=9").unwrap();
        assert_eq!((same.look, same.parameters), (plain.look, plain.parameters));
    }

    #[test]
    fn a_look_may_be_json() {
        let body = r##"{"scales": [[0, 1]], "colormap": "magma", "checkerboard": true, "classes": null,
            "more": [1]}"##;
        let look = Look::from_members(&object(body.as_bytes()).unwrap()).unwrap();
        assert_eq!((look.scales, look.checkerboard), (vec![Some((0.0, 1.0))], true));
        assert_eq!(look.colours, Colours::Map(Colormap::from_name("magma").unwrap()));
        for wrong in [r##"{"scales": "x"}"##, r##"{"colormap": 3}"##, r##"{"stretch": "layer"}"##] {
            let error = Look::from_members(&object(wrong.as_bytes()).unwrap()).unwrap_err();
            assert!(error.path.is_some_and(|path| path.starts_with("/style")), "{wrong}");
        }
    }

    #[test]
    fn ranges_may_be_missing_band_by_band() {
        let scales = |text: &str| parse(&[("scales", text)]).unwrap().look.scales;
        assert_eq!(scales("[[1, 0], null, [null, null]]"), [Some((1.0, 0.0)), None, None]);
        let query = parse(&[("stretch", "0,1;2, 3")]).unwrap();
        assert_eq!(query.look.scales, [Some((0.0, 1.0)), Some((2.0, 3.0))]);
        let query = parse(&[("stretch", "layer"), ("scales", "[null, [5, 6]]")]).unwrap();
        assert!(query.look.needs_layer());
        let style = query.look.style(&[(1.0, 2.0), (1.0, 2.0), (3.0, 4.0)]);
        assert_eq!(style.stretch, [Some((1.0, 2.0)), Some((5.0, 6.0)), Some((3.0, 4.0))]);
    }

    #[test]
    fn classes_are_values_or_ranges() {
        let list =
            r##"[{"color": "#FF8000", "value": 3, "name": "a"}, {"color": "#000001", "value": true}]"##;
        let Colours::Classes(classes) = parse(&[("classes", list)]).unwrap().look.colours else { panic!() };
        assert_eq!(classes.given()[0].colour, [255, 128, 0]);
        assert_eq!((classes.given()[0].matches, &*classes.given()[0].name), (Matches::Value(3.0), "a"));
        assert_eq!(classes.given()[1].matches, Matches::Value(1.0));
        let list = r##"[{"color": "#ff8000", "min": 0, "max": 0.5}]"##;
        let Colours::Classes(classes) =
            parse(&[("classes", list), ("val_range", "true")]).unwrap().look.colours
        else {
            panic!()
        };
        assert_eq!(classes.given()[0].matches, Matches::Range(0.0, 0.5));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_way_out() {
        let many = format!("[{}]", ["{\"color\": \"#000000\", \"value\": 1}"; 257].join(","));
        for (name, value, says) in [
            ("scales", "[[NaN, 1]]", "finite"),
            ("scales", "[[0, Infinity]]", "finite"),
            ("scales", "[[0, 1e300]]", "finite"),
            ("scales", "[[0, 1, 2]]", "finite"),
            ("scales", "[[0]]", "finite"),
            ("scales", "[[\"0\", 1]]", "finite"),
            ("scales", "[0, 1]", "[[0, 0.4]"),
            ("scales", "{}", "JSON list"),
            ("scales", "x", "JSON list"),
            ("scales", "[[0,1],[0,1],[0,1],[0,1],[0,1]]", "at most 4"),
            ("stretch", "0;1", "LOW,HIGH"),
            ("stretch", "nan,1", "LOW,HIGH"),
            ("stretch", "", "LOW,HIGH"),
            ("colormap", "viridiss", "viridis"),
            ("colormap", "", "viridis"),
            ("checkerboard", "maybe", "`True` or `False`"),
            ("val_range", "2", "`True` or `False`"),
            ("classes", "{}", "JSON list"),
            ("classes", "[1]", "object"),
            ("classes", "[{\"value\": 1}]", "#rrggbb"),
            ("classes", "[{\"value\": 1, \"color\": \"red\"}]", "#rrggbb"),
            ("classes", "[{\"value\": 1, \"color\": \"#+12345\"}]", "#rrggbb"),
            ("classes", "[{\"value\": \"x\", \"color\": \"#000000\"}]", "`min` and `max`"),
            ("classes", &many, "at most 256"),
            ("parameters", "[]", "JSON object"),
            ("parameters", "{", "JSON object"),
            ("quality", "best", "`exact`"),
            ("size", "1024", "`512`"),
            ("nocache", "yes", "`True`"),
        ] {
            let error = parse(&[(name, value)]).unwrap_err();
            assert_eq!(error.status().as_u16(), 400, "{name}={value}");
            assert!(error.message.contains(says), "{name}={value}: {}", error.message);
            assert!(error.message.len() < 400, "{}", error.message);
        }
        let twice = TileQuery::parse("size=256&size=256").unwrap_err();
        assert!(twice.message.contains("given twice"), "{}", twice.message);
        let both = parse(&[("scales", "[[0,1]]"), ("stretch", "0,1")]).unwrap_err();
        assert!(both.message.contains("one of them"), "{}", both.message);
        let ranges = parse(&[("classes", "[{\"value\": 1, \"color\": \"#000000\"}]"), ("val_range", "True")]);
        assert!(ranges.unwrap_err().message.contains("`min` and `max`"));
    }
}
