//! An engine that is driven by hand: its effects are answered by a host that a
//! test makes up, on a clock that moves only as far as the engine asks.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::time::Duration;

use vfio_bindd::{
    engine::{
        event::{Effect, Event},
        state::State,
    },
    pci::{function::Function, inventory::Inventory},
};

/// An engine and when it is.
pub(crate) struct Engine {
    pub(crate) state: State,
    /// Since its start.
    pub(crate) now: Duration,
}

impl Engine {
    pub(crate) fn new(state: State) -> Self {
        Self {
            state,
            now: Duration::ZERO,
        }
    }
}

/// What a scan and an observation see of these functions: nothing that takes an
/// inspection.
pub(crate) fn seen(inventory: &Inventory, effect: &Effect) -> Option<Event> {
    let blank = |function: &Function| Function {
        inspection: None,
        ..function.clone()
    };
    match effect {
        Effect::Scan => Some(Event::Scanned(Ok(inventory.iter().map(blank).collect()))),
        Effect::Observe(address) => {
            let function = inventory.get(*address).map(blank);
            Some(Event::Observed(*address, function.map(Box::new)))
        }
        _ => None,
    }
}

/// Whoever answers an engine's effects.
pub(crate) trait Drive {
    fn engine(&mut self) -> &mut Engine;

    /// What comes of `effect`, `None` if that is nothing yet.
    fn answer(&mut self, effect: Effect) -> Option<Event>;

    /// Gives `event`, and answers all that comes of it.
    fn event(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let Engine { state, now } = self.engine();
            for effect in state.handle(event, *now) {
                events.extend(self.answer(effect));
            }
            let Engine { state, now } = self.engine();
            if events.is_empty()
                && let Some(at) = state.next_tick(*now)
                && at <= *now + Duration::from_millis(50)
            {
                *now = at.max(*now);
                events.push(Event::Tick);
            }
        }
    }

    /// Lets time pass.
    fn wait(&mut self, time: Duration) {
        let end = self.engine().now + time;
        loop {
            let Engine { state, now } = self.engine();
            let Some(at) = state.next_tick(*now).filter(|at| *at <= end) else {
                break;
            };
            *now = at.max(*now);
            self.event(Event::Tick);
        }
        self.engine().now = end;
    }
}
