//! TC on any interface: by a link (TCX), or before 6.6 by a filter on a `clsact` qdisc.

use aya::programs::links::FdLink;
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact,
};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};

use super::{AttachError, AttachedTc, Attacher, pin_link, program_mut, refused};
use crate::datapath::interfaces::Interface;

/// Priority of our TC filters where there are no links: before the filters of others that took the
/// kernel's default (49152 and down).
const TC_PRIORITY: u16 = 50;
/// Handle of our TC filters.
const TC_HANDLE: TcHandle = TcHandle::new(0, 0x77);

impl Attacher {
    pub(super) fn tc(
        &mut self,
        program: &'static str,
        interface: &Interface,
        hook: TcAttachType,
    ) -> Result<(), AttachError> {
        match self.tc {
            AttachedTc::Tcx => self.tcx(program, interface, hook),
            AttachedTc::Clsact => self
                .clsact(program, interface, hook)
                .map_err(|source| refused(program, &interface.name, source)),
        }
    }

    fn tcx(
        &mut self,
        program: &'static str,
        interface: &Interface,
        hook: TcAttachType,
    ) -> Result<(), AttachError> {
        let pin = self.pins.interface_link(program, interface.ifindex);
        if self.adopt(program, &interface.name, &pin)? {
            return Ok(());
        }
        let attach = |loaded: &mut SchedClassifier| -> Result<FdLink, ProgramError> {
            let order = TcAttachOptions::TcxOrder(LinkOrder::default());
            let id = loaded.attach_with_options(&interface.name, hook, order)?;
            Ok(loaded
                .take_link(id)?
                .try_into()
                .expect("TCX is attached by links"))
        };
        let link = program_mut(&mut self.programs, program)
            .and_then(attach)
            .map_err(|source| refused(program, &interface.name, source))?;
        pin_link(link, &pin).map_err(|source| AttachError::Io {
            program,
            to: interface.name.clone(),
            source,
        })
    }

    fn clsact(
        &mut self,
        program: &'static str,
        interface: &Interface,
        hook: TcAttachType,
    ) -> Result<(), ProgramError> {
        // Fails if the qdisc is there; if it fails for another reason, attaching does too.
        let _ = qdisc_add_clsact(&interface.name);
        let loaded: &mut SchedClassifier = program_mut(&mut self.programs, program)?;
        let ours =
            SchedClassifierLink::attached(&interface.name, hook, TC_PRIORITY, TC_HANDLE, None)?;
        let id = match loaded.attach_to_link(ours) {
            Ok(id) => id,
            Err(_) => loaded.attach_with_options(
                &interface.name,
                hook,
                TcAttachOptions::Netlink(NlOptions {
                    priority: TC_PRIORITY,
                    handle: TC_HANDLE,
                    classid: None,
                }),
            )?,
        };
        // Dropping it would detach the filter, which is to outlive this process.
        std::mem::forget(loaded.take_link(id)?);
        Ok(())
    }
}
