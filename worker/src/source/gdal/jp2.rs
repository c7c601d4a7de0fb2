//! How large the tiles of a JPEG 2000 file are, which GDAL does not tell: before the first pixel of a
//! tile, OpenJPEG sets up all of its code blocks, and a few bytes can declare billions.

use super::super::ReadProblem;
use super::header::limit;

/// Pixels of a tile. Scenes of 16384 x 16384 pixels come as a single one.
const TILE_PIXELS_MAX: u64 = 1 << 28;

/// Boxes looked through for the code stream.
const BOXES_MAX: usize = 1024;

/// Where the sizes stand in a code stream: after its first two markers.
const SIZES_AT: u64 = 8;

/// Checks a file if it is JPEG 2000. `read` fills a buffer from a place in the file on, or fails.
pub(super) fn check(mut read: impl FnMut(u64, &mut [u8]) -> Option<()>) -> Result<(), ReadProblem> {
    match stream(&mut read).and_then(|at| tile_pixels(at, &mut read)) {
        Some(found) => limit("pixels in a tile:", found, TILE_PIXELS_MAX),
        // Another format, or nothing that OpenJPEG would find either.
        None => Ok(()),
    }
}

/// Where the code stream begins.
fn stream(read: &mut impl FnMut(u64, &mut [u8]) -> Option<()>) -> Option<u64> {
    let mut head = [0; 12];
    read(0, &mut head)?;
    if head.starts_with(&[0xff, 0x4f, 0xff, 0x51]) {
        return Some(0);
    }
    if head[4..8] != *b"jP  " {
        return None;
    }
    let mut at = 0u64;
    for _ in 0..BOXES_MAX {
        let mut header = [0; 8];
        read(at, &mut header)?;
        let short = u64::from(u32::from_be_bytes(header[..4].try_into().ok()?));
        let (header_len, len) = match short {
            1 => {
                let mut long = [0; 8];
                read(at + 8, &mut long)?;
                (16, u64::from_be_bytes(long))
            }
            // To the end of the file.
            0 => (8, u64::MAX),
            short => (8, short),
        };
        if header[4..] == *b"jp2c" {
            return Some(at + header_len);
        }
        at = at.checked_add(len.max(header_len))?;
    }
    None
}

/// Pixels of the largest tile.
fn tile_pixels(at: u64, read: &mut impl FnMut(u64, &mut [u8]) -> Option<()>) -> Option<u64> {
    let mut sizes = [0; 32];
    read(at.checked_add(SIZES_AT)?, &mut sizes)?;
    let size = |index: usize| {
        let bytes = sizes[4 * index..4 * index + 4].try_into().ok()?;
        Some(u64::from(u32::from_be_bytes(bytes)))
    };
    // Image width and height, its offset, tile width and height.
    let (width, height) = (size(0)?.saturating_sub(size(2)?), size(1)?.saturating_sub(size(3)?));
    Some(width.min(size(4)?).saturating_mul(height.min(size(5)?)))
}
