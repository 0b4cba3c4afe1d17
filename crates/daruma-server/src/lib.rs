//! The HTTP API and the pages: what people and scripts see of the loop, and how they speak to it.
//!
//! It stands apart because it meets whoever can reach a port. Everything is drawn from one
//! [`daruma_alert::View`], so the pages, the API and the command line cannot disagree.
//!
//! Never in here: a decision. A command is passed on, and answered only once it is durable. Never a
//! request that the table in `routes.rs` does not name, never text that becomes markup, never a clock.
//!
//! | module | what it is |
//! |---|---|
//! | `config` | the section `server:` and what of it is refused |
//! | `routes` | every address there is, and what each demands of whoever asks |
//! | `guard` | who asks, and whether the request could have been forged by another site |
//! | `accept` | connections: how many, how long, how large |
//! | `answer` | responses, with the headers that all of them carry |
//! | `api`, `form`, `live` | JSON for scripts, form posts of the pages, the event stream |
//! | `ack_links` | links in messages by which an incident is taken on without a login |
//! | `receipts` | what far sides tell about messages that they took |
//! | `trial` | tests of channels, with what became of them |
//! | `plot` | series for charts: queries within bounds |
//! | `prom` | Prometheus' HTTP API and the receiver of remote write |
//! | `page` | the HTML |

mod accept;
mod ack_links;
mod am;
mod answer;
mod api;
mod config;
mod form;
mod guard;
mod live;
mod page;
mod plot;
mod prom;
mod receipts;
mod routes;
mod shared;
mod statics;
mod trial;

pub use accept::serve;
pub use ack_links::{AckLinks, SERVES};
pub use config::{Config, ConfigError, Role, Token, check};
pub use prom::{Facts, QueryLimits, Rule, RuleGroup, RuleHealth, RuleKind, Target};
pub use shared::{
    Ask, CommandRequest, Described, Descriptions, HistoryQuery, LoopAsk, PingKind, Receipts,
    Refusal, Reload, Shared, Taken,
};
