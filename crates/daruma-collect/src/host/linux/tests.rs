//! Tests of `linux.rs`.
