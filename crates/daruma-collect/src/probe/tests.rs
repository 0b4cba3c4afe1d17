//! Tests of `probe.rs`.
