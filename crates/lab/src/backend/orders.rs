//! `ecommerce.orders.OrderService`: orders in memory.
//!
//! Replicas of the service share one [`OrderBook`], as they would share a database: behind a balancer, the backend that
//! is asked for an order is seldom the one that took it.
//!
//! Bounds: the book keeps the newest [`ORDERS_MAX`] orders; a watcher may fall [`WATCH_BACKLOG`] events behind before its
//! call ends with RESOURCE_EXHAUSTED; an order's size is limited by [`ID_BYTES_MAX`] and [`ITEMS_MAX`].

use crate::pb::orders::order_service_server::OrderService;
use crate::pb::orders::{GetOrderRequest, Order, OrderEvent, OrderResponse, OrderStatus, WatchOrdersRequest};
use futures_util::{Stream, StreamExt as _, stream};
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tonic::{Request, Response, Status};

/// Orders kept; the oldest leaves first. About 2 MiB of the demo's small orders.
pub const ORDERS_MAX: usize = 10_000;
/// Events a watcher may fall behind.
pub const WATCH_BACKLOG: usize = 1024;
/// Longest order id, customer id or article number, in bytes.
pub const ID_BYTES_MAX: usize = 128;
/// Most items of one order.
pub const ITEMS_MAX: usize = 100;

/// The orders of one service, shared by its replicas. A clone is the same book.
#[derive(Debug, Clone)]
pub struct OrderBook {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pages: Mutex<Pages>,
    created: broadcast::Sender<OrderEvent>,
}

/// Invariant: `by_age` holds the sequence numbers' orders in ascending order, and `sequence_of` exactly their ids.
#[derive(Debug, Default)]
struct Pages {
    by_age: VecDeque<OrderEvent>,
    sequence_of: HashMap<String, u64>,
    last_sequence: u64,
}

impl Default for OrderBook {
    fn default() -> Self {
        Self::new()
    }
}

impl OrderBook {
    /// An empty book.
    #[must_use]
    pub fn new() -> Self {
        let (created, _) = broadcast::channel(WATCH_BACKLOG);
        Self { shared: Arc::new(Shared { pages: Mutex::default(), created }) }
    }

    /// Orders in the book now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pages().by_age.len()
    }

    /// Whether the book has no order.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        // No code panics half-way through a change of the pages, so they are whole even then.
        self.shared.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create(&self, mut order: Order) -> Result<OrderResponse, Status> {
        check(&order)?;
        order.set_status(OrderStatus::Accepted);
        let total_cents = order.items.iter().fold(0_u64, |total, item| {
            total.saturating_add(item.unit_price_cents.saturating_mul(item.quantity.into()))
        });
        let response = OrderResponse {
            order_id: order.order_id.clone(),
            status: OrderStatus::Accepted.into(),
            total_cents,
        };

        let mut pages = self.pages();
        if pages.sequence_of.contains_key(&order.order_id) {
            return Err(Status::already_exists(format!(
                "order {} exists; choose another id",
                order.order_id
            )));
        }
        if pages.by_age.len() == ORDERS_MAX
            && let Some(oldest) = pages.by_age.pop_front().and_then(|event| event.order)
        {
            pages.sequence_of.remove(&oldest.order_id);
        }
        pages.last_sequence += 1;
        let sequence = pages.last_sequence;
        pages.sequence_of.insert(order.order_id.clone(), sequence);
        let event = OrderEvent { order: Some(order), sequence };
        pages.by_age.push_back(event.clone());
        // Sent under the lock, so that a watcher sees the events in order. No watcher is no error.
        let _ = self.shared.created.send(event);
        Ok(response)
    }

    fn get(&self, order_id: &str) -> Result<Order, Status> {
        let pages = self.pages();
        let place = pages.sequence_of.get(order_id).and_then(|sequence| {
            let oldest = pages.by_age.front()?.sequence;
            usize::try_from(sequence.checked_sub(oldest)?).ok()
        });
        place
            .and_then(|place| pages.by_age.get(place)?.order.clone())
            .ok_or_else(|| Status::not_found(format!("no order {order_id}; create it first")))
    }

    /// The existing orders and a subscription to all later ones, without gap or overlap.
    fn watch(&self) -> (Vec<OrderEvent>, broadcast::Receiver<OrderEvent>) {
        let pages = self.pages();
        (pages.by_age.iter().cloned().collect(), self.shared.created.subscribe())
    }
}

fn check(order: &Order) -> Result<(), Status> {
    let too_long = |id: &str| id.len() > ID_BYTES_MAX;
    let fault = if order.order_id.is_empty() {
        "order_id is empty; give each order an id".to_owned()
    } else if order.customer_id.is_empty() {
        "customer_id is empty; name the customer".to_owned()
    } else if order.items.len() > ITEMS_MAX {
        format!("{} items are more than {ITEMS_MAX}; split the order", order.items.len())
    } else if too_long(&order.order_id)
        || too_long(&order.customer_id)
        || order.items.iter().any(|item| too_long(&item.sku))
    {
        format!("an id of the order is longer than {ID_BYTES_MAX} bytes; shorten it")
    } else {
        return Ok(());
    };
    Err(Status::invalid_argument(fault))
}

#[tonic::async_trait]
impl OrderService for OrderBook {
    type WatchOrdersStream = Pin<Box<dyn Stream<Item = Result<OrderEvent, Status>> + Send>>;

    async fn create_order(&self, request: Request<Order>) -> Result<Response<OrderResponse>, Status> {
        self.create(request.into_inner()).map(Response::new)
    }

    async fn get_order(&self, request: Request<GetOrderRequest>) -> Result<Response<Order>, Status> {
        self.get(&request.into_inner().order_id).map(Response::new)
    }

    async fn watch_orders(
        &self,
        request: Request<WatchOrdersRequest>,
    ) -> Result<Response<Self::WatchOrdersStream>, Status> {
        let WatchOrdersRequest { customer_id, include_existing, limit, existing_only } = request.into_inner();
        let (existing, created) = self.watch();
        let existing = if include_existing || existing_only { existing } else { Vec::new() };
        let later = BroadcastStream::new(created).map(|event| {
            event.map_err(|BroadcastStreamRecvError::Lagged(missed)| {
                Status::resource_exhausted(format!(
                    "{missed} events were missed; read faster, or watch again"
                ))
            })
        });
        // An error ends a gRPC stream, so nothing after a gap is ever sent.
        let events = stream::iter(existing.into_iter().map(Ok));
        let events = if existing_only { events.boxed() } else { events.chain(later).boxed() };
        let wanted = events.filter(move |event| {
            let of_customer = match event {
                Ok(OrderEvent { order: Some(order), .. }) => order.customer_id == customer_id,
                _ => true,
            };
            std::future::ready(customer_id.is_empty() || of_customer)
        });
        let limit = if limit == 0 { usize::MAX } else { limit as usize };
        Ok(Response::new(wanted.take(limit).boxed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::orders::Item;
    use tonic::Code;

    fn order(id: &str, customer: &str) -> Order {
        Order { order_id: id.to_owned(), customer_id: customer.to_owned(), ..Order::default() }
    }

    async fn sequences(book: &OrderBook, request: WatchOrdersRequest, count: usize) -> Vec<u64> {
        let events = book.watch_orders(Request::new(request)).await.unwrap().into_inner();
        events.take(count).map(|event| event.unwrap().sequence).collect().await
    }

    #[test]
    fn a_created_order_is_found_with_its_total() {
        let book = OrderBook::new();
        let items = vec![
            Item { sku: "keel".into(), quantity: 3, unit_price_cents: 250 },
            Item { sku: "sail".into(), quantity: 1, unit_price_cents: 1000 },
        ];
        let response = book.create(Order { items: items.clone(), ..order("ORD-0001", "CUST-123") }).unwrap();
        assert_eq!(response.total_cents, 1750);
        assert_eq!(response.status(), OrderStatus::Accepted);
        let found = book.clone().get("ORD-0001").unwrap();
        assert_eq!((found.items.clone(), found.status()), (items, OrderStatus::Accepted));
    }

    #[test]
    fn faults_of_an_order_are_named() {
        let book = OrderBook::new();
        let many = Order { items: vec![Item::default(); ITEMS_MAX + 1], ..order("a", "c") };
        for (bad, named) in [
            (order("", "c"), "order_id"),
            (order("a", ""), "customer_id"),
            (many, "101 items"),
            (order(&"x".repeat(ID_BYTES_MAX + 1), "c"), "longer than 128"),
        ] {
            let status = book.create(bad).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().contains(named), "{} does not name {named}", status.message());
        }
        assert!(book.is_empty());
        book.create(order(&"x".repeat(ID_BYTES_MAX), "c")).unwrap();
        assert_eq!(
            book.create(order(&"x".repeat(ID_BYTES_MAX), "c")).unwrap_err().code(),
            Code::AlreadyExists
        );
        assert_eq!(book.get("y").unwrap_err().code(), Code::NotFound);
    }

    #[test]
    fn the_book_keeps_the_newest_orders() {
        let book = OrderBook::new();
        for number in 0..=ORDERS_MAX {
            book.create(order(&number.to_string(), "c")).unwrap();
        }
        assert_eq!(book.len(), ORDERS_MAX);
        assert_eq!(book.get("0").unwrap_err().code(), Code::NotFound);
        assert_eq!(book.get("1").unwrap().order_id, "1");
        assert_eq!(book.get(&ORDERS_MAX.to_string()).unwrap().order_id, ORDERS_MAX.to_string());
    }

    #[tokio::test]
    async fn a_watcher_sees_existing_and_later_orders_of_its_customer_once() {
        let book = OrderBook::new();
        book.create(order("1", "a")).unwrap();
        book.create(order("2", "b")).unwrap();
        let request = WatchOrdersRequest {
            customer_id: "a".into(),
            include_existing: true,
            ..WatchOrdersRequest::default()
        };
        let events = book.watch_orders(Request::new(request.clone())).await.unwrap().into_inner();
        book.create(order("3", "b")).unwrap();
        book.create(order("4", "a")).unwrap();
        let seen: Vec<u64> = events.take(2).map(|event| event.unwrap().sequence).collect().await;
        assert_eq!(seen, [1, 4]);

        let limited = WatchOrdersRequest { limit: 1, ..request };
        assert_eq!(sequences(&book, limited, 9).await, [1]);
        let existing = WatchOrdersRequest { existing_only: true, ..WatchOrdersRequest::default() };
        assert_eq!(sequences(&book, existing, 9).await, [1, 2, 3, 4]);
    }

    #[tokio::test]
    async fn a_watcher_that_falls_behind_is_told() {
        let book = OrderBook::new();
        let mut events =
            book.watch_orders(Request::new(WatchOrdersRequest::default())).await.unwrap().into_inner();
        for number in 0..=WATCH_BACKLOG {
            book.create(order(&number.to_string(), "c")).unwrap();
        }
        let status = events.next().await.unwrap().unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::ResourceExhausted, "1 events were missed; read faster, or watch again")
        );
    }
}
