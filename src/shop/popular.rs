//! What sells best: adding it up is work for a processor, so it is done now and then and kept meanwhile.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use rusqlite::{Connection, Row};
use serde::Serialize;

use super::Shop;
use crate::choices::cache_fill::{self, Filled, Found};
use crate::http::Problem;
use crate::store::{self, Line, Operation, Store};
use crate::telemetry::catalog::{self, Counter, Histogram};
use crate::telemetry::wait::Wait;

const CACHE: &str = "popular";

/// How old the list may be, and how much older if nobody asked for a while.
const TTL: Duration = Duration::from_secs(2);
const STALE_MAX: Duration = Duration::from_secs(30);

/// The latest orders count; with all of them the query would become slower as long as the shop sells.
const ORDERS: i64 = 100_000;
const ITEMS: i64 = 20;

const SELECT: Operation = Operation::new("SELECT", "orders");

/// An item that sells well.
#[derive(Debug, Serialize)]
struct Bestseller {
    id: i64,
    name: String,
    price_cents: i64,
    pieces: i64,
    revenue_cents: i64,
}

#[derive(Debug, Serialize)]
struct Bestsellers {
    items: Vec<Bestseller>,
}

/// The list, as it was lately.
#[derive(Debug)]
pub(super) struct Popular {
    store: Store,
    cache: Filled<(), Arc<Bestsellers>>,
    hits: Counter,
    stale: Counter,
    misses: Counter,
    loads: Arc<Loads>,
}

/// Those under way, and how long each took.
#[derive(Debug)]
struct Loads {
    active: Line,
    durations: Histogram,
}

impl Popular {
    pub(super) fn new(store: Store) -> Self {
        let [hits, stale, misses] = ["hit", "stale", "miss"].map(|result| {
            let counter = catalog::firedrill_cache_requests_total(CACHE, result);
            counter.absolute(0);
            counter
        });
        catalog::firedrill_cache_ttl_seconds(CACHE).set(TTL.as_secs_f64());
        let loads = Loads {
            active: Line::default(),
            durations: catalog::firedrill_cache_load_duration_seconds(CACHE),
        };
        Self {
            store,
            cache: Filled::new(1, TTL, STALE_MAX),
            hits,
            stale,
            misses,
            loads: Arc::new(loads),
        }
    }

    pub(super) fn collect(&self) {
        catalog::firedrill_cache_entries(CACHE).set(self.cache.entries() as f64);
        catalog::firedrill_cache_active_loads(CACHE).set(self.loads.active.len() as f64);
    }

    async fn list(&self) -> Result<Arc<Bestsellers>, Arc<store::Error>> {
        let (store, loads) = (self.store.clone(), Arc::clone(&self.loads));
        let load = async move || {
            let _active = loads.active.enter();
            let _told = Wait::begin().recorded_in(&loads.durations);
            let items = store.read(SELECT, bestsellers).await?;
            Ok(Arc::new(Bestsellers { items }))
        };
        let told = |found| match found {
            Found::Fresh => self.hits.increment(1),
            Found::Stale => self.stale.increment(1),
            Found::Nothing => self.misses.increment(1),
        };
        let option = cache_fill::CHOICE.option();
        // In a box: what asks the database is large, and would make every request's future so.
        Box::pin(cache_fill::get(option, &self.cache, (), load, told)).await
    }
}

/// Those of the latest orders that brought in the most.
fn bestsellers(connection: &Connection) -> rusqlite::Result<Vec<Bestseller>> {
    let from_row = |row: &Row<'_>| {
        Ok(Bestseller {
            id: row.get(0)?,
            name: row.get(1)?,
            price_cents: row.get(2)?,
            pieces: row.get(3)?,
            revenue_cents: row.get(4)?,
        })
    };
    connection
        .prepare_cached(
            "SELECT i.id, i.name, i.price_cents, sum(o.quantity), sum(o.amount_cents) AS revenue
             FROM orders o JOIN items i ON i.id = o.item_id
             WHERE o.id > (SELECT max(id) FROM orders) - ?1 AND o.status = 'paid'
             GROUP BY i.id ORDER BY revenue DESC, i.id LIMIT ?2",
        )?
        .query_map([ORDERS, ITEMS], from_row)?
        .collect()
}

/// `GET /items/popular`
pub(super) async fn list(State(shop): State<Arc<Shop>>) -> Result<Response, Problem> {
    Ok(Json(&*shop.popular.list().await?).into_response())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::store::Seed;

    const SEED: Seed = Seed {
        items: 50,
        customers: 1,
        orders: 200,
    };

    #[tokio::test]
    async fn it_is_what_paid_orders_add_up_to_the_most_first() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("shop.db"), SEED).unwrap();
        let unpaid = "UPDATE orders SET status = 'declined' WHERE id % 3 = 0";
        let update = Operation::new("UPDATE", "orders");
        let change = store.write(update, |transaction| transaction.execute(unpaid, []));
        change.await.unwrap();
        let read = store.read(SELECT, |connection| {
            let query = "SELECT item_id, quantity, amount_cents FROM orders WHERE id % 3 <> 0";
            let mut sold = BTreeMap::<i64, (i64, i64)>::new();
            let mut statement = connection.prepare(query)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (pieces, cents) = sold.entry(row.get(0)?).or_default();
                *pieces += row.get::<_, i64>(1)?;
                *cents += row.get::<_, i64>(2)?;
            }
            Ok(sold)
        });
        let mut expected: Vec<_> = read.await.unwrap().into_iter().collect();
        expected.sort_by_key(|(id, (_, cents))| (-cents, *id));
        expected.truncate(20);
        let popular = Popular::new(store);
        let list = popular.list().await.unwrap();
        let found = list.items.iter();
        let found = found.map(|item| (item.id, (item.pieces, item.revenue_cents)));
        assert_eq!(found.collect::<Vec<_>>(), expected);
        let again = popular.list().await.unwrap();
        assert!(Arc::ptr_eq(&list, &again), "it is kept");
    }
}
