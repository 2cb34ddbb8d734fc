//! Which fields of the request a response depends on, and what a request says in them (RFC 9111 §4.1).

use http::{
    HeaderMap, HeaderName,
    header::{ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_ENCODING, ORIGIN, VARY},
};

/// What a response depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::middleware) enum Varies {
    /// These fields of the request, sorted, each once; none of them if the list is empty.
    On(Vec<HeaderName>),
    /// On what no request shows: it "always fails to match".
    OnEverything,
}

impl Varies {
    /// Reads all lines of `Vary`, and adds what should stand there.
    ///
    /// `Access-Control-Allow-Origin` answers `Origin`, and a coded body answers `Accept-Encoding`, whether their authors
    /// thought of caches or not. What is neither `*` nor a name could have been any of them, and counts as `*`.
    pub(in crate::middleware) fn of(response: &HeaderMap) -> Self {
        let listed = response.get_all(VARY).iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
        let listed = listed.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty());
        let names = listed.map(|element| HeaderName::from_bytes(element).ok().filter(|name| name.as_str() != "*"));
        let Some(mut names) = names.collect::<Option<Vec<_>>>() else { return Self::OnEverything };

        if response.get_all(ACCESS_CONTROL_ALLOW_ORIGIN).iter().any(|line| line.as_bytes().trim_ascii() != b"*") {
            names.push(ORIGIN);
        }
        if response.contains_key(CONTENT_ENCODING) {
            names.push(ACCEPT_ENCODING);
        }
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        Self::On(names)
    }
}

/// What a request says in the fields `names`: equal for two requests exactly if they match.
///
/// Each field with its name, the number of its lines, and its lines, all behind their lengths: no value can be mistaken
/// for two, or for a part of another field's, and a field that is absent differs from one that is empty. Two requests
/// "match" also if blanks within a value differ, or if lines were joined; knowing where that changes nothing takes the
/// grammar of every field, so here only the blanks around a line are left out.
pub(in crate::middleware) fn selector(names: &[HeaderName], request: &HeaderMap) -> Vec<u8> {
    let mut selector = Vec::new();
    for name in names {
        let lines: Vec<_> = request.get_all(name).iter().map(|line| line.as_bytes().trim_ascii()).collect();
        put(&mut selector, name.as_str().as_bytes());
        selector.extend_from_slice(&(lines.len() as u64).to_be_bytes());
        lines.iter().for_each(|line| put(&mut selector, line));
    }
    selector
}

fn put(selector: &mut Vec<u8>, bytes: &[u8]) {
    selector.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    selector.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use http::{
        HeaderValue,
        header::{ACCEPT, ACCEPT_LANGUAGE},
    };
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, line)| (HeaderName::from_static(name), HeaderValue::from_static(line))).collect()
    }

    fn on(names: &[&'static str]) -> Varies {
        Varies::On(names.iter().map(|name| HeaderName::from_static(name)).collect())
    }

    /// Fails if only the first line is read, if a name keeps its case or comes twice, if `*` counts only alone, or if what
    /// is no name is left out.
    #[test]
    fn names() {
        let table: [(&[&'static str], Varies); 11] = [
            (&[], on(&[])),
            (&[""], on(&[])),
            (&[" , ,"], on(&[])),
            (&["Accept"], on(&["accept"])),
            (&["X-B,accept ,\tX-A,ACCEPT"], on(&["accept", "x-a", "x-b"])),
            (&["x-b", "x-a"], on(&["x-a", "x-b"])),
            (&["*"], Varies::OnEverything),
            (&["accept, *"], Varies::OnEverything),
            (&["accept", "*"], Varies::OnEverything),
            (&["accept language"], Varies::OnEverything),
            (&["accept, \"x\""], Varies::OnEverything),
        ];
        for (lines, expected) in table {
            let lines: Vec<_> = lines.iter().map(|line| ("vary", *line)).collect();
            assert_eq!(Varies::of(&headers(&lines)), expected, "{lines:?}");
        }
    }

    /// Fails without either of the two, and if the second line of one hides behind the first.
    #[test]
    fn what_should_have_been_named() {
        let table: [(&[(&'static str, &'static str)], Varies); 7] = [
            (&[("access-control-allow-origin", "*")], on(&[])),
            (&[("access-control-allow-origin", "http://a.test")], on(&["origin"])),
            (&[("access-control-allow-origin", "null")], on(&["origin"])),
            (
                &[("access-control-allow-origin", "*"), ("access-control-allow-origin", "http://a.test")],
                on(&["origin"]),
            ),
            (&[("content-encoding", "gzip")], on(&["accept-encoding"])),
            (&[("content-encoding", "gzip"), ("vary", "Accept-Encoding")], on(&["accept-encoding"])),
            (&[("content-encoding", "gzip"), ("vary", "*")], Varies::OnEverything),
        ];
        for (lines, expected) in table {
            assert_eq!(Varies::of(&headers(lines)), expected, "{lines:?}");
        }
    }

    const A: HeaderName = ACCEPT;
    const B: HeaderName = ACCEPT_LANGUAGE;

    /// Fails if a field that is absent matches an empty one, if values run together, or if blanks around them count.
    #[test]
    fn requests_that_match() {
        let of = |lines: &[_]| selector(&[A, B], &headers(lines));
        let different: [&[(&str, &str)]; 12] = [
            &[],
            &[("accept", "")],
            &[("accept-language", "")],
            &[("accept", ""), ("accept", "")],
            &[("accept", "x"), ("accept-language", "y")],
            &[("accept", "x"), ("accept", "y")],
            &[("accept", "y"), ("accept", "x")],
            &[("accept", "xy")],
            // The same bytes in other lines, and in lines of another field.
            &[("accept", "x"), ("accept", "yz")],
            &[("accept", "xy"), ("accept", "z")],
            &[("accept", "accept-language"), ("accept", "x")],
            &[("accept-language", "x"), ("accept-language", "accept-language")],
        ];
        for (at, one) in different.iter().enumerate() {
            for (other_at, other) in different.iter().enumerate() {
                assert_eq!(of(one) == of(other), at == other_at, "{one:?} {other:?}");
            }
        }
        assert_eq!(of(&[("accept", " x\t")]), of(&[("accept", "x")]));
        assert_eq!(of(&[("accept", "x"), ("accept-encoding", "z")]), of(&[("accept-encoding", "y"), ("accept", "x")]));
        assert_ne!(of(&[("accept", "x y")]), of(&[("accept", "xy")]));
        assert_ne!(selector(&[A], &headers(&[])), selector(&[B], &headers(&[])));
        assert_ne!(selector(&[A], &headers(&[])), selector(&[], &headers(&[])));
    }

    type Lines = Vec<(bool, Vec<u8>)>;

    fn any_lines() -> impl Strategy<Value = Lines> {
        vec((any::<bool>(), vec(prop_oneof![Just(b' '), Just(b'x'), Just(255)], 0..3)), 0..4)
    }

    fn request(lines: &Lines) -> HeaderMap {
        let line = |line: &[u8]| HeaderValue::from_bytes(line).unwrap();
        lines.iter().map(|(a, bytes)| (if *a { A } else { B }, line(bytes))).collect()
    }

    proptest! {
        /// The selector of a request holds all of it that counts, and nothing else.
        #[test]
        fn selectors_are_equal_exactly_if_the_lines_are(one in any_lines(), other in any_lines()) {
            let of = |lines: &Lines, wanted| -> Vec<Vec<u8>> {
                lines.iter().filter(|(a, _)| *a == wanted).map(|(_, line)| line.trim_ascii().to_vec()).collect()
            };
            let same = of(&one, true) == of(&other, true) && of(&one, false) == of(&other, false);
            prop_assert_eq!(selector(&[A, B], &request(&one)) == selector(&[A, B], &request(&other)), same);
        }
    }
}
