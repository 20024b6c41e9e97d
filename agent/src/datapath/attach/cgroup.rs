//! Sockets: the programs of a cgroup's hooks.

use std::fs::File;
use std::path::Path;

use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSockAddr, ProgramError};

use super::{AttachError, Attacher, pin_link, program_mut, refused};

/// Programs of the cgroup hooks.
pub const CGROUP_PROGRAMS: [&str; 8] = [
    "cg_connect4",
    "cg_connect6",
    "cg_sendmsg4",
    "cg_sendmsg6",
    "cg_recvmsg4",
    "cg_recvmsg6",
    "cg_getpeer4",
    "cg_getpeer6",
];

impl Attacher {
    /// Attaches the socket programs to a cgroup and everything below it.
    pub fn sockets(&mut self, cgroup: &Path) -> Result<(), AttachError> {
        let to = cgroup.display().to_string();
        for program in CGROUP_PROGRAMS {
            let pin = self.pins.cgroup_link(program);
            if self.adopt(program, &to, &pin)? {
                continue;
            }
            let io = |source| AttachError::Io {
                program,
                to: to.clone(),
                source,
            };
            let cgroup = File::open(cgroup).map_err(io)?;
            let attach = |loaded: &mut CgroupSockAddr| -> Result<FdLink, ProgramError> {
                // The mode of links: they always stand beside others and take no flags.
                let id = loaded.attach(cgroup, CgroupAttachMode::Single)?;
                Ok(loaded
                    .take_link(id)?
                    .try_into()
                    .expect("kernels from 5.7 on give links"))
            };
            let link = program_mut(&mut self.programs, program)
                .and_then(attach)
                .map_err(|source| refused(program, &to, source))?;
            pin_link(link, &pin).map_err(io)?;
        }
        self.cgroup = Some(to);
        Ok(())
    }
}
