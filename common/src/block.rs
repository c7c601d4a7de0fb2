//! Pixels: values with validity, the only form in which they travel inside the engine.

use bytes::Bytes;

use crate::error::{Classify, ErrorClass};

/// Type of a pixel value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float; all numbers.
    F32,
    /// Truth value; comparisons and logic.
    Bool,
}

impl DType {
    /// Bytes of one value in memory, validity not counted.
    pub fn bytes(self) -> u64 {
        match self {
            DType::F32 => 4,
            DType::Bool => 1,
        }
    }

    /// The name numpy uses.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "float32",
            DType::Bool => "bool",
        }
    }
}

/// What a value is an array of. Pixel axes follow: a mosaic is `[band, row, col]`, a stack is
/// `[image, band, row, col]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One number for the whole grid.
    Number,
    /// A small array of numbers for the whole grid: a constant of the graft, or a reduction over pixels.
    Array(ArrayShape),
    /// A raster of one or more bands.
    Mosaic {
        /// Number of bands.
        bands: u32,
    },
    /// A time series of rasters with equal bands. It may be empty.
    Stack {
        /// Number of images.
        images: u32,
        /// Number of bands of each image.
        bands: u32,
    },
}

/// Shape of an array that has no pixel axes of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ArrayShape {
    /// Lengths of the axes; 1 beyond `rank`.
    dims: [u32; 4],
    rank: u8,
    /// Whether its axes are the leading ones of a raster, as those of a reduction over pixels are.
    leading: bool,
}

impl ArrayShape {
    /// A shape of up to four axes; `None` for more, or for more values than
    /// [`ARRAY_VALUES_MAX`](crate::limits::ARRAY_VALUES_MAX).
    pub fn new(axes: &[u32], leading: bool) -> Option<ArrayShape> {
        let mut dims = [1; 4];
        dims.get_mut(..axes.len())?.copy_from_slice(axes);
        let values = axes.iter().try_fold(1u64, |product, axis| product.checked_mul(u64::from(*axis)))?;
        let rank = axes.len() as u8;
        (values <= crate::limits::ARRAY_VALUES_MAX).then_some(ArrayShape { dims, rank, leading })
    }

    /// Lengths of the axes.
    pub fn axes(&self) -> &[u32] {
        &self.dims[..usize::from(self.rank)]
    }

    /// Whether its axes are the leading ones of a raster: images and bands, or bands.
    pub fn is_leading(&self) -> bool {
        self.leading
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.axes().iter().map(|axis| *axis as usize).product()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Display for ArrayShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let axes: Vec<String> = self.axes().iter().map(u32::to_string).collect();
        write!(f, "array[{}]", axes.join(", "))
    }
}

impl Kind {
    /// Planes of pixels: images times bands; the values of an array; 0 for a number.
    pub fn planes(self) -> usize {
        match self {
            Kind::Number => 0,
            Kind::Array(shape) => shape.len(),
            Kind::Mosaic { bands } => bands as usize,
            Kind::Stack { images, bands } => images as usize * bands as usize,
        }
    }

    /// Number of bands; `None` for what has no pixels.
    pub fn bands(self) -> Option<u32> {
        match self {
            Kind::Number | Kind::Array(_) => None,
            Kind::Mosaic { bands } | Kind::Stack { bands, .. } => Some(bands),
        }
    }

    /// Number of images; `None` unless a stack.
    pub fn images(self) -> Option<u32> {
        match self {
            Kind::Stack { images, .. } => Some(images),
            Kind::Number | Kind::Array(_) | Kind::Mosaic { .. } => None,
        }
    }

    /// Whether it has pixel axes.
    pub fn is_raster(self) -> bool {
        self.bands().is_some()
    }

    /// The word for it in messages.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Number => "number",
            Kind::Array(_) => "array",
            Kind::Mosaic { .. } => "Mosaic",
            Kind::Stack { .. } => "ImageStack",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kind::Number => f.write_str("number"),
            Kind::Array(shape) => write!(f, "{shape}"),
            Kind::Mosaic { bands } => write!(f, "mosaic[{bands}]"),
            Kind::Stack { images, bands } => write!(f, "stack[{images}, {bands}]"),
        }
    }
}

/// Values of one type, row-major in the order `[image][band][row][col]`.
#[derive(Clone, Debug, PartialEq)]
pub enum Samples {
    /// Numbers.
    F32(Vec<f32>),
    /// Truth values, 0 or 1.
    Bool(Vec<u8>),
}

impl Samples {
    /// `len` zeros of a type.
    pub fn zeros(dtype: DType, len: usize) -> Self {
        match dtype {
            DType::F32 => Samples::F32(vec![0.0; len]),
            DType::Bool => Samples::Bool(vec![0; len]),
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Samples::F32(values) => values.len(),
            Samples::Bool(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Type of the values.
    pub fn dtype(&self) -> DType {
        match self {
            Samples::F32(_) => DType::F32,
            Samples::Bool(_) => DType::Bool,
        }
    }
}

/// Pixels of a window: values and, for each, whether it is valid.
///
/// An array is a block of one row and one column, a plane for each of its values.
///
/// Invariant: `samples` and `valid` have `kind.planes() * rows * cols` entries; `valid` is 0 or 1.
/// What stands under an invalid entry means nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    kind: Kind,
    rows: u32,
    cols: u32,
    samples: Samples,
    valid: Vec<u8>,
}

/// Up to eight bytes that are 0 or 1 as the bits of one, the first as the lowest.
fn packed(bytes: &[u8]) -> u8 {
    /// Moves the lowest bit of byte k to bit 56 + k; no two of the products meet.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    match <[u8; 8]>::try_from(bytes) {
        Ok(bytes) => (u64::from_le_bytes(bytes).wrapping_mul(GATHER) >> 56) as u8,
        Err(_) => bytes.iter().rev().fold(0, |byte, bit| byte << 1 | bit),
    }
}

impl Block {
    /// A block from its parts.
    ///
    /// # Panics
    /// When the lengths do not fit the shape: that is a defect of the caller, never of data.
    pub fn new(kind: Kind, (rows, cols): (u32, u32), samples: Samples, valid: Vec<u8>) -> Self {
        let len = kind.planes() * rows as usize * cols as usize;
        assert_eq!(samples.len(), len, "samples of a {kind} block of {rows} x {cols}");
        assert_eq!(valid.len(), len, "validity of a {kind} block of {rows} x {cols}");
        Block { kind, rows, cols, samples, valid }
    }

    /// A block without a valid pixel.
    pub fn invalid(kind: Kind, dtype: DType, (rows, cols): (u32, u32)) -> Self {
        let len = kind.planes() * rows as usize * cols as usize;
        Block { kind, rows, cols, samples: Samples::zeros(dtype, len), valid: vec![0; len] }
    }

    /// Mosaic or stack, with its counts.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Rows and columns.
    pub fn shape(&self) -> (u32, u32) {
        (self.rows, self.cols)
    }

    /// Pixels of one plane.
    pub fn pixels(&self) -> usize {
        self.rows as usize * self.cols as usize
    }

    /// The values.
    pub fn samples(&self) -> &Samples {
        &self.samples
    }

    /// Validity, 1 = valid.
    pub fn valid(&self) -> &[u8] {
        &self.valid
    }

    /// The values and their validity.
    pub fn into_parts(self) -> (Samples, Vec<u8>) {
        (self.samples, self.valid)
    }

    /// One image of a stack, as a stack of one.
    ///
    /// # Panics
    /// When the block is no stack, or has no such image: that is a defect of the caller, never of data.
    pub fn image(&self, at: u32) -> Block {
        let Kind::Stack { bands, .. } = self.kind else { panic!("an image of a {} block", self.kind) };
        let len = bands as usize * self.pixels();
        let range = at as usize * len..(at as usize + 1) * len;
        let samples = match &self.samples {
            Samples::F32(values) => Samples::F32(values[range.clone()].to_vec()),
            Samples::Bool(values) => Samples::Bool(values[range.clone()].to_vec()),
        };
        let kind = Kind::Stack { images: 1, bands };
        Block { kind, rows: self.rows, cols: self.cols, samples, valid: self.valid[range].to_vec() }
    }

    /// The part of this block that `inner` covers, where the block covers `outer`.
    pub fn crop(self, outer: &crate::grid::Window, inner: &crate::grid::Window) -> Block {
        if outer == inner {
            return self;
        }
        let (top, left) = ((inner.row - outer.row) as usize, (inner.col - outer.col) as usize);
        let (rows, cols) = (inner.rows as usize, inner.cols as usize);
        let (plane, width) = (self.pixels(), self.cols as usize);
        fn cut<T: Copy>(
            from: &[T],
            plane: usize,
            width: usize,
            at: (usize, usize),
            size: (usize, usize),
        ) -> Vec<T> {
            let mut out = Vec::with_capacity(from.len() / plane.max(1) * size.0 * size.1);
            for band in from.chunks_exact(plane) {
                for row in at.0..at.0 + size.0 {
                    out.extend_from_slice(&band[row * width + at.1..][..size.1]);
                }
            }
            out
        }
        let samples = match &self.samples {
            Samples::F32(values) => Samples::F32(cut(values, plane, width, (top, left), (rows, cols))),
            Samples::Bool(values) => Samples::Bool(cut(values, plane, width, (top, left), (rows, cols))),
        };
        let valid = cut(&self.valid, plane, width, (top, left), (rows, cols));
        Block { kind: self.kind, rows: inner.rows, cols: inner.cols, samples, valid }
    }

    /// The block on another window than the one it covers: invalid where it has no pixel.
    pub fn on(&self, covered: &crate::grid::Window, window: &crate::grid::Window) -> Block {
        fn moved<T: Copy + Default>(
            from: &[T],
            planes: usize,
            covered: &crate::grid::Window,
            window: &crate::grid::Window,
        ) -> Vec<T> {
            let (plane, width) = (covered.pixels(), window.cols as usize);
            let mut out = vec![T::default(); planes * window.pixels()];
            let Some(common) = covered.intersect(window) else { return out };
            let (left, to) = ((common.col - covered.col) as usize, (common.col - window.col) as usize);
            let cols = common.cols as usize;
            for at in 0..planes {
                for row in common.row..common.row_end() {
                    let line = at * plane + (row - covered.row) as usize * covered.cols as usize + left;
                    let target = at * window.pixels() + (row - window.row) as usize * width + to;
                    out[target..target + cols].copy_from_slice(&from[line..line + cols]);
                }
            }
            out
        }
        let planes = self.kind.planes();
        let samples = match &self.samples {
            Samples::F32(values) => Samples::F32(moved(values, planes, covered, window)),
            Samples::Bool(values) => Samples::Bool(moved(values, planes, covered, window)),
        };
        let valid = moved(&self.valid, planes, covered, window);
        Block { kind: self.kind, rows: window.rows, cols: window.cols, samples, valid }
    }

    /// The block as bytes: the same pixels always give the same bytes.
    ///
    /// A 24-byte header, the values little-endian (zero where invalid, one NaN for all NaNs), then
    /// validity as bits, least significant first; no validity bits at all when everything is valid.
    pub fn encode(&self) -> Bytes {
        let len = self.valid.len();
        let all_valid = !self.valid.contains(&0);
        let bits = if all_valid { 0 } else { len.div_ceil(8) };
        // Neither more nor less: what is remembered is counted by its length.
        let mut out = Vec::with_capacity(HEADER_BYTES + len * self.samples.dtype().bytes() as usize + bits);
        out.extend_from_slice(MAGIC);
        let (kind, words) = match self.kind {
            Kind::Number => (0u8, [0, 0, self.rows, self.cols]),
            Kind::Mosaic { bands } => (1, [0, bands, self.rows, self.cols]),
            Kind::Stack { images, bands } => (2, [images, bands, self.rows, self.cols]),
            // One row and one column: the words hold the axes instead.
            Kind::Array(ArrayShape { dims, rank, leading }) => (3 + 2 * rank + u8::from(leading), dims),
        };
        out.extend_from_slice(&[ENCODING_VERSION, kind, self.samples.dtype() as u8, u8::from(all_valid)]);
        for word in words {
            out.extend_from_slice(&word.to_le_bytes());
        }
        match &self.samples {
            Samples::F32(values) => {
                let from = out.len();
                out.resize(from + 4 * len, 0);
                let places = out[from..].chunks_exact_mut(4);
                for (place, (value, ok)) in places.zip(values.iter().zip(&self.valid)) {
                    // Selected without branches, which validity would mislead.
                    let bits = if value.is_nan() { CANONICAL_NAN } else { value.to_bits() };
                    let bits = if *ok == 0 { 0 } else { bits };
                    place.copy_from_slice(&bits.to_le_bytes());
                }
            }
            Samples::Bool(values) => out.extend(values.iter().zip(&self.valid).map(|(v, ok)| v & ok)),
        }
        if !all_valid {
            out.extend(self.valid.chunks(8).map(packed));
        }
        Bytes::from(out)
    }

    /// Reads what [`Block::encode`] wrote.
    ///
    /// # Errors
    /// [`BlockError`] for anything else; never a wrong block.
    pub fn decode(bytes: &[u8]) -> Result<Block, BlockError> {
        match Block::decode_front(bytes)? {
            (block, []) => Ok(block),
            _ => Err(BlockError::Length),
        }
    }

    /// Reads one of several encoded blocks that follow one another; what comes after it is the rest.
    ///
    /// # Errors
    /// [`BlockError`] for anything that does not begin with an encoded block.
    pub fn decode_front(bytes: &[u8]) -> Result<(Block, &[u8]), BlockError> {
        let (header, body) = bytes.split_at_checked(HEADER_BYTES).ok_or(BlockError::Length)?;
        if &header[..4] != MAGIC || header[4] != ENCODING_VERSION {
            return Err(BlockError::Header);
        }
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (images, bands, mut rows, mut cols) = (word(8), word(12), word(16), word(20));
        let kind = match header[5] {
            0 => Kind::Number,
            1 => Kind::Mosaic { bands },
            2 => Kind::Stack { images, bands },
            code @ 3..=12 => {
                let (rank, leading) = (usize::from((code - 3) / 2), (code - 3) % 2 == 1);
                let axes = [images, bands, rows, cols];
                (rows, cols) = (1, 1);
                Kind::Array(ArrayShape::new(&axes[..rank], leading).ok_or(BlockError::Length)?)
            }
            _ => return Err(BlockError::Header),
        };
        let dtype = match header[6] {
            0 => DType::F32,
            1 => DType::Bool,
            _ => return Err(BlockError::Header),
        };
        let len = (rows as usize)
            .checked_mul(cols as usize)
            .and_then(|n| n.checked_mul(kind.planes()))
            .ok_or(BlockError::Length)?;
        let data_bytes = len.checked_mul(dtype.bytes() as usize).ok_or(BlockError::Length)?;
        let (data, body) = body.split_at_checked(data_bytes).ok_or(BlockError::Length)?;
        let bits_bytes = match header[7] {
            1 => 0,
            0 => len.div_ceil(8),
            _ => return Err(BlockError::Header),
        };
        let (bits, rest) = body.split_at_checked(bits_bytes).ok_or(BlockError::Length)?;
        let valid = match bits {
            [] => vec![1; len],
            bits => (0..len).map(|i| bits[i / 8] >> (i % 8) & 1).collect(),
        };
        let samples = match dtype {
            DType::F32 => Samples::F32(
                data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            ),
            DType::Bool if data.iter().any(|b| *b > 1) => return Err(BlockError::Header),
            DType::Bool => Samples::Bool(data.to_vec()),
        };
        Ok((Block { kind, rows, cols, samples, valid }, rest))
    }
}

const MAGIC: &[u8; 4] = b"GBLK";
const ENCODING_VERSION: u8 = 1;
const HEADER_BYTES: usize = 24;
const CANONICAL_NAN: u32 = 0x7fc0_0000;

/// Why bytes are not a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Magic, version or a code is unknown.
    #[error("not an encoded block, or one of another version")]
    Header,
    /// Shorter or longer than the header says.
    #[error("an encoded block whose length does not fit its header")]
    Length,
}

impl Classify for BlockError {
    fn class(&self) -> ErrorClass {
        match self {
            BlockError::Header | BlockError::Length => ErrorClass::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn any_block()(images in 0u32..3, bands in 1u32..3, rows in 1u32..6, cols in 1u32..6, stack in any::<bool>(), boolean in any::<bool>())
            (kind in Just(if stack { Kind::Stack { images, bands } } else { Kind::Mosaic { bands } }),
             shape in Just((rows, cols)), boolean in Just(boolean),
             values in proptest::collection::vec(any::<f32>(), 3 * 3 * 36), valid in proptest::collection::vec(0u8..2, 3 * 3 * 36))
            -> Block {
            let len = kind.planes() * shape.0 as usize * shape.1 as usize;
            let samples = if boolean {
                Samples::Bool(values[..len].iter().map(|v| u8::from(*v > 0.0)).collect())
            } else {
                Samples::F32(values[..len].to_vec())
            };
            Block::new(kind, shape, samples, valid[..len].to_vec())
        }
    }

    proptest! {
        #[test]
        fn encoding_round_trips(block in any_block()) {
            let bytes = block.encode();
            let back = Block::decode(&bytes).unwrap();
            prop_assert_eq!(back.valid(), block.valid());
            prop_assert_eq!(back.encode(), bytes);
        }

        #[test]
        fn blocks_follow_one_another(first in any_block(), second in any_block()) {
            let bytes = [first.encode(), second.encode()].concat();
            let (front, rest) = Block::decode_front(&bytes).unwrap();
            prop_assert_eq!(front.encode(), first.encode());
            prop_assert_eq!(Block::decode(rest).unwrap().encode(), second.encode());
        }

        /// No cut, longer or changed header is taken for a block of another shape without notice.
        #[test]
        fn damage_to_length_is_noticed(block in any_block(), cut in 1usize..40) {
            let bytes = block.encode();
            prop_assert!(Block::decode(&bytes[..bytes.len().saturating_sub(cut)]).is_err());
            prop_assert!(Block::decode(&[&bytes[..], &[0u8; 3][..]].concat()).is_err());
        }
    }

    #[test]
    fn invalid_values_do_not_reach_the_bytes() {
        let block = |under: f32| {
            Block::new(Kind::Mosaic { bands: 1 }, (1, 2), Samples::F32(vec![under, 1.0]), vec![0, 1]).encode()
        };
        assert_eq!(block(7.0), block(f32::NAN));
    }
}
