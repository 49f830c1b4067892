//! Arithmetic as Prometheus does it: compensated sums, its order of NaN, its rounding.

use std::cmp::Ordering;

/// A sum with Neumaier's compensation: adding small numbers to a large one loses nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum {
    sum: f64,
    lost: f64,
}

impl Sum {
    pub(crate) fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.lost = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.lost += (self.sum - total) + value;
        } else {
            self.lost += (value - total) + self.sum;
        }
        self.sum = total;
    }

    pub(crate) fn total(self) -> f64 {
        if self.sum.is_infinite() {
            self.sum
        } else {
            self.sum + self.lost
        }
    }
}

pub(crate) fn sum(values: &mut [f64]) -> f64 {
    let mut sum = Sum::default();
    for value in values {
        sum.add(*value);
    }
    sum.total()
}

/// The sum over the count, and from where the sum would overflow, the mean of what came before corrected by each
/// further value.
pub(crate) fn mean(values: &mut [f64]) -> f64 {
    let Some((first, others)) = values.split_first() else {
        return f64::NAN;
    };
    let mut sum = Sum {
        sum: *first,
        lost: 0.0,
    };
    let mut count = 1.0;
    let mut running: Option<Sum> = None;
    for value in others {
        count += 1.0;
        if running.is_none() {
            let mut next = sum;
            next.add(*value);
            if !next.sum.is_infinite() {
                sum = next;
                continue;
            }
        }
        let before = running.unwrap_or(Sum {
            sum: sum.sum / (count - 1.0),
            lost: sum.lost / (count - 1.0),
        });
        let weight = (count - 1.0) / count;
        let mut mean = Sum {
            sum: weight * before.sum,
            lost: weight * before.lost,
        };
        mean.add(value / count);
        running = Some(mean);
    }
    match running {
        Some(mean) => mean.sum + mean.lost,
        None => sum.sum / count + sum.lost / count,
    }
}

/// The smallest value; NaN only if there is nothing else.
pub(crate) fn smallest(values: &mut [f64]) -> f64 {
    let smaller = |least: f64, value: &f64| {
        if *value < least || least.is_nan() {
            *value
        } else {
            least
        }
    };
    values.iter().fold(f64::NAN, smaller)
}

/// The largest value; NaN only if there is nothing else.
pub(crate) fn largest(values: &mut [f64]) -> f64 {
    let larger = |most: f64, value: &f64| {
        if *value > most || most.is_nan() {
            *value
        } else {
            most
        }
    };
    values.iter().fold(f64::NAN, larger)
}

/// The variance of the values as a whole population, by Welford's method.
pub(crate) fn variance(values: &mut [f64]) -> f64 {
    let (mut mean, mut squares) = (Sum::default(), Sum::default());
    let mut count = 0.0;
    for value in values {
        count += 1.0;
        let distance = *value - (mean.sum + mean.lost);
        mean.add(distance / count);
        squares.add(distance * (*value - (mean.sum + mean.lost)));
    }
    (squares.sum + squares.lost) / count
}

/// The quantile of the values, between the two nearest in proportion. Sorts them.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(|a, b| nan_last(*a, *b, a.partial_cmp(b)).then(Ordering::Equal));
    // Prometheus sorts NaN to the front here, and to the back elsewhere.
    let nans = values.iter().rev().take_while(|v| v.is_nan()).count();
    values.rotate_right(nans);
    let last = values.len() - 1;
    let rank = q * last as f64;
    let weight = rank - rank.floor();
    // `rank` is between 0 and the last position.
    let lower = whole(rank).min(last);
    if weight == 0.0 {
        // Infinity times a weight of zero would be no number.
        return values[lower];
    }
    let upper = (lower + 1).min(last);
    values[lower] * (1.0 - weight) + values[upper] * weight
}

/// The whole part of a number; 0 for what is below one or no number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, which is what is meant"
)]
pub(crate) fn whole(value: f64) -> usize {
    value as usize
}

/// Orders two values by `ordering`, and NaN after everything else.
pub(crate) fn nan_last(a: f64, b: f64, ordering: Option<Ordering>) -> Ordering {
    ordering.unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// `max` of Go: NaN wins.
pub(crate) fn go_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

/// `min` of Go: NaN wins.
pub(crate) fn go_min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.min(b)
    }
}

/// `clamp(v, least, most)`; no result where the limits contradict each other.
pub(crate) fn clamp(value: f64, limits: &[f64]) -> Option<f64> {
    let (least, most) = (limits[0], limits[1]);
    if most < least {
        return None;
    }
    Some(go_max(least, go_min(most, value)))
}

/// `round(v, to)`: halves go up.
#[expect(
    clippy::unnecessary_wraps,
    reason = "it stands in a table with clamp, which may drop a value"
)]
pub(crate) fn round(value: f64, to: &[f64]) -> Option<f64> {
    // By the inverse, as Prometheus does, because 1 / 0.1 is exact and 0.1 is not.
    let inverse = 1.0 / to.first().copied().unwrap_or(1.0);
    Some((value * inverse + 0.5).floor() / inverse)
}

fn sign(value: f64) -> f64 {
    if value > 0.0 {
        1.0
    } else if value < 0.0 {
        -1.0
    } else {
        value
    }
}

/// Functions of one number.
pub(crate) fn function(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "sqrt" => f64::sqrt,
        "exp" => f64::exp,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sgn" => sign,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => f64::sinh,
        "cosh" => f64::cosh,
        "tanh" => f64::tanh,
        "asinh" => f64::asinh,
        "acosh" => f64::acosh,
        "atanh" => f64::atanh,
        "deg" => f64::to_degrees,
        "rad" => f64::to_radians,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_loses_nothing_that_is_small() {
        let tiny_between_large = &mut [1.0, 1e100, 1.0, -1e100];
        assert!((sum(tiny_between_large) - 2.0).abs() < f64::EPSILON);
        assert!(sum(&mut [f64::INFINITY, 1.0]).is_infinite());
        assert!(sum(&mut [f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }

    #[test]
    fn a_mean_does_not_overflow() {
        let large = f64::MAX;
        let found = mean(&mut [large, large, large]);
        assert!((found / large - 1.0).abs() < 1e-12, "{found}");
        assert!(mean(&mut [f64::INFINITY, 1.0]).is_infinite());
        assert!(mean(&mut [f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }

    #[test]
    fn quantiles_interpolate_and_put_nan_first() {
        let mut values = [3.0, f64::NAN, 1.0];
        assert!((quantile(1.0, &mut values) - 3.0).abs() < f64::EPSILON);
        assert!((quantile(0.75, &mut values) - 2.0).abs() < f64::EPSILON);
        assert!(quantile(0.0, &mut values).is_nan());
        assert!(quantile(2.0, &mut values).is_infinite());
    }

    #[test]
    fn extremes_prefer_anything_to_nan() {
        assert!((smallest(&mut [f64::NAN, 2.0, 1.0]) - 1.0).abs() < f64::EPSILON);
        assert!((largest(&mut [2.0, f64::NAN]) - 2.0).abs() < f64::EPSILON);
        assert!(largest(&mut [f64::NAN]).is_nan());
        assert!(clamp(1.0, &[2.0, 1.0]).is_none());
        assert!(clamp(1.0, &[0.0, f64::NAN]).is_some_and(f64::is_nan));
    }
}
