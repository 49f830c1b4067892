//! The file by which a running lab is found: `DIR/lab.json`.
//!
//! Ports may be any, processes come and go; whoever wants to flip a choice, run a drill or draw a page reads
//! here who runs where. Written by `up`, whole, at each change.

use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A lab: the supervisor and its roles.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lab {
    /// The process of `firedrill up`.
    pub pid: u32,
    /// Each process of the lab, in the order in which they were started.
    pub members: Vec<Member>,
}

/// One process of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name: that of its role, with a number where the role has replicas (`payments-2`).
    pub name: String,
    /// Its role: `shop`, `payments`, `traffic` or `console`.
    pub role: String,
    /// Its process; 0 while it is down. In the file it is null then: a `kill` of process 0 would hit the caller.
    #[serde(with = "pid_or_null")]
    pub pid: u32,
    /// Where its data plane listens.
    pub data: Option<SocketAddr>,
    /// Where its control plane listens.
    pub control: SocketAddr,
    /// How often it was started again.
    pub restarts: u32,
}

mod pid_or_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde asks for this signature"
    )]
    pub(super) fn serialize<S: Serializer>(pid: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        (*pid > 0).then_some(*pid).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(0))
    }
}

impl Lab {
    /// The file's name in the lab's directory.
    pub const FILE: &'static str = "lab.json";

    /// Reads the lab of `dir`; `None` where there is none.
    pub fn read(dir: &Path) -> Result<Option<Self>, String> {
        let path = dir.join(Self::FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|error| format!("{} cannot be read: {error}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
        }
    }

    /// Writes the lab to `dir`, so that a reader never sees half of it.
    pub fn write(&self, dir: &Path) -> std::io::Result<()> {
        let beside = dir.join("lab.json.new");
        std::fs::write(&beside, serde_json::to_string_pretty(self)?)?;
        std::fs::rename(beside, dir.join(Self::FILE))
    }

    /// The first process of `role`.
    #[must_use]
    pub fn member(&self, role: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.role == role)
    }

    /// Whether its supervisor seems to be alive: a process with its number is.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Path::new(&format!("/proc/{}", self.pid)).exists()
    }
}
