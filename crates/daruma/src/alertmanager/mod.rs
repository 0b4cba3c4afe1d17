//! An `alertmanager.yml` as it is: read whole or not at all. What upstream refuses is refused, with file,
//! line, column, what was found and what to do; what upstream takes and we cannot follow is said.
//!
//! The schema is data ([`schema`]), so that every key of every receiver is known and checked, whether or
//! not there is a channel for it. Nothing here reaches anybody, and no secret comes into an error.

mod check;
mod http;
mod mask;
mod receivers;
mod routes;
mod schema;
mod tree;

use std::collections::BTreeSet;
use std::path::Path;

use daruma_alert::routing::Routing;
use daruma_notify::ReceiverConfig;
use daruma_template::Templates;

use crate::config::ConfigError;
pub use tree::Node;

use routes::Said;
use tree::{Item, Key, Mistake, Place};

/// Template files at most.
const TEMPLATE_FILES_MAX: usize = 1_000;

/// A configuration that was found good as a whole.
#[derive(Debug)]
pub struct Loaded {
    /// Who is told what, and when.
    pub routing: Routing,
    /// Who can be told.
    pub receivers: Vec<ReceiverConfig>,
    /// The built-in templates, and over them those of the files under `templates`.
    pub templates: Templates,
    /// What will work but is probably not meant, with its place.
    pub warnings: Vec<String>,
    /// The file as it may be shown: without secrets.
    pub original: String,
}

/// Reads a file.
///
/// # Errors
/// Every mistake that was found.
pub fn load(file: &Path) -> Result<Loaded, Vec<ConfigError>> {
    let text = crate::config::read(file).map_err(|error| vec![error])?;
    parse(file, &text, &local_zone())
}

/// The name of the place this program runs at; UTC where it has none.
pub fn local_zone() -> String {
    jiff::tz::TimeZone::system().iana_name().unwrap_or("UTC").to_owned()
}

/// Reads the text of `file`; `zone` is what the location `Local` means.
///
/// # Errors
/// Every mistake that was found, in the order of the file.
pub fn parse(file: &Path, text: &str, zone: &str) -> Result<Loaded, Vec<ConfigError>> {
    let mut node: Node = crate::config::parse(file, text).map_err(|error| vec![error])?;
    node.as_written(text);
    if !matches!(node.item, Item::Map(_)) {
        let said =
            "this is no configuration of Alertmanager: it is a map with `route` and `receivers`";
        return Err(refused(file, vec![Mistake::new(node.at, said)]));
    }
    let (mut mistakes, mut warnings) = (Vec::new(), Vec::new());
    check::object(&node, &[schema::FILE], &mut mistakes);
    let base = file.parent().unwrap_or(Path::new(""));
    let mut said = Said { mistakes: &mut mistakes, warnings: &mut warnings };
    let receivers = receivers::read(&node, base, &mut said);
    let names = receivers.iter().map(|receiver| receiver.name.clone()).collect();
    let routing = routes::read(&node, &names, zone, &mut said);
    if !mistakes.is_empty() {
        return Err(refused(file, mistakes));
    }
    if node.get("tracing").is_some() {
        warnings.push((node.place_of("tracing"), "`tracing` is not followed".to_owned()));
    }
    let mut templates = Templates::built_in();
    for glob in node.list("templates") {
        for file in crate::glob::expand(base, glob.text(), TEMPLATE_FILES_MAX) {
            let text = crate::config::read(&file).map_err(|error| vec![error])?;
            templates.add(&file.display().to_string(), &text).map_err(|why| {
                let place = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
                let place = Some((place(why.error.line), place(why.error.column)));
                vec![ConfigError { file, place, said: why.error.message }]
            })?;
        }
    }
    for end in templates.loose_ends() {
        warnings.push((node.place_of("templates"), end.to_string()));
    }
    Ok(Loaded {
        routing,
        templates,
        warnings: placed(file, warnings),
        original: mask::shown(&node),
        receivers,
    })
}

/// The tree of routes of another file, `sections` of which have the same form as here.
///
/// # Errors
/// As [`parse`].
pub fn own_routing(
    file: &Path,
    text: &str,
    sections: [(&str, Option<Node>); 3],
    receivers: &BTreeSet<String>,
) -> Result<(Routing, Vec<String>), Vec<ConfigError>> {
    let present = sections.into_iter().filter_map(|(name, node)| {
        let mut node = node?;
        node.as_written(text);
        Some((Key { at: node.at, name: name.to_owned() }, node))
    });
    let node = Node::of(present.collect());
    let (mut mistakes, mut warnings) = (Vec::new(), Vec::new());
    check::object(&node, &[schema::FILE], &mut mistakes);
    let mut said = Said { mistakes: &mut mistakes, warnings: &mut warnings };
    let routing = routes::read(&node, receivers, &local_zone(), &mut said);
    if mistakes.is_empty() {
        return Ok((routing, placed(file, warnings)));
    }
    Err(refused(file, mistakes))
}

fn refused(file: &Path, mut mistakes: Vec<Mistake>) -> Vec<ConfigError> {
    mistakes.sort_by_key(|mistake| mistake.at);
    // One place is judged by its form and by its meaning; saying it once is enough.
    mistakes.dedup();
    let error = |mistake: Mistake| ConfigError {
        file: file.to_owned(),
        place: (mistake.at.0 > 0).then_some(mistake.at),
        said: mistake.said,
    };
    mistakes.into_iter().map(error).collect()
}

fn placed(file: &Path, mut warnings: Vec<(Place, String)>) -> Vec<String> {
    warnings.sort();
    warnings
        .into_iter()
        .map(|((line, column), said)| format!("{}:{line}:{column}: {said}", file.display()))
        .collect()
}

#[cfg(test)]
mod tests;
