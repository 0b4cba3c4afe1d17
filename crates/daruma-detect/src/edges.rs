//! Which rules read a sample that arrived.
//!
//! It stands apart because it runs for every sample of every source: its cost must follow the rules
//! that read the sample, not all rules there are. A selector is filed under its metric name and, if it
//! has further equalities, under the one that tells rules apart best; only those found so are
//! compared in full.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use daruma_model::{Commit, Labels, MatchOp, Matcher};
use daruma_promql::Expr;

/// A selector of a rule.
#[derive(Debug)]
struct Edge {
    rule: usize,
    /// What is left to compare.
    matchers: Vec<Matcher>,
}

/// The selectors that name one metric.
#[derive(Debug, Default)]
struct Metric {
    /// By the value of a label: label name → value → selectors.
    filed: Vec<(String, HashMap<String, Vec<Edge>>)>,
    /// All others.
    others: Vec<Edge>,
}

/// Selectors by what they look for.
#[derive(Debug, Default)]
pub(crate) struct Edges {
    by_metric: HashMap<String, Metric>,
    /// Selectors that name no metric.
    anywhere: Vec<Edge>,
}

impl Edges {
    /// The selectors of these rules.
    pub(crate) fn new<'a>(rules: impl Iterator<Item = (usize, &'a Expr)> + Clone) -> Edges {
        // A label that takes many values among the rules leaves the fewest at each of them.
        let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (_, expr) in rules.clone() {
            for matcher in expr.selectors().iter().flat_map(|selector| &selector.matchers) {
                if matcher.op == MatchOp::Equal {
                    values.entry(&matcher.name).or_default().insert(&matcher.value);
                }
            }
        }
        let weight = |matcher: &Matcher| values.get(matcher.name.as_str()).map_or(0, BTreeSet::len);
        let mut edges = Edges::default();
        for (rule, expr) in rules {
            for selector in expr.selectors() {
                let equal = |matcher: &&Matcher| {
                    matcher.op == MatchOp::Equal
                        && !matcher.value.is_empty()
                        && matcher.name != Labels::NAME
                };
                let anchor = selector.matchers.iter().filter(equal).max_by_key(|m| weight(m));
                let name = selector.name();
                let rest = |matcher: &&Matcher| {
                    Some(*matcher) != anchor
                        && !(matcher.name == Labels::NAME && matcher.op == MatchOp::Equal)
                };
                let filed = name.is_some();
                let matchers = if filed {
                    selector.matchers.iter().filter(rest).cloned().collect()
                } else {
                    selector.matchers.clone()
                };
                let edge = Edge { rule, matchers };
                let Some(name) = name else {
                    edges.anywhere.push(edge);
                    continue;
                };
                let metric = edges.by_metric.entry(name.to_owned()).or_default();
                let place = match anchor {
                    None => &mut metric.others,
                    Some(anchor) => {
                        let known = metric.filed.iter().position(|(n, _)| *n == anchor.name);
                        let at = known.unwrap_or_else(|| {
                            metric.filed.push((anchor.name.clone(), HashMap::new()));
                            metric.filed.len() - 1
                        });
                        metric.filed[at].1.entry(anchor.value.clone()).or_default()
                    }
                };
                place.push(edge);
            }
        }
        edges
    }

    /// The rules that read a sample of the commit and are not `marked` yet; now they are.
    pub(crate) fn touched(&self, commit: &Commit, marked: &mut [bool]) -> Vec<usize> {
        let mut found = Vec::new();
        let mut offer = |edge: &Edge, labels: &Labels| {
            if let Some(marked) = marked.get_mut(edge.rule)
                && !*marked
                && edge.matchers.iter().all(|matcher| matcher.matches(labels))
            {
                *marked = true;
                found.push(edge.rule);
            }
        };
        let mut last: Option<(&str, Option<&Metric>)> = None;
        for labels in commit.labels() {
            for edge in &self.anywhere {
                offer(edge, labels);
            }
            let name = labels.get(Labels::NAME);
            let metric = match last {
                // Samples of one metric mostly come together.
                Some((known, metric)) if known == name => metric,
                _ => self.by_metric.get(name),
            };
            last = Some((name, metric));
            let Some(metric) = metric else { continue };
            for (label, values) in &metric.filed {
                for edge in values.get(labels.get(label)).into_iter().flatten() {
                    offer(edge, labels);
                }
            }
            for edge in &metric.others {
                offer(edge, labels);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use daruma_model::{Sample, Time};
    use proptest::prelude::*;

    use super::*;

    fn expr() -> impl Strategy<Value = String> {
        let matcher = ("(instance|job)(=|!=|=~|!~)", "[a-c]?")
            .prop_map(|(left, value)| format!("{left}\"{value}\""));
        let selector = ("[xyz]", prop::collection::vec(matcher, 0..3))
            .prop_map(|(name, matchers)| format!("{name}{{{}}}", matchers.join(",")));
        let nameless = "[ab]".prop_map(|value| format!("{{job=\"{value}\"}}"));
        let one = prop_oneof![4 => selector, 1 => nameless];
        (one.clone(), one).prop_map(|(a, b)| format!("{a} / {b}"))
    }

    proptest! {
        /// What the index finds is what comparing every selector with every sample finds.
        #[test]
        fn the_index_finds_what_comparing_all_with_all_finds(
            exprs in prop::collection::vec(expr(), 1..12),
            samples in prop::collection::vec(("[xyzw]", "[a-c]?", "[a-c]?"), 1..12),
        ) {
            let exprs: Vec<Expr> = exprs.iter().map(|expr| expr.parse().unwrap()).collect();
            let sample = |(name, instance, job): &(String, String, String)| Sample {
                labels: [("__name__", &**name), ("instance", &**instance), ("job", &**job)].into(),
                time: Time(0),
                value: 0.0,
            };
            let commit = Commit::from(samples.iter().map(sample).collect::<Vec<_>>());
            let edges = Edges::new(exprs.iter().enumerate());
            let mut marked = vec![false; exprs.len()];
            let mut found = edges.touched(&commit, &mut marked);
            found.sort_unstable();
            let reads = |expr: &Expr| {
                let selectors = expr.selectors();
                commit.samples.iter().any(|sample| {
                    selectors.iter().any(|s| s.matchers.iter().all(|m| m.matches(&sample.labels)))
                })
            };
            let want: Vec<usize> =
                exprs.iter().enumerate().filter(|(_, expr)| reads(expr)).map(|(i, _)| i).collect();
            prop_assert_eq!(&found, &want);
            prop_assert_eq!(edges.touched(&commit, &mut marked), Vec::<usize>::new());
        }
    }
}
