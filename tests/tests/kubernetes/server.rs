//! A test tool: an API server in this process, over plain HTTP, that lists and watches as a real one
//! does and misbehaves when told to. It shows how the agent takes what healthy servers never do;
//! that it understands real ones is shown against a real one.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    List,
    Watch,
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

#[derive(Default)]
struct World {
    version: u64,
    /// Watches from versions before this one are refused.
    oldest: u64,
    objects: BTreeMap<(String, String), Value>,
    history: Vec<(u64, String, &'static str, Value)>,
    faults: BTreeMap<(String, Ask), VecDeque<Fault>>,
    requests: Vec<(String, Ask, String)>,
}

impl World {
    fn compact(&mut self) {
        self.version += 1;
        self.oldest = self.version;
        self.history.clear();
    }
}

/// The server; it ends with its value.
pub struct Server {
    pub url: String,
    world: Arc<Mutex<World>>,
    version: watch::Sender<u64>,
    cuts: watch::Sender<u64>,
    _connections: JoinSet<()>,
}

#[derive(Clone)]
struct Handle {
    world: Arc<Mutex<World>>,
    version: watch::Sender<u64>,
    cuts: watch::Sender<u64>,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let world = Arc::new(Mutex::new(World {
            version: 100,
            ..World::default()
        }));
        let version = watch::Sender::new(100);
        let cuts = watch::Sender::new(0);
        let handle = Handle {
            world: Arc::clone(&world),
            version: version.clone(),
            cuts: cuts.clone(),
        };
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let handle = handle.clone();
                open.spawn(async move {
                    // Errors are clients that went.
                    let _ = handle.serve(stream).await;
                });
            }
        });
        Self {
            url,
            world,
            version,
            cuts,
            _connections: connections,
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Makes or changes an object; returns its version.
    pub fn put(&self, resource: &str, mut object: Value) -> u64 {
        let mut world = self.world();
        world.version += 1;
        let version = world.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let key = (resource.to_owned(), key(&object));
        let is_new = world.objects.insert(key, object.clone()).is_none();
        let kind = if is_new { "ADDED" } else { "MODIFIED" };
        world
            .history
            .push((version, resource.to_owned(), kind, object));
        self.version.send_replace(version);
        version
    }

    /// Deletes the object of this name in the namespace `shop`, or in none.
    pub fn delete(&self, resource: &str, name: &str) {
        let mut world = self.world();
        world.version += 1;
        let version = world.version;
        let names = [format!("shop/{name}"), format!("/{name}")];
        let mut removed = names.into_iter().filter_map(|name| {
            let key = (resource.to_owned(), name);
            world.objects.remove(&key)
        });
        let mut object = removed.next().unwrap();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        world
            .history
            .push((version, resource.to_owned(), "DELETED", object));
        self.version.send_replace(version);
    }

    /// Forgets the history: whoever comes to resume a watch is told that it is too late.
    pub fn compact(&self) {
        self.world().compact();
    }

    /// Breaks all watches that are open.
    pub fn cut_watches(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// The next answers to `ask` go wrong like this, one after the other.
    pub fn fail(&self, resource: &str, ask: Ask, faults: impl IntoIterator<Item = Fault>) {
        let key = (resource.to_owned(), ask);
        self.world().faults.entry(key).or_default().extend(faults);
    }

    /// Faults that were not met yet.
    pub fn faults_left(&self) -> usize {
        self.world().faults.values().map(VecDeque::len).sum()
    }

    /// Number of requests so far.
    pub fn requests(&self, resource: &str, ask: Ask) -> usize {
        let world = self.world();
        let such = world
            .requests
            .iter()
            .filter(|it| (&*it.0, it.1) == (resource, ask));
        such.count()
    }

    /// Whole queries of the requests so far.
    pub fn queries(&self, resource: &str, ask: Ask) -> Vec<String> {
        let world = self.world();
        let such = world
            .requests
            .iter()
            .filter(|it| (&*it.0, it.1) == (resource, ask));
        such.map(|it| it.2.clone()).collect()
    }
}

impl Handle {
    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let Some((path, query, ask)) = read_request(&mut stream).await? else {
                return Ok(());
            };
            let resource = path.rsplit('/').next().unwrap_or_default().to_owned();
            let fault = {
                let mut world = self.world.lock().unwrap();
                world.requests.push((resource.clone(), ask, query.clone()));
                world
                    .faults
                    .get_mut(&(resource.clone(), ask))
                    .and_then(VecDeque::pop_front)
            };
            match (ask, fault) {
                (_, Some(Fault::Hangup)) => return Ok(()),
                (_, Some(Fault::Status(code))) => refuse(&mut stream, code).await?,
                (_, Some(Fault::Garbage)) => answer(&mut stream, 200, b"{\"items\":[{").await?,
                (Ask::List, fault) => {
                    let body = self.list(&resource, &query);
                    match (body, fault) {
                        (None, _) => refuse(&mut stream, 410).await?,
                        (Some(body), Some(Fault::Drip(pause))) => {
                            drip(&mut stream, &body, pause).await?;
                        }
                        (Some(body), fault) => {
                            if matches!(fault, Some(Fault::Compact)) {
                                self.world.lock().unwrap().compact();
                            }
                            answer(&mut stream, 200, &body).await?;
                        }
                    }
                }
                (Ask::Watch, fault) => {
                    return self.watch(&mut stream, &resource, &query, fault).await;
                }
                (Ask::Write, _) => answer(&mut stream, 200, b"{}").await?,
            }
        }
    }

    /// One page; `None` if the token of the page is too old.
    fn list(&self, resource: &str, query: &str) -> Option<Vec<u8>> {
        let world = self.world.lock().unwrap();
        let limit = parameter(query, "limit")
            .and_then(|it| it.parse().ok())
            .unwrap_or(usize::MAX);
        let (version, skip) = match parameter(query, "continue") {
            None => (world.version, 0),
            Some(token) => {
                let (version, skip) = token.split_once('.').unwrap();
                (version.parse().unwrap(), skip.parse().unwrap())
            }
        };
        if version < world.oldest {
            return None;
        }
        let all = world.objects.iter().filter(|((of, _), _)| of == resource);
        let all: Vec<_> = all.map(|(_, object)| object).collect();
        let items: Vec<_> = all.iter().skip(skip).take(limit).collect();
        let shown = skip + items.len();
        let next = if shown < all.len() {
            format!("{version}.{shown}")
        } else {
            String::new()
        };
        let metadata = json!({ "resourceVersion": version.to_string(), "continue": next });
        Some(serde_json::to_vec(&json!({ "metadata": metadata, "items": items })).unwrap())
    }

    async fn watch(
        &self,
        stream: &mut BufReader<TcpStream>,
        resource: &str,
        query: &str,
        fault: Option<Fault>,
    ) -> io::Result<()> {
        let mut from: u64 = parameter(query, "resourceVersion")
            .unwrap()
            .parse()
            .unwrap();
        let seconds = parameter(query, "timeoutSeconds").unwrap().parse().unwrap();
        let mut version = self.version.subscribe();
        let mut cuts = self.cuts.subscribe();
        if from < self.world.lock().unwrap().oldest {
            // As real servers do: the answer is good, and its first event is the refusal.
            head(stream, 200).await?;
            let gone = json!({ "type": "ERROR", "object": status(410) });
            return chunk(stream, format!("{gone}\n").as_bytes()).await;
        }
        head(stream, 200).await?;
        let is_cut = matches!(fault, Some(Fault::Cut));
        let is_stalled = matches!(fault, Some(Fault::Stall));
        match fault {
            Some(Fault::EndAtOnce) => return chunk(stream, b"").await,
            Some(Fault::Line(line)) => chunk(stream, format!("{line}\n").as_bytes()).await?,
            _ => {}
        }
        let end = sleep(Duration::from_secs(seconds));
        tokio::pin!(end);
        loop {
            let events: Vec<_> = if is_stalled {
                Vec::new()
            } else {
                let world = self.world.lock().unwrap();
                let events = world
                    .history
                    .iter()
                    .filter(|it| it.0 > from && it.1 == resource);
                events
                    .map(|(at, _, kind, object)| (*at, json!({ "type": kind, "object": object })))
                    .collect()
            };
            for (at, event) in events {
                from = at;
                let line = format!("{event}\n");
                if is_cut {
                    return chunk(stream, &line.as_bytes()[..line.len() / 2]).await;
                }
                chunk(stream, line.as_bytes()).await?;
            }
            tokio::select! {
                () = &mut end, if !is_stalled => return chunk(stream, b"").await,
                _ = cuts.changed() => return Ok(()),
                changed = version.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }
}

async fn read_request(
    stream: &mut BufReader<TcpStream>,
) -> io::Result<Option<(String, String, Ask)>> {
    let mut first = String::new();
    if stream.read_line(&mut first).await? == 0 {
        return Ok(None);
    }
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let line = line.trim().to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    stream.read_exact(&mut vec![0; length]).await?;
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let ask = match method {
        "GET" if parameter(query, "watch").is_some() => Ask::Watch,
        "GET" => Ask::List,
        _ => Ask::Write,
    };
    Ok(Some((path.to_owned(), query.to_owned(), ask)))
}

/// What tells an object from others of its kind.
fn key(object: &Value) -> String {
    let text = |field: &str| {
        object["metadata"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    format!("{}/{}", text("namespace"), text("name"))
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn status(code: u16) -> Value {
    json!({ "kind": "Status", "status": "Failure", "code": code, "reason": "Test", "message": "no" })
}

async fn refuse(stream: &mut BufReader<TcpStream>, code: u16) -> io::Result<()> {
    answer(stream, code, status(code).to_string().as_bytes()).await
}

async fn answer(stream: &mut BufReader<TcpStream>, code: u16, body: &[u8]) -> io::Result<()> {
    head(stream, code).await?;
    if !body.is_empty() {
        chunk(stream, body).await?;
    }
    chunk(stream, b"").await
}

async fn drip(stream: &mut BufReader<TcpStream>, body: &[u8], pause: Duration) -> io::Result<()> {
    head(stream, 200).await?;
    for byte in body {
        sleep(pause).await;
        chunk(stream, &[*byte]).await?;
    }
    chunk(stream, b"").await
}

async fn head(stream: &mut BufReader<TcpStream>, code: u16) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {code} X\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await
}

/// A chunk; an empty one is the end of the body.
async fn chunk(stream: &mut BufReader<TcpStream>, body: &[u8]) -> io::Result<()> {
    let mut text = format!("{:x}\r\n", body.len()).into_bytes();
    text.extend_from_slice(body);
    text.extend_from_slice(b"\r\n");
    stream.write_all(&text).await
}
