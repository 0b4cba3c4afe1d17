//! The words all stages share, as data. Nothing here reads a clock, a file or a socket.
//!
//! | word | type |
//! |---|---|
//! | time, duration | [`Time`], [`Span`] |
//! | label set, matcher | [`Labels`], [`Matcher`], [`Matchers`] |
//! | signal | [`Sample`] and [`HistogramSample`] in a [`Commit`], [`LogRecord`] |
//! | what a query reads | [`Series`] of [`Point`]s and [`HistogramPoint`]s |
//! | what a rule says | [`Finding`], [`Verdict`], [`Evidence`] |
//! | what a witness may be asked | [`Check`], [`Observation`] |
//! | one act on a target | [`ActionRequest`], [`ActionOutcome`] |
//! | what people are told | [`Message`], [`AttemptOutcome`] |
//! | how a source is | [`SourceHealth`] |
//!
//! The one trait is [`Querier`]: how detection reads series without knowing who keeps them.

mod action;
mod check;
mod finding;
mod health;
mod histogram;
pub mod interval;
mod labels;
mod matcher_text;
mod message;
mod pattern;
mod query;
mod reach;
mod signal;
mod time;
pub mod wire;

pub use action::{ActionEnd, ActionId, ActionKind, ActionOutcome, ActionRequest, ActionSpec};
pub use check::{Check, FileCheck, HttpProbe, Observation, ProcessCheck, TcpProbe};
pub use finding::{Evidence, Finding, Verdict};
pub use health::{SourceHealth, SourceState};
pub use histogram::{
    BucketSpan, Buckets, Histogram, HistogramError, HistogramPoint, ResetHint, any_fell,
};
pub use labels::{LabelError, Labels, MatchOp, Matcher, Matchers, spelled};
pub use matcher_text::MATCHERS_BYTES_MAX;
pub use message::{
    Attempt, AttemptOutcome, Level, Message, MessageAlert, MessageStatus, Receipt, ReceiptState,
};
pub use pattern::go_pattern;
pub use query::{Point, Querier, STALE_BITS, Series, is_stale, stale_marker};
pub use reach::{Digest, Fallback};
pub use signal::{Commit, HistogramSample, LogRecord, Sample, Severity, Signal};
pub use time::{Clock, Span, SpanError, Time};
