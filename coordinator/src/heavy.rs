//! What a request may take that somebody waits for, where workers are shared.

use graticule_common::error::{Classify, ErrorClass};
use graticule_common::plan::explain::Bill;

/// Bounds on one request. Pixels of its result are bounded for all
/// ([`Limits::output_samples`](graticule_common::limits::Limits::output_samples)).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heavy {
    /// Estimated processor time, in seconds.
    pub cpu_s: f64,
    /// Scenes that are read.
    pub scenes: u64,
}

impl Default for Heavy {
    fn default() -> Self {
        Heavy { cpu_s: 60.0, scenes: 500 }
    }
}

/// Why a request is too heavy.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TooHeavy {
    /// Too much processor time.
    #[error(
        "the request would take about {seconds:.1} s of processor time, this server allows {limit} s for one request (`--max-request-cpu-s`); ask for a smaller AOI or a coarser resolution, select fewer scenes or bands, or compute it with an engine of your own (`graticule compute` without `--endpoint`)"
    )]
    Cpu {
        /// Seconds.
        seconds: f64,
        /// The limit.
        limit: f64,
    },
    /// Too many scenes.
    #[error(
        "the request would read {scenes} scenes, this server allows {limit} for one request (`--max-request-scenes`); ask for a smaller AOI, select fewer scenes, or compute it with an engine of your own (`graticule compute` without `--endpoint`)"
    )]
    Scenes {
        /// Scenes.
        scenes: u64,
        /// The limit.
        limit: u64,
    },
}

impl Classify for TooHeavy {
    fn class(&self) -> ErrorClass {
        match self {
            TooHeavy::Cpu { .. } | TooHeavy::Scenes { .. } => ErrorClass::LimitExceeded,
        }
    }
}

impl Heavy {
    /// Refuses what would take more.
    ///
    /// # Errors
    /// [`TooHeavy`].
    pub fn check(&self, bill: &Bill) -> Result<(), TooHeavy> {
        // A limit that is no number allows nothing.
        if bill.cpu_s > self.cpu_s || self.cpu_s.is_nan() {
            return Err(TooHeavy::Cpu { seconds: bill.cpu_s, limit: self.cpu_s });
        }
        if bill.scenes > self.scenes {
            return Err(TooHeavy::Scenes { scenes: bill.scenes, limit: self.scenes });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_what_may_be_had() {
        let heavy = Heavy { cpu_s: 2.0, scenes: 3 };
        let bill = |cpu_s, scenes| Bill { cpu_s, scenes, ..Bill::default() };
        assert_eq!(heavy.check(&bill(2.0, 3)), Ok(()));
        assert_eq!(heavy.check(&bill(2.5, 3)), Err(TooHeavy::Cpu { seconds: 2.5, limit: 2.0 }));
        assert_eq!(heavy.check(&bill(2.0, 4)), Err(TooHeavy::Scenes { scenes: 4, limit: 3 }));
    }
}
