//! Bad nights, told as timelines: what comes in, what goes out.
#![allow(clippy::unwrap_used)] // A test's helpers may fail as loudly as the test itself.

use daruma_alert::{
    Command, Core, Effect, Event, Phase, Policy, ReceiverPolicy, RecoverConfig, RulePolicy,
};
use daruma_model::{
    ActionEnd, ActionOutcome, ActionRequest, Attempt, AttemptOutcome, Evidence, Finding, Labels,
    Message, MessageStatus, Observation, Span, Time, Verdict,
};

const RECOVER: &str = r#"
mode: auto
services:
  - { name: kv }
  - { name: web, depends_on: [kv] }
actions: { restart_web: { argv: [/bin/true] }, restart_kv: { argv: [/bin/true] }, rollback: { argv: [/bin/true] } }
runbooks:
  - name: web
    matchers: [ 'service="web"' ]
    mode: auto
    confirm: { need: 1, checks: [ { probe: { http: "http://web/" }, fails: 2 } ] }
    steps: [ { do: restart_web, verify: { probe: { http: "http://web/" }, for: 2s, within: 10s } } ]
    limits: { attempts: 3/30m, backoff: 10s..5m, cooldown: 1m, no_help: 2 }
  - name: kv
    matchers: [ 'service="kv"' ]
    mode: auto
    confirm: { need: 1, checks: [ { probe: { tcp: "kv:1" } } ] }
    steps: [ { do: restart_kv, verify: { probe: { tcp: "kv:1" }, for: 1s, within: 10s } } ]
"#;

/// A core with one receiver, and a hand that moves its clock.
struct Night {
    core: Core,
    now: Time,
    sent: Vec<Message>,
    acts: Vec<ActionRequest>,
    /// The newest watch: its id.
    watch: u64,
}

fn at(seconds: f64) -> Time {
    Time(1_000_000_000 + (seconds * 1000.0) as i64)
}

impl Night {
    fn new(change: impl FnOnce(&mut Policy)) -> Night {
        let recover = serde_saphyr::from_str::<RecoverConfig>(RECOVER).unwrap();
        let mut policy = Policy { recover, ..Policy::default() };
        policy.notify.receivers = vec![ReceiverPolicy {
            name: "ops".into(),
            channels: vec![("ops/webhook[0]".into(), true)],
            ..ReceiverPolicy::default()
        }];
        for (name, for_) in [("Web", 0), ("Slow", 30), ("Kv", 0)] {
            policy.rules.insert(
                name.into(),
                RulePolicy { for_: Span::secs(for_), ..RulePolicy::default() },
            );
        }
        change(&mut policy);
        policy.validate().unwrap();
        let mut night =
            Night { core: Core::new(), now: at(0.0), sent: vec![], acts: vec![], watch: 0 };
        night.event(0.0, Event::Policy(Box::new(policy)));
        night
    }

    /// Moves the clock, deadline by deadline, then steps; messages are accepted at once.
    fn event(&mut self, seconds: f64, event: Event) {
        let until = at(seconds);
        while let Some(wake) = self.core.wake_at().filter(|wake| *wake < until) {
            self.step(wake, &Event::Tick);
        }
        self.step(until, &event);
    }

    fn step(&mut self, now: Time, event: &Event) {
        assert!(now >= self.now);
        self.now = now;
        for effect in self.core.step(now, event) {
            match effect {
                Effect::Act(request) => self.acts.push(request),
                Effect::Watch(watch) => self.watch = watch.id,
                Effect::Send { message, number } => {
                    let attempt = Attempt {
                        message: message.id,
                        number,
                        at: now,
                        took: Span::ZERO,
                        outcome: AttemptOutcome::Accepted,
                        said: "200".into(),
                        retry_after: None,
                    };
                    self.sent.push(message);
                    self.step(now, &Event::Attempted(attempt));
                }
                Effect::Abort(_) | Effect::Unwatch(_) => {}
            }
        }
    }

    fn finds(&mut self, seconds: f64, rule: &str, service: &str, verdict: Verdict) {
        let finding = Finding {
            rule: rule.into(),
            labels: [("alertname", rule), ("service", service), ("severity", "error")].into(),
            annotations: Labels::default(),
            at: at(seconds),
            verdict,
            evidence: Evidence::said(format!("{rule} {verdict:?}")),
        };
        self.event(seconds, Event::Found(finding));
    }

    /// Check 0 of the newest watch is answered.
    fn sees(&mut self, seconds: f64, check: usize, verdict: Verdict) {
        let evidence = Evidence::said(format!("{verdict:?}"));
        let (watch, labels) = (self.watch, Labels::default());
        let seen = Observation { watch, check, at: at(seconds), verdict, evidence, labels };
        self.event(seconds, Event::Observed(seen));
    }

    fn ends(&mut self, seconds: f64, end: ActionEnd) {
        let id = self.acts.last().expect("an action was asked for").id.clone();
        let (started, ended) = (self.now, at(seconds));
        self.event(
            seconds,
            Event::Acted(ActionOutcome { id, end, started, ended, output: String::new() }),
        );
    }

    fn ran(&self) -> Vec<&str> {
        self.acts.iter().map(|request| request.action.as_str()).collect()
    }

    fn told(&self) -> Vec<(MessageStatus, &str)> {
        self.sent.iter().map(|message| (message.status, message.title.as_str())).collect()
    }
}

use MessageStatus::{Firing, Resolved};
use Verdict::{Clear, Holds, Unknown};

#[test]
fn a_fault_is_confirmed_repaired_verified_and_told_once_with_its_end() {
    let mut night = Night::new(|_| {});
    night.finds(1.0, "Web", "web", Holds);
    night.sees(1.1, 0, Clear);
    assert_eq!(night.ran(), Vec::<&str>::new(), "one failed probe of two is no vote");
    night.sees(1.4, 0, Clear);
    assert_eq!(night.ran(), ["restart_web"]);
    night.ends(2.0, ActionEnd::Exited(0));
    night.sees(2.0, 0, Holds); // Not later than the end of the act: proves nothing.
    night.sees(2.5, 0, Holds);
    night.sees(4.4, 0, Holds);
    night.finds(4.45, "Web", "web", Clear);
    assert_eq!(night.told(), [(Firing, "Web")], "1.9 s of the 2 s are proved");
    night.sees(4.6, 0, Holds);
    assert_eq!(night.told(), [(Firing, "Web"), (Resolved, "healed: Web")]);
    assert_eq!(night.core.state().healed_total, 1);
    night.event(9999.0, Event::Tick);
    assert_eq!((night.ran().len(), night.sent.len()), (1, 2));
}

#[test]
fn a_blip_shorter_than_for_is_forgiven_and_a_gap_does_not_count_towards_it() {
    let mut night = Night::new(|_| {});
    night.finds(0.0, "Slow", "db", Holds);
    night.finds(20.0, "Slow", "db", Clear);
    night.finds(40.0, "Slow", "db", Holds);
    night.finds(60.0, "Slow", "db", Unknown);
    night.finds(65.0, "Slow", "db", Holds);
    night.event(94.0, Event::Tick);
    assert_eq!(night.told(), []);
    night.event(96.0, Event::Tick);
    assert_eq!(night.told(), [(Firing, "Slow")]);
}

#[test]
fn missing_evidence_resolves_nothing() {
    let mut night = Night::new(|_| {});
    night.finds(1.0, "Slow", "db", Holds);
    night.finds(40.0, "Slow", "db", Unknown);
    night.finds(50.0, "Slow", "db", Holds);
    night.finds(51.0, "Slow", "db", Unknown);
    night.event(90_000.0, Event::Tick);
    night.finds(90_001.0, "Slow", "db", Holds);
    night.event(90_060.0, Event::Tick);
    night.finds(90_061.0, "Slow", "db", Unknown);
    night.event(190_000.0, Event::Tick);
    assert_eq!(night.told(), [(Firing, "Slow")]);
    night.finds(190_001.0, "Slow", "db", Clear);
    assert_eq!(night.told().last(), Some(&(Resolved, "over: Slow")));
}

#[test]
fn unknown_witnesses_convict_nobody() {
    let mut night = Night::new(|_| {});
    night.finds(1.0, "Web", "web", Holds);
    for i in 0..20 {
        night.sees(1.1 + f64::from(i), 0, Unknown);
    }
    assert_eq!(night.ran(), Vec::<&str>::new());
}

#[test]
fn two_acts_that_did_not_help_open_the_breaker_and_call_a_person_once() {
    let mut night = Night::new(|_| {});
    night.finds(1.0, "Web", "web", Holds);
    night.sees(1.1, 0, Clear);
    night.sees(1.4, 0, Clear);
    night.ends(2.0, ActionEnd::Exited(0));
    for i in 0..40 {
        night.sees(2.1 + f64::from(i) * 0.25, 0, Clear);
    }
    // Not proved by 12.0; the second attempt comes after the backoff of 10 s, freshly confirmed.
    night.event(22.0, Event::Tick);
    assert_eq!(night.ran().len(), 1);
    night.event(22.1, Event::Tick);
    night.sees(22.3, 0, Clear);
    night.sees(22.6, 0, Clear);
    assert_eq!(night.ran().len(), 2);
    night.ends(23.0, ActionEnd::Exited(1));
    night.event(34.0, Event::Tick);
    assert_eq!(night.told(), [(Firing, "Web"), (Firing, "needs a person: Web")]);
    night.event(1000.0, Event::Tick);
    assert_eq!((night.ran().len(), night.sent.len()), (2, 2), "touch it no more, call no more");
    // A person repaired it: both that was told gets its end, in one message.
    night.finds(1001.0, "Web", "web", Clear);
    assert_eq!(night.sent.len(), 3);
    assert_eq!(night.sent[2].status, Resolved);
    assert_eq!(night.sent[2].alerts.len(), 2);
}

#[test]
fn what_depends_on_an_ill_service_is_not_touched() {
    let mut night = Night::new(|_| {});
    night.finds(1.0, "Kv", "kv", Holds);
    let kv_watch = night.watch;
    night.finds(1.0, "Web", "web", Holds);
    night.sees(1.2, 0, Clear);
    night.sees(1.4, 0, Clear);
    assert_eq!(night.ran(), Vec::<&str>::new(), "web is down because kv is");
    night.watch = kv_watch;
    night.sees(1.5, 0, Clear);
    assert_eq!(night.ran(), ["restart_kv"]);
    night.ends(2.0, ActionEnd::Exited(0));
    night.sees(2.1, 0, Holds);
    night.sees(3.2, 0, Holds);
    night.finds(3.3, "Kv", "kv", Clear);
    night.finds(3.4, "Web", "web", Clear);
    assert_eq!(night.ran(), ["restart_kv"]);
    assert_eq!(night.sent.iter().filter(|m| m.status == Resolved).count(), 1, "one incident");
}

#[test]
fn an_act_without_a_known_outcome_is_verified_and_not_repeated() {
    let mut night = Night::new(|_| {});
    night.finds(1.0, "Web", "web", Holds);
    night.sees(1.1, 0, Clear);
    night.sees(1.4, 0, Clear);
    assert_eq!(night.ran().len(), 1);
    // Killed here. The state comes back from the journal.
    let json = serde_json::to_string(night.core.state()).unwrap();
    night.core = Core::from_state(serde_json::from_str(&json).unwrap());
    night.event(3.0, Event::Started);
    let phase = &night.core.state().recoveries.values().next().unwrap().phase;
    assert!(matches!(phase, Phase::Verifying { .. }), "{phase:?}");
    night.sees(3.5, 0, Clear);
    night.sees(5.0, 0, Holds);
    night.sees(7.1, 0, Holds);
    night.finds(7.2, "Web", "web", Clear);
    assert_eq!(night.ran().len(), 1);
    assert_eq!(night.told(), [(Firing, "Web"), (Resolved, "healed: Web")]);
}

#[test]
fn a_hold_keeps_recovery_off_and_mutes_and_what_is_still_ill_after_it_is_told() {
    let mut night = Night::new(|_| {});
    let hold = r#"{"do":"hold","matchers":["service=\"web\""],"ttl":"1m","comment":"deploy"}"#;
    let command: Command = serde_json::from_str(hold).unwrap();
    night.event(0.5, Event::Commanded { by: "ci".into(), command });
    night.finds(1.0, "Web", "web", Holds);
    night.sees(1.1, 0, Clear);
    night.sees(1.4, 0, Clear);
    night.event(50.0, Event::Tick);
    assert_eq!((night.ran().len(), night.sent.len()), (0, 0));
    night.event(61.0, Event::Tick);
    assert_eq!(night.told(), [(Firing, "Web")]);
    night.sees(61.1, 0, Clear);
    night.sees(61.4, 0, Clear);
    assert_eq!(night.ran().len(), 1);
}

#[test]
fn the_end_is_told_also_to_whom_was_silenced_meanwhile() {
    let mut night = Night::new(|_| {});
    night.finds(1.0, "Slow", "db", Holds);
    night.event(40.0, Event::Tick);
    let silence = r#"{"do":"silence","matchers":["service=db"],"ttl":"1h","comment":"known"}"#;
    let command: Command = serde_json::from_str(silence).unwrap();
    night.event(41.0, Event::Commanded { by: "kim".into(), command });
    night.finds(50.0, "Slow", "db", Clear);
    assert_eq!(night.told(), [(Firing, "Slow"), (Resolved, "over: Slow")]);
}

#[test]
fn when_most_services_are_ill_without_a_common_dependency_nothing_is_touched() {
    let mut night = Night::new(|policy| {
        for name in ["a", "b", "c"] {
            let service = daruma_alert::Service { name: name.into(), ..Default::default() };
            policy.recover.services.push(service);
        }
    });
    for (i, service) in ["a", "b", "c", "web"].into_iter().enumerate() {
        night.finds(1.0 + i as f64 / 100.0, "Web", service, Holds);
    }
    night.sees(1.2, 0, Clear);
    night.sees(1.5, 0, Clear);
    assert_eq!(night.ran(), Vec::<&str>::new());
    assert!(night.told().iter().any(|(_, title)| title.starts_with("needs a person")));
}

#[test]
fn the_stop_switch_works_before_the_next_step() {
    let mut night = Night::new(|_| {});
    night.finds(1.0, "Web", "web", Holds);
    night.sees(1.1, 0, Clear);
    let command = Command::Stop { on: true, comment: String::new() };
    night.event(1.2, Event::Commanded { by: "kim".into(), command });
    night.sees(1.4, 0, Clear);
    assert_eq!(night.ran(), Vec::<&str>::new());
    let command = Command::Stop { on: false, comment: String::new() };
    night.event(5.0, Event::Commanded { by: "kim".into(), command });
    night.sees(5.1, 0, Clear);
    night.sees(5.4, 0, Clear);
    assert_eq!(night.ran(), ["restart_web"]);
}

#[test]
fn time_that_goes_back_counts_as_the_last_one() {
    let mut night = Night::new(|_| {});
    night.finds(100.0, "Slow", "db", Holds);
    night.core.step(at(10.0), &Event::Tick);
    assert_eq!(night.core.state().now, at(100.0));
}

#[test]
fn a_view_of_every_phase_can_be_made_and_serialized() {
    let mut night = Night::new(|_| {});
    night.finds(1.0, "Web", "web", Holds);
    let view = daruma_alert::View::of(night.core.state());
    assert_eq!(view.incidents.len(), 1);
    assert!(view.incidents[0].healing);
    let back: daruma_alert::View =
        serde_json::from_str(&serde_json::to_string(&view).unwrap()).unwrap();
    assert_eq!(back, view);
}

/// A start that does not help leads to the rollback, but only where something was deployed.
fn with_rollback(policy: &mut Policy) {
    policy.recover.runbooks = serde_saphyr::from_str(
        r#"
- name: web
  matchers: [ 'service="web"' ]
  mode: auto
  confirm: { checks: [ { probe: { http: "http://web/" } } ] }
  steps:
    - { do: restart_web, verify: { probe: { http: "http://web/" }, for: 1s, within: 3s } }
    - { do: rollback, when: { expr: deployed }, verify: { probe: { http: "http://web/" }, for: 1s, within: 3s } }
  limits: { backoff: 2s..1m, no_help: 2 }
"#,
    )
    .unwrap();
}

#[test]
fn a_wider_step_runs_only_where_its_condition_holds() {
    for (deployed, want) in
        [(Holds, vec!["restart_web", "rollback"]), (Clear, vec!["restart_web", "restart_web"])]
    {
        let mut night = Night::new(with_rollback);
        night.finds(1.0, "Web", "web", Holds);
        night.sees(1.1, 0, Clear);
        night.ends(2.0, ActionEnd::Exited(1));
        night.event(5.1, Event::Tick); // Not proved within 3 s.
        night.sees(5.2, 1, deployed);
        night.sees(5.3, 0, Clear);
        night.event(8.0, Event::Tick); // The pause before the first step is tried again.
        night.sees(8.1, 0, Clear);
        assert_eq!(night.ran(), want, "deployed: {deployed:?}");
    }
}

#[test]
fn a_condition_that_nobody_can_answer_leads_to_no_act() {
    let mut night = Night::new(with_rollback);
    night.finds(1.0, "Web", "web", Holds);
    night.sees(1.1, 0, Clear);
    night.ends(2.0, ActionEnd::Exited(1));
    night.event(5.1, Event::Tick);
    night.sees(5.2, 1, Unknown);
    night.sees(5.3, 0, Clear);
    assert_eq!(night.ran(), ["restart_web"]);
}

#[test]
fn a_proved_repair_whose_incident_stays_open_lets_the_loop_rest() {
    let mut night = Night::new(|_| {});
    night.finds(1.0, "Web", "web", Holds);
    night.sees(1.1, 0, Clear);
    night.sees(1.4, 0, Clear);
    night.ends(2.0, ActionEnd::Exited(0));
    night.sees(2.5, 0, Holds);
    night.sees(4.6, 0, Holds);
    night.finds(4.7, "Web", "web", Unknown); // Neither over nor still ill, as far as is known.
    for second in [70.0, 100.0, 200.0] {
        night.event(second, Event::Tick);
        let wake = night.core.wake_at();
        assert!(wake.is_none_or(|wake| wake > at(second)), "due for ever: {wake:?} at {second}");
    }
}

#[test]
fn two_views_of_one_service_are_one_target() {
    let mut night = Night::new(|_| {});
    night.finds(1.0, "Web", "web", Holds);
    let first = night.watch;
    let finding = Finding {
        rule: "Slow".into(),
        labels: [("alertname", "Slow"), ("service", "web"), ("instance", "http://web/")].into(),
        annotations: Labels::default(),
        at: at(1.0),
        verdict: Holds,
        evidence: Evidence::default(),
    };
    night.event(1.0, Event::Found(finding));
    night.event(40.0, Event::Tick);
    assert_eq!(night.core.state().recoveries.len(), 1);
    night.watch = night.watch.max(first);
    night.sees(40.1, 0, Clear);
    night.sees(40.4, 0, Clear);
    assert!(night.ran().len() <= 1);
}
