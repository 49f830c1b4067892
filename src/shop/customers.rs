//! The orders of a customer, each with its item's name.
//!
//! Most customers have some; the largest has thousands. `order_listing` says what a page of them costs.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use rusqlite::{Connection, Row};
use serde::{Deserialize, Serialize};

use super::{Shop, exists};
use crate::choices::order_listing;
use crate::http::Problem;
use crate::http::extract::{PathId, ValidQuery};
use crate::store::Operation;
use crate::store::model::Order;

/// Orders on a page, at most and unless asked otherwise.
const PAGE_MAX: i64 = 1_000;
const PAGE: i64 = 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    before: Option<i64>,
    limit: Option<i64>,
}

#[derive(Debug, Serialize)]
struct OrderLine {
    #[serde(flatten)]
    order: Order,
    item_name: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Orders {
    orders: Vec<OrderLine>,
}

/// `GET /customers/{id}/orders?before=&limit=`, the newest first.
pub(super) async fn orders(
    State(shop): State<Arc<Shop>>,
    PathId(id): PathId<i64>,
    ValidQuery(page): ValidQuery<Page>,
) -> Result<Json<Orders>, Problem> {
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        let allowed = format!("a number from 1 to {PAGE_MAX}");
        return Err(Problem::invalid("limit", limit, allowed));
    }
    let part = Part {
        customer: id,
        before: page.before.unwrap_or(i64::MAX),
        limit,
    };
    let shop = &*shop;
    let option = order_listing::CHOICE.option();
    let rows = async move || part.read(shop, ROWS, Order::from_row).await;
    let complete = |order: Order| async move {
        let item_name = item_name(shop, order.item_id).await?;
        Ok(OrderLine { order, item_name })
    };
    let joined = async move || part.read(shop, JOINED, OrderLine::from_row).await;
    let orders = order_listing::list(option, rows, complete, joined).await?;
    Ok(Json(Orders { orders }))
}

/// Which of whose orders are on the page.
#[derive(Debug, Clone, Copy)]
struct Part {
    customer: i64,
    before: i64,
    limit: i64,
}

const ROWS: &str = "
    SELECT id, customer_id, item_id, quantity, amount_cents, status FROM orders
    WHERE customer_id = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3";

const JOINED: &str = "
    SELECT o.id, o.customer_id, o.item_id, o.quantity, o.amount_cents, o.status, i.name
    FROM orders o JOIN items i ON i.id = o.item_id
    WHERE o.customer_id = ?1 AND o.id < ?2 ORDER BY o.id DESC LIMIT ?3";

impl Part {
    /// What `query` brings, if there is such a customer.
    async fn read<T: Send + 'static>(
        self,
        shop: &Shop,
        query: &'static str,
        of_row: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Problem> {
        let Self {
            customer,
            before,
            limit,
        } = self;
        let read = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(query)?;
            let found = statement
                .query_map([customer, before, limit], of_row)?
                .collect::<Result<Vec<_>, _>>()?;
            let known = !found.is_empty() || exists(connection, "customers", customer)?;
            Ok(known.then_some(found))
        };
        let found = shop.store.read(Operation::new("SELECT", "orders"), read);
        found
            .await?
            .ok_or_else(|| Problem::not_found("customer", "id", customer))
    }
}

impl OrderLine {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            order: Order::from_row(row)?,
            item_name: row.get(6)?,
        })
    }
}

/// The name of one item: no order is without one.
async fn item_name(shop: &Shop, id: i64) -> Result<String, Problem> {
    let read = move |connection: &Connection| {
        connection
            .prepare_cached("SELECT name FROM items WHERE id = ?1")?
            .query_row([id], |row| row.get(0))
    };
    let read = shop.store.read(Operation::new("SELECT", "items"), read);
    Ok(read.await?)
}
