//! Classes: values with a colour of their own.

use super::RenderError;

/// Most classes of a style.
pub const CLASSES_MAX: usize = 256;

/// A class.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// Which values belong to it.
    pub matches: Matches,
    /// Red, green, blue.
    pub colour: [u8; 3],
    /// What it is called; empty: nothing.
    pub name: String,
}

/// Which values belong to a class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Matches {
    /// This value.
    Value(f32),
    /// Values from the first one up to the second. The second belongs to the class where no other class
    /// begins with it.
    Range(f32, f32),
}

impl Matches {
    fn low(self) -> f32 {
        let (Matches::Value(low) | Matches::Range(low, _)) = self;
        low
    }

    fn high(self) -> f32 {
        let (Matches::Value(high) | Matches::Range(_, high)) = self;
        high
    }
}

/// Classes, ready to be looked up.
#[derive(Clone, Debug, PartialEq)]
pub struct Classes {
    /// By their lowest value. Ranges may overlap; the one that begins last is the one that counts.
    sorted: Vec<Class>,
    /// For each of them the highest value that it or one before it holds.
    reach: Vec<f32>,
    /// In the order of the client, for legends.
    given: Vec<Class>,
}

impl Classes {
    /// Classes in any order.
    ///
    /// # Errors
    /// [`RenderError::Classes`]: none or more than [`CLASSES_MAX`], a value that is no number, a range that
    /// ends before it begins, two classes that begin with the same value.
    pub fn new(given: Vec<Class>) -> Result<Self, RenderError> {
        let wrong = |problem: String| Err(RenderError::Classes { problem });
        if given.is_empty() || given.len() > CLASSES_MAX {
            let problem = format!("{} classes; give 1 to {CLASSES_MAX}", given.len());
            return wrong(problem);
        }
        for class in &given {
            let (low, high) = (class.matches.low(), class.matches.high());
            if low.is_nan() || high.is_nan() || low > high {
                return wrong(format!(
                    "a class from `{low}` to `{high}` holds no value; give the lower one first"
                ));
            }
        }
        let mut sorted = given.clone();
        sorted.sort_by(|a, b| a.matches.low().total_cmp(&b.matches.low()));
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0].matches.low() == pair[1].matches.low()) {
            return wrong(format!(
                "two classes begin with `{}`; a value has one class",
                twice[0].matches.low()
            ));
        }
        let highest = |so_far: &mut f32, class: &Class| {
            *so_far = so_far.max(class.matches.high());
            Some(*so_far)
        };
        let reach = sorted.iter().scan(f32::NEG_INFINITY, highest).collect();
        Ok(Classes { sorted, reach, given })
    }

    /// The classes as they were given.
    pub fn given(&self) -> &[Class] {
        &self.given
    }

    /// The colours, in the order that [`Classes::find`] counts in.
    pub(super) fn colours(&self) -> impl Iterator<Item = [u8; 3]> {
        self.sorted.iter().map(|class| class.colour)
    }

    /// The class of a value. `hint` is where to look first: neighbours are often of one class.
    pub(super) fn find(&self, value: f32, hint: usize) -> Option<usize> {
        let begins = |at: usize| self.sorted.get(at).is_some_and(|class| class.matches.low() <= value);
        let at = match begins(hint) && !begins(hint + 1) {
            true => hint,
            false => self.sorted.partition_point(|class| class.matches.low() <= value).checked_sub(1)?,
        };
        // All up to here begin at the value or below it.
        let holds = |at: &usize| value <= self.sorted[*at].matches.high();
        (0..=at).rev().take_while(|at| value <= self.reach[*at]).find(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(matches: Matches) -> Class {
        Class { matches, colour: [1, 2, 3], name: String::new() }
    }

    #[test]
    fn values_find_their_class_from_any_hint() {
        let ranges = [(2.0, 3.0), (0.0, 1.0), (1.0, 2.0), (7.0, 8.0)];
        let ranges =
            Classes::new(ranges.map(|(low, high)| class(Matches::Range(low, high))).to_vec()).unwrap();
        let nested = [(0.0, 10.0), (2.0, 3.0)].map(|(low, high)| class(Matches::Range(low, high)));
        let nested = Classes::new(nested.to_vec()).unwrap();
        let values = Classes::new([4.0, 2.0, 0.0].map(|at| class(Matches::Value(at))).to_vec()).unwrap();
        for hint in 0..5 {
            for (value, expected) in [
                (0.0, Some(0)),
                (0.5, Some(0)),
                (1.0, Some(1)),
                (2.0, Some(2)),
                (3.0, Some(2)),
                (3.5, None),
                (8.0, Some(3)),
                (8.1, None),
                (-0.1, None),
                (f32::NAN, None),
                (f32::INFINITY, None),
            ] {
                assert_eq!(ranges.find(value, hint), expected, "{value} from {hint}");
            }
            for (value, expected) in [(1.0, Some(0)), (2.5, Some(1)), (5.0, Some(0)), (11.0, None)] {
                assert_eq!(nested.find(value, hint), expected, "{value} from {hint}");
            }
            for (value, expected) in
                [(0.0, Some(0)), (2.0, Some(1)), (4.0, Some(2)), (1.0, None), (5.0, None)]
            {
                assert_eq!(values.find(value, hint), expected, "{value} from {hint}");
            }
        }
    }

    #[test]
    fn what_is_no_class_is_refused() {
        assert!(Classes::new(vec![]).is_err());
        assert!(Classes::new(vec![class(Matches::Value(0.0)); 2]).is_err());
        assert!(Classes::new(vec![class(Matches::Value(f32::NAN))]).is_err());
        assert!(Classes::new(vec![class(Matches::Range(1.0, 0.0))]).is_err());
        let many = |count: usize| (0..count).map(|at| class(Matches::Value(at as f32))).collect();
        assert!(Classes::new(many(CLASSES_MAX)).is_ok());
        assert!(Classes::new(many(CLASSES_MAX + 1)).is_err());
    }
}
