//! The health signal: whether an endpoint may be picked, from everything known about it.
//!
//! One function joins the signals, so that there is one place to read why an endpoint is or is not eligible: connectivity,
//! and the reasons of [`Withheld`](crate::endpoint::Withheld) (draining, active checks, outlier detection).

use crate::connectivity::Connectivity;
use crate::endpoint::Endpoint;

/// Whether and when an endpoint may be picked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Eligibility {
    /// May be picked.
    Candidate,
    /// May be picked while there is no candidate: it is withheld, but connected. When the last endpoints of a cluster drain
    /// before their successors are known, refusing calls would make an outage of a rollout; when all seem to fail, what
    /// says so is more likely to be wrong than all of them.
    LastResort,
    /// Must not be picked: a call could not be sent there.
    Out,
}

impl Eligibility {
    pub(crate) fn of(connectivity: Connectivity, endpoint: &Endpoint) -> Self {
        match connectivity {
            Connectivity::Ready if endpoint.is_withheld() => Self::LastResort,
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
    use crate::endpoint::Withheld;

    #[test]
    fn only_a_ready_endpoint_is_eligible_and_a_withheld_one_as_a_last_resort() {
        let endpoint = Endpoint::new(Address::Unix(PathBuf::from("/run/x.sock")), 1);
        for state in Connectivity::ALL {
            let expected =
                if state == Connectivity::Ready { Eligibility::Candidate } else { Eligibility::Out };
            assert_eq!(Eligibility::of(state, &endpoint), expected);
        }
        for reason in Withheld::ALL {
            endpoint.set_withheld(reason, true);
            assert_eq!(Eligibility::of(Connectivity::Ready, &endpoint), Eligibility::LastResort);
            assert_eq!(Eligibility::of(Connectivity::Connecting, &endpoint), Eligibility::Out);
            endpoint.set_withheld(reason, false);
        }
    }
}
