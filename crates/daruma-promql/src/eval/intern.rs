//! Places for label sets: which elements belong together, found without making label sets of the
//! parts compared.
//!
//! It stands apart because grouping, matching and the result all ask the same: is this set, seen
//! through `by`, `on` or without its name, equal to one seen before? Over the steps of a range query the
//! same sets come again and again, so what was found once is remembered by the set's address.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

use daruma_model::Labels;

use super::METADATA;

/// Which labels of a set count.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Selection<'a> {
    /// All.
    All,
    /// All but those that tell what the metric is.
    Nameless,
    /// Those listed.
    Only(&'a [String]),
    /// All but the name and those listed.
    Without(&'a [String]),
    /// All but those listed.
    Except(&'a [String]),
}

impl Selection<'_> {
    pub(crate) fn keeps(self, name: &str) -> bool {
        let listed = |list: &[String]| list.iter().any(|label| label == name);
        match self {
            Selection::All => true,
            Selection::Nameless => !METADATA.contains(&name),
            Selection::Only(list) => listed(list),
            Selection::Without(list) => name != Labels::NAME && !listed(list),
            Selection::Except(list) => !listed(list),
        }
    }

    fn pairs(self, labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
        labels.iter().filter(move |(name, _)| self.keeps(name))
    }

    /// The labels that count, as a set.
    pub(crate) fn of(self, labels: &Labels) -> Labels {
        match self {
            Selection::All => labels.clone(),
            _ => labels.filtered(|name| self.keeps(name)),
        }
    }
}

/// Addresses are spread well enough by one multiplication.
#[derive(Default)]
pub(crate) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }
    fn write_usize(&mut self, value: usize) {
        let mixed = (self.0 ^ value as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

pub(crate) type ByAddress<K, V> = HashMap<K, V, BuildHasherDefault<AddressHasher>>;

/// The most addresses that are remembered beyond twice the elements at hand.
const SPARE: usize = 4096;

/// Mixes 64 bits into a hash, by the halves of a long product.
fn fold(hash: u64, bits: u64) -> u64 {
    let product = u128::from(hash ^ bits) * 0xf39c_c060_5ced_c835_u128;
    (product as u64) ^ ((product >> 64) as u64)
}

/// Mixes a text into a hash, by a key that nobody outside knows.
fn fold_text(mut hash: u64, key: u64, text: &str) -> u64 {
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    for word in words {
        hash = fold(hash, u64::from_le_bytes(*word)) ^ key;
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    // With the length, so that no text is the beginning of another.
    fold(fold(hash, u64::from_le_bytes(last)) ^ key, text.len() as u64)
}

/// Label sets by what counts of them. Places are numbered from 0 in order of first sight.
pub(crate) struct Interner {
    /// Where a hash begins, and the key it is mixed with.
    seed: (u64, u64),
    /// Whether the same sets are likely to come again.
    remember: bool,
    /// The set is kept with its place, so that its address stays its own.
    by_address: ByAddress<(usize, usize), (Labels, u32)>,
    by_hash: HashMap<u64, u32, BuildHasherDefault<AddressHasher>>,
    seen: Vec<Seen>,
}

struct Seen {
    labels: Labels,
    selection: usize,
    /// The next place of the same hash.
    next: Option<u32>,
}

impl Default for Interner {
    fn default() -> Interner {
        Interner::new(true)
    }
}

impl Interner {
    pub(crate) fn new(remember: bool) -> Interner {
        let random = RandomState::new();
        // An even key would lose bits.
        let seed = (random.hash_one(0_u8), random.hash_one(1_u8) | 1);
        let (by_address, by_hash) = (ByAddress::default(), ByAddress::default());
        Interner { seed, remember, by_address, by_hash, seen: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.seen.len()
    }

    /// Called before `elements` of them are asked for: forgets addresses when there are too many.
    pub(crate) fn expect(&mut self, elements: usize) {
        if self.by_address.len() > 2 * elements + SPARE {
            self.by_address.clear();
        }
        if !self.remember {
            self.by_hash.reserve(elements.min(1 << 16));
        }
    }

    /// The place of `labels` as seen through `selections[with]`; a new one if there is none.
    pub(crate) fn place(
        &mut self,
        labels: &Labels,
        with: usize,
        selections: &[Selection<'_>],
    ) -> usize {
        let key = (labels.address(), with);
        if self.remember
            && let Some((_, place)) = self.by_address.get(&key)
        {
            return *place as usize;
        }
        let hash = self.hash(labels, selections[with]);
        let place = match self.lookup(hash, labels, with, selections) {
            Some(place) => place,
            None => {
                let place = self.seen.len() as u32;
                let next = self.by_hash.insert(hash, place);
                self.seen.push(Seen { labels: labels.clone(), selection: with, next });
                place
            }
        };
        if self.remember {
            self.by_address.insert(key, (labels.clone(), place));
        }
        place as usize
    }

    /// The place of `labels`, if there is one.
    pub(crate) fn find(
        &self,
        labels: &Labels,
        with: usize,
        selections: &[Selection<'_>],
    ) -> Option<usize> {
        let hash = self.hash(labels, selections[with]);
        self.lookup(hash, labels, with, selections).map(|place| place as usize)
    }

    fn lookup(
        &self,
        hash: u64,
        labels: &Labels,
        with: usize,
        selections: &[Selection<'_>],
    ) -> Option<u32> {
        let mut candidate = self.by_hash.get(&hash).copied();
        while let Some(place) = candidate {
            let seen = &self.seen[place as usize];
            let theirs = selections[seen.selection].pairs(&seen.labels);
            if selections[with].pairs(labels).eq(theirs) {
                return Some(place);
            }
            candidate = seen.next;
        }
        None
    }

    fn hash(&self, labels: &Labels, selection: Selection<'_>) -> u64 {
        let (mut hash, key) = self.seed;
        for (name, value) in selection.pairs(labels) {
            hash = fold_text(fold_text(hash, key, name), key, value);
        }
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_that_agree_on_what_counts_share_a_place() {
        let list = ["job".to_owned()];
        let selections = [Selection::Only(&list), Selection::All];
        for remember in [false, true] {
            let mut interner = Interner::new(remember);
            let a = Labels::from([("job", "web"), ("instance", "1")]);
            let b = Labels::from([("job", "web"), ("instance", "2")]);
            let (none, bare) = (Labels::from([("instance", "1")]), Labels::from([("job", "web")]));
            for _ in 0..2 {
                assert_eq!(interner.place(&a, 0, &selections), 0);
                assert_eq!(interner.place(&none, 0, &selections), 1);
                assert_eq!(interner.place(&b, 0, &selections), 0);
                // Whole, it is what the others are in part.
                assert_eq!(interner.place(&bare, 1, &selections), 0);
            }
            assert_eq!(interner.find(&Labels::default(), 0, &selections), Some(1));
            assert_eq!(interner.len(), 2);
        }
    }
}
