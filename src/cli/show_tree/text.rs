//! The tree in lines, as wide as the reader's screen.
//!
//! What does not fit is cut where that hurts least: names first, then mappings
//! and drivers; addresses never.

use std::collections::BTreeSet;

use super::{
    Glyphs, Scene,
    rows::{Row, meaning, rows},
};
use crate::{
    cli::{
        render::{Screen, wrap},
        show::line,
    },
    policy::tree::Branch,
};

/// How wide lines are for a reader without a screen.
const WIDTH: usize = 80;
/// Mappings and drivers are not cut to less than this.
const LEAST: usize = 7;
const COLUMNS: usize = 5;
const HEAD: [&str; COLUMNS] = ["GROUP", "DRIVER", "MAPPING", "STATE", "MARKS"];
const DRIVER: usize = 1;
const MAPPING: usize = 2;
const STATE: usize = 3;
const MARKS: usize = 4;

/// A line before it is laid out.
struct Line {
    /// Never cut.
    place: String,
    /// Cut first, the last one before all.
    words: Vec<String>,
    cells: [String; COLUMNS],
}

impl Line {
    fn bare(place: String, words: Vec<String>) -> Self {
        Self {
            place,
            words,
            cells: [const { String::new() }; COLUMNS],
        }
    }

    /// Whether it is of no function.
    fn is_bare(&self) -> bool {
        self.cells.iter().all(String::is_empty)
    }

    /// How wide the place is with the first `count` words.
    fn length(&self, count: usize) -> usize {
        let words = self.words.iter().take(count);
        let words = words.map(|word| word.chars().count() + 1);
        self.place.chars().count() + words.sum::<usize>()
    }
}

pub(crate) fn text(scene: &Scene<'_>, screen: Screen, glyphs: Glyphs) -> String {
    let mut page = Page {
        lines: vec![Line {
            cells: HEAD.map(str::to_owned),
            ..Line::bare("NODE, PORT, FUNCTION".to_owned(), Vec::new())
        }],
        holding: BTreeSet::new(),
        lifted: BTreeSet::new(),
        glyphs,
        scene,
    };
    for node in &scene.tree.nodes {
        let name = node.number.map_or_else(
            || "no NUMA node".to_owned(),
            |number| format!("node {number}"),
        );
        let cpus = node.number.and_then(|number| scene.cpus.get(&number));
        let cpus = cpus.map(|cpus| format!("CPUs {cpus}"));
        page.lines
            .push(Line::bare(name, cpus.into_iter().collect()));
        for (at, root) in (1..).zip(&node.roots) {
            let (branch, indent) = page.strokes(at == node.roots.len());
            let place = format!("{branch}host bridge {}", root.bus);
            page.lines.push(Line::bare(place, Vec::new()));
            page.below(indent, &root.branches);
        }
    }
    page.render(screen)
}

struct Page<'a> {
    lines: Vec<Line>,
    /// The marks that there are.
    holding: BTreeSet<char>,
    lifted: BTreeSet<char>,
    glyphs: Glyphs,
    scene: &'a Scene<'a>,
}

impl<'a> Page<'a> {
    /// What stands before something, and before what is behind that.
    fn strokes(&self, is_last: bool) -> (&'static str, &'static str) {
        match (self.glyphs, is_last) {
            (Glyphs::Lines, false) => ("├─", "│ "),
            (Glyphs::Lines, true) => ("└─", "  "),
            (Glyphs::Ascii, false) => ("|-", "| "),
            (Glyphs::Ascii, true) => ("`-", "  "),
        }
    }

    fn below(&mut self, indent: &str, branches: &'a [Branch<'a>]) {
        let rows = rows(branches, self.scene);
        for (at, row) in (1..).zip(&rows) {
            let (branch, deeper) = self.strokes(at == rows.len());
            self.row(&format!("{indent}{branch}"), row);
            self.below(&format!("{indent}{deeper}"), row.below);
        }
    }

    fn row(&mut self, before: &str, row: &Row<'a>) {
        let (holding, lifted) = row.marks();
        let shown = |sign: &str, marks: &BTreeSet<char>| {
            let marks: String = marks.iter().collect();
            if marks.is_empty() {
                marks
            } else {
                format!("{sign}{marks}")
            }
        };
        let marks = [shown("!", &holding), shown("~", &lifted)].concat();
        self.holding.extend(holding);
        self.lifted.extend(lifted);
        self.lines.push(Line {
            place: format!("{before}{}", row.address()),
            words: row.words(self.scene),
            cells: [
                row.group(),
                row.driver(),
                row.mappings(),
                row.state().to_owned(),
                marks,
            ],
        });
    }

    fn render(&self, screen: Screen) -> String {
        let width = screen.width.unwrap_or(WIDTH);
        let mut widths = [0; COLUMNS];
        // The heads of columns that are empty are left out.
        for line in self.lines.iter().skip(1) {
            for (width, cell) in widths.iter_mut().zip(&line.cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for (width, head) in widths.iter_mut().zip(HEAD).filter(|(width, _)| **width > 0) {
            *width = (*width).max(head.len());
        }
        let functions = self.lines.iter().filter(|line| !line.is_bare());
        let natural = functions.clone().map(|line| line.length(usize::MAX));
        let natural = natural.max().unwrap_or(0);
        let mut layout = Layout { widths, gap: 2 };
        if natural + layout.columns() > width {
            layout.gap = 1;
        }
        // The first word of each is kept if mappings and drivers allow.
        let least = functions.skip(1).map(|line| line.length(1));
        let room = width.saturating_sub(least.max().unwrap_or(0));
        for column in [MAPPING, DRIVER] {
            let over = layout.columns().saturating_sub(room);
            let one = layout.widths.get_mut(column);
            if let Some(one) = one.filter(|one| **one > LEAST) {
                *one = one.saturating_sub(over).max(LEAST);
            }
        }
        let place = self.lines.iter().map(|line| line.length(0)).max();
        let left = natural.min(width.saturating_sub(layout.columns()));
        let left = left.max(place.unwrap_or(0));
        let mut text = String::new();
        for one in &self.lines {
            line(&mut text, &self.line(one, left, &layout, width, screen));
        }
        self.legend(&mut text, width, screen);
        text
    }

    fn line(
        &self,
        one: &Line,
        left: usize,
        layout: &Layout,
        width: usize,
        screen: Screen,
    ) -> String {
        let mut place = one.place.clone();
        let end = if one.is_bare() { width } else { left };
        let room = end.saturating_sub(place.chars().count() + 1);
        if !one.words.is_empty() && room > 1 {
            place += &format!(" {}", self.cut(&one.words.join(" "), room));
        }
        let mut text = format!("{place:left$}");
        let mut used = text.chars().count();
        for (column, (cell, size)) in one.cells.iter().zip(&layout.widths).enumerate() {
            let room = width.saturating_sub(used + layout.gap).min(*size);
            if room == 0 {
                continue;
            }
            let cell = self.cut(cell, room);
            let padded = format!("{cell:room$}");
            text += &" ".repeat(layout.gap);
            text += &match column {
                STATE if !cell.is_empty() => screen.state(colour(&cell), &padded),
                MARKS if cell.starts_with('!') => screen.state("refused", &padded),
                MARKS if cell.starts_with('~') => screen.state("warn", &padded),
                _ => padded,
            };
            used += layout.gap + room;
        }
        text.trim_end().to_owned()
    }

    fn cut(&self, text: &str, width: usize) -> String {
        let mark = match self.glyphs {
            Glyphs::Lines => '…',
            Glyphs::Ascii => '+',
        };
        if text.chars().count() <= width {
            return text.to_owned();
        }
        let kept = text.chars().take(width.saturating_sub(1));
        kept.chain([mark]).collect()
    }

    /// What the marks mean that there are.
    fn legend(&self, text: &mut String, width: usize, screen: Screen) {
        let mut told = Vec::new();
        let holding = self.holding.iter().map(|mark| ('!', mark));
        let lifted = self.lifted.iter().map(|mark| ('~', mark));
        for (sign, mark) in holding.chain(lifted) {
            told.push(format!("{sign}{mark}={}", meaning(*mark)));
        }
        if !self.lifted.is_empty() {
            told.push("(~ is lifted)".to_owned());
        }
        if !told.is_empty() {
            let screen = Screen {
                width: Some(width),
                ..screen
            };
            let told = told.join(" ");
            line(text, &wrap(&format!("marks: {told}"), "       ", screen));
        }
    }
}

/// How wide columns are, and what is between them.
struct Layout {
    /// 0 for one that is empty.
    widths: [usize; COLUMNS],
    gap: usize,
}

impl Layout {
    /// All columns but the place, with the gaps before them.
    fn columns(&self) -> usize {
        let shown = self.widths.iter().filter(|width| **width > 0);
        shown.map(|width| width + self.gap).sum()
    }
}

/// What is planned only is not there yet.
fn colour(state: &str) -> &str {
    if state == "planned" { "pending" } else { state }
}
