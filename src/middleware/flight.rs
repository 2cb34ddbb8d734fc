//! One request that flies: the way of its own response past the engine, and of a shared one out of it.

use std::{
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header::AGE};
use http_body::Body;
use tokio::{sync::oneshot, time::Instant};
use tower::{BoxError, Service, ServiceExt};

use super::{
    asked::Asked,
    body::{ResponseBody, Whose},
    directed::{Found, ROUNDS, directives, look},
    door::{Door, door, is_open},
    extract::mark,
    future::signed,
    layer::Settings,
    lead::{Leader, Own},
    outcome::{Outcome, Why},
    record::Stored,
    recording::Running,
    tape::Reader,
};
use crate::{
    group::{Answer, Copy, Done, Options, Source, Work},
    key::Key,
};

/// The way of one request.
///
/// The engine sees records alone. The response to the caller's own request takes a private channel instead: it keeps its
/// extensions, its body may be a stream that nobody can share, its error need not be `Clone`, and what the engine stores
/// is not what decides what the caller gets.
pub(super) async fn fly<S, B, R>(
    settings: Arc<Settings>,
    base: Key,
    asked: Asked,
    inner: S,
    request: Request<B>,
) -> Result<Response<ResponseBody<R>>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError> + Send + 'static,
{
    let start = Instant::now();
    let sign = |response, outcome, fresh| signed(response, outcome, fresh, settings.cache_status.as_ref());
    let own = |own: Result<Own<R>, S::Error>, led| {
        own.map(|own| asked.confirm(sign(own.response, own.outcome.unwrap_or(led), own.fresh), SystemTime::now()))
    };
    let mut waiting = (inner, request);
    let (method, headers) = (waiting.1.method(), waiting.1.headers());
    let door = match is_open(&settings, &asked, headers) {
        true => Door::Open(base),
        false => Box::pin(door(&settings, base, &asked, method, headers)).await,
    };
    let (base, mut why) = match door {
        Door::Answered(response) => return Ok(response),
        Door::Closed(why) => (None, why),
        Door::Open(base) => (Some(base), Why::Variants),
    };
    // Once to learn what the response varies on, and once under the key that this makes. More only if that changes
    // meanwhile.
    for base in base.iter().cycle().take(ROUNDS) {
        let (now, life) = (Instant::now(), settings.variant_life());
        let Some(key) = settings.variants.locate(base, waiting.1.headers(), now, life) else { break };
        let call = Arc::new(Call::new(waiting.0, waiting.1));
        let (tell, mut told) = oneshot::channel::<Result<Own<R>, S::Error>>();
        let work: Work<Stored> = {
            let (settings, call, key) = (Arc::clone(&settings), Arc::clone(&call), key.clone());
            Box::new(move |start| {
                Box::pin(async move {
                    // A refresh of what turned out to be another variant: whoever asked for it goes on to his own key.
                    let foreign = |kept: &Copy<Stored>| call.headers(|headers| !kept.value.serves(headers));
                    if start.refreshes && start.previous.as_ref().and_then(foreign) == Some(true) {
                        return Done::Declined;
                    }
                    let Some((inner, request, headers)) = call.start() else { return Done::Declined };
                    let method = request.method().clone();
                    let failures = start.failures;
                    let leader = Leader { settings: &settings, key: &key, method, headers: &headers, failures };
                    leader.lead(start, inner, request, tell).await
                })
            })
        };
        let wait_timeout = settings.options.wait_timeout.saturating_sub(start.elapsed());
        let options = Options { wait_timeout, ..settings.options.clone() };
        let (answer, seat) = settings.engine.fly(key.clone(), work, &options).await;
        match answer {
            Answer::Value(stored, source) => {
                settings.learn(base, &key, &stored);
                if let (Source::Led | Source::Alone(_), Ok(response)) = (source, told.try_recv()) {
                    return own(response, source.into());
                }
                if call.headers(|headers| stored.serves(headers)) == Some(true) {
                    return Ok(asked.confirm(settings.answer(stored, source), SystemTime::now()));
                }
                waiting = call.reclaim().expect("work declines to refresh what its caller cannot use");
            }
            Answer::Runs(alone) => {
                let outcome = alone.map_or(Outcome::Led, |why| Outcome::Bypassed(why.into()));
                let response = own(told.await.expect("work that runs has told its caller"), outcome)?;
                return Ok(response.map(|body| body.seated(seat)));
            }
            Answer::Announced(running) => {
                let running = running.downcast::<Running>().expect("the work of a request announces nothing else");
                settings.learn(base, &key, &running.head);
                // One that has broken off meanwhile is for nobody more.
                let reader = Reader::new(&running.tape);
                if !reader.is_cut() && call.headers(|headers| running.head.serves(headers)) == Some(true) {
                    let head = running.head.clone();
                    let response = settings.answer::<R>(head.clone(), Source::JoinedHere);
                    let body = ResponseBody::recorded(reader, Whose::Everybodys(head)).seated(seat);
                    return Ok(asked.confirm(response.map(|_| body), SystemTime::now()));
                }
                waiting = call.reclaim().expect("a caller whose work has not begun still has its request");
            }
            Answer::Ran => match told.await {
                Ok(answer) => return own(answer, Outcome::Led),
                Err(_) => waiting = call.reclaim().expect("work that says nothing to its caller has declined"),
            },
            Answer::Panicked(panic) => resume_unwind(panic),
            Answer::Alone(_, alone) | Answer::Refused(alone) => {
                why = alone.into();
                waiting = call.reclaim().expect("a caller that goes alone still has its request");
                break;
            }
        }
    }
    if why == Why::Overloaded {
        // What is stored needs no room.
        let headers = waiting.1.headers();
        if let Some(base) = &base
            && let Found::Stored(stored, source) =
                Box::pin(look(&settings, base, headers, &directives(&settings, headers))).await
        {
            return Ok(asked.confirm(settings.answer(stored, source), SystemTime::now()));
        }
        if let Some(refusal) = settings.refusal() {
            // Without `Cache-Status`: a response that is made here, of nothing stored, carries none (RFC 9211 §2).
            return Ok(signed(refusal, Outcome::Bypassed(why), Duration::ZERO, None));
        }
    }
    let (inner, mut request) = waiting;
    asked.restore(request.headers_mut(), Instant::now());
    mark(&mut request, Outcome::Bypassed(why));
    let response = inner.oneshot(request).await?.map(ResponseBody::untouched);
    Ok(sign(response, Outcome::Bypassed(why), Duration::ZERO))
}

/// A request and who answers it. It lies where both can take it, rather than in the work: a caller who goes alone needs the
/// response as it comes, and would otherwise have to buffer a body that nobody will share.
struct Call<S, B>(Mutex<Stage<S, B>>);

#[expect(clippy::large_enum_variant, reason = "it lies behind a pointer already, once per request")]
enum Stage<S, B> {
    Waiting(S, Request<B>),
    /// What it asked remains.
    Started(Arc<HeaderMap>),
    Reclaimed,
}

impl<S, B> Call<S, B> {
    fn new(inner: S, request: Request<B>) -> Self {
        Self(Mutex::new(Stage::Waiting(inner, request)))
    }

    fn stage(&self) -> MutexGuard<'_, Stage<S, B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn headers<T>(&self, read: impl FnOnce(&HeaderMap) -> T) -> Option<T> {
        match &*self.stage() {
            Stage::Waiting(_, request) => Some(read(request.headers())),
            Stage::Started(headers) => Some(read(headers)),
            Stage::Reclaimed => None,
        }
    }

    /// For the work, unless the caller was faster.
    fn start(&self) -> Option<(S, Request<B>, Arc<HeaderMap>)> {
        let mut stage = self.stage();
        let Stage::Waiting(_, request) = &*stage else { return None };
        let asked = Arc::new(request.headers().clone());
        match std::mem::replace(&mut *stage, Stage::Started(Arc::clone(&asked))) {
            Stage::Waiting(inner, request) => Some((inner, request, asked)),
            Stage::Started(_) | Stage::Reclaimed => unreachable!("it was waiting under this lock"),
        }
    }

    /// For the caller, unless the work was faster.
    fn reclaim(&self) -> Option<(S, Request<B>)> {
        let mut stage = self.stage();
        match std::mem::replace(&mut *stage, Stage::Reclaimed) {
            Stage::Waiting(inner, request) => Some((inner, request)),
            other => {
                *stage = other;
                None
            }
        }
    }
}

impl Settings {
    /// The response to one caller, made of the record of another's.
    pub(super) fn answer<R: Body<Data = Bytes>>(&self, stored: Stored, source: Source) -> Response<ResponseBody<R>> {
        let fresh = stored.plan().fresh();
        let resident = match source {
            Source::Hit { age } | Source::Stale { age } => Some(age),
            _ => None,
        };
        // A call of gRPC knows no age: others get the metadata that came, and no more.
        let aged = resident.is_some() && self.unary.is_none();
        let mut response = self.shared(stored, resident.unwrap_or_default());
        if aged {
            response.headers_mut().entry(AGE).or_insert(HeaderValue::from(0));
        }
        signed(response, source.into(), fresh, self.cache_status.as_ref())
    }

    /// A stored response, `resident` after it landed.
    pub(super) fn shared<R: Body<Data = Bytes>>(
        &self,
        stored: Stored,
        resident: Duration,
    ) -> Response<ResponseBody<R>> {
        let age = stored.plan().age.saturating_add(resident).as_secs();
        let mut response = stored.into_response();
        if age > 0 && self.unary.is_none() {
            response.headers_mut().insert(AGE, HeaderValue::from(age));
        }
        response
    }
}
