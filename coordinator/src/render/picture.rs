//! Pictures and their encodings. The same picture gives the same bytes.

use super::RenderError;

/// A pixel that is not seen.
pub(super) const TRANSPARENT: [u8; 4] = [0; 4];

/// What a JPEG shows where a picture is transparent.
const PAPER: u8 = 255;

/// Quality of JPEGs, of 100.
const JPEG_QUALITY: u8 = 85;

/// A picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub cols: u32,
    /// Its pixels, row by row.
    pub pixels: Pixels,
}

/// Pixels of a picture.
#[derive(Clone, Debug, PartialEq)]
pub enum Pixels {
    /// Places in a palette of at most 256 colours: red, green, blue, alpha.
    Indexed {
        /// The colours.
        palette: Vec<[u8; 4]>,
        /// For each pixel which.
        indices: Vec<u8>,
    },
    /// Red, green, blue.
    Rgb(Vec<u8>),
    /// Red, green, blue, alpha.
    Rgba(Vec<u8>),
}

impl Pixels {
    /// As red, green, blue, alpha.
    pub fn into_rgba(self) -> Vec<u8> {
        match self {
            Pixels::Rgba(pixels) => pixels,
            Pixels::Rgb(pixels) => {
                pixels.as_chunks::<3>().0.iter().flat_map(|[r, g, b]| [*r, *g, *b, 255]).collect()
            }
            Pixels::Indexed { palette, indices } => {
                indices.iter().flat_map(|index| palette[usize::from(*index)]).collect()
            }
        }
    }

    /// As red, green, blue on paper.
    fn on_paper(&self) -> Vec<u8> {
        let over = |[r, g, b, alpha]: [u8; 4]| {
            let mixed = |channel: u8| {
                let (alpha, paper) = (u32::from(alpha), u32::from(PAPER));
                ((u32::from(channel) * alpha + paper * (255 - alpha) + 127) / 255) as u8
            };
            [mixed(r), mixed(g), mixed(b)]
        };
        match self {
            Pixels::Rgb(pixels) => pixels.clone(),
            Pixels::Rgba(pixels) => pixels.as_chunks::<4>().0.iter().flat_map(|pixel| over(*pixel)).collect(),
            Pixels::Indexed { palette, indices } => {
                let palette: Vec<[u8; 3]> = palette.iter().map(|colour| over(*colour)).collect();
                indices.iter().flat_map(|index| palette[usize::from(*index)]).collect()
            }
        }
    }
}

impl Picture {
    /// As a PNG.
    ///
    /// # Errors
    /// [`RenderError::Encode`].
    pub fn png(&self) -> Result<Vec<u8>, RenderError> {
        self.try_png().map_err(|error| RenderError::Encode { reason: error.to_string() })
    }

    fn try_png(&self) -> Result<Vec<u8>, png::EncodingError> {
        // Tiles are made faster than they are looked at only if encoding takes no time: the quick compressor
        // takes a tenth of the time of the usual one.
        let mut out = Vec::with_capacity(32 << 10);
        let mut encoder = png::Encoder::new(&mut out, self.cols, self.rows);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fastest);
        let bytes = match &self.pixels {
            Pixels::Indexed { palette, indices } => {
                encoder.set_color(png::ColorType::Indexed);
                encoder.set_palette(palette.iter().flat_map(|[r, g, b, _]| [*r, *g, *b]).collect::<Vec<_>>());
                if let Some(last) = palette.iter().rposition(|colour| colour[3] != 255) {
                    encoder.set_trns(palette[..=last].iter().map(|colour| colour[3]).collect::<Vec<_>>());
                }
                indices
            }
            Pixels::Rgb(pixels) => {
                encoder.set_color(png::ColorType::Rgb);
                pixels
            }
            Pixels::Rgba(pixels) => {
                encoder.set_color(png::ColorType::Rgba);
                pixels
            }
        };
        let mut writer = encoder.write_header()?;
        writer.write_image_data(bytes)?;
        writer.finish()?;
        Ok(out)
    }

    /// As a JPEG, on white where it is transparent.
    ///
    /// # Errors
    /// [`RenderError::Encode`], also for more than 65,535 rows or columns.
    pub fn jpeg(&self) -> Result<Vec<u8>, RenderError> {
        let failed = |reason: String| RenderError::Encode { reason };
        let side = |side: u32| {
            let too_long = |_| failed(format!("a JPEG has at most {} rows and columns", u16::MAX));
            u16::try_from(side).map_err(too_long)
        };
        let (rows, cols) = (side(self.rows)?, side(self.cols)?);
        let mut out = Vec::with_capacity(32 << 10);
        jpeg_encoder::Encoder::new(&mut out, JPEG_QUALITY)
            .encode(&self.pixels.on_paper(), cols, rows, jpeg_encoder::ColorType::Rgb)
            .map_err(|error| failed(error.to_string()))?;
        Ok(out)
    }
}
