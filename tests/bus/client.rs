//! A caller: calls, properties, and signals as lines of text.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    pin::Pin,
    time::Duration,
};

use futures_core::Stream as _;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use vfio_bindd::bus::api::{MANAGER, NAME, ROOT};
use zbus::{
    Connection, DBusError as _, DynamicType, MatchRule, Message, MessageStream, OwnedObjectPath,
    OwnedVariant, connection::Builder,
};

/// The longest that anything is waited for; only a failing test waits so long.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// Longer than any test: whoever waits so long waits for something else.
pub(crate) const FOR_EVER: u64 = u64::MAX;

pub(crate) const BUS: (&str, &str, &str) = (
    "org.freedesktop.DBus",
    "/org/freedesktop/DBus",
    "org.freedesktop.DBus",
);

/// The name on the wire and the sentence.
pub(crate) type Refusal = (String, String);

pub(crate) type Objects = BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>;

type Wire = HashMap<OwnedObjectPath, BTreeMap<String, BTreeMap<String, OwnedVariant>>>;

/// What `future` gives, which it does soon or never.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(LIMIT, future).await.unwrap()
}

/// Waits until `check` holds.
pub(crate) async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let held = timeout(LIMIT, async {
        while !check().await {
            sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(held.await.is_ok(), "in vain: {what}");
}

#[derive(Clone)]
pub(crate) struct Client(pub(crate) Connection);

impl Client {
    pub(crate) async fn new(address: &str) -> Self {
        Self(soon(Builder::address(address).build()).await.unwrap())
    }

    /// Waits until the service has its name.
    pub(crate) async fn served(address: &str) -> Self {
        let client = Self::new(address).await;
        until("the service has its name", async || {
            client.owner().await.is_ok()
        })
        .await;
        client
    }

    /// Any call; the answer as a message.
    pub(crate) async fn send<B>(
        &self,
        (to, path, interface): (&str, &str, &str),
        member: &str,
        body: &B,
    ) -> Result<Message, Refusal>
    where
        B: serde::Serialize + DynamicType,
    {
        let call = self
            .0
            .call_method(Some(to), path, Some(interface), member, body);
        match soon(call).await {
            Ok(message) => Ok(message),
            Err(zbus::Error::MethodError(name, text, _)) => {
                Err((name.to_string(), text.unwrap_or_default()))
            }
            Err(zbus::Error::FDO(error)) => Err((
                error.name().to_string(),
                error.description().unwrap_or_default().to_owned(),
            )),
            Err(error) => Err((String::new(), error.to_string())),
        }
    }

    /// The unique name that has ours.
    pub(crate) async fn owner(&self) -> Result<String, Refusal> {
        let reply = self.send(BUS, "GetNameOwner", &NAME).await?;
        Ok(reply.body().deserialize::<String>().unwrap())
    }

    pub(crate) async fn resolve(&self, mapping: &str) -> Result<Vec<String>, Refusal> {
        let reply = self.send((NAME, ROOT, MANAGER), "Resolve", &mapping);
        Ok(reply.await?.body().deserialize().unwrap())
    }

    pub(crate) async fn resolve_wait(
        &self,
        mapping: &str,
        usec: u64,
    ) -> Result<Vec<String>, Refusal> {
        let body = (mapping, usec);
        let reply = self.send((NAME, ROOT, MANAGER), "ResolveWait", &body);
        Ok(reply.await?.body().deserialize().unwrap())
    }

    pub(crate) async fn reload(&self) -> Result<(), Refusal> {
        let reply = self.send((NAME, ROOT, MANAGER), "Reload", &());
        reply.await.map(drop)
    }

    pub(crate) async fn rescan(&self) -> Result<(), Refusal> {
        let reply = self.send((NAME, ROOT, MANAGER), "Rescan", &());
        reply.await.map(drop)
    }

    pub(crate) async fn rescan_take(&self) -> Result<(), Refusal> {
        let reply = self.send((NAME, ROOT, MANAGER), "RescanTake", &());
        reply.await.map(drop)
    }

    /// Gives back what this names, or all.
    pub(crate) async fn restore(&self, target: Option<&str>) -> Result<(), Refusal> {
        let to = (NAME, ROOT, MANAGER);
        let reply = match target {
            Some(target) => self.send(to, "Restore", &target).await,
            None => self.send(to, "RestoreAll", &()).await,
        };
        reply.map(drop)
    }

    /// The plan, as the JSON text that it is.
    pub(crate) async fn plan(&self) -> String {
        let reply = self.send((NAME, ROOT, MANAGER), "Plan", &()).await;
        reply.unwrap().body().deserialize().unwrap()
    }

    /// An explanation, as the JSON that it is.
    pub(crate) async fn explain(&self, target: &str) -> Result<serde_json::Value, Refusal> {
        let reply = self.send((NAME, ROOT, MANAGER), "Explain", &target);
        let json: String = reply.await?.body().deserialize().unwrap();
        Ok(serde_json::from_str(&json).unwrap())
    }

    /// All properties of an interface as text.
    pub(crate) async fn properties(
        &self,
        path: &str,
        interface: &str,
    ) -> Result<BTreeMap<String, String>, Refusal> {
        let properties = (NAME, path, "org.freedesktop.DBus.Properties");
        let reply = self.send(properties, "GetAll", &interface).await?;
        Ok(texts(reply.body().deserialize().unwrap()))
    }

    /// A text property of the manager.
    pub(crate) async fn manager(&self, property: &str) -> String {
        let properties = (NAME, ROOT, "org.freedesktop.DBus.Properties");
        let reply = self.send(properties, "Get", &(MANAGER, property)).await;
        let value: OwnedVariant = reply.unwrap().body().deserialize().unwrap();
        value.try_into().unwrap()
    }

    pub(crate) async fn introspect(&self, path: &str) -> String {
        let introspectable = (NAME, path, "org.freedesktop.DBus.Introspectable");
        let reply = self.send(introspectable, "Introspect", &()).await;
        reply.unwrap().body().deserialize().unwrap()
    }

    /// All objects that have an interface, by path below the root object.
    pub(crate) async fn objects(&self) -> Objects {
        let manager = (NAME, ROOT, "org.freedesktop.DBus.ObjectManager");
        let reply = self.send(manager, "GetManagedObjects", &()).await;
        let objects: Wire = reply.unwrap().body().deserialize().unwrap();
        objects
            .into_iter()
            .filter(|(_, interfaces)| !interfaces.is_empty())
            .map(|(path, interfaces)| {
                let interfaces = interfaces
                    .into_iter()
                    .map(|(name, properties)| (name, texts(properties)));
                (below(path.as_str()).to_owned(), interfaces.collect())
            })
            .collect()
    }

    /// From now on, what the service says by itself.
    pub(crate) async fn signals(&self) -> Signals {
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .path_namespace(ROOT)
            .build()
            .unwrap();
        self.listen(rule).await
    }

    /// From now on, who comes to the bus and goes.
    pub(crate) async fn comings(&self) -> Signals {
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .interface(BUS.2)
            .member("NameOwnerChanged")
            .build()
            .unwrap();
        self.listen(rule).await
    }

    async fn listen(&self, rule: MatchRule<'static>) -> Signals {
        let mut stream = soon(MessageStream::for_match_rule(rule, &self.0, None))
            .await
            .unwrap();
        let (sender, lines) = mpsc::unbounded_channel();
        // Taken off at once: an unread stream would hold up the connection.
        tokio::spawn(async move {
            while let Some(Ok(message)) =
                std::future::poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await
            {
                if sender.send(line(&message)).is_err() {
                    return;
                }
            }
        });
        Signals(lines)
    }
}

/// Signals in the order in which they came, one line each.
pub(crate) struct Signals(mpsc::UnboundedReceiver<String>);

impl Signals {
    pub(crate) async fn next(&mut self) -> String {
        soon(self.0.recv()).await.unwrap()
    }

    /// All up to the one that says `last`.
    pub(crate) async fn through(&mut self, last: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.last().map(String::as_str) != Some(last) {
            let Ok(Some(line)) = timeout(LIMIT, self.0.recv()).await else {
                assert_eq!(lines.join("\n"), last, "this one never came");
                break;
            };
            lines.push(line);
        }
        lines
    }
}

fn line(message: &Message) -> String {
    let header = message.header();
    let path = header.path().map_or("", |path| below(path.as_str()));
    let member = header.member().map_or("", |member| member.as_str());
    let body = message.body();
    let mut line = format!("{path} {member}");
    let mut add = |words: String| write!(line, " {words}").unwrap();
    match member {
        "PropertiesChanged" => {
            let (interface, changed, gone): (String, BTreeMap<String, OwnedVariant>, Vec<String>) =
                body.deserialize().unwrap();
            assert!(gone.is_empty(), "values are sent, not only names");
            assert!(interface.starts_with(NAME), "{interface}");
            for (name, value) in texts(changed) {
                add(format!("{name}={value}"));
            }
        }
        "MappingChanged" => {
            let (name, state, addresses): (String, String, Vec<String>) =
                body.deserialize().unwrap();
            add(format!("{name} {state} {addresses:?}"));
        }
        "Drifted" => {
            let (mapping, text): (String, String) = body.deserialize().unwrap();
            add(format!("{mapping}: {text}"));
        }
        "Changed" => add(body.deserialize::<u64>().unwrap().to_string()),
        "InterfacesAdded" => {
            let (path, interfaces): (
                OwnedObjectPath,
                BTreeMap<String, BTreeMap<String, OwnedVariant>>,
            ) = body.deserialize().unwrap();
            let names: Vec<_> = interfaces.keys().cloned().collect();
            add(format!("{} {}", below(path.as_str()), names.join(" ")));
        }
        "InterfacesRemoved" => {
            let (path, names): (OwnedObjectPath, Vec<String>) = body.deserialize().unwrap();
            add(format!("{} {}", below(path.as_str()), names.join(" ")));
        }
        "NameOwnerChanged" => {
            let (name, old, new): (String, String, String) = body.deserialize().unwrap();
            let what = match (old.is_empty(), new.is_empty()) {
                (true, false) => "comes",
                (false, true) => "goes",
                _ => "changes hands",
            };
            return format!("{name} {what}");
        }
        _ => add("?".to_owned()),
    }
    line.trim_start().to_owned()
}

/// A path below the root object; that one itself is empty.
fn below(path: &str) -> &str {
    path.strip_prefix(ROOT).unwrap_or(path)
}

fn texts(properties: BTreeMap<String, OwnedVariant>) -> BTreeMap<String, String> {
    properties
        .into_iter()
        .map(|(name, value)| (name, value.to_string()))
        .collect()
}
