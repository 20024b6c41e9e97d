//! For tests that need the real kernel: a network namespace of their own.

use std::process::Command;

/// Whether this is root; if not, says that the test is skipped.
pub fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("SKIPPED: network namespaces and eBPF programs take root");
    }
    root
}

/// Runs `test` on a thread in a new network namespace, which ends with the thread. Skips it for
/// users other than root.
pub fn in_private_namespace(test: impl FnOnce() + Send + 'static) {
    if !is_root() {
        return;
    }
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root may");
        ip("link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `ip` with these words in the namespace of the calling thread.
pub fn ip(words: &str) {
    let status = Command::new("ip")
        .args(words.split(' '))
        .status()
        .expect("ip is installed");
    assert!(status.success(), "ip {words}: {status}");
}
