//! The pages link to what is there, in the repository and on the site that is made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::*;

/// The pages that people read, by their paths in the repository.
fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir("docs")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let docs = docs.filter(|path| path.extension().is_some_and(|it| it == "md"));
    let above = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(PathBuf::from);
    let mut pages: Vec<PathBuf> = docs.chain(above).collect();
    pages.sort();
    pages
}

/// The lines of a page that are no code.
fn prose(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let mut is_code = false;
    let is_prose = |line: &&str| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    };
    text.lines()
        .filter(is_prose)
        .map(ToOwned::to_owned)
        .collect()
}

/// What a page links to, but for other sites.
fn links(page: &Path) -> Vec<String> {
    let text = prose(page).join("\n");
    let links = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'));
    let links = links.map(|(link, _)| link.to_owned());
    links
        .filter(|link| !link.contains("://") && !link.contains(char::is_whitespace))
        .collect()
}

/// The names by which the headings of a page are linked to.
fn anchors(page: &Path) -> BTreeSet<String> {
    let lines = prose(page);
    let headings = lines.iter().filter_map(|line| {
        line.trim_start_matches('#')
            .strip_prefix(' ')
            .filter(|_| line.starts_with('#'))
    });
    let mut taken = BTreeMap::new();
    headings
        .map(|heading| {
            let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
            let name: String = heading.to_lowercase().chars().filter(kept).collect();
            let name = name.replace(' ', "-");
            let before = taken
                .entry(name.clone())
                .and_modify(|count| *count += 1)
                .or_insert(0);
            if *before == 0 {
                name
            } else {
                format!("{name}-{before}")
            }
        })
        .collect()
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let mut count = 0;
    for page in pages() {
        for link in links(&page) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => page.clone(),
                path => page.parent().unwrap().join(path),
            };
            assert!(target.is_file(), "{}: {link}: no such file", page.display());
            let known = anchor.is_empty() || anchors(&target).contains(anchor);
            assert!(known, "{}: {link}: no such heading", page.display());
            count += 1;
        }
    }
    assert!(count > 40, "only {count} links were found");
}

#[test]
fn every_page_is_on_the_site_once() {
    let summary = links(Path::new("site/SUMMARY.md"));
    let listed: BTreeSet<&str> = summary.iter().map(String::as_str).collect();
    assert_eq!(listed.len(), summary.len(), "one stands there twice");
    let pages = pages();
    let names = pages
        .iter()
        .map(|page| page.file_name().unwrap().to_str().unwrap());
    assert_eq!(listed, names.collect());
    for page in pages {
        let first = fs::read_to_string(&page).unwrap();
        let title = first
            .lines()
            .next()
            .unwrap()
            .trim_start_matches("# ")
            .to_owned();
        let name = page.file_name().unwrap().to_str().unwrap();
        let entry = format!("[{title}]({name})");
        let text = fs::read_to_string("site/SUMMARY.md").unwrap();
        assert!(text.contains(&entry), "{entry}");
    }
}

/// The values of this attribute in a page of HTML.
fn attributes<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    let found = html.split(&*start).skip(1);
    found.map(|rest| rest.split('"').next().unwrap()).collect()
}

#[test]
fn every_link_of_the_site_leads_somewhere() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin");
    let path = format!("{}:{}", std::env::var("PATH").unwrap(), tools.display());
    let there = Command::new("sh")
        .args(["-c", "command -v mdbook"])
        .env("PATH", &path)
        .output();
    if !there.unwrap().status.success() {
        return skipped("the site: mdbook is missing: scripts/site installs it");
    }
    let sandbox = Sandbox::new();
    let site = sandbox.join("site");
    let built = Command::new("scripts/site")
        .arg(&site)
        .env("PATH", &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success() && !said.contains("WARN"), "{said}");
    let mut count = 0;
    for page in fs::read_dir(&site).unwrap() {
        let page = page.unwrap().path();
        if page.extension().is_none_or(|it| it != "html") || page.ends_with("404.html") {
            continue;
        }
        let html = fs::read_to_string(&page).unwrap();
        for link in [attributes(&html, "href"), attributes(&html, "src")].concat() {
            if link.contains("://") || link.starts_with("data:") || link.is_empty() {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => page.clone(),
                path => site.join(path),
            };
            assert!(target.is_file(), "{}: {link}: no such file", page.display());
            if target.extension().is_some_and(|it| it == "html") && !anchor.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let known = attributes(&text, "id").contains(&anchor);
                assert!(known, "{}: {link}: no such heading", page.display());
            }
            count += 1;
        }
    }
    assert!(count > 200, "only {count} links were found");
}
