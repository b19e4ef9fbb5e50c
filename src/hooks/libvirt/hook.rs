//! What libvirt's qemu hook is called for.
//!
//! Its arguments are the domain, an operation, a sub-operation and why the domain
//! ended; the domain's XML comes on stdin (`domain` reads it). What the hook prints
//! is heeded by `migrate` and `restore` only. Source: libvirt hooks.

/// What a call means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The domain is to start; no host device was touched.
    Starts,
    /// Its emulator runs: it was started, or a daemon that was restarted, or
    /// attached to it, has found it.
    Runs,
    /// All that it had is given back.
    Released,
    /// Nothing to do. `start`: its devices were judged already. `stopped`: they are
    /// libvirt's still. `migrate` and `restore`: it comes in, and `prepare` follows.
    /// All else is of a libvirt that is yet to come.
    Other,
}

impl Moment {
    /// Of an operation with its sub-operation.
    #[must_use]
    pub fn of(operation: &str, sub_operation: &str) -> Self {
        match (operation, sub_operation) {
            ("prepare", "begin") => Self::Starts,
            ("started" | "reconnect" | "attach", "begin") => Self::Runs,
            ("release", "end") => Self::Released,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_its_moment() {
        for (operation, sub_operation, moment) in [
            ("prepare", "begin", Moment::Starts),
            ("start", "begin", Moment::Other),
            ("started", "begin", Moment::Runs),
            ("stopped", "end", Moment::Other),
            ("release", "end", Moment::Released),
            ("reconnect", "begin", Moment::Runs),
            ("migrate", "begin", Moment::Other),
            ("restore", "begin", Moment::Other),
            ("attach", "begin", Moment::Runs),
            ("prepare", "end", Moment::Other),
            ("Prepare", "begin", Moment::Other),
            ("", "", Moment::Other),
        ] {
            assert_eq!(Moment::of(operation, sub_operation), moment, "{operation}");
        }
    }
}
