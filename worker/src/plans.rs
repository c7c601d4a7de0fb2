//! Plans that were decoded lately: the calls of one request repeat theirs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use graticule_common::hash::{ContentHash, Hasher};
use graticule_common::plan::Plan;
use graticule_common::proto::v1 as pb;
use graticule_common::wire::{self, WireError};
use prost::Message;

/// Plans that are kept.
const PLANS_MAX: usize = 32;

/// Bytes of all of them together, as messages; decoded they take a few times as much.
const BYTES_MAX: usize = 32 << 20;

/// A plan and what tells it from others.
#[derive(Clone, Debug)]
pub struct Known {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Digest of its message.
    pub digest: ContentHash,
}

/// The plans of late, the latest last.
#[derive(Clone, Debug, Default)]
pub struct Plans(Arc<Mutex<VecDeque<(usize, Known)>>>);

impl Plans {
    /// The plan of a message. May take milliseconds for one over thousands of scenes.
    ///
    /// # Errors
    /// [`WireError`] for a message that is no plan.
    pub fn decode(&self, message: &pb::Plan) -> Result<Known, WireError> {
        let bytes = message.encode_to_vec();
        let digest = Hasher::new("plan message").bytes(&bytes).finish();
        if let Some(known) = self.recall(digest) {
            return Ok(known);
        }
        let known = Known { plan: Arc::new(wire::plan_from(message)?), digest };
        self.keep(bytes.len(), known.clone());
        Ok(known)
    }

    fn recall(&self, digest: ContentHash) -> Option<Known> {
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = plans.iter().position(|(_, known)| known.digest == digest)?;
        let entry = plans.remove(at)?;
        plans.push_back(entry.clone());
        Some(entry.1)
    }

    fn keep(&self, bytes: usize, known: Known) {
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Two calls may have decoded it at once.
        plans.retain(|(_, other)| other.digest != known.digest);
        if bytes > BYTES_MAX {
            return;
        }
        plans.push_back((bytes, known));
        while plans.len() > PLANS_MAX || plans.iter().map(|(bytes, _)| bytes).sum::<usize>() > BYTES_MAX {
            plans.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{message, stack_max};

    #[test]
    fn a_plan_is_decoded_once_and_the_oldest_is_forgotten() {
        let plans = Plans::default();
        let numbered = |n: usize| message(&stack_max(1 + n % 3, 16 + n as u32));
        let first = plans.decode(&numbered(0)).unwrap();
        assert!(Arc::ptr_eq(&first.plan, &plans.decode(&numbered(0)).unwrap().plan));
        for n in 1..PLANS_MAX {
            assert_ne!(plans.decode(&numbered(n)).unwrap().digest, first.digest);
            // Used again, it stays.
            assert!(Arc::ptr_eq(&first.plan, &plans.decode(&numbered(0)).unwrap().plan));
        }
        assert_eq!(plans.0.lock().unwrap().len(), PLANS_MAX);
        let second = plans.recall(plans.decode(&numbered(1)).unwrap().digest).unwrap();
        plans.decode(&numbered(PLANS_MAX)).unwrap();
        assert_eq!(plans.0.lock().unwrap().len(), PLANS_MAX);
        assert!(plans.recall(second.digest).is_some());
        let third = plans.decode(&numbered(2)).unwrap().digest;
        assert!(plans.recall(third).is_some());
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let plans = Plans::default();
        let known = plans.decode(&message(&stack_max(1, 16))).unwrap();
        plans.keep(BYTES_MAX, known.clone());
        assert_eq!(plans.0.lock().unwrap().len(), 1);
        plans.keep(BYTES_MAX + 1, known);
        assert!(plans.0.lock().unwrap().is_empty());
    }
}
