//! Text and rectangles in pictures of few colours.

use font8x8::{BASIC_FONTS, UnicodeFonts as _};

/// Rows and columns of a character.
pub(super) const GLYPH: u32 = 8;

/// Columns of a text.
pub(super) fn width(characters: usize, scale: u32) -> u32 {
    characters as u32 * GLYPH * scale
}

/// Indices of colours that are drawn on; 0 is the background.
pub(super) struct Canvas {
    rows: u32,
    cols: u32,
    pub(super) pixels: Vec<u8>,
}

impl Canvas {
    pub(super) fn new(rows: u32, cols: u32) -> Canvas {
        Canvas { rows, cols, pixels: vec![0; rows as usize * cols as usize] }
    }

    /// Fills a rectangle, as much of it as there is. (row, col), (rows, cols).
    pub(super) fn fill(&mut self, (row, col): (u32, u32), (rows, cols): (u32, u32), colour: u8) {
        let (left, right) = (col.min(self.cols) as usize, col.saturating_add(cols).min(self.cols) as usize);
        for row in row..row.saturating_add(rows).min(self.rows) {
            let start = row as usize * self.cols as usize;
            self.pixels[start + left..start + right].fill(colour);
        }
    }

    /// Draws the edges.
    pub(super) fn edge(&mut self, colour: u8, width: u32) {
        let (rows, cols) = (self.rows, self.cols);
        self.fill((0, 0), (width, cols), colour);
        self.fill((rows.saturating_sub(width), 0), (width, cols), colour);
        self.fill((0, 0), (rows, width), colour);
        self.fill((0, cols.saturating_sub(width)), (rows, width), colour);
    }

    /// Draws a line of text from its upper left corner (row, col); what is beyond the edge is not drawn.
    pub(super) fn text(&mut self, text: &str, (top, left): (u32, u32), scale: u32, colour: u8) {
        for (at, character) in text.chars().enumerate() {
            let glyph = BASIC_FONTS.get(character).or(BASIC_FONTS.get('?')).unwrap_or_default();
            let left = left + width(at, scale);
            for (row, bits) in glyph.into_iter().enumerate() {
                for col in (0..GLYPH).filter(|col| bits >> col & 1 == 1) {
                    let place = (top + row as u32 * scale, left + col * scale);
                    self.fill(place, (scale, scale), colour);
                }
            }
        }
    }
}
