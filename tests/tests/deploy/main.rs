//! What is installed on Kubernetes: every overlay of kustomize and the chart for many values are
//! rendered by the programs that users render them with, and then judged.
//!
//! - [`schema`]: each field exists in the current API, with the type that it has.
//! - [`api_server`]: a real API server takes each object.
//! - [`settings`]: the agent takes each configuration.
//! - [`drift`]: the chart makes the same objects as the overlays.
//! - [`privileges`]: containers have the rights that they need and no more.
//! - [`values`]: the chart refuses what it does not know or cannot do yet.
//! - [`written`]: what is written from something else is up to date.
//! - [`image`]: the image and the cluster of `cargo xtask kind`, as far as their files say it.

mod api_server;
mod drift;
mod image;
mod privileges;
mod render;
mod schema;
mod settings;
mod values;
mod written;
