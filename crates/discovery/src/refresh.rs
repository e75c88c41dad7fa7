//! Resolves a name again and again, and publishes what becomes of it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::Address;
use evenkeel_telemetry::LogLimiter;
use rand::Rng;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use crate::endpoints::Endpoints;
use crate::error::ResolveError;
use crate::options::ResolveOptions;
use crate::schedule::Schedule;
use crate::state::ResolverState;

/// A successful resolution.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The endpoints with their weights, at least one, in the order they should be tried.
    pub(crate) endpoints: Vec<(Address, u32)>,
    /// For how long the answer is good.
    pub(crate) ttl: Duration,
}

/// Something that can be asked again and again for the endpoints of one name.
pub(crate) trait Resolve: Send + 'static {
    /// Asks once. To be cancelled by dropping the future.
    fn resolve(&mut self) -> impl Future<Output = Result<Answer, ResolveError>> + Send;
}

/// Runs until it is dropped: resolves, publishes, waits as [`Schedule`] says or until `wake`.
pub(crate) async fn keep_fresh(
    mut resolver: impl Resolve,
    name: String,
    options: ResolveOptions,
    mut rng: impl Rng + Send,
    publish: watch::Sender<ResolverState>,
    wake: Arc<Notify>,
) {
    let mut schedule = Schedule::new(&options, Instant::now());
    let mut report = Report::new(publish, name, Instant::now());
    loop {
        schedule.begin(Instant::now());
        let outcome = resolver.resolve().await;
        let now = Instant::now();
        match outcome {
            Ok(Answer { endpoints, ttl }) => {
                schedule.succeeded(now, ttl);
                report.success(Endpoints::new(endpoints, options.max_addresses), now);
            }
            Err(error) => {
                let gone = schedule.failed(now, error.is_empty_answer(), &mut rng);
                report.failure(error, now);
                if gone {
                    report.give_up();
                }
            }
        }
        loop {
            tokio::select! {
                () = sleep_until(schedule.next_at()) => break,
                () = wake.notified() => schedule.expedite(),
            }
        }
    }
}

/// Publishes what becomes of a target, and tells the log what is new of it: of each kind at most one line a second, however
/// often a file is rewritten.
pub(crate) struct Report {
    publish: watch::Sender<ResolverState>,
    name: String,
    /// From which the log's seconds are counted.
    began: Instant,
    limiter: LogLimiter,
    /// The failure that the log was told last, until it is told of a success.
    told: Option<String>,
}

impl Report {
    /// A report on the target `name`.
    pub(crate) fn new(publish: watch::Sender<ResolverState>, name: String, now: Instant) -> Self {
        Self { publish, name, began: now, limiter: LogLimiter::default(), told: None }
    }

    /// Publishes a success; news is another list, or the end of a failure that was told.
    pub(crate) fn success(&mut self, endpoints: Endpoints, now: Instant) {
        let (count, left_out) = (endpoints.len(), endpoints.left_out());
        let mut changed = false;
        self.publish.send_modify(|state| changed = state.succeed(now, endpoints));
        let recovered = self.told.is_some();
        if !changed && !recovered {
            return;
        }
        // A recovery that comes too soon behind another line is told by the next success.
        let Some(suppressed) = self.limiter.allow("resolved", now - self.began) else { return };
        self.told = None;
        let uri = self.name.as_str();
        if changed && left_out > 0 {
            tracing::warn!(
                uri,
                endpoints = count,
                left_out,
                suppressed,
                "too many endpoints; leaving some out"
            );
        } else {
            tracing::info!(uri, endpoints = count, changed, suppressed, "resolved");
        }
    }

    /// Publishes a failure; news is another one than was told last. One that came too soon after another is told when it
    /// comes again.
    pub(crate) fn failure(&mut self, error: ResolveError, now: Instant) {
        let text = error.to_string();
        let error = Arc::new(error);
        let mut has_endpoints = false;
        self.publish.send_modify(|state| {
            has_endpoints = state.endpoints.as_deref().is_some_and(|list| !list.is_empty());
            state.fail(Arc::clone(&error));
        });
        let uri = self.name.as_str();
        let is_news = self.told.as_ref() != Some(&text);
        let Some(suppressed) =
            is_news.then(|| self.limiter.allow("not resolved", now - self.began)).flatten()
        else {
            tracing::debug!(uri, %error, "still not resolved");
            return;
        };
        if has_endpoints {
            tracing::warn!(uri, %error, suppressed, "not resolved; the last good endpoints stay");
        } else {
            tracing::warn!(uri, %error, suppressed, "not resolved; it has no endpoints, so calls fail until it has");
        }
        self.told = Some(text);
    }

    /// Gives the last good endpoints up, if there are any.
    fn give_up(&self) {
        if self.publish.send_if_modified(ResolverState::give_up) {
            tracing::warn!(
                uri = self.name,
                "giving up the last good endpoints: the name has been gone too long"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::net::SocketAddr;

    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use tokio::sync::mpsc;
    use tokio::task::JoinHandle;

    use evenkeel_balance::EndpointSpec;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Gives the scripted outcomes in turn, then none at all; reports when it was asked.
    struct Script {
        outcomes: VecDeque<Result<Answer, ResolveError>>,
        asked: mpsc::UnboundedSender<Instant>,
    }

    impl Resolve for Script {
        async fn resolve(&mut self) -> Result<Answer, ResolveError> {
            self.asked.send(Instant::now()).expect("the test holds the receiver");
            match self.outcomes.pop_front() {
                Some(outcome) => outcome,
                None => std::future::pending().await,
            }
        }
    }

    struct Run {
        start: Instant,
        asked: mpsc::UnboundedReceiver<Instant>,
        state: watch::Receiver<ResolverState>,
        wake: Arc<Notify>,
        task: JoinHandle<()>,
    }

    impl Run {
        fn of(outcomes: impl IntoIterator<Item = Result<Answer, ResolveError>>) -> Self {
            let (sender, asked) = mpsc::unbounded_channel();
            let script = Script { outcomes: outcomes.into_iter().collect(), asked: sender };
            let (publish, state) = watch::channel(ResolverState::default());
            let wake = Arc::new(Notify::new());
            let options = ResolveOptions::default();
            let rng = SmallRng::seed_from_u64(1);
            let task = keep_fresh(script, "dns:///orders:1".into(), options, rng, publish, Arc::clone(&wake));
            Self { start: Instant::now(), asked, state, wake, task: tokio::spawn(task) }
        }

        /// Waits for the next resolution; returns when it began, from the start of the test.
        async fn asked(&mut self) -> Duration {
            self.asked.recv().await.expect("the resolver asks for ever") - self.start
        }

        fn ports(&self) -> Option<Vec<u16>> {
            let state = self.state.borrow();
            let port = |spec: &EndpointSpec| match &spec.address {
                Address::Tcp(address) => address.port(),
                Address::Unix(_) => 0,
            };
            state.endpoints.as_deref().map(|list| list.iter().map(port).collect())
        }
    }

    fn answer(ports: &[u16], ttl: Duration) -> Result<Answer, ResolveError> {
        let endpoint = |port: &u16| (SocketAddr::from(([127, 0, 0, 1], *port)).into(), 1);
        Ok(Answer { endpoints: ports.iter().map(endpoint).collect(), ttl })
    }

    fn no_such_name() -> Result<Answer, ResolveError> {
        Err(ResolveError::NoSuchName { name: "orders".into() })
    }

    fn timed_out() -> Result<Answer, ResolveError> {
        Err(ResolveError::Timeout { name: "orders".into(), after: SECOND })
    }

    #[tokio::test(start_paused = true)]
    async fn resolves_each_second_at_a_ttl_of_zero_and_each_half_minute_at_a_long_one() {
        let day = 86_400 * SECOND;
        let ttls = [Duration::ZERO, Duration::ZERO, 5 * SECOND, day, day];
        let mut run = Run::of(ttls.map(|ttl| answer(&[1], ttl)));
        for at in [0, 1, 2, 7, 37, 67] {
            assert_eq!(run.asked().await, at * SECOND);
        }
        assert_eq!(run.state.borrow().successes, 5);
        assert_eq!(run.state.borrow().generation, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn many_requests_make_one_resolution_a_second() {
        let mut run = Run::of([answer(&[1], 30 * SECOND), answer(&[1], 30 * SECOND)]);
        assert_eq!(run.asked().await, Duration::ZERO);
        for second in 1..=2 {
            for _ in 0..10 {
                run.wake.notify_one();
                tokio::task::yield_now().await;
            }
            assert_eq!(run.asked().await, second * SECOND);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_keep_the_last_good_list_and_are_visible_until_the_next_success() {
        let mut run =
            Run::of([no_such_name(), answer(&[1, 2], SECOND), timed_out(), answer(&[2], 30 * SECOND)]);
        run.asked().await;
        run.asked().await;
        assert_eq!(run.ports(), Some(vec![1, 2]));
        run.asked().await;
        run.asked().await;
        assert_eq!(run.ports(), Some(vec![2]));
        assert!(run.state.borrow().error.is_none());
        let counted = run.state.borrow().clone();
        assert_eq!((counted.successes, counted.failures, counted.changes()), (2, 2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_gone_for_five_minutes_has_no_endpoints_and_can_come_back() {
        let gone = std::iter::repeat_with(no_such_name).take(40);
        let back = answer(&[2], SECOND);
        let mut run = Run::of(std::iter::once(answer(&[1], SECOND)).chain(gone).chain([back]));
        run.asked().await;
        let first_gone = run.asked().await;
        let mut given_up_at = None;
        // Each turn sees the state that the resolution before has left.
        loop {
            let at = run.asked().await;
            match run.ports().as_deref() {
                Some([1]) => assert_eq!(given_up_at, None),
                Some([]) => _ = given_up_at.get_or_insert(at),
                Some([2]) => break,
                other => panic!("unexpected {other:?}"),
            }
        }
        let given_up_after = given_up_at.expect("the name is given up") - first_gone;
        // Two resolutions: the first after five minutes, and the one that shows its state here.
        assert!(given_up_after > 300 * SECOND && given_up_after <= 360 * SECOND, "{given_up_after:?}");
        assert!(run.state.borrow().error.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_keeps_the_last_good_list_for_ever() {
        let silence = std::iter::repeat_with(timed_out).take(500);
        let mut run = Run::of(std::iter::once(answer(&[1], SECOND)).chain(silence));
        for _ in 0..=501 {
            run.asked().await;
        }
        assert!(run.start.elapsed() > 3_600 * SECOND);
        assert_eq!(run.ports(), Some(vec![1]));
    }

    /// What the log is told meanwhile.
    fn logged(work: impl FnOnce()) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writer = Arc::new(file.reopen().unwrap());
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(writer).finish();
        tracing::subscriber::with_default(subscriber, work);
        std::fs::read_to_string(file.path()).unwrap().lines().map(str::to_owned).collect()
    }

    fn report(now: Instant) -> Report {
        Report::new(watch::channel(ResolverState::default()).0, "file:orders.yaml".into(), now)
    }

    fn endpoints(port: u16) -> Endpoints {
        Endpoints::new(answer(&[port], SECOND).unwrap().endpoints, 8)
    }

    fn fault(number: u16) -> ResolveError {
        ResolveError::NoSuchName { name: format!("orders{number}") }
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_fails_each_time_in_another_way_has_one_line_a_second() {
        let start = Instant::now();
        let lines = logged(|| {
            let mut report = report(start);
            for number in 0..40 {
                report.failure(fault(number), start + Duration::from_millis(75) * number.into());
            }
        });
        // At 0 s, 1.05 s and 2.1 s.
        assert_eq!(lines.len(), 3, "{lines:#?}");
        for (line, number, suppressed) in [(0, 0, 0), (1, 14, 13), (2, 28, 13)] {
            let told = [format!("orders{number}\""), format!("suppressed={suppressed}")];
            assert!(told.iter().all(|part| lines[line].contains(part)), "{told:?} in {}", lines[line]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lists_that_change_all_the_time_have_one_line_a_second() {
        let start = Instant::now();
        let lines = logged(|| {
            let mut report = report(start);
            for number in 0..40 {
                report.success(endpoints(number), start + Duration::from_millis(75) * number.into());
            }
        });
        assert_eq!(lines.len(), 3, "{lines:#?}");
        assert!(lines.iter().all(|line| line.contains("INFO") && line.contains("resolved")), "{lines:#?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_left_out_of_the_log_is_told_as_soon_as_it_may_be() {
        let start = Instant::now();
        let mut report = report(start);
        let lines = logged(|| {
            report.failure(fault(1), start);
            report.failure(fault(2), start + SECOND / 2);
            report.failure(fault(2), start + SECOND);
            report.failure(fault(2), start + 5 * SECOND);
        });
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(lines[1].contains("orders2") && lines[1].contains("suppressed=1"), "{}", lines[1]);
        let lines = logged(|| {
            report.success(endpoints(1), start + 6 * SECOND);
            report.failure(fault(1), start + 6 * SECOND);
            report.success(endpoints(1), start + 6 * SECOND);
            report.success(endpoints(1), start + 7 * SECOND);
            report.success(endpoints(1), start + 9 * SECOND);
        });
        let kinds: Vec<bool> = lines.iter().map(|line| line.contains("not resolved")).collect();
        assert_eq!(kinds, [false, true, false], "{lines:#?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_good_endpoints_are_not_spoken_of_before_there_are_any() {
        let start = Instant::now();
        let mut report = report(start);
        let lines = logged(|| report.failure(fault(1), start));
        assert!(lines[0].contains("it has no endpoints, so calls fail until it has"), "{}", lines[0]);
        report.success(endpoints(1), start);
        let lines = logged(|| report.failure(fault(2), start + SECOND));
        assert!(lines[0].contains("the last good endpoints stay"), "{}", lines[0]);
        report.give_up();
        let lines = logged(|| report.failure(fault(3), start + 2 * SECOND));
        assert!(lines[0].contains("it has no endpoints, so calls fail until it has"), "{}", lines[0]);
    }

    #[tokio::test(start_paused = true)]
    async fn ends_when_it_is_aborted() {
        let mut run = Run::of([]);
        run.asked().await;
        run.task.abort();
        assert!(run.task.await.is_err_and(|error| error.is_cancelled()));
        assert!(run.state.changed().await.is_err());
    }
}
