//! A client and a server joined by two pipes.

use super::subject::{Seen, Subject};
use crate::connection::Role;
use crate::limits::Limits;

/// Both ends; time is the same for both.
pub(super) struct Pair {
    pub(super) client: Subject,
    pub(super) server: Subject,
}

impl Pair {
    /// Two ends that have exchanged prefaces.
    pub(super) fn new(client: Limits, server: Limits) -> Self {
        let mut pair =
            Self { client: Subject::new(Role::Client, client), server: Subject::new(Role::Server, server) };
        pair.run();
        assert_eq!(pair.client.take_seen(), [Seen::Ready]);
        assert_eq!(pair.server.take_seen(), [Seen::Ready]);
        pair
    }

    pub(super) fn upstream() -> Self {
        Self::new(Limits::upstream(), Limits::mesh())
    }

    /// Carries bytes until neither side has any to send.
    pub(super) fn run(&mut self) {
        for _ in 0..1000 {
            let (to_server, to_client) = (self.client.take_output(), self.server.take_output());
            if to_server.is_empty()
                && to_client.is_empty()
                && self.client.input.is_empty()
                && self.server.input.is_empty()
            {
                return;
            }
            self.server.input.extend_from_slice(&to_server);
            self.client.input.extend_from_slice(&to_client);
            self.server.wake();
            self.client.wake();
        }
        panic!("two ends that are left alone become silent");
    }
}

impl Subject {
    pub(super) fn take_seen(&mut self) -> Vec<Seen> {
        core::mem::take(&mut self.seen)
    }
}
