//! Callers on D-Bus that wait until something was read.
//!
//! Owns who gets which result: a read that began before somebody asked may
//! have missed what they ask for, so it is the next one that answers them.

use tokio::sync::oneshot;

type Caller = oneshot::Sender<Result<(), String>>;

/// Those who wait for reads of one kind, of which one at a time is under way.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    for_this: Vec<Caller>,
    for_next: Vec<Caller>,
}

/// Those who can be answered.
#[derive(Debug)]
pub(super) struct Answered(Vec<Caller>);

impl Waiting {
    /// One more; the read that begins next is for it.
    pub(super) fn add(&mut self, caller: Caller) {
        self.for_next.push(caller);
    }

    /// A read begins.
    pub(super) fn begun(&mut self) {
        self.for_this.append(&mut self.for_next);
    }

    /// The read that was under way is over.
    pub(super) fn done(&mut self) -> Answered {
        Answered(std::mem::take(&mut self.for_this))
    }
}

impl Answered {
    /// Tells them all; one that went away needs no answer.
    pub(super) fn answer(self, result: &Result<(), String>) {
        for caller in self.0 {
            if caller.send(result.clone()).is_err() {
                tracing::debug!("a caller did not wait for its answer");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_began_earlier_answers_nobody() {
        let mut waiting = Waiting::default();
        let (early, mut early_heard) = oneshot::channel();
        let (late, mut late_heard) = oneshot::channel();
        waiting.add(early);
        waiting.begun();
        waiting.add(late);
        waiting.done().answer(&Err("no".to_owned()));
        assert_eq!(early_heard.try_recv().unwrap(), Err("no".to_owned()));
        assert!(late_heard.try_recv().is_err());
        waiting.begun();
        waiting.done().answer(&Ok(()));
        assert_eq!(late_heard.try_recv().unwrap(), Ok(()));
    }
}
