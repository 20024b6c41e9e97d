//! The path of a flow: from the kernel's event records to whoever asks.
//!
//! ```text
//! EVENTS -> reader -> decode -> enrich -> hub (store) -> filter -> convert -> api::observer
//!           thread    pure      names     bounded        compact   protobuf
//! ```
//!
//! A record is named when it arrives, because its pod may be gone when somebody asks, and becomes
//! protobuf only for a reader whose filters it passed. Every place that can lose an event counts
//! what it lost and puts a [`record::LostRecord`] into the stream: the kernel when the ring buffer
//! is full, the decoder when a record makes no sense, the store when a reader is overtaken.
//!
//! Nothing here imports aya: the data path hands its ring buffer over as a [`reader::EventSource`].

pub mod convert;
pub mod decode;
pub mod enrich;
pub mod filter;
pub mod hub;
pub mod identity;
pub mod mask;
pub mod rate;
pub mod reader;
pub mod record;
pub mod store;

pub use enrich::Enricher;
pub use hub::FlowHub;
pub use identity::Identities;
pub use reader::{EventSource, FlowReader};
pub use record::{Entry, FlowRecord, LostRecord, LostSource};
