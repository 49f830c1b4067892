//! What one user does: one request, with the patience of a person.
//!
//! Users prefer the same few items and give up after two seconds. Without the first a cache would be useless, and
//! without the second an outage would only be a long queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, StatusCode, request};
use http_body_util::Full;
use serde_json::json;
use tokio::time::Instant;
use tracing::{Span, field};

use super::load::{Journey, Load, Sight};
use crate::http::{Client, client, deadline};
use crate::store::{LARGEST_CUSTOMER, SEED_PASSWORD};

/// After how long a user gives up, from the intended start.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// What the seeded shop has.
const ITEMS: u32 = 10_000;
const CUSTOMERS: u32 = 1_000;

/// Orders on a page of the largest customer: as many as the shop shows at once.
const WHOLESALE_PAGE: u32 = 1_000;

/// How strongly users prefer the same items: the share of item `n` falls with `n` (the hottest one in a
/// hundred items gets about a third of the looks).
const HEAT: f64 = 4.0;

/// The span of a journey, the root of its trace.
pub(super) fn span(journey: Journey) -> Span {
    tracing::info_span!(
        "journey",
        otel.name = journey.name(),
        otel.status_code = field::Empty,
        error.type = field::Empty,
    )
}

/// The users of one shop.
#[derive(Debug)]
pub(super) struct Users {
    load: Arc<Load>,
    client: Client,
    shop: String,
    /// An order that was placed lately; users look at those.
    latest_order: AtomicI64,
    /// Differs from run to run, so that a shop that keeps its data sees new keys.
    run: u64,
}

impl Users {
    /// Users of the shop at this base URL.
    pub(super) fn new(shop: &str, load: Arc<Load>) -> Result<Self, String> {
        Ok(Self {
            load,
            client: Client::new(),
            shop: client::base_url("--shop", shop, "http://127.0.0.1:8080")?,
            latest_order: AtomicI64::new(1),
            run: fastrand::u64(..),
        })
    }

    /// The base URL of their shop.
    pub(super) fn shop(&self) -> &str {
        &self.shop
    }

    /// Goes on a journey: `Ok` if the user got what they came for before their patience ended.
    pub(super) async fn go(
        &self,
        journey: Journey,
        random: fastrand::Rng,
        intended: Instant,
    ) -> Result<(), &'static str> {
        let remaining = PATIENCE.saturating_sub(intended.elapsed());
        if remaining.is_zero() {
            return Err("timeout");
        }
        self.request(journey, random, remaining).await
    }

    async fn request(
        &self,
        journey: Journey,
        mut random: fastrand::Rng,
        remaining: Duration,
    ) -> Result<(), &'static str> {
        let (request, wanted) = self.prepare(journey, &mut random, remaining);
        match self.client.send(request, Some(remaining)).await {
            Ok(answer) if answer.status == wanted => {
                if journey == Journey::Order
                    && let Ok(order) = answer.json::<serde_json::Value>()
                {
                    self.latest_order
                        .store(order["id"].as_i64().unwrap_or(1), Ordering::Relaxed);
                }
                Ok(())
            }
            Ok(answer) => Err(status_name(answer.status)),
            Err(error) => Err(error_name(&error)),
        }
    }

    fn prepare(
        &self,
        journey: Journey,
        random: &mut fastrand::Rng,
        remaining: Duration,
    ) -> (Request<Full<Bytes>>, StatusCode) {
        let patience = remaining.as_millis().max(1).to_string();
        let to = |builder: request::Builder| builder.header(deadline::HEADER, &patience);
        let post = |path: &str, body: serde_json::Value| {
            let builder = to(Request::post(format!("{}{path}", self.shop)))
                .header("content-type", "application/json");
            (builder, Full::from(body.to_string()), StatusCode::CREATED)
        };
        let customer = random.u32(1..=CUSTOMERS);
        let (builder, body, wanted) = match journey {
            Journey::Browse => {
                let url = self.look_at(random);
                (to(Request::get(url)), Full::default(), StatusCode::OK)
            }
            Journey::Order => {
                let item = hot_item(random);
                let order = json!({ "customer_id": customer, "item_id": item, "quantity": random.u8(1..=3) });
                let (builder, body, wanted) = post("/orders", order);
                let key = format!("{:016x}-{:016x}", self.run, random.u64(..));
                (builder.header("idempotency-key", key), body, wanted)
            }
            Journey::Login => post(
                "/sessions",
                json!({ "customer_id": customer, "password": SEED_PASSWORD }),
            ),
            Journey::Search => {
                let things = [
                    "red%20lamp",
                    "chair",
                    "blue%20k",
                    "axe",
                    "radio%207",
                    "grey",
                ];
                let part = random.choice(things).unwrap_or("lamp");
                (
                    to(Request::get(format!("{}/search?q={part}", self.shop))),
                    Full::default(),
                    StatusCode::OK,
                )
            }
        };
        (
            builder.body(body).expect("the URL was checked at start"),
            wanted,
        )
    }

    /// Thirteen of twenty look at an item, two at a page of them, two at a customer's orders, two at an order, one at
    /// what sells best; and all who came for one page alone at that.
    fn look_at(&self, random: &mut fastrand::Rng) -> String {
        let shop = &self.shop;
        match self.load.sight(random.f64()) {
            None => {}
            Some(Sight::HotPage) => return format!("{shop}/items/popular"),
            Some(Sight::Wholesale) => {
                return format!(
                    "{shop}/customers/{LARGEST_CUSTOMER}/orders?limit={WHOLESALE_PAGE}"
                );
            }
        }
        match random.u8(0..20) {
            0 => format!("{shop}/items/popular"),
            1..3 => format!("{shop}/items?after={}", random.u32(0..ITEMS)),
            3..5 => format!("{shop}/customers/{}/orders", random.u32(1..=CUSTOMERS)),
            5..7 => format!(
                "{shop}/orders/{}",
                self.latest_order.load(Ordering::Relaxed)
            ),
            _ => format!("{shop}/items/{}", hot_item(random)),
        }
    }
}

/// An item, the hot ones more often.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value lies in 0..10000"
)]
fn hot_item(random: &mut fastrand::Rng) -> u32 {
    1 + (random.f64().powf(HEAT) * f64::from(ITEMS)) as u32
}

/// A bounded name for what a user got instead.
fn status_name(status: StatusCode) -> &'static str {
    match status.as_u16() {
        402 => "402",
        404 => "404",
        409 => "409",
        422 => "422",
        429 => "429",
        500 => "500",
        502 => "502",
        503 => "503",
        504 => "504",
        _ => "other_status",
    }
}

fn error_name(error: &client::Error) -> &'static str {
    error.kind()
}
