//! What colours mean, as a picture.

use super::picture::{Picture, Pixels};
use super::text::{Canvas, GLYPH, width};
use super::{Colours, TileStyle};

/// Columns of a legend: one for each colour of a map, and the margins.
const COLS: u32 = 256 + 2 * MARGIN;
const MARGIN: u32 = 8;
/// Rows of the bar, and of a class.
const BAR: u32 = 16;
const ROW: u32 = 14;
/// Colours of a legend's own: background and text.
const OWN: [[u8; 4]; 2] = [[255, 255, 255, 235], [40, 40, 40, 255]];
const TEXT: u8 = 1;
/// Colours that a palette has left.
const SHADES: usize = 256 - OWN.len();

/// The legend of a style for one band: a bar with the ends and the middle of the stretch, or the classes with
/// their names, as many as a palette has colours.
pub fn legend(style: &TileStyle) -> Picture {
    let opaque = |[r, g, b]: [u8; 3]| [r, g, b, 255];
    let mut palette = OWN.to_vec();
    let canvas = match &style.colours {
        Colours::Map(map) => {
            let colours = map.colours();
            let place = |shade: usize| (shade * (colours.len() - 1) + (SHADES - 1) / 2) / (SHADES - 1);
            palette.extend((0..SHADES).map(|shade| opaque(colours[place(shade)])));
            let rows = 2 * MARGIN + BAR + 4 + GLYPH;
            let mut canvas = Canvas::new(rows, COLS);
            for col in 0..256 {
                let shade = (col * (SHADES - 1) + 127) / 255;
                canvas.fill((MARGIN, MARGIN + col as u32), (BAR, 1), (OWN.len() + shade) as u8);
            }
            // Without a stretch each tile has one of its own.
            let stretch = style.stretch.first().copied().flatten();
            let labels = match stretch {
                Some((low, high)) => [low, low + (high - low) / 2.0, high].map(number),
                None => ["min".to_owned(), String::new(), "max".to_owned()],
            };
            let top = MARGIN + BAR + 4;
            for (at, label) in labels.iter().enumerate() {
                let room = COLS - 2 * MARGIN;
                let left = room.saturating_sub(width(label.len(), 1)) * at as u32 / 2;
                canvas.text(label, (top, MARGIN + left), 1, TEXT);
            }
            canvas
        }
        Colours::Classes(classes) => {
            let shown = &classes.given()[..classes.given().len().min(SHADES)];
            palette.extend(shown.iter().map(|class| opaque(class.colour)));
            let mut canvas = Canvas::new(2 * MARGIN + ROW * shown.len() as u32, COLS);
            for (at, class) in shown.iter().enumerate() {
                let top = MARGIN + ROW * at as u32;
                canvas.fill((top, MARGIN), (ROW - 2, 2 * ROW), (OWN.len() + at) as u8);
                let label = match (&*class.name, class.matches) {
                    ("", super::Matches::Value(at)) => number(at.into()),
                    ("", super::Matches::Range(low, high)) => {
                        format!("{} - {}", number(low.into()), number(high.into()))
                    }
                    (name, _) => name.to_owned(),
                };
                canvas.text(&label, (top + 2, 2 * MARGIN + 2 * ROW), 1, TEXT);
            }
            canvas
        }
    };
    let rows = (canvas.pixels.len() / COLS as usize) as u32;
    Picture { rows, cols: COLS, pixels: Pixels::Indexed { palette, indices: canvas.pixels } }
}

/// A number in few characters.
fn number(value: f64) -> String {
    let size = value.abs();
    if value != 0.0 && !(1e-3..1e6).contains(&size) {
        return format!("{value:.2e}");
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::{Class, Classes, Colormap, Matches};
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in
            [(0.0, "0"), (0.25, "0.25"), (3000.0, "3000"), (-1.5, "-1.5"), (1e-9, "1.00e-9"), (2e7, "2.00e7")]
        {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_bar_runs_from_the_first_colour_to_the_last() {
        let map = Colormap::default();
        let style = TileStyle { stretch: vec![Some((0.0, 1.0))], ..TileStyle::default() };
        let picture = legend(&style);
        let row = (MARGIN * COLS) as usize;
        let rgba = picture.pixels.into_rgba();
        let pixel = |col: u32| &rgba[4 * (row + (MARGIN + col) as usize)..][..3];
        assert_eq!((pixel(0), pixel(255)), (&map.colours()[0][..], &map.colours()[255][..]));
    }

    #[test]
    fn any_number_of_classes_has_a_legend() {
        let class = |at: usize| Class {
            matches: Matches::Value(at as f32),
            colour: [at as u8, 0, 0],
            name: "n".repeat(at),
        };
        for count in [1, 254, 256] {
            let classes = Classes::new((0..count).map(class).collect()).unwrap();
            let style = TileStyle { colours: Colours::Classes(classes.into()), ..TileStyle::default() };
            assert!(legend(&style).png().unwrap().starts_with(b"\x89PNG"));
        }
    }
}
