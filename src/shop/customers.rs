//! The orders of a customer, each with its item's name.
//!
//! One query with a join: a query for each line would make the cost of a page the number of its lines.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::{Shop, catalogue, exists};
use crate::http::Problem;
use crate::http::extract::{PathId, ValidQuery};
use crate::store::Operation;
use crate::store::model::Order;

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

/// `GET /customers/{id}/orders?before=&limit=`, the newest first, in one query.
pub(super) async fn orders(
    State(shop): State<Arc<Shop>>,
    PathId(id): PathId<i64>,
    ValidQuery(page): ValidQuery<Page>,
) -> Result<Json<Orders>, Problem> {
    let (before, limit) = (
        page.before.unwrap_or(i64::MAX),
        catalogue::limit(page.limit)?,
    );
    let read = shop
        .store
        .read(Operation::new("SELECT", "orders"), move |connection| {
            let mut statement = connection.prepare_cached(
            "SELECT o.id, o.customer_id, o.item_id, o.quantity, o.amount_cents, o.status, i.name
             FROM orders o JOIN items i ON i.id = o.item_id
             WHERE o.customer_id = ?1 AND o.id < ?2 ORDER BY o.id DESC LIMIT ?3",
        )?;
            let lines = statement
                .query_map([id, before, limit], |row| {
                    Ok(OrderLine {
                        order: Order::from_row(row)?,
                        item_name: row.get(6)?,
                    })
                })?
                .collect::<Result<Vec<_>, _>>()?;
            let known = !lines.is_empty() || exists(connection, "customers", id)?;
            Ok(known.then_some(lines))
        });
    match read.await? {
        Some(orders) => Ok(Json(Orders { orders })),
        None => Err(Problem::not_found("customer", "id", id)),
    }
}
