//! What a hop takes out of a message, and what it leaves in it.

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE, VIA},
};

use crate::NAME;

static OF_A_CONNECTION: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Takes out the fields that are meant for one connection, and those that `Connection` names (RFC 9110, section 7.6.1).
///
/// A length beside `Transfer-Encoding` is void, and would be believed by whoever comes next.
pub fn strip(headers: &mut HeaderMap) {
    let void = headers.contains_key(TRANSFER_ENCODING).then_some(CONTENT_LENGTH);
    let named = elements(headers, &CONNECTION).filter_map(|name| HeaderName::from_bytes(name).ok());
    let out: Vec<HeaderName> = OF_A_CONNECTION.iter().cloned().chain(named).chain(void).collect();
    // Not by `remove`, which moves the last field to where a field was: they shall go on in the order in which they came.
    let mut kept = HeaderMap::with_capacity(headers.keys_len());
    for (name, value) in headers.iter().filter(|(name, _)| !out.contains(name)) {
        kept.append(name, value.clone());
    }
    *headers = kept;
}

/// The elements of a field that is a list, on however many lines.
pub fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    lines.flat_map(|line| line.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii)
}

/// Tells in `Via` that a message came through here, and in which version it arrived.
pub fn sign(headers: &mut HeaderMap, version: Version) {
    let version = match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    };
    headers.append(VIA, format!("{version} {NAME}").try_into().expect("a version and a name are visible ASCII"));
}
