//! The tree as a picture: a directed graph in Graphviz's language.
//!
//! A box around each NUMA node, and a dashed one around IOMMU groups of more than
//! one function. Source: <https://graphviz.org/doc/info/lang.html> (quoted IDs).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Scene,
    rows::{Row, meaning, rows},
};
use crate::{
    cli::show::line,
    policy::{
        guard::is_bridge,
        tree::{Branch, Node},
    },
};

pub(crate) fn dot(scene: &Scene<'_>) -> String {
    let mut text = String::new();
    line(&mut text, "digraph functions {");
    line(&mut text, "  rankdir=LR;");
    line(
        &mut text,
        "  node [shape=box, style=filled, fillcolor=white];",
    );
    let mut edges = Vec::new();
    for (number, node) in scene.tree.nodes.iter().enumerate() {
        cluster(&mut text, &mut edges, scene, number, node);
    }
    for (from, to) in edges {
        line(
            &mut text,
            &format!("  {} -> {};", quoted(&from), quoted(&to)),
        );
    }
    line(&mut text, "}");
    text
}

fn cluster<'a>(
    text: &mut String,
    edges: &mut Vec<(String, String)>,
    scene: &Scene<'a>,
    number: usize,
    node: &'a Node<'a>,
) {
    let mut name = node.number.map_or_else(
        || "no NUMA node".to_owned(),
        |number| format!("node {number}"),
    );
    let cpus = node.number.and_then(|number| scene.cpus.get(&number));
    if let Some(cpus) = cpus {
        name += &format!("\nCPUs {cpus}");
    }
    line(
        text,
        &format!("  subgraph {} {{", quoted(&format!("cluster_{number}"))),
    );
    line(text, &format!("    label={};", quoted(&name)));
    // Rows by their group; those of runs have many.
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for root in &node.roots {
        let bridge = format!("host bridge {}", root.bus);
        line(text, &format!("    {} [shape=ellipse];", quoted(&bridge)));
        gather(&mut groups, edges, scene, &bridge, &root.branches);
    }
    for (at, (group, shown)) in groups.iter().enumerate() {
        let is_box = shown.len() > 1 && !group.is_empty();
        if is_box {
            let id = quoted(&format!("cluster_{number}_{at}"));
            let label = quoted(&format!("IOMMU group {group}"));
            line(text, &format!("    subgraph {id} {{"));
            line(text, &format!("      label={label}; style=dashed;"));
        }
        for one in shown {
            let indent = if is_box { "      " } else { "    " };
            line(text, &format!("{indent}{one}"));
        }
        if is_box {
            line(text, "    }");
        }
    }
    line(text, "  }");
}

/// The boxes below something by their IOMMU group, and what leads to them.
fn gather<'a>(
    groups: &mut BTreeMap<String, Vec<String>>,
    edges: &mut Vec<(String, String)>,
    scene: &Scene<'a>,
    parent: &str,
    branches: &'a [Branch<'a>],
) {
    for row in rows(branches, scene) {
        let address = row.address();
        edges.push((parent.to_owned(), address.clone()));
        groups
            .entry(row.group())
            .or_default()
            .push(shown(&row, scene));
        gather(groups, edges, scene, &address, row.below);
    }
}

fn shown(row: &Row<'_>, scene: &Scene<'_>) -> String {
    let address = row.address();
    let group = row.group();
    let mut lines = vec![address.clone(), row.words(scene).join(" ")];
    if !group.is_empty() {
        lines.push(format!("IOMMU group {group}"));
    }
    let used = [row.driver(), row.mappings(), row.state().to_owned()];
    let used: Vec<_> = used.into_iter().filter(|text| !text.is_empty()).collect();
    lines.push(used.join(", "));
    let (holding, lifted) = row.marks();
    let told = |marks: BTreeSet<char>| {
        marks
            .into_iter()
            .map(meaning)
            .collect::<Vec<_>>()
            .join(", ")
    };
    for (word, marks) in [("held by", holding), ("lifted:", lifted)] {
        if !marks.is_empty() {
            lines.push(format!("{word} {}", told(marks)));
        }
    }
    lines.retain(|line| !line.is_empty());
    let mut style = String::new();
    if let Some(colour) = colour(row) {
        style = format!(", fillcolor={colour}");
    }
    let (id, label) = (quoted(&address), quoted(&lines.join("\n")));
    format!("{id} [label={label}{style}];")
}

/// As states are coloured on a terminal.
fn colour(row: &Row<'_>) -> Option<&'static str> {
    match row.state() {
        "bound" => Some("palegreen"),
        "planned" | "pending" | "absent" | "released" => Some("khaki"),
        "refused" | "stuck" | "failed" => Some("lightsalmon"),
        _ if is_bridge(row.first) => Some("gray90"),
        _ => None,
    }
}

/// A quoted ID: only the quote needs a backslash in the language, but in labels a
/// backslash begins an escape, as `\n` for the end of a line.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '\n' => quoted += "\\n",
            c if c.is_control() => {}
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_does_not_leave_its_quotes() {
        assert_eq!(quoted("a \"b\"\\\n\u{1b}c"), r#""a \"b\"\\\nc""#);
    }
}
