//! The syntax of `Cache-Control` (RFC 9111 §5.2) and of `Pragma`, which is the same: a list of tokens, each with an
//! argument or without.
//!
//! In a line against the grammar nobody knows where a directive begins or ends. It is not dropped: every word in it that
//! could be a directive is one, in quotes or out of them, with an argument that says nothing. Who reads the directives
//! takes that as what restricts most.
//!
//! A reader of our own, unlike that of dates and of structured fields: the parser that knows lists of fields belongs to a
//! whole proxy framework, and keeps one argument for each directive. What to do when a response says a thing twice, or says
//! it wrong, is what a shared cache has to decide, and has to see for that.

use std::{borrow::Cow, time::Duration};

use http::HeaderName;

/// What a directive carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Argument<'a> {
    Absent,
    /// A token or a quoted string: recipients accept either form for any directive (§5.2).
    Text(Cow<'a, [u8]>),
    /// From a structured field, where numbers and strings differ.
    Integer(i64),
    String(&'a str),
    /// There may be one, but not one that can be understood.
    Unknown,
}

impl Argument<'_> {
    /// The delta-seconds; `None` for what is none.
    pub(super) fn seconds(&self) -> Option<Duration> {
        match self {
            Self::Text(text) => delta_seconds(text),
            Self::Integer(seconds) => u64::try_from(*seconds).ok().map(capped),
            _ => None,
        }
    }

    /// The names of fields; `None` unless there is at least one and all are names.
    pub(super) fn names(&self) -> Option<Vec<HeaderName>> {
        let text = match self {
            Self::Text(text) => text,
            Self::String(text) => text.as_bytes(),
            _ => return None,
        };
        let names = text.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|name| !name.is_empty());
        names.map(|name| HeaderName::from_bytes(name).ok()).collect::<Option<Vec<_>>>().filter(|all| !all.is_empty())
    }
}

/// The directives of one line.
pub(super) fn read(line: &[u8]) -> Vec<(&[u8], Argument<'_>)> {
    directives(line).unwrap_or_else(|| words(line).map(|word| (word, Argument::Unknown)).collect())
}

/// Everything that could be the name of a directive.
fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| !is_token(byte)).filter(|word| !word.is_empty())
}

/// A number of seconds, in digits alone; what is too large to hold counts as 2^31 (§1.2.2).
pub(super) fn delta_seconds(text: &[u8]) -> Option<Duration> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let value = |so_far: u64, digit: &u8| so_far.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    digits.then(|| capped(text.iter().fold(0, value)))
}

fn capped(seconds: u64) -> Duration {
    Duration::from_secs(seconds.min(1 << 31))
}

fn directives(mut rest: &[u8]) -> Option<Vec<(&[u8], Argument<'_>)>> {
    let mut found = Vec::new();
    loop {
        // Empty elements are nothing (RFC 9110 §5.6.1.2).
        while let [b' ' | b'\t' | b',', after @ ..] = rest {
            rest = after;
        }
        if rest.is_empty() {
            return Some(found);
        }
        let name = token(&mut rest)?;
        let argument = match rest {
            [b'=', b'"', after @ ..] => {
                rest = after;
                Argument::Text(quoted(&mut rest)?)
            }
            [b'=', after @ ..] => {
                rest = after;
                Argument::Text(token(&mut rest)?.into())
            }
            _ => Argument::Absent,
        };
        found.push((name, argument));
        rest = rest.trim_ascii_start();
        if !matches!(rest, [] | [b',', ..]) {
            return None;
        }
    }
}

fn token<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|&byte| !is_token(byte)).unwrap_or(rest.len());
    let (token, after) = rest.split_at(end);
    *rest = after;
    (!token.is_empty()).then_some(token)
}

/// The rest of a quoted string, behind its opening quote (RFC 9110 §5.6.4).
fn quoted<'a>(rest: &mut &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let mut text = Cow::Borrowed(&rest[..0]);
    loop {
        let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        let (plain, after) = rest.split_at(end);
        // Borrowed as long as nothing is escaped.
        if text.is_empty() {
            text = plain.into();
        } else {
            text.to_mut().extend_from_slice(plain);
        }
        match after {
            [b'"', after @ ..] => {
                *rest = after;
                return Some(text);
            }
            [_, escaped, after @ ..] => {
                *rest = after;
                text.to_mut().push(*escaped);
            }
            _ => return None,
        }
    }
}

/// `tchar` of RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn sound(line: &str) -> Vec<(String, Option<String>)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let argument = |argument: &Argument<'_>| match argument {
            Argument::Absent => None,
            Argument::Text(bytes) => Some(text(bytes)),
            other => panic!("{other:?} from {line}"),
        };
        let found = directives(line.as_bytes()).unwrap_or_else(|| panic!("{line} is broken"));
        found.iter().map(|(name, carried)| (text(name), argument(carried))).collect()
    }

    /// Fails without: empty elements, either form of argument, escapes, commas in quotes.
    #[test]
    fn lines_by_the_grammar() {
        type Found<'a> = &'a [(&'a str, Option<&'a str>)];
        let table: [(&str, Found<'_>); 12] = [
            ("", &[]),
            (" , ,\t,", &[]),
            ("no-store", &[("no-store", None)]),
            ("No-Store,,max-age=5 ,\tb", &[("No-Store", None), ("max-age", Some("5")), ("b", None)]),
            ("a=\"5\"", &[("a", Some("5"))]),
            ("a=\"\"", &[("a", Some(""))]),
            ("a=\"b, no-store\", c", &[("a", Some("b, no-store")), ("c", None)]),
            (r#"a="\"no-store\"""#, &[("a", Some("\"no-store\""))]),
            (r#"a="\\", b"#, &[("a", Some("\\")), ("b", None)]),
            (r#"a="x\,y""#, &[("a", Some("x,y"))]),
            ("a=b!c", &[("a", Some("b!c"))]),
            ("a,a=1,a=2", &[("a", None), ("a", Some("1")), ("a", Some("2"))]),
        ];
        for (line, expected) in table {
            let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), b.map(str::to_owned))).collect();
            assert_eq!(sound(line), expected, "{line}");
        }
    }

    /// Fails if any of these is read as if it were meant.
    #[test]
    fn lines_against_the_grammar() {
        for line in [
            "a=\"b",
            "a=\"b\\",
            "a=\"b\\\"",
            "a=",
            "a = 5",
            "a= 5",
            "a b",
            "a;b",
            "=5",
            "\"a\"",
            "a=\"b\"c",
            "a=b=c",
            "a=é",
            "é",
        ] {
            assert_eq!(directives(line.as_bytes()), None, "{line}");
        }
        assert!(directives(b"a=\"\xff\"").is_some(), "obs-text may stand in quotes");
    }

    /// Fails if such a line is dropped, or keeps an argument.
    #[test]
    fn a_broken_line_is_read_as_words() {
        let words = [&b"a"[..], b"no-store", b"b", b"c", b"d"].map(|word| (word, Argument::Unknown));
        assert_eq!(read(b"a=\"no-store, b;c=d \xff"), words);
    }

    /// Fails without the cap, and if `parse` is asked, which takes a sign.
    #[test]
    fn seconds() {
        let table: [(&[u8], Option<u64>); 13] = [
            (b"0", Some(0)),
            (b"007", Some(7)),
            (b"2147483647", Some(2_147_483_647)),
            (b"2147483648", Some(1 << 31)),
            (b"2147483649", Some(1 << 31)),
            (b"99999999999999999999999999", Some(1 << 31)),
            (b"", None),
            (b"-1", None),
            (b"+1", None),
            (b"1.5", None),
            (b" 1", None),
            (b"1s", None),
            (b"\xd9\xa1", None),
        ];
        for (text, expected) in table {
            assert_eq!(delta_seconds(text), expected.map(Duration::from_secs), "{text:?}");
        }
        assert_eq!(Argument::Integer(-1).seconds(), None);
        assert_eq!(Argument::Integer(i64::MAX).seconds(), Some(Duration::from_secs(1 << 31)));
        assert_eq!(Argument::String("60").seconds(), None);
    }

    /// Fails if a list with something that is no name is cut to those that are.
    #[test]
    fn names() {
        let names = |text: &str| Argument::Text(text.as_bytes().into()).names();
        assert_eq!(names("X-A, x-b,,"), Some(vec![HeaderName::from_static("x-a"), HeaderName::from_static("x-b")]));
        assert_eq!(names("x a"), None);
        assert_eq!(names("x-a, x b"), None);
        assert_eq!(names(" , "), None);
        assert_eq!(Argument::Absent.names(), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(arguments in vec(vec(prop_oneof![Just(b'"'), Just(b'\\'), Just(b','), 32..127_u8], 0..8), 0..4)) {
            let quote = |argument: &Vec<u8>| argument.iter().flat_map(|&byte| [b'\\', byte]).collect::<Vec<_>>();
            let elements: Vec<_> = arguments.iter().map(|argument| [b"x=\"", &*quote(argument), b"\""].concat()).collect();
            let line = elements.join(&b", "[..]);
            let expected: Vec<_> = arguments.iter().map(|argument| (&b"x"[..], Argument::Text(argument.into()))).collect();
            prop_assert_eq!(directives(&line), Some(expected));
        }

        #[test]
        fn bytes_of_any_kind_never_panic(line in vec(prop_oneof![Just(b'"'), Just(b'\\'), Just(b','), Just(b'='), any::<u8>()], 0..32)) {
            let _ = read(&line);
        }
    }
}
