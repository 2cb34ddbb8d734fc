//! Requests that say how old a response they take, or want none that the origin has not confirmed (RFC 9111 §5.2.1).

use std::{panic::resume_unwind, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};
use tower::{BoxError, Service};

use super::{
    layer::Settings,
    lead::{Leader, Own},
    record::Stored,
    rules::{
        cache_control::RequestDirectives,
        freshness::{Plan, Reuse, reusable},
    },
};
use crate::{
    backend::Lifetimes,
    group::{Copy, Done, Source, Start},
    key::Key,
};

/// How often a request looks for its variant.
pub(super) const ROUNDS: usize = 3;

/// What a request asks for, as far as the layer listens.
pub(super) fn directives(settings: &Settings, headers: &HeaderMap) -> RequestDirectives {
    if settings.terms.honors_requests { RequestDirectives::of(headers) } else { RequestDirectives::default() }
}

/// What is kept for a request with these fields, and under which key, within the budget for the store.
async fn kept(settings: &Settings, base: &Key, headers: &HeaderMap) -> Option<(Key, Copy<Stored>)> {
    let find = async {
        for _ in 0..ROUNDS {
            let key = settings.variants.locate(base, headers, Instant::now(), settings.variant_life())?;
            let copy = settings.engine.kept(&key).await.ok()??;
            if copy.value.serves(headers) {
                return Some((key, copy));
            }
            settings.variants.learn(base, &key, copy.value.selection()?);
        }
        None
    };
    timeout(settings.engine.budget(), find).await.ok().flatten()
}

/// Where a request that does not simply fly gets its response.
pub(super) enum Found {
    /// From the store.
    Stored(Stored, Source),
    /// From the inner service, which may confirm what is stored.
    Validated(Key, Option<Copy<Stored>>),
    /// From a flight, as usual.
    Nowhere,
}

/// What the store has for a request that asks for this.
pub(super) async fn look(settings: &Settings, base: &Key, headers: &HeaderMap, asked: &RequestDirectives) -> Found {
    let Some((key, copy)) = kept(settings, base, headers).await else {
        // A response that is in the air was asked for before this request came.
        return if asked.no_cache { Found::Validated(base.clone(), None) } else { Found::Nowhere };
    };
    let age = copy.landed.elapsed();
    match reusable(copy.value.plan(), age, asked) {
        Reuse::Fresh => Found::Stored(copy.value, Source::Hit { age }),
        Reuse::Stale => Found::Stored(copy.value, Source::Stale { age }),
        Reuse::IfError | Reuse::Validated if *asked == RequestDirectives::default() => Found::Nowhere,
        Reuse::IfError | Reuse::Validated => {
            let plan = copy.value.plan();
            let on_error = if plan.never_stale { Duration::ZERO } else { asked.stale_if_error.unwrap_or_default() };
            let plan = Plan { stale_if_error: plan.stale_if_error.max(on_error), ..plan.clone() };
            Found::Validated(key, Some(Copy { value: copy.value.replanned(plan), ..copy }))
        }
    }
}

/// Asks the inner service, with nobody else. What it answers takes the place of what is stored, if others may have it.
pub(super) async fn validate<S, B, R>(
    settings: &Arc<Settings>,
    key: Key,
    previous: Option<Copy<Stored>>,
    inner: S,
    request: Request<B>,
) -> Result<Own<R>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError> + Send + 'static,
{
    let (tell, told) = oneshot::channel();
    let settings = Arc::clone(settings);
    // A task of its own, as in a flight: a client that leaves takes nothing from the store.
    let task = tokio::spawn(async move {
        let (method, headers) = (request.method().clone(), request.headers().clone());
        let leader = Leader { settings: &settings, key: &key, method, headers: &headers };
        if let Done::Value { value, fresh, stale, keep } =
            leader.lead(Start::alone(previous), inner, request, tell).await
        {
            let lifetimes = Lifetimes { fresh, stale, keep: fresh.saturating_add(stale).saturating_add(keep) };
            // A store that is away is told nothing: the next request asks again.
            let _ = settings.engine.keep(&key, &value, lifetimes).await;
        }
    });
    match told.await {
        Ok(own) => own,
        Err(_) => match task.await {
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            _ => panic!("the task that ran this request is gone: its tokio runtime was shut down"),
        },
    }
}
