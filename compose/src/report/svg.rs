//! Plots as inline SVG, coloured by the page's style sheet alone.

use std::fmt::Write;

use crate::produce::render::civil_from_days;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 34.0;
/// Marks on an axis, about.
const MARKS: usize = 5;

/// How an axis counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// By powers of ten; values must be above 0.
    Log,
    /// Evenly, in microseconds since 1970, with marks at the beginnings of months or days.
    Time,
}

/// An axis.
pub struct Axis {
    /// How it counts.
    pub scale: Scale,
    /// Least and largest value; `None` is what the points have.
    pub range: Option<(f64, f64)>,
    /// Writes a mark.
    pub mark: fn(f64) -> String,
}

/// A line through points.
pub struct Series<'a> {
    /// Its name in the legend.
    pub name: &'a str,
    /// Its class in the style sheet: `s0` to `s4`, or `muted`.
    pub class: &'a str,
    /// Its points.
    pub points: Vec<(f64, f64)>,
}

/// Draws lines over common axes, with a legend.
pub fn lines(title: &str, x: &Axis, y: &Axis, series: &[Series<'_>]) -> String {
    let all = || series.iter().flat_map(|one| one.points.iter().copied());
    let horizontal = Map::new(x, all().map(|point| point.0), (LEFT, WIDTH - RIGHT));
    let vertical = Map::new(y, all().map(|point| point.1), (HEIGHT - BOTTOM, TOP));
    let mut svg = open(title, HEIGHT);
    grid(&mut svg, x, &horizontal, y, &vertical);
    for one in series {
        let mut path = String::new();
        for (x, y) in one
            .points
            .iter()
            .filter(|point| point.0.is_finite() && point.1.is_finite())
        {
            let word = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(
                path,
                "{word}{:.1} {:.1}",
                horizontal.place(*x),
                vertical.place(*y)
            );
        }
        let _ = write!(svg, "<path class=\"line {}\" d=\"{path}\"/>", one.class);
    }
    svg.push_str("</svg>");
    svg + &legend(series)
}

/// Draws predicted against observed, each point as large as it has events.
pub fn calibration(title: &str, points: &[(f64, f64, u64)]) -> String {
    let axis = Axis {
        scale: Scale::Linear,
        range: Some((0.0, 1.0)),
        mark: percent,
    };
    let horizontal = Map::new(&axis, std::iter::empty(), (LEFT, WIDTH - RIGHT));
    let vertical = Map::new(&axis, std::iter::empty(), (HEIGHT - BOTTOM, TOP));
    let mut svg = open(title, HEIGHT);
    grid(&mut svg, &axis, &horizontal, &axis, &vertical);
    let (left, right) = (horizontal.place(0.0), horizontal.place(1.0));
    let (low, high) = (vertical.place(0.0), vertical.place(1.0));
    let _ = write!(
        svg,
        "<path class=\"line muted\" d=\"M{left:.1} {low:.1}L{right:.1} {high:.1}\"/>"
    );
    let most = points.iter().map(|point| point.2).max().unwrap_or(1).max(1) as f64;
    for (predicted, observed, count) in points {
        let radius = 2.5 + 9.0 * (*count as f64 / most).sqrt();
        let (x, y) = (horizontal.place(*predicted), vertical.place(*observed));
        let says = format!(
            "{count} events: predicted {}, observed {}",
            percent(*predicted),
            percent(*observed)
        );
        let _ = write!(
            svg,
            "<circle class=\"dot s0\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"><title>{says}</title></circle>"
        );
    }
    svg.push_str("</svg>");
    svg
}

/// Draws named amounts as horizontal bars.
pub fn bars(title: &str, rows: &[(String, f64, String)]) -> String {
    const ROW: f64 = 26.0;
    const NAMES: f64 = 205.0;
    const VALUES: f64 = 150.0;
    let height = ROW * rows.len().max(1) as f64 + 8.0;
    let most = rows
        .iter()
        .map(|row| row.1)
        .fold(0.0, f64::max)
        .max(f64::MIN_POSITIVE);
    let mut svg = open(title, height);
    for (at, (name, amount, says)) in rows.iter().enumerate() {
        let y = 4.0 + ROW * at as f64;
        let wide = (WIDTH - NAMES - VALUES) * amount / most;
        let middle = y + ROW / 2.0 + 4.0;
        let _ = write!(
            svg,
            "<text class=\"name\" x=\"{:.1}\" y=\"{middle:.1}\">{}</text>\
             <rect class=\"bar\" x=\"{NAMES}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{:.1}\" rx=\"3\"/>\
             <text class=\"value\" x=\"{:.1}\" y=\"{middle:.1}\">{}</text>",
            NAMES - 10.0,
            escape(name),
            y + 4.0,
            ROW - 8.0,
            NAMES + wide + 8.0,
            escape(says),
        );
    }
    svg.push_str("</svg>");
    svg
}

/// Writes a share in percent.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

/// Escapes a text for HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Places values between two edges.
struct Map {
    scale: Scale,
    low: f64,
    high: f64,
    edges: (f64, f64),
}

impl Map {
    fn new(axis: &Axis, values: impl Iterator<Item = f64>, edges: (f64, f64)) -> Map {
        let usable = |value: &f64| value.is_finite() && (axis.scale != Scale::Log || 0.0 < *value);
        let found = values
            .filter(usable)
            .fold(None, |range: Option<(f64, f64)>, value| {
                Some(range.map_or((value, value), |(low, high)| {
                    (low.min(value), high.max(value))
                }))
            });
        let (mut low, mut high) = axis.range.or(found).unwrap_or((0.0, 1.0));
        if axis.scale == Scale::Log {
            low = round_up(low.max(1e-9) / 1.0001, -1);
            high = round_up(high.max(1e-9), 0);
        }
        if high <= low {
            high = if axis.scale == Scale::Log {
                low * 10.0
            } else {
                low + 1.0
            };
        }
        Map {
            scale: axis.scale,
            low,
            high,
            edges,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear | Scale::Time => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.max(self.low) / self.low).log10() / (self.high / self.low).log10(),
        };
        self.edges.0 + (self.edges.1 - self.edges.0) * share.clamp(0.0, 1.0)
    }

    fn marks(&self) -> Vec<f64> {
        if self.scale == Scale::Time {
            return time_marks(self.low, self.high);
        }
        if self.scale == Scale::Log {
            let all = || std::iter::successors(Some(self.low), |mark| Some(round_up(*mark, 1)));
            let within = |mark: &f64| *mark <= self.high * 1.0001;
            let is_power = |mark: &f64| (mark.log10() - mark.log10().round()).abs() < 1e-6;
            let fine: Vec<f64> = all().take_while(within).take(MARKS * 10).collect();
            let coarse = || fine.iter().copied().filter(is_power).collect();
            return if fine.len() <= 2 * MARKS {
                fine
            } else {
                coarse()
            };
        }
        let rough = (self.high - self.low) / MARKS as f64;
        let unit = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .into_iter()
            .map(|times| times * unit)
            .find(|step| rough <= *step);
        let step = step.unwrap_or(rough);
        let first = (self.low / step).ceil();
        (0..=2 * MARKS)
            .map(|at| (first + at as f64) * step)
            .take_while(|mark| *mark <= self.high + step * 1e-9)
            .collect()
    }
}

/// Returns the first of 1, 2, 5, 10, 20, … that is not below a value, or one some places beside it.
fn round_up(value: f64, beside: i32) -> f64 {
    const STEPS: [f64; 3] = [1.0, 2.0, 5.0];
    let power = value.log10().floor() as i32;
    let unit = 10_f64.powi(power);
    let at = STEPS
        .iter()
        .position(|step| value <= step * unit * 1.000_001)
        .unwrap_or(STEPS.len());
    let place = power * 3 + at as i32 + beside;
    STEPS[place.rem_euclid(3) as usize] * 10_f64.powi(place.div_euclid(3))
}

/// Returns the beginnings of months, or of days if there are few months, as microseconds.
fn time_marks(low: f64, high: f64) -> Vec<f64> {
    const DAY: f64 = 86_400e6;
    let (first, last) = ((low / DAY).ceil() as i64, (high / DAY).floor() as i64);
    let days = first..=last.min(first.saturating_add(36_525));
    let months: Vec<i64> = days
        .clone()
        .filter(|day| civil_from_days(*day).2 == 1)
        .collect();
    let days: Vec<i64> = if MARKS <= months.len() {
        months
    } else {
        days.collect()
    };
    let every = days.len().div_ceil(2 * MARKS + 2).max(1);
    days.into_iter()
        .step_by(every)
        .map(|day| day as f64 * DAY)
        .collect()
}

fn open(title: &str, height: f64) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{0}\"><title>{0}</title>",
        escape(title)
    )
}

fn grid(svg: &mut String, x: &Axis, horizontal: &Map, y: &Axis, vertical: &Map) {
    for mark in vertical.marks() {
        let at = vertical.place(mark);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{:.1}\"/><text class=\"mark-y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0,
            escape(&(y.mark)(mark)),
        );
    }
    for mark in horizontal.marks() {
        let at = horizontal.place(mark);
        let _ = write!(
            svg,
            "<path class=\"tick\" d=\"M{at:.1} {:.1}v5\"/><text class=\"mark-x\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 20.0,
            escape(&(x.mark)(mark)),
        );
    }
}

fn legend(series: &[Series<'_>]) -> String {
    let keys: String = series
        .iter()
        .map(|one| {
            format!(
                "<span><i class=\"key {}\"></i>{}</span>",
                one.class,
                escape(one.name)
            )
        })
        .collect();
    format!("<p class=\"legend\">{keys}</p>")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(value: f64) -> String {
        format!("{value}")
    }

    #[test]
    fn marks_are_round_and_within_the_axis() {
        let marks = |scale, range| {
            let axis = Axis {
                scale,
                range: Some(range),
                mark: plain,
            };
            Map::new(&axis, std::iter::empty(), (0.0, 1.0)).marks()
        };
        assert_eq!(
            marks(Scale::Linear, (0.0, 1.0)),
            [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]
        );
        assert_eq!(
            marks(Scale::Linear, (0.0, 340_000.0)),
            [0.0, 100_000.0, 200_000.0, 300_000.0]
        );
        assert_eq!(marks(Scale::Log, (0.3, 40.0)).len(), 8, "0.2, 0.5, 1, … 50");
        assert_eq!(marks(Scale::Log, (700.0, 1500.0)), [500.0, 1000.0, 2000.0]);
        assert_eq!(marks(Scale::Log, (1e-3, 1e6)).len(), 10, "powers of ten");
        let day = 86_400e6;
        assert_eq!(marks(Scale::Time, (0.0, 9.0 * day)).len(), 10);
        assert_eq!(marks(Scale::Time, (0.0, 364.0 * day)).len(), 12, "months");
    }

    #[test]
    fn plots_of_nothing_and_of_one_point_are_plots() {
        let axis = || Axis {
            scale: Scale::Linear,
            range: None,
            mark: plain,
        };
        for points in [vec![], vec![(1.0, 2.0)], vec![(1.0, f64::NAN), (2.0, 3.0)]] {
            let svg = lines(
                "t",
                &axis(),
                &axis(),
                &[Series {
                    name: "a<b",
                    class: "s0",
                    points,
                }],
            );
            assert!(
                svg.starts_with("<svg") && svg.contains("a&lt;b") && !svg.contains("NaN"),
                "{svg}"
            );
        }
        assert!(calibration("c", &[]).contains("</svg>"));
        assert!(bars("b", &[("x".to_owned(), 0.0, "0".to_owned())]).contains("<rect"));
    }
}
