//! What is known about a target: the last good list, and what became of the newest attempt.

use std::sync::Arc;

use tokio::time::Instant;

use crate::endpoints::Endpoints;
use crate::error::ResolveError;

/// What is known about a target at one moment.
#[derive(Clone, Debug, Default)]
pub struct ResolverState {
    /// The last good list; `None` until the target has been resolved for the first time.
    ///
    /// `Some` of an empty list means that there are known to be none.
    pub endpoints: Option<Endpoints>,
    /// Number of different lists so far: 0 before the first, then one more with each change.
    pub generation: u64,
    /// When the newest successful resolution ended.
    pub last_success: Option<Instant>,
    /// Why the newest resolution failed; `None` after a success.
    pub error: Option<Arc<ResolveError>>,
    /// Resolutions that succeeded so far.
    pub successes: u64,
    /// Resolutions that failed so far.
    pub failures: u64,
}

impl ResolverState {
    /// Number of changes so far: lists that replaced another.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.generation.saturating_sub(1)
    }

    /// Records a resolution that ended at `now` with `endpoints`. A list that is the same set as the last keeps that
    /// one, order included. Returns whether the list changed.
    pub(crate) fn succeed(&mut self, now: Instant, endpoints: Endpoints) -> bool {
        self.error = None;
        self.last_success = Some(now);
        self.successes += 1;
        self.replace(endpoints)
    }

    /// Records a resolution that failed; the last good list stays.
    pub(crate) fn fail(&mut self, error: Arc<ResolveError>) {
        self.error = Some(error);
        self.failures += 1;
    }

    /// Gives the last good list up, if there is one: its name has been gone for too long. Returns whether the list
    /// changed.
    pub(crate) fn give_up(&mut self) -> bool {
        self.endpoints.is_some() && self.replace(Endpoints::none())
    }

    /// Takes a list over; one that is the same set as the last keeps that one, order included.
    pub(crate) fn replace(&mut self, endpoints: Endpoints) -> bool {
        let changed = self.endpoints.as_ref().is_none_or(|known| !known.is_same_set(&endpoints));
        if changed {
            self.endpoints = Some(endpoints);
            self.generation += 1;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use evenkeel_balance::Address;

    use super::*;

    fn list(ports: &[u16]) -> Endpoints {
        let address = |port: &u16| Address::from(SocketAddr::from(([127, 0, 0, 1], *port)));
        Endpoints::new(ports.iter().map(|port| (address(port), 1)), 8)
    }

    fn failure() -> Arc<ResolveError> {
        Arc::new(ResolveError::NoSuchName { name: "orders".into() })
    }

    #[test]
    fn a_failure_keeps_the_list_and_a_success_clears_the_failure() {
        let now = Instant::now();
        let mut state = ResolverState::default();
        state.fail(failure());
        assert!(state.endpoints.is_none() && state.error.is_some());
        assert!(state.succeed(now, list(&[1])));
        assert!(state.error.is_none());
        state.fail(failure());
        assert_eq!(state.endpoints, Some(list(&[1])));
        assert_eq!((state.generation, state.successes, state.failures), (1, 1, 2));
        assert_eq!(state.last_success, Some(now));
    }

    #[test]
    fn a_rotated_answer_is_no_change_and_keeps_the_known_order() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut state = ResolverState::default();
        assert!(state.succeed(now, list(&[1, 2, 3])));
        assert!(!state.succeed(later, list(&[3, 1, 2])));
        assert_eq!(state.endpoints, Some(list(&[1, 2, 3])));
        assert_eq!((state.generation, state.changes(), state.last_success), (1, 0, Some(later)));
        assert!(state.succeed(later, list(&[3, 1])));
        assert_eq!((state.generation, state.changes()), (2, 1));
    }

    #[test]
    fn giving_up_publishes_an_empty_list_once() {
        let mut state = ResolverState::default();
        assert!(!state.give_up(), "nothing to give up");
        assert!(state.endpoints.is_none());
        state.succeed(Instant::now(), list(&[1]));
        state.fail(failure());
        assert!(state.give_up());
        assert!(!state.give_up());
        assert_eq!(state.endpoints.as_deref().map(<[_]>::len), Some(0));
        assert_eq!(state.generation, 2);
    }
}
