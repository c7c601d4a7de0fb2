//! Scenes whose pixel values are a formula: tests and demonstrations need no files.
//!
//! With all arithmetic on unsigned 64-bit integers, wrapping around, and row and column taken as
//! two's complement:
//!
//! ```text
//! mix(z):  z ^= z >> 30;  z *= 0xbf58476d1ce4e5b9;  z ^= z >> 27;  z *= 0x94d049bb133111eb;  z ^ z >> 31
//! h     =  mix(mix(mix(fnv1a64(name) + band) + row) + col)
//! valid =  h mod 4 != 0
//! value =  (h >> 8) mod 21 - 10  (+ 0.5 where (h >> 16) mod 8 = 0)
//! ```
//!
//! `name` is the text of `SourceRef::Synthetic` in UTF-8, `row` and `col` count on the lattice. So a
//! quarter of the pixels is invalid, and values are small: negative, zero, positive, every eighth
//! with a fraction. An asset with a pixel grid ends where that grid ends.

use graticule_common::scene::SourceRef;

use super::{BandRead, ReadError, ReadProblem, ReadStats, TileSource, warp};

/// Pixels by the formula of this module. Nodata, scale, offset and resampler do not apply: the formula
/// gives physical values, for every lattice alike.
#[derive(Clone, Copy, Debug, Default)]
pub struct Synthetic;

impl TileSource for Synthetic {
    fn read(
        &self,
        read: &BandRead<'_>,
        samples: &mut [f32],
        valid: &mut [u8],
    ) -> Result<ReadStats, ReadError> {
        let asset = &read.band.asset;
        let SourceRef::Synthetic(name) = &asset.source else {
            return Err(read.error(ReadProblem::NoReader));
        };
        let window = &read.window;
        let inside = match &asset.raster {
            None => vec![true; window.pixels()],
            Some(file) if file.crs != *read.lattice.crs() => {
                let (file, grid) = (file.crs.clone(), read.lattice.crs().clone());
                return Err(read.error(ReadProblem::NoPlace { file, grid }));
            }
            Some(file) => warp::inside(read.lattice, window, file),
        };
        let seed = mix(fnv1a64(name).wrapping_add(u64::from(read.band.band)));
        let mut pixels = samples.iter_mut().zip(valid);
        for (row, inside) in (window.row..).zip(inside.chunks(window.cols as usize)) {
            let seed = mix(seed.wrapping_add(row as u64));
            for ((col, is_inside), (sample, ok)) in (window.col..).zip(inside).zip(&mut pixels) {
                if let Some(value) = value(mix(seed.wrapping_add(col as u64)))
                    && *is_inside
                {
                    (*sample, *ok) = (value, 1);
                }
            }
        }
        Ok(ReadStats { bytes: 4 * window.pixels() as u64, opened: 0 })
    }
}

/// The value a hash stands for; `None` for an invalid pixel.
fn value(hash: u64) -> Option<f32> {
    let whole = ((hash >> 8) % 21) as f32 - 10.0;
    let fraction = if (hash >> 16).is_multiple_of(8) { 0.5 } else { 0.0 };
    (!hash.is_multiple_of(4)).then_some(whole + fraction)
}

/// The last step of SplitMix64 (Steele, Lea and Flood 2014): spreads every bit over the word.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// FNV-1a, 64 bits: short enough to write down again in a reference in another language.
fn fnv1a64(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use graticule_common::grid::{Crs, Lattice, Window};
    use graticule_common::scene::{Affine, Asset, AssetGrid, BandSource, Resampler};

    use super::super::tests::{conformance, read_all};
    use super::*;

    fn band(name: &str, number: u32, raster: Option<AssetGrid>) -> BandSource {
        let source = SourceRef::Synthetic(name.to_owned());
        BandSource::new(Arc::new(Asset { raster, ..Asset::new("data", source, "1") }), number)
    }

    fn check<R>(band: &BandSource, window: Window, f: impl FnOnce(&BandRead<'_>) -> R) -> R {
        let lattice =
            Lattice::try_new(Crs::from_canonical("EPSG:32613"), (30.0, 30.0), (15.0, -15.0)).unwrap();
        let resampler = Resampler::Near;
        f(&BandRead {
            scene: "S1",
            band,
            band_name: "red",
            lattice: &lattice,
            window,
            resampler,
            overviews: false,
        })
    }

    #[test]
    fn values_do_not_depend_on_the_window() {
        let window = Window { row: -7, col: -3, rows: 13, cols: 11 };
        check(&band("a", 1, None), window, |read| conformance(&Synthetic, read));
    }

    /// Numbers of an independent reading of the formula; they must never change.
    #[test]
    fn the_formula_is_what_is_documented() {
        let window = Window { row: -1, col: -2, rows: 2, cols: 4 };
        let (samples, valid) =
            check(&band("demo", 2, None), window, |read| read_all(&Synthetic, read)).unwrap();
        assert_eq!(valid, [1, 1, 1, 0, 0, 1, 1, 1]);
        assert_eq!(samples, [5.5, -10.0, -3.0, 0.0, 0.0, 3.0, 0.0, 4.0]);
    }

    #[test]
    fn values_are_varied() {
        let window = Window { row: 0, col: 0, rows: 100, cols: 100 };
        let read = |name, number| {
            check(&band(name, number, None), window, |read| read_all(&Synthetic, read)).unwrap()
        };
        let (samples, valid) = read("a", 1);
        let share = valid.iter().filter(|ok| **ok == 0).count();
        assert!((2000..3000).contains(&share), "{share} of 10000 invalid");
        assert!(samples.iter().any(|v| *v < 0.0) && samples.iter().any(|v| v.fract() != 0.0));
        assert_ne!(read("b", 1), read("a", 1));
        assert_ne!(read("a", 2), read("a", 1));
    }

    #[test]
    fn outside_its_grid_nothing_is_valid() {
        let crs = Crs::from_canonical("EPSG:32613");
        let grid =
            |crs| AssetGrid { crs, affine: Affine::upright((75.0, 45.0), 30.0, -30.0), rows: 3, cols: 2 };
        let window = Window { row: -4, col: 0, rows: 8, cols: 6 };
        let all = check(&band("a", 1, None), window, |read| read_all(&Synthetic, read)).unwrap();
        let cut = check(&band("a", 1, Some(grid(crs))), window, |read| read_all(&Synthetic, read)).unwrap();
        for (i, ok) in cut.1.iter().enumerate() {
            let (row, col) = (i as i64 / 6 - 4, i as i64 % 6);
            let inside = (-2..1).contains(&row) && (2..4).contains(&col);
            assert_eq!(*ok, if inside { all.1[i] } else { 0 }, "row {row}, col {col}");
        }
        let other = band("a", 1, Some(grid(Crs::from_canonical("EPSG:4326"))));
        let error = check(&other, window, |read| read_all(&Synthetic, read)).unwrap_err();
        assert!(matches!(error.problem, ReadProblem::NoPlace { .. }));
    }
}
