//! The compiled kernel programs, embedded.
//!
//! Place in the three paths: the bytes that `agent::datapath` loads; packets meet them in the
//! kernel. The build script compiles them from `ebpf-programs`, or takes them from the folder
//! named by `WEIR_EBPF_OBJECT_DIR` (files `weir-datapath` and `weir-bench`). With `WEIR_EBPF_LOG=1` it
//! compiles programs that log what they decide, for debugging; without, they hold no trace of that.
//!
//! Invariants: either both objects are here or none; what is here was compiled from the sources
//! this crate was built beside. A build without the eBPF toolchain carries none and says so when
//! asked, so that everything that needs no kernel still works.

/// This build carries no eBPF objects.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this build carries no eBPF object: when it was made, {reason}. Then build again")]
pub struct MissingObject {
    /// What the build lacked and what to run about it.
    pub reason: &'static str,
}

/// The data plane: every program the agent attaches, as an ELF object with BTF, 8-byte aligned.
pub fn datapath() -> Result<&'static [u8], MissingObject> {
    embedded::datapath()
}

/// The benchmark's harness programs, as an ELF object with BTF, 8-byte aligned.
pub fn bench() -> Result<&'static [u8], MissingObject> {
    embedded::bench()
}

#[cfg(ebpf_object)]
mod embedded {
    use super::MissingObject;

    /// ELF readers cast the header in place, and that wants its alignment.
    #[repr(C, align(8))]
    struct Aligned<Bytes: ?Sized>(Bytes);

    static DATAPATH: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(
        env!("OUT_DIR"),
        "/weir-datapath.o"
    )));
    static BENCH: &Aligned<[u8]> =
        &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/weir-bench.o")));

    #[expect(
        clippy::unnecessary_wraps,
        reason = "the other build of this module can fail"
    )]
    pub(super) fn datapath() -> Result<&'static [u8], MissingObject> {
        Ok(&DATAPATH.0)
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "the other build of this module can fail"
    )]
    pub(super) fn bench() -> Result<&'static [u8], MissingObject> {
        Ok(&BENCH.0)
    }
}

#[cfg(not(ebpf_object))]
mod embedded {
    use super::MissingObject;

    const MISSING: MissingObject = MissingObject {
        reason: include_str!(concat!(env!("OUT_DIR"), "/missing.txt")),
    };

    pub(super) fn datapath() -> Result<&'static [u8], MissingObject> {
        Err(MISSING)
    }

    pub(super) fn bench() -> Result<&'static [u8], MissingObject> {
        Err(MISSING)
    }
}

#[cfg(test)]
mod tests {
    use super::{MissingObject, bench, datapath};

    #[test]
    fn objects_are_aligned_elf_or_say_what_to_run() {
        for object in [datapath(), bench()] {
            match object {
                Ok(bytes) => {
                    assert_eq!(&bytes[..4], b"\x7fELF");
                    assert_eq!(bytes.as_ptr().addr() % 8, 0);
                }
                Err(MissingObject { reason }) => {
                    assert!(reason.contains("cargo xtask setup"), "{reason}");
                }
            }
        }
    }
}
