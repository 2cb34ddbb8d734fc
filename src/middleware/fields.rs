//! Header fields whose value is a list.
//!
//! A list may be spread over several lines of the same field, and its names come in any case. The reading errs on the
//! safe side: it splits inside quoted strings too, so that a name is found wherever it may stand, and what is found
//! only ever keeps a response from being shared.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Whether one line names `wanted`, which ends where an `=` or a `;` begins what is said of it.
pub(super) fn line_names(line: &HeaderValue, wanted: &str) -> bool {
    line.as_bytes().split(|&byte| byte == b',').any(|element| {
        let end = element.iter().position(|byte| matches!(byte, b'=' | b';')).unwrap_or(element.len());
        trim(&element[..end]).eq_ignore_ascii_case(wanted.as_bytes())
    })
}

/// Whether any line of `field` names `wanted`.
pub(super) fn names(headers: &HeaderMap, field: HeaderName, wanted: &str) -> bool {
    headers.get_all(field).iter().any(|line| line_names(line, wanted))
}

/// A number of nothing but digits; one that is too large is as large as can be.
pub(super) fn digits(bytes: &[u8]) -> Option<u64> {
    let number = |number: u64, digit: &u8| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    (!bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit)).then(|| bytes.iter().fold(0, number))
}

/// Without surrounding blanks and quotes.
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'"', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t' | b'"'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_in_any_case_and_place() {
        for line in
            ["no-store", "No-Store", "max-age=0,no-store", "a ,\tNO-STORE ;x", "a=\"b, no-store\"", "no-store=1"]
        {
            assert!(line_names(&HeaderValue::from_static(line), "no-store"), "{line}");
        }
        for line in ["", "no-stores", "x-no-store", "no store", "a=no-store", ",,"] {
            assert!(!line_names(&HeaderValue::from_static(line), "no-store"), "{line}");
        }
    }

    #[test]
    fn a_name_is_found_beside_bytes_that_are_no_text() {
        assert!(line_names(&HeaderValue::from_bytes(b"\xff, no-store").unwrap(), "no-store"));
    }

    #[test]
    fn every_line_of_a_field_is_read() {
        let mut headers = HeaderMap::new();
        headers.append("vary", HeaderValue::from_static("accept"));
        headers.append("vary", HeaderValue::from_static("*"));
        assert!(names(&headers, http::header::VARY, "*"));
    }

    #[test]
    fn numbers_are_digits_alone() {
        for (bytes, number) in [("0", Some(0)), ("007", Some(7)), ("99999999999999999999", Some(u64::MAX))] {
            assert_eq!(digits(bytes.as_bytes()), number, "{bytes}");
        }
        for bytes in ["", "+5", "-1", "1.5", "5 ", "0x5", "٥"] {
            assert_eq!(digits(bytes.as_bytes()), None, "{bytes}");
        }
    }
}
