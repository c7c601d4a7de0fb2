//! Colour maps by the names that matplotlib gives them.

use super::RenderError;
use super::colormaps::{NAMES, TABLES};

/// Colours of a map.
const COLOURS: usize = 256;
/// Bytes of a map.
const MAP_BYTES: usize = 3 * COLOURS;

/// A table of 256 colours from low to high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colormap(usize);

impl Default for Colormap {
    /// `viridis`: as readable in grey and to the colour-blind.
    fn default() -> Self {
        Colormap(NAMES.binary_search(&"viridis").unwrap_or(0))
    }
}

impl Colormap {
    /// The map of a name as matplotlib spells it; with `_r` behind it, reversed.
    ///
    /// # Errors
    /// [`RenderError::UnknownColormap`].
    pub fn from_name(name: &str) -> Result<Self, RenderError> {
        let unknown = |_| RenderError::UnknownColormap { name: name.to_owned() };
        NAMES.binary_search(&name).map(Colormap).map_err(unknown)
    }

    /// The map's name.
    pub fn name(self) -> &'static str {
        NAMES[self.0]
    }

    /// Every name, sorted.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().copied()
    }

    /// Every map, sorted by name.
    pub fn all() -> impl Iterator<Item = Colormap> {
        (0..NAMES.len()).map(Colormap)
    }

    /// Red, green and blue from low to high.
    pub fn colours(self) -> &'static [[u8; 3]] {
        TABLES[MAP_BYTES * self.0..][..MAP_BYTES].as_chunks().0
    }
}

/// What to ask for instead of a name that is none.
pub(super) fn way_out(name: &str) -> String {
    match NAMES.iter().find(|known| known.eq_ignore_ascii_case(name)) {
        Some(known) => format!("did you mean `{known}`?"),
        None => {
            let often = "viridis, magma, inferno, cividis, turbo, gray, terrain, RdYlGn, RdBu";
            let count = NAMES.len();
            format!("known are the {count} of matplotlib, among them {often}, each with `_r` also reversed")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::colormaps::DIGEST;
    use super::*;

    /// The generator hashes what matplotlib looks up; here is what the engine looks up.
    #[test]
    fn tables_are_matplotlibs() {
        let mut digest: u64 = 0xcbf2_9ce4_8422_2325;
        for map in Colormap::all() {
            let bytes = map.name().bytes().chain(map.colours().iter().flatten().copied());
            bytes.for_each(|byte| digest = (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        }
        assert_eq!(digest, DIGEST);
        assert_eq!(TABLES.len(), NAMES.len() * MAP_BYTES);
        assert!(NAMES.is_sorted() && NAMES.len() > 150);
    }

    #[test]
    fn names_are_those_of_matplotlib() {
        for name in ["viridis", "viridis_r", "RdYlGn_r", "tab10", "twilight_shifted", "jet"] {
            assert_eq!(Colormap::from_name(name).unwrap().name(), name);
        }
        assert_eq!(Colormap::default().name(), "viridis");
        assert_eq!(Colormap::default().colours()[0], [68, 1, 84]);
        assert_eq!(Colormap::from_name("viridis_r").unwrap().colours()[255], [68, 1, 84]);
        let error = Colormap::from_name("Viridis").unwrap_err().to_string();
        assert!(error.contains("did you mean `viridis`?"), "{error}");
        for name in ["", "_r", "viridis_r_r", "virid\u{131}s"] {
            assert!(matches!(Colormap::from_name(name), Err(RenderError::UnknownColormap { .. })), "{name}");
        }
    }
}
