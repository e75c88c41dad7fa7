use super::*;

struct Call {
    policy: HedgingPolicy,
    budget: RetryBudget,
    throttle: Option<RetryThrottle>,
    state: HedgeState,
}

impl Call {
    /// Three attempts, 100 ms apart, of a call that starts now.
    fn new(is_idempotent: bool) -> Self {
        let policy = HedgingPolicy { max_attempts: 3, ..HedgingPolicy::default() };
        let state = HedgeState::new(&policy, is_idempotent, START);
        Self { policy, budget: ample_budget(), throttle: None, state }
    }

    fn with_delay(hedging_delay: Duration) -> Self {
        let policy = HedgingPolicy { max_attempts: 3, hedging_delay, ..HedgingPolicy::default() };
        Self { policy, state: HedgeState::new(&policy, true, START), ..Self::new(true) }
    }

    fn timer(&mut self, now: Duration) -> HedgeDecision {
        let gates = Gates { budget: &self.budget, throttle: self.throttle.as_ref() };
        self.state.handle_timeout(&self.policy, gates, &moment(now))
    }

    fn ends(&mut self, attempt: u8, end: AttemptEnd, now: Duration) -> HedgeDecision {
        self.ends_at(attempt, end, &moment(now))
    }

    fn ends_at(&mut self, attempt: u8, end: AttemptEnd, moment: &Moment) -> HedgeDecision {
        let gates = Gates { budget: &self.budget, throttle: self.throttle.as_ref() };
        self.state.attempt_ended(&self.policy, gates, attempt, &end, moment)
    }
}

fn send(attempt: u8) -> HedgeDecision {
    HedgeDecision::Send { attempt }
}

const WAIT: HedgeDecision = HedgeDecision::Wait;

fn finish(reason: StopReason) -> HedgeDecision {
    HedgeDecision::Finish(reason)
}

#[test]
fn sends_an_attempt_per_delay_until_one_succeeds_and_gives_all_places_back() {
    let mut call = Call::new(true);
    assert_eq!(call.state.next_at(), Some(START + MS * 100));
    assert_eq!(call.timer(START + MS * 100 - Duration::from_nanos(1)), WAIT);
    assert_eq!(call.timer(START + MS * 100), send(1));
    assert_eq!(call.timer(START + MS * 100), WAIT);
    assert_eq!(call.timer(START + MS * 200), send(2));
    assert_eq!((call.state.next_at(), call.state.sent(), call.budget.extra()), (None, 3, 2));
    assert_eq!(call.ends(1, OK, START + MS * 210), finish(StopReason::Succeeded));
    assert_eq!(call.budget.extra(), 0);
}

#[test]
fn never_hedges_a_call_that_is_not_declared_idempotent() {
    let mut call = Call::new(false);
    assert_eq!(call.state.next_at(), None);
    assert_eq!(call.timer(START + MS * 1_000), WAIT);
    assert_eq!(call.ends(0, UNAVAILABLE, START), finish(StopReason::AttemptsUsed));
    // What no backend saw is not doubled by sending it again.
    assert_eq!(Call::new(false).ends(0, AttemptEnd::RefusedStream, START), send(0));
}

#[test]
fn without_a_delay_all_are_sent_at_once() {
    let mut call = Call::with_delay(Duration::ZERO);
    assert_eq!([call.timer(START), call.timer(START), call.timer(START)], [send(1), send(2), WAIT]);
    let budget = RetryBudget::new(RetryBudgetConfig { percent: 0, min_concurrency: 1, window: None });
    let mut call = Call { budget, ..Call::with_delay(Duration::ZERO) };
    assert_eq!([call.timer(START), call.timer(START), call.timer(START)], [send(1), WAIT, WAIT]);
    assert_eq!(call.budget.refused(), 1, "a refusal is not asked for again in the same moment");
}

#[test]
fn a_non_fatal_end_sends_the_next_at_once_and_starts_the_delay_over() {
    let mut call = Call::new(true);
    let now = START + MS * 30;
    assert_eq!(call.ends(0, UNAVAILABLE, now), send(1));
    assert_eq!(call.state.next_at(), Some(now + MS * 100));
    assert_eq!(call.timer(now + MS * 100), send(2));
    assert_eq!(call.ends(2, UNAVAILABLE, now + MS * 110), WAIT, "attempt 1 still runs");
    assert_eq!(call.ends(1, UNAVAILABLE, now + MS * 120), finish(StopReason::AttemptsUsed));
    assert_eq!(call.budget.extra(), 0);
}

#[test]
fn a_fatal_end_decides_the_call() {
    for (end, reason) in [
        (AttemptEnd::status(Code::Internal), StopReason::NotRetryable),
        (AttemptEnd::DeadlineExceeded, StopReason::Deadline),
        (AttemptEnd::Cancelled, StopReason::Cancelled),
        (AttemptEnd::AttemptTimeout, StopReason::NotRetryable),
    ] {
        let mut call = Call::new(true);
        assert_eq!(call.timer(START + MS * 100), send(1));
        assert_eq!(call.ends(0, end, START + MS * 110), finish(reason), "{end:?}");
        assert_eq!((call.budget.extra(), call.state.next_at()), (0, None));
    }
}

#[test]
fn pushback_delays_the_next_attempt_or_ends_the_sending() {
    let mut call = Call::new(true);
    let now = START + MS * 10;
    let later = unavailable_after(Pushback::RetryAfter(MS * 500));
    assert_eq!(call.ends(0, later, now), WAIT);
    assert_eq!(call.state.next_at(), Some(now + MS * 500));
    assert_eq!(call.timer(now + MS * 499), WAIT);
    assert_eq!(call.timer(now + MS * 500), send(1));
    assert_eq!(call.state.next_at(), Some(now + MS * 600));

    for never in [Pushback::Never, Pushback::RetryAfter(MAX_PUSHBACK + MS)] {
        let mut call = Call::new(true);
        assert_eq!(call.timer(START + MS * 100), send(1));
        assert_eq!(call.ends(0, unavailable_after(never), START + MS * 110), WAIT);
        assert_eq!(call.state.next_at(), None);
        assert_eq!(call.ends(1, UNAVAILABLE, START + MS * 120), finish(StopReason::Pushback), "it stays so");
        let alone = Call::new(true).ends(0, unavailable_after(never), START);
        assert_eq!(alone, finish(StopReason::Pushback));
        // Nor does a look later on.
        let mut call = Call::new(true);
        assert_eq!(call.timer(START + MS * 100), send(1));
        assert_eq!(call.ends(0, unavailable_after(never), START + MS * 110), WAIT);
        call.state.postpone(&call.policy, START + MS * 120);
        assert_eq!(call.state.next_at(), None);
    }
}

#[test]
fn a_pushback_beyond_the_deadline_ends_the_call() {
    let mut call = Call::new(true);
    let moment = Moment { deadline: Some(START + MS * 500), ..moment(START) };
    let later = unavailable_after(Pushback::RetryAfter(MS * 500));
    assert_eq!(call.ends_at(0, later, &moment), finish(StopReason::Deadline));
}

#[test]
fn a_refused_hedge_is_asked_for_again_after_the_delay() {
    let budget = RetryBudget::new(RetryBudgetConfig { percent: 0, min_concurrency: 1, window: None });
    let mut call = Call { budget, ..Call::new(true) };
    let mut other = Call::new(true);
    let gates = Gates { budget: &call.budget, throttle: None };
    let taken = other.state.handle_timeout(&other.policy, gates, &moment(START + MS * 100));
    assert_eq!(taken, send(1));
    assert_eq!(call.timer(START + MS * 100), WAIT);
    assert_eq!(call.state.next_at(), Some(START + MS * 200));
    other.state.abandon(&call.budget);
    assert_eq!(call.timer(START + MS * 200), send(1));
    assert_eq!(call.ends(0, UNAVAILABLE, START + MS * 210), WAIT);
    assert_eq!(call.ends(1, UNAVAILABLE, START + MS * 220), send(2), "its own place is free again");
}

#[test]
fn the_throttle_forbids_hedges_too() {
    let mut call = Call { throttle: Some(throttle(2, 100)), ..Call::new(true) };
    assert_eq!(call.timer(START + MS * 100), send(1));
    assert_eq!(call.ends(0, UNAVAILABLE, START + MS * 110), WAIT, "one token of two is not more than half");
    assert_eq!(call.ends(1, UNAVAILABLE, START + MS * 120), finish(StopReason::Throttled));
}

#[test]
fn the_end_of_an_answer_that_decided_a_call_counts_in_the_throttle() {
    let throttle = throttle(2, 500);
    let (policy, budget) = (HedgingPolicy::default(), ample_budget());
    let gates = Gates { budget: &budget, throttle: Some(&throttle) };
    for (end, tokens) in [
        (UNAVAILABLE, 1_000),
        (OK, 1_500),
        (AttemptEnd::status(Code::NotFound), 1_500),
        (unavailable_after(Pushback::Never), 500),
    ] {
        HedgeState::answer_ended(&policy, gates, &end);
        assert_eq!(throttle.tokens_thousandths(), tokens, "{end:?}");
    }
}

#[test]
fn no_hedge_follows_the_first_bytes_of_a_response() {
    for (replay, reason) in [
        (Replay::ResponseStarted, StopReason::ResponseStarted),
        (Replay::RequestTooLarge, StopReason::RequestTooLarge),
        (Replay::BuffersFull, StopReason::BuffersFull),
    ] {
        let mut call = Call::new(true);
        let at = |now| Moment { replay, ..moment(now) };
        let gates = Gates { budget: &call.budget, throttle: None };
        assert_eq!(call.state.handle_timeout(&call.policy, gates, &at(START + MS * 100)), WAIT);
        assert_eq!(call.state.next_at(), None);
        assert_eq!(call.ends_at(0, UNAVAILABLE, &at(START + MS * 110)), finish(reason));
    }
}

#[test]
fn the_end_of_an_attempt_that_does_not_run_gives_nothing_back() {
    let mut call = Call::new(true);
    assert_eq!(call.timer(START + MS * 100), send(1));
    call.ends(7, AttemptEnd::status(Code::Unavailable), START);
    call.ends(200, AttemptEnd::status(Code::Unavailable), START);
    assert!(call.budget.extra() >= 1);
    call.state.abandon(&call.budget);
    assert_eq!(call.budget.extra(), 0);
}
