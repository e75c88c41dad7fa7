//! The live view's picture: a pure function of a snapshot.

use super::plain::{errors_text, millis, percent};
use crate::demo::tally::{BackendState, BackendView, Latencies, Snapshot};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Gauge, Paragraph, Row, Sparkline, Table};

/// Columns of a backend's bar at a share of 100 %.
const BAR_COLUMNS: usize = 30;

/// Draws a snapshot on the whole of a frame; parts that find no room are cut off.
pub fn draw(frame: &mut Frame<'_>, snapshot: &Snapshot) {
    let backends = snapshot.backends.len() as u16 + 2;
    let [head, curve, middle, numbers, events, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(6),
        Constraint::Length(backends),
        Constraint::Length(6),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_head(frame, head, snapshot);
    draw_curve(frame, curve, snapshot);
    draw_backends(frame, middle, snapshot);
    let [latency, errors] = Layout::horizontal([Constraint::Length(44), Constraint::Min(20)]).areas(numbers);
    draw_latency(frame, latency, snapshot);
    draw_errors(frame, errors, snapshot);
    draw_events(frame, events, snapshot);
    frame.render_widget(Line::from(" q: quit").style(Style::new().fg(Color::DarkGray)), foot);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let title = format!(" Evenkeel: {} backends behind {}  ", snapshot.backends.len(), snapshot.target);
    let [left, right] =
        Layout::horizontal([Constraint::Length(title.len() as u16), Constraint::Min(10)]).areas(area);
    frame.render_widget(Span::styled(title, Modifier::BOLD), left);
    let ratio = snapshot.at.as_secs_f64() / snapshot.duration.as_secs_f64().max(f64::EPSILON);
    let label = format!("{} of {} s", snapshot.at.as_secs(), snapshot.duration.as_secs());
    let gauge = Gauge::default().ratio(ratio.clamp(0.0, 1.0)).label(label).gauge_style(Color::Blue);
    frame.render_widget(gauge, right);
}

fn draw_curve(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let now = snapshot.history.last().copied().unwrap_or(0);
    let block = Block::bordered().title(format!(" calls per second: {now} "));
    // The newest seconds, as many as there are columns.
    let columns = usize::from(block.inner(area).width);
    let shown = &snapshot.history[snapshot.history.len().saturating_sub(columns)..];
    frame.render_widget(Sparkline::default().block(block).data(shown).style(Color::Green), area);
}

fn draw_backends(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let answered: u64 = snapshot.backends.iter().map(|backend| backend.calls_last_second).sum();
    let lines: Vec<Line<'_>> =
        snapshot.backends.iter().map(|backend| backend_line(backend, answered)).collect();
    let block = Block::bordered().title(" share of the last second's calls ");
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn backend_line(backend: &BackendView, answered: u64) -> Line<'_> {
    let (state, color) = match backend.state {
        BackendState::Up => ("up", Color::Green),
        BackendState::Slow => ("slow", Color::Yellow),
        BackendState::Dead => ("dead", Color::Red),
    };
    let share = percent(backend.calls_last_second, answered);
    let filled = ((share / 100.0) * BAR_COLUMNS as f64).round() as usize;
    Line::from(vec![
        Span::raw(format!(" {:<11}", backend.name)),
        Span::styled(format!("{state:<5}"), color),
        Span::styled("█".repeat(filled), color),
        Span::raw(" ".repeat(BAR_COLUMNS.saturating_sub(filled))),
        Span::raw(format!("{share:>5.1} %  {:>7} calls  {}", backend.calls, backend.address)),
    ])
}

fn draw_latency(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let row = |label: &'static str, latency: Latencies| {
        let times = [latency.p50, latency.p90, latency.p99, latency.max].map(millis);
        Row::new([label.to_owned()].into_iter().chain(times).collect::<Vec<_>>())
    };
    let widths = [
        Constraint::Length(11),
        Constraint::Max(7),
        Constraint::Max(7),
        Constraint::Max(7),
        Constraint::Max(7),
    ];
    let table = Table::new(
        [row("last second", snapshot.latency_last_second), row("whole run", snapshot.latency)],
        widths,
    )
    .header(Row::new(["", "p50", "p90", "p99", "max"]).style(Modifier::BOLD))
    .block(Block::bordered().title(" latency in ms "));
    frame.render_widget(table, area);
}

fn draw_errors(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let color = if snapshot.failed == 0 { Color::Green } else { Color::Red };
    let lines = vec![
        Line::from(format!("{} calls, {} failed", snapshot.calls, snapshot.failed)),
        Line::from(errors_text(&snapshot.errors)).style(color),
    ];
    let block = Block::bordered().title(" errors ");
    frame.render_widget(Paragraph::new(lines).wrap(ratatui::widgets::Wrap { trim: true }).block(block), area);
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let block = Block::bordered().title(" events ");
    let room = usize::from(block.inner(area).height);
    let newest = snapshot.events.iter().rev().take(room).rev();
    let lines: Vec<Line<'_>> = newest
        .map(|event| Line::from(format!("{:>4.1} s  {}", event.at.as_secs_f64(), event.text)))
        .collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}
