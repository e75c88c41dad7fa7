//! Which endpoint to connect to next, and which one is selected.

use core::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::address::Family;
use crate::balancer::Slot;

/// How long an attempt is alone: gRFC A61's and RFC 8305's connection attempt delay. Long enough for an answer from most of
/// the world, short enough not to be felt.
pub(crate) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How far the search for an endpoint has come; see the picture in the folder's documentation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// `next` is the index of the endpoint to try next.
    Pass {
        next: usize,
    },
    Retrying,
    Selected(Slot),
}

/// What [`Sequence::next_step`] says to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Try this endpoint, or ask again if it must not be tried now.
    Try(Slot),
    /// Nothing to do before something happens.
    Wait,
    /// Try the endpoints whose backoff has ended.
    TryAnyDue,
}

/// The endpoints in the order to try them, and the state of the search.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    order: Vec<Slot>,
    phase: Phase,
    /// The attempts of this pass that are under way; fewer than the list is long.
    under_way: Vec<Slot>,
    /// The newest of them, until it ends, and when the next may begin all the same.
    newest: Option<(Slot, Duration)>,
    /// A pass ended with every endpoint failed, and none was ready since: sticky transient failure.
    failing: bool,
    /// Failures since the pass ended or re-resolution was last asked for.
    failures: usize,
}

impl Sequence {
    pub(crate) fn new() -> Self {
        Self {
            order: Vec::new(),
            phase: Sequence::START,
            under_way: Vec::new(),
            newest: None,
            failing: false,
            failures: 0,
        }
    }

    const START: Phase = Phase::Pass { next: 0 };

    /// Takes a new list. What is selected or being tried stays so if it is still listed; else a new pass begins.
    pub(crate) fn set_order(&mut self, order: Vec<Slot>) {
        self.phase = match self.phase {
            Phase::Selected(slot) if order.contains(&slot) => Phase::Selected(slot),
            Phase::Pass { .. } => {
                self.under_way.retain(|slot| order.contains(slot));
                self.newest = self.newest.filter(|(slot, _)| order.contains(slot));
                Self::START
            }
            _ => {
                self.forget_attempts();
                Self::START
            }
        };
        // Every attempt that comes fits: neither beginning nor ending one allocates.
        self.under_way.reserve(order.len().saturating_sub(self.under_way.len()));
        self.order = order;
    }

    pub(crate) fn selected(&self) -> Option<Slot> {
        match self.phase {
            Phase::Selected(slot) => Some(slot),
            _ => None,
        }
    }

    /// The endpoints in the order to try them.
    pub(crate) fn order(&self) -> &[Slot] {
        &self.order
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.failing
    }

    /// When the next attempt of a pass may begin, without waiting for a backoff or a result; a time in the past means now.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        let Phase::Pass { next } = self.phase else { return None };
        let has_next = next < self.order.len();
        match self.newest {
            Some((_, at)) => has_next.then_some(at),
            None => (has_next || self.under_way.is_empty()).then_some(Duration::ZERO),
        }
    }

    /// Whether attempts follow the backoffs now.
    pub(crate) fn is_retrying(&self) -> bool {
        self.phase == Phase::Retrying
    }

    pub(crate) fn next_step(&mut self, now: Duration) -> Step {
        let may_step = self.next_at().is_some_and(|at| at <= now);
        match &mut self.phase {
            Phase::Retrying => Step::TryAnyDue,
            Phase::Selected(_) => Step::Wait,
            Phase::Pass { .. } if !may_step => Step::Wait,
            Phase::Pass { next } => match self.order.get(*next) {
                Some(slot) => {
                    *next += 1;
                    Step::Try(*slot)
                }
                None => {
                    self.phase = Phase::Retrying;
                    self.failures = 0;
                    Step::TryAnyDue
                }
            },
        }
    }

    /// All endpoints are known to fail.
    pub(crate) fn set_failing(&mut self) {
        self.failing = true;
    }

    pub(crate) fn attempt_began(&mut self, slot: Slot, now: Duration) {
        if matches!(self.phase, Phase::Pass { .. }) {
            self.newest = Some((slot, now.saturating_add(ATTEMPT_DELAY)));
            if !self.under_way.contains(&slot) {
                self.under_way.push(slot);
            }
        }
    }

    /// An endpoint is ready and not draining: it is selected unless another one is. Returns whether it is.
    pub(crate) fn select(&mut self, slot: Slot) -> bool {
        self.failing = false;
        match self.phase {
            Phase::Selected(selected) => selected == slot,
            _ => {
                self.phase = Phase::Selected(slot);
                self.forget_attempts();
                true
            }
        }
    }

    /// An endpoint is ready but draining: it may serve, but the search goes on.
    pub(crate) fn pass_over(&mut self, slot: Slot) {
        self.failing = false;
        self.attempt_ended(slot);
    }

    /// An attempt failed, or a connection that was not selected was lost. Returns whether to ask for re-resolution.
    pub(crate) fn lost(&mut self, slot: Slot) -> bool {
        self.attempt_ended(slot);
        if self.phase != Phase::Retrying {
            return false;
        }
        self.failures += 1;
        let all_failed = self.failures >= self.order.len();
        if all_failed {
            self.failures = 0;
        }
        all_failed
    }

    /// Begins a new pass if this one was selected. Returns whether it was.
    pub(crate) fn deselect(&mut self, slot: Slot) -> bool {
        let was_selected = self.selected() == Some(slot);
        if was_selected {
            self.phase = Self::START;
        }
        was_selected
    }

    fn attempt_ended(&mut self, slot: Slot) {
        self.under_way.retain(|other| *other != slot);
        self.newest = self.newest.filter(|(newest, _)| *newest != slot);
    }

    fn forget_attempts(&mut self) {
        self.under_way.clear();
        self.newest = None;
    }
}

/// The slots so that the families of their addresses take turns, beginning with the first one's (gRFC A61, RFC 8305 section
/// 4): where one family leads nowhere, the second attempt already is of another.
pub(crate) fn interleaved(order: &[Slot], family: impl Fn(Slot) -> Family) -> Vec<Slot> {
    let mut queues: Vec<(Family, Vec<Slot>)> = Vec::new();
    for slot in order {
        let family = family(*slot);
        match queues.iter_mut().find(|(other, _)| *other == family) {
            Some((_, queue)) => queue.push(*slot),
            None => queues.push((family, vec![*slot])),
        }
    }
    let longest = queues.iter().map(|(_, queue)| queue.len()).max().unwrap_or(0);
    let row = |index: usize| queues.iter().filter_map(move |(_, queue)| queue.get(index).copied());
    (0..longest).flat_map(row).collect()
}

/// The slots in a random order in which heavier ones tend to come first (gRFC A113).
pub(crate) fn shuffled(slots: &[(Slot, u32)], rng: &mut SmallRng) -> Vec<Slot> {
    // The highest u^(1/w) is the highest ln(u)/w; logarithms keep the keys apart where the powers all round to 1.
    let mut keyed: Vec<(f64, Slot)> = slots
        .iter()
        .map(|&(slot, weight)| ((1.0 - rng.random::<f64>()).ln() / f64::from(weight.max(1)), slot))
        .collect();
    keyed.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    keyed.into_iter().map(|(_, slot)| slot).collect()
}
