//! A new configuration takes over from the old one: what was learned and what holds stays, what nobody
//! speaks of any more ends.

use std::collections::HashMap;

use daruma_model::{Labels, Time};

use crate::detector::{Detector, RuleInfo};
use crate::rules::Body;

impl Detector {
    /// Takes over what `old` has learned and holds, for every rule of the same name and meaning, so
    /// that a reload neither forgets nor repeats. Returns rules and labels that held and whose rule
    /// is gone or means something else now. Series that no rule writes any more get a staleness
    /// marker, two turns after the old rule's last.
    pub fn adopt(&mut self, old: Detector) -> Vec<(String, Labels)> {
        let mut lost = Vec::new();
        let external = old.external_labels.clone();
        let told = |labels: &Labels| external.merged(labels);
        let infos: HashMap<&str, &RuleInfo> =
            self.infos.iter().map(|info| (info.rule.as_str(), info)).collect();
        let old_infos: HashMap<&str, &RuleInfo> =
            old.infos.iter().map(|info| (info.rule.as_str(), info)).collect();
        let both = |name: &str| Some((*infos.get(name)?, *old_infos.get(name)?));
        // Labels tell alerts apart: with others, an alert is another one.
        let same_around = self.external_labels == external;
        let named = |name: &str| {
            let same = |(a, b): (&RuleInfo, &RuleInfo)| {
                (&a.alertname, &a.labels) == (&b.alertname, &b.labels)
            };
            same_around && both(name).is_some_and(same)
        };
        let same =
            |name: &str| named(name) && both(name).is_some_and(|(a, b)| a.condition == b.condition);
        let mut orphans = old.orphans;
        let mut mine: HashMap<String, &mut Body> = HashMap::new();
        for rule in &mut self.rules {
            mine.insert(rule.body.name().to_owned(), &mut rule.body);
        }
        for rule in old.rules {
            let ends = old.groups.get(rule.group).and_then(|group| {
                let next = group.next?;
                Some(next + group.interval)
            });
            let ends = ends.unwrap_or(Time::MIN);
            let name = rule.body.name().to_owned();
            let (named, same) = (named(&name), same(&name));
            match (rule.body, mine.get_mut(&name)) {
                (Body::Alert(then), Some(Body::Alert(alert))) if named => {
                    alert.life = then.life;
                    alert.written = then.written;
                    if same {
                        alert.held = then.held;
                    } else {
                        let labels = then.held.into_keys();
                        lost.extend(labels.map(|labels| (then.name.clone(), told(&labels))));
                    }
                }
                (Body::Recording(then), Some(Body::Recording(recording)))
                    if recording.metric == then.metric =>
                {
                    recording.written = then.written;
                }
                (then, _) => {
                    orphans.extend(then.written().series().map(|series| (ends, series.clone())));
                    if let Body::Alert(then) = then {
                        let labels = then.held.into_keys();
                        lost.extend(labels.map(|labels| (then.name.clone(), told(&labels))));
                    }
                }
            }
        }
        orphans.sort();
        self.orphans = orphans;
        let same: Vec<bool> = old.logs.alerts.iter().map(|then| same(&then.name)).collect();
        for (then, same) in old.logs.alerts.into_iter().zip(same) {
            match self.logs.alerts.iter_mut().find(|alert| same && alert.name == then.name) {
                Some(alert) => alert.adopt(then),
                None => lost.extend(then.held().map(|labels| (then.name.clone(), told(&labels)))),
            }
        }
        self.logs.adopt_sources(old.logs.failing);
        lost
    }
}
