//! The tables, how they came to be, and what a new database starts with.
//!
//! A new shop is not empty: a cache, an index or a listing has nothing to show on ten rows.

use rusqlite::{Connection, params};

/// Each step brings the schema from its index to the next; `user_version` counts the steps taken.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE shop (id TEXT NOT NULL) STRICT;
    INSERT INTO shop VALUES (lower(hex(randomblob(8))));
    CREATE TABLE items (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        price_cents INTEGER NOT NULL CHECK (price_cents > 0),
        stock INTEGER NOT NULL CHECK (stock >= 0)
    ) STRICT;
    CREATE TABLE customers (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        password_salt BLOB NOT NULL,
        password_hash BLOB NOT NULL
    ) STRICT;
    CREATE TABLE orders (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        customer_id INTEGER NOT NULL REFERENCES customers (id),
        item_id INTEGER NOT NULL REFERENCES items (id),
        quantity INTEGER NOT NULL CHECK (quantity > 0),
        amount_cents INTEGER NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('charging', 'paid', 'declined', 'cancelled')),
        idempotency_key TEXT UNIQUE,
        created_at_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX orders_by_customer ON orders (customer_id, id);
    CREATE INDEX orders_open ON orders (id) WHERE status = 'charging';
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        order_id INTEGER NOT NULL REFERENCES orders (id),
        created_at_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE shipments (
        order_id INTEGER PRIMARY KEY REFERENCES orders (id),
        requested_at_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE sessions (
        token TEXT PRIMARY KEY,
        customer_id INTEGER NOT NULL REFERENCES customers (id),
        expires_at_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX sessions_by_end ON sessions (expires_at_ms);
",
    // Which request left the event, so that its delivery can be found from there.
    "ALTER TABLE outbox ADD COLUMN traceparent TEXT",
    "
    ALTER TABLE items ADD COLUMN received INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX orders_by_item ON orders (item_id, status, quantity);
",
    RECEIVED,
];

/// All pieces that ever came in: those that are left and those in orders that stand. Whoever adds to the stock
/// adds here too, for the audit holds one against the other. In a shop that is older than this column, what it had
/// sold until then is taken to be right.
const RECEIVED: &str = "
    UPDATE items SET received = stock + (
        SELECT coalesce(sum(quantity), 0) FROM orders
        WHERE item_id = items.id AND status IN ('charging', 'paid')
    )";

/// What a new database is filled with.
#[derive(Debug, Clone, Copy)]
pub struct Seed {
    /// Items in the catalogue.
    pub items: u32,
    /// Customers; they all have the password [`SEED_PASSWORD`].
    pub customers: u32,
    /// Orders of the past.
    pub orders: u32,
}

impl Default for Seed {
    fn default() -> Self {
        Self {
            items: 10_000,
            customers: 1_000,
            orders: 100_000,
        }
    }
}

/// The customer who orders most: one order in a hundred of the past, besides what chance gives everybody.
pub const LARGEST_CUSTOMER: u32 = 1;
const LARGEST_CUSTOMER_EVERY: u32 = 100;

/// Pieces of each item in a new shop: nobody restocks, and the hottest item sells some six a second.
const STOCK: i64 = 1_000_000_000;

/// The password of every seeded customer. They share one hash: a thousand would take half a minute.
pub const SEED_PASSWORD: &str = "correct horse battery staple";

/// Takes the steps that `connection`'s database has not taken yet.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let taken: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for (number, step) in (1_i64..)
        .zip(MIGRATIONS)
        .filter(|(number, _)| *number > taken)
    {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Fills an empty database, in one transaction: a crash leaves it empty, not half full.
pub(super) fn seed(connection: &mut Connection, seed: Seed) -> rusqlite::Result<()> {
    if connection.query_row("SELECT EXISTS (SELECT 1 FROM items)", [], |row| row.get(0))? {
        return Ok(());
    }
    let mut random = fastrand::Rng::with_seed(1);
    let transaction = connection.transaction()?;
    let mut item = transaction
        .prepare("INSERT INTO items (id, name, price_cents, stock) VALUES (?1, ?2, ?3, ?4)")?;
    for id in 1..=seed.items {
        item.execute(params![
            id,
            name(&mut random, id),
            random.i64(100..20_000),
            STOCK
        ])?;
    }
    drop(item);
    let salt: [u8; 16] = *b"firedrill's salt";
    let hash = super::model::hash_password(SEED_PASSWORD.as_bytes(), &salt);
    let mut customer = transaction.prepare("INSERT INTO customers VALUES (?1, ?2, ?3, ?4)")?;
    for id in 1..=seed.customers {
        customer.execute(params![id, format!("customer {id}"), salt, hash])?;
    }
    drop(customer);
    let mut order = transaction.prepare(
        "INSERT INTO orders (customer_id, item_id, quantity, amount_cents, status, created_at_ms)
         VALUES (?1, ?2, 1, ?3, 'paid', ?4)",
    )?;
    for id in 1..=seed.orders {
        let (customer, item) = (random.u32(1..=seed.customers), random.u32(1..=seed.items));
        let customer = match id % LARGEST_CUSTOMER_EVERY {
            0 => LARGEST_CUSTOMER,
            _ => customer,
        };
        order.execute(params![
            customer,
            item,
            random.i64(100..20_000),
            i64::from(id)
        ])?;
    }
    drop(order);
    transaction.execute_batch(RECEIVED)?;
    transaction.commit()
}

fn name(random: &mut fastrand::Rng, id: u32) -> String {
    const COLOURS: [&str; 8] = [
        "red", "green", "blue", "black", "white", "yellow", "grey", "brown",
    ];
    const THINGS: [&str; 12] = [
        "lamp", "chair", "table", "kettle", "bicycle", "coat", "clock", "radio", "ladder",
        "bucket", "hose", "axe",
    ];
    let colour = random.choice(COLOURS).unwrap_or("plain");
    let thing = random.choice(THINGS).unwrap_or("box");
    format!("{colour} {thing} {id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database of the first version, with something sold.
    fn old() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(MIGRATIONS[0]).unwrap();
        connection
            .execute_batch(
                "PRAGMA user_version = 1;
                 INSERT INTO items VALUES (1, 'lamp', 100, 90), (2, 'axe', 100, 50);
                 INSERT INTO customers VALUES (1, 'one', x'00', x'00');
                 INSERT INTO orders (customer_id, item_id, quantity, amount_cents, status, created_at_ms) VALUES
                     (1, 1, 7, 700, 'paid', 0), (1, 1, 2, 200, 'charging', 0), (1, 1, 5, 500, 'cancelled', 0);",
            )
            .unwrap();
        connection
    }

    fn received(connection: &Connection) -> Vec<(i64, i64)> {
        let mut statement = connection
            .prepare("SELECT stock, received FROM items ORDER BY id LIMIT 3")
            .unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn an_old_shop_starts_with_books_that_are_right() {
        let mut connection = old();
        migrate(&mut connection).unwrap();
        assert_eq!(received(&connection), [(90, 99), (50, 50)]);
        connection
            .execute_batch("UPDATE items SET stock = stock - 1")
            .unwrap();
        migrate(&mut connection).unwrap();
        let again = received(&connection);
        assert_eq!(again, [(89, 99), (49, 50)], "a step is taken once");
    }

    #[test]
    fn a_new_shop_counts_its_past_orders_as_received() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        let small = Seed {
            items: 3,
            customers: 1,
            orders: 30,
        };
        seed(&mut connection, small).unwrap();
        let received = received(&connection);
        let sold: i64 = received.iter().map(|(stock, all)| all - stock).sum();
        assert_eq!(sold, 30);
        assert!(received.iter().all(|(stock, _)| *stock == STOCK));
    }
}
