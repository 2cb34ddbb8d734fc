//! The cookies of a request.

/// Whether a line of the field `Cookie` holds `ignored` cookies and nothing else.
///
/// Servers disagree on what is not written as RFC 6265 §4.2.1 has it: some end a cookie at a comma or a blank, some
/// take quotes around several, some make one of what has no name. Such a thing counts as a cookie that is not ignored,
/// and so does an empty line: it names nobody, but neither is it what a client without cookies sends.
pub(super) fn only(ignored: &[Box<str>], line: &[u8]) -> bool {
    line.split(|&byte| byte == b';').all(|pair| {
        let pair = pair.strip_prefix(b" ").unwrap_or(pair);
        let (name, value) = pair.split_at(pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len()));
        let Some(value) = value.strip_prefix(b"=") else { return false };
        let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        value.iter().all(is_octet) && ignored.iter().any(|ignored| ignored.as_bytes() == name)
    })
}

/// Whether a cookie can have this name.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.as_bytes().iter().all(|byte| is_octet(byte) && *byte != b'=')
}

/// What a cookie is made of, so that its end is where everybody sees it.
fn is_octet(byte: &u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignores(line: &[u8]) -> bool {
        only(&["_ga".into(), "theme".into()], line)
    }

    #[test]
    fn cookies_that_are_ignored_are() {
        for line in ["_ga=1", "theme=", "_ga=1; theme=dark", "theme=a=b;_ga=\"x\"", "_ga=1; _ga=2", "_ga=GA1.2.3/%20|x"]
        {
            assert!(ignores(line.as_bytes()), "{line}");
        }
    }

    /// Fails if a look-alike, or a cookie behind or within one that is ignored, is taken for it.
    #[test]
    fn whatever_else_there_is_counts() {
        let lines = [
            "sid=1",
            "_ga=1; sid=1",
            "sid=1; _ga=1",
            "_GA=1",
            "_ga2=1",
            "_g=1",
            "theme =dark",
            "\t_ga=1",
            "_ga=1;  theme=dark",
            // Others see two cookies.
            "_ga=1, sid=1",
            "_ga=1 sid=1",
            "_ga=\"1\\\"; sid=1; theme=\"",
            "_ga=\"",
            "_ga=a\"b",
            "$Version=1; _ga=1",
        ];
        for line in lines {
            assert!(!ignores(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn what_is_no_cookie_counts() {
        for line in ["", " ", ";", "_ga", "=", "=1", "_ga=1;", "_ga=1; ", "; _ga=1", "_ga=1;;theme=x", "theme; _ga=1"] {
            assert!(!ignores(line.as_bytes()), "{line}");
        }
        assert!(!ignores(b"_ga=\xff") && !ignores(b"\xff=1") && !ignores("_ga=ü".as_bytes()));
    }

    #[test]
    fn names() {
        assert!(["_ga", "a", "wp[1]", "__Host-x"].into_iter().all(is_name));
        assert!(!["", "a=b", "a;b", "a b", "a,b", "\"a\"", "ä"].into_iter().any(is_name));
    }
}
