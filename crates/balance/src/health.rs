//! The health signal: whether an endpoint may be picked, from everything known about it.
//!
//! One function joins the signals, so that there is one place to read why an endpoint is or is not eligible: connectivity,
//! and the reasons of [`Withheld`](crate::endpoint::Withheld) (draining, active checks, outlier detection). What an operator
//! is told about it are the values of [`Ineligible`]: whatever keeps calls from an endpoint has one there, and its sentence.

use crate::connectivity::{Connectivity, Standing};
use crate::endpoint::{Endpoint, Withheld};

/// Why an endpoint gets no calls now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Ineligible {
    /// Discovery does not list it any more; it only finishes its calls.
    Removed,
    /// It is not among the endpoints that this worker connects to.
    OutsideShare,
    /// pick_first uses another one.
    NotSelected,
    /// The priorities before its own bear all calls.
    Standby,
    /// Its locality gets none of its priority's calls, although some of its endpoints are ready.
    LocalityWithoutShare,
    /// There is no connection, and none is being made yet.
    Idle,
    /// A connection is being made.
    Connecting,
    /// The newest attempt to connect failed; the next one waits for its time.
    Backoff,
    /// Closed for good.
    Shutdown,
    /// It has as many calls as its circuit breaker allows.
    AtLimit,
    /// Connected, but not to be used while another endpoint can take the call.
    Withheld(Withheld),
}

impl Ineligible {
    /// A connection's state as a reason; `None` for one that is ready.
    #[must_use]
    pub fn of_state(state: Connectivity) -> Option<Self> {
        match state {
            Connectivity::Ready => None,
            Connectivity::Idle => Some(Self::Idle),
            Connectivity::Connecting => Some(Self::Connecting),
            Connectivity::TransientFailure => Some(Self::Backoff),
            Connectivity::Shutdown => Some(Self::Shutdown),
        }
    }

    /// The reasons for which an endpoint is withheld.
    pub fn of_withheld(endpoint: &Endpoint) -> impl Iterator<Item = Self> + '_ {
        Withheld::ALL.into_iter().filter(|reason| endpoint.is_withheld_as(*reason)).map(Self::Withheld)
    }

    /// The reason as the admin interface names it: one word, for machines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::OutsideShare => "outside_share",
            Self::NotSelected => "not_selected",
            Self::Standby => "standby",
            Self::LocalityWithoutShare => "locality_without_share",
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::Backoff => "backoff",
            Self::Shutdown => "shutdown",
            Self::AtLimit => "at_limit",
            Self::Withheld(reason) => reason.name(),
        }
    }

    /// The reason as a sentence, for people.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Removed => "discovery does not list it any more: it only finishes its calls",
            Self::OutsideShare => "other workers connect to it (`max_endpoints_per_worker`)",
            Self::NotSelected => "pick_first uses another endpoint",
            Self::Standby => "it stands by: the priorities before its own bear all calls",
            Self::LocalityWithoutShare => {
                "its locality gets no calls now: the proxy's own bears them all (`zone_aware`), or its weight is 0 (`locality_weights`)"
            }
            Self::Idle => "it is not connected yet",
            Self::Connecting => "a connection is being made",
            Self::Backoff => "the newest attempt to connect failed, and the next one waits for its time",
            Self::Shutdown => "it was closed for good",
            Self::AtLimit => "it has as many calls as its circuit breaker allows",
            Self::Withheld(reason) => reason.sentence(),
        }
    }
}

/// Why an endpoint gets calls although something withholds it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Despite {
    /// Too few of its priority are healthy for that to be true: see [`PanicMode`](crate::PanicMode).
    Panic,
    /// No endpoint can take calls that nothing withholds.
    NoOther,
}

impl Despite {
    /// The reason as the admin interface names it: one word, for machines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::NoOther => "no_other",
        }
    }

    /// The reason as a sentence, for people.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Panic => "so few are healthy that health is disregarded (`panic_threshold`)",
            Self::NoOther => "no other endpoint can take calls",
        }
    }
}

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
    /// Under panic, what withholds an endpoint is disregarded, unless the endpoint itself asked for no calls.
    pub(crate) fn of(connectivity: Connectivity, endpoint: &Endpoint, is_panic: bool) -> Self {
        match connectivity {
            Connectivity::Ready if !endpoint.is_withheld() => Self::Candidate,
            Connectivity::Ready if is_panic && !endpoint.is_draining() => Self::Candidate,
            Connectivity::Ready => Self::LastResort,
            _ => Self::Out,
        }
    }
}

/// How an endpoint counts in the health of its group, see [`spread`](crate::spread).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// It is ready or may soon be, and nothing withholds it.
    Available,
    /// It failed, or is withheld.
    Unavailable,
    /// It asked for no calls, or nothing is known of it yet: not an endpoint that could be out.
    Excluded,
}

impl Class {
    pub(crate) fn of(standing: Standing, endpoint: &Endpoint) -> Self {
        if [Withheld::Draining, Withheld::Unchecked].into_iter().any(|reason| endpoint.is_withheld_as(reason))
        {
            Self::Excluded
        } else if standing == Standing::Failing || endpoint.is_withheld() {
            Self::Unavailable
        } else {
            Self::Available
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::address::Address;

    #[test]
    fn only_a_ready_endpoint_is_eligible_and_a_withheld_one_as_a_last_resort() {
        let endpoint = Endpoint::new(Address::Unix(PathBuf::from("/run/x.sock")), 1);
        for state in Connectivity::ALL {
            let expected =
                if state == Connectivity::Ready { Eligibility::Candidate } else { Eligibility::Out };
            assert_eq!(Eligibility::of(state, &endpoint, false), expected);
        }
        for reason in Withheld::ALL {
            endpoint.set_withheld(reason, true);
            assert_eq!(Eligibility::of(Connectivity::Ready, &endpoint, false), Eligibility::LastResort);
            assert_eq!(Eligibility::of(Connectivity::Connecting, &endpoint, false), Eligibility::Out);
            endpoint.set_withheld(reason, false);
        }
    }

    #[test]
    fn all_that_withholds_an_endpoint_is_a_reason_of_its_own() {
        let endpoint = Endpoint::new(Address::Unix(PathBuf::from("/run/x.sock")), 1);
        assert_eq!(Ineligible::of_withheld(&endpoint).count(), 0);
        Withheld::ALL.into_iter().for_each(|reason| endpoint.set_withheld(reason, true));
        let names: Vec<_> = Ineligible::of_withheld(&endpoint).map(Ineligible::name).collect();
        assert_eq!(names, Withheld::ALL.map(Withheld::name));
        let states = Connectivity::ALL.map(|state| Ineligible::of_state(state).map(Ineligible::name));
        assert_eq!(states, [Some("idle"), Some("connecting"), None, Some("backoff"), Some("shutdown")]);
    }

    #[test]
    fn panic_disregards_all_but_the_endpoints_own_word() {
        let endpoint = Endpoint::new(Address::Unix(PathBuf::from("/run/x.sock")), 1);
        endpoint.set_withheld(Withheld::Unhealthy, true);
        endpoint.set_withheld(Withheld::Ejected, true);
        assert_eq!(Eligibility::of(Connectivity::Ready, &endpoint, true), Eligibility::Candidate);
        assert_eq!(Eligibility::of(Connectivity::Idle, &endpoint, true), Eligibility::Out);
        endpoint.set_withheld(Withheld::Draining, true);
        assert_eq!(Eligibility::of(Connectivity::Ready, &endpoint, true), Eligibility::LastResort);
    }

    #[test]
    fn an_endpoint_is_available_while_it_may_take_calls_and_nothing_withholds_it() {
        let endpoint = Endpoint::new(Address::Unix(PathBuf::from("/run/x.sock")), 1);
        let class = |standing| Class::of(standing, &endpoint);
        assert_eq!(class(Standing::Ready), Class::Available);
        assert_eq!(class(Standing::Pending), Class::Available);
        assert_eq!(class(Standing::Failing), Class::Unavailable);
        endpoint.set_withheld(Withheld::Ejected, true);
        assert_eq!(class(Standing::Ready), Class::Unavailable);
        endpoint.set_draining(true);
        for standing in [Standing::Ready, Standing::Pending, Standing::Failing] {
            assert_eq!(Class::of(standing, &endpoint), Class::Excluded);
        }
    }
}
