//! Whose turn it is: one lane a machine or pool, a job in one lane or in several.
//!
//! A job enters all its lanes in one step, so all lanes hold their jobs in one common order, and jobs that need
//! several lanes never wait for each other in a circle.

use std::collections::{HashMap, VecDeque};

use crate::time::Guid;

/// The lanes of all machines and pools. Pure bookkeeping.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    queues: HashMap<Guid, VecDeque<Guid>>,
    jobs: HashMap<Guid, Place>,
    limit: usize,
}

#[derive(Debug)]
struct Place {
    lanes: Vec<Guid>,
    /// Its record is durable.
    ready: bool,
    started: bool,
}

/// A lane has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneFull;

impl Lanes {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Puts a job at the end of its lanes, if not more than the limit wait in each.
    pub(super) fn enter(&mut self, job: Guid, lanes: Vec<Guid>) -> Result<(), LaneFull> {
        if lanes.iter().any(|lane| self.queues.get(lane).is_some_and(|queue| queue.len() > self.limit)) {
            return Err(LaneFull);
        }
        self.enter_again(job, lanes);
        Ok(())
    }

    /// Puts a job that was accepted before the server stopped at the end of its lanes, whether full or not.
    pub(super) fn enter_again(&mut self, job: Guid, mut lanes: Vec<Guid>) {
        lanes.sort_unstable();
        lanes.dedup();
        for lane in &lanes {
            self.queues.entry(*lane).or_default().push_back(job);
        }
        self.jobs.insert(job, Place { lanes, ready: false, started: false });
    }

    /// The record of a job is durable: true if its turn has come, and then it counts as started.
    pub(super) fn ready(&mut self, job: Guid) -> bool {
        if let Some(place) = self.jobs.get_mut(&job) {
            place.ready = true;
        }
        self.start(job)
    }

    /// A job has ended or was withdrawn: the jobs whose turn has come, which count as started.
    pub(super) fn leave(&mut self, job: Guid) -> Vec<Guid> {
        let Some(place) = self.jobs.remove(&job) else { return Vec::new() };
        let mut candidates = Vec::new();
        for lane in place.lanes {
            if let Some(queue) = self.queues.get_mut(&lane) {
                queue.retain(|waiting| *waiting != job);
                candidates.extend(queue.front().copied());
                if queue.is_empty() {
                    self.queues.remove(&lane);
                }
            }
        }
        candidates.into_iter().filter(|candidate| self.start(*candidate)).collect()
    }

    fn start(&mut self, job: Guid) -> bool {
        let front = |lane| self.queues.get(lane).and_then(VecDeque::front) == Some(&job);
        let turn =
            self.jobs.get(&job).is_some_and(|place| place.ready && !place.started && place.lanes.iter().all(front));
        if turn && let Some(place) = self.jobs.get_mut(&job) {
            place.started = true;
        }
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> Guid {
        Guid::from_uuid(uuid::Uuid::from_u64_pair(0, number))
    }

    #[test]
    fn a_job_waits_for_all_its_lanes_and_none_starts_twice() {
        let mut lanes = Lanes::new(8);
        lanes.enter(id(1), vec![id(101)]).unwrap();
        lanes.enter(id(2), vec![id(102), id(101)]).unwrap();
        lanes.enter(id(3), vec![id(101), id(102)]).unwrap();
        lanes.enter(id(4), vec![id(103)]).unwrap();
        assert!(lanes.ready(id(1)));
        assert!(!lanes.ready(id(1)));
        assert!(!lanes.ready(id(3)));
        assert!(!lanes.ready(id(2)));
        assert!(lanes.ready(id(4)));
        assert_eq!(lanes.leave(id(1)), [id(2)]);
        assert_eq!(lanes.leave(id(2)), [id(3)]);
        assert_eq!(lanes.leave(id(3)), []);
        assert_eq!(lanes.leave(id(3)), []);
    }

    #[test]
    fn a_job_without_a_durable_record_does_not_start() {
        let mut lanes = Lanes::new(8);
        lanes.enter(id(1), vec![id(101)]).unwrap();
        lanes.enter(id(2), vec![id(101)]).unwrap();
        assert!(lanes.ready(id(1)));
        assert_eq!(lanes.leave(id(1)), []);
        assert!(lanes.ready(id(2)));
    }

    #[test]
    fn the_limit_counts_those_that_wait() {
        let mut lanes = Lanes::new(2);
        for job in 1..=3 {
            lanes.enter(id(job), vec![id(101)]).unwrap();
        }
        assert_eq!(lanes.enter(id(4), vec![id(102), id(101)]), Err(LaneFull));
        assert_eq!(lanes.enter(id(4), vec![id(102)]), Ok(()));
        lanes.leave(id(2));
        assert_eq!(lanes.enter(id(5), vec![id(101)]), Ok(()));
    }
}
