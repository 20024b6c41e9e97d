//! A test tool: an API server in this process, over plain HTTP, that lists and watches as a real one
//! does and misbehaves when told to.
//!
//! It shows how the agent takes what healthy servers never do, and it holds clusters of a size that
//! a real one on a test machine takes minutes to be filled with; that the agent understands real ones
//! is shown against a real one. It counts what it is asked and how many bytes it answers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

mod http;
mod world;

use http::{Connection, HttpRequest};
use world::{World, status};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    /// All objects of a kind, or a page of them.
    List,
    /// Changes from some version on.
    Watch,
    /// One object.
    Get,
    /// Anything else.
    Write,
}

/// What goes wrong with one answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status instead of an answer.
    Status(u16),
    /// The connection ends before an answer.
    Hangup,
    /// A body that is no JSON.
    Garbage,
    /// A body that comes a byte at a time, with this pause before each.
    Drip(Duration),
    /// A page behind which history is forgotten, and with it where the next one begins.
    Compact,
    /// A watch that says nothing, for ever.
    Stall,
    /// A watch that ends at once, as it should not.
    EndAtOnce,
    /// A watch that breaks in the middle of its first event.
    Cut,
    /// A watch whose first line is this.
    Line(String),
}

/// The server; it ends with its value.
pub struct Server {
    /// Where it is.
    pub url: String,
    handle: Handle,
    _connections: JoinSet<()>,
}

#[derive(Clone)]
struct Handle {
    world: Arc<Mutex<World>>,
    version: watch::Sender<u64>,
    cuts: watch::Sender<u64>,
}

impl Server {
    /// An empty one, on a port of loopback.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("bind to loopback")?;
        let url = format!("http://{}", listener.local_addr()?);
        let world = World::new();
        let handle = Handle {
            version: watch::Sender::new(world.version()),
            world: Arc::new(Mutex::new(world)),
            cuts: watch::Sender::new(0),
        };
        let mut connections = JoinSet::new();
        let open = handle.clone();
        connections.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.world().connections += 1;
                let handle = open.clone();
                clients.spawn(async move {
                    // Errors are clients that went.
                    let _ = handle.serve(stream).await;
                });
            }
        });
        Ok(Self {
            url,
            handle,
            _connections: connections,
        })
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.handle.world()
    }

    /// Makes or changes an object; returns its version.
    pub fn put(&self, resource: &str, object: Value) -> u64 {
        let version = self.world().put(resource, object);
        self.handle.version.send_replace(version);
        version
    }

    /// Deletes the object of this name in the namespace `shop`, or in none.
    pub fn delete(&self, resource: &str, name: &str) {
        if !self.delete_in(resource, "shop", name) {
            assert!(self.delete_in(resource, "", name), "{name} is not there");
        }
    }

    /// Deletes an object; false if it is not there.
    pub fn delete_in(&self, resource: &str, namespace: &str, name: &str) -> bool {
        let deleted = self
            .world()
            .delete(resource, &format!("{namespace}/{name}"));
        if let Some(version) = deleted {
            self.handle.version.send_replace(version);
        }
        deleted.is_some()
    }

    /// Forgets the history: whoever comes to resume a watch is told that it is too late.
    pub fn compact(&self) {
        self.world().compact();
    }

    /// Breaks all watches that are open.
    pub fn cut_watches(&self) {
        self.handle.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// The next answers to `ask` go wrong like this, one after the other.
    pub fn fail(&self, resource: &str, ask: Ask, faults: impl IntoIterator<Item = Fault>) {
        self.world().fail(resource, ask, faults);
    }

    /// Faults that were not met yet.
    pub fn faults_left(&self) -> usize {
        self.world().faults_left()
    }

    /// Number of requests so far.
    pub fn requests(&self, resource: &str, ask: Ask) -> usize {
        self.queries(resource, ask).len()
    }

    /// Whole queries of the requests so far.
    pub fn queries(&self, resource: &str, ask: Ask) -> Vec<String> {
        self.world().queries(resource, ask)
    }

    /// Bytes of the answers to such requests so far, heads and framing included; and those of their
    /// bodies before they were compressed.
    pub fn bytes_sent(&self, resource: &str, ask: Ask) -> [u64; 2] {
        self.world().bytes_sent(resource, ask)
    }

    /// Bytes of the objects of a kind as they are now, and their number.
    pub fn size(&self, resource: &str) -> (u64, usize) {
        self.world().size(resource)
    }

    /// Connections that were made so far.
    pub fn connections(&self) -> usize {
        self.world().connections
    }
}

impl Handle {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut connection = Connection::new(stream);
        while let Some(request) = connection.request().await? {
            let resource = request.resource().to_owned();
            let ask = request.ask;
            let fault = self.world().asked(&resource, ask, &request.query);
            let goes_on = self.answer(&mut connection, &request, fault).await;
            self.account(&resource, ask, &mut connection);
            if !goes_on? {
                break;
            }
        }
        Ok(())
    }

    fn account(&self, resource: &str, ask: Ask, connection: &mut Connection) {
        let sent = connection.take_sent();
        self.world().sent(resource, ask, sent);
    }

    /// Answers; false ends the connection.
    async fn answer(
        &self,
        connection: &mut Connection,
        request: &HttpRequest,
        fault: Option<Fault>,
    ) -> std::io::Result<bool> {
        match (request.ask, fault) {
            (_, Some(Fault::Hangup)) => return Ok(false),
            (_, Some(Fault::Status(code))) => refuse(connection, code).await?,
            (_, Some(Fault::Garbage)) => connection.answer(200, b"{\"items\":[{").await?,
            (Ask::List, fault) => {
                let page = self.world().list(request);
                match (page, fault) {
                    (None, _) => refuse(connection, 410).await?,
                    (Some(page), Some(Fault::Drip(pause))) => connection.drip(&page, pause).await?,
                    (Some(page), fault) => {
                        if matches!(fault, Some(Fault::Compact)) {
                            self.world().compact();
                        }
                        if request.takes_gzip {
                            connection.answer_compressed(&page).await?;
                        } else {
                            connection.answer(200, &page).await?;
                        }
                    }
                }
            }
            (Ask::Watch, fault) => {
                self.watch(connection, request, fault).await?;
                return Ok(false);
            }
            (Ask::Get, _) => {
                let object = self.world().object(request);
                match object {
                    Some(object) => connection.answer(200, object.as_bytes()).await?,
                    None => refuse(connection, 404).await?,
                }
            }
            (Ask::Write, _) => connection.answer(200, b"{}").await?,
        }
        Ok(true)
    }

    async fn watch(
        &self,
        connection: &mut Connection,
        request: &HttpRequest,
        fault: Option<Fault>,
    ) -> std::io::Result<()> {
        let mut from = request.number("resourceVersion");
        let seconds = request.number("timeoutSeconds");
        let mut version = self.version.subscribe();
        let mut cuts = self.cuts.subscribe();
        connection.head(200).await?;
        if self.world().has_forgotten(from) {
            // As real servers do: the answer is good, and its first event is the refusal.
            let gone = json!({ "type": "ERROR", "object": status(410) });
            return connection.chunk(format!("{gone}\n").as_bytes()).await;
        }
        let is_cut = matches!(fault, Some(Fault::Cut));
        let is_stalled = matches!(fault, Some(Fault::Stall));
        match fault {
            Some(Fault::EndAtOnce) => return connection.chunk(b"").await,
            Some(Fault::Line(line)) => connection.chunk(format!("{line}\n").as_bytes()).await?,
            _ => {}
        }
        let end = sleep(Duration::from_secs(seconds));
        tokio::pin!(end);
        loop {
            let events = if is_stalled {
                Vec::new()
            } else {
                self.world().events(request.resource(), from)
            };
            for (at, line) in events {
                from = at;
                if is_cut {
                    return connection.chunk(&line.as_bytes()[..line.len() / 2]).await;
                }
                connection.chunk(line.as_bytes()).await?;
            }
            self.account(request.resource(), Ask::Watch, connection);
            tokio::select! {
                () = &mut end, if !is_stalled => return connection.chunk(b"").await,
                _ = cuts.changed() => return Ok(()),
                changed = version.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }
}

async fn refuse(connection: &mut Connection, code: u16) -> std::io::Result<()> {
    let body = status(code).to_string();
    connection.answer(code, body.as_bytes()).await
}
