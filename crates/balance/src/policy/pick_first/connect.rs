//! Which endpoint to connect to next, and which one is selected.

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::balancer::Slot;

/// How far the search for an endpoint has come; see the picture in the folder's documentation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// `next` is the index of the endpoint to try next; `attempt` the one being tried.
    Pass {
        next: usize,
        attempt: Option<Slot>,
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
    /// A pass ended with every endpoint failed, and none was ready since: sticky transient failure.
    failing: bool,
    /// Failures since the pass ended or re-resolution was last asked for.
    failures: usize,
}

impl Sequence {
    pub(crate) fn new() -> Self {
        Self { order: Vec::new(), phase: Sequence::START, failing: false, failures: 0 }
    }

    const START: Phase = Phase::Pass { next: 0, attempt: None };

    /// Takes a new list. What is selected or being tried stays so if it is still listed; else a new pass begins.
    pub(crate) fn set_order(&mut self, order: Vec<Slot>) {
        self.phase = match self.phase {
            Phase::Selected(slot) if order.contains(&slot) => Phase::Selected(slot),
            Phase::Pass { attempt: Some(slot), .. } if order.contains(&slot) => {
                Phase::Pass { next: 0, attempt: Some(slot) }
            }
            _ => Self::START,
        };
        self.order = order;
    }

    pub(crate) fn selected(&self) -> Option<Slot> {
        match self.phase {
            Phase::Selected(slot) => Some(slot),
            _ => None,
        }
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.failing
    }

    /// Whether a next attempt may begin at once, without waiting for a backoff or a result.
    pub(crate) fn has_step(&self) -> bool {
        matches!(self.phase, Phase::Pass { attempt: None, .. })
    }

    /// Whether attempts follow the backoffs now.
    pub(crate) fn is_retrying(&self) -> bool {
        self.phase == Phase::Retrying
    }

    pub(crate) fn next_step(&mut self) -> Step {
        match &mut self.phase {
            Phase::Selected(_) | Phase::Pass { attempt: Some(_), .. } => Step::Wait,
            Phase::Retrying => Step::TryAnyDue,
            Phase::Pass { next, .. } => match self.order.get(*next) {
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

    pub(crate) fn attempt_began(&mut self, slot: Slot) {
        if let Phase::Pass { attempt: attempt @ None, .. } = &mut self.phase {
            *attempt = Some(slot);
        }
    }

    /// An endpoint is ready and not draining: it is selected unless another one is. Returns whether it is.
    pub(crate) fn select(&mut self, slot: Slot) -> bool {
        self.failing = false;
        match self.phase {
            Phase::Selected(selected) => selected == slot,
            _ => {
                self.phase = Phase::Selected(slot);
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
        if let Phase::Pass { attempt, .. } = &mut self.phase
            && *attempt == Some(slot)
        {
            *attempt = None;
        }
    }
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
