//! Tests of `host.rs`.
