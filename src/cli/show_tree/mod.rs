//! The tree of a host as people read it: as lines, and as a picture.
//!
//! Pure. `rows` says what is in a line, and which virtual functions share one;
//! `text` lays lines out, `dot` writes for Graphviz.

mod dot;
mod rows;
mod text;

use std::collections::BTreeMap;

use super::render::Screen;
use crate::{
    kernel::names::Names,
    pci::inventory::Inventory,
    policy::tree::{Tree, Views},
};

pub(super) use self::{dot::dot, text::text};

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene<'a> {
    pub(super) tree: &'a Tree<'a>,
    pub(super) views: &'a Views,
    pub(super) names: &'a Names,
    /// The CPUs of NUMA nodes, as far as they are known.
    pub(super) cpus: &'a BTreeMap<u32, String>,
    /// Whether each virtual function has a line.
    pub(super) all: bool,
}

/// What lines are drawn with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glyphs {
    /// Box-drawing characters.
    Lines,
    /// ASCII.
    Ascii,
}

/// How a tree is to be drawn, for [`plain`].
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// How wide lines may be.
    pub width: usize,
    /// What lines are drawn with.
    pub glyphs: Glyphs,
    /// Whether each virtual function has a line.
    pub all: bool,
}

/// The tree of `inventory` as a script reads it: no colours, and no names of
/// devices, which hang on this machine's database.
#[must_use]
pub fn plain(inventory: &Inventory, views: &Views, style: Style) -> String {
    let (names, cpus) = (Names::new(), BTreeMap::new());
    let scene = Scene {
        tree: &Tree::of(inventory),
        views,
        names: &names,
        cpus: &cpus,
        all: style.all,
    };
    let screen = Screen {
        colour: false,
        width: Some(style.width),
    };
    text(&scene, screen, style.glyphs)
}

/// The same as a picture.
#[must_use]
pub fn plain_dot(inventory: &Inventory, views: &Views) -> String {
    let (names, cpus) = (Names::new(), BTreeMap::new());
    dot(&Scene {
        tree: &Tree::of(inventory),
        views,
        names: &names,
        cpus: &cpus,
        all: false,
    })
}
