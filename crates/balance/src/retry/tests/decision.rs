use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;

/// One call under a policy, without jitter's uncertainty about whether it is retried at all.
struct Call {
    policy: RetryPolicy,
    budget: RetryBudget,
    throttle: Option<RetryThrottle>,
    state: RetryState,
    rng: SmallRng,
}

impl Call {
    fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            budget: ample_budget(),
            throttle: None,
            state: RetryState::new(),
            rng: SmallRng::seed_from_u64(1),
        }
    }

    fn ends(&mut self, end: AttemptEnd, moment: Moment) -> Decision {
        let gates = Gates { budget: &self.budget, throttle: self.throttle.as_ref() };
        self.state.attempt_ended(&self.policy, gates, &end, &moment, &mut self.rng)
    }
}

fn on_unavailable() -> RetryPolicy {
    RetryPolicy {
        max_attempts: 3,
        retry_on: RetryOn::statuses(CodeSet::of(&[Code::Unavailable])),
        ..RetryPolicy::default()
    }
}

fn transparent(at: Duration) -> Decision {
    Decision::Retry { at, is_transparent: true }
}

fn retry_at(at: Duration) -> Decision {
    Decision::Retry { at, is_transparent: false }
}

fn delay(decision: Decision, now: Duration) -> Duration {
    match decision {
        Decision::Retry { at, is_transparent: false } => at - now,
        other => panic!("{other:?}"),
    }
}

#[test]
fn by_default_only_what_no_backend_processed_is_retried() {
    let unprocessed = [
        AttemptEnd::NotSent,
        AttemptEnd::ConnectFailed,
        AttemptEnd::RefusedStream,
        AttemptEnd::NoPlace,
        AttemptEnd::GoAway { is_graceful: true },
        AttemptEnd::GoAway { is_graceful: false },
    ];
    for end in unprocessed {
        assert_eq!(Call::new(RetryPolicy::default()).ends(end, moment(START)), transparent(START), "{end:?}");
    }
    let statuses = Code::ALL.map(AttemptEnd::status);
    for end in statuses.into_iter().chain([
        AttemptEnd::Reset,
        AttemptEnd::AttemptTimeout,
        AttemptEnd::DeadlineExceeded,
        AttemptEnd::Cancelled,
    ]) {
        let idempotent = Moment { is_idempotent: true, ..moment(START) };
        let expected = match end {
            OK => StopReason::Succeeded,
            AttemptEnd::Cancelled => StopReason::Cancelled,
            AttemptEnd::DeadlineExceeded => StopReason::Deadline,
            _ => StopReason::NotRetryable,
        };
        let decision = Call::new(RetryPolicy::default()).ends(end, idempotent);
        assert_eq!(decision, Decision::Stop(expected), "{end:?}");
    }
}

#[test]
fn what_never_left_is_sent_again_ten_times_and_then_by_the_policy() {
    let mut call = Call::new(RetryPolicy::default());
    for _ in 0..MAX_UNSENT {
        assert_eq!(call.ends(AttemptEnd::NotSent, moment(START)), transparent(START));
    }
    assert_eq!((call.state.previous_attempts(), call.budget.extra()), (0, 0), "not counted");
    let backoff = delay(call.ends(AttemptEnd::ConnectFailed, moment(START)), START);
    assert!((MS * 20..=MS * 30).contains(&backoff), "{backoff:?}");
    assert_eq!((call.state.previous_attempts(), call.budget.extra()), (1, 1));
    let last = call.ends(AttemptEnd::NotSent, moment(START));
    assert_eq!(last, Decision::Stop(StopReason::AttemptsUsed));
    assert_eq!(call.budget.extra(), 0);
}

#[test]
fn a_refused_stream_is_repeated_once_and_then_by_the_policy() {
    let mut call = Call::new(RetryPolicy::default());
    let goaway = AttemptEnd::GoAway { is_graceful: true };
    assert_eq!(call.ends(AttemptEnd::RefusedStream, moment(START)), transparent(START));
    delay(call.ends(goaway, moment(START)), START);
    assert_eq!(call.ends(goaway, moment(START)), Decision::Stop(StopReason::AttemptsUsed));

    let retry_on = RetryOn { refused_stream: false, ..RetryOn::default() };
    let mut call = Call::new(RetryPolicy { retry_on, ..RetryPolicy::default() });
    assert_eq!(call.ends(AttemptEnd::RefusedStream, moment(START)), transparent(START));
    let second = call.ends(AttemptEnd::RefusedStream, moment(START));
    assert_eq!(second, Decision::Stop(StopReason::NotRetryable));
}

#[test]
fn a_call_without_a_place_is_repeated_some_times_and_then_as_one_that_is_refused() {
    let mut call = Call::new(RetryPolicy::default());
    for _ in 0..MAX_NO_PLACE {
        assert_eq!(call.ends(AttemptEnd::NoPlace, moment(START)), transparent(START));
    }
    assert_eq!((call.state.previous_attempts(), call.budget.extra()), (0, 0), "not counted");
    delay(call.ends(AttemptEnd::NoPlace, moment(START)), START);
    assert_eq!(call.ends(AttemptEnd::NoPlace, moment(START)), Decision::Stop(StopReason::AttemptsUsed));
}

#[test]
fn a_call_is_not_repeated_for_long_where_it_finds_no_place() {
    let mut call = Call::new(RetryPolicy::default());
    let last = START + MAX_NO_PLACE_TIME;
    assert_eq!(call.ends(AttemptEnd::NoPlace, moment(START)), transparent(START));
    assert_eq!(call.ends(AttemptEnd::NoPlace, moment(last)), transparent(last));
    delay(call.ends(AttemptEnd::NoPlace, moment(last + MS)), last + MS);
}

#[test]
fn deadline_exceeded_is_retried_for_idempotent_calls_only() {
    let codes = CodeSet::of(&[Code::DeadlineExceeded]);
    let policy = RetryPolicy { retry_on: RetryOn::statuses(codes), ..RetryPolicy::default() };
    for end in [AttemptEnd::status(Code::DeadlineExceeded), AttemptEnd::AttemptTimeout] {
        let decision = Call::new(policy).ends(end, moment(START));
        assert_eq!(decision, Decision::Stop(StopReason::NotRetryable), "{end:?}");
        let idempotent = Moment { is_idempotent: true, ..moment(START) };
        delay(Call::new(policy).ends(end, idempotent), START);
    }
}

#[test]
fn a_reset_is_retried_as_grpc_does_where_unavailable_is() {
    for (codes, is_retried) in [(&[Code::Unavailable][..], true), (&[Code::Internal], false)] {
        let policy = RetryPolicy { retry_on: RetryOn::statuses(CodeSet::of(codes)), ..on_unavailable() };
        let decision = Call::new(policy).ends(AttemptEnd::Reset, moment(START));
        assert_eq!(matches!(decision, Decision::Retry { .. }), is_retried);
    }
}

#[test]
fn the_backoff_grows_to_its_bound_with_a_jitter_of_a_fifth() {
    let policy = RetryPolicy { max_attempts: 5, max_backoff: MS * 80, ..on_unavailable() };
    let (mut least, mut most) = ([f64::MAX; 4], [0.0_f64; 4]);
    for seed in 0..1_000 {
        let mut call = Call { rng: SmallRng::seed_from_u64(seed), ..Call::new(policy) };
        for n in 0..4 {
            let waited = delay(call.ends(UNAVAILABLE, moment(START)), START).as_secs_f64() * 1e3;
            (least[n], most[n]) = (least[n].min(waited), most[n].max(waited));
        }
        assert_eq!(call.ends(UNAVAILABLE, moment(START)), Decision::Stop(StopReason::AttemptsUsed));
    }
    for (n, expected) in [25.0, 50.0, 80.0, 80.0].into_iter().enumerate() {
        assert!((0.8 * expected..0.803 * expected).contains(&least[n]), "least of retry {n}: {}", least[n]);
        let range = 1.197 * expected..=1.2 * expected;
        assert!(range.contains(&most[n]), "most of retry {n}: {}", most[n]);
    }
}

#[test]
fn no_setting_gives_a_call_more_than_five_attempts() {
    for (max_attempts, expected) in [(0, 1), (1, 1), (2, 2), (5, 5), (6, 5), (255, 5)] {
        let mut call = Call::new(RetryPolicy { max_attempts, ..on_unavailable() });
        let retries = (0..300).take_while(|_| call.ends(UNAVAILABLE, moment(START)) != stop_used()).count();
        assert_eq!(1 + retries, expected, "{max_attempts}");
    }
}

fn stop_used() -> Decision {
    Decision::Stop(StopReason::AttemptsUsed)
}

#[test]
fn pushback_is_obeyed_and_starts_the_backoff_over() {
    let mut call = Call::new(RetryPolicy { max_attempts: 5, ..on_unavailable() });
    let wait = |delay| unavailable_after(Pushback::RetryAfter(delay));
    delay(call.ends(UNAVAILABLE, moment(START)), START);
    delay(call.ends(UNAVAILABLE, moment(START)), START);
    assert_eq!(call.ends(wait(MS * 1_234), moment(START)), retry_at(START + MS * 1_234));
    let backoff = delay(call.ends(UNAVAILABLE, moment(START)), START);
    assert!((MS * 20..=MS * 30).contains(&backoff), "the first backoff again: {backoff:?}");

    for (pushback, expected) in [
        (Pushback::RetryAfter(Duration::ZERO), retry_at(START)),
        (Pushback::RetryAfter(MAX_PUSHBACK), retry_at(START + MAX_PUSHBACK)),
        (Pushback::RetryAfter(MAX_PUSHBACK + MS), Decision::Stop(StopReason::Pushback)),
        (Pushback::Never, Decision::Stop(StopReason::Pushback)),
    ] {
        let mut call = Call::new(on_unavailable());
        assert_eq!(call.ends(unavailable_after(pushback), moment(START)), expected, "{pushback:?}");
    }
}

#[test]
fn a_committed_or_too_large_call_and_one_without_time_are_not_retried() {
    let at = |replay, deadline| Moment { replay, deadline, ..moment(START) };
    for (moment, expected) in [
        (at(Replay::ResponseStarted, None), StopReason::ResponseStarted),
        (at(Replay::RequestTooLarge, None), StopReason::RequestTooLarge),
        (at(Replay::BuffersFull, None), StopReason::BuffersFull),
        (at(Replay::Possible, Some(START + MS * 20)), StopReason::Deadline),
        (at(Replay::Possible, Some(START)), StopReason::Deadline),
    ] {
        assert_eq!(Call::new(on_unavailable()).ends(UNAVAILABLE, moment), Decision::Stop(expected));
        let refused = Call::new(on_unavailable()).ends(AttemptEnd::RefusedStream, moment);
        let has_time = moment.deadline == Some(START + MS * 20);
        assert_eq!(refused, if has_time { transparent(START) } else { Decision::Stop(expected) });
    }
    let pushed = unavailable_after(Pushback::RetryAfter(MS * 100));
    let at_deadline = at(Replay::Possible, Some(START + MS * 100));
    assert_eq!(Call::new(on_unavailable()).ends(pushed, at_deadline), Decision::Stop(StopReason::Deadline));
    let before = at(Replay::Possible, Some(START + MS * 101));
    assert_eq!(Call::new(on_unavailable()).ends(pushed, before), retry_at(START + MS * 100));
}

#[test]
fn the_throttle_counts_retryable_failures_and_forbids_below_half() {
    let mut call = Call { throttle: Some(throttle(4, 500)), ..Call::new(on_unavailable()) };
    let tokens = |call: &Call| call.throttle.as_ref().unwrap().tokens_thousandths();
    // Neither a transparent retry nor a status that is not retried takes a token; "never" with any status does.
    call.ends(AttemptEnd::RefusedStream, moment(START));
    call.ends(AttemptEnd::status(Code::NotFound), moment(START));
    assert_eq!(tokens(&call), 4_000);
    call.ends(AttemptEnd::Status { code: Code::NotFound, pushback: Some(Pushback::Never) }, moment(START));
    assert_eq!(tokens(&call), 3_000);
    assert_eq!(call.ends(UNAVAILABLE, moment(START)), Decision::Stop(StopReason::Throttled));
    assert_eq!(tokens(&call), 2_000);
    assert_eq!(call.ends(OK, moment(START)), Decision::Stop(StopReason::Succeeded));
    assert_eq!(tokens(&call), 2_500);
    call.ends(OK, moment(START));
    call.ends(OK, moment(START));
    delay(call.ends(UNAVAILABLE, moment(START)), START);
}

#[test]
fn a_place_in_the_budget_is_held_until_the_retry_ends_or_is_abandoned() {
    let budget = RetryBudget::new(RetryBudgetConfig { percent: 0, min_concurrency: 1, window: None });
    let mut first = Call { budget, ..Call::new(on_unavailable()) };
    delay(first.ends(UNAVAILABLE, moment(START)), START);
    assert_eq!(first.budget.extra(), 1);
    let mut second = RetryState::new();
    let gates = Gates { budget: &first.budget, throttle: None };
    let decision = second.attempt_ended(&first.policy, gates, &UNAVAILABLE, &moment(START), &mut first.rng);
    assert_eq!(decision, Decision::Stop(StopReason::OverBudget));
    assert_eq!(second.previous_attempts(), 0);
    // A transparent retry of the retry keeps the place; the next retry of the same call takes it over.
    first.ends(AttemptEnd::RefusedStream, moment(START));
    assert_eq!(first.budget.extra(), 1);
    delay(first.ends(UNAVAILABLE, moment(START)), START);
    assert_eq!((first.budget.extra(), first.budget.refused()), (1, 1));
    first.state.abandon(&first.budget);
    first.state.abandon(&first.budget);
    assert_eq!(first.budget.extra(), 0);
}

#[test]
fn an_attempt_ends_with_the_call_where_its_own_timeout_is_no_earlier() {
    let policy = RetryPolicy { per_try_timeout: Some(MS * 100), ..RetryPolicy::default() };
    assert_eq!(policy.attempt_timeout_at(START, None), Some(START + MS * 100));
    assert_eq!(policy.attempt_timeout_at(START, Some(START + MS * 101)), Some(START + MS * 100));
    assert_eq!(policy.attempt_timeout_at(START, Some(START + MS * 100)), None);
    assert_eq!(RetryPolicy::default().attempt_timeout_at(START, None), None);
}

#[test]
fn absurd_backoffs_saturate() {
    let policy = RetryPolicy {
        max_attempts: 5,
        initial_backoff: Duration::MAX,
        max_backoff: Duration::MAX,
        backoff_multiplier: Factor::MAX,
        ..on_unavailable()
    };
    let mut call = Call::new(policy);
    for _ in 0..4 {
        assert!(delay(call.ends(UNAVAILABLE, moment(START)), START) > START);
    }
    let shrinking = RetryPolicy { backoff_multiplier: Factor::ZERO, ..on_unavailable() };
    assert_eq!([0, 1, 4].map(|n| shrinking.backoff(n)), [MS * 25; 3]);
}
