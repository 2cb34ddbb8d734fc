//! Reads a Rust file far enough to see which paths it names and which functions it shows.

use std::{
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A source file.
pub(super) struct Source {
    /// Relative to the package.
    pub(super) path: String,
    /// Its module within the crate; empty for the crate's root.
    pub(super) module: Vec<String>,
    tokens: TokenStream,
}

/// A path that a file names.
#[derive(Debug, PartialEq)]
pub(super) struct Use {
    /// Whether it begins at the root of the crate; `path` is then what follows the root.
    pub(super) ours: bool,
    pub(super) path: Vec<String>,
}

/// The package.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file under `dir`, relative to the package.
pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root().join(dir)) else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries {
        let name = entry.expect("a directory that can be listed").file_name();
        let path = dir.join(name);
        if root().join(&path).is_dir() {
            files.extend(self::files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Every Rust file under `dir`, read.
pub(super) fn all(dir: &str) -> Vec<Source> {
    let sources: Vec<_> = files(Path::new(dir)).iter().map(|path| Source::read(dir, path)).collect();
    assert!(!sources.is_empty(), "no source under {dir}");
    sources
}

impl Source {
    fn read(dir: &str, path: &Path) -> Self {
        let text = fs::read_to_string(root().join(path)).expect("a file that was listed can be read");
        Self::parse(dir, path, &text)
    }

    fn parse(dir: &str, path: &Path, text: &str) -> Self {
        let tokens = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let within = path.strip_prefix(dir).expect("a file lies in its directory").with_extension("");
        let mut module: Vec<_> = within.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        module.pop_if(|last| last == "mod" || last == "lib" || last == "main");
        Self { path: path.display().to_string(), module, tokens }
    }

    /// Every path that is imported, or written out with two parts or more; resolved as far as `crate`, `self` and
    /// `super` go.
    pub(super) fn uses(&self) -> Vec<Use> {
        let mut uses = Vec::new();
        collect(self.tokens.clone(), &self.module, &mut uses);
        uses
    }

    /// The functions that are `pub async`, each with its attributes, hence its docs.
    pub(super) fn public_async_functions(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        functions(self.tokens.clone(), &mut found);
        found
    }

    /// Whether an attribute of this name stands anywhere.
    pub(super) fn has_attribute(&self, name: &str) -> bool {
        has_attribute(self.tokens.clone(), name)
    }
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

fn ident(token: Option<&TokenTree>) -> Option<String> {
    let Some(TokenTree::Ident(ident)) = token else { return None };
    Some(ident.to_string().trim_start_matches("r#").to_owned())
}

fn group(token: Option<&TokenTree>, delimiter: Delimiter) -> Option<TokenStream> {
    let Some(TokenTree::Group(group)) = token else { return None };
    (group.delimiter() == delimiter).then(|| group.stream())
}

/// Walks code: follows paths, and descends into every group with the module it stands in.
fn collect(stream: TokenStream, module: &[String], uses: &mut Vec<Use>) {
    let tokens: Vec<_> = stream.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        let opens_module = ident(tokens.get(at)).is_some_and(|word| word == "mod");
        if let (true, Some(name), Some(body)) =
            (opens_module, ident(tokens.get(at + 1)), group(tokens.get(at + 2), Delimiter::Brace))
        {
            let inner: Vec<_> = module.iter().cloned().chain([name]).collect();
            collect(body, &inner, uses);
            at += 3;
        } else if ident(tokens.get(at)).is_some() && (is_separator(&tokens, at + 1) || imports(&tokens, at)) {
            at = path(&tokens, at, Vec::new(), module, uses);
        } else {
            if let TokenTree::Group(group) = &tokens[at] {
                collect(group.stream(), module, uses);
            }
            at += 1;
        }
    }
}

/// Whether a name of one part is imported here: `use tokio;`, or `use tokio as t;`.
fn imports(tokens: &[TokenTree], at: usize) -> bool {
    at > 0 && ident(tokens.get(at - 1)).is_some_and(|word| word == "use")
}

/// Follows one path from `at`, into the braces of an import; returns what comes after it.
fn path(tokens: &[TokenTree], mut at: usize, mut so_far: Vec<String>, module: &[String], uses: &mut Vec<Use>) -> usize {
    loop {
        if let Some(word) = ident(tokens.get(at)) {
            so_far.push(word);
            at += 1;
        } else if is_punct(tokens.get(at), '*') {
            so_far.push("*".into());
            at += 1;
        } else if let Some(tree) = group(tokens.get(at), Delimiter::Brace) {
            let tree: Vec<_> = tree.into_iter().collect();
            for branch in tree.split(|token| is_punct(Some(token), ',')).filter(|branch| !branch.is_empty()) {
                path(branch, 0, so_far.clone(), module, uses);
            }
            return at + 1;
        } else {
            break;
        }
        if !is_separator(tokens, at) {
            break;
        }
        at += 2;
    }
    uses.extend(resolve(so_far, module));
    at
}

/// Where a path leads, seen from `module`. `None` for the bare root of the crate.
fn resolve(path: Vec<String>, module: &[String]) -> Option<Use> {
    let mut from = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => module.to_vec(),
        _ => {
            let path = path.into_iter().enumerate().filter(|(at, part)| *at == 0 || part != "self");
            return Some(Use { ours: false, path: path.map(|(_, part)| part).collect() });
        }
    };
    for part in path {
        match part.as_str() {
            "crate" | "self" => {}
            "super" => drop(from.pop()),
            _ => from.push(part),
        }
    }
    (!from.is_empty()).then_some(Use { ours: true, path: from })
}

fn functions(stream: TokenStream, found: &mut Vec<(String, String)>) {
    let tokens: Vec<_> = stream.into_iter().collect();
    let mut attributes = String::new();
    let mut at = 0;
    while at < tokens.len() {
        if let (true, Some(attribute)) = (is_punct(tokens.get(at), '#'), group(tokens.get(at + 1), Delimiter::Bracket))
        {
            attributes.push_str(&attribute.to_string());
            at += 2;
            continue;
        }
        let words: Vec<_> = (at..at + 4).map(|at| ident(tokens.get(at)).unwrap_or_default()).collect();
        if words[..3] == ["pub", "async", "fn"] {
            found.push((words[3].clone(), attributes.clone()));
        }
        attributes.clear();
        if let TokenTree::Group(group) = &tokens[at] {
            functions(group.stream(), found);
        }
        at += 1;
    }
}

fn has_attribute(stream: TokenStream, name: &str) -> bool {
    let tokens: Vec<_> = stream.into_iter().collect();
    (0..tokens.len()).any(|at| match group(tokens.get(at), Delimiter::Bracket) {
        Some(inner) if at > 0 && is_punct(tokens.get(at - 1), '#') => {
            ident(inner.into_iter().next().as_ref()).is_some_and(|word| word == name)
        }
        _ => matches!(&tokens[at], TokenTree::Group(group) if has_attribute(group.stream(), name)),
    })
}

#[test]
fn paths_are_found_and_resolved() {
    let text = r#"
        use crate::{key::{Key, Digest}, protocol::time};
        use std::time::{self, Duration as D};
        use super::{Backend, super::group::*};
        /// See `crate::middleware`.
        pub(in crate::backend) fn f<'a>(x: &'a str) -> tokio::time::Instant { "crate::mutex"; crate::codec::f() }
        #[cfg(test)]
        mod tests { use super::*; fn g() { super::super::h::<crate::key::Key>() } }
        use redis;
    "#;
    let source = Source::parse("src", Path::new("src/backend/memory.rs"), text);
    let found: Vec<_> = source
        .uses()
        .into_iter()
        .map(|Use { ours, path }| format!("{}{}", if ours { "crate::" } else { "" }, path.join("::")))
        .collect();
    let wanted = [
        "crate::key::Key",
        "crate::key::Digest",
        "crate::protocol::time",
        "std::time",
        "std::time::Duration",
        "crate::backend::Backend",
        "crate::group::*",
        "crate::backend",
        "tokio::time::Instant",
        "crate::codec::f",
        "crate::backend::memory::*",
        "crate::backend::h",
        "crate::key::Key",
        "redis",
    ];
    assert_eq!(found, wanted);
}
