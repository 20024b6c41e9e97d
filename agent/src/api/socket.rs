//! The unix socket that the API listens on.
//!
//! The file is root's alone from the moment it exists: its mode is set before it is bound, so there
//! is no instant in which others could connect.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::socket::{bind, listen, socket};
use nix::sys::stat::{Mode, fchmod};
use thiserror::Error;
use tokio::net::UnixListener;

/// Why the socket could not be opened.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Another agent answers.
    #[error(
        "{path}: another agent is listening there; stop it first, or choose another path \
         (paths.socket)"
    )]
    InUse {
        /// Path of the socket.
        path: PathBuf,
    },
    /// There is something else at the path, which may be of value to somebody.
    #[error("{path}: exists and is not a socket; remove it or choose another path (paths.socket)")]
    NotASocket {
        /// Path of the file.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("{path}: {action}: {error}")]
    Io {
        /// Path of the socket.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// How it failed.
        #[source]
        error: io::Error,
    },
}

/// A socket that listens. Its file goes with it, unless somebody replaced the file meanwhile.
#[derive(Debug)]
pub struct ApiSocket {
    listener: std::os::unix::net::UnixListener,
    file: SocketFile,
}

/// Removes the file when dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode, to tell the file from a successor at the same path.
    id: (u64, u64),
}

impl ApiSocket {
    /// Listens at a path, accessible to the owner of this process alone (0600). A missing folder
    /// is made, likewise (0700); an existing one is left as it is. The file that a killed agent
    /// left behind is replaced.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let fail = |action| {
            move |error: io::Error| SocketError::Io {
                path: path.to_owned(),
                action,
                error,
            }
        };
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(fail("making the folder"))?;
        }
        remove_stale(path)?;
        let listener = listen_at(path).map_err(|errno| fail("listening")(errno.into()))?;
        let id = file_id(path).map_err(fail("reading back"))?;
        Ok(Self {
            listener,
            file: SocketFile {
                path: path.to_owned(),
                id,
            },
        })
    }

    pub(super) fn into_listener(self) -> io::Result<(UnixListener, SocketFile)> {
        Ok((UnixListener::from_std(self.listener)?, self.file))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if file_id(&self.path).is_ok_and(|id| id == self.id) {
            // A file that cannot be removed is replaced by the next agent.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn listen_at(path: &Path) -> nix::Result<std::os::unix::net::UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let descriptor = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // Linux gives the file the mode of the unbound socket.
    fchmod(&descriptor, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(
        std::os::fd::AsRawFd::as_raw_fd(&descriptor),
        &UnixAddr::new(path)?,
    )?;
    listen(&descriptor, Backlog::new(128)?)?;
    Ok(descriptor.into())
}

/// Removes a socket that nobody answers at.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let fail = |action, error| SocketError::Io {
        path: path.to_owned(),
        action,
        error,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fail("looking", error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| fail("removing the old socket", error))
        }
        Err(error) => Err(fail("asking who listens", error)),
    }
}

fn file_id(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn socket_and_folder_are_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/weir/agent.sock");
        let socket = ApiSocket::bind(&path).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_exists_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let _socket = ApiSocket::bind(&folder.path().join("agent.sock")).unwrap();
        assert_eq!(mode(folder.path()), 0o755);
    }

    #[test]
    fn a_socket_that_nobody_answers_at_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _socket = ApiSocket::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn what_is_in_use_or_no_socket_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let _socket = ApiSocket::bind(&path).unwrap();
        assert!(matches!(
            ApiSocket::bind(&path),
            Err(SocketError::InUse { .. })
        ));
        UnixStream::connect(&path).unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "precious").unwrap();
        assert!(matches!(
            ApiSocket::bind(&file),
            Err(SocketError::NotASocket { .. })
        ));
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    }

    #[test]
    fn a_successor_keeps_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let old = ApiSocket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _new = ApiSocket::bind(&path).unwrap();
        drop(old);
        UnixStream::connect(&path).unwrap();
    }
}
