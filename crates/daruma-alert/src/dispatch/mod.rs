//! What of what fires is told to whom, and when, by a tree of routes: Alertmanager's dispatcher as a
//! fold over what was posted.
//!
//! Stands apart from the loop's own notices because here people's own configuration says what belongs
//! together and how often it is repeated, and because hundreds of thousands of alerts may be posted:
//! an alert costs what it changes, and a group is looked at only when its next tick can bring news.
//!
//! What differs from the original, on purpose:
//! - whoever was told "firing" is told the end, also through a silence, an inhibition, a closed interval
//!   and another route; an alert nobody was told of has no end to tell;
//! - a message is told once it lies in the outbox, which is durable and tries for hours, so that one
//!   failing channel neither delays nor repeats another's;
//! - nothing is forgotten by a restart.

mod flush;
mod group;
mod inhibit;
mod listing;
mod posted;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daruma_model::{Labels, Time};
use serde::{Deserialize, Serialize};

pub(crate) use flush::{Flush, Muted, Telling};
pub use group::{Group, Told};
pub(crate) use inhibit::Sources;
pub use listing::{Listed, ListedDigest, Listing};
pub use posted::{Again, AlertIn, Posted};
pub(crate) use table::Table;

use crate::routing::Routing;

/// Alerts held at once; one more is refused and counted.
pub(crate) const POSTED_MAX: usize = 500_000;

/// Fingerprints are spread evenly: of a hundred thousand, a hundred share a part.
const ALERT_BITS: u32 = 54;
/// Groups are numbered in the order they come.
const GROUP_BITS: u32 = 6;

/// Everything that was posted and is not over, in its groups, and what was told of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Dispatch {
    /// By fingerprint of the labels.
    #[serde(with = "posted::at_rest")]
    pub(crate) alerts: Table<Arc<Posted>, ALERT_BITS>,
    /// By number.
    pub(crate) groups: Table<Group, GROUP_BITS>,
    /// By group key and channel.
    pub(crate) told: BTreeMap<String, BTreeMap<String, Told>>,
    /// The last group's number.
    pub(crate) last_group: u64,
    /// Alerts refused because of the bound.
    pub(crate) refused: u64,
}

/// What follows from [`Dispatch`] and the routes alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct DispatchIndex {
    /// When a group is looked at next.
    pub(crate) due: BTreeSet<(Time, u64)>,
    /// Groups by node and labels.
    pub(crate) by_labels: BTreeMap<(usize, Labels), u64>,
    /// What may inhibit.
    pub(crate) sources: Arc<Sources>,
    /// Firing alerts by the service they speak of, for dependencies.
    pub(crate) services: BTreeMap<String, BTreeSet<u64>>,
    /// Addresses of what is held.
    pub(crate) urls: posted::Urls,
}

impl DispatchIndex {
    pub(crate) fn of(dispatch: &Dispatch, routing: &Routing) -> DispatchIndex {
        let sources = Arc::new(Sources::new(&routing.inhibit));
        let mut index = DispatchIndex { sources, ..DispatchIndex::default() };
        for (id, group) in dispatch.groups.iter() {
            if !group.orphan {
                index.by_labels.insert((group.node, group.labels.clone()), *id);
            }
            if group.next < Time::MAX {
                index.due.insert((group.next, *id));
            }
        }
        for (fingerprint, alert) in dispatch.alerts.iter() {
            index.alert_comes(routing, *fingerprint, alert);
        }
        index
    }

    pub(crate) fn alert_comes(&mut self, routing: &Routing, fingerprint: u64, alert: &Posted) {
        if !routing.inhibit.is_empty() {
            let sources = Arc::make_mut(&mut self.sources);
            sources.comes(&routing.inhibit, fingerprint, &alert.labels);
        }
        let service = alert.labels.get("service");
        if !service.is_empty() {
            self.services.entry(service.to_owned()).or_default().insert(fingerprint);
        }
    }

    pub(crate) fn alert_goes(&mut self, routing: &Routing, fingerprint: u64, alert: &Posted) {
        if !routing.inhibit.is_empty() {
            let sources = Arc::make_mut(&mut self.sources);
            sources.goes(&routing.inhibit, fingerprint, &alert.labels);
        }
        let service = alert.labels.get("service");
        if let Some(all) = self.services.get_mut(service) {
            all.remove(&fingerprint);
            if all.is_empty() {
                self.services.remove(service);
            }
        }
    }
}

impl Dispatch {
    /// When a group is to be looked at next.
    pub(crate) fn wake(index: &DispatchIndex) -> Option<Time> {
        index.due.first().map(|(at, _)| *at)
    }

    /// How many alerts are held, and how many were refused since the first start.
    #[must_use]
    pub fn counts(&self) -> (usize, u64) {
        (self.alerts.len(), self.refused)
    }
}
