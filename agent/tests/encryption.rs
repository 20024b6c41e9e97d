//! The device, its peers and its routes, in network namespaces that stand for nodes.
//!
//! The device is the userspace one, which works with every kernel; with `WEIR_TEST_WIREGUARD=kernel`,
//! as in the machines of `cargo xtask vm`, it is the kernel's. It takes root.

#[path = "encryption/node.rs"]
mod node;

#[path = "encryption/device.rs"]
mod device;
#[path = "encryption/many.rs"]
mod many;
#[path = "encryption/session.rs"]
mod session;
#[path = "encryption/tools.rs"]
mod tools;
#[path = "encryption/traffic.rs"]
mod traffic;
