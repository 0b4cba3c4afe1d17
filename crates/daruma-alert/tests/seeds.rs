//! What simulated days broke once, told as the shortest night that shows it.
#![allow(clippy::unwrap_used)] // As in `incidents.rs`.

use std::collections::BTreeSet;

use daruma_alert::{
    AlertState, Command, Core, Delivery, Effect, Event, Mode, Phase, Policy, Rate, ReceiverPolicy,
    RecoverConfig, RulePolicy,
};
use daruma_model::{
    ActionEnd, ActionOutcome, ActionRequest, Attempt, AttemptOutcome, Evidence, Finding, Labels,
    Message, MessageStatus, Observation, Span, Time, Verdict,
};
use {MessageStatus::Firing, MessageStatus::Resolved};
use {Verdict::Clear, Verdict::Holds, Verdict::Unknown};

const RECOVER: &str = r#"
mode: auto
min_healthy: 0%
limits: { actions: 20/1h, concurrent: 9, in_flight: 100% }
services:
  - { name: kv, instances: [kv-0, kv-1, kv-2] }
  - { name: web, depends_on: [kv], instances: [web-0] }
actions: { mend: { argv: [/bin/true], timeout: 30s }, more: { argv: [/bin/true] } }
runbooks:
  - name: kv
    matchers: [ 'service="kv"' ]
    mode: auto
    steps: [ { do: mend, verify: { probe: { tcp: "{{ $labels.instance }}:1" }, for: 0s, within: 10s } } ]
    limits: { attempts: 9/30m, backoff: 5s..5s, cooldown: 2m, no_help: 1, breaker_reset: 5m }
  - name: web
    matchers: [ 'service="web"' ]
    mode: auto
    steps:
      - { do: mend, verify: { probe: { tcp: "web:1" }, for: 0s, within: 10s } }
      - { do: more, verify: { probe: { tcp: "web:1" }, for: 0s, within: 10s } }
    limits: { attempts: 9/30m, backoff: 5s..5s, cooldown: 2m, no_help: 2 }
"#;

struct Night {
    core: Core,
    policy: Policy,
    now: Time,
    acts: Vec<ActionRequest>,
    sent: Vec<Message>,
    /// Channels that answer 503.
    deaf: BTreeSet<String>,
}

fn at(seconds: f64) -> Time {
    Time(1_000_000_000 + (seconds * 1000.0) as i64)
}

impl Night {
    fn new(change: impl FnOnce(&mut Policy)) -> Night {
        let recover = serde_saphyr::from_str::<RecoverConfig>(RECOVER).unwrap();
        let mut policy = Policy { recover, ..Policy::default() };
        policy.notify.receivers = ["ops", "chat"]
            .map(|name| ReceiverPolicy {
                name: name.into(),
                channels: vec![(format!("{name}/webhook[0]"), true)],
                ..ReceiverPolicy::default()
            })
            .into();
        for rule in ["Down", "Slow", "Disk"] {
            policy.rules.insert(rule.into(), RulePolicy::default());
        }
        change(&mut policy);
        let (core, now) = (Core::new(), at(0.0));
        let (acts, sent, deaf) = (Vec::new(), Vec::new(), BTreeSet::new());
        let mut night = Night { core, policy: policy.clone(), now, acts, sent, deaf };
        night.event(0.0, Event::Policy(Box::new(policy)));
        night
    }

    /// Deadline by deadline up to a time, then the event.
    fn event(&mut self, seconds: f64, event: Event) {
        while let Some(wake) = self.core.wake_at().filter(|wake| *wake < at(seconds)) {
            assert!(wake > self.now || self.now == at(0.0), "the loop would spin at {wake:?}");
            self.step(wake, &Event::Tick);
        }
        self.step(at(seconds), &event);
    }

    fn step(&mut self, now: Time, event: &Event) {
        self.now = self.now.max(now);
        for effect in self.core.step(now, event) {
            match effect {
                Effect::Act(request) => self.acts.push(request),
                Effect::Send { message, number } => {
                    let deaf = self.deaf.contains(&message.channel);
                    let attempt = Attempt {
                        message: message.id,
                        number,
                        at: now,
                        took: Span::ZERO,
                        outcome: if deaf {
                            AttemptOutcome::Retry
                        } else {
                            AttemptOutcome::Accepted
                        },
                        said: String::new(),
                        retry_after: None,
                    };
                    if !deaf {
                        self.sent.push(message);
                    }
                    self.step(now, &Event::Attempted(attempt));
                }
                _ => {}
            }
        }
    }

    fn tick(&mut self, seconds: f64) {
        self.event(seconds, Event::Tick);
    }

    fn finds(&mut self, seconds: f64, rule: &str, service: &str, instance: &str, verdict: Verdict) {
        let labels: Labels =
            [("alertname", rule), ("service", service), ("instance", instance)].into();
        let finding = Finding {
            rule: rule.into(),
            labels,
            annotations: Labels::default(),
            at: at(seconds),
            verdict,
            evidence: Evidence::default(),
        };
        self.event(seconds, Event::Found(finding));
    }

    /// Every check of the recovery of this runbook on this target is answered.
    fn sees(&mut self, seconds: f64, runbook: &str, target: &str, verdict: Verdict) {
        self.tick(seconds - 0.001);
        let key = format!("{runbook}\u{1f}{target}");
        let watch = self.core.state().recoveries.get(&key).and_then(|r| r.watch.clone());
        let Some(watch) = watch else { return };
        for check in 0..watch.checks.len() {
            let (watch, labels, evidence) = (watch.id, Labels::default(), Evidence::default());
            let seen = Observation { watch, check, at: at(seconds), verdict, evidence, labels };
            self.event(seconds, Event::Observed(seen));
        }
    }

    fn ends(&mut self, seconds: f64, act: usize, end: ActionEnd) {
        let id = self.acts[act].id.clone();
        let (started, ended, output) = (self.now, at(seconds), String::new());
        self.event(seconds, Event::Acted(ActionOutcome { id, end, started, ended, output }));
    }

    fn command(&mut self, seconds: f64, json: &str) {
        let command: Command = serde_json::from_str(json).unwrap();
        self.event(seconds, Event::Commanded { by: "kim".into(), command });
    }

    fn reload(&mut self, seconds: f64, change: impl FnOnce(&mut Policy)) {
        let mut policy = self.policy.clone();
        change(&mut policy);
        self.event(seconds, Event::Policy(Box::new(policy)));
    }

    fn restart(&mut self, seconds: f64) {
        let json = serde_json::to_string(self.core.state()).unwrap();
        self.core = Core::from_state(serde_json::from_str(&json).unwrap());
        self.event(seconds, Event::Started);
    }

    fn alert(&self, rule: &str) -> AlertState {
        let mut alerts = self.core.state().alerts.values();
        alerts.rfind(|alert| alert.finding.labels.get("alertname") == rule).unwrap().state
    }

    fn targets(&self) -> Vec<&str> {
        self.acts.iter().map(|act| act.target.as_str()).collect()
    }

    fn told(&self, channel: &str) -> Vec<MessageStatus> {
        self.sent.iter().filter(|m| m.channel == channel).map(|m| m.status).collect()
    }
}

#[test]
fn a_gap_in_the_evidence_does_not_count_towards_the_end() {
    let mut night = Night::new(|policy| {
        let rule = policy.rules.get_mut("Disk").unwrap();
        rule.keep_firing_for = Span::secs(30);
    });
    night.finds(0.0, "Disk", "db", "", Holds);
    night.finds(10.0, "Disk", "db", "", Clear);
    night.finds(20.0, "Disk", "db", "", Unknown);
    night.tick(49.0);
    assert_eq!(night.alert("Disk"), AlertState::Firing, "being over was seen for 10 s of 30");
    night.finds(50.0, "Disk", "db", "", Clear);
    night.tick(79.0);
    assert_eq!(night.alert("Disk"), AlertState::Firing);
    night.tick(80.1);
    assert_eq!(night.alert("Disk"), AlertState::Resolved);
}

#[test]
fn a_shorter_for_is_a_nearer_deadline_at_once_and_after_a_restart() {
    for restart in [false, true] {
        let mut night = Night::new(|policy| {
            policy.rules.get_mut("Disk").unwrap().for_ = Span::hours(1);
        });
        night.finds(0.0, "Disk", "db", "", Holds);
        night.reload(5.0, |policy| policy.rules.get_mut("Disk").unwrap().for_ = Span::secs(10));
        if restart {
            night.restart(6.0);
        }
        night.tick(10.1);
        assert_eq!(night.alert("Disk"), AlertState::Firing, "restarted: {restart}");
    }
}

#[test]
fn a_runbook_turned_off_under_way_acts_no_more() {
    let mut night = Night::new(|_| {});
    night.finds(0.0, "Down", "kv", "kv-0", Holds);
    night.reload(1.0, |policy| policy.recover.runbooks[0].mode = Mode::Off);
    night.sees(2.0, "kv", "kv/kv-0", Clear);
    assert_eq!(night.targets(), Vec::<&str>::new());
}

#[test]
fn a_policy_with_fewer_steps_meets_a_recovery_beyond_them() {
    let mut night = Night::new(|_| {});
    night.finds(0.0, "Down", "web", "web-0", Holds);
    night.sees(1.0, "web", "web/web-0", Clear);
    night.ends(2.0, 0, ActionEnd::Exited(1));
    night.tick(12.1); // Not proved: the second step is next.
    night.reload(13.0, |policy| policy.recover.runbooks[1].steps.truncate(1));
    night.sees(14.0, "web", "web/web-0", Clear);
    assert_eq!(night.acts.last().unwrap().action, "mend");
}

/// Seed 1354: the wider step was next, and went away with the old configuration.
#[test]
fn what_failed_often_enough_is_not_tried_again_when_its_next_step_goes_away() {
    let mut night = Night::new(|policy| policy.recover.runbooks[1].limits.no_help = 1);
    night.finds(0.0, "Down", "web", "web-0", Holds);
    night.sees(1.0, "web", "web/web-0", Clear);
    night.ends(2.0, 0, ActionEnd::Exited(1));
    night.tick(12.1); // Not proved: the second step is next.
    night.reload(13.0, |policy| {
        policy.recover.runbooks[1].limits.no_help = 1;
        policy.recover.runbooks[1].steps.truncate(1);
    });
    night.sees(14.0, "web", "web/web-0", Clear);
    assert_eq!(night.acts.len(), 1);
    let escalated = |i: &daruma_alert::Incident| i.escalated.is_some();
    assert!(night.core.state().incidents.values().any(escalated), "a person is needed");
}

/// Seed 4207: the witness was asked by the old configuration, and the new one wants more of it.
#[test]
fn witnesses_are_heard_by_the_rules_in_force() {
    let mut night = Night::new(|_| {});
    night.finds(0.0, "Down", "kv", "kv-0", Holds);
    let two = |policy: &mut Policy| {
        let step = &policy.recover.runbooks[0].steps[0];
        let mut check = step.verify.all().remove(0);
        check.fails = Some(2);
        policy.recover.runbooks[0].confirm.checks = vec![check];
    };
    night.reload(0.5, two);
    night.sees(1.0, "kv", "kv/kv-0", Clear);
    assert_eq!(night.acts.len(), 0, "two answers in a row are needed now");
    night.sees(2.0, "kv", "kv/kv-0", Clear);
    assert_eq!(night.acts.len(), 1);
}

#[test]
fn an_act_whose_runbook_went_away_keeps_its_target_until_it_ends() {
    let mut night = Night::new(|_| {});
    night.finds(0.0, "Down", "kv", "kv-0", Holds);
    night.sees(1.0, "kv", "kv/kv-0", Clear);
    night.reload(2.0, |policy| {
        policy.recover.runbooks.remove(0);
    });
    night.reload(3.0, |_| {});
    night.tick(3.1);
    night.sees(4.0, "kv", "kv/kv-0", Clear);
    assert_eq!(night.targets().len(), 1, "the first act is being ended still");
    night.ends(5.0, 0, ActionEnd::Aborted);
    night.tick(20.0);
    night.sees(21.0, "kv", "kv/kv-0", Clear);
    assert_eq!(night.targets().len(), 2);
}

#[test]
fn an_act_that_may_outlive_the_monitor_keeps_its_place() {
    let mut night = Night::new(|policy| policy.recover.limits.concurrent = 1);
    night.finds(0.0, "Down", "kv", "kv-0", Holds);
    night.sees(1.0, "kv", "kv/kv-0", Clear);
    night.restart(2.0);
    night.sees(2.5, "kv", "kv/kv-0", Holds); // Well, and perhaps at work all the same.
    night.finds(2.6, "Down", "kv", "kv-0", Clear);
    night.finds(3.0, "Down", "kv", "kv-1", Holds);
    night.sees(4.0, "kv", "kv/kv-1", Clear);
    assert_eq!(night.targets(), ["kv/kv-0"], "programs outlive the monitor; one may be at work");
    night.tick(46.5); // Its 30 s and the grace of 15 s are over.
    night.sees(47.0, "kv", "kv/kv-1", Clear);
    night.sees(48.0, "kv", "kv/kv-1", Clear);
    assert_eq!(night.targets(), ["kv/kv-0", "kv/kv-1"]);
}

#[test]
fn the_next_beginning_does_not_overtake_the_end_of_the_last() {
    let mut night = Night::new(|_| {});
    night.finds(0.0, "Disk", "db", "", Holds);
    night.deaf.insert("ops/webhook[0]".into());
    night.finds(1.0, "Disk", "db", "", Clear);
    night.deaf.clear();
    night.finds(1.5, "Disk", "db", "", Holds); // A new incident, while the end waits for its retry.
    night.tick(60.0);
    assert_eq!(night.told("ops/webhook[0]"), [Firing, Resolved, Firing]);
}

#[test]
fn a_call_for_a_person_outlasts_a_silence() {
    let mut night = Night::new(|_| {});
    night.finds(0.0, "Down", "kv", "kv-0", Holds);
    night.sees(1.0, "kv", "kv/kv-0", Clear);
    night.command(2.0, r#"{"do":"silence","matchers":["service=kv"],"ttl":"1m","comment":"?"}"#);
    night.ends(3.0, 0, ActionEnd::Exited(1));
    night.tick(61.0);
    let calls = |night: &Night| night.sent.iter().filter(|m| m.title.contains("person")).count();
    assert_eq!(calls(&night), 0, "silenced");
    night.tick(63.0);
    assert_eq!(calls(&night), 2, "to both receivers, once");
    night.tick(900.0);
    assert_eq!(calls(&night), 2);
}

#[test]
fn a_half_open_breaker_lets_one_trial_through() {
    let mut night = Night::new(|_| {});
    night.finds(0.0, "Down", "kv", "kv-0", Holds);
    night.sees(1.0, "kv", "kv/kv-0", Clear);
    night.ends(2.0, 0, ActionEnd::Exited(1));
    night.tick(12.5); // Not proved: the breaker opens for 5 min.
    night.finds(320.0, "Down", "kv", "kv-1", Holds);
    night.finds(320.0, "Down", "kv", "kv-2", Holds);
    night.sees(321.0, "kv", "kv/kv-1", Clear);
    night.sees(321.1, "kv", "kv/kv-2", Clear);
    assert_eq!(night.targets(), ["kv/kv-0", "kv/kv-1"]);
}

#[test]
fn what_one_runbook_healed_rests_for_the_other_too() {
    let mut night = Night::new(|policy| {
        let mut slow = policy.recover.runbooks[0].clone();
        slow.name = "slow".into();
        slow.matchers = daruma_model::Matchers(vec!["alertname=Slow".parse().unwrap()]);
        slow.limits.no_help = 5;
        slow.limits.attempts = Rate { most: 9, per: Span::hours(1) };
        policy.recover.runbooks[0].matchers =
            daruma_model::Matchers(vec!["alertname=Down".parse().unwrap()]);
        policy.recover.runbooks.push(slow);
    });
    night.finds(0.0, "Slow", "kv", "kv-0", Holds);
    night.sees(1.0, "slow", "kv/kv-0", Clear);
    night.ends(2.0, 0, ActionEnd::Exited(0));
    night.tick(12.5); // Not proved; backs off until 17.5.
    night.finds(13.0, "Down", "kv", "kv-0", Holds);
    night.sees(14.0, "kv", "kv/kv-0", Clear);
    night.ends(15.0, 1, ActionEnd::Exited(0));
    night.sees(16.0, "kv", "kv/kv-0", Holds);
    night.finds(16.1, "Down", "kv", "kv-0", Clear);
    night.sees(18.0, "slow", "kv/kv-0", Clear);
    assert_eq!(night.acts.len(), 2, "it was proved well at 16 s and rests for 2 min");
    night.sees(137.0, "slow", "kv/kv-0", Clear);
    night.sees(138.0, "slow", "kv/kv-0", Clear);
    assert_eq!(night.acts.len(), 3);
}

#[test]
fn what_fires_on_after_its_proof_is_tried_again_without_a_rest() {
    let mut night = Night::new(|policy| policy.recover.runbooks[0].limits.no_help = 3);
    night.finds(0.0, "Down", "kv", "kv-0", Holds);
    night.sees(1.0, "kv", "kv/kv-0", Clear);
    night.ends(2.0, 0, ActionEnd::Exited(0));
    night.sees(3.0, "kv", "kv/kv-0", Holds);
    let healed = |night: &Night| {
        night.core.state().recoveries.values().any(|r| matches!(r.phase, Phase::Healed { .. }))
    };
    assert!(healed(&night));
    night.tick(33.5); // The alert never cleared: it was no repair. Then the backoff.
    night.sees(39.0, "kv", "kv/kv-0", Clear);
    night.sees(40.0, "kv", "kv/kv-0", Clear);
    assert_eq!(night.acts.len(), 2);
}

#[test]
fn a_channel_that_left_the_configuration_fails_no_more() {
    let mut night = Night::new(|_| {});
    night.deaf.insert("chat/webhook[0]".into());
    night.finds(0.0, "Disk", "db", "", Holds);
    night.tick(60.0);
    assert_eq!(night.alert("ChannelFailing"), AlertState::Firing);
    night.reload(61.0, |policy| policy.notify.receivers.truncate(1));
    assert_eq!(night.alert("ChannelFailing"), AlertState::Resolved);
}

/// Seed 710: the channel was busy, left the configuration, and came back after the incident was over.
#[test]
fn what_waits_for_a_channel_that_left_is_not_sent_when_it_comes_back() {
    let mut night = Night::new(|policy| policy.recover.runbooks.clear());
    night.deaf.insert("chat/webhook[0]".into());
    night.finds(0.0, "Disk", "db", "", Holds);
    night.tick(3.0);
    night.reload(4.0, |policy| policy.notify.receivers.truncate(1));
    night.deaf.clear();
    night.finds(10.0, "Disk", "db", "", Clear);
    night.reload(11.0, |_| {});
    night.tick(60.0);
    assert_eq!(night.told("ops/webhook[0]"), [Firing, Resolved]);
    assert_eq!(night.told("chat/webhook[0]"), [], "a beginning without an end");
}

#[test]
fn a_refusal_for_a_channel_that_left_is_no_incident() {
    let mut night = Night::new(|policy| policy.recover.runbooks.clear());
    night.deaf.insert("chat/webhook[0]".into());
    night.finds(0.0, "Disk", "db", "", Holds);
    let sending = |out: &&daruma_alert::Outgoing| out.message.channel == "chat/webhook[0]";
    let message = night.core.state().outbox.values().find(sending).unwrap().message.id;
    night.reload(0.5, |policy| policy.notify.receivers.truncate(1));
    let (number, at, took) = (2, night.now, Span::ZERO);
    let (outcome, said, retry_after) = (AttemptOutcome::Rejected, String::new(), None);
    let refused = Attempt { message, number, at, took, outcome, said, retry_after };
    night.event(1.0, Event::Attempted(refused));
    assert_eq!(night.core.state().incidents.len(), 1, "only that of the disk");
}

#[test]
fn an_alert_that_comes_back_goes_on_in_the_incident_that_told_it() {
    let mut night = Night::new(|policy| policy.recover.runbooks.clear());
    night.finds(0.0, "Down", "kv", "kv-0", Holds);
    night.finds(1.0, "Down", "web", "web-0", Holds); // Joins the incident of kv, which it needs.
    night.finds(2.0, "Slow", "kv", "kv-1", Holds);
    night.finds(3.0, "Down", "web", "web-0", Clear);
    night.finds(4.0, "Down", "kv", "kv-0", Unknown);
    night.finds(4.0, "Slow", "kv", "kv-1", Unknown);
    night.finds(5.0, "Down", "web", "web-0", Holds);
    assert_eq!(night.core.state().incidents.len(), 1);
    let web = |m: &&Message| m.alerts.iter().any(|a| a.labels.get("service") == "web");
    assert_eq!(night.sent.iter().filter(web).count(), 2, "each receiver once");
    assert!(night.core.state().outbox.values().all(|out| out.delivery == Delivery::Accepted));
}

#[test]
fn what_it_needs_is_repaired_first_also_while_a_third_is_at_work() {
    let mut night = Night::new(|policy| {
        let mut api = policy.recover.services[1].clone();
        api.name = "api".into();
        api.depends_on = vec!["web".into()];
        policy.recover.services.push(api);
        let mut book = policy.recover.runbooks[1].clone();
        book.name = "api".into();
        book.matchers = daruma_model::Matchers(vec!["service=api".parse().unwrap()]);
        policy.recover.runbooks.insert(0, book);
    });
    night.finds(0.0, "Down", "api", "a-0", Holds);
    night.sees(1.0, "api", "api", Clear);
    night.finds(2.0, "Down", "kv", "kv-0", Holds);
    night.sees(3.0, "kv", "kv/kv-0", Clear);
    // kv is well as far as its rule says, but its repair is not proved yet.
    night.finds(4.0, "Down", "kv", "kv-0", Clear);
    night.finds(5.0, "Down", "web", "web-0", Holds);
    night.sees(6.0, "web", "web/web-0", Clear);
    assert_eq!(night.acts.len(), 2, "{:?}", night.targets());
}

#[test]
fn what_a_start_puts_right_sends_nothing_that_is_under_way_twice() {
    let mut night = Night::new(|_| {});
    night.finds(0.0, "Down", "kv", "kv-0", Holds);
    night.deaf.insert("ops/webhook[0]".into());
    night.finds(0.5, "Disk", "db", "", Holds); // Refused once; the next attempt is due at 1.5.
    night.tick(1.0);
    night.sees(1.4, "kv", "kv/kv-0", Clear);
    // Killed before the decision to act was written; back later.
    let never_begun = ActionOutcome {
        id: night.acts[0].id.clone(),
        end: ActionEnd::NotStarted(daruma_alert::RESTARTED.into()),
        started: at(3.0),
        ended: at(3.0),
        output: String::new(),
    };
    let mut core = Core::from_state(night.core.state().clone());
    let corrected = core.step(at(3.0), &Event::Acted(never_begun));
    let started = core.step(at(3.0), &Event::Started);
    let sends = |out: &[Effect]| out.iter().filter(|e| matches!(e, Effect::Send { .. })).count();
    assert_eq!((sends(&corrected), sends(&started)), (0, 1));
}
