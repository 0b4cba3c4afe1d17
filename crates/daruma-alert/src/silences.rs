//! Silences: how they are made, changed and ended, and which are remembered.

use daruma_model::{Matchers, Time};

use crate::Silence;
use crate::core::Cx;
use crate::state::{ENDED_SILENCE, ENDED_SILENCES_MAX};

impl Cx<'_> {
    /// Ends those whose time is up and forgets those that ended long ago; whether one began or ended.
    pub(crate) fn silences_turn(&mut self) -> bool {
        let (now, before) = (self.now, self.index.silenced);
        let over = |silence: &Silence| silence.until <= now;
        let ended: Vec<u64> =
            self.state.silences.values().filter(|s| over(s)).map(|s| s.id).collect();
        for id in &ended {
            if let Some(silence) = self.state.silences.remove(id) {
                self.state.ended_silences.insert(*id, silence);
            }
        }
        let kept = &mut self.state.ended_silences;
        if kept.values().any(|silence| silence.until + ENDED_SILENCE <= now) {
            kept.retain(|_, silence| silence.until + ENDED_SILENCE > now);
        }
        while kept.len() > ENDED_SILENCES_MAX {
            kept.pop_first();
        }
        self.index.silenced = self.state.silences.values().filter(|s| s.is_active(now)).count();
        !ended.is_empty() || self.index.silenced != before
    }

    /// Makes or changes one. Unknown names change nothing; whoever asked is told so by
    /// [`crate::Core::silence_named`] beforehand.
    pub(crate) fn put_silence(
        &mut self,
        uuid: Option<&str>,
        matchers: &Matchers,
        (from, until): (Time, Time),
        by: &str,
        comment: &str,
    ) {
        let (now, from) = (self.now, from.max(self.now));
        let known = uuid.and_then(|uuid| self.state.silences.values().find(|s| s.uuid == uuid));
        if let Some(known) = known.cloned() {
            let active = known.is_active(now);
            let same = known.matchers == *matchers && until > now;
            // Of one that is at work, the beginning stays; any other may still move.
            if same && (active || from >= now) {
                let from = if active { known.from } else { from };
                let changed = Silence {
                    from,
                    until,
                    by: by.to_owned(),
                    comment: comment.to_owned(),
                    updated: now,
                    ..known
                };
                self.state.silences.insert(changed.id, changed);
                self.stir_groups();
                return;
            }
            self.end_silence(&known.uuid);
        }
        let id = self.state.next_id();
        let silence = Silence {
            id,
            matchers: matchers.clone(),
            from,
            until,
            by: by.to_owned(),
            comment: comment.to_owned(),
            uuid: Silence::name(id, now),
            updated: now,
        };
        self.state.silences.insert(id, silence);
    }

    pub(crate) fn end_silence(&mut self, uuid: &str) {
        let now = self.now;
        let Some(id) = self.state.silences.values().find(|s| s.uuid == uuid).map(|s| s.id) else {
            return;
        };
        if let Some(mut silence) = self.state.silences.remove(&id) {
            silence.from = silence.from.min(now);
            silence.until = now;
            silence.updated = now;
            self.state.ended_silences.insert(id, silence);
        }
        self.stir_groups();
    }
}
