//! Tables and colours for people.
//!
//! Pure. Colour and the terminal's width come in; a table without them is what
//! scripts and tests read.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Stdout},
};

/// What the reader of the output can do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Screen {
    /// It shows colours.
    pub(super) colour: bool,
    /// Longer lines are cut to this many characters.
    pub(super) width: Option<usize>,
}

impl Screen {
    /// What is known of `out`; only a terminal has colours and a width.
    pub(super) fn of(out: &Stdout) -> Self {
        if !out.is_terminal() {
            return Self::default();
        }
        let asked = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let size = rustix::termios::tcgetwinsize(out).ok();
        Self {
            colour: asked && !dumb,
            width: size
                .map(|size| usize::from(size.ws_col))
                .filter(|width| *width > 0),
        }
    }

    /// `text` in the colour of `state`.
    pub(super) fn state(self, state: &str, text: &str) -> String {
        let code = match state {
            "bound" | "ready" | "ok" => "32",
            "pending" | "starting" | "absent" | "degraded" | "released" | "warn" => "33",
            "refused" | "stuck" | "failed" | "fail" => "31",
            _ => return text.to_owned(),
        };
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A table whose columns are as wide as they must be.
#[derive(Debug)]
pub(super) struct Table<const COLUMNS: usize> {
    rows: Vec<[String; COLUMNS]>,
    /// The column that is coloured by the state that it shows.
    states: Option<usize>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(super) fn new(head: [&str; COLUMNS]) -> Self {
        Self {
            rows: vec![head.map(str::to_owned)],
            states: None,
        }
    }

    pub(super) fn states_in(mut self, column: usize) -> Self {
        self.states = Some(column);
        self
    }

    pub(super) fn row(&mut self, row: [String; COLUMNS]) {
        self.rows.push(row);
    }

    pub(super) fn render(&self, screen: Screen) -> String {
        let widths: Vec<usize> = (0..COLUMNS)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let line = self.line(row, &widths, screen);
            // Writing to a string cannot fail.
            writeln!(text, "{}", line.trim_end()).unwrap_or_default();
        }
        text
    }

    fn line(&self, row: &[String; COLUMNS], widths: &[usize], screen: Screen) -> String {
        let mut line = String::new();
        let mut left = screen.width.unwrap_or(usize::MAX);
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let last = column + 1 == COLUMNS;
            let padded = if last {
                cut(cell, left)
            } else {
                format!("{cell:width$}  ")
            };
            left = left.saturating_sub(padded.chars().count());
            if self.states == Some(column) {
                line += &screen.state(cell, &padded);
            } else {
                line += &padded;
            }
        }
        line
    }
}

/// `text` in lines that fit on the screen after `indent`, which all but the
/// first begin with; words are never cut.
pub(super) fn wrap(text: &str, indent: &str, screen: Screen) -> String {
    let start = indent.chars().count();
    let width = screen.width.unwrap_or(usize::MAX);
    let mut lines = String::new();
    let mut at = start;
    for word in text.split(' ') {
        let length = word.chars().count();
        if at == start {
            at += length;
        } else if at + 1 + length > width {
            lines.push('\n');
            lines += indent;
            at = start + length;
        } else {
            lines.push(' ');
            at += 1 + length;
        }
        lines += word;
    }
    lines
}

/// At most `width` characters of `text`, and a mark if that is not all.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table<3> {
        let mut table = Table::new(["MAPPING", "STATE", "WHY"]).states_in(1);
        table.row(["nic", "bound", ""].map(str::to_owned));
        table.row(["gpu", "refused", "is the display of the host"].map(str::to_owned));
        table
    }

    #[test]
    fn a_script_reads_plain_columns() {
        assert_eq!(
            table().render(Screen::default()),
            "MAPPING  STATE    WHY\nnic      bound\ngpu      refused  is the display of the host\n"
        );
    }

    #[test]
    fn a_terminal_gets_colours_and_whole_lines() {
        let screen = Screen {
            colour: true,
            width: Some(30),
        };
        assert_eq!(
            table().render(screen),
            "MAPPING  STATE    WHY\nnic      \x1b[32mbound    \x1b[0m\ngpu      \x1b[31mrefused  \x1b[0mis the disp…\n"
        );
    }
}
