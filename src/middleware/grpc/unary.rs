//! What others may have of the response to a call.

use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};

use super::{frame, is_grpc};

/// The codes that say nothing which holds for others, whatever a service says: the call was cancelled, its caller may not,
/// or the server was in trouble.
const NEVER: [u32; 10] = [1, 2, 4, 7, 8, 10, 13, 14, 15, 16];

/// How responses to calls are judged: bit by bit, the codes that are shared.
#[derive(Clone, Copy, Debug)]
pub(in crate::middleware) struct Unary(u32);

/// Who may have a response, now that all of it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::middleware) enum Sharing {
    Everybody,
    /// It says what is not there, which may change any moment.
    Negative,
    /// Its own caller. The next call may have another outcome.
    Once,
    /// Its own caller, and so will be the next one.
    Caller,
    /// Its own caller; one of those who wait tries again.
    Failed,
}

impl Default for Unary {
    fn default() -> Self {
        Self(1)
    }
}

impl Unary {
    /// Shares this code too, if it may be.
    pub(super) fn add(&mut self, code: u32) -> bool {
        let may = code <= 16 && !NEVER.contains(&code);
        if may {
            self.0 |= 1 << code;
        }
        may
    }

    /// Which codes are shared: replicas that share others share nothing.
    pub(super) fn bits(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }

    pub(in crate::middleware) fn sharing(
        self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        trailers: Option<&HeaderMap>,
    ) -> Sharing {
        // Without a body the head may be all there is. With one, clients go by either.
        let alone = body.is_empty() && trailers.is_none();
        let said = if alone { Some(headers) } else { trailers.filter(|_| !headers.contains_key("grpc-status")) };
        let code = said.filter(|_| status == StatusCode::OK && is_grpc(headers, CONTENT_TYPE)).and_then(code);
        match code {
            Some(0) if frame::is_one(body) => Sharing::Everybody,
            // Success without a message, or a message in spite of failure: whatever that means.
            Some(code) if code == 0 || !body.is_empty() => Sharing::Once,
            Some(code) if code < 32 && self.0 & 1 << code != 0 => Sharing::Negative,
            Some(7 | 16) => Sharing::Caller,
            Some(code) if code > 16 || NEVER.contains(&code) => Sharing::Failed,
            Some(_) => Sharing::Once,
            None => Sharing::Failed,
        }
    }
}

/// The status code, if there is one.
fn code(fields: &HeaderMap) -> Option<u32> {
    let mut lines = fields.get_all("grpc-status").iter();
    let (line, more) = (lines.next()?, lines.next());
    let digits = line.as_bytes();
    let plain = more.is_none() && digits.len() <= 9 && digits.iter().all(u8::is_ascii_digit);
    line.to_str().ok().filter(|_| plain)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: [u8; 7] = [0, 0, 0, 0, 2, 7, 7];

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, line)| (name.parse().unwrap(), line.parse().unwrap())).collect()
    }

    fn head() -> HeaderMap {
        fields(&[("content-type", "application/grpc+proto")])
    }

    fn of_code(code: &'static str, body: &[u8], unary: Unary) -> Sharing {
        unary.sharing(StatusCode::OK, &head(), body, Some(&fields(&[("grpc-status", code)])))
    }

    /// Fails if a code that says nothing to others is shared, or one that is shared is not.
    #[test]
    fn codes() {
        let mut all = Unary::default();
        for code in 0..40 {
            assert_eq!(all.add(code), [0, 3, 5, 6, 9, 11, 12].contains(&code), "{code}");
        }
        assert_eq!(of_code("0", &MESSAGE, Unary::default()), Sharing::Everybody);
        for code in ["3", "5", "6", "9", "11", "12"] {
            assert_eq!(of_code(code, &[], Unary::default()), Sharing::Once, "{code}");
            assert_eq!(of_code(code, &[], all), Sharing::Negative, "{code}");
            assert_eq!(of_code(code, &MESSAGE, all), Sharing::Once, "{code}");
        }
        for (codes, sharing) in [
            (&["1", "2", "4", "8", "10", "13", "14", "15", "17", "31", "32", "33", "999999999"][..], Sharing::Failed),
            (&["7", "16"], Sharing::Caller),
            (&["", "+0", "-1", "0x0", "9999999999", "4294967296"], Sharing::Failed),
        ] {
            for code in codes {
                assert_eq!(of_code(code, &[], all), sharing, "{code}");
            }
        }
    }

    /// Fails if a response that broke off, or is no answer of gRPC, looks complete.
    #[test]
    fn what_is_not_whole_is_nobodys() {
        let (head, trailers, unary) = (head(), fields(&[("grpc-status", "0")]), Unary::default());
        let ok = StatusCode::OK;
        assert_eq!(unary.sharing(ok, &head, &MESSAGE, Some(&trailers)), Sharing::Everybody);
        assert_eq!(unary.sharing(ok, &head, &MESSAGE, None), Sharing::Failed);
        assert_eq!(unary.sharing(ok, &head, &MESSAGE, Some(&HeaderMap::new())), Sharing::Failed);
        assert_eq!(unary.sharing(ok, &head, &MESSAGE[..6], Some(&trailers)), Sharing::Once);
        assert_eq!(unary.sharing(ok, &head, &MESSAGE.repeat(2), Some(&trailers)), Sharing::Once);
        assert_eq!(unary.sharing(ok, &head, &[], Some(&trailers)), Sharing::Once);
        assert_eq!(unary.sharing(StatusCode::NOT_FOUND, &head, &MESSAGE, Some(&trailers)), Sharing::Failed);
        let page = fields(&[("content-type", "text/html")]);
        assert_eq!(unary.sharing(ok, &page, &MESSAGE, Some(&trailers)), Sharing::Failed);
        let twice = fields(&[("grpc-status", "0"), ("grpc-status", "5")]);
        assert_eq!(unary.sharing(ok, &head, &MESSAGE, Some(&twice)), Sharing::Failed);
    }

    /// Fails if a client that goes by the head is told of a failure by what is shared.
    #[test]
    fn a_failure_in_the_head_counts() {
        let (message, trailers) = (MESSAGE, fields(&[("grpc-status", "0")]));
        for code in ["16", "0"] {
            let head = fields(&[("content-type", "application/grpc"), ("grpc-status", code)]);
            let sharing = Unary::default().sharing(StatusCode::OK, &head, &message, Some(&trailers));
            assert_eq!(sharing, Sharing::Failed);
        }
    }

    /// Trailers alone: the status stands in the head, and there only if nothing follows.
    #[test]
    fn a_status_in_the_head() {
        let head = fields(&[("content-type", "application/grpc"), ("grpc-status", "0")]);
        let mut unary = Unary::default();
        assert_eq!(unary.sharing(StatusCode::OK, &head, &MESSAGE, None), Sharing::Failed);
        let head = fields(&[("content-type", "application/grpc"), ("grpc-status", "5")]);
        assert_eq!(unary.sharing(StatusCode::OK, &head, &[], None), Sharing::Once);
        assert!(unary.add(5));
        assert_eq!(unary.sharing(StatusCode::OK, &head, &[], None), Sharing::Negative);
    }
}
