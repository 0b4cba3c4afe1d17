//! Lengths of time and what moves a selector in time: `[5m:1m]`, `offset 1h`, `@ end()`, and the arithmetic
//! that may stand there.

use daruma_model::{Span, Time};

use super::{HEIGHT_MAX, Parsed, Parser};
use crate::ast::{
    At, BinaryOp, Duration, DurationExpr, Edges, Kind, Node, Shift, Subquery, ValueType,
};
use crate::lex::Token;
use crate::print::is_duration;

impl Parser<'_> {
    /// `[window]` or `[window:step]`.
    pub(super) fn window(&mut self, mut node: Node) -> Parsed<Node> {
        let start = node.span.start;
        let open = self.span().start;
        self.expect("[", "`[`")?;
        let window = self.duration()?;
        self.positive(&window)?;
        if self.take_sign(":") {
            let step = if self.is_sign("]") { None } else { Some(self.duration()?) };
            if let Some(step) = &step {
                self.positive(step)?;
            }
            self.expect("]", "`]`")?;
            if node.returns() != ValueType::Vector && node.returns() != ValueType::Scalar {
                let message = format!(
                    "a subquery takes an instant vector, not a {}",
                    node.returns().as_str()
                );
                return Err(self.error(node.span, message));
            }
            if node.returns() == ValueType::Scalar {
                let message = "a subquery takes an instant vector, not a scalar; write vector(…)";
                return Err(self.error(node.span, message));
            }
            let subquery = Subquery { inner: node, window, step, shift: Shift::default() };
            return self.node(Kind::Subquery(Box::new(subquery)), start);
        }
        self.expect("]", "`:` or `]`")?;
        let brackets = open..self.end();
        let Kind::Selector(selector) = &mut node.kind else {
            let message = "only a selector can have a window; for any other expression give a step too, as in [5m:1m]";
            return Err(self.error(brackets, message));
        };
        let misplaced = if selector.window.is_some() {
            Some("the selector has a window already")
        } else if selector.shift.offset.is_some() {
            Some("`offset` must stand behind the window")
        } else if selector.shift.at.is_some() {
            Some("`@` must stand behind the window")
        } else if selector.edges != Edges::Plain {
            Some("`anchored` and `smoothed` must stand behind the window")
        } else {
            None
        };
        if let Some(message) = misplaced {
            return Err(self.error(brackets, message));
        }
        selector.window = Some(window);
        node.span = start..self.end();
        Ok(node)
    }

    /// Refuses a constant length that is not above zero.
    pub(super) fn positive(&self, duration: &Duration) -> Parsed<()> {
        if !duration.expr.is_constant() {
            return Ok(());
        }
        match duration.fixed() {
            Some(span) if span.0 > 0 => Ok(()),
            Some(_) => Err(self.error(duration.span.clone(), "duration must be greater than 0")),
            None => Err(self.error(duration.span.clone(), "duration is out of range")),
        }
    }

    pub(super) fn at_time(&mut self) -> Parsed<At> {
        for (word, at) in [("start", At::Start), ("end", At::End)] {
            if self.take_word(word) {
                self.expect("(", "`(`")?;
                self.expect(")", "`)`")?;
                return Ok(at);
            }
        }
        let start = self.span().start;
        let minus = self.sign();
        let wanted = "a time in seconds, start() or end()";
        let Some(seconds) = self.number() else { return Err(self.unexpected(wanted)) };
        let seconds = if minus { -seconds } else { seconds };
        // Within what a count of milliseconds can hold.
        if !seconds.is_finite() || seconds.abs() > 9.2e15 {
            return Err(self.error(start..self.end(), "this time is out of range"));
        }
        Ok(At::Time(Time((seconds * 1000.0).round() as i64)))
    }

    /// The length behind `offset`: one term with an optional sign, so that `x offset 1m + 2` adds 2 to
    /// the value.
    pub(super) fn offset(&mut self) -> Parsed<Duration> {
        let start = self.span().start;
        let minus = self.sign();
        let expr = self.duration_term()?;
        let expr = if minus { DurationExpr::Negate(Box::new(expr)) } else { expr };
        let duration = Duration { expr, span: start..self.end() };
        if duration.expr.is_constant()
            && let Err(message) = duration.resolve(Span::ZERO, Span::ZERO)
        {
            return Err(self.error(duration.span, message));
        }
        Ok(duration)
    }

    pub(super) fn duration(&mut self) -> Parsed<Duration> {
        let start = self.span().start;
        let expr = self.duration_expr(0)?;
        Ok(Duration { expr, span: start..self.end() })
    }

    pub(super) fn duration_expr(&mut self, floor: u8) -> Parsed<DurationExpr> {
        self.deeper(|this| {
            let mut left = if this.is_sign("-") || this.is_sign("+") {
                let minus = this.sign();
                let inner = this.duration_expr(BinaryOp::Mul.precedence() + 1)?;
                if minus { DurationExpr::Negate(Box::new(inner)) } else { inner }
            } else {
                this.duration_term()?
            };
            let mut terms = 0;
            while let Some(op) = this.binary_op() {
                let arithmetic = matches!(
                    op,
                    BinaryOp::Add
                        | BinaryOp::Sub
                        | BinaryOp::Mul
                        | BinaryOp::Div
                        | BinaryOp::Mod
                        | BinaryOp::Pow
                );
                if !arithmetic || op.precedence() < floor {
                    break;
                }
                // Each term makes the tree one level higher.
                terms += 1;
                if terms > HEIGHT_MAX {
                    return Err(this.too_deep(this.span()));
                }
                this.take();
                let tighter = u8::from(op != BinaryOp::Pow);
                let right = this.duration_expr(op.precedence() + tighter)?;
                left = DurationExpr::Binary(op, Box::new(left), Box::new(right));
            }
            Ok(left)
        })
    }

    pub(super) fn duration_term(&mut self) -> Parsed<DurationExpr> {
        const WANTED: &str = "a duration, such as 5m";
        if let Token::Number(seconds) = *self.peek() {
            let span = self.take().span;
            let with_unit = is_duration(&self.text[span]);
            return Ok(if with_unit {
                DurationExpr::Seconds(seconds)
            } else {
                DurationExpr::Number(seconds)
            });
        }
        if self.take_sign("(") {
            let inner = self.duration_expr(0)?;
            self.expect(")", "`)`")?;
            return Ok(inner);
        }
        let Token::Word(word) = self.peek() else { return Err(self.unexpected(WANTED)) };
        let word = word.to_ascii_lowercase();
        match word.as_str() {
            "step" | "range" => {
                self.take();
                self.expect("(", "`(`")?;
                self.expect(")", "`)`")?;
                Ok(if word == "step" { DurationExpr::Step } else { DurationExpr::Range })
            }
            "min_of" | "max_of" => {
                self.take();
                self.expect("(", "`(`")?;
                let a = Box::new(self.duration_expr(0)?);
                self.expect(",", "`,`")?;
                let b = Box::new(self.duration_expr(0)?);
                self.expect(")", "`)`")?;
                Ok(if word == "min_of" {
                    DurationExpr::MinOf(a, b)
                } else {
                    DurationExpr::MaxOf(a, b)
                })
            }
            _ => Err(self.unexpected(WANTED)),
        }
    }
}
