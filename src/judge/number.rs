//! Numbers as Go writes them, because alerts and the API must read the same as those of Prometheus.

/// Go's `%g` without a precision, which is how a template prints a number: as few digits as tell it from its
/// neighbours, with an exponent below 1e-4 and from 1e6 on.
#[must_use]
pub fn shortest(value: f64) -> String {
    if let Some(word) = word(value) {
        return word.into();
    }
    let digits = format!("{value:e}");
    match exponent(&digits) {
        -4..6 => value.to_string(),
        _ => with_exponent(&digits),
    }
}

/// Go's `%.Ng`: so many significant digits, without zeros at their end.
#[must_use]
pub fn general(value: f64, precision: usize) -> String {
    if let Some(word) = word(value) {
        return word.into();
    }
    let precision = precision.max(1);
    let digits = format!("{value:.*e}", precision - 1);
    let exponent = exponent(&digits);
    let most = i32::try_from(precision).unwrap_or(i32::MAX);
    if (-4..most).contains(&exponent) {
        let decimals = usize::try_from(most - 1 - exponent).unwrap_or(0);
        return without_zeros(&format!("{value:.decimals$}")).to_owned();
    }
    match digits.split_once('e') {
        Some((mantissa, exponent)) => {
            with_exponent(&format!("{}e{exponent}", without_zeros(mantissa)))
        }
        None => digits,
    }
}

/// Go's `%.Nf`.
#[must_use]
pub fn plain(value: f64, precision: usize) -> String {
    word(value).map_or_else(|| format!("{value:.precision$}"), str::to_owned)
}

/// Go's `strconv.FormatFloat(value, 'e', -1, 64)`: always with an exponent, as alerts have their value in the API.
#[must_use]
pub fn scientific(value: f64) -> String {
    word(value).map_or_else(|| with_exponent(&format!("{value:e}")), str::to_owned)
}

fn word(value: f64) -> Option<&'static str> {
    match value {
        f64::INFINITY => Some("+Inf"),
        f64::NEG_INFINITY => Some("-Inf"),
        _ if value.is_nan() => Some("NaN"),
        _ => None,
    }
}

fn exponent(digits: &str) -> i32 {
    let exponent = digits.split_once('e').map(|(_, exponent)| exponent);
    exponent.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// From Rust's `1e-7` to Go's `1e-07`.
fn with_exponent(digits: &str) -> String {
    let Some((mantissa, exponent)) = digits.split_once('e') else {
        return digits.to_owned();
    };
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{exponent:0>2}")
}

fn without_zeros(number: &str) -> &str {
    if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_in_go() {
        for (value, text) in [
            (0.0, "0"),
            (100_000.0, "100000"),
            (1_000_000.0, "1e+06"),
            (123_456.5, "123456.5"),
            (0.000_01, "1e-05"),
            (-2.5e-7, "-2.5e-07"),
            (1e300, "1e+300"),
        ] {
            assert_eq!(shortest(value), text);
        }
        for (value, text) in [
            (0.0, "0"),
            (12_345.0, "1.234e+04"),
            (9999.5, "1e+04"),
            (1234.0, "1234"),
            (0.000_123_46, "0.0001235"),
            (0.000_012_345, "1.234e-05"),
            (100.0, "100"),
        ] {
            assert_eq!(general(value, 4), text);
        }
        assert_eq!(scientific(1.0), "1e+00");
        assert_eq!(scientific(0.0), "0e+00");
        assert_eq!(scientific(12_345.5), "1.23455e+04");
        assert_eq!(scientific(f64::INFINITY), "+Inf");
        assert_eq!(plain(0.5, 0), "0");
    }
}
