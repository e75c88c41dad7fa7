//! Resolves a name again and again, and publishes what becomes of it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::Address;
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
    loop {
        schedule.begin(Instant::now());
        let outcome = resolver.resolve().await;
        let now = Instant::now();
        match outcome {
            Ok(Answer { endpoints, ttl }) => {
                schedule.succeeded(now, ttl);
                report_success(&publish, &name, Endpoints::new(endpoints, options.max_addresses), now);
            }
            Err(error) => {
                let gone = schedule.failed(now, error.is_empty_answer(), &mut rng);
                report_failure(&publish, &name, error);
                if gone && publish.send_if_modified(ResolverState::give_up) {
                    tracing::warn!(
                        uri = name,
                        "giving up the last good endpoints: the name has been gone too long"
                    );
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

/// Publishes a success, and logs if it changes anything.
pub(crate) fn report_success(
    publish: &watch::Sender<ResolverState>,
    name: &str,
    endpoints: Endpoints,
    now: Instant,
) {
    let (count, left_out) = (endpoints.len(), endpoints.left_out());
    let mut changed = false;
    let mut recovered = false;
    publish.send_modify(|state| {
        recovered = state.error.is_some();
        changed = state.succeed(now, endpoints);
    });
    if changed && left_out > 0 {
        tracing::warn!(uri = name, endpoints = count, left_out, "too many endpoints; leaving some out");
    } else if changed || recovered {
        tracing::info!(uri = name, endpoints = count, changed, "resolved");
    }
}

/// Publishes a failure, and logs it if the one before was not the same.
pub(crate) fn report_failure(publish: &watch::Sender<ResolverState>, name: &str, error: ResolveError) {
    let error = Arc::new(error);
    let mut repeated = false;
    publish.send_modify(|state| {
        repeated = state.error.as_ref().is_some_and(|known| known.to_string() == error.to_string());
        state.fail(Arc::clone(&error));
    });
    if repeated {
        tracing::debug!(uri = name, %error, "still not resolved");
    } else {
        tracing::warn!(uri = name, %error, "not resolved; the last good endpoints stay");
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

    #[tokio::test(start_paused = true)]
    async fn ends_when_it_is_aborted() {
        let mut run = Run::of([]);
        run.asked().await;
        run.task.abort();
        assert!(run.task.await.is_err_and(|error| error.is_cancelled()));
        assert!(run.state.changed().await.is_err());
    }
}
