//! What a mapping takes where it takes a part of what matches.

use super::{Hand, Piece, Preference, arrange, together};
use crate::pci::function::Function;

/// Which `count` of `devices` are taken, by their places in it and in that order;
/// each is told with whether it is held already. What is held stays, one by one,
/// whatever came to its IOMMU group meanwhile; of the rest no group is split as
/// long as there is something else to take.
pub(crate) fn take(
    devices: &[(Vec<&Function>, bool)],
    preference: Preference,
    count: usize,
) -> Vec<usize> {
    let all = devices.iter().enumerate();
    let (own, free): (Vec<_>, Vec<_>) = all.partition(|(_, (_, held))| *held);
    let firsts = free
        .iter()
        .filter_map(|(_, (functions, _))| functions.first());
    let firsts: Vec<_> = firsts.copied().collect();
    let joined = together(&firsts, false).into_iter();
    let joined = joined.map(|set| {
        let members = set.into_iter().filter_map(|at| free.get(at));
        (Hand::Free, members.map(|(at, _)| *at).collect())
    });
    let alone = own.iter().map(|(at, _)| (Hand::Own, vec![*at]));
    let mut sets: Vec<(Hand, Vec<usize>)> = alone.chain(joined).collect();
    sets.sort_by_key(|(_, set)| set.first().copied());
    let pieces = sets.iter().map(|(hand, set)| {
        let members = set.iter().filter_map(|at| devices.get(*at));
        Piece {
            functions: members
                .flat_map(|(functions, _)| functions.clone())
                .collect(),
            devices: set.len(),
            hand: *hand,
        }
    });
    let pieces: Vec<_> = pieces.collect();
    let order = arrange(&pieces, preference, count).into_iter();
    // A set that is too large is at the end, and cut.
    let taken = order.filter_map(|at| sets.get(at)).flat_map(|(_, set)| set);
    let mut taken: Vec<usize> = taken.copied().take(count).collect();
    taken.sort_unstable();
    taken
}
