//! Which alerts keep others quiet: for each inhibition rule its sources by what must be equal, so that a
//! question costs what it finds.

use std::collections::{BTreeMap, BTreeSet};

use daruma_model::{Labels, Time};

use super::Dispatch;
use crate::routing::{InhibitRule, Routing};

/// Per rule: sources by the values that must be equal.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sources(Vec<BTreeMap<Vec<String>, BTreeSet<u64>>>);

impl Sources {
    pub(super) fn new(rules: &[InhibitRule]) -> Sources {
        Sources(rules.iter().map(|_| BTreeMap::new()).collect())
    }

    pub(super) fn comes(&mut self, rules: &[InhibitRule], fingerprint: u64, labels: &Labels) {
        for (rule, known) in rules.iter().zip(&mut self.0) {
            if rule.source.matches(labels) {
                known.entry(equals(rule, labels)).or_default().insert(fingerprint);
            }
        }
    }

    pub(super) fn goes(&mut self, rules: &[InhibitRule], fingerprint: u64, labels: &Labels) {
        for (rule, known) in rules.iter().zip(&mut self.0) {
            let key = equals(rule, labels);
            if let Some(all) = known.get_mut(&key) {
                all.remove(&fingerprint);
                if all.is_empty() {
                    known.remove(&key);
                }
            }
        }
    }
}

fn equals(rule: &InhibitRule, labels: &Labels) -> Vec<String> {
    rule.equal.iter().map(|name| labels.get(name).to_owned()).collect()
}

impl Dispatch {
    /// Who keeps an alert with these labels quiet, if anybody does: the first source of the first rule.
    pub(crate) fn inhibitor(
        &self,
        sources: &Sources,
        routing: &Routing,
        now: Time,
        labels: &Labels,
    ) -> Option<u64> {
        self.inhibitors(sources, routing, now, labels).next()
    }

    /// Every source that keeps an alert with these labels quiet.
    pub(crate) fn inhibitors<'a>(
        &'a self,
        sources: &'a Sources,
        routing: &'a Routing,
        now: Time,
        labels: &'a Labels,
    ) -> impl Iterator<Item = u64> + 'a {
        let rules = routing.inhibit.iter().zip(&sources.0);
        rules.filter(|(rule, _)| rule.target.matches(labels)).flat_map(move |(rule, known)| {
            // What is on both sides is not kept quiet by its like, hence never by itself.
            let both = rule.source.matches(labels);
            let found = known.get(&equals(rule, labels)).into_iter().flatten();
            found.copied().filter(move |fingerprint| {
                self.alerts.get(fingerprint).is_some_and(|source| {
                    !(source.is_over(now) || both && rule.target.matches(&source.labels))
                })
            })
        })
    }
}
