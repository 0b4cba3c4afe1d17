//! The routing tree: which receivers an alert is for, with whom it shares a message, and when a branch
//! is silent. Data and pure questions about it; what is sent when is decided elsewhere.
//!
//! Invariants:
//! - no clock: whoever asks says what time it is, and time zones come from the database in the program,
//!   so that a replay answers as the day itself did;
//! - the root takes whatever no branch takes: an alert without a receiver does not exist.

use std::collections::BTreeMap;

use daruma_model::interval::{TimeInterval, next_change};
use daruma_model::{Labels, Matcher, Matchers, Span, Time};
use serde::{Deserialize, Serialize};

/// Nodes a tree may have.
pub const NODES_MAX: usize = 10_000;
/// Levels a tree may have.
pub const DEPTH_MAX: usize = 64;

/// The whole tree with what it refers to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Routing {
    /// The tree, each node before its children; 0 is the root.
    pub nodes: Vec<Node>,
    /// Which alerts keep which others quiet.
    #[serde(default)]
    pub inhibit: Vec<InhibitRule>,
    /// Intervals by name; one holds while any of its list holds.
    #[serde(default)]
    pub intervals: BTreeMap<String, Vec<TimeInterval>>,
    /// When an alert without an end counts as over.
    pub resolve_timeout: Span,
}

/// One node, with what it inherits filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Who is told.
    pub receiver: String,
    /// Which alerts; of the root: none, hence all.
    pub matchers: Matchers,
    /// Which alerts share a message.
    pub group_by: GroupBy,
    /// How long a new group waits for company.
    pub group_wait: Span,
    /// The time from one look at a group to the next; above zero.
    pub group_interval: Span,
    /// After how long an unchanged group is told again; above zero.
    pub repeat_interval: Span,
    /// Silent within these intervals; the node's own, not inherited.
    pub mute: Vec<String>,
    /// Silent outside all of these, if there are any; the node's own, not inherited.
    pub active: Vec<String>,
    /// Whether siblings are asked after this one took an alert.
    pub continues: bool,
    /// Labels of the route, as templates, for messages.
    #[serde(default)]
    pub labels: Labels,
    /// Its children in order, each after it in [`Routing::nodes`].
    pub children: Vec<usize>,
    /// The path of matchers from the root, such as `{}/{severity="page"}`.
    pub key: String,
}

/// Which alerts share a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupBy {
    /// Those whose labels are all equal: each is alone.
    All,
    /// Those with equal values of these labels.
    Labels(Vec<String>),
}

/// While an alert is active that is a source, alerts that are targets keep quiet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct InhibitRule {
    /// Its name, for people; may be empty.
    #[serde(default)]
    pub name: String,
    /// Which alerts keep others quiet.
    pub source: Matchers,
    /// Which are kept quiet.
    pub target: Matchers,
    /// Labels that must be the same on both sides; absent and empty are the same.
    #[serde(default)]
    pub equal: Vec<String>,
}

impl InhibitRule {
    /// Whether an active alert labelled `source` keeps one labelled `target` quiet. One that is on both
    /// sides is not kept quiet by another such, hence never by itself.
    #[must_use]
    pub fn applies(&self, source: &Labels, target: &Labels) -> bool {
        self.target.matches(target)
            && self.source.matches(source)
            && self.equal.iter().all(|name| source.get(name) == target.get(name))
            && !(self.source.matches(target) && self.target.matches(source))
    }
}

impl Node {
    /// Who is told, with everything else as where nothing is said: 30 s, 5 min, 4 h, one group for all.
    #[must_use]
    pub fn root(receiver: &str) -> Node {
        Node {
            receiver: receiver.to_owned(),
            matchers: Matchers::default(),
            group_by: GroupBy::Labels(Vec::new()),
            group_wait: Span::secs(30),
            group_interval: Span::minutes(5),
            repeat_interval: Span::hours(4),
            mute: Vec::new(),
            active: Vec::new(),
            continues: false,
            labels: Labels::default(),
            children: Vec::new(),
            key: "{}".to_owned(),
        }
    }
}

impl Default for Routing {
    fn default() -> Routing {
        Routing::to("")
    }
}

impl Routing {
    /// A tree of one node.
    #[must_use]
    pub fn to(receiver: &str) -> Routing {
        Routing {
            nodes: vec![Node::root(receiver)],
            inhibit: Vec::new(),
            intervals: BTreeMap::new(),
            resolve_timeout: Span::minutes(5),
        }
    }

    /// Hangs `node` under `parent` as its last child and gives it its key; the node's number.
    pub fn add(&mut self, parent: usize, mut node: Node) -> usize {
        let at = self.nodes.len();
        let mut matchers: Vec<&Matcher> = node.matchers.0.iter().collect();
        matchers.sort_by_key(|matcher| (&matcher.name, &matcher.value, matcher.op.as_str()));
        let matchers: Vec<String> = matchers.into_iter().map(Matcher::to_string).collect();
        if let Some(parent) = self.nodes.get_mut(parent) {
            node.key = format!("{}/{{{}}}", parent.key, matchers.join(","));
            parent.children.push(at);
        }
        self.nodes.push(node);
        at
    }

    /// The nodes that take an alert: the deepest that match, depth first. Of siblings the first that
    /// matches, and those after it as long as the last one says `continue`. Never empty, because a node
    /// none of whose children takes the alert takes it itself.
    #[must_use]
    pub fn matching(&self, labels: &Labels) -> Vec<usize> {
        let mut found = Vec::new();
        self.visit(0, labels, &mut found, DEPTH_MAX);
        found
    }

    fn visit(&self, at: usize, labels: &Labels, found: &mut Vec<usize>, depth: usize) {
        let before = found.len();
        let children = self.nodes.get(at).map_or(&[][..], |node| &node.children);
        for child in children.iter().copied().filter(|child| *child > at && depth > 0) {
            let Some(node) = self.nodes.get(child) else { continue };
            if node.matchers.matches(labels) {
                self.visit(child, labels, found, depth - 1);
                if !node.continues {
                    break;
                }
            }
        }
        if found.len() == before {
            found.push(at);
        }
    }

    /// The nodes from the root to `node`, both included.
    #[must_use]
    pub fn path(&self, node: usize) -> Vec<usize> {
        let mut path = vec![node];
        let mut at = node;
        // A parent stands before its children, so one look backwards finds them all.
        for parent in (0..node).rev() {
            if self.nodes.get(parent).is_some_and(|it| it.children.contains(&at)) {
                path.push(parent);
                at = parent;
            }
        }
        path.reverse();
        path
    }

    /// The labels by which an alert is grouped at `node`; those it has not are left out.
    #[must_use]
    pub fn group_labels(&self, node: usize, labels: &Labels) -> Labels {
        match self.nodes.get(node).map(|node| &node.group_by) {
            Some(GroupBy::All) => labels.clone(),
            Some(GroupBy::Labels(names)) => {
                labels.filtered(|name| names.iter().any(|other| other == name))
            }
            None => Labels::default(),
        }
    }

    /// The name of the group an alert belongs to at `node`, such as `{}/{severity="page"}:{a="b"}`.
    #[must_use]
    pub fn group_key(&self, node: usize, group_labels: &Labels) -> String {
        let pairs: Vec<String> =
            group_labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        let key = self.nodes.get(node).map_or("", |node| node.key.as_str());
        format!("{key}:{{{}}}", pairs.join(", "))
    }

    /// Why `node` is silent at `now`, by the interval's name; `None` if it is not. An interval that is
    /// not defined never holds.
    #[must_use]
    pub fn closed(&self, node: usize, now: Time) -> Option<String> {
        let node = self.nodes.get(node)?;
        if self.is_outside(node, now) {
            return Some(format!("outside {}", node.active.join(", ")));
        }
        let muted = node.mute.iter().find(|name| self.holds(name, now))?;
        Some(format!("within {muted}"))
    }

    /// Names of the intervals by which `node` is silent at `now`: those it is outside of, or within.
    #[must_use]
    pub fn muted_by(&self, node: usize, now: Time) -> Vec<String> {
        let Some(node) = self.nodes.get(node) else { return Vec::new() };
        if self.is_outside(node, now) {
            return node.active.clone();
        }
        node.mute.iter().filter(|name| self.holds(name, now)).cloned().collect()
    }

    /// Whether `node` speaks within some intervals only, and none of them holds.
    fn is_outside(&self, node: &Node, now: Time) -> bool {
        !node.active.is_empty() && !node.active.iter().any(|name| self.holds(name, now))
    }

    /// Whether the interval of this name holds.
    #[must_use]
    pub fn holds(&self, name: &str, now: Time) -> bool {
        self.intervals.get(name).is_some_and(|all| all.iter().any(|one| one.contains(now)))
    }

    /// When what [`Routing::closed`] says of `node` changes next, looking 400 days ahead.
    #[must_use]
    pub fn next_change(&self, node: usize, now: Time) -> Option<Time> {
        let node_ = self.nodes.get(node)?;
        let used: Vec<&TimeInterval> = node_
            .mute
            .iter()
            .chain(&node_.active)
            .filter_map(|name| self.intervals.get(name))
            .flatten()
            .collect();
        let before = self.closed(node, now).is_some();
        next_change(&used, now, before, |at| self.closed(node, at).is_some())
    }

    /// Everything in it that cannot work, in words for the person who wrote it.
    ///
    /// # Errors
    /// The first mistake.
    pub fn validate(&self) -> Result<(), String> {
        let root = self.nodes.first().ok_or("there is no route")?;
        if !root.matchers.0.is_empty() || root.continues {
            return Err("the root of the routes takes everything: it has no matchers and no \
                        `continue`"
                .into());
        }
        if !root.mute.is_empty() || !root.active.is_empty() {
            return Err("the root of the routes is never silent: it has no time intervals".into());
        }
        if self.nodes.len() > NODES_MAX {
            return Err(format!("there are more than {NODES_MAX} routes"));
        }
        let mut depth = vec![None; self.nodes.len()];
        depth[0] = Some(0_usize);
        for (at, node) in self.nodes.iter().enumerate() {
            let here = depth[at].ok_or_else(|| format!("route {} hangs nowhere", node.key))?;
            if here > DEPTH_MAX {
                return Err(format!("the routes are more than {DEPTH_MAX} levels deep"));
            }
            for child in &node.children {
                if *child <= at || depth.get(*child) != Some(&None) {
                    return Err(format!("the routes under {} are not a tree", node.key));
                }
                depth[*child] = Some(here + 1);
            }
            if node.receiver.is_empty() {
                return Err(format!("route {} has no receiver", node.key));
            }
            for (what, span) in
                [("group_interval", node.group_interval), ("repeat_interval", node.repeat_interval)]
            {
                if span <= Span::ZERO {
                    return Err(format!("`{what}` of route {} must be above zero", node.key));
                }
            }
            for name in node.mute.iter().chain(&node.active) {
                if !self.intervals.contains_key(name) {
                    return Err(format!(
                        "route {} names the time interval `{name}`, which is not defined",
                        node.key
                    ));
                }
            }
        }
        for interval in self.intervals.values().flatten() {
            interval.validate()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
