//! The shop: listens for requests, applies rules, reads and writes data, answers.
//!
//! Simple on purpose, so that what goes wrong in it is never hidden by what it does.
//!
//! - `catalogue`, `popular`, `customers`, `search`, `sessions`: the reads, and the password check
//! - [`orders`]: the one write that involves money
//! - `charge`: the outgoing call to payments, with its replicas, retries and time limits
//! - `outbox`, `reconcile`: what happens to an order after its answer, or without one
//! - `audit`: whether all of these kept their promises

mod audit;
mod catalogue;
mod charge;
mod customers;
pub mod orders;
mod outbox;
mod popular;
mod reconcile;
mod search;
mod sessions;

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode};
use rusqlite::Connection;
use tokio_util::task::TaskTracker;

use crate::choices::admission::{self, Bound};
use crate::choices::label_policy;
use crate::choices::password_hashing::HashingPool;
use crate::control::lifecycle::{self, Context, Extras, Running};
use crate::http::{Problem, Routes};
use crate::store::{self, Reader, Seed, Store};
use crate::telemetry::catalog::{self, Histogram};

/// Requests that the shop works on at the same time.
const REQUESTS_MAX: usize = 512;

/// Orders under way for each replica of payments. Its bank does 50 charges a second and an attempt waits half a second,
/// so the answers to more than 25 would come too late.
const ORDERS_MAX: usize = 20;

/// Password checks that may wait for a core.
const HASHING_LINE: usize = 32;

/// How to run a shop.
#[derive(Debug, Clone)]
pub struct Config {
    /// What every role is told.
    pub role: lifecycle::Config,
    /// Where payments listens: one URL a replica.
    pub payments: Vec<String>,
    /// What a new database is filled with.
    pub seed: Seed,
}

/// What the handlers share. They hold it by one pointer: each request copies it several times.
#[derive(Debug)]
pub(crate) struct Shop {
    pub(crate) store: Store,
    /// Beside the pool, for the audit.
    reader: Reader,
    catalogue: catalogue::Catalogue,
    popular: popular::Popular,
    search: search::Index,
    payments: charge::Payments,
    orders: Arc<orders::Orders>,
    orders_bound: Arc<Bound>,
    hashing: HashingPool,
    hashing_waits: Histogram,
    /// Orders under way that outlive their request.
    tasks: TaskTracker,
}

/// Runs a shop until it is told to stop.
pub fn run(config: Config) -> Result<(), String> {
    let (payments, seed) = (config.payments, config.seed);
    lifecycle::run(
        &config.role,
        Extras::default(),
        async move |context: Context| {
            let shop = Shop::open(&context, &payments, seed).await?;
            let stop = || context.stop.clone();
            let outbox = outbox::run(shop.store.clone(), outbox::Meters::new(), stop());
            let reconcile = reconcile::run(Arc::clone(&shop), reconcile::Unsettled::new(), stop());
            let audit = audit::run(Arc::clone(&shop), audit::Audits::new(), stop());
            let workers = [
                tokio::spawn(outbox),
                tokio::spawn(reconcile),
                tokio::spawn(audit),
            ];
            let router = routes(Arc::clone(&shop));
            let finish = async move || {
                shop.tasks.close();
                shop.tasks.wait().await;
                for worker in workers {
                    // A worker that panicked was counted and logged; there is nothing left to stop.
                    drop(worker.await);
                }
            };
            Ok(Running { router, finish })
        },
    )
}

impl Shop {
    async fn open(context: &Context, payments: &[String], seed: Seed) -> Result<Arc<Self>, String> {
        let path = context.dir.join("shop.db");
        let open = move || Ok::<_, String>((Store::open(&path, seed)?, Reader::open(&path)?));
        let (store, reader) = tokio::task::spawn_blocking(open)
            .await
            .map_err(|_| "the database could not be opened".to_owned())??;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let shop = Arc::new(Self {
            search: search::Index::load(&store).await?,
            catalogue: catalogue::Catalogue::new(store.clone()),
            popular: popular::Popular::new(store.clone()),
            payments: charge::Payments::new(payments, store.id())?,
            orders: Arc::new(orders::Orders::new()),
            orders_bound: Bound::new(ORDERS_MAX * payments.len()),
            hashing: HashingPool::new(cores, HASHING_LINE),
            hashing_waits: catalog::firedrill_queue_wait_seconds("password_hashing"),
            tasks: TaskTracker::new(),
            reader,
            store,
        });
        catalog::firedrill_requests_shed_total("queue_full").absolute(0);
        let observed = Arc::clone(&shop);
        context.telemetry.collect(move || observed.collect());
        Ok(shop)
    }

    /// Sets the gauges that are cheaper to ask than to count.
    fn collect(&self) {
        self.store.collect();
        self.catalogue.collect();
        self.popular.collect();
        self.hashing.collect(|queue, depth, capacity| {
            catalog::firedrill_queue_depth(queue).set(depth as f64);
            catalog::firedrill_queue_capacity(queue).set(capacity as f64);
        });
        let bound = &self.orders_bound;
        let may_be = bound.max(admission::CHOICE.option());
        catalog::firedrill_queue_depth("orders").set(bound.under_way() as f64);
        catalog::firedrill_queue_capacity("orders")
            .set(may_be.map_or(f64::INFINITY, |max| max as f64));
        catalog::firedrill_orders_open().set(self.orders.open() as f64);
    }
}

fn routes(shop: Arc<Shop>) -> Router {
    let list = [(200, ""), POOL_TIMEOUT];
    let show = [(200, ""), (404, ""), POOL_TIMEOUT];
    let login = [(201, ""), (401, ""), (500, ""), POOL_TIMEOUT];
    Routes::new(REQUESTS_MAX)
        .on(Method::GET, "/items", &list, catalogue::list)
        .on(Method::GET, "/items/popular", &list, popular::list)
        .on(Method::GET, "/items/{id}", &show, catalogue::show)
        .on(Method::POST, "/orders", &orders::PLACED, orders::place)
        .on(Method::GET, "/orders/{id}", &show, orders::show)
        .on(
            Method::GET,
            "/customers/{id}/orders",
            &show,
            customers::orders,
        )
        .on(Method::POST, "/sessions", &login, sessions::create)
        .on(Method::GET, "/search", &[200, 422], search::search)
        .unmatched(|path| label_policy::label(label_policy::CHOICE.option(), None, path))
        .build(shop)
}

/// The answer where no connection became free.
const POOL_TIMEOUT: (u16, &str) = (503, "pool_timeout");

/// Now, in milliseconds since the epoch.
fn now_ms() -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// Whether a row with this id exists in a table of ours.
fn exists(connection: &Connection, table: &'static str, id: i64) -> rusqlite::Result<bool> {
    let query = format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE id = ?1)");
    connection
        .prepare_cached(&query)?
        .query_row([id], |row| row.get(0))
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        (&error).into()
    }
}

/// What several requests waited for failed for all of them.
impl From<Arc<store::Error>> for Problem {
    fn from(error: Arc<store::Error>) -> Self {
        (&*error).into()
    }
}

impl From<&store::Error> for Problem {
    fn from(error: &store::Error) -> Self {
        match error {
            store::Error::PoolTimeout => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "The shop is too busy to look it up.",
            )
            .retry_after(1)
            .error_type(POOL_TIMEOUT.1),
            other => Self::internal(other),
        }
    }
}
