//! What file names say: dates and bands.

use std::collections::BTreeMap;

use graticule_common::scene::Timestamp;

/// Tags that hold a date, in order of trust.
const TAGS: [&str; 6] = [
    "ACQUISITIONDATETIME",
    "ACQUISITION_DATE",
    "DATE_ACQUIRED",
    "PRODUCT_START_TIME",
    "TIFFTAG_DATETIME",
    "EXIF_DateTime",
];
/// Years that a date in a name may have.
const YEARS: std::ops::RangeInclusive<u32> = 1900..=2100;
/// Words that name a band at the end of a file's name.
const BANDS: [&str; 41] = [
    "aerosol",
    "aot",
    "blue",
    "bqa",
    "cirrus",
    "cloud",
    "clouds",
    "coastal",
    "cos",
    "dem",
    "evi",
    "fmask",
    "green",
    "hh",
    "hv",
    "incidence",
    "lwir",
    "mask",
    "nbr",
    "ndsi",
    "ndvi",
    "ndwi",
    "nir",
    "nir08",
    "nir09",
    "pan",
    "pixel",
    "qa",
    "qa60",
    "radsat",
    "red",
    "rededge",
    "scl",
    "swir",
    "swir16",
    "swir22",
    "tci",
    "thermal",
    "vh",
    "vv",
    "wvp",
];

/// The date of a file: by the pattern where there is one, else in its name, in its folders' names from
/// the innermost, or in its tags.
pub(super) fn of(inner: &str, pattern: Option<&str>, tags: &BTreeMap<String, String>) -> Option<Timestamp> {
    let mut parts = inner.rsplit('/');
    if let Some(pattern) = pattern {
        return parts.find_map(|part| by_pattern(part, pattern));
    }
    parts.find_map(in_name).or_else(|| TAGS.iter().find_map(|tag| in_tag(tags.get(*tag)?)))
}

/// Where a pattern first fits.
fn by_pattern(text: &str, pattern: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    (0..bytes.len()).find_map(|from| fits(&bytes[from..], pattern))
}

fn fits(mut text: &[u8], pattern: &str) -> Option<Timestamp> {
    let (mut year, mut month, mut day, mut day_of_year, mut time) = (None, None, None, None, [0u32; 3]);
    let mut pattern = pattern.bytes();
    while let Some(c) = pattern.next() {
        if c != b'%' {
            text = text.strip_prefix(&[c])?;
            continue;
        }
        let (slot, digits) = match pattern.next()? {
            b'Y' => (&mut year, 4),
            b'm' => (&mut month, 2),
            b'd' => (&mut day, 2),
            b'j' => (&mut day_of_year, 3),
            which @ (b'H' | b'M' | b'S') => {
                let at = usize::from(which == b'M') + 2 * usize::from(which == b'S');
                time[at] = number(text.get(..2)?)?;
                text = &text[2..];
                continue;
            }
            other => {
                text = text.strip_prefix(&[other])?;
                continue;
            }
        };
        *slot = Some(number(text.get(..digits)?)?);
        text = &text[digits..];
    }
    match day_of_year {
        Some(days) => ordinal(year?, days, time),
        None => civil(year?, month?, day.unwrap_or(1), time),
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    let legal = digits.iter().all(u8::is_ascii_digit);
    legal.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

fn civil(year: u32, month: u32, day: u32, [hour, minute, second]: [u32; 3]) -> Option<Timestamp> {
    let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    Timestamp::parse(&text).filter(|_| YEARS.contains(&year))
}

fn ordinal(year: u32, days: u32, time: [u32; 3]) -> Option<Timestamp> {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if days == 0 || days > 365 + u32::from(is_leap) {
        return None;
    }
    let start = civil(year, 1, 1, time)?;
    Some(Timestamp(start.0 + i64::from(days - 1) * 86_400_000_000))
}

/// The first date in a name. Runs of digits are taken as a whole: a date inside a longer number is none,
/// but for the scene ids of Landsat before Collection 1.
fn in_name(name: &str) -> Option<Timestamp> {
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let length = bytes[at..].iter().take_while(|c| c.is_ascii_digit()).count();
        if length == 0 {
            at += 1;
            continue;
        }
        let (run, rest) = (&bytes[at..at + length], &bytes[at + length..]);
        if let Some(found) = in_run(run, rest, &bytes[..at]) {
            return Some(found);
        }
        at += length;
    }
    None
}

fn in_run(run: &[u8], rest: &[u8], before: &[u8]) -> Option<Timestamp> {
    let part = |range: std::ops::Range<usize>| number(run.get(range)?);
    match run.len() {
        14 => {
            let time = [part(8..10)?, part(10..12)?, part(12..14)?];
            let plain = civil(part(0..4)?, part(4..6)?, part(6..8)?, time);
            // L, sensor, satellite, path, row, year, day of year.
            let is_landsat = matches!(before, [.., b'L', sensor] if sensor.is_ascii_uppercase());
            plain.or_else(|| is_landsat.then(|| ordinal(part(7..11)?, part(11..14)?, [0; 3])).flatten())
        }
        13 => ordinal(part(0..4)?, part(4..7)?, [part(7..9)?, part(9..11)?, part(11..13)?]),
        8 => civil(part(0..4)?, part(4..6)?, part(6..8)?, clock(rest)),
        7 => ordinal(part(0..4)?, part(4..7)?, clock(rest)),
        4 => {
            let [separator @ (b'-' | b'_' | b'.'), rest @ ..] = rest else { return None };
            let (month, rest) = (number(rest.get(..2)?)?, rest.get(2..)?);
            let rest = rest.strip_prefix(&[*separator])?;
            let (day, rest) = (number(rest.get(..2)?)?, rest.get(2..)?);
            if rest.first().is_some_and(u8::is_ascii_digit) {
                return None;
            }
            civil(part(0..4)?, month, day, clock(rest))
        }
        _ => None,
    }
}

/// Hours, minutes and seconds after a `T` or `_`; midnight where there are none.
fn clock(rest: &[u8]) -> [u32; 3] {
    let read = || {
        let rest = rest.strip_prefix(b"T").or_else(|| rest.strip_prefix(b"t"))?;
        if rest.iter().take_while(|c| c.is_ascii_digit()).count() != 6 {
            return None;
        }
        let time = [number(&rest[..2])?, number(&rest[2..4])?, number(&rest[4..6])?];
        (time[0] < 24 && time[1] < 60 && time[2] < 60).then_some(time)
    };
    read().unwrap_or_default()
}

fn in_tag(text: &str) -> Option<Timestamp> {
    let text = text.trim().trim_matches('"');
    // TIFF writes 2024:06:01 10:20:30.
    let spelled = match text.as_bytes() {
        [_, _, _, _, b':', _, _, b':', ..] => text.replacen(':', "-", 2),
        _ => text.to_owned(),
    };
    Timestamp::parse(&spelled).or_else(|| in_name(text)).filter(|at| at.0 != 0)
}

/// A stem without its band suffix, and the suffix: `_B04`, `_B02_10m`, `_red`, `_SR_B4`, `_QA_PIXEL`.
pub(super) fn band_suffix(stem: &str) -> Option<(&str, &str)> {
    let split = |stem: &str| stem.rfind(['_', '-', '.']).filter(|at| *at > 0).map(|at| (at, stem.len()));
    let (at, _) = split(stem)?;
    let last = &stem[at + 1..];
    let is_resolution = last.strip_suffix('m').is_some_and(|digits| {
        !digits.is_empty() && digits.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit())
    });
    if is_resolution {
        let (head, band) = band_suffix(&stem[..at])?;
        // The resolution stays out of the name: files of one band in several would be told apart by it.
        return Some((head, band)).filter(|_| !band.is_empty());
    }
    if !is_band(last) {
        return None;
    }
    // Landsat Collection 2 puts a product before the band.
    let (head, before) = match split(&stem[..at]) {
        Some((before, _)) => (before, &stem[before + 1..at]),
        None => return Some((&stem[..at], last)),
    };
    match before {
        "SR" | "ST" | "QA" => Some((&stem[..head], &stem[head + 1..])),
        _ => Some((&stem[..at], last)),
    }
}

fn is_band(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    if BANDS.contains(&lower.as_str()) {
        return true;
    }
    let rest = ["band", "b"].iter().find_map(|start| lower.strip_prefix(start)).unwrap_or_default();
    let rest = rest.strip_suffix('a').unwrap_or(rest);
    (1..=2).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_in_names() {
        for (name, expect) in [
            ("a_20240131.tif", "2024-01-31T00:00:00Z"),
            ("2024-01-31.tif", "2024-01-31T00:00:00Z"),
            ("x_2024_01_31_b.tif", "2024-01-31T00:00:00Z"),
            ("S2A_MSIL1C_20170105T102402_N0204_R065_T33UUU_20170105T102400", "2017-01-05T10:24:02Z"),
            ("T33UVU_20170105T102402_B02.jp2", "2017-01-05T10:24:02Z"),
            ("LC08_L1TP_013032_20180131_20180207_01_T1_B1.TIF", "2018-01-31T00:00:00Z"),
            ("LE70350322008118EDC00", "2008-04-27T00:00:00Z"),
            ("MOD13Q1.A2014017.h12v10.006.2015289162136.tif", "2014-01-17T00:00:00Z"),
            ("m_3607717_sw_18_1_20160620_subset.tif", "2016-06-20T00:00:00Z"),
            ("OPERA_L2_RTC-S1_20230104T135247Z_v1.0_VV.tif", "2023-01-04T13:52:47Z"),
            ("20240131102030.tif", "2024-01-31T10:20:30Z"),
            ("2013_16_2014017.tif", "2014-01-17T00:00:00Z"),
        ] {
            assert_eq!(in_name(name).map(|at| at.to_string()).as_deref(), Some(expect), "{name}");
        }
        for name in ["dem.tif", "20241331.tif", "2023366.tif", "123456789.tif", "18000101.tif", "2024-01.tif"]
        {
            assert_eq!(in_name(name), None, "{name}");
        }
    }

    #[test]
    fn patterns_folders_and_tags() {
        let tags = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let day = |inner: &str, pattern: Option<&str>, tags: &BTreeMap<String, String>| {
            of(inner, pattern, tags).map(|at| at.to_string())
        };
        let none = BTreeMap::new();
        assert_eq!(day("a/20240131/b4.tif", None, &none).as_deref(), Some("2024-01-31T00:00:00Z"));
        assert_eq!(day("x31012024.tif", Some("x%d%m%Y"), &none).as_deref(), Some("2024-01-31T00:00:00Z"));
        assert_eq!(day("v2024.031.tif", Some("%Y.%j"), &none).as_deref(), Some("2024-01-31T00:00:00Z"));
        assert_eq!(day("20240131.tif", Some("x%Y%m%d"), &none), None, "the pattern decides");
        let tiff = tags("TIFFTAG_DATETIME", "2024:01:31 10:20:30");
        assert_eq!(day("a.tif", None, &tiff).as_deref(), Some("2024-01-31T10:20:30Z"));
        assert_eq!(day("20230101.tif", None, &tiff).as_deref(), Some("2023-01-01T00:00:00Z"));
        assert_eq!(day("a.tif", None, &tags("TIFFTAG_DATETIME", "unknown")), None);
    }

    #[test]
    fn bands_at_the_end() {
        for (stem, expect) in [
            ("T33UVU_20170105T102402_B02", Some(("T33UVU_20170105T102402", "B02"))),
            ("T33UVU_20170105T102402_B8A", Some(("T33UVU_20170105T102402", "B8A"))),
            ("T33_2017_B02_10m", Some(("T33_2017", "B02"))),
            ("LC08_T1_SR_B4", Some(("LC08_T1", "SR_B4"))),
            ("LC08_T1_QA_PIXEL", Some(("LC08_T1", "QA_PIXEL"))),
            ("LE70350322008118EDC00_fmask", Some(("LE70350322008118EDC00", "fmask"))),
            ("scene-red", Some(("scene", "red"))),
            ("scene.VV", Some(("scene", "VV"))),
            ("olinda_dem", Some(("olinda", "dem"))),
            ("dem", None),
            ("m_3607717_sw_18_1_20160620", None),
            ("h12v10_006", None),
            ("B04", None),
        ] {
            assert_eq!(band_suffix(stem), expect, "{stem}");
        }
    }
}
