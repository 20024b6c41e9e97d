//! Saying what a control plane shall be like.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{ControlPlane, Ports, assets, certificates};
use crate::{Cluster, Place};

/// A control plane to be.
#[derive(Debug, Default)]
pub struct Builder {
    within: Option<Within>,
    with_controllers: bool,
}

/// Where in a cluster.
#[derive(Debug)]
struct Within {
    place: Place,
    addresses: [IpAddr; 2],
    folder: PathBuf,
}

impl Builder {
    /// In the underlay of a cluster, where all nodes reach it at the address of the gateway. It goes
    /// with the cluster. Without one it listens on loopback.
    #[must_use]
    pub fn in_cluster(mut self, cluster: &Cluster) -> Self {
        self.within = Some(Within {
            place: cluster.underlay().clone(),
            addresses: cluster.plan().gateway.both(),
            folder: cluster.record().directory().join("control-plane"),
        });
        self
    }

    /// With the controllers that make service accounts and `EndpointSlice`s.
    #[must_use]
    pub fn with_controllers(mut self) -> Self {
        self.with_controllers = true;
        self
    }

    /// Starts it and returns when it answers.
    ///
    /// # Errors
    ///
    /// When there are no programs or one does not come up; nothing is left then.
    pub fn start(self) -> Result<ControlPlane> {
        super::require()?;
        let assets = assets().context("the folder is there")?;
        let ports = self.ports()?;
        let (place, addresses, folder, own) = if let Some(within) = self.within {
            fs::create_dir(&within.folder).context("make the folder of a control plane")?;
            let addresses = within.addresses.to_vec();
            (Some(within.place), addresses, within.folder, None)
        } else {
            let own = tempfile::tempdir().context("make a folder")?;
            let folder = own.path().to_owned();
            (None, vec![Ipv4Addr::LOCALHOST.into()], folder, Some(own))
        };
        certificates::write(&folder, &addresses)?;
        let mut control_plane = ControlPlane {
            etcd: None,
            api_server: None,
            controllers: None,
            ports,
            host: addresses[0],
            place,
            assets,
            folder,
            _own: own,
        };
        control_plane.write_files()?;
        control_plane.start_etcd()?;
        control_plane.start_api_server()?;
        if self.with_controllers {
            control_plane.start_controllers()?;
        }
        Ok(control_plane)
    }

    fn ports(&self) -> Result<Ports> {
        match &self.within {
            Some(_) => Ok(WELL_KNOWN),
            None => free_ports(),
        }
    }
}

/// Where a control plane has a network namespace to itself. A free port found there would be one
/// that the kernel may give to a connection before the program listens.
const WELL_KNOWN: Ports = Ports {
    api: 6443,
    etcd: 2379,
    peers: 2380,
    controllers: 10257,
};

/// Ports of loopback that are free now.
fn free_ports() -> Result<Ports> {
    // All at once, so that they differ.
    let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut ports = [0; 4];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        *port = listener.context("find a free port")?.local_addr()?.port();
    }
    let [api, etcd, peers, controllers] = ports;
    Ok(Ports {
        api,
        etcd,
        peers,
        controllers,
    })
}
