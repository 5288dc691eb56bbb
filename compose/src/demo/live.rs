//! Shows a run while it goes on: a live view on a terminal, a line a second elsewhere.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Result;
use ratatui::DefaultTerminal;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Gauge, Paragraph, Row, Sparkline, Table};

use super::outcome::Look;
use crate::supervise::Usage;
use crate::text;

const LINE_EVERY: Duration = Duration::from_secs(1);
const ACCENT: Color = Color::Cyan;

/// A run at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// What goes on.
    pub phase: &'static str,
    /// Rows played, and rows in all.
    pub rows: (u64, u64),
    /// Counts.
    pub look: Look,
    /// Labels acknowledged.
    pub labels: u64,
    /// Where the stream is in its own time, in microseconds.
    pub stream_micros: i64,
    /// Events a second at each of the last looks.
    pub rates: Vec<u64>,
    /// Median and 99th percentile of raw to score, in milliseconds.
    pub latency_ms: Option<(f64, f64)>,
    /// Log loss, that of the base rate, and the AUC.
    pub quality: Option<(f64, f64, f64)>,
    /// Dead letters by reason.
    pub dead: Vec<(&'static str, u64)>,
    /// What each process used.
    pub usage: Vec<(&'static str, Usage)>,
    /// The last thing that happened to a process, if anything did.
    pub note: Option<String>,
}

impl Snapshot {
    fn share(&self) -> f64 {
        let (done, all) = self.rows;
        if all == 0 {
            0.0
        } else {
            (done as f64 / all as f64).clamp(0.0, 1.0)
        }
    }

    fn rate(&self) -> u64 {
        let lately = &self.rates[self.rates.len().saturating_sub(5)..];
        lately.iter().sum::<u64>() / lately.len().max(1) as u64
    }

    fn lag(&self) -> u64 {
        self.look
            .raw
            .saturating_sub(self.look.dead + self.look.scored)
    }
}

/// Shows snapshots.
pub enum View {
    /// On a terminal.
    Terminal(Box<DefaultTerminal>),
    /// As lines on standard error.
    Lines(Option<Instant>),
}

impl View {
    /// Opens the live view, or settles for lines.
    pub fn open(terminal: bool) -> View {
        match terminal.then(ratatui::try_init) {
            Some(Ok(terminal)) => View::Terminal(Box::new(terminal)),
            _ => View::Lines(None),
        }
    }

    /// Shows a snapshot; says no when the user wants to stop.
    ///
    /// # Errors
    /// A terminal that is gone.
    pub fn show(&mut self, snapshot: &Snapshot) -> Result<bool> {
        match self {
            View::Terminal(terminal) => {
                terminal.draw(|frame| draw(frame, snapshot))?;
                let mut go_on = true;
                while event::poll(Duration::ZERO)? {
                    go_on &= !is_stop(&event::read()?);
                }
                Ok(go_on)
            }
            View::Lines(last) => {
                if last.is_none_or(|last| LINE_EVERY <= last.elapsed()) {
                    *last = Some(Instant::now());
                    // A closed standard error leaves nobody to tell.
                    let _ = writeln!(std::io::stderr(), "{}", line(snapshot));
                }
                Ok(true)
            }
        }
    }

    /// Gives the terminal back.
    pub fn close(self) {
        if matches!(self, View::Terminal(_)) {
            ratatui::restore();
        }
    }
}

fn is_stop(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    key.code == KeyCode::Char('q')
        || (key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL))
}

/// One line about a run.
fn line(snapshot: &Snapshot) -> String {
    let look = &snapshot.look;
    let mut line = format!(
        "{:>5.1} s  {:<9} {:>3.0} %  in {}  clean {}  dead {}  scored {}  learned {}  landed {}  lag {}  {}/s",
        look.seconds,
        snapshot.phase,
        100.0 * snapshot.share(),
        text::count(look.raw),
        text::count(look.clean),
        text::count(look.dead),
        text::count(look.scored),
        text::count(look.learned),
        text::count(look.landed),
        text::count(snapshot.lag()),
        text::count(snapshot.rate()),
    );
    if let Some((p50, p99)) = snapshot.latency_ms {
        line += &format!("  p50 {p50:.1} ms  p99 {p99:.1} ms");
    }
    if let Some((loss, base, auc)) = snapshot.quality {
        line += &format!("  log loss {loss:.4} (base {base:.4})  AUC {auc:.3}");
    }
    if let Some(note) = &snapshot.note {
        line += &format!("  [{note}]");
    }
    line
}

fn draw(frame: &mut Frame<'_>, snapshot: &Snapshot) {
    let [head, bar, middle, chart, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(11),
        Constraint::Min(4),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_head(frame, head, bar, snapshot);
    let [counts, figures, dead, usage] = Layout::horizontal([
        Constraint::Percentage(25),
        Constraint::Percentage(27),
        Constraint::Percentage(22),
        Constraint::Percentage(26),
    ])
    .areas(middle);
    draw_counts(frame, counts, snapshot);
    draw_figures(frame, figures, snapshot);
    let reasons = snapshot
        .dead
        .iter()
        .map(|(reason, count)| [(*reason).to_owned(), text::count(*count)]);
    draw_table(frame, dead, "dead by reason", reasons.collect());
    let used = snapshot.usage.iter().map(|(name, usage)| {
        [
            (*name).to_owned(),
            format!(
                "{:>5.1} s  {}",
                usage.cpu.as_secs_f64(),
                text::bytes(usage.peak_rss_bytes)
            ),
        ]
    });
    draw_table(frame, usage, "cpu, peak memory", used.collect());
    let wide = usize::from(chart.width.saturating_sub(2));
    let rates = &snapshot.rates[snapshot.rates.len().saturating_sub(wide)..];
    let most = rates.iter().max().copied().unwrap_or(0);
    let block = Block::new()
        .borders(Borders::ALL)
        .title(format!(" events a second (most {}) ", text::count(most)));
    frame.render_widget(
        Sparkline::default()
            .block(block)
            .data(rates)
            .style(Style::new().fg(ACCENT)),
        chart,
    );
    let foot_text = snapshot
        .note
        .clone()
        .unwrap_or_else(|| "q stops".to_owned());
    frame.render_widget(
        Paragraph::new(format!(" {foot_text}")).style(Style::new().fg(Color::DarkGray)),
        foot,
    );
}

fn draw_head(frame: &mut Frame<'_>, head: Rect, bar: Rect, snapshot: &Snapshot) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let title = Line::from(vec![
        Span::styled(" thalweg demo ", bold.fg(ACCENT)),
        Span::raw(format!(
            " {} · New York flights of {}",
            snapshot.phase,
            text::moment(snapshot.stream_micros)
        )),
    ]);
    frame.render_widget(Paragraph::new(title), head);
    let gauge = Gauge::default()
        .gauge_style(Style::new().fg(ACCENT))
        .ratio(snapshot.share())
        .label(format!(
            "{} of {} flights",
            text::count(snapshot.rows.0),
            text::count(snapshot.rows.1)
        ));
    frame.render_widget(gauge, bar);
}

fn draw_counts(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let look = &snapshot.look;
    let rows = [
        ("events in", look.raw),
        ("clean", look.clean),
        ("dead", look.dead),
        ("landed", look.landed),
        ("labels in", snapshot.labels),
        ("learned", look.learned),
        ("scored", look.scored),
        ("lag", snapshot.lag()),
    ];
    let rows = rows.map(|(name, count)| [name.to_owned(), text::count(count)]);
    draw_table(frame, area, "events", rows.to_vec());
}

fn draw_figures(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
    let (latency, quality) = (snapshot.latency_ms, snapshot.quality);
    let rows = [
        ("events a second", text::count(snapshot.rate())),
        (
            "raw to score p50",
            or_dash(latency.map(|(p50, _)| format!("{p50:.1} ms"))),
        ),
        (
            "raw to score p99",
            or_dash(latency.map(|(_, p99)| format!("{p99:.1} ms"))),
        ),
        (
            "log loss",
            or_dash(quality.map(|(loss, ..)| format!("{loss:.4}"))),
        ),
        (
            "  base rate's",
            or_dash(quality.map(|(_, base, _)| format!("{base:.4}"))),
        ),
        ("AUC", or_dash(quality.map(|(.., auc)| format!("{auc:.4}")))),
        ("  base rate's", "0.5000".to_owned()),
        ("elapsed", format!("{:.1} s", snapshot.look.seconds)),
    ];
    draw_table(
        frame,
        area,
        "figures",
        rows.map(|(name, value)| [name.to_owned(), value]).to_vec(),
    );
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, title: &str, rows: Vec<[String; 2]>) {
    let wide = rows
        .iter()
        .map(|[name, _]| name.chars().count())
        .max()
        .unwrap_or(0) as u16;
    let rows = rows.into_iter().map(|[name, value]| {
        let value = Line::from(value).right_aligned();
        Row::new([Line::from(name), value])
    });
    let table = Table::new(rows, [Constraint::Length(wide), Constraint::Min(6)])
        .column_spacing(1)
        .block(
            Block::new()
                .borders(Borders::ALL)
                .title(format!(" {title} ")),
        );
    frame.render_widget(table, area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            phase: "playing",
            rows: (168_388, 336_776),
            look: Look {
                seconds: 2.0,
                raw: 169_000,
                clean: 168_000,
                dead: 900,
                scored: 167_000,
                ..Look::default()
            },
            stream_micros: 1_357_035_300_000_000,
            rates: vec![80_000, 90_000],
            latency_ms: Some((12.5, 99.0)),
            quality: Some((0.4499, 0.5476, 0.7712)),
            dead: vec![("malformed", 400)],
            usage: vec![("ingest", Usage::default())],
            ..Snapshot::default()
        }
    }

    #[test]
    fn the_view_shows_every_figure() {
        let mut terminal = Terminal::new(TestBackend::new(120, 30)).unwrap();
        terminal.draw(|frame| draw(frame, &snapshot())).unwrap();
        let shown: String = terminal
            .backend()
            .buffer()
            .content()
            .iter()
            .map(|cell| cell.symbol())
            .collect();
        for part in [
            "168,388 of 336,776",
            "2013-01-01 10:15",
            "0.4499",
            "12.5 ms",
            "malformed",
            "ingest",
            "85,000",
        ] {
            assert!(shown.contains(part), "{part}");
        }
    }

    #[test]
    fn a_narrow_terminal_is_no_reason_to_die() {
        for (width, height) in [(1, 1), (20, 5), (300, 100)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| draw(frame, &snapshot())).unwrap();
        }
    }

    #[test]
    fn a_line_says_the_same() {
        let line = line(&snapshot());
        for part in ["2.0 s", "50 %", "lag 1,100", "base 0.5476", "p99 99.0 ms"] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
}
