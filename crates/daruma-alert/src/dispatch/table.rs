//! A map by number that is cheap to copy as a whole: what is copied is shared until one side changes it,
//! and then only the part that changes is copied. So a picture of hundreds of thousands of alerts can be
//! taken between two events, and read or written to disk by another thread.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Sorted by number; numbers that differ only in their last `BITS` bits share a part.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Table<V, const BITS: u32> {
    /// None is empty.
    parts: BTreeMap<u64, Arc<BTreeMap<u64, V>>>,
    len: usize,
}

impl<V, const BITS: u32> Default for Table<V, BITS> {
    fn default() -> Table<V, BITS> {
        Table { parts: BTreeMap::new(), len: 0 }
    }
}

impl<V: Clone, const BITS: u32> Table<V, BITS> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, key: &u64) -> Option<&V> {
        self.parts.get(&(key >> BITS))?.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &u64) -> Option<&mut V> {
        let part = self.parts.get_mut(&(key >> BITS))?;
        // What is not there is no reason to copy.
        if !part.contains_key(key) {
            return None;
        }
        Arc::make_mut(part).get_mut(key)
    }

    pub(crate) fn insert(&mut self, key: u64, value: V) -> Option<V> {
        let part = self.parts.entry(key >> BITS).or_default();
        let before = Arc::make_mut(part).insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    pub(crate) fn remove(&mut self, key: &u64) -> Option<V> {
        let part = self.parts.get_mut(&(key >> BITS))?;
        if !part.contains_key(key) {
            return None;
        }
        let gone = Arc::make_mut(part).remove(key);
        if part.is_empty() {
            self.parts.remove(&(key >> BITS));
        }
        self.len -= usize::from(gone.is_some());
        gone
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&u64, &V)> {
        self.parts.values().flat_map(|part| part.iter())
    }

    /// From `key` on.
    pub(crate) fn from(&self, key: u64) -> impl Iterator<Item = (&u64, &V)> {
        self.parts.range(key >> BITS..).flat_map(move |(_, part)| part.range(key..))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &u64> {
        self.iter().map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.parts.values_mut().flat_map(|part| Arc::make_mut(part).values_mut())
    }
}

impl<V: Clone, const BITS: u32> FromIterator<(u64, V)> for Table<V, BITS> {
    fn from_iter<I: IntoIterator<Item = (u64, V)>>(pairs: I) -> Table<V, BITS> {
        let mut table = Table::default();
        for (key, value) in pairs {
            table.insert(key, value);
        }
        table
    }
}

/// As a plain map.
impl<V: Clone + Serialize, const BITS: u32> Serialize for Table<V, BITS> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, V: Clone + Deserialize<'de>, const BITS: u32> Deserialize<'de> for Table<V, BITS> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Table<V, BITS>, D::Error> {
        Ok(BTreeMap::<u64, V>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// It is a map, whatever is done to it, and a copy stays as it was taken.
        #[test]
        fn a_table_is_a_map_and_its_copies_stay(
            steps in prop::collection::vec((0_u64..40, prop::option::of(0_u8..9)), 0..120),
            copy_at in 0_usize..120,
        ) {
            let (mut table, mut map) = (Table::<u8, 3>::default(), BTreeMap::new());
            let mut copies = None;
            for (at, (key, value)) in steps.into_iter().enumerate() {
                if at == copy_at {
                    copies = Some((table.clone(), map.clone()));
                }
                match value {
                    Some(8) => {
                        let (one, other) = (table.get_mut(&key), map.get_mut(&key));
                        prop_assert_eq!(&one, &other);
                        one.into_iter().chain(other).for_each(|value| *value = 77);
                    }
                    Some(value) => {
                        prop_assert_eq!(table.insert(key, value), map.insert(key, value));
                    }
                    None => prop_assert_eq!(table.remove(&key), map.remove(&key)),
                }
                prop_assert_eq!(table.len(), map.len());
            }
            for (table, map) in copies.into_iter().chain([(table, map)]) {
                prop_assert!(table.iter().eq(map.iter()));
                prop_assert!(table.from(17).eq(map.range(17..)));
                prop_assert_eq!(&map.clone().into_iter().collect::<Table<u8, 3>>(), &table);
                let text = serde_json::to_string(&table).unwrap();
                prop_assert_eq!(serde_json::from_str::<Table<u8, 3>>(&text).unwrap(), table);
            }
        }
    }
}
