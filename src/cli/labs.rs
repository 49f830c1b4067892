//! Where labs live, and which one is meant.

use std::path::{Path, PathBuf};

use crate::control::lab::Lab;

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
        "neither XDG_CACHE_HOME nor HOME is set: say with --data where the lab may keep its files",
    )?;
    Ok(base.join("firedrill").join("lab"))
}

/// Makes `dir` ours: refused while another lab runs there. A directory that is not to be kept is emptied of
/// what an earlier lab left behind.
pub(super) fn claim(dir: &Path, keep: bool) -> Result<(), String> {
    if let Ok(Some(lab)) = Lab::read(dir)
        && lab.is_alive()
    {
        return Err(format!(
            "a lab already runs in {} (process {}): stop it, or start another with --data DIR --ports auto",
            dir.display(),
            lab.pid
        ));
    }
    let in_words =
        |error: std::io::Error| format!("the directory {} cannot be used: {error}", dir.display());
    if !keep && dir.exists() {
        std::fs::remove_dir_all(dir).map_err(in_words)?;
    }
    std::fs::create_dir_all(dir).map_err(in_words)
}

/// The lab that runs in `data`, or in the default place.
pub(super) fn running(data: Option<&Path>) -> Result<Lab, String> {
    let dir = data.map_or_else(default_dir, |dir| Ok(dir.to_owned()))?;
    match Lab::read(&dir)? {
        Some(lab) if lab.is_alive() => Ok(lab),
        _ => Err(format!(
            "no lab runs in {}: start one with `firedrill up`, or name its --data",
            dir.display()
        )),
    }
}
