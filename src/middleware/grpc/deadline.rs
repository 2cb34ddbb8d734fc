//! How long a caller is willing to wait.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Response, header::CONTENT_TYPE};
use http_body::Body;

use crate::middleware::{
    body::ResponseBody,
    fields::digits,
    outcome::{Outcome, Why},
};

pub(super) const TIMEOUT: &str = "grpc-timeout";

/// The time that the field `grpc-timeout` gives; `None` without one that can be read.
pub(super) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let (unit, number) = headers.get(TIMEOUT)?.as_bytes().split_last()?;
    let number = digits(number).filter(|_| number.len() <= 8)?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// What a caller gets whose time is over.
pub(super) fn exceeded<R: Body>() -> Response<ResponseBody<R>> {
    let mut response = Response::new(ResponseBody::default());
    response.extensions_mut().insert(Outcome::Bypassed(Why::Deadline));
    let fields = [
        (CONTENT_TYPE, "application/grpc"),
        (HeaderName::from_static("grpc-status"), "4"),
        (HeaderName::from_static("grpc-message"), "the deadline passed while the call was in the air"),
    ];
    response.headers_mut().extend(fields.map(|(name, line)| (name, HeaderValue::from_static(line))));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        for (line, nanos) in [
            ("1H", Some(3_600_000_000_000)),
            ("2M", Some(120_000_000_000)),
            ("3S", Some(3_000_000_000)),
            ("50m", Some(50_000_000)),
            ("7u", Some(7_000)),
            ("0n", Some(0)),
            ("99999999H", Some(99_999_999 * 3_600_000_000_000_u128)),
            ("", None),
            ("5", None),
            ("S", None),
            ("5s", None),
            ("-5S", None),
            ("5 S", None),
            ("100000000n", None),
        ] {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(TIMEOUT), HeaderValue::from_static(line))]);
            assert_eq!(timeout(&headers).map(|timeout| timeout.as_nanos()), nanos, "{line}");
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }
}
