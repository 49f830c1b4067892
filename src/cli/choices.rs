//! `firedrill choices`: what can be chosen, what is chosen, and choosing.

use std::fmt::Write as _;
use std::path::Path;

use axum::http::Method;
use serde_json::json;

use super::args::{ChoicesArgs, ChoicesCommand, Common};
use super::{labs, print};
use crate::choices::{CHOICES, ChoiceOption, book, find};
use crate::control::lab::{Lab, Member};
use crate::http::Client;

/// Runs the command.
pub(super) fn run(args: ChoicesArgs, common: &Common) -> Result<(), String> {
    let runtime = super::small_runtime()?;
    match args.command {
        ChoicesCommand::List => {
            print(&runtime.block_on(list(args.data.as_deref(), common)));
            Ok(())
        }
        ChoicesCommand::Show { name } => {
            let choice = find(&name).ok_or_else(|| unknown(&name))?;
            print(&format!(
                "{}\n\npoor:  {}\nsound: {}",
                choice.lesson(),
                choice.poor,
                choice.sound
            ));
            Ok(())
        }
        ChoicesCommand::Set { name, option, ttl } => {
            let choice = find(&name).ok_or_else(|| unknown(&name))?;
            let option: ChoiceOption = option.parse()?;
            let lab = labs::running(args.data.as_deref())?;
            let mut body = json!({ "option": option });
            if let Some(ttl) = ttl {
                body["ttl_s"] = ttl.as_secs().into();
            }
            let has_it = |member: &&Member| choice.roles.contains(&member.role.as_str());
            let members: Vec<_> = lab.members.iter().filter(has_it).collect();
            if members.is_empty() {
                let roles = choice.roles.join(", ");
                return Err(format!(
                    "{name} is a choice of {roles}, which is not in this lab"
                ));
            }
            for member in members {
                let url = format!("http://{}/choices/{name}", member.control);
                runtime.block_on(async {
                    Client::new()
                        .control(Method::PUT, &url, Some(&body), common.token.as_deref())
                        .await
                })?;
                print(&format!("{}: {name} is {}", member.name, option.name()));
            }
            Ok(())
        }
    }
}

fn unknown(name: &str) -> String {
    let names: Vec<_> = CHOICES.iter().map(|choice| choice.name).collect();
    format!(
        "there is no choice {name:?}; there are: {}",
        names.join(", ")
    )
}

async fn list(data: Option<&Path>, common: &Common) -> String {
    let lab = labs::running(data);
    let mut why_unknown = lab.as_ref().err().cloned();
    let mut text = String::new();
    for choice in CHOICES {
        let mut option = "";
        if let Ok(lab) = &lab {
            match in_force(lab, choice.name, choice.roles, common).await {
                Ok(found) => option = found.map_or("", ChoiceOption::name),
                Err(sentence) => why_unknown = Some(sentence),
            }
        }
        writeln!(text, "{:18} {option:6} poor:  {}", choice.name, choice.poor)
            .and_then(|()| writeln!(text, "{:25} sound: {}", "", choice.sound))
            .expect("writing to a string cannot fail");
    }
    if let Some(sentence) = why_unknown {
        writeln!(text, "\n({sentence})").expect("writing to a string cannot fail");
    }
    text
}

/// The option that is in force; none where no role of the lab has the choice.
async fn in_force(
    lab: &Lab,
    name: &str,
    roles: &[&str],
    common: &Common,
) -> Result<Option<ChoiceOption>, String> {
    #[derive(serde::Deserialize)]
    struct Answer {
        choices: Vec<book::Status>,
    }
    let has_it = |member: &&Member| roles.contains(&member.role.as_str());
    let Some(member) = lab.members.iter().find(has_it) else {
        return Ok(None);
    };
    let url = format!("http://{}/choices", member.control);
    let answer: Answer = Client::new()
        .get_json(&url, common.token.as_deref())
        .await?;
    let status = answer
        .choices
        .into_iter()
        .find(|status| status.name == name);
    Ok(status.map(|status| status.option))
}
