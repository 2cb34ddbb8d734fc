//! Content in JSON, read so that no two texts which a handler may tell apart look alike.
//!
//! Scalars stay the text that they came as: a number may have more digits than a float holds. An object that names a member
//! twice is no key: which of the two counts depends on who reads it.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// Deeper values make no key. Each level is read once more for each level above it.
const MAX_DEPTH: u32 = 64;

/// The members of an object in the order of their names, each name once.
pub(super) struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    pub(super) fn of(text: &'a str) -> Option<Self> {
        let Self(mut members) = serde_json::from_str(text).ok()?;
        members.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        members.windows(2).all(|pair| pair[0].0 != pair[1].0).then_some(Self(members))
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| *value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(All).map(Members)
    }
}

/// The value as text in which nothing depends on the order of members or on blanks. `None` where it is not clear what it is.
pub(in crate::middleware) fn canonical(text: &str) -> Option<String> {
    let mut canonical = String::with_capacity(text.len());
    write(serde_json::from_str(text).ok()?, MAX_DEPTH, &mut canonical)?;
    Some(canonical)
}

fn write(value: &RawValue, depth: u32, to: &mut String) -> Option<()> {
    let text = value.get();
    let deeper = depth.checked_sub(1)?;
    match text.as_bytes().first()? {
        b'{' => {
            to.push('{');
            for (place, (name, value)) in Members::of(text)?.0.into_iter().enumerate() {
                to.push_str(if place > 0 { "," } else { "" });
                to.push_str(&serde_json::to_string(&name).ok()?);
                to.push(':');
                write(value, deeper, to)?;
            }
            to.push('}');
        }
        b'[' => {
            to.push('[');
            for (place, value) in serde_json::from_str::<Vec<&RawValue>>(text).ok()?.into_iter().enumerate() {
                to.push_str(if place > 0 { "," } else { "" });
                write(value, deeper, to)?;
            }
            to.push(']');
        }
        _ => to.push_str(text),
    }
    Some(())
}

/// A place in a JSON document (RFC 6901).
#[derive(Clone, Debug)]
pub(super) struct Pointer(Vec<String>);

impl Pointer {
    pub(super) fn new(pointer: &str) -> Option<Self> {
        let Some(tokens) = pointer.strip_prefix('/') else { return pointer.is_empty().then(|| Self(Vec::new())) };
        let token = |token: &str| {
            // "~" stands before 0 and 1 alone (section 3).
            let escaped = token.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
            escaped.then(|| token.replace("~1", "/").replace("~0", "~"))
        };
        tokens.split('/').map(token).collect::<Option<_>>().map(Self)
    }

    /// The canonical text of what lies there. `Some(None)` if nothing does, `None` if that is not clear.
    pub(super) fn find(&self, document: &str) -> Option<Option<String>> {
        let mut here: &RawValue = serde_json::from_str(document).ok()?;
        for token in &self.0 {
            let next = match here.get().as_bytes().first()? {
                b'{' => Members::of(here.get())?.get(token),
                b'[' => {
                    let elements: Vec<&RawValue> = serde_json::from_str(here.get()).ok()?;
                    // Without leading zeros (section 4).
                    let index = token.parse::<usize>().ok().filter(|index| index.to_string() == *token);
                    index.and_then(|index| elements.get(index).copied())
                }
                _ => None,
            };
            let Some(next) = next else { return Some(None) };
            here = next;
        }
        canonical(here.get()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_blanks_do_not_count() {
        let text = canonical(r#" {"b" : [1, {"d":null,"c":"x y"}] , "a":1.50} "#).unwrap();
        assert_eq!(text, r#"{"a":1.50,"b":[1,{"c":"x y","d":null}]}"#);
        assert_eq!(canonical(&text), Some(text));
    }

    /// Fails if numbers or strings are taken for the same because a reader may.
    #[test]
    fn what_a_handler_may_tell_apart_differs() {
        let values =
            ["1", "1.0", "1e0", "-1", "\"1\"", "null", "[]", "{}", "[1]", "[[1]]", "{\"1\":1}", "\"\"", "true"];
        let numbers = ["12345678901234567890123", "12345678901234567890124", "0.1", "0.10000000000000000555"];
        let texts = values.into_iter().chain(numbers).map(canonical).collect::<Option<Vec<_>>>().unwrap();
        for (place, text) in texts.iter().enumerate() {
            assert!(!texts[..place].contains(text), "{text}");
        }
    }

    /// Fails if the last, or the first, of two members with one name wins, however the name is written.
    #[test]
    fn what_is_not_clear_is_nothing() {
        let deep = "[".repeat(65) + &"]".repeat(65);
        let twice = r#"{"a":1,"a":1}"#;
        for text in ["", "{", "nul", "1 2", "\"\\x\"", twice, r#"[{"a":1,"\u0061":2}]"#, &deep] {
            assert_eq!(canonical(text), None, "{text}");
        }
        assert!(canonical(&deep[1..129]).is_some());
        assert!(Pointer::new("/a").unwrap().find(twice).is_none());
        assert!(Pointer::new("/b").unwrap().find(twice).is_none());
        assert!(Pointer::new("/b/a").unwrap().find(r#"{"b":{"a":1,"a":1}}"#).is_none());
    }

    /// RFC 6901 §5, as far as the document goes, and what lies nowhere.
    #[test]
    fn pointers() {
        let document = r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"m~n":8,"k\"l":6,"01":3,"o":{"1":4}}"#;
        let find = |pointer| Pointer::new(pointer).unwrap().find(document).unwrap();
        for (pointer, value) in [
            ("/foo", Some(r#"["bar","baz"]"#)),
            ("/foo/0", Some("\"bar\"")),
            ("/foo/1", Some("\"baz\"")),
            ("/", Some("0")),
            ("/a~1b", Some("1")),
            ("/c%d", Some("2")),
            ("/m~0n", Some("8")),
            ("/k\"l", Some("6")),
            ("/01", Some("3")),
            ("/o/1", Some("4")),
            ("/foo/01", None),
            ("/foo/+1", None),
            ("/foo/2", None),
            ("/foo/-", None),
            ("/foo/0/x", None),
            ("/nothing", None),
            ("/a/b", None),
        ] {
            assert_eq!(find(pointer).as_deref(), value, "{pointer}");
        }
        assert_eq!(find(""), canonical(document));
        for pointer in ["foo", "#/foo", "/~", "/~2", "/a~"] {
            assert!(Pointer::new(pointer).is_none(), "{pointer}");
        }
    }
}
