//! Charged twice, or charged for nothing: the ledger against the orders.
//!
//! Nobody can stop the world to compare two databases, and no grace period is needed either: the order in which they
//! are read decides. An order is on disk before its charge is asked for, and stays open until it is known what came
//! of it. So whoever first reads a charge and then the order finds the order: paid, or still open and being settled.
//! Anything else is a charge that nobody will ever answer for.

use std::collections::HashMap;
use std::time::Instant;

use rusqlite::{Connection, OptionalExtension};

use super::{Found, Pages, rest};
use crate::shop::Shop;

/// Goes once through all charges of this shop: those beyond the first of their order, and those without one.
pub(super) async fn turn(shop: &Shop, pages: &Pages) -> Result<(Found, Found), String> {
    let (mut twice, mut orderless) = (Found::default(), Found::default());
    let (mut seen, mut after) = (Seen::default(), String::new());
    loop {
        let begun = Instant::now();
        let page = shop.payments.ledger_page(&after).await?;
        let charged = page
            .charges
            .into_iter()
            .filter(|entry| entry.status == "charged");
        let charged: Vec<_> = charged.map(|entry| (entry.key, entry.order_id)).collect();
        let orders: Vec<_> = charged.iter().map(|(_, order)| *order).collect();
        let read = shop
            .reader
            .read(move |connection| statuses(connection, &orders));
        let statuses = read.await.map_err(|error| error.to_string())?;
        pages.read();
        for ((key, order), status) in charged.iter().zip(statuses) {
            let order = order.map_or_else(|| "no order".to_owned(), |id| format!("order {id}"));
            let Some((id, status)) = status else {
                orderless.add(|| format!("charge {key}, {order} is not there"));
                continue;
            };
            if status != "paid" && status != "charging" {
                orderless.add(|| format!("charge {key}, {order} is {status}"));
            }
            if !seen.insert(id) {
                twice.add(|| format!("charge {key}, {order}"));
            }
        }
        let Some(next) = page.after else {
            return Ok((twice, orderless));
        };
        after = next;
        rest(begun).await;
    }
}

/// The id and status of each of these orders that there is.
fn statuses(
    connection: &Connection,
    orders: &[Option<i64>],
) -> rusqlite::Result<Vec<Option<(i64, String)>>> {
    let mut statement = connection.prepare_cached("SELECT id, status FROM orders WHERE id = ?1")?;
    let rows = orders.iter().map(|order| {
        statement
            .query_row([order], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
    });
    rows.collect()
}

/// The orders of which a charge was seen, a bit each: their numbers are dense, and a million of them are 16,000 words.
#[derive(Debug, Default)]
struct Seen {
    words: HashMap<i64, u64>,
}

impl Seen {
    /// Whether it is the first time.
    fn insert(&mut self, id: i64) -> bool {
        let word = self.words.entry(id >> 6).or_default();
        let mask = 1 << (id & 63);
        let first = *word & mask == 0;
        *word |= mask;
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_order_is_seen_once() {
        let mut seen = Seen::default();
        let orders = [0, 1, 63, 64, 4095, 4096, 1 << 40, i64::MAX, -1];
        assert!(orders.iter().all(|id| seen.insert(*id)));
        assert!(orders.iter().all(|id| !seen.insert(*id)));
        assert_eq!(seen.words.len(), 7);
    }
}
