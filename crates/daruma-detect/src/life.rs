//! The life of the alerts of one rule as Prometheus tells it: pending, firing, resolved, at grid
//! instants and never between them.
//!
//! It stands apart from the alerts that act and tell (another stage times those, from the moment a
//! condition is seen): what is written to `ALERTS` and `ALERTS_FOR_STATE`, and what a unit test of
//! rules expects, must be Prometheus' to the instant. Evidence that is missing ends an alert here, as
//! it does there; only what was restored waits until it is seen or disproved.

use std::collections::BTreeMap;

use daruma_model::{Labels, Span, Time};

/// A resolved alert is remembered for so long.
const RESOLVED_FOR: Span = Span::minutes(15);

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Pending,
    Firing,
    Resolved { at: Time },
}

/// One label set.
#[derive(Debug, Clone)]
struct Active {
    annotations: Labels,
    value: f64,
    since: Time,
    standing: Standing,
    /// Since when only `keep_firing_for` keeps it.
    kept_since: Option<Time>,
    /// Restored at the start and not looked at since.
    restored: bool,
}

/// What an evaluation yields of one label set, templates expanded.
pub(crate) struct Seen<'a> {
    pub(crate) labels: &'a Labels,
    pub(crate) annotations: &'a Labels,
    pub(crate) value: f64,
}

/// How long a rule waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    pub(crate) hold_for: Span,
    pub(crate) keep_firing_for: Span,
    /// More alerts than this fail the rule; 0: no limit.
    pub(crate) limit: usize,
}

/// An alert that is not resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct ActiveAlert {
    /// Its labels, `alertname` among them.
    pub labels: Labels,
    /// Its texts at the newest evaluation that saw it.
    pub annotations: Labels,
    /// Its value there.
    pub value: f64,
    /// The first evaluation that saw it.
    pub since: Time,
    /// Whether it fires, or is pending.
    pub firing: bool,
}

/// All alerts of one rule.
#[derive(Debug, Clone, Default)]
pub(crate) struct Life(BTreeMap<Labels, Active>);

impl Life {
    /// Takes in what one grid instant showed. `unproven` says of a restored alert that is not among
    /// it whether nothing is known of it yet.
    ///
    /// # Errors
    /// More alerts than the limit: nothing is active then.
    pub(crate) fn step<'a>(
        &mut self,
        now: Time,
        waits: Waits,
        seen: impl Iterator<Item = Seen<'a>>,
        unproven: impl Fn(&Labels) -> bool,
    ) -> Result<(), String> {
        let mut present: BTreeMap<&Labels, ()> = BTreeMap::new();
        for Seen { labels, annotations, value } in seen {
            present.insert(labels, ());
            match self.0.get_mut(labels) {
                Some(known) if !matches!(known.standing, Standing::Resolved { .. }) => {
                    known.value = value;
                    known.annotations = annotations.clone();
                }
                _ => {
                    let active = Active {
                        annotations: annotations.clone(),
                        value,
                        since: now,
                        standing: Standing::Pending,
                        kept_since: None,
                        restored: false,
                    };
                    self.0.insert(labels.clone(), active);
                }
            }
        }
        let mut active = 0;
        self.0.retain(|labels, alert| {
            if present.contains_key(labels) {
                alert.kept_since = None;
                alert.restored = false;
            } else if alert.restored && unproven(labels) {
                active += 1;
                return true;
            } else {
                alert.restored = false;
                if !alert.goes_on(now, waits.keep_firing_for) {
                    return alert.leaves(now);
                }
            }
            active += 1;
            if alert.standing == Standing::Pending && now.since(alert.since) >= waits.hold_for {
                alert.standing = Standing::Firing;
            }
            true
        });
        if waits.limit > 0 && active > waits.limit {
            self.0.clear();
            return Err(format!("{active} alerts exceed the group's limit of {}", waits.limit));
        }
        Ok(())
    }

    /// Takes up an alert from before the start.
    pub(crate) fn restore(
        &mut self,
        labels: Labels,
        annotations: Labels,
        since: Time,
        fires: bool,
    ) {
        let standing = if fires { Standing::Firing } else { Standing::Pending };
        let active =
            Active { annotations, value: 0.0, since, standing, kept_since: None, restored: true };
        self.0.entry(labels).or_insert(active);
    }

    /// Whether nothing is remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is pending or fires, in order of labels.
    pub(crate) fn active(&self) -> impl Iterator<Item = ActiveAlert> {
        self.0.iter().filter(|(_, alert)| !matches!(alert.standing, Standing::Resolved { .. })).map(
            |(labels, alert)| ActiveAlert {
                labels: labels.clone(),
                annotations: alert.annotations.clone(),
                value: alert.value,
                since: alert.since,
                firing: alert.standing == Standing::Firing,
            },
        )
    }

    /// The series that tell of it: labels and values.
    pub(crate) fn series(&self) -> Vec<(Labels, f64)> {
        let mut all = Vec::new();
        for alert in self.active() {
            let state = if alert.firing { "firing" } else { "pending" };
            let told = alert.labels.with(Labels::NAME, "ALERTS").with("alertstate", state);
            all.push((told, 1.0));
            // Whole seconds, as upstream writes and reads them.
            let since = alert.since.0.div_euclid(1000) as f64;
            all.push((alert.labels.with(Labels::NAME, "ALERTS_FOR_STATE"), since));
        }
        all
    }
}

impl Active {
    /// Whether an alert that is not seen any more fires on.
    fn goes_on(&mut self, now: Time, keep_firing_for: Span) -> bool {
        if self.standing != Standing::Firing || keep_firing_for <= Span::ZERO {
            return false;
        }
        now.since(*self.kept_since.get_or_insert(now)) < keep_firing_for
    }

    /// Resolves what fired and forgets what was pending; whether it is remembered.
    fn leaves(&mut self, now: Time) -> bool {
        match self.standing {
            Standing::Pending => false,
            Standing::Firing => {
                self.standing = Standing::Resolved { at: now };
                true
            }
            Standing::Resolved { at } => now.since(at) <= RESOLVED_FOR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITS: Waits =
        Waits { hold_for: Span::secs(30), keep_firing_for: Span::secs(30), limit: 0 };

    fn step(life: &mut Life, second: i64, names: &[&str], waits: Waits) -> Result<(), String> {
        let labels: Vec<Labels> =
            names.iter().map(|name| Labels::from([("alertname", *name)])).collect();
        let none = Labels::default();
        let seen = labels.iter().map(|labels| Seen { labels, annotations: &none, value: 1.0 });
        life.step(Time(second * 1000), waits, seen, |_| true)
    }

    fn told(life: &Life) -> String {
        let one = |alert: ActiveAlert| {
            let state = if alert.firing { "firing" } else { "pending" };
            format!("{} {state} {}", alert.labels.get("alertname"), alert.since.0 / 1000)
        };
        life.active().map(one).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn an_alert_waits_fires_lingers_and_goes() {
        let mut life = Life::default();
        for (second, names, want) in [
            (0, &["A"][..], "A pending 0"),
            (15, &[], ""), // A gap forgets what was pending.
            (30, &["A"], "A pending 30"),
            (45, &["A"], "A pending 30"),
            (60, &["A"], "A firing 30"),
            (75, &[], "A firing 30"), // Kept.
            (90, &["A"], "A firing 30"),
            (105, &[], "A firing 30"), // Counted anew from here.
            (120, &[], "A firing 30"),
            (135, &[], ""),
            (150, &["A"], "A pending 150"), // A new life.
        ] {
            step(&mut life, second, names, WAITS).unwrap();
            assert_eq!(told(&life), want, "{second} s");
        }
        step(&mut life, 180, &["A"], WAITS).unwrap();
        for second in [210, 240, 240 + 901] {
            step(&mut life, second, &[], WAITS).unwrap();
            assert_eq!(life.is_empty(), second > 1000, "{second} s");
        }
    }

    #[test]
    fn without_a_wait_it_fires_at_once_and_its_series_tell_since_when() {
        let mut life = Life::default();
        let waits = Waits { hold_for: Span::ZERO, keep_firing_for: Span::ZERO, limit: 0 };
        step(&mut life, 7, &["A"], waits).unwrap();
        let series: Vec<String> =
            life.series().iter().map(|(labels, value)| format!("{labels} {value}")).collect();
        assert_eq!(
            series,
            [
                r#"ALERTS{alertname="A", alertstate="firing"} 1"#,
                r#"ALERTS_FOR_STATE{alertname="A"} 7"#
            ]
        );
    }

    #[test]
    fn over_the_limit_nothing_is_active() {
        let mut life = Life::default();
        let waits = Waits { limit: 1, ..WAITS };
        step(&mut life, 0, &["A"], waits).unwrap();
        let error = step(&mut life, 15, &["A", "B"], waits).unwrap_err();
        assert_eq!(error, "2 alerts exceed the group's limit of 1");
        assert_eq!(told(&life), "");
    }

    #[test]
    fn what_was_restored_waits_until_it_is_seen_or_disproved() {
        let labels = Labels::from([("alertname", "A")]);
        let mut life = Life::default();
        life.restore(labels.clone(), Labels::default(), Time(-20_000), false);
        // Nothing is known of it: it neither goes nor fires.
        step(&mut life, 15, &[], WAITS).unwrap();
        assert_eq!(told(&life), "A pending -20");
        step(&mut life, 30, &["A"], WAITS).unwrap();
        assert_eq!(told(&life), "A firing -20");
        let mut life = Life::default();
        life.restore(labels, Labels::default(), Time(-20_000), true);
        let waits = Waits { keep_firing_for: Span::ZERO, ..WAITS };
        life.step(Time(15_000), waits, std::iter::empty(), |_| false).unwrap();
        assert_eq!(told(&life), "");
    }
}
