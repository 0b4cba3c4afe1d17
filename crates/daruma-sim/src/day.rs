//! One simulated day: the world's happenings in their order, and the loop of the monitor in it,
//! written as the real one is: events become durable, the core decides, decisions become durable,
//! performers begin. It may die between any two of these.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use daruma_alert::{Command, Core, Effect, Event, Policy, RESTARTED, State, Watch};
use daruma_model::{
    ActionEnd, ActionId, ActionOutcome, ActionRequest, Attempt, AttemptOutcome, Check, Evidence,
    Finding, Labels, Message, Observation, Span, Time, Verdict,
};

use crate::journal::{Journal, Record, short};
use crate::judge::{Broken, Held, Judge};
use crate::rng::Rng;
use crate::town::{Place, Town, matchers};
use crate::{Stats, Weather};

/// The world's clock starts here, in ms since 1970.
const EPOCH: i64 = 1_700_000_000_000;
/// How often sources are looked at and rules are evaluated.
const ROUND: i64 = 5_000;
/// A sample older than this says nothing.
const STALE: i64 = 20_000;
/// How long the sky is clear at the end.
const CLEAR: i64 = 120 * 60_000;
/// Lines of the story kept.
const STORY: usize = 300;

#[derive(Debug)]
enum Happening {
    /// Sources are read, rules evaluated.
    Round,
    /// An event reaches the inbox of the monitor's run `boot`.
    Arrives(u64, Event),
    /// The loop of run `boot` takes what is in its inbox.
    Turn(u64),
    /// A deadline of the core, unless a later turn has set another.
    Wake(u64, u64),
    /// A witness is asked.
    Ask { boot: u64, watch: u64, check: usize },
    /// An act has its effect.
    Works { fence: u64, wider: bool, place: Place },
    /// An act ends in the world.
    Ends(u64),
    /// A fault begins.
    Fault,
    /// A person or script does something.
    Person,
    /// Somebody loads another policy.
    Reload,
    /// The wall clock is set.
    Jump,
    /// Something goes blind.
    Blind,
    /// A channel stops to take messages.
    ChannelDown,
    /// The monitor starts.
    Start,
    /// The sky clears.
    Clears,
    /// A made-up fault travels the loop.
    Canary,
    /// It is over.
    Midnight,
}

#[derive(Debug)]
struct Act {
    boot: u64,
    request: ActionRequest,
    started: Time,
    end: ActionEnd,
    /// Whether the outcome reaches the monitor.
    heard: bool,
    done: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Busy,
    Refuses,
    Deaf,
}

/// One run of the monitor.
struct Monitor {
    core: Core,
    inbox: VecDeque<Event>,
    turning: bool,
    wakes: u64,
    /// Verdicts the rules have told.
    told: Vec<Option<Verdict>>,
    watches: HashMap<u64, Watch>,
    /// The last time given, and the world's time then.
    clock: (i64, i64),
    events_since_snapshot: usize,
}

/// The monitor died, or a promise broke.
enum Stop {
    Crash,
    Broken(Broken),
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Stop {
        Stop::Broken(broken)
    }
}

pub(crate) struct Day {
    /// Whether the whole journal is read again at the end, not only what follows its last snapshot: as
    /// much work as the day itself, hence on one day of three.
    whole: bool,
    rng: Rng,
    weather: Weather,
    t: i64,
    offset: i64,
    heap: BinaryHeap<Reverse<(i64, u64)>>,
    happenings: HashMap<u64, Happening>,
    next: u64,
    town: Town,
    /// Per series: newest sample (event time, holds), and those that are late.
    samples: Vec<Option<(i64, bool)>>,
    late: Vec<(i64, usize, i64, bool)>,
    blind: Vec<i64>,
    deaf_witness: HashMap<String, i64>,
    channels: HashMap<String, (Mood, i64)>,
    acts: HashMap<u64, Act>,
    journal: Journal,
    judge: Judge,
    base: Policy,
    /// The configuration file as it stands.
    file: Policy,
    boot: u64,
    monitor: Option<Monitor>,
    stormy: bool,
    over: bool,
    /// What the state must be after the next start.
    must_know: Option<State>,
    telling: bool,
    story: VecDeque<String>,
    pub(crate) stats: Stats,
}

impl Day {
    pub(crate) fn new(seed: u64, weather: Weather, telling: bool) -> Day {
        let mut rng = Rng::new(seed);
        let town = Town::new(&mut rng);
        let mut base = town.policy(&mut rng);
        while base.validate().is_err() {
            base = town.policy(&mut rng);
        }
        let series = town.series.len();
        let mut day = Day {
            whole: seed.is_multiple_of(3),
            rng,
            weather,
            t: EPOCH,
            offset: 0,
            heap: BinaryHeap::new(),
            happenings: HashMap::new(),
            next: 0,
            samples: vec![None; series],
            late: Vec::new(),
            blind: vec![0; series],
            town,
            deaf_witness: HashMap::new(),
            channels: HashMap::new(),
            acts: HashMap::new(),
            journal: Journal::default(),
            judge: Judge::new(),
            file: base.clone(),
            base,
            boot: 0,
            monitor: None,
            stormy: true,
            over: false,
            must_know: None,
            telling,
            story: VecDeque::new(),
            stats: Stats::default(),
        };
        day.at(0, Happening::Start);
        day.at(1_000, Happening::Round);
        let w = weather;
        day.at(w.lasts.0, Happening::Clears);
        for (per_hour, happening) in [
            (w.faults_per_hour, Happening::Fault),
            (w.people_per_hour, Happening::Person),
            (w.reloads_per_hour, Happening::Reload),
            (w.jumps_per_hour, Happening::Jump),
            (w.blind_per_hour, Happening::Blind),
            (w.channel_down_per_hour, Happening::ChannelDown),
        ] {
            if per_hour > 0.0 {
                day.later(per_hour, happening);
            }
        }
        day
    }

    fn at(&mut self, delay: i64, happening: Happening) {
        self.next += 1;
        self.heap.push(Reverse((self.t + delay.max(0), self.next)));
        self.happenings.insert(self.next, happening);
    }

    fn later(&mut self, per_hour: f64, happening: Happening) {
        let delay = self.rng.wait(per_hour);
        self.at(delay, happening);
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        if self.telling {
            if self.story.len() >= STORY {
                self.story.pop_front();
            }
            let t = self.t - EPOCH;
            self.story.push_back(format!("{:>9.3}s {}", t as f64 / 1000.0, line()));
        }
    }

    pub(crate) fn story(self) -> Vec<String> {
        self.story.into()
    }

    pub(crate) fn now(&self) -> Time {
        Time(self.t)
    }

    /// Until midnight, or until a promise breaks.
    pub(crate) fn run(&mut self) -> Held {
        while let Some(Reverse((t, id))) = self.heap.pop() {
            self.t = t;
            let Some(happening) = self.happenings.remove(&id) else { continue };
            match self.happens(happening) {
                Ok(()) => {}
                Err(Stop::Crash) => self.crash(),
                Err(Stop::Broken(broken)) => return Err(broken),
            }
            if self.over {
                break;
            }
        }
        self.the_end()
    }

    fn the_end(&mut self) -> Held {
        let Some(monitor) = &self.monitor else { return Ok(()) };
        self.judge.at_the_end(monitor.core.state())?;
        let state = monitor.core.state();
        self.stats.healed = state.healed_total;
        self.stats.incidents = state.resolved_total;
        self.stats.acts = self.judge.acts_total;
        self.stats.receipts = self.judge.receipts;
        self.stats.resends = self.judge.resends;
        self.stats.escalated = self.judge.escalated.len() as u64;
        let wrong = |said: String| Broken { invariant: "replay decides the same", said };
        if Core::from_state(state.clone()) != monitor.core {
            return Err(wrong("what is kept beside the state is not what the state gives".into()));
        }
        let folded = self.journal.fold(!self.whole).map_err(wrong)?;
        if let Some(differs) = folded.differs {
            return Err(wrong(differs));
        }
        if folded.core.state() != state {
            return Err(wrong("the journal gives another state than the one it led to".into()));
        }
        Ok(())
    }

    fn happens(&mut self, happening: Happening) -> Result<(), Stop> {
        let w = self.weather;
        match happening {
            Happening::Round => {
                self.round();
                // Under a clear sky nothing is lost by looking less often.
                self.at(if self.stormy { ROUND } else { 2 * ROUND }, Happening::Round);
            }
            Happening::Arrives(boot, event) => self.arrives(boot, event),
            Happening::Turn(boot) if boot == self.boot => return self.turn(Vec::new()),
            Happening::Wake(boot, number) => {
                let now = self.clock();
                let due = boot == self.boot
                    && self.monitor.as_ref().is_some_and(|monitor| {
                        monitor.wakes == number
                            && monitor.core.wake_at().is_some_and(|wake| wake <= now)
                    });
                if due {
                    return self.turn(vec![Event::Tick]);
                } else if boot == self.boot
                    && self.monitor.as_ref().is_some_and(|m| m.wakes == number)
                {
                    self.wake_later();
                }
            }
            Happening::Turn(_) => {}
            Happening::Ask { boot, watch, check } => self.ask(boot, watch, check),
            Happening::Works { fence, wider, place } => {
                let t = self.t;
                self.say(|| format!("act {fence} has its effect on {place:?}"));
                self.town.treat(place, wider, &mut self.rng, t);
            }
            Happening::Ends(fence) => self.act_ends(fence),
            Happening::Fault if self.stormy => {
                let said = self.town.befall(&mut self.rng, self.t);
                self.say(|| said);
                self.later(w.faults_per_hour, Happening::Fault);
            }
            Happening::Person if self.stormy => {
                self.person();
                self.later(w.people_per_hour, Happening::Person);
            }
            Happening::Reload if self.stormy => {
                self.reload();
                self.later(w.reloads_per_hour, Happening::Reload);
            }
            Happening::Jump if self.stormy => {
                let by = *self
                    .rng
                    .pick(&[-3_600_000, -60_000, -2_000, 2_000, 60_000, 600_000, 3_600_000]);
                self.offset += by;
                self.say(|| format!("the wall clock jumps by {by} ms"));
                self.wake_later();
                self.later(w.jumps_per_hour, Happening::Jump);
            }
            Happening::Blind if self.stormy => {
                let at = self.rng.below(self.blind.len());
                let until = self.t + self.rng.range(20_000, 900_000);
                let place = self.town.series[at].place;
                for (i, series) in self.town.series.iter().enumerate() {
                    if series.place.service == place.service {
                        self.blind[i] = until;
                    }
                }
                if self.rng.chance(0.3) {
                    let name = self.town.units[place.service].name.clone();
                    self.deaf_witness.insert(name, until);
                }
                self.say(|| format!("the sources about {place:?} are silent until {until}"));
                self.later(w.blind_per_hour, Happening::Blind);
            }
            Happening::ChannelDown if self.stormy => {
                let names: Vec<String> = self
                    .base
                    .notify
                    .receivers
                    .iter()
                    .flat_map(|r| r.channels.iter().map(|(name, _)| name.clone()))
                    .collect();
                let name = self.rng.pick(&names).clone();
                let mood = match self.rng.below(100) {
                    0..70 => Mood::Busy,
                    70..80 => Mood::Refuses,
                    _ => Mood::Deaf,
                };
                let longest = if w.lasts > Span::hours(24) { 27 * 3_600_000 } else { 1_800_000 };
                let lasts = self.rng.range(5_000, longest);
                let until = self.t + lasts;
                self.say(|| format!("{name} is {mood:?} for {lasts} ms"));
                self.channels.insert(name, (mood, until));
                self.later(w.channel_down_per_hour, Happening::ChannelDown);
            }
            Happening::Fault
            | Happening::Person
            | Happening::Reload
            | Happening::Jump
            | Happening::Blind
            | Happening::ChannelDown => {}
            Happening::Start => return self.start(),
            Happening::Clears => self.clears(),
            Happening::Canary => {
                self.say(|| "a made-up fault travels the loop".to_owned());
                self.town.canary = (self.t, self.t + 180_000);
            }
            Happening::Midnight => self.over = true,
        }
        Ok(())
    }

    fn clears(&mut self) {
        self.say(|| "the sky clears".to_owned());
        self.stormy = false;
        self.weather = Weather {
            bad_act: 0.0,
            crash: 0.0,
            lost_signal: 0.0,
            odd_signal: 0.0,
            lost_answer: 0.0,
            stale_answer: 0.0,
            lie: 0.0,
            lost_receipt: 0.0,
            ..self.weather
        };
        let t = self.t;
        self.town.faults.clear();
        self.channels.clear();
        self.deaf_witness.clear();
        self.blind.fill(0);
        if self.monitor.is_none() && self.boot > 0 {
            // A start is on its way already, or comes now: a second one is not harmful.
        }
        let base = self.base.clone();
        self.file = base.clone();
        self.send(10_000, Event::Policy(Box::new(base)));
        let stop = Command::Stop { on: false, comment: String::new() };
        self.command_in(400_000, stop);
        self.at(CLEAR - 600_000, Happening::Canary);
        self.at(CLEAR, Happening::Midnight);
        let _ = t;
    }

    // ── The monitor. ──

    fn clock(&mut self) -> Time {
        let wall = self.t + self.offset;
        match &mut self.monitor {
            Some(monitor) => {
                let (last, at) = monitor.clock;
                let now = wall.max(last + (self.t - at));
                monitor.clock = (now, self.t);
                Time(now)
            }
            None => Time(wall),
        }
    }

    fn send(&mut self, delay: i64, event: Event) {
        let boot = self.boot;
        self.at(delay, Happening::Arrives(boot, event));
    }

    fn arrives(&mut self, boot: u64, event: Event) {
        let Some(monitor) = self.monitor.as_mut().filter(|_| boot == self.boot) else {
            // Commands and configurations are for whoever runs: people try again.
            if matches!(event, Event::Policy(_) | Event::Commanded { .. }) && boot != u64::MAX {
                let boot = self.boot;
                self.at(30_000, Happening::Arrives(boot, event));
            }
            return;
        };
        monitor.inbox.push_back(event);
        if !monitor.turning {
            monitor.turning = true;
            // Now and then the disk is slow and a batch comes together.
            let delay = if self.rng.chance(0.05) { self.rng.range(20, 3_000) } else { 1 };
            self.at(delay, Happening::Turn(boot));
        }
    }

    fn may_crash(&mut self, place: &'static str) -> Result<(), Stop> {
        if self.weather.crash > 0.0 && self.rng.chance(self.weather.crash * 0.2) {
            self.say(|| format!("the monitor dies {place}"));
            return Err(Stop::Crash);
        }
        Ok(())
    }

    /// One turn of the loop, over what is in the inbox and `more`.
    fn turn(&mut self, more: Vec<Event>) -> Result<(), Stop> {
        let now = self.clock();
        let Some(monitor) = &mut self.monitor else { return Ok(()) };
        monitor.turning = false;
        let mut batch: Vec<Event> = more;
        batch.extend(monitor.inbox.drain(..));
        if batch.is_empty() {
            return Ok(());
        }
        self.may_crash("before the events are durable")?;
        for event in &batch {
            self.journal.records.push(Record::Event(now, event.clone()));
        }
        self.stats.events += batch.len() as u64;
        if self.rng.chance(self.weather.crash)
            && let Some(mut core) = self.monitor.as_ref().map(|monitor| monitor.core.clone())
        {
            // What a restart must come to know.
            self.say(|| "the monitor dies between the events and the decisions".to_owned());
            for event in &batch {
                self.judge.delivered(now, event);
                if matches!(event, Event::Started) {
                    self.judge.restarted(now, core.state());
                }
                let effects = core.step(now, event);
                self.judge.decided(now, &effects, core.state())?;
                if let Event::Commanded { command, .. } = event {
                    // Durable, though nobody was told: it must be there all the same.
                    self.judge.acknowledged(now, command, core.state());
                }
                self.judge.after(now, event, core.state(), core.wake_at())?;
            }
            self.must_know = Some(core.state().clone());
            return Err(Stop::Crash);
        }
        let mut effects = Vec::new();
        for event in batch {
            self.say(|| format!("{now:?} event {}", tell(&event)));
            self.judge.delivered(now, &event);
            let Some(monitor) = &mut self.monitor else { return Ok(()) };
            if matches!(event, Event::Started) {
                self.judge.restarted(now, monitor.core.state());
            }
            let out = monitor.core.step(now, &event);
            if let Event::Commanded { command, .. } = &event {
                self.judge.acknowledged(now, command, monitor.core.state());
            }
            self.judge.decided(now, &out, monitor.core.state())?;
            for effect in &out {
                if let Effect::Act(request) = effect {
                    // The envelope is asked at the time of the decision.
                    self.judge.begins(now, request, monitor.core.state())?;
                }
            }
            let wake = monitor.core.wake_at();
            let seen = self.judge.after(now, &event, monitor.core.state(), wake);
            for effect in &out {
                self.say(|| format!("           → {}", short(effect)));
            }
            seen?;
            effects.extend(out);
        }
        let decisions: Vec<Effect> = effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Act(_) | Effect::Send { .. }))
            .cloned()
            .collect();
        if let Some(monitor) = &mut self.monitor {
            monitor.events_since_snapshot += 1;
        }
        if !decisions.is_empty() {
            if self.rng.chance(self.weather.crash) {
                self.say(|| "the monitor dies before the decisions are durable".to_owned());
                for decision in &decisions {
                    if let Effect::Act(request) = decision {
                        self.judge.never_begun(request);
                    }
                }
                return Err(Stop::Crash);
            }
            self.journal.records.extend(decisions.into_iter().map(Record::Decision));
            if self.rng.chance(self.weather.crash) {
                self.say(|| "the monitor dies between the decisions and the acts".to_owned());
                for effect in &effects {
                    if let Effect::Act(request) = effect {
                        self.judge.ended(request.id.fence);
                    }
                }
                return Err(Stop::Crash);
            }
        }
        let mut effects = effects.into_iter();
        while let Some(effect) = effects.next() {
            self.perform(effect)?;
            if self.rng.chance(self.weather.crash * 0.2) {
                self.say(|| "the monitor dies while performers begin".to_owned());
                for effect in effects {
                    if let Effect::Act(request) = effect {
                        self.judge.ended(request.id.fence);
                    }
                }
                return Err(Stop::Crash);
            }
        }
        self.snapshot_now_and_then();
        self.wake_later();
        Ok(())
    }

    fn snapshot_now_and_then(&mut self) {
        let Some(monitor) = &mut self.monitor else { return };
        if self.weather.crash > 0.0 && monitor.events_since_snapshot > 60 && self.rng.chance(0.1) {
            monitor.events_since_snapshot = 0;
            if let Ok(json) = serde_json::to_string(monitor.core.state()) {
                self.journal.snapshot = Some((self.journal.records.len(), json));
            }
            let same = Core::from_state(monitor.core.state().clone()) == monitor.core;
            assert!(same, "what is kept beside the state is not what the state gives");
        }
    }

    fn wake_later(&mut self) {
        let now = self.clock();
        let Some(monitor) = &mut self.monitor else { return };
        monitor.wakes += 1;
        let (boot, number) = (self.boot, monitor.wakes);
        let wake = monitor.core.wake_at().unwrap_or(Time::MAX).min(now + Span::secs(60));
        let late = if self.rng.chance(0.02) { self.rng.range(0, 2_000) } else { 0 };
        self.at((wake - now).0.max(0) + late, Happening::Wake(boot, number));
    }

    fn crash(&mut self) {
        self.stats.crashes += 1;
        self.judge.crashed();
        self.monitor = None;
        self.boot += 1;
        let boot = self.boot;
        // What people and files asked for is asked again; everything else in flight is gone.
        let mut again = Vec::new();
        for happening in self.happenings.values_mut() {
            if let Happening::Arrives(b, Event::Policy(_) | Event::Commanded { .. }) = happening {
                *b = boot;
                again.push(());
            }
        }
        let down = if self.rng.chance(0.8) {
            self.rng.range(200, 20_000)
        } else {
            self.rng.range(20_000, 600_000)
        };
        self.at(down, Happening::Start);
    }

    fn start(&mut self) -> Result<(), Stop> {
        if self.monitor.is_some() {
            return Ok(());
        }
        self.boot += 1;
        let boot = self.boot;
        for happening in self.happenings.values_mut() {
            if let Happening::Arrives(b, Event::Policy(_) | Event::Commanded { .. }) = happening {
                *b = boot;
            }
        }
        let wrong = |invariant, said| Stop::Broken(Broken { invariant, said });
        let replay = "replay decides the same";
        let folded = self.journal.fold(true).map_err(|said| wrong(replay, said))?;
        if let Some(differs) = folded.differs {
            return Err(wrong(replay, differs));
        }
        let core = folded.core;
        if let Some(known) = self.must_know.take()
            && known != *core.state()
        {
            let said = difference(&known, core.state());
            return Err(wrong("nothing acknowledged is lost", format!("after a restart: {said}")));
        }
        let last = self.journal.last_time().0.max(self.t + self.offset);
        let (t, series) = (self.t, self.samples.len());
        let first = self.journal.records.is_empty();
        self.monitor = Some(Monitor {
            core,
            inbox: VecDeque::new(),
            turning: false,
            wakes: 0,
            told: vec![None; series],
            watches: HashMap::new(),
            clock: (last, t),
            events_since_snapshot: 0,
        });
        let now = self.clock();
        let boot = self.boot;
        self.say(|| format!("the monitor starts, run {boot}, {now:?}"));
        for at in 0..self.samples.len() {
            self.samples[at] = None;
        }
        self.late.clear();
        if let Some(monitor) = &self.monitor {
            self.judge.nothing_acknowledged_is_lost(now, monitor.core.state())?;
        }
        let mut events = Vec::new();
        for request in folded.never_begun {
            events.push(Event::Acted(ActionOutcome {
                id: request.id.clone(),
                end: ActionEnd::NotStarted(RESTARTED.to_owned()),
                started: now,
                ended: now,
                output: String::new(),
            }));
        }
        let known = self.monitor.as_ref().is_some_and(|m| m.core.state().policy == self.file);
        events.push(Event::Started);
        if first || !known {
            events.push(Event::Policy(Box::new(self.file.clone())));
        }
        if self.rng.chance(0.5) {
            // One by one, or in one batch.
            return self.turn(events);
        }
        for event in events {
            self.turn(vec![event])?;
        }
        Ok(())
    }

    // ── Performers. ──

    fn perform(&mut self, effect: Effect) -> Result<(), Stop> {
        match effect {
            Effect::Act(request) => self.act(request),
            Effect::Abort(id) => self.abort(&id),
            Effect::Send { message, number } => self.message(message, number)?,
            Effect::Watch(watch) => {
                let boot = self.boot;
                let id = watch.id;
                for check in 0..watch.checks.len() {
                    let delay = self.rng.range(1, 50);
                    self.at(delay, Happening::Ask { boot, watch: id, check });
                }
                if let Some(monitor) = &mut self.monitor {
                    monitor.watches.insert(id, watch);
                }
            }
            Effect::Unwatch(id) => {
                if let Some(monitor) = &mut self.monitor {
                    monitor.watches.remove(&id);
                }
            }
        }
        Ok(())
    }

    fn act(&mut self, request: ActionRequest) {
        let fence = request.id.fence;
        let started = self.clock();
        let place = self.town.place(&request.target);
        let place = place.unwrap_or(Place { service: 0, instance: Some(0) });
        let wider = request.action.starts_with("rebuild");
        let mut act = Act {
            boot: self.boot,
            request,
            started,
            end: ActionEnd::Exited(0),
            heard: true,
            done: false,
        };
        let timeout = act.request.timeout.0;
        let mut takes = self.rng.range(300, 12_000).min(timeout);
        let mut works = true;
        if self.rng.chance(self.weather.bad_act) {
            match self.rng.below(6) {
                0 => {
                    // No such program: the world sees nothing of it.
                    act.end = ActionEnd::NotStarted("no such program".into());
                    (takes, works) = (5, false);
                }
                1 => (act.end, works) = (ActionEnd::Exited(1), false),
                2 => act.end = ActionEnd::Exited(3),
                3 => {
                    (act.end, takes) = (ActionEnd::TimedOut, timeout + self.rng.range(0, 5_000));
                    works = self.rng.chance(0.3);
                }
                4 => works = false,
                _ => act.heard = false,
            }
        }
        if takes >= timeout && act.end == ActionEnd::Exited(0) {
            act.end = ActionEnd::TimedOut;
        }
        let end = act.end.clone();
        self.say(|| format!("act {fence} begins at {place:?}, to end in {takes} ms as {end}"));
        if works {
            let delay = self.rng.range(1, takes.max(2) - 1);
            self.at(delay, Happening::Works { fence, wider, place });
        }
        if self.rng.chance(0.5) && !matches!(act.end, ActionEnd::NotStarted(_)) {
            self.town.disturbed.retain(|(_, until)| *until > self.t);
            self.town.disturbed.push((place, self.t + takes));
        }
        self.acts.insert(fence, act);
        self.at(takes, Happening::Ends(fence));
    }

    fn abort(&mut self, id: &ActionId) {
        let Some(act) = self.acts.get_mut(&id.fence).filter(|act| !act.done) else { return };
        act.end = ActionEnd::Aborted;
        let fence = id.fence;
        let delay = self.rng.range(10, 3_000);
        self.at(delay, Happening::Ends(fence));
    }

    fn act_ends(&mut self, fence: u64) {
        let now = self.clock();
        let Some(act) = self.acts.get_mut(&fence).filter(|act| !act.done) else { return };
        act.done = true;
        let outcome = ActionOutcome {
            id: act.request.id.clone(),
            end: act.end.clone(),
            started: act.started,
            ended: now,
            output: String::new(),
        };
        let (boot, heard) = (act.boot, act.heard);
        self.judge.ended(fence);
        self.say(|| format!("act {fence} ends as {}, heard: {heard}", outcome.end));
        if boot == self.boot && heard {
            let delay = if self.rng.chance(0.05) { self.rng.range(10, 4_000) } else { 1 };
            self.send(delay, Event::Acted(outcome));
        }
    }

    fn message(&mut self, message: Message, number: u32) -> Result<(), Stop> {
        let at = self.clock();
        let mood = match self.channels.get(&message.channel) {
            Some((mood, until)) if *until > self.t => Some(*mood),
            _ => None,
        };
        let lost = self.rng.chance(self.weather.lost_receipt) || mood == Some(Mood::Deaf);
        let known = self.judge.knows(&message.channel);
        let (outcome, said) = match mood {
            _ if !known => (AttemptOutcome::Rejected, "the configuration has no such channel"),
            Some(Mood::Busy) => (AttemptOutcome::Retry, "503"),
            Some(Mood::Refuses) => (AttemptOutcome::Rejected, "404"),
            _ if lost => (AttemptOutcome::Retry, "timed out"),
            _ => (AttemptOutcome::Accepted, "200"),
        };
        if known && !matches!(mood, Some(Mood::Busy | Mood::Refuses)) {
            self.judge.received(&message)?;
        }
        let took = if lost { 10_000 } else { self.rng.range(10, 2_000) };
        let retry_after = (outcome == AttemptOutcome::Retry && self.rng.chance(0.1))
            .then(|| Span::secs(self.rng.range(1, 600)));
        let attempt = Attempt {
            message: message.id,
            number,
            at,
            took: Span(took),
            outcome,
            said: said.into(),
            retry_after,
        };
        self.send(took, Event::Attempted(attempt));
        Ok(())
    }

    fn ask(&mut self, boot: u64, id: u64, check: usize) {
        if boot != self.boot {
            return;
        }
        let now = self.clock();
        let Some(watch) = self.monitor.as_ref().and_then(|m| m.watches.get(&id)) else { return };
        let (after, labels) = (watch.after, watch.labels.clone());
        let Some(question) = watch.checks.get(check).cloned() else { return };
        self.at(question.every.0, Happening::Ask { boot, watch: id, check });
        let (kind, name) = match &question.check {
            Check::Http(probe) => (
                "http",
                probe.url.trim_start_matches("http://").trim_end_matches("/health").to_owned(),
            ),
            Check::Tcp(probe) => ("tcp", probe.address.trim_end_matches(":1").to_owned()),
            Check::Expr(text) => match text.split_once(':') {
                Some(("bad", place)) => ("bad", place.to_owned()),
                Some(("veto", place)) => ("veto", place.to_owned()),
                Some((_, place)) => ("good", place.to_owned()),
                None => return,
            },
            _ => return,
        };
        let Some(place) = self.town.place(&name) else { return };
        let ill = self.town.ill(place, self.t, kind == "http" || kind == "tcp");
        let mut verdict = match (kind, ill) {
            ("veto", _) => Verdict::Clear,
            ("bad", true) | ("http" | "tcp" | "good", false) => Verdict::Holds,
            _ => Verdict::Clear,
        };
        let w = self.weather;
        let deaf = self.deaf_witness.get(&self.town.units[place.service].name);
        if deaf.is_some_and(|until| *until > self.t) {
            if self.rng.chance(0.7) {
                return;
            }
            verdict = Verdict::Unknown;
        }
        let mut at = now;
        let turned = match verdict {
            Verdict::Holds => Verdict::Clear,
            Verdict::Clear => Verdict::Holds,
            Verdict::Unknown => Verdict::Unknown,
        };
        if self.rng.chance(w.stale_answer) {
            at = after - Span(self.rng.range(0, 30_000));
            verdict = turned;
        } else if self.rng.chance(w.lie) {
            verdict = turned;
        }
        let mut delay = self.rng.range(5, 300);
        if self.rng.chance(w.lost_answer) {
            if self.rng.chance(0.5) {
                return;
            }
            delay = self.rng.range(1_000, 20_000);
        }
        let evidence = Evidence::said(format!("{kind} {name}: {verdict:?}"));
        let seen = Observation { watch: id, check, at, verdict, evidence, labels };
        if self.rng.chance(w.odd_signal * 0.5) {
            self.send(delay + 700, Event::Observed(seen.clone()));
        }
        self.send(delay, Event::Observed(seen));
    }

    // ── Signals and rules. ──

    fn round(&mut self) {
        let (t, w) = (self.t, self.weather);
        let mut arrived = Vec::new();
        let well = self.town.all_well(t);
        self.late.retain(|late| {
            let here = late.0 <= t;
            if here {
                arrived.push((late.1, late.2, late.3));
            }
            !here
        });
        for i in 0..self.town.series.len() {
            if t < self.blind[i] || self.rng.chance(w.lost_signal) {
                continue;
            }
            let holds = !well && self.town.holds(&self.town.series[i], t);
            if self.rng.chance(w.odd_signal) {
                let delay = self.rng.range(1_000, 20_000);
                self.late.push((t + delay, i, t, holds));
                if self.rng.chance(0.5) {
                    continue;
                }
            }
            arrived.push((i, t, holds));
        }
        for (i, at, holds) in arrived {
            if self.samples[i].is_none_or(|(newest, _)| newest < at) {
                self.samples[i] = Some((at, holds));
            }
        }
        if self.monitor.is_none() {
            return;
        }
        let now = self.clock();
        let Some(monitor) = &self.monitor else { return };
        let rules = &monitor.core.state().policy.rules;
        let loaded: Vec<bool> =
            self.town.series.iter().map(|series| rules.contains_key(series.rule)).collect();
        for (i, loaded) in loaded.into_iter().enumerate() {
            let verdict = match self.samples[i] {
                Some((at, holds)) if t - at <= STALE => {
                    if holds {
                        Verdict::Holds
                    } else {
                        Verdict::Clear
                    }
                }
                Some(_) => Verdict::Unknown,
                None => continue,
            };
            let Some(monitor) = &mut self.monitor else { return };
            let rule = self.town.series[i].rule;
            if !loaded {
                // Rules that are not loaded say nothing; loaded again, they speak afresh.
                monitor.told[i] = None;
                continue;
            }
            if monitor.told[i] == Some(verdict) && !self.rng.chance(0.002) {
                continue;
            }
            monitor.told[i] = Some(verdict);
            let labels: Labels = self.town.series[i].labels.clone();
            let finding = Finding {
                rule: rule.to_owned(),
                labels,
                annotations: Labels::default(),
                at: now,
                verdict,
                evidence: Evidence::said(format!("{rule} {verdict:?}")),
            };
            self.send(1, Event::Found(finding));
        }
    }

    // ── People. ──

    fn command_in(&mut self, delay: i64, command: Command) {
        self.send(delay, Event::Commanded { by: "kim".to_owned(), command });
    }

    fn person(&mut self) {
        let unit = self.rng.below(self.town.units.len());
        let name = self.town.units[unit].name.clone();
        let instance = format!("{name}-0");
        let which = match self.rng.below(4) {
            0 => matchers(&[("service", &name)]),
            1 => matchers(&[("service", &name), ("instance", &instance)]),
            2 => matchers(&[("alertname", *self.rng.pick(&["Down", "Slow", "Errors"]))]),
            _ => daruma_model::Matchers(
                format!("service=~\"{name}|web\"").parse().into_iter().collect(),
            ),
        };
        let ttl = Span(self.rng.range(5_000, 1_800_000));
        let comment = "why not".to_owned();
        let (mut incidents, mut leases, mut silences) = (vec![1], vec![1], vec![1]);
        if let Some(monitor) = &self.monitor {
            let state = monitor.core.state();
            let open = state.incidents.values().filter(|i| i.resolved.is_none()).map(|i| i.id);
            incidents.extend(open);
            leases.extend(state.holds.keys());
            silences.extend(state.silences.keys());
        }
        let incident = *incidents.last().unwrap_or(&1);
        let incident = if self.rng.chance(0.7) { incident } else { *self.rng.pick(&incidents) };
        let command = match self.rng.below(100) {
            0..25 => Command::Hold { matchers: which, ttl, comment },
            25..35 => Command::Release { id: *self.rng.pick(&leases) },
            35..60 => Command::Silence { matchers: which, ttl, comment },
            60..68 => Command::Unsilence { id: *self.rng.pick(&silences) },
            68..80 => Command::Ack { incident, ttl: Some(ttl), comment },
            80..84 => Command::Abort { incident },
            84..94 => {
                let off = Command::Stop { on: false, comment: comment.clone() };
                let delay = self.rng.range(5_000, 600_000);
                self.command_in(delay, off);
                Command::Stop { on: true, comment }
            }
            _ => {
                let books = &self.base.recover.runbooks;
                Command::ResetBreaker { runbook: books[self.rng.below(books.len())].name.clone() }
            }
        };
        self.command_in(1, command);
    }

    fn reload(&mut self) {
        let policy = if self.rng.chance(0.4) {
            self.base.clone()
        } else {
            match self.town.reload(&self.base, &mut self.rng) {
                Some(policy) => policy,
                None => return,
            }
        };
        self.file = policy.clone();
        self.send(1, Event::Policy(Box::new(policy)));
    }
}

/// Where two states part, in the order in which a reader wants to know.
fn difference(want: &State, got: &State) -> String {
    let parts = [
        ("alerts", want.alerts == got.alerts),
        ("incidents", want.incidents == got.incidents),
        ("recoveries", want.recoveries == got.recoveries),
        ("outbox", want.outbox == got.outbox),
        ("holds", want.holds == got.holds),
        ("silences", want.silences == got.silences),
        ("acts", want.acts == got.acts),
        ("breakers", want.breakers == got.breakers),
        ("cooldowns", want.cooldowns == got.cooldowns),
        ("policy", want.policy == got.policy),
        ("now", want.now == got.now),
    ];
    let other: Vec<&str> = parts.iter().filter(|(_, same)| !same).map(|(name, _)| *name).collect();
    format!("the state differs in {other:?}")
}

/// An event in a few words.
fn tell(event: &Event) -> String {
    match event {
        Event::Policy(policy) => format!(
            "policy: mode {}, rules {:?}, runbooks {:?}, {:?}, receivers {:?}, group wait {}",
            policy.recover.mode.as_str(),
            policy.rules,
            policy
                .recover
                .runbooks
                .iter()
                .map(|r| (&r.name, r.mode, r.limits.clone(), r.steps.len()))
                .collect::<Vec<_>>(),
            policy.recover.limits,
            policy.notify.receivers,
            policy.notify.group_wait,
        ),
        Event::Found(finding) => format!("{} is {:?}", finding.labels, finding.verdict),
        Event::Observed(seen) => {
            format!("watch {}.{} {:?} at {:?}", seen.watch, seen.check, seen.verdict, seen.at)
        }
        Event::Acted(outcome) => {
            format!("act {} ended {}", outcome.id.fence, outcome.end)
        }
        Event::Attempted(attempt) => {
            format!("#{} try {} {:?}", attempt.message, attempt.number, attempt.outcome)
        }
        Event::Commanded { command, .. } => format!("{command:?}"),
        Event::Source(health) => format!("{health:?}"),
        Event::Posted(alerts) => format!("{} alerts posted", alerts.len()),
        Event::Reposted { again, fresh } => {
            let known: usize = again.iter().map(|again| again.of.len()).sum();
            format!("{} alerts posted, {known} of them again", known + fresh.len())
        }
        Event::Started => "started".to_owned(),
        Event::Tick => "tick".to_owned(),
    }
}
