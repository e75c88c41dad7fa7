use super::*;

struct World {
    config: HealthCheckConfig,
    watch: HealthWatch,
    rng: SmallRng,
    now: Duration,
}

impl World {
    fn new() -> Self {
        let probe = Probe::Watch { service: "orders".to_owned() };
        let config = HealthCheckConfig { probe, ..HealthCheckConfig::default() };
        Self { config, watch: HealthWatch::new(), rng: SmallRng::seed_from_u64(1), now: START }
    }

    /// A watch whose stream is open, and its name.
    fn open() -> (Self, CheckId) {
        let mut world = Self::new();
        world.watch.connected(START);
        let stream = started(world.due());
        (world, stream)
    }

    fn due(&mut self) -> Due {
        self.watch.handle_timeout(&self.config, self.now, &mut self.rng)
    }

    fn ends(&mut self, stream: CheckId, result: CheckResult) -> Option<Transition> {
        self.watch.ended(&self.config, stream, result, self.now, &mut self.rng)
    }

    /// Waits for the stream to be due again, and returns it and how long that was.
    fn reopens(&mut self) -> (CheckId, Duration) {
        let at = self.watch.next_due().unwrap();
        let waited = at - self.now;
        self.now = at - Duration::from_nanos(1);
        assert_eq!(self.due(), Due::Nothing);
        self.now = at;
        (started(self.due()), waited)
    }
}

#[test]
fn opens_with_the_connection_and_tells_each_change() {
    let mut idle = World::new();
    assert_eq!((idle.watch.next_due(), idle.due()), (None, Due::Nothing));
    let (mut world, stream) = World::open();
    assert_eq!(world.watch.status(), UNKNOWN);
    assert_eq!(world.watch.message(stream, CheckResult::Serving), change(UNKNOWN, HEALTHY));
    assert_eq!(world.watch.next_due(), None, "from now on it may be silent");
    assert_eq!(world.watch.message(stream, CheckResult::Serving), None);
    assert_eq!(world.watch.message(stream, CheckResult::NotServing), change(HEALTHY, NOT_SERVING));
    assert_eq!(world.watch.message(stream, CheckResult::Serving), change(NOT_SERVING, HEALTHY));
    assert_eq!(world.watch.disconnected(), change(HEALTHY, UNKNOWN));
    assert_eq!(world.watch.message(stream, CheckResult::NotServing), None, "the stream is gone");
    assert_eq!((world.watch.next_due(), world.watch.disconnected()), (None, None));
}

#[test]
fn a_server_without_health_service_is_healthy_and_not_asked_again() {
    let (mut world, stream) = World::open();
    assert_eq!(world.ends(stream, CheckResult::Unimplemented), change(UNKNOWN, HEALTHY));
    assert_eq!(world.watch.next_due(), None);
    world.watch.disconnected();
    world.watch.connected(world.now);
    started(world.due());
}

#[test]
fn the_end_of_a_connection_without_health_service_opens_the_stream_again() {
    let (mut world, stream) = World::open();
    world.ends(stream, CheckResult::Unimplemented);
    assert_eq!(world.watch.message(stream, CheckResult::NotServing), None, "there is no stream");
    assert_eq!(world.ends(stream, CheckResult::Failed), None, "forgiven once");
    let (stream, waited) = world.reopens();
    assert!((MS * 800..=MS * 1_200).contains(&waited), "{waited:?}");
    assert_eq!(world.ends(stream, CheckResult::Failed), change(HEALTHY, FAILED));
}

#[test]
fn one_end_of_a_stream_is_forgiven_and_the_second_is_not() {
    let (mut world, stream) = World::open();
    world.watch.message(stream, CheckResult::Serving);
    assert_eq!(world.ends(stream, CheckResult::Failed), None);
    let (stream, waited) = world.reopens();
    assert!((MS * 800..=MS * 1_200).contains(&waited), "{waited:?}");
    assert_eq!(world.ends(stream, CheckResult::Failed), change(HEALTHY, FAILED));
    let (stream, waited) = world.reopens();
    assert!((MS * 1_280..=MS * 1_920).contains(&waited), "{waited:?}");
    assert_eq!(world.watch.message(stream, CheckResult::Serving), change(FAILED, HEALTHY));
    assert_eq!(world.ends(stream, CheckResult::Failed), None);
    let (_, waited) = world.reopens();
    assert!((MS * 800..=MS * 1_200).contains(&waited), "a message starts the backoff over: {waited:?}");
}

#[test]
fn the_backoff_grows_to_the_interval() {
    let (mut world, mut stream) = World::open();
    world.config.interval = Duration::from_secs(30);
    let mut waited = Duration::ZERO;
    for _ in 0..20 {
        world.ends(stream, CheckResult::Failed);
        (stream, waited) = world.reopens();
    }
    assert!((MS * 24_000..=MS * 36_000).contains(&waited), "{waited:?}");
    // A new connection starts anew.
    world.watch.disconnected();
    world.watch.connected(world.now);
    let stream = started(world.due());
    world.ends(stream, CheckResult::Failed);
    assert!(world.reopens().1 <= MS * 1_200);
}

#[test]
fn a_first_message_has_until_the_timeout() {
    let (mut world, stream) = World::open();
    assert_eq!(world.watch.next_due(), Some(START + MS * 1_000));
    world.now = START + MS * 1_000;
    assert_eq!(world.due(), Due::Cancel { check: stream, transition: change(UNKNOWN, TIMED_OUT) });
    assert_eq!(world.ends(stream, CheckResult::Unimplemented), None, "too late");
    assert_eq!(world.watch.message(stream, CheckResult::Serving), None);
    let (next, _) = world.reopens();
    assert_ne!(next, stream);
    assert_eq!(world.watch.message(next, CheckResult::Serving), change(TIMED_OUT, HEALTHY));
}
