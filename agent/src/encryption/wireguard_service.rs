//! The userspace device as a service of its own: `weir-agent wireguard`, run beside the agent.
//!
//! A process that the agent starts is ended together with it by whatever ends all processes of a
//! service or a container. With `encryption.wireguard.process: separate` the agent starts none; it
//! adopts the device that this service makes, and nothing of the agent ends it.

use std::time::Duration;

use anyhow::Context;

use super::device::ALIAS;
use super::link::Netlink;
use super::userspace::serve::{Device, ServeArguments};
use super::{FirewallMark, InterfaceName, Port};
use crate::config::{Config, Implementation, Process};
use crate::datapath::probe::kernel_has_wireguard;

/// Time between tries while another process has the device or the port.
const AGAIN: Duration = Duration::from_secs(1);

/// Serves the device until it is deleted. Where none is to be served it waits to be stopped: to end
/// would be taken for a failure.
pub fn run(config: &Config) -> anyhow::Result<()> {
    if let Some(reason) = not_wanted(config, kernel_has_wireguard()) {
        tracing::info!(reason, "no device is served");
        loop {
            std::thread::park();
        }
    }
    let arguments = arguments(config)?;
    let device = start(&arguments);
    mark_as_ours(&arguments.name).context("marking the device as Weir's")?;
    tracing::info!(device = %arguments.name, port = %arguments.port, "device");
    device.serve();
    tracing::info!(device = %arguments.name, "the device was deleted");
    Ok(())
}

fn not_wanted(config: &Config, kernel_can: bool) -> Option<&'static str> {
    let encryption = &config.encryption;
    match encryption.wireguard.implementation {
        _ if !encryption.enabled => Some("encryption.enabled is false"),
        _ if encryption.wireguard.process != Process::Separate => {
            Some("encryption.wireguard.process is agent: the agent starts it")
        }
        Implementation::Kernel => Some("encryption.wireguard.implementation is kernel"),
        Implementation::Auto if kernel_can => Some("the kernel has WireGuard"),
        Implementation::Auto | Implementation::Userspace => None,
    }
}

fn arguments(config: &Config) -> anyhow::Result<ServeArguments> {
    let wireguard = &config.encryption.wireguard;
    let port = u16::try_from(wireguard.port.get()).context("encryption.wireguard.port")?;
    Ok(ServeArguments {
        name: wireguard.interface.as_str().parse()?,
        port: Port::try_from(port)?,
        mark: FirewallMark::try_from(wireguard.firewall_mark.get())?,
    })
}

/// Tries until it can be done: the process that an agent started before the setting was changed
/// ends with that agent.
fn start(arguments: &ServeArguments) -> Device {
    let mut told = String::new();
    loop {
        match Device::start(arguments) {
            Ok(device) => return device,
            Err(error) => {
                let reason = error.to_string();
                if reason != told {
                    tracing::warn!(device = %arguments.name, reason, "the device cannot be made");
                    told = reason;
                }
            }
        }
        std::thread::sleep(AGAIN);
    }
}

/// By which the agent knows it, see [`ALIAS`].
fn mark_as_ours(name: &InterfaceName) -> anyhow::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build()?.block_on(async {
        let netlink = Netlink::connect()?;
        let link = netlink.link(name).await?.context("the device is gone")?;
        Ok(netlink.set_alias(link.index, ALIAS).await?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Implementation::{Auto, Kernel, Userspace};
    use Process::{Agent, Separate};

    #[test]
    fn a_device_is_served_only_where_the_agent_waits_for_one() {
        let served = |enabled, process, implementation, kernel_can| {
            let mut config = Config::default();
            config.encryption.enabled = enabled;
            config.encryption.wireguard.process = process;
            config.encryption.wireguard.implementation = implementation;
            not_wanted(&config, kernel_can).is_none()
        };
        assert!(served(true, Separate, Auto, false));
        assert!(served(true, Separate, Userspace, true));
        assert!(!served(true, Separate, Auto, true));
        assert!(!served(true, Separate, Kernel, false));
        assert!(!served(true, Agent, Userspace, false));
        assert!(!served(false, Separate, Userspace, false));
    }

    #[test]
    fn the_device_is_the_one_that_is_configured() {
        let mut config = Config::default();
        config.encryption.wireguard.process = Process::Separate;
        let arguments = arguments(&config).expect("the defaults are valid");
        let words = arguments.to_words();
        assert_eq!(words, ["weir_wg0", "--port=51871", "--mark=4951"]);
    }
}
