//! Tests of `observe.rs`.
