//! What is watched: services with instances that depend on each other, the faults that befall them,
//! and the policy by which they are cared for. Only this module knows the truth.

use daruma_alert::{
    Backoff, CheckConfig, Confirm, Escalate, GlobalLimits, Limits, Mode, NotifyPolicy, Percent,
    Policy, ProbeConfig, Rate, ReceiverPolicy, RecoverConfig, Route, RulePolicy, Runbook, Service,
    Step, Verify,
};
use daruma_model::{ActionKind, ActionSpec, Labels, Level, Matcher, Matchers, Span};

use crate::rng::Rng;

const NAMES: [&str; 5] = ["kv", "web", "api", "batch", "mail"];

/// One thing a rule can speak about.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) rule: &'static str,
    pub(crate) labels: Labels,
    pub(crate) place: Place,
}

/// A service, or one instance of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) service: usize,
    pub(crate) instance: Option<usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) name: String,
    pub(crate) instances: usize,
    pub(crate) depends_on: Vec<usize>,
}

/// How a fault behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A restart cures it.
    Restart,
    /// Only the wider action cures it.
    Wider,
    /// No action cures it; a person does, in the end.
    Stubborn,
    /// After a restart it looks well to a probe for a while, and is not.
    LooksFixed,
    /// It goes away.
    Passing,
    /// It comes and goes.
    Flapping,
    /// A restart cures it, and it comes back.
    Relapsing,
    /// Many services at once; no action helps.
    Common,
}

#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) place: Place,
    pub(crate) slow: bool,
    pub(crate) since: i64,
    pub(crate) until: i64,
    /// Until when probes are fooled.
    pub(crate) fooled: i64,
    pub(crate) back_after: i64,
    pub(crate) times: u32,
}

impl Fault {
    fn on(&self, t: i64) -> bool {
        t >= self.since
            && t < self.until
            && (self.kind != Kind::Flapping || (t - self.since) / self.back_after % 2 == 0)
    }
}

#[derive(Debug)]
pub(crate) struct Town {
    pub(crate) units: Vec<Unit>,
    pub(crate) series: Vec<Series>,
    pub(crate) faults: Vec<Fault>,
    /// Instances that an act disturbs, until when.
    pub(crate) disturbed: Vec<(Place, i64)>,
    pub(crate) canary: (i64, i64),
}

impl Town {
    pub(crate) fn new(rng: &mut Rng) -> Town {
        let count = 2 + rng.below(4);
        let mut units = Vec::new();
        for (i, name) in NAMES.iter().take(count).enumerate() {
            let depends_on = (0..i).filter(|_| rng.chance(0.3)).collect();
            let instances = *rng.pick(&[1, 1, 2, 3, 4, 6]);
            units.push(Unit { name: (*name).to_owned(), instances, depends_on });
        }
        let mut series = Vec::new();
        for (i, unit) in units.iter().enumerate() {
            let name = unit.name.as_str();
            for n in 0..unit.instances {
                let instance = format!("{name}-{n}");
                let place = Place { service: i, instance: Some(n) };
                for (rule, severity) in [("Down", "error"), ("Slow", "warning")] {
                    let labels: Labels = [
                        ("alertname", rule),
                        ("service", name),
                        ("instance", instance.as_str()),
                        ("severity", severity),
                    ]
                    .into();
                    series.push(Series { rule, labels, place });
                }
            }
            let labels: Labels =
                [("alertname", "Errors"), ("service", name), ("severity", "error")].into();
            series.push(Series {
                rule: "Errors",
                labels,
                place: Place { service: i, instance: None },
            });
        }
        // One that names no service, and one whose faults are only made to see the whole loop turn.
        let place = Place { service: 0, instance: Some(0) };
        let labels: Labels =
            [("alertname", "Host"), ("instance", "kv-0"), ("severity", "critical")].into();
        series.push(Series { rule: "Host", labels, place });
        let labels: Labels = [("alertname", "Canary"), ("severity", "critical")].into();
        series.push(Series { rule: "Canary", labels, place });
        Town { units, series, faults: Vec::new(), disturbed: Vec::new(), canary: (0, 0) }
    }

    pub(crate) fn place(&self, text: &str) -> Option<Place> {
        let (service, instance) = match text.split_once(['/', '.']) {
            Some((service, instance)) => (service, instance),
            None => (text, ""),
        };
        let service = self.units.iter().position(|unit| unit.name == service)?;
        let instance = instance.rsplit_once('-').and_then(|(_, n)| n.parse().ok());
        Some(Place { service, instance })
    }

    fn direct(&self, service: usize, n: usize, t: i64, slow: bool, probe: bool) -> bool {
        let here = |place: Place| {
            place.service == service && place.instance.is_none_or(|instance| instance == n)
        };
        self.faults.iter().any(|fault| {
            fault.slow == slow && here(fault.place) && fault.on(t) && !(probe && t < fault.fooled)
        }) || (!slow && self.disturbed.iter().any(|(place, until)| here(*place) && t < *until))
    }

    /// Whether this instance is down: by itself, or because all of a service it needs is.
    fn down(&self, service: usize, n: usize, t: i64, probe: bool) -> bool {
        self.direct(service, n, t, false, probe)
            || self.units[service]
                .depends_on
                .iter()
                .any(|on| (0..self.units[*on].instances).all(|m| self.down(*on, m, t, probe)))
    }

    /// Whether anything is wrong at a place, as probes see it, or as it is.
    pub(crate) fn ill(&self, place: Place, t: i64, probe: bool) -> bool {
        let one = |n: usize| {
            self.down(place.service, n, t, probe) || self.direct(place.service, n, t, true, probe)
        };
        match place.instance {
            Some(n) => one(n),
            None => (0..self.units[place.service].instances).any(one),
        }
    }

    /// Whether nothing at all is wrong.
    pub(crate) fn all_well(&self, t: i64) -> bool {
        !self.faults.iter().any(|fault| fault.on(t))
            && !self.disturbed.iter().any(|(_, until)| t < *until)
            && !(self.canary.0..self.canary.1).contains(&t)
    }

    /// Whether a rule's condition is true of its label set.
    pub(crate) fn holds(&self, series: &Series, t: i64) -> bool {
        let Place { service, instance } = series.place;
        let n = instance.unwrap_or(0);
        match series.rule {
            "Down" => self.down(service, n, t, false),
            "Slow" => self.direct(service, n, t, true, false),
            "Errors" => (0..self.units[service].instances).any(|n| self.down(service, n, t, false)),
            "Canary" => (self.canary.0..self.canary.1).contains(&t),
            _ => self.direct(0, 0, t, true, false),
        }
    }

    /// A fault befalls somebody. Returns a line for the story.
    pub(crate) fn befall(&mut self, rng: &mut Rng, t: i64) -> String {
        let kind = match rng.below(100) {
            0..30 => Kind::Restart,
            30..42 => Kind::Wider,
            42..52 => Kind::Stubborn,
            52..60 => Kind::LooksFixed,
            60..75 => Kind::Passing,
            75..83 => Kind::Flapping,
            83..94 => Kind::Relapsing,
            _ => Kind::Common,
        };
        let lasts = match kind {
            Kind::Passing => rng.range(2_000, 180_000),
            Kind::Flapping => rng.range(60_000, 900_000),
            Kind::Common => rng.range(60_000, 1_200_000),
            _ => rng.range(20 * 60_000, 120 * 60_000),
        };
        let base = Fault {
            kind,
            place: Place { service: 0, instance: None },
            slow: rng.chance(0.2),
            since: t,
            until: t + lasts,
            fooled: 0,
            back_after: rng.range(8_000, 240_000),
            times: rng.range(1, 4) as u32,
        };
        let mut places = Vec::new();
        if kind == Kind::Common {
            for service in 0..self.units.len() {
                if rng.chance(0.8) {
                    places.push(Place { service, instance: None });
                }
            }
        } else {
            let service = rng.below(self.units.len());
            let all = self.units[service].instances;
            let instance = (all > 1 && rng.chance(0.8)).then(|| rng.below(all));
            let instance = if all == 1 { Some(0) } else { instance };
            places.push(Place { service, instance });
        }
        let said = format!("fault {kind:?} at {places:?} until {}", base.until);
        for place in places {
            self.faults.push(Fault { place, ..base.clone() });
        }
        self.faults.retain(|fault| fault.until > t);
        said
    }

    /// What an act does to the faults at its target.
    pub(crate) fn treat(&mut self, place: Place, wider: bool, rng: &mut Rng, t: i64) {
        let mut back = Vec::new();
        for fault in &mut self.faults {
            let here = fault.place.service == place.service
                && (place.instance.is_none() || fault.place.instance == place.instance);
            if !here || !fault.on(t) {
                continue;
            }
            match fault.kind {
                Kind::Restart => fault.until = t,
                Kind::Wider if wider => fault.until = t,
                Kind::LooksFixed => fault.fooled = t + rng.range(10_000, 600_000),
                Kind::Relapsing => {
                    fault.until = t;
                    if fault.times > 0 {
                        let since = t + fault.back_after;
                        back.push(Fault {
                            since,
                            until: since + 40 * 60_000,
                            times: fault.times - 1,
                            ..fault.clone()
                        });
                    }
                }
                _ => {}
            }
        }
        self.faults.append(&mut back);
    }

    /// The policy in force on a good day.
    pub(crate) fn policy(&self, rng: &mut Rng) -> Policy {
        let mut policy = Policy::default();
        for rule in ["Down", "Slow", "Errors", "Host", "Canary"] {
            let for_ = Span::secs(*rng.pick(&[0, 0, 5, 15, 30]));
            let keep_firing_for = Span::secs(*rng.pick(&[0, 0, 10, 30]));
            policy.rules.insert(rule.to_owned(), RulePolicy { for_, keep_firing_for });
        }
        policy.recover = self.recover(rng);
        policy.notify = notify(rng);
        policy
    }

    fn recover(&self, rng: &mut Rng) -> RecoverConfig {
        let mut recover = RecoverConfig {
            mode: Mode::Auto,
            min_healthy: Percent(*rng.pick(&[51, 51, 40, 70])),
            limits: GlobalLimits {
                actions: Rate {
                    most: *rng.pick(&[2, 4, 8, 20]),
                    per: Span::minutes(*rng.pick(&[20, 60])),
                },
                concurrent: *rng.pick(&[1, 1, 2, 3]),
                in_flight: Percent(*rng.pick(&[10, 34, 50, 100])),
            },
            ..RecoverConfig::default()
        };
        for (name, kind) in [("rm", ActionKind::Destructive), ("note", ActionKind::Safe)] {
            recover.actions.insert(name.to_owned(), action(rng, kind));
        }
        for unit in &self.units {
            let name = &unit.name;
            let check = rng.chance(0.5).then(|| probe("tcp", name));
            recover.services.push(Service {
                name: name.clone(),
                depends_on: unit.depends_on.iter().map(|on| self.units[*on].name.clone()).collect(),
                check,
                instances: if rng.chance(0.8) {
                    (0..unit.instances).map(|n| format!("{name}-{n}")).collect()
                } else {
                    Vec::new()
                },
            });
            for verb in ["restart", "rebuild"] {
                let action = action(rng, ActionKind::Disruptive);
                recover.actions.insert(format!("{verb}_{name}"), action);
            }
            recover.runbooks.push(runbook(rng, &format!("fix-{name}"), name, ""));
            if rng.chance(0.4) {
                // A second one for the same targets.
                recover.runbooks.push(runbook(rng, &format!("slow-{name}"), name, "Slow"));
            }
        }
        recover
    }

    /// Another policy, as somebody might load it in a bad hour; `None` where that one is void.
    pub(crate) fn reload(&self, base: &Policy, rng: &mut Rng) -> Option<Policy> {
        let mut policy = base.clone();
        let books = policy.recover.runbooks.len();
        for _ in 0..rng.range(1, 3) {
            match rng.below(11) {
                0 => {
                    let gone = rng.pick(&["Down", "Slow", "Errors", "Host"]);
                    policy.rules.remove(*gone);
                }
                1 => {
                    let at = rng.below(policy.recover.runbooks.len());
                    policy.recover.runbooks.remove(at);
                }
                2 => {
                    for book in &mut policy.recover.runbooks {
                        book.steps.truncate(1);
                    }
                }
                3 => policy.recover.mode = *rng.pick(&[Mode::Off, Mode::Shadow]),
                4 => {
                    for rule in policy.rules.values_mut() {
                        rule.for_ = Span::secs(*rng.pick(&[0, 5, 60]));
                        rule.keep_firing_for = Span::secs(*rng.pick(&[0, 5, 60]));
                    }
                }
                5 => {
                    policy.notify.receivers.pop();
                    let left: Vec<String> =
                        policy.notify.receivers.iter().map(|r| r.name.clone()).collect();
                    for route in &mut policy.notify.routes {
                        route.receivers.retain(|name| left.contains(name));
                    }
                    for book in &mut policy.recover.runbooks {
                        book.escalate.to.retain(|name| left.contains(name));
                    }
                }
                6 => {
                    let limits = &mut policy.recover.limits;
                    limits.actions.most = *rng.pick(&[1, 3, 9]);
                    limits.concurrent = *rng.pick(&[1, 2]);
                }
                7 if books > 0 => {
                    let at = rng.below(policy.recover.runbooks.len());
                    if let Some(book) = policy.recover.runbooks.get_mut(at) {
                        book.mode = *rng.pick(&[Mode::Off, Mode::Shadow, Mode::Auto]);
                    }
                }
                8 => {
                    for book in &mut policy.recover.runbooks {
                        book.limits.attempts.most = *rng.pick(&[1, 2, 5]);
                        book.limits.cooldown = Span::minutes(*rng.pick(&[1, 5, 15]));
                    }
                }
                9 => policy.notify.routes = Vec::new(),
                _ => policy.notify.group_wait = Span::secs(*rng.pick(&[0, 20])),
            }
            if policy.recover.runbooks.is_empty() || policy.notify.receivers.is_empty() {
                return None;
            }
        }
        policy.validate().ok()?;
        Some(policy)
    }
}

pub(crate) fn matchers(pairs: &[(&str, &str)]) -> Matchers {
    let parse = |(name, value): &(&str, &str)| format!("{name}={value:?}").parse::<Matcher>().ok();
    Matchers(pairs.iter().filter_map(parse).collect())
}

fn action(rng: &mut Rng, kind: ActionKind) -> ActionSpec {
    ActionSpec {
        argv: vec!["/usr/bin/act".to_owned()],
        timeout: Span::secs(*rng.pick(&[5, 15, 30])),
        kind,
        env: std::collections::BTreeMap::new(),
        dir: None,
    }
}

/// A check of the three kinds the town understands: `http` and `tcp` state health, `bad` the fault,
/// `good` health as an expression.
fn probe(kind: &str, place: &str) -> CheckConfig {
    let mut check = CheckConfig { every: Some(Span::secs(3)), ..CheckConfig::default() };
    match kind {
        "http" => {
            let http = Some(format!("http://{place}/health"));
            check.probe = Some(ProbeConfig { http, ..ProbeConfig::default() });
        }
        "tcp" => {
            let tcp = Some(format!("{place}:1"));
            check.probe = Some(ProbeConfig { tcp, ..ProbeConfig::default() });
        }
        _ => check.expr = Some(format!("{kind}:{place}")),
    }
    check
}

fn asked(rng: &mut Rng, kind: &str) -> CheckConfig {
    let place = "{{ $labels.service }}.{{ $labels.instance }}";
    let every = Some(Span::millis(*rng.pick(&[1_500, 2_000, 3_000])));
    let fails = rng.chance(0.5).then(|| rng.range(1, 3) as u32);
    CheckConfig { every, fails, ..probe(kind, place) }
}

fn runbook(rng: &mut Rng, name: &str, service: &str, alert: &str) -> Runbook {
    let kinds = ["http", "tcp", "bad"];
    let witnesses = rng.below(4);
    let checks: Vec<CheckConfig> = (0..witnesses).map(|i| asked(rng, kinds[i])).collect();
    let confirm = Confirm {
        need: if checks.is_empty() { 1 } else { 1 + rng.below(checks.len()) },
        within: Span::secs(*rng.pick(&[10, 20, 30])),
        checks,
    };
    let verify = |rng: &mut Rng| {
        let mut checks = vec![asked(rng, "http")];
        if rng.chance(0.4) {
            checks.push(asked(rng, "good"));
        }
        let for_ = Span::secs(*rng.pick(&[0, 2, 5, 10]));
        Verify { checks, for_, within: Span::secs(*rng.pick(&[15, 30, 60])), ..Verify::default() }
    };
    let mut steps = vec![Step {
        action: format!("restart_{service}"),
        when: rng.chance(0.1).then(|| asked(rng, "bad")),
        verify: verify(rng),
        timeout: rng.chance(0.3).then(|| Span::secs(10)),
    }];
    if rng.chance(0.5) {
        steps.push(Step {
            action: format!("rebuild_{service}"),
            when: rng.chance(0.2).then(|| asked(rng, "bad")),
            verify: verify(rng),
            timeout: None,
        });
    }
    if rng.chance(0.1) {
        steps.push(Step {
            action: "rm".to_owned(),
            when: None,
            verify: verify(rng),
            timeout: None,
        });
    }
    let matchers = match alert {
        "" => matchers(&[("service", service)]),
        alert => matchers(&[("service", service), ("alertname", alert)]),
    };
    let with = |rng: &mut Rng, kind: &str, p| -> Vec<CheckConfig> {
        if rng.chance(p) { vec![asked(rng, kind)] } else { Vec::new() }
    };
    Runbook {
        name: name.to_owned(),
        matchers,
        mode: *rng.pick(&[
            Mode::Auto,
            Mode::Auto,
            Mode::Auto,
            Mode::Auto,
            Mode::Auto,
            Mode::Shadow,
        ]),
        target: Vec::new(),
        confirm,
        only_if: with(rng, "bad", 0.1),
        unless: with(rng, "veto", 0.1),
        steps,
        limits: Limits {
            attempts: Rate {
                most: *rng.pick(&[1, 2, 3, 5]),
                per: Span::minutes(*rng.pick(&[10, 30])),
            },
            backoff: Backoff { from: Span::secs(5), to: Span::secs(60) },
            cooldown: Span::minutes(*rng.pick(&[1, 3, 10])),
            no_help: *rng.pick(&[1, 2, 2, 3]),
            breaker_reset: Span::minutes(*rng.pick(&[5, 15, 30])),
        },
        escalate: Escalate {
            to: if rng.chance(0.3) { vec!["ops".to_owned()] } else { Vec::new() },
            severity: Level::Critical,
            after: Span::minutes(*rng.pick(&[1, 3, 5])),
        },
    }
}

fn notify(rng: &mut Rng) -> NotifyPolicy {
    let mut receivers = Vec::new();
    for (name, channels) in [
        ("ops", &["ops/webhook[0]", "ops/email[0]"][..]),
        ("oncall", &["oncall/pager[0]"][..]),
        ("chat", &["chat/slack[0]"][..]),
    ] {
        receivers.push(ReceiverPolicy {
            name: name.to_owned(),
            channels: channels.iter().map(|c| ((*c).to_owned(), rng.chance(0.9))).collect(),
            min_level: *rng.pick(&[Level::Info, Level::Error, Level::Critical]),
            heal_first: Span::secs(*rng.pick(&[0, 0, 30, 120])),
            ..ReceiverPolicy::default()
        });
    }
    receivers.truncate(1 + rng.below(3));
    let names: Vec<String> = receivers.iter().map(|r| r.name.clone()).collect();
    let mut routes =
        vec![Route { matchers: matchers(&[("alertname", "Canary")]), receivers: names.clone() }];
    if rng.chance(0.4) {
        routes.push(Route {
            matchers: matchers(&[("service", "web")]),
            receivers: vec![rng.pick(&names).clone()],
        });
    }
    NotifyPolicy {
        group_wait: Span::secs(*rng.pick(&[0, 0, 10, 30])),
        routes,
        receivers,
        ..NotifyPolicy::default()
    }
}
