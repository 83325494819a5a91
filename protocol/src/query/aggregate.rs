//! Aggregates: `COUNT`, `SUM`, `AVG`, `MIN` and `MAX`.
//!
//! As in Cosmos DB, on which the service's queries run: undefined values are skipped. `SUM` and
//! `AVG` over any other value that is not a number are undefined, and so are `MIN` and `MAX` over
//! an object or an array. Values of different types are ordered null, false, true, numbers, texts.
//! Over no values `SUM` is 0, and `AVG`, `MIN` and `MAX` are undefined. Numbers are doubles, and a
//! sum is rounded once, at its end, so it does not depend on the order of the values.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::ast::{Aggregate, Path};

/// Computes an aggregate value by value.
#[derive(Debug, Clone)]
pub struct Accumulator(State);

#[derive(Debug, Clone)]
enum State {
    Count(u64),
    Sum(Sum),
    Average {
        sum: Sum,
        count: u32,
    },
    Extreme {
        /// How the result compares to all other values.
        wanted: Ordering,
        best: Option<Value>,
    },
    /// The result is undefined, whatever values follow.
    Undefined,
}

impl Accumulator {
    /// An accumulator for `aggregate`, without values.
    #[must_use]
    pub const fn new(aggregate: &Aggregate) -> Self {
        match aggregate {
            Aggregate::Count => Self(State::Count(0)),
            Aggregate::Sum(_) => Self::sum(),
            Aggregate::Average(_) => Self::average(),
            Aggregate::Minimum(_) => Self::minimum(),
            Aggregate::Maximum(_) => Self::maximum(),
        }
    }

    /// An accumulator for `SUM`.
    #[must_use]
    pub const fn sum() -> Self {
        Self(State::Sum(Sum::new()))
    }

    /// An accumulator for `AVG`.
    #[must_use]
    pub const fn average() -> Self {
        Self(State::Average {
            sum: Sum::new(),
            count: 0,
        })
    }

    /// An accumulator for `MIN`.
    #[must_use]
    pub const fn minimum() -> Self {
        Self(State::Extreme {
            wanted: Ordering::Less,
            best: None,
        })
    }

    /// An accumulator for `MAX`.
    #[must_use]
    pub const fn maximum() -> Self {
        Self(State::Extreme {
            wanted: Ordering::Greater,
            best: None,
        })
    }

    /// Adds the value of one document; `None` if it is undefined there. `COUNT` ignores the value.
    pub fn add(&mut self, value: Option<&Value>) {
        let taken = match (&mut self.0, value) {
            (State::Count(count), _) => {
                *count += 1;
                true
            }
            (_, None) => true,
            (State::Sum(sum), Some(value)) => sum.add(value),
            (State::Average { sum, count }, Some(value)) => {
                *count = count.saturating_add(1);
                sum.add(value)
            }
            (State::Extreme { wanted, best }, Some(value)) => take_extreme(*wanted, best, value),
            (State::Undefined, Some(_)) => true,
        };
        if !taken {
            self.0 = State::Undefined;
        }
    }

    /// The result; `None` if it is undefined.
    #[must_use]
    pub fn finish(self) -> Option<Value> {
        match self.0 {
            State::Count(count) => Some(count.into()),
            State::Sum(sum) => number(sum.total()),
            State::Average { count: 0, .. } | State::Undefined => None,
            State::Average { sum, count } => number(sum.total() / f64::from(count)),
            State::Extreme { best, .. } => best,
        }
    }
}

impl Aggregate {
    /// The member to aggregate; `None` for `COUNT`.
    #[must_use]
    pub const fn path(&self) -> Option<&Path> {
        match self {
            Self::Count => None,
            Self::Average(path) | Self::Sum(path) | Self::Minimum(path) | Self::Maximum(path) => {
                Some(path)
            }
        }
    }
}

/// Keeps the better of two values; false if the new one has no place in their order.
fn take_extreme(wanted: Ordering, best: &mut Option<Value>, value: &Value) -> bool {
    let Some(key) = OrderKey::of(value) else {
        return false;
    };
    let is_better = best
        .as_ref()
        .and_then(OrderKey::of)
        .is_none_or(|best| key.cmp(&best) == wanted);
    if is_better {
        *best = key.value();
    }
    true
}

/// A value with a place in the order of all values. Its own order is that order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum OrderKey {
    Undefined,
    Null,
    Boolean(bool),
    Number(Double),
    Text(String),
}

impl OrderKey {
    /// `None` for objects and arrays.
    pub(super) fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Boolean(*value),
            // Turn minus zero into zero, which it equals.
            Value::Number(number) => Self::Number(Double(number.as_f64()? + 0.0)),
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(_) | Value::Object(_) => return None,
        })
    }

    /// The value in an answer.
    pub(super) fn value(self) -> Option<Value> {
        match self {
            Self::Undefined => None,
            Self::Null => Some(Value::Null),
            Self::Boolean(value) => Some(value.into()),
            Self::Number(Double(value)) => number(value),
            Self::Text(text) => Some(text.into()),
        }
    }
}

/// A finite number, in numeric order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Double(f64);

impl Ord for Double {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Double {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Double {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Double {}

/// Above this, not every integer is a double.
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;

/// A number in an answer: an integer if it has no fraction, as clients expect of a sum of integers.
/// `None` if it is not finite.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a whole number of this size is an i64"
)]
pub fn number(value: f64) -> Option<Value> {
    if value.fract() == 0.0 && value.abs() <= LARGEST_EXACT {
        return Some((value as i64).into());
    }
    Number::from_f64(value).map(Value::Number)
}

/// An exact sum, as doubles that do not overlap, the smallest first (Shewchuk, "Adaptive Precision
/// Floating-Point Arithmetic").
#[derive(Debug, Clone)]
struct Sum {
    parts: Vec<f64>,
}

impl Sum {
    const fn new() -> Self {
        Self { parts: Vec::new() }
    }

    /// Returns false if the value is not a number.
    fn add(&mut self, value: &Value) -> bool {
        let Some(mut carried) = value.as_f64() else {
            return false;
        };
        let mut kept = 0;
        for index in 0..self.parts.len() {
            let (sum, rest) = two_sum(carried, self.parts[index]);
            if rest != 0.0 {
                self.parts[kept] = rest;
                kept += 1;
            }
            carried = sum;
        }
        self.parts.truncate(kept);
        self.parts.push(carried);
        true
    }

    /// The sum, rounded once. Not finite if it, or a partial sum, is beyond the range of doubles.
    fn total(mut self) -> f64 {
        let Some(mut high) = self.parts.pop() else {
            return 0.0;
        };
        while let Some(part) = self.parts.pop() {
            let (sum, rest) = two_sum(high, part);
            high = sum;
            if rest != 0.0 {
                // Half a unit, and more of the same sign below it: not a tie, so round up.
                let below = self.parts.last().copied().unwrap_or(0.0);
                let (up, without_rest) = (high + rest * 2.0, rest * 2.0);
                if rest * below > 0.0 && up - high == without_rest {
                    high = up;
                }
                break;
            }
        }
        high
    }
}

/// The rounded sum of two numbers, and its rounding error.
fn two_sum(one: f64, other: f64) -> (f64, f64) {
    let (large, small) = if one.abs() < other.abs() {
        (other, one)
    } else {
        (one, other)
    };
    let sum = large + small;
    (sum, small - (sum - large))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::query::{Projection, ProjectionValue, parse};

    fn of(function: &str, values: &[Value]) -> Option<Value> {
        let query = parse(&format!("SELECT {function} FROM devices")).unwrap();
        let Projection::Items(items) = query.projection else {
            panic!("{function}")
        };
        let ProjectionValue::Aggregate(aggregate) = &items[0].value else {
            panic!("{function}")
        };
        let mut accumulator = Accumulator::new(aggregate);
        accumulator.add(None);
        for value in values {
            accumulator.add(Some(value));
        }
        accumulator.finish()
    }

    #[test]
    fn sums_and_averages_need_numbers() {
        let numbers = [json!(1), json!(2.5), json!(-0.5), json!(3)];
        assert_eq!(of("SUM(tags.a)", &numbers), Some(json!(6)));
        assert_eq!(of("AVG(tags.a)", &numbers), Some(json!(1.5)));
        assert_eq!(of("COUNT()", &numbers), Some(json!(5)));
        for other in [json!("1"), json!(true), json!(null), json!([1]), json!({})] {
            let mixed = [json!(1), other];
            assert_eq!(of("SUM(tags.a)", &mixed), None, "{mixed:?}");
            assert_eq!(of("AVG(tags.a)", &mixed), None, "{mixed:?}");
        }
        assert_eq!(of("SUM(tags.a)", &[]), Some(json!(0)));
        assert_eq!(of("AVG(tags.a)", &[]), None);
        assert_eq!(of("SUM(tags.a)", &[json!(1e308), json!(1e308)]), None);
    }

    #[test]
    fn minimum_and_maximum_use_one_order() {
        let rising = [
            json!(null),
            json!(false),
            json!(true),
            json!(-1e300),
            json!(2),
            json!("10"),
            json!("9"),
        ];
        for (index, least) in rising.iter().enumerate() {
            assert_eq!(of("MIN(tags.a)", &rising[index..]), Some(least.clone()));
            assert_eq!(of("MAX(tags.a)", &rising[..=index]), Some(least.clone()));
        }
        for function in ["MIN(tags.a)", "MAX(tags.a)"] {
            assert_eq!(of(function, &[]), None);
            assert_eq!(of(function, &[json!(1), json!([])]), None);
            assert_eq!(of(function, &[json!({}), json!(1)]), None);
            assert_eq!(of(function, &[json!(-0.0), json!(0)]), Some(json!(0)));
        }
    }

    #[test]
    fn sums_are_rounded_once() {
        let tenths = vec![json!(0.1); 10];
        assert_eq!(of("SUM(tags.a)", &tenths), Some(json!(1)));
        let cancelled = [json!(1e100), json!(1), json!(-1e100)];
        assert_eq!(of("SUM(tags.a)", &cancelled), Some(json!(1)));
        // Half a unit in the last place of 1, and a little more below it.
        let tie = [json!(1.0), json!(1.1102230246251565e-16), json!(1e-40)];
        assert_eq!(of("SUM(tags.a)", &tie), Some(json!(1.0000000000000002)));
    }

    proptest! {
        #[test]
        fn a_sum_does_not_depend_on_the_order(
            numbers in prop::collection::vec((-1e15f64..1e15, -60i32..60).prop_map(|(x, e)| json!(x * 2f64.powi(e))), 0..12),
            shift in 0usize..12,
        ) {
            let mut rotated = numbers.clone();
            let length = rotated.len().max(1);
            rotated.rotate_left(shift % length);
            prop_assert_eq!(of("SUM(tags.a)", &numbers), of("SUM(tags.a)", &rotated));
            rotated.reverse();
            prop_assert_eq!(of("SUM(tags.a)", &numbers), of("SUM(tags.a)", &rotated));
        }
    }
}
