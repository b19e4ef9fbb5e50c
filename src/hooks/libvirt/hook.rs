//! The arguments of libvirt's qemu hook: `DOMAIN OPERATION SUB-OPERATION EXTRA`.
//!
//! The domain's XML comes on stdin (`domain` reads it); what the hook prints
//! is heeded by `migrate` and `restore` only. Source: libvirt hooks.

/// What the domain is about to do, or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is to start; no host device was touched.
    Prepare,
    /// Its host devices are ready, the emulator is about to run.
    Start,
    /// The emulator runs.
    Started,
    /// The emulator has ended; the host devices are still libvirt's.
    Stopped,
    /// All that the domain had is given back.
    Release,
    /// The daemon was restarted and has found the domain running.
    Reconnect,
    /// It comes in from another host.
    Migrate,
    /// It is restored from a file.
    Restore,
    /// A running emulator was attached.
    Attach,
    /// One that a later libvirt has.
    Other(String),
}

impl Operation {
    fn read(text: &str) -> Self {
        match text {
            "prepare" => Self::Prepare,
            "start" => Self::Start,
            "started" => Self::Started,
            "stopped" => Self::Stopped,
            "release" => Self::Release,
            "reconnect" => Self::Reconnect,
            "migrate" => Self::Migrate,
            "restore" => Self::Restore,
            "attach" => Self::Attach,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Whether the hook may exit with a failure.
    ///
    /// `prepare` only: its failure keeps the domain from starting and costs
    /// nothing else. That of `reconnect` would kill a running emulator, and
    /// what a later libvirt calls us for is not ours to stop.
    #[must_use]
    pub fn may_fail(&self) -> bool {
        matches!(self, Self::Prepare)
    }
}

/// One call of the hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The domain's name.
    pub domain: String,
    /// What it is about.
    pub operation: Operation,
    /// `begin` or `end`.
    pub sub_operation: String,
    /// Why the domain ended, for `release` (since libvirt 10.5).
    pub extra: Option<String>,
}

/// Arguments that are not those of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the qemu hook is called with DOMAIN OPERATION SUB-OPERATION EXTRA, not with {0} arguments"
)]
pub struct CallError(usize);

impl Call {
    /// Reads the arguments that follow the program's name; `-` stands for
    /// nothing, and what follows the four is not ours to judge.
    ///
    /// # Errors
    /// If there are fewer than the domain, the operation and the sub-operation.
    pub fn read(arguments: &[String]) -> Result<Self, CallError> {
        let [domain, operation, sub_operation, rest @ ..] = arguments else {
            return Err(CallError(arguments.len()));
        };
        Ok(Self {
            domain: domain.clone(),
            operation: Operation::read(operation),
            sub_operation: sub_operation.clone(),
            extra: rest.first().filter(|extra| *extra != "-").cloned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Call, CallError> {
        let arguments: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        Call::read(&arguments)
    }

    #[test]
    fn each_operation_is_known_and_only_prepare_may_fail() {
        for (text, operation) in [
            ("vm prepare begin -", Operation::Prepare),
            ("vm start begin -", Operation::Start),
            ("vm started begin -", Operation::Started),
            ("vm stopped end -", Operation::Stopped),
            ("vm release end -", Operation::Release),
            ("vm reconnect begin -", Operation::Reconnect),
            ("vm migrate begin -", Operation::Migrate),
            ("vm restore begin -", Operation::Restore),
            ("vm attach begin -", Operation::Attach),
            ("vm Prepare begin -", Operation::Other("Prepare".to_owned())),
        ] {
            let call = read(text).unwrap();
            assert_eq!(call.operation, operation, "{text}");
            assert_eq!(call.operation.may_fail(), operation == Operation::Prepare);
            assert_eq!((call.domain.as_str(), call.extra), ("vm", None));
        }
    }

    #[test]
    fn extra_says_why_it_ended() {
        let call = read("vm release end crashed more").unwrap();
        assert_eq!(call.extra.as_deref(), Some("crashed"));
        assert_eq!(call.sub_operation, "end");
        assert_eq!(read("vm stopped end").unwrap().extra, None);
    }

    #[test]
    fn too_few_are_an_error() {
        for (text, count) in [("", 0), ("vm", 1), ("vm prepare", 2)] {
            assert_eq!(read(text), Err(CallError(count)));
        }
    }
}
