//! Fills the holes.

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_model::Labels;

use crate::Scene;
use crate::functions::{self, Patterns};
use crate::methods;
use crate::notice::Data;
use crate::parse::{Arg, Node, Pipe};
use crate::sink::{Escape, Sink};
use crate::value::Value;

/// Actions evaluated by one expansion.
const STEPS_MAX: usize = 100_000;
/// Bytes that functions read and write in one expansion.
const WORK_MAX: usize = 64 << 20;
/// Blocks within blocks and templates within templates: each needs its part of the stack.
const DEPTH_MAX: usize = 100;

/// What a template is expanded over.
#[derive(Clone, Copy)]
pub(crate) enum World<'a> {
    Rule(&'a Scene<'a>),
    Notice(&'a Data),
}

impl World<'_> {
    /// Whether label sets have methods.
    pub(crate) fn has_methods(self) -> bool {
        matches!(self, World::Notice(_))
    }

    fn variables(self, root: &Value) -> Vec<(String, Value)> {
        let mut all = vec![(String::new(), root.clone())];
        if let World::Rule(scene) = self {
            let labels = |labels: &Labels| Value::Labels(labels.clone());
            all.extend([
                ("labels".to_owned(), labels(scene.labels)),
                ("externalLabels".to_owned(), labels(scene.external_labels)),
                ("externalURL".to_owned(), Value::Text(scene.external_url.to_owned())),
                ("value".to_owned(), Value::Float(scene.value)),
            ]);
        }
        all
    }
}

/// Bodies by name.
pub(crate) type Defined = BTreeMap<String, Arc<Vec<Node>>>;

/// Expands `nodes`; what they ask for by name is looked up in `defined`, the later ones first.
pub(crate) fn run(
    nodes: &[Node],
    defined: &[&Defined],
    world: World<'_>,
    root: &Value,
    escape: Escape,
    bytes_max: usize,
) -> Result<String, String> {
    let mut run = Run {
        world,
        defined,
        variables: world.variables(root),
        sink: Sink::new(escape, bytes_max),
        patterns: Patterns::default(),
        steps: 0,
        work: 0,
        depth: 0,
    };
    run.nodes(nodes, root)?;
    run.sink.end()
}

struct Run<'a> {
    world: World<'a>,
    defined: &'a [&'a Defined],
    variables: Vec<(String, Value)>,
    sink: Sink,
    patterns: Patterns,
    steps: usize,
    work: usize,
    depth: usize,
}

/// Whether a loop goes on.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

impl Run<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, String> {
        if self.depth >= DEPTH_MAX {
            return Err(format!("nested deeper than {DEPTH_MAX}"));
        }
        self.depth += 1;
        let flow = self.nodes_in(nodes, dot);
        self.depth -= 1;
        flow
    }

    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(format!("more than {STEPS_MAX} steps"));
        }
        Ok(())
    }

    fn nodes_in(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, String> {
        for node in nodes {
            self.step()?;
            let flow = match node {
                Node::Text(text) => {
                    self.sink.literal(text)?;
                    Flow::On
                }
                Node::Print(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    if pipe.sets.is_empty() {
                        let text = match &value {
                            Value::Nil => "<no value>".to_owned(),
                            value => value.print(self.world.has_methods()),
                        };
                        self.charge(text.len())?;
                        self.sink.hole(&value, &text)?;
                    }
                    Flow::On
                }
                Node::If(pipe, body, otherwise) => self.scoped(|run| {
                    let chosen = if run.pipe(pipe, dot)?.truth() { body } else { otherwise };
                    run.nodes(chosen, dot)
                })?,
                Node::With(pipe, body, otherwise) => self.scoped(|run| {
                    let value = run.pipe(pipe, dot)?;
                    if value.truth() { run.nodes(body, &value) } else { run.nodes(otherwise, dot) }
                })?,
                Node::Range(pipe, body, otherwise) => {
                    self.scoped(|run| run.range(pipe, body, otherwise, dot))?
                }
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
                Node::Template(name, pipe, _) => {
                    let value = match pipe {
                        Some(pipe) => self.scoped(|run| run.pipe(pipe, dot))?,
                        None => Value::Nil,
                    };
                    self.template(name, value)?;
                    Flow::On
                }
            };
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn template(&mut self, name: &str, value: Value) -> Result<(), String> {
        let found = self.defined.iter().find_map(|defined| defined.get(name));
        let body = Arc::clone(found.ok_or(format!("template {name:?} not defined"))?);
        let around = std::mem::replace(&mut self.variables, vec![(String::new(), value.clone())]);
        let result = self.nodes(&body, &value);
        self.variables = around;
        result.map(|_| ())
    }

    fn scoped<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        let scope = self.variables.len();
        let result = inner(self);
        self.variables.truncate(scope);
        result
    }

    fn charge(&mut self, bytes: usize) -> Result<(), String> {
        self.work = self.work.saturating_add(bytes);
        if self.work > WORK_MAX {
            return Err("too much work".to_owned());
        }
        Ok(())
    }

    fn range(
        &mut self,
        pipe: &Pipe,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Flow, String> {
        let scope = self.variables.len();
        // The variables of `range` are set per element, not to the whole.
        let whole = self.commands(pipe, dot)?;
        self.charge(whole.weight())?;
        let elements: Vec<(Value, Value)> = match &whole {
            Value::List(list) => (0_i64..)
                .zip(&list.items)
                .map(|(i, value)| (Value::Int(i), value.clone()))
                .collect(),
            Value::Labels(labels) => labels
                .iter()
                .map(|(name, value)| (Value::Text(name.to_owned()), Value::Text(value.to_owned())))
                .collect(),
            Value::Map(map) => {
                map.items.iter().map(|(n, value)| (Value::Text(n.clone()), value.clone())).collect()
            }
            Value::Nil => Vec::new(),
            other => return Err(format!("range can't iterate over {}", other.print(false))),
        };
        if elements.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, value) in elements {
            self.step()?;
            self.variables.truncate(scope);
            match pipe.sets.as_slice() {
                [] => {}
                [only] => self.set(only, pipe.declares, value.clone()),
                [first, second, ..] => {
                    self.set(first, pipe.declares, key);
                    self.set(second, pipe.declares, value.clone());
                }
            }
            if self.nodes(body, &value)? == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn set(&mut self, name: &str, declares: bool, value: Value) {
        if !declares
            && let Some(known) = self.variables.iter_mut().rev().find(|(known, _)| known == name)
        {
            known.1 = value;
            return;
        }
        self.variables.push((name.to_owned(), value));
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, String> {
        let value = self.commands(pipe, dot)?;
        for name in &pipe.sets {
            self.set(name, pipe.declares, value.clone());
        }
        Ok(value)
    }

    fn commands(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, String> {
        let mut last: Option<Value> = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Nil))
    }

    fn command(
        &mut self,
        command: &[Arg],
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, String> {
        self.step()?;
        let Some(first) = command.first() else { return Err("empty command".to_owned()) };
        let Arg::Function(name) = first else {
            if matches!(first, Arg::Nil) {
                return Err("nil is not a command".to_owned());
            }
            if command.len() == 1 && last.is_none() {
                return self.arg(first, dot);
            }
            return self.method(first, &command[1..], dot, last);
        };
        // `and` and `or` stop at the deciding value, so what follows is not evaluated.
        if matches!(name.as_str(), "and" | "or") {
            let mut value = None;
            for arg in &command[1..] {
                let next = self.arg(arg, dot)?;
                let decided = next.truth() == (name == "or");
                value = Some(next);
                if decided {
                    return Ok(value.unwrap_or(Value::Nil));
                }
            }
            return last.or(value).ok_or(format!("wrong number of args for {name}"));
        }
        let mut args = Vec::with_capacity(command.len());
        for arg in &command[1..] {
            args.push(self.arg(arg, dot)?);
        }
        args.extend(last);
        self.call(name, args)
    }

    /// A field with arguments: the last of its names is a method.
    fn method(
        &mut self,
        first: &Arg,
        rest: &[Arg],
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, String> {
        let not_one = || format!("can't give argument to non-function {first:?}");
        let (on, path) = match first {
            Arg::Field(path) => (dot.clone(), path),
            Arg::Variable(name, path) => (self.variable(name)?, path),
            Arg::Group(pipe, path) => (self.pipe(pipe, dot)?, path),
            _ => return Err(not_one()),
        };
        let Some((name, before)) = path.split_last() else { return Err(not_one()) };
        let on = self.fields(on, before)?;
        let mut args = Vec::with_capacity(rest.len() + 1);
        for arg in rest {
            args.push(self.arg(arg, dot)?);
        }
        args.extend(last);
        if !self.world.has_methods() {
            return Err(not_one());
        }
        let weights = args.iter().fold(on.weight(), |sum, arg| sum.saturating_add(arg.weight()));
        self.charge(weights)?;
        methods::call(&on, name, &args).unwrap_or_else(|| {
            Err(format!("{name} has arguments but cannot be invoked as function"))
        })
    }

    fn call(&mut self, name: &str, args: Vec<Value>) -> Result<Value, String> {
        let weights = args.iter().fold(16_usize, |sum, arg| sum.saturating_add(arg.weight()));
        self.charge(weights)?;
        let value = functions::call(name, args, self.world, &mut self.patterns)?;
        let weight = value.weight();
        let weight_max = value.weight_max();
        if weight > weight_max {
            return Err(format!("{name} makes more than {weight_max} bytes"));
        }
        self.charge(weight)?;
        Ok(value)
    }

    fn variable(&self, name: &str) -> Result<Value, String> {
        let value = self.variables.iter().rev().find(|(known, _)| known == name);
        Ok(value.ok_or(format!("undefined variable: ${name}"))?.1.clone())
    }

    fn arg(&mut self, arg: &Arg, dot: &Value) -> Result<Value, String> {
        Ok(match arg {
            Arg::Dot => dot.clone(),
            Arg::Nil => Value::Nil,
            Arg::Bool(truth) => Value::Bool(*truth),
            Arg::Int(number) => Value::Int(*number),
            Arg::Float(number) => Value::Float(*number),
            Arg::Text(text) => Value::Text(text.clone()),
            Arg::Function(name) => return self.call(name, Vec::new()),
            Arg::Field(path) => self.fields(dot.clone(), path)?,
            Arg::Variable(name, path) => {
                let value = self.variable(name)?;
                self.fields(value, path)?
            }
            Arg::Group(pipe, path) => {
                let value = self.pipe(pipe, dot)?;
                self.fields(value, path)?
            }
        })
    }

    fn fields(&mut self, mut value: Value, path: &[String]) -> Result<Value, String> {
        for name in path {
            if self.world.has_methods()
                && let Some(found) = methods::call(&value, name, &[])
            {
                self.charge(value.weight())?;
                value = found?;
                continue;
            }
            value = match (&value, self.world, name.as_str()) {
                (Value::Root, World::Rule(scene), "Labels") => Value::Labels(scene.labels.clone()),
                (Value::Root, World::Rule(scene), "ExternalLabels") => {
                    Value::Labels(scene.external_labels.clone())
                }
                (Value::Root, World::Rule(scene), "ExternalURL") => {
                    Value::Text(scene.external_url.to_owned())
                }
                (Value::Root, World::Rule(scene), "Value") => Value::Float(scene.value),
                (Value::Sample(labels, _), _, "Labels") => Value::Labels(labels.clone()),
                (Value::Sample(_, value), _, "Value") => Value::Float(*value),
                (Value::Pair(pair), _, "Name") => Value::Text(pair.0.clone()),
                (Value::Pair(pair), _, "Value") => Value::Text(pair.1.clone()),
                // A missing key of a map is its zero value.
                (Value::Labels(labels), _, name) => Value::Text(labels.get(name).to_owned()),
                (Value::Map(map), _, name) => map.items.get(name).cloned().unwrap_or(Value::Nil),
                (Value::Struct(object), _, name) => {
                    let field = object.fields.iter().find(|(known, _)| *known == name);
                    let missing = || format!("can't evaluate field {name} in type {}", object.kind);
                    field.ok_or_else(missing)?.1.clone()
                }
                (Value::Nil, _, name) => {
                    return Err(format!("nil data; no entry for key {name:?}"));
                }
                (other, _, name) => {
                    let kind = other.type_name();
                    return Err(format!("can't evaluate field {name} in type {kind}"));
                }
            };
        }
        Ok(value)
    }
}
