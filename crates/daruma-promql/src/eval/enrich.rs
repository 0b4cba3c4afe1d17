//! `info()`: adds the labels of info metrics (`target_info` and the like) to the series they are about.

use std::cell::RefCell;
use std::collections::HashMap;

use daruma_model::{Labels, MatchOp, Matcher, Series, Time, is_stale};

use super::intern::ByAddress;
use super::{Element, EvalError, Evaluated, Evaluator, failed, shifted};
use crate::ast::{Call, Kind, Node};

/// The labels by which an info metric and a series are about the same thing.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// The info metrics that one call reads.
pub(super) struct Infos {
    /// Which metrics are info metrics.
    names: Vec<Matcher>,
    /// What is asked of their other labels.
    data: Vec<Matcher>,
    series: Vec<Series>,
    /// By series: the number of its kind, which is its name and what it is about.
    kinds: Vec<usize>,
    /// What each kind is about.
    identities: Vec<Labels>,
    /// What was found at the last step: mostly the same holds at the next.
    last: RefCell<Joined>,
}

#[derive(Default)]
struct Joined {
    /// By kind: its newest series.
    winners: Vec<Option<usize>>,
    /// The series about a thing.
    about: HashMap<Labels, Vec<usize>>,
    /// By the address of a label set, which is kept with it: what `info` makes of it, if anything.
    made: ByAddress<usize, (Labels, Option<Labels>)>,
}

/// The labels by which things are told apart.
fn identity(labels: &Labels) -> Labels {
    labels.filtered(|name| IDENTIFYING.contains(&name))
}

impl Evaluator<'_> {
    /// Reads, once for all steps, the info series that count from `first` to `last`.
    pub(super) fn read_infos(&self, call: &Call, (first, last): (Time, Time)) -> Evaluated<Infos> {
        let given = match call.args.get(1).map(|arg| &arg.kind) {
            Some(Kind::Selector(selector)) => selector.matchers.as_slice(),
            _ => &[],
        };
        let (mut names, data): (Vec<Matcher>, Vec<Matcher>) =
            given.iter().cloned().partition(|matcher| matcher.name == Labels::NAME);
        let compiled = |op, value| {
            Matcher::new(Labels::NAME, op, value)
                .map_err(|error| EvalError::Execution(error.to_string()))
        };
        if names.is_empty() {
            names.push(compiled(MatchOp::Equal, "target_info")?);
        } else if !names.iter().any(|m| matches!(m.op, MatchOp::Equal | MatchOp::Regex)) {
            names.push(compiled(MatchOp::Regex, ".+_info")?);
        }
        let matchers: Vec<Matcher> = names.iter().chain(&data).cloned().collect();
        let series = self.querier.select(&matchers, first - self.limits.lookback, last);
        let (mut kinds, mut identities) = (Vec::with_capacity(series.len()), Vec::new());
        let mut known: HashMap<(Labels, String), usize> = HashMap::new();
        for one in &series {
            self.hold(one.points.len() + one.histograms.len())?;
            let key = (identity(&one.labels), one.labels.get(Labels::NAME).to_owned());
            let kind = *known.entry(key).or_insert_with_key(|(identity, _)| {
                identities.push(identity.clone());
                identities.len() - 1
            });
            kinds.push(kind);
        }
        Ok(Infos { names, data, series, kinds, identities, last: RefCell::default() })
    }

    pub(super) fn info_labels(
        &self,
        node: &Node,
        call: &Call,
        time: Time,
    ) -> Evaluated<Vec<Element>> {
        let base = self.vector(&call.args[0], time)?;
        let Some(infos) = self.infos.get(&node.id) else { return failed("`info` without a plan") };
        let winners = self.winners(infos, self.reference(&call.args[0], time), node)?;
        let mut last = infos.last.borrow_mut();
        if last.winners != winners {
            *last = Joined::default();
            for (identity, winner) in infos.identities.iter().zip(&winners) {
                let about = winner.map(|winner| (identity.clone(), winner));
                about.into_iter().for_each(|(identity, winner)| {
                    last.about.entry(identity).or_default().push(winner);
                });
            }
            last.winners = winners;
        }
        let is_info = |labels: &Labels| infos.names.iter().all(|matcher| matcher.matches(labels));
        let optional = infos.data.iter().all(|matcher| matcher.matches_value(""));
        let Joined { about, made, .. } = &mut *last;
        if made.len() > 2 * base.len() + (1 << 12) {
            made.clear();
        }
        let mut results = Vec::with_capacity(base.len());
        for mut element in base {
            let address = element.labels.address();
            let known = match made.get(&address) {
                Some((_, known)) => known.clone(),
                None => {
                    let labels = &element.labels;
                    let identity = identity(labels);
                    let matches = about.get(&identity).filter(|_| !identity.is_empty());
                    let made_of = if is_info(labels) {
                        Some(labels.clone())
                    } else if let Some(matches) = matches {
                        Some(enriched(labels, infos, matches)?)
                    } else {
                        optional.then(|| labels.clone())
                    };
                    if self.repeats() {
                        made.insert(address, (labels.clone(), made_of.clone()));
                    }
                    made_of
                }
            };
            if let Some(labels) = known {
                element.labels = labels;
                results.push(element);
            }
        }
        Ok(results)
    }

    /// When the base was read: its selector's `@` and `offset` hold for its info series, too.
    pub(super) fn reference(&self, node: &Node, time: Time) -> Time {
        match &node.kind {
            Kind::Selector(selector) => {
                let offset = self.leaves.get(selector.index).map(|leaf| leaf.offset);
                let offset = offset.unwrap_or_default();
                shifted(selector.shift.at, offset, (time, time), self.bounds).0
            }
            Kind::Subquery(subquery) => {
                let offset = self.inners.get(&node.id).map(|inner| inner.offset);
                let offset = offset.unwrap_or_default();
                let time = shifted(subquery.shift.at, offset, (time, time), self.bounds).0;
                self.reference(&subquery.inner, time)
            }
            _ => node
                .children()
                .into_iter()
                .find(|child| !child.selectors().is_empty())
                .map_or(time, |child| self.reference(child, time)),
        }
    }

    /// The newest series of each kind at `time`.
    fn winners(&self, infos: &Infos, time: Time, node: &Node) -> Evaluated<Vec<Option<usize>>> {
        let after = time - self.limits.lookback;
        let mut winners: Vec<Option<(Time, usize)>> = vec![None; infos.identities.len()];
        for (at, (one, kind)) in infos.series.iter().zip(&infos.kinds).enumerate() {
            let end = one.points.partition_point(|point| point.time <= time);
            let newest = end.checked_sub(1).map(|at| one.points[at]);
            let newest = newest.filter(|point| point.time > after);
            let end = one.histograms.partition_point(|point| point.time <= time);
            let native = end.checked_sub(1).map(|at| one.histograms[at].time);
            let native = native.filter(|time| *time > after);
            if native.is_some_and(|native| newest.is_none_or(|point| point.time < native)) {
                return failed(format!("{} holds histograms, so it is no info metric", one.labels));
            }
            let Some(newest) = newest.filter(|point| !is_stale(point.value)) else { continue };
            match &mut winners[*kind] {
                Some((known, other)) if *known == newest.time => {
                    return failed(format!(
                        "found duplicate series for info metric: {} and {} (byte {})",
                        infos.series[*other].labels, one.labels, node.span.start
                    ));
                }
                Some((known, _)) if *known > newest.time => {}
                winner => *winner = Some((newest.time, at)),
            }
        }
        Ok(winners.into_iter().map(|winner| winner.map(|(_, at)| at)).collect())
    }
}

/// `base` with the data labels of the info series in those places that it does not have itself.
fn enriched(base: &Labels, infos: &Infos, matches: &[usize]) -> Evaluated<Labels> {
    let data = &infos.data;
    let mut added: HashMap<&str, &str> = HashMap::new();
    for (name, value) in matches.iter().flat_map(|at| infos.series[*at].labels.iter()) {
        let wanted = data.is_empty() || data.iter().any(|matcher| matcher.name == name);
        if name == Labels::NAME || IDENTIFYING.contains(&name) || base.has(name) || !wanted {
            continue;
        }
        if let Some(other) = added.insert(name, value)
            && other != value
        {
            return failed(format!("conflicting label: {name} is both {other:?} and {value:?}"));
        }
    }
    Ok(added.into_iter().fold(base.clone(), |labels, (name, value)| labels.with(name, value)))
}
