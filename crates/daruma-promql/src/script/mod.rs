//! Prometheus' `.test` scripts: load series, evaluate queries, compare with what is expected.
//!
//! They are the query language's own acceptance test, and a good way to write down what a rule should
//! do. It stands apart from the evaluator because it judges it. The store it fills is in memory;
//! reading the files is the caller's.
//!
//! ```
//! use daruma_promql::{Limits, script::Script};
//!
//! let script = Script::parse("load 5m\n  up 1 1 0\n\neval instant at 10m up == 0\n  up 0\n").unwrap();
//! let outcomes = script.run(&Limits::default());
//! assert_eq!(outcomes[0].failure, None);
//! ```

mod judge;
mod load;
mod memory;
mod notation;

use daruma_model::Span;

use crate::Limits;
use judge::{Eval, eval_line, expectation};
use load::{Block, Loaded};
pub use memory::Memory;
use notation::time_of;
pub use notation::{Item, items, labels_of};

/// Why a text is not a script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ScriptError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

/// A parsed script.
#[derive(Debug, Clone)]
pub struct Script {
    commands: Vec<Command>,
}

/// How one evaluation went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The line of the `eval`, from 1.
    pub line: usize,
    /// The query.
    pub query: String,
    /// What was other than expected; `None` if nothing was.
    pub failure: Option<String>,
}

#[derive(Debug, Clone)]
enum Command {
    Clear,
    Load(Vec<Loaded>),
    Eval(Box<Eval>),
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// [`ScriptError`] with the line that cannot be read. A query that does not parse is no error of
    /// the script: an evaluation may expect it to fail.
    pub fn parse(text: &str) -> Result<Script, ScriptError> {
        let mut commands = Vec::new();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let mut at = 0;
        while at < lines.len() {
            let line = at + 1;
            let head = lines[at];
            at += 1;
            if is_blank(head) {
                continue;
            }
            let body_start = at;
            while at < lines.len() && !is_blank(lines[at]) && !begins_command(lines[at]) {
                at += 1;
            }
            // A comment within a block reads as a blank line, and so ends it.
            let body: Vec<(usize, &str)> = (body_start..at).map(|i| (i + 1, lines[i])).collect();
            let failed = |line: usize, message: String| ScriptError { line, message };
            let word = head.split_whitespace().next().unwrap_or("");
            let command = match word {
                "clear" => Command::Clear,
                "load" | "load_with_nhcb" => {
                    let step = time_of(head[word.len()..].trim())
                        .map_err(|message| failed(line, message))?;
                    let mut block = Block::default();
                    for (line, text) in body {
                        let read = block.line(text, Span(step.0));
                        read.map_err(|message| failed(line, message))?;
                    }
                    let series = block.finish(word == "load_with_nhcb");
                    Command::Load(series.map_err(|message| failed(line, message))?)
                }
                _ if word.starts_with("eval") => {
                    let mut eval = eval_line(line, head).map_err(|m| failed(line, m))?;
                    for (line, text) in body {
                        expectation(&mut eval, text).map_err(|m| failed(line, m))?;
                    }
                    Command::Eval(Box::new(eval))
                }
                _ => {
                    let message = format!("`{word}` is no command; expected load, clear or eval");
                    return Err(failed(line, message));
                }
            };
            commands.push(command);
        }
        Ok(Script { commands })
    }

    /// Runs all commands in order on an empty store, and judges every evaluation.
    #[must_use]
    pub fn run(&self, limits: &Limits) -> Vec<Outcome> {
        let (mut memory, mut outcomes) = (Memory::default(), Vec::new());
        for command in &self.commands {
            match command {
                Command::Clear => memory = Memory::default(),
                Command::Load(series) => {
                    for one in series {
                        one.push_to(&mut memory);
                    }
                }
                Command::Eval(eval) => outcomes.push(Outcome {
                    line: eval.line,
                    query: eval.query.clone(),
                    failure: eval.judge(&memory, limits).err(),
                }),
            }
        }
        outcomes
    }
}

fn is_blank(line: &str) -> bool {
    line.is_empty() || line.starts_with('#')
}

fn begins_command(line: &str) -> bool {
    let word = line.split_whitespace().next().unwrap_or("");
    let eval = ["eval", "eval_fail", "eval_warn", "eval_info", "eval_ordered"].contains(&word)
        && matches!(line.split_whitespace().nth(1), Some("instant" | "range"));
    eval || line == "clear" || (word.starts_with("load") && !line.contains('{'))
}
