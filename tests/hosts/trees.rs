//! The trees of recorded hosts: word for word for some, and what holds of any.

use std::collections::BTreeSet;

use vfio_bindd::{
    cli::show_tree::{Glyphs, Style, plain, plain_dot},
    pci::function::Role,
    policy::{
        plan::plan,
        resolve::Held,
        tree::{Flat, Part, Tree, Views, add_guards, of_plan},
    },
};

use crate::{Case, cases, check, folder};

const GOLDEN: &[&str] = &["gpu-server/desktop", "lab/twins", "nic-vfs/pools"];

fn views(case: &Case) -> Views {
    let plan = plan(&case.host, &case.policy, &Held::new());
    let mut views = of_plan(&plan);
    add_guards(&mut views, &case.host);
    views
}

const fn style(width: usize, glyphs: Glyphs, all: bool) -> Style {
    Style { width, glyphs, all }
}

#[test]
fn trees_are_golden() {
    let cases = cases();
    for name in GOLDEN {
        let case = cases.iter().find(|case| case.name == *name).unwrap();
        let views = views(case);
        let file = folder().join("tree").join(name.replace('/', "-"));
        let text = plain(&case.host, &views, style(80, Glyphs::Lines, false));
        check(&file.with_extension("txt"), &text);
        let picture = plain_dot(&case.host, &views);
        check(&file.with_extension("dot"), &picture);
    }
}

#[test]
fn lines_are_as_wide_as_the_screen_and_have_every_address() {
    for case in cases() {
        let views = views(&case);
        for width in [80, 81, 100, 132, 250] {
            for (glyphs, all) in [(Glyphs::Lines, false), (Glyphs::Ascii, true)] {
                let text = plain(&case.host, &views, style(width, glyphs, all));
                let widest = text.lines().map(|line| line.chars().count()).max();
                assert!(
                    widest <= Some(width),
                    "{}: {widest:?} of {width}\n{text}",
                    case.name
                );
                assert!(all || !text.is_ascii());
                assert!(!all || text.is_ascii(), "{text}");
                for function in case.host.iter() {
                    let address = function.address.to_string();
                    let may_lack = !all && matches!(function.role, Role::Vf { .. });
                    assert!(
                        may_lack || text.contains(&address),
                        "{}: {address}",
                        case.name
                    );
                }
            }
        }
    }
}

#[test]
fn many_virtual_functions_share_a_line() {
    for case in cases()
        .iter()
        .filter(|case| case.name.starts_with("nic-vfs/"))
    {
        let views = views(case);
        let lines = |all| {
            plain(&case.host, &views, style(80, Glyphs::Lines, all))
                .lines()
                .count()
        };
        assert!(lines(true) > case.host.len(), "{}", case.name);
        assert!(
            lines(false) < case.host.len() / 4,
            "{}: {}",
            case.name,
            lines(false)
        );
    }
}

#[test]
fn a_list_has_each_function_once_and_after_what_it_is_behind() {
    for case in cases() {
        let views = views(&case);
        let tree = Tree::of(&case.host);
        let flat = Flat::of(&tree, &case.host, &views);
        let mut seen = BTreeSet::new();
        for one in &flat {
            assert!(
                one.parent.is_none_or(|parent| seen.contains(&parent)),
                "{one:?}"
            );
            assert!(seen.insert(one.function.address), "{one:?}");
            let port = one.root_port.and_then(|port| case.host.get(port));
            assert!(port.is_none_or(|port| one.function.path.starts_with(&port.path)));
        }
        assert_eq!(seen.len(), case.host.len(), "{}", case.name);
    }
}

#[test]
fn a_part_leads_to_what_is_wanted_and_to_nothing_else() {
    for case in cases() {
        let flat = |tree: &Tree<'_>| {
            let functions = tree.functions().into_iter();
            functions.map(|one| one.address).collect::<BTreeSet<_>>()
        };
        let parents = vfio_bindd::policy::tree::parents(&case.host);
        let above = |mut address| {
            let mut found = BTreeSet::from([address]);
            while let Some(parent) = parents.get(&address) {
                found.insert(*parent);
                address = *parent;
            }
            found
        };
        for (_, mapping) in plan(&case.host, &case.policy, &Held::new()).mappings {
            let wanted: BTreeSet<_> = mapping.functions.iter().map(|one| one.address).collect();
            let tree = Tree::of(&case.host).only(&Part::Functions(wanted.clone()));
            let all: BTreeSet<_> = wanted.into_iter().flat_map(above).collect();
            assert_eq!(flat(&tree), all, "{}", case.name);
        }
        for function in case.host.iter().step_by(7) {
            let address = function.address;
            let tree = Tree::of(&case.host).only(&Part::Around(address));
            for shown in flat(&tree) {
                let is_near = above(shown).contains(&address) || above(address).contains(&shown);
                assert!(is_near, "{}: {shown} for {address}", case.name);
            }
        }
    }
}

/// Graphviz's language, as far as pictures use it: every line is a statement of
/// which the quotes are closed, and every brace has its other one.
#[test]
fn pictures_are_graphs() {
    for case in cases() {
        let text = plain_dot(&case.host, &views(&case));
        let mut depth = 0_usize;
        let mut shown = BTreeSet::new();
        let mut edges = Vec::new();
        for line in text.lines() {
            let (ids, rest) = quoted(line.trim());
            match (rest.as_str(), ids.as_slice()) {
                ("digraph functions {" | "subgraph Q {", _) => depth += 1,
                ("}", []) => depth -= 1,
                ("Q -> Q;", [from, to]) => edges.push((from.clone(), to.clone())),
                (node, [id, ..]) if node.starts_with("Q [") && node.ends_with("];") => {
                    assert!(shown.insert(id.clone()), "{id} is there twice");
                }
                (other, _) => {
                    let known = ["rankdir=LR;", "node [", "label=Q;"];
                    assert!(known.iter().any(|one| other.starts_with(one)), "{line}");
                }
            }
        }
        assert_eq!(depth, 0, "{text}");
        for (from, to) in edges {
            assert!(shown.contains(&from) && shown.contains(&to), "{from} {to}");
        }
    }
}

/// The texts between quotes, and the line with a letter for each.
fn quoted(line: &str) -> (Vec<String>, String) {
    let (mut ids, mut rest) = (Vec::new(), String::new());
    let mut inside: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (&mut inside, c) {
            (Some(text), '\\') => text.extend(['\\', chars.next().unwrap()]),
            (Some(_), '"') => ids.extend(inside.take()),
            (Some(text), c) => text.push(c),
            (None, '"') => {
                inside = Some(String::new());
                rest.push('Q');
            }
            (None, c) => rest.push(c),
        }
    }
    assert_eq!(inside, None, "{line}");
    (ids, rest)
}
