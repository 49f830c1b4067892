//! Items, read through a cache.
//!
//! One item is asked for again and again while its row hardly changes. Look-ups of the same item that miss
//! at the same time share one query.

use std::sync::Arc;
use std::time::Duration;

use crate::telemetry::catalog::Counter;
use axum::Json;
use axum::extract::State;
use moka::future::Cache;
use rusqlite::OptionalExtension;
use serde::{Deserialize, Serialize};

use super::Shop;
use crate::http::Problem;
use crate::http::extract::{PathId, ValidQuery};
use crate::store::model::Item;
use crate::store::{self, Operation, Store};
use crate::telemetry::catalog;

/// Items that the cache holds, and for how long: the stock that it shows may be that old.
const ENTRIES_MAX: u64 = 2_000;
const TTL: Duration = Duration::from_secs(5);

/// Items on a page, at most and unless asked otherwise.
const PAGE_MAX: i64 = 100;
const PAGE: i64 = 20;

const SELECT: Operation = Operation::new("SELECT", "items");

/// The catalogue. Clones share their cache.
#[derive(Debug, Clone)]
pub(super) struct Catalogue {
    store: Store,
    cache: Cache<i64, Option<Arc<Item>>>,
    hits: Counter,
    misses: Counter,
}

impl Catalogue {
    pub(super) fn new(store: Store) -> Self {
        let hits = catalog::firedrill_cache_requests_total("items", "hit");
        let misses = catalog::firedrill_cache_requests_total("items", "miss");
        hits.absolute(0);
        misses.absolute(0);
        let cache = Cache::builder()
            .max_capacity(ENTRIES_MAX)
            .time_to_live(TTL)
            .build();
        Self {
            store,
            cache,
            hits,
            misses,
        }
    }

    pub(super) fn collect(&self) {
        catalog::firedrill_cache_entries("items").set(self.cache.entry_count() as f64);
    }

    /// The item, if there is one. That there is none is kept as well: unknown ids must not reach the database
    /// each time.
    async fn item(&self, id: i64) -> Result<Option<Arc<Item>>, Arc<store::Error>> {
        if let Some(kept) = self.cache.get(&id).await {
            self.hits.increment(1);
            return Ok(kept);
        }
        // In a box: what asks the database is large, and would make every request's future so.
        Box::pin(self.load(id)).await
    }

    /// Whoever comes while another loads the same item waits for that one.
    async fn load(&self, id: i64) -> Result<Option<Arc<Item>>, Arc<store::Error>> {
        let load = async {
            let found = self.store.read(SELECT, move |connection| {
                let query = format!("SELECT {} FROM items WHERE id = ?1", Item::COLUMNS);
                connection
                    .prepare_cached(&query)?
                    .query_row([id], Item::from_row)
                    .optional()
            });
            Ok::<_, store::Error>(found.await?.map(Arc::new))
        };
        let entry = self.cache.entry(id).or_try_insert_with(load).await?;
        if entry.is_fresh() {
            self.misses.increment(1);
        } else {
            self.hits.increment(1);
        }
        Ok(entry.into_value())
    }
}

/// `GET /items/{id}`
pub(super) async fn show(
    State(shop): State<Arc<Shop>>,
    PathId(id): PathId<i64>,
) -> Result<Json<Item>, Problem> {
    match shop.catalogue.item(id).await {
        Ok(Some(item)) => Ok(Json(Item::clone(&item))),
        Ok(None) => Err(Problem::not_found("item", "id", id)),
        Err(error) => Err(error.into()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    after: Option<i64>,
    limit: Option<i64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Items {
    items: Vec<Item>,
    /// What to ask for next; absent on the last page.
    after: Option<i64>,
}

/// `GET /items?after=&limit=`
pub(super) async fn list(
    State(shop): State<Arc<Shop>>,
    ValidQuery(page): ValidQuery<Page>,
) -> Result<Json<Items>, Problem> {
    let (after, limit) = (page.after.unwrap_or(0), limit(page.limit)?);
    let items = shop.store.read(SELECT, move |connection| {
        let query = format!(
            "SELECT {} FROM items WHERE id > ?1 ORDER BY id LIMIT ?2",
            Item::COLUMNS
        );
        connection
            .prepare_cached(&query)?
            .query_map([after, limit], Item::from_row)?
            .collect::<Result<Vec<_>, _>>()
    });
    let items = items.await?;
    let full = i64::try_from(items.len()).is_ok_and(|count| count == limit);
    let after = items.last().filter(|_| full).map(|item| item.id);
    Ok(Json(Items { items, after }))
}

/// The size of a page that was asked for, if it is allowed.
fn limit(asked: Option<i64>) -> Result<i64, Problem> {
    match asked.unwrap_or(PAGE) {
        limit @ 1..=PAGE_MAX => Ok(limit),
        other => Err(Problem::invalid(
            "limit",
            other,
            format!("a number from 1 to {PAGE_MAX}"),
        )),
    }
}
