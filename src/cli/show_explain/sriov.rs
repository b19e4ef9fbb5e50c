//! What people read of an entry of `[sriov]`.

use super::{aside, described, live, section};
use crate::{
    cli::{render::Screen, show::line},
    kernel::names::Names,
    policy::explain::OfSriov,
};

pub(super) fn sriov(told: &OfSriov, names: &Names, screen: Screen) -> String {
    let mut text = String::new();
    let found = match told.pfs.len() {
        0 => "no function matches its pf".to_owned(),
        1 => "1 PF".to_owned(),
        count => format!("{count} PFs"),
    };
    line(&mut text, &format!("sriov {}: {found}", told.name));
    if !told.description.is_empty() {
        line(&mut text, &format!("  {}", told.description));
    }
    live(&mut text, told.live.as_ref(), screen);
    for selector in &told.pf {
        line(&mut text, &format!("  pf {selector}"));
    }
    line(&mut text, &format!("  vfs {}", told.vfs));
    if told.autoprobe {
        line(&mut text, "  autoprobe true");
    }
    section(&mut text, "PFs", told.pfs.iter(), |one| {
        let mut lines = vec![described(&one.function, names)];
        lines.push(format!("  by {}: it {}", one.by, one.clause));
        let vfs: Vec<_> = one.vfs.iter().map(ToString::to_string).collect();
        if !vfs.is_empty() {
            lines.push(format!("  its VFs: {}", vfs.join(" ")));
        }
        lines.extend(one.settings.iter().map(|one| format!("  {one}")));
        lines
    });
    aside(&mut text, &told.near, &told.unknown, names);
    text
}
