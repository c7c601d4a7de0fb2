use std::cmp::Ordering::{Equal, Greater, Less};

use super::*;
use crate::scene::Timestamp;

fn text(text: &str) -> Value {
    Value::Str(text.into())
}

#[test]
fn values_compare_as_in_python() {
    let big = 9_007_199_254_740_993i64;
    for (a, b, expect) in [
        (Value::Int(1), Value::Float(1.0), Order::Is(Equal)),
        (Value::Bool(true), Value::Int(1), Order::Is(Equal)),
        // 2**53 + 1 is no float: Python compares the two without rounding.
        (Value::Int(big), Value::Float(big as f64), Order::Is(Greater)),
        (Value::Float(big as f64), Value::Int(big), Order::Is(Less)),
        (Value::Int(i64::MAX), Value::Float(9_223_372_036_854_775_808.0), Order::Is(Less)),
        (Value::Int(0), Value::Float(-0.5), Order::Is(Greater)),
        (Value::Int(0), Value::Float(-0.0), Order::Is(Equal)),
        (Value::Int(0), Value::Float(f64::NAN), Order::Missing),
        (Value::Null, Value::Null, Order::Missing),
        (text("a"), text("B"), Order::Is(Greater)),
        (text("a"), Value::Int(1), Order::Unlike),
        (Value::Time(Timestamp(0)), text("1970-01-01"), Order::Is(Equal)),
        (Value::Time(Timestamp(1)), text("1970-01-01T01:00:00+01:00"), Order::Is(Greater)),
        (Value::Time(Timestamp(0)), text("soon"), Order::Unlike),
        (Value::List(vec![Value::Int(1)]), Value::List(vec![Value::Int(1), Value::Null]), Order::Is(Less)),
        (
            Value::List(vec![Value::Null, Value::Int(2)]),
            Value::List(vec![Value::Null, Value::Int(1)]),
            Order::Is(Greater),
        ),
        (Value::List(vec![Value::Null]), Value::List(vec![Value::Int(1)]), Order::Unlike),
    ] {
        assert_eq!(a.order(&b), expect, "{a:?} {b:?}");
    }
}

#[test]
fn numbers_print_as_in_python() {
    // repr() of Python 3.11.
    for (value, expect) in [
        (0.1, "0.1"),
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (1e16, "1e+16"),
        (1e15, "1000000000000000.0"),
        (1.5e-7, "1.5e-07"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (1e300, "1e+300"),
        (f64::INFINITY, "inf"),
        (f64::NAN, "nan"),
    ] {
        let args = [Ok(Value::Float(value))];
        let op = crate::ops::find("str").unwrap();
        assert_eq!(op.on_properties(&Args(args.iter().collect())), Ok(text(expect)));
    }
}

#[test]
fn large_values_are_refused() {
    assert!(text(&"x".repeat(60_000)).bounded().is_ok());
    assert!(text(&"x".repeat(70_000)).bounded().is_err());
    let op = crate::ops::find("replace").unwrap();
    let args = [Ok(text(&"x".repeat(60_000))), Ok(text("x")), Ok(text(&"y".repeat(60_000)))];
    assert!(op.on_properties(&Args(args.iter().collect())).is_err());
}
