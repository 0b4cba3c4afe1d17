//! Sources: what is seen, and first of all what is not.

use daruma_model::{SourceHealth, SourceState};
use hyper::StatusCode;
use maud::{Markup, html};

use super::{Page, whole, words};
use crate::accept::Site;
use crate::answer::{self, Answer};
use crate::guard::Caller;

/// Rows of the table.
const ROWS_MAX: usize = 1000;

/// The page.
pub(crate) async fn sources(site: &Site, caller: &Caller) -> Answer {
    let now = (site.shared.clock)();
    let view = site.shared.view.borrow().clone();
    let mut all: Vec<&SourceHealth> = view.sources.iter().collect();
    all.sort_by_key(|source| match source.state {
        SourceState::Failing => 0,
        SourceState::Starting => 1,
        SourceState::Ok => 2,
    });
    let with = |state| all.iter().filter(|source| source.state == state).count();
    let (failing, starting) = (with(SourceState::Failing), with(SourceState::Starting));
    let lost: u64 = all.iter().fold(0, |sum, source| sum.saturating_add(source.lost));
    let row = |source: &SourceHealth| -> Markup {
        let (shape, word) = match source.state {
            SourceState::Ok => ("healed", "looks"),
            SourceState::Starting => ("unknown", "starting"),
            SourceState::Failing => ("unknown", "cannot look"),
        };
        html! {
            tr class=(shape) {
                th scope="row" { (words::shape(shape, word)) " " (words::foreign(&source.source, 200)) }
                td data-label="says" { (words::foreign(&source.said, 400)) }
                td.number data-label="signals" { (words::grouped(source.signals)) }
                td.number.bad[source.lost > 0] data-label="lost" { (words::grouped(source.lost)) }
                td data-label="last report" { (words::when(now, source.at)) }
            }
        }
    };
    let main = html! {
        h1.sum {
            @if all.is_empty() { span.part.unknown { (words::shape("unknown", "")) " No source has reported yet" } }
            @if failing > 0 { span.part.unknown { (words::shape("unknown", "")) " " (failing) " cannot look" } }
            @if starting > 0 { span.part.unknown { (words::shape("unknown", "")) " " (starting) " starting" } }
            @if failing + starting < all.len() {
                span.part.healed { (words::shape("healed", "")) " " (words::count(all.len() - failing - starting, "source looks", "sources look")) }
            }
            @if lost > 0 { span.part.warning { (words::shape("warning", "")) " " (words::grouped(lost)) " signals lost since the start" } }
        }
        @if !all.is_empty() {
            table.cards.sources {
                caption.hidden { "Sources, those that cannot look first" }
                thead { tr { th scope="col" { "source" } th scope="col" { "says" } th.number scope="col" { "signals" } th.number scope="col" { "lost" } th scope="col" { "last report" } } }
                tbody { @for source in all.iter().take(ROWS_MAX) { (row(source)) } }
            }
            @if all.len() > ROWS_MAX { p.meta { "and " (all.len() - ROWS_MAX) " more" } }
        }
    };
    let title = if failing > 0 {
        format!("▨ {failing} unknown · sources")
    } else {
        "Sources".to_owned()
    };
    answer::html(
        StatusCode::OK,
        whole(site, caller, Page { title, path: "/sources", charts: None, renews: true, main }),
    )
}
