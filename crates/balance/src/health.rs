//! The health signal: whether an endpoint may be picked, from everything known about it.
//!
//! One function joins the signals, so that there is one place to read why an endpoint is or is not eligible. Two signals
//! exist so far: connectivity, and draining. Active checks and outlier detection join here.

use crate::connectivity::Connectivity;
use crate::endpoint::Endpoint;

/// Whether and when an endpoint may be picked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Eligibility {
    /// May be picked.
    Candidate,
    /// May be picked while there is no candidate: it still serves, but asked for no new calls. When the last endpoints
    /// of a cluster drain before their successors are known, refusing calls would make an outage of a rollout.
    LastResort,
    /// Must not be picked: a call could not be sent there.
    Out,
}

impl Eligibility {
    pub(crate) fn of(connectivity: Connectivity, endpoint: &Endpoint) -> Self {
        match connectivity {
            Connectivity::Ready if endpoint.is_draining() => Self::LastResort,
            Connectivity::Ready => Self::Candidate,
            _ => Self::Out,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::address::Address;

    #[test]
    fn only_a_ready_endpoint_is_eligible_and_a_draining_one_as_a_last_resort() {
        let endpoint = Endpoint::new(Address::Unix(PathBuf::from("/run/x.sock")), 1);
        for state in Connectivity::ALL {
            let expected =
                if state == Connectivity::Ready { Eligibility::Candidate } else { Eligibility::Out };
            assert_eq!(Eligibility::of(state, &endpoint), expected);
        }
        endpoint.set_draining(true);
        assert_eq!(Eligibility::of(Connectivity::Ready, &endpoint), Eligibility::LastResort);
        assert_eq!(Eligibility::of(Connectivity::Connecting, &endpoint), Eligibility::Out);
    }
}
