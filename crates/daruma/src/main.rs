//! Daruma: detect → confirm → recover → verify → tell, in one program.
//!
//! This crate wires the stages together: configuration, the run loop, the command line. It decides
//! nothing about alerts or recoveries itself.

mod alertmanager;
mod api;
mod check_rules;
mod cli;
mod client;
mod clock;
mod config;
mod control;
mod demo;
mod glob;
mod inquiries;
mod log;
mod metrics;
mod offline;
mod performers;
mod print;
mod prometheus;
mod records;
mod route;
mod run;
mod send_test;
mod signals;
mod templates;
mod testing;
mod why;

fn main() -> std::process::ExitCode {
    cli::main()
}
