//! A look-up by the resolver that programs use, with its search list.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::net::lookup_host;
use tokio::time::timeout;

use super::{Answer, Attempt};

pub(super) async fn attempt(name: &str, limit: Duration) -> Attempt {
    let start = Instant::now();
    let answer = match timeout(limit, lookup_host((name, 0))).await {
        Ok(Ok(found)) => {
            let addresses: BTreeSet<_> = found.map(|address| address.ip()).collect();
            Answer::Addresses(addresses.into_iter().collect())
        }
        Ok(Err(error)) => Answer::Failed(error.to_string()),
        Err(_) => Answer::Failed(format!("no answer within {limit:?}")),
    };
    let millis = start.elapsed().as_secs_f64() * 1e3;
    Attempt {
        local: None,
        millis,
        answer,
    }
}
