//! The ledger, page by page: for whoever holds it against books of their own.
//!
//! A mistake in the books is found only by comparing them, and that must not slow down the charges that are made
//! meanwhile. So this reads through a connection of its own that cannot write, a bounded page at a time, along the
//! order of the keys: the cost of a page does not grow with the ledger.

use axum::Json;
use axum::extract::State;
use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::Payments;
use super::ledger::Verdict;
use crate::http::Problem;
use crate::http::extract::ValidQuery;
use crate::store::{self, Reader};

/// Entries on a page, at most and unless asked otherwise.
const PAGE_MAX: i64 = 1_000;
const PAGE: i64 = 100;

/// No text of a key sorts behind this one: it is the last character that there is.
const LAST: &str = "\u{10FFFF}";

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// What the keys begin with; several shops may share a ledger.
    #[serde(default)]
    prefix: String,
    /// The last key of the page before.
    #[serde(default)]
    after: String,
    limit: Option<i64>,
}

/// A page of the ledger, in the order of the keys.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    charges: Vec<Entry>,
    /// What to ask for next; absent on the last page.
    after: Option<String>,
}

/// A row of the ledger.
#[derive(Debug, PartialEq, Serialize)]
struct Entry {
    key: String,
    /// Absent where the key was voided before anybody asked for the charge.
    order_id: Option<i64>,
    amount_cents: i64,
    status: Verdict,
}

/// `GET /charges?prefix=&after=&limit=`
pub(super) async fn list(
    State(payments): State<Payments>,
    ValidQuery(wanted): ValidQuery<Wanted>,
) -> Result<Json<Page>, Problem> {
    let limit = wanted.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        let allowed = format!("a number from 1 to {PAGE_MAX}");
        return Err(Problem::invalid("limit", limit, allowed));
    }
    let page = page(&payments.reader, wanted, limit).await;
    page.map(Json).map_err(|error| Problem::internal(&error))
}

async fn page(reader: &Reader, wanted: Wanted, limit: i64) -> Result<Page, store::Error> {
    let Wanted { prefix, after, .. } = wanted;
    let read = reader.read(move |connection| {
        let mut statement = connection.prepare_cached(
            "SELECT key, order_id, amount_cents, verdict FROM charges
             WHERE key >= ?1 AND key < ?1 || ?2 AND key > ?3 ORDER BY key LIMIT ?4",
        )?;
        let rows = statement.query_map(params![prefix, LAST, after, limit], |row| {
            Ok(Entry {
                key: row.get(0)?,
                order_id: row.get(1)?,
                amount_cents: row.get(2)?,
                status: Verdict::from_name(&row.get::<_, String>(3)?),
            })
        })?;
        rows.collect::<Result<Vec<_>, _>>()
    });
    let charges = read.await?;
    let full = i64::try_from(charges.len()).is_ok_and(|count| count == limit);
    let after = charges.last().filter(|_| full);
    Ok(Page {
        after: after.map(|entry| entry.key.clone()),
        charges,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payments::ledger::{Charge, Ledger};

    #[tokio::test]
    async fn pages_hold_every_charge_of_one_shop_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        let ledger = Ledger::open(&path).unwrap();
        for order_id in 1..=25 {
            for shop in ["a-", "a", "b-"] {
                let key = format!("{shop}{order_id}");
                let charge = Charge {
                    key,
                    order_id,
                    amount_cents: 100,
                };
                ledger.decide(charge, ledger.place().await).await.unwrap();
            }
        }
        ledger.void("a-26".into()).await.unwrap();
        let reader = Reader::open(&path).unwrap();
        let (mut after, mut found, mut pages) = (String::new(), Vec::new(), 0);
        loop {
            let wanted = Wanted {
                prefix: "a-".into(),
                after,
                limit: None,
            };
            let page = page(&reader, wanted, 10).await.unwrap();
            pages += 1;
            assert!(page.charges.len() <= 10);
            found.extend(page.charges);
            let Some(next) = page.after else { break };
            after = next;
        }
        assert_eq!((pages, found.len()), (3, 26));
        let (charged, voided): (Vec<_>, Vec<_>) = found
            .into_iter()
            .partition(|entry| entry.status == Verdict::Charged);
        let mut orders: Vec<_> = charged.iter().filter_map(|entry| entry.order_id).collect();
        orders.sort_unstable();
        assert_eq!(orders, (1..=25).collect::<Vec<_>>());
        assert!(charged.iter().all(|entry| entry.key.starts_with("a-")));
        assert_eq!((voided[0].key.as_str(), voided[0].order_id), ("a-26", None));
    }
}
