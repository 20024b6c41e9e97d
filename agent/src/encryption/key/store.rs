//! The private key on disk: one file that only root reads, in a folder that only root enters.
//!
//! A rotation puts the new key in place in one rename and keeps the old one beside it until told
//! to drop it. Stopping at any moment leaves a key in place, and never one half written.

mod error;

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::PrivateKey;

pub use error::KeyStoreError;

/// Folder below the agent's state folder, and the files in it.
const FOLDER: &str = "encryption";
const CURRENT: &str = "private-key";
const PREVIOUS: &str = "private-key.previous";
const UNFINISHED: &str = "private-key.new";

/// Permissions of the folder and of a key.
const FOLDER_MODE: u32 = 0o700;
const KEY_MODE: u32 = 0o600;

/// Bits that must not be set: those of group and others.
const OPEN_TO_OTHERS: u32 = 0o077;

/// Longest file that can be a key; a longer one is not read into memory.
const MAX_BYTES: u64 = 1024;

/// A key and when it was made.
#[derive(Clone, Debug)]
pub struct StoredKey {
    /// The key.
    pub key: PrivateKey,
    /// When it was made; a rotation by age counts from here.
    pub created: SystemTime,
}

/// Where the node's private key is kept.
#[derive(Clone, Debug)]
pub struct KeyStore {
    folder: PathBuf,
}

impl KeyStore {
    /// Opens the store below the agent's state folder, making it at the first time.
    pub fn open(state_folder: &Path) -> Result<Self, KeyStoreError> {
        let folder = state_folder.join(FOLDER);
        DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(&folder)
            .or_else(|source| match source.kind() {
                // Not a folder: told below, with what it is.
                io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => Ok(()),
                _ => Err(failed("create the folder", &folder)(source)),
            })?;
        let metadata = fs::symlink_metadata(&folder).map_err(failed("look at", &folder))?;
        if !metadata.is_dir() {
            return Err(KeyStoreError::Kind {
                found: kind_of(&metadata),
                path: folder,
                wanted: "a folder",
            });
        }
        check_access(&folder, &metadata, FOLDER_MODE)?;
        Ok(Self { folder })
    }

    /// Whether there is a store below this folder.
    pub fn exists(state_folder: &Path) -> bool {
        state_folder.join(FOLDER).exists()
    }

    /// The key in use, if there is one.
    pub fn load(&self) -> Result<Option<StoredKey>, KeyStoreError> {
        self.read(CURRENT)
    }

    /// The key in use; makes one at the first time.
    pub fn load_or_create(&self) -> Result<StoredKey, KeyStoreError> {
        match self.load()? {
            Some(stored) => Ok(stored),
            None => self.write_new(),
        }
    }

    /// Puts a new key in place of the one in use, which is kept for [`Self::previous`].
    ///
    /// # Errors
    /// Also if the key of an earlier rotation was not dropped yet: two steps at once would leave
    /// behind peers who know neither of the two that are kept.
    pub fn rotate(&self) -> Result<StoredKey, KeyStoreError> {
        if self.previous()?.is_some() {
            let path = self.path(PREVIOUS);
            return Err(KeyStoreError::RotationUnfinished { path });
        }
        if self.load()?.is_some() {
            // A second name for the same file: there is no moment without a key in use.
            self.remove(PREVIOUS)?;
            let previous = self.path(PREVIOUS);
            fs::hard_link(self.path(CURRENT), &previous).map_err(failed("create", &previous))?;
        }
        self.write_new()
    }

    /// The key of before the last rotation, until it is dropped.
    pub fn previous(&self) -> Result<Option<StoredKey>, KeyStoreError> {
        let (Some(previous), Some(current)) = (self.read(PREVIOUS)?, self.load()?) else {
            return Ok(None);
        };
        // The same key: a rotation was cut off before its new key was in place.
        let differs = previous.key.public() != current.key.public();
        Ok(differs.then_some(previous))
    }

    /// Forgets the key of before the last rotation.
    pub fn drop_previous(&self) -> Result<(), KeyStoreError> {
        self.remove(PREVIOUS)
    }

    /// Removes every key and the folder, if nothing else is in it.
    pub fn remove_all(self) -> Result<(), KeyStoreError> {
        for name in [CURRENT, PREVIOUS, UNFINISHED] {
            self.remove(name)?;
        }
        match fs::remove_dir(&self.folder) {
            Err(source) if source.kind() != io::ErrorKind::DirectoryNotEmpty => {
                Err(failed("remove", &self.folder)(source))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn write_new(&self) -> Result<StoredKey, KeyStoreError> {
        let stored = StoredKey {
            key: PrivateKey::generate(),
            created: Timestamp::now().into(),
        };
        let unfinished = self.path(UNFINISHED);
        // Left over if an earlier attempt was cut off.
        self.remove(UNFINISHED)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(KEY_MODE)
            .open(&unfinished)
            .map_err(failed("create", &unfinished))?;
        file.write_all(render(&stored).as_bytes())
            // The mask of the process may have taken bits away.
            .and_then(|()| file.set_permissions(Permissions::from_mode(KEY_MODE)))
            .and_then(|()| file.sync_all())
            .map_err(failed("write", &unfinished))?;
        let current = self.path(CURRENT);
        fs::rename(&unfinished, &current)
            .and_then(|()| File::open(&self.folder)?.sync_all())
            .map_err(failed("put in place", &current))?;
        Ok(stored)
    }

    fn read(&self, name: &str) -> Result<Option<StoredKey>, KeyStoreError> {
        let path = self.path(name);
        let opened = OpenOptions::new()
            .read(true)
            // Looked at through the opened file: what is checked is what is read. Without waiting
            // for the writer of a pipe.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                let metadata = fs::symlink_metadata(&path).map_err(failed("look at", &path))?;
                check_is_file(&path, &metadata)?;
                return Err(failed("open", &path)(source));
            }
        };
        let metadata = file.metadata().map_err(failed("look at", &path))?;
        check_is_file(&path, &metadata)?;
        check_access(&path, &metadata, KEY_MODE)?;
        if metadata.len() > MAX_BYTES {
            let reason = "it is too long";
            return Err(KeyStoreError::Content { path, reason });
        }
        let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES as usize));
        file.take(MAX_BYTES)
            .read_to_string(&mut text)
            .map_err(failed("read", &path))?;
        match parse(&text) {
            Ok(stored) => Ok(Some(stored)),
            Err(reason) => Err(KeyStoreError::Content { path, reason }),
        }
    }

    fn remove(&self, name: &str) -> Result<(), KeyStoreError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path)(source))
            }
            _ => Ok(()),
        }
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyStoreError {
    move |source| KeyStoreError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

fn kind_of(metadata: &fs::Metadata) -> &'static str {
    if metadata.is_symlink() {
        "a symbolic link"
    } else if metadata.is_dir() {
        "a folder"
    } else if metadata.is_file() {
        "a file"
    } else {
        "a pipe, socket or device"
    }
}

fn check_is_file(path: &Path, metadata: &fs::Metadata) -> Result<(), KeyStoreError> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(KeyStoreError::Kind {
        path: path.to_owned(),
        found: kind_of(metadata),
        wanted: "a file",
    })
}

fn check_access(path: &Path, metadata: &fs::Metadata, wanted: u32) -> Result<(), KeyStoreError> {
    let mode = metadata.mode() & 0o7777;
    if mode & OPEN_TO_OTHERS != 0 {
        let path = path.to_owned();
        return Err(KeyStoreError::Open { path, mode, wanted });
    }
    let expected = nix::unistd::geteuid().as_raw();
    if metadata.uid() != expected {
        return Err(KeyStoreError::Owner {
            path: path.to_owned(),
            owner: metadata.uid(),
            expected,
        });
    }
    Ok(())
}

fn render(stored: &StoredKey) -> Zeroizing<String> {
    let created = Timestamp::try_from(stored.created).expect("made from the clock's time just now");
    // With room for all of it: growing would leave a copy of the key behind in freed memory.
    let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES as usize));
    text.push_str(
        "# The private WireGuard key of this node, made here; it belongs nowhere else.\n",
    );
    writeln!(text, "created: {created}").expect("a string takes everything");
    text.push_str("key: ");
    text.push_str(&stored.key.to_base64());
    text.push('\n');
    text
}

fn parse(text: &str) -> Result<StoredKey, &'static str> {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let created = field("created").ok_or("the line `created: TIME` is missing")?;
    let created: Timestamp = created.parse().map_err(|_| "its time cannot be read")?;
    let key = field("key").ok_or("the line `key: KEY` is missing")?;
    let key = PrivateKey::from_base64(key).map_err(|_| "its key is not 32 bytes in base64")?;
    Ok(StoredKey {
        key,
        created: created.into(),
    })
}

#[cfg(test)]
mod tests;
