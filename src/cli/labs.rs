//! Where labs live, and which one is meant.
//!
//! Two labs in one directory would overwrite each other's databases, and a process id in a file may by now be a
//! stranger's. So a lab holds a lock, which ends with its process.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::control::lab::{Lab, Member};

/// The directory of the lab that was started without `--data`.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the environment"
)]
pub(super) fn default_dir() -> Result<PathBuf, String> {
    let from = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let cache = from("XDG_CACHE_HOME").or_else(|| from("HOME").map(|home| home.join(".cache")));
    let base = cache.ok_or(
        "neither XDG_CACHE_HOME nor HOME is set, so there is no place for the lab's files",
    )?;
    Ok(base.join("firedrill").join("lab"))
}

/// Held by the one lab of a directory until its process ends, however that ends.
#[derive(Debug)]
pub(super) struct Claim(
    #[expect(dead_code, reason = "the lock lasts as long as the file is open")] File,
);

/// The file that is locked. It stays when the directory is emptied, or two labs could hold two files of that name.
const LOCK: &str = "lab.lock";

/// Makes `dir` ours: refused while another lab has it. A directory that is not to be kept is emptied of what an
/// earlier lab left behind.
pub(super) fn claim(dir: &Path, keep: bool) -> Result<Claim, String> {
    let in_words =
        |error: std::io::Error| format!("the directory {} cannot be used: {error}", dir.display());
    std::fs::create_dir_all(dir).map_err(in_words)?;
    let file = lock_file(dir).map_err(in_words)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let pid = Lab::read(dir).ok().flatten().map_or(0, |lab| lab.pid);
        return Err(format!(
            "a lab already runs in {} (process {pid}): stop it, or start another with --data DIR --ports auto",
            dir.display()
        ));
    }
    if !keep {
        empty(dir).map_err(in_words)?;
    }
    Ok(Claim(file))
}

fn lock_file(dir: &Path) -> std::io::Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(dir.join(LOCK))
}

/// Removes all that is in `dir`, but for the lock.
pub(super) fn empty(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            std::fs::remove_dir_all(&path)?;
        } else if path.file_name().is_some_and(|name| name != LOCK) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// The lab that runs in `data`, or in the default place.
pub(super) fn running(data: Option<&Path>) -> Result<Lab, String> {
    let dir = data.map_or_else(default_dir, |dir| Ok(dir.to_owned()))?;
    match Lab::read(&dir)? {
        Some(lab) if is_claimed(&dir) => Ok(lab),
        _ => Err(format!(
            "no lab runs in {}: start one with `firedrill up`, or name its --data",
            dir.display()
        )),
    }
}

/// The processes of a lab that `role` means: a role, one of its replicas (`payments-2`), or `all`.
pub(super) fn members<'a>(lab: &'a Lab, role: &str) -> Result<Vec<&'a Member>, String> {
    let asked = |member: &&Member| role == "all" || role == member.role || role == member.name;
    let members: Vec<_> = lab.members.iter().filter(asked).collect();
    if !members.is_empty() {
        return Ok(members);
    }
    let names: Vec<_> = lab.members.iter().map(|member| &*member.name).collect();
    Err(format!(
        "there is no {role:?} in this lab; there are: all, {}",
        names.join(", ")
    ))
}

/// Whether a lab has `dir`; what a killed one left behind is no lab.
fn is_claimed(dir: &Path) -> bool {
    lock_file(dir).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
}
