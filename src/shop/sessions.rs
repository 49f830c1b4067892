//! Logins: the password check is real work for a processor.
//!
//! It is the one route whose cost is computation, so where it runs decides whether the others get their turn.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{Shop, now_ms};
use crate::choices::password_hashing::{self, Busy};
use crate::http::Problem;
use crate::http::extract::JsonBody;
use crate::store::Operation;
use crate::store::model::hash_password;
use crate::telemetry::catalog;

/// How long a session lasts.
const SESSION_MS: i64 = 3_600_000;

/// The longest password that is hashed.
const PASSWORD_BYTES_MAX: usize = 128;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    customer_id: i64,
    password: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Session {
    customer_id: i64,
    token: String,
}

/// `POST /sessions`
pub(super) async fn create(
    State(shop): State<Arc<Shop>>,
    body: JsonBody<Login>,
) -> Result<(StatusCode, Json<Session>), Problem> {
    let Login {
        customer_id,
        password,
    } = body.value;
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(Problem::invalid(
            "password",
            "",
            format!("at most {PASSWORD_BYTES_MAX} bytes"),
        ));
    }
    if !matches(&shop, customer_id, password).await? {
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "The customer or the password is wrong.",
        ));
    }
    let token = random_token().map_err(|error| Problem::internal(&error))?;
    write(&shop, customer_id, token.clone()).await?;
    Ok((StatusCode::CREATED, Json(Session { customer_id, token })))
}

/// Whether there is such a customer, with this password.
async fn matches(shop: &Shop, customer_id: i64, password: String) -> Result<bool, Problem> {
    let read = shop
        .store
        .read(Operation::new("SELECT", "customers"), move |connection| {
            let query = "SELECT password_salt, password_hash FROM customers WHERE id = ?1";
            let columns = |row: &rusqlite::Row<'_>| {
                Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?))
            };
            connection
                .prepare_cached(query)?
                .query_row([customer_id], columns)
                .optional()
        });
    let Some((salt, hash)) = read.await? else {
        return Ok(false);
    };
    let check = move || hash_password(password.as_bytes(), &salt) == hash;
    let option = password_hashing::CHOICE.option();
    let waited = |seconds| shop.hashing_waits.record(seconds);
    password_hashing::run(option, &shop.hashing, check, waited)
        .await
        .map_err(|Busy| {
            catalog::firedrill_requests_shed_total("queue_full").increment(1);
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many people are logging in.",
            )
            .retry_after(1)
            .error_type("shed")
        })
}

/// Writes a session down, and removes those that have ended.
async fn write(shop: &Shop, customer_id: i64, token: String) -> Result<(), Problem> {
    let write = shop
        .store
        .write(Operation::new("INSERT", "sessions"), move |transaction| {
            let now = now_ms();
            transaction
                .prepare_cached("DELETE FROM sessions WHERE expires_at_ms < ?1")?
                .execute([now])?;
            transaction
                .prepare_cached("INSERT INTO sessions VALUES (?1, ?2, ?3)")?
                .execute(params![token, customer_id, now + SESSION_MS])
        });
    write.await?;
    Ok(())
}

/// Nobody can guess it: it comes from the kernel, not from a generator that simulations use.
fn random_token() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
