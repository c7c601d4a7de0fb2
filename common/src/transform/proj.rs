//! The one implementation of [`Transform`]: PROJ, by way of GDAL's OSR.
//!
//! Texts come from clients and from files, so each is matched to one form and given to the importer
//! of that form alone. OSR's own "any user input" would open files and URLs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Once;

use gdal::spatial_ref::{AxisMappingStrategy, CoordTransform, SpatialRef};

use super::{Transform, TransformError, Unit};
use crate::grid::Crs;

/// Longest text that is read as a CRS. The longest WKT of the EPSG registry is about 10 kB.
const CRS_BYTES_MAX: usize = 64 << 10;

/// Entries of each thread's caches. A request knows a handful of CRSs; when more arrive than this,
/// forgetting all is cheap enough.
const CACHE_ENTRIES_MAX: usize = 64;

/// Registries whose codes are accepted, all part of PROJ's own database.
const AUTHORITIES: [&str; 5] = ["EPSG", "ESRI", "OGC", "IGNF", "IAU_2015"];

/// First keywords of a WKT text that stands for a horizontal CRS.
const WKT_KEYWORDS: [&str; 12] = [
    "PROJCS",
    "GEOGCS",
    "COMPD_CS",
    "PROJCRS",
    "PROJECTEDCRS",
    "GEOGCRS",
    "GEOGRAPHICCRS",
    "GEODCRS",
    "GEODETICCRS",
    "DERIVEDPROJCRS",
    "COMPOUNDCRS",
    "BOUNDCRS",
];

/// CRSs and transforms as PROJ knows them, without its network.
#[derive(Clone, Copy, Debug)]
pub struct Proj(());

impl Proj {
    /// Turns PROJ's network access off for the process.
    pub fn new() -> Self {
        static NETWORK_OFF: Once = Once::new();
        NETWORK_OFF.call_once(osr::network_off);
        Proj(())
    }
}

impl Default for Proj {
    fn default() -> Self {
        Proj::new()
    }
}

impl Transform for Proj {
    fn canonical(&self, text: &str) -> Result<Crs, TransformError> {
        let text = text.trim();
        CACHE.with_borrow_mut(|cache| {
            if let Some(known) = cache.canonical.get(text) {
                return Ok(known.clone());
            }
            let _quiet = osr::Quiet::begin();
            let srs = parse(text).map_err(|reason| unknown(text, reason))?;
            let canonical = match code(text) {
                Some((authority, code)) => format!("{authority}:{code}"),
                None => match osr::identify(&srs) {
                    Some(name) => name,
                    None => osr::wkt2(&srs).ok_or_else(|| unknown(text, "it has no WKT"))?,
                },
            };
            let crs = Crs::from_canonical(canonical);
            keep(&mut cache.canonical, text.to_owned(), crs.clone());
            Ok(crs)
        })
    }

    fn same(&self, a: &Crs, b: &Crs) -> bool {
        if a == b {
            return true;
        }
        CACHE.with_borrow_mut(|cache| {
            let _quiet = osr::Quiet::begin();
            let Ok(a) = cache.srs(a) else { return false };
            let Ok(b) = cache.srs(b) else { return false };
            osr::same(&a, &b)
        })
    }

    fn is_geographic(&self, crs: &Crs) -> Result<bool, TransformError> {
        CACHE.with_borrow_mut(|cache| {
            let _quiet = osr::Quiet::begin();
            Ok(cache.srs(crs)?.is_geographic())
        })
    }

    fn unit(&self, crs: &Crs) -> Result<Unit, TransformError> {
        CACHE.with_borrow_mut(|cache| {
            let _quiet = osr::Quiet::begin();
            let srs = cache.srs(crs)?;
            Ok(match srs.is_geographic() {
                true => Unit::Radians(srs.angular_units()),
                false => Unit::Metres(srs.linear_units()),
            })
        })
    }

    fn points(&self, from: &Crs, to: &Crs, points: &mut [(f64, f64)]) -> Result<(), TransformError> {
        if from == to || points.is_empty() {
            return Ok(());
        }
        let no_place =
            |(x, y): (f64, f64)| TransformError::NoPlace { x, y, from: from.clone(), to: to.clone() };
        if let Some(bad) = points.iter().find(|(x, y)| !(x.is_finite() && y.is_finite())) {
            return Err(no_place(*bad));
        }
        let (mut xs, mut ys): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
        CACHE.with_borrow_mut(|cache| {
            let _quiet = osr::Quiet::begin();
            let moved = match cache.transform(from, to)? {
                Some(transform) => transform.transform_coords(&mut xs, &mut ys, &mut []).is_ok(),
                None => false,
            };
            match (0..xs.len()).find(|i| !(xs[*i].is_finite() && ys[*i].is_finite())) {
                Some(i) => Err(no_place(points[i])),
                // Where all fails at once, OSR may leave the coordinates as they were.
                None if !moved => Err(no_place(points[0])),
                None => Ok(()),
            }
        })?;
        for (point, moved) in points.iter_mut().zip(xs.into_iter().zip(ys)) {
            *point = moved;
        }
        Ok(())
    }

    fn points_or_nan(&self, from: &Crs, to: &Crs, points: &mut [(f64, f64)]) {
        if from == to || points.is_empty() {
            return;
        }
        let (mut xs, mut ys): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
        let all_lost = CACHE.with_borrow_mut(|cache| {
            let _quiet = osr::Quiet::begin();
            let Ok(Some(transform)) = cache.transform(from, to) else { return true };
            let moved = transform.transform_coords(&mut xs, &mut ys, &mut []).is_ok();
            // Points that are lost become infinite. Where all fail at once, OSR may leave them as they were.
            !moved && xs.iter().zip(&ys).all(|(x, y)| x.is_finite() && y.is_finite())
        });
        for (point, (x, y)) in points.iter_mut().zip(xs.into_iter().zip(ys)) {
            let is_placed =
                !all_lost && x.is_finite() && y.is_finite() && point.0.is_finite() && point.1.is_finite();
            *point = if is_placed { (x, y) } else { (f64::NAN, f64::NAN) };
        }
    }
}

thread_local! {
    // OSR objects must not be shared by threads; parsing one takes about a millisecond, and finding
    // the operation between two of them as long, so every thread keeps what it made.
    static CACHE: RefCell<Cache> = RefCell::default();
}

#[derive(Default)]
struct Cache {
    canonical: HashMap<String, Crs>,
    parsed: HashMap<Crs, SpatialRef>,
    transforms: HashMap<(Crs, Crs), CoordTransform>,
}

impl Cache {
    fn srs(&mut self, crs: &Crs) -> Result<SpatialRef, TransformError> {
        if let Some(srs) = self.parsed.get(crs) {
            return Ok(srs.clone());
        }
        let srs = parse(crs.as_str()).map_err(|reason| unknown(crs.as_str(), reason))?;
        keep(&mut self.parsed, crs.clone(), srs.clone());
        Ok(srs)
    }

    /// `None`: PROJ has no operation from one to the other.
    fn transform(&mut self, from: &Crs, to: &Crs) -> Result<Option<&CoordTransform>, TransformError> {
        let key = (from.clone(), to.clone());
        if !self.transforms.contains_key(&key) {
            let Ok(transform) = CoordTransform::new(&self.srs(from)?, &self.srs(to)?) else {
                return Ok(None);
            };
            keep(&mut self.transforms, key.clone(), transform);
        }
        Ok(self.transforms.get(&key))
    }
}

fn keep<K: Eq + Hash, V>(map: &mut HashMap<K, V>, key: K, value: V) {
    if map.len() >= CACHE_ENTRIES_MAX {
        map.clear();
    }
    map.insert(key, value);
}

fn unknown(text: &str, reason: impl Into<String>) -> TransformError {
    /// WKT is pages long; its beginning tells which it was.
    const SHOWN_CHARS: usize = 80;
    let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    TransformError::UnknownCrs { text: shown, reason: reason.into() }
}

/// The CRS of a text, in traditional axis order; or the reason why there is none.
fn parse(text: &str) -> Result<SpatialRef, String> {
    if text.len() > CRS_BYTES_MAX {
        return Err(format!("it is {} bytes long, the limit is {CRS_BYTES_MAX}", text.len()));
    }
    if text.contains('\0') {
        return Err("it contains a NUL".to_owned());
    }
    let read = if let Some((authority, code)) = code(text) {
        // The URN form is the one for which OSR consults the database and nothing else.
        SpatialRef::from_definition(&format!("urn:ogc:def:crs:{authority}::{code}"))
    } else if text.starts_with('+') {
        check_proj_string(text)?;
        SpatialRef::from_proj4(text)
    } else if is_wkt(text) {
        check_wkt(text)?;
        SpatialRef::from_wkt(text)
    } else {
        return Err("neither a code, a PROJ string nor WKT".to_owned());
    };
    let mut srs = read.map_err(|_| osr::last_message())?;
    srs.set_axis_mapping_strategy(AxisMappingStrategy::TraditionalGisOrder);
    if !(srs.is_geographic() || srs.is_projected()) {
        return Err("neither a geographic nor a projected CRS".to_owned());
    }
    Ok(srs)
}

/// Registry and code of `EPSG:32613`, of its URN, or of the bare EPSG code.
fn code(text: &str) -> Option<(&'static str, String)> {
    const URN: &str = "urn:ogc:def:crs:";
    let is_code = |code: &str| {
        (1..=16).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    if (4..=6).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(("EPSG", text.to_owned()));
    }
    let (authority, code) = match text.get(..URN.len()) {
        Some(start) if start.eq_ignore_ascii_case(URN) => {
            let (authority, rest) = text[URN.len()..].split_once(':')?;
            // Between the two colons stands the registry's version, which PROJ's database decides.
            (authority, rest.split_once(':')?.1)
        }
        _ => text.split_once(':')?,
    };
    let known = AUTHORITIES.into_iter().find(|known| known.eq_ignore_ascii_case(authority))?;
    is_code(code).then(|| (known, code.to_ascii_uppercase()))
}

fn is_wkt(text: &str) -> bool {
    let Some((keyword, _)) = text.split_once(['[', '(']) else { return false };
    WKT_KEYWORDS.iter().any(|known| known.eq_ignore_ascii_case(keyword.trim_end()))
}

/// Refuses parameters whose value PROJ opens as a file.
fn check_proj_string(text: &str) -> Result<(), String> {
    let mut projected = false;
    for word in text.split_whitespace() {
        let (key, value) = match word.trim_start_matches('+').split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), value),
            None => (word.trim_start_matches('+').to_ascii_lowercase(), ""),
        };
        projected |= key == "proj";
        let names_file = key == "init" || key == "file" || key.ends_with("grids") || key == "catalog";
        // `null` is PROJ's word for "no shift"; web Mercator is often written with it.
        let is_null = matches!(value.trim_start_matches('@'), "null");
        if (names_file && !is_null) || value.contains(['/', '\\', ':', '|']) {
            return Err(format!("`{word}` names a file, which is not allowed"));
        }
        if key == "step" || value.eq_ignore_ascii_case("pipeline") {
            return Err("it is a pipeline, not a CRS".to_owned());
        }
    }
    if projected { Ok(()) } else { Err("`+proj` is missing".to_owned()) }
}

/// Refuses the parts of WKT that make PROJ open files, and checks the PROJ strings within.
fn check_wkt(text: &str) -> Result<(), String> {
    let upper = text.to_ascii_uppercase();
    for part in ["PARAMETERFILE", "PROJ4_GRIDS"] {
        if upper.contains(part) {
            return Err(format!("`{part}` names a file, which is not allowed"));
        }
    }
    let quoted = text.split('"').skip(1).step_by(2);
    for string in quoted.filter(|s| s.contains('=') && s.contains("proj")) {
        check_proj_string(string)?;
    }
    Ok(())
}

/// Version of PROJ, such as `9.1.1`.
pub fn proj_version() -> String {
    osr::version()
}

/// The few calls into OSR that the `gdal` crate does not wrap.
#[allow(unsafe_code)]
mod osr {
    use std::ffi::{CStr, c_char, c_int};
    use std::ptr;

    use gdal::spatial_ref::SpatialRef;

    use super::AUTHORITIES;

    /// Keeps GDAL from printing to standard error on this thread while it lives.
    pub(super) struct Quiet(());

    impl Quiet {
        pub(super) fn begin() -> Self {
            // SAFETY: the handler is GDAL's own, and drop takes it off again on the same thread
            // (`Quiet` never leaves the function that made it).
            unsafe {
                gdal_sys::CPLErrorReset();
                gdal_sys::CPLPushErrorHandler(Some(gdal_sys::CPLQuietErrorHandler));
            }
            Quiet(())
        }
    }

    impl Drop for Quiet {
        fn drop(&mut self) {
            // SAFETY: takes off what `begin` put on.
            unsafe { gdal_sys::CPLPopErrorHandler() };
        }
    }

    /// What GDAL last complained about on this thread.
    pub(super) fn last_message() -> String {
        // SAFETY: GDAL returns a NUL-terminated text of this thread, copied before the next call.
        let message = unsafe {
            let text = gdal_sys::CPLGetLastErrorMsg();
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        };
        let line = message.lines().next().unwrap_or_default().trim();
        if line.is_empty() { "PROJ cannot read it".to_owned() } else { format!("PROJ says \"{line}\"") }
    }

    /// Version of the library in use, such as `9.1.1`.
    pub(super) fn version() -> String {
        let (mut major, mut minor, mut patch): (c_int, c_int, c_int) = (0, 0, 0);
        // SAFETY: writes three numbers of this function.
        unsafe { gdal_sys::OSRGetPROJVersion(&raw mut major, &raw mut minor, &raw mut patch) };
        format!("{major}.{minor}.{patch}")
    }

    pub(super) fn network_off() {
        // SAFETY: sets a flag of the process.
        unsafe { gdal_sys::OSRSetPROJEnableNetwork(0) };
    }

    /// Whether two CRSs place a coordinate pair in traditional order at the same point.
    pub(super) fn same(a: &SpatialRef, b: &SpatialRef) -> bool {
        let options: [*const c_char; 3] = [
            c"CRITERION=EQUIVALENT_EXCEPT_AXIS_ORDER_GEOGCRS".as_ptr(),
            c"IGNORE_DATA_AXIS_TO_SRS_AXIS_MAPPING=YES".as_ptr(),
            ptr::null(),
        ];
        // SAFETY: both handles live as long as their borrows; the list of options ends with null.
        unsafe { gdal_sys::OSRIsSameEx(a.to_c_hsrs(), b.to_c_hsrs(), options.as_ptr()) == 1 }
    }

    /// WKT 2 on one line.
    pub(super) fn wkt2(srs: &SpatialRef) -> Option<String> {
        let options: [*const c_char; 3] =
            [c"FORMAT=WKT2_2019".as_ptr(), c"MULTILINE=NO".as_ptr(), ptr::null()];
        let mut text: *mut c_char = ptr::null_mut();
        // SAFETY: GDAL writes a text that is ours to free, or leaves null.
        unsafe {
            let status = gdal_sys::OSRExportToWktEx(srs.to_c_hsrs(), &mut text, options.as_ptr());
            if text.is_null() {
                return None;
            }
            let wkt = CStr::from_ptr(text).to_string_lossy().into_owned();
            gdal_sys::VSIFree(text.cast());
            (status == gdal_sys::OGRErr::OGRERR_NONE && !wkt.is_empty()).then_some(wkt)
        }
    }

    /// The registry code whose definition is this very CRS.
    pub(super) fn identify(srs: &SpatialRef) -> Option<String> {
        let mut found: Vec<(usize, i32, String)> = matches(srs)
            .into_iter()
            .filter(|(candidate, _)| same(srs, candidate))
            .filter_map(|(candidate, confidence)| {
                let name = candidate.authority().ok()?;
                let authority = name.split_once(':')?.0;
                let rank = AUTHORITIES.iter().position(|known| *known == authority)?;
                Some((rank, -confidence, name))
            })
            .collect();
        found.sort();
        found.into_iter().next().map(|(_, _, name)| name)
    }

    fn matches(srs: &SpatialRef) -> Vec<(SpatialRef, c_int)> {
        let (mut count, mut confidences): (c_int, *mut c_int) = (0, ptr::null_mut());
        let mut matches = Vec::new();
        // SAFETY: GDAL returns `count` handles and as many confidences, both ours to free; each
        // handle is cloned before the array is freed.
        unsafe {
            let handles =
                gdal_sys::OSRFindMatches(srs.to_c_hsrs(), ptr::null_mut(), &mut count, &mut confidences);
            if !handles.is_null() {
                for i in 0..usize::try_from(count).unwrap_or(0) {
                    let confidence = if confidences.is_null() { 0 } else { *confidences.add(i) };
                    if let Ok(candidate) = SpatialRef::from_c_obj(*handles.add(i)) {
                        matches.push((candidate, confidence));
                    }
                }
                gdal_sys::OSRFreeSRSArray(handles);
            }
            gdal_sys::VSIFree(confidences.cast());
        }
        matches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crs(text: &str) -> Crs {
        Proj::new().canonical(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[track_caller]
    fn check_point(from: &str, to: &str, point: (f64, f64), expect: (f64, f64), tolerance: f64) {
        let (proj, from, to) = (Proj::new(), crs(from), crs(to));
        let mut points = [point];
        proj.points(&from, &to, &mut points).unwrap();
        let [(x, y)] = points;
        assert!((x - expect.0).abs() < tolerance && (y - expect.1).abs() < tolerance, "({x}, {y})");
        proj.points(&to, &from, &mut points).unwrap();
        let back = tolerance.max(1e-7) * 200.0;
        assert!((points[0].0 - point.0).abs() < back && (points[0].1 - point.1).abs() < back, "{points:?}");
    }

    const SINUSOIDAL: &str = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs";

    #[test]
    fn known_points() {
        // The central meridian of zone 13 is 105 W, its false easting 500 km, its scale there 0.9996;
        // the meridian arc to 40 N on WGS 84 is 4429529.03 m.
        check_point("EPSG:32613", "EPSG:4326", (500000.0, 0.9996 * 4429529.0303), (-105.0, 40.0), 1e-8);
        check_point("EPSG:4326", "EPSG:3857", (180.0, 0.0), (20037508.342789244, 0.0), 1e-6);
        // On the sphere x = R λ cos φ and y = R φ.
        let r = 6371007.181;
        let lat = 11.65_f64.to_radians();
        let expect = (r * (-55.5_f64).to_radians() * lat.cos(), r * lat);
        let sphere = "+proj=longlat +R=6371007.181 +no_defs";
        check_point(sphere, SINUSOIDAL, (-55.5, 11.65), expect, 1e-6);
        // Authorities that put latitude or northing first still take x first.
        check_point("OGC:CRS84", "EPSG:4326", (10.0, 50.0), (10.0, 50.0), 1e-12);
        check_point("EPSG:4326", "EPSG:31467", (9.0, 50.0), (3500076.0, 5540388.0), 150.0);
    }

    /// The units of the EPSG registry: metre, US survey foot, degree, grad.
    #[test]
    fn units_of_coordinates() {
        let unit = |text: &str| Proj::new().unit(&crs(text)).unwrap();
        assert_eq!(unit("EPSG:32613"), Unit::Metres(1.0));
        let Unit::Metres(foot) = unit("EPSG:2263") else { panic!("projected") };
        assert!((foot - 1200.0 / 3937.0).abs() < 1e-12, "{foot}");
        for (text, per_turn) in [("EPSG:4326", 360.0), ("EPSG:4807", 400.0)] {
            let Unit::Radians(unit) = unit(text) else { panic!("geographic") };
            assert!((unit * per_turn - 2.0 * std::f64::consts::PI).abs() < 1e-9, "{text}: {unit}");
        }
    }

    #[test]
    fn canonical_texts() {
        for text in ["EPSG:32613", "epsg:32613", " 32613 ", "urn:ogc:def:crs:EPSG::32613"] {
            assert_eq!(crs(text).as_str(), "EPSG:32613", "{text}");
        }
        assert_eq!(crs("esri:54009").as_str(), "ESRI:54009");
        assert_eq!(crs("OGC:CRS84").as_str(), "OGC:CRS84");
        assert_eq!(crs("+proj=utm +zone=13 +datum=WGS84 +units=m +no_defs").as_str(), "EPSG:32613");
        assert_eq!(crs("+proj=longlat +datum=WGS84 +no_defs").as_str(), "EPSG:4326");
        for code in [4326, 3857, 32613, 26918, 31985, 2056, 5070, 28355, 3031] {
            let srs = SpatialRef::from_epsg(code).unwrap();
            assert_eq!(crs(&srs.to_wkt().unwrap()).as_str(), format!("EPSG:{code}"), "WKT 1");
            assert_eq!(crs(&osr::wkt2(&srs).unwrap()).as_str(), format!("EPSG:{code}"), "WKT 2");
        }
    }

    #[test]
    fn what_no_registry_knows_stays_wkt_and_is_stable() {
        let sinusoidal = crs(SINUSOIDAL);
        assert!(sinusoidal.as_str().starts_with("PROJCRS["), "{}", sinusoidal.as_str());
        assert_eq!(crs(sinusoidal.as_str()), sinusoidal);
        // A code inside the text is a claim, not a proof.
        let wkt = SpatialRef::from_epsg(32613).unwrap().to_wkt().unwrap();
        let moved = crs(&wkt.replace("\"central_meridian\",-105", "\"central_meridian\",-104.5"));
        assert!(moved.as_str().starts_with("PROJCRS["), "{}", moved.as_str());
        // An ellipsoid is not a datum.
        assert!(crs("+proj=utm +zone=13 +ellps=GRS80 +units=m").as_str().starts_with("PROJCRS["));
    }

    #[test]
    fn sameness_and_geography() {
        let proj = Proj::new();
        assert!(proj.same(&crs("OGC:CRS84"), &crs("EPSG:4326")));
        assert!(proj.same(&crs(SINUSOIDAL), &crs(&SINUSOIDAL.replace("+units=m ", ""))));
        assert!(!proj.same(&crs("EPSG:32613"), &crs("EPSG:32612")));
        assert!(!proj.same(&crs("EPSG:32613"), &crs("EPSG:26913")));
        assert!(!proj.same(&crs("EPSG:4326"), &Crs::from_canonical("rubbish")));
        for (text, geographic) in
            [("EPSG:4326", true), ("EPSG:4267", true), ("EPSG:32613", false), (SINUSOIDAL, false)]
        {
            assert_eq!(proj.is_geographic(&crs(text)), Ok(geographic), "{text}");
        }
        assert!(proj.is_geographic(&Crs::from_canonical("rubbish")).is_err());
    }

    #[test]
    fn rubbish_is_refused() {
        let long = format!("PROJCS[\"{}\"]", "x".repeat(CRS_BYTES_MAX));
        let nested = format!("{}{}", "PROJCS[".repeat(5000), "]".repeat(5000));
        for text in [
            "",
            "summer",
            "EPSG:",
            "EPSG:999999",
            "EPSG:32613.tif",
            "EPSG:5703",
            "EPSG:4978",
            "4",
            "WGS84",
            "PROJCS[\"x\"",
            "LOCAL_CS[\"x\"]",
            "+zone=13",
            "+proj=nothing",
            "+proj=utm +zone=99",
            "+proj=pipeline +step +proj=utm +zone=13",
            "EPSG:32613\0",
            &long,
            &nested,
        ] {
            let result = Proj::new().canonical(text);
            assert!(matches!(result, Err(TransformError::UnknownCrs { .. })), "{text}: {result:?}");
        }
    }

    #[test]
    fn files_and_urls_are_never_opened() {
        let dir = std::env::temp_dir().join(format!("graticule-proj-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("crs.wkt");
        let wkt = SpatialRef::from_epsg(32613).unwrap().to_wkt().unwrap();
        std::fs::write(&file, &wkt).unwrap();
        let path = file.to_str().unwrap();
        let bound =
            wkt.replace("DATUM[\"WGS_1984\",", "DATUM[\"WGS_1984\",EXTENSION[\"PROJ4_GRIDS\",\"x\"],");
        assert_ne!(bound, wkt);
        for text in [
            path,
            &format!("file://{path}"),
            &format!("+init={path}:1"),
            &format!("+proj=longlat +ellps=bessel +nadgrids={path}"),
            &format!("+proj=longlat +ellps=bessel +nadgrids=@{path}"),
            "+proj=longlat +ellps=bessel +geoidgrids=some.gtx",
            "+init=epsg:4326",
            "http://example.com/crs",
            "DICT:crs.wkt,1",
            "/vsicurl/crs",
            &bound,
        ] {
            let result = Proj::new().canonical(text);
            assert!(matches!(result, Err(TransformError::UnknownCrs { .. })), "{text}: {result:?}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
        // Web Mercator as many write it.
        let mercator = "+proj=merc +a=6378137 +b=6378137 +lat_ts=0 +lon_0=0 +x_0=0 +y_0=0 +k=1 +units=m \
                        +nadgrids=@null +wktext +no_defs";
        assert!(Proj::new().same(&crs(mercator), &crs("EPSG:3857")), "{}", crs(mercator).as_str());
    }

    #[test]
    fn a_point_without_a_place_is_named_and_nothing_moves() {
        let proj = Proj::new();
        let (from, to) = (crs("EPSG:4326"), crs("EPSG:3857"));
        let mut points = [(10.0, 50.0), (10.0, 95.0), (10.0, 96.0)];
        match proj.points(&from, &to, &mut points) {
            Err(TransformError::NoPlace { x, y, .. }) => assert_eq!((x, y), (10.0, 95.0)),
            other => panic!("{other:?}"),
        }
        assert_eq!(points[0], (10.0, 50.0));
        let mut points = [(f64::NAN, 0.0)];
        assert!(matches!(proj.points(&from, &to, &mut points), Err(TransformError::NoPlace { .. })));
    }

    #[test]
    fn threads_agree() {
        let run = || {
            let mut points = [(-105.5, 40.25)];
            Proj::new().points(&crs("EPSG:4326"), &crs("EPSG:32613"), &mut points).unwrap();
            points[0]
        };
        let here = run();
        let there: Vec<_> =
            std::thread::scope(|s| [s.spawn(run), s.spawn(run)].map(|t| t.join().unwrap()).to_vec());
        assert!(there.iter().all(|point| *point == here));
    }
}
