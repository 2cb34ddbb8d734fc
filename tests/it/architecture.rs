//! Holds the sources against what ARCHITECTURE.md and CONTRIBUTING.md say of them.

mod source;

use std::{collections::BTreeMap, fs, path::Path};

use self::source::{Source, Use};

/// No file may grow beyond this: a file that does holds two things.
const LINES: usize = 400;

/// One row of the table in ARCHITECTURE.md.
struct Room {
    uses: Vec<String>,
    never: Vec<Vec<String>>,
}

#[test]
fn rooms_use_only_what_the_table_allows() {
    let rooms = rooms();
    let sources = source::all("src");
    let shown = shown_at_the_root(&sources);
    let mut wrong = Vec::new();
    for source in sources.iter().filter(|source| !source.module.is_empty()) {
        let own = &source.module[0];
        let Some(room) = rooms.get(own) else {
            wrong.push(format!("{}: `{own}` has no row in ARCHITECTURE.md", source.path));
            continue;
        };
        // A macro is exported at the root, wherever it stands.
        for used in source.uses().into_iter().filter(|used| used.path != ["backend_contract_tests"]) {
            wrong.extend(room.refuses(own, &used, &shown).map(|why| format!("{}: {why}", source.path)));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn rooms_depend_in_one_direction() {
    let rooms = rooms();
    for (name, room) in &rooms {
        for used in &room.uses {
            let back = rooms.get(used).unwrap_or_else(|| panic!("`{name}` uses `{used}`, which has no row"));
            assert!(!back.uses.contains(name), "`{name}` and `{used}` use each other");
        }
    }
    assert!(rooms["protocol"].uses.is_empty(), "the protocol uses nothing of ours");
}

#[test]
fn files_stay_short() {
    let mut long = Vec::new();
    for root in ["src", "tests", "examples", "benches"] {
        for path in source::files(Path::new(root)) {
            let text = fs::read_to_string(source::root().join(&path)).expect("a file that was listed can be read");
            let lines = text.lines().count();
            if lines > LINES {
                long.push(format!("{}: {lines} lines", path.display()));
            }
        }
    }
    assert!(long.is_empty(), "over {LINES} lines:\n{}\n", long.join("\n"));
}

#[test]
fn public_async_functions_say_whether_they_are_cancel_safe() {
    let mut silent = Vec::new();
    let mut all = 0;
    // What the contract of backends exports are tests, made to be run to their end.
    for source in source::all("src").into_iter().filter(|source| !source.path.contains("/contract/")) {
        for (name, docs) in source.public_async_functions() {
            all += 1;
            if !docs.contains("# Cancel safety") {
                silent.push(format!("{}: {name}", source.path));
            }
        }
    }
    assert!(all > 0, "no public async function was found: this test has lost its subject");
    assert!(silent.is_empty(), "without a section `# Cancel safety`:\n{}\n", silent.join("\n"));
}

#[test]
fn tests_neither_hide_nor_sleep() {
    let mut wrong = Vec::new();
    for source in source::all("src").iter().chain(&source::all("tests")) {
        if source.has_attribute("ignore") {
            wrong.push(format!("{}: an ignored test", source.path));
        }
        if source.uses().iter().any(|used| used.path.ends_with(&["thread".into(), "sleep".into()])) {
            wrong.push(format!("{}: `thread::sleep`", source.path));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

impl Room {
    /// Why a file of the room `own` may not name this path, if it may not.
    fn refuses(&self, own: &str, used: &Use, shown: &BTreeMap<String, String>) -> Option<String> {
        let path = used.path.join("::");
        if let Some(banned) = self.never.iter().find(|banned| reaches(&used.path, banned)) {
            return Some(format!("`{path}` (`{own}` never names `{}`)", banned.join("::")));
        }
        if !used.ours {
            return None;
        }
        let first = used.path.first()?;
        let room = shown.get(first).unwrap_or(first);
        let allowed = room == own || self.uses.contains(room);
        (!allowed).then(|| format!("`crate::{path}` (`{own}` may not use `{room}`)"))
    }
}

/// Whether naming `path` gives access to `banned`: it lies within it, or imports what it lies in.
fn reaches(path: &[String], banned: &[String]) -> bool {
    let common = path.iter().zip(banned).take_while(|(a, b)| a == b).count();
    let inside = common == banned.len();
    let around = common > 0 && (common == path.len() && common > 1 || path.get(common).is_some_and(|part| part == "*"));
    inside || around
}

/// What `src/lib.rs` shows at the root of the crate, and the room it comes from.
fn shown_at_the_root(sources: &[Source]) -> BTreeMap<String, String> {
    let lib = sources.iter().find(|source| source.module.is_empty()).expect("src/lib.rs exists");
    let ours = lib.uses().into_iter().filter(|used| used.ours && used.path.len() > 1);
    ours.filter_map(|used| Some((used.path.last()?.clone(), used.path.first()?.clone()))).collect()
}

/// The rows of the table under "Rooms" in ARCHITECTURE.md: what stands in backticks in its columns.
fn rooms() -> BTreeMap<String, Room> {
    let text = include_str!("../../ARCHITECTURE.md");
    let section = text.split("\n## ").find(|section| section.starts_with("Rooms\n")).expect("a section `Rooms`");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let rooms: BTreeMap<_, _> = rows
        .map(|row| {
            let cells: Vec<_> = row.trim_matches('|').split('|').collect();
            let [room, _, uses, never] = cells[..] else { panic!("a row of four cells: {row}") };
            let never = ticked(never).map(|path| path.split("::").map(Into::into).collect()).collect();
            let room = ticked(room).next().unwrap_or_else(|| panic!("a name in the first cell: {row}"));
            (room.to_owned(), Room { uses: ticked(uses).map(Into::into).collect(), never })
        })
        .collect();
    assert!(rooms.len() > 3, "the table of rooms was not understood");
    rooms
}

fn ticked(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}
