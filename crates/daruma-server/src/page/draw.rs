//! Charts as SVG, drawn on the server: they need no script, and a gap in the evidence is a gap in the
//! line. Only attributes are used, never styles, so that the content policy stays strict.

use daruma_model::Time;
use maud::{Markup, html};

use crate::plot::{HostChart, Plot};

use super::words;

/// Straight pieces between known values, as the commands of an SVG path. A lonely value is a dot.
fn path(points: &[(f64, Option<f64>)]) -> String {
    let mut out = String::new();
    let mut run: Vec<(f64, f64)> = Vec::new();
    let mut close = |run: &mut Vec<(f64, f64)>| {
        if let [(x, y)] = run.as_slice() {
            out.push_str(&format!("M{:.1} {y:.1}h.8", x - 0.4));
        }
        for (i, (x, y)) in run.iter().enumerate().filter(|_| run.len() > 1) {
            out.push_str(&format!("{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' }));
        }
        run.clear();
    };
    for (x, y) in points {
        match y {
            Some(y) => run.push((*x, *y)),
            None => close(&mut run),
        }
    }
    close(&mut run);
    out
}

/// Least and greatest of what is known; never equal.
fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low > high {
        return None;
    }
    let room = if high > low { (high - low) * 0.06 } else { high.abs().max(1.0) * 0.1 };
    let (low, high) = ((low - room).min(low), (high + room).max(high));
    (low.is_finite() && high.is_finite() && high > low).then_some((low, high))
}

/// A small chart of the last hour with its last value.
pub(crate) fn spark(chart: &HostChart) -> Markup {
    const WIDTH: f64 = 120.0;
    const HEIGHT: f64 = 32.0;
    let values = chart.values.as_deref().unwrap_or(&[]);
    let last = values.last().copied().flatten();
    let highest = values.iter().flatten().copied().fold(0.0_f64, f64::max);
    let top = chart.top.unwrap_or(highest).max(highest).max(f64::MIN_POSITIVE);
    let step = WIDTH / (values.len().max(2) - 1) as f64;
    let points: Vec<(f64, Option<f64>)> = values
        .iter()
        .enumerate()
        .map(|(i, value)| {
            let y =
                value.map(|value| HEIGHT - 1.5 - (value / top).clamp(0.0, 1.0) * (HEIGHT - 3.0));
            (i as f64 * step, y)
        })
        .collect();
    let (least, most) = values
        .iter()
        .flatten()
        .fold((f64::INFINITY, 0.0_f64), |(l, h), value| (l.min(*value), h.max(*value)));
    let range = if least.is_finite() {
        format!(
            "last hour: {} to {}",
            words::value(least, chart.unit),
            words::value(most, chart.unit)
        )
    } else {
        "no data in the last hour".to_owned()
    };
    html! {
        figure.spark id={ "host-" (chart.title.replace(' ', "-")) } {
            figcaption {
                span.name { (chart.title) }
                @match (&chart.values, last) {
                    (Err(why), _) => { span.value.unknown title=(why) { "unknown" } }
                    (Ok(_), Some(value)) => {
                        span.value { (words::value(value, chart.unit)) }
                    }
                    (Ok(_), None) => { span.value.unknown { "unknown" } }
                }
            }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img"
                aria-label={ (chart.title) ", " (chart.says) "; " (range) } {
                @if points.iter().any(|(_, y)| y.is_some()) {
                    path.line d=(path(&points)) {}
                } @else {
                    rect.nothing width=(WIDTH) height=(HEIGHT) fill="url(#hatch)" {}
                }
            }
            p.says title=(chart.query) { (chart.says) }
        }
    }
}

/// A moment on a chart.
pub(crate) struct Moment {
    pub(crate) at: Time,
    pub(crate) shape: &'static str,
    pub(crate) word: &'static str,
}

/// The chart of an incident's evidence.
pub(crate) fn evidence(
    plot: &Plot,
    span: (Time, Time),
    threshold: Option<f64>,
    moments: &[Moment],
) -> Markup {
    const WIDTH: f64 = 720.0;
    const HEIGHT: f64 = 200.0;
    const TOP: f64 = 22.0;
    const BOTTOM: f64 = 180.0;
    let (from, to) = (span.0.as_secs_f64(), span.1.as_secs_f64());
    let length = (to - from).max(0.001);
    let x = |seconds: f64| ((seconds - from) / length).clamp(0.0, 1.0) * WIDTH;
    let known = plot.lines.iter().flat_map(|line| line.values.iter().flatten().copied());
    let Some((low, high)) = bounds(known.clone().chain(threshold)).filter(|_| known.count() > 0)
    else {
        return html! {
            svg.evidence viewBox={ "0 0 " (WIDTH) " 60" } preserveAspectRatio="none" aria-hidden="true" {
                rect.nothing width=(WIDTH) height="60" fill="url(#hatch)" {}
            }
            p.unknown { (words::shape("unknown", "unknown")) " no data from " (words::clock(span.0)) " to " (words::clock(span.1)) " UTC" }
        };
    };
    let y = |value: f64| BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP);
    html! {
        svg.evidence viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img"
            aria-label={ "from " (words::exact(span.0)) " to " (words::exact(span.1)) } {
            line.axis x1="0" x2=(WIDTH) y1=(BOTTOM) y2=(BOTTOM) {}
            @for moment in moments {
                @let at = x(moment.at.as_secs_f64());
                g class={ "moment " (moment.shape) } {
                    title { (moment.word) " " (words::exact(moment.at)) }
                    line x1=(format!("{at:.1}")) x2=(format!("{at:.1}")) y1=(TOP - 4.0) y2=(BOTTOM) {}
                    use class={ "mark " (moment.shape) } href={ "#m-" (moment.shape) } width="14" height="14"
                        x=(format!("{:.1}", (at - 7.0).clamp(0.0, WIDTH - 14.0))) y="2" {}
                }
            }
            @if let Some(threshold) = threshold {
                @let at = format!("{:.1}", y(threshold));
                line.threshold x1="0" x2=(WIDTH) y1=(at) y2=(at) {}
                text.threshold x=(WIDTH - 4.0) y=(format!("{:.1}", y(threshold) - 4.0)) text-anchor="end" {
                    "threshold " (words::value(threshold, crate::plot::Unit::Plain))
                }
            }
            @for (i, line) in plot.lines.iter().enumerate() {
                @let points: Vec<_> = plot.times.iter().zip(&line.values)
                    .map(|(time, value)| (x(*time), value.map(y))).collect();
                path class={ "line l" (i % 4) } d=(path(&points)) { title { (words::clean(&line.name, 160)) } }
            }
            text x="2" y=(HEIGHT - 4.0) { (words::clock(span.0)) }
            text x=(WIDTH - 2.0) y=(HEIGHT - 4.0) text-anchor="end" { (words::clock(span.1)) " UTC" }
            text x="2" y=(TOP + 6.0) { (words::value(high, crate::plot::Unit::Plain)) }
            text x="2" y=(BOTTOM - 4.0) { (words::value(low, crate::plot::Unit::Plain)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_stays_a_gap_and_a_lonely_value_is_seen() {
        let points = [(0.0, Some(1.0)), (1.0, Some(2.0)), (2.0, None), (3.0, Some(4.0))];
        assert_eq!(path(&points), "M0.0 1.0L1.0 2.0M2.6 4.0h.8");
        assert_eq!(path(&[(0.0, None)]), "");
    }

    #[test]
    fn a_flat_line_and_huge_values_have_bounds() {
        assert_eq!(bounds([5.0].into_iter()), Some((4.5, 5.5)));
        assert_eq!(bounds(std::iter::empty()), None);
        assert_eq!(bounds([f64::MIN, f64::MAX].into_iter()), None);
    }
}
