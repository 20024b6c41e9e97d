//! Why the private key cannot be used or kept, with what to do about it.

use std::io;
use std::path::PathBuf;

/// Why the key cannot be used or kept.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// Others than root could read the key, so it must count as known to them.
    #[error(
        "{path} has mode {mode:04o}: others than its owner can reach the private key. Run `chmod \
         {wanted:04o} {path}`, and `weir encrypt rotate-key` if anyone may have read it",
        path = path.display()
    )]
    Open {
        /// The file or folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// What they should be.
        wanted: u32,
    },
    /// Another user could replace the key.
    #[error(
        "{path} belongs to user {owner} and not to the agent's user {expected}: run `chown \
         {expected} {path}`",
        path = path.display()
    )]
    Owner {
        /// The file or folder.
        path: PathBuf,
        /// User it belongs to.
        owner: u32,
        /// User the agent runs as.
        expected: u32,
    },
    /// A symbolic link, a folder or a device stands where a key (or its folder) is to be.
    #[error(
        "{path} is {found}, and the private key is kept only in {wanted} of its own: move it away",
        path = path.display()
    )]
    Kind {
        /// The file or folder.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// The file holds something else than a key written by this store.
    #[error(
        "{path} holds no private key: {reason}. Restore it, or remove it to have a new one made",
        path = path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A rotation is still under way.
    #[error(
        "{path} keeps the key of before the last rotation, which has not ended",
        path = path.display()
    )]
    RotationUnfinished {
        /// The file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{doing} {path}", path = path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
}
