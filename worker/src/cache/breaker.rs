//! When to leave a server alone: a state machine without a clock, told what happened and when.

use std::time::{Duration, Instant};

/// Keeps requests away from a server that fails, and says when to see whether it is back.
#[derive(Debug)]
pub(super) struct Breaker {
    failures_max: u32,
    retry_after: Duration,
    probe_max: Duration,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The server is used; so many operations failed since one was answered.
    Closed { failures: u32 },
    /// The server is left alone until then.
    Open { probe_at: Instant },
    /// One probe is under way. Past `until` it is taken for lost.
    Probing { until: Instant },
}

/// What an operation is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Ask the server, and report the outcome.
    Proceed,
    /// Do without the server.
    Skip,
    /// Do without the server, but start a probe in the background and report its outcome.
    SkipAndProbe,
}

/// How something that was sent to the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An operation was answered.
    Answered,
    /// An operation failed or took too long.
    Failed,
    /// A probe, or the first connection, was answered.
    ProbeAnswered,
    /// A probe, or the first connection, failed.
    ProbeFailed,
}

/// What an outcome changed: worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// From here on the server is left alone.
    Opened,
    /// From here on the server is used again.
    Closed,
}

impl Breaker {
    /// Opens after `failures_max` failures in a row; while open, probes every `retry_after`. A probe
    /// that reports nothing for `probe_max` is taken for lost.
    pub(super) fn new(failures_max: u32, retry_after: Duration, probe_max: Duration) -> Self {
        Breaker { failures_max, retry_after, probe_max, state: State::Closed { failures: 0 } }
    }

    /// Whether an operation may go to the server.
    pub(super) fn admit(&mut self, now: Instant) -> Admission {
        match self.state {
            State::Closed { .. } => Admission::Proceed,
            State::Open { probe_at: due } | State::Probing { until: due } if now >= due => {
                self.state = State::Probing { until: now + self.probe_max };
                Admission::SkipAndProbe
            }
            State::Open { .. } | State::Probing { .. } => Admission::Skip,
        }
    }

    /// Takes note of an outcome.
    pub(super) fn report(&mut self, outcome: Outcome, now: Instant) -> Option<Change> {
        let open = State::Open { probe_at: now + self.retry_after };
        let (state, change) = match (self.state, outcome) {
            (State::Closed { .. }, Outcome::Answered | Outcome::ProbeAnswered) => {
                (State::Closed { failures: 0 }, None)
            }
            (State::Closed { failures }, Outcome::Failed) if failures + 1 < self.failures_max => {
                (State::Closed { failures: failures + 1 }, None)
            }
            (State::Closed { .. }, Outcome::Failed | Outcome::ProbeFailed) => (open, Some(Change::Opened)),
            // Operations admitted before the opening say nothing about now: only a probe does.
            (state, Outcome::Answered | Outcome::Failed) => (state, None),
            (_, Outcome::ProbeAnswered) => (State::Closed { failures: 0 }, Some(Change::Closed)),
            (_, Outcome::ProbeFailed) => (open, None),
        };
        self.state = state;
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> (Breaker, Instant) {
        (Breaker::new(5, SECOND, 3 * SECOND), Instant::now())
    }

    fn opened() -> (Breaker, Instant) {
        let (mut breaker, start) = breaker();
        for _ in 0..4 {
            assert_eq!(breaker.report(Outcome::Failed, start), None);
            assert_eq!(breaker.admit(start), Admission::Proceed);
        }
        assert_eq!(breaker.report(Outcome::Failed, start), Some(Change::Opened));
        (breaker, start)
    }

    #[test]
    fn opens_after_failures_in_a_row() {
        let (mut breaker, start) = opened();
        assert_eq!(breaker.admit(start), Admission::Skip);
        assert_eq!(breaker.admit(start + SECOND - Duration::from_nanos(1)), Admission::Skip);
    }

    #[test]
    fn an_answer_between_failures_keeps_it_closed() {
        let (mut breaker, start) = breaker();
        for i in 0..100 {
            let outcome = if i % 5 == 4 { Outcome::Answered } else { Outcome::Failed };
            assert_eq!(breaker.report(outcome, start), None);
            assert_eq!(breaker.admit(start), Admission::Proceed);
        }
    }

    #[test]
    fn one_probe_at_a_time_closes_it() {
        let (mut breaker, start) = opened();
        assert_eq!(breaker.admit(start + SECOND), Admission::SkipAndProbe);
        assert_eq!(breaker.admit(start + SECOND), Admission::Skip);
        assert_eq!(breaker.report(Outcome::ProbeAnswered, start + SECOND), Some(Change::Closed));
        assert_eq!(breaker.admit(start + SECOND), Admission::Proceed);
        // Failures before the opening are forgotten.
        assert_eq!(breaker.report(Outcome::Failed, start + SECOND), None);
    }

    #[test]
    fn a_failed_probe_waits_again() {
        let (mut breaker, start) = opened();
        for round in 1..10 {
            let now = start + round * SECOND;
            assert_eq!(breaker.admit(now), Admission::SkipAndProbe);
            assert_eq!(breaker.report(Outcome::ProbeFailed, now), None);
            assert_eq!(breaker.admit(now), Admission::Skip);
        }
    }

    #[test]
    fn a_lost_probe_is_replaced() {
        let (mut breaker, start) = opened();
        assert_eq!(breaker.admit(start + SECOND), Admission::SkipAndProbe);
        assert_eq!(breaker.admit(start + 3 * SECOND), Admission::Skip);
        assert_eq!(breaker.admit(start + 4 * SECOND), Admission::SkipAndProbe);
    }

    #[test]
    fn late_outcomes_change_nothing() {
        let (mut breaker, start) = opened();
        assert_eq!(breaker.report(Outcome::Answered, start), None);
        assert_eq!(breaker.report(Outcome::Failed, start + SECOND / 2), None);
        assert_eq!(breaker.admit(start + SECOND), Admission::SkipAndProbe);
        assert_eq!(breaker.report(Outcome::Failed, start + SECOND), None);
        assert_eq!(breaker.report(Outcome::ProbeAnswered, start + SECOND), Some(Change::Closed));
    }

    #[test]
    fn a_first_connection_that_fails_opens_it_at_once() {
        let (mut breaker, start) = breaker();
        assert_eq!(breaker.report(Outcome::ProbeFailed, start), Some(Change::Opened));
        assert_eq!(breaker.admit(start), Admission::Skip);
    }
}
