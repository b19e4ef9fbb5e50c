//! What helpers answer, as events for the engine.
//!
//! Pure: the kernel layer's words in, the engine's out.

use std::collections::BTreeMap;

use crate::{
    engine::{
        claims::{User, owner_of_vm},
        event::{Event, Outcome, Owned, Tuned},
        restore::Returned,
        sriov::{Made, Settled},
    },
    kernel::{
        helper::{
            pool::PoolError,
            protocol::{Reply, Request},
        },
        nodes, order, sriov, usage,
    },
    pci::address::Address,
    policy::guard,
};

/// What a helper's answer means to the engine.
pub(super) fn helped(
    address: Address,
    request: &Request,
    reply: Result<Reply, PoolError>,
) -> Event {
    match (request, reply) {
        (_, Ok(Reply::Inspected(inspection))) => Event::Inspected(address, Ok(inspection)),
        (_, Ok(Reply::Applied(outcome))) => Event::Applied(address, ended(outcome)),
        (_, Ok(Reply::Restored(returned))) => Event::Restored(address, back(returned)),
        (_, Ok(Reply::Holders(facts))) => {
            let holders = facts.iter().map(|fact| guard::judge(fact).1);
            Event::Holders(address, holders.collect())
        }
        (Request::Holders { .. }, Err(error)) => {
            let why = format!("who holds it cannot be found out: {error}");
            Event::Holders(address, vec![why])
        }
        // Asked besides, and no function waits for the answer.
        (_, Ok(Reply::Surveyed(_) | Reply::Handles(_) | Reply::Users(_)))
        | (Request::Survey | Request::Users { .. }, Err(_)) => Event::Tick,
        (_, Ok(Reply::Owned(owned))) => Event::Owned(address, whose(owned)),
        (Request::Own { .. }, Err(error)) => {
            Event::Owned(address, Owned::Failed(format!("cannot be asked: {error}")))
        }
        (_, Ok(Reply::Made(made))) => Event::Made(address, vfs(made)),
        (Request::MakeVfs(_), Err(error)) => {
            let text = format!("has VFs that cannot be made: {error}");
            Event::Made(address, Made::Failed(text))
        }
        (_, Ok(Reply::Settled(settled))) => Event::Settled(address, set(settled)),
        (Request::SettleVfs(_), Err(error)) => {
            let text = format!("has VFs that cannot be set: {error}");
            Event::Settled(address, Settled::Failed(text))
        }
        (_, Ok(Reply::Tuned(tuned))) => Event::Tuned(address, settings(tuned)),
        (Request::Tune(_), Err(error)) => {
            Event::Tuned(address, Tuned::Failed(format!("cannot be asked: {error}")))
        }
        (_, Ok(Reply::Withholding(result))) => Event::Withholding(address, result),
        (Request::Withhold { .. }, Err(error)) => {
            Event::Withholding(address, Err(error.to_string()))
        }
        (Request::Inspect { .. }, Err(error)) => {
            Event::Inspected(address, Err(format!("cannot be inspected: {error}")))
        }
        (Request::Apply(_), Err(error)) => {
            let step = "asking a helper".to_owned();
            let text = error.to_string();
            // How far one came that broke off, nobody knows.
            let touched = !matches!(error, PoolError::Start(_));
            let outcome = Outcome::Failed {
                step,
                text,
                touched,
            };
            Event::Applied(address, outcome)
        }
        (Request::Restore(_), Err(error)) => {
            let step = "asking a helper".to_owned();
            let text = error.to_string();
            let released = (!matches!(error, PoolError::Start(_))).then_some(true);
            let returned = Returned::Failed {
                step,
                text,
                released,
            };
            Event::Restored(address, returned)
        }
    }
}

/// Who uses which functions, in the engine's terms.
pub(super) fn users(users: BTreeMap<Address, usage::User>) -> BTreeMap<Address, User> {
    let users = users.into_iter();
    users
        .map(|(address, user)| {
            let user = User {
                clause: user.clause,
                owner: user.vm.map(owner_of_vm),
            };
            (address, user)
        })
        .collect()
}

fn ended(outcome: order::Outcome) -> Outcome {
    match outcome {
        order::Outcome::Bound {
            from,
            driver,
            fallback,
        } => Outcome::Bound {
            from,
            driver,
            fallback,
        },
        order::Outcome::AlreadyBound => Outcome::AlreadyBound,
        order::Outcome::Gone => Outcome::Gone,
        order::Outcome::Refused { text } => Outcome::Refused(text),
        order::Outcome::Failed { step, text } => Outcome::Failed {
            step: step.as_str().to_owned(),
            text,
            touched: step.touches(),
        },
    }
}

fn whose(owned: nodes::Owned) -> Owned {
    match owned {
        nodes::Owned::Set(nodes) => Owned::Set(nodes),
        nodes::Owned::Unbound => Owned::Unbound,
        nodes::Owned::Failed { text } => Owned::Failed(text),
    }
}

fn vfs(made: sriov::Made) -> Made {
    match made {
        sriov::Made::Has { before, now } => Made::Has { before, now },
        sriov::Made::Gone => Made::Gone,
        sriov::Made::Refused { text } => Made::Refused(text),
        sriov::Made::Failed { text } => Made::Failed(text),
        sriov::Made::Back { now, text } => Made::Back { now, text },
    }
}

fn set(settled: sriov::Settled) -> Settled {
    match settled {
        sriov::Settled::Done {
            changed,
            wrong,
            waiting,
        } => Settled::Done {
            changed,
            wrong,
            waiting,
        },
        sriov::Settled::Gone => Settled::Gone,
        sriov::Settled::Failed { text } => Settled::Failed(text),
    }
}

fn settings(tuned: order::Tuned) -> Tuned {
    match tuned {
        order::Tuned::Set { changed, found } => Tuned::Set { changed, found },
        order::Tuned::Unbound => Tuned::Unbound,
        order::Tuned::Refused { text } => Tuned::Refused(text),
        order::Tuned::Failed { text } => Tuned::Failed(text),
    }
}

fn back(returned: order::Returned) -> Returned {
    match returned {
        order::Returned::Given { driver } => Returned::Given(driver),
        order::Returned::Untaken { text } => Returned::Untaken(text),
        order::Returned::Gone => Returned::Gone,
        order::Returned::Refused { text, released } => Returned::Refused { text, released },
        order::Returned::Failed {
            step,
            text,
            released,
        } => Returned::Failed {
            step: step.as_str().to_owned(),
            text,
            released: Some(released),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernel::usage::Handles, pci::usage::Fact};

    #[test]
    fn holders_are_told_as_any_evidence_is_and_a_failed_look_as_well() {
        let address: Address = "0000:01:00.0".parse().unwrap();
        let request = Request::Holders {
            address,
            before: Handles::default(),
        };
        let open = Fact::NodeOpen {
            subsystem: "sound".to_owned(),
            node: "controlC0".to_owned(),
            process: "pipewire (pid 812, pipewire.service)".to_owned(),
        };
        for (reply, wanted) in [
            (
                Ok(Reply::Holders(vec![open])),
                &["pipewire (pid 812, pipewire.service) has controlC0 open"][..],
            ),
            (Ok(Reply::Holders(Vec::new())), &[]),
            (
                Err(PoolError::Ended),
                &["who holds it cannot be found out: helper ended without an answer"],
            ),
        ] {
            let Event::Holders(of, found) = helped(address, &request, reply) else {
                unreachable!("it was looked for holders");
            };
            assert_eq!(
                (of, found.as_slice()),
                (
                    address,
                    &wanted
                        .iter()
                        .map(|one| (*one).to_owned())
                        .collect::<Vec<_>>()[..]
                )
            );
        }
    }
}
