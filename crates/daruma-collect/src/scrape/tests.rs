//! Tests of `scrape.rs`.
