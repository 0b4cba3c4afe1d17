//! Whether the inputs of a query are there: the ground on which `clear` and `unknown` are told apart.
//!
//! A query that returns nothing proves nothing by itself: the fault may be over, or the samples may
//! be. So while a label set holds, this module notes what each selector saw of it, and when it no
//! longer holds asks whether those series still speak. Values are never looked at.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use daruma_model::{
    Histogram, HistogramPoint, Labels, MatchOp, Matcher, Point, Querier, ResetHint, Series, Span,
    Time,
};
use daruma_promql::{At, BinaryOp, Duration, Expr, Kind, Node};

/// How many of the newest gaps tell a series' normal spacing.
const GAPS: usize = 8;

/// One selector of a query, at one evaluation time.
pub(crate) struct Leaf {
    pub(crate) matchers: Vec<Matcher>,
    /// The window it reads, left-open.
    pub(crate) after: Time,
    pub(crate) until: Time,
    /// Whether it reads a window of samples rather than the newest.
    pub(crate) ranged: bool,
    /// Whether `@` pins it to a time, so that nothing new can come.
    pub(crate) pinned: bool,
    /// Whether the query may well return something without it: a side of `or`, the right of `unless`.
    pub(crate) optional: bool,
    /// Whether its absence is what the query asks about.
    pub(crate) absence: bool,
}

/// Every selector of `expr` with the window it reads in a query at `at`, in order of writing.
pub(crate) fn leaves(expr: &Expr, at: Time, lookback: Span) -> Vec<Leaf> {
    let mut walk = Walk { at, lookback, leaves: Vec::new() };
    let place = Place { first: at, last: at, pinned: false, optional: false, absence: false };
    walk.visit(expr.ast(), place);
    walk.leaves
}

/// One selector of a query, as a check looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// In its shortest form, e.g. `up{job="db"}`.
    pub selector: String,
    /// How long a time it reads at each evaluation; zero for the newest sample alone.
    pub window: Span,
    /// Whether the query can return something though nothing matches: an argument of `absent`, a side
    /// of `or`, the right of `unless`.
    pub optional: bool,
}

/// What `expr` reads, in order of writing.
#[must_use]
pub fn reads(expr: &Expr) -> Vec<Read> {
    let read = |leaf: Leaf| Read {
        selector: selector_text(&leaf.matchers),
        window: leaf.until - leaf.after,
        optional: leaf.optional || leaf.absence,
    };
    leaves(expr, Time(0), Span::ZERO).into_iter().map(read).collect()
}

struct Walk {
    at: Time,
    lookback: Span,
    leaves: Vec<Leaf>,
}

#[derive(Clone, Copy)]
struct Place {
    /// The first and last time at which the node is evaluated.
    first: Time,
    last: Time,
    pinned: bool,
    optional: bool,
    absence: bool,
}

impl Walk {
    fn shifted(&self, place: Place, at: Option<At>, offset: Option<&Duration>) -> Place {
        let offset = offset.map_or(Span::ZERO, fixed);
        let (first, last, pinned) = match at {
            None => (place.first, place.last, place.pinned),
            Some(At::Time(time)) => (time, time, true),
            Some(At::Start | At::End) => (self.at, self.at, place.pinned),
        };
        Place { first: first - offset, last: last - offset, pinned, ..place }
    }

    fn visit(&mut self, node: &Node, place: Place) {
        match &node.kind {
            Kind::Selector(selector) => {
                let shift = &selector.shift;
                let place = self.shifted(place, shift.at, shift.offset.as_ref());
                let window = selector.window.as_ref().map_or(self.lookback, fixed);
                self.leaves.push(Leaf {
                    matchers: selector.matchers.clone(),
                    after: place.first - window,
                    until: place.last,
                    ranged: selector.window.is_some(),
                    pinned: place.pinned,
                    optional: place.optional,
                    absence: place.absence,
                });
            }
            Kind::Subquery(subquery) => {
                let shift = &subquery.shift;
                let place = self.shifted(place, shift.at, shift.offset.as_ref());
                let first = place.first - fixed(&subquery.window);
                self.visit(&subquery.inner, Place { first, ..place });
            }
            Kind::Binary(binary) => {
                let left = place.optional || binary.op == BinaryOp::Or;
                let right = left || binary.op == BinaryOp::Unless;
                self.visit(&binary.left, Place { optional: left, ..place });
                self.visit(&binary.right, Place { optional: right, ..place });
            }
            Kind::Call(call) => {
                let asks = matches!(call.function.name, "absent" | "absent_over_time");
                for arg in &call.args {
                    self.visit(arg, Place { absence: place.absence || asks, ..place });
                }
            }
            _ => {
                for child in node.children() {
                    self.visit(child, place);
                }
            }
        }
    }
}

fn fixed(duration: &Duration) -> Span {
    // Arithmetic that yields no length fails in the evaluation, which is where it is told.
    duration.resolve(Span::ZERO, Span::ZERO).unwrap_or(Span::ZERO)
}

/// What one series of a leaf showed, without its values.
struct Trace {
    labels: Labels,
    /// The newest sample; a staleness marker does not count as one.
    newest: Time,
    /// Whether a staleness marker ended it.
    ended: bool,
    /// The normal distance of its samples, as far as it shows.
    spacing: Span,
}

impl Trace {
    fn of(series: &Series, lookback: Span) -> Option<Trace> {
        let (_, ended) = series.backwards().next()?;
        let real = series.backwards().filter(|(_, stale)| !stale);
        let times: Vec<Time> = real.take(GAPS + 1).map(|(time, _)| time).collect();
        let newest = *times.first()?;
        let mut gaps: Vec<Span> = times.windows(2).map(|pair| pair[0] - pair[1]).collect();
        gaps.sort_unstable();
        // From a single sample nothing is known but that an instant selector still shows it.
        let spacing = gaps.get(gaps.len() / 2).copied().unwrap_or(lookback);
        let labels = series.labels.clone();
        Some(Trace { labels, newest, ended, spacing })
    }

    /// Whether the next sample is not overdue at `at` (half a spacing is granted for jitter).
    fn in_time(&self, at: Time) -> bool {
        !self.ended && at.since(self.newest).0 <= self.spacing.0.saturating_add(self.spacing.0 / 2)
    }
}

/// What one leaf showed of one label set when it was last seen to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// Series that an instant selector would have shown.
    present: usize,
    /// Whether any sample fed the leaf.
    fed: bool,
    /// The newest sample.
    newest: Time,
}

/// What all leaves showed of one label set when it was last seen to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct History {
    /// Whether the query makes these labels itself, so that they do not tell its series.
    made: bool,
    leaves: Vec<Seen>,
}

/// Why there is no evidence.
pub(crate) struct Missing {
    /// The selector that lacks samples.
    pub(crate) selector: String,
    /// Its newest sample.
    pub(crate) newest: Option<Time>,
    /// How many of its series speak, of how many that are needed.
    pub(crate) speaking: (usize, usize),
}

/// All that the leaves of one query show at one time, fit to be asked about many label sets.
pub(crate) struct Inputs {
    leaves: Vec<Shown>,
    lookback: Span,
}

/// What one leaf shows.
struct Shown {
    leaf: Leaf,
    traces: Vec<Trace>,
    /// A label that every trace has, and the traces by its values: with many label sets to ask
    /// about, comparing each with each would take longer than the query.
    index: Option<(String, HashMap<String, Vec<usize>>)>,
}

impl Shown {
    fn new(leaf: Leaf, traces: Vec<Trace>) -> Shown {
        let mut names: Vec<&str> = Vec::new();
        if let Some(first) = traces.first().filter(|_| traces.len() > 8) {
            names.extend(first.labels.iter().map(|(name, _)| name));
            names.retain(|name| {
                *name != Labels::NAME && traces.iter().all(|trace| trace.labels.has(name))
            });
        }
        let by = |name: &str| {
            let mut values: HashMap<String, Vec<usize>> = HashMap::new();
            for (i, trace) in traces.iter().enumerate() {
                values.entry(trace.labels.get(name).to_owned()).or_default().push(i);
            }
            values
        };
        let index = names
            .into_iter()
            .map(|name| (name.to_owned(), by(name)))
            .max_by_key(|(_, values)| values.len());
        Shown { leaf, traces, index }
    }

    /// The series that agree with `labels` on every label both have.
    fn agreeing(&self, labels: &Labels) -> Vec<&Trace> {
        let agrees = |trace: &&Trace| {
            labels.iter().all(|(name, value)| {
                let theirs = trace.labels.get(name);
                name == Labels::NAME || theirs.is_empty() || theirs == value
            })
        };
        match &self.index {
            Some((name, values)) if labels.has(name) => values
                .get(labels.get(name))
                .into_iter()
                .flatten()
                .filter_map(|&i| self.traces.get(i))
                .filter(agrees)
                .collect(),
            _ => self.traces.iter().filter(agrees).collect(),
        }
    }
}

impl Inputs {
    pub(crate) fn look(querier: &dyn Querier, expr: &Expr, at: Time, lookback: Span) -> Inputs {
        let read = |leaf: Leaf| {
            // Further back than a short window reaches, so that the normal spacing shows.
            let after = leaf.after.min(leaf.until - lookback);
            let series = querier.select(&leaf.matchers, after, leaf.until);
            let traces = series.iter().filter_map(|series| Trace::of(series, lookback)).collect();
            Shown::new(leaf, traces)
        };
        Inputs { leaves: leaves(expr, at, lookback).into_iter().map(read).collect(), lookback }
    }

    /// The series of each leaf that agree with these labels; with `all`, every series.
    fn relevant(&self, labels: &Labels, all: bool) -> Vec<Vec<&Trace>> {
        self.leaves
            .iter()
            .map(|shown| if all { shown.traces.iter().collect() } else { shown.agreeing(labels) })
            .collect()
    }

    /// What is to be remembered of a label set that holds.
    pub(crate) fn seen(&self, labels: &Labels) -> History {
        let agreeing = self.relevant(labels, false);
        // If no series agrees, the query made the labels itself, and every series may have fed them.
        let made = agreeing.iter().all(Vec::is_empty);
        let relevant = if made { self.relevant(labels, true) } else { agreeing };
        let leaves = self
            .leaves
            .iter()
            .zip(relevant)
            .map(|(Shown { leaf, .. }, traces)| {
                let inside = || traces.iter().filter(|trace| trace.newest > leaf.after);
                let present = |trace: &&&Trace| {
                    !trace.ended && leaf.until.since(trace.newest) < self.lookback
                };
                Seen {
                    present: inside().filter(present).count(),
                    fed: inside().next().is_some(),
                    newest: traces.iter().map(|trace| trace.newest).max().unwrap_or(Time::MIN),
                }
            })
            .collect();
        History { made, leaves }
    }

    /// Whether a label set that no longer holds is proven to be over. `seen` is what its last
    /// holding showed, `None` if that is not known (it held before the program started).
    pub(crate) fn missing(&self, labels: &Labels, seen: Option<&History>) -> Option<Missing> {
        let mut any = false;
        let all = seen.is_some_and(|seen| seen.made);
        for (i, (Shown { leaf, .. }, traces)) in
            self.leaves.iter().zip(self.relevant(labels, all)).enumerate()
        {
            let before = seen.and_then(|seen| seen.leaves.get(i).copied());
            let needed = match before {
                Some(before) if before.fed => before.present.max(1),
                Some(_) => 0,
                // Unknown history: all that a result can depend on must speak.
                None if leaf.optional && traces.is_empty() => 0,
                None => traces.iter().filter(|trace| !trace.ended).count().max(1),
            };
            any |= !traces.is_empty();
            if leaf.pinned || needed == 0 {
                continue;
            }
            let newer = |trace: &Trace| before.is_some_and(|before| trace.newest > before.newest);
            let speaking = traces
                .iter()
                .filter(|trace| !trace.ended && (newer(trace) || trace.in_time(leaf.until)))
                .count();
            if speaking < needed {
                return Some(Missing {
                    selector: selector_text(&leaf.matchers),
                    newest: traces.iter().map(|trace| trace.newest).max(),
                    speaking: (speaking, needed),
                });
            }
        }
        // Without history at least one leaf must have spoken at all.
        (seen.is_none() && !any && !self.leaves.is_empty()).then(|| Missing {
            selector: self
                .leaves
                .first()
                .map_or_else(String::new, |shown| selector_text(&shown.leaf.matchers)),
            newest: None,
            speaking: (0, 1),
        })
    }

    /// The labels by which the series behind a result can be selected: those that every relevant
    /// series of at least one leaf carries with the result's value.
    pub(crate) fn selectable(&self, labels: &Labels) -> Labels {
        let relevant = self.relevant(labels, false);
        labels.filtered(|name| {
            let mut any = false;
            let all = relevant.iter().flatten().all(|trace| {
                any = true;
                trace.labels.get(name) == labels.get(name)
            });
            any && all && name != Labels::NAME
        })
    }
}

/// A selector in its shortest form, e.g. `up{job="db"}`.
pub(crate) fn selector_text(matchers: &[Matcher]) -> String {
    let mut name = "";
    let mut rest = Vec::new();
    for matcher in matchers {
        if matcher.name == Labels::NAME && matcher.op == daruma_model::MatchOp::Equal {
            name = &matcher.value;
        } else {
            rest.push(matcher.to_string());
        }
    }
    if rest.is_empty() && !name.is_empty() {
        return name.to_owned();
    }
    format!("{name}{{{}}}", rest.join(", "))
}

/// Shows only samples after a time, so that what is asked is answered by what came later.
pub(crate) struct After<'a> {
    pub(crate) base: &'a dyn Querier,
    pub(crate) after: Time,
}

impl Querier for After<'_> {
    fn select(&self, matchers: &[Matcher], after: Time, until: Time) -> Vec<Series> {
        self.base.select(matchers, after.max(self.after), until)
    }
}

/// Samples that are not at rest yet, by metric.
#[derive(Debug, Default)]
pub(crate) struct Added(HashMap<String, BTreeMap<Labels, Samples>>);

/// In order of time.
#[derive(Debug, Default)]
struct Samples {
    points: Vec<Point>,
    histograms: Vec<HistogramPoint>,
}

impl Added {
    /// The caller adds the samples of one series in order of time.
    pub(crate) fn push(&mut self, labels: Labels, point: Point) {
        self.samples(labels).points.push(point);
    }

    /// As [`Self::push`], a histogram.
    pub(crate) fn push_histogram(&mut self, labels: Labels, time: Time, made: &Arc<Histogram>) {
        // What a computation says of resets is about its inputs, not about the samples it makes.
        let histogram = match made.hint {
            ResetHint::Gauge | ResetHint::Unknown => Arc::clone(made),
            _ => Arc::new(Histogram { hint: ResetHint::Unknown, ..(**made).clone() }),
        };
        self.samples(labels).histograms.push(HistogramPoint { time, start: None, histogram });
    }

    fn samples(&mut self, labels: Labels) -> &mut Samples {
        let metric = self.0.entry(labels.get(Labels::NAME).to_owned()).or_default();
        metric.entry(labels).or_default()
    }

    /// The series of the metrics that `matchers` may mean.
    fn candidates(&self, matchers: &[Matcher]) -> impl Iterator<Item = (&Labels, &Samples)> {
        let named = matchers.iter().find(|m| m.name == Labels::NAME && m.op == MatchOp::Equal);
        let (one, all) = match named {
            Some(named) => (self.0.get(&named.value), None),
            None => (None, Some(self.0.values())),
        };
        one.into_iter().chain(all.into_iter().flatten()).flatten()
    }
}

/// Shows samples that are not at rest yet over those that are, and counts what was read.
pub(crate) struct Overlay<'a> {
    pub(crate) base: &'a dyn Querier,
    pub(crate) added: &'a Added,
    /// Points, and [`SERIES_COST`] for each series.
    pub(crate) read: Cell<u64>,
}

/// What finding a series costs, in points read.
const SERIES_COST: u64 = 16;

impl Querier for Overlay<'_> {
    fn select(&self, matchers: &[Matcher], after: Time, until: Time) -> Vec<Series> {
        let found = self.seen(matchers, (after, until), self.base.select(matchers, after, until));
        self.pay(found.iter().map(|series| {
            let buckets = series.histograms.iter().map(|point| point.histogram.buckets() as u64);
            series.points.len() as u64 + buckets.sum::<u64>()
        }));
        found
    }

    fn select_newest(&self, matchers: &[Matcher], after: Time, until: Time) -> Vec<Series> {
        let found = self.base.select_newest(matchers, after, until);
        let found = self.seen(matchers, (after, until), found);
        // Whether older ones are left out is the store's affair, and no rule is due later for it.
        self.pay(found.iter().map(|_| 1));
        found
    }

    fn stopped(&self) -> bool {
        self.base.stopped()
    }
}

impl Overlay<'_> {
    /// What is at rest, with what is not yet.
    fn seen(
        &self,
        matchers: &[Matcher],
        (after, until): (Time, Time),
        mut found: Vec<Series>,
    ) -> Vec<Series> {
        let mut fresh = Vec::new();
        for (labels, added) in self.added.candidates(matchers) {
            if !matchers.iter().all(|matcher| matcher.matches(labels)) {
                continue;
            }
            let inside = |time: Time| time > after && time <= until;
            let points = added.points.iter().filter(|point| inside(point.time));
            let histograms = added.histograms.iter().filter(|point| inside(point.time));
            match found.binary_search_by(|series| series.labels.cmp(labels)) {
                Ok(place) => {
                    let series = &mut found[place];
                    let newest = series.backwards().next().map(|(time, _)| time);
                    series.points.extend(points.filter(|point| Some(point.time) > newest));
                    let newer = histograms.filter(|point| Some(point.time) > newest);
                    series.histograms.extend(newer.cloned());
                }
                Err(_) => {
                    let mut series =
                        Series { points: points.copied().collect(), ..Series::default() };
                    series.histograms = histograms.cloned().collect();
                    if !series.is_empty() {
                        series.labels = labels.clone();
                        fresh.push(series);
                    }
                }
            }
        }
        if !fresh.is_empty() {
            found.extend(fresh);
            found.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        found
    }

    /// Notes what it costs to read series of so many points.
    fn pay(&self, points: impl Iterator<Item = u64>) {
        self.read.set(self.read.get() + points.map(|points| points + SERIES_COST).sum::<u64>());
    }
}
