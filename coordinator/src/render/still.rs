//! A whole result as one picture, each pixel as a square of picture pixels: what the command line writes.

use graticule_common::block::{Block, Kind, Samples};

use super::{ENLARGE_MAX, RenderError, Style, check};

/// A block as the bytes of a PNG. The same block and style give the same bytes.
///
/// # Errors
/// [`RenderError`] for what is not a mosaic of one or three bands, and for a stretch without extent.
pub fn png(block: &Block, style: &Style) -> Result<Vec<u8>, RenderError> {
    check(block.kind(), style)?;
    let picture = match (block.kind(), block.samples()) {
        (Kind::Mosaic { bands: 1 }, Samples::F32(values)) => mapped(values, block.valid(), style),
        (Kind::Mosaic { bands: 1 }, Samples::Bool(values)) => two_colours(values, block.valid(), style),
        (Kind::Mosaic { bands: 3 }, Samples::F32(values)) => composite(values, block, &style.stretch),
        (Kind::Mosaic { bands: 3 }, Samples::Bool(values)) => {
            let values: Vec<f32> = values.iter().map(|v| f32::from(*v)).collect();
            composite(&values, block, &[(0.0, 1.0)])
        }
        (Kind::Mosaic { bands }, _) => return Err(RenderError::BandCount { bands }),
        (kind @ (Kind::Number | Kind::Array(_) | Kind::Stack { .. }), _) => {
            return Err(RenderError::NotAMosaic { kind });
        }
    };
    let (rows, cols) = block.shape();
    let factor = style.enlarge_to.min(ENLARGE_MAX).div_ceil(rows.max(cols).max(1)).max(1);
    encode(&picture, (rows, cols), factor).map_err(|error| RenderError::Encode { reason: error.to_string() })
}

/// A picture before it is enlarged and encoded.
struct Picture {
    /// Colours that the bytes of `pixels` stand for, the first one transparent; without colours a pixel
    /// is red, green, blue and alpha.
    palette: Option<Vec<[u8; 3]>>,
    pixels: Vec<u8>,
}

/// Colours that a palette of 256 has left beside the transparent one.
const SHADES: usize = 255;

fn mapped(values: &[f32], valid: &[u8], style: &Style) -> Picture {
    let stretch = style.stretch.first().copied().unwrap_or_else(|| percentiles(values, valid));
    let colours = style.colormap.colours();
    let spread = |shade: usize| colours[(shade * (colours.len() - 1) + (SHADES - 1) / 2) / (SHADES - 1)];
    let palette = std::iter::once([0; 3]).chain((0..SHADES).map(spread)).collect();
    let shade = |(value, ok): (&f32, &u8)| match position(*value, *ok, stretch) {
        Some(at) => 1 + (at * (SHADES - 1) as f32).round() as u8,
        None => 0,
    };
    Picture { palette: Some(palette), pixels: values.iter().zip(valid).map(shade).collect() }
}

fn two_colours(values: &[u8], valid: &[u8], style: &Style) -> Picture {
    let colours = style.colormap.colours();
    let palette = vec![[0; 3], colours[0], colours[colours.len() - 1]];
    let shade = |(value, ok): (&u8, &u8)| if *ok == 1 { 1 + value } else { 0 };
    Picture { palette: Some(palette), pixels: values.iter().zip(valid).map(shade).collect() }
}

/// A pixel is shown where all three bands have a value.
fn composite(values: &[f32], block: &Block, stretch: &[(f32, f32)]) -> Picture {
    let plane = block.pixels();
    let bands: Vec<_> = values.chunks(plane).zip(block.valid().chunks(plane)).collect();
    let stretches: Vec<_> = bands
        .iter()
        .enumerate()
        .map(|(band, (values, valid))| {
            let given = stretch.get(band).or(stretch.first()).copied();
            given.unwrap_or_else(|| percentiles(values, valid))
        })
        .collect();
    let mut pixels = Vec::with_capacity(4 * plane);
    for at in 0..plane {
        let mut colour = [0, 0, 0, 255];
        for (channel, ((values, valid), stretch)) in colour.iter_mut().zip(bands.iter().zip(&stretches)) {
            match position(values[at], valid[at], *stretch) {
                Some(at) => *channel = (at * 255.0).round() as u8,
                None => {
                    colour = [0; 4];
                    break;
                }
            }
        }
        pixels.extend(colour);
    }
    Picture { palette: None, pixels }
}

/// Where a value lies between the ends of a stretch, from 0 to 1; `None` for a pixel without a value.
fn position(value: f32, valid: u8, (low, high): (f32, f32)) -> Option<f32> {
    if valid == 0 || value.is_nan() {
        return None;
    }
    // In double precision: the difference of two floats can exceed all floats.
    let (value, low, high) = (f64::from(value), f64::from(low), f64::from(high));
    if low == high {
        // Equal values are in the middle; what the percentiles cut off keeps its side.
        return Some(if value == low { 0.5 } else { f32::from(value > low) });
    }
    Some(((value - low) / (high - low)).clamp(0.0, 1.0) as f32)
}

/// The 2nd and the 98th percentile: the values at these shares of the sorted valid, finite ones, the
/// nearest rank. Zeros if there are none.
fn percentiles(values: &[f32], valid: &[u8]) -> (f32, f32) {
    let mut kept: Vec<f32> = values
        .iter()
        .zip(valid)
        .filter_map(|(value, ok)| (*ok == 1 && value.is_finite()).then_some(*value))
        .collect();
    let Some(last) = kept.len().checked_sub(1) else { return (0.0, 0.0) };
    let mut at = |share: f64| {
        let rank = (share * last as f64).round() as usize;
        *kept.select_nth_unstable_by(rank, f32::total_cmp).1
    };
    (at(0.02), at(0.98))
}

fn encode(picture: &Picture, (rows, cols): (u32, u32), factor: u32) -> Result<Vec<u8>, png::EncodingError> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, cols * factor, rows * factor);
    encoder.set_depth(png::BitDepth::Eight);
    let channels = match &picture.palette {
        Some(palette) => {
            encoder.set_color(png::ColorType::Indexed);
            encoder.set_palette(palette.concat());
            encoder.set_trns(vec![0]);
            1
        }
        None => {
            encoder.set_color(png::ColorType::Rgba);
            4
        }
    };
    let factor = factor as usize;
    let width = cols as usize * channels;
    let mut enlarged = Vec::with_capacity(picture.pixels.len() * factor * factor);
    for row in picture.pixels.chunks(width.max(1)) {
        let start = enlarged.len();
        row.chunks(channels).for_each(|pixel| (0..factor).for_each(|_| enlarged.extend_from_slice(pixel)));
        let end = enlarged.len();
        (1..factor).for_each(|_| enlarged.extend_from_within(start..end));
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&enlarged)?;
    writer.finish()?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::Colormap;
    use super::*;

    fn mosaic(bands: u32, shape: (u32, u32), values: Vec<f32>, valid: Vec<u8>) -> Block {
        Block::new(Kind::Mosaic { bands }, shape, Samples::F32(values), valid)
    }

    fn plain(stretch: Option<(f32, f32)>) -> Style {
        Style { stretch: stretch.into_iter().collect(), enlarge_to: 1, ..Style::default() }
    }

    /// Rows, columns and red, green, blue, alpha of each pixel.
    fn decode(bytes: &[u8]) -> ((u32, u32), Vec<[u8; 4]>) {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
        decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::ALPHA);
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!(info.color_type, png::ColorType::Rgba);
        let pixels = pixels[..info.buffer_size()].as_chunks::<4>().0.to_vec();
        ((info.height, info.width), pixels)
    }

    fn opaque([red, green, blue]: [u8; 3]) -> [u8; 4] {
        [red, green, blue, 255]
    }

    #[test]
    fn one_band_through_a_colour_map() {
        let block = mosaic(1, (2, 3), vec![0.0, 1.0, 9.0, 0.5, -3.0, f32::NAN], vec![1, 1, 0, 1, 1, 1]);
        let (shape, pixels) = decode(&png(&block, &plain(Some((0.0, 1.0)))).unwrap());
        let map = Colormap::from_name("viridis").unwrap().colours();
        assert_eq!(shape, (2, 3));
        let (low, high, none) = (opaque(map[0]), opaque(map[255]), [0; 4]);
        assert_eq!(pixels, [low, high, none, opaque(map[128]), low, none]);
        let style = Style { colormap: Colormap::from_name("RdYlGn").unwrap(), ..plain(Some((0.0, 1.0))) };
        assert_eq!(decode(&png(&block, &style).unwrap()).1[1], opaque(style.colormap.colours()[255]));
    }

    #[test]
    fn enlarged_by_whole_pixels() {
        let block = mosaic(1, (2, 3), vec![0.0, 1.0, 0.0, 1.0, 0.0, 1.0], vec![1; 6]);
        let (_, small) = decode(&png(&block, &plain(None)).unwrap());
        let (shape, large) = decode(&png(&block, &Style { enlarge_to: 10, ..plain(None) }).unwrap());
        assert_eq!(shape, (8, 12));
        for (i, pixel) in large.iter().enumerate() {
            assert_eq!(*pixel, small[i / 12 / 4 * 3 + i % 12 / 4], "pixel {i}");
        }
        let native = mosaic(1, (61, 61), vec![0.0; 61 * 61], vec![1; 61 * 61]);
        assert_eq!(decode(&png(&native, &Style::default()).unwrap()).0, (671, 671));
    }

    #[test]
    fn stretch_comes_from_percentiles() {
        let values: Vec<f32> = (0..=100).map(|v| v as f32).collect();
        let mut valid = vec![1; 101];
        assert_eq!(percentiles(&values, &valid), (2.0, 98.0));
        valid[51..].fill(0);
        assert_eq!(percentiles(&values, &valid), (1.0, 49.0));
        assert_eq!(percentiles(&[f32::INFINITY, f32::NAN], &[1, 1]), (0.0, 0.0));
        // A constant raster is in the middle of the map, an outlier at its end.
        assert_eq!(position(5.0, 1, (5.0, 5.0)), Some(0.5));
        assert_eq!(position(6.0, 1, (5.0, 5.0)), Some(1.0));
        assert_eq!(position(f32::MAX, 1, (f32::MIN, f32::MAX)), Some(1.0));
        let empty = mosaic(1, (1, 2), vec![0.0; 2], vec![0; 2]);
        assert_eq!(decode(&png(&empty, &plain(None)).unwrap()).1, [[0; 4]; 2]);
    }

    #[test]
    fn three_bands_are_red_green_blue() {
        let values = vec![0.0, 10.0, 5.0, 0.0, 10.0, 5.0, 10.0, 10.0, 5.0];
        let block = mosaic(3, (1, 3), values, vec![1, 1, 1, 1, 1, 1, 1, 1, 0]);
        let (_, pixels) = decode(&png(&block, &plain(Some((0.0, 10.0)))).unwrap());
        assert_eq!(pixels, [[0, 0, 255, 255], [255, 255, 255, 255], [0; 4]]);
    }

    #[test]
    fn each_band_has_a_range_of_its_own() {
        let block = mosaic(3, (1, 1), vec![1.0, 1.0, 1.0], vec![1; 3]);
        let style = Style { stretch: vec![(0.0, 1.0), (1.0, 2.0), (0.0, 5.0)], ..plain(None) };
        assert_eq!(decode(&png(&block, &style).unwrap()).1, [[255, 0, 51, 255]]);
        let two = Style { stretch: vec![(0.0, 1.0), (1.0, 2.0)], ..plain(None) };
        assert!(matches!(png(&block, &two), Err(RenderError::StretchCount { stretches: 2, bands: 3 })));
    }

    #[test]
    fn truth_in_two_colours() {
        let block =
            Block::new(Kind::Mosaic { bands: 1 }, (1, 3), Samples::Bool(vec![0, 1, 1]), vec![1, 1, 0]);
        let map = Colormap::default().colours();
        let (_, pixels) = decode(&png(&block, &plain(None)).unwrap());
        assert_eq!(pixels, [opaque(map[0]), opaque(map[255]), [0; 4]]);
        let block = Block::new(Kind::Mosaic { bands: 3 }, (1, 1), Samples::Bool(vec![0, 1, 1]), vec![1; 3]);
        assert_eq!(decode(&png(&block, &plain(None)).unwrap()).1, [[0, 255, 255, 255]]);
    }

    #[test]
    fn what_is_not_a_picture_says_what_to_do() {
        let block = |kind: Kind| Block::invalid(kind, graticule_common::block::DType::F32, (2, 2));
        let stack = png(&block(Kind::Stack { images: 2, bands: 1 }), &plain(None)).unwrap_err();
        assert!(stack.to_string().contains("reduce it over images"), "{stack}");
        let two = png(&block(Kind::Mosaic { bands: 2 }), &plain(None)).unwrap_err();
        assert!(two.to_string().contains("pick_bands"), "{two}");
        assert!(png(&block(Kind::Number), &plain(None)).is_err());
        for stretch in [(1.0, 1.0), (2.0, 1.0), (f32::NAN, 1.0), (0.0, f32::INFINITY)] {
            let error = png(&block(Kind::Mosaic { bands: 1 }), &plain(Some(stretch))).unwrap_err();
            assert!(matches!(error, RenderError::Stretch { .. }));
        }
        let unknown = Colormap::from_name("jets").unwrap_err();
        assert!(unknown.to_string().contains("viridis"), "{unknown}");
    }
}
