//! A run: everything that one cluster leaves on the machine, and its removal by id.
//!
//! Three places hold traces of a run, all named by its id: `/run/weir-tests/<id>` (a private tmpfs
//! with the mount namespaces, files and logs), `/run/netns/weir-<id>-<member>`, and the cgroup
//! `weir-<id>`, in which all processes of the run live. The record `/run/weir-tests/<id>.json`
//! names them and their owner; it is written first and removed last, so a run that was cut short
//! anywhere can be cleaned by anyone.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::{Deserialize, Serialize};

use crate::{Place, namespace};

pub mod cgroup;
mod owner;
mod signal;
mod sweep;

pub use owner::Owner;
pub use sweep::sweep;

/// Directory of all records and run directories.
pub const DIRECTORY: &str = "/run/weir-tests";

/// Runs of this process, for the signal handler.
static LIVE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Held for reading while a run is built or removed, for writing when a signal removes them all.
static CHANGING: RwLock<()> = RwLock::new(());

/// Keeps a signal from removing runs until the guard is dropped: a half-built one would go on
/// growing while it is removed. Waits for the end of the process if a signal was first.
pub fn changing() -> RwLockReadGuard<'static, ()> {
    CHANGING.read().unwrap_or_else(PoisonError::into_inner)
}

/// What is known of a run without asking its owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Id of the run.
    pub id: String,
    /// Process that made it.
    pub owner: Owner,
    /// Left behind on purpose: only an explicit request removes it.
    pub kept: bool,
    /// Names of its network namespaces.
    pub namespaces: Vec<String>,
    /// Its cgroup directory.
    pub cgroup: PathBuf,
}

impl Record {
    /// The record of the run `id`.
    ///
    /// # Errors
    ///
    /// When there is no such run or its record cannot be read.
    pub fn read(id: &str) -> Result<Self> {
        let path = record_path(id);
        let text = fs::read(&path).with_context(|| format!("there is no run {id:?}"))?;
        serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))
    }

    /// Directory of the run's files.
    pub fn directory(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.id)
    }

    /// Name of the network namespace of `member`.
    pub fn namespace_of(&self, member: &str) -> String {
        namespace_of(&self.id, member)
    }

    /// Names of the members.
    pub fn members(&self) -> impl Iterator<Item = &str> {
        let prefix = self.namespace_of("").len();
        self.namespaces
            .iter()
            .filter_map(move |name| name.get(prefix..))
    }

    /// The member `name` as a place to run things in.
    ///
    /// # Errors
    ///
    /// When the run has no such member.
    pub fn place_of(&self, name: &str) -> Result<Place> {
        let Some(member) = self.members().find(|member| *member == name) else {
            let names: Vec<_> = self.members().collect();
            bail!(
                "cluster {} has no {name:?}: it has {}",
                self.id,
                names.join(", ")
            )
        };
        let mounts = Some(self.directory().join(name).join("mounts")).filter(|path| path.exists());
        let tree = cgroup::tree(&self.cgroup).into_iter();
        let cgroup = tree
            .skip(1)
            .find(|path| path.file_name().is_some_and(|own| own == name));
        let cgroup = cgroup.with_context(|| format!("{name} has no cgroup"))?;
        let network = namespace::path(&self.namespace_of(member));
        Ok(Place::new(member, network, mounts, cgroup))
    }

    /// Replaces the record on disk by this one.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write(&self) -> Result<()> {
        let path = record_path(&self.id);
        let draft = path.with_extension("draft");
        let text = serde_json::to_vec_pretty(self).context("encode the record")?;
        fs::write(&draft, text).with_context(|| format!("write {}", draft.display()))?;
        fs::rename(&draft, &path).with_context(|| format!("write {}", path.display()))
    }

    /// Ends all processes of the run and removes all its traces, as far as possible.
    ///
    /// # Errors
    ///
    /// When something could not be removed; the rest is, and the record stays for another try.
    pub fn remove(&self) -> Result<()> {
        let mut steps = vec![cgroup::remove(&self.cgroup)];
        steps.extend(self.namespaces.iter().map(|name| namespace::remove(name)));
        steps.push(self.remove_directory());
        forget(&self.id);
        if steps.iter().all(Result::is_ok) {
            steps.push(fs::remove_file(record_path(&self.id)).context("remove the record"));
        }
        let problems = steps
            .into_iter()
            .filter_map(Result::err)
            .map(|error| format!("{error:#}"));
        let problems: Vec<_> = problems.collect();
        if !problems.is_empty() {
            bail!("remove run {}: {}", self.id, problems.join("; "));
        }
        Ok(())
    }

    fn remove_directory(&self) -> Result<()> {
        let directory = self.directory();
        if !directory.exists() {
            return Ok(());
        }
        // Not a mount point if its maker died in between. What hangs below goes with it.
        let _ = umount2(&directory, MntFlags::MNT_DETACH);
        fs::remove_dir(&directory).with_context(|| format!("remove {}", directory.display()))
    }
}

/// Name of the network namespace of `member` in the run `id`.
fn namespace_of(id: &str, member: &str) -> String {
    format!("weir-{id}-{member}")
}

fn record_path(id: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{id}.json"))
}

/// Starts a run for the given members: record, tmpfs and cgroup.
///
/// The id is `name` with a number that makes it unique on this machine.
///
/// # Errors
///
/// When the machine does not allow it (not root, no cgroup v2); nothing is left then.
pub fn start(name: &str, members: &[&str]) -> Result<Record> {
    signal::install()?;
    fs::create_dir_all(DIRECTORY).with_context(|| format!("create {DIRECTORY} (are you root?)"))?;
    let cgroups = cgroup::mount_point()?;
    let owner = Owner::this_process()?;
    let record = (0..1000).find_map(|number| {
        let id = format!("{name}-{}-{number}", process::id());
        let record = Record {
            owner: owner.clone(),
            kept: false,
            namespaces: members
                .iter()
                .map(|member| namespace_of(&id, member))
                .collect(),
            cgroup: cgroups.join(format!("weir-{id}")),
            id,
        };
        claim(&record).transpose()
    });
    let record = record.context("no free run id")??;
    LIVE.lock()
        .expect("no holder of this lock panics")
        .push(record.id.clone());
    if let Err(error) = prepare(&record) {
        // The first error says more than what the removal might add.
        let _ = record.remove();
        return Err(error);
    }
    Ok(record)
}

/// Writes the record if its id is free.
fn claim(record: &Record) -> Result<Option<Record>> {
    let path = record_path(&record.id);
    let text = serde_json::to_vec_pretty(record).context("encode the record")?;
    match fs::File::create_new(&path) {
        Ok(mut file) => {
            file.write_all(&text)
                .with_context(|| format!("write {}", path.display()))?;
            Ok(Some(record.clone()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(error).with_context(|| format!("create {}", path.display())),
    }
}

fn prepare(record: &Record) -> Result<()> {
    let directory = record.directory();
    fs::create_dir(&directory).with_context(|| format!("create {}", directory.display()))?;
    let none = None::<&str>;
    mount(
        Some("weir-tests"),
        &directory,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=755"),
    )
    .with_context(|| format!("mount a tmpfs on {}", directory.display()))?;
    // Names of mount namespaces can only lie on a mount that no other namespace gets to see.
    mount(none, &directory, none, MsFlags::MS_PRIVATE, none)
        .with_context(|| format!("make {} private", directory.display()))?;
    fs::create_dir(&record.cgroup).with_context(|| format!("create {}", record.cgroup.display()))
}

/// Ids of the runs that this process still has to remove.
fn live() -> Vec<String> {
    LIVE.lock().map(|live| live.clone()).unwrap_or_default()
}

/// Takes a run off the list of those that a signal removes.
pub fn forget(id: &str) {
    if let Ok(mut live) = LIVE.lock() {
        live.retain(|other| other != id);
    }
}

/// Records of all runs on this machine; unreadable ones are left out.
pub fn all() -> Vec<Record> {
    let entries = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let ids = names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned));
    ids.filter_map(|id| Record::read(&id).ok()).collect()
}
