//! How long a caller is willing to wait.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response};
use http_body::Body;

use super::{status, status_alone};
use crate::middleware::{
    body::ResponseBody,
    fields::digits,
    outcome::{Outcome, Why},
};

pub(in crate::middleware) const TIMEOUT: &str = "grpc-timeout";

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

/// The field that gives so much time, rounded up: of what is over nobody is asked.
pub(in crate::middleware) fn field(left: Duration) -> HeaderValue {
    let millis = left.as_nanos().div_ceil(1_000_000).min(99_999_999);
    HeaderValue::try_from(format!("{millis}m")).expect("digits and a letter")
}

/// What a caller gets whose time is over.
pub(super) fn exceeded<R: Body>() -> Response<ResponseBody<R>> {
    let mut response = status_alone("4", MESSAGE);
    response.extensions_mut().insert(Outcome::Bypassed(Why::Deadline));
    response
}

const MESSAGE: &str = "the deadline passed while the call was in the air";

/// The end of a response whose caller's time is over.
pub(in crate::middleware) fn trailers() -> HeaderMap {
    status("4", MESSAGE).into_iter().collect()
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
            let headers =
                HeaderMap::from_iter([(http::HeaderName::from_static(TIMEOUT), HeaderValue::from_static(line))]);
            assert_eq!(timeout(&headers).map(|timeout| timeout.as_nanos()), nanos, "{line}");
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }
}
