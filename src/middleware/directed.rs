//! What is stored for a request, and whether it will do: requests may say how old a response they take (RFC 9111 §5.2.1).

use http::HeaderMap;
use tokio::time::{Instant, timeout};

use super::{
    layer::Settings,
    record::Stored,
    rules::{
        cache_control::RequestDirectives,
        freshness::{Reuse, reusable},
    },
};
use crate::{
    group::{Copy, Source},
    key::Key,
};

/// How often a request looks for its variant.
pub(super) const ROUNDS: usize = 3;

/// What a request asks for, as far as the layer listens.
pub(super) fn directives(settings: &Settings, headers: &HeaderMap) -> RequestDirectives {
    if !settings.terms.honors_requests {
        return RequestDirectives::default();
    }
    let asked = RequestDirectives::of(headers);
    RequestDirectives { max_stale: asked.max_stale.map(|most| most.min(settings.terms.max_stale)), ..asked }
}

/// What the store has for a request.
pub(super) enum Found {
    /// A response that will do.
    Stored(Stored, Source),
    /// A response, or one in the air, that is not what it asks for.
    Refused,
    /// Nothing of use.
    Nothing,
}

/// Looks what the store has for a request with these fields that asks for this.
pub(super) async fn look(settings: &Settings, base: &Key, headers: &HeaderMap, asked: &RequestDirectives) -> Found {
    // A response that is in the air was asked for before this request came.
    let otherwise = if asked.no_cache { Found::Refused } else { Found::Nothing };
    let Some(Copy { value, landed, .. }) = kept(settings, base, headers).await else { return otherwise };
    let age = landed.elapsed();
    match reusable(value.plan(), age, asked) {
        Reuse::Fresh => Found::Stored(value, Source::Hit { age }),
        Reuse::Stale => Found::Stored(value, Source::Stale { age }),
        Reuse::IfError | Reuse::Validated => match reusable(value.plan(), age, &RequestDirectives::default()) {
            // A flight would answer with it.
            Reuse::Fresh | Reuse::Stale => Found::Refused,
            Reuse::IfError | Reuse::Validated => otherwise,
        },
    }
}

/// What is kept for a request with these fields, within the budget for the store.
async fn kept(settings: &Settings, base: &Key, headers: &HeaderMap) -> Option<Copy<Stored>> {
    let find = async {
        for _ in 0..ROUNDS {
            let key = settings.variants.locate(base, headers, Instant::now(), settings.variant_life())?;
            let copy = settings.engine.kept(&key).await.ok()??;
            if copy.value.serves(headers) {
                return (!copy.for_waiters).then_some(copy);
            }
            settings.learn(base, &key, &copy.value);
            copy.value.selection()?;
        }
        None
    };
    timeout(settings.engine.budget(), find).await.ok().flatten()
}
