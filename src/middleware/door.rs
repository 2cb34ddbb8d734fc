//! What becomes of a request before it flies: the store may have what it asks for, and some never take off.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use http_body::Body;

use super::{
    asked::{Asked, not_stored},
    body::ResponseBody,
    directed::{Found, directives, look},
    layer::Settings,
    outcome::Why,
    rules::cache_control::RequestDirectives,
};
use crate::{group::Source, key::Key};

#[expect(clippy::large_enum_variant, reason = "there is one per request, which is taken apart at once")]
pub(super) enum Door<R: Body> {
    /// Here is the response.
    Answered(Response<ResponseBody<R>>),
    /// It goes by itself.
    Closed(Why),
    /// It flies under this key, or a variant of it.
    Open(Key),
}

/// Whether a request is let in without a look into the store, as most are. They shall not pay for the room that the others
/// take: what a future may hold is moved with it.
pub(super) fn is_open(settings: &Settings, asked: &Asked, headers: &HeaderMap) -> bool {
    !asked.looks_first() && !settings.is_crowded() && directives(settings, headers) == RequestDirectives::default()
}

/// Looks at a request whose key covers all but the method and what responses vary on.
pub(super) async fn door<R: Body<Data = Bytes>>(
    settings: &Settings,
    base: Key,
    asked: &Asked,
    method: &Method,
    headers: &HeaderMap,
) -> Door<R> {
    let directives = directives(settings, headers);
    if asked.looks_first() {
        // What is stale is refreshed by a flight of its own kind, or nobody would refresh it.
        if let Found::Stored(stored, source) = look(settings, &base, headers, &directives).await
            && (asked.only_if_cached() || matches!(source, Source::Hit { .. }))
            && let Some(response) = asked.of_stored(settings.answer(stored, source), SystemTime::now())
        {
            return Door::Answered(response);
        }
        if asked.only_if_cached() {
            return Door::Answered(not_stored());
        }
        if asked.has_range() {
            return Door::Closed(Why::Range);
        }
    }
    // A response to HEAD goes with what is known of its target, and never satisfies a GET.
    let base = if *method == Method::HEAD { base.variant("HEAD") } else { base };
    let (crowded, directed) = (settings.is_crowded(), directives != RequestDirectives::default());
    if crowded || directed {
        match look(settings, &base, headers, &directives).await {
            // What is stored needs no room.
            Found::Stored(stored, source) => {
                return Door::Answered(asked.confirm(settings.answer(stored, source), SystemTime::now()));
            }
            Found::Refused => return Door::Closed(Why::Directive),
            Found::Nothing if crowded => return Door::Closed(Why::Overloaded),
            Found::Nothing => {}
        }
    }
    Door::Open(base)
}
