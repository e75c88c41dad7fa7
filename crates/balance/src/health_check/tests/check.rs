use evenkeel_grpc::Code;

use super::*;

struct World {
    config: HealthCheckConfig,
    check: HealthCheck,
    rng: SmallRng,
    now: Duration,
}

impl World {
    fn new(config: HealthCheckConfig) -> Self {
        let mut rng = SmallRng::seed_from_u64(1);
        let check = HealthCheck::new(&config, 1, START, &mut rng);
        Self { config, check, rng, now: START }
    }

    fn due(&mut self) -> Due {
        self.check.handle_timeout(&self.config, self.now, &mut self.rng)
    }

    /// Waits for the next check and answers it with this result after 1 ms.
    fn check(&mut self, result: CheckResult) -> Option<Transition> {
        self.now = self.check.next_due();
        let check = started(self.due());
        self.now += MS;
        self.check.answered(&self.config, check, result)
    }

    /// Waits for the next check and then for its timeout.
    fn silence(&mut self) -> Option<Transition> {
        self.now = self.check.next_due();
        let started = started(self.due());
        self.now = self.check.next_due();
        match self.due() {
            Due::Cancel { check, transition } => {
                assert_eq!(check, started);
                transition
            }
            other => panic!("{other:?}"),
        }
    }
}

fn thresholds(unhealthy_threshold: u32, healthy_threshold: u32) -> HealthCheckConfig {
    HealthCheckConfig { unhealthy_threshold, healthy_threshold, ..HealthCheckConfig::default() }
}

#[test]
fn the_first_result_decides() {
    for (result, to) in [
        (CheckResult::Serving, HEALTHY),
        (CheckResult::Unimplemented, HEALTHY),
        (CheckResult::NotServing, NOT_SERVING),
        (CheckResult::ServiceUnknown, HealthStatus::Unhealthy(UnhealthyReason::ServiceUnknown)),
        (CheckResult::Failed, FAILED),
    ] {
        let mut world = World::new(thresholds(3, 3));
        assert_eq!(world.check.status(), UNKNOWN);
        assert_eq!(world.check(result), change(UNKNOWN, to), "{result:?}");
        assert_eq!(world.check.status(), to);
    }
    assert_eq!(World::new(thresholds(3, 3)).silence(), change(UNKNOWN, TIMED_OUT));
}

#[test]
fn later_as_many_in_a_row_as_configured_do() {
    let mut world = World::new(thresholds(3, 2));
    world.check(CheckResult::Serving);
    for result in [CheckResult::Failed, CheckResult::Failed, CheckResult::Serving, CheckResult::Failed] {
        assert_eq!(world.check(result), None, "a success between starts the row over");
    }
    assert_eq!(world.silence(), None);
    assert_eq!(world.check(CheckResult::Failed), change(HEALTHY, FAILED));
    assert_eq!(world.check(CheckResult::Serving), None);
    assert_eq!(world.silence(), None, "another reason is no transition");
    assert_eq!(world.check.status(), TIMED_OUT);
    assert_eq!(world.check(CheckResult::Unimplemented), None);
    assert_eq!(world.check(CheckResult::Serving), change(TIMED_OUT, HEALTHY));
}

#[test]
fn what_the_server_says_of_itself_needs_no_second_opinion() {
    let mut world = World::new(thresholds(3, 1));
    world.check(CheckResult::Serving);
    assert_eq!(world.check(CheckResult::NotServing), change(HEALTHY, NOT_SERVING));
    assert_eq!(world.check(CheckResult::Serving), change(NOT_SERVING, HEALTHY));
}

#[test]
fn a_threshold_of_zero_is_one() {
    let mut world = World::new(thresholds(0, 0));
    world.check(CheckResult::Serving);
    assert_eq!(world.check(CheckResult::Failed), change(HEALTHY, FAILED));
    assert_eq!(world.check(CheckResult::Serving), change(FAILED, HEALTHY));
}

#[test]
fn a_check_has_until_its_timeout_and_a_late_answer_is_ignored() {
    let mut world = World::new(HealthCheckConfig::default());
    world.now = world.check.next_due();
    let first = started(world.due());
    let begun_at = world.now;
    assert_eq!(world.check.next_due(), begun_at + MS * 1_000);
    world.now = begun_at + MS * 1_000 - Duration::from_nanos(1);
    assert_eq!(world.due(), Due::Nothing);
    world.now += Duration::from_nanos(1);
    assert_eq!(world.due(), Due::Cancel { check: first, transition: change(UNKNOWN, TIMED_OUT) });
    assert_eq!(world.check.answered(&world.config, first, CheckResult::Serving), None);
    world.now = world.check.next_due();
    let second = started(world.due());
    assert_eq!(world.check.answered(&world.config, first, CheckResult::Serving), None);
    assert_eq!(world.check.status(), TIMED_OUT);
    let answered = world.check.answered(&world.config, second, CheckResult::Serving);
    assert_eq!(answered, change(TIMED_OUT, HEALTHY));
    assert_eq!(world.check.answered(&world.config, second, CheckResult::Failed), None, "only once");
}

#[test]
fn the_interval_is_from_start_to_start_but_no_two_checks_overlap() {
    let config = HealthCheckConfig { jitter: Factor::ZERO, ..HealthCheckConfig::default() };
    let mut world = World::new(config.clone());
    world.check(CheckResult::Serving);
    let begun_at = world.now - MS;
    assert_eq!(world.check.next_due(), begun_at + Duration::from_secs(5));
    let mut slow = World::new(HealthCheckConfig { timeout: Duration::from_secs(8), ..config });
    slow.silence();
    assert_eq!(slow.check.next_due(), slow.now - Duration::from_secs(3), "overdue: at once");
    started(slow.due());
}

#[test]
fn the_interval_varies_by_its_jitter_and_has_a_least() {
    let mut world = World::new(HealthCheckConfig::default());
    let (mut least, mut most) = (Duration::MAX, Duration::ZERO);
    for _ in 0..10_000 {
        world.check(CheckResult::Serving);
        let interval = world.check.next_due() - (world.now - MS);
        (least, most) = (least.min(interval), most.max(interval));
    }
    assert!(least >= MS * 4_000 && least < MS * 4_005, "{least:?}");
    assert!(most <= MS * 6_000 && most > MS * 5_995, "{most:?}");
    let absurd = [Duration::ZERO, Duration::MAX].map(|interval| {
        let config = HealthCheckConfig { interval, jitter: Factor::MAX, ..HealthCheckConfig::default() };
        let mut world = World::new(config);
        world.now = START + Duration::from_secs(1);
        started(world.due());
        world.check.answered(&world.config, CheckId(1), CheckResult::Serving);
        world.check.next_due() - world.now
    });
    assert_eq!(absurd[0], MS * 10);
    assert!(absurd[1] >= MS * 10);
}

#[test]
fn ten_thousand_endpoints_are_checked_without_bursts_also_after_an_outage() {
    const ENDPOINTS: usize = 10_000;
    let config = HealthCheckConfig::default();
    for seed in 1..=3 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut checks: Vec<_> =
            (0..ENDPOINTS).map(|_| HealthCheck::new(&config, ENDPOINTS, START, &mut rng)).collect();
        // By steps of 10 ms, a minute long. From the 20th second to the 30th nobody answers.
        let mut starts = vec![0_u32; 6_000];
        for (step, starts) in starts.iter_mut().enumerate() {
            let now = START + MS * 10 * u32::try_from(step).unwrap();
            let is_outage = (2_000..3_000).contains(&step);
            for check in &mut checks {
                while let Due::Start(id) = check.handle_timeout(&config, now, &mut rng) {
                    *starts += 1;
                    if !is_outage {
                        check.answered(&config, id, CheckResult::Serving);
                    }
                }
            }
        }
        let most = *starts.iter().max().unwrap();
        let sum: u32 = starts.iter().sum();
        println!("seed {seed}: {sum} checks in a minute, at most {most} in 10 ms");
        // 20 in 10 ms on average; with 6,000 draws of a Poisson distribution more than 45 are not to be expected.
        assert!((110_000..=135_000).contains(&sum), "{sum}, seed {seed}");
        assert!(most <= 45, "{most}, seed {seed}");
        assert!(checks.iter().all(|check| check.status() == HEALTHY), "seed {seed}");
    }
}

#[test]
fn the_first_checks_of_few_endpoints_begin_at_once() {
    let config = HealthCheckConfig::default();
    let mut rng = SmallRng::seed_from_u64(1);
    for (endpoints, latest) in [(1, MS), (3, MS * 3), (1_000, MS * 1_000), (100_000, MS * 5_000)] {
        for _ in 0..1_000 {
            let due = HealthCheck::new(&config, endpoints, START, &mut rng).next_due();
            assert!((START..START + latest).contains(&due), "{endpoints}: {due:?}");
        }
    }
}

#[test]
fn reads_what_servers_say() {
    let read = [-1, 0, 1, 2, 3, 4].map(CheckResult::from_serving_status);
    let (serving, not, unknown) =
        (CheckResult::Serving, CheckResult::NotServing, CheckResult::ServiceUnknown);
    assert_eq!(read, [CheckResult::Absurd, not, serving, not, unknown, CheckResult::Absurd]);
    for code in Code::ALL {
        let expected = match code {
            Code::Unimplemented => CheckResult::Unimplemented,
            Code::NotFound => CheckResult::ServiceUnknown,
            _ => CheckResult::Failed,
        };
        assert_eq!(CheckResult::from_code(code), expected, "{code:?}");
    }
}
