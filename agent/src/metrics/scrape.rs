//! At most one reading a second, however many ask.

use std::future::Future;
use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// For so long, what was read is told again.
const FRESH: Duration = Duration::from_secs(1);

/// The last reading. Those who ask while another is read wait for it.
#[derive(Debug, Default)]
pub struct Scrapes {
    last: Mutex<Option<(Instant, Bytes)>>,
}

impl Scrapes {
    /// The last reading, or a new one if that is too old. A reading that fails is tried again for the
    /// next who asks, a second later at the earliest.
    pub async fn get<F>(&self, read: impl FnOnce() -> F) -> anyhow::Result<Bytes>
    where
        F: Future<Output = anyhow::Result<String>>,
    {
        let mut last = self.last.lock().await;
        if let Some((when, text)) = &*last
            && when.elapsed() < FRESH
        {
            anyhow::ensure!(!text.is_empty(), "the last reading failed; see the log");
            return Ok(text.clone());
        }
        let read = read().await;
        let text = Bytes::from(read.as_ref().map(String::clone).unwrap_or_default());
        *last = Some((Instant::now(), text.clone()));
        read.map(|_| text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_reading_serves_all_who_ask_within_a_second() {
        let (scrapes, readings) = (Scrapes::default(), AtomicUsize::new(0));
        let ask = || {
            scrapes.get(|| async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Ok(readings.fetch_add(1, Ordering::Relaxed).to_string())
            })
        };
        let (one, other) = tokio::join!(ask(), ask());
        assert_eq!((one.unwrap(), other.unwrap()), ("0".into(), "0".into()));
        tokio::time::advance(Duration::from_millis(900)).await;
        assert_eq!(ask().await.unwrap(), "0");
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(ask().await.unwrap(), "1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_that_fails_is_not_repeated_at_once() {
        let (scrapes, readings) = (Scrapes::default(), AtomicUsize::new(0));
        let ask = || {
            scrapes.get(|| async {
                readings.fetch_add(1, Ordering::Relaxed);
                anyhow::bail!("no")
            })
        };
        assert_eq!(ask().await.unwrap_err().to_string(), "no");
        ask().await.unwrap_err();
        assert_eq!(readings.load(Ordering::Relaxed), 1);
        tokio::time::advance(FRESH).await;
        ask().await.unwrap_err();
        assert_eq!(readings.load(Ordering::Relaxed), 2);
    }
}
