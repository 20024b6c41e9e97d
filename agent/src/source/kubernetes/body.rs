//! Bodies of answers, read within bounds of time and size.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt, FutureExt};
use thiserror::Error;
use tokio::time::{Instant, timeout, timeout_at};

/// Bytes of one line of a watch: ten times the largest object that etcd takes.
const LINE_BYTES_MAX: usize = 16 << 20;
/// Bytes of one page of a list.
const PAGE_BYTES_MAX: usize = 256 << 20;
/// Lines that have arrived already are taken together up to this size.
const BATCH_BYTES: usize = 256 << 10;

/// Why the rest of a body is not read.
#[derive(Debug, Error)]
pub(super) enum BodyError {
    #[error("nothing came for {0:?}")]
    Stalled(Duration),
    #[error("it did not end in time")]
    Endless,
    #[error("it has more than {0} bytes")]
    TooLarge(usize),
    #[error("it is not UTF-8")]
    NotText,
    #[error("the connection broke")]
    Broken(#[source] io::Error),
}

/// The body of an answer.
pub(super) struct Body {
    reader: Pin<Box<dyn AsyncBufRead + Send>>,
    /// What was read and not handed on.
    rest: Vec<u8>,
    /// Longest time without a byte.
    idle: Duration,
    /// End of all waiting.
    deadline: Instant,
}

impl Body {
    /// A body that must send something in every `idle` and end before `deadline`.
    pub(super) fn new(
        reader: impl AsyncBufRead + Send + 'static,
        idle: Duration,
        deadline: Instant,
    ) -> Self {
        Self {
            reader: Box::pin(reader),
            rest: Vec::new(),
            idle,
            deadline,
        }
    }

    /// The whole body.
    pub(super) async fn text(mut self) -> Result<String, BodyError> {
        while self.more().await? {
            if self.rest.len() > PAGE_BYTES_MAX {
                return Err(BodyError::TooLarge(PAGE_BYTES_MAX));
            }
        }
        String::from_utf8(self.rest).map_err(|_| BodyError::NotText)
    }

    /// Waits for a line, and returns it with all lines that have arrived behind it. `None` at the
    /// end; what is left there without a line's end is half a line, and dropped.
    pub(super) async fn lines(&mut self) -> Result<Option<String>, BodyError> {
        let mut searched = 0;
        let mut end = None;
        loop {
            let newline = self.rest[searched..]
                .iter()
                .rposition(|byte| *byte == b'\n');
            end = newline.map(|at| searched + at + 1).or(end);
            searched = self.rest.len();
            if end.is_none() {
                if searched > LINE_BYTES_MAX {
                    return Err(BodyError::TooLarge(LINE_BYTES_MAX));
                }
                if !self.more().await? {
                    return Ok(None);
                }
                continue;
            }
            // What ends the body now is met again by the next call.
            if searched >= BATCH_BYTES || !matches!(self.more().now_or_never(), Some(Ok(true))) {
                break;
            }
        }
        let end = end.unwrap_or_default();
        let rest = self.rest.split_off(end);
        let lines = std::mem::replace(&mut self.rest, rest);
        String::from_utf8(lines)
            .map(Some)
            .map_err(|_| BodyError::NotText)
    }

    /// Reads what comes next; false at the end. Cancel-safe.
    async fn more(&mut self) -> Result<bool, BodyError> {
        let idle = timeout(self.idle, self.reader.fill_buf());
        let chunk = match timeout_at(self.deadline, idle).await {
            Err(_) => return Err(BodyError::Endless),
            Ok(Err(_)) => return Err(BodyError::Stalled(self.idle)),
            Ok(Ok(chunk)) => chunk.map_err(BodyError::Broken)?,
        };
        let length = chunk.len();
        self.rest.extend_from_slice(chunk);
        self.reader.consume_unpin(length);
        Ok(length > 0)
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use futures::channel::mpsc::{self, UnboundedSender};

    use super::*;

    type Sender = UnboundedSender<io::Result<Vec<u8>>>;

    fn body() -> (Sender, Body) {
        let (sender, receiver) = mpsc::unbounded();
        let deadline = Instant::now() + Duration::from_secs(100);
        let reader = receiver.into_async_read();
        (sender, Body::new(reader, Duration::from_secs(10), deadline))
    }

    fn send(sender: &Sender, text: &str) {
        sender.unbounded_send(Ok(text.as_bytes().to_vec())).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn lines_come_whole_and_as_many_as_there_are() {
        let (sender, mut body) = body();
        for part in ["a\nb", "b\nc\n", "d"] {
            send(&sender, part);
        }
        assert_eq!(body.lines().await.unwrap().as_deref(), Some("a\nbb\nc\n"));
        send(&sender, "d\nhalf");
        drop(sender);
        assert_eq!(body.lines().await.unwrap().as_deref(), Some("dd\n"));
        assert_eq!(body.lines().await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_breaks_or_drips_is_given_up() {
        let (sender, mut stalled) = body();
        send(&sender, "half");
        assert!(matches!(stalled.lines().await, Err(BodyError::Stalled(_))));

        let (sender, mut broken) = body();
        send(&sender, "a\n");
        sender
            .unbounded_send(Err(io::ErrorKind::ConnectionReset.into()))
            .unwrap();
        assert_eq!(broken.lines().await.unwrap().as_deref(), Some("a\n"));
        assert!(matches!(
            broken.lines().await,
            Ok(None) | Err(BodyError::Broken(_))
        ));

        let (sender, dripping) = body();
        let drip = async {
            loop {
                send(&sender, "x");
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        };
        let text = tokio::select! {
            () = drip => unreachable!(),
            text = dripping.text() => text,
        };
        assert!(matches!(text, Err(BodyError::Endless)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_without_end_is_not_kept() {
        let (sender, mut body) = body();
        let mebibyte = "x".repeat(1 << 20);
        for _ in 0..=LINE_BYTES_MAX >> 20 {
            send(&sender, &mebibyte);
        }
        assert!(matches!(body.lines().await, Err(BodyError::TooLarge(_))));
    }
}
