//! What the tables hold, and how a password is hashed.
//!
//! One type a row, read in one place, so that a new column is not forgotten in one of several queries.

use std::sync::{Mutex, MutexGuard, PoisonError};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use rusqlite::Row;
use serde::{Deserialize, Serialize};

/// Something that can be ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its price, in cents.
    pub price_cents: i64,
    /// How many there are; from the cache up to some seconds old.
    pub stock: i64,
}

impl Item {
    /// The columns that [`Item::from_row`] reads.
    pub const COLUMNS: &str = "id, name, price_cents, stock";

    /// Reads one row.
    pub fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            name: row.get(1)?,
            price_cents: row.get(2)?,
            stock: row.get(3)?,
        })
    }
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The charge is under way, or its outcome is not known yet.
    Charging,
    /// Charged; the order will be shipped.
    Paid,
    /// The bank said no.
    Declined,
    /// It was not charged and never will be.
    Cancelled,
}

impl Status {
    /// As the table has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Charging => "charging",
            Self::Paid => "paid",
            Self::Declined => "declined",
            Self::Cancelled => "cancelled",
        }
    }

    fn from_name(name: &str) -> Self {
        match name {
            "paid" => Self::Paid,
            "declined" => Self::Declined,
            "cancelled" => Self::Cancelled,
            _ => Self::Charging,
        }
    }
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its number.
    pub id: i64,
    /// Who ordered.
    pub customer_id: i64,
    /// What.
    pub item_id: i64,
    /// How many.
    pub quantity: i64,
    /// What it costs in all, in cents; fixed when it was placed.
    pub amount_cents: i64,
    /// Where it stands.
    pub status: Status,
}

impl Order {
    /// The columns that [`Order::from_row`] reads.
    pub const COLUMNS: &str = "id, customer_id, item_id, quantity, amount_cents, status";

    /// Reads one row.
    pub fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            customer_id: row.get(1)?,
            item_id: row.get(2)?,
            quantity: row.get(3)?,
            amount_cents: row.get(4)?,
            status: Status::from_name(&row.get::<_, String>(5)?),
        })
    }

    /// The key under which its charge stands in the ledger. The ledger may outlive a shop's database, and order
    /// numbers begin anew with each: the shop's own id keeps them apart.
    #[must_use]
    pub fn charge_key(&self, shop_id: &str) -> String {
        format!("{}{}", Self::charge_prefix(shop_id), self.id)
    }

    /// What the keys of all charges of this shop begin with.
    #[must_use]
    pub fn charge_prefix(shop_id: &str) -> String {
        format!("{shop_id}-")
    }
}

/// Hashes a password with Argon2id, 7 MiB and five passes: one of the least costs that OWASP recommends, and
/// some 20 ms of a core.
#[must_use]
pub fn hash_password(password: &[u8], salt: &[u8]) -> Vec<u8> {
    let params =
        Params::new(7 * 1024, 5, 1, None).expect("the parameters are within Argon2's bounds");
    let mut memory = spare_memory()
        .pop()
        .unwrap_or_else(|| vec![Block::new(); params.block_count()]);
    let mut hash = vec![0; Params::DEFAULT_OUTPUT_LEN];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(password, salt, &mut hash, &mut memory)
        .expect("the salt has 16 bytes and the hash 32");
    let mut spare = spare_memory();
    if spare.len() < SPARE_MAX {
        spare.push(memory);
    }
    hash
}

/// Memory of hashes that have ended, for those to come. Allocated anew for each, the allocator would keep
/// some of it for every thread that ever hashed.
static SPARE: Mutex<Vec<Vec<Block>>> = Mutex::new(Vec::new());
const SPARE_MAX: usize = 2;

fn spare_memory() -> MutexGuard<'static, Vec<Vec<Block>>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}
