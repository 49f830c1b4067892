//! Search by a part of an item's name: one pass over all names, so the cost grows with the catalogue and
//! not with what was asked.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::Shop;
use crate::http::Problem;
use crate::http::extract::ValidQuery;
use crate::store::{Operation, Store};

/// Characters of a query, and items in an answer, at most.
const QUERY_CHARS_MAX: usize = 64;
const HITS_MAX: usize = 20;

/// The names of all items; items are not renamed while the shop runs.
#[derive(Debug)]
pub(super) struct Index {
    names: Vec<(i64, String)>,
}

impl Index {
    pub(super) async fn load(store: &Store) -> Result<Self, String> {
        let read = store.read(Operation::new("SELECT", "items"), |connection| {
            connection
                .prepare("SELECT id, lower(name) FROM items ORDER BY id")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<Vec<_>, _>>()
        });
        Ok(Self {
            names: read.await.map_err(|error| error.to_string())?,
        })
    }

    fn find(&self, part: &str) -> Vec<Hit> {
        let matching = self.names.iter().filter(|(_, name)| name.contains(part));
        matching
            .take(HITS_MAX)
            .map(|(id, name)| Hit {
                id: *id,
                name: name.clone(),
            })
            .collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    q: String,
}

#[derive(Debug, Serialize)]
struct Hit {
    id: i64,
    name: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Hits {
    items: Vec<Hit>,
}

/// `GET /search?q=`
pub(super) async fn search(
    State(shop): State<Arc<Shop>>,
    ValidQuery(query): ValidQuery<Query>,
) -> Result<Json<Hits>, Problem> {
    let characters = query.q.chars().count();
    if characters == 0 || characters > QUERY_CHARS_MAX {
        return Err(Problem::invalid(
            "q",
            query.q,
            format!("1 to {QUERY_CHARS_MAX} characters"),
        ));
    }
    Ok(Json(Hits {
        items: shop.search.find(&query.q.to_lowercase()),
    }))
}
