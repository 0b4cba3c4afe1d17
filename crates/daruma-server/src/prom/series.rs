//! `series`, `labels`, `label/…/values`, `metadata`: what there is, without its values.

use std::collections::{BTreeMap, BTreeSet};

use daruma_model::{Labels, Matcher, Time};

use super::json::Json;
use super::params::Params;
use super::query::TRUNCATED;
use super::turns::Reader;
use super::{Failure, Found};
use crate::accept::Site;

/// What the three have in common.
struct Asked {
    sets: Vec<Vec<Matcher>>,
    after: Time,
    until: Time,
    limit: usize,
}

impl Asked {
    fn read(params: &Params) -> Result<Asked, Failure> {
        let limit = params.limit()?;
        let (start, end) = params.bounds()?;
        let sets = params.selectors()?;
        // Both bounds belong to it; the store's windows are open on the left.
        Ok(Asked { sets, after: Time(start.0.saturating_sub(1)), until: end, limit })
    }

    /// Every label set that one of the selectors selects, sorted, once.
    fn found(&self, reader: &Reader) -> Vec<Labels> {
        let select = |set: &Vec<Matcher>| reader.store.series(set, self.after, self.until);
        match self.sets.as_slice() {
            [one] => select(one),
            all => all.iter().flat_map(select).collect::<BTreeSet<_>>().into_iter().collect(),
        }
    }
}

/// `series`: label sets.
pub(super) async fn series(site: &Site, params: &Params) -> Result<Found, Failure> {
    if params.all("match[]").next().is_none() {
        return Err(Failure::bad("no match[] parameter provided"));
    }
    let asked = Asked::read(params)?;
    let work = move |reader: &Reader| {
        let found = asked.found(reader);
        let shown = found.len().min(asked.limit);
        let mut data = Json::answer();
        data.list(&found[..shown], |out, labels| out.labels(labels))?;
        Ok(limited(data, shown < found.len()))
    };
    Ok(site.turns.take(None, work).await?.0)
}

/// `labels`: label names.
pub(super) async fn labels(site: &Site, params: &Params) -> Result<Found, Failure> {
    let asked = Asked::read(params)?;
    let work = move |reader: &Reader| {
        let names: Vec<String> = if asked.sets.is_empty() {
            reader.store.label_names()
        } else {
            let found = asked.found(reader);
            let names: BTreeSet<&str> =
                found.iter().flat_map(|labels| labels.iter().map(|(name, _)| name)).collect();
            names.into_iter().map(str::to_owned).collect()
        };
        texts(&names, asked.limit)
    };
    Ok(site.turns.take(None, work).await?.0)
}

/// `label/<name>/values`.
pub(super) async fn values(site: &Site, name: &str, params: &Params) -> Result<Found, Failure> {
    let name = unescaped(name);
    if name.is_empty() {
        return Err(Failure::bad("invalid label name: \"\""));
    }
    let asked = Asked::read(params)?;
    let work = move |reader: &Reader| {
        let values: Vec<String> = if asked.sets.is_empty() {
            reader.store.label_values(&name)
        } else {
            let found = asked.found(reader);
            let values: BTreeSet<&str> = found.iter().map(|labels| labels.get(&name)).collect();
            values.into_iter().filter(|value| !value.is_empty()).map(str::to_owned).collect()
        };
        texts(&values, asked.limit)
    };
    Ok(site.turns.take(None, work).await?.0)
}

fn texts(all: &[String], limit: usize) -> Result<Found, Failure> {
    let shown = all.len().min(limit);
    let mut data = Json::answer();
    data.value(&&all[..shown])?;
    Ok(limited(data, shown < all.len()))
}

fn limited(data: Json, cut: bool) -> Found {
    let warnings = if cut { vec![TRUNCATED.to_owned()] } else { Vec::new() };
    Found { data, warnings, infos: Vec::new() }
}

/// A name written for those that cannot write all of UTF-8: `U__a_2e_b` is `a.b`, `__` is `_`. Anything
/// that is not written like that stands for itself.
fn unescaped(name: &str) -> String {
    let Some(rest) = name.strip_prefix("U__") else { return name.to_owned() };
    plain(rest).unwrap_or_else(|| name.to_owned())
}

fn plain(escaped: &str) -> Option<String> {
    let mut out = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let (hex, after) = rest.split_once('_')?;
        // Six digits hold every character.
        let digits = (1..=6).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit());
        let code = if digits { u32::from_str_radix(hex, 16).ok()? } else { return None };
        out.push(char::from_u32(code)?);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

/// `metadata`: what is known of metrics by their name.
pub(super) fn metadata(site: &Site, params: &Params) -> Result<Found, Failure> {
    let limit = params.limit()?;
    let only = params.get("metric");
    let known = (site.shared.describe)();
    let chosen: BTreeMap<&str, [&crate::Described; 1]> = known
        .iter()
        .filter(|(name, _)| only.is_empty() || name.as_str() == only)
        .take(limit)
        .map(|(name, described)| (name.as_str(), [described]))
        .collect();
    Found::of(&chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_escaped_name_is_read_and_anything_else_stands_for_itself() {
        for (name, want) in [
            ("job", "job"),
            ("U__a_2e_b", "a.b"),
            ("U__a__b", "a_b"),
            ("U___1f600_", "😀"),
            ("U__a_2e", "U__a_2e"),
            ("U__a_zz_", "U__a_zz_"),
            ("U__a_d800_", "U__a_d800_"),
            ("U__a_12345678_", "U__a_12345678_"),
            ("U__", ""),
        ] {
            assert_eq!(unescaped(name), want, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_name_makes_the_reader_panic(name in "(U__)?\\PC{0,20}") {
            let _ = unescaped(&name);
        }
    }
}
