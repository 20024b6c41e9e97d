//! What users see of Weir: scenarios in clusters of network namespaces with a real agent on every
//! node. Each test makes its own cluster; several run beside each other.

#[path = "cluster/api_server.rs"]
mod api_server;
#[path = "cluster/balancing.rs"]
mod balancing;
#[path = "cluster/changes.rs"]
mod changes;
#[path = "cluster/connectivity.rs"]
mod connectivity;
#[path = "cluster/contract.rs"]
mod contract;
#[path = "cluster/demo.rs"]
mod demo;
#[path = "cluster/encryption.rs"]
mod encryption;
#[path = "cluster/encryption_device.rs"]
mod encryption_device;
#[path = "cluster/encryption_visible.rs"]
mod encryption_visible;
#[path = "cluster/flows.rs"]
mod flows;
#[path = "cluster/lifecycle.rs"]
mod lifecycle;
#[path = "cluster/names.rs"]
mod names;
#[path = "cluster/networks.rs"]
mod networks;
#[path = "cluster/observe_only.rs"]
mod observe_only;
#[path = "cluster/plugins.rs"]
mod plugins;
#[path = "cluster/privileges.rs"]
mod privileges;
#[path = "cluster/refused.rs"]
mod refused;
#[path = "cluster/setting.rs"]
mod setting;
#[path = "cluster/sockets.rs"]
mod sockets;
#[path = "cluster/untouched.rs"]
mod untouched;
