//! From the wish of the core to a program that runs, and back to an outcome.
//!
//! [`Registry`] is the list of what may ever run on this host: argument vectors which its owner wrote
//! down. [`Performer`] runs one of them, once, and reports how it ended.
//!
//! It stands apart because it is the one stage that changes the world, so what never happens here is
//! short and absolute:
//! - no shell, and no text of an alert in an argument: targets and labels reach a program as
//!   environment or as JSON on its standard input, or the act is refused;
//! - nothing outside the registry starts, and nothing starts twice: the fence of an act is spent
//!   when it is asked for, whatever comes of it;
//! - no decision: whether, when and how often to act is `daruma-alert`'s;
//! - no unbounded wait and no unbounded memory, whatever the program does.

mod exec;
mod output;
mod registry;

#[cfg(unix)]
#[path = "unix.rs"]
mod os;
#[cfg(not(unix))]
#[path = "portable.rs"]
mod os;

pub use exec::{GRACE, INCIDENT_BYTES_MAX, Performer, TARGET_BYTES_MAX};
pub use output::OUTPUT_BYTES_MAX;
pub use registry::{PATH, Registry, RegistryError};
