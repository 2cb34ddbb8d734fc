//! What holds whatever bytes come from elsewhere. The targets in `fuzz/` feed these functions bytes that reach new code,
//! the tests random ones. Each panics if what it states does not hold.

use std::time::{Duration, UNIX_EPOCH};

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, IF_RANGE, RANGE},
    request::Parts,
};

#[cfg(feature = "graphql")]
use super::content::{graphql, json};
use super::{
    grpc::{
        frame::{Prefix, is_one},
        unary::{Sharing, Unary},
    },
    key::RequestKey,
    record::{Binary, Stored},
    rules::{
        cache_control::{RequestDirectives, ResponseDirectives, Scope},
        date,
        range::{Selected, select},
    },
};
use crate::{
    codec::Codec,
    key::{Key, KeyBuilder},
};

/// A record that is read can be written, and is read as the same.
pub fn record(bytes: &[u8]) {
    let written = |stored: &Stored| Binary.encode(stored).expect("what was read can be written");
    // As it is, and as the head of a record whose lengths are right.
    let (version, head) = bytes.split_at(bytes.len().min(1));
    let framed = [version, &(head.len() as u32).to_be_bytes(), head].concat();
    for payload in [bytes.to_vec(), framed] {
        let Ok(stored) = Binary.decode(payload.into()) else { continue };
        let again = Binary.decode(written(&stored)).expect("what was written can be read");
        assert_eq!(again, stored);
        assert_eq!(written(&again), written(&stored));
    }
}

/// One more line never takes back a restriction, whatever either says, and no line hides a `no-store` at its end.
pub fn cache_control(bytes: &[u8]) {
    let lines = bytes.split(|&byte| byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    // All that came are read again for each that comes, and more say nothing new.
    let lines: Vec<_> = lines.take(6).collect();
    let target = HeaderName::from_static("cdn-cache-control");
    let _ = ResponseDirectives::of(&lines.iter().map(|line| (target.clone(), line.clone())).collect(), &[target]);

    let mut headers = HeaderMap::new();
    let mut said = ResponseDirectives::default();
    let mut asked = RequestDirectives::default();
    for line in &lines {
        headers.append(CACHE_CONTROL, line.clone());
        let (fewer, few) = (said, asked);
        (said, asked) = (ResponseDirectives::of(&headers, &[]), RequestDirectives::of(&headers));

        assert!(said.no_store >= fewer.no_store);
        assert!(covers(&said.no_cache, &fewer.no_cache) && covers(&said.private, &fewer.private));
        assert!(said.must_revalidate >= fewer.must_revalidate && said.proxy_revalidate >= fewer.proxy_revalidate);
        assert!(no_longer(said.max_age, fewer.max_age) && no_longer(said.s_maxage, fewer.s_maxage));
        assert!(no_longer(said.stale_while_revalidate, fewer.stale_while_revalidate));
        assert!(no_longer(said.stale_if_error, fewer.stale_if_error));

        assert!(asked.no_store >= few.no_store && asked.no_cache >= few.no_cache && asked.min_fresh >= few.min_fresh);
        assert!(no_longer(asked.max_age, few.max_age) && no_longer(asked.max_stale, few.max_stale));

        let mut hidden = headers.clone();
        hidden.append(CACHE_CONTROL, value(&[line.as_bytes(), b",no-store"].concat()));
        assert!(ResponseDirectives::of(&hidden, &[]).no_store && RequestDirectives::of(&hidden).no_store);
    }
}

fn value(line: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(line).expect("a value")
}

fn covers(more: &Scope, fewer: &Scope) -> bool {
    match (more, fewer) {
        (Scope::Everything, _) | (_, Scope::Nothing) => true,
        (Scope::Fields(more), Scope::Fields(fewer)) => fewer.iter().all(|name| more.contains(name)),
        _ => false,
    }
}

fn no_longer(more: Option<Duration>, fewer: Option<Duration>) -> bool {
    fewer.is_none_or(|fewer| more.is_some_and(|more| more <= fewer))
}

/// A date that is read can be written, and is read as the same; the preferred form is written as it came.
pub fn date(bytes: &[u8]) {
    let Some((seconds, text)) = bytes.split_first_chunk() else { return };
    let Some(now) = UNIX_EPOCH.checked_add(Duration::from_secs(u64::from_be_bytes(*seconds))) else { return };
    let Some(time) = date::parse(text, now) else { return };
    let two_digits = text.get(text.len() - 16) == Some(&b'-');
    if two_digits {
        let century = Duration::from_secs(100 * 31_556_952);
        assert!(time <= now + century / 2 + Duration::from_secs(1), "more than fifty years ahead");
        assert!(time + century >= now + century / 2 - Duration::from_secs(366 * 86_400), "not the latest century");
    }
    let Some(written) = date::format(time) else { return };
    assert_eq!(date::parse(written.as_bytes(), now), Some(time));
    let leap = text.windows(4).any(|part| part == b":60 ");
    assert!(text.len() != 29 || leap || written == text);
}

/// A part lies within the body, has something in it, and is called what it is.
pub fn range(bytes: &[u8]) {
    let Some((length, lines)) = bytes.split_first_chunk() else { return };
    let length = u64::from_be_bytes(*length);
    let mut lines = lines.split(|&byte| byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    let (range, condition, stored) = (lines.next(), lines.next(), lines.next());

    let mut request = Request::new(()).into_parts().0;
    request.headers.extend(range.map(|line| (RANGE, line)));
    let unconditional = select(&request, &HeaderMap::new(), length, UNIX_EPOCH);
    match &unconditional {
        Selected::Part(part, named) => {
            assert!(part.start < part.end && part.end <= length);
            assert_eq!(named, &format!("bytes {}-{}/{length}", part.start, part.end - 1));
        }
        Selected::Nothing(named) => assert_eq!(named, &format!("bytes */{length}")),
        Selected::Whole | Selected::Several => {}
    }
    // A condition lets the range count as it is, or not at all.
    request.headers.extend(condition.map(|line| (IF_RANGE, line)));
    let stored = stored.into_iter().map(|line| (http::header::ETAG, line)).collect();
    let selected = select(&request, &stored, length, UNIX_EPOCH);
    assert!(selected == unconditional || selected == Selected::Whole);
}

/// Two ways to cut the same bytes into pieces make the same key exactly if they are the same way.
pub fn key(bytes: &[u8]) {
    let Some((&[a, b], text)) = bytes.split_first_chunk() else { return };
    let (one, other) = (pieces(text, a), pieces(text, b));

    let (key, other_key) = (key_of(&one), key_of(&other));
    assert_eq!(key == other_key, one == other);
    assert_eq!(read_back(key.canonical()), Some(one.clone()));

    let (one, other) = (request(&one, a), request(&other, b));
    let said = |(head, part): &(Parts, Vec<u8>)| (head.uri.clone(), head.headers.clone(), part.clone());
    assert_eq!(request_key(&one) == request_key(&other), said(&one) == said(&other));
}

/// Eight pieces at most: a bit of `cuts` says whether one ends after so many eighths.
fn pieces(text: &[u8], cuts: u8) -> Vec<Vec<u8>> {
    let mut pieces = vec![Vec::new()];
    for (at, chunk) in text.chunks(text.len().div_ceil(8).max(1)).enumerate() {
        pieces.last_mut().expect("it begins with one").extend_from_slice(chunk);
        if cuts >> at & 1 == 1 {
            pieces.push(Vec::new());
        }
    }
    pieces
}

fn key_of(pieces: &[Vec<u8>]) -> Key {
    pieces.iter().fold(Key::builder("domain"), KeyBuilder::part).finish()
}

/// The pieces behind the domain.
fn read_back(mut canonical: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = canonical.split_first_chunk() {
        let (part, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        parts.push(part.to_vec());
        canonical = rest;
    }
    (canonical.is_empty() && parts.remove(0) == b"domain").then_some(parts)
}

/// A request with the pieces in its path, its query, two fields and a part of its own.
fn request(pieces: &[Vec<u8>], cuts: u8) -> (Parts, Vec<u8>) {
    let (mut path, mut query, mut part) = (String::from("/"), String::new(), Vec::new());
    let mut headers = HeaderMap::new();
    for (at, piece) in pieces.iter().enumerate() {
        let text = || piece.iter().map(|byte| char::from(b'a' + byte % 3)).collect::<String>();
        match (at + usize::from(cuts)) % 5 {
            0 => path.push_str(&text()),
            1 => query.push_str(&text()),
            2 => part.extend_from_slice(piece),
            field => {
                let name = HeaderName::from_static(if field == 3 { "x-a" } else { "x-b" });
                headers.extend(HeaderValue::from_bytes(piece).ok().map(|line| (name, line)));
            }
        }
    }
    let uri = if query.is_empty() { format!("http://a.test{path}") } else { format!("http://a.test{path}?{query}") };
    let mut head = Request::get(uri).body(()).expect("letters make a URI").into_parts().0;
    head.headers = headers;
    (head, part)
}

fn request_key((head, part): &(Parts, Vec<u8>)) -> Option<Key> {
    RequestKey::new(head)?.header("x-a").header("x-b").part(part).finish()
}

/// The canonical text of a value is its own, and means what was meant; what is taken for a query has one.
#[cfg(feature = "graphql")]
pub fn content(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let document = serde_json::json!({ "query": text }).to_string();
    assert!(graphql::query(&document).is_none_or(|key| json::canonical(&document) == Some(key)));
    assert!(graphql::query(text).is_none_or(|key| json::canonical(text) == Some(key)));

    let Some(canonical) = json::canonical(text) else { return };
    assert_eq!(json::canonical(&canonical).as_ref(), Some(&canonical));
    let value = |text| serde_json::from_str::<serde_json::Value>(text).ok();
    assert_eq!(value(&canonical), value(text));
}

/// A message is one wherever it is cut, and a response with more than one, or less, is nobody else's.
pub fn grpc(bytes: &[u8]) {
    let Some((&cuts, body)) = bytes.split_first() else { return };
    let pieces = pieces(body, cuts);
    assert_eq!(Prefix::of(pieces.iter().map(Vec::as_slice)).length(), Prefix::of([body]).length());
    let grpc = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))]);
    let status = |line: &[u8]| HeaderValue::from_bytes(line).map(|line| (HeaderName::from_static("grpc-status"), line));
    let trailers = HeaderMap::from_iter(pieces.last().and_then(|line| status(line).ok()));
    let sharing = |trailers: &HeaderMap| Unary::default().sharing(StatusCode::OK, &grpc, body, Some(trailers));
    assert_ne!(sharing(&trailers), Sharing::Negative);
    let fine = HeaderMap::from_iter(status(b"0"));
    assert_eq!(sharing(&fine) == Sharing::Everybody, is_one(body));
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn hold_for_bytes_of_any_kind(bytes in vec(any::<u8>(), 0..64)) {
            [record, cache_control, date, range, key, grpc].iter().for_each(|holds| holds(&bytes));
        }

        #[test]
        fn hold_for_what_looks_like_fields(
            lines in vec("[-a-z0-9\",\\\\= ]{0,6}(private|no-cache|no-store|max-age|bytes)?(=\"?[a-z0-9,-]{0,5}\"?)?", 0..4),
        ) {
            let bytes = [&[0; 7], &b"\x0a"[..], lines.join("\n").as_bytes()].concat();
            range(&bytes);
            cache_control(&bytes[8..]);
        }

        #[test]
        #[cfg(feature = "graphql")]
        fn hold_for_what_looks_like_json(text in "[\\[{]{0,3}(\"[a-b]\"[:, ]){0,3}[-0-9.e]{0,4}( |query|[{}a]){0,4}[\\]}]{0,3}") {
            content(text.as_bytes());
        }

        #[test]
        fn hold_for_what_looks_like_dates(now in 0..10_000_000_000_u64, day in 1..32, year in 0..100, weekday in 0..7_usize) {
            let weekday = ["Mon", "Tues", "Wednes", "Thurs", "Fri", "Satur", "Sun"][weekday];
            let text = format!("{weekday}day, {day:02}-Nov-{year:02} 08:49:37 GMT");
            date(&[&now.to_be_bytes(), text.as_bytes()].concat());
        }
    }
}
