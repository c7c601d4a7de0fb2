//! Values between stored pixels: weighted means of the pixels around a place.
//!
//! Weights are those of GDAL. Pixels that are invalid or outside the file have none, and the others
//! are renormalised; where one of the 16 pixels of a cubic is missing, it is bilinear, as GDAL's is.

use super::{Block, Rule, Sample};

/// A grid with fewer pixels than this per stored pixel is coarser than the file: kernels widen, so
/// that every stored pixel counts.
const NARROW_SCALE: f64 = 0.95;

/// Weights that add up to less than this are none.
const WEIGHT_MIN: f64 = 1e-6;

/// Whether kernels keep their width, at so many grid pixels per stored pixel in x and in y.
pub(super) fn is_narrow((x, y): (f64, f64)) -> bool {
    x >= NARROW_SCALE && y >= NARROW_SCALE
}

/// Index of the pixel whose centre is at or before a place, and the distance from there. Places are
/// in the file, so above -1.
#[inline]
fn base(at: f64) -> (i64, f64) {
    let index = (at + 0.5) as i64 - 1;
    (index, at - 0.5 - index as f64)
}

/// Linear in both directions, where all four pixels are there.
#[inline]
pub(super) fn bilinear<T: Sample>(
    block: &Block<T>,
    rule: &impl Rule<T>,
    file: (u32, u32),
    u: f64,
    v: f64,
) -> Option<f64> {
    let ((col, right), (row, below)) = (base(u), base(v));
    let [[a, b], [c, d]] = block.square(rule, file, row, col)?;
    let (left, above) = (1.0 - right, 1.0 - below);
    Some(above * (left * a + right * b) + below * (left * c + right * d))
}

/// Linear in both directions over the pixels that are there. The one nearest to the place is.
pub(super) fn partial_bilinear<T: Sample>(
    block: &Block<T>,
    rule: &impl Rule<T>,
    (cols, rows): (u32, u32),
    u: f64,
    v: f64,
) -> f64 {
    if let Some(value) = bilinear(block, rule, (cols, rows), u, v) {
        return value;
    }
    let ((col, right), (row, below)) = (base(u), base(v));
    let (mut sum, mut total) = (0.0, 0.0);
    for (row, down) in [(row, 1.0 - below), (row + 1, below)] {
        for (col, across) in [(col, 1.0 - right), (col + 1, right)] {
            let is_inside = (0..i64::from(rows)).contains(&row) && (0..i64::from(cols)).contains(&col);
            if is_inside && let Some(value) = block.get(rule, row as u32, col as u32) {
                let weight = down * across;
                (sum, total) = (sum + weight * value.to_f64(), total + weight);
            }
        }
    }
    sum / total
}

/// Cubic convolution with a = -1/2 (Keys 1981), where all 16 pixels are there.
#[inline]
pub(super) fn cubic<T: Sample>(
    block: &Block<T>,
    rule: &impl Rule<T>,
    file: (u32, u32),
    u: f64,
    v: f64,
) -> Option<f64> {
    let ((col, right), (row, below)) = (base(u), base(v));
    let lines: [[f64; 4]; 4] = block.square(rule, file, row.saturating_sub(1), col.saturating_sub(1))?;
    let (across, down) = (cubic_weights(right), cubic_weights(below));
    let along = |line: [f64; 4]| {
        across[0] * line[0] + across[1] * line[1] + across[2] * line[2] + across[3] * line[3]
    };
    let [a, b, c, d] = lines.map(along);
    Some(down[0] * a + down[1] * b + down[2] * c + down[3] * d)
}

/// Weights of the four pixels around a place `at` of the way from the second to the third.
#[inline]
fn cubic_weights(at: f64) -> [f64; 4] {
    let (square, cube) = (at * at, at * at * at);
    [
        0.5 * (-at + 2.0 * square - cube),
        0.5 * (2.0 - 5.0 * square + 3.0 * cube),
        0.5 * (at + 4.0 * square - 3.0 * cube),
        0.5 * (cube - square),
    ]
}

/// Form of a kernel over distances in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Linear.
    Triangle,
    /// Cubic convolution with a = -1/2.
    Cubic,
    /// Cubic B-spline.
    Spline,
    /// Sinc in a window of three pixels to each side.
    Lanczos,
}

impl Shape {
    /// Pixels to each side.
    fn radius(self) -> u32 {
        match self {
            Shape::Triangle => 1,
            Shape::Cubic | Shape::Spline => 2,
            Shape::Lanczos => 3,
        }
    }

    fn weight(self, distance: f64) -> f64 {
        let x = distance.abs();
        if self == Shape::Spline && distance > 2.0 {
            // GDAL's spline does not end on this side; with it, its values are ours.
            let beyond = distance - 2.0;
            return -(beyond * beyond * beyond) / 6.0;
        }
        match self {
            Shape::Triangle => (1.0 - x).max(0.0),
            Shape::Cubic if x <= 1.0 => x * x * (1.5 * x - 2.5) + 1.0,
            Shape::Cubic if x <= 2.0 => x * (x * (-0.5 * x + 2.5) - 4.0) + 2.0,
            Shape::Spline if x <= 1.0 => (4.0 + x * x * (3.0 * x - 6.0)) / 6.0,
            Shape::Spline if x <= 2.0 => {
                let rest = 2.0 - x;
                rest * rest * rest / 6.0
            }
            Shape::Lanczos if x == 0.0 => 1.0,
            // Whole distances weigh nothing; the sine would leave a rest.
            Shape::Lanczos if x < 3.0 && x.fract() == 0.0 => 0.0,
            Shape::Lanczos if x < 3.0 => {
                let angle = std::f64::consts::PI * x;
                3.0 * libm::sin(angle) * libm::sin(angle / 3.0) / (angle * angle)
            }
            Shape::Cubic | Shape::Spline | Shape::Lanczos => 0.0,
        }
    }
}

/// A kernel of any width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Filter {
    shape: Shape,
    /// Distances in pixels of the kernel per stored pixel, in x and in y.
    stretch: (f64, f64),
    radius: (u32, u32),
    /// The kernel is wider than the file.
    is_wider: bool,
}

/// Weights of the columns and rows around a place.
#[derive(Debug, Default)]
pub(super) struct Weights {
    across: Vec<f64>,
    down: Vec<f64>,
}

impl Filter {
    /// A kernel for so many grid pixels per stored pixel over a file of `cols` × `rows`.
    pub(super) fn new(shape: Shape, (x, y): (f64, f64), (cols, rows): (u32, u32)) -> Filter {
        let radius = |scale: f64| match scale {
            narrow if narrow >= 1.0 => shape.radius(),
            // Saturates; a kernel wider than the file is not used as such.
            wide => (f64::from(shape.radius()) / wide).ceil() as u32,
        };
        let radius = (radius(x), radius(y));
        let is_wider = radius.0 > cols || radius.1 > rows;
        let radius = if is_wider { (1, 1) } else { radius };
        Filter { shape, stretch: (x.min(1.0), y.min(1.0)), radius, is_wider }
    }

    /// Stored pixels to each side in x and in y.
    pub(super) fn radius(&self) -> (u32, u32) {
        self.radius
    }

    /// The weighted mean around a place; `None` if the weights of valid pixels cancel out.
    pub(super) fn value<T: Sample>(
        &self,
        block: &Block<T>,
        rule: &impl Rule<T>,
        file: (u32, u32),
        u: f64,
        v: f64,
        weights: &mut Weights,
    ) -> Option<f64> {
        if self.is_wider {
            return Some(partial_bilinear(block, rule, file, u, v));
        }
        let first_col = self.taps(u, self.stretch.0, self.radius.0, file.0, &mut weights.across);
        let first_row = self.taps(v, self.stretch.1, self.radius.1, file.1, &mut weights.down);
        let (mut sum, mut total) = (0.0, 0.0);
        for (row, down) in (first_row..).zip(&weights.down) {
            for (col, across) in (first_col..).zip(&weights.across) {
                let weight = down * across;
                if let Some(value) = block.get(rule, row, col)
                    && weight != 0.0
                {
                    (sum, total) = (sum + weight * value.to_f64(), total + weight);
                }
            }
        }
        (total.abs() >= WEIGHT_MIN).then(|| sum / total)
    }

    /// Weights along one axis, and the index of the first.
    fn taps(&self, at: f64, stretch: f64, radius: u32, count: u32, weights: &mut Vec<f64>) -> u32 {
        let (index, mut rest) = base(at);
        if self.shape == Shape::Lanczos && stretch < 1.0 {
            // As GDAL does it: a widened sinc is centred on a stored pixel.
            rest = 0.0;
        }
        let radius = i64::from(radius);
        let first = (1 - radius).max(-index);
        let last = radius.min(i64::from(count) - 1 - index);
        weights.clear();
        weights.extend((first..=last).map(|i| self.shape.weight((i as f64 - rest) * stretch)));
        (index + first) as u32
    }
}
