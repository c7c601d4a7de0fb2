//! Values of the stored pixels that a pixel of the grid covers.
//!
//! As GDAL has it, the covered area is the rectangle of stored columns and rows between the places of
//! the pixel's north-west and south-east corners. A mean weighs pixels by the part that is covered,
//! those at the edge of the file also for what is covered beyond it; all others count every pixel of
//! which a part is covered.

use super::places::TIE_PIXELS;
use super::{Block, Rule, Sample};

/// What is made of the covered pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Statistic {
    Mean,
    /// The most frequent value; of several the one that is so often first, row by row.
    Mode,
    Min,
    Max,
    /// The value so far along the sorted ones.
    Quantile(f64),
}

/// A rectangle of stored pixels, covered in part at its edges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Area {
    cols: Span,
    rows: Span,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    first: u32,
    end: u32,
    low: f64,
    high: f64,
}

impl Span {
    fn new(a: f64, b: f64, count: u32) -> Option<Span> {
        let (low, high) = (a.min(b), a.max(b));
        if high < 0.0 || low > f64::from(count) {
            return None;
        }
        // Saturates at 0.
        let first = ((low + TIE_PIXELS).floor() as u32).min(count - 1);
        let end = ((high - TIE_PIXELS).ceil() as u32).max(first + 1).min(count);
        Some(Span { first, end, low, high })
    }

    /// How much of a pixel is covered.
    fn weight(&self, at: u32) -> f64 {
        if self.first + 1 == self.end {
            1.0
        } else if at == self.first {
            1.0 - (self.low - f64::from(self.first))
        } else if at + 1 == self.end {
            1.0 - (f64::from(self.end) - self.high)
        } else {
            1.0
        }
    }
}

impl Area {
    /// The area between two places; `None` if it lies outside the file or one has no place.
    pub(super) fn new(from: (f64, f64), to: (f64, f64), (cols, rows): (u32, u32)) -> Option<Area> {
        if [from.0, from.1, to.0, to.1].iter().any(|at| at.is_nan()) {
            return None;
        }
        Some(Area { cols: Span::new(from.0, to.0, cols)?, rows: Span::new(from.1, to.1, rows)? })
    }
}

impl Statistic {
    /// The value over an area; `None` if no pixel of it is valid.
    pub(super) fn value<T: Sample>(
        self,
        block: &Block<T>,
        rule: &impl Rule<T>,
        area: &Area,
        values: &mut Vec<f64>,
    ) -> Option<f64> {
        let rows = area.rows.first..area.rows.end;
        let pixels = rows.flat_map(|row| (area.cols.first..area.cols.end).map(move |col| (row, col)));
        let valid =
            pixels.filter_map(|(row, col)| block.get(rule, row, col).map(|value| (row, col, value.to_f64())));
        match self {
            Statistic::Mean => {
                let (mut sum, mut total) = (0.0, 0.0);
                for (row, col, value) in valid {
                    let weight = area.rows.weight(row) * area.cols.weight(col);
                    if weight > 0.0 {
                        (sum, total) = (sum + weight * value, total + weight);
                    }
                }
                (total > 0.0).then(|| sum / total)
            }
            Statistic::Min => valid.map(|(_, _, value)| value).reduce(f64::min),
            Statistic::Max => valid.map(|(_, _, value)| value).reduce(f64::max),
            Statistic::Mode => {
                values.clear();
                values.extend(valid.map(|(_, _, value)| value));
                mode(values)
            }
            Statistic::Quantile(part) => {
                values.clear();
                values.extend(valid.map(|(_, _, value)| value));
                if values.is_empty() {
                    return None;
                }
                let at = (part * values.len() as f64 - 1.0).ceil().max(0.0) as usize;
                Some(*values.select_nth_unstable_by(at, f64::total_cmp).1)
            }
        }
    }
}

/// The most frequent value; of several the one that was so often first.
fn mode(values: &[f64]) -> Option<f64> {
    let mut order: Vec<(u64, usize)> =
        values.iter().enumerate().map(|(at, value)| ((value + 0.0).to_bits(), at)).collect();
    order.sort_unstable();
    let runs = order.chunk_by(|a, b| a.0 == b.0);
    runs.max_by_key(|run| (run.len(), std::cmp::Reverse(run[run.len() - 1].1))).map(|run| values[run[0].1])
}
