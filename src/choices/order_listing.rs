//! Order listing: how many queries one page takes.
//!
//! # The problem
//! A page shows rows, and with each row something that stands in another table: here a customer's orders, each with
//! its item's name. Asking for the rows and then, row by row, for what belongs to it reads like the page itself, and
//! with a library that loads such things when they are first looked at it is not even written down.
//!
//! # What breaks
//! A page of n rows takes n + 1 queries, and each of them is a trip: a connection from the pool, a thread, a statement,
//! and back. Each is quick, so no graph of the database shows a slow query. The cost is in their number, and that is
//! decided by the customer and not by the code: on the developer's ten rows nothing can be seen.
//!
//! # Under load
//! A trip takes some 0.04 ms of a core here; over a network it is more, and all of it waiting. A page of 20 is 1 ms and
//! nobody complains. The largest customer has a thousand orders on a page: 1001 trips, 40 ms. Fifty such pages a
//! second are two whole cores, and none of the pool's eight connections is ever free: from then on each trip waits in
//! line, a thousand times a page, and no page is whole before its user gives up.
//!
//! # The cure
//! Ask once for all of it: a join, or one query for the rows and one for everything that belongs to them. The database
//! looks the names up where they are, which is what it is for, and the page is one trip however long it is: 3 ms for
//! those thousand. What must be watched is queries a request, not time a query.
//!
//! # Who was bitten
//! Every user of an object-relational mapper, sooner or later: it is in their manuals by name (Hibernate's "N+1 selects
//! problem"; Django's `select_related` and Rails' `includes` are there to cure it).

use super::{Choice, ChoiceOption};

/// The row of this choice.
pub static CHOICE: Choice = Choice::new(
    "order_listing",
    &["shop"],
    "one query for a page of orders, and one more for the item of each",
    "one query with a join, however long the page is",
    include_str!("order_listing.rs"),
);

/// A page: all of it from `joined`; or its rows from `rows`, and each of them made whole by `complete`.
pub async fn list<Row, Line, E, C: Future<Output = Result<Line, E>>>(
    option: ChoiceOption,
    rows: impl AsyncFnOnce() -> Result<Vec<Row>, E>,
    complete: impl Fn(Row) -> C,
    joined: impl AsyncFnOnce() -> Result<Vec<Line>, E>,
) -> Result<Vec<Line>, E> {
    match option {
        ChoiceOption::Poor => {
            let mut lines = Vec::new();
            for row in rows().await? {
                lines.push(complete(row).await?);
            }
            Ok(lines)
        }
        ChoiceOption::Sound => joined().await,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// The queries that a page of `length` rows takes, and the page.
    async fn queries(option: ChoiceOption, length: usize) -> (usize, Vec<(usize, usize)>) {
        let asked = Cell::new(0);
        let ask = || asked.set(asked.get() + 1);
        let line = |row| (row, row * 10);
        let rows = async || {
            ask();
            Ok::<_, ()>((0..length).collect())
        };
        let complete = async |row| {
            ask();
            Ok(line(row))
        };
        let joined = async || {
            ask();
            Ok((0..length).map(line).collect())
        };
        let page = list(option, rows, complete, joined);
        let page = page.await.unwrap();
        (asked.get(), page)
    }

    #[tokio::test]
    async fn poor_asks_once_more_for_each_row() {
        for length in [0, 1, 20, 1000] {
            assert_eq!(queries(ChoiceOption::Poor, length).await.0, length + 1);
        }
    }

    #[tokio::test]
    async fn sound_asks_once() {
        for length in [0, 1, 20, 1000] {
            assert_eq!(queries(ChoiceOption::Sound, length).await.0, 1);
        }
    }

    #[tokio::test]
    async fn both_show_the_same_page() {
        let [poor, sound] = [ChoiceOption::Poor, ChoiceOption::Sound];
        assert_eq!(queries(poor, 3).await.1, queries(sound, 3).await.1);
    }
}
