//! Which scenes a picture of a large area shows: with display quality a grid that is much coarser than the
//! files reads some of them where there are very many.
//!
//! The grid is cut into cells. A mosaic keeps the scenes that cover a cell that too few above them cover; a
//! stack keeps, for each cell, images that are evenly spread over those that cover it. Cells are as small as
//! the number of scenes allows. All of it follows from the scenes and the grid alone.

use crate::grid::Window;

/// Scenes that are read for a picture.
pub(super) const SCENES_MAX: usize = 1_024;

/// Scenes over a cell of a mosaic: the upper ones may have no value there.
const LAYERS: usize = 2;
/// Cells along a side, finest first, that are tried for a mosaic.
const MOSAIC_CELLS: [u32; 6] = [64, 48, 32, 24, 16, 8];
/// Cells along a side and images a cell that are tried for a stack.
const STACK_CELLS: [(u32, usize); 8] =
    [(32, 16), (32, 8), (32, 4), (32, 2), (32, 1), (24, 1), (16, 1), (8, 1)];

/// The scenes of a mosaic that are kept, in their order, the last on top; `None`: all of them. `reach` is the
/// window that each may cover, unknown for some.
pub(super) fn mosaic(reach: &[Option<Window>], grid: &Window) -> Option<Vec<usize>> {
    if reach.len() <= SCENES_MAX {
        return None;
    }
    let kept = |side: &u32| {
        let cells = Cells::new(grid, *side);
        let mut layers = vec![0; cells.count()];
        let mut kept = Vec::new();
        for (at, window) in reach.iter().enumerate().rev() {
            // Nobody knows what it covers: it is kept, and hides nothing.
            let mut adds = window.is_none();
            cells.covered(window.as_ref(), |cell| {
                adds |= layers[cell] < LAYERS;
                layers[cell] += 1;
            });
            if adds {
                kept.push(at);
            }
        }
        kept.reverse();
        kept
    };
    let tries = MOSAIC_CELLS.iter().map(kept);
    let fits = tries.into_iter().find(|kept| kept.len() <= SCENES_MAX);
    Some(fits.unwrap_or_else(|| (reach.len() - SCENES_MAX..reach.len()).collect()))
}

/// The images of a stack that are kept, in their order; `None`: all of them.
pub(super) fn stack(reach: &[Option<Window>], grid: &Window) -> Option<Vec<usize>> {
    if reach.len() <= SCENES_MAX {
        return None;
    }
    let kept = |(side, quota): &(u32, usize)| {
        let cells = Cells::new(grid, *side);
        let mut over: Vec<Vec<usize>> = vec![Vec::new(); cells.count()];
        for (at, window) in reach.iter().enumerate() {
            match window {
                Some(window) => cells.covered(Some(window), |cell| over[cell].push(at)),
                None => over.iter_mut().for_each(|images| images.push(at)),
            }
        }
        let mut is_kept = vec![false; reach.len()];
        over.iter().for_each(|images| spread(images.len(), *quota).for_each(|at| is_kept[images[at]] = true));
        (0..reach.len()).filter(|at| is_kept[*at]).collect::<Vec<usize>>()
    };
    let fits = STACK_CELLS.iter().map(kept).find(|kept| kept.len() <= SCENES_MAX);
    Some(fits.unwrap_or_else(|| spread(reach.len(), SCENES_MAX).collect()))
}

/// Some of so many, evenly spread, the ends among them.
fn spread(count: usize, some: usize) -> impl Iterator<Item = usize> {
    let chosen = some.min(count);
    let last = chosen.saturating_sub(1).max(1);
    (0..chosen).map(move |at| at * count.saturating_sub(1) / last)
}

/// A grid in cells.
struct Cells {
    grid: Window,
    side: u32,
}

impl Cells {
    fn new(grid: &Window, side: u32) -> Cells {
        Cells { grid: *grid, side: side.min(grid.rows).min(grid.cols).max(1) }
    }

    fn count(&self) -> usize {
        self.side as usize * self.side as usize
    }

    /// The cells whose middles a window holds, and the one that holds its own middle: scenes may be smaller
    /// than cells. A window that is not known covers nothing.
    fn covered(&self, window: Option<&Window>, mut each: impl FnMut(usize)) {
        let Some(window) = window.and_then(|window| window.intersect(&self.grid)) else { return };
        // In halves of a cell from the grid's corner: middles are odd.
        let halves =
            |offset: i64, extent: u32| 2.0 * offset as f64 * f64::from(self.side) / f64::from(extent);
        let (top, bottom) = (window.row - self.grid.row, window.row_end() - self.grid.row);
        let (left, right) = (window.col - self.grid.col, window.col_end() - self.grid.col);
        let middles = |from: f64, to: f64| {
            let first = ((from - 1.0) / 2.0).ceil().max(0.0) as u32;
            let end = ((to - 1.0) / 2.0).floor() as i64 + 1;
            (first, (end.max(0) as u32).min(self.side))
        };
        let (top, bottom) = (halves(top, self.grid.rows), halves(bottom, self.grid.rows));
        let (left, right) = (halves(left, self.grid.cols), halves(right, self.grid.cols));
        let (rows, cols) = (middles(top, bottom), middles(left, right));
        let own = |from: f64, to: f64| (((from + to) / 4.0) as u32).min(self.side - 1);
        let own = (own(top, bottom), own(left, right));
        let cell = |row: u32, col: u32| (row * self.side + col) as usize;
        let is_among = (rows.0..rows.1).contains(&own.0) && (cols.0..cols.1).contains(&own.1);
        if !is_among {
            each(cell(own.0, own.1));
        }
        for row in rows.0..rows.1 {
            (cols.0..cols.1).for_each(|col| each(cell(row, col)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Window = Window { row: 100, col: -50, rows: 256, cols: 256 };

    fn window(row: i64, col: i64, side: u32) -> Option<Window> {
        Some(Window { row: GRID.row + row, col: GRID.col + col, rows: side, cols: side })
    }

    /// Scenes of so many pixels side by side over the grid, and so many times.
    fn scenes(side: u32, times: usize) -> Vec<Option<Window>> {
        let steps = (0..256).step_by(side as usize);
        let once: Vec<_> =
            steps.clone().flat_map(|row| steps.clone().map(move |col| window(row, col, side))).collect();
        once.iter().copied().cycle().take(once.len() * times).collect()
    }

    fn covers(reach: &[Option<Window>], kept: &[usize], row: i64, col: i64) -> usize {
        let holds = |at: &&usize| {
            let window = reach[**at].unwrap();
            let (row, col) = (GRID.row + row, GRID.col + col);
            (window.row..window.row_end()).contains(&row) && (window.col..window.col_end()).contains(&col)
        };
        kept.iter().filter(holds).count()
    }

    #[test]
    fn few_scenes_are_all_kept() {
        assert_eq!(mosaic(&scenes(32, 2), &GRID), None);
        assert_eq!(stack(&scenes(32, 2), &GRID), None);
    }

    #[test]
    fn a_mosaic_keeps_the_upper_scenes_everywhere() {
        let reach = scenes(32, 160);
        assert_eq!(reach.len(), 10_240);
        let kept = mosaic(&reach, &GRID).unwrap();
        assert_eq!(kept, (reach.len() - 128..reach.len()).collect::<Vec<_>>(), "the two uppermost");
        for at in (0..256).step_by(5) {
            assert_eq!(covers(&reach, &kept, at, (7 * at) % 256), LAYERS);
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_spread_however_small_scenes_are() {
        for (side, times) in [(1, 1), (2, 3), (4, 5), (8, 20), (256, 10_000)] {
            let reach = scenes(side, times);
            let kept = mosaic(&reach, &GRID).unwrap();
            assert!(!kept.is_empty() && kept.len() <= SCENES_MAX, "{side}: {}", kept.len());
            assert!(kept.is_sorted_by(|a, b| a < b));
            let images = stack(&reach, &GRID).unwrap();
            assert!(!images.is_empty() && images.len() <= SCENES_MAX, "{side}: {}", images.len());
            for kept in [kept, images] {
                let quarter = |at: &usize| {
                    let window = reach[*at].unwrap();
                    (window.row - GRID.row) / 128 * 2 + (window.col - GRID.col) / 128
                };
                let quarters: std::collections::BTreeSet<i64> = kept.iter().map(quarter).collect();
                assert_eq!(quarters.len(), if side == 256 { 1 } else { 4 }, "{side}");
            }
        }
    }

    #[test]
    fn images_of_a_place_are_spread_over_time() {
        let reach = scenes(128, 500);
        let kept = stack(&reach, &GRID).unwrap();
        let here: Vec<usize> = kept.iter().copied().filter(|at| at % 4 == 0).collect();
        assert_eq!((here.first(), here.last(), here.len()), (Some(&0), Some(&1996), 16));
        assert!(here.windows(2).all(|pair| pair[1] - pair[0] <= 136), "{here:?}");
    }

    #[test]
    fn places_that_are_not_known_are_kept_and_hide_nothing() {
        let mut reach = scenes(32, 160);
        reach.push(None);
        reach.push(window(1000, 1000, 32));
        let kept = mosaic(&reach, &GRID).unwrap();
        assert_eq!(kept.last(), Some(&10_240));
        assert_eq!(kept.len(), 129);
        let unknown = vec![None; 3000];
        assert_eq!(mosaic(&unknown, &GRID).unwrap(), (3000 - SCENES_MAX..3000).collect::<Vec<_>>());
        assert_eq!(stack(&unknown, &GRID).unwrap().len(), 16);
    }
}
