//! Which calls fly, and which of them are the same.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header::CONTENT_TYPE, request::Parts};
use sha2::{Digest as _, Sha256};

use super::{is_grpc, unary::Unary};
use crate::{
    key::{Key, KeyBuilder},
    middleware::{
        authority::authority, identity::Identity, nest::original, outcome::Why, overrides::Overrides, request::refused,
    },
};

/// The version of the layout of keys.
const DOMAIN: &str = "grpc call 1";

/// What is set about calls.
#[derive(Clone, Debug)]
pub(in crate::middleware) struct Calls {
    pub(super) methods: Vec<Pattern>,
    pub(super) metadata: Vec<HeaderName>,
    pub(super) service: Option<Box<str>>,
    pub(super) most: usize,
}

/// The paths of one method, or of all that begin alike.
#[derive(Clone, Debug)]
pub(in crate::middleware) struct Pattern {
    path: Box<str>,
    open: bool,
}

impl Pattern {
    pub(super) fn new(pattern: &str) -> Option<Self> {
        let (path, open) = pattern.strip_suffix('*').map_or((pattern, false), |path| (path, true));
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        let clear = !service.is_empty() && (open || !method.is_empty()) && !method.contains('/') && !path.contains('*');
        clear.then(|| Self { path: path.into(), open })
    }

    fn matches(&self, path: &str) -> bool {
        if self.open { path.starts_with(&*self.path) } else { *path == *self.path }
    }
}

impl Calls {
    /// Why this call goes to the inner service by itself, if that can be seen before it is read.
    pub(super) fn refuses<B>(&self, request: &Request<B>, overrides: &Overrides, identity: &Identity) -> Option<Why> {
        let path = request.uri().path();
        if request.method() != Method::POST || !self.methods.iter().any(|pattern| pattern.matches(path)) {
            return Some(Why::Method);
        }
        if !is_grpc(request.headers(), CONTENT_TYPE) {
            return Some(Why::Content);
        }
        refused(request.headers(), overrides, identity, true)
    }

    /// The key of a call with this one message; `None` if it is not clear who is called.
    pub(super) fn key(&self, unary: Unary, head: &Parts, message: &[u8]) -> Option<Key> {
        let uri = original(head);
        let key = match &self.service {
            Some(service) => Key::builder(DOMAIN).part("service").part(&**service),
            None => Key::builder(DOMAIN).part("authority").part(authority(head, uri)?),
        };
        // As the client sent it, and as a router in front may have left it.
        let key = [uri, &head.uri].into_iter().fold(key, |key, uri| {
            let path = uri.path_and_query().map_or("", |path| path.as_str());
            key.part(path)
        });
        // The flag is the first byte of the message.
        let key = key.part(Sha256::digest(message)).part(unary.bits());
        let declared = self.metadata.iter().map(HeaderName::as_str);
        let key = ["content-type", "grpc-encoding"]
            .into_iter()
            .chain(declared)
            .fold(key, |key, name| group(key.part(name), head.headers.get_all(name).iter().map(HeaderValue::as_bytes)));
        Some(group(key, encodings(&head.headers).into_iter()).finish())
    }
}

fn group<'a>(key: KeyBuilder, values: impl Iterator<Item = &'a [u8]>) -> KeyBuilder {
    values.fold(key, |key, value| key.part([1]).part(value)).part([0])
}

/// What the caller can read, in whatever order it says so; what everybody can read says nothing.
fn encodings(headers: &HeaderMap) -> Vec<&[u8]> {
    let lines = headers.get_all("grpc-accept-encoding").iter();
    let names = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii));
    let mut names: Vec<_> = names.filter(|name| !name.is_empty() && *name != b"identity").collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests;
