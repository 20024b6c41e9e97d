//! The agent of a node: keeps the data plane in step with the cluster and serves its flows.

pub mod api;
pub mod app;
pub mod clock;
pub mod config;
pub mod datapath;
pub mod encryption;
pub mod flows;
pub mod lb;
pub mod lifecycle;
pub mod metrics;
pub mod source;
pub mod state;

/// An error and its causes in one line, as logs and status show them.
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}
