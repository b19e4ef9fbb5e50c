//! Who calls: whether they may, and whether they still wait.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use zbus::{
    Connection, Message, Variant,
    message::{self, Header},
};

use super::{api::BusError, request::Request};
use crate::engine::{claims::Lifetime, snapshot::Snapshot};

/// How often it is checked whether a caller still waits for its answer.
const CHECK: Duration = Duration::from_secs(2);
/// How long polkit may take to say what it knows.
const POLKIT: Duration = Duration::from_secs(5);
/// How long a person may take who is asked for a password.
const PERSON: Duration = Duration::from_secs(120);

/// Comes back once the caller is not on the bus any more, or no bus is there.
pub(super) async fn left(connection: &Connection, header: &Header<'_>) {
    loop {
        tokio::select! {
            () = connection.closed() => return,
            () = sleep(CHECK) => {}
        }
        let Some(caller) = header.sender() else {
            continue;
        };
        if has_left(connection, caller.as_str()).await {
            return;
        }
    }
}

/// Whether nobody has that name any more. What cannot be asked is asked again.
async fn has_left(connection: &Connection, name: &str) -> bool {
    let reply = ask_bus(connection, "NameHasOwner", name).await;
    let here = reply.and_then(|reply| reply.body().deserialize());
    matches!(here, Ok(false))
}

/// Tells the daemon who has left of those whose claims last as long as their
/// connections. Comes back when the daemon ends.
pub(super) async fn watch_claimers(
    connection: &Connection,
    snapshots: &watch::Receiver<Arc<Snapshot>>,
    requests: &mpsc::Sender<Request>,
) {
    let bus = connection.server_guid().to_string();
    // Those of another bus are gone with it.
    let mut told: Option<BTreeSet<String>> = None;
    loop {
        let claims = snapshots.borrow().claims.clone();
        let mut left = BTreeSet::new();
        let mut others = false;
        for claim in claims {
            let Lifetime::Caller { name, bus: on } = claim.lifetime else {
                continue;
            };
            others |= on != bus;
            if on == bus && !left.contains(&name) && has_left(connection, &name).await {
                left.insert(name);
            }
        }
        let news = (others || !left.is_empty()) && told.as_ref() != Some(&left);
        told = Some(left.clone());
        if news {
            let request = Request::CallersLeft {
                bus: bus.clone(),
                names: left,
            };
            if requests.send(request).await.is_err() {
                return;
            }
        }
        sleep(CHECK).await;
    }
}

async fn ask_bus(connection: &Connection, question: &str, name: &str) -> zbus::Result<Message> {
    let bus = "org.freedesktop.DBus";
    let path = "/org/freedesktop/DBus";
    connection
        .call_method(Some(bus), path, Some(bus), question, &name)
        .await
}

/// What a caller wants to do that not everybody may.
#[derive(Clone, Copy, Debug)]
pub(super) enum Right {
    /// Change what the daemon does.
    Manage,
    /// Have functions for itself.
    Claim,
}

impl Right {
    /// The action's name in `packaging/org.vfiobindd1.policy`.
    const fn action(self) -> &'static str {
        match self {
            Self::Manage => "org.vfiobindd1.manage",
            Self::Claim => "org.vfiobindd1.claim",
        }
    }
}

/// The user who calls, if it is root or polkit says that they may. Without
/// polkit it is root only.
pub(super) async fn authorized(
    connection: &Connection,
    header: &Header<'_>,
    right: Right,
) -> Result<u32, BusError> {
    let denied = |why: &str| {
        let action = right.action();
        BusError::AccessDenied(format!(
            "only root may do this, and whom polkit allows {action}; {why}"
        ))
    };
    let sender = header
        .sender()
        .ok_or_else(|| denied("the caller has no name"))?;
    let reply = ask_bus(connection, "GetConnectionUnixUser", sender.as_str()).await?;
    let uid: u32 = reply.body().deserialize()?;
    if uid == 0 {
        return Ok(uid);
    }
    let flags = header.primary().flags();
    let may_ask = flags.contains(message::Flags::ALLOW_INTERACTIVE_AUTH);
    match ask_polkit(connection, sender.as_str(), right.action(), may_ask).await {
        Ok(true) => Ok(uid),
        Ok(false) => Err(denied(&format!("the caller's uid is {uid}"))),
        Err(error) => Err(denied(&format!(
            "the caller's uid is {uid}, and polkit does not say: {error}"
        ))),
    }
}

/// Whether polkit lets the connection do that. With `may_ask`, a person may be
/// asked for a password first.
///
/// Source: polkit's reference, `org.freedesktop.PolicyKit1.Authority`.
async fn ask_polkit(
    connection: &Connection,
    sender: &str,
    action: &str,
    may_ask: bool,
) -> zbus::Result<bool> {
    let name = HashMap::from([("name", Variant::from(sender))]);
    let subject = ("system-bus-name", name);
    let details: HashMap<&str, &str> = HashMap::new();
    let asked = (subject, action, details, u32::from(may_ask), "");
    let call = connection.call_method(
        Some("org.freedesktop.PolicyKit1"),
        "/org/freedesktop/PolicyKit1/Authority",
        Some("org.freedesktop.PolicyKit1.Authority"),
        "CheckAuthorization",
        &asked,
    );
    let limit = if may_ask { PERSON } else { POLKIT };
    let late = || zbus::Error::Failure("it does not answer".to_owned());
    let reply = timeout(limit, call).await.map_err(|_| late())??;
    let ((may, _, _),): ((bool, bool, HashMap<String, String>),) = reply.body().deserialize()?;
    Ok(may)
}
