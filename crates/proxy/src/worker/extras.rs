//! What most calls do without, kept apart from [`Call`] so that a live call stays small.
//!
//! A stream that does nothing for hours costs its record, and a worker holds tens of thousands of them: what only a call with
//! a retry policy, a fault, a cookie, a cluster with limits, a limit of its duration or an answer of our own has is boxed. The boxes are kept for later
//! calls, so that a route whose every call has one allocates nothing either.

use core::time::Duration;

use evenkeel_balance::{LoadReport, Slot};
use evenkeel_grpc::Code;
use evenkeel_http2::field::FieldBlock;

use super::Worker;
use super::call::Call;
use super::canary::VersionMark;
use super::hedge::{HedgedAnswer, Hedging};
use super::limit::CallLimits;
use super::retried::RetriedAnswer;
use super::retry::Retrying;
use super::timer::TimerId;

/// Endpoints that a call remembers to have been tried on, so that it is not sent there again while there are others.
pub(super) const TRIED_MAX: usize = 5;

/// Boxes that a worker keeps for later calls: as many as are begun and ended in one turn, more or less.
const SPARE_EXTRAS_MAX: usize = 256;

/// What applies to a call besides, because of a policy of its route or of trouble.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// Which version of the route's canary answers it.
    pub(super) version: Option<VersionMark>,
    /// The route's policy and the cluster's budget, if the route has a policy.
    pub(super) retrying: Option<Retrying>,
    /// Its attempts, if it is hedged and not decided.
    pub(super) hedging: Option<Box<Hedging>>,
    /// Where its end is counted, if it was hedged and is decided.
    pub(super) hedged: Option<HedgedAnswer>,
    /// When the next attempt begins; the call waits for it.
    pub(super) retry_at: Option<Duration>,
    /// The backend's answer that it replaces, until it is sent.
    pub(super) retried: Option<Box<RetriedAnswer>>,
    /// When the newest attempt is given up for another.
    pub(super) attempt_deadline: Option<Duration>,
    /// When a trial that goes on has succeeded; see [`answer`](super::answer).
    pub(super) trial_settles_at: Option<Duration>,
    /// Response headers that are held back, and until when at most.
    pub(super) held: Option<FieldBlock>,
    pub(super) held_until: Option<Duration>,
    /// Endpoints that failed this call.
    pub(super) tried: [Option<Slot>; TRIED_MAX],
    /// The error with which it is to be answered on purpose, and whether it was delayed on purpose.
    pub(super) abort: Option<Code>,
    pub(super) is_delayed: bool,
    pub(super) delay: Option<TimerId>,
    /// Its copy, while there is one.
    pub(super) shadow: Option<u32>,
    /// How long nothing may happen in it, and when data passed last, in either direction.
    pub(super) idle: Option<Idle>,
    /// When it has gone on for as long as it may.
    pub(super) ends_at: Option<Duration>,
    /// The number of the cookie that the client is to be given.
    pub(super) cookie: Option<u64>,
    /// The load that the backend reported with its answer.
    pub(super) load: Option<LoadReport>,
    /// What it has to do with limits.
    pub(super) limits: CallLimits,
    /// The HTTP status of an answer of our own.
    pub(super) http_status: Option<u16>,
    /// Why it ends otherwise than by the backend's answer, in words; for the access log.
    pub(super) details: Option<Box<str>>,
}

/// How long nothing may happen in a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    pub(super) timeout: Duration,
    /// When data passed last, in either direction.
    pub(super) active_at: Duration,
}

impl Idle {
    /// When it has been idle for too long.
    pub(super) fn ends_at(self) -> Duration {
        self.active_at + self.timeout
    }
}

impl Call {
    /// What a call has besides; `None` if it never had any of it.
    #[inline]
    pub(super) fn extra<T>(&self, field: impl FnOnce(&Extras) -> Option<T>) -> Option<T> {
        self.extras.as_deref().and_then(field)
    }

    /// Takes something that a call has besides.
    #[inline]
    pub(super) fn take_extra<T>(&mut self, field: impl FnOnce(&mut Extras) -> &mut Option<T>) -> Option<T> {
        self.extras.as_deref_mut().and_then(|extras| field(extras).take())
    }

    /// Notes that data passed, where somebody asks.
    #[inline]
    pub(super) fn note_active(&mut self, now: Duration) {
        if let Some(idle) = self.extras.as_deref_mut().and_then(|extras| extras.idle.as_mut()) {
            idle.active_at = now;
        }
    }

    /// The endpoints that failed this call.
    pub(super) fn tried(&self) -> impl Iterator<Item = Slot> + '_ {
        self.extras.as_deref().into_iter().flat_map(|extras| extras.tried).flatten()
    }
}

impl Extras {
    /// Makes it as it was before any call: every field by itself, since most are as they were, and to write the whole anew costs
    /// as much as all else that is done with it.
    fn clear(&mut self) {
        let Self {
            version,
            retrying,
            hedging,
            hedged,
            retry_at,
            retried,
            attempt_deadline,
            trial_settles_at,
            held,
            held_until,
            tried,
            abort,
            is_delayed,
            delay,
            shadow,
            idle,
            ends_at,
            cookie,
            load,
            limits,
            http_status,
            details,
        } = self;
        (*version, *retrying, *hedging, *hedged) = (None, None, None, None);
        (*retry_at, *attempt_deadline, *trial_settles_at) = (None, None, None);
        (*held, *held_until, *retried) = (None, None, None);
        *tried = [None; TRIED_MAX];
        (*abort, *is_delayed, *delay, *shadow) = (None, false, None, None);
        (*idle, *ends_at, *cookie, *load) = (None, None, None, None);
        (*http_status, *details) = (None, None);
        limits.clear();
    }
}

impl Worker {
    /// Room for something that a call has besides.
    pub(super) fn extras(&mut self, id: u32) -> &mut Extras {
        let spares = &mut self.spare_extras;
        self.calls[id as usize].extras.get_or_insert_with(|| spares.pop().unwrap_or_default())
    }

    /// Takes the box of a call that is over.
    pub(super) fn give_extras(&mut self, mut extras: Box<Extras>) {
        if self.spare_extras.len() < SPARE_EXTRAS_MAX {
            extras.clear();
            self.spare_extras.push(extras);
        }
    }
}
