//! Text as a picture: what a tile shows that could not be computed.

use super::picture::{Picture, Pixels};
use super::text::{Canvas, GLYPH, width};

/// Red, green, blue and alpha of what is behind the text, of the text, and of the edge and the title.
const COLOURS: [[u8; 4]; 3] = [[255, 255, 255, 225], [60, 60, 60, 255], [176, 24, 24, 255]];
const TEXT: u8 = 1;
const TITLE: u8 = 2;

/// Pixels between the edge and the text, and between lines.
const MARGIN: u32 = 10;
const LEADING: u32 = 3;

/// A square picture of a title, a text that is wrapped and cut where there is too much of it, and a line at the
/// bottom. `side` is at least 64.
pub fn message(side: u32, title: &str, text: &str, foot: &str) -> Picture {
    let scale = (side / 256).max(1);
    let mut canvas = Canvas::new(side, side);
    canvas.edge(TITLE, scale);
    let margin = MARGIN * scale;
    let step = (GLYPH + LEADING) * scale;
    let per_line = ((side.saturating_sub(2 * margin)) / width(1, scale)).max(1) as usize;
    let bottom = side.saturating_sub(margin + GLYPH * scale);
    let mut top = margin;
    for line in wrapped(title, per_line) {
        canvas.text(&line, (top, margin), scale, TITLE);
        top += step;
    }
    top += LEADING * scale;
    let room = (bottom.saturating_sub(top) / step) as usize;
    let mut lines = wrapped(text, per_line);
    if lines.len() > room {
        lines.truncate(room);
        if let Some(last) = lines.last_mut() {
            last.truncate(per_line.saturating_sub(3));
            last.push_str("...");
        }
    }
    for line in lines {
        canvas.text(&line, (top, margin), scale, TEXT);
        top += step;
    }
    canvas.text(&wrapped(foot, per_line).concat(), (bottom, margin), scale, TEXT);
    let pixels = Pixels::Indexed { palette: COLOURS.to_vec(), indices: canvas.pixels };
    Picture { rows: side, cols: side, pixels }
}

/// Lines of at most so many characters; words that are longer are broken. What the font does not have is shown
/// as `?`.
fn wrapped(text: &str, per_line: usize) -> Vec<String> {
    let known = |c: char| match c {
        ' '..='~' => c,
        _ => '?',
    };
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let word: Vec<char> = word.chars().map(known).collect();
        for (at, part) in word.chunks(per_line).enumerate() {
            let Some(line) = lines.last_mut() else { return lines };
            let gap = usize::from(at == 0 && !line.is_empty());
            if line.len() + gap + part.len() <= per_line && at == 0 {
                line.push_str(&" ".repeat(gap));
                line.extend(part);
            } else {
                lines.push(part.iter().collect());
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_wrapped_at_words() {
        assert_eq!(wrapped("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrapped("/a/long/path is", 6), ["/a/lon", "g/path", "is"]);
        assert_eq!(wrapped("\u{e9}", 6), ["?"]);
        assert_eq!(wrapped("", 6), [""]);
    }

    #[test]
    fn any_text_fits_any_size() {
        for side in [64, 256, 512] {
            for text in ["", "short", &"word ".repeat(1000), &"x".repeat(5000), "\u{0}\n\u{1F600}"] {
                let picture = message(side, text, text, text);
                assert_eq!((picture.rows, picture.cols), (side, side));
                let Pixels::Indexed { palette, indices } = &picture.pixels else { panic!("indexed") };
                assert_eq!(indices.len(), (side * side) as usize);
                assert!(indices.iter().all(|index| usize::from(*index) < palette.len()));
                assert!(picture.png().unwrap().starts_with(b"\x89PNG"));
            }
        }
        let pixels = |text: &str| message(256, "422 impossible", text, "request 1").pixels;
        assert_ne!(pixels("a"), pixels("b"), "the text is in the picture");
    }
}
