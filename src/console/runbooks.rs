//! The runbooks, as a person who was paged reads them: on the page that paged them, also without a network.

use std::fmt::Write as _;

macro_rules! runbooks {
    ($($name:literal),+ $(,)?) => {
        /// Each runbook: the alert that it is for, and its text.
        pub const RUNBOOKS: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../docs/runbooks/", $name, ".md")))),+];
    };
}

runbooks![
    "FiredrillAbsent",
    "FiredrillAuditStopped",
    "FiredrillBudgetExhausted",
    "FiredrillChargeWithoutOrder",
    "FiredrillChargedTwice",
    "FiredrillLoadShedding",
    "FiredrillLogLinesDropped",
    "FiredrillOrdersLeftOpen",
    "FiredrillOutboxLag",
    "FiredrillOversold",
    "FiredrillPoolSaturated",
    "FiredrillPoolTimeouts",
    "FiredrillQueueNearFull",
    "FiredrillReplicaOutlier",
    "FiredrillRequestStuck",
    "FiredrillRestarted",
    "FiredrillRetryAmplification",
    "FiredrillRoleDown",
    "FiredrillSchedulerDelay",
    "FiredrillSeriesGrowth",
    "FiredrillServerBudgetBurn",
    "FiredrillSpansNotExported",
    "FiredrillUsersBudgetBurn",
    "FiredrillUsersViewAbsent",
];

/// Where the runbook is that an alert names: on this console if it is one of ours, named by its path in the repository
/// as our rules do it, and elsewhere if it names a URL.
#[must_use]
pub fn link(named: &str) -> Option<String> {
    if named.starts_with("http://") || named.starts_with("https://") {
        return Some(named.to_owned());
    }
    let file = named.strip_prefix("docs/runbooks/").unwrap_or(named);
    let name = file.strip_suffix(".md").unwrap_or(file);
    let known = RUNBOOKS.iter().any(|(known, _)| *known == name);
    known.then(|| format!("/runbooks/{name}"))
}

/// The runbook as a page of HTML; `None` if there is none of that name.
#[must_use]
pub fn page(name: &str) -> Option<String> {
    let (_, text) = RUNBOOKS.iter().find(|(known, _)| *known == name)?;
    let mut page = String::new();
    let body = html(text);
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"dark light\">\n<title>{name} &middot; firedrill</title>\n\
         <link rel=\"stylesheet\" href=\"/style.css\">\n</head>\n<body class=\"text\">\n{body}</body>\n</html>\n"
    )
    .expect("writing to a string cannot fail");
    Some(page)
}

/// The part of Markdown that the runbooks use: headings, paragraphs, lists, code. Everything else is text.
fn html(text: &str) -> String {
    let mut made = String::new();
    let mut block = Block::None;
    for line in text.lines() {
        let continued = line.starts_with("  ") && block.is_list();
        let (next, content) = match Block::begin(line) {
            Some(begun) if !continued => begun,
            _ if line.trim().is_empty() => (Block::None, ""),
            _ if block == Block::None => (Block::Paragraph, line),
            // The line goes on with what was begun.
            _ => {
                made.push('\n');
                made += &inline(line.trim());
                continue;
            }
        };
        if next == Block::None {
            made += block.close();
            block = next;
            continue;
        }
        if block.is_list() && block == next {
            made += "</li>\n<li>";
        } else {
            made += block.close();
            made += next.open();
        }
        made += &inline(content);
        block = next;
    }
    made += block.close();
    made
}

#[derive(Clone, Copy, PartialEq)]
enum Block {
    None,
    Title,
    Heading,
    Paragraph,
    Numbered,
    Bulleted,
}

impl Block {
    /// The block that a line begins, and what stands in it.
    fn begin(line: &str) -> Option<(Self, &str)> {
        let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
        if number.len() < line.len()
            && let Some(content) = number.strip_prefix(". ")
        {
            return Some((Self::Numbered, content));
        }
        let with = |mark, block| Some((block, line.strip_prefix(mark)?));
        with("# ", Self::Title)
            .or_else(|| with("## ", Self::Heading))
            .or_else(|| with("- ", Self::Bulleted))
    }

    fn is_list(self) -> bool {
        matches!(self, Self::Numbered | Self::Bulleted)
    }

    fn open(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Title => "<h1>",
            Self::Heading => "<h2>",
            Self::Paragraph => "<p>",
            Self::Numbered => "<ol>\n<li>",
            Self::Bulleted => "<ul>\n<li>",
        }
    }

    fn close(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Title => "</h1>\n",
            Self::Heading => "</h2>\n",
            Self::Paragraph => "</p>\n",
            Self::Numbered => "</li>\n</ol>\n",
            Self::Bulleted => "</li>\n</ul>\n",
        }
    }
}

/// Text with its code marked, and nothing that a browser takes for markup.
fn inline(text: &str) -> String {
    let escaped = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let mut made = String::new();
    for (index, piece) in escaped.split('`').enumerate() {
        if index % 2 == 1 {
            made.extend(["<code>", piece, "</code>"]);
        } else {
            made += &linked(piece);
        }
    }
    made
}

/// Text whose references to other runbooks are links.
fn linked(text: &str) -> String {
    let mut made = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        let reference = after.split_once("](").and_then(|(name, after)| {
            let (file, after) = after.split_once(')')?;
            let is_name = !name.contains(['[', ']']);
            is_name.then_some((name, link(file)?, after))
        });
        made += before;
        rest = if let Some((name, path, after)) = reference {
            made.extend(["<a href=\"", &path, "\">", name, "</a>"]);
            after
        } else {
            made.push('[');
            after
        };
    }
    made + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runbook_is_here() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbooks");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let known = RUNBOOKS.iter().map(|(name, _)| format!("{name}.md"));
        assert_eq!(known.collect::<Vec<_>>(), files);
    }

    #[test]
    fn markdown_becomes_html_and_markup_stays_text() {
        let text = "# A & B\n\nOne `x < y`\nmore.\n\n## Look\n\n1. first\n   goes on\n2. second\n\n- a\n- b\n";
        assert_eq!(
            html(text),
            "<h1>A &amp; B</h1>\n<p>One <code>x &lt; y</code>\nmore.</p>\n<h2>Look</h2>\n\
             <ol>\n<li>first\ngoes on</li>\n<li>second</li>\n</ol>\n<ul>\n<li>a</li>\n<li>b</li>\n</ul>\n"
        );
        assert_eq!(
            inline("a[1] [FiredrillAbsent](FiredrillAbsent.md), [x](javascript:y)"),
            "a[1] <a href=\"/runbooks/FiredrillAbsent\">FiredrillAbsent</a>, [x](javascript:y)"
        );
        for (name, _) in RUNBOOKS {
            let page = page(name).unwrap();
            assert!(page.contains(&format!("<h1>{name}</h1>")), "{page}");
            for mark in ["##", "`", "\n- ", "**", "]("] {
                assert!(!page.contains(mark), "{name}: {mark:?} in {page}");
            }
        }
        assert_eq!(page("../secret"), None);
    }

    #[test]
    fn a_link_leads_to_a_runbook_or_to_a_url() {
        let here = link("docs/runbooks/FiredrillAbsent.md");
        assert_eq!(here.as_deref(), Some("/runbooks/FiredrillAbsent"));
        for elsewhere in [
            "https://example.com/x",
            "https://example.com/FiredrillAbsent.md",
        ] {
            assert_eq!(link(elsewhere).as_deref(), Some(elsewhere));
        }
        assert_eq!(link("other/FiredrillAbsent.md"), None);
        assert_eq!(link("javascript:alert(1)"), None);
        assert_eq!(link(""), None);
    }
}
