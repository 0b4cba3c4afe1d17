//! `info()`: adds the labels of info metrics (`target_info` and the like) to the series they are about.

use std::collections::HashMap;

use daruma_model::{Labels, MatchOp, Matcher, Time, is_stale};

use super::{Element, EvalError, Evaluated, Evaluator, failed, shifted};
use crate::ast::{Call, Kind, Node};

/// The labels by which an info metric and a series are about the same thing.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

impl Evaluator<'_> {
    pub(super) fn info_labels(
        &self,
        node: &Node,
        call: &Call,
        time: Time,
    ) -> Evaluated<Vec<Element>> {
        let base = self.vector(&call.args[0], time)?;
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
        let is_info = |labels: &Labels| names.iter().all(|matcher| matcher.matches(labels));
        let optional = data.iter().all(|matcher| matcher.matches_value(""));

        let at = self.reference(&call.args[0], time);
        let found = self.info_series(&names, &data, at, node)?;
        let mut results = Vec::with_capacity(base.len());
        for mut element in base {
            let identity = element.labels.filtered(|name| IDENTIFYING.contains(&name));
            let matches = found.get(&identity).filter(|_| !identity.is_empty());
            if is_info(&element.labels) {
                results.push(element);
            } else if let Some(infos) = matches {
                element.labels = enriched(&element.labels, infos, &data)?;
                results.push(element);
            } else if optional {
                results.push(element);
            }
        }
        Ok(results)
    }

    /// When the base was read: its selector's `@` and `offset` hold for its info series, too.
    fn reference(&self, node: &Node, time: Time) -> Time {
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

    /// The newest info series at `time`, by what they identify; one for each info metric.
    fn info_series(
        &self,
        names: &[Matcher],
        data: &[Matcher],
        time: Time,
        node: &Node,
    ) -> Evaluated<HashMap<Labels, Vec<(Time, Labels)>>> {
        let matchers: Vec<Matcher> = names.iter().chain(data).cloned().collect();
        let series = self.querier.select(&matchers, time - self.limits.lookback, time);
        let mut found: HashMap<Labels, Vec<(Time, Labels)>> = HashMap::new();
        for one in series {
            self.hold(one.points.len())?;
            let newest = one.points.last();
            let native = one.histograms.last();
            if native.is_some_and(|native| newest.is_none_or(|point| point.time < native.time)) {
                return failed(format!("{} holds histograms, so it is no info metric", one.labels));
            }
            let Some(newest) = newest.filter(|point| !is_stale(point.value)) else { continue };
            let identity = one.labels.filtered(|name| IDENTIFYING.contains(&name));
            let infos = found.entry(identity).or_default();
            let name = one.labels.get(Labels::NAME);
            match infos.iter_mut().find(|(_, labels)| labels.get(Labels::NAME) == name) {
                None => infos.push((newest.time, one.labels)),
                Some(known) if known.0 < newest.time => *known = (newest.time, one.labels),
                Some(known) if known.0 == newest.time => {
                    return failed(format!(
                        "found duplicate series for info metric: {} and {} (byte {})",
                        known.1, one.labels, node.span.start
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(found)
    }
}

/// `base` with the data labels of `infos` that it does not have itself.
fn enriched(base: &Labels, infos: &[(Time, Labels)], data: &[Matcher]) -> Evaluated<Labels> {
    let mut added: HashMap<&str, &str> = HashMap::new();
    for (name, value) in infos.iter().flat_map(|(_, labels)| labels.iter()) {
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
