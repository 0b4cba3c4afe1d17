//! Queries made up from a number: the grammar run forwards, without parentheses where precedence must
//! decide, and with the spellings people use. They fit the types mostly, not always.
//!
//! Two spellings of Prometheus are left out because the other parser cannot read them: backslashes in
//! raw texts (`\d` in backticks), and `1_000`.

use daruma_promql::{FUNCTIONS, ValueType};

/// A source of choices; the same number gives the same query.
pub struct Maker(u64);

impl Maker {
    /// From any number.
    #[must_use]
    pub fn new(seed: u64) -> Maker {
        Maker(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        // xorshift64*: a test needs variety, not secrets.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize) % bound
    }

    /// One of the choices.
    pub fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// A query of any type.
    pub fn query(&mut self) -> String {
        match self.below(12) {
            0 => self.scalar(3),
            1 => self.matrix(3),
            2 => self.text(),
            _ => self.vector(4),
        }
    }

    fn number(&mut self) -> String {
        const NUMBERS: &[&str] = &[
            "0",
            "1",
            "2.5",
            ".5",
            "5.",
            "1e3",
            "1E-3",
            "2e+10",
            "0x1F",
            "0XaB",
            "017",
            "089",
            "Inf",
            "inf",
            "NaN",
            "nan",
            "123456789",
            "5m",
            "1h30m",
            "500ms",
            "1y2w3d",
        ];
        self.of(NUMBERS).to_owned()
    }

    fn length(&mut self) -> String {
        self.of(&["5m", "1h30m", "90s", "1w", "2y", "15ms", "1d12h", "300", "0x10", "1.5"])
            .to_owned()
    }

    fn text(&mut self) -> String {
        const TEXTS: &[&str] = &[
            r#""""#,
            r#""a""#,
            "'it is \"so\"'",
            r#""it is \"so\"""#,
            r#""a\n\tb\\""#,
            "`raw \"x\"`",
            r#""ü""#,
            r#""\u00fc\U0001F600""#,
            "'\\''",
            r#""\x41\101""#,
            r#""(.*)""#,
            r#""$1""#,
        ];
        self.of(TEXTS).to_owned()
    }

    fn name(&mut self) -> &'static str {
        // Among them words of the language that are names where nothing else is meant.
        const NAMES: &[&str] = &[
            "up",
            "http_requests_total",
            "job:rate:5m",
            "a",
            "_x",
            ":b:",
            "by",
            "sum",
            "offset",
            "inf_",
            "group",
            "start",
            "end",
            "without",
            "count",
            "nan1",
            "rate",
            "Up",
            "fill",
            "topk",
        ];
        self.of(NAMES)
    }

    fn label(&mut self) -> &'static str {
        const LABELS: &[&str] = &[
            "job",
            "instance",
            "_a",
            "le",
            "by",
            "on",
            "sum",
            "offset",
            "bool",
            "and",
            "group_left",
        ];
        self.of(LABELS)
    }

    fn labels(&mut self) -> String {
        let count = self.below(3);
        let labels: Vec<String> = (0..count)
            .map(|_| match self.once_in(8) {
                true => "\"a.b c\"".to_owned(),
                false => self.label().to_owned(),
            })
            .collect();
        let comma = if count > 0 && self.once_in(6) { "," } else { "" };
        format!("({}{comma})", labels.join(self.of(&[",", ", ", " , "]).to_owned().as_str()))
    }

    fn condition(&mut self) -> String {
        let label = self.label();
        let blank = self.of(&["", "", " "]);
        match self.below(4) {
            0 | 1 => {
                let (op, text) = (self.of(&["=", "!="]), self.text());
                format!("{label}{blank}{op}{blank}{text}")
            }
            _ => {
                let op = self.of(&["=~", "!~"]);
                let regex =
                    self.of(&["\"a|b\"", "'.+'", "\"5..\"", "`5..`", "\"a{2,3}\"", "\"^x$\""]);
                format!("{label}{blank}{op}{blank}{regex}")
            }
        }
    }

    /// A selector without a window and without a shift.
    fn bare(&mut self) -> String {
        let count = self.below(3);
        let mut conditions: Vec<String> = (0..count).map(|_| self.condition()).collect();
        match self.below(8) {
            0 => {
                conditions.push("x!=\"\"".to_owned());
                format!("{{{}}}", conditions.join(","))
            }
            1 => {
                conditions.insert(0, "\"name with.dots\"".to_owned());
                format!("{{{}}}", conditions.join(", "))
            }
            2 => format!(
                "{{__name__=~\"a.*\"{}}}",
                conditions.iter().map(|c| format!(",{c}")).collect::<String>()
            ),
            3 if count > 0 => format!("{}{{{},}}", self.name(), conditions.join(",")),
            _ if count > 0 => format!("{} {{{}}}", self.name(), conditions.join(",")),
            _ => self.name().to_owned(),
        }
    }

    fn shift(&mut self) -> String {
        let offset = format!(
            " {} {}{}",
            self.of(&["offset", "OFFSET"]),
            self.of(&["", "-", "+"]),
            self.length()
        );
        let at = self.of(&[" @ 1234.5", " @-7", " @ start()", "@end()", " @ 1e3", " @ +3"]);
        match self.below(8) {
            0 | 1 => offset,
            2 => at.to_owned(),
            3 => offset + at,
            4 => format!("{at}{offset}"),
            _ => String::new(),
        }
    }

    fn selector(&mut self) -> String {
        self.bare() + &self.shift()
    }

    fn matrix(&mut self, depth: usize) -> String {
        let window = self.length();
        if depth > 0 && self.once_in(3) {
            let inner = match self.below(3) {
                0 => self.bare(),
                1 => self.call(depth - 1),
                _ => format!("({})", self.vector(depth - 1)),
            };
            let step = if self.once_in(3) { String::new() } else { self.length() };
            return format!("{inner}[{window}:{step}]{}", self.shift());
        }
        let blank = self.of(&["", "", " "]);
        format!("{}{blank}[{blank}{window}{blank}]{}", self.bare(), self.shift())
    }

    fn scalar(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.number();
        }
        match self.below(9) {
            0 => format!("scalar({})", self.vector(depth - 1)),
            1 => self.of(&["time()", "pi( )"]).to_owned(),
            2 => format!("({})", self.scalar(depth - 1)),
            3 => format!("{}{}", self.of(&["-", "+", "- ", "--", "-+"]), self.scalar(depth - 1)),
            4 | 5 => {
                let (left, right) = (self.scalar(depth - 1), self.scalar(depth - 1));
                let op = self.of(&["+", "-", "*", "/", "%", "^", "atan2", "== bool", "<bool"]);
                format!("{left} {op} {right}")
            }
            _ => self.number(),
        }
    }

    fn call(&mut self, depth: usize) -> String {
        let function = &FUNCTIONS[self.below(FUNCTIONS.len())];
        if function.name == "info" {
            return format!("info({}, {{job=\"x\"}})", self.vector(depth));
        }
        let least = function.args.len() - function.optional;
        let count =
            least + if function.optional > 0 { self.below(function.optional + 1) } else { 0 };
        let args: Vec<String> = function.args[..count]
            .iter()
            .map(|arg| match arg {
                ValueType::Scalar => self.scalar(depth.min(2)),
                ValueType::Vector => self.vector(depth),
                ValueType::Matrix => self.matrix(depth),
                ValueType::String => self.text(),
            })
            .collect();
        let (blank, comma) = (self.of(&["", "", " "]), self.of(&[",", ", ", "\n, "]));
        format!("{}{blank}({})", function.name, args.join(comma))
    }

    fn aggregate(&mut self, depth: usize) -> String {
        const PLAIN: &[&str] =
            &["sum", "avg", "count", "min", "max", "group", "stddev", "stdvar", "SUM", "Avg"];
        let inner = self.vector(depth);
        let (op, args) = match self.below(4) {
            0 => {
                let op = self.of(&["topk", "bottomk", "quantile", "limitk", "limit_ratio", "TOPK"]);
                (op, format!("({}, {inner})", self.scalar(1)))
            }
            1 if self.once_in(2) => ("count_values", format!("(\"value\", {inner})")),
            _ => (self.of(PLAIN), format!("({inner})")),
        };
        let word = self.of(&["by", "without", "BY", "Without"]);
        match self.below(3) {
            0 => format!("{op}{args}"),
            1 => format!("{op} {word} {}{args}", self.labels()),
            _ => format!("{op}{args} {word}{}", self.labels()),
        }
    }

    /// What stands between two vectors.
    fn operator(&mut self) -> String {
        let set = self.once_in(4);
        let compares = !set && self.once_in(3);
        let op = match (set, compares) {
            (true, _) => self.of(&["and", "or", "unless", "AND", "Or"]),
            (_, true) => self.of(&["==", "!=", "<", "<=", ">", ">="]),
            _ => self.of(&["+", "-", "*", "/", "%", "^", "atan2", "ATAN2"]),
        };
        let mut operator = op.to_owned();
        if compares && self.once_in(3) {
            operator += " bool";
        }
        if self.once_in(3) {
            let on = self.of(&["on", "ignoring", "ON"]);
            operator +=
                &format!(" {on}{}", if self.once_in(2) { "(x)".to_owned() } else { self.labels() });
            if !set && self.once_in(2) {
                operator += self.of(&[
                    " group_left",
                    " group_right",
                    " group_left()",
                    " group_right(y, \"z\")",
                ]);
            }
        }
        if !set && self.once_in(8) {
            const FILLS: &[&str] = &[
                " fill(0)",
                " fill_left(-1)",
                " fill_right (+2.5)",
                " fill_left(1) fill_right(2)",
            ];
            operator += self.of(FILLS);
        }
        operator
    }

    fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.selector();
        }
        match self.below(12) {
            0..=2 => self.call(depth - 1),
            3 | 4 => self.aggregate(depth - 1),
            // Precedence and associativity alone say what belongs together.
            5..=7 => {
                let mut chain = self.vector(depth - 1);
                for _ in 0..=self.below(3) {
                    let operator = self.operator();
                    let right = self.vector(depth - 1);
                    let blank = self.of(&[" ", " ", "\n", " # said\n"]);
                    chain += &format!(" {operator}{blank}{right}");
                }
                chain
            }
            8 => {
                let op = self.of(&["+", "-", "*", "/", "^", ">", "<= bool", "!="]);
                format!("{} {op} {}", self.vector(depth - 1), self.scalar(1))
            }
            9 => format!("{}{}", self.of(&["-", "+", "- ", "--"]), self.vector(depth - 1)),
            10 => format!("({})", self.vector(depth - 1)),
            _ => self.selector(),
        }
    }
}
