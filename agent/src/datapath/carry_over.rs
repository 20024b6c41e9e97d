//! From the maps and links of another version to those of this one, up or down, with every connection.
//!
//! Maps lie below a folder of their version ([`super::pins`]). At the first start of another version
//! [`CarryOver::find`] finds the folder that is in use, and:
//!
//! 1. maps of an unchanged layout are pinned a second time: both versions' programs use them;
//! 2. of the others there are new ones, which get the entries of the old ones (see
//!    [`ebpf_abi`] for the rule);
//! 3. the pins of the links move here, and the new programs take the place of the old ones, within
//!    milliseconds for all;
//! 4. what the old programs wrote meanwhile is added. Until then, and five seconds at
//!    most, TCP packets without an entry are dropped, and sent again by who sent them;
//! 5. the old folder goes.
//!
//! An agent that ends on the way is no loss. Before step 3 the old version goes on, and what was made
//! is removed by the next agent of either; from then on the old folder has another name, under which
//! the next agent finds it and carries on.

mod entries;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::MapError;

use self::entries::RawMap;
use super::load::PINNED_MAPS;
use super::maps::Maps;
use super::pins::Pins;
use super::remove::entries;
use super::syscall;

/// What the name of a folder starts with whose links have moved.
const MOVED: &str = "former-";

/// Something of another version could not be taken over. Until links have moved, the data plane is as
/// it was.
#[derive(Debug, thiserror::Error)]
pub enum CarryOverError {
    /// A pinned map could not be read.
    #[error("cannot read map {path}")]
    Map {
        /// Where it is pinned.
        path: PathBuf,
        /// Why.
        source: Box<MapError>,
    },
    /// An operation on a pin, or on entries of a map, failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CarryOverError {
    let path = path.to_owned();
    move |source| CarryOverError::Io {
        action,
        path,
        source,
    }
}

/// The other version's folder, and what of it is to be carried over.
#[derive(Debug)]
pub struct CarryOver {
    folder: PathBuf,
    /// Maps of changed layout: the name, the old one, the new one.
    changed: Vec<(&'static str, RawMap, RawMap)>,
}

impl CarryOver {
    /// The folder of another version that is in use, if there is one. Removes what versions left that
    /// never came into use.
    pub fn find(pins: &Pins) -> Result<Option<Self>, CarryOverError> {
        let others = |path: &PathBuf| *path != pins.version();
        let all = entries(pins.root()).map_err(failed("read", pins.root()))?;
        let (moved, versions): (Vec<_>, Vec<_>) = all
            .into_iter()
            .filter(others)
            .partition(|path| file_name(path).starts_with(MOVED));
        let own_is_used = has_links(&pins.version())?;
        let (used, unused) = by_use(versions)?;
        unused.iter().try_for_each(|folder| remove(folder))?;
        // More than one if an upgrade was cut off, and the next agent was of a third version.
        let mut found = None;
        for folder in moved.into_iter().chain(used) {
            match &found {
                None => found = Some(folder),
                Some(found) => {
                    move_pins(&folder.join("links"), &found.join("links"))?;
                    remove(&folder)?;
                }
            }
        }
        if found.is_some() && !own_is_used {
            // Of an earlier try, and as old as that.
            remove_files(&pins.maps())?;
        }
        Ok(found.map(|folder| Self {
            folder,
            changed: Vec::new(),
        }))
    }

    /// Pins the maps of unchanged layout a second time, so that they are adopted.
    pub fn share_maps(&self, pins: &Pins) -> Result<(), CarryOverError> {
        for name in PINNED_MAPS {
            let (old, own) = (self.map(name), pins.map(name));
            if !old.exists() || own.exists() || !is_unchanged(name, &old)? {
                continue;
            }
            syscall::open(&old)
                .and_then(|map| syscall::pin(std::os::fd::AsFd::as_fd(&map), &own))
                .map_err(failed("share", &old))?;
        }
        Ok(())
    }

    /// Fills the new maps of changed layout. Those that cannot take the entries stay empty, which is
    /// logged: their name should have changed too.
    pub fn fill_maps(&mut self, pins: &Pins) -> Result<(), CarryOverError> {
        for name in PINNED_MAPS {
            let path = self.map(name);
            if !path.exists() {
                continue;
            }
            let (old, own) = (open(&path)?, open(&pins.map(name))?);
            if old.is_same(&own) {
                continue;
            }
            if !own.takes_entries_of(&old) {
                tracing::warn!(map = name, "of another kind before: its entries are lost");
                continue;
            }
            let entries = own
                .add_entries_of(&old)
                .map_err(failed("copy the entries of", &path))?;
            tracing::info!(map = name, entries, "carried over to another layout");
            self.changed.push((name, old, own));
        }
        Ok(())
    }

    /// Moves the pins of the links to this version's folder. The old programs still run.
    pub fn move_links(&mut self, pins: &Pins) -> Result<(), CarryOverError> {
        let name = file_name(&self.folder);
        if !name.starts_with(MOVED) {
            let moved = self.folder.with_file_name(format!("{MOVED}{name}"));
            fs::rename(&self.folder, &moved).map_err(failed("rename", &self.folder))?;
            self.folder = moved;
        }
        move_pins(&self.folder.join("links"), &pins.links())
    }

    /// Adds what the old programs have written since the maps were filled. Returns how many entries.
    pub fn add_rest(&self) -> Result<u64, CarryOverError> {
        let mut added = 0;
        for (name, old, own) in &self.changed {
            // The entries of arrays are the new agent's by now.
            if !own.is_array() {
                added += own
                    .add_entries_of(old)
                    .map_err(failed("copy the entries of", &self.map(name)))?;
            }
        }
        Ok(added)
    }

    /// Removes what is left of the other version, whose programs run nowhere any more.
    pub fn forget(self) -> Result<(), CarryOverError> {
        remove(&self.folder)
    }

    fn map(&self, name: &str) -> PathBuf {
        self.folder.join("maps").join(name)
    }
}

fn open(path: &Path) -> Result<RawMap, CarryOverError> {
    RawMap::open(path).map_err(|source| CarryOverError::Map {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// True if this version's programs and agent can use a map as it is.
fn is_unchanged(name: &str, path: &Path) -> Result<bool, CarryOverError> {
    Ok(open(path)?.is_laid_out(Maps::layout(name), Maps::array_len(name)))
}

/// Folders with links, and those without.
fn by_use(versions: Vec<PathBuf>) -> Result<(Vec<PathBuf>, Vec<PathBuf>), CarryOverError> {
    let (mut used, mut unused) = (Vec::new(), Vec::new());
    for folder in versions {
        if has_links(&folder)? {
            used.push(folder);
        } else {
            unused.push(folder);
        }
    }
    Ok((used, unused))
}

fn move_pins(from: &Path, to: &Path) -> Result<(), CarryOverError> {
    for pin in entries(from).map_err(failed("read", from))? {
        fs::rename(&pin, to.join(file_name(&pin))).map_err(failed("move", &pin))?;
    }
    Ok(())
}

fn has_links(version: &Path) -> Result<bool, CarryOverError> {
    let links = version.join("links");
    Ok(!entries(&links).map_err(failed("read", &links))?.is_empty())
}

fn remove(version: &Path) -> Result<(), CarryOverError> {
    for folder in entries(version).map_err(failed("read", version))? {
        remove_files(&folder)?;
        fs::remove_dir(&folder).map_err(failed("remove", &folder))?;
    }
    fs::remove_dir(version).map_err(failed("remove", version))
}

fn remove_files(folder: &Path) -> Result<(), CarryOverError> {
    for pin in entries(folder).map_err(failed("read", folder))? {
        fs::remove_file(&pin).map_err(failed("remove", &pin))?;
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
