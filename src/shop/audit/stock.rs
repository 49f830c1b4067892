//! Sold more often than it existed: what is left of an item and what stands in orders, against all that ever came in.
//!
//! The stock alone would not tell. When two orders read the same number and both write it less one, it stays above
//! zero and looks right; only the sum does not. One statement reads both sides of the sum, so it never sees an order
//! without the stock that it took. An order that is declined or cancelled gives its stock back in the transaction
//! that says so.

use std::time::Instant;

use rusqlite::Connection;

use super::{Found, Pages, rest};
use crate::store::Reader;

/// Items that one statement looks at. What it costs grows with the orders of these items.
const PAGE: i64 = 500;

/// An item, and how many pieces of it there are too many.
type Surplus = (i64, i64);

/// Goes once through all items.
pub(super) async fn turn(reader: &Reader, pages: &Pages) -> Result<Found, String> {
    let (mut found, mut after) = (Found::default(), 0);
    loop {
        let begun = Instant::now();
        let page = reader.read(move |connection| page(connection, after)).await;
        let page = page.map_err(|error| error.to_string())?;
        pages.read();
        let Some((last, _)) = page.last() else {
            return Ok(found);
        };
        after = *last;
        for (item, surplus) in page.iter().filter(|(_, surplus)| *surplus > 0) {
            found.add(|| format!("item {item}, {surplus} too many"));
        }
        rest(begun).await;
    }
}

fn page(connection: &Connection, after: i64) -> rusqlite::Result<Vec<Surplus>> {
    connection
        .prepare_cached(
            "SELECT id, stock - received + (
                 SELECT coalesce(sum(quantity), 0) FROM orders
                 WHERE item_id = items.id AND status IN ('charging', 'paid')
             ) FROM items WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?
        .query_map([after, PAGE], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}
