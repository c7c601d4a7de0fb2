//! Reductions that take one entry after another: one pass, and state for one entry's values.
//!
//! Entries are images, or the bands of one image. What stands under an invalid entry may be anything,
//! so it is never added or compared: values are selected by validity, without branches.

use crate::block::{Block, DType, Samples};
use crate::literal::Literal;
use crate::ops::{BlockCall, Fold, Values};

/// How a reduction begins: see [`FoldKernel::start`](crate::ops::FoldKernel::start).
pub(super) type Start = fn(&[Literal], DType, usize) -> Box<dyn Fold>;

/// Pixels whose bands are reduced at a time: their state stays in the cache.
const STRIP: usize = 4096;

/// Bytes held while bands are reduced: the state of a strip and its result.
pub(super) fn scratch_bytes(state_bytes: u64) -> u64 {
    (state_bytes + 5) * STRIP as u64
}

/// A reduction over the bands of each image, or of a mosaic.
pub(super) fn over_bands(call: &BlockCall<'_>, start: Start) -> Block {
    let input = call.inputs[0];
    let bands = input.kind().bands().unwrap_or(0) as usize;
    let (images, pixels) = (input.kind().images().unwrap_or(1) as usize, input.pixels());
    let mut out = Samples::zeros(call.facts.dtype, 0);
    let mut valid = Vec::with_capacity(images * pixels);
    match &mut out {
        Samples::F32(out) => out.reserve_exact(images * pixels),
        Samples::Bool(out) => out.reserve_exact(images * pixels),
    }
    for image in 0..images {
        for at in (0..pixels).step_by(STRIP) {
            let len = STRIP.min(pixels - at);
            let mut fold = start(call.params, input.samples().dtype(), len);
            for band in 0..bands {
                let from = (image * bands + band) * pixels + at;
                let values = match input.samples() {
                    Samples::F32(values) => Values::F32(&values[from..from + len]),
                    Samples::Bool(values) => Values::Bool(&values[from..from + len]),
                };
                fold.add(values, &input.valid()[from..from + len]);
            }
            let (strip, ok) = fold.finish();
            match (&mut out, strip) {
                (Samples::F32(out), Samples::F32(strip)) => out.extend(strip),
                (Samples::Bool(out), Samples::Bool(strip)) => out.extend(strip),
                _ => unreachable!("a reduction gives the type that its type rule said"),
            }
            valid.extend(ok);
        }
    }
    Block::new(call.facts.kind, input.shape(), out, valid)
}

pub(super) fn max(_: &[Literal], input: DType, len: usize) -> Box<dyn Fold> {
    match input {
        DType::F32 => kept(len, |a: f32, b| (b > a) | b.is_nan()),
        DType::Bool => kept(len, |a: u8, b| b > a),
    }
}

pub(super) fn min(_: &[Literal], input: DType, len: usize) -> Box<dyn Fold> {
    match input {
        DType::F32 => kept(len, |a: f32, b| (b < a) | b.is_nan()),
        DType::Bool => kept(len, |a: u8, b| b < a),
    }
}

pub(super) fn first(_: &[Literal], input: DType, len: usize) -> Box<dyn Fold> {
    match input {
        DType::F32 => kept(len, |_: f32, _| false),
        DType::Bool => kept(len, |_: u8, _| false),
    }
}

pub(super) fn last(_: &[Literal], input: DType, len: usize) -> Box<dyn Fold> {
    match input {
        DType::F32 => kept(len, |_: f32, _| true),
        DType::Bool => kept(len, |_: u8, _| true),
    }
}

pub(super) fn sum(_: &[Literal], _: DType, len: usize) -> Box<dyn Fold> {
    Box::new(Sums::new(len, false))
}

pub(super) fn mean(_: &[Literal], _: DType, len: usize) -> Box<dyn Fold> {
    Box::new(Sums::new(len, true))
}

pub(super) fn var(_: &[Literal], _: DType, len: usize) -> Box<dyn Fold> {
    Box::new(Spread::new(len, false))
}

pub(super) fn std(_: &[Literal], _: DType, len: usize) -> Box<dyn Fold> {
    Box::new(Spread::new(len, true))
}

pub(super) fn argmax(_: &[Literal], _: DType, len: usize) -> Box<dyn Fold> {
    Box::new(Place::new(len, |a, b| b > a))
}

pub(super) fn argmin(_: &[Literal], _: DType, len: usize) -> Box<dyn Fold> {
    Box::new(Place::new(len, |a, b| b < a))
}

pub(super) fn count(_: &[Literal], _: DType, len: usize) -> Box<dyn Fold> {
    Box::new(Count(vec![0; len]))
}

pub(super) fn any(_: &[Literal], _: DType, len: usize) -> Box<dyn Fold> {
    Box::new(Truth { truth: vec![0; len], valid: vec![0; len], decisive: 1 })
}

pub(super) fn all(_: &[Literal], _: DType, len: usize) -> Box<dyn Fold> {
    Box::new(Truth { truth: vec![1; len], valid: vec![0; len], decisive: 0 })
}

pub(super) fn ptp(params: &[Literal], input: DType, len: usize) -> Box<dyn Fold> {
    Box::new(Range { max: max(params, input, len), min: min(params, input, len) })
}

/// A type of pixel values.
trait Value: Copy + Default + 'static {
    fn run(values: Values<'_>) -> &[Self];
    fn samples(values: Vec<Self>) -> Samples;
}

impl Value for f32 {
    fn run(values: Values<'_>) -> &[f32] {
        match values {
            Values::F32(values) => values,
            Values::Bool(_) => unreachable!("a reduction takes the type it was started for"),
        }
    }

    fn samples(values: Vec<f32>) -> Samples {
        Samples::F32(values)
    }
}

impl Value for u8 {
    fn run(values: Values<'_>) -> &[u8] {
        values.bools()
    }

    fn samples(values: Vec<u8>) -> Samples {
        Samples::Bool(values)
    }
}

/// One of the entries: the first valid one, until another replaces it.
struct Kept<T, F> {
    kept: Vec<T>,
    valid: Vec<u8>,
    /// Whether the second replaces the first.
    replaces: F,
}

fn kept<T: Value, F: Fn(T, T) -> bool + 'static>(len: usize, replaces: F) -> Box<dyn Fold> {
    Box::new(Kept { kept: vec![T::default(); len], valid: vec![0; len], replaces })
}

impl<T: Value, F: Fn(T, T) -> bool> Fold for Kept<T, F> {
    fn add(&mut self, values: Values<'_>, valid: &[u8]) {
        let state = self.kept.iter_mut().zip(&mut self.valid);
        for (((kept, any), value), ok) in state.zip(T::run(values)).zip(valid) {
            let takes = (*ok != 0) & ((*any == 0) | (self.replaces)(*kept, *value));
            *kept = if takes { *value } else { *kept };
            *any |= ok;
        }
    }

    fn finish(self: Box<Self>) -> (Samples, Vec<u8>) {
        (T::samples(self.kept), self.valid)
    }
}

/// The longest runs of numbers: one of them with its scratch stays in the first-level cache.
const RUN: usize = 1024;

/// Calls `f` with runs of numbers of at most [`RUN`], and where each begins.
pub(super) fn numbers(values: Values<'_>, mut f: impl FnMut(usize, &[f32])) {
    match values {
        Values::F32(values) => (0..).step_by(RUN).zip(values.chunks(RUN)).for_each(|(at, run)| f(at, run)),
        Values::Bool(values) => {
            let mut scratch = [0.0f32; RUN];
            for (at, run) in (0..).step_by(RUN).zip(values.chunks(RUN)) {
                f(at, Values::Bool(run).floats(&mut scratch));
            }
        }
    }
}

/// Sums and means. What each addition rounds away is summed apart (Neumaier 1974), so that a result is
/// the correctly rounded one, or its neighbour, also where large values cancel.
struct Sums {
    sums: Vec<f64>,
    rests: Vec<f64>,
    counts: Vec<u32>,
    is_mean: bool,
}

impl Sums {
    const STATE_BYTES: u64 = 20;

    fn new(len: usize, is_mean: bool) -> Sums {
        Sums { sums: vec![0.0; len], rests: vec![0.0; len], counts: vec![0; len], is_mean }
    }
}

impl Fold for Sums {
    fn add(&mut self, values: Values<'_>, valid: &[u8]) {
        let mut run = [0.0f32; RUN];
        numbers(values, |at, values| {
            // Loops of one width each are those that compilers vectorise.
            for ((taken, value), ok) in run.iter_mut().zip(values).zip(&valid[at..]) {
                *taken = if *ok != 0 { *value } else { 0.0 };
            }
            let state = self.sums[at..].iter_mut().zip(&mut self.rests[at..]);
            for ((sum, rest), taken) in state.zip(&run[..values.len()]) {
                let value = f64::from(*taken);
                // Knuth's two-sum: the error of the addition, exactly, without asking which is larger.
                let total = *sum + value;
                let added = total - *sum;
                *rest += (*sum - (total - added)) + (value - added);
                *sum = total;
            }
        });
        self.counts.iter_mut().zip(valid).for_each(|(count, ok)| *count += u32::from(*ok));
    }

    fn finish(self: Box<Self>) -> (Samples, Vec<u8>) {
        let Sums { mut sums, rests, counts, is_mean } = *self;
        for (sum, rest) in sums.iter_mut().zip(&rests) {
            // Beside an infinity the rest is NaN.
            *sum = if sum.is_finite() { *sum + *rest } else { *sum };
        }
        if !is_mean {
            let valid = counts.iter().map(|count| u8::from(*count > 0)).collect();
            return (Samples::F32(sums.into_iter().map(|sum| sum as f32).collect()), valid);
        }
        let divided = sums.iter().zip(&counts).map(|(sum, count)| (sum / f64::from((*count).max(1))) as f32);
        let means: Vec<f32> = divided.collect();
        // numpy.ma divides the masked sum by the count, and that division hides what is not finite.
        let is_valid = |(mean, count): (&f32, &u32)| u8::from(*count > 0 && mean.is_finite());
        let valid = means.iter().zip(&counts).map(is_valid).collect();
        (Samples::F32(means), valid)
    }
}

/// Variance and standard deviation of the population: sums of the deviations from one of the entries and
/// of their squares (Chan, Golub and LeVeque 1983).
///
/// The entry K that is subtracted is the first valid one, so (K - mean)² is at most n times the variance:
/// of n + 1 parts of the sum of squares no more than n cancel, and the n roundings of the sums are at most
/// about n² · 2^-53 of the variance. For a thousand entries that is 1/500 of single precision's rounding.
struct Spread {
    first: Vec<f32>,
    sums: Vec<f64>,
    squares: Vec<f64>,
    counts: Vec<u32>,
    is_root: bool,
}

impl Spread {
    const STATE_BYTES: u64 = 24;

    fn new(len: usize, is_root: bool) -> Spread {
        let zeros = vec![0.0; len];
        Spread { first: vec![0.0; len], sums: zeros.clone(), squares: zeros, counts: vec![0; len], is_root }
    }
}

impl Fold for Spread {
    fn add(&mut self, values: Values<'_>, valid: &[u8]) {
        let mut run = [0.0f32; RUN];
        numbers(values, |at, values| {
            let first = self.first[at..].iter_mut().zip(&self.counts[at..]);
            for (((first, count), taken), (value, ok)) in
                first.zip(&mut run).zip(values.iter().zip(&valid[at..]))
            {
                *first = if (*ok != 0) & (*count == 0) { *value } else { *first };
                // No deviation where it is invalid; beside an infinite entry nothing is valid in the end.
                *taken = if *ok != 0 { *value } else { *first };
            }
            let sums = self.sums[at..].iter_mut().zip(&mut self.squares[at..]);
            for ((sum, square), (first, taken)) in sums.zip(self.first[at..].iter().zip(&run[..values.len()]))
            {
                let deviation = f64::from(*taken) - f64::from(*first);
                *sum += deviation;
                *square += deviation * deviation;
            }
        });
        self.counts.iter_mut().zip(valid).for_each(|(count, ok)| *count += u32::from(*ok));
    }

    fn finish(self: Box<Self>) -> (Samples, Vec<u8>) {
        let sums = self.sums.iter().zip(&self.squares).zip(&self.counts);
        let variance = |((sum, square), count): ((&f64, &f64), &u32)| {
            let n = f64::from((*count).max(1));
            let variance = (square - sum * sum / n) / n;
            // Rounding must not make it negative; NaN stays.
            let variance = if variance < 0.0 { 0.0 } else { variance };
            (if self.is_root { variance.sqrt() } else { variance }) as f32
        };
        let results: Vec<f32> = sums.map(variance).collect();
        let is_valid = |(result, count): (&f32, &u32)| u8::from(*count > 0 && result.is_finite());
        let valid = results.iter().zip(&self.counts).map(is_valid).collect();
        (Samples::F32(results), valid)
    }
}

/// Position of the entry that wins.
struct Place<F> {
    best: Vec<f32>,
    places: Vec<f32>,
    seen: Vec<u8>,
    entries: u32,
    /// Whether the second number beats the first.
    beats: F,
}

impl<F: Fn(f32, f32) -> bool> Place<F> {
    fn new(len: usize, beats: F) -> Self {
        Place { best: vec![0.0; len], places: vec![0.0; len], seen: vec![0; len], entries: 0, beats }
    }
}

impl<F: Fn(f32, f32) -> bool> Fold for Place<F> {
    fn add(&mut self, values: Values<'_>, valid: &[u8]) {
        // Positions are small: bands and scenes are limited far below 2^24.
        let place = self.entries as f32;
        numbers(values, |at, values| {
            let state = self.best[at..].iter_mut().zip(&mut self.places[at..]).zip(&mut self.seen[at..]);
            for ((((best, at), seen), value), ok) in state.zip(values).zip(&valid[at..]) {
                // The first NaN beats every number, and nothing beats it.
                let beats = (self.beats)(*best, *value) | (value.is_nan() & !best.is_nan());
                let takes = (*ok != 0) & ((*seen == 0) | beats);
                *best = if takes { *value } else { *best };
                *at = if takes { place } else { *at };
                *seen |= ok;
            }
        });
        self.entries += 1;
    }

    fn finish(self: Box<Self>) -> (Samples, Vec<u8>) {
        // Where nothing is valid, numpy.ma.argmax gives 0, not masked; of no entries it gives nothing.
        let valid = vec![u8::from(self.entries > 0); self.places.len()];
        (Samples::F32(self.places), valid)
    }
}

/// Number of valid entries.
struct Count(Vec<u32>);

impl Fold for Count {
    fn add(&mut self, _: Values<'_>, valid: &[u8]) {
        self.0.iter_mut().zip(valid).for_each(|(count, ok)| *count += u32::from(*ok));
    }

    fn finish(self: Box<Self>) -> (Samples, Vec<u8>) {
        let valid = vec![1; self.0.len()];
        (Samples::F32(self.0.into_iter().map(|count| count as f32).collect()), valid)
    }
}

/// Whether any valid entry is true, or all are. A number is true where it is not 0.
struct Truth {
    truth: Vec<u8>,
    valid: Vec<u8>,
    /// The truth value that decides: 1 of `any`, 0 of `all`.
    decisive: u8,
}

impl Fold for Truth {
    fn add(&mut self, values: Values<'_>, valid: &[u8]) {
        fn take<T: Copy>(truth: &mut Truth, values: &[T], valid: &[u8], is_true: impl Fn(T) -> bool) {
            let decisive = truth.decisive;
            let state = truth.truth.iter_mut().zip(&mut truth.valid);
            for (((truth, any), value), ok) in state.zip(values).zip(valid) {
                let decides = (*ok != 0) & (u8::from(is_true(*value)) == decisive);
                *truth = if decides { decisive } else { *truth };
                *any |= ok;
            }
        }
        match values {
            Values::F32(values) => take(self, values, valid, |value| value != 0.0),
            Values::Bool(values) => take(self, values, valid, |value| value != 0),
        }
    }

    fn finish(self: Box<Self>) -> (Samples, Vec<u8>) {
        (Samples::Bool(self.truth), self.valid)
    }
}

/// Largest less smallest.
struct Range {
    max: Box<dyn Fold>,
    min: Box<dyn Fold>,
}

impl Fold for Range {
    fn add(&mut self, values: Values<'_>, valid: &[u8]) {
        self.max.add(values, valid);
        self.min.add(values, valid);
    }

    fn finish(self: Box<Self>) -> (Samples, Vec<u8>) {
        let ((max, valid), (min, _)) = (self.max.finish(), self.min.finish());
        match (max, min) {
            (Samples::F32(max), Samples::F32(min)) => {
                (Samples::F32(max.iter().zip(&min).map(|(max, min)| max - min).collect()), valid)
            }
            _ => unreachable!("the type rule lets only numbers through"),
        }
    }
}

/// Bytes of state for each value of one entry.
pub(super) mod state {
    /// A kept value of any type and whether there is one.
    pub(in super::super) const KEPT: u64 = 5;
    /// Sums and means.
    pub(in super::super) const SUMS: u64 = super::Sums::STATE_BYTES;
    /// Variance and standard deviation.
    pub(in super::super) const SPREAD: u64 = super::Spread::STATE_BYTES;
    /// A value, its position, and whether there is one.
    pub(in super::super) const PLACE: u64 = 9;
    /// A count.
    pub(in super::super) const COUNT: u64 = 4;
    /// A truth value and whether there is one.
    pub(in super::super) const TRUTH: u64 = 2;
    /// Two kept values.
    pub(in super::super) const RANGE: u64 = 2 * KEPT;
}
