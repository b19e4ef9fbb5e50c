//! Varlink: the questions of hooks, over a socket of the daemon's own.
//!
//! What a hook needs of D-Bus in fewer steps: no bus has to be there, let anybody
//! in and pass on four messages before one question is answered. Owns who may ask
//! what; the answers are those of D-Bus. Anyone may read; whoever changes something
//! is root, for polkit knows callers by their names on the bus.
//!
//! Source: varlink.org, Service and Method call; `varlinkctl` (systemd 255) talks
//! to it.

pub mod message;

use std::{io, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, watch},
    time::{sleep, timeout},
};

use self::message::{
    Addresses, Call, Claim, END, INTERFACE, LONGEST_CALL, Mapping, Named, Owner, Reason, Reply,
    Status,
};
use super::{
    api::{BusError, answer},
    request::{self, Lasts, Request, Wish},
    wish::named,
};
use crate::engine::{claims::Share, snapshot::Snapshot};

/// Everything about the interface, for whoever introspects.
const DESCRIPTION: &str = include_str!("org.vfiobindd1.varlink");
const SERVICE: &str = "org.varlink.service";
/// How many may be connected who are not root: nobody can use up the daemon's files.
const STRANGERS: usize = 64;
/// How long a caller may say nothing, or not read its answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long nothing is accepted after that failed: there may be no descriptors.
const BREAK: Duration = Duration::from_secs(1);

/// Answers at `listener` for ever.
pub async fn serve(
    listener: UnixListener,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    requests: mpsc::Sender<Request>,
) {
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    loop {
        let accepted = listener.accept().await;
        let accepted = accepted.and_then(|(stream, _)| {
            let uid = stream.peer_cred()?.uid();
            Ok((stream, uid))
        });
        let (stream, uid) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!("a caller at the socket was not heard: {error}");
                sleep(BREAK).await;
                continue;
            }
        };
        let permit = if uid == 0 {
            None
        } else {
            // Whoever is let go asks over D-Bus.
            let Ok(permit) = Arc::clone(&strangers).try_acquire_owned() else {
                continue;
            };
            Some(permit)
        };
        let caller = Caller {
            uid,
            snapshots: snapshots.clone(),
            requests: requests.clone(),
        };
        tokio::spawn(async move {
            if let Err(error) = caller.attend(stream).await {
                tracing::debug!("a caller at the socket left: {error}");
            }
            drop(permit);
        });
    }
}

/// Somebody who is connected.
struct Caller {
    uid: u32,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    requests: mpsc::Sender<Request>,
}

/// Why there is no result.
enum Fault {
    Own(BusError),
    /// Of the protocol itself: the error's name, and what belongs to it.
    Protocol(&'static str, Value),
}

impl From<BusError> for Fault {
    fn from(error: BusError) -> Self {
        Self::Own(error)
    }
}

impl Caller {
    /// Answers one call after the other.
    async fn attend(&self, stream: UnixStream) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut text = Vec::new();
        loop {
            text.clear();
            let mut limited = (&mut stream).take(LONGEST_CALL);
            let read = timeout(PATIENCE, limited.read_until(END, &mut text)).await??;
            if read == 0 {
                return Ok(());
            }
            if text.pop() != Some(END) {
                return Err(io::Error::other("a call without an end"));
            }
            let call: Call = serde_json::from_slice(&text)?;
            let oneway = call.oneway;
            let reply = self.reply(call).await;
            if oneway {
                continue;
            }
            let mut text = serde_json::to_vec(&reply)?;
            text.push(END);
            timeout(PATIENCE, stream.write_all(&text)).await??;
        }
    }

    async fn reply(&self, call: Call) -> Reply {
        let (error, parameters) = match self.result(call).await {
            Ok(parameters) => (None, parameters),
            Err(Fault::Protocol(name, parameters)) => {
                (Some(format!("{SERVICE}.{name}")), parameters)
            }
            Err(Fault::Own(error)) => {
                let (name, reason) = error.name_and_text();
                let reason = json!(Reason { reason });
                (Some(format!("{INTERFACE}.{name}")), reason)
            }
        };
        let parameters = match parameters {
            Value::Object(parameters) => parameters,
            _ => Map::new(),
        };
        Reply { error, parameters }
    }

    async fn result(&self, call: Call) -> Result<Value, Fault> {
        let unknown = |name: &str| {
            let parameters = json!({ "method": name });
            Fault::Protocol("MethodNotFound", parameters)
        };
        let (interface, method) = call
            .method
            .rsplit_once('.')
            .ok_or_else(|| unknown(&call.method))?;
        match (interface, method) {
            (INTERFACE, "Resolve") => {
                let Named { mapping } = read(call.parameters)?;
                let addresses = answer(&self.snapshots.borrow(), &mapping)?;
                written(&Addresses { addresses })
            }
            (INTERFACE, "Status") => written(&status(&self.snapshots.borrow())),
            (INTERFACE, "Claim") => {
                self.may_change()?;
                let wish = wish(read(call.parameters)?)?;
                let addresses = request::reserve(&self.snapshots, &self.requests, wish).await?;
                written(&Addresses { addresses })
            }
            (INTERFACE, "Release") => {
                self.may_change()?;
                let Owner { owner } = read(call.parameters)?;
                request::release(&self.requests, owner, self.uid).await?;
                Ok(Value::Null)
            }
            (SERVICE, "GetInfo") => Ok(json!({
                "vendor": "The vfio-bindd developers",
                "product": "vfio-bindd",
                "version": env!("CARGO_PKG_VERSION"),
                "url": "",
                "interfaces": [SERVICE, INTERFACE],
            })),
            (SERVICE, "GetInterfaceDescription") => {
                let asked = call.parameters.get("interface").and_then(Value::as_str);
                match asked {
                    Some(INTERFACE) => Ok(json!({ "description": DESCRIPTION })),
                    Some(other) => {
                        let parameters = json!({ "interface": other });
                        Err(Fault::Protocol("InterfaceNotFound", parameters))
                    }
                    None => {
                        let parameters = json!({ "parameter": "interface" });
                        Err(Fault::Protocol("InvalidParameter", parameters))
                    }
                }
            }
            (INTERFACE | SERVICE, _) => Err(unknown(&call.method)),
            _ => {
                let parameters = json!({ "interface": interface });
                Err(Fault::Protocol("InterfaceNotFound", parameters))
            }
        }
    }

    /// Only root may, whom nobody has to be asked about.
    fn may_change(&self) -> Result<(), BusError> {
        if self.uid == 0 {
            return Ok(());
        }
        Err(BusError::AccessDenied(format!(
            "over this socket only root may do this, and over D-Bus whom polkit allows it; the \
             caller's uid is {}",
            self.uid
        )))
    }
}

fn read<T: DeserializeOwned>(parameters: Value) -> Result<T, BusError> {
    serde_json::from_value(parameters).map_err(|error| BusError::InvalidArgument(error.to_string()))
}

fn written(result: &impl Serialize) -> Result<Value, Fault> {
    serde_json::to_value(result).map_err(|error| Fault::Own(BusError::NotReady(error.to_string())))
}

fn status(snapshot: &Snapshot) -> Status {
    let mappings = snapshot.mappings.iter().map(|(name, view)| {
        let mapping = Mapping {
            state: view.state.to_string(),
            reason: view.reason.clone(),
            addresses: view.addresses.clone(),
            beside: view.beside.clone(),
            claims: view.claims.clone(),
            proxmox: view.proxmox.clone(),
        };
        (name.clone(), mapping)
    });
    Status {
        state: snapshot.state.to_string(),
        reason: snapshot.reason.clone(),
        generation: snapshot.generation,
        mappings: mappings.collect(),
    }
}

/// What root wants, if it can be understood.
fn wish(claim: Claim) -> Result<Wish, BusError> {
    named(&claim.owner)?;
    let lasts = match (claim.pid, claim.ttl_usec) {
        (None, None) => Lasts::UntilReleased,
        (Some(pid), None) => Lasts::Process(pid),
        (None, Some(usec)) => Lasts::For(Duration::from_micros(usec)),
        (Some(_), Some(_)) => {
            let text = "pid and ttlUsec exclude one another";
            return Err(BusError::InvalidArgument(text.to_owned()));
        }
    };
    let these = claim.addresses.map(|these| these.into_iter().collect());
    Ok(Wish {
        mapping: claim.mapping,
        owner: claim.owner,
        uid: 0,
        share: these.map_or(Share::All, Share::These),
        prefer_numa: None,
        placement: None,
        lasts,
    })
}
