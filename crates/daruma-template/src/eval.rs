//! Fills the holes.

use std::collections::BTreeMap;

use daruma_model::Labels;

use crate::format::float;
use crate::parse::{Arg, Node, Parsed, Pipe};
use crate::{Scene, functions};

/// Actions evaluated and bytes written by one expansion.
const STEPS_MAX: usize = 100_000;
const OUTPUT_MAX: usize = 64 << 10;
/// Blocks within blocks and templates within templates: each needs its part of the stack.
const DEPTH_MAX: usize = 100;

/// A value of the template language.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// `map[string]string`
    Labels(Labels),
    List(Vec<Value>),
    /// A result of `query`.
    Sample(Labels, f64),
    /// The result of `args`.
    Map(BTreeMap<String, Value>),
    /// `.` at the top.
    Root,
}

impl Value {
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Nil => "<nil>",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float64",
            Value::Text(_) => "string",
            Value::Labels(_) => "map[string]string",
            Value::List(_) => "template.queryResult",
            Value::Sample(..) => "*template.sample",
            Value::Map(_) => "map[string]interface {}",
            Value::Root => "struct",
        }
    }

    pub(super) fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn truth(&self) -> bool {
        match self {
            Value::Nil => false,
            Value::Bool(truth) => *truth,
            Value::Int(number) => *number != 0,
            Value::Float(number) => *number != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::Labels(labels) => !labels.is_empty(),
            Value::List(list) => !list.is_empty(),
            Value::Map(map) => !map.is_empty(),
            Value::Sample(..) | Value::Root => true,
        }
    }

    /// As `%v` prints it.
    pub(super) fn print(&self) -> String {
        let map = |pairs: Vec<String>| format!("map[{}]", pairs.join(" "));
        match self {
            Value::Nil => "<nil>".to_owned(),
            Value::Bool(truth) => truth.to_string(),
            Value::Int(number) => number.to_string(),
            Value::Float(number) => float(*number),
            Value::Text(text) => text.clone(),
            Value::Labels(labels) => {
                map(labels.iter().map(|(name, value)| format!("{name}:{value}")).collect())
            }
            Value::List(list) => {
                let items: Vec<String> = list.iter().map(Value::print).collect();
                format!("[{}]", items.join(" "))
            }
            Value::Sample(labels, value) => {
                format!("&{{{} {}}}", Value::Labels(labels.clone()).print(), float(*value))
            }
            Value::Map(values) => map(values
                .iter()
                .map(|(name, value)| format!("{name}:{}", value.print()))
                .collect()),
            Value::Root => "{}".to_owned(),
        }
    }
}

pub(super) fn run(parsed: &Parsed, scene: &Scene<'_>) -> Result<String, String> {
    let variables = vec![
        (String::new(), Value::Root),
        ("labels".to_owned(), Value::Labels(scene.labels.clone())),
        ("externalLabels".to_owned(), Value::Labels(scene.external_labels.clone())),
        ("externalURL".to_owned(), Value::Text(scene.external_url.to_owned())),
        ("value".to_owned(), Value::Float(scene.value)),
    ];
    let mut run = Run { scene, parsed, variables, out: String::new(), steps: 0, depth: 0 };
    run.nodes(&parsed.nodes, &Value::Root)?;
    Ok(run.out)
}

struct Run<'a> {
    scene: &'a Scene<'a>,
    parsed: &'a Parsed,
    variables: Vec<(String, Value)>,
    out: String,
    steps: usize,
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

    fn nodes_in(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, String> {
        for node in nodes {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return Err(format!("more than {STEPS_MAX} steps"));
            }
            let flow = match node {
                Node::Text(text) => {
                    self.write(text)?;
                    Flow::On
                }
                Node::Print(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    if pipe.sets.is_empty() {
                        let text = match value {
                            Value::Nil => "<no value>".to_owned(),
                            value => value.print(),
                        };
                        self.write(&text)?;
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
                Node::Template(name, pipe) => {
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
        let parsed = self.parsed;
        let body = parsed.defined.get(name).ok_or(format!("template {name:?} not defined"))?;
        let around = std::mem::replace(&mut self.variables, vec![(String::new(), value.clone())]);
        let result = self.nodes(body, &value);
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

    fn write(&mut self, text: &str) -> Result<(), String> {
        if self.out.len() + text.len() > OUTPUT_MAX {
            return Err(format!("more than {OUTPUT_MAX} bytes"));
        }
        self.out.push_str(text);
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
        let elements: Vec<(Value, Value)> = match whole {
            Value::List(list) => {
                (0_i64..).zip(list).map(|(i, value)| (Value::Int(i), value)).collect()
            }
            Value::Labels(labels) => labels
                .iter()
                .map(|(name, value)| (Value::Text(name.to_owned()), Value::Text(value.to_owned())))
                .collect(),
            Value::Map(map) => {
                map.into_iter().map(|(name, value)| (Value::Text(name), value)).collect()
            }
            Value::Nil => Vec::new(),
            other => return Err(format!("range can't iterate over {}", other.print())),
        };
        if elements.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, value) in elements {
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
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(format!("more than {STEPS_MAX} steps"));
        }
        let Some(first) = command.first() else { return Err("empty command".to_owned()) };
        let Arg::Function(name) = first else {
            if command.len() > 1 || last.is_some() {
                return Err(format!("can't give argument to non-function {first:?}"));
            }
            if matches!(first, Arg::Nil) {
                return Err("nil is not a command".to_owned());
            }
            return self.arg(first, dot);
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
        functions::call(name, args, self.scene)
    }

    fn arg(&mut self, arg: &Arg, dot: &Value) -> Result<Value, String> {
        Ok(match arg {
            Arg::Dot => dot.clone(),
            Arg::Nil => Value::Nil,
            Arg::Bool(truth) => Value::Bool(*truth),
            Arg::Int(number) => Value::Int(*number),
            Arg::Float(number) => Value::Float(*number),
            Arg::Text(text) => Value::Text(text.clone()),
            Arg::Function(name) => return functions::call(name, Vec::new(), self.scene),
            Arg::Field(path) => self.fields(dot.clone(), path)?,
            Arg::Variable(name, path) => {
                let value = self.variables.iter().rev().find(|(known, _)| known == name);
                let value = value.ok_or(format!("undefined variable: ${name}"))?.1.clone();
                self.fields(value, path)?
            }
            Arg::Group(pipe, path) => {
                let value = self.pipe(pipe, dot)?;
                self.fields(value, path)?
            }
        })
    }

    fn fields(&self, mut value: Value, path: &[String]) -> Result<Value, String> {
        for name in path {
            value = match (&value, name.as_str()) {
                (Value::Root, "Labels") => Value::Labels(self.scene.labels.clone()),
                (Value::Root, "ExternalLabels") => {
                    Value::Labels(self.scene.external_labels.clone())
                }
                (Value::Root, "ExternalURL") => Value::Text(self.scene.external_url.to_owned()),
                (Value::Root, "Value") => Value::Float(self.scene.value),
                (Value::Sample(labels, _), "Labels") => Value::Labels(labels.clone()),
                (Value::Sample(_, value), "Value") => Value::Float(*value),
                // A missing key of a map is its zero value.
                (Value::Labels(labels), name) => Value::Text(labels.get(name).to_owned()),
                (Value::Map(map), name) => map.get(name).cloned().unwrap_or(Value::Nil),
                (Value::Nil, name) => {
                    return Err(format!("nil data; no entry for key {name:?}"));
                }
                (other, name) => {
                    let kind = other.type_name();
                    return Err(format!("can't evaluate field {name} in type {kind}"));
                }
            };
        }
        Ok(value)
    }
}
