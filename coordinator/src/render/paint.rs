//! Tiles of a map as pictures: one band through a colour map or in classes, three bands as red, green and
//! blue. What has no value is transparent or shows a checkerboard.

use std::sync::Arc;

use graticule_common::block::{Block, Kind, Samples};

use super::picture::{Picture, Pixels, TRANSPARENT};
use super::{Classes, Colormap, RenderError};

/// How a tile is shown.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TileStyle {
    /// For each band the values shown as 0 and as 255; what is beyond them is shown as they are. Where there
    /// is none: the lowest and the highest finite value of the tile, and for truth values false and true.
    pub stretch: Vec<Option<(f64, f64)>>,
    /// Colours of one band; three bands have their own.
    pub colours: Colours,
    /// Whether what has no value shows a checkerboard instead of being transparent.
    pub checkerboard: bool,
}

/// Colours of one band.
#[derive(Clone, Debug, PartialEq)]
pub enum Colours {
    /// By a colour map.
    Map(Colormap),
    /// Classes; values of none of them are shown as no value.
    Classes(Arc<Classes>),
}

impl Default for Colours {
    fn default() -> Self {
        Colours::Map(Colormap::default())
    }
}

/// The two colours of a checkerboard.
const CHECKERS: [[u8; 4]; 2] = [[255, 255, 255, 255], [205, 205, 205, 255]];

/// Squares of a checkerboard along a tile's side. An even number: it goes on in the neighbouring tile.
const CHECKERS_ALONG: u32 = 32;

/// A tile's block as a picture. `opacity` is a band on the same pixels, from 0 to 1; what has no value
/// there is transparent.
///
/// # Errors
/// [`RenderError`] for what is not a mosaic of one or three bands.
pub fn paint(block: &Block, style: &TileStyle, opacity: Option<&Block>) -> Result<Picture, RenderError> {
    let (rows, cols) = block.shape();
    let checkers = style.checkerboard.then(|| Checkers { cols, square: (cols / CHECKERS_ALONG).max(1) });
    let pixels = match (block.kind(), &style.colours) {
        (Kind::Mosaic { bands: 1 }, Colours::Map(map)) => {
            let values = values(block.samples());
            mapped(&values, block.valid(), stretch(block, style, 0, &values), *map, checkers)
        }
        (Kind::Mosaic { bands: 1 }, Colours::Classes(classes)) => {
            classified(&values(block.samples()), block.valid(), classes, checkers)
        }
        (Kind::Mosaic { bands: 3 }, _) => composite(block, style, checkers),
        (Kind::Mosaic { bands }, _) => return Err(RenderError::BandCount { bands }),
        (kind @ (Kind::Number | Kind::Array(_) | Kind::Stack { .. }), _) => {
            return Err(RenderError::NotAMosaic { kind });
        }
    };
    let picture = Picture { rows, cols, pixels };
    let Some(opacity) = opacity else { return Ok(picture) };
    if opacity.kind() != (Kind::Mosaic { bands: 1 }) || opacity.shape() != block.shape() {
        let (rows, cols) = opacity.shape();
        return Err(RenderError::Alpha { kind: opacity.kind(), rows, cols });
    }
    Ok(faded(picture, opacity))
}

/// The squares that show where there is no value.
#[derive(Clone, Copy)]
struct Checkers {
    cols: u32,
    square: u32,
}

impl Checkers {
    /// Which of the two colours a pixel has.
    fn at(self, pixel: usize) -> usize {
        let (row, col) = (pixel as u32 / self.cols, pixel as u32 % self.cols);
        ((row / self.square + col / self.square) % 2) as usize
    }
}

fn values(samples: &Samples) -> std::borrow::Cow<'_, [f32]> {
    match samples {
        Samples::F32(values) => values.into(),
        Samples::Bool(values) => values.iter().map(|value| f32::from(*value)).collect(),
    }
}

fn has_value(value: f32, valid: u8) -> bool {
    valid == 1 && !value.is_nan()
}

/// The stretch of a band; of the tile's own values where none is given.
fn stretch(block: &Block, style: &TileStyle, band: usize, values: &[f32]) -> (f64, f64) {
    if let Some(given) = style.stretch.get(band).copied().flatten() {
        return given;
    }
    if matches!(block.samples(), Samples::Bool(_)) {
        return (0.0, 1.0);
    }
    let valid = &block.valid()[band * block.pixels()..][..values.len()];
    let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
    for (value, ok) in values.iter().zip(valid) {
        if *ok == 1 && value.is_finite() {
            (low, high) = (low.min(*value), high.max(*value));
        }
    }
    if low > high { (0.0, 0.0) } else { (f64::from(low), f64::from(high)) }
}

/// Where values lie between the ends of a stretch, from 0 to 255. A stretch may go down.
fn stretched(values: &[f32], (low, high): (f64, f64)) -> Vec<u8> {
    if low == high {
        // Equal values are in the middle; what lies beside keeps its side.
        let side = |value: &f32| match f64::from(*value) {
            value if value == low => 128,
            value => 255 * u8::from(value > low),
        };
        return values.iter().map(side).collect();
    }
    /// Added to a number from 0 to 255 it leaves the nearest whole number in the lowest byte, of two as near the
    /// even one. A conversion would be a test and a branch for every pixel.
    const WHOLE: f64 = (1u64 << 52) as f64;
    let span = high - low;
    let byte = |value: &f32| {
        let at = (f64::from(*value) - low) / span * 255.0;
        // What is no number becomes 0, and is never shown.
        let at = if at > 0.0 { at } else { 0.0 };
        let at = if at < 255.0 { at } else { 255.0 };
        (at + WHOLE).to_bits() as u8
    };
    values.iter().map(byte).collect()
}

fn mapped(
    values: &[f32],
    valid: &[u8],
    stretch: (f64, f64),
    map: Colormap,
    checkers: Option<Checkers>,
) -> Pixels {
    let mut indices = stretched(values, stretch);
    let mut palette: Vec<[u8; 4]> = map.colours().iter().map(|[r, g, b]| [*r, *g, *b, 255]).collect();
    let hidden = |(value, ok): (&f32, &u8)| !has_value(*value, *ok);
    if !values.iter().zip(valid).any(hidden) {
        return Pixels::Indexed { palette, indices };
    }
    let mut used = [false; 256];
    let shown = indices.iter().zip(values.iter().zip(valid));
    shown.for_each(|(index, (value, ok))| used[usize::from(*index)] |= has_value(*value, *ok));
    let places = match checkers {
        Some(_) => 2,
        None => 1,
    };
    let free = free_places(&mut palette, &used, &mut indices, places);
    let special = |pixel| checkers.map_or(0, |checkers| checkers.at(pixel));
    for (pixel, (index, (value, ok))) in indices.iter_mut().zip(values.iter().zip(valid)).enumerate() {
        if !has_value(*value, *ok) {
            *index = free[special(pixel)];
        }
    }
    let colours = if checkers.is_some() { &CHECKERS[..] } else { &[TRANSPARENT][..] };
    free.iter().zip(colours).for_each(|(at, colour)| palette[usize::from(*at)] = *colour);
    Pixels::Indexed { palette, indices }
}

/// Places of a palette of 256 that no pixel has. Where all are taken, the neighbours that differ least become
/// one: a picture has no more than 256 colours.
fn free_places(palette: &mut [[u8; 4]], used: &[bool; 256], indices: &mut [u8], count: usize) -> Vec<u8> {
    let mut free: Vec<u8> = (0..=255).filter(|at| !used[usize::from(*at)]).take(count).collect();
    if free.len() == count {
        return free;
    }
    let difference = |at: &u8| {
        let at = usize::from(*at);
        let channels = palette[at].iter().zip(&palette[at + 1]);
        channels.map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>()
    };
    // With one place free, its neighbours are none of the pairs: their colours may be any.
    let mut pairs: Vec<u8> =
        (0..255).filter(|at| used[usize::from(*at)] && used[usize::from(*at) + 1]).collect();
    pairs.sort_by_key(|at| (difference(at), *at));
    let mut goes_to: Vec<u8> = (0..=255).collect();
    let mut merged: Vec<u8> = Vec::new();
    for low in pairs {
        if free.len() == count {
            break;
        }
        if merged.iter().all(|other| other.abs_diff(low) > 1) {
            goes_to[usize::from(low) + 1] = low;
            merged.push(low);
            free.push(low + 1);
        }
    }
    indices.iter_mut().for_each(|index| *index = goes_to[usize::from(*index)]);
    free
}

fn classified(values: &[f32], valid: &[u8], classes: &Classes, checkers: Option<Checkers>) -> Pixels {
    let specials = if checkers.is_some() { &CHECKERS[..] } else { &[TRANSPARENT][..] };
    let colours = classes.colours().map(|[r, g, b]| [r, g, b, 255]);
    let palette: Vec<[u8; 4]> = specials.iter().copied().chain(colours).collect();
    let mut hint = 0;
    let places = values.iter().zip(valid).enumerate().map(|(pixel, (value, ok))| {
        match classes.find(*value, hint).filter(|_| *ok == 1) {
            Some(class) => {
                hint = class;
                specials.len() + class
            }
            None => checkers.map_or(0, |checkers| checkers.at(pixel)),
        }
    });
    if palette.len() <= 256 {
        return Pixels::Indexed { indices: places.map(|place| place as u8).collect(), palette };
    }
    Pixels::Rgba(places.flat_map(|place| palette[place]).collect())
}

/// A pixel is shown where all three bands have a value.
fn composite(block: &Block, style: &TileStyle, checkers: Option<Checkers>) -> Pixels {
    let plane = block.pixels();
    let values = values(block.samples());
    let planes: Vec<&[f32]> = values.chunks(plane.max(1)).collect();
    let channel = |band: usize| stretched(planes[band], stretch(block, style, band, planes[band]));
    let (red, green, blue) = (channel(0), channel(1), channel(2));
    let colours = red.iter().zip(&green).zip(&blue).map(|((red, green), blue)| [*red, *green, *blue]);
    let mut shown = vec![true; plane];
    for (band, valid) in planes.iter().zip(block.valid().chunks(plane.max(1))) {
        let each = shown.iter_mut().zip(band.iter().zip(valid));
        each.for_each(|(shown, (value, ok))| *shown &= has_value(*value, *ok));
    }
    if shown.iter().all(|shown| *shown) {
        return Pixels::Rgb(colours.collect::<Vec<_>>().into_flattened());
    }
    if let Some(checkers) = checkers {
        let or_square = |(pixel, (colour, shown)): (usize, ([u8; 3], &bool))| match shown {
            true => colour,
            false => {
                let [r, g, b, _] = CHECKERS[checkers.at(pixel)];
                [r, g, b]
            }
        };
        return Pixels::Rgb(
            colours.zip(&shown).enumerate().map(or_square).collect::<Vec<_>>().into_flattened(),
        );
    }
    let or_none = |([r, g, b], shown): ([u8; 3], &bool)| if *shown { [r, g, b, 255] } else { TRANSPARENT };
    Pixels::Rgba(colours.zip(&shown).map(or_none).collect::<Vec<_>>().into_flattened())
}

/// A picture through which the background shines.
fn faded(picture: Picture, opacity: &Block) -> Picture {
    let values = values(opacity.samples());
    let shares = stretched(&values, (0.0, 1.0));
    let mut rgba = picture.pixels.into_rgba();
    let each = rgba.as_chunks_mut::<4>().0.iter_mut().zip(shares).zip(values.iter().zip(opacity.valid()));
    for ((pixel, share), (value, ok)) in each {
        let share = if has_value(*value, *ok) { share } else { 0 };
        let alpha = (u32::from(pixel[3]) * u32::from(share) + 127) / 255;
        // Colours that nobody sees compress badly.
        *pixel = if alpha == 0 { TRANSPARENT } else { [pixel[0], pixel[1], pixel[2], alpha as u8] };
    }
    Picture { pixels: Pixels::Rgba(rgba), ..picture }
}

#[cfg(test)]
#[path = "paint_tests.rs"]
mod tests;
