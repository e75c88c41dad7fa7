//! The terminal's side of the live view: entering and leaving it, and its keys.

use super::draw;
use crate::demo::Snapshot;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use std::io;
use std::time::Duration;

/// The alternate screen of the terminal. Dropping it restores the terminal; so does a panic (`ratatui::try_init`'s hook).
pub(in crate::demo) struct Live {
    terminal: DefaultTerminal,
}

impl Live {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { terminal: ratatui::try_init()? })
    }

    pub(super) fn draw(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        self.terminal.draw(|frame| draw(frame, snapshot)).map(|_| ())
    }

    /// Whether `q`, Escape or Ctrl-C was pressed; in raw mode Ctrl-C is a key, not a signal.
    pub(super) fn asked_to_quit(&self) -> io::Result<bool> {
        while event::poll(Duration::ZERO)? {
            if let Event::Key(key) = event::read()?
                && key.kind == KeyEventKind::Press
                && (matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
                    || (key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL)))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
