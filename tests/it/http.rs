//! Bad input: each gets its 4xx and a body that says why; none a 500, a panic or a leak.

use crate::support::{ORDER, Shop, get, send, try_raw};

const JSON: &str = "content-type: application/json\r\nidempotency-key: k1\r\n";

#[test]
fn bad_input_is_refused_by_name() {
    let lab = Shop::start();
    let shop = &lab.shop.data;
    let order = |body: &str| send(shop, "POST", "/orders", JSON, body.as_bytes());
    let huge = format!(
        r#"{{"customer_id":1,"item_id":1,"quantity":1,"x":"{}"}}"#,
        "x".repeat(10_000_000)
    );
    let cases = [
        ("an unknown item", get(shop, "/items/999999"), 404, "id"),
        (
            "an id that is no number",
            get(shop, "/items/abc"),
            400,
            "id",
        ),
        (
            "an id that is not UTF-8",
            get(shop, "/items/%ff"),
            400,
            "id",
        ),
        (
            "a negative page",
            get(shop, "/items?limit=-1"),
            422,
            "limit",
        ),
        (
            "a huge page",
            get(shop, "/items?limit=1000000"),
            422,
            "limit",
        ),
        ("an unknown query", get(shop, "/items?limt=5"), 400, "query"),
        ("an unknown path", get(shop, "/nothing"), 404, "path"),
        (
            "a wrong method",
            send(shop, "DELETE", "/items/1", "", b""),
            405,
            "method",
        ),
        (
            "a method of one's own",
            send(shop, "BREW", "/items/1", "", b""),
            405,
            "method",
        ),
        (
            "an unknown customer",
            get(shop, "/customers/999999/orders"),
            404,
            "id",
        ),
        ("an unknown order", get(shop, "/orders/999999"), 404, "id"),
        ("an empty search", get(shop, "/search?q="), 422, "q"),
        (
            "a long search",
            get(shop, &format!("/search?q={}", "a".repeat(65))),
            422,
            "q",
        ),
        (
            "a negative quantity",
            order(r#"{"customer_id":1,"item_id":1,"quantity":-1}"#),
            422,
            "quantity",
        ),
        (
            "a huge quantity",
            order(r#"{"customer_id":1,"item_id":1,"quantity":101}"#),
            422,
            "quantity",
        ),
        (
            "a quantity beyond numbers",
            order(r#"{"customer_id":1,"item_id":1,"quantity":1e300}"#),
            422,
            "quantity",
        ),
        (
            "a quantity of another type",
            order(r#"{"customer_id":1,"item_id":1,"quantity":"1"}"#),
            422,
            "quantity",
        ),
        (
            "a missing field",
            order(r#"{"customer_id":1,"item_id":1}"#),
            422,
            "body",
        ),
        (
            "an unknown field",
            order(r#"{"customer_id":1,"item_id":1,"quantity":1,"price":1}"#),
            422,
            "price",
        ),
        (
            "an unknown item in an order",
            order(r#"{"customer_id":1,"item_id":999999,"quantity":1}"#),
            404,
            "item_id",
        ),
        (
            "an unknown customer in an order",
            order(r#"{"customer_id":0,"item_id":1,"quantity":1}"#),
            404,
            "customer_id",
        ),
        ("truncated JSON", order(r#"{"customer_id":1,"#), 400, "body"),
        (
            "two documents",
            order(&format!("{ORDER}{ORDER}")),
            400,
            "body",
        ),
        ("no body", order(""), 400, "body"),
        ("a body of 10 MB", order(&huge), 413, "body"),
        (
            "invalid UTF-8",
            send(shop, "POST", "/orders", JSON, b"{\"customer_id\":\xff}"),
            400,
            "body",
        ),
        (
            "another content type",
            send(
                shop,
                "POST",
                "/orders",
                "content-type: text/plain\r\n",
                b"{}",
            ),
            415,
            "Content-Type",
        ),
        (
            "no content type",
            send(shop, "POST", "/orders", "", b"{}"),
            415,
            "Content-Type",
        ),
        (
            "no key",
            send(
                shop,
                "POST",
                "/orders",
                "content-type: application/json\r\n",
                ORDER.as_bytes(),
            ),
            400,
            "Idempotency-Key",
        ),
        (
            "a key with a space",
            lab.order("a b", ORDER),
            400,
            "Idempotency-Key",
        ),
        (
            "a long key",
            lab.order(&"k".repeat(65), ORDER),
            400,
            "Idempotency-Key",
        ),
        ("a wrong password", login(shop, 1, "guess"), 401, ""),
        (
            "an unknown customer's login",
            login(shop, 999_999, "guess"),
            401,
            "",
        ),
        (
            "a long password",
            login(shop, 1, &"p".repeat(129)),
            422,
            "password",
        ),
        (
            "a deadline that is none",
            send(
                shop,
                "POST",
                "/orders",
                &format!("{JSON}x-request-timeout-ms: soon\r\n"),
                ORDER.as_bytes(),
            ),
            400,
            "x-request-timeout-ms",
        ),
    ];
    for (what, answer, status, field) in cases {
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert!(
            answer
                .head
                .contains("content-type: application/problem+json"),
            "{what}: {answer:?}"
        );
        let problem = answer.json();
        assert_eq!(
            problem["field"].as_str().unwrap_or_default(),
            field,
            "{what}: {problem}"
        );
        assert!(
            problem["detail"].as_str().unwrap().len() > 10,
            "{what}: {problem}"
        );
    }
    assert_eq!(
        lab.shop.metric("http_server_active_requests", "").to_bits(),
        0.0_f64.to_bits(),
        "nothing leaked"
    );
    assert_eq!(
        lab.shop.metric("firedrill_panics_total", "").to_bits(),
        0.0_f64.to_bits()
    );
    assert_eq!(
        lab.order("after-all-that", ORDER).status,
        201,
        "the shop still works"
    );
}

fn login(shop: &str, customer: u32, password: &str) -> crate::support::Answer {
    let body = format!(r#"{{"customer_id":{customer},"password":"{password}"}}"#);
    send(
        shop,
        "POST",
        "/sessions",
        "content-type: application/json\r\n",
        body.as_bytes(),
    )
}

#[test]
fn what_is_no_http_is_answered_or_closed() {
    let lab = Shop::start();
    let shop = &lab.shop.data;
    let long_header = format!(
        "GET /items/1 HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n",
        "a".repeat(100_000)
    );
    for bytes in [
        &b"\x00\xff\xfe garbage\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        long_header.as_bytes(),
    ] {
        if let Ok(answer) = try_raw(shop, bytes) {
            assert!((400..500).contains(&answer.status), "{answer:?}");
        }
    }
    assert_eq!(get(shop, "/items/1").status, 200);
}

#[test]
fn a_malformed_traceparent_is_ignored() {
    let lab = Shop::start();
    let zero = "00-00000000000000000000000000000000-0000000000000000-01";
    for value in [
        "",
        "garbage",
        zero,
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        &"0".repeat(9_000),
    ] {
        let answer = send(
            &lab.shop.data,
            "GET",
            "/items/1",
            &format!("traceparent: {value}\r\n"),
            b"",
        );
        assert_eq!(answer.status, 200, "{value:?}");
    }
}
