//! The wire contracts of the agent's unix socket, as generated Rust.
//!
//! [`observer`], [`flow`], [`relay`] and [`peer`] are the Hubble-compatible flow API at level
//! [`FLOW_API_LEVEL`]; [`admin`] is the agent's own. The `.proto` files beside this crate's manifest
//! are the source; they compile without a `protoc` binary. Conversions from and to the types of the
//! agent live with those types, not here.

/// Level of the flow API that the `.proto` files describe, sent in the response header
/// [`SERVER_VERSION_HEADER`] so that clients can tell whether the server knows more than they do.
pub const FLOW_API_LEVEL: &str = "1.19.4";

/// Response header that carries [`FLOW_API_LEVEL`].
pub const SERVER_VERSION_HEADER: &str = "hubble-server-version";

/// Name under which the flow API's clients ask for the health of the observer.
pub const OBSERVER_HEALTH_SERVICE: &str = "hubble.server.Observer";

/// Serialized `google.protobuf.FileDescriptorSet` of all files, imports included, without comments.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Declares a module with the generated code of one package.
macro_rules! package {
    ($(#[$doc:meta])* $name:ident, $package:literal) => {
        $(#[$doc])*
        #[allow(
            missing_docs,
            deprecated,
            rustdoc::all,
            clippy::all,
            clippy::pedantic,
            reason = "generated code"
        )]
        pub mod $name {
            tonic::include_proto!($package);
        }
    };
}

package!(
    /// The records of the flow API and its filters.
    flow,
    "flow"
);
package!(
    /// The service that delivers flows.
    observer,
    "observer"
);
package!(
    /// The service that tells which nodes serve flows.
    peer,
    "peer"
);
package!(
    /// What an aggregator reports about its nodes.
    relay,
    "relay"
);
package!(
    /// The agent's own service: status, services, backends, endpoints.
    admin,
    "weir.admin.v1"
);
