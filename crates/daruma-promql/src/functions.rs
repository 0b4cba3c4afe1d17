//! The catalogue of functions: names and types, nothing of what they compute. The parser checks
//! calls against it; the evaluator finds the computation by the name.

use crate::ast::ValueType::{self, Matrix, Scalar, String, Vector};

/// A function of the language.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, always lower case.
    pub name: &'static str,
    /// The types of its arguments.
    pub args: &'static [ValueType],
    /// How many arguments at the end may be left out.
    pub optional: usize,
    /// Whether the last argument may be repeated.
    pub repeats: bool,
    /// What it yields.
    pub returns: ValueType,
    /// Whether it stands behind the experimental switch upstream.
    pub experimental: bool,
}

const fn f(name: &'static str, args: &'static [ValueType], returns: ValueType) -> Function {
    Function { name, args, optional: 0, repeats: false, returns, experimental: false }
}

const fn optional(count: usize, function: Function) -> Function {
    Function { optional: count, ..function }
}

const fn repeats(function: Function) -> Function {
    Function { repeats: true, ..function }
}

const fn x(function: Function) -> Function {
    Function { experimental: true, ..function }
}

const V: &[ValueType] = &[Vector];
const M: &[ValueType] = &[Matrix];

/// Every function, sorted by name.
pub static FUNCTIONS: &[Function] = &[
    f("abs", V, Vector),
    f("absent", V, Vector),
    f("absent_over_time", M, Vector),
    f("acos", V, Vector),
    f("acosh", V, Vector),
    f("asin", V, Vector),
    f("asinh", V, Vector),
    f("atan", V, Vector),
    f("atanh", V, Vector),
    f("avg_over_time", M, Vector),
    f("ceil", V, Vector),
    f("changes", M, Vector),
    f("clamp", &[Vector, Scalar, Scalar], Vector),
    f("clamp_max", &[Vector, Scalar], Vector),
    f("clamp_min", &[Vector, Scalar], Vector),
    f("cos", V, Vector),
    f("cosh", V, Vector),
    f("count_over_time", M, Vector),
    optional(1, f("day_of_month", V, Vector)),
    optional(1, f("day_of_week", V, Vector)),
    optional(1, f("day_of_year", V, Vector)),
    optional(1, f("days_in_month", V, Vector)),
    f("deg", V, Vector),
    f("delta", M, Vector),
    f("deriv", M, Vector),
    x(f("double_exponential_smoothing", &[Matrix, Scalar, Scalar], Vector)),
    x(f("end", &[], Scalar)),
    f("exp", V, Vector),
    f("first_over_time", M, Vector),
    f("floor", V, Vector),
    f("histogram_avg", V, Vector),
    f("histogram_count", V, Vector),
    f("histogram_fraction", &[Scalar, Scalar, Vector], Vector),
    f("histogram_quantile", &[Scalar, Vector], Vector),
    x(repeats(f("histogram_quantiles", &[Vector, String, Scalar], Vector))),
    f("histogram_stddev", V, Vector),
    f("histogram_stdvar", V, Vector),
    f("histogram_sum", V, Vector),
    optional(1, f("hour", V, Vector)),
    f("idelta", M, Vector),
    f("increase", M, Vector),
    x(optional(1, f("info", &[Vector, Vector], Vector))),
    f("irate", M, Vector),
    optional(1, repeats(f("label_join", &[Vector, String, String, String], Vector))),
    f("label_replace", &[Vector, String, String, String, String], Vector),
    f("last_over_time", M, Vector),
    f("ln", V, Vector),
    f("log10", V, Vector),
    f("log2", V, Vector),
    x(f("mad_over_time", M, Vector)),
    x(f("max_of", &[Scalar, Scalar], Scalar)),
    f("max_over_time", M, Vector),
    x(f("min_of", &[Scalar, Scalar], Scalar)),
    f("min_over_time", M, Vector),
    optional(1, f("minute", V, Vector)),
    optional(1, f("month", V, Vector)),
    f("pi", &[], Scalar),
    f("predict_linear", &[Matrix, Scalar], Vector),
    f("present_over_time", M, Vector),
    f("quantile_over_time", &[Scalar, Matrix], Vector),
    f("rad", V, Vector),
    x(f("range", &[], Scalar)),
    f("rate", M, Vector),
    f("resets", M, Vector),
    optional(1, f("round", &[Vector, Scalar], Vector)),
    f("scalar", V, Scalar),
    f("sgn", V, Vector),
    f("sin", V, Vector),
    f("sinh", V, Vector),
    f("sort", V, Vector),
    x(optional(1, repeats(f("sort_by_label", &[Vector, String], Vector)))),
    x(optional(1, repeats(f("sort_by_label_desc", &[Vector, String], Vector)))),
    f("sort_desc", V, Vector),
    f("sqrt", V, Vector),
    x(f("start", &[], Scalar)),
    x(f("start_timestamp", V, Vector)),
    f("stddev_over_time", M, Vector),
    f("stdvar_over_time", M, Vector),
    x(f("step", &[], Scalar)),
    f("sum_over_time", M, Vector),
    f("tan", V, Vector),
    f("tanh", V, Vector),
    f("time", &[], Scalar),
    f("timestamp", V, Vector),
    x(f("ts_of_first_over_time", M, Vector)),
    x(f("ts_of_last_over_time", M, Vector)),
    x(f("ts_of_max_over_time", M, Vector)),
    x(f("ts_of_min_over_time", M, Vector)),
    f("vector", &[Scalar], Vector),
    optional(1, f("year", V, Vector)),
];

impl Function {
    /// The function of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Function> {
        FUNCTIONS.binary_search_by(|f| f.name.cmp(name)).ok().map(|at| &FUNCTIONS[at])
    }

    /// The type of the argument at `index`, with the last one repeated where that is allowed.
    #[must_use]
    pub fn arg(&self, index: usize) -> Option<ValueType> {
        match self.args.get(index) {
            Some(arg) => Some(*arg),
            None if self.repeats => self.args.last().copied(),
            None => None,
        }
    }
}

/// The word of `words` nearest to `word`, if it is near enough to be a slip of the hand.
pub(crate) fn nearest<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let far = 1 + word.chars().count() / 3;
    words
        .map(|candidate| (edits(&word, candidate, far), candidate))
        .filter(|(distance, _)| *distance <= far)
        .min_by_key(|(distance, candidate)| (*distance, !candidate.starts_with(&word)))
        .map(|(_, candidate)| candidate)
}

/// How many characters must be put, taken or replaced to make `b` of `a`; above `far` it may be
/// any larger number.
fn edits(a: &str, b: &str, far: usize) -> usize {
    let b: Vec<char> = b.chars().collect();
    if a.chars().count().abs_diff(b.len()) > far {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_sorted_so_that_every_name_is_found() {
        for function in FUNCTIONS {
            assert_eq!(Function::named(function.name), Some(function));
        }
        assert_eq!(Function::named("holt_winters"), None);
    }

    #[test]
    fn a_slip_of_the_hand_is_recognised() {
        let names = || FUNCTIONS.iter().map(|f| f.name);
        assert_eq!(nearest("rat", names()), Some("rate"));
        assert_eq!(nearest("histogram_quantil", names()), Some("histogram_quantile"));
        assert_eq!(nearest("zzzzzzzz", names()), None);
    }
}
