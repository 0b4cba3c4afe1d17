//! Remarks on a result, each text once.

use std::ops::Range;

use super::Evaluator;
use super::buckets::Repair;
use crate::value::{Annotation, AnnotationLevel};

/// The most remarks that one result carries; beyond it further ones tell nothing new.
const REMARKS_MAX: usize = 1000;

impl Evaluator<'_> {
    /// Adds a remark; of two with the same text the later one tells the place.
    pub(crate) fn note(&self, level: AnnotationLevel, message: String, span: &Range<usize>) {
        let _place = self.note_place(level, message, span);
    }

    /// As [`Self::note`]; where the remark stands, unless there are too many.
    fn note_place(
        &self,
        level: AnnotationLevel,
        message: String,
        span: &Range<usize>,
    ) -> Option<usize> {
        let mut notes = self.notes.borrow_mut();
        let mut noted = self.noted.borrow_mut();
        let key = (level, message);
        if let Some(place) = noted.get(&key) {
            notes[*place].span = span.clone();
            return Some(*place);
        }
        if notes.len() >= REMARKS_MAX {
            return None;
        }
        notes.push(Annotation { level, message: key.1.clone(), span: span.clone() });
        noted.insert(key, notes.len() - 1);
        Some(notes.len() - 1)
    }

    /// Adds a remark on repaired buckets, or what it is about to the one there is.
    pub(crate) fn info_repaired(&self, message: String, span: &Range<usize>, repair: Repair) {
        if let Some(place) = self.note_place(AnnotationLevel::Info, message, span) {
            let mut repairs = self.repairs.borrow_mut();
            repairs.entry(place).and_modify(|known| known.join(&repair)).or_insert(repair);
        }
    }

    /// All remarks, whole.
    pub(super) fn annotations(self) -> Vec<Annotation> {
        let mut notes = self.notes.into_inner();
        for (place, repair) in self.repairs.into_inner() {
            notes[place].message += &repair.text();
        }
        notes
    }

    pub(crate) fn warn(&self, message: String, span: &Range<usize>) {
        self.note(AnnotationLevel::Warn, message, span);
    }

    pub(crate) fn info(&self, message: String, span: &Range<usize>) {
        self.note(AnnotationLevel::Info, message, span);
    }
}
