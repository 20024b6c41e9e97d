//! As much of HTTP/1.1 as the server needs.

use std::io::{self, Write as _};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::Ask;

/// What a client asks.
#[derive(Debug)]
pub(super) struct HttpRequest {
    path: String,
    pub(super) query: String,
    pub(super) ask: Ask,
    /// The client understands compressed bodies.
    pub(super) takes_gzip: bool,
}

/// Bodies that are larger are compressed for who understands that, and little, as API servers do.
const COMPRESSED_FROM: usize = 128 << 10;

impl HttpRequest {
    /// What stands behind group and version: plural name, perhaps a name, perhaps a part; and the
    /// namespace before that, empty if there is none.
    fn parts(&self) -> (&str, Vec<&str>) {
        let mut parts = self.path.trim_start_matches('/').split('/');
        let group_parts = if parts.next() == Some("apis") { 2 } else { 1 };
        let parts: Vec<_> = parts.skip(group_parts).collect();
        match &parts[..] {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (namespace, rest.into()),
            _ => ("", parts),
        }
    }

    /// The plural name of the kind that is asked for.
    pub(super) fn resource(&self) -> &str {
        self.parts().1.first().copied().unwrap_or_default()
    }

    /// The namespace that is asked for; empty for all or none.
    pub(super) fn namespace(&self) -> &str {
        self.parts().0
    }

    /// The name of the one object that is asked for.
    pub(super) fn name(&self) -> Option<&str> {
        self.parts().1.get(1).copied()
    }

    /// A parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let mut pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// A parameter that is a number; zero without one.
    pub(super) fn number(&self, name: &str) -> u64 {
        let number = self.parameter(name).and_then(|text| text.parse().ok());
        number.unwrap_or_default()
    }
}

/// One client.
#[derive(Debug)]
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
    sent: u64,
    /// Bytes of bodies before they were compressed.
    said: u64,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream: BufReader::new(stream),
            sent: 0,
            said: 0,
        }
    }

    /// Bytes sent since the last call, and those of bodies before they were compressed.
    pub(super) fn take_sent(&mut self) -> [u64; 2] {
        [
            std::mem::take(&mut self.sent),
            std::mem::take(&mut self.said),
        ]
    }

    /// The next request; `None` when the client is gone.
    pub(super) async fn request(&mut self) -> io::Result<Option<HttpRequest>> {
        let mut first = String::new();
        if self.stream.read_line(&mut first).await? == 0 {
            return Ok(None);
        }
        let (mut length, mut takes_gzip) = (0, false);
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).await?;
            let line = line.trim().to_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            if let Some(value) = line.strip_prefix("accept-encoding:") {
                takes_gzip = value.contains("gzip");
            }
            if line.is_empty() {
                break;
            }
        }
        self.stream.read_exact(&mut vec![0; length]).await?;
        let mut words = first.split(' ');
        let method = words.next().unwrap_or_default();
        let target = words.next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request = HttpRequest {
            path: path.to_owned(),
            query: query.to_owned(),
            ask: Ask::Write,
            takes_gzip,
        };
        if method == "GET" {
            request.ask = match request.parameter("watch") {
                Some(_) => Ask::Watch,
                None if request.name().is_some() => Ask::Get,
                None => Ask::List,
            };
        }
        Ok(Some(request))
    }

    /// A whole answer.
    pub(super) async fn answer(&mut self, code: u16, body: &[u8]) -> io::Result<()> {
        self.head(code).await?;
        if !body.is_empty() {
            self.chunk(body).await?;
        }
        self.chunk(b"").await
    }

    /// A whole answer, compressed if it is large.
    pub(super) async fn answer_compressed(&mut self, body: &[u8]) -> io::Result<()> {
        if body.len() < COMPRESSED_FROM {
            return self.answer(200, body).await;
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body)?;
        let compressed = encoder.finish()?;
        self.head_with(200, "content-encoding: gzip\r\n").await?;
        self.chunk(&compressed).await?;
        self.said += (body.len() - compressed.len()) as u64;
        self.chunk(b"").await
    }

    /// A whole answer whose body comes a byte at a time.
    pub(super) async fn drip(&mut self, body: &[u8], pause: Duration) -> io::Result<()> {
        self.head(200).await?;
        for byte in body {
            sleep(pause).await;
            self.chunk(&[*byte]).await?;
        }
        self.chunk(b"").await
    }

    /// The head of an answer whose body comes in chunks.
    pub(super) async fn head(&mut self, code: u16) -> io::Result<()> {
        self.head_with(code, "").await
    }

    async fn head_with(&mut self, code: u16, more: &str) -> io::Result<()> {
        let head = format!(
            "HTTP/1.1 {code} X\r\ncontent-type: application/json\r\n{more}\
             transfer-encoding: chunked\r\n\r\n"
        );
        self.write(head.as_bytes()).await
    }

    /// A chunk; an empty one is the end of the body.
    pub(super) async fn chunk(&mut self, body: &[u8]) -> io::Result<()> {
        let mut text = format!("{:x}\r\n", body.len()).into_bytes();
        text.extend_from_slice(body);
        text.extend_from_slice(b"\r\n");
        self.said += body.len() as u64;
        self.write(&text).await
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.sent += bytes.len() as u64;
        Ok(())
    }
}
