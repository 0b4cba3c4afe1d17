//! Explore: a query, its course and its values. All of its state stands in the address, so that what one
//! person sees another can be shown; without scripts it is a form like any other.

use std::ops::Range;

use daruma_model::{Labels, Span, Time};
use daruma_promql::{
    Annotation, AnnotationLevel, Answer as Found, Expr, FUNCTIONS, SampleValue, Value, format_value,
};
use hyper::StatusCode;
use maud::{Markup, html};

use super::{Page, draw, whole, words};
use crate::accept::Site;
use crate::answer::{self, Answer};
use crate::api::parameter;
use crate::guard::Caller;
use crate::plot;
use crate::prom::{Look, LookAsked, look};

/// Rows of the table.
const ROWS_MAX: usize = 200;
/// Points of one row, of a range vector.
const ROW_POINTS_MAX: usize = 20;
/// Points when nobody says a step, nearly.
const POINTS_USUAL: i64 = 240;
/// Points at most.
const POINTS_MAX: i64 = 11_000;
/// The shortest and the longest range.
const RANGE: (Span, Span) = (Span::secs(1), Span::hours(24 * 400));
/// Remarks shown.
const REMARKS_MAX: usize = 10;
/// The ranges that are offered.
const RANGES: [&str; 7] = ["5m", "15m", "1h", "3h", "6h", "1d", "1w"];
/// The longest query that is taken back into the page.
const QUERY_CHARS_MAX: usize = 64 * 1024;

/// What the address says.
struct Asked {
    query: String,
    range: Span,
    /// The last moment, if it is a fixed one.
    end: Option<Time>,
    step: Option<Span>,
    /// What of it makes no sense.
    wrong: Option<String>,
}

impl Asked {
    fn read(address: &str) -> Asked {
        let text = |name: &'static str| {
            parameter(address, name).map(|text| text.trim().to_owned()).unwrap_or_default()
        };
        let mut wrong = None;
        let mut span = |name: &'static str, otherwise: Option<Span>| match text(name).as_str() {
            "" => otherwise,
            given => match given.parse::<Span>() {
                Ok(span) if span > Span::ZERO => Some(span),
                _ => {
                    let given = words::clean(given, 40);
                    wrong = Some(format!(
                        "{name}: `{given}` is no length of time; write 15s, 5m or 1h30m"
                    ));
                    otherwise
                }
            },
        };
        let range = span("range", None).unwrap_or(Span::hours(1)).clamp(RANGE.0, RANGE.1);
        let mut step = span("step", None);
        if step.is_some_and(|step| range.0 / step.0 > POINTS_MAX) {
            wrong = Some(format!(
                "step: more than {POINTS_MAX} points; it must be longer, or the range shorter"
            ));
            step = None;
        }
        let end = match text("end").as_str() {
            "" | "now" => None,
            given => match moment(given) {
                Some(end) => Some(end),
                None => {
                    let given = words::clean(given, 40);
                    wrong = Some(format!(
                        "end: `{given}` is no time; write 2026-01-02T13:37:00Z, seconds since 1970, or nothing for now"
                    ));
                    None
                }
            },
        };
        let query = text("query").chars().take(QUERY_CHARS_MAX).collect();
        Asked { query, range, end, step, wrong }
    }

    /// The step that is used.
    fn step(&self) -> Span {
        self.step.unwrap_or_else(|| {
            // Whole seconds where they are short enough, so that the grid looks like one.
            let step = (self.range.0 / POINTS_USUAL).max(1);
            Span(if step > 1000 { step / 1000 * 1000 } else { step })
        })
    }

    /// The address of the same query over another time.
    fn address(&self, range: Span, end: Option<Time>) -> String {
        let mut to = form_urlencoded::Serializer::new(String::new());
        to.append_pair("query", &self.query).append_pair("range", &range.to_string());
        if let Some(end) = end {
            to.append_pair("end", &instant(end));
        }
        if let Some(step) = self.step {
            to.append_pair("step", &step.to_string());
        }
        format!("/explore?{}", to.finish())
    }
}

fn moment(text: &str) -> Option<Time> {
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.abs() < 1e11).then_some(Time((seconds * 1000.0) as i64));
    }
    // What a person writes of it is enough.
    let whole = if text.len() == 16 { format!("{text}:00Z") } else { text.to_owned() };
    let zoned = if whole.len() == 19 { format!("{whole}Z") } else { whole };
    let at = zoned.parse::<jiff::Timestamp>().ok()?;
    Some(Time(at.as_millisecond()))
}

fn instant(time: Time) -> String {
    jiff::Timestamp::from_millisecond(time.0).map_or_else(|_| String::new(), |at| at.to_string())
}

/// The page.
pub(crate) async fn explore(site: &Site, caller: &Caller, address: &str) -> Answer {
    let now = (site.shared.clock)();
    let asked = Asked::read(address);
    let to = asked.end.unwrap_or(now);
    let from = to - asked.range;
    let parsed = (!asked.query.is_empty())
        .then(|| Expr::parse_with(&asked.query, &site.turns.limits.options()));
    let shown = match &parsed {
        None => html! { (welcome(&asked)) },
        Some(Err(error)) => {
            let said = format!("{}:{}: {}", error.line, error.column, error.message);
            fault(&asked.query, Some(error.span.clone()), &said)
        }
        Some(Ok(expr)) => {
            let step = asked.step();
            match look(site, LookAsked { expr: expr.clone(), from, to, step }).await {
                Ok(seen) => found(&asked, expr, &seen, (from, to), step),
                Err(said) => fault(&asked.query, None, &said),
            }
        }
    };
    let main = html! {
        h1.hidden-title { "Explore" }
        (form(&asked, site.turns.limits.experimental))
        @if let Some(wrong) = &asked.wrong { p.outcome.bad role="alert" { (words::shape("error", "")) " " (wrong) } }
        (shown)
    };
    let title = match asked.query.as_str() {
        "" => "Explore · daruma".to_owned(),
        query => format!("{} · explore · daruma", words::clean(query, 60)),
    };
    let page = Page { title, path: "/explore", charts: Some("explore.js"), renews: false, main };
    answer::html(StatusCode::OK, whole(site, caller, page))
}

/// Words that the language knows, for completion.
fn vocabulary(experimental: bool) -> String {
    let known = FUNCTIONS.iter().filter(|function| experimental || !function.experimental);
    let calls = known.map(|function| function.name);
    let aggregates = [
        "sum",
        "avg",
        "count",
        "min",
        "max",
        "group",
        "stddev",
        "stdvar",
        "topk",
        "bottomk",
        "quantile",
        "count_values",
        "limitk",
        "limit_ratio",
    ];
    let words = [
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "offset",
        "bool",
        "and",
        "or",
        "unless",
    ];
    let calls: Vec<&str> = calls.chain(aggregates).collect();
    serde_json::json!({ "calls": calls, "words": words }).to_string()
}

fn form(asked: &Asked, experimental: bool) -> Markup {
    let range = asked.range.to_string();
    let rows = asked.query.lines().count().clamp(1, 12);
    html! {
        form.ask method="get" action="/explore" role="search" {
            div.box {
                label.wide for="query" { "PromQL" }
                textarea #query name="query" rows=(rows) spellcheck="false" autocapitalize="off" autocomplete="off"
                    placeholder="rate(node_cpu_seconds_total[5m])" data-words=(vocabulary(experimental)) autofocus[asked.query.is_empty()] { (asked.query) }
                ul #offers role="listbox" aria-label="Completions" hidden {}
            }
            div.over {
                label { "range"
                    select name="range" {
                        @if !RANGES.contains(&range.as_str()) { option value=(range) selected { (range) } }
                        @for known in RANGES { option value=(known) selected[known == range] { (known) } }
                    }
                }
                label { "until" input name="end" value=(asked.end.map(instant).unwrap_or_default()) placeholder="now" size="18" autocomplete="off"; }
                label { "step" input name="step" value=(asked.step.map(|s| s.to_string()).unwrap_or_default()) placeholder=(asked.step()) size="6" autocomplete="off"; }
                button.go type="submit" { "Ask" }
            }
        }
    }
}

fn welcome(asked: &Asked) -> Markup {
    let examples = [
        ("what is up, and what is not", "up"),
        (
            "how busy the processors are",
            r#"100 * (1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[5m])))"#,
        ),
        (
            "space left on each disk, as a share",
            "node_filesystem_avail_bytes / node_filesystem_size_bytes",
        ),
        ("log lines a second", "sum by (path) (rate(daruma_log_lines_total[1m]))"),
    ];
    html! {
        section {
            h2 { "For example" }
            ul.examples {
                @for (what, query) in examples {
                    @let one = Asked { query: query.to_owned(), range: asked.range, end: None, step: None, wrong: None };
                    li { a href=(one.address(one.range, None)) { code { (query) } } span.meta { (what) } }
                }
            }
        }
    }
}

/// The query with the place that an error is about.
fn fault(query: &str, span: Option<Range<usize>>, said: &str) -> Markup {
    let parts = span.and_then(|span| {
        let end = span.end.min(query.len());
        Some((query.get(..span.start)?, query.get(span.start..end)?, query.get(end..)?))
    });
    html! {
        section.fault role="alert" {
            p.outcome.bad { (words::shape("error", "error")) " " (words::foreign(said, 2000)) }
            @if let Some((before, at, after)) = parts {
                pre { (before) span.at { @if at.is_empty() { "\u{a0}" } @else { (at) } } (after) }
            }
        }
    }
}

fn found(asked: &Asked, expr: &Expr, seen: &Look, (from, to): (Time, Time), step: Span) -> Markup {
    let none: &[Annotation] = &[];
    let course = seen.course.as_ref();
    let mut notes: Vec<&Annotation> = seen.last.annotations.iter().collect();
    notes.extend(
        course
            .map_or(none, |c| &c.annotations)
            .iter()
            .filter(|n| !seen.last.annotations.contains(n)),
    );
    html! {
        @if !notes.is_empty() {
            ul.remarks {
                @for note in notes.iter().take(REMARKS_MAX) { li { (remark(note, expr.text())) } }
                @if notes.len() > REMARKS_MAX { li.meta { "and " (notes.len() - REMARKS_MAX) " more remarks" } }
            }
        }
        @if let Some(course) = course { (graph(asked, course, (from, to), step)) }
        (table(&seen.last, to))
        p.meta { "answered in " (words::took(seen.took)) " · " a href={ "/api/v1/query?" (api(asked, to)) } { "as JSON" } }
    }
}

fn api(asked: &Asked, to: Time) -> String {
    let mut out = form_urlencoded::Serializer::new(String::new());
    out.append_pair("query", &asked.query).append_pair("time", &instant(to));
    out.finish()
}

fn remark(note: &Annotation, query: &str) -> Markup {
    let (shape, word) = match note.level {
        AnnotationLevel::Warn => ("warning", "warning"),
        AnnotationLevel::Info => ("info", "info"),
    };
    let (line, column) = daruma_promql::line_column(query, note.span.start);
    let about = query.get(note.span.clone()).unwrap_or_default();
    html! {
        (words::shape(shape, word)) " " (words::foreign(&note.message, 500)) " "
        span.meta { "at " (line) ":" (column) ", " code { (words::clean(about, 80)) } }
    }
}

fn graph(asked: &Asked, course: &Found, (from, to): (Time, Time), step: Span) -> Markup {
    let Value::Matrix(matrix) = &course.value else { return html! {} };
    let plot = plot::laid_out(matrix.clone(), (from, to), step);
    let half = Span(asked.range.0 / 2);
    let over = |range: Span, end: Option<Time>| asked.address(range.clamp(RANGE.0, RANGE.1), end);
    let known = plot.lines.iter().any(|line| line.values.iter().any(Option::is_some));
    html! {
        figure.chart {
            nav.times aria-label="Time" {
                a.button href=(over(asked.range, Some(to - half))) title="earlier by half a range" { "◀ earlier" }
                a.button href=(over(asked.range, Some(to + half))) title="later by half a range" { "later ▶" }
                a.button href=(over(half, Some(to))) title="half the range" { "narrower" }
                a.button href=(over(Span(asked.range.0.saturating_mul(2)), Some(to))) title="twice the range" { "wider" }
                @if asked.end.is_some() { a.button href=(over(asked.range, None)) { "now" } }
                span.meta { (words::clock(from)) " to " (words::at(to)) ", a point each " (step) }
            }
            div #course data-query=(asked.query) data-from=(from.as_secs_f64()) data-to=(to.as_secs_f64()) data-step=(step.as_secs_f64()) {
                (draw::evidence(&plot, (from, to), None, &[]))
            }
            @if known {
                ul.legend {
                    @for (i, line) in plot.lines.iter().enumerate() { li class={ "l" (i % 4) } { (words::foreign(&line.name, 160)) } }
                    @if plot.left_out > 0 { li { "and " (plot.left_out) " more, not drawn" } }
                }
            }
            p #drawn .meta {}
        }
    }
}

/// A series as people write it.
fn named(labels: &Labels) -> String {
    if labels.is_empty() { "{}".to_owned() } else { labels.to_string() }
}

fn said(value: &SampleValue) -> Markup {
    match value {
        SampleValue::Float(value) => html! { (format_value(*value)) },
        SampleValue::Histogram(_) => html! { (words::clean(&value.to_string(), 400)) },
    }
}

fn table(last: &Found, at: Time) -> Markup {
    let row = |name: &str, value: Markup| {
        html! { tr { th scope="row" { code { (words::foreign(name, 500)) } } td.number data-label="value" { (value) } } }
    };
    let (rows, count): (Vec<Markup>, usize) = match &last.value {
        Value::Scalar(value) => (vec![row("scalar", html! { (format_value(*value)) })], 1),
        Value::String(text) => (vec![row("string", html! { (words::foreign(text, 2000)) })], 1),
        Value::Vector(vector) => (
            vector.iter().take(ROWS_MAX).map(|one| row(&named(&one.labels), said(&one.value))).collect(),
            vector.len(),
        ),
        Value::Matrix(matrix) => (
            matrix
                .iter()
                .take(ROWS_MAX)
                .map(|series| {
                    let skipped = series.points.len().saturating_sub(ROW_POINTS_MAX);
                    row(&named(&series.labels), html! {
                        @if skipped > 0 { div.meta { (skipped) " earlier" } }
                        @for point in &series.points[skipped..] {
                            div { (format_value(point.value)) span.meta { " at " (words::fine_clock(point.time)) } }
                        }
                        @if !series.histograms.is_empty() { div.meta { (words::count(series.histograms.len(), "histogram", "histograms")) } }
                    })
                })
                .collect(),
            matrix.len(),
        ),
    };
    html! {
        section {
            h2 { (words::count(count, "result", "results")) " at " (words::clock(at)) " UTC" }
            @if count == 0 {
                p.unknown { (words::shape("unknown", "")) " no series has a value at this time" }
            } @else {
                table.cards.values {
                    caption.hidden { "Values at " (words::exact(at)) }
                    thead { tr { th scope="col" { "series" } th.number scope="col" { "value" } } }
                    tbody { @for row in &rows { (row) } }
                }
                @if count > rows.len() { p.meta { "and " (count - rows.len()) " more" } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_address_says_all_and_what_makes_no_sense_is_said() {
        let asked = Asked::read("query=up+%3E+0&range=30m&end=2026-01-02T13:37:00Z&step=10s");
        assert_eq!(
            (asked.query.as_str(), asked.range, asked.step()),
            ("up > 0", Span::minutes(30), Span::secs(10))
        );
        assert_eq!(asked.end, Some(Time(1_767_361_020_000)));
        assert_eq!(
            asked.address(asked.range, asked.end),
            "/explore?query=up+%3E+0&range=30m&end=2026-01-02T13%3A37%3A00Z&step=10s"
        );
        assert_eq!(Asked::read("").step(), Span::secs(15));
        for (address, wrong) in [
            ("range=soon", "range: `soon`"),
            ("step=0s", "step: `0s`"),
            ("range=1w&step=1s", "more than 11000 points"),
            ("end=tomorrow", "end: `tomorrow`"),
        ] {
            let said = Asked::read(address).wrong.unwrap_or_default();
            assert!(said.contains(wrong), "{address}: {said}");
        }
        for text in ["2026-01-02T13:37", "2026-01-02T13:37:00", "1767361020"] {
            assert_eq!(moment(text), Some(Time(1_767_361_020_000)), "{text}");
        }
    }

    #[test]
    fn an_error_is_shown_in_its_place_and_nothing_of_it_is_markup() {
        let query = "sum(<b>)";
        let error = Expr::parse(query).unwrap_err();
        let shown = fault(query, Some(error.span), &error.message).into_string();
        assert!(shown.contains("sum(<span class=\"at\">&lt;</span>b&gt;)"), "{shown}");
        let end = fault("sum(up", Some(6..6), "x").into_string();
        assert!(end.contains("sum(up<span class=\"at\">\u{a0}</span>"), "{end}");
    }

    proptest! {
        #[test]
        fn no_address_makes_the_page_panic(address in "\\PC{0,80}", start in 0_usize..90, length in 0_usize..90) {
            let asked = Asked::read(&address);
            let _ = (asked.step(), asked.address(asked.range, asked.end));
            let _ = fault(&address, Some(start..start + length), &address);
        }
    }
}
