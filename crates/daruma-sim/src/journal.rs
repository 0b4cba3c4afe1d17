//! The journal of a simulated monitor: what is in it survives a crash, and nothing else does. The
//! order of its records is the order the real loop writes them in: events, then their decisions.

use daruma_alert::{Core, Effect, Event, Phase, State};
use daruma_model::{ActionRequest, Time};

/// What the loop wrote down.
#[derive(Debug, Clone)]
pub(crate) enum Record {
    /// Something happened.
    Event(Time, Event),
    /// A decision ([`Effect::Act`] or [`Effect::Send`]) that a performer may have begun.
    Decision(Effect),
}

/// What a start of the monitor finds.
pub(crate) struct Folded {
    pub(crate) core: Core,
    /// Acts that were decided without a record of the decision: certainly never begun.
    pub(crate) never_begun: Vec<ActionRequest>,
    /// Recorded decisions that this replay did not make, and the other way round, as words.
    pub(crate) differs: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) records: Vec<Record>,
    /// The record count it stands for, and the state as it was serialized.
    pub(crate) snapshot: Option<(usize, String)>,
}

impl Journal {
    pub(crate) fn last_time(&self) -> Time {
        let time = |record: &Record| match record {
            Record::Event(at, _) => Some(*at),
            Record::Decision(_) => None,
        };
        self.records.iter().rev().find_map(time).unwrap_or(Time(0))
    }

    /// The state at the end of the journal, from the snapshot if `quick`, else from the beginning.
    pub(crate) fn fold(&self, quick: bool) -> Result<Folded, String> {
        let mut core = Core::new();
        let mut from = 0;
        if let (true, Some((at, json))) = (quick, &self.snapshot) {
            let state: State = serde_json::from_str(json).map_err(|e| e.to_string())?;
            core = Core::from_state(state);
            from = *at;
        }
        // Decided by the replay and not yet met in the records.
        let mut waiting: std::collections::VecDeque<Effect> = std::collections::VecDeque::new();
        let mut never_begun = Vec::new();
        let mut differs = None;
        for record in &self.records[from..] {
            match record {
                Record::Event(at, event) => {
                    for effect in core.step(*at, event) {
                        if matches!(effect, Effect::Act(_) | Effect::Send { .. }) {
                            waiting.push_back(effect);
                        }
                    }
                }
                Record::Decision(recorded) => loop {
                    match waiting.pop_front() {
                        Some(effect) if effect == *recorded => break,
                        // Decided in a batch whose decisions were never recorded.
                        Some(Effect::Act(request)) => never_begun.push(request),
                        Some(_) => {}
                        None => {
                            differs = Some(format!(
                                "the journal has a decision that the replay does not make: {}",
                                short(recorded)
                            ));
                            break;
                        }
                    }
                },
            }
        }
        for effect in waiting {
            if let Effect::Act(request) = effect {
                never_begun.push(request);
            }
        }
        let at_work = |request: &ActionRequest| {
            core.state()
                .recoveries
                .values()
                .any(|r| matches!(&r.phase, Phase::Acting { action, .. } if *action == request.id))
        };
        never_begun.retain(at_work);
        Ok(Folded { core, never_begun, differs })
    }
}

/// An effect in a few words.
pub(crate) fn short(effect: &Effect) -> String {
    match effect {
        Effect::Act(request) => format!(
            "act {} on {} (`{}`, fence {}, attempt {})",
            request.action, request.target, request.runbook, request.id.fence, request.id.attempt
        ),
        Effect::Abort(id) => format!("abort {id}"),
        Effect::Send { message, number } => format!(
            "send #{} try {number} to {} {:?} \"{}\" {:?}",
            message.id,
            message.channel,
            message.status,
            message.title,
            message.alerts.iter().map(|alert| alert.labels.to_string()).collect::<Vec<_>>()
        ),
        Effect::Watch(watch) => format!(
            "watch {} {} of {} after {:?}",
            watch.id,
            if watch.blind_before { "to verify" } else { "to confirm" },
            watch.labels,
            watch.after
        ),
        Effect::Unwatch(id) => format!("unwatch {id}"),
    }
}
