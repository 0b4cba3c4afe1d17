//! Days of a post office: what other systems post is routed, grouped, inhibited, silenced, told,
//! repeated, escalated and stood in for, while channels fail, people change everything, and the monitor
//! dies between any two steps.
//!
//! Stands apart from the town's days because nothing is repaired here: only who hears what, and when.

mod judge;
mod town;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use daruma_alert::{AlertIn, Command, Core, Effect, Event, Policy};
use daruma_model::{Attempt, AttemptOutcome, Labels, Matchers, Message, Span, Time};

use crate::journal::{Journal, Record, short};
use crate::judge::{Broken, Held};
use crate::rng::Rng;
use judge::Judge;

/// 2026-11-23, 06:00 UTC: hours and digests come within the day.
const EPOCH: i64 = 1_795_413_600_000;
/// How long it is bad, and how long everything may then take to come to its end.
const STORM: i64 = 4 * 3_600_000;
const CLEAR: i64 = 9 * 3_600_000;
/// How often a poster repeats what fires, and for how long it says that it will.
const AGAIN: i64 = 60_000;
const VALID: i64 = 240_000;
const STORY: usize = 400;

#[derive(Debug)]
enum Happening {
    /// A poster's alert begins or ends.
    Turns(usize),
    /// A poster speaks of its alert.
    Posts(usize),
    /// A far side answers run `boot`.
    Answers(u64, Attempt),
    Wake(u64),
    Person,
    Reload,
    ChannelDown,
    Clears,
    Midnight,
}

/// One alert of some other system.
struct Poster {
    labels: Labels,
    since: Option<i64>,
    ended: i64,
    /// How often it turns in an hour.
    per_hour: f64,
}

pub(crate) struct PostDay {
    /// Whether the whole journal is read again at the end, not only what follows its last snapshot: as
    /// much work as the day itself, hence on one day of three.
    whole: bool,
    rng: Rng,
    t: i64,
    heap: BinaryHeap<Reverse<(i64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    next: u64,
    posters: Vec<Poster>,
    /// Until when a channel answers like this.
    channels: BTreeMap<String, (AttemptOutcome, i64)>,
    journal: Journal,
    judge: Judge,
    core: Core,
    policies: Vec<Policy>,
    /// The configuration file as it stands.
    file: Policy,
    boot: u64,
    wakes: u64,
    crash: f64,
    stormy: bool,
    telling: bool,
    story: VecDeque<String>,
    pub(crate) stats: crate::Stats,
}

impl PostDay {
    pub(crate) fn new(seed: u64, telling: bool) -> PostDay {
        let mut rng = Rng::new(seed ^ 0x0f1c_e000);
        let policies = town::policies(&mut rng);
        let posters = town::labels(&mut rng)
            .into_iter()
            .map(|labels| Poster {
                labels,
                since: None,
                ended: 0,
                per_hour: *rng.pick(&[0.5, 1.0, 2.0, 12.0]),
            })
            .collect();
        let crash = *rng.pick(&[0.0, 0.002, 0.01]);
        let mut day = PostDay {
            whole: seed.is_multiple_of(3),
            rng,
            t: EPOCH,
            heap: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            next: 0,
            posters,
            channels: BTreeMap::new(),
            journal: Journal::default(),
            judge: Judge::default(),
            core: Core::new(),
            file: policies[0].clone(),
            policies,
            boot: 0,
            wakes: 0,
            crash,
            stormy: true,
            telling,
            story: VecDeque::new(),
            stats: crate::Stats::default(),
        };
        for at in 0..day.posters.len() {
            let wait = day.rng.wait(2.0);
            day.at(wait, Happening::Turns(at));
        }
        for (per_hour, happening) in
            [(6.0, Happening::Person), (0.7, Happening::Reload), (3.0, Happening::ChannelDown)]
        {
            let wait = day.rng.wait(per_hour);
            day.at(wait, happening);
        }
        day.at(STORM, Happening::Clears);
        day
    }

    pub(crate) fn now(&self) -> Time {
        Time(self.t)
    }

    pub(crate) fn story(self) -> Vec<String> {
        self.story.into()
    }

    fn at(&mut self, delay: i64, happening: Happening) {
        self.next += 1;
        self.heap.push(Reverse((self.t + delay.max(0), self.next)));
        self.happenings.insert(self.next, happening);
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        if self.telling {
            if self.story.len() >= STORY {
                self.story.pop_front();
            }
            let t = (self.t - EPOCH) as f64 / 1000.0;
            self.story.push_back(format!("{t:>9.3}s {}", line()));
        }
    }

    pub(crate) fn run(&mut self) -> Held {
        let policy = self.policies[0].clone();
        self.step(Event::Started)?;
        self.step(Event::Policy(Box::new(policy)))?;
        while let Some(Reverse((t, id))) = self.heap.pop() {
            self.t = self.t.max(t); // While the monitor was down, time went on.
            let Some(happening) = self.happenings.remove(&id) else { continue };
            if matches!(happening, Happening::Midnight) {
                break;
            }
            self.happens(happening)?;
        }
        self.judge.at_the_end(self.core.state())?;
        self.same_again(!self.whole)?;
        self.stats.incidents = self.core.state().resolved_total;
        self.stats.receipts = self.judge.receipts;
        self.stats.resends = self.judge.resends;
        self.stats.escalated = self.judge.climbed;
        Ok(())
    }

    fn happens(&mut self, happening: Happening) -> Held {
        match happening {
            Happening::Turns(at) => self.turns(at),
            Happening::Posts(at) => return self.posts(at),
            Happening::Answers(boot, attempt) if boot == self.boot => {
                return self.step(Event::Attempted(attempt));
            }
            Happening::Wake(number) if number == self.wakes => {
                if self.core.wake_at().is_some_and(|at| at <= self.now()) {
                    return self.step(Event::Tick);
                }
                self.wake_later();
            }
            Happening::Person if self.stormy => {
                let wait = self.rng.wait(6.0);
                self.at(wait, Happening::Person);
                let command = self.command();
                return self.step(Event::Commanded { by: "kim".into(), command });
            }
            Happening::Reload if self.stormy => {
                let wait = self.rng.wait(0.7);
                self.at(wait, Happening::Reload);
                let policy = self.rng.pick(&self.policies).clone();
                self.file = policy.clone();
                return self.step(Event::Policy(Box::new(policy)));
            }
            Happening::ChannelDown if self.stormy => {
                let wait = self.rng.wait(3.0);
                self.at(wait, Happening::ChannelDown);
                let receivers = &self.core.state().policy.notify.receivers;
                let all: Vec<String> =
                    receivers.iter().flat_map(|r| &r.channels).map(|(c, _)| c.clone()).collect();
                let channel = self.rng.pick(&all).clone();
                let refuses = self.rng.chance(0.15);
                let how = if refuses { AttemptOutcome::Rejected } else { AttemptOutcome::Retry };
                let lasts = self.rng.range(5_000, 2_400_000);
                self.say(|| format!("{channel} answers {how:?} for {lasts} ms"));
                self.channels.insert(channel, (how, self.t + lasts));
            }
            Happening::Clears => return self.clears(),
            _ => {}
        }
        Ok(())
    }

    fn clears(&mut self) -> Held {
        self.say(|| "the sky clears".to_owned());
        self.stormy = false;
        self.crash = 0.0;
        self.channels.clear();
        let policy = self.policies[0].clone();
        self.file = policy.clone();
        self.step(Event::Policy(Box::new(policy)))?;
        for at in 0..self.posters.len() {
            if self.posters[at].since.is_some() {
                self.turns(at);
            }
        }
        self.at(CLEAR, Happening::Midnight);
        Ok(())
    }

    /// An alert begins, or ends.
    fn turns(&mut self, at: usize) {
        let (t, poster) = (self.t, &mut self.posters[at]);
        match poster.since {
            None if !self.stormy => return,
            None => poster.since = Some(t),
            Some(_) => {
                poster.since = None;
                poster.ended = t;
            }
        }
        let wait = self.rng.wait(self.posters[at].per_hour);
        self.at(wait, Happening::Turns(at));
        self.at(1, Happening::Posts(at));
    }

    fn posts(&mut self, at: usize) -> Held {
        let t = self.t;
        let poster = &self.posters[at];
        let lost = self.stormy && self.rng.chance(0.05);
        let (starts, ends) = match poster.since {
            Some(since) => (since, t + VALID),
            None => (poster.ended - 1, poster.ended),
        };
        // What fires is repeated, and so is its end, for a while.
        let again = poster.since.is_some() || t - poster.ended < 2 * AGAIN;
        let alert = AlertIn {
            labels: poster.labels.clone(),
            annotations: Labels::default(),
            starts_at: Some(Time(starts)),
            ends_at: Some(Time(ends)),
            generator_url: String::new(),
        };
        let speaks = |h: &Happening| matches!(h, Happening::Posts(other) if *other == at);
        if again && !self.happenings.values().any(speaks) {
            self.at(AGAIN, Happening::Posts(at));
        }
        if lost {
            return Ok(());
        }
        self.step(Event::Posted(vec![alert]))
    }

    fn command(&mut self) -> Command {
        let which = |text: &str| -> Matchers {
            text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
        };
        let name = *self.rng.pick(&["A", "B", "C"]);
        let team = *self.rng.pick(&["red", "blue"]);
        let matchers = match self.rng.below(3) {
            0 => which(&format!("alertname=\"{name}\"")),
            1 => which(&format!("team=\"{team}\"")),
            _ => which(&format!("alertname=~\"{name}|B\",team=\"{team}\"")),
        };
        let ttl = Span(self.rng.range(5_000, 2_400_000));
        let comment = "why not".to_owned();
        let state = self.core.state();
        let open: Vec<u64> =
            state.incidents.values().filter(|i| i.resolved.is_none()).map(|i| i.id).collect();
        let silences: Vec<u64> = state.silences.keys().copied().collect();
        let holds: Vec<u64> = state.holds.keys().copied().collect();
        match self.rng.below(10) {
            0..3 => Command::Silence { matchers, ttl, comment },
            3 if !silences.is_empty() => Command::Unsilence { id: *self.rng.pick(&silences) },
            4 => Command::Hold { matchers, ttl, comment },
            5 if !holds.is_empty() => Command::Release { id: *self.rng.pick(&holds) },
            _ if !open.is_empty() => {
                Command::Ack { incident: *self.rng.pick(&open), ttl: Some(ttl), comment }
            }
            _ => Command::Silence { matchers, ttl, comment },
        }
    }

    /// One event: durable, decided, durable, performed; the monitor may die in between.
    fn step(&mut self, event: Event) -> Held {
        let now = self.now();
        if self.dies("before the event is durable") {
            return self.restart();
        }
        self.say(|| tell(&event));
        self.journal.records.push(Record::Event(now, event.clone()));
        self.stats.events += 1;
        self.judge.delivered(now, &event, self.core.state());
        let effects = self.core.step(now, &event);
        self.judge.after(now, &event, &effects, &self.core)?;
        for effect in &effects {
            let key = match effect {
                Effect::Send { message, .. } => message.group_key.as_str(),
                _ => "",
            };
            self.say(|| format!("           → {} in {key}", short(effect)));
        }
        if self.dies("before the decisions are durable") {
            return self.restart();
        }
        self.journal.records.extend(effects.iter().cloned().map(Record::Decision));
        if self.crash > 0.0 && self.rng.chance(0.01) {
            let json = serde_json::to_string(self.core.state());
            self.journal.snapshot = json.ok().map(|json| (self.journal.records.len(), json));
        }
        for effect in effects {
            if self.dies("between two messages") {
                return self.restart();
            }
            if let Effect::Send { message, number } = effect {
                self.send(&message, number)?;
            }
        }
        self.wake_later();
        Ok(())
    }

    fn send(&mut self, message: &Message, number: u32) -> Held {
        let mood = self.channels.get(&message.channel).filter(|(_, until)| *until > self.t);
        let lost = self.stormy && self.rng.chance(0.02);
        let outcome = match mood {
            Some((how, _)) => how.clone(),
            None if lost => AttemptOutcome::Retry,
            None => AttemptOutcome::Accepted,
        };
        if mood.is_none() {
            self.judge.received(message)?;
        }
        let attempt = Attempt {
            message: message.id,
            number,
            at: self.now(),
            took: Span::millis(5),
            outcome,
            said: "far side".to_owned(),
            retry_after: None,
        };
        let (boot, takes) = (self.boot, self.rng.range(1, 3_000));
        self.at(takes, Happening::Answers(boot, attempt));
        Ok(())
    }

    fn dies(&mut self, place: &str) -> bool {
        let dies = self.crash > 0.0 && self.rng.chance(self.crash);
        if dies {
            self.say(|| format!("the monitor dies {place}"));
        }
        dies
    }

    fn restart(&mut self) -> Held {
        self.stats.crashes += 1;
        self.boot += 1;
        self.t += self.rng.range(100, 20_000);
        self.same_again(true)?;
        self.judge.restarted(self.now(), self.core.state());
        self.step(Event::Started)?;
        if self.core.state().policy != self.file {
            let policy = self.file.clone();
            self.step(Event::Policy(Box::new(policy)))?;
        }
        Ok(())
    }

    /// The journal gives the state that it led to.
    fn same_again(&mut self, quick: bool) -> Held {
        let wrong = |said: String| Broken { invariant: "replay decides the same", said };
        let folded = self.journal.fold(quick).map_err(wrong)?;
        if let Some(differs) = folded.differs {
            return Err(wrong(differs));
        }
        if folded.core.state() != self.core.state() {
            return Err(wrong("the journal gives another state".to_owned()));
        }
        let again = Core::from_state(folded.core.state().clone());
        if again != folded.core {
            let (again, kept) = (format!("{again:?}"), format!("{:?}", folded.core));
            let at = again.bytes().zip(kept.bytes()).take_while(|(a, b)| a == b).count();
            let part = |text: &str| text.chars().skip(at.saturating_sub(100)).take(300).collect();
            let (again, kept): (String, String) = (part(&again), part(&kept));
            return Err(wrong(format!(
                "what is kept beside the state is not what it gives: {kept:?}, not {again:?}"
            )));
        }
        self.core = folded.core;
        Ok(())
    }

    fn wake_later(&mut self) {
        self.wakes += 1;
        let number = self.wakes;
        let at = self.core.wake_at().unwrap_or(Time::MAX).0.min(self.t + 600_000);
        let late = if self.rng.chance(0.02) { self.rng.range(0, 2_000) } else { 0 };
        self.at(at - self.t + late, Happening::Wake(number));
    }
}

fn tell(event: &Event) -> String {
    match event {
        Event::Posted(alerts) => {
            let one = |alert: &AlertIn| format!("{} until {:?}", alert.labels, alert.ends_at);
            format!("posted {:?}", alerts.iter().map(one).collect::<Vec<_>>())
        }
        Event::Policy(policy) => format!("policy {:?}", policy.notify),
        Event::Attempted(attempt) => {
            format!("#{} try {} {:?}", attempt.message, attempt.number, attempt.outcome)
        }
        other => format!("{other:?}"),
    }
}
