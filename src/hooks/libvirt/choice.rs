//! Choice: which functions of a mapping a domain's definition gets.
//!
//! Pure. A domain that wants a part of a pool keeps what it has, and gets what no
//! other definition has, so that they can run side by side.

use std::collections::BTreeSet;

use crate::pci::address::Address;

/// `count` of the devices, each with its functions. The domain `had` these functions
/// of the mapping, in the order of their aliases; `others` have those.
///
/// What it had and what is still there stays where it was, what is gone is replaced
/// in its place, and more comes behind. `None` if there are not so many.
#[must_use]
pub fn choose(
    devices: &[Vec<Address>],
    count: usize,
    had: &[Address],
    others: &BTreeSet<Address>,
) -> Option<Vec<Address>> {
    let place = |device: &Vec<Address>| had.iter().position(|one| device.contains(one));
    let (mut kept, mut fresh): (Vec<_>, Vec<_>) =
        devices.iter().partition(|device| place(device).is_some());
    kept.sort_by_key(|device| place(device));
    kept.truncate(count);
    fresh.sort_by_key(|device| device.iter().any(|one| others.contains(one)));
    fresh.truncate(count - kept.len());
    if kept.len() + fresh.len() < count {
        return None;
    }
    let kept: BTreeSet<_> = kept.into_iter().flatten().copied().collect();
    // A device that had a part of its functions gets the rest behind.
    let rest = kept.iter().filter(|one| !had.contains(one));
    let mut new = fresh.into_iter().flatten().chain(rest).copied();
    let mut chosen = Vec::new();
    for one in had {
        if kept.contains(one) {
            chosen.push(*one);
        } else {
            chosen.extend(new.next());
        }
    }
    chosen.extend(new);
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn functions(text: &str) -> Vec<Address> {
        let one = |word: &str| format!("0000:{word}").parse().unwrap();
        text.split_whitespace().map(one).collect()
    }

    #[test]
    fn what_it_has_stays_and_what_others_have_comes_last() {
        let pool = "41:00.0 / 42:00.0 / 43:00.0 / 44:00.0";
        let slots = "41:00.0 41:00.1 / 42:00.0 42:00.1";
        for (devices, count, had, others, expected) in [
            (pool, 1, "", "", Some("41:00.0")),
            (pool, 1, "", "41:00.0 42:00.0", Some("43:00.0")),
            (pool, 1, "42:00.0", "42:00.0", Some("42:00.0")),
            (pool, 2, "44:00.0", "41:00.0", Some("44:00.0 42:00.0")),
            // What is gone is replaced where it was.
            (pool, 2, "99:00.0 43:00.0", "", Some("41:00.0 43:00.0")),
            (pool, 1, "43:00.0 42:00.0", "", Some("43:00.0")),
            (
                pool,
                2,
                "98:00.0 99:00.0 43:00.0",
                "",
                Some("41:00.0 43:00.0"),
            ),
            // Where there is nothing else, it is shared.
            (
                pool,
                4,
                "",
                "41:00.0 43:00.0",
                Some("42:00.0 44:00.0 41:00.0 43:00.0"),
            ),
            (pool, 5, "", "", None),
            (
                slots,
                1,
                "99:00.0 99:00.1",
                "41:00.1",
                Some("42:00.0 42:00.1"),
            ),
            (slots, 1, "42:00.1", "", Some("42:00.1 42:00.0")),
            (slots, 3, "", "", None),
            ("", 1, "41:00.0", "", None),
        ] {
            let devices = devices.split('/').map(functions);
            let devices: Vec<_> = devices.filter(|one| !one.is_empty()).collect();
            let others = functions(others).into_iter().collect();
            let chosen = choose(&devices, count, &functions(had), &others);
            assert_eq!(chosen, expected.map(functions), "{count} for {had:?}");
        }
    }
}
