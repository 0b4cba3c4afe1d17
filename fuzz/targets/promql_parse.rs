//! Any text is a query or an error with a place in the text; what is a query prints as itself.
#![no_main]

use daruma_promql::{Expr, ParseOptions};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let all = ParseOptions { experimental: true };
    let expr = match Expr::parse_with(text, &all) {
        Ok(expr) => expr,
        Err(error) => {
            assert!(
                error.span.start <= error.span.end && error.span.end <= text.len(),
                "{error:?}"
            );
            assert!(error.line >= 1 && error.column >= 1, "{error:?}");
            return;
        }
    };
    for selector in expr.selectors() {
        assert!(text.get(selector.span.clone()).is_some(), "{text}");
    }
    let line = expr.one_line();
    for printed in [line.clone(), expr.formatted()] {
        match Expr::parse_with(&printed, &all) {
            Ok(again) => assert_eq!(again.one_line(), line, "{text}"),
            // What is printed may be longer than any query that is read.
            Err(_) if printed.len() > daruma_promql::TEXT_BYTES_MAX => {}
            Err(error) => panic!("{text}\nprints as\n{printed}\n{error}"),
        }
    }
});
