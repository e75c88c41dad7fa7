//! The demo's load: orders created, looked up and watched, at planned times.
//!
//! Why open loop: a client that waits for its answers sends less the slower they come, and so hides the very delay that
//! should be seen. Here calls are sent by plan; at most `in_flight_max` are under way, and a call that has to wait for a
//! free place is measured from its planned time.

use super::{Board, DemoConfig, stage};
use crate::backend::BACKEND_HEADER;
use crate::demo::tally::Outcome;
use crate::pb::orders::order_service_client::OrderServiceClient;
use crate::pb::orders::{GetOrderRequest, Item, Order, WatchOrdersRequest};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use rand_distr::{Distribution as _, Exp1};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

/// Deadline of each call.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Orders that look-ups choose from; fewer than a backend's book keeps.
const KNOWN_ORDERS: usize = 1000;
/// Customers that the orders are spread over.
const CUSTOMERS: u64 = 100;
/// Events after which a watch ends.
const WATCH_LIMIT: u32 = 5;

/// Send times with exponential gaps (a Poisson process), as independent clients make them.
struct Plan {
    rate: f64,
    at: Duration,
    rng: SmallRng,
}

impl Plan {
    fn new(rate: u32, seed: u64) -> Self {
        Self { rate: f64::from(rate), at: Duration::ZERO, rng: SmallRng::seed_from_u64(seed) }
    }
}

impl Iterator for Plan {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let gap: f64 = Exp1.sample(&mut self.rng);
        self.at += Duration::from_secs_f64(gap / self.rate);
        Some(self.at)
    }
}

/// What a call is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    Create { number: u64 },
    Get { number: u64 },
    Watch { customer: u64 },
}

/// The latest orders that were created with success, at most [`KNOWN_ORDERS`].
#[derive(Debug, Clone, Default)]
struct KnownOrders(Arc<Mutex<VecDeque<u64>>>);

impl KnownOrders {
    fn lock(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, number: u64) {
        let mut numbers = self.lock();
        if numbers.len() == KNOWN_ORDERS {
            numbers.pop_front();
        }
        numbers.push_back(number);
    }

    fn any(&self, rng: &mut SmallRng) -> Option<u64> {
        let numbers = self.lock();
        (!numbers.is_empty()).then(|| numbers[rng.random_range(0..numbers.len())])
    }
}

/// Six of ten calls create an order, three look one up, one watches a customer's orders.
fn choose(rng: &mut SmallRng, next: u64, known: &KnownOrders) -> Call {
    let create = Call::Create { number: next };
    match rng.random_range(0..10) {
        0..6 => create,
        6..9 => known.any(rng).map_or(create, |number| Call::Get { number }),
        _ => Call::Watch { customer: rng.random_range(0..CUSTOMERS) },
    }
}

pub(super) struct Load {
    plan: Plan,
    rng: SmallRng,
    duration: Duration,
    in_flight_max: usize,
    clients: Vec<OrderServiceClient<Channel>>,
    backends: Arc<[String]>,
    board: Board,
    quit: CancellationToken,
}

impl Load {
    pub(super) fn new(
        config: &DemoConfig,
        target: SocketAddr,
        board: Board,
        quit: CancellationToken,
    ) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{target}"))
            .expect("a socket address is a valid authority")
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true);
        Self {
            plan: Plan::new(config.rate, config.seed),
            rng: SmallRng::seed_from_u64(config.seed.wrapping_add(1)),
            duration: config.duration,
            in_flight_max: config.in_flight_max,
            clients: (0..config.channels).map(|_| OrderServiceClient::new(endpoint.connect_lazy())).collect(),
            backends: (0..config.backends).map(stage::name).collect(),
            board,
            quit,
        }
    }

    /// Sends calls until the end of the run or until told to quit, then waits for those in flight.
    pub(super) async fn run(mut self) {
        let places = Arc::new(Semaphore::new(self.in_flight_max));
        let calls = TaskTracker::new();
        let known = KnownOrders::default();
        let mut next = 0;
        let mut turn = 0;
        while let Some(planned) = self.plan.next().filter(|at| *at < self.duration) {
            let clock = self.board.clock;
            tokio::select! {
                () = self.quit.cancelled() => break,
                () = tokio::time::sleep_until(clock.instant(planned).into()) => {}
            }
            // With a place free, only the runtime's timer (1 ms) was late, which is not the service's doing.
            let due = if places.available_permits() > 0 { clock.now() } else { planned };
            let place = tokio::select! {
                () = self.quit.cancelled() => break,
                place = Arc::clone(&places).acquire_owned() => place.expect("the semaphore is never closed"),
            };
            let call = choose(&mut self.rng, next, &known);
            next += u64::from(matches!(call, Call::Create { .. }));
            turn = (turn + 1) % self.clients.len();
            let client = self.clients[turn].clone();
            let (board, backends, known) = (self.board.clone(), Arc::clone(&self.backends), known.clone());
            calls.spawn(async move {
                let (code, answered_by) = perform(client, &call).await;
                if let (Call::Create { number }, Code::Ok) = (call, code) {
                    known.add(number);
                }
                let at = board.clock.now();
                let backend = answered_by.and_then(|name| backends.iter().position(|known| *known == name));
                board.tally().record(&Outcome { latency: at.saturating_sub(due), backend, code });
                drop(place);
            });
        }
        calls.close();
        // No call outlives its deadline by much; one that does is not waited for.
        let _ = tokio::time::timeout(CALL_TIMEOUT * 2, calls.wait()).await;
    }
}

/// Makes a call; returns its status and the name of the backend that answered.
async fn perform(mut client: OrderServiceClient<Channel>, call: &Call) -> (Code, Option<String>) {
    let answered = match *call {
        Call::Create { number } => client.create_order(within_deadline(order(number))).await.map(metadata),
        Call::Get { number } => {
            let request = GetOrderRequest { order_id: order_id(number) };
            client.get_order(within_deadline(request)).await.map(metadata)
        }
        Call::Watch { customer } => {
            let request = WatchOrdersRequest {
                customer_id: customer_id(customer),
                existing_only: true,
                limit: WATCH_LIMIT,
                ..WatchOrdersRequest::default()
            };
            watch(&mut client, request).await
        }
    };
    match answered {
        Ok(metadata) => (Code::Ok, backend_of(&metadata)),
        Err(status) => (status.code(), backend_of(status.metadata())),
    }
}

async fn watch(
    client: &mut OrderServiceClient<Channel>,
    request: WatchOrdersRequest,
) -> Result<MetadataMap, Status> {
    let (metadata, mut events, _) = client.watch_orders(within_deadline(request)).await?.into_parts();
    while events.message().await?.is_some() {}
    Ok(metadata)
}

fn metadata<T>(response: Response<T>) -> MetadataMap {
    response.into_parts().0
}

fn backend_of(metadata: &MetadataMap) -> Option<String> {
    metadata.get(BACKEND_HEADER)?.to_str().ok().map(str::to_owned)
}

fn within_deadline<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

fn order(number: u64) -> Order {
    let item = Item {
        sku: format!("SKU-{}", number % 17),
        quantity: 1 + (number % 3) as u32,
        unit_price_cents: 1990,
    };
    Order {
        order_id: order_id(number),
        customer_id: customer_id(number % CUSTOMERS),
        items: vec![item],
        ..Order::default()
    }
}

fn order_id(number: u64) -> String {
    format!("ORD-{number:06}")
}

fn customer_id(number: u64) -> String {
    format!("CUST-{number:03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_has_the_rate_asked_for_and_never_goes_back() {
        let times: Vec<Duration> = Plan::new(1000, 3).take(100_000).collect();
        assert!(times.is_sorted());
        let last = times.last().unwrap().as_secs_f64();
        assert!((98.0..102.0).contains(&last), "seed 3: 100,000 calls at 1000/s take {last} s");
    }

    #[test]
    fn only_orders_known_to_exist_are_looked_up() {
        let mut rng = SmallRng::seed_from_u64(5);
        let known = KnownOrders::default();
        let looked_up = |call| if let Call::Get { number } = call { Some(number) } else { None };
        assert!((0..100).all(|next| looked_up(choose(&mut rng, next, &known)).is_none()));
        for number in 0..KNOWN_ORDERS as u64 + 10 {
            known.add(number);
        }
        let numbers: Vec<u64> =
            (0..1000).filter_map(|next| looked_up(choose(&mut rng, next, &known))).collect();
        assert!(numbers.len() > 200 && numbers.iter().all(|number| (10..1010).contains(number)), "seed 5");
    }
}
