//! A query whose asker has gone ends in the middle, not at its own end.

#![allow(clippy::unwrap_used)]

use std::cell::Cell;

use daruma_model::{Matcher, Querier, Series, Span, Time};
use daruma_promql::{EvalError, Expr, Limits, range};

/// Lends nothing, and is asked only so many times.
struct Patience(Cell<u32>);

impl Querier for Patience {
    fn select(&self, _: &[Matcher], _: Time, _: Time) -> Vec<Series> {
        Vec::new()
    }

    fn stopped(&self) -> bool {
        self.0.set(self.0.get().saturating_sub(1));
        self.0.get() == 0
    }
}

#[test]
fn a_query_that_nobody_waits_for_any_more_is_given_up() {
    let expr: Expr = "sum(x) + max_over_time(vector(1)[1h:1s])".parse().unwrap();
    let asked = |patience| {
        let querier = Patience(Cell::new(patience));
        let (end, step) = (Time::from_secs(3600), Span::secs(1));
        range(&querier, &expr, Time::from_secs(0), end, step, &Limits::default()).map(|_| ())
    };
    assert_eq!(asked(5), Err(EvalError::Stopped));
    assert_eq!(asked(u32::MAX), Ok(()));
}
