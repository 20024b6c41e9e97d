//! From the maps and links of another version to those of this one, up or down, with every connection.
//!
//! Maps lie below a folder of their version ([`super::pins`]). At the first start of another version
//! [`CarryOver::find`] finds the folders that are in use, one almost always, and:
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
use super::pins::{self, Pins};
use super::remove::entries;
use super::syscall;

/// What the name of a folder starts with whose links have moved. A number follows: what moved later
/// has a greater one.
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

/// The folders of other versions, and what of them is to be carried over.
#[derive(Debug)]
pub struct CarryOver {
    /// The oldest first. More than one if an upgrade was cut off and the next agent was not of the
    /// version that had begun it: what is known is in all of them then.
    folders: Vec<PathBuf>,
    /// Maps of changed layout: the name, the old one, the new one. What is newer comes first.
    changed: Vec<(&'static str, RawMap, RawMap)>,
}

impl CarryOver {
    /// The folders of other versions that are in use, if there are any. Removes what versions left
    /// that never came into use.
    pub fn find(pins: &Pins) -> Result<Option<Self>, CarryOverError> {
        let others = |path: &PathBuf| *path != pins.version();
        let all = entries(pins.root()).map_err(failed("read", pins.root()))?;
        let (mut moved, versions): (Vec<_>, Vec<_>) = all
            .into_iter()
            .filter(others)
            .partition(|path| place_of(path).is_some());
        moved.sort_by_key(|path| place_of(path));
        let own_is_used = is_used(&pins.version())?;
        let (used, unused) = by_use(versions)?;
        unused.iter().try_for_each(|folder| remove(folder))?;
        let folders: Vec<_> = moved.into_iter().chain(used).collect();
        if folders.is_empty() {
            return Ok(None);
        }
        if !own_is_used {
            // Of an earlier try, and as old as that.
            remove_files(&pins.maps())?;
        }
        Ok(Some(Self {
            folders,
            changed: Vec::new(),
        }))
    }

    /// True if an earlier agent ended after the links had moved.
    pub fn was_cut_off(&self) -> bool {
        self.folders.iter().any(|path| place_of(path).is_some())
    }

    /// Pins the maps of unchanged layout a second time, so that they are adopted.
    pub fn share_maps(&self, pins: &Pins) -> Result<(), CarryOverError> {
        for name in PINNED_MAPS {
            let (newest, own) = (self.maps(name).next(), pins.map(name));
            let Some(newest) = newest.filter(|_| !own.exists()) else {
                continue;
            };
            if is_unchanged(name, &newest)? {
                syscall::open(&newest)
                    .and_then(|map| syscall::pin(std::os::fd::AsFd::as_fd(&map), &own))
                    .map_err(failed("share", &newest))?;
            }
        }
        Ok(())
    }

    /// Fills the new maps of changed layout. Those that cannot take the entries stay empty, which is
    /// logged: their name should have changed too.
    pub fn fill_maps(&mut self, pins: &Pins) -> Result<(), CarryOverError> {
        for name in PINNED_MAPS {
            for (age, path) in self.maps(name).enumerate() {
                let (old, own) = (open(&path)?, open(&pins.map(name))?);
                // Entries of an array are replaced, so there the newest is all that counts.
                if old.is_same(&own) || age > 0 && own.is_array() {
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
        }
        Ok(())
    }

    /// Moves the pins of the links to this version's folder. The old programs still run.
    pub fn move_links(&mut self, pins: &Pins) -> Result<(), CarryOverError> {
        let mut last = self.folders.iter().filter_map(|path| place_of(path)).max();
        for folder in &mut self.folders {
            if place_of(folder).is_none() {
                let place = last.map_or(0, |last| last + 1);
                let moved = format!("{MOVED}{place}-{}", file_name(folder));
                let moved = folder.with_file_name(moved);
                fs::rename(&*folder, &moved).map_err(failed("rename", folder))?;
                *folder = moved;
                last = Some(place);
            }
            move_pins(&folder.join("links"), &pins.links())?;
        }
        Ok(())
    }

    /// Adds what the old programs have written since the maps were filled. Returns how many entries.
    pub fn add_rest(&self) -> Result<u64, CarryOverError> {
        let mut added = 0;
        for (name, old, own) in &self.changed {
            // The entries of arrays are the new agent's by now.
            if !own.is_array() {
                added += own
                    .add_entries_of(old)
                    .map_err(failed("copy the entries of", Path::new(name)))?;
            }
        }
        Ok(added)
    }

    /// Removes what is left of other versions, whose programs run nowhere any more.
    pub fn forget(self) -> Result<(), CarryOverError> {
        self.folders.iter().try_for_each(|folder| remove(folder))
    }

    /// Where a map is pinned, the newest first.
    fn maps(&self, name: &'static str) -> impl Iterator<Item = PathBuf> + use<> {
        let maps = self.folders.iter().rev();
        let maps: Vec<_> = maps.map(|folder| folder.join("maps").join(name)).collect();
        maps.into_iter().filter(|path| path.exists())
    }
}

/// The place of a folder among those whose links have moved; nothing for others.
fn place_of(folder: &Path) -> Option<u32> {
    let name = file_name(folder);
    let (place, _) = name.strip_prefix(MOVED)?.split_once('-')?;
    place.parse().ok()
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

/// Folders of versions whose programs are attached, and the others.
fn by_use(versions: Vec<PathBuf>) -> Result<(Vec<PathBuf>, Vec<PathBuf>), CarryOverError> {
    let (mut used, mut unused) = (Vec::new(), Vec::new());
    for folder in versions {
        if is_used(&folder)? {
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

fn is_used(version: &Path) -> Result<bool, CarryOverError> {
    pins::is_used(version).map_err(failed("read", version))
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

#[cfg(test)]
mod tests;
