//! The agent of a node: keeps the data plane in step with the cluster and serves its flows.

pub mod app;
pub mod config;
pub mod datapath;
pub mod lifecycle;
pub mod state;
