//! The board: pieces on the tree of places that they are in, chosen one by one.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BTreeSet},
    iter,
};

use super::{Hand, Piece, Placement, Preference};
use crate::pci::{
    function::{Function, Role},
    topology,
};

/// Those of `pieces` that can be chosen, by their places in it, in the order in
/// which `count` devices are to be chosen. A piece that is more than is still
/// wanted when its turn comes is put off to the end.
#[must_use]
pub fn arrange(pieces: &[Piece<'_>], preference: Preference, count: usize) -> Vec<usize> {
    let mut board = Board::of(pieces, count);
    let mut ranks: BTreeMap<(bool, bool), Vec<usize>> = BTreeMap::new();
    for (number, piece) in pieces.iter().enumerate() {
        let far = preference.numa.is_some_and(|node| !piece.is_on(node));
        if piece.hand != Hand::Others {
            let rank = ranks.entry((piece.hand == Hand::Free, far));
            rank.or_default().push(number);
        }
    }
    for these in ranks.values() {
        match preference.placement {
            Placement::Address => these.iter().for_each(|piece| board.choose(*piece)),
            Placement::Spread => board.spread(these),
            Placement::Pack => board.pack(these, 0),
        }
    }
    let chosen: BTreeSet<_> = board.order.iter().copied().collect();
    let rest = ranks.into_values().flatten();
    board
        .order
        .extend(rest.filter(|piece| !chosen.contains(piece)));
    board.order
}

/// What is chosen, and what that leaves.
struct Board<'a, 'b> {
    pieces: &'a [Piece<'b>],
    /// The places that each piece is in, the widest first; the last is its own.
    paths: Vec<Vec<usize>>,
    /// How many devices of each place are chosen.
    own: Vec<usize>,
    /// How many somebody else has.
    others: Vec<usize>,
    /// How many more are wanted.
    left: usize,
    order: Vec<usize>,
}

impl<'a, 'b> Board<'a, 'b> {
    fn of(pieces: &'a [Piece<'b>], count: usize) -> Self {
        let mut places = BTreeMap::new();
        let mut paths = Vec::new();
        for (number, piece) in pieces.iter().enumerate() {
            let mut levels = piece
                .functions
                .first()
                .map_or_else(Vec::new, |one| levels(one));
            levels.push(format!("piece {number}"));
            let mut path = Vec::new();
            for level in levels {
                let new = places.len();
                path.push(*places.entry((path.last().copied(), level)).or_insert(new));
            }
            paths.push(path);
        }
        let mut board = Self {
            pieces,
            paths,
            own: vec![0; places.len()],
            others: vec![0; places.len()],
            left: count,
            order: Vec::new(),
        };
        for (number, piece) in pieces.iter().enumerate() {
            if piece.hand == Hand::Others {
                let path = board.paths.get(number).into_iter().flatten();
                add(&mut board.others, path, piece.devices);
            }
        }
        board
    }

    fn devices(&self, piece: usize) -> usize {
        self.pieces.get(piece).map_or(0, |piece| piece.devices)
    }

    fn path(&self, piece: usize) -> &[usize] {
        self.paths.get(piece).map_or(&[], Vec::as_slice)
    }

    /// Chooses the piece, unless it is more than is wanted.
    fn choose(&mut self, piece: usize) {
        let devices = self.devices(piece);
        if devices > self.left {
            return;
        }
        self.left -= devices;
        let path = self.paths.get(piece).into_iter().flatten();
        add(&mut self.own, path, devices);
        self.order.push(piece);
    }

    /// Each time the piece of which the widest place has the fewest chosen ones,
    /// then the next narrower one; among equals where others have the fewest.
    fn spread(&mut self, these: &[usize]) {
        let mut rest = these.to_vec();
        loop {
            rest.retain(|piece| self.devices(*piece) <= self.left);
            let least = (0..rest.len()).min_by(|one, other| {
                let of = |at: &usize| rest.get(*at).copied().unwrap_or_default();
                self.busier(of(one), of(other))
            });
            let Some(least) = least.filter(|_| self.left > 0) else {
                return;
            };
            let piece = rest.remove(least);
            self.choose(piece);
        }
    }

    fn busier(&self, one: usize, other: usize) -> Ordering {
        // One may be behind more bridges than the other: nothing is there twice.
        let longest = self.path(one).len().max(self.path(other).len());
        let compare = |loads: &[usize]| {
            let loads = |piece: usize| {
                let places = self.path(piece).iter();
                let loads = places.map(|place| loads.get(*place).copied().unwrap_or_default());
                loads.chain(iter::repeat(0)).take(longest)
            };
            loads(one).cmp(loads(other))
        };
        compare(&self.own).then_with(|| compare(&self.others))
    }

    /// From the narrowest places that have enough, and if none has from the one
    /// with most; where some of it is chosen already, from there before all.
    fn pack(&mut self, these: &[usize], depth: usize) {
        if let [piece] = these {
            self.choose(*piece);
            return;
        }
        let mut places: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for piece in these {
            if let Some(place) = self.path(*piece).get(depth) {
                places.entry(*place).or_default().push(*piece);
            }
        }
        while self.left > 0 {
            let best = places.iter().min_by_key(|(place, pieces)| {
                let room: usize = pieces.iter().map(|piece| self.devices(*piece)).sum();
                let own = self.own.get(**place).copied().unwrap_or_default();
                let missing = self.left.saturating_sub(room);
                let over = room.saturating_sub(self.left);
                (Reverse(own), missing, over, pieces.first().copied())
            });
            let Some(best) = best.map(|(place, _)| *place) else {
                return;
            };
            let pieces = places.remove(&best).unwrap_or_default();
            self.pack(&pieces, depth + 1);
        }
    }
}

fn add<'p>(loads: &mut [usize], path: impl Iterator<Item = &'p usize>, devices: usize) {
    for place in path {
        if let Some(load) = loads.get_mut(*place) {
            *load += devices;
        }
    }
}

/// The places that a function is in, the widest first: its node, its host bridge,
/// the bridges down to it, its card, and of a VF its PF, behind whose port it is.
fn levels(function: &Function) -> Vec<String> {
    let node = function.numa_node;
    let mut levels = vec![
        node.map_or_else(String::new, |node| node.to_string()),
        topology::root_bus(&function.path).to_owned(),
    ];
    let bridges = topology::bridges(&function.path).into_iter();
    levels.extend(bridges.map(str::to_owned));
    match &function.role {
        Role::Vf { pf, .. } => levels.extend([pf.slot().to_string(), pf.to_string()]),
        _ => levels.push(function.address.slot().to_string()),
    }
    levels
}
