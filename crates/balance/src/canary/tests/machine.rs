use super::*;

fn running() -> Canary {
    let mut canary = Canary::new(CanaryConfig::default(), START);
    canary.start(START).unwrap();
    canary
}

/// What passes a step: enough calls, none of them failed.
fn good() -> Window {
    window((4_500, 0), (500, 0))
}

fn phase_of(canary: &Canary) -> (Phase, Option<u8>) {
    (canary.progress().phase, canary.weight())
}

#[test]
fn nothing_happens_before_it_is_started() {
    let mut canary = Canary::new(CanaryConfig::default(), START);
    assert_eq!(canary.tick(START + seconds(10_000), &window((100, 0), (100, 100))), None);
    assert_eq!(phase_of(&canary), (Phase::Idle, None));
    assert_eq!(canary.judgement(), None);
}

#[test]
fn goes_through_its_steps_and_is_promoted() {
    let mut canary = running();
    let mut now = START;
    for (weight, next) in [(10, Some(20)), (20, Some(50)), (50, Some(100))] {
        assert_eq!(canary.weight(), Some(weight));
        assert_eq!(canary.tick(now + seconds(299), &good()), None, "a second too early");
        now += seconds(300);
        let change = canary.tick(now, &Window::default()).unwrap();
        assert_eq!((change.before, change.after), (Some(weight), next));
        assert_eq!(canary.progress().window, Window::default(), "each step has a window of its own");
    }
    assert_eq!(phase_of(&canary), (Phase::Promoted, Some(100)));
    assert_eq!(canary.tick(now + seconds(9_999), &window((0, 0), (100, 100))), None);
    assert_eq!(canary.start(now), Err(CommandError::Promoted));
    assert_eq!(canary.promote(), Err(CommandError::Promoted));
    assert_eq!(canary.abort().unwrap().after, Some(0));
}

#[test]
fn a_step_with_too_few_calls_of_either_version_waits() {
    for short in [window((499, 0), (500, 0)), window((500, 0), (499, 0)), Window::default()] {
        let mut canary = running();
        assert_eq!(canary.tick(START + seconds(100_000), &short), None);
        assert_eq!(phase_of(&canary), (Phase::Running, Some(10)));
        assert!(!canary.judgement().unwrap().has_enough_calls);
        let change = canary.tick(START + seconds(100_001), &window((1, 0), (500, 0)));
        assert_eq!(change.is_some(), short.stable.calls >= 499, "{short:?}");
    }
}

#[test]
fn a_step_that_looks_worse_waits_until_it_is_plain() {
    let mut canary = running();
    // 1.2 % against 0 %: more than the half percent allowed, and too little to say so.
    assert_eq!(canary.tick(START + seconds(301), &window((4_500, 0), (500, 6))), None);
    let judgement = canary.judgement().unwrap();
    assert_eq!(judgement.comparisons[0].finding, Finding::Suspicious);
    assert!(judgement.has_enough_calls && !judgement.lets_pass());
    let mut innocent = canary.clone();
    assert_eq!(innocent.tick(START + seconds(302), &window((0, 0), (1_000, 0))).unwrap().after, Some(20));
    let change = canary.tick(START + seconds(302), &window((4_500, 0), (500, 30))).unwrap();
    assert!(matches!(change.cause, Cause::Worse(_)), "{change}");
}

#[test]
fn a_worse_version_goes_back_in_one_step_with_its_numbers() {
    let mut canary = running();
    assert_eq!(canary.tick(START + seconds(1), &window((27, 0), (3, 3))), None, "three calls prove nothing");
    let change = canary.tick(START + seconds(2), &window((90, 0), (10, 10))).unwrap();
    assert_eq!((change.before, change.after), (Some(10), Some(0)));
    assert_eq!(phase_of(&canary), (Phase::RolledBack, Some(0)));
    let told = change.to_string();
    assert!(told.contains("canary 100.00 % (13 of 13 calls), stable 0.00 % (0 of 117)"), "{told}");
    let kept = canary.progress().rolled_back_for.unwrap();
    assert_eq!((kept.canary, kept.finding), (Share { hits: 13, of: 13 }, Finding::Worse));
    assert_eq!(canary.abort(), Err(CommandError::Aborted(Phase::RolledBack)));
    // A second try begins anew.
    assert_eq!(canary.start(START + seconds(3)).unwrap().after, Some(10));
    assert_eq!(canary.progress().rolled_back_for, None);
}

#[test]
fn a_slower_version_goes_back_and_streams_do_not_count_as_slow() {
    let with_latency = |canary_ms: u64| {
        let mut canary = running();
        let mut window = Window::default();
        for call in 0..1_000 {
            window.stable.record(Code::Ok, Some(Duration::from_millis(10 + call % 10)));
            window.canary.record(Code::Ok, Some(Duration::from_millis(canary_ms + call % 10)));
            window.canary.record(Code::Ok, None);
        }
        canary.tick(START + seconds(300), &window).unwrap()
    };
    let change = with_latency(20);
    let Cause::Worse(comparison) = &change.cause else { panic!("{change}") };
    assert!(matches!(comparison.metric, Metric::Latency { .. }));
    assert_eq!(comparison.canary.of, 1_000);
    assert_eq!(with_latency(10).after, Some(20));
    assert_eq!(with_latency(5).after, Some(20), "a quicker one is no worse");
}

#[test]
fn below_a_millisecond_a_difference_in_latency_does_not_count() {
    let mut canary = running();
    let mut window = Window::default();
    for _ in 0..1_000 {
        window.stable.record(Code::Ok, Some(Duration::from_micros(100)));
        window.canary.record(Code::Ok, Some(Duration::from_micros(1_000)));
    }
    assert_eq!(canary.tick(START + seconds(300), &window).unwrap().after, Some(20));
}

#[test]
fn a_pause_holds_the_step_and_its_time_but_not_the_watch() {
    let mut canary = running();
    assert_eq!(canary.tick(START + seconds(200), &good()), None);
    let change = canary.pause(START + seconds(250)).unwrap();
    assert_eq!((change.before, change.after), (Some(10), Some(10)));
    assert_eq!(canary.pause(START), Err(CommandError::NotRunning(Phase::Paused)));
    assert_eq!(canary.start(START), Err(CommandError::Running(Phase::Paused)));
    assert_eq!(canary.tick(START + seconds(9_000), &good()), None);
    assert_eq!(canary.progress().elapsed, seconds(250));
    let mut broken = canary.clone();
    assert_eq!(
        broken.tick(START + seconds(9_001), &window((900, 0), (1_100, 1_100))).unwrap().after,
        Some(0)
    );
    canary.resume(START + seconds(9_001)).unwrap();
    assert_eq!(canary.resume(START), Err(CommandError::NotPaused(Phase::Running)));
    assert_eq!(canary.tick(START + seconds(9_050), &Window::default()), None);
    assert_eq!(canary.tick(START + seconds(9_051), &Window::default()).unwrap().after, Some(20));
}

#[test]
fn a_weight_set_by_hand_stays_whatever_happens() {
    let mut canary = running();
    assert_eq!(canary.set(101), Err(CommandError::Weight(101)));
    assert_eq!(canary.set(0).unwrap().after, Some(0));
    assert_eq!(canary.set(100).unwrap().before, Some(0));
    assert_eq!(canary.set(33).unwrap().after, Some(33));
    assert_eq!(canary.tick(START + seconds(9_000), &window((1_000, 0), (1_000, 1_000))), None);
    assert_eq!(phase_of(&canary), (Phase::Manual, Some(33)));
    assert_eq!(canary.promote().unwrap().after, Some(100));
}

#[test]
fn what_is_kept_over_a_restart_goes_on_where_it_was() {
    let mut canary = running();
    canary.tick(START + seconds(300), &good()).unwrap();
    canary.tick(START + seconds(400), &window((800, 8), (200, 2)));
    let saved = serde_json::to_string(canary.progress()).unwrap();
    let progress: Progress = serde_json::from_str(&saved).unwrap();
    assert_eq!(&progress, canary.progress());
    let (mut again, change) = Canary::restore(CanaryConfig::default(), progress, seconds(5));
    assert_eq!(change, None);
    assert_eq!(again.tick(seconds(6), &Window::default()), None);
    assert_eq!((again.weight(), again.progress().elapsed), (Some(20), seconds(101)));
    assert_eq!(again.tick(seconds(205), &window((4_000, 40), (1_000, 10))).unwrap().after, Some(50));
}

#[test]
fn with_other_steps_it_goes_on_in_the_first_that_gives_as_much() {
    let step = |weight| Step { weight, duration: seconds(60) };
    let restored = |weights: &[u8]| {
        let mut canary = running();
        canary.tick(START + seconds(300), &good()).unwrap();
        canary.tick(START + seconds(310), &good());
        let steps = weights.iter().copied().map(step).collect();
        let config = CanaryConfig { steps, ..CanaryConfig::default() };
        let (canary, change) = Canary::restore(config, canary.progress().clone(), START);
        let progress = canary.progress();
        ((progress.phase, canary.weight(), progress.step, progress.elapsed), change)
    };
    let change = |cause, after| Some(Change { cause, before: Some(20), after: Some(after) });
    assert_eq!(restored(&[1, 5, 20, 60]), ((Phase::Running, Some(20), 2, seconds(10)), None));
    let next = change(Cause::OtherSteps, 25);
    assert_eq!(restored(&[5, 25, 100]), ((Phase::Running, Some(25), 1, seconds(0)), next));
    let beyond = change(Cause::BeyondSteps, 20);
    assert_eq!(restored(&[5, 100]), ((Phase::Manual, Some(20), 1, seconds(10)), beyond.clone()));
    assert_eq!(restored(&[]), ((Phase::Manual, Some(20), 1, seconds(10)), beyond));
}

#[test]
fn a_clock_that_goes_back_does_not_shorten_a_step() {
    let mut canary = running();
    assert_eq!(canary.tick(START + seconds(100), &good()), None);
    assert_eq!(canary.tick(START, &Window::default()), None);
    assert_eq!(canary.tick(START + seconds(299), &Window::default()), None);
    assert_eq!(canary.progress().elapsed, seconds(299));
    assert!(canary.tick(START + seconds(300), &Window::default()).is_some());
}

#[test]
fn without_a_step_below_all_calls_a_start_promotes() {
    for steps in [vec![], vec![Step { weight: 100, duration: seconds(1) }]] {
        let mut canary = Canary::new(CanaryConfig { steps, ..CanaryConfig::default() }, START);
        assert_eq!(canary.start(START).unwrap().after, Some(100));
        assert_eq!(canary.progress().phase, Phase::Promoted);
    }
}

#[test]
fn the_limits_are_limits() {
    let config = |errors, latency| CanaryConfig {
        max_error_increase: Factor::from_thousandths(errors),
        max_latency_increase: Factor::from_thousandths(latency),
        ..CanaryConfig::default()
    };
    // 5 % more errors, and 50 % slower.
    let mut seen = window((10_000, 100), (10_000, 600));
    for _ in 0..10_000 {
        seen.stable.record(Code::Ok, Some(Duration::from_millis(100)));
        seen.canary.record(Code::Ok, Some(Duration::from_millis(150)));
    }
    let findings = |config: &CanaryConfig| {
        let judgement = judge(config, &seen);
        judgement.comparisons.iter().map(|comparison| comparison.finding).collect::<Vec<_>>()
    };
    assert_eq!(findings(&config(5, 200)), [Finding::Worse, Finding::Worse]);
    assert_eq!(findings(&config(60, 200)), [Finding::Fine, Finding::Worse]);
    assert_eq!(findings(&config(5, 600)), [Finding::Worse, Finding::Fine]);
}
