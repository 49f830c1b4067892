//! Where the roles are that the console watches.
//!
//! `firedrill up` writes that into a file. Where each role runs in a container of its own nobody does, so there the
//! console is told. Whoever watches need not know which of the two it was, and Prometheus can ask the same list.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use axum::http::Uri;
use axum::http::uri::Scheme;
use serde_json::{Value, json};

use crate::control::lab::{Lab, Member};

/// A role at an address that was given: `ROLE=http://HOST:PORT`, the address of its control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    role: String,
    control: String,
}

/// Who says where the roles are.
#[derive(Debug, Clone, Default)]
pub enum Source {
    /// Nobody.
    #[default]
    Nobody,
    /// The lab's file, in this directory; read again at each look, so it need not be there yet.
    Lab(PathBuf),
    /// Whoever started the console.
    Given(Vec<Target>),
}

/// One process to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its name: that of its role, with a number where the role has replicas.
    pub name: String,
    /// Its role.
    pub role: String,
    /// Its process; 0 while it is down, `None` where it runs is not known here.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
    /// Where its data plane listens, if that is known.
    pub data: Option<String>,
    /// Where its control plane listens: host and port.
    pub control: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const ROLES: [&str; 4] = ["shop", "payments", "traffic", "console"];
        let wrong =
            || format!("{text:?} is no target; it should look like shop=http://127.0.0.1:9464");
        let (role, url) = text.split_once('=').ok_or_else(wrong)?;
        if !ROLES.contains(&role) {
            return Err(format!(
                "{role:?} is no role; allowed: {}",
                ROLES.join(", ")
            ));
        }
        let url: Uri = url.parse().map_err(|_| wrong())?;
        match (url.scheme(), url.authority(), url.path()) {
            (Some(scheme), Some(at), "/") if *scheme == Scheme::HTTP && at.port().is_some() => {
                Ok(Self {
                    role: role.into(),
                    control: at.to_string(),
                })
            }
            _ => Err(wrong()),
        }
    }
}

impl Source {
    /// The processes to watch, or what is wrong. Reads a file.
    #[must_use]
    pub fn places(&self) -> (Vec<Place>, Option<String>) {
        match self {
            Self::Nobody => {
                let notice = "This console was given no lab to watch: start it with firedrill up, or with --lab.";
                (Vec::new(), Some(notice.into()))
            }
            Self::Lab(dir) => in_lab(dir),
            Self::Given(targets) => (given(targets), None),
        }
    }
}

/// The processes of the lab in `dir`, which may be its file too. A lab whose supervisor has died is none.
fn in_lab(dir: &Path) -> (Vec<Place>, Option<String>) {
    let dir = match dir.parent() {
        Some(parent) if dir.ends_with(Lab::FILE) => parent,
        _ => dir,
    };
    match Lab::read(dir) {
        Ok(Some(lab)) if lab.is_alive() => {
            (lab.members.into_iter().map(Place::from).collect(), None)
        }
        Ok(Some(_)) => {
            let notice = "The lab has ended: start it again with firedrill up.";
            (Vec::new(), Some(notice.into()))
        }
        Ok(None) => {
            let notice = format!(
                "There is no lab in {}: start one with firedrill up.",
                dir.display()
            );
            (Vec::new(), Some(notice))
        }
        Err(error) => (Vec::new(), Some(error)),
    }
}

impl Place {
    /// This console, whose control plane is at `control`.
    pub(super) fn this_console(control: &str) -> Self {
        Self {
            name: "console".into(),
            role: "console".into(),
            pid: Some(std::process::id()),
            restarts: 0,
            data: None,
            control: control.into(),
        }
    }
}

impl From<Member> for Place {
    fn from(member: Member) -> Self {
        Self {
            name: member.name,
            role: member.role,
            pid: Some(member.pid),
            restarts: member.restarts,
            data: member.data.map(|address| address.to_string()),
            control: member.control.to_string(),
        }
    }
}

fn given(targets: &[Target]) -> Vec<Place> {
    let named = |(index, target): (usize, &Target)| {
        let earlier = &targets[..index];
        let same = earlier.iter().filter(|one| one.role == target.role).count();
        Place {
            name: match same {
                0 => target.role.clone(),
                _ => format!("{}-{}", target.role, same + 1),
            },
            role: target.role.clone(),
            pid: None,
            restarts: 0,
            data: None,
            control: target.control.clone(),
        }
    };
    targets.iter().enumerate().map(named).collect()
}

/// The list as Prometheus's `http_sd_configs` reads it, with the label `role` that the alert rules ask for.
#[must_use]
pub fn discovery(places: &[Place]) -> Value {
    let group =
        |place: &Place| json!({ "targets": [place.control], "labels": { "role": place.role } });
    places.iter().map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_role_and_a_url_with_a_port() {
        let target: Target = "payments=http://payments:9465".parse().unwrap();
        assert_eq!(target.control, "payments:9465");
        let v6: Target = "shop=http://[::1]:9464/".parse().unwrap();
        assert_eq!(v6.control, "[::1]:9464");
        for wrong in [
            "",
            "shop",
            "shop=",
            "shop=9464",
            "shop=http://shop",
            "shop=https://shop:9464",
            "shop=http://shop:9464/metrics",
            "shop=shop:9464",
            "postgres=http://x:1",
        ] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn given_targets_are_places_with_names_of_their_own() {
        let targets = [
            "shop=http://shop:9464",
            "payments=http://a:1",
            "payments=http://b:2",
        ]
        .map(|text| text.parse().unwrap());
        let (places, notice) = Source::Given(targets.into()).places();
        assert_eq!(notice, None);
        let names: Vec<_> = places.iter().map(|place| place.name.as_str()).collect();
        assert_eq!(names, ["shop", "payments", "payments-2"]);
        assert_eq!(
            discovery(&places)[2],
            json!({ "targets": ["b:2"], "labels": { "role": "payments" } })
        );
    }
}
